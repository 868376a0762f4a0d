//! The mutants that models and tests must catch. Those with a name are changes that no rule makes, each a build of its
//! own; the generated ones are one build, in which an environment variable chooses.

mod biased_lock;
mod deque;
mod epoch;
mod event_count;
mod fences;
mod first;
mod generated;
mod hazard;
mod judges;
mod rcu;
mod rewrite;
mod segments;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use xshell::{Shell, cmd};

use crate::Result;
pub(crate) use generated::run as run_generated;

/// One change: what is done, the file, the text there, and what stands in its place.
struct Mutant(&'static str, &'static str, &'static str, &'static str);

/// Mutants of one kind, and the models that may catch them: one list after another, the quick ones first.
struct Suite {
    name: &'static str,
    /// The binary that they are in.
    test: &'static str,
    models: &'static [&'static [&'static str]],
    mutants: &'static [Mutant],
}

const SUITES: &[Suite] = &[
    Suite {
        name: "fences",
        test: "it",
        // Of the litmus tables not the longest.
        models: &[
            &["pairing", "deciding", "hand_on", "ends"],
            &[
                "--skip", "exact", "--skip", "pairing", "--skip", "deciding", "--skip", "hand_on",
                "--skip", "ends",
            ],
            &["exact", "--skip", "iriw", "--skip", "z6"],
        ],
        mutants: fences::MUTANTS,
    },
    Suite { name: "first example", test: "first", models: &[&[]], mutants: first::MUTANTS },
    Suite { name: "hazard", test: "hazard", models: &[&[]], mutants: hazard::MUTANTS },
    Suite { name: "segments", test: "segments", models: &[&[]], mutants: segments::MUTANTS },
    Suite {
        name: "cookbook event count",
        test: "cookbook",
        models: &[&["event_count::"]],
        mutants: event_count::MUTANTS,
    },
    Suite { name: "cookbook rcu", test: "cookbook", models: &[&["rcu::"]], mutants: rcu::MUTANTS },
    Suite {
        name: "cookbook biased lock",
        test: "cookbook",
        models: &[&["biased_lock::"]],
        mutants: biased_lock::MUTANTS,
    },
    Suite {
        name: "cookbook deque",
        test: "cookbook",
        models: &[&["deque::"]],
        mutants: deque::MUTANTS,
    },
    Suite {
        name: "cookbook epoch",
        test: "cookbook",
        models: &[&["epoch::"]],
        mutants: epoch::MUTANTS,
    },
];

/// A mutant with its suite and its full name.
type Chosen = (String, &'static Suite, &'static Mutant);

/// Changes a copy of the tree, and requires that the models fail on it: for each mutant whose name has
/// `word` in it. A worker for each processor, with a copy of its own.
pub(crate) fn run(sh: &Shell, word: &str) -> Result {
    let all =
        SUITES.iter().flat_map(|suite| suite.mutants.iter().map(move |mutant| (suite, mutant)));
    let chosen: Vec<Chosen> = all
        .map(|(suite, mutant)| (format!("{}: {}", suite.name, mutant.0), suite, mutant))
        .filter(|(what, ..)| what.contains(word))
        .collect();
    if chosen.is_empty() {
        return Err(format!("no mutant has `{word}` in its name").into());
    }
    let (root, next) = (sh.current_dir(), AtomicUsize::new(0));
    let workers = thread::available_parallelism()?.get().min(chosen.len());
    let survivors: Vec<&str> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|worker| {
                let (root, next, chosen) = (&root, &next, &chosen);
                let work = move || work(root, &format!("target/mutants/{worker}"), next, chosen);
                scope.spawn(move || work().map_err(|error| error.to_string()))
            })
            .collect();
        let survivors = workers.into_iter().map(|worker| worker.join().expect("no panic"));
        survivors.collect::<std::result::Result<Vec<_>, _>>().map(|each| each.concat())
    })?;
    println!("{} passed, {} failed", chosen.len() - survivors.len(), survivors.len());
    if survivors.is_empty() {
        Ok(())
    } else {
        Err(format!("mutants survive: {survivors:?}").into())
    }
}

/// Takes one mutant after the other, and returns those that survived.
fn work<'c>(
    root: &Path,
    folder: &str,
    next: &AtomicUsize,
    chosen: &'c [Chosen],
) -> Result<Vec<&'c str>> {
    let sh = Shell::new()?;
    sh.change_dir(root);
    let tree = root.join(folder).join("tree");
    sh.remove_path(&tree)?;
    let files = cmd!(sh, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    for file in files.lines().filter(|file| sh.path_exists(file)) {
        let copy = tree.join(file);
        sh.create_dir(copy.parent().ok_or("a file below the tree")?)?;
        sh.copy_file(file, copy)?;
    }
    sh.change_dir(&tree);
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let target = root.join(folder).join("target");
    let mut survivors = Vec::new();
    // Relaxed: a number for each worker to take.
    while let Some((what, suite, Mutant(_, file, text, replacement))) =
        chosen.get(next.fetch_add(1, Relaxed))
    {
        let source = sh.read_file(file)?;
        if source.matches(*text).count() != 1 {
            return Err(format!("{what}: its text does not stand once in {file}").into());
        }
        sh.write_file(file, source.replace(*text, replacement))?;
        let package = "loom-tests";
        let test = ["test", "--quiet", "--release", "--package", package, "--test", suite.test];
        let build = cmd!(sh, "cargo {test...} --target-dir {target} --no-run").quiet();
        build.ignore_stderr().run().map_err(|error| format!("{what}: {error}"))?;
        let fails = |filter: &[&str]| -> Result<bool> {
            let run = cmd!(sh, "cargo {test...} --target-dir {target} -- {filter...}");
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
        sh.write_file(file, source)?;
    }
    Ok(survivors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_every_named_mutant_stands_once_in_its_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root");
        let mut lost = Vec::new();
        for suite in SUITES {
            for Mutant(name, file, text, replacement) in suite.mutants {
                let source = std::fs::read_to_string(root.join(file)).expect(file);
                if source.matches(text).count() != 1 || text == replacement {
                    lost.push(format!("{}: {name}", suite.name));
                }
            }
        }
        assert!(lost.is_empty(), "{lost:#?}");
    }
}
