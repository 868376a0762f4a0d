//! A reader-writer lock for a value that is read all the time and written now and then, in place.
//!
//! It wraps an ordinary reader-writer lock, the *underlying* lock, in which all readers write to one place in turn.
//! While the `BiasedRwLock` is *biased*, a reader publishes in a slot of its own instead, and a writer *revokes* the
//! bias before it goes in. Each reader registers once ([`BiasedRwLock::reader`]).
//!
//! ```text
//! A (store buffering)   reader              writer, holds the underlying lock
//!                       slot = true         biased = false
//!                       light fence         heavy fence
//!                       r1 = biased         r2 = slot
//!                       forbidden: r1 && !r2
//!
//! the same, leaving     slot = false        biased = false
//!                       light fence         heavy fence
//!                       r3 = biased         r4 = slot
//!                       forbidden: r3 && r4
//!
//! the bias again        writer      a slow reader              a reader
//!                       value = 1
//!                       unlock      lock
//!                                   biased = true (Release)    r1 = biased (Acquire)
//!                                                              r2 = value
//!                       forbidden: r1 && r2 == 0
//! ```
//!
//! So either the reader sees that the bias was revoked, and takes the underlying lock, or the writer sees the reader,
//! and sleeps. In the second case the reader sees, when it leaves, that the bias was revoked, and wakes the writer. One
//! heavy fence serves the first two pictures. The writer holds the underlying lock meanwhile, so new readers queue
//! behind it and do not keep it out.
//!
//! BIAS-UNDER-LOCK: a thread changes the bias only while it holds the underlying lock. A writer turns it off before it
//! writes, so it is off during every write. After a revocation a number of read sections use the underlying lock. The
//! last of them, still holding that lock, turns the bias on again. [`BiasedRwLock::with_patience`] sets the number.
//!
//! # Cost
//!
//! A write is expensive, and reads cost more too for a while after it. A biased read section takes a few loads, two
//! stores and two light fences (full ones while writers come often), on memory that no other reader writes. The first
//! write after the bias was turned on takes a heavy fence, which interrupts the running threads, and a load of each
//! slot. Until the bias is turned on again writes cost what they cost on the underlying lock. Read sections do too,
//! plus a counter.
//!
//! The fences have a bias of their own, an [`asymfence::Bias`], besides that of the lock. If writes that find the lock
//! biased come more often than once in a millisecond, both sides switch to full fences, until none has come for a
//! millisecond. (Only at each 1,021st of its fences does a reader check whether that is so. Two checks, a millisecond
//! apart, must find no such write between them.) Readers still use their slots meanwhile. So there are at most two
//! heavy fences in a millisecond, with the exceptions that `Bias` names.
//!
//! # When not to use it
//!
//! - One write comes for a few thousand reads, or more often: the underlying lock is as good, and simpler.
//! - The value can be replaced as a whole, and readers may see the old one for a while: then nobody has
//!   to wait (RCU, hazard pointers).
//! - A handle for each reader cannot be kept.
//!
//! # Source
//!
//! Dave Dice and Alex Kogan, "BRAVO: Biased Locking for Reader-Writer Locks", USENIX ATC 2019: the bias, the rule for
//! changing it, and that the bias stays off long enough to make up for a revocation. Their lock uses a clock and full
//! fences, and its readers share a table of slots. That readers need no fence if the writer interrupts them is from Ran
//! Liu, Heng Zhang and Haibo Chen, "Scalable Read-mostly Synchronization Using Passive Reader-Writer Locks", USENIX ATC
//! 2014, which relies on total store order, where the fences here do not.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError, TryLockResult};
use std::time::Duration;
use std::{fmt, mem};

use crossbeam_utils::CachePadded;

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicUsize};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::sync::{Bias, is_over, now, now_and_then, rest, sleep_on};

/// A reader-writer lock whose readers, while the lock is biased, write no memory in common.
///
/// As with most such locks, a thread that locks it again while it holds it, as a reader or as the writer, may wait for
/// ever. There is no poisoning: a writer that panics unlocks, and the next thread finds the value as the writer left
/// it. A signal handler must not use the lock.
///
/// ```
/// use asymfence_cookbook::biased_lock::BiasedRwLock;
///
/// let lock = BiasedRwLock::new(vec![1, 2]);
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let mut reader = lock.reader(); // once in a thread
///         for _ in 0..1000 {
///             let values = reader.read();
///             assert_eq!(values[0], 1);
///         }
///     });
///     lock.write().push(3);
/// });
/// assert_eq!(*lock.reader().read(), [1, 2, 3]);
/// ```
pub struct BiasedRwLock<T: ?Sized> {
    /// Whether readers may go in by their slots. Every reader looks at it, so nothing that changes more
    /// often is beside it.
    biased: CachePadded<AtomicBool>,
    /// The fences: readers are the frequent side.
    fences: Bias,
    underlying: RwLock<()>,
    /// How many more read sections go by the underlying lock until one of them turns the bias on.
    slow_sections_left: AtomicUsize,
    /// Slow read sections, for each reader, that make up for a revocation.
    patience: usize,
    slots: Mutex<Vec<Arc<Slot>>>,
    /// What a writer that waits for a slot sleeps on.
    emptied: Condvar,
    value: UnsafeCell<T>,
}

/// Whether a reader is in, or about to look whether it may go in.
type Slot = CachePadded<AtomicBool>;

// SAFETY: as for any reader-writer lock: readers share the value, and a writer may move it to its thread.
unsafe impl<T: ?Sized + Send + Sync> Sync for BiasedRwLock<T> {}

/// If writers revoke the bias more often than once in this time, both sides switch to full fences.
const PAUSE: Duration = Duration::from_millis(1);

impl<T> BiasedRwLock<T> {
    /// So many uncontended read sections of the underlying lock take a few times as long as a heavy fence that
    /// interrupts one thread. So revocations take a fraction of a reader's time.
    const PATIENCE: usize = 4096;

    /// Creates a lock, which is biased at first.
    pub fn new(value: T) -> Self {
        Self::with_patience(value, Self::PATIENCE)
    }

    /// As [`new`](Self::new), with a choice of when the lock is biased again after a revocation: after a number of read
    /// sections that use the underlying lock, which is `patience` times the number of registered readers. (A revocation
    /// interrupts each reader that runs, and looks at the slot of each.) With `usize::MAX` on 64 bits the lock is never
    /// biased again.
    ///
    /// # Panics
    ///
    /// If `patience` is 0.
    pub fn with_patience(value: T, patience: usize) -> Self {
        assert!(patience > 0, "a patience of 0: it takes a read section to turn the bias on");
        BiasedRwLock {
            biased: CachePadded::new(AtomicBool::new(true)),
            fences: Bias::biased(PAUSE),
            underlying: RwLock::new(()),
            slow_sections_left: AtomicUsize::new(0),
            patience,
            slots: Mutex::new(Vec::new()),
            emptied: Condvar::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Sets the pause. If writers revoke the bias more often than once in a `pause`, the fences become full ones. After
    /// a pause without such a writer they become asymmetric again. A reader looks only at each 1,021st of its fences (a
    /// read section has two) whether that is so, and two looks are needed, a pause apart. So if reads are seldom, the
    /// fences stay full for longer. The default pause is a millisecond.
    ///
    /// # Panics
    ///
    /// As [`Bias::new`]: a pause is from a microsecond to half a minute.
    #[must_use]
    pub fn with_pause(mut self, pause: Duration) -> Self {
        self.fences = Bias::biased(pause);
        self
    }

    /// The value, without locking: nobody else has the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> BiasedRwLock<T> {
    /// Registers a reader, with a slot of its own. Call it once for each thread, not once for each read section. It
    /// waits for no reader and no writer, except while one registers too or looks through the slots.
    pub fn reader(&self) -> Reader<'_, T> {
        let slot = Arc::new(Slot::new(AtomicBool::new(false)));
        // A writer locks the slots after it has turned the bias off: if it does so before us, then we see
        // that the bias is off; otherwise it sees the slot.
        self.slots().push(Arc::clone(&slot));
        Reader { lock: self, slot }
    }

    /// Locks for writing: waits until no reader and no other writer is in. What earlier writers wrote is visible, and
    /// the reads of earlier readers happen before this call returns.
    ///
    /// If the lock is biased, this call revokes the bias: it executes a heavy fence, or a full one if writers come
    /// often, and looks at every slot. Otherwise it costs what it costs on the underlying lock. The heavy fence
    /// **aborts the process** if the system refuses a call that it granted before.
    pub fn write(&self) -> WriteGuard<'_, T> {
        let underlying = self.underlying.write().unwrap_or_else(PoisonError::into_inner);
        self.alone(underlying, None).expect("there is no deadline")
    }

    /// As [`write`](Self::write), but returns `None` where that would wait.
    ///
    /// It looks at the slots first, so a reader that is in is mostly seen without a heavy fence. If a reader is seen
    /// only after the heavy fence, the bias is turned on again.
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.write_before(Duration::ZERO)
    }

    /// As [`write`](Self::write), but waits for so long at most. It has no place in the queue of the underlying lock:
    /// it tries again and again, about once in a millisecond, and readers that keep coming may keep it out.
    pub fn write_timeout(&self, timeout: Duration) -> Option<WriteGuard<'_, T>> {
        match now().checked_add(timeout) {
            Some(deadline) => self.write_before(deadline),
            None => Some(self.write()),
        }
    }

    fn write_before(&self, deadline: Duration) -> Option<WriteGuard<'_, T>> {
        let is_in = |slot: &Arc<Slot>| slot.load(Relaxed);
        let underlying = try_before(deadline, || {
            let underlying = unless_it_waits(self.underlying.try_write())?;
            // Relaxed, both: this check only spares a caller without time to wait (`try_write`) a heavy fence that
            // would be in vain. `revoke` checks again.
            let is_vain =
                deadline.is_zero() && self.biased.load(Relaxed) && self.slots().iter().any(is_in);
            (!is_vain).then_some(underlying)
        });
        self.alone(underlying?, Some(deadline))
    }

    /// The holder of the underlying lock waits until no reader is in by its slot.
    fn alone<'l>(
        &'l self,
        underlying: RwLockWriteGuard<'l, ()>,
        deadline: Option<Duration>,
    ) -> Option<WriteGuard<'l, T>> {
        // Relaxed: BIAS-UNDER-LOCK. The thread that changed it last let go of the lock before we
        // took it.
        if self.biased.load(Relaxed) && !self.revoke(&underlying, deadline) {
            return None;
        }
        Some(WriteGuard { lock: self, _underlying: underlying })
    }

    /// Waits for the readers that are in by their slots; false if the deadline came first.
    #[cold]
    fn revoke(&self, _underlying: &RwLockWriteGuard<'_, ()>, deadline: Option<Duration>) -> bool {
        let turns_on = TurnsOn(&self.biased);
        // Relaxed: it releases nothing. A reader that sees it takes the underlying lock.
        self.biased.store(false, Relaxed);
        // Heavy fence: the bias is off before we look at the slots.
        // Pairs with: the light fence in `Reader::enter` (scenario A).
        //  - a reader's publication came first: we see it, and wait;
        //  - the heavy fence came first: the reader sees that the bias is off.
        // Pairs with: the light fence in `Reader::leave` (scenario A).
        //  - the reader emptied its slot first: we see it;
        //  - the heavy fence came first: the reader sees that the bias is off, and wakes us.
        self.fences.heavy_fence(now);
        let mut slots = self.slots();
        let mut is_over = false;
        // Acquire: the readers have read before we write. Pairs with: the Release in `Reader::leave`. A reader
        // publishes at most once more, and then sees that the bias is off.
        while slots.iter().any(|slot| slot.load(Acquire)) {
            if is_over {
                return false;
            }
            // The slots are unlocked meanwhile: a reader that is in may register another one.
            (slots, is_over) = sleep_on(&self.emptied, &self.slots, slots, deadline);
        }
        let sections = self.patience.saturating_mul(slots.len().max(1));
        // Relaxed: slow readers come by the underlying lock, which orders it.
        self.slow_sections_left.store(sections, Relaxed);
        mem::forget(turns_on);
        true
    }

    /// Makes the fences asymmetric again, if no writer has revoked the bias for a pause.
    #[cold]
    fn restore(&self) {
        // If the heavy fence fails both sides stay with full ones.
        let _ = self.fences.try_restore_at(now());
    }

    /// Wakes the writer that waits for a slot, if one does. The slot is empty by now.
    #[cold]
    fn wake(&self) {
        // A writer that found the slot taken holds this lock until it sleeps: we notify after that.
        drop(self.slots());
        // One: no other writer waits for a slot, since it would have to hold the underlying lock.
        self.emptied.notify_one();
    }

    /// A slow read section has begun.
    fn count(&self, _underlying: &RwLockReadGuard<'_, ()>) {
        // Relaxed: a number. Later sections take it below 0. That does no harm: the next revocation sets it anew, and
        // turning the bias on twice does none either.
        if self.slow_sections_left.fetch_sub(1, Relaxed) == 1 {
            // Release: readers that go in by their slots see what earlier writers wrote. We see that by the underlying
            // lock. Pairs with: the Acquire in `Reader::enter`.
            // BIAS-UNDER-LOCK: no writer is in, and the next one finds the bias on.
            self.biased.store(true, Release);
        }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, without locking: nobody else has the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Whether readers use their slots at this moment, and not the underlying lock. For reports.
    pub fn is_biased(&self) -> bool {
        // Relaxed: nothing depends on it.
        self.biased.load(Relaxed)
    }
}

/// Turns the bias on again if the writer does not go in, because its time is over, or what it calls panics. Readers may
/// be in by their slots, and the next writer must look for them.
struct TurnsOn<'l>(&'l AtomicBool);

impl Drop for TurnsOn<'_> {
    fn drop(&mut self) {
        // Release: readers that go in by their slots see what earlier writers wrote. We see that by the underlying lock.
        // Pairs with: the Acquire in `Reader::enter`. BIAS-UNDER-LOCK: we have not written, and readers are in as before.
        // survives: if the time is over, the heavy fence in `revoke` releases as much. In a model nothing panics before it.
        self.0.store(true, Release);
    }
}

/// `None` if it would wait. Nothing is poisoned.
fn unless_it_waits<G>(tried: TryLockResult<G>) -> Option<G> {
    match tried {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Tries once, and then until the deadline.
fn try_before<G>(deadline: Duration, mut attempt: impl FnMut() -> Option<G>) -> Option<G> {
    let mut tries = 0;
    loop {
        let found = attempt();
        if found.is_some() || deadline.is_zero() || is_over(deadline) {
            return found;
        }
        rest(&mut tries);
    }
}

impl<T: ?Sized> fmt::Debug for BiasedRwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the slots. They are behind a lock, and the caller may be about to register a reader.
        f.debug_struct("BiasedRwLock").field("biased", &self.is_biased()).finish_non_exhaustive()
    }
}

/// A registered reader. It is in one read section at a time. Threads may use it one after the other.
#[derive(Debug)]
pub struct Reader<'l, T: ?Sized> {
    lock: &'l BiasedRwLock<T>,
    slot: Arc<Slot>,
}

impl<T: ?Sized> Reader<'_, T> {
    /// Waits while a writer is in, and while a writer waits for readers that are in. What earlier writers wrote is
    /// visible.
    ///
    /// While the lock is biased a read section takes two loads, a store and a light fence, and a load, a store and a
    /// light fence at its end. (While writers come often the fences are full ones.) Its end makes a system call if a
    /// writer waits. After a busy phase of writers the beginning or the end of one read section also executes a heavy
    /// fence, to make the fences asymmetric again (at most one in a pause).
    #[inline]
    pub fn read(&mut self) -> ReadGuard<'_, T> {
        let underlying = if self.enter() { None } else { Some(self.enter_slowly()) };
        ReadGuard { reader: self, underlying }
    }

    /// As [`read`](Self::read), but returns `None` where that would wait.
    #[inline]
    pub fn try_read(&mut self) -> Option<ReadGuard<'_, T>> {
        let underlying =
            if self.enter() { None } else { Some(self.enter_slowly_before(Duration::ZERO)?) };
        Some(ReadGuard { reader: self, underlying })
    }

    /// As [`read`](Self::read), but waits for so long at most. It has no place in the queue of the underlying lock: it
    /// tries again and again, about once in a millisecond.
    #[inline]
    pub fn read_timeout(&mut self, timeout: Duration) -> Option<ReadGuard<'_, T>> {
        if self.enter() {
            return Some(ReadGuard { reader: self, underlying: None });
        }
        let underlying = match now().checked_add(timeout) {
            Some(deadline) => self.enter_slowly_before(deadline)?,
            None => self.enter_slowly(),
        };
        Some(ReadGuard { reader: self, underlying: Some(underlying) })
    }

    /// Whether we are in by our slot.
    #[inline]
    fn enter(&self) -> bool {
        // Relaxed: it only saves a publication. The second look counts.
        if self.lock.biased.load(Relaxed) {
            // Relaxed: a writer that sees it waits, and learns nothing else from it.
            self.slot.store(true, Relaxed);
            // Light fence: our publication comes before the second look.
            // Pairs with: the heavy fence in `BiasedRwLock::revoke` (scenario A).
            self.light_fence();
            // Acquire: what was written before the bias came on. Pairs with: the Release in `BiasedRwLock::count`, and
            // that in `TurnsOn::drop`.
            if self.lock.biased.load(Acquire) {
                return true;
            }
        }
        // We published in vain, or the guard of an earlier section was forgotten. A writer may wait for our slot, and
        // we are about to wait for the writer. Relaxed: only we write to the slot.
        if self.slot.load(Relaxed) {
            self.leave();
        }
        false
    }

    #[inline]
    fn leave(&self) {
        // Release: the reads of this section come before the empty slot. Pairs with: the Acquire in
        // `BiasedRwLock::revoke`. (A publication that is taken back has nothing to release.)
        self.slot.store(false, Release);
        // Light fence: the slot is empty before we look whether somebody waits for that.
        // Pairs with: the heavy fence in `BiasedRwLock::revoke` (scenario A).
        self.light_fence();
        // Relaxed: a writer that waits is found by the fence. BIAS-UNDER-LOCK: as long as it waits, the
        // bias stays off.
        if !self.lock.biased.load(Relaxed) {
            self.lock.wake();
        }
    }

    #[cold]
    fn enter_slowly(&self) -> RwLockReadGuard<'_, ()> {
        let underlying = self.lock.underlying.read().unwrap_or_else(PoisonError::into_inner);
        self.lock.count(&underlying);
        underlying
    }

    #[cold]
    fn enter_slowly_before(&self, deadline: Duration) -> Option<RwLockReadGuard<'_, ()>> {
        let underlying = try_before(deadline, || unless_it_waits(self.lock.underlying.try_read()))?;
        self.lock.count(&underlying);
        Some(underlying)
    }

    /// The light fence after a store to our slot.
    #[inline]
    fn light_fence(&self) {
        // guard survives: `try_restore_at` decides itself whether it is time. Asked too often, it only costs time.
        if !self.lock.fences.light_fence() && now_and_then() {
            self.lock.restore();
        }
    }
}

impl<T: ?Sized> Drop for Reader<'_, T> {
    /// No guard is left, except perhaps a forgotten one, and what that lent is not used any more.
    fn drop(&mut self) {
        // Our reads come before we release the lock of the slots. So they come before what a writer does that takes
        // that lock later, and finds no slot of ours.
        self.lock.slots().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        // A writer may have waited for the slot of a forgotten guard.
        self.lock.emptied.notify_one();
    }
}

/// A read section. It must end on the thread on which it began:
///
/// ```compile_fail,E0277
/// let lock = asymfence_cookbook::biased_lock::BiasedRwLock::new(1);
/// let mut reader = lock.reader();
/// let value = reader.read();
/// std::thread::scope(|scope| _ = scope.spawn(move || assert_eq!(*value, 1)));
/// ```
///
/// A reference from it may go to another thread, and so may the reader:
///
/// ```
/// let lock = asymfence_cookbook::biased_lock::BiasedRwLock::new(1);
/// let mut reader = lock.reader();
/// let value = reader.read();
/// let lent = &*value;
/// std::thread::scope(|scope| _ = scope.spawn(move || assert_eq!(*lent, 1)));
/// drop(value);
/// std::thread::scope(|scope| _ = scope.spawn(move || assert_eq!(*reader.read(), 1)));
/// ```
///
/// If a guard is forgotten, writers wait, and so do the readers behind them that take the underlying lock.
/// They wait until the guard's reader reads again or is dropped, or for ever if the section took the
/// underlying lock.
#[derive(Debug)]
pub struct ReadGuard<'r, T: ?Sized> {
    reader: &'r Reader<'r, T>,
    /// `None` if the section goes by the slot.
    underlying: Option<RwLockReadGuard<'r, ()>>,
}

impl<T: ?Sized> ReadGuard<'_, T> {
    /// Whether this section uses the reader's slot, and not the underlying lock. For reports.
    pub fn is_biased(section: &Self) -> bool {
        section.underlying.is_none()
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: until our slot is empty, or the underlying lock is let go of, no writer is in.
        unsafe { &*self.reader.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if Self::is_biased(self) {
            self.reader.leave();
        }
    }
}

/// The only holder of the lock. If it is forgotten, all others wait for ever.
#[derive(Debug)]
pub struct WriteGuard<'l, T: ?Sized> {
    lock: &'l BiasedRwLock<T>,
    _underlying: RwLockWriteGuard<'l, ()>,
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: we have the underlying lock, and the bias is off, so nobody else is in.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed as a whole.
        unsafe { &mut *self.lock.value.get() }
    }
}
