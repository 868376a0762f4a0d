//! The slots of a domain, into which readers write what they protect.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ptr::{self, NonNull};

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{
    AtomicBool, AtomicPtr, AtomicUsize, LOCK_TRIES, LOOM, Number, UnsafeCell, get_mut, witness,
};

/// The place of one hazard pointer: what it protects.
#[derive(Debug)]
struct Place {
    /// The address of the object, or null.
    protected: AtomicPtr<()>,
    /// The next free place, if this one is free. Written by the thread that gives it back, before other threads find
    /// it.
    next: UnsafeCell<Option<Slot>>,
}

/// As many places as fit, with the link to their slab, into the two cache lines that processors fetch together. A
/// thread keeps as many places, so threads rarely share a block.
pub(crate) const BLOCK: usize = if LOOM { 1 } else { 7 };

#[derive(Debug)]
#[repr(align(128))]
struct Block {
    places: [Place; BLOCK],
    slab: *const Slab,
}

/// So the address of a place gives its block.
const _: () = assert!(size_of::<Block>() == align_of::<Block>());

/// Blocks that were allocated together.
#[derive(Debug)]
struct Slab {
    /// How many of its places have an owner. A scan skips a slab without owners.
    used: AtomicUsize,
    blocks: *mut [Block],
    next: *mut Slab,
}

/// The maximum number of blocks in a slab.
const LARGEST: usize = 64;

/// A place that belongs to a hazard pointer, or is kept by a thread. Its address also gives its block, so its
/// provenance covers all blocks of the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(NonNull<Place>);

// SAFETY: a place consists of atomics, and of a link that only its holder uses.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    #[inline]
    fn place(&self) -> &Place {
        // SAFETY: a slab is valid as long as its domain, which outlives everything that belongs to its family.
        unsafe { self.0.as_ref() }
    }

    fn slab(&self) -> &Slab {
        let block = self.0.as_ptr().map_addr(|address| address & !(align_of::<Block>() - 1));
        // SAFETY: a place lies in its block, which is aligned to its size. And as above.
        let slab = unsafe { (*block.cast::<Block>()).slab };
        // SAFETY: as above.
        unsafe { &*slab }
    }

    /// Called only by the owner of the slot.
    #[inline]
    pub(crate) fn protect<T>(&self, object: *mut T) {
        // Release: what this thread did with the object that it protected until now comes before the store. Pairs with:
        // the Acquire of the scan in `protected`; the object is freed after the scan has seen this or a later value.
        // The light fence that follows makes sure that the store is *seen* in time.
        self.place().protected.store(object.cast(), Release);
        witness::left(self.0.addr().get());
    }

    /// Whether this slot protects `object`. Only by the one to whom the slot belongs.
    #[inline]
    pub(crate) fn protects<T>(&self, object: *mut T) -> bool {
        // Relaxed: our own store.
        self.place().protected.load(Relaxed) == object.cast()
    }

    /// Tells the witness of a model that `object` was found still linked after this slot had published it.
    #[inline]
    pub(crate) fn confirm<T>(&self, object: *mut T) {
        witness::used(self.0.addr().get(), object);
    }

    fn link(&self, next: Option<Slot>) {
        // SAFETY: only ours, until other threads find it.
        self.place().next.with_mut(|place| unsafe { *place = next });
    }

    fn next(&self) -> Option<Slot> {
        // SAFETY: only ours, because we have taken it off a list.
        self.place().next.with(|next| unsafe { *next })
    }
}

/// Every slot of a domain: slabs of blocks, which stay until the end, and lists of the free slots.
#[derive(Debug)]
pub(crate) struct Slots {
    newest: AtomicPtr<Slab>,
    /// Slots in all blocks, and slots that have an owner.
    made: Number,
    used: Number,
    /// Slots that were given back. They are added one by one and removed all at once, so no address is reused during an
    /// exchange.
    returned: AtomicPtr<Place>,
    /// Slots that were removed from there. They are taken one at a time, under `lock`, a try-lock.
    free: UnsafeCell<Option<Slot>>,
    lock: AtomicBool,
}

// SAFETY: `free` is used only under `lock`. The fields of a slab, except `used`, do not change once it can be found.
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

    /// How many slots have an owner.
    pub(crate) fn used(&self) -> usize {
        // Relaxed: a size, for thresholds and reports.
        self.used.load(Relaxed)
    }

    fn slabs(&self) -> impl Iterator<Item = &Slab> {
        // Acquire: the slab was initialised before it was found here. Pairs with: the Release in `grow`.
        let mut next = self.newest.load(Acquire);
        core::iter::from_fn(move || {
            // SAFETY: a slab in the list is valid as long as the list, which we borrow.
            let slab = unsafe { next.as_ref() }?;
            next = slab.next;
            Some(slab)
        })
    }

    /// Takes a slot, and up to `spare` more, which are passed to `keep`. In constant time, unless another thread does
    /// the same at that moment, or did when this process was forked.
    #[cold]
    pub(crate) fn take(&self, spare: usize, mut keep: impl FnMut(Slot)) -> Slot {
        let first = Cell::new(None);
        let mut take = |slot: Slot| {
            // Relaxed: this comes before the slot protects anything. So a scan after a heavy fence that must find the
            // protection finds this too (scenario A).
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
            // Another thread has the lock, or had it when the process was forked. Take all slots that were given back,
            // and give the rest back again.
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

    /// Gives a slot back. It must not protect anything any more.
    pub(crate) fn release(&self, slot: Slot) {
        // Relaxed: a size.
        self.used.fetch_sub(1, Relaxed);
        // Release: what the holder did with the objects that it protected. Pairs with: the Acquire in `protected`,
        // which skips the slab if it finds 0.
        slot.slab().used.fetch_sub(1, Release);
        self.give_back(slot, slot);
    }

    /// Gives back a list of slots, of which the last is known.
    fn give_back(&self, first: Slot, last: Slot) {
        // Relaxed: only compared with.
        let mut returned = self.returned.load(Relaxed);
        loop {
            last.link(NonNull::new(returned).map(Slot));
            // Release: the stores of the last holder, and the links. Pairs with: the Acquire in `returned`. Relaxed on
            // failure: the slot that we find is not accessed.
            match self.returned.compare_exchange(returned, first.0.as_ptr(), Release, Relaxed) {
                Ok(_) => return,
                Err(found) => returned = found,
            }
        }
    }

    /// Takes all slots that were given back.
    fn returned(&self) -> Option<Slot> {
        // Relaxed: a first check. Acquire: the stores of the previous holders come before ours. Pairs with: the Release
        // in `give_back`.
        if self.returned.load(Relaxed).is_null() {
            return None;
        }
        NonNull::new(self.returned.swap(ptr::null_mut(), Acquire)).map(Slot)
    }

    #[allow(clippy::reversed_empty_ranges, reason = "most models do not try")]
    fn lock(&self) -> Option<Locked<'_>> {
        for _ in 0..LOCK_TRIES {
            // Relaxed: a first check, which does not take the cache line. Acquire: what was done under the lock before.
            // Pairs with: the Release of `Locked`.
            if !self.lock.load(Relaxed)
                && self.lock.compare_exchange(false, true, Acquire, Relaxed).is_ok()
            {
                return Some(Locked(self));
            }
            core::hint::spin_loop();
        }
        None
    }

    /// Adds a slab, twice as large as all slabs before, up to a maximum. Returns its slots, which belong to the caller.
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
            // Release: the slab is initialised before it can be found. Pairs with: the Acquire in `slabs`. Relaxed on
            // failure: the newer slab that we find is not accessed.
            match self.newest.compare_exchange(next, slab, Release, Relaxed) {
                Ok(_) => break,
                Err(newest) => next = newest,
            }
        }
        let first = blocks.cast::<Block>();
        (0..count * BLOCK).map(move |index| {
            // SAFETY: one of the blocks.
            let block = unsafe { first.add(index / BLOCK) };
            // SAFETY: not by a reference, so that the address also gives the block.
            let places = unsafe { &raw mut (*block).places }.cast::<Place>();
            // SAFETY: one of its places.
            let place = unsafe { places.add(index % BLOCK) };
            // SAFETY: an address in a box.
            Slot(unsafe { NonNull::new_unchecked(place) })
        })
    }

    /// The addresses that are protected. An object that is missing here is unprotected only if a heavy fence came
    /// between its unlinking and this scan: the caller ensures that.
    pub(crate) fn protected(&self) -> Scan {
        // Acquire: no slot of the slab has an owner, and the previous owners are done. Pairs with: the Release in
        // `release`.
        let slabs = self.slabs().filter(|slab| slab.used.load(Acquire) != 0);
        // SAFETY: made with the slab, and only its atomics and links change.
        let blocks = slabs.flat_map(|slab| unsafe { &*slab.blocks });
        // Acquire: see `Slot::protect`, its partner.
        let objects =
            blocks.flat_map(|block| &block.places).map(|place| place.protected.load(Acquire));
        Scan::of(objects.filter(|object| !object.is_null()).collect())
    }
}

/// The held lock of the free list.
struct Locked<'s>(&'s Slots);

impl Locked<'_> {
    /// Takes up to this many slots off the list.
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

/// The addresses that a scan found protected. Copying it counts a reference.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// `None` if nothing is protected.
    table: Option<Arc<Table>>,
}

#[derive(Debug)]
struct Table {
    /// A bit for the hash of each object, in at least [`FILTER`] times as many bits, a power of two. It answers for
    /// most objects that are not protected, and fits into the first-level cache even if `places` does not.
    filter: Box<[u64]>,
    /// A hash table of the addresses; 0 is an empty entry. The number of entries is a power of two, and at least half
    /// of them are empty.
    places: Box<[usize]>,
}

const FILTER: usize = 8;

impl Scan {
    pub(crate) const fn none() -> Self {
        Scan { table: None }
    }

    fn of(objects: Vec<*mut ()>) -> Self {
        if objects.is_empty() {
            return Scan::none();
        }
        let count = objects.len().next_power_of_two();
        let mut filter = vec![0; (FILTER * count).div_ceil(64)].into_boxed_slice();
        let mut places = vec![0; 2 * count].into_boxed_slice();
        for object in objects.into_iter().map(<*mut ()>::addr) {
            let (word, bit) = Table::bit(&filter, object);
            filter[word] |= bit;
            let place = Table::place(&places, object);
            places[place] = object;
        }
        Scan { table: Some(Arc::new(Table { filter, places })) }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_none()
    }

    #[inline]
    pub(crate) fn contains(&self, object: *mut ()) -> bool {
        let Some(table) = &self.table else { return false };
        let object = object.addr();
        let (word, bit) = Table::bit(&table.filter, object);
        // The null address is never protected.
        table.filter[word] & bit != 0 && table.places[Table::place(&table.places, object)] != 0
    }
}

impl Table {
    /// A number below `count`, a power of two.
    #[inline]
    fn hash(object: usize, count: usize) -> usize {
        // The fractional part of the golden ratio spreads neighbouring addresses, in the upper bits.
        let spread = ((object >> 3) as u32).wrapping_mul(0x9E37_79B9);
        (spread >> (32 - count.trailing_zeros().clamp(1, 32))) as usize & (count - 1)
    }

    /// The word of the filter, and the bit in it.
    #[inline]
    fn bit(filter: &[u64], object: usize) -> (usize, u64) {
        let hash = Table::hash(object, 64 * filter.len());
        (hash / 64, 1 << (hash % 64))
    }

    /// Where it is, or where it would be.
    #[inline]
    fn place(places: &[usize], object: usize) -> usize {
        let mut place = Table::hash(object, places.len());
        while places[place] != 0 && places[place] != object {
            place = (place + 1) & (places.len() - 1);
        }
        place
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let mut next = get_mut(&mut self.newest);
        while !next.is_null() {
            // SAFETY: made by `grow`, from a box, and the list is not borrowed any more.
            let slab = *unsafe { Box::from_raw(next) };
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(slab.blocks) });
            next = slab.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_contains_what_it_was_made_of_and_nothing_else() {
        let address = |number: usize| ptr::without_provenance_mut(16 * number);
        for count in [0, 1, 2, 3, 7, 64, 1_000, 10_000] {
            // Every other address.
            let scan = Scan::of((1..=count).map(|number| address(2 * number)).collect());
            for number in 1..=count {
                assert!(scan.contains(address(2 * number)), "{number} of {count}");
                assert!(!scan.contains(address(2 * number + 1)), "{number} of {count}");
            }
            assert!(!scan.contains(ptr::null_mut()));
        }
    }
}
