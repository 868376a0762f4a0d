//! One heavy call for many callers.
//!
//! STARTED-AFTER: a caller may share only a call that *started* after the caller arrived, and that has
//! *ended*. The call in flight when it arrives may have passed some thread already, before that
//! thread's accesses that the caller means; the next one has passed none.
//!
//! ```text
//! caller                                  leader
//! fence                 (1)               lock
//! s = started           (2)               started = n        (3)
//! wait until ended > s                    fence              (4)
//! fence                 (6)               the call
//!                                         ended = n          (5)
//!                                         unlock
//! ```
//!
//! If (2) sees (3), the caller waits for call n + 1. If not, the caller's fence (1) comes before the
//! leader's fence (4), so the call makes every thread pass a barrier after all that the caller did
//! before it arrived: the call is as good as the caller's own.
//!
//! Waiting is an optimisation and never an obligation. It is bounded, and whoever runs out of patience
//! makes a call of its own, which is always right. So a leader that a fork left behind, that was
//! stopped, or that this signal handler interrupted, hangs nobody; and once somebody has given up on a
//! leader, nobody waits for it any more.

use core::num::NonZeroU32;
use core::sync::atomic::AtomicUsize;

use crossbeam_utils::CachePadded;

use crate::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::{AtomicBool, AtomicU32, fence};
use crate::sys;

/// Lets callers that ask for a heavy call at the same time share one.
///
/// For heavy fences of your own making: what [`heavy_fence`](crate::heavy_fence) uses where sharing
/// pays. It is handed the call, and knows nothing of it.
///
/// ```
/// use asymfence::Coalesce;
///
/// static SHARED: Coalesce = Coalesce::new();
/// SHARED.run(1_000, || Ok(())).expect("this call does not fail");
/// assert_eq!(SHARED.stats().calls, 1);
/// ```
#[derive(Debug)]
pub struct Coalesce {
    /// Held by the leader, from before it counts its call as started until it has counted it as ended.
    leading: CachePadded<AtomicBool>,
    /// Calls that leaders have started, and ended. They wrap; see `is_after`.
    started: AtomicU32,
    ended: AtomicU32,
    /// How the last call failed; 0 if it did not.
    error: AtomicU32,
    /// The number of started calls at which somebody gave up on the leader.
    given_up: AtomicU32,
    /// Calls by leaders, and by those who went alone; returns without a call. Never loom's: no order
    /// depends on a report.
    led: AtomicUsize,
    alone: AtomicUsize,
    shared: AtomicUsize,
}

/// How often a [`Coalesce`] was asked for a heavy call, and what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Calls {
    /// How often it was asked.
    pub asked: usize,
    /// How many calls were made.
    pub calls: usize,
    /// How many of those who asked returned without a call of their own.
    pub shared: usize,
}

/// Whether the call `n` is a later one than `arrived`, also where the counter has wrapped between them.
/// A difference so large that its sign is wrong only makes the caller wait for a later call.
fn is_after(n: u32, arrived: u32) -> bool {
    n.wrapping_sub(arrived) as i32 > 0
}

/// What makes a call that reaches the other threads a heavy fence of its caller.
pub(crate) fn between_full_fences<T>(call: impl FnOnce() -> T) -> T {
    // (1) Opening: what this thread did and saw before stands before every barrier that calls make
    // others execute from now on. Pairs with: light fences that come after that barrier (scenario A,
    // their re-read sees our store), full fences, the leader's fence (4).
    fence(SeqCst);
    let outcome = call();
    // (6) Closing: what others did before that barrier stands before what this thread does next. Pairs
    // with: light fences that came before it (scenario A, we see their store), full fences.
    fence(SeqCst);
    outcome
}

impl Default for Coalesce {
    fn default() -> Self {
        Self::new()
    }
}

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        /// Nobody has asked yet.
        #[must_use]
        pub $($constness)? fn new() -> Self {
            Coalesce {
                leading: CachePadded::new(AtomicBool::new(false)),
                started: AtomicU32::new(0),
                ended: AtomicU32::new(0),
                error: AtomicU32::new(0),
                given_up: AtomicU32::new(u32::MAX),
                led: AtomicUsize::new(0),
                alone: AtomicUsize::new(0),
                shared: AtomicUsize::new(0),
            }
        }
    };
}

impl Coalesce {
    crate::sync::const_where_possible!(new);

    /// A heavy fence: a full fence; `call`, or one of another caller that started after that fence; a
    /// full fence.
    ///
    /// `call` is to make every other thread pass a full barrier before it returns. Waits for the call
    /// of another at most `patience` times as long as it takes to let another thread run, and then
    /// makes its own: a forked child, a signal handler that interrupts a caller, and a caller that is
    /// stopped hang nobody.
    ///
    /// # Errors
    ///
    /// That of the call, whoever made it. Then nothing has been ordered.
    pub fn run(
        &self,
        patience: u32,
        call: impl FnOnce() -> Result<(), NonZeroU32>,
    ) -> Result<(), NonZeroU32> {
        between_full_fences(|| self.share_or_call(patience, call))
    }

    /// The same for a call that is not shared: where sharing costs more than it saves.
    pub(crate) fn run_alone(
        &self,
        call: impl FnOnce() -> Result<(), NonZeroU32>,
    ) -> Result<(), NonZeroU32> {
        between_full_fences(|| self.call_alone(call))
    }

    /// Between the fences (1) and (6).
    fn share_or_call(
        &self,
        patience: u32,
        call: impl FnOnce() -> Result<(), NonZeroU32>,
    ) -> Result<(), NonZeroU32> {
        // (2) Relaxed: that a stale value is good enough is what the fences (1) and (4) are for.
        let arrived = self.started.load(Relaxed);
        for waited in 0.. {
            // Acquire: what the call ordered stands before what we do next. Pairs with (5).
            if is_after(self.ended.load(Acquire), arrived) {
                return self.share();
            }
            // Acquire: the counters are ours to go on with. Pairs with the Release that unlocks.
            // Relaxed: we learned nothing.
            if self.leading.compare_exchange(false, true, Acquire, Relaxed).is_ok() {
                return self.lead(arrived, call);
            }
            // Relaxed: hopeless or not, every way out of here is right.
            let started = self.started.load(Relaxed);
            if waited == patience || self.given_up.load(Relaxed) == started {
                // Relaxed: a hint.
                self.given_up.store(started, Relaxed);
                break;
            }
            sys::wait_a_little(waited);
        }
        self.call_alone(call)
    }

    /// With `leading` held.
    fn lead(
        &self,
        arrived: u32,
        call: impl FnOnce() -> Result<(), NonZeroU32>,
    ) -> Result<(), NonZeroU32> {
        // Relaxed: written with `leading` held.
        let last = self.ended.load(Relaxed);
        let outcome = if is_after(last, arrived) {
            self.share() // it ended while we reached for the lead
        } else {
            let n = last.wrapping_add(1);
            // (3) Relaxed: the fence (4) stands behind it.
            self.started.store(n, Relaxed);
            // (4) Whoever does not see (3) has done before the call what it did before it arrived.
            // Pairs with: (1).
            fence(SeqCst);
            let outcome = call();
            // Release: whoever takes this for the outcome has the call behind it. Pairs with the
            // Acquire in `share`.
            self.error.store(outcome.err().map_or(0, NonZeroU32::get), Release);
            // (5) Release: whoever sees the call ended has it behind it. Pairs with the Acquires of
            // `run`.
            self.ended.store(n, Release);
            // Relaxed: a number for reports, written with `leading` held.
            self.led.store(self.led.load(Relaxed).wrapping_add(1), Relaxed);
            outcome
        };
        // Release: the counters are the next leader's to go on with. Pairs with the Acquire in `run`.
        self.leading.store(false, Release);
        outcome
    }

    fn share(&self) -> Result<(), NonZeroU32> {
        // Relaxed: a number for reports.
        self.shared.fetch_add(1, Relaxed);
        // Acquire: a later call than the one we saw ended may have written it; then it has ended too.
        // Pairs with the Release in `lead`.
        NonZeroU32::new(self.error.load(Acquire)).map_or(Ok(()), Err)
    }

    fn call_alone(&self, call: impl FnOnce() -> Result<(), NonZeroU32>) -> Result<(), NonZeroU32> {
        // Relaxed: a number for reports.
        self.alone.fetch_add(1, Relaxed);
        call()
    }

    /// What it took so far. The numbers are read one after the other while others go on.
    #[must_use]
    pub fn stats(&self) -> Calls {
        // Relaxed, all: numbers for reports.
        let [led, alone, shared] =
            [&self.led, &self.alone, &self.shared].map(|count| count.load(Relaxed));
        let calls = led.wrapping_add(alone);
        Calls { asked: calls.wrapping_add(shared), calls, shared }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_calls_are_later_also_where_the_counter_wraps() {
        assert!(is_after(1, 0));
        assert!(!is_after(0, 0));
        assert!(!is_after(0, 1));
        assert!(is_after(0, u32::MAX));
        assert!(!is_after(u32::MAX, 0));
    }
}
