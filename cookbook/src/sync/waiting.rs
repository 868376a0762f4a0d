//! The time, and how a thread lets it pass. On the `sync` above: this crate's, or the benches' of the symmetric twins.

use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use super::{Condvar, Mutex, MutexGuard, hint, thread};

/// The time since some moment, the same one for all threads.
pub(crate) fn now() -> Duration {
    start().elapsed()
}

/// When the first call was. No `OnceLock`: a child that is forked in the middle would wait in it for ever.
fn start() -> Instant {
    static START: AtomicPtr<Instant> = AtomicPtr::new(ptr::null_mut());
    // Acquire: it was written before. Pairs with: the Release below.
    let mut start = START.load(Acquire);
    if start.is_null() {
        let ours = Box::into_raw(Box::new(Instant::now()));
        // Release and Acquire: as above.
        start = match START.compare_exchange(ptr::null_mut(), ours, Release, Acquire) {
            Ok(_) => ours,
            Err(theirs) => {
                // SAFETY: from a box, and nobody has seen it.
                drop(unsafe { Box::from_raw(ours) });
                theirs
            }
        };
    }
    // SAFETY: never freed once it stands there.
    unsafe { *start }
}

/// Lets some time pass between two looks, more each time: spins, lets others run, then sleeps, for a millisecond at
/// most.
pub(crate) fn rest(tries: &mut u32) {
    *tries = tries.saturating_add(1);
    match *tries {
        0..=100 => hint::spin_loop(),
        101..=200 => thread::yield_now(),
        nth => {
            let micros = 8 << (nth - 200).min(7);
            thread::sleep(Duration::from_micros(micros.min(1_000)));
        }
    }
}

/// Sleeps on `condvar`, but not beyond the `deadline`, if there is one. Returns whether that has passed. Nothing
/// panics while the lock is held, so a poisoned one is as good.
pub(crate) fn sleep_on<'l, T>(
    condvar: &Condvar,
    _: &'l Mutex<T>,
    guard: MutexGuard<'l, T>,
    deadline: Option<Duration>,
) -> (MutexGuard<'l, T>, bool) {
    let Some(deadline) = deadline else {
        return (condvar.wait(guard).unwrap_or_else(PoisonError::into_inner), false);
    };
    let left = deadline.saturating_sub(now());
    if left.is_zero() {
        // To sleep for no time takes some 50 microseconds.
        return (guard, true);
    }
    let (guard, outcome) =
        condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner);
    (guard, outcome.timed_out())
}
