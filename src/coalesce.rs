//! One heavy call for many callers, and the count of calls from which tickets are taken.
//!
//! STARTED-AFTER: a caller may share only a call that *started* after the caller arrived, and that has *succeeded*. A
//! call that is under way when the caller arrives may have reached some thread already, before the accesses of that
//! thread that matter to the caller. The next call has reached no thread yet.
//!
//! ```text
//! caller, or the holder of a ticket       leader
//! fence                   (1)             started = n          (3)
//! t = started             (2)             fence                (4)
//! wait until served > t                   the call
//! fence                   (7)             fence                (5)
//!                                         served = max(served, n)   (6)
//! ```
//!
//! If (2) sees (3), the caller needs call n + 1. If not, the caller's fence (1) comes before the leader's fence (4).
//! Then the call makes every thread pass a barrier after everything that the caller did before it arrived, as the
//! caller's own call would. Several leaders at a time are no problem: each call has a number of its own (except where
//! the count stands still, see `FAR`), and serves only callers that arrived before that number was first given.
//!
//! Why (7) is only an acquire-release fence: the leader's fence (5) is a full one, and comes after every barrier of the
//! call. A caller that shares the call has read (6), so by (6) and (7) the fence (5) happens before what the caller
//! does next. And (1) comes before (4), and so before (5). So in the order of all full fences (5) can stand for a full
//! fence of the caller at (7): if an access after (7) is ordered before a full fence G of any thread, (5) comes before
//! G.
//!
//! Waiting is an optimisation and never necessary. It is bounded (`patience.rs`), and a caller that has waited too long
//! takes over the lead, which is always right. So no caller hangs if the leader is a thread that does not exist in this
//! forked child, was stopped, panicked, or was interrupted by the signal handler that now calls. The next callers share
//! the call of the new leader.

use core::num::NonZeroU32;
use core::sync::atomic::AtomicUsize as Number;

use crossbeam_utils::CachePadded;

use crate::patience::{Estimate, Watch};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::sync::{AtomicUsize, Ordering, fence};
use crate::sys::{self, Waiting};

/// Lets concurrent callers share one heavy call. [`heavy_fence`](crate::heavy_fence) uses one where sharing pays.
/// Create a `Coalesce` for a heavy fence of your own, between processes for example: it runs the call that it is given.
///
/// ```
/// use asymfence::Coalesce;
///
/// static SHARED: Coalesce = Coalesce::new();
/// SHARED.run(|| Ok(())).expect("this call does not fail");
/// assert_eq!(SHARED.stats().calls, 1);
/// ```
#[derive(Debug)]
pub struct Coalesce {
    counts: CachePadded<Counts>,
    beside: CachePadded<Beside>,
}

/// One cache line, and so one page: a child of fork(2) gets both words from the same moment (unless the page is pinned:
/// docs/limits.md).
#[derive(Debug)]
struct Counts {
    /// Twice the number of calls that have started, plus `LED` while the last of them is under way.
    lead: AtomicUsize,
    /// The highest number, doubled, of a call that has succeeded.
    served: AtomicUsize,
}

/// Words that do not say whether a wait is over. They lie in another cache line than `Counts`, so a change to them does
/// not take that line away from callers that wait.
#[derive(Debug)]
struct Beside {
    estimate: Estimate,
    /// How many callers returned without a call. A plain atomic under loom too: no order depends on a report.
    shared: Number,
}

const LED: usize = 1;
const ONE_CALL: usize = 2;

/// How often a [`Coalesce`] was asked for a heavy call, and how many calls it made. The numbers wrap: `calls` at 2^63,
/// on 32 bits at 2^31. After 2^60 calls in a row that failed, on 32 bits 2^28, `calls` stands still until a call has
/// succeeded. `asked` is the sum of the other two, so it wraps and stands still with `calls`.
///
/// ```
/// let shared = asymfence::Coalesce::new();
/// shared.run(|| Ok(()))?;
/// let calls = shared.stats();
/// assert_eq!((calls.asked, calls.calls, calls.shared), (1, 1, 0));
/// # Ok::<(), std::num::NonZeroU32>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Calls {
    /// How often it was asked.
    pub asked: usize,
    /// How many calls were made.
    pub calls: usize,
    /// How many callers returned without a call of their own.
    pub shared: usize,
}

/// Whether the call `n` is later than `arrived`, even if the count has wrapped between them. If so many calls lie
/// between them that the sign is wrong, the caller waits for a later call.
fn is_after(n: usize, arrived: usize) -> bool {
    n.wrapping_sub(arrived) as isize > 0
}

/// If the count is this far ahead of the last success, it stays there until the next success. So `served` never falls
/// so far behind a ticket that the difference wraps. (Without this limit very many failed calls in a row could bring
/// that about, with counts of 32 bits.)
const FAR: usize = usize::MAX / 8;

/// The number of the call after `lead`, doubled.
fn next(lead: usize, served: usize) -> usize {
    let last = lead & !LED;
    // guard survives: the bound by `<=` is the same. Both counts are even, and `FAR` is odd.
    if last.wrapping_sub(served) < FAR { last.wrapping_add(ONE_CALL) } else { last }
}

/// Makes a heavy fence of a `call` that reaches the other threads: puts a full `fence` before and after it.
#[inline(always)]
pub(crate) fn between_full_fences<T>(fence: impl Fn(Ordering), call: impl FnOnce() -> T) -> T {
    // Opening: what this thread did and saw comes before every barrier that calls make other threads execute from now
    // on. Pairs with: light fences that come after that barrier (scenario A: their load sees our store), full fences.
    fence(SeqCst);
    let outcome = call();
    // Closing: what other threads did before that barrier comes before what this thread does next. Pairs with: light
    // fences that came before it (scenario A: we see their store), full fences.
    fence(SeqCst);
    outcome
}

/// A call that has started. Its drop releases the lead, even if the call panics.
struct Started<'c> {
    counts: &'c Counts,
    /// Its number, doubled.
    number: usize,
}

impl Started<'_> {
    /// A heavy fence, if `call` succeeds.
    #[inline(always)]
    fn finish(self, call: impl FnOnce() -> Result<(), NonZeroU32>) -> Result<(), NonZeroU32> {
        // This executes (4): if a caller does not see (3), its accesses before (1), with which (4) pairs, come before
        // the call. It also executes (5): what other threads did before their barriers comes before (6). On x86 the
        // exchanges beside them serve as these fences (`fence_at_exchange`): (3) as (4), and (6) or the exchange in
        // `drop` as (5). No access that a fence must order lies between it and its exchange.
        let outcome = between_full_fences(sys::fence_at_exchange, call);
        if outcome.is_ok() {
            self.counts.serve(self.number);
        }
        outcome
    }
}

impl Drop for Started<'_> {
    #[inline]
    fn drop(&mut self) {
        let lead = &self.counts.lead;
        // Release: the next leader sees this call served, and does not have to make another. Pairs with the Acquire in
        // `run_since`. If another caller took over the lead, the exchange fails. Acquire: on x86 this exchange is the
        // fence (5), and later accesses stay after it.
        // survives: a model's fence (5) is a fence of its own; without the Release a call is made that is not needed.
        let _ = lead.compare_exchange(self.number | LED, self.number, AcqRel, Acquire);
    }
}

impl Counts {
    /// Starts the next call, unless a call has started or ended since `lead` was read.
    #[inline]
    fn start(&self, lead: usize) -> Option<Started<'_>> {
        // Relaxed: an old value is only further behind; see `FAR`.
        let number = next(lead, self.served.load(Relaxed));
        // (3) The fence (4) follows it. AcqRel: on x86 this exchange is the fence (4), and the compiler must move
        // nothing across it.
        // Relaxed, if it fails: the caller tries again.
        // survives: a model's fence (4) is a fence of its own, not this exchange.
        let started = self.lead.compare_exchange(lead, number | LED, AcqRel, Relaxed).is_ok();
        started.then_some(Started { counts: self, number })
    }

    #[inline]
    fn serve(&self, number: usize) {
        // Relaxed: the exchange looks again.
        let mut last = self.served.load(Relaxed);
        // The number of a call that is later than `last` is at most `FAR + ONE_CALL` greater, because `next` goes no
        // further. A number that looks greater than that is an old one: its leader was stopped while others made more
        // than half as many calls as there are numbers. (With counts of 32 bits an old number is recognised until the
        // others have made 7/8 of 2^31 calls.)
        // guard survives: the bound by `<` is the same, as in `next`.
        while is_after(number, last) && number.wrapping_sub(last) <= FAR + ONE_CALL {
            // (6) Release: the call comes before everything that a thread does after it sees the call served. Pairs
            // with (7).
            // survives: the fence (5) releases too.
            match self.served.compare_exchange_weak(last, number, Release, Relaxed) {
                Ok(_) => break,
                Err(newer) => last = newer,
            }
        }
    }
}

impl Default for Coalesce {
    fn default() -> Self {
        Self::new()
    }
}

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        /// A new `Coalesce`, with all counts zero.
        #[must_use]
        pub $($constness)? fn new() -> Self {
            Coalesce {
                counts: CachePadded::new(Counts {
                    lead: AtomicUsize::new(0),
                    served: AtomicUsize::new(0),
                }),
                beside: CachePadded::new(Beside {
                    estimate: Estimate::new(),
                    shared: Number::new(0),
                }),
            }
        }
    };
}

impl Coalesce {
    crate::sync::const_where_possible!(new);

    /// A heavy fence: a full fence; then `call`, or a call of another caller that started after that fence; then a
    /// fence. After the caller's own call that last fence is full, and after another's call it acquires and releases.
    ///
    /// `call` must make every other thread pass a full barrier before it returns. A caller waits for the call of
    /// another 1.75 times as long as, by its estimate, a call takes: at most about 0.2 s for one call, and for at most
    /// four calls of other callers in a row. (A call that ends before the caller sees it is not counted. One slow call
    /// raises the estimate at once; faster ones lower it step by step.) Then it makes its own call. (The first caller
    /// that waits does not know how long calls take, and waits about a microsecond. A caller that has waited in vain
    /// measures its own call, for the callers after it.) So no caller hangs because of a forked child, a signal handler
    /// that interrupts a caller, or a caller that is stopped. (For handlers that interrupt each other without end see
    /// [Limits](crate::guide::limits).) Callers sleep while they wait for a call that by their estimate takes more than
    /// 50 µs (on Linux and Android; elsewhere they only let other threads run, if the system has a call for that). If
    /// `call` panics, so does `run`, and the next callers share as before.
    ///
    /// A wait consists of up to about fifteen short sleeps. The kernel may end a sleep late: by the thread's timer
    /// slack (prctl(2), PR_SET_TIMERSLACK; 50 µs by default), or because other threads run. With a clock such a delay
    /// makes the wait for one call longer once, without a clock up to about fifteen times. The clock is read only on
    /// x86 and aarch64, only on Linux and Android, only if the deciding thread may read the time stamp counter, and
    /// only in a process that has decided and is asymmetric. Without a clock nothing is known about how long calls
    /// take. There a caller waits for some microseconds at first, so callers share long calls less often. Each wait
    /// that ends too early makes the next up to about 1.75 times as long, up to about 0.18 s. (On other systems than
    /// Linux and Android these times are a guess, and the longer waits take far less.) Before the decision no clock is
    /// read, so call [`init`](crate::init) first.
    ///
    /// # Errors
    ///
    /// The error of the caller's own call: then nothing has been ordered. If a call fails, only its own caller gets the
    /// error.
    pub fn run(&self, call: impl FnOnce() -> Result<(), NonZeroU32>) -> Result<(), NonZeroU32> {
        self.run_within(sys::LOOKS, Waiting::Asleep, call)
    }

    /// The same, with a choice of how to wait.
    #[inline(always)]
    pub(crate) fn run_within(
        &self,
        looks: Option<u32>,
        waiting: Waiting,
        call: impl FnOnce() -> Result<(), NonZeroU32>,
    ) -> Result<(), NonZeroU32> {
        // Relaxed: the exchange checks it. If no call is under way, our own call serves us, whenever we arrived.
        let lead = self.counts.lead.load(Relaxed);
        if lead & LED == 0 {
            if let Some(started) = self.counts.start(lead) {
                return started.finish(call);
            }
        }
        self.run_since(self.now(), looks, waiting, call)
    }

    /// Takes a ticket: a full fence, and the number of calls that have started.
    #[inline]
    pub(crate) fn now(&self) -> usize {
        // (1) What this thread did and saw comes before every barrier of a call that is counted later.
        // Pairs with (4).
        fence(SeqCst);
        // (2) Relaxed: the fences (1) and (4) make a stale value good enough.
        self.counts.lead.load(Relaxed) & !LED
    }

    /// Whether a call has succeeded that started after `arrived`.
    #[inline]
    pub(crate) fn is_served(&self, arrived: usize) -> bool {
        // Relaxed: the fence (7) follows it.
        let served = is_after(self.counts.served.load(Relaxed), arrived);
        if served {
            // (7) Acquire: what other threads did before that call's barriers comes before what this thread does next.
            // Release: it also comes before what threads do that synchronise with this thread later. Pairs with (6).
            fence(AcqRel);
        }
        served
    }

    /// As if `run_within` had been called when the ticket `arrived` was taken.
    #[cold]
    pub(crate) fn run_since(
        &self,
        arrived: usize,
        looks: Option<u32>,
        waiting: Waiting,
        call: impl FnOnce() -> Result<(), NonZeroU32>,
    ) -> Result<(), NonZeroU32> {
        let estimate = &self.beside.estimate;
        let mut watch = Watch::new(estimate, waiting, looks);
        loop {
            // Acquire: if the call has ended, we see that it is served. Pairs with the Release in `Started::drop`.
            // Without it we might make a call that is not needed.
            // survives: a call that is not needed breaks no order.
            let lead = self.counts.lead.load(Acquire);
            if self.is_served(arrived) {
                watch.is_served();
                // Relaxed: a number for reports.
                self.beside.shared.fetch_add(1, Relaxed);
                return Ok(());
            }
            let is_led = lead & LED != 0;
            if is_led && watch.wait(lead) {
                continue;
            }
            // The lead is free, or its holder takes too long.
            if let Some(started) = self.counts.start(lead) {
                if is_led {
                    return estimate.measure(|| started.finish(call));
                }
                return started.finish(call);
            }
        }
    }

    /// Makes a call that no other caller shares. It still serves tickets.
    pub(crate) fn run_alone(
        &self,
        call: impl FnOnce() -> Result<(), NonZeroU32>,
    ) -> Result<(), NonZeroU32> {
        loop {
            // Relaxed: the exchange looks again.
            if let Some(started) = self.counts.start(self.counts.lead.load(Relaxed)) {
                return started.finish(call);
            }
        }
    }

    /// The counts so far. They are read one after the other, while other threads may change them.
    #[must_use]
    pub fn stats(&self) -> Calls {
        // Relaxed, both: numbers for reports.
        let calls = self.counts.lead.load(Relaxed) / ONE_CALL;
        let shared = self.beside.shared.load(Relaxed);
        Calls { asked: calls.wrapping_add(shared), calls, shared }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURE: NonZeroU32 = NonZeroU32::MIN;

    /// The leader of one call is stopped while other callers use more than half of all numbers.
    #[test]
    fn a_leader_that_is_very_late_serves_no_later_ticket() {
        let shared = Coalesce::new();
        let late = shared.counts.start(0).expect("nobody leads");
        // Relaxed, here and below: one thread.
        let half_way_round = late.number.wrapping_add(isize::MAX as usize + 3);
        shared.counts.lead.store(half_way_round, Relaxed);
        shared.counts.served.store(half_way_round, Relaxed);
        let arrived = shared.now();
        late.finish(|| Ok(())).expect("this call does not fail");
        assert!(!shared.is_served(arrived));
        shared.run(|| Ok(())).expect("this call does not fail");
        assert!(shared.is_served(arrived));
    }

    #[test]
    fn later_calls_are_later_also_where_the_count_wraps() {
        assert!(is_after(1, 0));
        assert!(!is_after(0, 0));
        assert!(!is_after(0, 1));
        assert!(is_after(0, usize::MAX));
        assert!(!is_after(usize::MAX, 0));
    }

    /// A count at any place; it has run ahead of the last success by `failed` calls.
    fn after(failed: usize, served: usize) -> Coalesce {
        let shared = Coalesce::new();
        // Relaxed, both: one thread.
        shared.counts.served.store(served, Relaxed);
        shared.counts.lead.store(served.wrapping_add(failed * ONE_CALL), Relaxed);
        shared
    }

    #[test]
    fn a_ticket_is_served_also_where_the_count_wraps() {
        for served in [0, 2, usize::MAX - 1, usize::MAX - 3, isize::MAX as usize - 1] {
            let shared = after(0, served);
            let ticket = shared.now();
            assert!(!shared.is_served(ticket));
            assert_eq!(shared.run(|| Err(FAILURE)), Err(FAILURE));
            assert!(!shared.is_served(ticket), "a call that failed has served");
            assert_eq!(shared.run(|| Ok(())), Ok(()));
            assert!(shared.is_served(ticket));
            assert!(!shared.is_served(shared.now()));
        }
    }

    /// More calls in a row fail than the count may run ahead of the last success (`FAR`).
    #[test]
    fn no_ticket_comes_round_however_many_calls_fail() {
        for served in [0, usize::MAX - 5] {
            let shared = after(FAR / ONE_CALL - 1, served);
            for _ in 0..10 {
                let ticket = shared.now();
                assert_eq!(shared.run(|| Err(FAILURE)), Err(FAILURE));
                assert!(!shared.is_served(ticket));
            }
            let last = shared.now();
            assert!(is_after(last, served) && last.wrapping_sub(served) < FAR + ONE_CALL);
            let ticket = shared.now();
            assert_eq!(shared.run(|| Ok(())), Ok(()));
            // The count stood still: this call has the last one's number. The next one serves.
            assert!(!shared.is_served(ticket));
            assert_eq!(shared.run(|| Ok(())), Ok(()));
            assert!(shared.is_served(ticket));
        }
    }

    #[test]
    fn a_call_that_panics_lets_the_lead_go() {
        use std::panic::{AssertUnwindSafe, catch_unwind};

        let shared = Coalesce::new();
        // Relaxed: one thread.
        let is_led = || shared.counts.lead.load(Relaxed) & LED != 0;
        let panics = AssertUnwindSafe(|| shared.run(|| panic!("on purpose")));
        assert!(catch_unwind(panics).is_err());
        assert!(!is_led());
        // The twin: a leader whose call does not return keeps it.
        core::mem::forget(shared.counts.start(shared.counts.lead.load(Relaxed)));
        assert!(is_led());
    }

    #[test]
    fn only_the_call_of_who_waited_in_vain_is_measured() {
        if !sys::may_read_the_clock() {
            return;
        }
        sys::read_the_clock();
        let shared = Coalesce::new();
        let estimate = || std::format!("{:?}", shared.beside.estimate);
        let unmeasured = estimate();
        let run = || {
            shared.run_since(shared.now(), None, Waiting::Awake, || {
                let began = sys::clock();
                // Longer than the least estimate.
                while sys::clock() < began.map(|began| began + 10_000) {}
                Ok(())
            })
        };
        assert_eq!(run(), Ok(()));
        assert_eq!(estimate(), unmeasured, "a call that nobody waited for");
        // Relaxed: one thread. A leader that does not come back.
        core::mem::forget(shared.counts.start(shared.counts.lead.load(Relaxed)));
        assert_eq!(run(), Ok(()));
        assert_ne!(estimate(), unmeasured);
    }

    #[test]
    fn the_counts_lie_in_one_line() {
        assert!(size_of::<Counts>() <= align_of::<CachePadded<Counts>>());
    }
}
