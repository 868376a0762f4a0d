//! What a thread has retired: a ring of its own, which the thread writes without a read-modify-write and empties
//! itself, a few objects at a time. Another thread may empty it while it holds the ring's lock.
//!
//! ```text
//! positions   kept   head .......... condemned .......... fenced .......... tail
//!             |      | not protected at | may be condemned | retired too lately
//!             |      | the last scan,
//!             |      | or to be kept
//!             protected at the last scan
//! ```
//!
//! Positions count objects. They only grow, and wrap. The ring is a list of blocks, so it grows by a block, without
//! a copy and without the lock.
//!
//! # Who writes what
//!
//! - The *owner* has `owned`: a thread, or for one call a thread that has no ring. It alone writes `tail` and `Own`.
//! - The holder of `lock` writes `Inside`: `head`, `condemned`, what the last scan saw, and what it kept. No
//!   destructor runs while the lock is held.
//! - A thread that has made a heavy fence raises `fenced`.
//!
//! # Why an object is freed once, and not while it is protected
//!
//! FENCED: an object below `fenced` was retired before a heavy fence that has ended. The thread that made it loaded
//! `tail` *before* the fence (Acquire, which pairs with the owner's Release in `put`: the object was unlinked, and
//! the item written), and has raised `fenced` to that *after* it (Release).
//!
//! SCANNED: an object is condemned by a scan of the slots that began *after* `fenced` was loaded (Acquire, which pairs
//! with that Release), and only if it stands below what was loaded. So unlink, heavy fence, scan stand in this order:
//! scenario A of the crate. A scan that protects an object says nothing of a later one, so the object is kept until
//! a later scan, for which no other fence is needed: no reader can have begun to protect it after the first.
//!
//! A scan that is older than `condemned` says nothing of what stands below that: [`Ring::take`] makes one anew.
//!
//! ONCE: an item is copied out by who holds the lock (its swap is an Acquire, its store a Release), which moves `head`
//! behind it before the lock is given back; and destructors run after that. The next holder begins at the new `head`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ptr;

use crate::item::Item;
use crate::panics::through_panics;
use crate::slots::{Scan, Slots};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{
    AtomicBool, AtomicPtr, AtomicUsize, LOOM, Number, UnsafeCell, closing, get_mut, yield_now,
};

/// Objects in a block: with the link to the next the largest size that glibc keeps at hand for a thread.
const BLOCK: usize = if LOOM { 4 } else { 64 };

/// The most objects that are freed at a time.
pub(crate) const AT_ONCE: usize = 64;

/// How often a reclaim tries to lock a ring. The lock is held for a look, and by nobody for ever but by a thread
/// that was not copied by a fork.
const TRIES: u32 = if LOOM { 4 } else { 10_000 };

/// Is `a` after `b`?
#[inline]
pub(crate) fn after(a: usize, b: usize) -> bool {
    a.wrapping_sub(b) as isize > 0
}

#[derive(Debug)]
struct Block {
    items: [UnsafeCell<MaybeUninit<Item>>; BLOCK],
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

/// What the owner alone uses.
#[derive(Debug)]
struct Own {
    tail: usize,
    /// Where the next object goes, and the number of those in it. There is room.
    last: *mut Block,
    used: usize,
    /// The position at which the owner looks.
    limit: usize,
    /// The position of the last look; objects and bytes that the domain has counted.
    looked: usize,
    counted: usize,
    counted_bytes: usize,
    /// Objects put in, less those freed: how many the owner owes.
    debt: usize,
    pace: Pace,
}

/// How fast the owner retires: how often it looks at the clock.
#[derive(Debug)]
struct Pace {
    /// Objects between two looks at the clock, a power of two; and the position of the next.
    every: usize,
    at: usize,
    /// The time of the last, in microseconds.
    last: usize,
}

/// Under the lock.
#[derive(Debug)]
struct Inside {
    head: usize,
    /// Where the next object is taken from, and the number of those taken. If that is all, it is in the next one.
    first: *mut Block,
    used: usize,
    condemned: usize,
    /// What the last scan saw, which condemned them.
    scan: Scan,
    /// Taken out, and protected; the first so many have not been compared with the last scan yet.
    kept: Vec<Item>,
    unexamined: usize,
}

/// One of a domain's.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Ring {
    /// Objects put in, ever.
    tail: AtomicUsize,
    own: UnsafeCell<Own>,
    /// Bytes put in, ever; objects and bytes that the owner freed.
    bytes: Number,
    freed: Number,
    freed_bytes: Number,
    /// A block that is empty, from who holds the lock to the owner.
    spare: AtomicPtr<Block>,
    shared: Shared,
}

/// A line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shared {
    lock: AtomicBool,
    inside: UnsafeCell<Inside>,
    /// `head`, and the number of those kept.
    gone: Number,
    kept: Number,
    fenced: AtomicUsize,
    /// The position up to which others are to empty the ring, since its owner does not.
    behind: Number,
    owned: AtomicBool,
    next: *mut Ring,
}

// SAFETY: `own` is used by the owner, `inside` by the holder of the lock, an item and a block's link by the owner
// until `tail` is stored behind them, and then by the holder of the lock until it gives the block back. Items may be
// freed in any thread: so it was promised when they were retired. `next` does not change.
unsafe impl Sync for Ring {}
// SAFETY: as above.
unsafe impl Send for Ring {}

/// Objects that nobody uses, taken out to be freed.
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

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The next of them, which has left the batch before its destructor runs.
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

/// The lock of a ring, held.
struct Locked<'r>(&'r Ring);

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: all that was done under the lock. Pairs with: the Acquire in `Ring::lock`.
        self.0.shared.lock.store(false, Release);
    }
}

/// What became of a look for objects to free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Objects below the position that stay, since they are protected or somebody else has the lock.
    pub(crate) kept: usize,
    /// There is more to take out.
    pub(crate) more: bool,
}

/// What a look at the clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speed {
    /// The clock was not looked at.
    Unknown,
    Fast(usize),
    /// The time now. Objects come so seldom that each may look at the clock.
    Slow(usize),
}

impl Ring {
    /// The owner looks when so many are in.
    fn new(first: usize) -> Self {
        let block = Block::new();
        Ring {
            tail: AtomicUsize::new(0),
            own: UnsafeCell::new(Own {
                tail: 0,
                last: block,
                used: 0,
                limit: first.min(BLOCK),
                looked: 0,
                counted: 0,
                counted_bytes: 0,
                debt: 0,
                pace: Pace { every: 1, at: 0, last: 0 },
            }),
            bytes: Number::new(0),
            freed: Number::new(0),
            freed_bytes: Number::new(0),
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
                fenced: AtomicUsize::new(0),
                behind: Number::new(0),
                owned: AtomicBool::new(true),
                next: ptr::null_mut(),
            },
        }
    }

    /// # Safety
    ///
    /// By the owner, which is in no other call of this.
    #[inline]
    unsafe fn own<R>(&self, work: impl FnOnce(&mut Own) -> R) -> R {
        // SAFETY: the contract of this function.
        self.own.with_mut(|own| work(unsafe { &mut *own }))
    }

    /// Puts an object in. Whether it is time for a look: then [`extend`](Ring::extend) is the next call.
    ///
    /// # Safety
    ///
    /// By the owner. The object was unlinked before.
    #[inline]
    pub(crate) unsafe fn put(&self, item: Item, weight: usize) -> bool {
        // Relaxed: a number that the owner alone writes.
        self.bytes.store(self.bytes.load(Relaxed).wrapping_add(weight), Relaxed);
        let put = |own: &mut Own| {
            // SAFETY: the last block lives until it is used up, and there is room in it.
            let place = unsafe { &(&(*own.last).items)[own.used] };
            // SAFETY: the owner's until `tail` is stored.
            place.with_mut(|place| unsafe { *place = MaybeUninit::new(item) });
            own.used += 1;
            own.tail = own.tail.wrapping_add(1);
            // Release: the object was unlinked, the item and the link to its block written. Pairs with: the
            // Acquire in `tail`. FENCED.
            self.tail.store(own.tail, Release);
            own.tail == own.limit
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(put) }
    }

    /// Makes room, and lets so many objects come before the next look. How many came since the last one.
    ///
    /// # Safety
    ///
    /// By the owner.
    pub(crate) unsafe fn extend(&self, stride: usize) -> usize {
        // SAFETY: the contract of this function.
        let is_full = unsafe { self.own(|own| own.used == BLOCK) };
        // Not within `own`: an allocator may do anything.
        let block = if is_full { self.spare_block() } else { ptr::null_mut() };
        let extend = |own: &mut Own| {
            if is_full {
                // SAFETY: the last block lives until it is used up, and nobody goes beyond it before `tail` is
                // stored.
                unsafe { &(*own.last).next }.with_mut(|next| unsafe { *next = block });
                (own.last, own.used) = (block, 0);
            }
            own.limit = own.tail.wrapping_add(stride.min(own.pace.every).min(BLOCK - own.used));
            let new = own.tail.wrapping_sub(own.looked);
            own.looked = own.tail;
            own.debt = own.debt.saturating_add(new);
            new
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(extend) }
    }

    fn spare_block(&self) -> *mut Block {
        // Acquire: its items were read. Pairs with: the Release in `Inside::next_block`.
        let spare = self.spare.load(Acquire);
        if spare.is_null() {
            return Block::new();
        }
        // Relaxed: who sees it puts another one there, whose fields say nothing of this one.
        self.spare.store(ptr::null_mut(), Relaxed);
        // SAFETY: ours. The link is that of the round before.
        unsafe { &(*spare).next }.with_mut(|next| unsafe { *next = ptr::null_mut() });
        spare
    }

    /// Objects and bytes to be counted, if they are enough.
    ///
    /// # Safety
    ///
    /// By the owner.
    pub(crate) unsafe fn to_count(&self, objects: usize, bytes: usize) -> Option<(usize, usize)> {
        // Relaxed: our own number.
        let all_bytes = self.bytes.load(Relaxed);
        let count = |own: &mut Own| {
            let new = own.tail.wrapping_sub(own.counted);
            let new_bytes = all_bytes.wrapping_sub(own.counted_bytes);
            (new >= objects || new_bytes >= bytes).then(|| {
                (own.counted, own.counted_bytes) = (own.tail, all_bytes);
                (new, new_bytes)
            })
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(count) }
    }

    /// Looks at the clock now and then: the less often the faster objects come.
    ///
    /// # Safety
    ///
    /// By the owner.
    pub(crate) unsafe fn speed(&self, clock: impl FnOnce() -> Option<usize>) -> Speed {
        /// Objects between two looks at the clock, at most.
        const MOST: usize = 32;
        /// Microseconds for each object, with which a look at the clock for each costs little.
        const SLOW: usize = 3;
        let look = |own: &mut Own| {
            let Pace { every, at, last } = &mut own.pace;
            if after(*at, own.tail) {
                return Speed::Unknown;
            }
            let Some(now) = clock() else {
                *every = MOST;
                *at = own.tail.wrapping_add(usize::MAX / 4);
                return Speed::Unknown;
            };
            let objects = *every;
            let is_slow = now.wrapping_sub(*last) >= SLOW * objects;
            *every = if is_slow { 1 } else { MOST.min(2 * objects) };
            *at = own.tail.wrapping_add(*every);
            *last = now;
            if is_slow { Speed::Slow(now) } else { Speed::Fast(now) }
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(look) }
    }

    /// How many the owner owes: no more than there are.
    ///
    /// # Safety
    ///
    /// By the owner.
    pub(crate) unsafe fn debt(&self) -> usize {
        let debt = |own: &mut Own| {
            own.debt = own.debt.min(self.waiting(own.tail));
            own.debt
        };
        // SAFETY: the contract of this function.
        unsafe { self.own(debt) }
    }

    /// The owner owes so many more, or has freed so many objects and bytes.
    ///
    /// # Safety
    ///
    /// By the owner.
    pub(crate) unsafe fn settle(&self, more: usize, freed: usize, bytes: usize) {
        let settle = |own: &mut Own| own.debt = own.debt.saturating_add(more).saturating_sub(freed);
        // SAFETY: the contract of this function.
        unsafe { self.own(settle) };
        if freed > 0 {
            // Relaxed: numbers that the owner alone writes. Release: they never say that more was freed than
            // retired, by way of `put` and `DomainStats`.
            self.freed_bytes.store(self.freed_bytes.load(Relaxed).wrapping_add(bytes), Release);
            self.freed.store(self.freed.load(Relaxed).wrapping_add(freed), Release);
        }
    }

    /// Objects put in, ever: before a heavy fence (FENCED), or for reports.
    #[inline]
    pub(crate) fn tail(&self) -> usize {
        // Acquire: what stands before it was unlinked, and its item written. Pairs with: the Release in `put`.
        self.tail.load(Acquire)
    }

    /// Objects and bytes that the owner freed, ever.
    pub(crate) fn freed(&self) -> (usize, usize) {
        // Acquire: before the numbers of what was retired. Pairs with: the Release in `settle`.
        (self.freed.load(Acquire), self.freed_bytes.load(Acquire))
    }

    /// Bytes put in, ever.
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: a number for reports.
        self.bytes.load(Relaxed)
    }

    /// Objects in the ring that stand before that position, more or less.
    pub(crate) fn waiting(&self, tail: usize) -> usize {
        // Relaxed: numbers that decide when something is done, never what.
        let waiting = tail.wrapping_sub(self.shared.gone.load(Relaxed)) as isize;
        waiting.max(0) as usize + self.shared.kept.load(Relaxed)
    }

    /// After a heavy fence: what stands before `tail`, which was read before it. What `fenced` was.
    pub(crate) fn raise(&self, tail: usize) -> usize {
        // Relaxed: to compare with.
        let mut fenced = self.shared.fenced.load(Relaxed);
        while after(tail, fenced) {
            // Release: the heavy fence has ended. (That is a full fence to its caller, which alone would do.) Pairs
            // with: the Acquire in `look`. FENCED.
            match self.shared.fenced.compare_exchange_weak(fenced, tail, Release, Relaxed) {
                Ok(_) => break,
                Err(found) => fenced = found,
            }
        }
        fenced
    }

    /// Whether it has an owner.
    pub(crate) fn is_owned(&self) -> bool {
        // Relaxed: advice.
        self.shared.owned.load(Relaxed)
    }

    /// Others are to empty it up to there.
    pub(crate) fn falls_behind(&self, position: usize) {
        // Relaxed: advice.
        self.shared.behind.store(position, Relaxed);
    }

    /// The position up to which others are to empty it.
    pub(crate) fn behind(&self) -> Option<usize> {
        // Relaxed: advice.
        let position = self.shared.behind.load(Relaxed);
        (self.waiting(position) > 0).then_some(position)
    }

    #[inline]
    fn lock(&self) -> Option<Locked<'_>> {
        // Relaxed: a first look, to spare the line. Acquire: what was done under the lock before. Pairs with: the
        // Release of `Locked`.
        let lock = &self.shared.lock;
        let is_free =
            !lock.load(Relaxed) && lock.compare_exchange(false, true, Acquire, Relaxed).is_ok();
        is_free.then(|| Locked(self))
    }

    /// As `lock`, but waits: for as long as a look takes, not for ever.
    fn lock_patiently(&self) -> Option<Locked<'_>> {
        for tries in 0..TRIES {
            match self.lock() {
                Some(locked) => return Some(locked),
                None if tries < 64 && !LOOM => core::hint::spin_loop(),
                None => yield_now(),
            }
        }
        None
    }

    /// A look by the owner: takes out up to `most` objects that nobody uses. Scans the slots when everything that
    /// the last scan condemned is gone and a fence has come since.
    ///
    /// Where another has the lock, the owner looks next time, or waits for it if that `is_urgent`: a helper may have
    /// been preempted, and must not stop the owner for longer than that. False if the owner has waited in vain.
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
            locked = self.lock_patiently();
        }
        let Some(locked) = locked else { return false };
        locked.inside(|inside| {
            inside.look_when_done(self, slots, false);
            inside.take(self, inside.condemned, most, batch);
        });
        true
    }

    /// A look by another, for an owner who is away: as `take_own`, up to a position. False if there is no more.
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

    /// For a reclaim: takes out what stands before `tail` and whatever was kept, as far as nobody uses it and there is
    /// room. `tail` was read before a heavy fence, and `scan` made after it. It `condemns` first, if this is the first
    /// such call of the reclaim.
    pub(crate) fn take(
        &self,
        tail: usize,
        scan: &Scan,
        condemns: bool,
        slots: &Slots,
        batch: &mut Batch,
    ) -> Looked {
        let Some(locked) = self.lock_patiently() else {
            return Looked { kept: self.waiting(tail), more: false };
        };
        locked.inside(|inside| {
            if condemns {
                if after(inside.condemned, tail) {
                    // A later fence has been here: what is kept, and what is condemned, may have been retired after
                    // ours, so that our scan does not know who protects it.
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

    /// Puts back what was taken out and not freed.
    pub(crate) fn keep(&self, item: Item) {
        if let Some(locked) = self.lock_patiently() {
            locked.inside(|inside| inside.kept.push(item));
        }
    }

    /// The owner goes, and leaves what is in the ring to the next owner, and to others.
    fn release(&self) {
        // Release: all that the owner did. Pairs with: the Acquire in `Rings::take`.
        self.shared.owned.store(false, Release);
    }
}

impl Locked<'_> {
    #[inline]
    fn inside<R>(&self, work: impl FnOnce(&mut Inside) -> R) -> R {
        self.0.shared.inside.with_mut(|inside| {
            // SAFETY: we hold the lock, and `self` is borrowed by nobody else.
            let inside = unsafe { &mut *inside };
            let result = work(inside);
            // Relaxed: a number that decides when something is done, never what.
            self.0.shared.gone.store(inside.head, Relaxed);
            self.0.shared.kept.store(inside.kept.len(), Relaxed);
            result
        })
    }
}

impl Inside {
    /// Scans the slots, if there was a heavy fence since the last scan, or `anyway`.
    #[inline]
    fn look(&mut self, ring: &Ring, slots: &Slots, anyway: bool) {
        // Acquire: the heavy fence has ended before the scan. Pairs with: the Release in `raise`. SCANNED.
        let fenced = ring.shared.fenced.load(Acquire);
        if anyway || after(fenced, self.condemned) {
            self.condemn(fenced, slots.protected());
        }
    }

    /// The same, if all is gone that the last scan condemned.
    #[inline]
    fn look_when_done(&mut self, ring: &Ring, slots: &Slots, anyway: bool) {
        if self.head == self.condemned && self.unexamined == 0 {
            self.look(ring, slots, anyway);
        }
    }

    /// `scan` was made after a heavy fence before which all below `position` was retired.
    #[inline]
    fn condemn(&mut self, position: usize, scan: Scan) {
        self.condemned = position;
        self.scan = scan;
        self.unexamined = self.kept.len();
    }

    /// Takes out up to `most`, those before `until`, and keeps those that are protected.
    #[inline]
    fn take(&mut self, ring: &Ring, until: usize, most: usize, batch: &mut Batch) {
        let most = most.min(AT_ONCE);
        while self.unexamined > 0 && batch.count < most {
            self.unexamined -= 1;
            if !self.scan.contains(self.kept[self.unexamined].object()) {
                batch.push(self.kept.swap_remove(self.unexamined));
            }
        }
        let until = if after(until, self.condemned) { self.condemned } else { until };
        while batch.count < most && after(until, self.head) {
            // SAFETY: before `tail`, since it is before `condemned`.
            let item = unsafe { self.go_on(ring) };
            if self.scan.contains(item.object()) {
                self.kept.push(item);
            } else {
                batch.push(item);
            }
        }
    }

    /// Takes out the next item.
    ///
    /// # Safety
    ///
    /// There is one.
    #[inline]
    unsafe fn go_on(&mut self, ring: &Ring) -> Item {
        if self.used == BLOCK {
            // SAFETY: there is an item behind this block, so the owner has linked the next one.
            unsafe { self.next_block(ring) };
        }
        // SAFETY: a block lives until it is used up, and we hold the lock.
        let place = unsafe { &(&(*self.first).items)[self.used] };
        self.used += 1;
        self.head = self.head.wrapping_add(1);
        // SAFETY: written before `tail` was stored behind it, which came before the heavy fence that is behind us.
        let item = place.with(|place| unsafe { *place });
        // SAFETY: as above.
        unsafe { item.assume_init() }
    }

    /// Leaves a block that is used up to the owner, or frees it.
    ///
    /// # Safety
    ///
    /// There is a next one.
    unsafe fn next_block(&mut self, ring: &Ring) {
        let empty = self.first;
        // SAFETY: the block is ours to free, and the owner does not come back to it.
        let next = unsafe { &(*empty).next }.with(|next| unsafe { *next });
        (self.first, self.used) = (next, 0);
        // Relaxed: only who holds the lock puts one there.
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
    /// Frees what is in it. Whoever has the ring promises that no hazard pointer protects that any more.
    fn drop(&mut self) {
        // SAFETY: `&mut` says that all others are done.
        let tail = self.own.with(|own| unsafe { (*own).tail });
        let this = &*self;
        this.shared.inside.with_mut(|inside| {
            // SAFETY: as above.
            let inside = unsafe { &mut *inside };
            through_panics(|| {
                while let Some(item) = inside.kept.pop() {
                    // SAFETY: nobody uses what no hazard pointer protects.
                    unsafe { item.free() };
                }
                while inside.head != tail {
                    // SAFETY: before `tail`.
                    let item = unsafe { inside.go_on(this) };
                    // SAFETY: as above.
                    unsafe { item.free() };
                }
            });
            // SAFETY: the last block, from a box.
            drop(unsafe { Box::from_raw(inside.first) });
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
    /// Those that have an owner.
    owned: Number,
    /// Objects and bytes that owners had not counted when they went.
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

    /// How many have an owner.
    pub(crate) fn owned(&self) -> usize {
        // Relaxed: a size, for thresholds and reports.
        self.owned.load(Relaxed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ring> {
        // Acquire: the ring was made before it was found here. Pairs with: the Release in `take`.
        self.from(self.newest.load(Acquire))
    }

    /// From that ring on, which is in the list, or null.
    fn from(&self, ring: *const Ring) -> impl Iterator<Item = &Ring> {
        let mut next = ring;
        core::iter::from_fn(move || {
            // SAFETY: a ring in the list is valid as long as the list, which we borrow.
            let ring = unsafe { next.as_ref() }?;
            next = ring.shared.next;
            Some(ring)
        })
    }

    /// From the ring behind this one on.
    pub(crate) fn behind<'r>(&'r self, ring: &'r Ring) -> impl Iterator<Item = &'r Ring> {
        self.from(ring.shared.next)
    }

    /// A ring without an owner, or a new one. The caller is its owner, and looks when `first` objects are in a new one.
    /// A ring that is locked at the moment is passed over: it may be so for ever.
    #[cold]
    pub(crate) fn take(&self, first: usize) -> &Ring {
        // Relaxed: a size.
        self.owned.fetch_add(1, Relaxed);
        // Relaxed: a first look, and advice. Acquire: all that the owner before us did. Pairs with: the Release in
        // `release`.
        let is_free = |ring: &&Ring| {
            let Shared { owned, lock, .. } = &ring.shared;
            !owned.load(Relaxed) && !lock.load(Relaxed) && !owned.swap(true, Acquire)
        };
        if let Some(ring) = self.iter().find(is_free) {
            return ring;
        }
        let ring = Box::into_raw(Box::new(Ring::new(first)));
        // Relaxed: only compared with, by the exchange below.
        let mut next = self.newest.load(Relaxed);
        loop {
            // SAFETY: the ring is ours until it is in the list.
            unsafe { (*ring).shared.next = next };
            // Release: the ring is made before it can be found. Pairs with: the Acquire in `iter`. A newest ring
            // that we find instead we do not look into: Relaxed.
            match self.newest.compare_exchange(next, ring, Release, Relaxed) {
                // SAFETY: from now on the list's, and never changed but for its atomics and cells.
                Ok(_) => return unsafe { &*ring },
                Err(newest) => next = newest,
            }
        }
    }

    /// The owner of the ring goes.
    pub(crate) fn release(&self, ring: &Ring) {
        // Relaxed: a size.
        self.owned.fetch_sub(1, Relaxed);
        ring.release();
    }

    /// The owner of the ring goes, and what it has not counted is counted by others.
    ///
    /// # Safety
    ///
    /// By the owner.
    pub(crate) unsafe fn leave(&self, ring: &Ring) {
        // SAFETY: the contract of this function.
        if let Some((objects, bytes)) = unsafe { ring.to_count(1, usize::MAX) } {
            // Relaxed: numbers that decide when a fence is made, never what it orders.
            self.left[0].fetch_add(objects, Relaxed);
            self.left[1].fetch_add(bytes, Relaxed);
        }
        self.release(ring);
    }

    /// What owners left uncounted, if it is enough. The caller counts it.
    #[inline]
    pub(crate) fn left(&self, objects: usize, bytes: usize) -> Option<(usize, usize)> {
        // Relaxed, all: as in `leave`.
        let [left, left_bytes] = &self.left;
        (left.load(Relaxed) >= objects || left_bytes.load(Relaxed) >= bytes)
            .then(|| (left.swap(0, Relaxed), left_bytes.swap(0, Relaxed)))
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        let mut next = get_mut(&mut self.newest);
        closing(|| {
            while !next.is_null() {
                // SAFETY: made by `take`, from a box, and nobody borrows the list any more.
                next = unsafe { Box::from_raw(next) }.shared.next;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::{Family, Thresholds, domain};

    domain! { enum Tests {} = Thresholds { pause: None, ..Thresholds::DEFAULT }; }

    fn retire(count: usize) {
        (0..count).for_each(|_| Tests::domain().retire_box(Box::new(1_u64)));
    }

    /// As in a child of fork(2), when a thread of the parent was taking objects out of the ring of the one that forked.
    #[test]
    fn an_owner_whose_ring_stays_locked_takes_another() {
        if LOOM {
            return; // no model
        }
        let rings = Tests::domain().rings();
        retire(10);
        let ring = rings.iter().next().expect("one");
        core::mem::forget(ring.lock().expect("nobody has it"));
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
