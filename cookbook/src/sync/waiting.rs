//! The time, and how a thread lets it pass. On the `sync` above: this crate's, or the benches' of the symmetric twins.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Condvar, Mutex, MutexGuard, hint, thread};

/// The time since some moment, the same one for all threads. In a model each look at it takes a millisecond.
pub(crate) fn now() -> Duration {
    #[cfg(not(feature = "loom"))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
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
