//! A work-stealing deque whose owner pops without a fence instruction: for a pool of threads that each work
//! off their own tasks, newest first, and take the oldest of another's when they have none.
//!
//! The owner pushes and pops at the bottom, thieves take from the top. So that both do not take the last
//! item, the owner's pop says first what it takes, and looks at the top afterwards; a thief looks at the top
//! first, and at the bottom afterwards. That asks for a full fence on either side. Pops are as many as
//! tasks and steals, in a pool with enough to do, are few: the thief pays for both.
//!
//! ```text
//! owner, pops item i            thief, steals item i
//! bottom = i                    r2 = top
//! light_fence()                 heavy_fence()
//! r1 = top                      r3 = bottom
//! takes i if r1 < i             takes i if r2 == i < r3, and it is who makes top i + 1
//!
//! forbidden: r1 < i, and r2 == i, and r3 from before `bottom = i`
//! ```
//!
//! It is scenario A, but what the thief should write, `top = i`, it has only read; another thief, or the
//! owner, wrote it. That is the shape RWC with the fences HL, forbidden (`loom-tests/data/shapes.csv`).
//!
//! # Why pairs of threads are enough
//!
//! A heavy fence orders nothing between third threads. Nothing here asks for it:
//!
//! - A thief and the owner: the thief's heavy fence makes the owner pass a full fence.
//!    - If the owner passes it before its light fence, its look at the top comes after the thief's, and
//!      sees `i` at least, whoever wrote it: the thief has *read* it before the fence. So the owner, for
//!      item `i`, goes to the exchange.
//!    - If it passes it after its light fence, the thief sees `bottom = i` or a later store, and finds
//!      nothing at `i`, or an item that was pushed there since.
//! - A thief and a thief, and the owner at the last item: TOP-GROWS, the top only ever grows, by one, by
//!   `compare_exchange`. So one of them has made it `i + 1`, and nobody makes it `i` again, however long
//!   a thief stops between its look and its exchange: 64 bits do not come round.
//!
//! # When not to use it
//!
//! Every attempt to steal that finds an item, won or lost, is a heavy fence: microseconds, and an
//! interruption of every thread of the process that runs. Where steals are not rare beside pops, since
//! thieves are many or deques mostly empty, take `fence(SeqCst)` on both sides, as `crossbeam-deque` does; the
//! bench shows at which ratio. Nor does it pay where the work for an item takes much longer than a fence.
//!
//! # Source
//!
//! D. Chase and Y. Lev, "Dynamic Circular Work-Stealing Deque" (SPAA 2005), with the orderings of N. M. Lê,
//! A. Pop, A. Cohen and F. Zappa Nardelli, "Correct and Efficient Work-Stealing for Weak Memory Models"
//! (PPoPP 2013), or weaker ones, each with its reason. The exchanges are not `SeqCst`: they pair with no
//! fence. Every store of the bottom releases, where the paper has a release fence in the push ahead of them
//! all.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;

use crossbeam_utils::CachePadded;

use crate::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64};
use crate::sync::{Arc, Mutex, heavy_fence, light_fence};

/// An empty deque: its owner, and a thief, which can be cloned.
///
/// Either may go first. What is left is dropped with the last of them. Needs 64-bit atomics.
///
/// ```
/// use cookbook::deque::{Steal, deque};
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

/// The same, with room for so many items, or up to twice as many, before it grows.
///
/// # Panics
///
/// If there is no such power of two, or no address space for it. (Want of memory aborts, as everywhere.)
#[must_use]
pub fn with_capacity<T>(items: usize) -> (Owner<T>, Stealer<T>) {
    let capacity = items.checked_next_power_of_two().expect("a capacity that is a power of two");
    let shared = Arc::new(Shared {
        top: CachePadded::new(AtomicU64::new(FIRST)),
        bottom: CachePadded::new(AtomicU64::new(FIRST)),
        buffer: AtomicPtr::new(Buffer::boxed(capacity, ptr::null_mut())),
        items: PhantomData,
    });
    (Owner { shared: Arc::clone(&shared), one_thread: PhantomData }, Stealer { shared })
}

/// The index of the first item. Not 0: a pop that finds nothing steps back by one for a moment.
const FIRST: u64 = 1;

/// What the handles share. Items are numbered as they are pushed; those from `top` to before `bottom` are
/// in the deque.
struct Shared<T> {
    /// TOP-GROWS: only ever by one, by `compare_exchange`.
    top: CachePadded<AtomicU64>,
    /// Only the owner writes it.
    bottom: CachePadded<AtomicU64>,
    /// The newest. Only the owner writes it.
    buffer: AtomicPtr<Buffer<T>>,
    /// As behind a mutex, items go from thread to thread, and no two threads have the same.
    items: PhantomData<Mutex<Box<T>>>,
}

struct Buffer<T> {
    /// A power of two of them; an item's is its index modulo that. Atomic, since a thief may read one
    /// while the owner writes there; that thief's exchange fails.
    slots: Box<[AtomicPtr<T>]>,
    /// The buffer before this one, or null. A thief may be reading there, so all are kept to the end. Together
    /// they have fewer slots than the newest.
    older: *mut Buffer<T>,
}

impl<T> Buffer<T> {
    fn boxed(capacity: usize, older: *mut Buffer<T>) -> *mut Self {
        let slots = (0..capacity).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Box::into_raw(Box::new(Buffer { slots, older }))
    }

    fn slot(&self, index: u64) -> &AtomicPtr<T> {
        &self.slots[index as usize & (self.slots.len() - 1)]
    }
}

impl<T> Shared<T> {
    fn buffer(&self, ordering: Ordering) -> &Buffer<T> {
        let buffer = self.buffer.load(ordering);
        // SAFETY: from a box, complete for the owner, who made it, and for thieves, who acquire; freed in
        // `drop` alone, and until then there are only shared references to it.
        unsafe { &*buffer }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Relaxed, all of them: the handles are gone, and the count of them ordered what they did before us.
        let (top, bottom) = (self.top.load(Relaxed), self.bottom.load(Relaxed));
        let buffer = self.buffer(Relaxed);
        // SAFETY: what was pushed and not taken is from a box, and ours.
        let boxed = |index| unsafe { Box::from_raw(buffer.slot(index).load(Relaxed)) };
        // As a vector, which drops all of them even if one panics.
        let left: Vec<Box<T>> = (top..bottom).map(boxed).collect();
        let mut next = self.buffer.load(Relaxed);
        while !next.is_null() {
            // SAFETY: from a box, and each buffer is linked once.
            next = unsafe { Box::from_raw(next) }.older;
        }
        drop(left);
    }
}

/// The one who pushes and pops. A signal handler that interrupts one of its calls must not make another.
///
/// It may go to another thread, but two threads do not share it:
///
/// ```
/// let (owner, _thief) = cookbook::deque::deque::<u32>();
/// std::thread::scope(|scope| _ = scope.spawn(move || owner.push(Box::new(1))));
/// ```
/// ```compile_fail,E0277
/// let (owner, _thief) = cookbook::deque::deque::<u32>();
/// std::thread::scope(|scope| _ = scope.spawn(|| owner.push(Box::new(1))));
/// ```
pub struct Owner<T> {
    shared: Arc<Shared<T>>,
    /// `Send`, and not `Sync`.
    one_thread: PhantomData<Cell<()>>,
}

impl<T> Owner<T> {
    /// Puts `item` at the bottom. What comes before is known to whoever steals it.
    ///
    /// No fence and no read-modify-write. A push that finds the deque full allocates a buffer of twice the
    /// size; the old ones are kept, since thieves may be reading there, until the deque is dropped.
    pub fn push(&self, item: Box<T>) {
        let shared = &*self.shared;
        let (bottom, buffer) = loop {
            // Relaxed: written by us alone.
            let bottom = shared.bottom.load(Relaxed);
            // Acquire: a thief that took an item has read its slot before we write there again, or leave
            // the item out of a larger buffer. Pairs with: the exchange in `steal`, and those that follow
            // it up to the one that we see.
            let top = shared.top.load(Acquire);
            // Relaxed: written by us alone.
            let buffer = shared.buffer(Relaxed);
            if bottom - top < buffer.slots.len() as u64 {
                break (bottom, buffer);
            }
            self.grow(top..bottom);
        };
        // Relaxed: the bottom announces it.
        buffer.slot(bottom).store(Box::into_raw(item), Relaxed);
        // Release: whoever sees this bottom, or a later one, sees the items below it, their slots and the
        // buffer these are in. Pairs with: the Acquire of the bottom in `steal`.
        shared.bottom.store(bottom + 1, Release);
    }

    /// Publishes a buffer of twice the size with `items` in it, unless the allocator, which may be anybody's
    /// code, has used the deque meanwhile.
    #[cold]
    fn grow(&self, items: Range<u64>) {
        let shared = &*self.shared;
        // Relaxed, all of them: written by us alone.
        let before = shared.buffer.load(Relaxed);
        let new = Buffer::boxed(2 * self.capacity(), before);
        let is_untouched =
            shared.buffer.load(Relaxed) == before && shared.bottom.load(Relaxed) == items.end;
        if !is_untouched {
            // SAFETY: from a box, and nobody has seen it.
            return drop(unsafe { Box::from_raw(new) });
        }
        // SAFETY: from a box that is ours so far.
        let slots = unsafe { &*new };
        for index in items {
            slots.slot(index).store(shared.buffer(Relaxed).slot(index).load(Relaxed), Relaxed);
        }
        // Release: whoever finds the buffer finds it complete. Pairs with: its Acquire in `steal`.
        shared.buffer.store(new, Release);
    }

    /// Takes the item at the bottom, the newest. `None` if there is none: all were popped, or stolen.
    ///
    /// No fence instruction, and a read-modify-write for the last item alone. No loop, no system call.
    /// What came before a steal is not known to an owner who finds the item gone.
    pub fn pop(&self) -> Option<Box<T>> {
        let shared = &*self.shared;
        // Relaxed: written by us alone.
        let index = shared.bottom.load(Relaxed) - 1;
        // Release: as in `push`, for the items that are still below.
        shared.bottom.store(index, Release);
        // Light fence: our announcement stands before the look at the top.
        // Pairs with: the heavy fence in `steal`.
        //  - our store came first: the thief sees that `index` is not to be had;
        //  - the heavy fence came first: if the thief saw that `index` is at the top, so do we.
        light_fence();
        // Relaxed: the fence orders it, and we read nothing that a thief has written.
        let top = shared.top.load(Relaxed);
        // One that is not at the top is ours, and no thief comes so far before it sees our announcement.
        let mut is_ours = top < index;
        if !is_ours {
            if top == index {
                // The last. Relaxed: which of us gets it is up to the top alone; the item is our own, and
                // whoever loses reads nothing that the winner has written.
                is_ours = shared.top.compare_exchange(index, index + 1, Relaxed, Relaxed).is_ok();
            }
            // Empty. Release: whoever sees this bottom finds the top past `index`, as we did or made it.
            // Were it relaxed, it could be seen while the exchange is open, also by the thief who wins
            // that, and who would not know the item. Pairs with: the Acquire of the bottom in `steal`.
            shared.bottom.store(index + 1, Release);
        }
        is_ours.then(|| {
            // Relaxed, both: written by us alone.
            let item = shared.buffer(Relaxed).slot(index).load(Relaxed);
            // SAFETY: from a box, in `push`; and no thief takes it, as above.
            unsafe { Box::from_raw(item) }
        })
    }

    /// How many items the newest buffer has room for.
    ///
    /// If a push would have been one item too many, and left it the same, an item was stolen, and what came
    /// before that steal is known to the owner.
    #[must_use]
    pub fn capacity(&self) -> usize {
        // Relaxed: written by us alone.
        self.shared.buffer(Relaxed).slots.len()
    }
}

/// One who steals. Any number of threads may share it, or have a clone each, if the items may go there:
///
/// ```
/// let (owner, thief) = cookbook::deque::deque::<std::sync::Arc<u32>>();
/// std::thread::scope(|scope| _ = scope.spawn(|| _ = thief.steal()));
/// ```
/// ```compile_fail,E0277
/// let (owner, thief) = cookbook::deque::deque::<std::rc::Rc<u32>>();
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
    /// Another was quicker, and there may be more. To try again costs as much again.
    Retry,
    /// There is nothing: nothing that was pushed before, as far as this thread knows, and is still there.
    Empty,
}

impl<T> Stealer<T> {
    /// Takes the item at the top, the oldest.
    ///
    /// A deque that looks empty costs two loads. Otherwise a heavy fence: microseconds while other threads
    /// run, and those are interrupted. What came before the item's push is known to whoever takes it. No
    /// loop of its own.
    ///
    /// # Aborts
    ///
    /// As [`heavy_fence`]: if the system refuses what the process decided for.
    pub fn steal(&self) -> Steal<T> {
        let shared = &*self.shared;
        // Relaxed: the fence orders it, and we read nothing by it.
        let top = shared.top.load(Relaxed);
        // Relaxed: whether it is worth a heavy fence, and no more. Of what we know to have been pushed and
        // is still there, any bottom that we can see is above.
        if shared.bottom.load(Relaxed) <= top {
            return Steal::Empty;
        }
        // Heavy fence: the look at the top stands before the look at the bottom.
        // Pairs with: the light fence in `pop`, see there.
        heavy_fence();
        // Acquire: the item, its slot, the buffer. Pairs with: every store of the bottom.
        if shared.bottom.load(Acquire) <= top {
            return Steal::Empty;
        }
        // Acquire: a buffer newer than that is complete, too. Pairs with: the Release in `grow`.
        let buffer = shared.buffer(Acquire);
        // Relaxed: the bottom brought it. If the owner writes there meanwhile, the top has grown.
        let item = buffer.slot(top).load(Relaxed);
        // Release: we have read the slot. Pairs with: the Acquire of the top in `push`. Whoever loses reads
        // nothing, so Relaxed.
        match shared.top.compare_exchange(top, top + 1, Release, Relaxed) {
            // SAFETY: from a box, in `push`. The item that we read is the one at `top`, and it is ours: the
            // owner takes it by an exchange like ours, and only one of all has made the top one more.
            Ok(_) => Steal::Taken(unsafe { Box::from_raw(item) }),
            Err(_) => Steal::Retry,
        }
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
