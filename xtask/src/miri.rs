//! Miri: undefined behaviour that no sanitizer sees.

use xshell::{Shell, cmd};

use crate::show::run;
use crate::{Result, ledger, target};

/// The toolchains that may have it: the one in use, and the nightly one.
const TOOLCHAINS: [&[&str]; 2] = [&[], &["+nightly"]];

/// The structures on hazard pointers, what safe code can do with the types, and the cohorts. The other tests have
/// processes of their own, which Miri does not run, or as many rounds as would take it hours.
const TESTS: [&str; 4] = ["safe::", "promises::", "structures::", "cohorts::what_readers_see"];

pub(crate) fn check(sh: &Shell) -> Result {
    let has = |toolchain: &&&[&str]| {
        let toolchain = **toolchain;
        cmd!(sh, "cargo {toolchain...} miri --version")
            .quiet()
            .ignore_stdout()
            .ignore_stderr()
            .run()
            .is_ok()
    };
    let Some(&toolchain) = TOOLCHAINS.iter().find(has) else {
        return ledger::skipped(sh, "Miri", "no toolchain has it: the hazard pointers");
    };
    let target = target(sh, "miri");
    // The clock of the system, and its processors.
    let _flags = sh.push_env("MIRIFLAGS", "-Zmiri-disable-isolation");
    let test = ["test", "--package", "asymfence-hazard", "--test", "it"];
    run(sh, cmd!(sh, "cargo {toolchain...} miri {test...} --target-dir {target} -- {TESTS...}"))?;
    ledger::ran(sh, "Miri")
}
