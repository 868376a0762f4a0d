//! An event count: a condition variable for conditions that no lock protects. It lets a lock-free structure
//! put a thread to sleep until there is something in it.
//!
//! The thread that makes the condition true notifies, after every push for example. Nearly always no thread is asleep.
//! Then a notification is a light fence, a load and a branch. The sleeper announces itself, executes a heavy fence, and
//! looks at the condition once more before it parks.
//!
//! ```text
//! A (store         notifier                  sleeper
//! buffering)       condition = 1             waiters = 1
//!                  light_fence()             heavy_fence()
//!                  r1 = waiters              r2 = condition
//!                  forbidden: r1 == 0 && r2 == 0
//!                  (the one wakes nobody, and the other goes to sleep: a lost wake-up)
//! ```
//!
//! Either the notifier sees the sleeper, or the sleeper sees the condition and stays awake. In the first case the
//! notifier takes the lock of the event count and adds one to the number of notifications, the *epoch*. Under that lock
//! no fence is needed: a sleeper that announced itself in an earlier epoch does not park, or is parked already and can
//! be woken.
//!
//! # Cost
//!
//! A sleeper: microseconds each time it announces itself, whether it then parks or not. The heavy fence also interrupts
//! the threads that run meanwhile. A sleeper that announces itself while there are others that no notification has
//! reached executes no heavy fence, if one has been executed since the first of these announced itself (a ticket
//! tells). A notifier takes the lock and wakes a thread only if there is a sleeper that no notification has reached
//! yet. Once all sleepers have been reached, notifications take no lock until the next sleeper announces itself.
//!
//! If sleepers come more often than once in a millisecond, both sides switch to full fences, until no sleeper has come
//! for a millisecond ([`asymfence::Bias`]). (Only at each 1,021st notification does a thread check whether that is so.
//! Two checks, a millisecond apart, must find no sleeper between them.) So there are at most two heavy fences in a
//! millisecond, and one more for each sleeper that comes at the same moment as the first (`Bias` names more
//! exceptions). An event count costs hardly more than one with full fences, however often threads sleep.
//!
//! # When not to use it
//!
//! - When a lock protects the condition anyway: a condition variable needs no fence.
//! - When a signal handler notifies: it might wait for a lock that its own thread holds.
//!
//! # Modelled on
//!
//! Vyukov's event counts (1024cores.net). folly `synchronization/EventCount.h`@7997a1a: `prepareWait`, `wait` and
//! `cancelWait` are [`listen`](EventCount::listen), [`wait`](Listener::wait) and the drop of a [`Listener`] here; its
//! `notify` modifies the epoch every time. Eigen `ThreadPool/EventCount.h`: its `Notify` begins with the full fence
//! that is light here. In Eigen a notification goes to a thread that is still awake, if there is one, and otherwise to
//! a parked one. Here it goes to both. A task that was woken and is then dropped passes the notification on, as in
//! event-listener 5 and tokio's `Notify`.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{fmt, mem};

use crossbeam_utils::{Backoff, CachePadded};

use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::sync::{
    Bias, Condvar, Mutex, MutexGuard, Ticket, is_over, now, now_and_then, sleep_on, with_each,
};

/// What threads and tasks sleep on until a condition holds. The thread that makes it hold notifies.
///
/// The condition is yours. Look at it and make it true by **atomic** accesses, relaxed or stronger: these are what the
/// fences order. Other data is published by the Release and Acquire of your condition, as without an event count.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// use asymfence_cookbook::event_count::EventCount;
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
    /// The number of listeners that no notification has reached. Changes under the lock alone.
    waiters: CachePadded<AtomicUsize>,
    /// The fences: notifiers are the frequent side.
    bias: Bias,
    sleepers: Mutex<Sleepers>,
    condvar: Condvar,
    looks: u32,
}

/// What is under the lock.
#[derive(Default)]
struct Sleepers {
    /// Counts the notifications that came to the lock. 64 bits do not wrap.
    epoch: u64,
    /// How many threads are parked and are to stay so.
    parked: usize,
    /// How many of the threads that parked before the current epoch may leave: a notification that does not reach all
    /// adds the number of threads that it wakes. If the condition variable wakes more, the others go back to sleep.
    woken: usize,
    /// All threads that parked before the epoch in this field may leave too: a notification for all has reached them. A
    /// thread that parked since cannot leave in their place.
    all_before: u64,
    /// The tasks that are parked, the oldest first. A task that is woken is removed.
    tasks: BTreeMap<u64, Waker>,
    /// The number of the next task. 64 bits do not wrap.
    next_task: u64,
    /// Taken when the count of waiters last rose from 0, for all that have come since. `None` if the fences were full
    /// then.
    announced: Option<Ticket>,
}

/// To look so often takes some microseconds, about as many as it costs to sleep and be woken.
const LOOKS: u32 = 16;

/// If sleepers come more often than once in this time, both sides switch to full fences.
const PAUSE: Duration = Duration::from_millis(1);

impl EventCount {
    /// Creates an event count. Calls [`asymfence::init`], which decides the strategy of the process if nothing has.
    #[must_use]
    pub fn new() -> Self {
        Self::with_looks(LOOKS)
    }

    /// Creates an event count whose [`wait_until`](Self::wait_until) calls its condition `looks` times (at least once)
    /// before it announces itself. The longer a thread looks, the less often it sleeps, and the fewer heavy fences it
    /// executes.
    #[must_use]
    pub fn with_looks(looks: u32) -> Self {
        EventCount {
            waiters: CachePadded::new(AtomicUsize::new(0)),
            bias: Bias::biased(PAUSE),
            sleepers: Mutex::new(Sleepers::default()),
            condvar: Condvar::new(),
            looks,
        }
    }

    /// Sets the pause. If sleepers come more often than once in a `pause`, the fences become full ones. After a pause
    /// without a sleeper they become asymmetric again. A thread that notifies looks only at each 1,021st notification
    /// whether that is so, and two looks are needed, a pause apart. So if notifications are seldom, the fences stay
    /// full for longer. The default pause is a millisecond.
    ///
    /// # Panics
    ///
    /// As [`Bias::new`]: a pause is from a microsecond to half a minute.
    #[must_use]
    pub fn with_pause(mut self, pause: Duration) -> Self {
        self.bias = Bias::biased(pause);
        self
    }

    /// Wakes one thread or task, if any waits. Call it **after** the atomic access that made the condition true.
    ///
    /// Listeners that are not parked yet will not park. Of the parked ones any one wakes. So a listener that leaves
    /// without having parked takes no wake-up away from a parked one. Every thread that waits must be able to do what
    /// the notification is for. The one that wakes must do it, or notify another; otherwise use
    /// [`notify_all`](Self::notify_all).
    ///
    /// Orders the accesses before it against those after [`listen`](Self::listen): its light fence pairs with the heavy
    /// fence there. The thread or task that it wakes sees what came before the notification.
    ///
    /// If no thread waits, it is a light or a full fence and a load. After a busy phase of sleepers one notification
    /// also executes a heavy fence, to make the fences asymmetric again (at most one in a [pause](Self::with_pause)).
    /// If a thread waits, it takes a lock, which threads hold only for a few instructions, an allocation or the
    /// wake-ups, and makes a system call if a thread is parked. Not for signal handlers, and not for global allocators,
    /// because tasks allocate while they hold the lock.
    ///
    /// If a [`Waker`] panics, the others are woken, and then the panic continues.
    #[inline]
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// As [`notify_one`](Self::notify_one), but wakes all that are parked.
    #[inline]
    pub fn notify_all(&self) {
        self.notify(usize::MAX);
    }

    /// As [`notify_one`](Self::notify_one), but wakes at most `most` of those that are parked. For a caller that has
    /// pushed as many items. (As with every notification, listeners that are not parked yet will not park, also if
    /// `most` is 0.)
    #[inline]
    pub fn notify(&self, most: usize) {
        if self.is_awaited() {
            self.wake(most);
        }
    }

    #[inline]
    fn is_awaited(&self) -> bool {
        // Light fence: the condition was made true before we look for waiters.
        // Pairs with: the heavy fence in `listen` (scenario A).
        //  - the heavy fence came first: we see the waiter, and go to the lock;
        //  - our fence came first: the waiter looks after that, and sees the condition.
        // guard survives: `try_restore_at` decides itself whether it is time. Asked too often, it only costs time.
        if !self.bias.light_fence() && now_and_then() {
            self.restore();
        }
        // Relaxed: the fence orders it after the condition, and more is looked up under the lock. A
        // sleeper that was taken off the count is awake, and fences again before it parks.
        self.waiters.load(Relaxed) != 0
    }

    /// Makes the fences asymmetric again, if no sleeper has come for a pause.
    #[cold]
    fn restore(&self) {
        // If the heavy fence fails both sides stay with full ones.
        let _ = self.bias.try_restore_at(now());
    }

    /// Wakes so many that are parked, or all.
    #[cold]
    fn wake(&self, most: usize) {
        let mut sleepers = self.lock();
        sleepers.epoch += 1;
        let tasks: Vec<Waker>;
        // The condition variable is notified under the lock: once that is free another thread may park, and would be
        // woken instead.
        if most >= sleepers.parked + sleepers.tasks.len() {
            sleepers.all_before = sleepers.epoch;
            sleepers.woken = 0;
            // guard survives: the bound by `>=` would notify a condition variable on which nobody sleeps.
            if mem::take(&mut sleepers.parked) > 0 {
                self.condvar.notify_all();
            }
            tasks = mem::take(&mut sleepers.tasks).into_values().collect();
        } else {
            let first = most.min(sleepers.tasks.len());
            tasks = (0..first)
                .filter_map(|_| sleepers.tasks.pop_first())
                .map(|(_, waker)| waker)
                .collect();
            sleepers.woken += most - first;
            sleepers.parked -= most - first;
            (first..most).for_each(|_| self.condvar.notify_one());
        }
        // All other waiters have been reached. Relaxed: as in `is_awaited`; the lock orders the writers.
        self.waiters.store(sleepers.parked + sleepers.tasks.len(), Relaxed);
        // A waker may be any code, so it runs without the lock.
        drop(sleepers);
        with_each(tasks, Waker::wake);
    }

    /// Sleeps until `condition` returns something, and returns that. `condition` is called any number of
    /// times, without a lock held. If it panics, so does this, and nobody is left announced.
    ///
    /// If `condition` returns something at once, that call is the whole cost. Otherwise it is called a few times more,
    /// and then a heavy fence is executed each time that the thread is about to sleep. If what the thread was woken for
    /// is gone already, it sleeps again. If `condition` itself notifies this event count, the thread never sleeps, and
    /// executes a fence each time.
    ///
    /// # Aborts
    ///
    /// As [`listen`](Self::listen).
    pub fn wait_until<T>(&self, condition: impl FnMut() -> Option<T>) -> T {
        self.wait_before(None, condition).expect("there is no deadline")
    }

    /// As [`wait_until`](Self::wait_until), but for the `timeout` at most: then it looks once more, and returns what it
    /// finds. (The time is read only when the thread has announced itself. So if a call of `condition` takes long,
    /// there may be up to as many calls after the `timeout` as [`with_looks`](Self::with_looks) says, and two more.)
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use asymfence_cookbook::event_count::EventCount;
    /// let event = EventCount::new();
    /// let nothing = event.wait_until_timeout(Duration::from_millis(1), || None::<()>);
    /// assert_eq!(nothing, None);
    /// ```
    pub fn wait_until_timeout<T>(
        &self,
        timeout: Duration,
        condition: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.wait_before(now().checked_add(timeout), condition)
    }

    fn wait_before<T>(
        &self,
        deadline: Option<Duration>,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        loop {
            let mut found = condition();
            let backoff = Backoff::new();
            for _ in 1..self.looks {
                if found.is_some() {
                    break;
                }
                backoff.spin();
                found = condition();
            }
            if found.is_some() {
                return found;
            }
            let listener = self.listen();
            let found = condition();
            if found.is_some() {
                return found;
            }
            // The deadline also after a notification: otherwise it would not count where these come all the time.
            if !listener.wait_before(deadline) || deadline.is_some_and(is_over) {
                return condition();
            }
        }
    }

    /// As [`wait_until`](Self::wait_until), for a task: it does not block the thread, and works with any executor. It
    /// looks once before it announces itself.
    ///
    /// It may be dropped at any time, as by a timeout: if a notification that did not wake all had woken it, that
    /// notification is passed on.
    ///
    /// ```
    /// use asymfence_cookbook::event_count::EventCount;
    ///
    /// async fn pop(event: &EventCount, try_pop: impl Fn() -> Option<u32>) -> u32 {
    ///     event.wait_until_async(try_pop).await
    /// }
    /// ```
    pub async fn wait_until_async<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(found) = condition() {
                return found;
            }
            let listener = self.listen();
            if let Some(found) = condition() {
                return found;
            }
            listener.await;
        }
    }

    /// Announces that this thread or task is about to sleep: the low-level part of
    /// [`wait_until`](Self::wait_until). **Look at the condition after it**, and then either
    /// [`wait`](Listener::wait), or `.await` the listener, or drop it to stay awake.
    ///
    /// Orders a notifier's accesses before its notification against this thread's accesses after this call, by a heavy
    /// fence: if a notifier did not see this listener, this thread sees the condition that the notifier made true. The
    /// heavy fence costs microseconds, and interrupts the running threads. A listener executes none if there are others
    /// that no notification has reached, and one has been executed since the first of these. If listeners come more
    /// often than once in a [pause](Self::with_pause), it is a full fence.
    ///
    /// # Panics
    ///
    /// If `usize::MAX` listeners were forgotten since the last notification.
    ///
    /// # Aborts
    ///
    /// If the heavy fence can no longer keep its guarantee, after the process has decided on asymmetric fences: see
    /// [`asymfence::heavy_fence`].
    pub fn listen(&self) -> Listener<'_> {
        let mut sleepers = self.lock();
        // Relaxed, both: the heavy fence orders the store before the look that follows; the lock orders the writers.
        let others = self.waiters.load(Relaxed);
        self.waiters.store(others.checked_add(1).expect("fewer are forgotten"), Relaxed);
        // One ticket, hence one heavy fence, for all that listen while the count is not 0: a notifier that
        // misses this announcement sees an earlier one, which takes it to the lock just as well.
        if others == 0 {
            sleepers.announced = self.bias.is_biased().then(Ticket::now);
        }
        let shared = sleepers.announced.filter(|_| others != 0);
        let epoch = sleepers.epoch;
        // Not under the lock: the fence takes long.
        drop(sleepers);
        // Heavy fence: the announcement comes before our look at the condition. If another heavy fence has come since
        // the count left 0, that one serves: the first announcement came before it.
        // Pairs with: the light fence in `is_awaited` (scenario A).
        match shared {
            Some(announced) => self.bias.wait(announced),
            None => self.bias.heavy_fence(now),
        }
        Listener { event: self, epoch }
    }

    /// Withdraws a sleeper that was announced in `epoch`: it stays awake.
    fn leave(&self, epoch: u64) {
        let sleepers = self.lock();
        // In a later epoch a notification has taken us off the count.
        if sleepers.epoch == epoch {
            // Relaxed: a notifier that still counts us takes the lock in vain. The lock orders the writers.
            self.waiters.fetch_sub(1, Relaxed);
        }
    }

    /// Who panics while it is held has changed nothing, so a poisoned lock is as good.
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

/// The announcement of a thread or a task that is about to sleep. If it is dropped, the thread or the task stays awake.
///
/// If it is forgotten, the next notification takes a lock for nothing.
#[derive(Debug)]
#[must_use = "look at the condition, and `wait` if it does not hold"]
pub struct Listener<'e> {
    event: &'e EventCount,
    /// The epoch in which it was announced.
    epoch: u64,
}

impl Listener<'_> {
    /// Sleeps until a notification; returns at once if there was one since [`EventCount::listen`]. What
    /// came before that notification is visible.
    pub fn wait(self) {
        self.wait_before(None);
    }

    /// As [`wait`](Self::wait), but for so long at most. Returns whether there was a notification. If so, this thread
    /// has to do what the notification was for.
    pub fn wait_timeout(self, timeout: Duration) -> bool {
        self.wait_before(now().checked_add(timeout))
    }

    fn wait_before(self, deadline: Option<Duration>) -> bool {
        let Listener { event, epoch } = *mem::ManuallyDrop::new(self);
        let mut sleepers = event.lock();
        if sleepers.epoch != epoch {
            // A notification has taken us off the count: there is nothing to take back.
            return true;
        }
        sleepers.parked += 1;
        loop {
            let is_over;
            (sleepers, is_over) = sleep_on(&event.condvar, &event.sleepers, sleepers, deadline);
            if epoch < sleepers.all_before {
                return true;
            }
            // A sleeper that parked in this very epoch stays. Only those that parked in an earlier epoch may leave.
            if epoch < sleepers.epoch && sleepers.woken > 0 {
                sleepers.woken -= 1;
                return true;
            }
            if is_over {
                // No notification is ours: we are among those that are to stay.
                sleepers.parked -= 1;
                // Relaxed: as in `leave`.
                event.waiters.fetch_sub(1, Relaxed);
                return false;
            }
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.event.leave(self.epoch);
    }
}

impl<'e> IntoFuture for Listener<'e> {
    type Output = ();
    type IntoFuture = Waiting<'e>;

    /// The future of a task that waits as a thread does in [`wait`](Self::wait).
    fn into_future(self) -> Waiting<'e> {
        let Listener { event, epoch } = *mem::ManuallyDrop::new(self);
        Waiting { event, epoch, place: Place::Announced }
    }
}

/// The future of a task that waits for a notification, with any executor. If it is dropped, the task waits no longer.
/// If a notification that did not wake all had woken it, that notification is passed on to another.
///
/// If it is forgotten, it may keep the notification that reaches it.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub struct Waiting<'e> {
    event: &'e EventCount,
    /// The epoch in which it was announced.
    epoch: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Announced,
    /// The task is parked under this number, or was woken and taken out.
    Parked(u64),
    Gone,
}

impl Future for Waiting<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Wakers may be any code: none is cloned or dropped under the lock.
        let waker = context.waker().clone();
        let mut sleepers = self.event.lock();
        match self.place {
            Place::Announced if sleepers.epoch == self.epoch => {
                let number = sleepers.next_task;
                sleepers.next_task += 1;
                sleepers.tasks.insert(number, waker);
                drop(sleepers);
                self.place = Place::Parked(number);
                Poll::Pending
            }
            Place::Parked(number) if sleepers.tasks.contains_key(&number) => {
                let before = sleepers.tasks.insert(number, waker);
                drop(sleepers);
                drop(before);
                Poll::Pending
            }
            // A notification has taken us off the count, or out of those that are parked.
            _ => {
                drop(sleepers);
                self.place = Place::Gone;
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Waiting { event, epoch, place } = self;
        match *place {
            Place::Announced => event.leave(*epoch),
            Place::Parked(number) => {
                let mut sleepers = event.lock();
                let waker = sleepers.tasks.remove(&number);
                if waker.is_some() {
                    // Relaxed: as in `EventCount::leave`.
                    event.waiters.fetch_sub(1, Relaxed);
                }
                // A `notify` that did not reach all has woken this task: pass it on, so that another sleeper does what
                // the notification is for. (If nobody is parked nothing is lost: a sleeper that announces itself later
                // sees the condition.)
                let passes_on = waker.is_none() && *epoch >= sleepers.all_before;
                drop(sleepers);
                drop(waker);
                if passes_on {
                    event.wake(1);
                }
            }
            Place::Gone => {}
        }
    }
}
