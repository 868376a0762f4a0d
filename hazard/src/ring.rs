//! The retired objects of a thread, in a ring of its own. The thread adds to the ring without a read-modify-write, and
//! empties the ring itself, a few objects at a time. Another thread may empty it while it holds the ring's lock.
//!
//! ```text
//! positions   kept   head .......... condemned .......... fenced .......... tail
//!             |      | covered by the   | may be condemned | retired too lately
//!             |      | last scan: to be
//!             |      | freed, or kept
//!             protected at the last scan
//! ```
//!
//! Positions count objects. They only grow, and wrap. The ring is a list of blocks. So it grows by a block, without a
//! copy and without the lock.
//!
//! # Who writes what
//!
//! - The *owner* has set `owned`: a thread, or for one call a thread that has no ring. Only the owner writes `tail` and
//!   `Own`.
//! - The holder of `lock` writes `Inside`: `head`, `condemned`, the last scan, and the objects that were kept. No
//!   destructor runs while the lock is held.
//! - A thread that knows of a heavy fence raises `fenced`.
//!
//! # Why an object is freed once, and not while it is protected
//!
//! FENCED: an object below `fenced` was retired before a heavy fence that has ended. Some thread loaded `tail` *before*
//! that fence (Acquire, which pairs with the owner's Release in `put`: the object was unlinked, and the item written).
//! Then it executed the fence, or it took a ticket, which a later fence of any thread served (`noted.rs`). `fenced` was
//! raised to the loaded value *after* the fence (Release).
//!
//! SCANNED: an object is condemned only by a scan of the slots that began *after* a heavy fence before which the object
//! was retired. The object was below `fenced`, which was loaded before the scan (Acquire, which pairs with that
//! Release). Or it was below a tail that a reclaim had loaded before its own heavy fence, and the scan is that
//! reclaim's. So the order is unlink, heavy fence, scan: scenario A of the crate. If a scan finds an object protected,
//! the object is kept until a later scan. That scan needs no other fence, because no reader can have begun to protect
//! the object after the first scan.
//!
//! While a reclaim scans, another thread may condemn objects beyond the reclaim's tail, by a later heavy fence. The
//! scan of the reclaim says nothing about these objects, so [`Ring::take`] makes a new scan.
//!
//! ONCE: the holder of the lock copies an item out, and moves `head` past the item before it gives the lock back.
//! Destructors run after that. The lock is taken by an Acquire exchange and given back by a Release store, so the next
//! holder begins at the new `head`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::{self, MaybeUninit};
use core::ptr;

use crate::clock::{self, Wait};
use crate::freed::Freed;
use crate::item::Item;
use crate::panics::through_panics;
use crate::prefetch;
use crate::slots::{Scan, Slots};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{
    AtomicBool, AtomicPtr, AtomicUsize, LOOM, Number, UnsafeCell, closing, get_mut, yield_now,
};

/// Objects in a block. With the link to the next block this is the largest size that glibc caches for a thread.
const BLOCK: usize = if LOOM { 4 } else { 64 };

/// The maximum number of objects that are freed at a time.
pub(crate) const AT_ONCE: usize = 64;

/// The maximum number of objects between two checks of a ring, and between two readings of the clock.
pub(crate) const FARTHEST: usize = 32;

/// How often a thread that waits for a ring's lock (a reclaim, or an owner in a hurry) tries to take it, and for how
/// many microseconds at most where there is a clock. (The number of tries alone would not bound the time: beside busy
/// programs a single yield may take milliseconds.) The lock is held only for a short look. Only a thread that a fork
/// did not copy holds it for ever.
const TRIES: u32 = if LOOM { 2 } else { 10_000 };
const LONGEST: usize = 200_000;

/// The patience with which a thread waits for locks. After one wait in vain it only spins a few times for each further
/// lock: after a fork many rings may stay locked, and a reclaim looks at all of them.
pub(crate) struct Patience<C> {
    clock: C,
    is_over: bool,
}

impl<C: Fn() -> Option<usize>> Patience<C> {
    pub(crate) fn new(clock: C) -> Self {
        Patience { clock, is_over: false }
    }
}

/// Is `a` after `b`?
#[inline]
pub(crate) fn after(a: usize, b: usize) -> bool {
    a.wrapping_sub(b) as isize > 0
}

/// If objects come this many microseconds apart, reading the clock for each costs little.
const SLOW: usize = 3;

type Place = UnsafeCell<MaybeUninit<Item>>;

#[derive(Debug)]
struct Block {
    items: [Place; BLOCK],
    /// Written by the owner before it puts an object into that block.
    next: UnsafeCell<*mut Block>,
}

impl Block {
    fn new() -> *mut Self {
        Box::into_raw(Box::new(Block {
            items: core::array::from_fn(|_| UnsafeCell::new(MaybeUninit::uninit())),
            next: UnsafeCell::new(ptr::null_mut()),
        }))
    }
}

/// Used only by the owner.
#[derive(Debug)]
struct Own {
    tail: usize,
    /// The block into which the next object goes. (After a `put` that has filled it, this is still the full block,
    /// until `make_room` links the next one and stores it here.) Position `BLOCK * n` is the first of a block.
    last: *mut Block,
    /// The position at which the owner next checks the ring.
    limit: usize,
    /// The position of the last check, and that of the next review.
    looked: usize,
    review: usize,
    /// Objects and bytes that the domain has counted.
    counted: usize,
    counted_bytes: usize,
    /// How many objects the owner has to free. `extend` adds one for each object that was put in, and `settle` takes
    /// one off for each that the owner frees in a retire (and may add some). `put_off`, `forgive` and `reviewed` lower
    /// it.
    debt: usize,
    /// How many objects the owner frees at each check at least, even if it owes fewer: set by the last review.
    most: usize,
    /// What was counted at a check that was put off.
    put_off: Counted,
    pace: Pace,
}

/// How fast the owner retires, and so how often it reads the clock.
#[derive(Debug)]
struct Pace {
    /// Objects between two readings of the clock, a power of two; and the position of the next reading.
    every: usize,
    at: usize,
    /// The time of the last reading, in microseconds.
    last: usize,
}

/// Protected by the lock.
#[derive(Debug)]
struct Inside {
    head: usize,
    /// The block from which the next object is taken, and the number of objects taken from it. If all are taken, the
    /// next object is in the next block.
    first: *mut Block,
    used: usize,
    condemned: usize,
    /// The last scan, which condemned them.
    scan: Scan,
    /// Objects that were taken out and are protected.
    kept: Vec<Item>,
    /// So many of the kept objects, from the first, have not been compared with the last scan yet.
    unexamined: usize,
}

/// A ring of a domain.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Ring {
    /// Objects ever put in.
    tail: AtomicUsize,
    own: UnsafeCell<Own>,
    /// Bytes ever put in.
    bytes: Number,
    /// What the owner freed when it retired. (What its reclaims free is counted in `Untyped::freed`.)
    freed: Freed,
    /// An empty block that the holder of the lock passes to the owner.
    spare: AtomicPtr<Block>,
    shared: Shared,
}

/// A cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shared {
    lock: AtomicBool,
    inside: UnsafeCell<Inside>,
    /// `head`, and the number of objects kept.
    gone: Number,
    kept: Number,
    /// The bytes of the objects kept.
    kept_bytes: Number,
    fenced: AtomicUsize,
    /// The position up to which other threads should empty the ring, because its owner does not.
    behind: Number,
    owned: AtomicBool,
    next: *mut Ring,
}

// SAFETY: the owner uses `own`, and the holder of the lock uses `inside`. The owner uses an item and a block's link
// until `tail` is stored after them. From then on the holder of the lock uses them, until it gives the block back.
// Items may be freed in any thread: the caller guaranteed that when it retired them. `next` does not change.
unsafe impl Sync for Ring {}
// SAFETY: as above.
unsafe impl Send for Ring {}

/// Objects that no thread uses, taken out to be freed.
pub(crate) struct Batch {
    items: [MaybeUninit<Item>; AT_ONCE],
    count: usize,
    next: usize,
}

impl Batch {
    #[inline]
    pub(crate) fn new() -> Self {
        Batch { items: [const { MaybeUninit::uninit() }; AT_ONCE], count: 0, next: 0 }
    }

    #[inline]
    fn push(&mut self, item: Item) {
        self.items[self.count].write(item);
        self.count += 1;
    }

    /// Adds the items in these places. There is room.
    ///
    /// # Safety
    ///
    /// They were written, and no thread writes them now.
    #[inline]
    unsafe fn copy(&mut self, places: &[Place]) {
        let end = self.count + places.len();
        for (item, place) in self.items[self.count..end].iter_mut().zip(places) {
            // SAFETY: the contract of this function.
            *item = place.with(|place| unsafe { *place });
        }
        self.count = end;
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// How many objects were taken out of the batch.
    #[inline]
    pub(crate) fn taken(&self) -> usize {
        self.next
    }

    /// The next object. It leaves the batch before its destructor runs.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Item> {
        if self.next == self.count {
            return None;
        }
        // SAFETY: below `count`, so it was written.
        let item = unsafe { self.items[self.next].assume_init() };
        self.next += 1;
        Some(item)
    }
}

/// The held lock of a ring.
struct Locked<'r>(&'r Ring);

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: everything that was done under the lock. Pairs with: the Acquire in `Ring::lock`.
        self.0.shared.lock.store(false, Release);
    }
}

/// The result of a look for objects to free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Objects that stay: all that are kept because they are protected, and those below the position that were not
    /// taken out. If another thread has the lock, about as many as wait below the position.
    pub(crate) kept: usize,
    /// Whether there is more to take out.
    pub(crate) more: bool,
}

/// What a thread has counted at a check of its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counted {
    Nothing,
    Something,
    /// So many bytes that they alone were enough to count.
    Large,
}

/// What a check of the owner has found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extended {
    /// Objects since the last check.
    pub(crate) new: usize,
    /// Bytes since the domain last counted this ring.
    pub(crate) bytes: usize,
    /// Whether it is time to count them, or to read the clock.
    pub(crate) is_time: bool,
    /// What was counted at the checks that were put off to this one.
    pub(crate) put_off: Counted,
}

/// The result of a reading of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speed {
    /// The clock was not read, or there is none.
    Unknown,
    Fast(usize),
    /// The time now. Objects come so rarely that the clock may be read for each.
    Slow(usize),
}

impl Ring {
    /// The owner checks the ring when this many objects are in it.
    fn new(stride: usize) -> Self {
        let block = Block::new();
        Ring {
            tail: AtomicUsize::new(0),
            own: UnsafeCell::new(Own {
                tail: 0,
                last: block,
                limit: stride.min(BLOCK),
                looked: 0,
                review: 0,
                counted: 0,
                counted_bytes: 0,
                debt: 0,
                most: 0,
                put_off: Counted::Nothing,
                // `last` lies `SLOW` microseconds before 0, which is the first reading of the clock in a new process.
                // So the first object counts as slow.
                pace: Pace { every: 1, at: 0, last: 0_usize.wrapping_sub(SLOW) },
            }),
            bytes: Number::new(0),
            freed: Freed::new(),
            spare: AtomicPtr::new(ptr::null_mut()),
            shared: Shared {
                lock: AtomicBool::new(false),
                inside: UnsafeCell::new(Inside {
                    head: 0,
                    first: block,
                    used: 0,
                    condemned: 0,
                    scan: Scan::none(),
                    kept: Vec::new(),
                    unexamined: 0,
                }),
                gone: Number::new(0),
                kept: Number::new(0),
                kept_bytes: Number::new(0),
                fenced: AtomicUsize::new(0),
                behind: Number::new(0),
                owned: AtomicBool::new(true),
                next: ptr::null_mut(),
            },
        }
    }

    /// # Safety
    ///
    /// Called by the owner, which is not in another call of this.
    #[inline]
    unsafe fn own<R>(&self, work: impl FnOnce(&mut Own) -> R) -> R {
        // SAFETY: the contract of this function.
        self.own.with_mut(|own| work(unsafe { &mut *own }))
    }

    /// Puts an object in. Returns whether it is time to check the ring.
    ///
    /// # Safety
    ///
    /// Called by the owner. The object was unlinked before. If the last `put` returned true, [`extend`](Ring::extend)
    /// has been called since, and before it [`make_room`](Ring::make_room) if the ring [is full](Ring::is_full).
    #[inline]
    pub(crate) unsafe fn put(&self, item: Item, weight: usize) -> bool {
        // Relaxed: only the owner writes this number.
        self.bytes.store(self.bytes.load(Relaxed).wrapping_add(weight), Relaxed);
        let put = |own: &mut Own| {
            // SAFETY: the last block lives until all its objects are taken, and there is room in it.
            let place = unsafe { &(&(*own.last).items)[own.tail % BLOCK] };
            // SAFETY: the owner's until `tail` is stored.
            place.with_mut(|place| unsafe { *place = MaybeUninit::new(item) });
            own.tail = own.tail.wrapping_add(1);
            // Release: the object was unlinked, the item and the link to its block written. Pairs with: the
            // Acquire in `tail`. FENCED.
            self.tail.store(own.tail, Release);
            own.tail == own.limit
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(put) }
    }

    /// Whether the last block has no room. Then [`make_room`](Ring::make_room) may allocate.
    ///
    /// # Safety
    ///
    /// Called by the owner, after a `put` that returned true, before `make_room`. The last block has at least one object.
    #[inline]
    pub(crate) unsafe fn is_full(&self) -> bool {
        // SAFETY: the contract of this function.
        unsafe { self.own(|own| own.tail % BLOCK == 0) }
    }

    /// Adds a block. An allocator may run code of the program, which may retire. If it panics, the ring stays full.
    ///
    /// # Safety
    ///
    /// Called by the owner, once after each `put` after which the ring [is full](Ring::is_full), before `extend`. Until
    /// this has returned, there is no other call by the owner: so what an allocator runs does not find the ring.
    pub(crate) unsafe fn make_room(&self) {
        let block = self.spare_block();
        let link = |own: &mut Own| {
            // SAFETY: the last block lives until all its objects are taken, and no thread goes beyond it before
            // `tail` is stored.
            unsafe { &(*own.last).next }.with_mut(|next| unsafe { *next = block });
            own.last = block;
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(link) };
    }

    /// Sets how many objects may come before the next check. Returns what came since the last one. Allocates nothing.
    ///
    /// # Safety
    ///
    /// Called by the owner, once after each `put` that returned true, before the next `put`. There is room.
    #[inline]
    pub(crate) unsafe fn extend(&self, stride: usize) -> Extended {
        // Relaxed: only we write this number.
        let bytes = self.bytes.load(Relaxed);
        let extend = |own: &mut Own| {
            let room = BLOCK - own.tail % BLOCK;
            own.limit = own.tail.wrapping_add(stride.min(own.pace.every).min(room));
            let new = own.tail.wrapping_sub(own.looked);
            own.looked = own.tail;
            own.debt = own.debt.saturating_add(new);
            Extended {
                new,
                bytes: bytes.wrapping_sub(own.counted_bytes),
                is_time: !after(own.review, own.tail),
                put_off: mem::replace(&mut own.put_off, Counted::Nothing),
            }
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(extend) }
    }

    /// Puts off the check that [`extend`](Ring::extend) has begun: the next one comes with the next object. `new` is what
    /// `extend` returned, and `counted` is what was counted since.
    ///
    /// # Safety
    ///
    /// Called by the owner.
    pub(crate) unsafe fn put_off(&self, new: usize, counted: Counted) {
        let put_off = |own: &mut Own| {
            own.limit = own.tail.wrapping_add(1);
            own.looked = own.looked.wrapping_sub(new);
            own.debt = own.debt.saturating_sub(new);
            own.put_off = counted;
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(put_off) }
    }

    /// Makes the owner check the ring, and read the clock, when the next object comes: also in a new ring, which would
    /// otherwise be checked at its `stride`th object.
    ///
    /// # Safety
    ///
    /// Called by the owner.
    pub(crate) unsafe fn begin_anew(&self) {
        let begin = |own: &mut Own| {
            own.limit = own.tail.wrapping_add(1);
            own.review = own.tail;
            (own.pace.every, own.pace.at) = (1, own.tail);
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(begin) }
    }

    #[inline(never)]
    fn spare_block(&self) -> *mut Block {
        // Acquire: its items were read. Pairs with: the Release in `Inside::next_block`.
        let spare = self.spare.load(Acquire);
        if spare.is_null() {
            return Block::new();
        }
        // Relaxed: a thread that sees null stores another block, whose fields do not depend on this one.
        self.spare.store(ptr::null_mut(), Relaxed);
        // SAFETY: the block is ours. It still has the link of its last use.
        unsafe { &(*spare).next }.with_mut(|next| unsafe { *next = ptr::null_mut() });
        spare
    }

    /// Objects and bytes for the domain to count, if they are enough.
    ///
    /// # Safety
    ///
    /// Called by the owner.
    pub(crate) unsafe fn to_count(&self, objects: usize, bytes: usize) -> Option<(usize, usize)> {
        // Relaxed: only we write this number.
        let all_bytes = self.bytes.load(Relaxed);
        let count = |own: &mut Own| {
            let new = own.tail.wrapping_sub(own.counted);
            let new_bytes = all_bytes.wrapping_sub(own.counted_bytes);
            // guard survives: the bound of bytes by `>` counts them one byte later.
            (new >= objects || new_bytes >= bytes).then(|| {
                (own.counted, own.counted_bytes) = (own.tail, all_bytes);
                (new, new_bytes)
            })
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(count) }
    }

    /// Reads the clock now and then: the faster objects come, the less often.
    ///
    /// # Safety
    ///
    /// Called by the owner.
    pub(crate) unsafe fn speed(&self, clock: impl FnOnce() -> Option<usize>) -> Speed {
        // SAFETY: the contract of this function.
        if unsafe { self.own(|own| after(own.pace.at, own.tail)) } {
            return Speed::Unknown;
        }
        // Not inside `own`: the first reading allocates, and what an allocator runs may retire.
        let now = clock();
        let look = |own: &mut Own| {
            let Pace { every, at, last } = &mut own.pace;
            let Some(now) = now else {
                *every = FARTHEST;
                *at = own.tail.wrapping_add(usize::MAX / 4);
                return Speed::Unknown;
            };
            let objects = *every;
            let is_slow = now.wrapping_sub(*last) >= SLOW * objects;
            *every = if is_slow { 1 } else { FARTHEST.min(2 * objects) };
            *at = own.tail.wrapping_add(*every);
            *last = now;
            if is_slow { Speed::Slow(now) } else { Speed::Fast(now) }
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(look) }
    }

    /// Ends a review. From now on the owner frees at least `most` objects at a check. The next review comes when
    /// the owner has put in `objects` objects since the domain last counted its objects, or when it is time to read the
    /// clock.
    ///
    /// # Safety
    ///
    /// Called by the owner.
    pub(crate) unsafe fn reviewed(&self, objects: usize, most: usize) {
        let reviewed = |own: &mut Own| {
            // No more than there are: other threads may have freed some.
            own.debt = own.debt.min(self.waiting(own.tail));
            own.most = most;
            let counts = own.counted.wrapping_add(objects);
            own.review = if after(counts, own.pace.at) { own.pace.at } else { counts };
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(reviewed) }
    }

    /// How many objects the owner frees at this check: those that it owes, at most `pace`, and at least as many as the
    /// last review set. Never more than a batch holds. If a batch has fewer objects than were asked for, the caller
    /// takes that for the end of the ring, and forgives the rest of the debt. It must not do so after a full batch.
    ///
    /// # Safety
    ///
    /// Called by the owner.
    #[inline]
    pub(crate) unsafe fn most(&self, pace: usize) -> usize {
        // SAFETY: the contract of this function.
        unsafe { self.own(|own| own.debt.min(pace).min(AT_ONCE).max(own.most)) }
    }

    /// Records that there is nothing left for the owner to free now. The objects that it has put in since the last
    /// heavy fence are no debt: after the next one it frees an object for each that it puts in, and no burst, since
    /// that would not fit into the allocator's cache.
    ///
    /// # Safety
    ///
    /// Called by the owner.
    pub(crate) unsafe fn forgive(&self) {
        // SAFETY: the contract of this function.
        unsafe { self.own(|own| own.debt = 0) };
    }

    /// Records that the owner has to free more objects, or has freed these objects and bytes.
    ///
    /// # Safety
    ///
    /// Called by the owner.
    #[inline]
    pub(crate) unsafe fn settle(&self, more: usize, freed: usize, bytes: usize) {
        let settle = |own: &mut Own| own.debt = own.debt.saturating_add(more).saturating_sub(freed);
        // SAFETY: the contract of this function.
        unsafe { self.own(settle) };
        // guard survives: by `>=` nothing would be added.
        if freed > 0 {
            self.freed.add_alone(freed, bytes);
        }
    }

    /// Objects ever put in. Read before a heavy fence (FENCED), or only as a number.
    #[inline]
    pub(crate) fn tail(&self) -> usize {
        // Acquire: the objects before it were unlinked, and their items written. Pairs with: the Release in `put`.
        // survives: the heavy fence that follows acquires as much. A sanitizer sees no fences.
        self.tail.load(Acquire)
    }

    /// Objects and bytes that the owner ever freed when it retired.
    pub(crate) fn freed(&self) -> (usize, usize) {
        self.freed.read()
    }

    /// Bytes ever put in.
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: a number for reports.
        self.bytes.load(Relaxed)
    }

    /// About how many objects in the ring come before the position `tail`.
    pub(crate) fn waiting(&self, tail: usize) -> usize {
        // Relaxed: numbers that decide when something is done, never what.
        let waiting = tail.wrapping_sub(self.shared.gone.load(Relaxed)) as isize;
        waiting.max(0) as usize + self.shared.kept.load(Relaxed)
    }

    /// About how many bytes the objects hold that were protected at the last scan.
    pub(crate) fn kept_bytes(&self) -> usize {
        // Relaxed: a number that decides how many objects are freed at a time.
        self.shared.kept_bytes.load(Relaxed)
    }

    /// The position up to which a heavy fence has served the objects.
    pub(crate) fn fenced(&self) -> usize {
        // Relaxed: it decides when a thread has freed enough. A look loads it again.
        self.shared.fenced.load(Relaxed)
    }

    /// Whether an object before this position has not been taken out yet.
    pub(crate) fn has_before(&self, position: usize) -> bool {
        // Relaxed: as above.
        after(position, self.shared.gone.load(Relaxed))
    }

    /// Called after a heavy fence: the objects before `tail`, which was read before the fence, are fenced. Returns the
    /// old `fenced`.
    pub(crate) fn raise(&self, tail: usize) -> usize {
        // Relaxed: only for the comparison.
        let mut fenced = self.shared.fenced.load(Relaxed);
        while after(tail, fenced) {
            // Release: the heavy fence has ended. Pairs with: the Acquire in `look`. FENCED.
            // survives: a thread that has executed the heavy fence itself, or has seen in an asymmetric process that
            // its ticket is served, has executed a fence that releases as much. A symmetric process needs this Release
            // when a thread raises `fenced` by a ticket that another thread has taken, and no model has such a ticket
            // and a real ring. A sanitizer sees no fences.
            match self.shared.fenced.compare_exchange_weak(fenced, tail, Release, Relaxed) {
                Ok(_) => break,
                Err(found) => fenced = found,
            }
        }
        fenced
    }

    /// Whether the ring has an owner.
    pub(crate) fn is_owned(&self) -> bool {
        // Relaxed: advice.
        self.shared.owned.load(Relaxed)
    }

    /// Asks other threads to empty the ring up to this position.
    pub(crate) fn falls_behind(&self, position: usize) {
        // Relaxed: advice.
        self.shared.behind.store(position, Relaxed);
    }

    /// The position up to which other threads should empty the ring.
    pub(crate) fn behind(&self) -> Option<usize> {
        // Relaxed: advice.
        let position = self.shared.behind.load(Relaxed);
        // guard survives: by `>=` others would look at an empty ring, and find nothing in it.
        (self.waiting(position) > 0).then_some(position)
    }

    #[inline]
    fn lock(&self) -> Option<Locked<'_>> {
        // Relaxed: a first check, which does not take the cache line. Acquire: what was done under the lock before.
        // Pairs with: the Release of `Locked`.
        let lock = &self.shared.lock;
        let is_free =
            !lock.load(Relaxed) && lock.compare_exchange(false, true, Acquire, Relaxed).is_ok();
        is_free.then(|| Locked(self))
    }

    #[cfg(all(test, feature = "std"))]
    pub(crate) fn lock_for_ever(&self) {
        mem::forget(self.lock().expect("nobody else's"));
    }

    /// As `lock`, but waits if another thread holds the lock. That thread only looks, which is short. It may be
    /// preempted or gone, so the wait ends after `LONGEST` or `TRIES`, and then the patience is over.
    fn lock_patiently(
        &self,
        patience: &mut Patience<impl Fn() -> Option<usize>>,
    ) -> Option<Locked<'_>> {
        let mut wait = Wait::default();
        for tries in 0..TRIES {
            match self.lock() {
                Some(locked) => return Some(locked),
                // guard survives: whether a try spins or yields decides only how soon the next one comes.
                None if tries < 64 && !LOOM => core::hint::spin_loop(),
                None => yield_now(),
            }
            if tries >= 64 && (patience.is_over || wait.is_longer_than(LONGEST, (patience.clock)()))
            {
                break;
            }
        }
        patience.is_over = true;
        None
    }

    /// A look by the owner: takes out up to `most` objects that no thread uses. Scans the slots if everything that the
    /// last scan condemned is gone and a heavy fence has come since.
    ///
    /// If another thread has the lock, the owner tries again next time, or waits for the lock if `is_urgent`. The wait
    /// is bounded, because the other thread may have been preempted. Returns false if the owner has waited in vain.
    #[inline]
    pub(crate) fn take_own(
        &self,
        slots: &Slots,
        most: usize,
        is_urgent: impl FnOnce() -> bool,
        batch: &mut Batch,
    ) -> bool {
        let mut locked = self.lock();
        if locked.is_none() {
            if !is_urgent() {
                return true;
            }
            locked = self.lock_patiently(&mut Patience::new(clock::now));
        }
        let Some(locked) = locked else { return false };
        locked.inside(|inside| {
            inside.look_when_done(self, slots, false);
            inside.take(self, inside.condemned, most, batch);
        });
        true
    }

    /// A look by another thread, for an absent owner: as `take_own`, up to a position, but it never waits for the lock,
    /// and also scans the slots if no heavy fence has come since the last scan. Returns whether the batch is full, so
    /// that there may be more. False if what the last scan condemned has run out before the position (there may be
    /// more, for another scan), or if another thread holds the lock.
    pub(crate) fn take_for_owner(
        &self,
        slots: &Slots,
        until: usize,
        most: usize,
        batch: &mut Batch,
    ) -> bool {
        let Some(locked) = self.lock() else { return false };
        locked.inside(|inside| {
            inside.look_when_done(self, slots, true);
            inside.take(self, until, most, batch);
            batch.count == most.min(AT_ONCE)
        })
    }

    /// For a reclaim: takes out the objects before `tail` and the kept ones, if no thread uses them and there is room.
    /// `tail` was read before a heavy fence, and `scan` was made after it. If this is the first such call of the
    /// reclaim, it `condemns` first.
    pub(crate) fn take(
        &self,
        tail: usize,
        scan: &Scan,
        condemns: bool,
        slots: &Slots,
        patience: &mut Patience<impl Fn() -> Option<usize>>,
        batch: &mut Batch,
    ) -> Looked {
        let Some(locked) = self.lock_patiently(patience) else {
            return Looked { kept: self.waiting(tail), more: false };
        };
        locked.inside(|inside| {
            if condemns {
                if after(inside.condemned, tail) {
                    // A later heavy fence was used here. The objects that are kept or condemned may have been retired
                    // after our fence, so our scan does not know whether they are protected.
                    inside.look(self, slots, true);
                } else {
                    inside.condemn(tail, scan.clone());
                }
            }
            inside.take(self, tail, AT_ONCE, batch);
            let rest = tail.wrapping_sub(inside.head) as isize;
            Looked { kept: inside.kept.len() + rest.max(0) as usize, more: batch.count == AT_ONCE }
        })
    }

    /// Puts back an object that was taken out and not freed. If another thread keeps the lock, the object leaks.
    pub(crate) fn keep(&self, item: Item) {
        if let Some(locked) = self.lock_patiently(&mut Patience::new(clock::now)) {
            locked.inside(|inside| inside.keep(self, item));
        }
    }

    /// Ends the ownership. The next owner and other threads free the objects in the ring.
    fn release(&self) {
        // Release: everything that the owner did. Pairs with: the Acquire in `Rings::take`.
        self.shared.owned.store(false, Release);
    }
}

impl Locked<'_> {
    #[inline]
    fn inside<R>(&self, work: impl FnOnce(&mut Inside) -> R) -> R {
        self.0.shared.inside.with_mut(|inside| {
            // SAFETY: we hold the lock, and no other borrow of `self` exists.
            let inside = unsafe { &mut *inside };
            let result = work(inside);
            // Relaxed: a number that decides when something is done, never what is done.
            self.0.shared.gone.store(inside.head, Relaxed);
            self.0.shared.kept.store(inside.kept.len(), Relaxed);
            result
        })
    }
}

impl Inside {
    /// Scans the slots, if there was a heavy fence since the last scan, or if `anyway`.
    #[inline]
    fn look(&mut self, ring: &Ring, slots: &Slots, anyway: bool) {
        // Acquire: the heavy fence has ended before the scan. Pairs with: the Release in `raise`. SCANNED.
        let fenced = ring.shared.fenced.load(Acquire);
        if anyway || after(fenced, self.condemned) {
            self.condemn(fenced, slots.protected());
        }
    }

    /// The same, if everything that the last scan condemned is gone.
    #[inline]
    fn look_when_done(&mut self, ring: &Ring, slots: &Slots, anyway: bool) {
        if self.head == self.condemned && self.unexamined == 0 {
            self.look(ring, slots, anyway);
        }
    }

    /// Records `scan`. It was made after a heavy fence, before which all objects below `position` were retired.
    #[inline]
    fn condemn(&mut self, position: usize, scan: Scan) {
        self.condemned = position;
        self.scan = scan;
        self.unexamined = self.kept.len();
    }

    /// Takes out up to `most` objects before `until`, and keeps the protected ones.
    #[inline(always)]
    fn take(&mut self, ring: &Ring, until: usize, most: usize, batch: &mut Batch) {
        let most = most.min(AT_ONCE);
        // guard survives: by `>=` the call would take nothing.
        if self.unexamined > 0 {
            self.take_kept(ring, most, batch);
        }
        let until = if after(until, self.condemned) { self.condemned } else { until };
        while batch.count < most && after(until, self.head) {
            let there = until.wrapping_sub(self.head);
            // SAFETY: they are before `condemned`, and so before `tail`.
            let places = unsafe { self.go_on(ring, there.min(most - batch.count)) };
            if self.scan.is_empty() {
                // SAFETY: we hold the lock.
                unsafe { batch.copy(places) };
                continue;
            }
            for place in places {
                // SAFETY: only read, because we hold the lock.
                let item = place.with(|place| unsafe { *place });
                // SAFETY: written before the store of `tail`, which came before the last heavy fence.
                let item = unsafe { item.assume_init() };
                if self.scan.contains(item.object()) {
                    self.keep(ring, item);
                } else {
                    batch.push(item);
                }
            }
        }
        // The next call takes out as many, mostly.
        self.prefetch(batch.count);
    }

    /// Takes out up to `most` of the objects that were kept until the last scan.
    #[inline(never)]
    fn take_kept(&mut self, ring: &Ring, most: usize, batch: &mut Batch) {
        while self.unexamined > 0 && batch.count < most {
            self.unexamined -= 1;
            if !self.scan.contains(self.kept[self.unexamined].object()) {
                let item = self.kept.swap_remove(self.unexamined);
                // Relaxed, both: only the holder of the lock writes this number.
                let bytes = &ring.shared.kept_bytes;
                bytes.store(bytes.load(Relaxed).wrapping_sub(item.weight()), Relaxed);
                batch.push(item);
            }
        }
    }

    /// Keeps an object, because it is protected.
    #[inline(never)]
    fn keep(&mut self, ring: &Ring, item: Item) {
        // Relaxed, both: as above.
        let bytes = &ring.shared.kept_bytes;
        bytes.store(bytes.load(Relaxed).wrapping_add(item.weight()), Relaxed);
        self.kept.push(item);
    }

    /// Fetches the next so many objects, as far as they are condemned and in this block.
    #[inline]
    fn prefetch(&self, ahead: usize) {
        // loom counts each read of a place, so a prefetch would only make a model larger.
        // guard survives: a prefetch changes nothing, and a model without it is only smaller.
        let ahead = if LOOM { 0 } else { ahead };
        let there = self.condemned.wrapping_sub(self.head) as isize;
        let end = BLOCK.min(self.used + ahead.min(there.max(0) as usize));
        for index in self.used..end {
            // SAFETY: a block lives until all its objects are taken, and we hold the lock.
            let place = unsafe { &(&(*self.first).items)[index] };
            // SAFETY: only read, since no thread writes it before it is taken out.
            let item = place.with(|place| unsafe { *place });
            // SAFETY: before `condemned`, so it was written before the last heavy fence.
            prefetch::for_writing(unsafe { item.assume_init() }.object());
        }
    }

    /// Moves on by up to `most` objects, and returns the places of those.
    ///
    /// # Safety
    ///
    /// At least `most` objects come from `head` on. The places are used before the next call, and before the lock is
    /// given back.
    #[inline]
    unsafe fn go_on<'a>(&mut self, ring: &Ring, most: usize) -> &'a [Place] {
        if self.used == BLOCK {
            // SAFETY: there is an item after this block, so the owner has linked the next block.
            unsafe { self.next_block(ring) };
        }
        // SAFETY: a block lives until all its objects are taken, and we hold the lock.
        let places = unsafe { &(&(*self.first).items)[self.used..] };
        let places = &places[..most.min(places.len())];
        self.used += places.len();
        self.head = self.head.wrapping_add(places.len());
        places
    }

    /// Gives the first block, whose objects are all taken, to the owner, or frees it.
    ///
    /// # Safety
    ///
    /// There is a next block.
    unsafe fn next_block(&mut self, ring: &Ring) {
        let empty = self.first;
        // SAFETY: the block is ours to free, and the owner does not come back to it.
        let next = unsafe { &(*empty).next }.with(|next| unsafe { *next });
        (self.first, self.used) = (next, 0);
        // Relaxed: only the holder of the lock stores one there.
        // guard survives: inverted, no block would be passed on, and the owner would allocate each.
        if ring.spare.load(Relaxed).is_null() {
            // Release: its items were read. Pairs with: the Acquire in `spare_block`.
            ring.spare.store(empty, Release);
        } else {
            // SAFETY: from a box.
            drop(unsafe { Box::from_raw(empty) });
        }
    }
}

impl Drop for Ring {
    /// Frees the objects in it. The caller, who drops the domain, guarantees that no hazard pointer protects them any
    /// more.
    fn drop(&mut self) {
        // SAFETY: `&mut` shows that no other thread uses the ring.
        let tail = self.own.with(|own| unsafe { (*own).tail });
        let this = &*self;
        this.shared.inside.with_mut(|inside| {
            // SAFETY: as above.
            let inside = unsafe { &mut *inside };
            through_panics(|| {
                while let Some(item) = inside.kept.pop() {
                    // SAFETY: no thread uses an object that no hazard pointer protects.
                    unsafe { item.free() };
                }
                while inside.head != tail {
                    // SAFETY: before `tail`.
                    for place in unsafe { inside.go_on(this, 1) } {
                        // SAFETY: as above.
                        let item = place.with(|place| unsafe { *place });
                        // SAFETY: as above.
                        let item = unsafe { item.assume_init() };
                        // SAFETY: as above.
                        unsafe { item.free() };
                    }
                }
            });
            // The last block, and an empty one that the owner may have linked behind it.
            // guard survives: only models and unit tests drop a ring, and none counts its blocks.
            while !inside.first.is_null() {
                // SAFETY: from a box.
                let block = unsafe { Box::from_raw(inside.first) };
                // SAFETY: as above.
                inside.first = block.next.with(|next| unsafe { *next });
            }
        });
        let spare = get_mut(&mut self.spare);
        if !spare.is_null() {
            // SAFETY: from a box, and in no list.
            drop(unsafe { Box::from_raw(spare) });
        }
    }
}

/// Every ring of a domain: a list that only grows.
#[derive(Debug)]
pub(crate) struct Rings {
    newest: AtomicPtr<Ring>,
    /// The number of rings that have an owner.
    owned: Number,
    /// Objects and bytes that owners had not reported when they left.
    left: [Number; 2],
}

macro_rules! new {
    ($($constness:ident)?) => {
        pub(crate) $($constness)? fn new() -> Self {
            Rings {
                newest: AtomicPtr::new(ptr::null_mut()),
                owned: Number::new(0),
                left: [const { Number::new(0) }; 2],
            }
        }
    };
}

impl Rings {
    crate::sync::const_where_possible!(new);

    /// How many rings have an owner.
    #[inline]
    pub(crate) fn owned(&self) -> usize {
        // Relaxed: a size, for thresholds and reports.
        self.owned.load(Relaxed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ring> {
        // Acquire: the ring was initialised before it was found here. Pairs with: the Release in `take`.
        self.from(self.newest.load(Acquire))
    }

    /// The rings from this one on, which is in the list or null.
    fn from(&self, ring: *const Ring) -> impl Iterator<Item = &Ring> {
        let mut next = ring;
        core::iter::from_fn(move || {
            // SAFETY: a ring in the list is valid as long as the list, which we borrow.
            let ring = unsafe { next.as_ref() }?;
            next = ring.shared.next;
            Some(ring)
        })
    }

    /// The rings after this one.
    pub(crate) fn behind<'r>(&'r self, ring: &'r Ring) -> impl Iterator<Item = &'r Ring> {
        self.from(ring.shared.next)
    }

    /// Takes a ring without an owner, or a new one. The caller becomes its owner, and checks a new ring when `stride`
    /// objects are in it. A ring that is locked at the moment is passed over, because it may stay locked for ever.
    #[cold]
    pub(crate) fn take(&self, stride: usize) -> &Ring {
        // Relaxed: a size.
        self.owned.fetch_add(1, Relaxed);
        // Relaxed: a first check, and advice. Acquire: everything that the previous owner did. Pairs with: the Release
        // in `release`.
        let is_free = |ring: &&Ring| {
            let Shared { owned, lock, .. } = &ring.shared;
            !owned.load(Relaxed) && !lock.load(Relaxed) && !owned.swap(true, Acquire)
        };
        if let Some(ring) = self.iter().find(is_free) {
            return ring;
        }
        let ring = Box::into_raw(Box::new(Ring::new(stride)));
        // Relaxed: only compared with, by the exchange below.
        let mut next = self.newest.load(Relaxed);
        loop {
            // SAFETY: the ring is ours until it is in the list.
            unsafe { (*ring).shared.next = next };
            // Release: the ring is initialised before it can be found. Pairs with: the Acquire in `iter`. Relaxed on
            // failure: the newer ring that we find is not accessed.
            match self.newest.compare_exchange(next, ring, Release, Relaxed) {
                // SAFETY: the list owns it from now on, and only its atomics and cells change.
                Ok(_) => return unsafe { &*ring },
                Err(newest) => next = newest,
            }
        }
    }

    /// Ends the ownership of the ring.
    pub(crate) fn release(&self, ring: &Ring) {
        // Relaxed: a size.
        self.owned.fetch_sub(1, Relaxed);
        ring.release();
    }

    /// Ends the ownership of the ring. Other threads report what the owner has not reported.
    ///
    /// # Safety
    ///
    /// Called by the owner.
    pub(crate) unsafe fn leave(&self, ring: &Ring) {
        // SAFETY: the contract of this function.
        if let Some((objects, bytes)) = unsafe { ring.to_count(1, usize::MAX) } {
            // Relaxed: numbers that decide when a fence is made, never what it orders.
            self.left[0].fetch_add(objects, Relaxed);
            self.left[1].fetch_add(bytes, Relaxed);
        }
        self.release(ring);
    }

    /// What owners left unreported, if it is enough. The caller reports it.
    #[inline]
    pub(crate) fn left(&self, objects: usize, bytes: usize) -> Option<(usize, usize)> {
        // Relaxed, all: as in `leave`.
        let [left, left_bytes] = &self.left;
        // guard survives: the bounds by `>` count what was left one object or byte later.
        (left.load(Relaxed) >= objects || left_bytes.load(Relaxed) >= bytes)
            .then(|| (left.swap(0, Relaxed), left_bytes.swap(0, Relaxed)))
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        let mut next = get_mut(&mut self.newest);
        closing(|| {
            while !next.is_null() {
                // SAFETY: made by `take`, from a box, and the list is not borrowed any more.
                next = unsafe { Box::from_raw(next) }.shared.next;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::{Family, Thresholds, domain};

    domain! { enum Tests {} = Thresholds { pause: None, ..Thresholds::DEFAULT }; }

    fn retire(count: usize) {
        (0..count).for_each(|_| Tests::domain().retire_box(Box::new(1_u64)));
    }

    /// Why it matters: the second object of a process, if it comes after a pause, finds that it is time for a heavy
    /// fence.
    #[test]
    fn the_clock_is_read_for_the_first_object_and_the_less_often_the_faster_objects_come() {
        if LOOM {
            return; // no model
        }
        let ring = Ring::new(1);
        let speed_after_one = |clock: &dyn Fn() -> Option<usize>| {
            // SAFETY: a box's.
            let item = unsafe { Item::of_box(Box::into_raw(Box::new(1_u8))) };
            // SAFETY: by the owner.
            let _ = unsafe { ring.put(item, 1) };
            // SAFETY: as above. A block has room for all.
            unsafe { ring.extend(1) };
            // SAFETY: as above.
            unsafe { ring.speed(clock) }
        };
        let not_read = || panic!("it is not time");
        assert_eq!(speed_after_one(&|| Some(0)), Speed::Slow(0));
        assert_eq!(speed_after_one(&|| Some(SLOW)), Speed::Slow(SLOW));
        assert_eq!(speed_after_one(&|| Some(5)), Speed::Fast(5));
        assert_eq!(speed_after_one(&not_read), Speed::Unknown);
        assert_eq!(speed_after_one(&|| Some(5 + 2 * SLOW)), Speed::Slow(11));
        assert_eq!(speed_after_one(&|| None), Speed::Unknown);
        assert_eq!(speed_after_one(&not_read), Speed::Unknown);
    }

    #[test]
    fn a_ring_that_is_dropped_frees_what_is_in_it_and_what_was_kept() {
        if LOOM {
            return; // no model
        }
        let objects = Rc::new(());
        let item = || {
            let object = Box::into_raw(Box::new(Rc::clone(&objects)));
            // SAFETY: a box's, of this thread alone.
            unsafe { Item::of_box(object) }
        };
        let ring = Ring::new(1);
        for _ in 0..2 * BLOCK + 1 {
            // SAFETY: by the owner.
            if unsafe { ring.put(item(), 1) } {
                // SAFETY: as above.
                if unsafe { ring.is_full() } {
                    // SAFETY: as above.
                    unsafe { ring.make_room() };
                }
                // SAFETY: as above.
                let _ = unsafe { ring.extend(1) };
            }
        }
        ring.keep(item());
        assert_eq!(Rc::strong_count(&objects), 1 + 2 * BLOCK + 2);
        drop(ring);
        assert_eq!(Rc::strong_count(&objects), 1);
    }

    #[test]
    fn another_thread_takes_nothing_for_the_owner_that_no_heavy_fence_has_served() {
        if LOOM {
            return; // no model
        }
        let (ring, slots, mut batch) = (Ring::new(1), Slots::new(), Batch::new());
        // SAFETY: a box's.
        let item = unsafe { Item::of_box(Box::into_raw(Box::new(1_u8))) };
        // SAFETY: by the owner.
        let _ = unsafe { ring.put(item, 1) };
        assert!(!ring.take_for_owner(&slots, ring.tail(), 1, &mut batch));
        assert!(batch.is_empty());
        // As after a heavy fence.
        ring.raise(ring.tail());
        assert!(ring.take_for_owner(&slots, ring.tail(), 1, &mut batch));
        // SAFETY: nobody else has it.
        unsafe { batch.next().expect("one").free() };
    }

    /// A scan says nothing about what was retired after its heavy fence.
    #[test]
    fn a_reclaim_whose_scan_is_too_old_makes_another() {
        if LOOM {
            return; // no model
        }
        let (ring, slots, mut batch) = (Ring::new(1), Slots::new(), Batch::new());
        let objects = [0_u8, 1].map(|number| Box::into_raw(Box::new(number)));
        let put = |object| {
            // SAFETY: a box's.
            let item = unsafe { Item::of_box(object) };
            // SAFETY: by the owner.
            if unsafe { ring.put(item, 1) } {
                // SAFETY: as above. A block has room for both.
                let _ = unsafe { ring.extend(1) };
            }
        };
        put(objects[0]);
        let (tail, scan) = (ring.tail(), slots.protected());
        put(objects[1]);
        let slot = slots.take(0, |_| ());
        slot.protect(objects[1]);
        // As after a later heavy fence, of the owner: it keeps the second object.
        ring.raise(ring.tail());
        assert!(ring.take_own(&slots, AT_ONCE, || false, &mut batch));
        assert_eq!(batch.len(), 1);
        let looked =
            ring.take(tail, &scan, true, &slots, &mut Patience::new(clock::now), &mut batch);
        assert_eq!((batch.len(), looked.kept), (1, 1));
        // The twin: it is not protected any more.
        slot.protect(ptr::null_mut::<u8>());
        let looked =
            ring.take(tail, &scan, true, &slots, &mut Patience::new(clock::now), &mut batch);
        assert_eq!((batch.len(), looked.kept), (2, 0));
        // SAFETY: nobody else has them.
        core::iter::from_fn(|| batch.next()).for_each(|item| unsafe { item.free() });
    }

    #[test]
    fn a_wait_for_a_lock_that_nobody_gives_back_ends_by_the_clock_or_after_so_many_tries() {
        if LOOM {
            return; // no model
        }
        let ring = Ring::new(1);
        core::mem::forget(ring.lock().expect("nobody has it"));
        // How often the wait reads a clock that shows the end of the wait from the second time on, and, if `late`, a
        // microsecond more from the 101st time on.
        let looked = |begin: usize, late: bool| {
            let count = Cell::new(0_u32);
            let clock = || {
                count.set(count.get() + 1);
                Some(match count.get() {
                    1 => begin,
                    101.. if late => begin.wrapping_add(LONGEST + 1),
                    _ => begin.wrapping_add(LONGEST),
                })
            };
            assert!(ring.lock_patiently(&mut Patience::new(clock)).is_none());
            count.get()
        };
        assert_eq!(looked(0, true), 101);
        assert_eq!(looked(usize::MAX - 5, true), 101);
        // Within the first tries nobody looks at the clock.
        assert_eq!(looked(0, false), TRIES - 64);
        assert!(ring.lock_patiently(&mut Patience::new(|| None)).is_none());
        drop(Locked(&ring));
        assert!(ring.lock_patiently(&mut Patience::new(clock::now)).is_some());
    }

    /// As in a child of fork(2), when a thread of the parent was taking objects out of the ring of the one that forked.
    #[test]
    fn an_owner_whose_ring_stays_locked_takes_another() {
        if LOOM {
            return; // no model
        }
        let rings = Tests::domain().untyped().rings();
        retire(10);
        let ring = rings.iter().next().expect("one");
        core::mem::forget(ring.lock().expect("nobody has it"));
        // With less than its share in the ring it does not wait for the lock. (Without `std` it looks for a ring each time.)
        retire(1_000);
        assert!(!cfg!(feature = "std") || rings.iter().count() == 1);
        retire(20_000);
        assert!(Tests::domain().stats().waiting() <= 4 * 1_024, "{:?}", Tests::domain().stats());
        assert_eq!(rings.iter().count(), 2);
        // What is in it stays.
        let left = ring.waiting(ring.tail());
        assert!(left >= 10);
        Tests::domain().reclaim_all().expect("a heavy fence");
        assert_eq!(Tests::domain().stats().waiting(), left);
        // The lock comes back: so do the ring and what is in it.
        drop(Locked(ring));
        std::thread::spawn(|| retire(1)).join().expect("no panic");
        assert_eq!(rings.iter().count(), 2);
        Tests::domain().reclaim_all().expect("a heavy fence");
        assert_eq!(Tests::domain().stats().waiting(), 0);
    }
}
