//! What becomes of published crates with our fences: their own tests before and after, and their own hot paths.
//!
//! The crates come from the registry into `target/adoption`. `adoption/` has our edits, and the program that measures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use xshell::{Shell, cmd};

use crate::show::line;
use crate::{Result, ledger, machine};

/// A published crate.
struct Theirs {
    name: &'static str,
    version: &'static str,
    /// How its tests are run: the arguments of each run.
    suites: &'static [&'static [&'static str]],
    ours: Ours,
}

/// How it gets our fences.
enum Ours {
    /// By edits: folders of `adoption/`, one upon the other.
    Edits(&'static [&'static str]),
    /// Not edited: a dependency of it is replaced by what lies at this place.
    Patch(&'static str, &'static str),
}

use Ours::{Edits, Patch};

/// The run of a crate's models.
const MODELS: &[&str] =
    &["--config", "build.rustflags=[\"--cfg\", \"loom\"]", "--release", "--test", "loom"];

const CRATES: [Theirs; 10] = [
    Theirs {
        name: "haphazard",
        version: "0.1.8",
        suites: &[&[]],
        ours: Edits(&["haphazard", "haphazard-inline"]),
    },
    Theirs {
        name: "left-right",
        version: "0.11.8",
        suites: &[&[], MODELS],
        ours: Edits(&["left-right", "left-right-stores"]),
    },
    Theirs {
        name: "swmr-cell",
        version: "0.3.1",
        // Its models, as published, do not compile: they call a method that is gone.
        suites: &[&[]],
        ours: Patch("swmr-barrier", "compat/swmr-barrier"),
    },
    Theirs {
        name: "arc-swap",
        version: "1.9.5",
        suites: &[&["--features", "weak"]],
        ours: Edits(&["arc-swap"]),
    },
    // After left-right, on which it stands.
    Theirs {
        name: "evmap",
        version: "11.0.0",
        suites: &[&[]],
        ours: Patch("left-right", "target/adoption/left-right-stores/after"),
    },
    Theirs {
        name: "event-listener",
        version: "5.4.2",
        suites: &[&[]],
        ours: Edits(&["event-listener"]),
    },
    Theirs { name: "hazarc", version: "0.2.0", suites: &[&[]], ours: Edits(&["hazarc"]) },
    Theirs {
        name: "crossbeam-epoch",
        version: "0.9.18",
        suites: &[&[]],
        ours: Edits(&["crossbeam-epoch", "crossbeam-epoch-paced"]),
    },
    Theirs {
        name: "async-executor",
        version: "1.14.1",
        suites: &[&["--tests"]],
        // No fences: a look before a compare-exchange.
        ours: Edits(&["async-executor"]),
    },
    Theirs { name: "rayon-core", version: "1.13.0", suites: &[&[]], ours: Edits(&["rayon-core"]) },
];

/// The crates whose names `compat/` has. Their own tests are run against that.
const NAMES: [(&str, &str); 3] =
    [("membarrier", "0.2.3"), ("membarrier2", "0.1.1"), ("swmr-barrier", "0.1.4")];

const FOLDER: &str = "target/adoption";

/// All of them, and the table; with a word the tests of those alone whose names contain it.
pub(crate) fn check(sh: &Shell, word: &str) -> Result {
    let Some(sources) = fetch(sh)? else { return Ok(()) };
    for (name, _) in NAMES.into_iter().filter(|(name, _)| name.contains(word)) {
        names(sh, name, &sources[name])?;
    }
    let mut tests = BTreeMap::new();
    for theirs in CRATES.iter().filter(|theirs| theirs.name.contains(word)) {
        tests.extend(adopt(sh, theirs, &sources[theirs.name])?);
    }
    if !word.is_empty() {
        tests.iter().for_each(|(step, passed)| println!("{step}: {passed} tests pass, as before"));
        return Ok(());
    }
    table(sh, &tests)?;
    ledger::ran(sh, WHAT)
}

/// How many minutes a suite may take, its build included. One that takes longer is ended, and counts as failed.
const MINUTES: &str = "5";

/// In the ledger.
const WHAT: &str = "the crates that adopt";

/// Where cargo has unpacked each. `None`, and said in the ledger, where there is no registry.
fn fetch(sh: &Shell) -> Result<Option<BTreeMap<String, PathBuf>>> {
    let crates = CRATES.iter().map(|theirs| (theirs.name, theirs.version)).chain(NAMES);
    let lines = crates.map(|(name, version)| format!("{name} = \"={version}\"\n"));
    let lines: String = lines.collect();
    let manifest = format!("{FOLDER}/fetch/Cargo.toml");
    sh.write_file(
        &manifest,
        format!("[package]\nname = \"fetch\"\nedition = \"2024\"\n[dependencies]\n{lines}"),
    )?;
    sh.write_file(format!("{FOLDER}/fetch/src/lib.rs"), "")?;
    let metadata = cmd!(sh, "cargo metadata --format-version 1 --manifest-path {manifest}");
    let Ok(metadata) = metadata.quiet().read() else {
        return ledger::skipped(sh, WHAT, "their sources cannot be had: no registry")
            .map(|()| None);
    };
    let places = metadata.split("\"manifest_path\":\"").skip(1);
    let places = places.filter_map(|rest| Path::new(rest.split('"').next()?).parent());
    let mut sources = BTreeMap::new();
    for place in places {
        let Some(folder) = place.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some((name, _version)) = folder.rsplit_once('-') {
            sources.insert(name.to_owned(), place.to_owned());
        }
    }
    Ok(Some(sources))
}

/// The tests of a crate, against the package of its name in `compat/`.
fn names(sh: &Shell, name: &str, source: &Path) -> Result {
    let folder = format!("{FOLDER}/names/{name}");
    copy(sh, &source.join("tests"), &format!("{folder}/tests"))?;
    let compat = sh.current_dir().join("compat").join(name);
    let loom = if name == "swmr-barrier" {
        format!("[features]\nloom = [\"dep:loom\", \"{name}/loom\"]\n")
    } else {
        String::new()
    };
    sh.write_file(
        format!("{folder}/Cargo.toml"),
        format!(
            "[package]\nname = \"names\"\nedition = \"2024\"\n{loom}[dependencies]\n\
             {name} = {{ path = \"{}\" }}\nloom = {{ version = \"0.7\", optional = true }}\n",
            compat.display()
        ),
    )?;
    sh.write_file(format!("{folder}/src/lib.rs"), "")?;
    run_suite(sh, &folder, &[])?;
    if !loom.is_empty() {
        run_suite(sh, &folder, &["--features", "loom", "--test", "loom_test"])?;
    }
    Ok(())
}

/// Its tests before and after. By the name of each step how many passed.
fn adopt(sh: &Shell, theirs: &Theirs, source: &Path) -> Result<Vec<(&'static str, usize)>> {
    let before = format!("{FOLDER}/{}/before", theirs.name);
    copy(sh, source, &before)?;
    // The resolver of older editions would turn `asymfence/loom` on.
    sh.write_file(
        format!("{FOLDER}/{}/Cargo.toml", theirs.name),
        "[workspace]\nmembers = [\"before\"]\nexclude = [\"after\"]\nresolver = \"2\"\n",
    )?;
    let passed = suites(sh, &before, theirs, &[])?;
    let same = |step, now| {
        if now == passed {
            return Ok((step, now));
        }
        Err(format!("{step}: {passed} tests passed before, {now} after"))
    };
    let mut tests = Vec::new();
    match theirs.ours {
        Patch(dependency, place) => {
            let path = sh.current_dir().join(place);
            let patch = format!("patch.crates-io.{dependency}.path=\"{}\"", path.display());
            tests.push(same(theirs.name, suites(sh, &before, theirs, &["--config", &patch])?)?);
            // A second copy, which the measuring program links beside the first.
            let after = format!("{FOLDER}/{}/after", theirs.name);
            copy(sh, source, &after)?;
            let line = format!("path = \"{}\"", path.display());
            sed(sh, &after, &format!("s|^\\[dependencies\\.{dependency}\\]|&\\n{line}|"))?;
            renumber(sh, &after, theirs.name)?;
        }
        Edits(steps) => {
            let mut last = before;
            for &step in steps {
                let after = format!("{FOLDER}/{step}/after");
                copy(sh, Path::new(&last), &after)?;
                renumber(sh, &after, step)?;
                edit(sh, step, &after)?;
                depend(sh, &after)?;
                tests.push(same(step, suites(sh, &after, theirs, &[])?)?);
                last = after;
            }
        }
    }
    Ok(tests)
}

fn copy(sh: &Shell, from: &Path, to: &str) -> Result {
    sh.remove_path(to)?;
    sh.create_dir(Path::new(to).parent().ok_or("no parent")?)?;
    cmd!(sh, "cp -r {from} {to}").quiet().run()?;
    Ok(())
}

/// A version of its own, by which cargo tells two copies in one program apart; and no `links`, which only one copy may
/// have.
fn renumber(sh: &Shell, folder: &str, step: &str) -> Result {
    let version = format!("0,/^version = /s/^version = \"([0-9.]+).*\"/version = \"\\1+{step}\"/");
    sed(sh, folder, &format!("{version}; /^links = /d"))
}

/// Edits the manifest.
fn sed(sh: &Shell, folder: &str, script: &str) -> Result {
    cmd!(sh, "sed -E -i {script} {folder}/Cargo.toml").quiet().run()?;
    Ok(())
}

/// A dependency on asymfence, modelled under `cfg(loom)`.
fn depend(sh: &Shell, folder: &str) -> Result {
    let manifest = format!("{folder}/Cargo.toml");
    let text = sh.read_file(&manifest)?;
    if text.contains("asymfence]") {
        return Ok(());
    }
    // The resolver of older editions would turn the feature on where the cfg is not.
    let text = text.replace("edition = \"2018\"\n", "edition = \"2018\"\nresolver = \"2\"\n");
    let path = sh.current_dir();
    let path = path.display();
    let lines = format!(
        "\n[dependencies.asymfence]\npath = \"{path}\"\n\
         \n[target.'cfg(loom)'.dependencies.asymfence]\npath = \"{path}\"\nfeatures = [\"loom\"]\n"
    );
    Ok(sh.write_file(manifest, text + &lines)?)
}

/// Runs each script of the step, and sees that it changed as many lines as its first line says.
fn edit(sh: &Shell, step: &str, folder: &str) -> Result {
    let scripts = cmd!(sh, "find adoption/{step} -name *.sed").quiet().read()?;
    for script in scripts.lines() {
        let file = script.trim_start_matches(&format!("adoption/{step}/")).trim_end_matches(".sed");
        let file = format!("{folder}/{file}");
        let promised = sh.read_file(script)?;
        let promised = promised.lines().next().and_then(|line| line.strip_prefix("# lines: "));
        let promised: usize = promised.ok_or(format!("{script}: no `# lines:`"))?.parse()?;
        let before = sh.read_file(&file)?;
        cmd!(sh, "sed -E -i -f {script} {file}").quiet().run()?;
        let changed = changed(&before, &sh.read_file(&file)?);
        if changed != promised {
            return Err(format!("{script}: changes {changed} lines, not {promised}").into());
        }
    }
    Ok(())
}

/// How many lines of `before` are gone, or how many have come, whichever is more.
fn changed(before: &str, after: &str) -> usize {
    let missing = |from: &str, of: &str| {
        let mut left: Vec<&str> = of.lines().collect();
        let mut missing = 0;
        for line in from.lines() {
            match left.iter().position(|other| *other == line) {
                Some(place) => _ = left.swap_remove(place),
                None => missing += 1,
            }
        }
        missing
    };
    missing(after, before).max(missing(before, after))
}

fn suites(sh: &Shell, folder: &str, theirs: &Theirs, more: &[&str]) -> Result<usize> {
    let passed = theirs.suites.iter().map(|suite| {
        let arguments: Vec<&str> = more.iter().chain(*suite).copied().collect();
        run_suite(sh, folder, &arguments)
    });
    passed.sum()
}

/// How many tests passed. One that fails is an error.
fn run_suite(sh: &Shell, folder: &str, arguments: &[&str]) -> Result<usize> {
    let target = format!("{FOLDER}/build");
    let manifest = format!("{folder}/Cargo.toml");
    let target = ["--manifest-path", &manifest, "--target-dir", &target];
    // Bounded, because some of their models would take hours.
    let _bounded = sh.push_env("LOOM_MAX_PREEMPTIONS", "2");
    let test = cmd!(sh, "timeout {MINUTES}m cargo test {target...} {arguments...}");
    let test = test.env_remove("RUSTFLAGS").ignore_status();
    println!("$ {}", line(sh, &test));
    let output = test.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{folder}: its tests fail\n{text}\n{errors}").into());
    }
    let passed = passed(&text);
    println!("  {passed} tests pass");
    Ok(passed)
}

fn passed(text: &str) -> usize {
    let results = text.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    results.filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok()).sum()
}

/// The figures of the table in `docs/adopting.md`, from one run.
fn table(sh: &Shell, tests: &BTreeMap<&'static str, usize>) -> Result {
    let manifest = "adoption/measure/Cargo.toml";
    let target = ["--target-dir", "target/adoption/build"];
    // What the compiler warns of in their code says nothing here.
    let _silent = sh.push_env("RUSTFLAGS", "--cap-lints=allow");
    let measured = cmd!(sh, "cargo run --release --manifest-path {manifest} {target...}").read()?;
    println!("{}", machine::describe(sh)?);
    println!("| | tests | hot | rare, alone | rare, beside | from |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for line in measured.lines() {
        println!("{}", row(line, tests)?);
    }
    Ok(())
}

fn row(line: &str, tests: &BTreeMap<&'static str, usize>) -> Result<String> {
    let mut words = line.split('\t');
    let name = words.next().unwrap_or_default();
    let times = words.map(str::parse).collect::<std::result::Result<Vec<f64>, _>>()?;
    let &[hot, hot_after, rare, rare_after, beside, beside_after] = times.as_slice() else {
        return Err(format!("{line}: not six times").into());
    };
    let tests = tests.get(name).map(|passed| passed.to_string()).unwrap_or_default();
    let hot_side = format!("| {name} | {tests} | {hot:.2} → {hot_after:.2} |");
    // Some have no rare side that is measured.
    if rare_after < 1.0 {
        return Ok(hot_side + " | | |");
    }
    let from = match (beside_after - beside) / (hot - hot_after) {
        _ if hot_after >= hot => "never".to_owned(),
        from if from <= 0.0 => "always".to_owned(),
        from => format!("{from:.0}"),
    };
    Ok(format!(
        "{hot_side} {rare:.0} → {rare_after:.0} | {beside:.0} → {beside_after:.0} | {from} |"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_change_are_counted() {
        assert_eq!(changed("a\nb\n", "a\nb\n"), 0);
        assert_eq!(changed("a\nb\n", "a\nc\n"), 1);
        assert_eq!(changed("a\nb\n", "a\n"), 1);
        assert_eq!(changed("a\n", "a\na\nb\n"), 2);
    }

    #[test]
    fn tests_that_passed_are_summed() {
        let text = "test result: ok. 12 passed; 0 failed\nx\ntest result: ok. 3 passed; 0 failed\n";
        assert_eq!(passed(text), 15);
    }

    #[test]
    fn a_row_says_from_where_it_pays() {
        let tests = BTreeMap::from([("a", 7)]);
        let row = |line| row(line, &tests).expect("six times");
        assert_eq!(
            row("a\t5\t1\t10\t300\t20\t8020"),
            "| a | 7 | 5.00 → 1.00 | 10 → 300 | 20 → 8020 | 2000 |"
        );
        assert!(row("a\t5\t5\t1\t2\t1\t2").ends_with("never |"));
        assert!(row("a\t5\t4\t1\t1\t2\t1").ends_with("always |"));
        assert_eq!(row("a\t5\t4\t0.1\t0.2\t0.1\t0.1"), "| a | 7 | 5.00 → 4.00 | | | |");
        assert!(super::row("a\t5", &tests).is_err());
    }
}
