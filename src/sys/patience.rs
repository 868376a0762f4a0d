//! A call that fails for a moment's reason is made again, a bounded number of times.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::yield_now;
use crate::refusal::Failure;

/// How often a call is made in all, if it fails for want of memory, or is interrupted, each time.
pub(crate) const ATTEMPTS: u32 = 64;

static RETRIES: AtomicUsize = AtomicUsize::new(0);

/// Makes `call` until it succeeds, fails for good, or has been made [`ATTEMPTS`] times.
pub(crate) fn patiently(call: impl Fn() -> Result<(), Failure>) -> Result<(), Failure> {
    for _ in 1..ATTEMPTS {
        match call() {
            Err(failure) if failure.is_transient() => {}
            answer => return answer,
        }
        // Relaxed: a number for reports.
        RETRIES.fetch_add(1, Relaxed);
        yield_now();
    }
    call()
}

/// Calls made again so far.
pub(crate) fn retries() -> usize {
    RETRIES.load(Relaxed)
}
