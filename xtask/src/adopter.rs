//! The crate that takes the fences as an option, in each way that `docs/adopting.md` tells of, but for ThreadSanitizer
//! (`cargo xtask platforms tsan`).

use xshell::{Shell, cmd};

use crate::show::run;
use crate::{Result, miri, target};

/// Without the feature, and with it.
const OPTIONS: [&[&str]; 2] = [&[], &["--features", "adopter/asymmetric"]];

pub(crate) fn check(sh: &Shell) -> Result {
    without(sh)?;
    let with = OPTIONS[1];
    run(sh, cmd!(sh, "cargo test --package adopter {with...}"))?;
    models(sh, with)?;
    miri::adopter(sh)
}

/// What `cargo xtask test` has no other step for.
pub(crate) fn without(sh: &Shell) -> Result {
    let [without, with] = OPTIONS;
    run(sh, cmd!(sh, "cargo test --no-fail-fast --package adopter"))?;
    models(sh, without)?;
    for option in [without, with] {
        run(sh, cmd!(sh, "cargo check --package adopter --lib --no-default-features {option...}"))?;
    }
    Ok(())
}

fn models(sh: &Shell, option: &[&str]) -> Result {
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let target = target(sh, "loom");
    // Built together with loom-tests, so that loom has the same features for both, and is built once. The adopter's models
    // are in a module `models`.
    let test = ["test", "--release", "--package", "adopter", "--package", "loom-tests"];
    let named = ["--test", "it", "--target-dir"];
    run(sh, cmd!(sh, "cargo {test...} {named...} {target} {option...} -- models::"))
}
