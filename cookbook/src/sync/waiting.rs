//! The time, and how a thread waits. Two files include this one: this crate's `sync.rs`, and that of the benches, for
//! the symmetric twins. So `super` is either of them.

use std::sync::PoisonError;
use std::time::Duration;

use super::{Condvar, Mutex, MutexGuard, hint, thread};

/// The time since some moment, the same one for all threads. `None` if the system does not tell it: a sandbox may refuse
/// clock_gettime(2) where no vdso serves it. (`Instant::now` panics then.)
#[cfg(any(target_os = "linux", target_os = "android"))]
fn clock() -> Option<Duration> {
    use rustix::time::{ClockId, DynamicClockId, clock_gettime_dynamic};

    // guard survives: it fails where no vdso serves it and a filter refuses it, and no test has a kernel without a vdso.
    let now = clock_gettime_dynamic(DynamicClockId::Known(ClockId::Monotonic)).ok()?;
    let nanoseconds = Duration::from_nanos(now.tv_nsec as u64);
    Some(Duration::from_secs(now.tv_sec as u64).saturating_add(nanoseconds))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn clock() -> Option<Duration> {
    use std::time::Instant;

    use once_cell::race::OnceBox;

    /// When the first call was. No `OnceLock`: a child that is forked in the middle would wait in it for ever.
    static START: OnceBox<Instant> = OnceBox::new();
    Some(START.get_or_init(|| Box::new(Instant::now())).elapsed())
}

/// The time since some moment. It stands still if the system does not tell it.
pub(crate) fn now() -> Duration {
    clock().unwrap_or_default()
}

/// Whether the deadline has passed, or the system does not tell.
pub(crate) fn is_over(deadline: Duration) -> bool {
    // guard survives: the deadline's nanosecond itself may count as before the deadline, or as behind it.
    clock().is_none_or(|now| now >= deadline)
}

/// Lets some time pass between two looks, more each time: spins, lets others run, then sleeps, for a millisecond at
/// most, and the thread's timer slack.
pub(crate) fn rest(tries: &mut u32) {
    *tries = tries.saturating_add(1);
    match *tries {
        0..=100 => hint::spin_loop(),
        101..=200 => thread::yield_now(),
        nth => {
            let micros = 8 << (nth - 200).min(7);
            sleep(Duration::from_micros(micros.min(1_000)));
        }
    }
}

/// Sleeps about so long, if the system lets it. (`std::thread::sleep` panics if a filter refuses the call, and sleeps for
/// ever if it always answers EINTR.)
fn sleep(time: Duration) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let time = rustix::thread::Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
        let _ = rustix::thread::nanosleep(&time);
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    thread::sleep(time);
}

/// Sleeps on `condvar`, but not beyond the `deadline`, if there is one. Returns whether the deadline has passed. A
/// thread that panics while it holds the lock has changed nothing, so a poisoned lock is as good.
pub(crate) fn sleep_on<'l, T>(
    condvar: &Condvar,
    _: &'l Mutex<T>,
    guard: MutexGuard<'l, T>,
    deadline: Option<Duration>,
) -> (MutexGuard<'l, T>, bool) {
    let Some(deadline) = deadline else {
        return (condvar.wait(guard).unwrap_or_else(PoisonError::into_inner), false);
    };
    // Without a clock std panics, so the deadline counts as passed.
    let left = clock().map_or(Duration::ZERO, |now| deadline.saturating_sub(now));
    if left.is_zero() {
        // Sleeping for no time takes some 50 microseconds.
        return (guard, true);
    }
    let (guard, outcome) =
        condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner);
    (guard, outcome.timed_out())
}
