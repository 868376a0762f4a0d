//! The loom models.

use std::process::Command;
use std::sync::Mutex;

use xshell::{Shell, cmd};

use crate::processes::{binaries, names, workers};
use crate::show::{line, run};
use crate::{Result, target};

/// A target directory of its own. In the common one the flag would make cargo build the library's tests again.
fn in_target(sh: &Shell) -> [String; 2] {
    ["--target-dir".into(), target(sh, "loom").display().to_string()]
}

/// The packages with models: this project's, and the adopter's. They are built at once, with the same features of loom.
const MODELLED: [&str; 6] =
    ["--package", "loom-tests", "--package", "adopter", "--features", "adopter/asymmetric"];

/// How far the models go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// Two preemptions, and a part of the tables: what `cargo xtask test` has time for.
    Quick,
    /// Three preemptions, and the whole tables.
    Full,
    /// Five, or no bound.
    Deep,
}

pub(crate) fn models(sh: &Shell, bounds: Bounds) -> Result {
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let _bounds = match bounds {
        Bounds::Quick => Some(sh.push_env("ASYMFENCE_LOOM_QUICK", "1")),
        Bounds::Full => None,
        Bounds::Deep => Some(sh.push_env("ASYMFENCE_LOOM_DEEP", "1")),
    };
    let target = &in_target(sh);
    apart(sh, bounds)?;
    // The examples of the guide and of the module `model`.
    let documented = ["checking_under_loom", "model::", "witness", "world"];
    let doc = ["--doc", "--package", "asymfence", "--features", "asymfence/loom"];
    run(sh, cmd!(sh, "cargo test --release {MODELLED...} {doc...} {target...} -- {documented...}"))
}

/// Every model, in a process of its own, and as many at a time as there are processors. loom maps a stack for each thread of
/// each execution, and unmaps it: in one process, that would interrupt the processor that runs another model.
fn apart(sh: &Shell, bounds: Bounds) -> Result {
    let target = &in_target(sh);
    let test = ["test", "--release", "--tests"];
    let build = || cmd!(sh, "cargo {test...} {MODELLED...} {target...} --no-run");
    run(sh, build())?;
    // Nothing is left to build: this only names the binaries.
    let built = build().quiet().output()?;
    let mut models: Vec<(String, Command)> = Vec::new();
    for (_, binary) in binaries(&String::from_utf8(built.stderr)?) {
        let binary = sh.current_dir().join(binary);
        for name in names(&binary, &sh.current_dir(), &[])? {
            let options = ["--test-threads=1", "--show-output"];
            let command = cmd!(sh, "{binary} --exact {name} {options...}");
            models.push((line(sh, &command), command.into()));
        }
    }
    let count = models.len();
    let (depth, minutes) = match bounds {
        Bounds::Quick => ("two preemptions", "a minute or two on two processors"),
        Bounds::Full => ("three preemptions", "some minutes"),
        Bounds::Deep => ("five preemptions, or any number", "long"),
    };
    println!(
        "{count} models with {depth} (some with a bound of their own), each in a process of its own: this takes {minutes}"
    );
    let (models, failed) = (Mutex::new(models.into_iter()), Mutex::new(Vec::new()));
    let next = || models.lock().expect("no worker panics").next();
    workers(|_| {
        while let Some((line, mut command)) = next() {
            let output = command.output()?;
            let passed = output.status.success();
            // How many executions each table took.
            if bounds == Bounds::Deep || !passed {
                let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy);
                println!("$ {line}\n{}", said.concat());
            }
            if !passed {
                failed.lock().expect("no worker panics").push(line);
            }
        }
        Ok(())
    })?;
    let failed = failed.into_inner().expect("no worker panics");
    if !failed.is_empty() {
        return Err(format!("{} of {count} models:\n{}", failed.len(), failed.join("\n")).into());
    }
    println!("{count} models passed");
    Ok(())
}

/// The models of one file.
pub(crate) fn named(sh: &Shell, file: &str) -> Result {
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let target = &in_target(sh);
    run(sh, cmd!(sh, "cargo test --release --package loom-tests {target...} --test {file}"))
}

pub(crate) fn lint(sh: &Shell) -> Result {
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let target = &in_target(sh);
    let deny = ["--", "-D", "warnings"];
    let models = ["--package", "loom-tests", "--all-targets"];
    run(sh, cmd!(sh, "cargo clippy --release {models...} {target...} {deny...}"))?;
    let adopter = ["--package", "adopter", "--tests", "--all-features"];
    run(sh, cmd!(sh, "cargo clippy --release {adopter...} {target...} {deny...}"))
}
