//! The loom models.

use xshell::{Shell, cmd};

use crate::{Result, target};

/// A target directory of its own: the flag would have the tests of the library built again.
fn in_target(sh: &Shell, package: &str) -> [String; 4] {
    let target = target(sh, "loom").display().to_string();
    ["--package".into(), package.into(), "--target-dir".into(), target]
}

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
    // The examples of the guide and of the module `model`, which need no other package's cfg.
    let documented = ["checking_under_loom", "model::", "witness", "world"];
    cmd!(sh, "cargo test --doc --features loom -- {documented...}").run()?;
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let _bounds = match bounds {
        Bounds::Quick => Some(sh.push_env("ASYMFENCE_LOOM_QUICK", "1")),
        Bounds::Full => None,
        Bounds::Deep => Some(sh.push_env("ASYMFENCE_LOOM_DEEP", "1")),
    };
    let all = in_target(sh, "loom-tests");
    cmd!(sh, "cargo test --release {all...} -- --nocapture").run()?;
    Ok(())
}

/// The models of one file.
pub(crate) fn named(sh: &Shell, file: &str) -> Result {
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let all = in_target(sh, "loom-tests");
    cmd!(sh, "cargo test --release {all...} --test {file}").run()?;
    Ok(())
}

pub(crate) fn lint(sh: &Shell) -> Result {
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let all = in_target(sh, "loom-tests");
    cmd!(sh, "cargo clippy --release {all...} --all-targets -- -D warnings").run()?;
    let adopter = in_target(sh, "adopter");
    cmd!(sh, "cargo clippy --release {adopter...} --tests --all-features -- -D warnings").run()?;
    Ok(())
}
