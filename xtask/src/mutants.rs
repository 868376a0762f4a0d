//! The mutants that the loom models must catch: the tree with one fence, or one ordering, removed or
//! weakened.

mod biased_lock;
mod deque;
mod event_count;
mod fences;
mod hazard;
mod rcu;

use xshell::{Shell, cmd};

use crate::Result;

/// One change: what is done, the file, the text there, and what stands in its place.
struct Mutant(&'static str, &'static str, &'static str, &'static str);

/// Mutants of one kind, and the models that may catch them: one list after another, the quick ones first.
struct Suite {
    name: &'static str,
    models: &'static [&'static [&'static str]],
    mutants: &'static [Mutant],
}

const SUITES: &[Suite] = &[
    Suite {
        name: "fences",
        // Of the litmus tables not the longest.
        models: &[
            &["pairing", "deciding", "hand_on"],
            &[
                "--skip", "exact", "--skip", "pairing", "--skip", "deciding", "--skip", "hand_on",
                "--skip", "cookbook",
            ],
            &["exact", "--skip", "iriw", "--skip", "z6"],
        ],
        mutants: fences::MUTANTS,
    },
    Suite { name: "hazard", models: &[&["hazard::"]], mutants: hazard::MUTANTS },
    Suite {
        name: "cookbook event count",
        models: &[&["cookbook::event_count"]],
        mutants: event_count::MUTANTS,
    },
    Suite { name: "cookbook rcu", models: &[&["cookbook::rcu"]], mutants: rcu::MUTANTS },
    Suite {
        name: "cookbook biased lock",
        models: &[&["cookbook::biased_lock"]],
        mutants: biased_lock::MUTANTS,
    },
    Suite { name: "cookbook deque", models: &[&["cookbook::deque"]], mutants: deque::MUTANTS },
];

/// Changes a copy of the tree, and requires that the models fail on it: for each mutant whose name has
/// `word` in it.
pub(crate) fn run(sh: &Shell, word: &str) -> Result {
    let tree = sh.current_dir().join("target/mutants/tree");
    let target = sh.current_dir().join("target/mutants/target");
    let files = cmd!(sh, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let all =
        SUITES.iter().flat_map(|suite| suite.mutants.iter().map(move |mutant| (suite, mutant)));
    let chosen: Vec<_> = all
        .map(|(suite, mutant)| (format!("{}: {}", suite.name, mutant.0), suite, mutant))
        .filter(|(what, ..)| what.contains(word))
        .collect();
    if chosen.is_empty() {
        return Err(format!("no mutant has `{word}` in its name").into());
    }
    let mut survivors = Vec::new();
    for (what, suite, Mutant(_, file, text, replacement)) in &chosen {
        sh.remove_path(&tree)?;
        for file in files.lines().filter(|file| sh.path_exists(file)) {
            let copy = tree.join(file);
            sh.create_dir(copy.parent().ok_or("a file below the tree")?)?;
            sh.copy_file(file, copy)?;
        }
        let source = sh.read_file(file)?;
        if source.matches(*text).count() != 1 {
            return Err(format!("{what}: its text does not stand once in {file}").into());
        }
        sh.write_file(tree.join(file), source.replace(*text, replacement))?;

        let _there = sh.push_dir(&tree);
        let test = ["test", "--quiet", "--release", "--package", "loom-tests"];
        cmd!(sh, "cargo {test...} --target-dir {target} --no-run").quiet().ignore_stderr().run()?;
        let fails = |filter: &[&str]| -> Result<bool> {
            let run = cmd!(sh, "cargo {test...} --target-dir {target} --test it -- {filter...}");
            let output = run.quiet().ignore_status().ignore_stderr().output()?;
            // A model that fails in a destructor may take the process with it.
            if String::from_utf8_lossy(&output.stdout).contains("running ") {
                return Ok(!output.status.success());
            }
            Err(format!("{what}: no model ran").into())
        };
        let mut survives = true;
        for &stage in suite.models {
            survives = survives && !fails(stage)?;
        }
        println!("{}: {what}", if survives { "SURVIVES" } else { "caught" });
        if survives {
            survivors.push(what.as_str());
        }
    }
    println!("{} passed, {} failed", chosen.len() - survivors.len(), survivors.len());
    if survivors.is_empty() {
        Ok(())
    } else {
        Err(format!("mutants survive: {survivors:?}").into())
    }
}
