//! Platforms other than this machine, and builds of another kind (without std, under ThreadSanitizer). Each is run by
//! this processor, run under an emulator or Wine, linked, or type-checked, as far as that is possible here.

mod debian;
mod emulated;
mod foreign;
mod kernel;
mod native;
mod wine;

use std::path::PathBuf;

use xshell::Shell;

use crate::{Result, ledger};
use debian::Unavailable;

/// A job for one platform, and what it proves.
struct Job {
    name: &'static str,
    proves: &'static str,
    not: &'static str,
    /// Whether it takes a few minutes at most.
    is_quick: bool,
    run: fn(&Shell) -> Result,
}

const JOBS: &[Job] = &[
    Job {
        name: "no-std",
        proves: "the fences build without std and alloc, and run so on Linux: no C library, no start files",
        not: "more than one thread without std, or x86_64-unknown-none and thumbv7m running",
        is_quick: true,
        run: native::no_std,
    },
    Job {
        name: "lint",
        proves: "Windows, macOS, iOS, FreeBSD, Android, wasm, Linux on Arm and RISC-V, no std: types and lints",
        not: "the feature std, or that any of it links or runs",
        is_quick: true,
        run: foreign::lint,
    },
    Job {
        name: "lint-std",
        proves: "the same with the feature std, and that the documentation has no broken link elsewhere",
        not: "that any of it links or runs",
        is_quick: false,
        run: foreign::lint_with_std,
    },
    Job {
        name: "link",
        proves: "the doctor links for macOS and FreeBSD: every symbol it needs is there",
        not: "that it runs: nothing here can start it",
        is_quick: false,
        run: foreign::link,
    },
    Job {
        name: "aarch64",
        proves: "the tests on aarch64 Linux under qemu-user: the rung is taken, the calls and their order",
        not: "Arm's reordering (the host's processor reorders less), sandboxes (qemu-user has none)",
        is_quick: true,
        run: emulated::aarch64,
    },
    Job {
        name: "i686",
        proves: "the tests on 32-bit x86 Linux, run by this processor, both rungs",
        not: "a 32-bit kernel, or sandboxes",
        is_quick: false,
        run: emulated::i686,
    },
    Job {
        name: "riscv64",
        proves: "the tests on riscv64 Linux under qemu-user: the rung is taken if the kernel is 6.9 or later",
        not: "RISC-V's reordering, sandboxes, an older kernel, or one of its own architecture",
        is_quick: false,
        run: emulated::riscv64,
    },
    Job {
        name: "wine",
        proves: "the Windows binary notices Wine, is symmetric and keeps the table; Wine's own call does not",
        not: "FlushProcessWriteBuffers of Windows itself, which cannot be run here",
        is_quick: true,
        run: wine::table,
    },
    Job {
        name: "kernel",
        proves: "Debian's Linux 6.1 with nohz_full, the doctor as its first process: membarrier is taken",
        not: "timing, mprotect (refused under an emulator), or a kernel without emulation",
        is_quick: true,
        run: kernel::doctor_as_init,
    },
    Job {
        name: "tsan",
        proves: "ThreadSanitizer follows the fences, and reports a missing one; it finds no race elsewhere",
        not: "that a heavy fence is where it must be: in this mode every fence orders against every other",
        is_quick: false,
        run: native::tsan,
    },
];

/// The folder that jobs build in, so that they share build scripts and macros, which are built for the host. Builds
/// with `RUSTFLAGS` of their own have folders of their own.
const TARGET: &str = "target/platforms/build";

/// A folder below `target` for other files of a job.
fn folder(sh: &Shell, name: &str) -> Result<PathBuf> {
    Ok(sh.create_dir(sh.current_dir().join("target/platforms").join(name))?)
}

/// Runs the jobs whose names contain `word`.
pub(crate) fn run(sh: &Shell, word: &str, quick: bool) -> Result {
    let chosen: Vec<&Job> =
        JOBS.iter().filter(|job| job.name.contains(word) && (job.is_quick || !quick)).collect();
    if chosen.is_empty() {
        let offered = JOBS.iter().filter(|job| job.is_quick || !quick);
        let names: Vec<&str> = offered.map(|job| job.name).collect();
        let (kind, more) =
            if quick { ("quick platform", ", and without --quick more") } else { ("platform", "") };
        return Err(format!(
            "no {kind} has `{word}` in its name; there is {}{more}",
            names.join(", ")
        )
        .into());
    }
    let mut outcomes = Vec::new();
    for job in chosen {
        println!("\n{}: {}\n  not: {}", job.name, job.proves, job.not);
        let outcome = {
            let _place = ledger::at(sh, job.name);
            (job.run)(sh)
        };
        let outcome = match outcome {
            Ok(()) => {
                ledger::ran(sh, &format!("platform {}", job.name))?;
                "passed".to_owned()
            }
            Err(error) if error.is::<Unavailable>() => {
                ledger::skipped(sh, &format!("platform {}", job.name), &error)?;
                format!("skipped: {error}")
            }
            Err(error) => format!("FAILED: {error}"),
        };
        println!("{}: {outcome}", job.name);
        outcomes.push((job.name, outcome));
    }
    println!();
    outcomes.iter().for_each(|(name, outcome)| println!("{name:8} {outcome}"));
    match outcomes.iter().filter(|(_, outcome)| outcome.starts_with("FAILED")).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} platforms failed", outcomes.len()).into()),
    }
}
