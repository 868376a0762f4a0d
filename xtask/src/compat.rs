//! The packages that have the names of other crates.

use xshell::{Shell, cmd};

use crate::Result;

pub(crate) fn check(sh: &Shell) -> Result {
    let _there = sh.push_dir("compat");
    let target = ["--target-dir", "../target/compat"];
    cmd!(sh, "cargo clippy --all-targets {target...} -- -D warnings").run()?;
    cmd!(sh, "cargo test {target...}").run()?;
    // Models are for dependents: what they name must be there.
    cmd!(sh, "cargo check --package swmr-barrier --features loom {target...}").run()?;
    cmd!(sh, "cargo check --package membarrier2 {target...}")
        .env("RUSTFLAGS", "--cfg loom")
        .run()?;
    Ok(())
}
