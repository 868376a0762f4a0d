//! Records what ran, and what could not run here and why. Child processes write to it too. A test that passes without
//! having tested anything says so here.
//!
//! What could not run goes directly to standard error, because the harness hides what passing tests print. Every line
//! goes to the file that `ASYMFENCE_TEST_LEDGER` names, from which `cargo xtask test` makes its list.

use std::borrow::ToOwned;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::string::{String, ToString};

/// Begins the line of a test that could not run.
pub(crate) const SKIPPED: &str = "skipped: ";

/// A test needs `what`, and had it.
pub(crate) fn ran(what: &str) {
    let what = of_platform(what);
    enter(&format!("ran\t{what}\t{}\t\n", test()));
}

/// A test needs `what`, which is not to be had here.
pub(crate) fn skipped(what: &str, why: impl Display) {
    let what = of_platform(what);
    // One line each, whatever the reason says.
    let why = why.to_string().replace(['\n', '\t'], " ");
    // One write(2): lines of several processes do not mix. A closed standard error is no fault.
    let _ =
        std::io::stderr().write_all(format!("{SKIPPED}{what}: {why} ({})\n", test()).as_bytes());
    enter(&format!("skipped\t{what}\t{}\t{why}\n", test()));
}

/// The same for a litmus test, of which there is none where there are no two cores.
#[allow(dead_code, reason = "not every binary has one")]
pub(crate) fn on_two_cores<T>(litmus: Option<T>) -> Option<T> {
    match &litmus {
        Some(_) => ran("two cores"),
        None => skipped("two cores", "one core shows no reordering: the litmus showed nothing"),
    }
    litmus
}

/// Whether there is procfs, which a test needs.
#[allow(dead_code, reason = "not every binary has one")]
pub(crate) fn has_procfs() -> bool {
    let has = std::path::Path::new("/proc/self/stat").exists();
    if has {
        ran("procfs")
    } else {
        skipped("procfs", "there is none at /proc")
    }
    has
}

/// True in Miri, for a test of so many rounds that it would take minutes there: then the test is in the ledger.
#[allow(dead_code, reason = "not every binary has one")]
pub(crate) fn is_too_long() -> bool {
    if cfg!(miri) {
        skipped("so many rounds", "Miri would take minutes");
    }
    cfg!(miri)
}

/// The name of the platform comes first if Miri or a job of `cargo xtask platforms` runs the test.
fn of_platform(what: &str) -> String {
    let platform = std::env::var("ASYMFENCE_TEST_PLATFORM");
    platform.map_or_else(|_| what.to_owned(), |platform| format!("on {platform}: {what}"))
}

fn enter(line: &str) {
    let Some(path) = std::env::var_os("ASYMFENCE_TEST_LEDGER") else { return };
    let file = OpenOptions::new().append(true).create(true).open(path);
    // A process that may not open files has only the line on standard error.
    if let Ok(mut file) = file {
        let _ = file.write_all(line.as_bytes());
    }
}

/// The test's name. A child that runs one is told; else the harness names its threads.
fn test() -> String {
    let child = std::env::var("ASYMFENCE_TEST_CHILD").ok();
    child.or_else(|| std::thread::current().name().map(str::to_owned)).unwrap_or_default()
}
