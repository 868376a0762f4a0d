//! The slots of a domain, into which readers write what they protect.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ptr::{self, NonNull};

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicPtr, AtomicUsize, LOOM, Number, get_mut, witness, yield_now};

/// The place of one hazard pointer: the address of the object that it protects, or null.
#[derive(Debug)]
struct Place(AtomicPtr<()>);

/// As many places as a thread keeps, with the link to their slab, in the two cache lines that processors fetch together.
/// So threads rarely share a block.
pub(crate) const BLOCK: usize = if LOOM { 1 } else { 7 };

#[derive(Debug)]
#[repr(align(128))]
struct Block {
    places: [Place; BLOCK],
    slab: *const Slab,
}

/// Every place of a block has an owner: a bit for each.
const ALL: usize = (1 << BLOCK) - 1;

/// So the address of a place gives its block.
const _: () = assert!(size_of::<Block>() == align_of::<Block>());

/// Blocks that were allocated together.
#[derive(Debug)]
struct Slab {
    /// How many of its places have an owner. A scan skips a slab without owners.
    used: AtomicUsize,
    blocks: *mut [Block],
    /// For each block, a bit for each of its places: whether it has an owner.
    owned: Box<[AtomicUsize]>,
    /// How many places this slab and those before it have.
    total: usize,
    next: *mut Slab,
}

/// The maximum number of blocks in a slab.
const LARGEST: usize = 64;

/// A place that belongs to a hazard pointer, or is kept by a thread. Its address also gives its block, so its
/// provenance covers all blocks of the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(NonNull<Place>);

// SAFETY: a place is an atomic.
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
        self.place().0.store(object.cast(), Release);
        witness::left(self.0.addr().get());
    }

    /// Whether this slot protects `object`. Only by the one to whom the slot belongs.
    #[inline]
    pub(crate) fn protects<T>(&self, object: *mut T) -> bool {
        // Relaxed: our own store.
        self.place().0.load(Relaxed) == object.cast()
    }

    /// Tells the witness of a model that `object` was found still linked after this slot had published it.
    #[inline]
    pub(crate) fn confirm<T>(&self, object: *mut T) {
        witness::used(self.0.addr().get(), object);
    }
}

impl Slab {
    /// A slot of this slab: the index of its block, and its index in the block.
    fn slot(&self, block: usize, place: usize) -> Slot {
        // SAFETY: one of the blocks.
        let block = unsafe { self.blocks.cast::<Block>().add(block) };
        // SAFETY: not by a reference, so that the address also gives the block.
        let places = unsafe { &raw mut (*block).places }.cast::<Place>();
        // SAFETY: one of its places.
        let place = unsafe { places.add(place) };
        // SAFETY: an address in a box.
        Slot(unsafe { NonNull::new_unchecked(place) })
    }

    /// The word that says which places of the slot's block have an owner, and the slot's bit in it.
    fn owner(&self, slot: Slot) -> (&AtomicUsize, usize) {
        let offset = slot.0.addr().get() - self.blocks.cast::<Block>().addr();
        let (block, place) = (offset / size_of::<Block>(), offset % size_of::<Block>());
        (&self.owned[block], 1 << (place / size_of::<Place>()))
    }

    /// Takes up to so many slots that have no owner, and counts down.
    fn take(&self, wanted: &mut usize, take: &mut impl FnMut(Slot)) {
        // Relaxed: a first check. `release` lowers the count before it clears the bit. If a thread is lost between the
        // two, by a fork for example, the count is too low and not too high, and a slab with a free place is not passed
        // over for ever.
        if !LOOM && self.used.load(Relaxed) == BLOCK * self.owned.len() {
            return;
        }
        for (block, word) in self.owned.iter().enumerate() {
            // Relaxed: only compared with.
            let mut owned = word.load(Relaxed);
            while owned != ALL && *wanted > 0 {
                let place = owned.trailing_ones() as usize;
                let bit = 1 << place;
                // Acquire: the stores of the previous owner come before ours. Pairs with: the Release in `release`.
                // Relaxed on failure: nothing was taken.
                match word.compare_exchange(owned, owned | bit, Acquire, Relaxed) {
                    Ok(_) => {
                        owned |= bit;
                        *wanted -= 1;
                        // Relaxed: this comes before the slot protects anything. So a scan after a heavy fence that
                        // must find the protection finds this too (scenario A).
                        self.used.fetch_add(1, Relaxed);
                        take(self.slot(block, place));
                    }
                    Err(found) => owned = found,
                }
            }
        }
    }

    /// Returns the next slab.
    ///
    /// # Safety
    ///
    /// Made by [`Slots::grow`], and not borrowed.
    unsafe fn free(slab: *mut Slab) -> *mut Slab {
        // SAFETY: from a box, as the caller says.
        let slab = *unsafe { Box::from_raw(slab) };
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(slab.blocks) });
        slab.next
    }
}

/// Every slot of a domain: slabs of blocks, which stay until the end.
///
/// A thread that takes slots first reserves them, by a count, and then looks for them. A slab is added only if the count
/// says that there are no more. No thread waits for another one here: that one may be preempted, or have been left behind
/// by a fork.
#[derive(Debug)]
pub(crate) struct Slots {
    newest: AtomicPtr<Slab>,
    /// Slots that have an owner or are reserved: never more than there are, except while a slab is being added.
    used: Number,
}

// SAFETY: the fields of a slab, except its atomics, do not change once it can be found.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

macro_rules! new {
    ($($constness:ident)?) => {
        pub(crate) $($constness)? fn new() -> Self {
            Slots { newest: AtomicPtr::new(ptr::null_mut()), used: Number::new(0) }
        }
    };
}

impl Slots {
    crate::sync::const_where_possible!(new);

    /// How many slots there are.
    pub(crate) fn made(&self) -> usize {
        self.slabs().next().map_or(0, |slab| slab.total)
    }

    /// How many slots have an owner or are reserved.
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

    /// Takes a slot, and up to `spare` more, which are passed to `keep`. Lock-free, except for the allocator.
    #[cold]
    pub(crate) fn take(&self, spare: usize, mut keep: impl FnMut(Slot)) -> Slot {
        let first = Cell::new(None);
        let mut take = |slot: Slot| match first.get() {
            None => first.set(Some(slot)),
            Some(_) => keep(slot),
        };
        let mut wanted = match self.reserve((1 + spare).min(BLOCK)) {
            Reserved::There(count) => count,
            Reserved::Made(slab, count) => {
                (0..count).for_each(|place| take(slab.slot(0, place)));
                0
            }
        };
        loop {
            for slab in self.slabs() {
                if wanted == 0 {
                    break;
                }
                slab.take(&mut wanted, &mut take);
            }
            if let Some(first) = first.get() {
                // Relaxed: a size. What was reserved and not found is for others.
                self.used.fetch_sub(wanted, Relaxed);
                return first;
            }
            // One is free for us: there are at least as many slots as are reserved. Others took those that we saw, and
            // gave back some that we had passed.
            yield_now();
        }
    }

    /// Reserves up to so many slots, and at least one.
    fn reserve(&self, most: usize) -> Reserved<'_> {
        // Relaxed, all: a slot that is counted as free is looked for until it is found.
        let mut used = self.used.load(Relaxed);
        loop {
            let newest = self.slabs().next();
            let count = newest.map_or(0, |slab| slab.total).saturating_sub(used).min(most);
            if count == 0 {
                if let Some(slab) = self.grow(newest, most) {
                    return Reserved::Made(slab, most);
                }
                used = self.used.load(Relaxed);
                continue;
            }
            match self.used.compare_exchange(used, used + count, Relaxed, Relaxed) {
                Ok(_) => return Reserved::There(count),
                Err(found) => used = found,
            }
        }
    }

    /// Gives a slot back. It must not protect anything any more.
    pub(crate) fn release(&self, slot: Slot) {
        let slab = slot.slab();
        // Release: what the holder did with the objects that it protected. Pairs with: the Acquire in `protected`,
        // which skips the slab if it finds 0.
        slab.used.fetch_sub(1, Release);
        let (owned, bit) = slab.owner(slot);
        // Release: the stores of the holder. Pairs with: the Acquire in `Slab::take`.
        owned.fetch_and(!bit, Release);
        // Relaxed: a size. A thread that sees this count before it sees the cleared bit keeps looking until it finds a
        // slot.
        self.used.fetch_sub(1, Relaxed);
    }

    /// Adds a slab, as large as all slabs before, up to a maximum. The first `count` of its slots belong to the caller.
    /// If another thread has added one since `newest`, there is no need any more.
    fn grow(&self, newest: Option<&Slab>, count: usize) -> Option<&Slab> {
        let made = newest.map_or(0, |slab| slab.total);
        // guard survives: slabs of one block each hold the same slots, and a scan takes longer.
        let blocks_count = (made / BLOCK).clamp(1, if LOOM { 1 } else { LARGEST });
        let owned = |block| AtomicUsize::new(if block == 0 { (1 << count) - 1 } else { 0 });
        let slab = Box::into_raw(Box::new(Slab {
            used: AtomicUsize::new(count),
            blocks: ptr::slice_from_raw_parts_mut(ptr::null_mut(), 0),
            owned: (0..blocks_count).map(owned).collect(),
            total: made + BLOCK * blocks_count,
            next: newest.map_or(ptr::null_mut(), |slab| ptr::from_ref(slab).cast_mut()),
        }));
        let place = |_| Place(AtomicPtr::new(ptr::null_mut()));
        let blocks: Box<[Block]> = (0..blocks_count)
            .map(|_| Block { places: core::array::from_fn(place), slab })
            .collect();
        // SAFETY: the slab is ours until it is in the list.
        let ours = unsafe { &mut *slab };
        ours.blocks = Box::into_raw(blocks);
        let next = ours.next;
        // Relaxed: a count. Before the slab can be found, or others would reserve what is ours.
        self.used.fetch_add(count, Relaxed);
        // Release: the slab is initialised before it can be found. Pairs with: the Acquire in `slabs`. Relaxed on
        // failure: the newer slab is not accessed.
        if self.newest.compare_exchange(next, slab, Release, Relaxed).is_err() {
            // Relaxed: as above.
            self.used.fetch_sub(count, Relaxed);
            // SAFETY: made above, and nobody has found it.
            unsafe { Slab::free(slab) };
            return None;
        }
        // SAFETY: it is in the list.
        Some(unsafe { &*slab })
    }

    /// The addresses that are protected. An object that is missing here is unprotected only if a heavy fence came
    /// between its unlinking and this scan: the caller ensures that.
    pub(crate) fn protected(&self) -> Scan {
        // Acquire: no slot of the slab has an owner, and the previous owners are done. Pairs with: the Release in
        // `release`.
        let slabs = self.slabs().filter(|slab| slab.used.load(Acquire) != 0);
        // SAFETY: made with the slab, and only its atomics change.
        let blocks = slabs.flat_map(|slab| unsafe { &*slab.blocks });
        // Acquire: see `Slot::protect`, its partner.
        let objects = blocks.flat_map(|block| &block.places).map(|place| place.0.load(Acquire));
        Scan::of(objects.filter(|object| !object.is_null()).collect())
    }
}

/// Slots for somebody who wants some.
enum Reserved<'s> {
    /// So many are there, and must be found.
    There(usize),
    /// The first ones of a new slab.
    Made(&'s Slab, usize),
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
            // SAFETY: made by `grow`, and the list is not borrowed any more.
            next = unsafe { Slab::free(next) };
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
