//! The slots of a domain, in which readers say what they protect: a list that only grows.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::AtomicUsize;

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicBool, AtomicPtr, LOOM, get_mut, witness};

/// Where one hazard pointer says what it protects.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The address of the object, or null.
    protected: AtomicPtr<()>,
    /// Belongs to a hazard pointer, or to the cache of a thread.
    taken: AtomicBool,
}

impl Slot {
    fn new() -> Self {
        Slot { protected: AtomicPtr::new(ptr::null_mut()), taken: AtomicBool::new(false) }
    }

    /// Only by the one to whom the slot belongs.
    #[inline]
    pub(crate) fn protect<T>(&self, object: *mut T) {
        // Release: what this thread did with the object that it protected until now stands before
        // the store. Pairs with: the Acquire of the scan in `protected`, which frees that object
        // after it has seen this or a later value. That the store is *seen* in time is the work of
        // the light fence behind it.
        self.protected.store(object.cast(), Release);
        witness::left(ptr::from_ref(self).addr());
    }

    /// The object that this slot protects was still linked after that.
    #[inline]
    pub(crate) fn confirm<T>(&self, object: *mut T) {
        witness::used(ptr::from_ref(self).addr(), object);
    }

    fn try_take(&self) -> bool {
        // Relaxed: a first look, to spare the line. Acquire: the stores of the one who had the slot
        // before us stand before ours. Pairs with: the Release in `release`.
        !self.taken.load(Relaxed) && !self.taken.swap(true, Acquire)
    }

    /// Gives the slot back to its domain. It protects nothing any more.
    pub(crate) fn release(&self) {
        // Release: as above. Pairs with: the Acquire in `try_take`.
        self.taken.store(false, Release);
    }
}

/// As many slots as fit with the link to the next block into the two cache lines that processors
/// fetch together. A thread's cache takes whole blocks, so that threads share none.
pub(crate) const BLOCK: usize = if LOOM { 2 } else { 7 };

#[derive(Debug)]
#[repr(align(128))]
struct Block {
    slots: [Slot; BLOCK],
    next: *mut Block,
}

/// Every slot of a domain. Blocks are added in front and stay until the end.
#[derive(Debug)]
pub(crate) struct Slots {
    newest: AtomicPtr<Block>,
    /// Slots in all blocks. Never loom's: no order depends on it.
    made: AtomicUsize,
}

macro_rules! new {
    ($($constness:ident)?) => {
        pub(crate) $($constness)? fn new() -> Self {
            Slots { newest: AtomicPtr::new(ptr::null_mut()), made: AtomicUsize::new(0) }
        }
    };
}

impl Slots {
    crate::sync::const_where_possible!(new);

    /// How many slots there are.
    pub(crate) fn made(&self) -> usize {
        // Relaxed: a size, for thresholds and reports.
        self.made.load(Relaxed)
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        // Acquire: the block was made before it was found here. Pairs with: the Release in `grow`.
        let mut next = self.newest.load(Acquire);
        core::iter::from_fn(move || {
            // SAFETY: a block in the list is valid as long as the list, which we borrow.
            let block = unsafe { next.as_ref() }?;
            next = block.next;
            Some(block)
        })
    }

    /// A slot that nobody else has, and up to `spare` more, handed to `keep`, of the same block.
    pub(crate) fn take<'s>(&'s self, spare: usize, mut keep: impl FnMut(&'s Slot)) -> &'s Slot {
        for block in self.blocks() {
            let mut free = block.slots.iter().filter(|slot| slot.try_take());
            if let Some(slot) = free.next() {
                free.take(spare).for_each(keep);
                return slot;
            }
        }
        let [slot, others @ ..] = &self.grow(1 + spare).slots;
        others.iter().take(spare).for_each(&mut keep);
        slot
    }

    /// Adds a block, of which the first slots are `taken` already.
    #[cold]
    fn grow(&self, taken: usize) -> &Block {
        let slots = core::array::from_fn(|_| Slot::new());
        // Relaxed: nobody else sees the block yet.
        slots.iter().take(taken).for_each(|slot| slot.taken.store(true, Relaxed));
        // Relaxed: only compared with, by the exchange below.
        let next = self.newest.load(Relaxed);
        let block = Box::into_raw(Box::new(Block { slots, next }));
        // Relaxed: a size, for thresholds and reports.
        self.made.fetch_add(BLOCK, Relaxed);
        loop {
            // SAFETY: the block is ours until it is in the list.
            let next = unsafe { (*block).next };
            // Release: the block is made before it can be found. Pairs with: the Acquire in
            // `blocks`. A newest block that we find instead we do not look into: Relaxed.
            match self.newest.compare_exchange(next, block, Release, Relaxed) {
                // SAFETY: from now on the list's, and never changed but for its atomics.
                Ok(_) => return unsafe { &*block },
                // SAFETY: as above, ours.
                Err(newest) => unsafe { (*block).next = newest },
            }
        }
    }

    /// The addresses that are protected, sorted. What they mean is up to the fences of the caller.
    pub(crate) fn protected(&self) -> Vec<*mut ()> {
        // Acquire: see `Slot::protect`, its partner.
        let slots = self.blocks().flat_map(|block| &block.slots);
        let objects = slots.map(|slot| slot.protected.load(Acquire));
        let mut objects: Vec<_> = objects.filter(|object| !object.is_null()).collect();
        objects.sort_unstable();
        objects
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let mut next = get_mut(&mut self.newest);
        while !next.is_null() {
            // SAFETY: made by `grow`, from a box, and nobody borrows the list any more.
            next = unsafe { Box::from_raw(next) }.next;
        }
    }
}
