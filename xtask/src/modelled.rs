//! Checks crates that depend on this one as other crates do. Their models run by the lines of the guide alone.

use std::time::{Duration, Instant};

use xshell::{Cmd, Shell, cmd};

use crate::show::line;
use crate::{Result, target};

/// The target folder of workspaces that depend on this one. They share what they build of it.
pub(crate) const DEPENDENTS: &str = "dependents";

pub(crate) fn check(sh: &Shell) -> Result {
    // Without debug information, which nobody needs here, they build faster.
    let _lean = sh.push_env("CARGO_PROFILE_DEV_DEBUG", "0");
    // They take the versions of this workspace, and so can use what it has built.
    for folder in ["plain", "own-cfg", "resolver-1", "resolver-2"] {
        sh.copy_file("Cargo.lock", format!("modelled/{folder}/Cargo.lock"))?;
    }
    let quick = ["--target-dir".to_owned(), target(sh, DEPENDENTS).display().to_string()];
    // As the guide has it. What it builds is shared with the models of `cargo xtask loom`. Under another cfg nothing is
    // shared, and to optimise a model as small as that takes longer than to run it.
    let release = target(sh, "loom").display().to_string();
    let release = ["--release".to_owned(), "--target-dir".to_owned(), release];
    check_one(sh, "modelled/plain", "loom", &quick, &release)?;
    check_one(sh, "modelled/own-cfg", "lock_loom", &quick, &quick)?;
    resolvers(sh)?;
    lock_file(sh)
}

/// The crate in `folder`, whose models are for `cfg`: with the real fences, and then its models and their mutant.
fn check_one(sh: &Shell, folder: &str, cfg: &str, real: &[String], modelled: &[String]) -> Result {
    let _there = sh.push_dir(folder);
    for flags in ["", "--cfg loom"] {
        // The cfg of another crate must change nothing.
        if flags.is_empty() || cfg != "loom" {
            let _flags = sh.push_env("RUSTFLAGS", flags);
            silently(sh, cmd!(sh, "cargo test --quiet {real...}"))?;
        }
    }
    let _flags = sh.push_env("RUSTFLAGS", format!("--cfg {cfg}"));
    silently(sh, cmd!(sh, "cargo test --quiet {modelled...}"))?;
    let mutant = || cmd!(sh, "cargo test --quiet {modelled...} --features mutant");
    mutant().arg("--no-run").quiet().run()?;
    let begin = Instant::now();
    if silently(sh, mutant()).is_ok() {
        return Err(format!("{folder}: the mutant passes").into());
    }
    println!("  fails as it must");
    if begin.elapsed() > Duration::from_secs(60) {
        return Err(format!("{folder}: the mutant took {:?} to fail", begin.elapsed()).into());
    }
    Ok(())
}

/// Prints the command. Its output becomes the error if it fails, and is not shown otherwise.
fn silently(sh: &Shell, command: Cmd<'_>) -> Result<std::process::Output> {
    println!("$ {}", line(sh, &command));
    let output = command.quiet().ignore_status().output()?;
    let said = || [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    if output.status.success() { Ok(output) } else { Err(said().into()) }
}

/// Resolver 1 turns the feature on even without the cfg, and then the first fence fails with a message. Resolver 2 does not.
fn resolvers(sh: &Shell) -> Result {
    let target = target(sh, DEPENDENTS);
    // Neither crate here asks for this cfg. With it, the builds of `own-cfg` are used again.
    let _flags = sh.push_env("RUSTFLAGS", "--cfg lock_loom");
    for (folder, is_modelled) in [("modelled/resolver-1", true), ("modelled/resolver-2", false)] {
        let _there = sh.push_dir(folder);
        let tree = cmd!(sh, "cargo tree --quiet --edges normal").quiet().read()?;
        if tree.contains("loom v") != is_modelled {
            return Err(format!("{folder}: `cargo tree` is not as the guide says").into());
        }
        let outcome = silently(sh, cmd!(sh, "cargo run --quiet --target-dir {target}"));
        let said = outcome.as_ref().err().map_or(String::new(), ToString::to_string);
        if outcome.is_ok() == is_modelled || said.contains("resolver = \"2\"") != is_modelled {
            return Err(format!("{folder}: {said}").into());
        }
        if is_modelled {
            println!("  fails as it must, and says how to mend it");
        }
    }
    Ok(())
}

/// The lock file of a program without the feature does not name loom.
fn lock_file(sh: &Shell) -> Result {
    if sh.read_file("no-std-tests/Cargo.lock")?.contains("name = \"loom\"") {
        return Err("loom is in the lock file of a program without the feature".into());
    }
    Ok(())
}
