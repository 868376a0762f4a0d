//! Counts what waits for a heavy fence, and tells a caller, usually one, when a heavy fence is due.
//!
//! All of it is advice, and Relaxed: no order depends on it. The read-modify-writes make sure that each waiting thing
//! is reported once, and that none is lost.

use core::time::Duration;

use crossbeam_utils::CachePadded;

use crate::pause::{microseconds, put_forward, since};
use crate::sync::AtomicUsize;
use crate::sync::Ordering::Relaxed;

/// Says when a heavy fence is due, for code in which a million operations a second need one, and can wait until one
/// heavy fence serves many of them. For example, the code retires objects (an object is unlinked now, and freed when no
/// reader uses it any more), advances an epoch, or steals tasks.
///
/// A heavy fence is due when a batch of things waits for it. An *occasion* is a call of [`due`](Pacer::due) or
/// [`due_at`](Pacer::due_at). Each thread numbers its own occasions, and passes the number as `nth`. With
/// [`new`](Pacer::new) alone only batches count: an incomplete batch waits until it is full. [`each`](Pacer::each)
/// makes a heavy fence due at certain occasions too, the multiples of 128 for example. [`after`](Pacer::after) makes
/// one due if none was due for some time. Both do so only while anything waits. Usually one caller gets a [`Due`], and
/// the others continue; two concurrent callers may both get one.
///
/// If a heavy fence did not help (a reader is stalled, or heavy fences fail), the pacer backs off: each time it waits
/// twice as long for the next one, up to 64 times as long.
///
/// # The recipe
///
/// 1. **Scan** what the readers have published, without a fence, to find out whether a heavy fence can help at all. If
///    a reader is stalled, it cannot: drop the [`Due`].
/// 2. Execute the **heavy fence**.
/// 3. **Scan again**, and free what no reader holds.
///
/// Do nothing while nothing waits. The cookbook's `epoch` is an example.
///
/// ```
/// use asymfence::{Pacer, heavy_fence};
///
/// static PACER: Pacer = Pacer::new(64).each(128);
///
/// fn retire(things: usize, nth: usize) {
///     PACER.add(things);
///     if let Some(due) = PACER.due(nth) { // `nth`: the thread's own count of these calls
///         // Scan first. If a reader is stalled, drop `due`.
///         heavy_fence();
///         // Scan again, and free what no reader holds.
///         due.paid();
///     }
/// }
///
/// retire(63, 1);
/// retire(1, 2); // 64 wait: one heavy fence
/// retire(1, 127);
/// retire(0, 128); // the 128th occasion, and something waits: one heavy fence
/// assert!(PACER.due(256).is_none()); // nothing waits
/// ```
///
/// # Bounds
///
/// `due` returns `Some` about once for each batch; two concurrent callers may both get `Some`. With
/// [`each`](Pacer::each)`(n)` it returns `Some` for occasions too, at most once in `n` calls of a caller. With
/// [`after`](Pacer::after), `due_at` returns `Some` for time too, about once in each pause. A stalled reader makes the
/// pacer back off. After the reader has continued, at most [`MOST_IN_VAIN`](Pacer::MOST_IN_VAIN) batches more come
/// before the next [`Due`], if so many things can be counted by a `usize`.
///
/// # Signal safety
///
/// Async-signal-safe: no function waits, locks, allocates or makes a system call. If a `Due` is lost (forgotten, or
/// held by a thread that a forked child does not have), the things that it counted are no longer counted; nothing else
/// is lost.
#[derive(Debug)]
pub struct Pacer {
    counts: CachePadded<Counts>,
    batch: usize,
    /// A heavy fence is due at an occasion whose number has none of these bits; 0 if occasions do not count.
    occasions: usize,
    /// In microseconds; 0 if time does not count.
    pause: usize,
}

#[derive(Debug)]
struct Counts {
    /// How many things were added since a caller last got a `Due`.
    waiting: AtomicUsize,
    /// How many things still wait although a caller got a `Due` for them: it dropped the `Due`, or `paid_but` left
    /// them.
    held: AtomicUsize,
    /// The factor of the backing off, a power of two: doubled each time a heavy fence did not help.
    factor: AtomicUsize,
    /// When a caller of `due_at` last got a `Due`, in microseconds.
    told: AtomicUsize,
}

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        /// Creates a pacer: a heavy fence is due when `batch` things wait.
        ///
        /// # Panics
        ///
        /// If `batch` is 0.
        #[must_use]
        pub $($constness)? fn new(batch: usize) -> Self {
            assert!(batch > 0, "a batch of no things");
            Pacer {
                counts: CachePadded::new(Counts {
                    waiting: AtomicUsize::new(0),
                    held: AtomicUsize::new(0),
                    factor: AtomicUsize::new(1),
                    told: AtomicUsize::new(0),
                }),
                batch,
                occasions: 0,
                pause: 0,
            }
        }
    };
}

impl Pacer {
    /// The bound on backing off: after heavy fences that did not help, the next one is due after at most this many
    /// times the batch, the occasions or the pause.
    pub const MOST_IN_VAIN: usize = 64;

    crate::sync::const_where_possible!(new);

    /// Makes a heavy fence due also at every `occasions`-th occasion of a caller, if anything waits.
    ///
    /// # Panics
    ///
    /// If `occasions` is not a power of two, is 1, or is greater than `usize::MAX / 128`.
    #[must_use]
    pub const fn each(mut self, occasions: usize) -> Self {
        assert!(
            occasions.is_power_of_two()
                && occasions > 1
                && occasions <= usize::MAX / Self::MOST_IN_VAIN / 2,
            "occasions are a power of two, and not too large"
        );
        self.occasions = occasions - 1;
        self
    }

    /// Makes a heavy fence due also if anything waits and no caller of [`due_at`](Pacer::due_at) got a [`Due`] for a
    /// `pause`. Fractions of a microsecond are ignored. Times must stay below 2^63 µs. On 32 bits the count of
    /// microseconds wraps: if the last `Due` is more than 70 minutes ago, nothing is due by time during one minute of
    /// each 71.6, and during the pause that follows that minute. (Backing off lengthens this pause too.)
    ///
    /// # Panics
    ///
    /// If `pause` is shorter than a microsecond or longer than 30 seconds.
    #[must_use]
    pub const fn after(mut self, pause: Duration) -> Self {
        self.pause = microseconds(pause);
        self
    }

    /// Adds `things` to the count of what waits. This is a read-modify-write on a shared cache line: a thread that
    /// retires often should add up a number of things first.
    #[inline]
    pub fn add(&self, things: usize) {
        self.counts.waiting.fetch_add(things, Relaxed);
    }

    /// How many things wait, including those of a dropped [`Due`]. This number is for reports.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.counts.waiting.load(Relaxed).wrapping_add(self.counts.held.load(Relaxed))
    }

    /// Whether a heavy fence is due at the caller's `nth` occasion. Each thread numbers its own occasions, from 1.
    /// (With another number a heavy fence is due earlier, or later, than it would be; nothing else depends on it.)
    /// Costs two or three loads, unless a heavy fence is due.
    #[inline]
    pub fn due(&self, nth: usize) -> Option<Due<'_>> {
        self.is_due(nth).then(|| self.take()).flatten()
    }

    /// As [`due`](Pacer::due), for a pacer that also counts [time](Pacer::after). `now` is the time since a moment that
    /// is the same for all callers, by a monotonic clock. Fractions of a microsecond are ignored.
    #[inline]
    pub fn due_at(&self, nth: usize, now: Duration) -> Option<Due<'_>> {
        let now = now.as_micros() as usize;
        let Counts { factor, told, .. } = &*self.counts;
        if self.is_due(nth) {
            put_forward(told, now);
            return self.take();
        }
        if self.pause == 0 || self.waiting() == 0 {
            return None;
        }
        // Relaxed, both: advice.
        let pause = self.pause.saturating_mul(factor.load(Relaxed));
        let is_over = since(now, told.load(Relaxed)) >= pause;
        // Of callers that find the pause over at the same time, one puts the time forward by a pause.
        (is_over && put_forward(told, now) >= pause).then(|| self.take()).flatten()
    }

    #[inline]
    fn is_due(&self, nth: usize) -> bool {
        let counts = &*self.counts;
        // Relaxed, all: advice.
        let waiting = counts.waiting.load(Relaxed);
        if waiting == 0 && counts.held.load(Relaxed) == 0 {
            return false;
        }
        // Relaxed: advice too.
        let factor = counts.factor.load(Relaxed);
        // `factor` is a power of two, and `occasions` is one less than another power of two.
        let occasions = (self.occasions + 1).wrapping_mul(factor).wrapping_sub(1);
        waiting >= self.batch.saturating_mul(factor) || self.occasions != 0 && nth & occasions == 0
    }

    /// Takes all that waits, and gives a `Due` for it. A concurrent caller gets one only for what this one did not
    /// take.
    #[cold]
    fn take(&self) -> Option<Due<'_>> {
        let counts = &*self.counts;
        // Relaxed, both: each thing is taken once, by the exchanges. No order depends on it.
        let things = counts.waiting.swap(0, Relaxed).wrapping_add(counts.held.swap(0, Relaxed));
        (things > 0).then_some(Due { pacer: self, things })
    }
}

/// A heavy fence is due, and the holder of this value should execute it. Dropping the value means "not yet": what waits
/// continues to wait, and the pacer backs off.
///
/// ```
/// use asymfence::{Pacer, heavy_fence};
///
/// let pacer = Pacer::new(2);
/// pacer.add(2);
/// let due = pacer.due(1).expect("a batch");
/// assert_eq!(due.things(), 2);
/// heavy_fence();
/// due.paid_but(1); // a reader holds one of them
/// assert_eq!(pacer.waiting(), 1);
/// ```
#[derive(Debug)]
#[must_use = "dropped, it means that the heavy fence did not help"]
pub struct Due<'p> {
    pacer: &'p Pacer,
    things: usize,
}

impl Due<'_> {
    /// How many things wait.
    #[must_use]
    pub fn things(&self) -> usize {
        self.things
    }

    /// The heavy fence helped: none of the things waits any longer.
    pub fn paid(self) {
        self.paid_but(0);
    }

    /// The heavy fence helped, but `left` of the things still wait. They come with the next `Due`, and do not count
    /// towards its batch.
    pub fn paid_but(mut self, left: usize) {
        self.things = 0;
        let counts = &*self.pacer.counts;
        // Relaxed, all: advice, which orders nothing.
        // guard survives: the bound by `>=` would add nothing to the count.
        if left > 0 {
            counts.held.fetch_add(left, Relaxed);
        }
        // Relaxed, both: as above.
        if counts.factor.load(Relaxed) != 1 {
            counts.factor.store(1, Relaxed);
        }
    }
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        if self.things > 0 {
            let counts = &*self.pacer.counts;
            // Relaxed, all: as in `paid_but`. Two concurrent drops may double the factor only once, which is good enough.
            counts.held.fetch_add(self.things, Relaxed);
            let factor = counts.factor.load(Relaxed);
            counts.factor.store((2 * factor).min(Pacer::MOST_IN_VAIN), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_second_finds_nothing_to_count() {
        let pacer = Pacer::new(1);
        pacer.add(1);
        let first = pacer.take().expect("one waits");
        assert!(pacer.take().is_none());
        first.paid();
        assert!(pacer.take().is_none());
    }

    /// At how many of the first `occasions` occasions the caller gets a `Due`. Each occasion adds `things`. If `helps`,
    /// each `Due` is paid, otherwise it is dropped.
    fn told(pacer: &Pacer, occasions: usize, things: usize, helps: bool) -> usize {
        let is_told = |&nth: &usize| {
            pacer.add(things);
            let due = pacer.due(nth);
            let told = due.is_some();
            if let (Some(due), true) = (due, helps) {
                due.paid();
            }
            told
        };
        (1..=occasions).filter(is_told).count()
    }

    #[test]
    fn a_batch_is_told_once() {
        assert_eq!(told(&Pacer::new(64), 6_400, 1, true), 100);
        assert_eq!(told(&Pacer::new(64), 63, 1, true), 0);
        assert_eq!(told(&Pacer::new(1), 100, 1, true), 100);
        assert_eq!(told(&Pacer::new(1), 100, 0, true), 0, "nothing waits");
    }

    #[test]
    fn an_occasion_is_told_if_anything_waits() {
        let pacer = Pacer::new(1_000).each(8);
        assert_eq!(told(&pacer, 80, 1, true), 10);
        assert_eq!(told(&pacer, 80, 0, true), 0);
    }

    #[test]
    fn where_it_does_not_help_it_comes_later_up_to_a_bound() {
        const MOST: usize = Pacer::MOST_IN_VAIN;
        let pacer = Pacer::new(8).each(8);
        // At 8, 16, 32 and so on, and then after every 64 times 8. The second caller begins its own count of occasions.
        assert_eq!(told(&pacer, 8 * (2 * MOST - 1), 1, false), 7);
        assert_eq!(told(&pacer, 8 * 10 * MOST, 1, false), 11);
        // Everything still waits, and a caller gets it after at most so many batches more.
        assert_eq!(pacer.waiting(), 8 * (2 * MOST - 1) + 8 * 10 * MOST);
        pacer.add(8 * MOST);
        let due = pacer.due(1).expect("the bound on what backing off costs");
        assert_eq!(due.things(), 8 * (13 * MOST - 1));
        due.paid();
        // It helped: as at the beginning.
        assert_eq!(told(&pacer, 80, 1, true), 10);
    }

    #[test]
    fn a_pause_is_told_once_if_anything_waits() {
        let pacer = Pacer::new(1_000).after(Duration::from_millis(1));
        let told = |micros| {
            let due = pacer.due_at(1, Duration::from_micros(micros));
            let told = due.is_some();
            due.into_iter().for_each(Due::paid);
            told
        };
        assert!(!told(5_000), "nothing waits");
        pacer.add(1);
        assert!(pacer.due(1).is_none(), "it was not told the time");
        assert!(told(5_000), "nobody was told lately");
        pacer.add(1);
        assert!(!told(5_999));
        assert!(told(6_000));
        pacer.add(1_000);
        assert!(told(6_001), "a batch");
    }

    /// A caller was delayed between its reading of the clock and its call.
    #[test]
    fn a_time_that_has_passed_already_is_no_pause() {
        let pacer = Pacer::new(1_000).after(Duration::from_millis(1));
        let told = |micros| {
            pacer.add(1);
            pacer.due_at(1, Duration::from_micros(micros)).map(Due::paid).is_some()
        };
        assert!(told(100_001));
        assert!(!told(100_000));
        pacer.add(1_000);
        assert!(told(99_000), "a batch");
        // That has not set the clock back.
        assert!(!told(101_000));
        assert!(told(101_001));
    }

    #[test]
    fn what_is_left_is_told_again() {
        let pacer = Pacer::new(8).each(2);
        pacer.add(8);
        pacer.due(1).expect("a batch").paid_but(3);
        assert_eq!(pacer.waiting(), 3);
        assert!(pacer.due(1).is_none());
        pacer.add(7);
        assert!(pacer.due(1).is_none(), "no batch of new ones");
        pacer.add(1);
        pacer.due(1).expect("a batch").paid_but(3);
        assert_eq!(pacer.due(2).expect("an occasion").things(), 3);
        // Dropped: not yet.
        assert_eq!(pacer.waiting(), 3);
    }
}
