//! Two fences that become symmetric while the rare side is not rare.
//!
//! BIASED-OR-BOTH-FULL: while the bias holds, the frequent side executes light fences and the rare side heavy fences.
//! While it does not hold, both execute full fences. In between the rare side executes heavy fences, which pair with
//! either.
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
//! A frequent thread that reads BIASED and a rare thread that reads FULL do not miss each other's stores:
//!
//! - If FULL is newer than BIASED, a heavy fence (5) lies between the two words. It reaches the frequent thread after
//!   (1): otherwise (2) would have read REVOKING. So `x` comes before (5), and (4) acquires it.
//! - If BIASED is newer than FULL, a heavy fence (6) lies between the two words. It reaches the rare thread after (3):
//!   otherwise (4) would have read RETURNING. So `y` comes before (6), and (2) acquires it.
//!
//! Hence the frequent side loads the word *after* its barrier, and the rare side loads it after its fence.
//!
//! A thread that stops halfway (a fork, a panic) leaves REVOKING or RETURNING in the word. A heavy fence that fails
//! leaves REVOKING. While one of the two stands there, the frequent side executes full fences and the rare side heavy
//! fences, which is always right, and the next fence of the rare side that loads the word ends this by a revocation. If
//! a heavy fence fails during a restoration, the thread puts QUIET back, and both sides are full as before. The word
//! counts the rounds, so that a thread that comes back late does not complete a change of a later round by a heavy
//! fence of an earlier one.

use core::time::Duration;

use crossbeam_utils::CachePadded;

use crate::fence::{HeavyFenceError, or_abort, seldom, try_heavy_fence};
use crate::pause::{microseconds, put_forward, since};
use crate::strategy::{Strategy, init};
use crate::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::{AtomicUsize, fence};
use crate::sys;
use crate::ticket::Ticket;

/// The two fences of one data structure. They become symmetric while the rare side is busy, and asymmetric again when
/// it is quiet.
///
/// The frequent side calls [`light_fence`](Bias::light_fence), the rare side [`heavy_fence`](Bias::heavy_fence), each
/// with the same `Bias`. While the `Bias` [is biased](Bias::is_biased), these are a light and a heavy fence. The
/// *pause* is the time that was passed to [`new`](Bias::new). If `heavy_fence` is called more often than once in that
/// time, a heavy fence revokes the bias, and then both sides execute `fence(SeqCst)`. The program calls
/// [`restore_at`](Bias::restore_at) now and then, which restores the bias after a pause without a call of
/// `heavy_fence`. So a structure whose rare side is sometimes busy is never much slower than with full fences. (A
/// revocation may fail, because its heavy fence does. And a thread may never come to the end of a revocation or
/// restoration: a filter may kill the thread alone, or another thread forks the process meanwhile, and the child does
/// not have the thread. Then the frequent side executes full fences, and nothing restores the bias, however long the
/// rare side is quiet. The next call of `heavy_fence` that succeeds executes a heavy fence, and after it both sides
/// execute full fences, as after any revocation.) The pause and all times count in whole microseconds: fractions are
/// ignored. The count must stay below 2^63. On 32 bits it wraps: if the last call from which the time is counted is
/// more than 70 minutes ago, it may look as if less than a pause had passed, during one minute and one pause of each
/// 71.6 minutes. Then the bias is revoked, or not restored.
///
/// With `restore_at` at most two heavy fences are executed in a pause. This is so as long as heavy fences succeed. Two
/// cases add to that. If several callers execute `heavy_fence` at once while the bias holds or is being revoked
/// (several threads, or a thread and a signal handler that interrupted it), each of them after the first adds one. And
/// each call that is delayed after its caller has read the clock may add two: the bias may be restored too early, and
/// be revoked again. [`restore`](Bias::restore) has no such bound.
///
/// Fences of different `Bias`es do not pair. `Bias::light_fence` also pairs with [`heavy_fence`](crate::heavy_fence).
/// `Bias::heavy_fence` does not pair with [`light_fence`](crate::light_fence).
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
/// let start = Instant::now(); // once: all threads count from the same moment
/// BIAS.restore(); // at the start
///
/// // The frequent side:
/// WORK.store(true, Relaxed);
/// BIAS.light_fence();
/// if ASLEEP.load(Relaxed) { /* wake it */ }
///
/// // The rare side:
/// ASLEEP.store(true, Relaxed);
/// BIAS.heavy_fence(|| start.elapsed());
/// assert!(WORK.load(Relaxed)); // so it does not sleep
///
/// // Any thread, every thousand operations or so:
/// BIAS.restore_at(start.elapsed());
/// ```
///
/// # Source
///
/// Dice and Kogan, "BRAVO", USENIX ATC 2019, for the bias that is revoked and restored after a pause. The use of the
/// pause as a bound on heavy fences is new here.
#[derive(Debug)]
pub struct Bias {
    /// One of the states, and the number of rounds (`ONE`). The frequent side reads nothing else.
    word: CachePadded<AtomicUsize>,
    times: CachePadded<Times>,
    /// In microseconds.
    pause: usize,
}

/// In microseconds. Advice, and Relaxed.
#[derive(Debug)]
struct Times {
    /// When `try_heavy_fence` last found that the bias held, or `try_restore_at` last set out to restore the bias.
    heavy: AtomicUsize,
    /// Since when the rare side has been quiet, as far as is known, if the state is QUIET.
    quiet: AtomicUsize,
}

/// Light on the frequent side, heavy on the other.
const BIASED: usize = 1;
/// FULL: full on both sides. No `heavy_fence`, and no `revoke` that revoked, has come since the last `restore`.
const QUIET: usize = 0;
/// FULL, and one of these has come since.
const SEEN: usize = 2;
/// Full on the frequent side, heavy on the other: on the way to BIASED.
const RETURNING: usize = 4;
/// The same, on the way to FULL.
const REVOKING: usize = 6;
const STATE: usize = 7;
/// One round: a restoration, or the beginning of a quiet time. (On 32 bits the count wraps after 500 million rounds. A
/// thread would have to be stopped for exactly as long.)
const ONE: usize = 8;

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        /// Creates a `Bias` that is not biased yet: call [`restore`](Bias::restore) once before use. If `heavy_fence`
        /// is called twice within `pause`, the bias is revoked. A good pause is a hundred times as long as a heavy
        /// fence: a millisecond.
        ///
        /// # Panics
        ///
        /// If `pause` is shorter than a microsecond or longer than 30 seconds.
        #[must_use]
        pub $($constness)? fn new(pause: Duration) -> Self {
            let pause = microseconds(pause);
            Bias {
                word: CachePadded::new(AtomicUsize::new(QUIET)),
                times: CachePadded::new(Times {
                    // A pause ago, so that the first call of the rare side does not revoke the bias. (On 32 bits it
                    // does during one minute and one pause of each 71.6 minutes: see `LATE`.)
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
    /// because the rare side has not come yet. Calls [`init`].
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

    /// Whether the frequent side's fence is light at this moment. For reports.
    #[must_use]
    pub fn is_biased(&self) -> bool {
        // Relaxed: nothing depends on it.
        self.word.load(Relaxed) & STATE == BIASED
    }

    /// The frequent side's fence. It pairs with [`Bias::heavy_fence`] of the same `Bias`. Like
    /// [`light_fence`](crate::light_fence), it also pairs with [`heavy_fence`](crate::heavy_fence). Returns whether the
    /// bias holds.
    ///
    /// While the bias holds: a load and a branch, and no fence instruction. While it does not hold: also a
    /// `fence(SeqCst)`. Wait-free and async-signal-safe; never decides.
    #[inline(always)]
    pub fn light_fence(&self) -> bool {
        // (1) A light fence: the bias holds in asymmetric processes alone.
        // Pairs with: the heavy fence (5), and the heavy fences that the rare side executes while the bias holds or
        // changes.
        sys::compiler_barrier();
        // (2) Acquire: what the rare side did before the bias was restored. Pairs with the Release in `restore_from`.
        let is_biased = self.word.load(Acquire) & STATE == BIASED;
        if !is_biased {
            seldom();
            // Pairs with: (3), and the heavy fences of the rare side.
            fence(SeqCst);
        }
        is_biased
    }

    /// The rare side's fence. It pairs with [`Bias::light_fence`] of the same `Bias`.
    ///
    /// While both sides execute full fences: `fence(SeqCst)`, a load and at most an exchange.
    ///
    /// While the bias holds: also a heavy fence. Before it, `now` is called, which returns the time since a moment that
    /// is the same for all callers. If the last call of `heavy_fence` under the bias, or the last restoration by
    /// [`restore_at`](Bias::restore_at), was less than a pause ago, this call revokes the bias. (The heavy fences of
    /// [`restore`](Bias::restore) and [`wait`](Bias::wait) do not count.)
    ///
    /// While the bias is being revoked or restored, and after a revocation that failed: also a heavy fence, although
    /// [`is_biased`](Bias::is_biased) returns false. A call that succeeds in one of these states makes both sides
    /// execute full fences, unless another thread has changed the state meanwhile.
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
    /// As [`try_heavy_fence`]: then nothing has been ordered. Later fences of both sides still pair. If the call was to
    /// revoke the bias, the frequent side executes full fences from now on, and the rare side heavy ones until one of
    /// them succeeds.
    #[inline]
    pub fn try_heavy_fence(&self, now: impl FnOnce() -> Duration) -> Result<(), HeavyFenceError> {
        let word = self.full_fence();
        match word & STATE {
            SEEN => Ok(()),
            QUIET => {
                // Relaxed: the new state is a hint, and an exchange continues the release sequence, as in `restore_if`.
                // The full fence (3) is enough: (4) has read QUIET, so the heavy fence (6) of a later restoration
                // reaches this thread after (3).
                let _ = self.word.compare_exchange(word, word + SEEN - QUIET, Relaxed, Relaxed);
                Ok(())
            }
            BIASED if !self.is_often(now()) => try_heavy_fence(),
            _ => self.revoke_from(word),
        }
    }

    /// The rare side's fence for a thread that shares the fence of another. One thread takes `ticket` and then calls
    /// [`heavy_fence`](Bias::heavy_fence). Any other thread whose accesses came before the ticket was taken calls
    /// `wait` instead. In this way several threads of the rare side share one heavy fence. Together they count as one
    /// call of [`heavy_fence`](Bias::heavy_fence).
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

    /// Revokes the bias, if it holds, by a heavy fence. For a program that knows that the rare side will be busy. This
    /// is also a fence of the rare side, as [`heavy_fence`](Bias::heavy_fence).
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

    /// Restores the bias if neither of these has happened since the last `restore`: a call of `heavy_fence`, or a
    /// `revoke` that has revoked the bias. (After a revocation that failed it restores nothing: see [`Bias`].) For a
    /// program that calls `restore` once in a number of operations. Returns whether the bias holds afterwards.
    ///
    /// Costs a heavy fence if this call restores the bias (or fails to, because the rare side came meanwhile);
    /// otherwise a load and at most one compare-exchange. In a symmetric process there is no bias. Calls [`init`]
    /// before it restores the bias.
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

    /// As [`restore`](Bias::restore), but by time. `now` is the time since a moment that is the same for all callers.
    ///
    /// The first `restore_at` after a call of `heavy_fence`, or after a `revoke` that has revoked the bias, restores
    /// nothing (if no `restore` came between them). A later one restores the bias only if its `now` is at least a pause
    /// after that of the first, and neither a `heavy_fence` nor a `revoke` that has revoked the bias came between the
    /// two. (A `revoke` that finds the bias revoked changes nothing.) If the first caller was delayed after it had read
    /// the clock, its `now` may lie before the call of `heavy_fence`, and the bias may be restored sooner than a pause
    /// after that call. (Of several first callers the latest `now` counts. The pause is not measured from the `now` of
    /// any other call.)
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
                put_forward(quiet, now);
                return true;
            }
            // Relaxed: as above.
            let is_over = since(now, quiet.load(Relaxed)) >= self.pause;
            if is_over {
                // Restoring is the first heavy fence of this pause. If the rare side comes soon, it revokes the bias by
                // the second.
                put_forward(heavy, now);
            }
            is_over
        })
    }

    /// How a fence of the rare side begins, except a `wait` whose ticket is served: (3) and (4).
    #[inline]
    fn full_fence(&self) -> usize {
        // (3) What this thread did comes before its load of the word.
        // Pairs with: the frequent side's full fence, and the heavy fence (6).
        fence(SeqCst);
        // (4) Acquire: what the frequent side did before the bias was revoked. Pairs with the Release in `revoke_from`.
        self.word.load(Acquire)
    }

    /// A heavy fence. Both sides are full afterwards, unless another thread has changed the word meanwhile.
    #[cold]
    fn revoke_from(&self, word: usize) -> Result<(), HeavyFenceError> {
        let revoking = word & !STATE | REVOKING;
        // Relaxed: the heavy fence orders it. If another thread has changed it, this call still executes a heavy fence,
        // and leaves the word alone below.
        let changed = self.word.compare_exchange(word, revoking, Relaxed, Relaxed);
        // (5) The word is written before it. Pairs with: the frequent side's barrier (1).
        try_heavy_fence()?;
        if changed.is_ok() {
            let full = word & !STATE | SEEN;
            // Release: what the frequent side did under the bias comes before it. Pairs with (4).
            // survives: a heavy fence ends with a full fence, which releases too.
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
                    // Relaxed: both sides are full, before and after. And an exchange continues the release sequence of
                    // `revoke_from`, so (4) acquires it from this word too.
                    // A new round: a thread that found the pause over before this cannot restore the bias now.
                    let quiet = (word - SEEN + QUIET).wrapping_add(ONE);
                    let _ = self.word.compare_exchange(word, quiet, Relaxed, Relaxed);
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
        // (6) The word is written before it. Pairs with: the rare side's fence (3).
        if let Err(error) = try_heavy_fence() {
            // Relaxed: both sides are full, as before; an exchange, as in `restore_if`.
            let _ = self.word.compare_exchange(returning, returning - RETURNING, Relaxed, Relaxed);
            return Err(error);
        }
        let biased = returning - RETURNING + BIASED;
        // Release: what the rare side did before comes before this store. Pairs with (2). If the rare side came
        // meanwhile it has changed the word: then the fences stay full.
        // survives: a heavy fence ends with a full fence, which releases too.
        Ok(self.word.compare_exchange(returning, biased, Release, Relaxed).is_ok())
    }

    /// Whether `heavy` of `Times` is less than a pause ago. From now on it is `now`.
    fn is_often(&self, now: Duration) -> bool {
        let now = now.as_micros() as usize;
        put_forward(&self.times.heavy, now) < self.pause
    }
}
