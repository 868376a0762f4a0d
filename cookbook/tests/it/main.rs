//! The structures under real threads, on whatever strategy the process takes.
#![cfg(not(feature = "loom"))]

mod biased_lock;
mod canary;
mod deque;
mod epoch;
mod event_count;
#[allow(dead_code, reason = "some is for the tests of the fences")]
#[path = "../../../tests/it/ledger.rs"]
mod ledger;
mod rcu;

/// Lets so much time pass.
fn pass(time: std::time::Duration) {
    let begin = std::time::Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Runs `body`, a closure that is written in the test itself, in a process of its own: nobody else fences there. A
/// symmetric process has no heavy fences to count.
fn alone<F: FnOnce()>(body: F) {
    const MARK: &str = "ASYMFENCE_TEST_ALONE";
    if asymfence::init() == asymfence::Strategy::Symmetric {
        if !cfg!(asymfence_symmetric) {
            ledger::skipped("a rung", "the process is symmetric");
        }
        return;
    }
    // The closure's type is named after the test: `it::module::test::{{closure}}`.
    let test = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let test = test.split_once("::").expect("a path below the crate").1;
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    // Without procfs by the name that it was started with.
    let this =
        std::env::current_exe().or_else(|_| std::env::args_os().next().map(Into::into).ok_or(()));
    let this = this.expect("this binary");
    let mut child = std::process::Command::new(this);
    let output = child.args(["--exact", test]).env(MARK, "").output().expect("a child");
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && words.contains("1 passed"), "{words}");
}

/// How many heavy fences `work` asks for, in a process where nobody else does.
fn asked(work: impl FnOnce()) -> usize {
    let before = asymfence::stats().heavy.asked;
    work();
    asymfence::stats().heavy.asked - before
}
