//! Crates that depend on this one as others do, and are checked by the model with the lines of the guide alone.

use std::time::{Duration, Instant};

use xshell::{Shell, cmd};

use crate::{Result, target};

/// The crates with models: a folder, and the cfg that it has for them.
const CHECKED: [(&str, &str); 2] = [("modelled/plain", "loom"), ("modelled/own-cfg", "lock_loom")];

pub(crate) fn check(sh: &Shell) -> Result {
    let target = target(sh, "modelled");
    for (crate_, cfg) in CHECKED {
        let _there = sh.push_dir(crate_);
        let test = |flags: &str| {
            cmd!(sh, "cargo test --quiet --target-dir {target}").env("RUSTFLAGS", flags)
        };
        // The real fences, also where somebody else's cfg is set.
        test("").run()?;
        if cfg != "loom" {
            test("--cfg loom").run()?;
        }
        test(&format!("--cfg {cfg}")).run()?;
        let mutant = || test(&format!("--cfg {cfg}")).args(["--features", "mutant"]);
        mutant().arg("--no-run").run()?;
        let begin = Instant::now();
        if mutant().ignore_status().output()?.status.success() {
            return Err(format!("{crate_}: the mutant passes").into());
        }
        if begin.elapsed() > Duration::from_secs(60) {
            return Err(format!("{crate_}: the mutant took {:?} to fail", begin.elapsed()).into());
        }
    }
    resolvers(sh)?;
    lock_file(sh)
}

/// Resolver 1 turns the feature on where the cfg is not, and the first fence says so. Resolver 2 does not.
fn resolvers(sh: &Shell) -> Result {
    let target = target(sh, "modelled");
    for (folder, is_modelled) in [("modelled/resolver-1", true), ("modelled/resolver-2", false)] {
        let _there = sh.push_dir(folder);
        let tree = cmd!(sh, "cargo tree --quiet --edges normal").quiet().read()?;
        if tree.contains("loom v") != is_modelled {
            return Err(format!("{folder}: `cargo tree` is not as the guide says").into());
        }
        let run = cmd!(sh, "cargo run --quiet --target-dir {target}");
        let run = run.ignore_status().output()?;
        let says = String::from_utf8_lossy(&run.stderr).contains("resolver = \"2\"");
        if run.status.success() == is_modelled || says != is_modelled {
            return Err(format!("{folder}: {}", String::from_utf8_lossy(&run.stderr)).into());
        }
    }
    Ok(())
}

/// A program without the feature has nothing of loom in its lock file.
fn lock_file(sh: &Shell) -> Result {
    if sh.read_file("no-std-tests/Cargo.lock")?.contains("name = \"loom\"") {
        return Err("loom is in the lock file of a program without the feature".into());
    }
    Ok(())
}
