//! The loom models.

use xshell::{Shell, cmd};

use crate::Result;

/// A target directory of its own: the flag would have the tests of the library built again.
const TARGET: [&str; 4] = ["--package", "loom-tests", "--target-dir", "target/loom"];

pub(crate) fn models(sh: &Shell, deep: bool) -> Result {
    // The examples of the guide and of the module `model`, which need no other package's cfg.
    let documented = ["guide::checking_under_loom", "model::", "witness"];
    cmd!(sh, "cargo test --doc --features loom -- {documented...}").run()?;
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let _deep = deep.then(|| sh.push_env("ASYMFENCE_LOOM_DEEP", "1"));
    cmd!(sh, "cargo test --release {TARGET...} -- --nocapture").run()?;
    Ok(())
}

pub(crate) fn lint(sh: &Shell) -> Result {
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    cmd!(sh, "cargo clippy --release {TARGET...} --all-targets -- -D warnings").run()?;
    let adopter = ["--package", "adopter", "--tests", "--target-dir", "target/loom"];
    cmd!(sh, "cargo clippy --release {adopter...} --all-features -- -D warnings").run()?;
    Ok(())
}
