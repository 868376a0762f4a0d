//! The packages that have the names of other crates.

use xshell::{Shell, cmd};

use crate::modelled::DEPENDENTS;
use crate::show::run;
use crate::{Result, target};

pub(crate) fn check(sh: &Shell) -> Result {
    let target = target(sh, DEPENDENTS);
    let _there = sh.push_dir("compat");
    // Nobody debugs them here.
    let _lean = sh.push_env("CARGO_PROFILE_DEV_DEBUG", "0");
    run(sh, cmd!(sh, "cargo test --no-fail-fast --target-dir {target}"))?;
    // A dependent's models, under `--cfg loom`, name things of these packages: they must compile.
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let modelled = ["--package", "membarrier2", "--package", "swmr-barrier"];
    run(
        sh,
        cmd!(sh, "cargo check {modelled...} --features swmr-barrier/loom --target-dir {target}"),
    )
}

pub(crate) fn lint(sh: &Shell) -> Result {
    let target = target(sh, DEPENDENTS);
    let _there = sh.push_dir("compat");
    run(sh, cmd!(sh, "cargo clippy --all-targets --target-dir {target} -- -D warnings"))
}
