//! An asymmetry that gives way where the rare side is not rare.
//!
//! BIASED-OR-BOTH-FULL: while the bias holds, the frequent side executes light fences and the rare side
//! heavy ones; while it does not, both execute full fences. In between the rare side executes heavy ones,
//! which pair with either.
//!
//! ```text
//! frequent side              rare side                   to revoke             to restore
//! x = 1                      y = 1                       word = REVOKING       word = RETURNING
//! light barrier       (1)    fence(SeqCst)        (3)    heavy fence    (5)    heavy fence    (6)
//! r = word, Acquire   (2)    r = word, Acquire    (4)    word = FULL,          word = BIASED,
//! unless BIASED:             unless FULL:                  Release               Release
//!   fence(SeqCst)              heavy fence
//! y                          x
//! ```
//!
//! A frequent thread that reads BIASED, and a rare one that reads FULL, do not miss each other's stores.
//! Either that FULL is newer: then the heavy fence (5) that lies between the two words reaches the
//! frequent thread after (1), or (2) would have read REVOKING; so `x` stands before it, and (4) acquires it.
//! Or that BIASED is newer: then the heavy fence (6) that lies between them reaches the rare thread after
//! (3), or (4) would have read RETURNING; so `y` stands before it, and (2) acquires it. So the frequent side
//! looks at the word *after* its barrier, and the rare side after its fence.
//!
//! Whoever dies on the way (a fork, a panic, a heavy fence that fails) leaves REVOKING or RETURNING behind:
//! there the frequent side is full and the rare side heavy, which is right for ever, and the next rare one
//! brings it to an end. The word counts the restorations, so that nobody ends what another began.

use core::time::Duration;

use crossbeam_utils::CachePadded;

use crate::fence::{HeavyFenceError, or_abort, seldom, try_heavy_fence};
use crate::pacer::microseconds;
use crate::strategy::{Strategy, init};
use crate::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::{AtomicUsize, fence};
use crate::sys;
use crate::ticket::Ticket;

/// The two fences of one data structure, which become symmetric while the rare side is busy, and
/// asymmetric again when it is quiet.
///
/// The frequent side calls [`light_fence`](Bias::light_fence), the rare side
/// [`heavy_fence`](Bias::heavy_fence), each with the same `Bias`. While it [is biased](Bias::is_biased)
/// these are a light and a heavy fence. If heavy fences come more often than once in a *pause*, one heavy fence revokes
/// the bias, and both are `fence(SeqCst)`. The program restores it now and then, after a
/// pause in which no rare side came. So a structure whose rare side is sometimes not rare is never much
/// slower than with full fences. With [`restore_at`](Bias::restore_at) it executes at most two heavy fences in a
/// pause, and one more for each rare side that came at the same moment as the first. ([`restore`](Bias::restore)
/// has no such bound.)
///
/// The fences of two `Bias`es do not pair, nor do they with [`light_fence`](crate::light_fence); with
/// [`heavy_fence`](crate::heavy_fence) the light side does.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
/// use std::time::{Duration, Instant};
///
/// use asymfence::Bias;
///
/// static BIAS: Bias = Bias::new(Duration::from_millis(1));
/// static ASLEEP: AtomicBool = AtomicBool::new(false);
/// static WORK: AtomicBool = AtomicBool::new(false);
///
/// BIAS.restore(); // at the start
///
/// // The frequent side:
/// WORK.store(true, Relaxed);
/// BIAS.light_fence();
/// if ASLEEP.load(Relaxed) { /* wake it */ }
///
/// // The rare side:
/// let start = Instant::now();
/// ASLEEP.store(true, Relaxed);
/// BIAS.heavy_fence(|| start.elapsed());
/// assert!(WORK.load(Relaxed)); // it need not sleep
///
/// // Any thread, every thousand operations or so:
/// BIAS.restore_at(start.elapsed());
/// ```
///
/// # Source
///
/// The bias that is revoked and returns after a pause: Dice and Kogan, "BRAVO", USENIX ATC 2019. The pause
/// as a bound on heavy fences is ours.
#[derive(Debug)]
pub struct Bias {
    /// One of the states, and the number of restorations. All that the frequent side looks at.
    word: CachePadded<AtomicUsize>,
    times: CachePadded<Times>,
    /// In microseconds.
    pause: usize,
}

/// In microseconds. Advice, and Relaxed.
#[derive(Debug)]
struct Times {
    /// When a rare side executed a heavy fence while the bias held.
    heavy: AtomicUsize,
    /// Since when no rare side has come, if the state is QUIET.
    quiet: AtomicUsize,
}

/// Light on the frequent side, heavy on the other.
const BIASED: usize = 1;
/// FULL: full on both sides. No rare side has come since somebody asked.
const QUIET: usize = 0;
/// FULL, and a rare side has come.
const SEEN: usize = 2;
/// Full on the frequent side, heavy on the other: on the way to BIASED.
const RETURNING: usize = 4;
/// The same, on the way to FULL.
const REVOKING: usize = 6;
const STATE: usize = 7;
/// One restoration. (On 32 bits they come round after 500 million, two heavy fences each: a thread would have
/// to stand still for as long, and go on at one of them.)
const ONE: usize = 8;

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        /// Not biased: [`restore`](Bias::restore) it first thing. In `pause` the rare side may come once; if
        /// it comes more often, the bias is revoked. A good pause is a hundred times as long as a heavy
        /// fence takes: a millisecond.
        ///
        /// # Panics
        ///
        /// If `pause` is less than a microsecond, or more than half a minute.
        #[must_use]
        pub $($constness)? fn new(pause: Duration) -> Self {
            let pause = microseconds(pause);
            Bias {
                word: CachePadded::new(AtomicUsize::new(QUIET)),
                times: CachePadded::new(Times {
                    // A pause ago: the first rare side is rare, whatever clock it has.
                    heavy: AtomicUsize::new(0usize.wrapping_sub(pause)),
                    quiet: AtomicUsize::new(0),
                }),
                pause,
            }
        }
    };
}

impl Bias {
    crate::sync::const_where_possible!(new);

    /// As [`new`](Bias::new), but biased from the start, unless the process is symmetric. Executes no heavy fence,
    /// since no rare side has come before. Decides if nothing has ([`init`]).
    ///
    /// # Panics
    ///
    /// As [`new`](Bias::new).
    #[must_use]
    pub fn biased(pause: Duration) -> Self {
        let bias = Bias::new(pause);
        if init() != Strategy::Symmetric {
            // Relaxed: a thread that is given the bias sees this store, as it sees the bias.
            bias.word.store(BIASED, Relaxed);
        }
        bias
    }

    /// Whether the frequent side's fence is a light one, at this moment. For reports.
    #[must_use]
    pub fn is_biased(&self) -> bool {
        // Relaxed: nothing depends on it.
        self.word.load(Relaxed) & STATE == BIASED
    }

    /// The frequent side's fence: what [`light_fence`](crate::light_fence) is against
    /// [`Bias::heavy_fence`], and against [`heavy_fence`](crate::heavy_fence). Returns whether the bias
    /// holds.
    ///
    /// A load and a branch, and no fence instruction while the bias holds; `fence(SeqCst)` while it does
    /// not. Wait-free and async-signal-safe; it never decides.
    #[inline(always)]
    pub fn light_fence(&self) -> bool {
        // (1) A light fence: the bias holds in asymmetric processes alone.
        // Pairs with: the heavy fences (5) and of the rare side.
        sys::compiler_barrier();
        // (2) Acquire: what rare sides did before the bias came back. Pairs with the Release in `restore`.
        let is_biased = self.word.load(Acquire) & STATE == BIASED;
        if !is_biased {
            seldom();
            // Pairs with: (3), and the heavy fences of the rare side.
            fence(SeqCst);
        }
        is_biased
    }

    /// The rare side's fence: what [`heavy_fence`](crate::heavy_fence) is against [`Bias::light_fence`].
    ///
    /// While the bias does not hold, `fence(SeqCst)` and a load. While it does, a heavy fence; `now` is
    /// called then, for the time since any moment that all callers agree on, and if the last one was less
    /// than a pause ago, the bias is revoked.
    ///
    /// Panics, aborts and signal safety are those of [`heavy_fence`](crate::heavy_fence), and of `now`.
    #[inline]
    pub fn heavy_fence(&self, now: impl FnOnce() -> Duration) {
        or_abort(self.try_heavy_fence(now));
    }

    /// As [`heavy_fence`](Bias::heavy_fence), but the failure is the caller's to handle.
    ///
    /// # Errors
    ///
    /// As [`try_heavy_fence`]: then nothing has been ordered. What pairs with the next
    /// caller's fence is as right as before.
    #[inline]
    pub fn try_heavy_fence(&self, now: impl FnOnce() -> Duration) -> Result<(), HeavyFenceError> {
        let word = self.full_fence();
        match word & STATE {
            SEEN => Ok(()),
            QUIET => {
                // Relaxed: a hint. If the bias returns meanwhile, it returns behind (3).
                let _ = self.word.compare_exchange(word, word + SEEN - QUIET, Relaxed, Relaxed);
                Ok(())
            }
            BIASED if !self.is_often(now()) => try_heavy_fence(),
            _ => self.revoke_from(word),
        }
    }

    /// The rare side's fence of one who came together with another. That one has taken the `ticket`, and then called
    /// [`heavy_fence`](Bias::heavy_fence). A thread that did what is to be ordered before the ticket was taken calls
    /// this. So many that come at once share one heavy fence, and count as one rare side.
    ///
    /// Panics, aborts and signal safety are those of [`heavy_fence`](crate::heavy_fence).
    #[inline]
    pub fn wait(&self, ticket: Ticket) {
        or_abort(self.try_wait(ticket));
    }

    /// As [`wait`](Bias::wait), but the failure is the caller's to handle.
    ///
    /// # Errors
    ///
    /// As [`try_heavy_fence`](Bias::try_heavy_fence).
    pub fn try_wait(&self, ticket: Ticket) -> Result<(), HeavyFenceError> {
        // A heavy fence pairs with whatever the frequent side executes.
        if ticket.is_served() {
            return Ok(());
        }
        let word = self.full_fence();
        match word & STATE {
            SEEN | QUIET => Ok(()),
            BIASED => ticket.try_wait(),
            _ => self.revoke_from(word),
        }
    }

    /// Revokes the bias, if it holds, by a heavy fence: for a program that knows that the rare side is going to be
    /// busy. It is also a rare side's fence, as [`heavy_fence`](Bias::heavy_fence).
    ///
    /// Panics, aborts and signal safety are those of [`heavy_fence`](crate::heavy_fence).
    pub fn revoke(&self) {
        or_abort(self.try_revoke());
    }

    /// As [`revoke`](Bias::revoke), but the failure is the caller's to handle.
    ///
    /// # Errors
    ///
    /// As [`try_heavy_fence`](Bias::try_heavy_fence).
    pub fn try_revoke(&self) -> Result<(), HeavyFenceError> {
        let word = self.full_fence();
        match word & STATE {
            SEEN | QUIET => Ok(()),
            _ => self.revoke_from(word),
        }
    }

    /// Restores the bias, if no rare side has come since the last call of this. For a program that calls it once in a
    /// number of operations. Returns whether the bias holds.
    ///
    /// A heavy fence if it does; a load, and an exchange at most, otherwise. In a symmetric process there is no
    /// bias. Decides if nothing has ([`init`]).
    ///
    /// Panics, aborts and signal safety are those of [`heavy_fence`](crate::heavy_fence).
    pub fn restore(&self) -> bool {
        or_abort(self.try_restore())
    }

    /// As [`restore`](Bias::restore), but the failure is the caller's to handle.
    ///
    /// # Errors
    ///
    /// As [`try_heavy_fence`]: the bias does not hold.
    pub fn try_restore(&self) -> Result<bool, HeavyFenceError> {
        self.restore_if(|_| true)
    }

    /// As [`restore`](Bias::restore), by time: no sooner than a pause after a rare side has come. `now` is
    /// the time since any moment that all callers agree on.
    ///
    /// Panics, aborts and signal safety are those of [`heavy_fence`](crate::heavy_fence).
    pub fn restore_at(&self, now: Duration) -> bool {
        or_abort(self.try_restore_at(now))
    }

    /// As [`restore_at`](Bias::restore_at), but the failure is the caller's to handle.
    ///
    /// # Errors
    ///
    /// As [`try_restore`](Bias::try_restore).
    pub fn try_restore_at(&self, now: Duration) -> Result<bool, HeavyFenceError> {
        let now = now.as_micros() as usize;
        self.restore_if(|is_quiet| {
            let Times { heavy, quiet } = &*self.times;
            // Relaxed, all of them: advice.
            if !is_quiet {
                quiet.store(now, Relaxed);
                return true;
            }
            // Relaxed: as above.
            let is_over = now.wrapping_sub(quiet.load(Relaxed)) >= self.pause;
            if is_over {
                // It costs a heavy fence: a rare side that comes soon revokes it by the second of this pause.
                heavy.store(now, Relaxed);
            }
            is_over
        })
    }

    /// What every rare side begins with: (3) and (4).
    #[inline]
    fn full_fence(&self) -> usize {
        // (3) What this thread did stands before the look at the word.
        // Pairs with: the frequent side's full fence, and the heavy fence (6).
        fence(SeqCst);
        // (4) Acquire: what frequent sides did before the bias was revoked. Pairs with the Release in
        // `revoke_from`.
        self.word.load(Acquire)
    }

    /// A heavy fence, after which both sides are full.
    #[cold]
    fn revoke_from(&self, word: usize) -> Result<(), HeavyFenceError> {
        let revoking = word & !STATE | REVOKING;
        // Relaxed: the heavy fence orders it. If another changed the word, ours is a heavy fence all the
        // same, and changes nothing below.
        let changed = self.word.compare_exchange(word, revoking, Relaxed, Relaxed);
        // (5) The word stands before it. Pairs with: the frequent side's barrier (1).
        try_heavy_fence()?;
        if changed.is_ok() {
            // Release: what frequent sides did under the bias is behind it. Pairs with (4). (A heavy fence ends
            // with a full one, which releases too: no model can tell this from Relaxed.)
            let full = word & !STATE | SEEN;
            let _ = self.word.compare_exchange(revoking, full, Release, Relaxed);
        }
        Ok(())
    }

    fn restore_if(&self, may: impl FnOnce(bool) -> bool) -> Result<bool, HeavyFenceError> {
        // Relaxed: the exchanges look again.
        let word = self.word.load(Relaxed);
        match word & STATE {
            BIASED => Ok(true),
            SEEN => {
                if may(false) {
                    // Relaxed: both sides are full, before and after.
                    let _ = self.word.compare_exchange(word, word - SEEN + QUIET, Relaxed, Relaxed);
                }
                Ok(false)
            }
            QUIET if init() != Strategy::Symmetric && may(true) => self.restore_from(word),
            _ => Ok(false),
        }
    }

    #[cold]
    fn restore_from(&self, quiet: usize) -> Result<bool, HeavyFenceError> {
        let returning = (quiet & !STATE).wrapping_add(ONE) | RETURNING;
        // Relaxed: the heavy fence orders it.
        if self.word.compare_exchange(quiet, returning, Relaxed, Relaxed).is_err() {
            return Ok(false);
        }
        // (6) The word stands before it. Pairs with: the rare side's fence (3).
        if let Err(error) = try_heavy_fence() {
            // Relaxed: both sides are full, as before.
            let _ = self.word.compare_exchange(returning, returning - RETURNING, Relaxed, Relaxed);
            return Err(error);
        }
        // Release: what rare sides did before is behind it. Pairs with (2). (As above.) A rare side that came meanwhile
        // has changed the word: then it stays with full fences.
        let biased = returning - RETURNING + BIASED;
        Ok(self.word.compare_exchange(returning, biased, Release, Relaxed).is_ok())
    }

    /// Whether a rare side has executed a heavy fence less than a pause ago.
    fn is_often(&self, now: Duration) -> bool {
        let now = now.as_micros() as usize;
        let last = self.times.heavy.swap(now, Relaxed);
        now.wrapping_sub(last) < self.pause
    }
}
