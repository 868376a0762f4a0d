//! How long a caller waits for the heavy call of another: about twice as long as a call takes.
//!
//! All of it is advice, and Relaxed: who stops waiting makes a call of its own, which is always right.
//! There is no estimate to keep while nobody waits: callers that wait correct it, by what they see.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::sys::{self, Waiting};

/// In units of the estimate: a leader that takes longer is taken to be stopped.
const PATIENCE: u64 = 2;
/// Nanoseconds. Shorter calls are waited for awake: to sleep and wake up takes about as long.
const LONG: u32 = 50_000;
/// Bounds of the estimate, in nanoseconds. The upper one bounds what a leader that is stopped for good
/// costs; the lower one is about the time in which a lead is handed on.
const SHORTEST: u32 = 500;
const LONGEST: u32 = 100_000_000;
/// So many leaders that served nobody were watched: a call fails again and again.
const LEADERS: u32 = 4;
/// Looks that come before the first look at the clock.
const SPINS: u32 = 4;
/// Pauses between two looks after that, and how long they take where there is no clock: a guess.
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
        self.0.load(Relaxed)
    }

    fn set(&self, took: u64) {
        self.0.store(clamped(took), Relaxed);
    }

    /// Runs `call`, and takes for the estimate how long that took.
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
    /// How often to look in all, instead of how long: for models, which have no clock.
    looks: Option<u32>,
    tries: u32,
    /// Who leads, by the number of the call, how many have led before it, and since when it leads.
    leader: usize,
    leaders: u32,
    since: u64,
    /// The time that passed since then where there is no clock.
    guessed: u64,
}

impl<'e> Watch<'e> {
    pub(crate) fn new(estimate: &'e Estimate, waiting: Waiting, looks: Option<u32>) -> Self {
        Watch { estimate, waiting, looks, tries: 0, leader: 0, leaders: 0, since: 0, guessed: 0 }
    }

    /// Lets a moment pass of the call of `leader`, whose number is odd. False if it is not to be waited
    /// for any longer.
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
        if waited > PATIENCE * u64::from(usual) {
            // A call takes longer than we thought, or this one is stopped. The others that wait now have
            // more patience with the next; whoever makes that measures it.
            self.estimate.set(waited);
            return false;
        }
        if self.leaders > LEADERS {
            return false;
        }
        if usual > LONG {
            sys::sleep(usual / 8);
            self.guessed += u64::from(usual / 8);
        } else {
            (0..PAUSES).for_each(|_| core::hint::spin_loop());
            self.guessed += NANOSECONDS_OF_PAUSES;
        }
        true
    }

    fn elapsed(&self, now: Option<u64>) -> u64 {
        now.map_or(self.guessed, |now| now.wrapping_sub(self.since))
    }

    /// The wait is over, since a call has ended in time. One that was watched from its beginning lowers
    /// the estimate, if it was shorter.
    pub(crate) fn is_served(&self) {
        if self.leaders < 2 {
            return;
        }
        let (took, usual) = (clamped(self.elapsed(sys::clock())), self.estimate.get());
        if took < usual {
            self.estimate.set(u64::from(usual - (usual - took) / 8));
        }
    }
}
