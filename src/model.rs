//! Functions for the loom models of downstream crates. Feature `loom`.
//!
//! With the feature the fences of this crate act on a model of their contract, in which light against light is
//! unordered. The guide is [`checking_under_loom`](crate::guide::checking_under_loom).

// The documentation is built without loom, so only function bodies may name it.

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
/// If `f` panics in any execution, or if loom itself finds a fault (a deadlock, a data race or a leak, for example).
///
/// ```
/// # #[cfg(feature = "loom")] {
/// asymfence::model::model(|| {
///     let other = loom::thread::spawn(|| asymfence::light_fence());
///     asymfence::heavy_fence();
///     other.join().unwrap();
/// });
/// # }
/// ```
pub fn model<F: Fn() + Send + Sync + 'static>(f: F) {
    model_from(Start::Asymmetric, f);
}

/// Checks `f` as `loom::model` does, in a process that begins as `start` says: once for each [`Visit`], or only once
/// for [`Start::Symmetric`].
///
/// The environment variables of `loom::model` apply (`LOOM_MAX_PREEMPTIONS` and the others).
///
/// # Panics
///
/// If `f` panics in any execution, or if loom itself finds a fault (a deadlock, a data race or a leak, for example).
///
/// ```
/// # #[cfg(feature = "loom")] {
/// use asymfence::model::{Start, model_from};
///
/// for start in [Start::Asymmetric, Start::Symmetric, Start::Undecided { rung_works: true }] {
///     model_from(start, || asymfence::heavy_fence());
/// }
/// # }
/// ```
pub fn model_from<F: Fn() + Send + Sync + 'static>(start: Start, f: F) {
    let visits: &[Visit] = match start {
        Start::Symmetric => &[Visit::Upward],
        _ => &[Visit::Upward, Visit::Downward],
    };
    let f = std::sync::Arc::new(f);
    for &visit in visits {
        let f = f.clone();
        switch_checkpoints(visit);
        loom::model(move || {
            init_from(start, visit);
            f();
        });
    }
}

/// As [`Coalesce::run`], for models. loom has no clock. So a caller checks the call of another `looks` times before it
/// makes its own; in a model [`Coalesce::run`] itself checks twice. The caller whose call is under way is the *leader*.
/// With 0 no caller waits for the leader: each makes its own call, unless another one has served it by then. With 1 or
/// more, a caller that no call has served waits as long as a call is under way, but for at most `looks` checks, and
/// then makes a call of its own.
///
/// # Errors
///
/// As [`Coalesce::run`].
///
/// ```
/// # #[cfg(feature = "loom")] {
/// use asymfence::{Coalesce, model};
///
/// model::model(|| {
///     let shared = Coalesce::new();
///     let heavy = || Ok(model::barrier_elsewhere());
///     model::run(&shared, 1, heavy).unwrap();
/// });
/// # }
/// ```
pub fn run(
    shared: &Coalesce,
    looks: u32,
    call: impl FnOnce() -> Result<(), NonZeroU32>,
) -> Result<(), NonZeroU32> {
    shared.run_within(Some(looks), Waiting::Awake, call)
}

/// loom has one checkpoint file. While one order runs, the file of the other order lies beside it.
fn switch_checkpoints(visit: Visit) {
    let Some(file) = std::env::var_os("LOOM_CHECKPOINT_FILE") else { return };
    let beside = |order: &str| {
        let mut name = file.clone();
        name.push(order);
        std::path::PathBuf::from(name)
    };
    let (upward, downward) = (beside(".upward"), beside(".downward"));
    // If a file is missing, its order has no checkpoint yet.
    match visit {
        Visit::Upward if upward.exists() => {
            let _ = std::fs::rename(&file, downward);
            let _ = std::fs::rename(upward, &file);
        }
        Visit::Upward => {}
        Visit::Downward => {
            let _ = std::fs::rename(&file, upward);
            let _ = std::fs::rename(downward, &file);
        }
    }
}

/// Sets how a bare `loom::model` begins from now on, in this thread of the operating system, and in which order its
/// fences visit the threads. For a test suite that calls `loom::model` and should not be edited. Not for
/// [`Start::Undecided`]: the first fence of such a model panics; call [`init_from`] in its closure instead.
///
/// The defaults are [`Start::Asymmetric`], or [`Start::Symmetric`] with `ASYMFENCE=symmetric` in the environment; and
/// [`Visit::Upward`], or [`Visit::Downward`] with `ASYMFENCE_LOOM_VISIT=downward`.
///
/// ```
/// # #[cfg(feature = "loom")] {
/// use asymfence::model::{Start, Visit, begin_with};
///
/// begin_with(Start::Symmetric, Visit::Upward);
/// loom::model(|| assert!(asymfence::Asymmetric::new().is_err()));
/// # }
/// ```
pub fn begin_with(start: Start, visit: Visit) {
    crate::sys::modelled::begin_next(start, visit);
}

/// Begins a model of your own `loom::model::Builder`, as `init_from(Start::Asymmetric, Visit::Upward)`. Call it first
/// in the closure, before any thread is spawned.
///
/// # Panics
///
/// Outside of a model, in any thread but the model's first, and after a fence or `count_calls` of the same execution.
///
/// ```
/// # #[cfg(feature = "loom")] {
/// let mut builder = loom::model::Builder::new();
/// builder.preemption_bound = Some(2);
/// builder.check(|| {
///     asymfence::model::init();
///     asymfence::heavy_fence();
/// });
/// # }
/// ```
pub fn init() {
    init_from(Start::Asymmetric, Visit::Upward);
}

/// As [`init`], with a choice of how the process begins, and in which order its fences visit the threads.
///
/// # Panics
///
/// As [`init`].
///
/// ```
/// # #[cfg(feature = "loom")] {
/// use asymfence::model::{Start, Visit, init_from};
///
/// loom::model(|| {
///     init_from(Start::Undecided { rung_works: false }, Visit::Downward);
///     assert_eq!(asymfence::init(), asymfence::Strategy::Symmetric);
/// });
/// # }
/// ```
pub fn init_from(start: Start, visit: Visit) {
    crate::sys::modelled::start(start, visit);
    if matches!(start, Start::Undecided { .. }) {
        // Creates the atomics of the decision, in the first thread, and decides nothing.
        assert_eq!(crate::strategy::strategy(), None);
    }
}

/// For models with [`Ticket`](crate::Ticket)s: from now on heavy fences are counted. Call it first in the closure, or
/// after an `init`. The count adds executions, so other models do without it.
///
/// # Panics
///
/// Outside of a model, and in any thread but the model's first.
///
/// ```
/// # #[cfg(feature = "loom")] {
/// use asymfence::{Ticket, heavy_fence, model};
///
/// model::model(|| {
///     model::count_calls();
///     let ticket = Ticket::now();
///     heavy_fence();
///     assert!(ticket.is_served());
/// });
/// # }
/// ```
pub fn count_calls() {
    crate::sys::modelled::count_calls();
    // Creates the atomics of the count, in the first thread.
    let _ = crate::stats();
}

/// The call in the middle of a heavy fence: every other thread executes one full fence. It orders nothing for the
/// caller before the caller's next [`fence`]. For models of your own heavy fences, such as the calls that you pass to a
/// [`Coalesce`].
///
/// # Panics
///
/// Outside of a model.
///
/// ```
/// # #[cfg(feature = "loom")] {
/// use std::sync::atomic::Ordering::SeqCst;
///
/// use asymfence::model::{barrier_elsewhere, fence, model};
///
/// model(|| {
///     fence(SeqCst);
///     barrier_elsewhere();
///     fence(SeqCst);
/// });
/// # }
/// ```
pub fn barrier_elsewhere() {
    crate::sys::modelled::barrier_elsewhere();
}

/// Stands in for `core::sync::atomic::fence` and `loom::sync::atomic::fence` in a model.
///
/// The same as loom's, with two differences. loom does not know that the order of two `fence(SeqCst)` matters, and may
/// skip one of the orders: with this function it explores both. And after [`barrier_elsewhere`], the caller's next
/// `fence` that acquires completes the heavy fence: it orders what the other threads did before that call. loom's fence
/// does not.
///
/// # Panics
///
/// Outside of a model, and as loom's for an `ordering` that no fence has.
///
/// ```
/// # #[cfg(feature = "loom")] {
/// asymfence::model::model(|| asymfence::model::fence(std::sync::atomic::Ordering::SeqCst));
/// # }
/// ```
pub fn fence(ordering: Ordering) {
    crate::sys::modelled::fence(ordering);
}
