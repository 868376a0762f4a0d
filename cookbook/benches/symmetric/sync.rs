//! What the structures are without asymmetric fences: the same files, included once more beside these.

#![allow(dead_code, unused_imports, reason = "each bench needs a part")]

use std::time::Duration;

pub(crate) use asymfence::{HeavyFenceError, Pacer};
pub(crate) use std::sync::atomic::Ordering::SeqCst;
pub(crate) use std::{hint, sync::*, thread};

pub(crate) fn light_fence() {
    atomic::fence(SeqCst);
}

pub(crate) fn heavy_fence() {
    atomic::fence(SeqCst);
}

pub(crate) fn full_fence() {
    atomic::fence(SeqCst);
}

/// The fence stands where it is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket;

impl Ticket {
    pub(crate) fn now() -> Self {
        atomic::fence(SeqCst);
        Ticket
    }

    pub(crate) fn wait(self) {}
}

/// Both sides are full, and nothing ever changes.
#[derive(Debug)]
pub(crate) struct Bias;

impl Bias {
    pub(crate) fn biased(_: Duration) -> Self {
        Bias
    }

    pub(crate) fn is_biased(&self) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn light_fence(&self) -> bool {
        atomic::fence(SeqCst);
        true
    }

    pub(crate) fn heavy_fence(&self, _: fn() -> Duration) {
        atomic::fence(SeqCst);
    }

    pub(crate) fn wait(&self, _: Ticket) {
        atomic::fence(SeqCst);
    }

    pub(crate) fn try_restore_at(&self, _: Duration) -> Result<bool, HeavyFenceError> {
        Ok(false)
    }
}

pub(crate) fn now() -> Duration {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

pub(crate) fn now_and_then() -> bool {
    false
}

pub(crate) fn rest(tries: &mut u32) {
    *tries = tries.saturating_add(1);
    if *tries <= 100 {
        hint::spin_loop();
    } else if *tries <= 200 {
        thread::yield_now();
    } else {
        thread::sleep(Duration::from_micros((8 << (*tries - 200).min(7)).min(1_000)));
    }
}

pub(crate) fn sleep_on<'l, T>(
    condvar: &Condvar,
    _: &'l Mutex<T>,
    guard: MutexGuard<'l, T>,
    deadline: Option<Duration>,
) -> (MutexGuard<'l, T>, bool) {
    let Some(deadline) = deadline else {
        return (condvar.wait(guard).expect("no panic while it is held"), false);
    };
    let left = deadline.saturating_sub(now());
    let (guard, outcome) = condvar.wait_timeout(guard, left).expect("no panic while it is held");
    (guard, outcome.timed_out())
}

#[derive(Debug)]
pub(crate) struct Life;

impl Life {
    pub(crate) fn new() -> Self {
        Life
    }

    pub(crate) fn go_on(&self) {}

    pub(crate) fn end<T>(of: Box<T>, _: impl Fn(&T) -> &Life) {
        drop(of);
    }
}
