//! Epoch-based reclamation. Readers read linked structures while writers unlink objects from them. A read costs a light
//! fence, and two stores to a slot of the reader's own. An unlinked object is freed when no reader can have it any
//! more. Heavy fences are paced, so there are few.
//!
//! A reader *pins* the epoch while it reads. An unlinked object is kept with the epoch of that time, its *tag*. The
//! epoch *advances* when all pinned readers have pinned the newest epoch. Three advances later no reader has the
//! object.
//!
//! ```text
//! reader                    a thread that unlinks    a thread that advances from e to e + 1
//! slot = epoch, pinned      unlink                   each slot is free or pinned at e ?
//! light_fence()             fence(SeqCst)            heavy_fence()
//! read                      tag = epoch              epoch = e + 1
//! ...                       free when epoch is
//! slot = free               tag + 3
//! ```
//!
//! Why three. Let `t` be the tag, and H the heavy fence of the advance from `t + 1` to `t + 2`. The thread that
//! unlinked the object executed a full fence and then read `t`, not `t + 1`. So that fence comes before H begins, and
//! the unlinking too. No reader finds the object once H has reached the reader. A reader that still has the object
//! found it before that, so it has pinned `t + 1` or an older epoch. The scan of the third advance (from epoch `t + 2`)
//! comes after H. It sees the reader, and the epoch does not become `t + 3` before the reader leaves.
//!
//! # Pacing, which other schemes can copy
//!
//! An advance costs a heavy fence, so a thread asks a [`Pacer`] first: an advance is due when 1,024 more objects have
//! been retired, or if none was due for a millisecond. Two rules save further heavy fences:
//!
//! 1. **Scan first.** If a reader lags behind, no heavy fence is executed. The scan needs no fence of its own: the
//!    heavy fence of the advance before is enough.
//! 2. **No advance while no object needs one.** The collector keeps the newest tag. Three advances later no object
//!    needs another one. It does not matter which thread made the advances. (A count of the waiting objects would not
//!    do: every thread that advances would have to keep it exactly. If it were ever too high, heavy fences would be
//!    executed for ever.)
//!
//! # Cost
//!
//! A reader: to pin, a load of the epoch, a store to its slot and a light fence; to leave, a store to its slot; and at
//! every 128th pin a check whether a heavy fence is due. Pins and guards are also counted, in memory that only the
//! reader's thread uses. A thread that retires: a push, and for every 64 objects a full fence and perhaps a heavy one.
//! A heavy fence that fails aborts the process, as [`asymfence::heavy_fence`] does.
//!
//! # When not to use it
//!
//! - When readers stop in the middle: everything that is unlinked meanwhile is kept. A hazard pointer holds back
//!   one object.
//! - When the thread that unlinks can wait: RCU is simpler.
//!
//! # Modelled on
//!
//! Keir Fraser, "Practical lock-freedom", 2004. crossbeam-epoch 0.9, whose `pin` has the full fence that is
//! light here, and which advances at every 128th pin, whether anything waits or not.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;
use std::{fmt, mem};

use crossbeam_utils::CachePadded;

use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{
    Arc, LOOM, Mutex, MutexGuard, Pacer, full_fence, heavy_fence, light_fence, now, outermost,
};

/// Retired objects are sealed, and counted, in batches of so many. (In a model fewer, and fewer pins: it makes them anew
/// in each execution.)
const BATCH: usize = if LOOM { 8 } else { 64 };
/// Pins between two looks whether a heavy fence is due: a power of two.
const PINS: usize = if LOOM { 8 } else { 128 };
/// A heavy fence is due when so many more objects have been retired, or when none was due for so long.
const PACE: (usize, Duration) = (16 * BATCH, Duration::from_millis(1));
/// Advances after which nobody has what was unlinked.
const GRACE: usize = 3;

/// A slot's value: nobody is pinned. No epoch has this number.
const FREE: usize = 0;

/// Readers that pin epochs, and objects that wait for them.
///
/// ```
/// use std::sync::atomic::{AtomicPtr, Ordering::{AcqRel, Acquire}};
///
/// use asymfence_cookbook::epoch::Collector;
///
/// let collector = Collector::new();
/// let newest = AtomicPtr::new(Box::into_raw(Box::new(1)));
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         let handle = collector.handle(); // once in a thread
///         let guard = handle.pin();
///         // SAFETY: found while pinned, and retired after it was unlinked.
///         let value = unsafe { &*newest.load(Acquire) };
///         assert!(*value > 0);
///         drop(guard);
///     });
///     let handle = collector.handle();
///     let old = newest.swap(Box::into_raw(Box::new(2)), AcqRel);
///     // SAFETY: from a box, unlinked just now, by us alone.
///     unsafe { handle.retire(old) };
/// });
/// // SAFETY: nobody else is left.
/// drop(unsafe { Box::from_raw(newest.into_inner()) });
/// ```
pub struct Collector {
    /// The number of the epoch, from 1. (64 bits do not wrap, nor do 32 bits in 4 billion heavy fences.)
    epoch: CachePadded<AtomicUsize>,
    pacer: Pacer,
    /// The epoch at which no object needs another advance: the newest tag plus three.
    enough: AtomicUsize,
    /// How many objects have a tag, and have not been dropped.
    waiting: AtomicUsize,
    slots: Mutex<Vec<Arc<Slot>>>,
    /// What dropped handles have left.
    left: Mutex<VecDeque<Sealed>>,
}

/// What a reader shows of itself: `FREE`, or the epoch that it has pinned.
type Slot = CachePadded<AtomicUsize>;

/// Objects that were unlinked before a full fence, and the epoch that was read after the fence.
struct Sealed {
    tag: usize,
    objects: Vec<Retired>,
}

/// What can be dropped in any thread.
trait Anything: Send {}
impl<T: Send> Anything for T {}

/// What was retired. A pointer and no box: readers may have references to it, and a box would assert that nobody has.
struct Retired(*mut dyn Anything);

// SAFETY: what it points to can be dropped in any thread, and nothing else is done with it.
unsafe impl Send for Retired {}

impl Drop for Retired {
    fn drop(&mut self) {
        // SAFETY: it came from a box, is dropped once, and nobody has it any more.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl Collector {
    /// Creates a collector. It executes a heavy fence when 1,024 more objects have been retired, or when none was due
    /// for a millisecond, as long as an object needs one. If a reader holds objects back, both come up to 64 times as
    /// late ([`Pacer`]).
    #[must_use]
    pub fn new() -> Self {
        let (batch, pause) = PACE;
        Self::with_pacer(Pacer::new(batch).after(pause))
    }

    /// Creates a collector that executes a heavy fence when `pacer` says so. A handle asks the pacer at each 128th pin,
    /// and passes the number of its pins as `nth`. It also asks, with 1 as `nth`, each time that 64 more objects have
    /// been retired by it, and when it is dropped. It does not ask while no object needs a heavy fence.
    #[must_use]
    pub fn with_pacer(pacer: Pacer) -> Self {
        Collector {
            epoch: CachePadded::new(AtomicUsize::new(FREE + 1)),
            pacer,
            enough: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            slots: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// Registers a reader. Call it once for each thread, and keep the handle. It takes a lock, and allocates while it
    /// holds the lock, so an allocator must not call it.
    pub fn handle(&self) -> Handle<'_> {
        let slot = Arc::new(Slot::new(AtomicUsize::new(FREE)));
        // A scan that does not find the slot here had the lock before us, and came after the heavy fence of the advance
        // before. So we see the unlinkings that came before that fence, and do not find those objects.
        self.slots().push(Arc::clone(&slot));
        Handle {
            collector: self,
            slot,
            pins: Cell::new(0),
            guards: Cell::new(0),
            objects: RefCell::default(),
            sealed: RefCell::default(),
        }
    }

    /// How many objects wait to be dropped, not counting the last ones of each handle, at most 63. An object counts as
    /// waiting, even after no reader can have it any more, until its handle drops it: at one of the next 128 pins, for
    /// example.
    #[must_use]
    pub fn waiting(&self) -> usize {
        // Relaxed: a number for reports.
        self.waiting.load(Relaxed)
    }

    /// Whether an object needs another advance before it can be dropped.
    fn needs_an_advance(&self) -> bool {
        // Relaxed, both: advice. A thread that has just seen an older number advances once too often, or asks again later.
        self.epoch.load(Relaxed) < self.enough.load(Relaxed)
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().expect("no panic while it is held")
    }

    fn left(&self) -> MutexGuard<'_, VecDeque<Sealed>> {
        self.left.lock().expect("no panic while it is held")
    }

    /// Whether each reader that is pinned has pinned `epoch`.
    fn all_are_at(&self, epoch: usize) -> bool {
        self.slots().iter().all(|slot| {
            // Relaxed: the heavy fence of `try_advance`, which follows, acquires it. A reader that has left, or has
            // left and pinned again, does not use any more what it found before. Pairs with: the Releases in
            // `Handle::pin` and `Guard::drop`.
            let pinned = slot.load(Relaxed);
            pinned == FREE || pinned == epoch
        })
    }

    /// Advances the epoch by one, and returns true. If a reader lags behind, returns false.
    fn try_advance(&self) -> bool {
        // Acquire: the heavy fence of the advance before comes before our scan. Pairs with: the exchange below.
        let epoch = self.epoch.load(Acquire);
        if !self.all_are_at(epoch) {
            return false;
        }
        // Heavy fence: what was unlinked, and the epoch as we saw it, come before the scan of the next advance.
        // Pairs with: the light fence in `Handle::pin` (scenario A).
        //  - it reaches a reader after the reader's light fence: that scan sees the reader's slot;
        //  - it reaches a reader before that: the reader does not find what was unlinked.
        // Pairs with: the full fence in `Handle::seal`. If a tag is less than `epoch`, it was loaded before the `epoch`
        // that we have read was stored. So the full fence before that load, and the unlinking before it, come before
        // this heavy fence.
        heavy_fence();
        // Relaxed: the fence releases what readers did with the objects, and the scan that saw them leave. Pairs with:
        // the Acquire above, and the Acquire in `Handle::free`. If another thread was quicker its advance is as good.
        let _ = self.epoch.compare_exchange(epoch, epoch + 1, Relaxed, Relaxed);
        true
    }

    /// Takes the oldest objects, if no reader has them any more in this epoch.
    fn take(&self, sealed: &mut VecDeque<Sealed>, epoch: usize) -> Option<Vec<Retired>> {
        let is_over = sealed.front().is_some_and(|sealed| epoch >= sealed.tag + GRACE);
        if !is_over {
            return None;
        }
        let objects = sealed.pop_front().expect("it is there").objects;
        // Relaxed: a number for reports.
        self.waiting.fetch_sub(objects.len(), Relaxed);
        Some(objects)
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// A thread's part in a [`Collector`]. Not shared, but it may go to another thread.
pub struct Handle<'c> {
    collector: &'c Collector,
    slot: Arc<Slot>,
    pins: Cell<usize>,
    /// How many guards there are. 64 bits, so that forgotten guards do not make it wrap.
    guards: Cell<u64>,
    /// Retired, and not sealed yet.
    objects: RefCell<Vec<Retired>>,
    /// Sealed, the oldest first.
    sealed: RefCell<VecDeque<Sealed>>,
}

impl Handle<'_> {
    /// Pins the epoch: what is found from now on stays valid until the guard is dropped, even if it is unlinked and
    /// retired meanwhile. Guards of one handle may be nested: the epoch is pinned from the first guard until the last
    /// one is dropped.
    ///
    /// Wait-free, except at each 128th pin, which may advance the epoch and drop objects.
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        if self.guards.get() == 0 {
            let pins = self.pins.get().wrapping_add(1);
            self.pins.set(pins);
            if pins & (PINS - 1) == 0 {
                self.collect(pins);
            }
        }
        // Not before: a destructor that `collect` runs may pin, and keep its guard.
        let guards = self.guards.get();
        if guards == 0 {
            // Relaxed: an old epoch only holds an advance back.
            let epoch = self.collector.epoch.load(Relaxed);
            // Release: what we did under earlier guards comes before this store, for a thread that does not see the
            // slot free in between. Pairs with: the heavy fence after the scan in `Collector::try_advance`.
            self.slot.store(epoch, Release);
            // Light fence: our slot is stored before we look for anything.
            // Pairs with: the heavy fence in `Collector::try_advance` (scenario A).
            light_fence();
        }
        self.guards.set(guards + 1);
        Guard { handle: self }
    }

    /// Drops `object` when no reader can have it any more. This handle drops it. If the handle is gone by then, any
    /// thread that uses the collector drops it, or the drop of the collector does.
    ///
    /// # Safety
    ///
    /// - The object came from [`Box::into_raw`], and is retired once. Do not make a box of it meanwhile: while readers
    ///   have references, that is undefined behaviour.
    /// - It was unlinked, and the unlinking happens before this call: a reader that pins from now on does not find it.
    /// - Everyone that still uses the object found it under a guard of this collector, whichever handle it is of, and
    ///   that handle stays pinned as long as the object is used. Users without a guard, or under a guard of another
    ///   `Collector`, are not waited for.
    /// - What the object borrows outlives the collector. (So it borrows neither the collector nor a handle of it.) Its
    ///   drop may run in any thread.
    pub unsafe fn retire<T: Send>(&self, object: *mut T) {
        let object: *mut (dyn Anything + '_) = object;
        // SAFETY: the caller's promise that what it borrows lives long enough.
        let object =
            unsafe { mem::transmute::<*mut (dyn Anything + '_), *mut dyn Anything>(object) };
        let mut objects = self.objects.borrow_mut();
        objects.push(Retired(object));
        if objects.len() >= BATCH {
            drop(objects);
            self.seal();
            self.collect(1);
        }
    }

    /// Advances the epoch if no reader lags behind, whether an advance is due or not, and drops the objects that no
    /// reader can have any more. If no guard exists, three calls drop everything that was retired before through this
    /// handle. The call drops nothing in a destructor that the collector runs, nor in one to which calls of 16 other
    /// structures of this crate have led. If a destructor panics, so does this call, after the other objects that were
    /// retired with that one; if two of these panic, the process aborts.
    pub fn flush(&self) {
        self.seal();
        self.collector.try_advance();
        self.free();
    }

    /// Gives the objects that were retired a tag.
    fn seal(&self) {
        let objects = mem::take(&mut *self.objects.borrow_mut());
        if objects.is_empty() {
            return;
        }
        let count = objects.len();
        // Full fence: the objects were unlinked before the tag is taken.
        // Pairs with: the heavy fence of the second advance after the tag, in `Collector::try_advance`.
        full_fence();
        // Relaxed: the full fence orders it.
        let tag = self.collector.epoch.load(Relaxed);
        self.sealed.borrow_mut().push_back(Sealed { tag, objects });
        // Relaxed, both: advice, and a number for reports.
        self.collector.enough.fetch_max(tag + GRACE, Relaxed);
        self.collector.waiting.fetch_add(count, Relaxed);
        self.collector.pacer.add(count);
    }

    /// Advances the epoch if that is due, and drops what no reader can have any more.
    #[cold]
    fn collect(&self, nth: usize) {
        let Collector { pacer, .. } = self.collector;
        let needed = self.collector.needs_an_advance();
        let due = if needed { pacer.due_at(nth, now()) } else { None };
        // If a reader lags behind, the `Due` is dropped: not yet.
        if let Some(due) = due.filter(|_| self.collector.try_advance()) {
            // One thing stays in the pacer's count, so that the pacer gives another `Due`: an object may need another
            // advance or two. If none does, `needs_an_advance` keeps this thread from asking.
            due.paid_but(1);
        }
        self.free();
    }

    /// Drops what no reader can have any more, also what dropped handles have left. If one of the destructors calls it,
    /// for this handle or another one of the collector, it does nothing: the stack must not grow with what drops
    /// retire.
    fn free(&self) {
        outermost(self.collector, || {
            // Acquire: what readers did with the objects comes before we drop them. Pairs with: the exchange in
            // `try_advance`.
            let epoch = self.collector.epoch.load(Acquire);
            let mut of_others = Vec::new();
            if let Ok(mut left) = self.collector.left.try_lock() {
                while let Some(objects) = self.collector.take(&mut left, epoch) {
                    of_others.push(objects);
                }
            }
            drop(of_others);
            loop {
                let objects = self.collector.take(&mut self.sealed.borrow_mut(), epoch);
                let Some(objects) = objects else { break };
                drop(objects);
            }
        });
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        self.seal();
        self.collector.left().append(&mut self.sealed.borrow_mut());
        // There are no guards, or they were forgotten. A thread that takes the lock later to advance, and does not find
        // the slot, sees that we use nothing any more.
        self.collector.slots().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        // Handles that do not live for 128 pins must ask the pacer too. Only at the end, since a destructor may panic
        // there: by now the handle has given its objects away and has removed its slot.
        self.collect(1);
    }
}

impl fmt::Debug for Handle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("guards", &self.guards.get()).finish_non_exhaustive()
    }
}

/// The epoch stays pinned until the guard is dropped. If the guard is forgotten, everything that is retired, through
/// whichever handle, waits until the handle of this guard is dropped.
#[derive(Debug)]
#[must_use = "it is dropped at once, and protects nothing"]
pub struct Guard<'h> {
    handle: &'h Handle<'h>,
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        let guards = self.handle.guards.get() - 1;
        self.handle.guards.set(guards);
        if guards == 0 {
            // Release: our uses of what we found come before this store. Pairs with: the heavy fence after the scan in
            // `Collector::try_advance`.
            self.handle.slot.store(FREE, Release);
        }
    }
}
