//! Makes a call again that fails for a passing reason, a bounded number of times.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::yield_now;
use crate::refusal::Failure;

/// How often a call is made in all, if it fails for want of memory, or is interrupted, each time.
pub(crate) const ATTEMPTS: u32 = 64;

static RETRIES: AtomicUsize = AtomicUsize::new(0);

/// Makes `call` until it succeeds, fails for good, or has been made [`ATTEMPTS`] times.
pub(crate) fn patiently(call: impl Fn() -> Result<(), Failure>) -> Result<(), Failure> {
    despite(
        |failure: &Failure| {
            let is_transient = failure.is_transient();
            if is_transient {
                count_a_retry();
                yield_now();
            }
            is_transient
        },
        call,
    )
}

/// Makes `call` again while its error `passes`, at most [`ATTEMPTS`] times in all: a sandbox may answer the same each
/// time.
pub(super) fn despite<T, E>(
    passes: impl Fn(&E) -> bool,
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 1..ATTEMPTS {
        match call() {
            Err(error) if passes(&error) => {}
            answer => return answer,
        }
    }
    call()
}

/// A call is made again.
pub(crate) fn count_a_retry() {
    // Relaxed: a number for reports.
    RETRIES.fetch_add(1, Relaxed);
}

/// Calls made again so far.
pub(crate) fn retries() -> usize {
    // Relaxed: as above.
    RETRIES.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;
    use crate::refusal::Call;

    /// Makes a call that fails `failing` times with `errno`; answers how it ended, and how often it was made.
    fn made(failing: u32, errno: i32) -> (Result<(), i32>, u32) {
        let calls = Cell::new(0);
        let outcome = patiently(|| {
            calls.set(calls.get() + 1);
            let fails = calls.get() <= failing;
            if fails { Err(Failure::new(Call::Global, errno)) } else { Ok(()) }
        });
        (outcome.map_err(Failure::errno), calls.get())
    }

    #[test]
    fn a_moments_reason_is_waited_out_and_no_other() {
        for transient in [4, 11, 12] {
            assert_eq!(made(0, transient), (Ok(()), 1));
            assert_eq!(made(5, transient), (Ok(()), 6));
            assert_eq!(made(ATTEMPTS - 1, transient), (Ok(()), ATTEMPTS));
            assert_eq!(made(ATTEMPTS, transient), (Err(transient), ATTEMPTS));
        }
        for lasting in [1, 22, 38, 0] {
            assert_eq!(made(1, lasting), (Err(lasting), 1));
        }
    }
}
