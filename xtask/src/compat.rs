//! The packages that have the names of other crates.

use xshell::{Shell, cmd};

use crate::{Result, target};

pub(crate) fn check(sh: &Shell) -> Result {
    let target = target(sh, "compat");
    let _there = sh.push_dir("compat");
    cmd!(sh, "cargo clippy --all-targets --target-dir {target} -- -D warnings").run()?;
    cmd!(sh, "cargo test --target-dir {target}").run()?;
    // Models are for dependents: what they name must be there.
    cmd!(sh, "cargo check --package swmr-barrier --features loom --target-dir {target}").run()?;
    cmd!(sh, "cargo check --package membarrier2 --target-dir {target}")
        .env("RUSTFLAGS", "--cfg loom")
        .run()?;
    Ok(())
}
