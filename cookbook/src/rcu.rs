//! Read-copy-update: readers read a value that writers replace as a whole. A read costs a light fence, and two stores
//! to a slot of the reader's own.
//!
//! For a value that is read all the time and replaced now and then: a routing table, a configuration, a list of
//! listeners. A reader does not wait, and writes no memory that another reader writes. A writer that replaces the value
//! waits for the readers that may still see the old one (the *grace period*), and then owns the old one.
//!
//! ```text
//!                       reader                      writer
//!                       slot = period               current = new, ticket
//!                       light_fence()               heavy_fence(), its own or another's
//!                       value = current             period = period + 1
//!                       ...                         wait until slot is OUTSIDE or >= period
//!                       slot = OUTSIDE              the old value is the writer's
//!                       forbidden: value is old, and the writer has not waited for it
//! ```
//!
//! This is store buffering (each side stores, fences, and loads what the other side stores), with a counter of periods.
//! The heavy fence reaches a reader at one point of its program:
//!
//! - after the reader's light fence: then the writer sees the reader's slot (or a later store to it). The period in the
//!   slot was read before the writer's increment, so it is an old one, and the writer waits for the reader;
//! - before the light fence: then the reader loads the new value. What it wrote into its slot does not matter.
//!
//! So it does not matter when the reader read the counter, or how many writers there are, because the numbers only
//! grow. The counter is needed for progress: a writer does not wait for readers that begin after the increment, and so
//! not for ever if readers keep coming.
//!
//! # Cost
//!
//! A reader: to begin, a load of the period, a store to its slot, a light fence and a load of the value; to end, a
//! store to its slot. A nested guard costs only the load of the value. Every guard is also counted, in memory that only
//! its thread uses. The stores to the slot are Release, which on x86 is a plain store.
//!
//! A writer: a swap, a heavy fence, a lock, a load of every slot, and the wait. A writer takes a ticket when it
//! unlinks. It executes the heavy fence only when it checks or waits for the grace period, and not at all if some
//! thread has executed one since. In this way several waiting values, or several concurrent writers, share one heavy
//! fence. If no reader is registered a writer costs a lock and a full fence, and no heavy fence. A writer waits neither
//! for another writer's grace period nor for a reader that only the other writer has to wait for. Registering a reader
//! takes a lock and an allocation: once for each thread, not for each read.
//!
//! A writer that waits long sleeps, each time at most as long as it has waited already, and at most a millisecond (and
//! the thread's timer slack, prctl(2) PR_SET_TIMERSLACK). A reader that leaves wakes no writer, and does nothing extra if
//! a writer waits.
//!
//! # When not to use it
//!
//! - When readers stop in the middle, for input or for a lock: writers wait as long, or keep everything that they would
//!   free. A stopped reader with a hazard pointer, or with an `Arc`, keeps only the object that it holds.
//! - When values are replaced about as often as they are read: then each replacement needs its own heavy fence.
//! - When a thread may go on with an old value for as long as it likes: `arc_swap::Cache` reads faster.
//! - When threads that read come and go: use something that keeps its readers in thread-locals.
//!
//! # Modelled on
//!
//! liburcu's memb flavour, `include/urcu/static/urcu-memb.h@v0.13.2` and `src/urcu.c` there. What differs:
//!
//! - The counter has 64 bits and only grows, and a grace period is one pass over the slots. liburcu's counter has one
//!   bit, the phase. A reader that is delayed between its load of the phase and its store may write a phase that has
//!   become current again. So liburcu makes two passes. Here such a reader writes a number that is too small, and the
//!   writer waits for it. (2⁶⁴ grace periods of 100 ns take 58,000 years. It needs atomics of 64 bits.)
//! - There is no heavy fence at the end of a grace period. liburcu has one there, because the store at the end of a
//!   read is a plain one. Here that store is a release, and the writer's load of the slot acquires it.
//! - A writer that waits spins, yields and sleeps for a time. There is no futex, so the end of a read needs no fence
//!   and no look at one.
//! - Deferred work has no thread of its own ([`Rcu::defer`]): the threads that defer run what is due. (liburcu's
//!   `urcu-defer` has such a thread. There a thread that defers runs its own queue only when that is full.)

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64};
use crate::sync::{Arc, Mutex, MutexGuard, Ticket, light_fence, outermost, rest, with_each};

/// A value that readers see as it is, while writers put another in its place.
///
/// ```
/// use asymfence_cookbook::rcu::Rcu;
///
/// let limits = Rcu::new([10, 20]);
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let reader = limits.reader(); // once
///         let now = reader.read(); // at every use
///         assert!(now[0] < now[1]);
///     });
///     let old = limits.replace(Box::new([30, 40]));
///     assert_eq!(*old, [10, 20]); // nobody else has it: it is ours
/// });
/// ```
///
/// `Rcu<()>` is for links of your own. A reader follows them while it has a guard. A writer that has unlinked an object
/// calls [`synchronize`](Rcu::synchronize) before it frees the object.
pub struct Rcu<T> {
    /// From a box.
    current: AtomicPtr<T>,
    /// Shared with every wait for a grace period, which may outlive the `Rcu`.
    readers: Arc<Readers>,
    deferred: Mutex<Deferred>,
    /// `AtomicPtr<T>` is `Send` and `Sync` for every `T`. With this field the implementations below decide.
    owns: PhantomData<*mut T>,
}

// SAFETY: it owns the value, as a box does.
unsafe impl<T: Send> Send for Rcu<T> {}
// SAFETY: threads that share it read the value (`Sync`), and the one that replaces it gets the old
// value (`Send`).
unsafe impl<T: Send + Sync> Sync for Rcu<T> {}

impl<T> fmt::Debug for Rcu<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No output is made while a lock is held: the `fmt::Write` behind `f` may be any code, and may panic, wait, or
        // use this `Rcu`.
        let readers = self.readers.slots().len();
        let deferred = self.deferred().waiting();
        f.debug_struct("Rcu")
            .field("readers", &readers)
            .field("deferred", &deferred)
            .finish_non_exhaustive()
    }
}

/// The registered readers, and the clock of their reads.
struct Readers {
    /// The number of the period that goes on. Never `OUTSIDE`.
    period: AtomicU64,
    slots: Mutex<Vec<Arc<Slot>>>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As in the `Debug` of `Rcu`: the lock is held for this line alone.
        let registered = self.slots().len();
        f.debug_struct("Readers").field("registered", &registered).finish_non_exhaustive()
    }
}

/// Done after a grace period.
type Work = Box<dyn FnOnce() + Send>;

/// What waits for a grace period.
#[derive(Default)]
struct Deferred {
    /// Not sealed yet: it has no grace period.
    open: VecDeque<Work>,
    /// The oldest first. The last few may wait for the heavy fence that begins their grace period.
    sealed: VecDeque<Batch>,
    /// Batches that were ever sealed.
    count: u64,
}

/// What waits for the same grace period.
struct Batch {
    number: u64,
    period: GracePeriod,
    work: VecDeque<Work>,
}

/// So much shares a heavy fence.
const BATCH: usize = 64;

impl Deferred {
    fn waiting(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(|batch| batch.work.len()).sum();
        self.open.len() + sealed
    }
}

/// What a reader shows of itself: the period in which it began to read, or `OUTSIDE`.
#[derive(Debug)]
struct Slot(CachePadded<AtomicU64>);

const OUTSIDE: u64 = 0;

impl<T> Rcu<T> {
    /// Creates an `Rcu` that holds `value`.
    pub fn new(value: T) -> Self {
        Rcu {
            current: AtomicPtr::new(Box::into_raw(Box::new(value))),
            readers: Arc::new(Readers {
                period: AtomicU64::new(OUTSIDE + 1),
                slots: Mutex::default(),
            }),
            deferred: Mutex::default(),
            owns: PhantomData,
        }
    }

    /// Registers a reader. Call it once for each thread that reads, and keep the reader. It takes a lock, and allocates
    /// while it holds the lock, so an allocator must not call it.
    pub fn reader(&self) -> Reader<'_, T> {
        let slot = Arc::new(Slot(CachePadded::new(AtomicU64::new(OUTSIDE))));
        // A writer that does not find the slot here had the lock before us: we see the value that it has published.
        self.readers.slots().push(Arc::clone(&slot));
        Reader { rcu: self, readers: &self.readers, slot, nesting: 0.into() }
    }

    /// Replaces the value by `new`, waits for a grace period, and returns the old value, which no other thread has any
    /// more.
    ///
    /// Waits for ever if a guard of this `Rcu` is never dropped: a guard that was forgotten and whose reader was kept
    /// or forgotten too, a guard of the calling thread, or a guard of a thread that waits for this one (perhaps for a
    /// grace period of another `Rcu`). So a thread that holds a guard must not wait for a thread that waits for a grace
    /// period: that deadlocks. [`publish`](Rcu::publish) does not wait.
    ///
    /// It replaces any value. Writers that compute the new value from the old one must take turns, by a lock.
    ///
    /// What the readers of the old value did with it happens before the return.
    ///
    /// # Aborts
    ///
    /// As [`asymfence::heavy_fence`].
    ///
    /// # Who must not call it
    ///
    /// A signal handler or an allocator: it takes a lock, and allocates while it holds the lock. A child of fork(2), if
    /// other threads of its parent were reading: the guards of those threads stay for ever.
    pub fn replace(&self, new: Box<T>) -> Box<T> {
        self.publish(new).wait()
    }

    /// Replaces the value by `new`, and returns a [`Replaced`], which gives the old value out when its grace period is
    /// over.
    ///
    /// This call executes no heavy fence. Checking or waiting for the grace period executes one, unless no reader is
    /// registered or some thread has executed one since.
    ///
    /// A thread that holds a guard must keep the `Replaced` until the guard is dropped: dropping it waits.
    pub fn publish(&self, new: Box<T>) -> Replaced<T> {
        let old = self.swap(new);
        Replaced { value: Some(old), period: self.grace_period() }
    }

    fn swap(&self, new: Box<T>) -> Unlinked<T> {
        // Release: the value is complete before another thread finds it. Pairs with: the Acquire in `Reader::read`, and
        // the Acquire here, of the writer that swaps the value out. Acquire: the old value is complete before it is
        // dropped, in this thread or in another one that runs what is deferred. Pairs with: the Release here.
        // survives: the full fence of a ticket acquires as much if this thread takes the ticket. loom's fences also
        // acquire what other threads have read before, so in a model the ticket of any thread does.
        let old = self.current.swap(Box::into_raw(new), AcqRel);
        Unlinked(NonNull::new(old).expect("from a box"))
    }

    /// Waits until every guard is dropped through which a reader may still see an object that was unlinked before this
    /// call. What was done under those guards happens before the return. Readers that begin later do not see the
    /// object.
    ///
    /// Waits for ever and aborts as [`replace`](Rcu::replace).
    pub fn synchronize(&self) {
        self.grace_period().wait();
    }

    /// As [`synchronize`](Rcu::synchronize), but does not wait: the result can be checked, and waited for.
    pub fn grace_period(&self) -> GracePeriod {
        GracePeriod { readers: Arc::clone(&self.readers), unlinked: Ticket::now(), begun: None }
    }

    /// Replaces the value by `new`, and drops the old one after a grace period: see [`defer`](Rcu::defer).
    ///
    /// ```
    /// # use asymfence_cookbook::rcu::Rcu;
    /// let rcu = Rcu::new(String::from("old"));
    /// let reader = rcu.reader();
    /// let old = reader.read();
    /// rcu.replace_later(Box::new(String::from("new"))); // waits for nobody
    /// assert_eq!([&**old, &**reader.read()], ["old", "new"]);
    /// ```
    pub fn replace_later(&self, new: Box<T>)
    where
        T: Send + 'static,
    {
        let old = self.swap(new);
        // SAFETY: the grace period is over.
        self.defer(move || drop(unsafe { old.into_box() }));
    }

    /// Runs `work` after a grace period, or a little later: when no guard is left through which a reader may see an
    /// object that was unlinked before this call.
    ///
    /// This call, or a later one of `defer`, [`run_deferred`](Rcu::run_deferred) or
    /// [`run_all_deferred`](Rcu::run_all_deferred), runs it, in any thread, or the drop of the `Rcu` does. So do not
    /// hold a lock that `work` takes. One call in 64 executes at most one heavy fence, and runs the closures that are
    /// due. It does not wait for readers: while a guard is held, all closures are kept that are deferred meanwhile. The
    /// grace period of 64 closures begins with the last of them. Guards that are taken later hold none of them back.
    ///
    /// If a closure panics, the call that runs it panics. The next call runs the others that were due. The drop of the
    /// `Rcu` runs all closures, and then resumes the first panic.
    ///
    /// A closure may itself defer, and call [`run_deferred`](Rcu::run_deferred) and
    /// [`run_all_deferred`](Rcu::run_all_deferred). In a closure of the same `Rcu` these calls run nothing and wait for
    /// nobody, so the stack does not grow with what closures defer. Nor do they run anything where closures of 16
    /// structures are under way in the thread, each called by the one before. A later call from outside runs what they
    /// deferred.
    ///
    /// # Aborts
    ///
    /// As [`replace`](Rcu::replace). The same callers must not use it: signal handlers, allocators, and forked children
    /// if other threads of the parent were reading.
    pub fn defer(&self, work: impl FnOnce() + Send + 'static) {
        let mut deferred = self.deferred();
        deferred.open.push_back(Box::new(work));
        let is_full = deferred.open.len() >= BATCH;
        drop(deferred);
        if is_full {
            self.run_deferred();
        }
    }

    /// Runs the [deferred](Rcu::defer) work whose grace period is over. It does not wait: the other work stays
    /// deferred.
    pub fn run_deferred(&self) {
        let last = self.begin();
        outermost(self, || self.run_due(last));
    }

    /// Waits for the grace periods of all closures that were [deferred](Rcu::defer) before, and runs them. If another
    /// thread has begun to run closures that were deferred together (up to 64, or a few more if several threads defer
    /// at once), all of these are left to that thread: this call does not wait for them. Nor does it wait for closures
    /// that are deferred after the call has begun. In a deferred closure of the same `Rcu` the call runs nothing and
    /// waits for no reader. It may execute a heavy fence.
    ///
    /// Waits for ever and aborts as [`replace`](Rcu::replace).
    pub fn run_all_deferred(&self) {
        let last = self.begin();
        outermost(self, || {
            while let Some(mut period) = self.oldest(last) {
                period.wait();
                self.run_due(last);
            }
        });
    }

    /// Seals what is open, and begins the grace periods that have not begun. Returns the number of the newest batch.
    fn begin(&self) -> u64 {
        let mut deferred = self.deferred();
        if !deferred.open.is_empty() {
            let work = std::mem::take(&mut deferred.open);
            deferred.count += 1;
            let number = deferred.count;
            deferred.sealed.push_back(Batch { number, period: self.grace_period(), work });
        }
        let last = deferred.count;
        let newest = deferred.sealed.back().filter(|batch| batch.period.begun.is_none());
        let newest = newest.map(|batch| batch.period.clone());
        // The lock is not held during a heavy fence. The batch stays where `run_all_deferred` finds it meanwhile.
        drop(deferred);
        let Some(mut period) = newest else { return last };
        let _ = period.is_over();
        // What is deferred in older batches was unlinked earlier, so this heavy fence comes after it too. What has begun
        // stays as it is: it does not wait for readers that came later.
        let mut deferred = self.deferred();
        let batches = deferred.sealed.iter_mut().rev();
        let batches = batches.skip_while(|batch| batch.number > last);
        let batches = batches.take_while(|batch| batch.period.begun.is_none());
        batches.for_each(|batch| batch.period = period.clone());
        last
    }

    /// The grace period of the oldest sealed batch, if that is not newer than `last`.
    fn oldest(&self, last: u64) -> Option<GracePeriod> {
        let deferred = self.deferred();
        let oldest = deferred.sealed.front().filter(|batch| batch.number <= last);
        oldest.map(|batch| batch.period.clone())
    }

    /// Runs the batches whose grace period is over, except for those that are newer than `last`: others may go on
    /// deferring for ever.
    fn run_due(&self, last: u64) {
        while let Some(batch) = self.take(last) {
            self.run(batch);
        }
    }

    /// Takes the oldest sealed batch, if it is not newer than `last`, and its grace period is over. `begin` has begun it.
    fn take(&self, last: u64) -> Option<Batch> {
        let mut deferred = self.deferred();
        let oldest = deferred.sealed.front_mut().filter(|batch| batch.number <= last);
        let is_over = oldest.is_some_and(|batch| batch.period.is_over());
        if is_over { deferred.sealed.pop_front() } else { None }
    }

    /// Runs the work of a batch whose grace period is over. Does not hold the lock, because the work may defer. What a
    /// panic leaves is put back.
    fn run(&self, batch: Batch) {
        struct Rest<'r, T>(&'r Rcu<T>, Batch);
        impl<T> Drop for Rest<'_, T> {
            fn drop(&mut self) {
                let Rest(rcu, Batch { number, period, work }) = self;
                if !work.is_empty() {
                    let (number, work) = (*number, std::mem::take(work));
                    let rest = Batch { number, period: period.clone(), work };
                    rcu.deferred().sealed.push_front(rest);
                }
            }
        }
        let mut rest = Rest(self, batch);
        while let Some(work) = rest.1.work.pop_front() {
            work();
        }
    }

    fn deferred(&self) -> MutexGuard<'_, Deferred> {
        self.deferred.lock().expect("no panic while it is held")
    }
}

/// A value from a box, unlinked by one swap, which made this. Readers may still see it.
#[derive(Debug)]
struct Unlinked<T>(NonNull<T>);

// SAFETY: as long as readers may have the value this is only an address; then it owns the value, as a box does.
unsafe impl<T: Send> Send for Unlinked<T> {}

impl<T> Unlinked<T> {
    /// # Safety
    ///
    /// The grace period of the swap is over.
    unsafe fn into_box(self) -> Box<T> {
        // SAFETY: from a box, and nobody else has it, as the caller promises.
        unsafe { Box::from_raw(self.0.as_ptr()) }
    }
}

impl Readers {
    /// Called after a heavy fence. Begins a new period: readers that begin from now on do not find what was unlinked
    /// before the fence. Returns its number, and the slots of the readers that began earlier and are still in.
    fn begin(&self) -> Begun {
        // Relaxed: the heavy fence orders it. An increment before the fence would be too early: a reader could read the
        // new number, and after that the old value.
        let number = self.period.fetch_add(1, Relaxed) + 1;
        let holds_back = |slot: &&Arc<Slot>| slot.is_from_before(number);
        let held_back_by = self.slots().iter().filter(holds_back).cloned().collect();
        Begun { number, held_back_by }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().expect("no panic while it is held")
    }
}

impl<T> Drop for Rcu<T> {
    fn drop(&mut self) {
        // There is no reader, so each grace period is over.
        let Deferred { open, sealed, .. } = std::mem::take(&mut *self.deferred());
        // Relaxed: nobody borrows the `Rcu`, and whatever made that sure orders us behind the last writer.
        let last = self.current.load(Relaxed);
        // SAFETY: from a box, and never unlinked; readers borrow the `Rcu`, so there is none.
        let last = unsafe { Box::from_raw(last) };
        let works = sealed.into_iter().flat_map(|batch| batch.work).chain(open);
        let works = works.map(|work| -> Box<dyn FnOnce() + '_> { work });
        let value: Box<dyn FnOnce() + '_> = Box::new(move || drop(last));
        with_each(works.chain([value]), |work| work());
    }
}

impl Slot {
    #[inline]
    fn enter(&self, period: u64) {
        // Release: what this reader did under earlier guards comes before this store, for a writer that does not see
        // the slot `OUTSIDE` in between. Pairs with: the Acquire in `is_from_before`.
        self.0.store(period, Release);
    }

    #[inline]
    fn leave(&self) {
        // Release: the reads of the value come before its writer gets it. Pairs with: the Acquire in `is_from_before`.
        self.0.store(OUTSIDE, Release);
    }

    /// Whether its reader began to read before that period, and has not left since.
    fn is_from_before(&self, period: u64) -> bool {
        // Acquire: a reader that has left, or has left and begun again, does not use the value any more. Pairs with:
        // the Releases in `leave` and `enter`.
        let since = self.0.load(Acquire);
        since != OUTSIDE && since < period
    }
}

/// What a thread reads an [`Rcu`] with. It may be sent to another thread, and it outlives its guards:
///
/// ```
/// # let rcu = asymfence_cookbook::rcu::Rcu::new(1);
/// let reader = rcu.reader();
/// std::thread::scope(|scope| _ = scope.spawn(move || assert_eq!(*reader.read(), 1)));
///
/// let reader = rcu.reader();
/// let guard = reader.read();
/// drop(guard);
/// drop(reader);
/// ```
///
/// It is not shared, and does not end before a guard:
///
/// ```compile_fail,E0277
/// # let rcu = asymfence_cookbook::rcu::Rcu::new(1);
/// let reader = rcu.reader();
/// std::thread::scope(|scope| _ = scope.spawn(|| assert_eq!(*reader.read(), 1)));
/// ```
///
/// ```compile_fail,E0505
/// # let rcu = asymfence_cookbook::rcu::Rcu::new(1);
/// let reader = rcu.reader();
/// let guard = reader.read();
/// drop(reader);
/// drop(guard);
/// ```
#[derive(Debug)]
pub struct Reader<'r, T> {
    rcu: &'r Rcu<T>,
    readers: &'r Readers,
    slot: Arc<Slot>,
    /// How many guards there are. 64 bits, so that forgotten guards do not make it wrap.
    nesting: std::cell::Cell<u64>,
}

impl<T> Reader<'_, T> {
    /// The current value, which stays valid as long as the guard. Guards of one reader may be nested: the read begins
    /// with the first guard, and ends when the last one is dropped. So a reader whose guards always overlap holds
    /// writers back for ever.
    ///
    /// Wait-free. A handler of a signal may use a reader of its own.
    #[inline]
    pub fn read(&self) -> Guard<'_, T> {
        let nesting = self.nesting.get();
        if nesting == 0 {
            // Relaxed: the fences alone order it, see the scenario. A reader with an old number is waited for.
            self.slot.enter(self.readers.period.load(Relaxed));
            // Light fence: our slot is stored before we load the value.
            // Pairs with: the heavy fence in `GracePeriod::is_over`.
            light_fence();
        }
        self.nesting.set(nesting + 1);
        // Acquire: the value is complete. Pairs with: the Release in `Rcu::swap`.
        let value = self.rcu.current.load(Acquire);
        // SAFETY: the pointer of a box is never null.
        let value = unsafe { NonNull::new_unchecked(value) };
        Guard { value, reader: self }
    }
}

impl<T> Drop for Reader<'_, T> {
    fn drop(&mut self) {
        // There are no guards, or they were forgotten.
        self.slot.leave();
        // A writer that takes the lock later and does not find the slot here sees that we do not use the value any
        // more.
        self.readers.slots().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}

/// A value that was current when it was read. Writers wait until the guard is dropped. If it was forgotten, they wait
/// until its [`Reader`] is dropped.
pub struct Guard<'g, T> {
    /// Not a reference: a writer may free the value before the drop of the guard returns.
    value: NonNull<T>,
    reader: &'g Reader<'g, T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: from a box, and its writer does not touch it before this reader has left.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let nesting = self.reader.nesting.get() - 1;
        self.reader.nesting.set(nesting);
        if nesting == 0 {
            self.reader.slot.leave();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&**self).finish()
    }
}

/// The time until every guard is dropped under which a reader may still find something that was unlinked before this
/// value was made.
///
/// It begins with the first call of [`is_over`](Self::is_over) or [`wait`](Self::wait). Until then no heavy fence is
/// executed, and guards that are taken meanwhile are waited for too.
#[derive(Clone, Debug)]
#[must_use = "it is not over yet"]
pub struct GracePeriod {
    readers: Arc<Readers>,
    /// Taken after the object was unlinked.
    unlinked: Ticket,
    /// `None` before the heavy fence.
    begun: Option<Begun>,
}

#[derive(Clone, Debug)]
struct Begun {
    /// The number of the period that began after the heavy fence.
    number: u64,
    /// The slots whose readers began before that period, and had not left at our last look. A reader that has left is
    /// not waited for again.
    held_back_by: Vec<Arc<Slot>>,
}

impl GracePeriod {
    /// Whether the grace period is over: then what was done under those guards happens before the return.
    ///
    /// The first call executes a heavy fence, unless no reader is registered, or some thread of the process has
    /// executed one since this value was made. Aborts as [`asymfence::heavy_fence`].
    pub fn is_over(&mut self) -> bool {
        if self.begun.is_none() {
            // A reader that registers later takes the lock after us, and finds the new value. A reader that is gone had
            // the lock before us, and does not use the old value any more.
            if self.readers.slots().is_empty() {
                self.begun = Some(Begun { number: OUTSIDE, held_back_by: Vec::new() });
                return true;
            }
            // Heavy fence, ours or another thread's: the unlinking comes before our look at the slots, and before the
            // new period. Pairs with: the light fence in `Reader::read`. For the slot and the value this is store
            // buffering, as in the picture at the head. For the period and the value it is message passing from the
            // writer to the reader.
            //  - it reaches a reader after the reader's light fence: we see the reader's slot, with an older number;
            //  - it reaches a reader before that: the reader does not find what was unlinked.
            self.unlinked.wait();
            self.begun = Some(self.readers.begin());
        }
        let begun = self.begun.as_mut().expect("it has begun");
        begun.held_back_by.retain(|slot| slot.is_from_before(begun.number));
        begun.held_back_by.is_empty()
    }

    /// Waits until the grace period is over: spins, yields, and then sleeps, each time at most as long as it has waited
    /// already, and at most a millisecond (and the thread's timer slack). Waits for ever if a guard is never dropped.
    pub fn wait(&mut self) {
        let mut tries = 0;
        while !self.is_over() {
            rest(&mut tries);
        }
    }
}

/// A value that has been replaced, and that readers may still see. Dropping it waits as [`wait`](Replaced::wait) does,
/// and drops the value. If it is forgotten, the value is never dropped.
#[derive(Debug)]
#[must_use = "to drop it is to wait"]
pub struct Replaced<T> {
    /// `None` when it has been handed out.
    value: Option<Unlinked<T>>,
    period: GracePeriod,
}

impl<T> Replaced<T> {
    /// Whether the grace period is over: then [`wait`](Replaced::wait) does not wait.
    pub fn is_over(&mut self) -> bool {
        self.period.is_over()
    }

    /// Waits for the end of the grace period, as [`GracePeriod::wait`] does, and returns the value.
    pub fn wait(mut self) -> Box<T> {
        self.take().expect("taken only once")
    }

    fn take(&mut self) -> Option<Box<T>> {
        self.period.wait();
        // SAFETY: the period began after the swap, and is over.
        self.value.take().map(|value| unsafe { value.into_box() })
    }
}

impl<T> Drop for Replaced<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}
