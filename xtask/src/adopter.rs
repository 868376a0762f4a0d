//! The crate that takes the fences as an option, in each way that `docs/adopting.md` tells of.

use xshell::{Shell, cmd};

use crate::{Result, ledger, target};

/// Without the feature, and with it.
const OPTIONS: [&[&str]; 2] = [&[], &["--features", "asymmetric"]];

pub(crate) fn check(sh: &Shell) -> Result {
    for option in OPTIONS {
        cmd!(sh, "cargo test --package adopter {option...}").run()?;
        cmd!(sh, "cargo check --package adopter --lib --no-default-features {option...}").run()?;
        models(sh, option)?;
    }
    miri(sh)
}

fn models(sh: &Shell, option: &[&str]) -> Result {
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let target = target(sh, "loom");
    let test = ["test", "--release", "--package", "adopter", "--test", "it"];
    cmd!(sh, "cargo {test...} --target-dir {target} {option...}").run()?;
    Ok(())
}

fn miri(sh: &Shell) -> Result {
    if cmd!(sh, "cargo miri --version").quiet().ignore_stdout().ignore_stderr().run().is_err() {
        return ledger::skipped(sh, "Miri", "this toolchain has none: the adopter");
    }
    let target = target(sh, "miri");
    let test = ["test", "--package", "adopter", "--test", "it"];
    for option in OPTIONS {
        cmd!(sh, "cargo miri {test...} --target-dir {target} {option...}").run()?;
    }
    Ok(())
}
