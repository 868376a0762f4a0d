//! How long a caller waits for the heavy call of another: 1.75 times as long as a call usually takes.
//!
//! All of it is advice, and Relaxed: a caller that stops waiting makes a call of its own, which is always right. Only
//! callers that wait update the estimate, by what they see.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::sys::{self, Waiting};

/// In quarters of the estimate: if a leader takes longer, callers assume that it is stopped. It is less than twice the
/// estimate, so that a caller that then makes its own call takes less than three calls in all.
const PATIENCE: u64 = 7;
/// Nanoseconds. Callers stay awake while they wait for shorter calls: sleeping and waking up takes about as long.
const LONG: u32 = 50_000;
/// Bounds of the estimate, in nanoseconds. The upper one bounds the cost of a leader that is stopped for good. The
/// lower one is about the time between the end of one lead and the begin of the next.
const SHORTEST: u32 = 500;
const LONGEST: u32 = 100_000_000;
/// A caller watches at most this many leaders. The first call may have started before the caller arrived. Each later
/// one serves the caller, unless the call fails or another caller takes over the lead. So if none has served it, one of
/// the two has happened to each later call.
const LEADERS: u32 = 4;
/// How often a caller checks before it first reads the clock.
const SPINS: u32 = 4;
/// Pauses between two checks after that.
const PAUSES: u32 = 32;
/// A guess of how long these pauses take, for targets without a clock.
const NANOSECONDS_OF_PAUSES: u64 = 500;

/// How long a call takes, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Estimate(AtomicU32);

impl Estimate {
    pub(crate) const fn new() -> Self {
        Estimate(AtomicU32::new(SHORTEST))
    }

    fn get(&self) -> u32 {
        // Relaxed: a guess, which orders nothing.
        self.0.load(Relaxed)
    }

    fn set(&self, took: u64) {
        // Relaxed: as in `get`.
        self.0.store(clamped(took), Relaxed);
    }

    /// By a quarter of the difference, if the call `took` less.
    fn lower_towards(&self, took: u32) {
        let usual = self.get();
        // guard survives: where the two are equal, the estimate is stored as it is.
        if took < usual {
            self.set(u64::from(usual - (usual - took) / 4));
        }
    }

    /// Runs `call`, and sets the estimate to the time that it took.
    pub(crate) fn measure<T>(&self, call: impl FnOnce() -> T) -> T {
        let Some(began) = sys::clock() else { return call() };
        let outcome = call();
        self.set(sys::clock().unwrap_or(began).wrapping_sub(began));
        outcome
    }
}

fn clamped(nanoseconds: u64) -> u32 {
    nanoseconds.clamp(SHORTEST.into(), LONGEST.into()) as u32
}

/// A wait for the calls of others.
#[derive(Debug)]
pub(crate) struct Watch<'e> {
    estimate: &'e Estimate,
    waiting: Waiting,
    /// How often to check in all, instead of how long: for models, which have no clock.
    looks: Option<u32>,
    tries: u32,
    /// The word `lead` during the current leader's call. 0 before a leader was seen.
    leader: usize,
    /// How many leaders this wait has seen, the current one included.
    leaders: u32,
    /// When the current leader was first seen.
    since: u64,
    /// The guessed time since then, where there is no clock.
    guessed: u64,
}

impl<'e> Watch<'e> {
    pub(crate) fn new(estimate: &'e Estimate, waiting: Waiting, looks: Option<u32>) -> Self {
        Watch { estimate, waiting, looks, tries: 0, leader: 0, leaders: 0, since: 0, guessed: 0 }
    }

    /// Waits a moment for the call of `leader`, the word `lead` of `coalesce.rs`: odd while a call is under way, so
    /// never the 0 with which a `Watch` begins. Returns false if the caller should wait no longer.
    #[cold]
    pub(crate) fn wait(&mut self, leader: usize) -> bool {
        self.tries += 1;
        if let Some(looks) = self.looks {
            let waits = self.tries <= looks;
            // guard survives: the yield is a hint to loom, which explores the other threads' steps anyway.
            if waits {
                sys::yield_now();
            }
            return waits;
        }
        if self.tries <= SPINS {
            (0..1 << self.tries).for_each(|_| core::hint::spin_loop());
            return true;
        }
        let now = sys::clock();
        if self.leader != leader {
            self.leader = leader;
            self.leaders += 1;
            self.since = now.unwrap_or_default();
            self.guessed = 0;
        }
        let usual = match self.waiting {
            Waiting::Awake => self.estimate.get().min(LONG),
            Waiting::Asleep => self.estimate.get(),
        };
        let waited = self.elapsed(now);
        let most = PATIENCE * u64::from(usual) / 4;
        // guard survives: at the limit itself one more wait, or none, is right.
        if waited > most {
            // Calls take longer than estimated, or this leader is stopped. From now on waiting callers wait longer
            // (while awake, at most as for a call of `LONG`) for the next leader, who measures its call.
            self.estimate.set(waited);
            return false;
        }
        if self.leaders > LEADERS {
            return false;
        }
        if usual > LONG {
            // Not past the end of the wait.
            let moment = (usual / 8).min((most - waited) as u32 + 1);
            sys::sleep(moment);
            self.guessed += u64::from(moment);
        } else {
            (0..PAUSES).for_each(|_| core::hint::spin_loop());
            self.guessed += NANOSECONDS_OF_PAUSES;
        }
        true
    }

    fn elapsed(&self, now: Option<u64>) -> u64 {
        now.map_or(self.guessed, |now| now.wrapping_sub(self.since))
    }

    /// The wait is over, because a call has ended in time. If the call was watched from its beginning and was shorter
    /// than the estimate, it lowers the estimate.
    pub(crate) fn is_served(&self) {
        if self.leaders < 2 {
            return;
        }
        self.estimate.lower_towards(clamped(self.elapsed(sys::clock())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait in which `leaders` were seen, one check each.
    fn beside(estimate: &Estimate, leaders: u32) -> Watch<'_> {
        let mut watch = Watch::new(estimate, Waiting::Awake, None);
        (0..SPINS).for_each(|_| assert!(watch.wait(1)));
        for leader in 1..=leaders {
            assert!(watch.wait(2 * leader as usize - 1));
        }
        watch
    }

    #[test]
    fn a_model_waits_for_a_number_of_looks() {
        let estimate = Estimate::new();
        let mut watch = Watch::new(&estimate, Waiting::Awake, Some(2));
        assert_eq!([1, 1, 1].map(|leader| watch.wait(leader)), [true, true, false]);
    }

    #[test]
    fn nobody_watches_more_than_so_many_leaders() {
        let estimate = Estimate::new();
        let mut watch = beside(&estimate, LEADERS);
        assert_eq!(watch.leaders, LEADERS);
        assert!(!watch.wait(99));
        // The first checks read no clock, and so see no leader.
        assert_eq!(beside(&estimate, 0).leaders, 0);
    }

    #[test]
    fn only_who_may_sleep_sleeps_and_only_where_calls_are_long() {
        // How long one wait is taken to be.
        let waits = |waiting, usual: u32| {
            let estimate = Estimate::new();
            estimate.set(usual.into());
            let mut watch = Watch::new(&estimate, waiting, None);
            (0..=SPINS).for_each(|_| assert!(watch.wait(1)));
            watch.guessed
        };
        assert_eq!(waits(Waiting::Awake, LONGEST), NANOSECONDS_OF_PAUSES);
        assert_eq!(waits(Waiting::Asleep, LONG), NANOSECONDS_OF_PAUSES);
        assert_eq!(waits(Waiting::Asleep, 2 * LONG), u64::from(LONG) / 4);
    }

    #[test]
    fn a_short_call_lowers_the_estimate_if_its_beginning_was_seen() {
        let estimate = Estimate::new();
        estimate.set(LONGEST.into());
        beside(&estimate, 1).is_served();
        assert_eq!(estimate.get(), LONGEST);
        // A round may be interrupted for longer than a call may take.
        let lowers = || {
            beside(&estimate, 2).is_served();
            estimate.get() < LONGEST
        };
        assert!((0..1_000).any(|_| lowers()));
    }

    #[test]
    fn an_estimate_goes_down_by_a_quarter_and_never_up() {
        let estimate = Estimate::new();
        estimate.set(5_000);
        estimate.lower_towards(1_000);
        assert_eq!(estimate.get(), 4_000);
        estimate.lower_towards(9_000);
        assert_eq!(estimate.get(), 4_000);
    }
}
