//! The loom models.

use xshell::{Shell, cmd};

use crate::show::run;
use crate::{Result, target};

/// A target directory of its own: the flag would have the tests of the library built again.
fn in_target(sh: &Shell) -> [String; 2] {
    ["--target-dir".into(), target(sh, "loom").display().to_string()]
}

/// The models of this project, and those of a crate that adopts. All in one build, with the same features of loom.
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
    // How many executions each table took.
    let output: &[&str] = if bounds == Bounds::Deep { &["--show-output"] } else { &[] };
    run(sh, cmd!(sh, "cargo test --release {MODELLED...} --tests {target...} -- {output...}"))?;
    // The examples of the guide and of the module `model`.
    let documented = ["checking_under_loom", "model::", "witness", "world"];
    let doc = ["--doc", "--package", "asymfence", "--features", "asymfence/loom"];
    run(sh, cmd!(sh, "cargo test --release {MODELLED...} {doc...} {target...} -- {documented...}"))
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
