//! Atomics, locks, threads and the time: std's, or loom's with the feature `loom`; and the fences.
//!
//! The benches include the structures once more beside a `sync` of their own, whose fences are both
//! `fence(SeqCst)`: the symmetric twins.

use std::time::Duration;

pub(crate) use asymfence::{Bias, Pacer, Ticket, heavy_fence, light_fence};

#[cfg(not(feature = "loom"))]
pub(crate) use std::{hint, sync::*, thread};

#[cfg(feature = "loom")]
pub(crate) use loom::{hint, sync::*, thread};

/// A full fence.
pub(crate) fn full_fence() {
    #[cfg(not(feature = "loom"))]
    atomic::fence(atomic::Ordering::SeqCst);
    #[cfg(feature = "loom")]
    asymfence::model::fence(atomic::Ordering::SeqCst);
}

/// The time since some moment, the same one for all threads. In a model each look at it takes a millisecond.
pub(crate) fn now() -> Duration {
    #[cfg(not(feature = "loom"))]
    {
        static START: OnceLock<std::time::Instant> = OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
    #[cfg(feature = "loom")]
    {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        loom::lazy_static! {
            // Not loom's: no order depends on it.
            static ref LOOKS: AtomicU64 = AtomicU64::new(0);
        }
        Duration::from_millis(LOOKS.fetch_add(1, Relaxed))
    }
}

/// True at each 1,021st call of a thread, for what is to be asked now and then; in a model at each. (A prime: who
/// calls it for several structures in turn asks for each of them.)
#[inline]
pub(crate) fn now_and_then() -> bool {
    #[cfg(not(feature = "loom"))]
    {
        std::thread_local! {
            static LEFT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
        }
        // Not by `LocalKey::set`, which is a call: that takes as long as a full fence.
        LEFT.with(|cell| {
            let left = cell.get();
            cell.set(left.checked_sub(1).unwrap_or(1_020));
            left == 0
        })
    }
    #[cfg(feature = "loom")]
    true
}

/// Lets some time pass between two looks, more each time: spins, lets others run, then sleeps, for a millisecond at
/// most.
pub(crate) fn rest(tries: &mut u32) {
    *tries = tries.saturating_add(1);
    match *tries {
        ..=100 => hint::spin_loop(),
        ..=200 => thread::yield_now(),
        #[cfg(not(feature = "loom"))]
        nth => {
            let micros = 8 << (nth - 200).min(7);
            thread::sleep(Duration::from_micros(micros.min(1_000)));
        }
        #[cfg(feature = "loom")]
        _ => thread::yield_now(),
    }
}

/// Sleeps on `condvar`, but not beyond the `deadline`, if there is one. Returns whether that has passed. Nothing
/// panics while the lock is held, so a poisoned one is as good.
pub(crate) fn sleep_on<'l, T>(
    condvar: &Condvar,
    lock: &'l Mutex<T>,
    guard: MutexGuard<'l, T>,
    deadline: Option<Duration>,
) -> (MutexGuard<'l, T>, bool) {
    use std::sync::PoisonError;

    let Some(deadline) = deadline else {
        return (condvar.wait(guard).unwrap_or_else(PoisonError::into_inner), false);
    };
    #[cfg(not(feature = "loom"))]
    {
        let _ = lock;
        let left = deadline.saturating_sub(now());
        let (guard, outcome) =
            condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner);
        (guard, outcome.timed_out())
    }
    // loom's condition variables know no time: it wakes again and again.
    #[cfg(feature = "loom")]
    {
        drop(guard);
        thread::yield_now();
        (lock.lock().unwrap_or_else(PoisonError::into_inner), now() >= deadline)
    }
}

/// How long something lives that threads share by its address. In a model a use that does not come before the end fails.
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

    /// It is used.
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
