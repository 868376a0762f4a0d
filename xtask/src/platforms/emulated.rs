//! Runs the test suite on Linux for other architectures: under an emulator or, as 32-bit x86, by this processor.

use xshell::{Shell, cmd};

use super::TARGET;
use super::debian::{self, RUST, install};
use crate::show::run;
use crate::{Result, ledger};

/// Words in the names of tests that are skipped, and why.
type Skipped = (&'static str, &'static str);

/// qemu-user has no seccomp(2), and seccompiler no 32-bit x86. Many tests that need a filter have the word in their
/// names. The others see by themselves that there is none.
const NO_SANDBOX: Skipped = ("sandbox", "no seccomp filters here");

const EMULATED: [Skipped; 14] = [
    ("places::a_fork_in_the_middle", "the emulator's own locks do not survive such a fork"),
    ("a_process_of_one_thread", "the emulator has a thread of its own"),
    ("neither_a_full_fence_nor_a_slow_one", TOO_RARE),
    ("private_expedited_does_not_reach_another_process", TOO_RARE),
    ("a_full_fence_on_the_rare_side_is_not_enough", TOO_RARE),
    ("the_table_holds_between_two_processes", TOO_RARE),
    ("a_ticket_that_is_not_served", TOO_RARE),
    ("a_bare_registration_and_a_fork_are_torn_apart", NEVER_BESIDE),
    ("a_child_of_a_bare_clone_is_mended", NEVER_BESIDE),
    ("a_forked_child_has_the_proof_of_a_registration", NEVER_BESIDE),
    ("a_file_of_huge_pages", "the emulator cannot map it"),
    ("a_pid_1_that_returns_from_clean", "the emulator refuses clone(2) with these flags"),
    ("keeps_the_place_", "the emulator refuses PR_SET_CHILD_SUBREAPER"),
    ("where_the_environment_began_is_overwritten", "the emulator has it at another place"),
];

const RISCV: [Skipped; 3] = [
    ("the_table_holds_on_private_expedited", TOO_RARE),
    ("a_forked_child_has_the_decision_with_the_registration", NEEDS_A_FILE),
    ("without_procfs_the_value_at_the_decision_counts", NEEDS_A_FILE),
];

/// Of tests in which the decision can read no file.
const NEEDS_A_FILE: &str = "on RISC-V the decision must read the version of the kernel";

/// Of tests that must see a weak outcome at times.
const TOO_RARE: &str = "a fence under the emulator takes longer than a store waits";

/// Of tests that must see a registration wait for a fork, or not wait for it.
const NEVER_BESIDE: &str = "under the emulator the two never come at the same moment";

pub(super) fn aarch64(sh: &Shell) -> Result {
    install(sh, &RUST)?;
    install(sh, &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user"])?;
    let emulator = "qemu-aarch64 -L /usr/aarch64-linux-gnu";
    suite(sh, "aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc", "", emulator, &EMULATED)
}

pub(super) fn riscv64(sh: &Shell) -> Result {
    install(sh, &RUST)?;
    install(sh, &["gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross", "qemu-user"])?;
    let emulator = "qemu-riscv64 -L /usr/riscv64-linux-gnu";
    let others = [&EMULATED[..], &RISCV].concat();
    suite(sh, "riscv64gc-unknown-linux-gnu", "riscv64-linux-gnu-gcc", "", emulator, &others)
}

/// Linked statically, because there is no 32-bit loader.
pub(super) fn i686(sh: &Shell) -> Result {
    install(sh, &RUST)?;
    install(sh, &["gcc-i686-linux-gnu", "libc6-dev-i386-cross"])?;
    let flags = "-Ctarget-feature=+crt-static";
    let twins = [
        "neither_a_full_fence_nor_a_slow_one",
        "private_expedited_does_not_reach_another_process",
        "a_ticket_that_is_not_served",
    ];
    let skipped = twins.map(|name| (name, "what it must see is too rare in 32-bit code (Zen 4)"));
    suite(sh, "i686-unknown-linux-gnu", "i686-linux-gnu-gcc", flags, "", &skipped)
}

fn suite(
    sh: &Shell,
    target: &str,
    linker: &str,
    flags: &str,
    emulator: &str,
    others: &[Skipped],
) -> Result {
    let _rust = debian::rust(sh);
    let variable = format!("CARGO_TARGET_{}", target.replace('-', "_").to_uppercase());
    let _linker = sh.push_env(format!("{variable}_LINKER"), linker);
    let _flags = sh.push_env(format!("{variable}_RUSTFLAGS"), flags);
    let _start =
        (!emulator.is_empty()).then(|| sh.push_env(format!("{variable}_RUNNER"), emulator));
    let _start_again = sh.push_env("ASYMFENCE_TEST_RUNNER", emulator);
    let _expected = sh.push_env("ASYMFENCE_TEST_EXPECTS", "private-expedited");

    let build = ["-Zbuild-std", "--target", target, "--target-dir", TARGET];
    let tests = ["--lib", "--test", "it", "--test", "litmus", "--test", "everywhere"];
    let skipped = [&[NO_SANDBOX], others].concat();
    let skip: &Vec<&str> = &skipped.iter().flat_map(|&(word, _)| ["--skip", word]).collect();
    for (word, why) in &skipped {
        ledger::skipped(sh, &format!("tests named `{word}`"), why)?;
    }
    run(sh, cmd!(sh, "cargo test {build...} {tests...} -- {skip...}"))?;
    run(sh, cmd!(sh, "cargo test {build...} --package asymfence-hazard --test it -- {skip...}"))
}
