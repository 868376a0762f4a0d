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
/// A caller watches at most this many leaders. If none of them serves it, their calls have failed.
const LEADERS: u32 = 4;
/// How often a caller checks before it first reads the clock.
const SPINS: u32 = 4;
/// Pauses between two checks after that, and a guess of how long they take, for targets without a clock.
const PAUSES: u32 = 32;
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
    /// The number of the current leader's call.
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

    /// Waits a moment for the call of `leader`, whose number is odd. Returns false if the caller should wait no longer.
    #[cold]
    pub(crate) fn wait(&mut self, leader: usize) -> bool {
        self.tries += 1;
        if let Some(looks) = self.looks {
            if self.tries <= looks {
                sys::yield_now();
            }
            return self.tries <= looks;
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
        if waited > most {
            // Calls take longer than estimated, or this leader is stopped. From now on waiting callers wait longer
            // for the next leader, who measures its call.
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
        let (took, usual) = (clamped(self.elapsed(sys::clock())), self.estimate.get());
        if took < usual {
            self.estimate.set(u64::from(usual - (usual - took) / 4));
        }
    }
}
