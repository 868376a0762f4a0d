//! Stands in for `crate::sync` of the cookbook, with a condition variable as bad as the standard library allows.

pub(crate) use asymfence::{Bias, Ticket};
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};

#[path = "../../../cookbook/src/sync/panics.rs"]
mod panics;

pub(crate) use panics::with_each;

use std::cell::Cell;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

thread_local! {
    /// How many threads sleep on a condition variable now. loom runs a model on one thread of the operating system.
    pub(crate) static ASLEEP: Cell<usize> = const { Cell::new(0) };
}

/// `notify_one` wakes all, and every second wait returns at once.
#[derive(Debug)]
pub(crate) struct Condvar {
    inner: loom::sync::Condvar,
    /// Of std, not of loom: it is enough that a wait returns at once in some executions, so loom need not explore this
    /// flag.
    has_waited: AtomicBool,
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar { inner: loom::sync::Condvar::new(), has_waited: AtomicBool::new(true) }
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        if self.has_waited.fetch_not(Relaxed) {
            return Ok(guard);
        }
        ASLEEP.set(ASLEEP.get() + 1);
        self.inner.wait(guard)
    }

    pub(crate) fn notify_one(&self) {
        ASLEEP.set(0);
        self.inner.notify_all();
    }

    pub(crate) fn notify_all(&self) {
        ASLEEP.set(0);
        self.inner.notify_all();
    }
}

/// The models of `woken_at_will`, which alone is compiled with this file, do not read the time twice. (The other models
/// have the clock of `cookbook/src/sync.rs`.)
pub(crate) fn now() -> Duration {
    Duration::ZERO
}

/// There are no deadlines here, nor in `sleep_on`.
pub(crate) fn is_over(_: Duration) -> bool {
    unreachable!("no model waits for a time")
}

pub(crate) fn now_and_then() -> bool {
    false
}

pub(crate) fn sleep_on<'l, T>(
    condvar: &Condvar,
    _: &'l Mutex<T>,
    guard: MutexGuard<'l, T>,
    deadline: Option<Duration>,
) -> (MutexGuard<'l, T>, bool) {
    assert_eq!(deadline, None);
    (condvar.wait(guard).unwrap_or_else(PoisonError::into_inner), false)
}
