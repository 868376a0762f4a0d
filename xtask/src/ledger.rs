//! What ran, and what could not run here and why. At its end a command lists what could not run.
//!
//! Tests, also in child processes, and the jobs of xtask enter a line each. With `CI=true` in the
//! environment a test that could not run is a fault, unless it is excused. A required test that entered no
//! line is a fault too: so a test that is gone, or returns early, is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::io::Write;
use std::path::PathBuf;

use xshell::{PushEnv, Shell};

use crate::Result;

/// The test that replaces the others where a processor cannot forbid CPUID to a program.
const CPUID: &str = "a filter that says that CPUID is forbidden";

/// Names the file, also to the tests.
const VARIABLE: &str = "ASYMFENCE_TEST_LEDGER";

/// Names the platform, also to the tests, if Miri or a job of `cargo xtask platforms` runs them.
const PLATFORM: &str = "ASYMFENCE_TEST_PLATFORM";

/// What `cargo xtask test` must run in CI.
pub(crate) const TEST: &[&str] = if cfg!(target_arch = "x86_64") {
    &["two cores", "mprotect rung", "seccomp", CPUID, "code generation on x86_64"]
} else {
    &["two cores", "seccomp"]
};

/// What `cargo xtask ci` must, on x86_64.
pub(crate) const CI: &[&str] = &[
    "two cores",
    "mprotect rung",
    "seccomp",
    CPUID,
    "strace",
    "spin",
    "the oldest Rust",
    "code generation on x86_64",
    "code generation on aarch64",
    "code generation on riscv64",
    "the address sanitizer",
];

/// What may be missing in CI, by how it begins: the stable toolchain has no Miri; another platform has not
/// every rung, nor an emulator every system call; and some processors cannot forbid CPUID to a program (see [`CPUID`]).
const EXCUSED: &[&str] = if cfg!(target_arch = "x86_64") {
    &["Miri", "on ", "CPUID that can be forbidden"]
} else {
    &["Miri", "on ", "mprotect rung"]
};

/// A file of lines `ran|skipped`, what, the test, why, with tabs between.
pub(crate) struct Ledger(PathBuf);

impl Ledger {
    /// Creates an empty ledger. Every process that this shell starts adds its lines to it.
    pub(crate) fn open(sh: &Shell) -> Result<Self> {
        // Another command may run in the same tree.
        let name = format!("ledger-{}", std::process::id());
        let file = sh.create_dir(crate::target(sh, ""))?.join(name);
        sh.write_file(&file, "")?;
        sh.set_var(VARIABLE, &file);
        Ok(Ledger(file))
    }

    /// Prints what could not run, and how many tests that are. An entry is what is missing and why. In each entry a
    /// test counts once, and all jobs together count once. In CI it is an error if anything could not run that is not
    /// in `EXCUSED`, or if anything in `required` did not run.
    pub(crate) fn close(self, required: &[&str]) -> Result {
        let account = Account::of(&std::fs::read_to_string(&self.0)?);
        std::fs::remove_file(self.0)?;
        if !(account.skipped.is_empty() && required.is_empty()) {
            print!("{account}");
        }
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            account.settle(required)?;
        }
        Ok(())
    }
}

/// While the returned value lives, new lines are about another platform.
pub(crate) fn at<'sh>(sh: &'sh Shell, platform: &str) -> PushEnv<'sh> {
    sh.push_env(PLATFORM, platform)
}

fn of_platform(sh: &Shell, what: &str) -> String {
    sh.var(PLATFORM).map_or_else(|_| what.to_owned(), |platform| format!("on {platform}: {what}"))
}

/// Records that a job needed `what`, and had it.
pub(crate) fn ran(sh: &Shell, what: &str) -> Result {
    enter(sh, &format!("ran\t{}\txtask\t\n", of_platform(sh, what)))
}

/// Records that a job needed `what`, which is not available here.
pub(crate) fn skipped(sh: &Shell, what: &str, why: impl Display) -> Result {
    let why = why.to_string().replace(['\n', '\t'], " ");
    let what = of_platform(sh, what);
    println!("skipped: {what}: {why}");
    enter(sh, &format!("skipped\t{what}\txtask\t{why}\n"))
}

fn enter(sh: &Shell, line: &str) -> Result {
    let mut file = std::fs::OpenOptions::new().append(true).open(sh.var(VARIABLE)?)?;
    Ok(file.write_all(line.as_bytes())?)
}

#[derive(Default)]
struct Account {
    ran: BTreeSet<String>,
    /// What and why, and the tests. (A test may have run in several steps.)
    skipped: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Account {
    fn of(lines: &str) -> Self {
        let mut account = Account::default();
        for line in lines.lines() {
            let mut fields = line.split('\t').map(str::to_owned);
            let mut field = || fields.next().unwrap_or_default();
            let (kind, what, test, why) = (field(), field(), field(), field());
            if kind == "ran" {
                account.ran.insert(what);
            } else {
                account.skipped.entry((what, why)).or_default().insert(test);
            }
        }
        account
    }

    fn settle(&self, required: &[&str]) -> Result {
        let missing = self.skipped.keys().map(|(what, _)| what.as_str());
        let missing =
            missing.filter(|what| !EXCUSED.iter().any(|excused| what.starts_with(excused)));
        let silent = required.iter().copied().filter(|&what| !self.ran.contains(what));
        let faults: BTreeSet<&str> = missing.chain(silent).collect();
        if faults.is_empty() {
            return Ok(());
        }
        let faults: Vec<&str> = faults.into_iter().collect();
        Err(format!("did not run, and must in CI: {}", faults.join(", ")).into())
    }
}

impl Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: usize = self.skipped.values().map(BTreeSet::len).sum();
        writeln!(f, "\nwhat this machine cannot run (no test failed by that): {count}")?;
        for ((what, why), tests) in &self.skipped {
            writeln!(f, "  {what}: {why}")?;
            for test in tests.iter().filter(|&test| test != "xtask") {
                writeln!(f, "    {test}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "ran\ttwo cores\tit::a\t\n\
        skipped\tmprotect rung\tit::b\tthe kernel is too new\n\
        skipped\tmprotect rung\tit::c\tthe kernel is too new\n\
        skipped\tmprotect rung\tit::b\tthe kernel is too new\n\
        skipped\tMiri\txtask\tthis toolchain has none\n";

    #[test]
    fn the_list_has_each_reason_once_and_each_test_once() {
        let words = Account::of(LINES).to_string();
        assert_eq!(
            words,
            "\nwhat this machine cannot run (no test failed by that): 3\n  Miri: this toolchain has none\n  mprotect rung: the kernel is too new\n    it::b\n    it::c\n"
        );
    }

    #[test]
    fn what_is_missing_is_a_fault_and_so_is_what_nobody_entered() {
        let settle = |lines: &str, required: &[&str]| {
            Account::of(lines).settle(required).map_err(|error| error.to_string())
        };
        let fault = |what: &str| Err(format!("did not run, and must in CI: {what}"));
        assert_eq!(settle("skipped\tstrace\tit::a\tnone\n", &[]), fault("strace"));
        assert_eq!(settle("", &["two cores"]), fault("two cores"));
        assert_eq!(settle("ran\ttwo cores\ta\t\n", &["two cores"]), Ok(()));
        assert_eq!(settle("skipped\tMiri\txtask\tnone\n", &[]), Ok(()));
        // Half of the tests is not enough.
        let half = "ran\ttwo cores\ta\t\nskipped\ttwo cores\tb\tone\n";
        assert_eq!(settle(half, &["two cores"]), fault("two cores"));
    }
}
