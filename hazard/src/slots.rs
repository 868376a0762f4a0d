//! The slots of a domain, in which readers say what they protect.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ptr::{self, NonNull};

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicBool, AtomicPtr, AtomicUsize, LOOM, Number, UnsafeCell, get_mut, witness};

/// Where one hazard pointer says what it protects.
#[derive(Debug)]
struct Place {
    /// The address of the object, or null.
    protected: AtomicPtr<()>,
    /// The next free one, if this one is free. Written by the thread that gives it back, before others find it.
    next: UnsafeCell<Option<Slot>>,
}

/// As many places as fit with the link to their slab into the two cache lines that processors
/// fetch together. A thread keeps as many, so that threads share few.
pub(crate) const BLOCK: usize = if LOOM { 1 } else { 7 };

#[derive(Debug)]
#[repr(align(128))]
struct Block {
    places: [Place; BLOCK],
    slab: *const Slab,
}

/// So a place's address leads to its block.
const _: () = assert!(size_of::<Block>() == align_of::<Block>());

/// Blocks that were made at once.
#[derive(Debug)]
struct Slab {
    /// How many of its places belong to somebody: where none does a scan goes by.
    used: AtomicUsize,
    blocks: *mut [Block],
    next: *mut Slab,
}

/// The most blocks in a slab.
const LARGEST: usize = 64;

/// A place that belongs to a hazard pointer, or is kept for a thread. An address by which its block can be found: its
/// provenance is all of the slab's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(NonNull<Place>);

// SAFETY: a place is of atomics, and of a link that only its one holder uses.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    #[inline]
    fn place(&self) -> &Place {
        // SAFETY: a slab is valid as long as its domain, which outlives what belongs to its family.
        unsafe { self.0.as_ref() }
    }

    fn slab(&self) -> &Slab {
        let block = self.0.as_ptr().map_addr(|address| address & !(align_of::<Block>() - 1));
        // SAFETY: a place lies in its block, which is aligned to its size; and as above.
        let slab = unsafe { (*block.cast::<Block>()).slab };
        // SAFETY: as above.
        unsafe { &*slab }
    }

    /// Only by the one to whom the slot belongs.
    #[inline]
    pub(crate) fn protect<T>(&self, object: *mut T) {
        // Release: what this thread did with the object that it protected until now stands before
        // the store. Pairs with: the Acquire of the scan in `protected`, which frees that object
        // after it has seen this or a later value. That the store is *seen* in time is the work of
        // the light fence behind it.
        self.place().protected.store(object.cast(), Release);
        witness::left(self.0.addr().get());
    }

    /// The object that this slot protects was still linked after that.
    #[inline]
    pub(crate) fn confirm<T>(&self, object: *mut T) {
        witness::used(self.0.addr().get(), object);
    }

    fn link(&self, next: Option<Slot>) {
        // SAFETY: ours alone, until others find it.
        self.place().next.with_mut(|place| unsafe { *place = next });
    }

    fn next(&self) -> Option<Slot> {
        // SAFETY: ours alone, since we have taken it off a list.
        self.place().next.with(|next| unsafe { *next })
    }
}

/// Every slot of a domain: slabs of blocks, which stay until the end, and lists of those that are free.
#[derive(Debug)]
pub(crate) struct Slots {
    newest: AtomicPtr<Slab>,
    /// Slots in all blocks, and slots that belong to somebody.
    made: Number,
    used: Number,
    /// Slots that were given back: added one by one and removed all at once, so no address comes back in the middle of
    /// an exchange.
    returned: AtomicPtr<Place>,
    /// Slots that were removed from there, one of which is taken at a time. With `lock`, a try-lock.
    free: UnsafeCell<Option<Slot>>,
    lock: AtomicBool,
}

// SAFETY: `free` is used with `lock` held, a slab's fields but `used` do not change once it can be found.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

macro_rules! new {
    ($($constness:ident)?) => {
        pub(crate) $($constness)? fn new() -> Self {
            Slots {
                newest: AtomicPtr::new(ptr::null_mut()),
                made: Number::new(0),
                used: Number::new(0),
                returned: AtomicPtr::new(ptr::null_mut()),
                free: UnsafeCell::new(None),
                lock: AtomicBool::new(false),
            }
        }
    };
}

impl Slots {
    crate::sync::const_where_possible!(new);

    /// How many slots there are.
    pub(crate) fn made(&self) -> usize {
        // Relaxed: a size, for reports.
        self.made.load(Relaxed)
    }

    /// How many slots belong to somebody.
    pub(crate) fn used(&self) -> usize {
        // Relaxed: a size, for thresholds and reports.
        self.used.load(Relaxed)
    }

    fn slabs(&self) -> impl Iterator<Item = &Slab> {
        // Acquire: the slab was made before it was found here. Pairs with: the Release in `grow`.
        let mut next = self.newest.load(Acquire);
        core::iter::from_fn(move || {
            // SAFETY: a slab in the list is valid as long as the list, which we borrow.
            let slab = unsafe { next.as_ref() }?;
            next = slab.next;
            Some(slab)
        })
    }

    /// A slot that nobody else has, and up to `spare` more, handed to `keep`. In constant time, but where another
    /// thread does the same at the very moment.
    #[cold]
    pub(crate) fn take(&self, spare: usize, mut keep: impl FnMut(Slot)) -> Slot {
        let first = Cell::new(None);
        let mut take = |slot: Slot| {
            // Relaxed: before the slot protects anything, so that a scan behind a heavy fence, to which that
            // protection counts, finds this too (scenario A).
            slot.slab().used.fetch_add(1, Relaxed);
            self.used.fetch_add(1, Relaxed);
            match first.get() {
                None => first.set(Some(slot)),
                Some(_) => keep(slot),
            }
        };
        if let Some(locked) = self.lock() {
            locked.take(1 + spare, &mut take);
        } else {
            // Somebody is there, or was when the process was forked: all that were given back, and the rest back.
            let mut list = self.returned();
            for _ in 0..=spare {
                let Some(slot) = list else { break };
                list = slot.next();
                take(slot);
            }
            if let Some(rest) = list {
                let mut last = rest;
                while let Some(next) = last.next() {
                    last = next;
                }
                self.give_back(rest, last);
            }
        }
        if let Some(first) = first.get() {
            return first;
        }
        let mut new = self.grow();
        let mut rest = None;
        for _ in 0..=spare {
            let Some(slot) = new.next() else { break };
            take(slot);
        }
        let mut last = None;
        for slot in new {
            slot.link(rest);
            last = last.or(Some(slot));
            rest = Some(slot);
        }
        if let (Some(rest), Some(last)) = (rest, last) {
            self.give_back(rest, last);
        }
        first.get().unwrap_or_else(|| unreachable!("a slab has slots"))
    }

    /// Gives a slot back. It protects nothing any more.
    pub(crate) fn release(&self, slot: Slot) {
        // Relaxed: a size.
        self.used.fetch_sub(1, Relaxed);
        // Release: what the holder did with the objects that it protected. Pairs with: the Acquire in `protected`,
        // which goes by where it finds 0.
        slot.slab().used.fetch_sub(1, Release);
        self.give_back(slot, slot);
    }

    /// Gives back a list of slots, of which the last is known.
    fn give_back(&self, first: Slot, last: Slot) {
        // Relaxed: only compared with.
        let mut returned = self.returned.load(Relaxed);
        loop {
            last.link(NonNull::new(returned).map(Slot));
            // Release: the stores of the last holder, and the links. Pairs with: the Acquire in `returned`. What
            // we find instead we do not look into: Relaxed.
            match self.returned.compare_exchange(returned, first.0.as_ptr(), Release, Relaxed) {
                Ok(_) => return,
                Err(found) => returned = found,
            }
        }
    }

    /// All that were given back.
    fn returned(&self) -> Option<Slot> {
        // Relaxed: a first look. Acquire: the stores of those who had them stand before ours. Pairs with: the
        // Release in `give_back`.
        if self.returned.load(Relaxed).is_null() {
            return None;
        }
        NonNull::new(self.returned.swap(ptr::null_mut(), Acquire)).map(Slot)
    }

    #[allow(clippy::reversed_empty_ranges, reason = "a model does not try again")]
    fn lock(&self) -> Option<Locked<'_>> {
        const TRIES: u32 = if LOOM { 0 } else { 100 };
        for _ in 0..TRIES {
            // Relaxed: a first look, to spare the line. Acquire: what was done under the lock before. Pairs with:
            // the Release of `Locked`.
            if !self.lock.load(Relaxed)
                && self.lock.compare_exchange(false, true, Acquire, Relaxed).is_ok()
            {
                return Some(Locked(self));
            }
            core::hint::spin_loop();
        }
        None
    }

    /// Adds a slab: twice as large as all before, up to a size. Its slots, which are the caller's.
    #[allow(clippy::modulo_one, reason = "a model's block has one place")]
    fn grow(&self) -> impl Iterator<Item = Slot> + use<> {
        let count = (self.made() / BLOCK).clamp(1, if LOOM { 1 } else { LARGEST });
        let slab = Box::into_raw(Box::new(Slab {
            used: AtomicUsize::new(0),
            blocks: ptr::slice_from_raw_parts_mut(ptr::null_mut(), 0),
            next: ptr::null_mut(),
        }));
        let place =
            |_| Place { protected: AtomicPtr::new(ptr::null_mut()), next: UnsafeCell::new(None) };
        let blocks: Box<[Block]> =
            (0..count).map(|_| Block { places: core::array::from_fn(place), slab }).collect();
        let blocks = Box::into_raw(blocks);
        // Relaxed: a size.
        self.made.fetch_add(count * BLOCK, Relaxed);
        // Relaxed: only compared with, by the exchange below.
        let mut next = self.newest.load(Relaxed);
        loop {
            // SAFETY: the slab is ours until it is in the list.
            let ours = unsafe { &mut *slab };
            (ours.blocks, ours.next) = (blocks, next);
            // Release: the slab is made before it can be found. Pairs with: the Acquire in
            // `slabs`. A newest slab that we find instead we do not look into: Relaxed.
            match self.newest.compare_exchange(next, slab, Release, Relaxed) {
                Ok(_) => break,
                Err(newest) => next = newest,
            }
        }
        let first = blocks.cast::<Block>();
        (0..count * BLOCK).map(move |index| {
            // SAFETY: one of the blocks.
            let block = unsafe { first.add(index / BLOCK) };
            // SAFETY: not by a reference, so that the address leads to the block too.
            let places = unsafe { &raw mut (*block).places }.cast::<Place>();
            // SAFETY: one of its places.
            let place = unsafe { places.add(index % BLOCK) };
            // SAFETY: an address in a box.
            Slot(unsafe { NonNull::new_unchecked(place) })
        })
    }

    /// The addresses that are protected. What they mean is up to the fences of the caller.
    pub(crate) fn protected(&self) -> Scan {
        // Acquire: nobody holds a slot of it, and those who did are done. Pairs with: the Release in `release`.
        let slabs = self.slabs().filter(|slab| slab.used.load(Acquire) != 0);
        // SAFETY: made with the slab, and never changed but for its atomics and links.
        let blocks = slabs.flat_map(|slab| unsafe { &*slab.blocks });
        // Acquire: see `Slot::protect`, its partner.
        let objects =
            blocks.flat_map(|block| &block.places).map(|place| place.protected.load(Acquire));
        Scan::of(objects.filter(|object| !object.is_null()).collect())
    }
}

/// The lock of the free list, held.
struct Locked<'s>(&'s Slots);

impl Locked<'_> {
    /// Takes up to so many slots off the list.
    fn take(&self, most: usize, take: &mut impl FnMut(Slot)) {
        self.0.free.with_mut(|free| {
            // SAFETY: we hold the lock.
            let free = unsafe { &mut *free };
            for _ in 0..most {
                let Some(slot) = free.or_else(|| self.0.returned()) else { break };
                *free = slot.next();
                take(slot);
            }
        });
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Release: what was done under the lock. Pairs with: the Acquire in `Slots::lock`.
        self.0.lock.store(false, Release);
    }
}

/// What a scan has found protected. To copy it is to count a reference.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// A table at least half of which is empty, of a size that is a power of two. `None` if nothing is protected.
    table: Option<Arc<[*mut ()]>>,
}

impl Scan {
    pub(crate) const fn none() -> Self {
        Scan { table: None }
    }

    fn of(objects: Vec<*mut ()>) -> Self {
        if objects.is_empty() {
            return Scan::none();
        }
        let mut table = vec![ptr::null_mut(); 2 * objects.len().next_power_of_two()];
        for object in objects {
            let place = Scan::place(&table, object);
            table[place] = object;
        }
        Scan { table: Some(table.into()) }
    }

    /// Where it is, or where it would be.
    #[inline]
    fn place(table: &[*mut ()], object: *mut ()) -> usize {
        // The fractional part of the golden ratio spreads what lies side by side, in the upper bits.
        let spread = u64::from((object.addr() >> 3) as u32).wrapping_mul(0x9E37_79B9);
        let mask = table.len() - 1;
        let mut place =
            (spread as u32 >> (32 - table.len().trailing_zeros().min(31))) as usize & mask;
        while !table[place].is_null() && table[place] != object {
            place = (place + 1) & mask;
        }
        place
    }

    #[inline]
    pub(crate) fn contains(&self, object: *mut ()) -> bool {
        let Some(table) = &self.table else { return false };
        // An object of the address null is protected by nobody, and found in any place that is empty.
        !table[Scan::place(table, object)].is_null()
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let mut next = get_mut(&mut self.newest);
        while !next.is_null() {
            // SAFETY: made by `grow`, from a box, and nobody borrows the list any more.
            let slab = *unsafe { Box::from_raw(next) };
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(slab.blocks) });
            next = slab.next;
        }
    }
}
