//! A work-stealing deque whose owner pops without a fence instruction. It is for a pool of threads: each thread works
//! on its own tasks, newest first, and takes the oldest task of another thread when it has none.
//!
//! The owner pushes and pops at the bottom, thieves take from the top. The owner and a thief must not both take the
//! last item. So a pop first stores the new bottom, and then loads the top. A thief first loads the top, and then the
//! bottom. Both need a full fence in between. There are as many pops as tasks, but few steals in a pool that has enough
//! to do. So the thief executes a heavy fence and the owner a light one.
//!
//! ```text
//! owner, pops item i            thief, steals item i
//! bottom = i                    r2 = top
//! light fence                   heavy fence
//! r1 = top                      r3 = bottom
//! takes i if r1 < i             takes i if r2 == i < r3, and its exchange makes top i + 1
//!
//! forbidden: r1 < i, and r2 == i, and r3 from before `bottom = i`
//! ```
//!
//! It is store buffering (each side stores, fences, and loads what the other side stores), except that the thief has
//! only read `top = i`: another thief, or the owner, wrote it. The literature calls this shape RWC. Two of its three
//! threads have a fence. If one of these fences is heavy and the other light, the outcome is forbidden
//! (`loom-tests/data/shapes.csv`).
//!
//! # Why pairs of threads are enough
//!
//! A heavy fence orders nothing between two other threads. The deque does not need that:
//!
//! - A thief and the owner: the thief's heavy fence makes the owner execute a full fence.
//!    - If that is before the owner's light fence, the owner loads the top after the thief did, and sees `i` at least.
//!      It does not matter which thread wrote that, because the thief has *read* it before the fence. So the owner sees
//!      that item `i` is gone, or that it is the last one. The owner and the thief compete for the last one by a
//!      `compare_exchange` of the top.
//!    - If it is after the owner's light fence, the thief sees `bottom = i` or a later store. It finds nothing at `i`,
//!      or an item that was pushed there since.
//! - A thief and another thief, and the owner at the last item: TOP-GROWS, the top only grows, by `compare_exchange`.
//!   So one of them has moved it past `i`, and no thread makes it `i` again, however long a thief stops between its
//!   load and its exchange: a counter of 64 bits does not wrap around.
//!
//! # Stealing half of the items at once
//!
//! A thief that steals a batch executes one heavy fence for it. First it *claims* the items that it wants:
//!
//! ```text
//! owner, pops item i                thief, wants the items from top to before end
//! bottom = i                        claim = end
//! light fence                       heavy fence
//! r1 = claim                        r2 = bottom, the items that are there
//! if r1 > i: exchanges claim:       exchanges claim: end becomes end | COMMITTED
//!   r1 becomes i                    takes the items from top to before end, if its exchange makes top end
//! takes i if that succeeds,
//! nothing if r1 is COMMITTED
//! ```
//!
//! It is store buffering: either the owner sees the claim, or the thief sees the bottom. If each sees the other, the
//! exchange of the claim decides. Either the owner takes the item back, or all items that are left belong to the thief.
//! No thread waits. A thief that steals one item does not look at claims, and neither does the owner when it takes the
//! oldest item. There the exchange of the top decides as usual, and the batch gets what is left. Batches take turns by
//! a lock. A thief that finds the lock taken does not wait.
//!
//! # Memory
//!
//! The buffer grows when it is full. It shrinks when less than an eighth of it is in use, but not below its first
//! capacity. Thieves may still read the old buffer. Each counts itself in before its heavy fence, and out after it has
//! read. The owner publishes the new buffer, executes a light fence and loads the count. If the count is 0, no thief is
//! in an old buffer, and none will come (store buffering again).
//!
//! # When not to use it
//!
//! An attempt to steal that finds an item, successful or not, executes a heavy fence (except a `steal_batch` that gives
//! up because another thief is stealing a batch). It takes microseconds, and interrupts every running thread of the
//! process. If thieves come more often than once in a millisecond, both sides switch to full fences, as in
//! `crossbeam-deque`, until no thief has come for a millisecond ([`asymfence::Bias`]). (Only at each 1,021st pop does
//! the owner check whether that is so. Two checks, a millisecond apart, must find no thief between them.) So if steals
//! are never rare, use `crossbeam-deque`, which has no bias to load. This deque also does not pay if the work for an
//! item takes much longer than a fence.
//!
//! # Source
//!
//! D. Chase and Y. Lev, "Dynamic Circular Work-Stealing Deque" (SPAA 2005), with the orderings of N. M. Lê,
//! A. Pop, A. Cohen and F. Zappa Nardelli, "Correct and Efficient Work-Stealing for Weak Memory Models"
//! (PPoPP 2013), or weaker ones, each with its reason. The exchanges are not `SeqCst`: they pair with no
//! fence. Every store of the bottom is a Release. The paper has a release fence in the push instead, which serves the
//! later stores of the bottom too.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
use crate::sync::{Arc, Bias, Life, Mutex, NowAndThen, now};

/// Creates an empty deque, and returns its two sides: the owner, and a thief, which can be cloned.
///
/// Either may be dropped first. The items that are left are dropped with the last handle, whether that is the owner or
/// a thief. (If the drops of two of them panic, the process aborts.) Needs 64-bit atomics.
///
/// ```
/// use asymfence_cookbook::deque::{Steal, deque};
///
/// let (owner, thief) = deque();
/// (1..=3).for_each(|task| owner.push(Box::new(task)));
/// assert_eq!(owner.pop(), Some(Box::new(3)));
/// std::thread::spawn(move || assert_eq!(thief.steal(), Steal::Taken(Box::new(1)))).join().unwrap();
/// assert_eq!(owner.pop(), Some(Box::new(2)));
/// assert_eq!(owner.pop(), None);
/// ```
#[must_use]
pub fn deque<T>() -> (Owner<T>, Stealer<T>) {
    with_capacity(64)
}

/// As [`deque`], with room for `items` items, rounded up to a power of two, before the deque grows.
///
/// # Panics
///
/// If no power of two that is at least `items` fits into a `usize`, or if the pointers to so many items take more than
/// `isize::MAX` bytes. (Lack of memory or of address space aborts, as everywhere.)
#[must_use]
pub fn with_capacity<T>(items: usize) -> (Owner<T>, Stealer<T>) {
    with_pause(items, PAUSE)
}

/// If thieves come more often than once in this time, both sides switch to full fences.
const PAUSE: Duration = Duration::from_millis(1);

/// As [`with_capacity`], with a choice of the pause. If thieves come more often than once in a `pause`, the fences
/// become full ones. After a pause without a thief they become asymmetric again. The owner looks only at each 1,021st
/// pop whether that is so, and two looks are needed, a pause apart. So if pops are seldom, the fences stay full for
/// longer. The default pause is a millisecond.
///
/// # Panics
///
/// As [`with_capacity`] and [`Bias::new`]: a pause is from a microsecond to half a minute.
#[must_use]
pub fn with_pause<T>(items: usize, pause: Duration) -> (Owner<T>, Stealer<T>) {
    let capacity = items.checked_next_power_of_two().expect("a capacity that is a power of two");
    let shared = Arc::new(Shared {
        front: CachePadded::new(Front { top: AtomicU64::new(FIRST), claim: AtomicU64::new(0) }),
        bottom: CachePadded::new(AtomicU64::new(FIRST)),
        buffer: AtomicPtr::new(Buffer::boxed(capacity, ptr::null_mut())),
        reading: CachePadded::new(AtomicUsize::new(0)),
        bias: Bias::biased(pause),
        batch: Mutex::new(()),
        items: PhantomData,
    });
    let owner = Owner {
        shared: Arc::clone(&shared),
        least: capacity,
        to_restore: NowAndThen::new(),
        one_thread: PhantomData,
    };
    (owner, Stealer { shared })
}

/// The index of the first item. Not 0: a pop that finds nothing steps back by one for a moment.
const FIRST: u64 = 1;

/// What the handles share. Items are numbered as they are pushed; those from `top` to before `bottom` are
/// in the deque.
struct Shared<T> {
    front: CachePadded<Front>,
    /// Only the owner writes it.
    bottom: CachePadded<AtomicU64>,
    /// The newest. Only the owner writes it.
    buffer: AtomicPtr<Buffer<T>>,
    /// How many thieves may be in a buffer.
    reading: CachePadded<AtomicUsize>,
    /// The fences: the owner is the frequent side.
    bias: Bias,
    /// Held by the thief that has a claim. Nobody waits for it.
    batch: Mutex<()>,
    /// As behind a mutex, items go from thread to thread, and no two threads have the same item.
    items: PhantomData<Mutex<Box<T>>>,
}

/// What thieves write (and the owner at times), and `pop` loads after its light fence.
struct Front {
    /// TOP-GROWS: only ever grows, by `compare_exchange`.
    top: AtomicU64,
    /// 0, or twice the index after the last item that a thief claims, plus `COMMITTED` or 0. A thief writes it, while
    /// it holds the lock `batch`; the owner makes it smaller.
    claim: AtomicU64,
}

/// The claim cannot be taken back.
const COMMITTED: u64 = 1;

struct Buffer<T> {
    /// Their number is a power of two, and the slot of an item is its index modulo this number. Atomic, since a thief
    /// may read a slot while the owner writes to it; that thief's exchange fails.
    slots: Box<[AtomicPtr<T>]>,
    /// The buffer before this one, in which thieves may still be reading; or null. Only the owner looks at it, and the
    /// drop of the last handle.
    older: AtomicPtr<Buffer<T>>,
    life: Life,
}

impl<T> Buffer<T> {
    fn boxed(capacity: usize, older: *mut Buffer<T>) -> *mut Self {
        let slots = (0..capacity).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Box::into_raw(Box::new(Buffer { slots, older: AtomicPtr::new(older), life: Life::new() }))
    }

    /// Frees the buffers before this one.
    ///
    /// # Safety
    ///
    /// No thread uses one of them, and no other thread calls this.
    unsafe fn free_older(&self) {
        // Relaxed, both: only the owner looks at it, and the drop of the last handle, which the count of the handles
        // orders.
        let mut next = self.older.load(Relaxed);
        // Before freeing: an allocator must not use the deque, but one that does must not find these buffers here.
        self.older.store(ptr::null_mut(), Relaxed);
        while !next.is_null() {
            // SAFETY: from a box, each is linked once, and nobody else has it.
            let older = unsafe { Box::from_raw(next) };
            next = older.older.load(Relaxed);
            Life::end(older, |older| &older.life);
        }
    }

    fn slot(&self, index: u64) -> &AtomicPtr<T> {
        self.life.go_on();
        &self.slots[index as usize & (self.slots.len() - 1)]
    }
}

impl<T> Shared<T> {
    fn buffer(&self, ordering: Ordering) -> &Buffer<T> {
        let buffer = self.buffer.load(ordering);
        // SAFETY: from a box. It is complete for the owner, which made it, and for thieves, which acquire it. The owner
        // frees it when no thief is counted that may have it, and until then there are only shared references to it.
        unsafe { &*buffer }
    }

    /// As many items as there were at some moment, or about as many.
    fn len(&self) -> usize {
        // Relaxed, both: the number may be out of date when it is returned.
        let top = self.front.top.load(Relaxed);
        self.bottom.load(Relaxed).saturating_sub(top) as usize
    }

    /// The owner takes the item back from the thief that claims it. False if that claim is committed.
    #[cold]
    fn takes_back(&self, mut claim: u64, index: u64) -> bool {
        while claim / 2 > index {
            if claim & COMMITTED != 0 {
                return false;
            }
            // Acquire, both: as the load of the claim in `pop`. No Release: the thief only learns which items are left.
            match self.front.claim.compare_exchange(claim, 2 * index, Acquire, Acquire) {
                Ok(_) => return true,
                Err(newer) => claim = newer,
            }
        }
        true
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Relaxed, all of them: the handles are gone, and the count of them ordered what they did before us.
        let (top, bottom) = (self.front.top.load(Relaxed), self.bottom.load(Relaxed));
        let buffer = self.buffer(Relaxed);
        // SAFETY: what was pushed and not taken is from a box, and ours.
        let boxed = |index| unsafe { Box::from_raw(buffer.slot(index).load(Relaxed)) };
        // As a vector, which drops all items even if one drop panics.
        let left: Vec<Box<T>> = (top..bottom).map(boxed).collect();
        // SAFETY: nobody is left.
        unsafe { buffer.free_older() };
        // SAFETY: from a box, and nobody is left.
        let newest = unsafe { Box::from_raw(self.buffer.load(Relaxed)) };
        Life::end(newest, |newest| &newest.life);
        drop(left);
    }
}

/// The side that pushes and pops. A signal handler must not use it.
///
/// It may be sent to another thread, but two threads cannot share it:
///
/// ```
/// let (owner, _thief) = asymfence_cookbook::deque::deque::<u32>();
/// std::thread::scope(|scope| _ = scope.spawn(move || owner.push(Box::new(1))));
/// ```
/// ```compile_fail,E0277
/// let (owner, _thief) = asymfence_cookbook::deque::deque::<u32>();
/// std::thread::scope(|scope| _ = scope.spawn(|| owner.push(Box::new(1))));
/// ```
pub struct Owner<T> {
    shared: Arc<Shared<T>>,
    /// The capacity that is kept.
    least: usize,
    /// Says at which calls `pop` tries to restore the bias, while the fences are full.
    to_restore: NowAndThen,
    /// `Send`, and not `Sync`.
    one_thread: PhantomData<Cell<()>>,
}

impl<T> Owner<T> {
    /// Puts `item` at the bottom. What happens before the push happens before the return of the
    /// steal that takes the item.
    ///
    /// No read-modify-write; and no fence, unless the buffer changes or an older one is still to be freed. A push that
    /// finds the deque full allocates a buffer of twice the size. The old buffer is freed when no thief is reading
    /// there. A push that finds the deque nearly empty may allocate a smaller buffer.
    pub fn push(&self, item: Box<T>) {
        let shared = &*self.shared;
        let (bottom, top, buffer) = loop {
            // Relaxed: written by us alone.
            let bottom = shared.bottom.load(Relaxed);
            // Acquire: a thief that took an item has read its slot before we write there again. Pairs with: the
            // exchange in `steal`, and those that follow it up to the one that we see.
            let top = shared.front.top.load(Acquire);
            // Relaxed: written by us alone.
            let buffer = shared.buffer(Relaxed);
            if bottom - top < buffer.slots.len() as u64 {
                break (bottom, top, buffer);
            }
            self.resize(2 * buffer.slots.len());
            self.free_older();
        };
        // Relaxed: the bottom announces it.
        buffer.slot(bottom).store(Box::into_raw(item), Relaxed);
        // Release: a thread that sees this bottom, or a later one, sees the items below it, their slots
        // and the buffer that holds them. Pairs with: the Acquire of the bottom in `steal`.
        shared.bottom.store(bottom + 1, Release);
        self.give_back(buffer.slots.len(), bottom - top);
    }

    /// Publishes a buffer of this capacity with the items in it, unless the allocator has used the deque meanwhile (it
    /// must not, but safe code can).
    #[cold]
    fn resize(&self, capacity: usize) {
        let shared = &*self.shared;
        // Relaxed, all of them but the top: written by us alone.
        let before = shared.buffer.load(Relaxed);
        let bottom = shared.bottom.load(Relaxed);
        let new = Buffer::boxed(capacity, before);
        let is_untouched =
            shared.buffer.load(Relaxed) == before && shared.bottom.load(Relaxed) == bottom;
        // Acquire: as in `push`.
        // survives: a relaxed load would do. A thief that finds the new buffer has acquired the store below, so this
        // load comes before that thief's exchange and does not see it. `push` acquires the top again before it writes
        // a slot.
        let items: Range<u64> = shared.front.top.load(Acquire)..bottom;
        // guard survives: the bound by `>=` would throw a buffer away that the items fill. The next push makes another.
        if !is_untouched || items.end - items.start > capacity as u64 {
            // SAFETY: from a box, and nobody has seen it.
            return drop(unsafe { Box::from_raw(new) });
        }
        // SAFETY: from a box that is ours so far.
        let slots = unsafe { &*new };
        for index in items {
            slots.slot(index).store(shared.buffer(Relaxed).slot(index).load(Relaxed), Relaxed);
        }
        // Release: a thief that finds the buffer finds it complete. Pairs with: its Acquire in
        // `steal`.
        shared.buffer.store(new, Release);
    }

    /// Frees the older buffers, if no thief can be there. Returns whether none is left.
    fn free_older(&self) -> bool {
        let shared = &*self.shared;
        // Relaxed, both: written by us alone.
        let buffer = shared.buffer(Relaxed);
        if buffer.older.load(Relaxed).is_null() {
            return true;
        }
        // Light fence: the newest buffer was published before we look at the count.
        // Pairs with: the heavy fence in `Stealer::enter` (scenario A).
        //  - the thief's count came first: we see it, and try again later;
        //  - our store came first: the thief finds the newest buffer.
        shared.bias.light_fence();
        // Acquire: what thieves that have left read there comes before we free it. Pairs with: the Release in
        // `Stealer::leave`.
        let nobody = shared.reading.load(Acquire) == 0;
        if nobody {
            // SAFETY: only the owner calls it, and no thief is in an older buffer, as above.
            unsafe { buffer.free_older() };
        }
        nobody
    }

    /// Takes half the room away if less than an eighth of it is in use.
    #[inline]
    fn give_back(&self, capacity: usize, items: u64) {
        // guard survives: the bound by `<=` would give room back one item sooner.
        if capacity > self.least && items < capacity as u64 / 8 {
            self.shrink(capacity);
        }
    }

    #[cold]
    fn shrink(&self, capacity: usize) {
        // Only if no older buffer is left: so thieves hold back a bounded amount of memory.
        if self.free_older() {
            self.resize(capacity / 2);
            self.free_older();
        }
    }

    /// The light fence after an announcement.
    #[inline]
    fn light_fence(&self) {
        // guard survives: `try_restore_at` decides itself whether it is time. Asked too often, it only costs time.
        if !self.shared.bias.light_fence() && self.to_restore.is_now() {
            self.restore();
        }
    }

    /// Makes the fences asymmetric again, if no thief has come for a pause.
    #[cold]
    fn restore(&self) {
        // If the heavy fence fails both sides stay with full ones.
        let _ = self.shared.bias.try_restore_at(now());
    }

    /// Takes the item at the bottom, the newest. `None` if there is none: all were popped, or stolen.
    ///
    /// Executes a light fence, which is a full one while thieves come often, and a read-modify-write only for the last
    /// item and for an item that a thief claims. Never waits. Now and then it gives memory back. After a busy phase of
    /// thieves one `pop` executes a heavy fence, to make the fences asymmetric again. A steal does not synchronise with
    /// a `pop` that finds the item gone: the owner may not see what the thief did before the steal.
    pub fn pop(&self) -> Option<Box<T>> {
        let shared = &*self.shared;
        // Relaxed: written by us alone.
        let index = shared.bottom.load(Relaxed) - 1;
        // Release: as in `push`, for the items that are still below.
        shared.bottom.store(index, Release);
        // Light fence: our announcement comes before our looks at the claim and the top.
        // Pairs with: the heavy fences in `steal` and `steal_batch`.
        //  - our store came first: the thief sees that it cannot have `index`;
        //  - the heavy fence came first: if the thief saw `index` at the top, or claimed it, we see the same.
        self.light_fence();
        // Acquire: if a thief claimed the item and has finished, we see a later claim or none. Then we also see the top
        // that this thief stored. Pairs with: the stores of the claim in `steal_batch`.
        let claim = shared.front.claim.load(Acquire);
        // guard survives: at the end of a claim, where the bound is reached, `takes_back` has nothing to take back.
        if claim / 2 > index && !shared.takes_back(claim, index) {
            // Release: as above. This item and all below are that thief's.
            // survives: it matters only to a second thief that has read the top before the push of the item, and that
            // takes the item, by this bottom, between the two exchanges of the batch. That takes three threads and
            // three preemptions.
            shared.bottom.store(index + 1, Release);
            return None;
        }
        // Relaxed: the fence orders it, and we read nothing that a thief has written.
        let top = shared.front.top.load(Relaxed);
        // An item that is not at the top is ours: a thief that gets so far sees our announcement first.
        let mut is_ours = top < index;
        if !is_ours {
            if top == index {
                // The last item. Relaxed: the top alone decides who gets it. We pushed the item ourselves, and the
                // loser reads nothing that the winner has written.
                let top = &shared.front.top;
                is_ours = top.compare_exchange(index, index + 1, Relaxed, Relaxed).is_ok();
            }
            // Empty. Release: a thief that sees this bottom finds the top past `index`, where we found
            // or put it. A relaxed store could be seen before the exchange is decided, also by the thief
            // that wins it. That thief would not have acquired the push of the item. Pairs with: the Acquire of the
            // bottom in `steal`.
            // survives: loom executes each thread in order, so the exchange is decided before the store is seen.
            shared.bottom.store(index + 1, Release);
        }
        is_ours.then(|| {
            // Relaxed, both: written by us alone.
            let buffer = shared.buffer(Relaxed);
            let item = buffer.slot(index).load(Relaxed);
            self.give_back(buffer.slots.len(), index.saturating_sub(top));
            // SAFETY: from a box, in `push`; and no thief takes it, as above.
            unsafe { Box::from_raw(item) }
        })
    }

    /// Takes the item at the top, the oldest, for an owner that works in the order of the pushes. `None` if there is
    /// no item.
    ///
    /// Costs a read-modify-write; and no fence, unless the buffer changes or an older one is still to be freed. It may
    /// be mixed with [`pop`](Self::pop).
    pub fn pop_oldest(&self) -> Option<Box<T>> {
        let shared = &*self.shared;
        // Relaxed: the exchange looks again, and we read nothing that a thief has written.
        let mut top = shared.front.top.load(Relaxed);
        loop {
            // Relaxed, all: written by us alone.
            if shared.bottom.load(Relaxed) <= top {
                return None;
            }
            let buffer = shared.buffer(Relaxed);
            let item = buffer.slot(top).load(Relaxed);
            // Relaxed: the top alone decides which thread takes the item.
            match shared.front.top.compare_exchange(top, top + 1, Relaxed, Relaxed) {
                Ok(_) => {
                    self.give_back(buffer.slots.len(), shared.len() as u64);
                    // SAFETY: from a box, in `push`, and only one of all has made the top one more.
                    return Some(unsafe { Box::from_raw(item) });
                }
                Err(newer) => top = newer,
            }
        }
    }

    /// How many items there are, as far as the owner knows: thieves may have taken some.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether the owner knows of no item: then there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items the newest buffer has room for.
    ///
    /// Suppose the program counts its pushes minus its own pops. If this count exceeds the capacity after a push, and
    /// that push did not grow the buffer, then an item was stolen. What the thief did before that steal is then visible
    /// to the owner.
    #[must_use]
    pub fn capacity(&self) -> usize {
        // Relaxed: written by us alone.
        self.shared.buffer(Relaxed).slots.len()
    }
}

/// The side that steals. Any number of threads may share it, or have a clone each, if the items may be
/// sent to them:
///
/// ```
/// let (owner, thief) = asymfence_cookbook::deque::deque::<std::sync::Arc<u32>>();
/// std::thread::scope(|scope| _ = scope.spawn(|| _ = thief.steal()));
/// ```
/// ```compile_fail,E0277
/// let (owner, thief) = asymfence_cookbook::deque::deque::<std::rc::Rc<u32>>();
/// std::thread::scope(|scope| _ = scope.spawn(|| _ = thief.steal()));
/// ```
pub struct Stealer<T> {
    shared: Arc<Shared<T>>,
}

/// What became of an attempt to steal.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an item that was stolen would be dropped"]
pub enum Steal<T> {
    /// The item that was at the top, the oldest.
    Taken(Box<T>),
    /// Another thread was quicker, and there may be more items. Another try costs as much again.
    Retry,
    /// As far as this thread knows, nothing that was pushed is still there.
    Empty,
}

impl<T> Stealer<T> {
    /// Takes the item at the top, the oldest.
    ///
    /// If the deque looks empty, the call costs two loads. Otherwise it executes a heavy fence, which takes
    /// microseconds while other threads run, and interrupts them; or a full fence, if thieves come often. What came
    /// before the item's push happens before the steal. The call does not loop.
    ///
    /// # Aborts
    ///
    /// As [`asymfence::heavy_fence`]: if the system refuses what the process decided for.
    pub fn steal(&self) -> Steal<T> {
        let shared = &*self.shared;
        // Relaxed: the fence orders it, and we read nothing by it.
        let top = shared.front.top.load(Relaxed);
        // Relaxed: this only decides whether a heavy fence is worth its cost. Every bottom that we can see lies above
        // the items that we know to have been pushed and that are still there.
        if shared.bottom.load(Relaxed) <= top {
            return Steal::Empty;
        }
        // Heavy fence: the look at the top comes before the look at the bottom.
        // Pairs with: the light fence in `pop`, see there.
        self.enter();
        // Acquire: we see the item, its slot and the buffer. Pairs with: every store of the bottom, all Release.
        if shared.bottom.load(Acquire) <= top {
            self.leave();
            return Steal::Empty;
        }
        // Acquire: a buffer that is newer than this bottom is complete too. Pairs with: the Release in `resize`.
        let buffer = shared.buffer(Acquire);
        // Relaxed: the Acquire of the bottom orders it. If the owner has written another item there, the top has grown,
        // and our exchange fails.
        let item = buffer.slot(top).load(Relaxed);
        // Release: we have read the slot. Pairs with: the Acquire of the top in `push`. The loser reads
        // nothing, so Relaxed.
        // survives: loom executes each thread in order, so the slot is read before the exchange is seen.
        let won = shared.front.top.compare_exchange(top, top + 1, Release, Relaxed).is_ok();
        self.leave();
        if won {
            // SAFETY: from a box, in `push`. The item that we read is the one at `top`, and it is ours: the
            // owner takes it by an exchange like ours, and only one of all has made the top more.
            Steal::Taken(unsafe { Box::from_raw(item) })
        } else {
            Steal::Retry
        }
    }

    /// Takes the older half of the items, one at least, for one heavy fence: returns the oldest of them, and pushes the
    /// others to the deque of the thief, the oldest first.
    ///
    /// Returns [`Steal::Retry`] also if another thief is stealing a batch. Costs and aborts as [`steal`](Self::steal),
    /// and allocates memory for so many pointers.
    pub fn steal_batch(&self, into: &Owner<T>) -> Steal<T> {
        let shared = &*self.shared;
        // Relaxed, both: as in `steal`.
        let top = shared.front.top.load(Relaxed);
        let there = shared.bottom.load(Relaxed).saturating_sub(top);
        if there == 0 {
            return Steal::Empty;
        }
        let wanted = there.div_ceil(2);
        let mut items = Vec::with_capacity(wanted as usize);
        let Ok(alone) = shared.batch.try_lock() else { return Steal::Retry };
        let mut claim = 2 * (top + wanted);
        // Release: an owner that sees this claim sees the top of the last batch. Pairs with: the Acquire in `pop`.
        shared.front.claim.store(claim, Release);
        // Heavy fence: the claim comes before the look at the bottom.
        // Pairs with: the light fence in `pop`, see there.
        self.enter();
        // Acquire: as in `steal`.
        let bottom = shared.bottom.load(Acquire);
        let end = loop {
            let end = bottom.min(claim / 2);
            // Relaxed, both: the owner that sees it learns only that these items are ours. How much it has taken back is
            // in the value of the claim itself.
            let committed = 2 * end + COMMITTED;
            match shared.front.claim.compare_exchange(claim, committed, Relaxed, Relaxed) {
                Ok(_) => break end,
                Err(less) => claim = less,
            }
        };
        // From here on the owner pops none of them from the bottom.
        let mut from = top;
        // guard survives: by `<=`, when `from` is `end`, the exchange replaces the top by the same value, and takes
        // nothing.
        while from < end {
            // Acquire and Relaxed: as in `steal`.
            let buffer = shared.buffer(Acquire);
            items.clear();
            items.extend((from..end).map(|index| buffer.slot(index).load(Relaxed)));
            // Release: we have read the slots. Pairs with: the Acquire of the top in `push`. Relaxed: on failure we
            // read the slots again, at the newer top.
            // survives: as in `steal`.
            match shared.front.top.compare_exchange(from, end, Release, Relaxed) {
                Ok(_) => break,
                Err(newer) => from = newer,
            }
        }
        // Release: the top that we have made comes before. Pairs with: the Acquire in `pop`.
        shared.front.claim.store(0, Release);
        self.leave();
        drop(alone);
        if from >= end {
            // guard survives: where the two are equal `Retry` costs the thief two loads more.
            return if bottom <= top { Steal::Empty } else { Steal::Retry };
        }
        // SAFETY: from boxes, in `push`. The owner pops none of them, as above. A thread that takes the oldest does so
        // by an exchange of the top, as we did.
        let mut items = items.into_iter().map(|item| unsafe { Box::from_raw(item) });
        let oldest = items.next().expect("one at least");
        items.for_each(|item| into.push(item));
        Steal::Taken(oldest)
    }

    /// How many items there are, as far as this thread knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.len()
    }

    /// Whether this thread knows of no item: what [`steal`](Self::steal) looks at first.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A heavy fence, after which a buffer may be read.
    fn enter(&self) {
        // Relaxed: the fence orders it before the look for the buffer. Pairs with: the light fence in
        // `Owner::free_older`, see there.
        self.shared.reading.fetch_add(1, Relaxed);
        self.shared.bias.heavy_fence(now);
    }

    fn leave(&self) {
        // Release: our reads of the buffer come before this. Pairs with: the Acquire in `Owner::free_older`.
        self.shared.reading.fetch_sub(1, Release);
    }
}

impl<T> Clone for Stealer<T> {
    fn clone(&self) -> Self {
        Stealer { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Owner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Stealer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stealer").finish_non_exhaustive()
    }
}
