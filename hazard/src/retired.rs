//! The retired objects of a cohort: unlinked, and not freed as long as a thread may use them. They are in a list,
//! because the thread that drops the cohort frees all of them, whichever thread retired them.
//!
//! NODE-PROTECTED: a thread that adds to the list protects the newest node by a hazard pointer until its exchange of the
//! head. Otherwise another thread could free that node, and add a new one that has the same address. Then the exchange
//! would succeed, but `next` would hold a pointer to the freed node. To follow it is undefined behaviour, although the
//! address is right.

use alloc::boxed::Box;
use core::ptr;

use crate::family::{Family, Of};
use crate::item::Item;
use crate::panics::through_panics;
use crate::pointer::HazardPointer;
use crate::slots::Scan;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicPtr, Number, get_mut, witness};

/// One object, in a list.
#[derive(Debug)]
struct Retired {
    item: Item,
    next: *mut Retired,
}

/// Retired objects that one thread has taken. If this is dropped, they leak.
#[derive(Debug)]
#[must_use]
pub(crate) struct Garbage {
    first: *mut Retired,
}

impl Garbage {
    pub(crate) const fn empty() -> Self {
        Garbage { first: ptr::null_mut() }
    }

    /// # Safety
    ///
    /// `object` came from a box, and may be dropped when the garbage is freed, in any thread.
    pub(crate) unsafe fn of_box<T>(object: *mut T) -> Self {
        // SAFETY: the contract of this function.
        let retired = Retired { item: unsafe { Item::of_box(object) }, next: ptr::null_mut() };
        let first = Box::into_raw(Box::new(retired));
        witness::linked(first);
        Garbage { first }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Moves the first object to the front of `other`.
    pub(crate) fn hand_on(&mut self, other: &mut Garbage) {
        // SAFETY: the garbage is ours, and so is every node in it.
        if let Some(first) = unsafe { self.first.as_mut() } {
            let first_address = self.first;
            self.first = core::mem::replace(&mut first.next, other.first);
            other.first = first_address;
        }
    }

    /// The address of the first object, and that of its node.
    pub(crate) fn first(&self) -> Option<[*mut (); 2]> {
        // SAFETY: as in `hand_on`.
        unsafe { self.first.as_ref() }.map(|first| [first.item.object(), self.first.cast()])
    }

    /// Frees the first object. The object leaves the garbage before its destructor runs.
    ///
    /// # Safety
    ///
    /// No thread uses the object.
    pub(crate) unsafe fn free_first(&mut self) {
        let first = self.first;
        if first.is_null() {
            return;
        }
        // SAFETY: a box's, and ours.
        let Retired { item, next } = *unsafe { Box::from_raw(first) };
        self.first = next;
        witness::freed(first);
        // SAFETY: the contract of this function.
        unsafe { item.free() };
    }

    /// The last node; null if there is none.
    fn last(&self) -> *mut Retired {
        let (mut last, mut next) = (ptr::null_mut(), self.first);
        while !next.is_null() {
            last = next;
            // SAFETY: as in `hand_on`.
            next = unsafe { (*last).next };
        }
        last
    }
}

/// Retired objects that no thread has taken, and the number of objects ever retired here.
#[derive(Debug)]
pub(crate) struct Bag {
    newest: AtomicPtr<Retired>,
    /// Objects ever retired here. Wraps.
    retired: Number,
}

macro_rules! new {
    ($($constness:ident)?) => {
        pub(crate) $($constness)? fn new() -> Self {
            Bag { newest: AtomicPtr::new(ptr::null_mut()), retired: Number::new(0) }
        }
    };
}

impl Bag {
    crate::sync::const_where_possible!(new);

    /// Adds `garbage`. `F` is the cohort's family.
    pub(crate) fn put<F: Family>(&self, garbage: Garbage) {
        let last = garbage.last();
        if last.is_null() {
            return;
        }
        let mut hazard = HazardPointer::<F>::new();
        loop {
            // NODE-PROTECTED. `settle` reports to the witness itself. This second report lets a model notice if a load that
            // protects nothing takes the place of `settle`.
            let newest = hazard.settle(&self.newest);
            witness::used(last.addr(), newest);
            // SAFETY: the garbage is ours until it is in the bag.
            unsafe { (*last).next = newest };
            // Release: the objects were unlinked, and these nodes written, before they can be found here. Pairs with:
            // the Acquire in `take`. So the unlinking comes before the heavy fence that follows that `take`. Relaxed on
            // failure: what we find is loaded again.
            // survives: the light fence in `settle` and that heavy fence order as much. Only if the heavy fence fails
            // is this needed, as in `take`.
            let exchanged = self.newest.compare_exchange(newest, garbage.first, Release, Relaxed);
            witness::left(last.addr());
            if exchanged.is_ok() {
                return;
            }
        }
    }

    /// Counts one more retired object, and returns the new number.
    pub(crate) fn count(&self) -> usize {
        // Relaxed: a number that decides when something is done, never what is done.
        self.retired.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// How many objects were ever retired here.
    pub(crate) fn retired(&self) -> usize {
        // Relaxed: a number for reports.
        self.retired.load(Relaxed)
    }

    /// Takes all objects out.
    pub(crate) fn take(&self) -> Garbage {
        // Acquire: see `put`, its partner.
        // survives: the heavy fence that follows acquires as much. Only if it fails is this needed, since `put` follows the
        // links of these nodes. They are plain memory, which loom does not check.
        Garbage { first: self.newest.swap(ptr::null_mut(), Acquire) }
    }
}

impl Drop for Bag {
    /// Frees the objects in it. The owner of the bag guarantees that no hazard pointer protects them any more.
    fn drop(&mut self) {
        let mut rest = Garbage { first: get_mut(&mut self.newest) };
        through_panics(|| {
            while !rest.is_empty() {
                // SAFETY: no thread uses an object that no hazard pointer protects.
                unsafe { rest.free_first() };
            }
        });
    }
}

/// Retired objects that a reclaim has taken. The objects that are left at its end, or when a destructor panics, go back
/// into a bag.
pub(crate) struct InHand<'b, F: Family> {
    pub(crate) garbage: Garbage,
    pub(crate) bag: &'b Bag,
    pub(crate) family: Of<F>,
}

impl<F: Family> Drop for InHand<'_, F> {
    fn drop(&mut self) {
        self.bag.put::<F>(core::mem::replace(&mut self.garbage, Garbage::empty()));
    }
}

/// Frees the objects in `garbage` that are not protected, and whose nodes are not (NODE-PROTECTED), counts them in `freed`,
/// and moves the others to `kept`. Returns the number of those.
///
/// # Safety
///
/// All objects were unlinked before a heavy fence. `scan` was made after that fence, of the slots of the domain whose
/// hazard pointers protect the objects.
pub(crate) unsafe fn free_unprotected(
    scan: &Scan,
    garbage: &mut Garbage,
    kept: &mut Garbage,
    freed: &mut usize,
) -> usize {
    let mut count = 0;
    while let Some([object, node]) = garbage.first() {
        if scan.contains(object) || scan.contains(node) {
            count += 1;
            garbage.hand_on(kept);
        } else {
            *freed += 1;
            // SAFETY: no thread protects it, and no thread can find it.
            unsafe { garbage.free_first() };
        }
    }
    count
}
