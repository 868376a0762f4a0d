//! How models are run: in both orders of visiting, and with a bound on preemptions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use asymfence::model::{Start, Visit, count_calls, init_from};

/// Three preemptions find every mutant here. Two find most of them in a third of the time.
fn preemptions() -> Option<usize> {
    Some(match (crate::deep(), crate::quick()) {
        (true, _) => 5,
        (false, true) => 2,
        (false, false) => 3,
    })
}

/// The states in which most models begin. (The fourth is an undecided process whose rung does not work.)
pub const STARTS: [Start; 3] =
    [Start::Asymmetric, Start::Symmetric, Start::Undecided { rung_works: true }];

/// Checks `f` in both orders of visiting, within the bound of the command.
pub fn check<F: Fn() + Send + Sync + 'static>(start: Start, f: F) {
    check_within(preemptions(), start, f);
}

/// The same with a bound of its own on preemptions.
pub fn check_within<F: Fn() + Send + Sync + 'static>(
    preemptions: Option<usize>,
    start: Start,
    f: F,
) {
    let f = Arc::new(f);
    for visit in [Visit::Upward, Visit::Downward] {
        let f = Arc::clone(&f);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = preemptions;
        // Some prepare by many steps of one thread.
        builder.max_branches = 10_000;
        builder.check(move || {
            init_from(start, visit);
            count_calls();
            f();
        });
    }
}

/// The message with which the model of `f` fails; `None` if it passes.
pub fn failure<F: Fn() + Send + Sync + 'static>(start: Start, f: F) -> Option<String> {
    failure_within(preemptions(), start, f)
}

/// The same with a bound of its own on preemptions.
pub fn failure_within<F: Fn() + Send + Sync + 'static>(
    preemptions: Option<usize>,
    start: Start,
    f: F,
) -> Option<String> {
    let within = || check_within(preemptions, start, f);
    let panic = catch_unwind(AssertUnwindSafe(within)).err()?;
    let message = panic.downcast_ref::<String>().cloned();
    Some(
        message
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default(),
    )
}

/// Whether some execution of `f` returns true.
pub fn is_ever<F: Fn() -> bool + Send + Sync + 'static>(start: Start, f: F) -> bool {
    is_ever_within(preemptions(), start, f)
}

/// The same with a bound of its own on preemptions.
pub fn is_ever_within<F: Fn() -> bool + Send + Sync + 'static>(
    preemptions: Option<usize>,
    start: Start,
    f: F,
) -> bool {
    let ever = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&ever);
    check_within(preemptions, start, move || {
        if f() {
            *seen.lock().expect("no panic while it is held") = true;
        }
    });
    let ever = ever.lock().expect("no panic while it is held");
    *ever
}
