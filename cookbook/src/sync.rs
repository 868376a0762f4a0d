//! Atomics, locks, threads and the time: std's, or loom's with the feature `loom`; and the fences.
//!
//! The benches include the structures once more beside a `sync` of their own, whose fences are both
//! `fence(SeqCst)`: the symmetric twins.

use std::cell::Cell;

mod outermost;
mod panics;
#[cfg(not(feature = "loom"))]
mod waiting;

#[cfg(feature = "loom")]
pub(crate) use modelled::{is_over, now, rest, sleep_on};
#[cfg(not(feature = "loom"))]
pub(crate) use waiting::{is_over, now, rest, sleep_on};

pub(crate) use outermost::outermost;
pub(crate) use panics::with_each;

pub(crate) use asymfence::{Bias, Pacer, Ticket, heavy_fence, light_fence};

#[cfg(not(feature = "loom"))]
pub(crate) use std::{hint, sync::*, thread, thread_local};

#[cfg(feature = "loom")]
pub(crate) use loom::{hint, sync::*, thread, thread_local};

/// Whether this is a model.
pub(crate) const LOOM: bool = cfg!(feature = "loom");

/// A full fence.
pub(crate) fn full_fence() {
    #[cfg(not(feature = "loom"))]
    atomic::fence(atomic::Ordering::SeqCst);
    #[cfg(feature = "loom")]
    asymfence::model::fence(atomic::Ordering::SeqCst);
}

/// Whether a panic unwinds a model: loom may have dropped the variables of its threads.
pub(crate) fn is_cut_short() -> bool {
    LOOM && std::thread::panicking()
}

/// Says at which calls a thread makes a check that is not needed at each call. (The interval is a prime number: if a
/// thread uses one counter for several structures in turn, it checks each of them at some time.)
#[derive(Debug)]
pub(crate) struct NowAndThen {
    /// Calls until the next time.
    left: Cell<u32>,
}

impl NowAndThen {
    pub(crate) const fn new() -> Self {
        NowAndThen { left: Cell::new(0) }
    }

    /// True at each 1,021st call; in a model at each call.
    #[inline(always)]
    pub(crate) fn is_now(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.checked_sub(1).unwrap_or(1_020));
        left == 0 || LOOM
    }
}

/// The same, one for each thread. The compiler does not inline this in a branch that is marked as unlikely. So the
/// owner of a deque keeps a `NowAndThen` of its own.
#[inline]
pub(crate) fn now_and_then() -> bool {
    std::thread_local! {
        static OF_THIS_THREAD: NowAndThen = const { NowAndThen::new() };
    }
    OF_THIS_THREAD.with(NowAndThen::is_now)
}

/// What `waiting` is in a model.
#[cfg(feature = "loom")]
mod modelled {
    use std::sync::PoisonError;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::Duration;

    use super::{Condvar, Mutex, MutexGuard, hint, thread};

    /// Each look at the time takes a millisecond.
    pub(crate) fn now() -> Duration {
        loom::lazy_static! {
            // Not loom's: no order depends on it.
            static ref LOOKS: AtomicU64 = AtomicU64::new(0);
        }
        Duration::from_millis(LOOKS.fetch_add(1, Relaxed))
    }

    pub(crate) fn is_over(deadline: Duration) -> bool {
        now() >= deadline
    }

    pub(crate) fn rest(tries: &mut u32) {
        *tries = tries.saturating_add(1);
        if *tries <= 100 { hint::spin_loop() } else { thread::yield_now() }
    }

    /// loom's condition variables know no time. So with a deadline this does not sleep: it returns at once, after a
    /// yield if the deadline has not passed.
    pub(crate) fn sleep_on<'l, T>(
        condvar: &Condvar,
        lock: &'l Mutex<T>,
        guard: MutexGuard<'l, T>,
        deadline: Option<Duration>,
    ) -> (MutexGuard<'l, T>, bool) {
        let Some(deadline) = deadline else {
            return (condvar.wait(guard).unwrap_or_else(PoisonError::into_inner), false);
        };
        drop(guard);
        let is_over = is_over(deadline);
        if !is_over {
            thread::yield_now();
        }
        (lock.lock().unwrap_or_else(PoisonError::into_inner), is_over)
    }
}

/// The life of an object that threads share by its address. A model fails if a use does not happen before the end.
#[derive(Debug)]
pub(crate) struct Life {
    #[cfg(feature = "loom")]
    goes_on: loom::cell::UnsafeCell<bool>,
}

impl Life {
    pub(crate) fn new() -> Self {
        Life {
            #[cfg(feature = "loom")]
            goes_on: loom::cell::UnsafeCell::new(true),
        }
    }

    /// Records a use.
    #[inline(always)]
    pub(crate) fn go_on(&self) {
        #[cfg(feature = "loom")]
        // SAFETY: loom fails the model if another thread ends it at the same time.
        self.goes_on.with(|goes_on| assert!(unsafe { *goes_on }, "used after it was freed"));
    }

    /// Frees it; in a model its memory stays, so that a later use is seen.
    #[inline(always)]
    pub(crate) fn end<T>(of: Box<T>, life: impl Fn(&T) -> &Life) {
        let _ = &life;
        #[cfg(feature = "loom")]
        // SAFETY: loom fails the model if another thread uses it at the same time.
        life(Box::leak(of)).goes_on.with_mut(|goes_on| unsafe { *goes_on = false });
        #[cfg(not(feature = "loom"))]
        drop(of);
    }
}
