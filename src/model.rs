//! What the loom models of a downstream crate call. Feature `loom`.
//!
//! With the feature the fences of this crate act on a model of their contract, which leaves light
//! against light unordered. The guide is in
//! [`checking_under_loom`](crate::checking_under_loom).

// The documentation is built without loom: nothing outside of a function's body may name it.

use core::num::NonZeroU32;

use crate::coalesce::Coalesce;
use crate::sync::Ordering;
use crate::sys::Waiting;

pub use crate::sys::witness;
pub use crate::sys::world::{Start, Visit};

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
    let f = std::sync::Arc::new(f);
    for &visit in visits {
        let f = f.clone();
        loom::model(move || {
            init_from(start, visit);
            f();
        });
    }
}

/// As [`Coalesce::run`], for models. loom has no clock: the caller looks `looks` times at the call of
/// another before it makes its own; `run` itself looks twice. With 0 every leader is overtaken, with 1 or
/// more those are that end too late.
///
/// # Errors
///
/// As [`Coalesce::run`].
pub fn run(
    shared: &Coalesce,
    looks: u32,
    call: impl FnOnce() -> Result<(), NonZeroU32>,
) -> Result<(), NonZeroU32> {
    shared.run_within(Some(looks), Waiting::Awake, call)
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
    use crate::strategy::{Strategy, force, init as decide, strategy};

    crate::sys::modelled::start(start, visit);
    // Makes the atomics of shared calls, in the first thread.
    let _ = crate::stats();
    match start {
        Start::Asymmetric => assert!(matches!(decide(), Strategy::Asymmetric(_))),
        Start::Symmetric => force(Strategy::Symmetric).expect("nothing was decided before"),
        // Makes the decision's atomics, in the first thread, and decides nothing.
        Start::Undecided { .. } => assert_eq!(strategy(), None),
    }
}

/// The call in the middle of a heavy fence: every other thread executes one full fence. Orders nothing
/// for the caller. For models of heavy fences of your own making, as those that a
/// [`Coalesce`](crate::Coalesce) is handed.
///
/// # Panics
///
/// Outside of a model.
pub fn barrier_elsewhere() {
    crate::sys::modelled::barrier_elsewhere();
}

/// Stands in for `core::sync::atomic::fence` and `loom::sync::atomic::fence` in a model.
///
/// The same as loom's, except that loom's search does not see that two `fence(SeqCst)` conflict and
/// may skip an order of them. This one makes it look.
///
/// # Panics
///
/// Outside of a model, and as loom's for an `ordering` that no fence has.
pub fn fence(ordering: Ordering) {
    crate::sys::modelled::fence(ordering);
}
