//! An event count: a condition variable for conditions that no lock protects. It lets a lock-free structure
//! put a thread to sleep until there is something in it.
//!
//! Whoever makes the condition true notifies: after every push, say, of which nearly all find nobody asleep.
//! So to notify is a light fence, a load and a branch. The sleeper announces itself, does the heavy fence,
//! and looks once more before it parks.
//!
//! ```text
//! scenario A       notifier                  sleeper
//! (fence.rs)       condition = 1             waiters = 1
//!                  light_fence()             heavy_fence()
//!                  r1 = waiters              r2 = condition
//!                  forbidden: r1 == 0 && r2 == 0
//!                  (the one wakes nobody, and the other goes to sleep: a lost wake-up)
//! ```
//!
//! Either the notifier sees the sleeper and takes the lock, or the sleeper sees the condition and stays
//! awake. What comes after that is under the lock and needs no fence: a notification moves the epoch, and
//! who announced itself in an earlier one does not park, or is woken.
//!
//! # Who pays
//!
//! The sleeper: microseconds for each time that it announces itself, before it parks or finds that it need
//! not. And the threads that run meanwhile, which the heavy fence interrupts. All that announce
//! themselves while somebody waits share one fence, by a ticket. A notifier pays for the lock, and for a wake-up, if somebody
//! waits whom no notification has reached yet; then again nothing until the next one announces itself.
//!
//! # When not to use it
//!
//! - When a thread sleeps for every few items: then a heavy fence costs more than the light ones save.
//! - When a lock protects the condition anyway: a condition variable needs no fence.
//! - When a signal handler notifies: it might wait for a lock that its own thread holds.
//!
//! # Modelled on
//!
//! Vyukov's event counts (1024cores.net). folly `synchronization/EventCount.h`@7997a1a: `prepareWait`, `wait`
//! and `cancelWait` are [`listen`](EventCount::listen), [`wait`](Listener::wait) and the drop of a
//! [`Listener`] here; its `notify` modifies the epoch every time. Eigen `ThreadPool/EventCount.h`: its
//! `Notify` begins with the full fence that is light here. There a notification goes to a thread that is
//! awake still, if there is one, or else to one that is parked; here to both.

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::PoisonError;

use crossbeam_utils::{Backoff, CachePadded};

use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::sync::{Condvar, Mutex, MutexGuard, Ticket, light_fence};

/// What threads sleep on until a condition holds, and who makes it hold notifies.
///
/// The condition is the user's, and must be looked at and made true by **atomic** accesses, relaxed or
/// stronger: those are what the fences order. Other data that goes with it is published by the condition's
/// own Release and Acquire, as without an event count.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// use cookbook::event_count::EventCount;
///
/// let (event, answer) = (EventCount::new(), AtomicU32::new(0));
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         answer.store(42, Relaxed);
///         event.notify_all();
///     });
///     let found = event.wait_until(|| match answer.load(Relaxed) {
///         0 => None,
///         answer => Some(answer),
///     });
///     assert_eq!(found, 42);
/// });
/// ```
pub struct EventCount {
    /// How many listen whom no notification has reached. Changes under the lock alone.
    waiters: CachePadded<AtomicUsize>,
    sleepers: Mutex<Sleepers>,
    condvar: Condvar,
    looks: u32,
}

/// What is under the lock.
#[derive(Default)]
struct Sleepers {
    /// Counts the notifications that came to the lock. 64 bits do not wrap.
    epoch: u64,
    /// How many are parked and are to stay so.
    parked: usize,
    /// How many of those that parked before this epoch may leave, one for each [`EventCount::notify_one`]:
    /// whomever else the condition variable wakes goes back to sleep.
    woken: usize,
    /// Whoever parked before this epoch may leave besides: [`EventCount::notify_all`] has reached it, and
    /// nobody that parked since can leave in its place.
    all_before: u64,
    /// When the count of waiters left 0 last: for all that wait since.
    announced: Option<Ticket>,
}

/// To look so often takes some microseconds, about as many as it costs to sleep and be woken.
const LOOKS: u32 = 16;

impl EventCount {
    /// Nobody sleeps yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_looks(LOOKS)
    }

    /// One whose [`wait_until`](Self::wait_until) looks that often, and once at least, before it announces
    /// itself: the longer it stays awake, the fewer heavy fences.
    #[must_use]
    pub fn with_looks(looks: u32) -> Self {
        EventCount {
            waiters: CachePadded::new(AtomicUsize::new(0)),
            sleepers: Mutex::new(Sleepers::default()),
            condvar: Condvar::new(),
            looks,
        }
    }

    /// Wakes one thread, if any waits. Call it **after** the atomic access that made the condition true.
    ///
    /// Whoever listens without being parked yet will not park; and of those that are parked, any one wakes.
    /// So a listener that leaves without having parked takes no wake-up away from one that is parked. All
    /// that wait must be able to do what the notification is for, and the one that wakes must do it, or
    /// notify in its turn; otherwise use [`notify_all`](Self::notify_all).
    ///
    /// Orders the accesses before it against those after [`listen`](Self::listen): a light fence, which
    /// pairs with the heavy one there. What came before it is visible to whom it has woken.
    ///
    /// Wait-free while nobody waits. Otherwise it takes a lock, which no thread holds but for a few
    /// instructions or a wake-up, and makes a system call if somebody is parked: not async-signal-safe.
    #[inline]
    pub fn notify_one(&self) {
        if self.is_awaited() {
            self.wake(false);
        }
    }

    /// As [`notify_one`](Self::notify_one), but wakes all that are parked.
    #[inline]
    pub fn notify_all(&self) {
        if self.is_awaited() {
            self.wake(true);
        }
    }

    #[inline]
    fn is_awaited(&self) -> bool {
        // Light fence: the condition was made true before we look for waiters.
        // Pairs with: the heavy fence in `listen` (scenario A).
        //  - the heavy fence came first: we see the waiter, and go to the lock;
        //  - our fence came first: the waiter looks after that, and sees the condition.
        light_fence();
        // Relaxed: the fence orders it after the condition, and more is looked up under the lock. Who has
        // been taken off the count is awake, and fences anew before it parks.
        self.waiters.load(Relaxed) != 0
    }

    /// Wakes all that are parked, or one.
    #[cold]
    fn wake(&self, all: bool) {
        let mut sleepers = self.lock();
        sleepers.epoch += 1;
        // The condition variable under the lock: after it another may park, and would be woken instead.
        if all {
            sleepers.all_before = sleepers.epoch;
            sleepers.woken = 0;
            sleepers.parked = 0;
            self.condvar.notify_all();
        } else if sleepers.parked > 0 {
            sleepers.woken += 1;
            sleepers.parked -= 1;
            self.condvar.notify_one();
        }
        // Everybody else has been reached. Relaxed: as in `is_awaited`; writers are ordered by the lock.
        self.waiters.store(sleepers.parked, Relaxed);
    }

    /// Sleeps until `condition` returns something, and returns that. `condition` is called any number of
    /// times, without a lock held. If it panics, so does this, and nobody is left announced.
    ///
    /// Costs one call of `condition` if that returns something. Then it looks a few times more; then, for
    /// each time that it is about to sleep, a heavy fence. What it wakes to may be gone already: it sleeps
    /// again. A `condition` that notifies this event count keeps its own thread awake, by a heavy fence each
    /// time.
    ///
    /// # Aborts
    ///
    /// As [`listen`](Self::listen).
    pub fn wait_until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = condition() {
                return found;
            }
            let backoff = Backoff::new();
            for _ in 1..self.looks {
                backoff.spin();
                if let Some(found) = condition() {
                    return found;
                }
            }
            let listener = self.listen();
            if let Some(found) = condition() {
                return found;
            }
            listener.wait();
        }
    }

    /// Announces that this thread is about to sleep: the low-level part of
    /// [`wait_until`](Self::wait_until). **Look at the condition after it**, and then either
    /// [`wait`](Listener::wait), or drop the listener to stay awake.
    ///
    /// Orders the accesses before a notification against those after it, by a heavy fence: a notifier that
    /// did not notice the listener has made its condition true for the eyes of this thread. It costs
    /// microseconds, and interrupts the threads that run; for all that announce themselves while somebody
    /// waits it is one heavy fence.
    ///
    /// # Panics
    ///
    /// If `usize::MAX` listeners were forgotten since the last notification.
    ///
    /// # Aborts
    ///
    /// If the heavy fence cannot give its guarantee any more, after the process has decided on asymmetric
    /// fences: see [`asymfence::heavy_fence`].
    pub fn listen(&self) -> Listener<'_> {
        let mut sleepers = self.lock();
        // Relaxed, both: the heavy fence orders it before the look that follows; writers are ordered by the
        // lock.
        let others = self.waiters.load(Relaxed);
        self.waiters.store(others.checked_add(1).expect("fewer are forgotten"), Relaxed);
        // One ticket, hence one heavy fence, for all that listen while the count is not 0: a notifier that
        // misses this announcement sees an earlier one, which takes it to the lock just as well.
        let announced = match sleepers.announced {
            Some(announced) if others != 0 => announced,
            _ => Ticket::now(),
        };
        sleepers.announced = Some(announced);
        let epoch = sleepers.epoch;
        // Not under the lock: the fence takes long.
        drop(sleepers);
        // Heavy fence, unless another has come since the count left 0: that stands before we look at the
        // condition.
        // Pairs with: the light fence in `is_awaited` (scenario A).
        announced.wait();
        Listener { event: self, epoch }
    }

    /// Nothing panics while it is held, so a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for EventCount {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EventCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: a number for reports.
        let waiters = self.waiters.load(Relaxed);
        f.debug_struct("EventCount").field("waiters", &waiters).finish_non_exhaustive()
    }
}

/// A thread that has announced that it is about to sleep. Dropped, it stays awake.
///
/// One that is forgotten costs the next notification a lock, and no more.
#[derive(Debug)]
#[must_use = "look at the condition, and `wait` if it does not hold"]
pub struct Listener<'e> {
    event: &'e EventCount,
    /// That in which it was announced.
    epoch: u64,
}

impl Listener<'_> {
    /// Sleeps until a notification; returns at once if there was one since [`EventCount::listen`]. What
    /// came before that notification is visible.
    pub fn wait(self) {
        // A notification takes us off the count: there is nothing to take back.
        let Listener { event, epoch } = *ManuallyDrop::new(self);
        let mut sleepers = event.lock();
        if sleepers.epoch != epoch {
            return;
        }
        sleepers.parked += 1;
        loop {
            sleepers = event.condvar.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
            if epoch < sleepers.all_before {
                return;
            }
            // Whoever parked in this very epoch stays: those that may leave parked before.
            if epoch < sleepers.epoch && sleepers.woken > 0 {
                sleepers.woken -= 1;
                return;
            }
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let sleepers = self.event.lock();
        // Otherwise a notification has taken us off the count.
        if sleepers.epoch == self.epoch {
            // Relaxed: who sees us still takes the lock in vain. Writers are ordered by the lock.
            self.event.waiters.fetch_sub(1, Relaxed);
        }
    }
}
