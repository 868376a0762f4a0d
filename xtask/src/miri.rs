//! Miri: undefined behaviour that no sanitizer sees, leaks, and orders that this processor does not show.

use std::sync::OnceLock;

use xshell::{Shell, cmd};

use crate::show::run;
use crate::steps::{self, Step};
use crate::{LEAKS, Result, ledger, target};

/// The toolchains that may have it: the one in use, and the nightly one.
const TOOLCHAINS: [&[&str]; 2] = [&[], &["+nightly"]];

/// The steps. Tests run with both models of what references may do, examples of the documentation with one.
pub(crate) const STEPS: &[Step] = &[
    ("library", "unit tests, the fences between processes, examples", |sh| {
        both(sh, &["asymfence", "--lib"], &left_out(sh, OF_THE_LIBRARY)?)?;
        both(sh, &["asymfence", "--test", "it"], &["cross_process::alone"])?;
        miri(sh, "", &["asymfence", "--doc"], &left_out(sh, OF_THE_EXAMPLES)?)
    }),
    ("library without std", "unit tests", |sh| {
        both(sh, &["asymfence", "--no-default-features", "--lib"], &[])
    }),
    ("hazard pointers", "unit tests, hazard/tests/it, examples", |sh| {
        both(sh, &["asymfence-hazard", "--lib", "--test", "it"], &left_out(sh, OF_HAZARD)?)?;
        miri(sh, "", &["asymfence-hazard", "--doc"], &left_out(sh, OF_ITS_EXAMPLES)?)
    }),
    ("hazard pointers without std", "a part of hazard/tests/it", |sh| {
        both(
            sh,
            &["asymfence-hazard", "--no-default-features", "--test", "it"],
            &["safe::", "promises::"],
        )
    }),
    ("cookbook", "cookbook/tests/it, examples", |sh| {
        both(sh, &["asymfence-cookbook", "--test", "it"], &left_out(sh, OF_THE_COOKBOOK)?)?;
        miri(sh, "", &["asymfence-cookbook", "--doc"], &[])
    }),
    ("adopter", "a crate that takes the fences as an option, without and with them", adopter),
    ("seeds", "small concurrent tests, with several seeds", |sh| {
        for (package, tests) in SMALL {
            for model in MODELS {
                let flags = format!("{model} -Zmiri-many-seeds=0..{SEEDS}");
                miri(sh, flags.trim_start(), &[package, "--test", "it"], tests)?;
            }
        }
        Ok(())
    }),
];

/// Stacked Borrows, which is Miri's own choice, and Tree Borrows.
const MODELS: [&str; 2] = ["", "-Zmiri-tree-borrows"];

/// A seed chooses where threads are switched, which store a weak load sees, and where objects lie.
const SEEDS: u32 = 5;

/// Concurrent tests that take a moment each, for many seeds: packages, and tests of theirs.
const SMALL: [(&str, &[&str]); 3] = [
    ("asymfence", &["cross_process::alone"]),
    (
        "asymfence-hazard",
        &["cohorts::what_readers_see", "garbage_is_bounded_while_many_threads_retire"],
    ),
    ("asymfence-cookbook", &["epoch::what_is_pinned", "rcu::what_is_read", "ping_pong"]),
];

/// What does not run in Miri, as the harness is told: the name, and why.
const OF_THE_LIBRARY: &[(&str, &str)] = &[
    ("kernel::tests::a_file_is_read_to_its_end_and_a_missing_one_is_told", "it reads procfs"),
    ("kernel::tests::a_fifo_in_place_of_a_file_does_not_stop_the_process", "it makes a FIFO"),
];
const OF_THE_EXAMPLES: &[(&str, &str)] = &[
    ("src/cross_process/", "they make a memfd"),
    ("src/membarrier.rs - membarrier (line", "it registers"),
    ("guide::readme", "Miri would take minutes"),
];
const OF_HAZARD: &[(&str, &str)] = &[
    ("ring::tests::an_owner_whose_ring_stays_locked_takes_another", "Miri would take minutes"),
    (
        "slots::tests::a_scan_contains_what_it_was_made_of_and_nothing_else",
        "Miri would take 40 minutes, with Tree Borrows",
    ),
];
const OF_ITS_EXAMPLES: &[(&str, &str)] =
    &[("reclaim_in_background", "its thread outlives the main one, which Miri calls a leak")];
const OF_THE_COOKBOOK: &[(&str, &str)] = &[(LEAKS, "it leaks on purpose")];

pub(crate) fn check(sh: &Shell, word: &str) -> Result {
    if toolchain(sh).is_none() {
        return ledger::skipped(
            sh,
            "Miri",
            "no toolchain has it (rustup toolchain install nightly --component miri)",
        );
    }
    steps::run(sh, "cargo xtask miri", STEPS, word)?;
    ledger::ran(sh, "Miri")
}

/// The crate that takes the fences as an option, without them and with them.
pub(crate) fn adopter(sh: &Shell) -> Result {
    for option in [&[][..], &["--features", "asymmetric"]] {
        both(sh, &[&["adopter", "--test", "it"], option].concat(), &[])?;
    }
    Ok(())
}

/// Asked once: every step has several runs.
fn toolchain(sh: &Shell) -> Option<&'static [&'static str]> {
    static FOUND: OnceLock<Option<&'static [&'static str]>> = OnceLock::new();
    let has = |toolchain: &&[&str]| {
        let toolchain = *toolchain;
        let asked = cmd!(sh, "cargo {toolchain...} miri --version");
        asked.quiet().ignore_stdout().ignore_stderr().run().is_ok()
    };
    *FOUND.get_or_init(|| TOOLCHAINS.into_iter().find(has))
}

/// The arguments that leave these out, each in the ledger.
fn left_out(sh: &Shell, tests: &[(&'static str, &str)]) -> Result<Vec<&'static str>> {
    let mut arguments = Vec::new();
    for (name, why) in tests {
        arguments.extend(["--skip", name]);
        ledger::skipped(sh, &format!("on Miri: {name}"), why)?;
    }
    Ok(arguments)
}

fn both(sh: &Shell, what: &[&str], harness: &[&str]) -> Result {
    MODELS.iter().try_for_each(|model| miri(sh, model, what, harness))
}

/// `what` is a package and more for cargo, `harness` is for the harness of the tests.
fn miri(sh: &Shell, flags: &str, what: &[&str], harness: &[&str]) -> Result {
    let Some(toolchain) = toolchain(sh) else {
        return ledger::skipped(sh, "Miri", format!("no toolchain has it: {}", what[0]));
    };
    let _platform = ledger::at(sh, "Miri");
    // Without isolation the tests have the clock and the files of the system.
    let always = "-Zmiri-disable-isolation -Zmiri-strict-provenance";
    let _flags = sh.push_env("MIRIFLAGS", format!("{always} {flags}").trim_end());
    let target = target(sh, "miri");
    run(
        sh,
        cmd!(
            sh,
            "cargo {toolchain...} miri test --target-dir {target} --package {what...} -- {harness...}"
        ),
    )
}
