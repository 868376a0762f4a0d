//! What the loom models of a downstream crate call.
//!
//! Under `--cfg loom` the fences of this crate act on a model of their contract, which leaves light
//! against light unordered. The guide is in
//! [`checking_under_loom`](crate::checking_under_loom).

use std::sync::Arc;

use crate::strategy::{Strategy, force, init as decide, strategy};
use crate::sys::modelled;

pub use crate::sys::modelled::{Start, Visit, barrier_elsewhere, fence};

/// Checks `f` as `loom::model` does, in an asymmetric process: `model_from(Start::Asymmetric, f)`.
///
/// # Panics
///
/// If `f` panics in any execution, or loom finds a fault of its own.
pub fn model<F: Fn() + Send + Sync + 'static>(f: F) {
    model_from(Start::Asymmetric, f);
}

/// Checks `f` as `loom::model` does, in a process that begins as `start` says: once for each
/// [`Visit`], or once if it is [`Start::Symmetric`].
///
/// The environment variables of `loom::model` apply (`LOOM_MAX_PREEMPTIONS` and the others).
///
/// # Panics
///
/// If `f` panics in any execution, or loom finds a fault of its own.
pub fn model_from<F: Fn() + Send + Sync + 'static>(start: Start, f: F) {
    let visits: &[Visit] = match start {
        Start::Symmetric => &[Visit::Upward],
        _ => &[Visit::Upward, Visit::Downward],
    };
    let f = Arc::new(f);
    for &visit in visits {
        let f = Arc::clone(&f);
        loom::model(move || {
            init_from(start, visit);
            f();
        });
    }
}

/// For a model of your own `loom::model::Builder`: call it first thing in the closure, before any
/// thread is spawned. `init_from(Start::Asymmetric, Visit::Upward)`.
///
/// # Panics
///
/// In any thread but the model's first.
pub fn init() {
    init_from(Start::Asymmetric, Visit::Upward);
}

/// As [`init`], with a choice of where the process begins and in which order its fences visit.
pub fn init_from(start: Start, visit: Visit) {
    modelled::start(start, visit);
    // Makes the atomics of shared calls, in the first thread.
    let _ = crate::stats();
    match start {
        Start::Asymmetric => assert!(matches!(decide(), Strategy::Asymmetric(_))),
        Start::Symmetric => force(Strategy::Symmetric).expect("nothing was decided before"),
        // Makes the decision's atomics, in the first thread, and decides nothing.
        Start::Undecided { .. } => assert_eq!(strategy(), None),
    }
}
