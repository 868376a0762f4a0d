//! The light side: hazard pointers, which protect objects.

use core::marker::PhantomData;
use core::ptr;

use asymfence::light_fence;

use crate::family::{Family, Global, Of};
use crate::slots::Slot;
use crate::sync::AtomicPtr;
use crate::sync::LOOM;
use crate::sync::Ordering::{Acquire, Relaxed};
use crate::thread::{CAPACITY, Local};

/// Protects one object at a time from being freed. One word.
///
/// It belongs to one [`Domain`](crate::Domain), by default that of the process. Its type parameter, the [`Family`],
/// names the domain. The compiler infers the family from the places that are read.
///
/// The protected object is borrowed from the hazard pointer, so the hazard pointer cannot protect another object
/// meanwhile:
///
/// ```
/// use asymfence_hazard::{AtomicBox, HazardPointer};
///
/// let source: AtomicBox<u32> = AtomicBox::from(Box::new(7));
/// let mut hazard = HazardPointer::new();
/// let seven = hazard.protect(&source).expect("not null");
/// assert_eq!(*seven, 7);
/// hazard.reset_protection();
/// ```
///
/// ```compile_fail,E0499
/// use asymfence_hazard::{AtomicBox, HazardPointer};
///
/// let source: AtomicBox<u32> = AtomicBox::from(Box::new(7));
/// let mut hazard = HazardPointer::new();
/// let seven = hazard.protect(&source).expect("not null");
/// hazard.reset_protection();
/// assert_eq!(*seven, 7);
/// ```
///
/// ```compile_fail,E0505
/// use asymfence_hazard::{AtomicBox, HazardPointer};
///
/// let source: AtomicBox<u32> = AtomicBox::from(Box::new(7));
/// let mut hazard = HazardPointer::new();
/// let seven = hazard.protect(&source).expect("not null");
/// drop(hazard);
/// assert_eq!(*seven, 7);
/// ```
///
/// A hazard pointer of another family protects nothing of this one:
///
/// ```compile_fail,E0308
/// use asymfence_hazard::{AtomicBox, Global, HazardPointer, domain};
///
/// domain! { enum Routes {} }
/// let table: AtomicBox<[u8; 4], Routes> = AtomicBox::null();
/// HazardPointer::<Global>::new().protect(&table);
/// ```
///
/// # Cost
///
/// Creating and dropping a hazard pointer takes a few instructions if the thread has kept one (feature `std`): a thread
/// keeps up to seven for each family. Otherwise the domain gives a free one, and allocates if it has none. That is
/// lock-free, except for the allocator (and at the first call of a thread, with `std`, for the C library: see the
/// [crate](crate#limits)). It searches the domain's slots. The search takes longer the more slots there are: mostly one
/// step for each 448 slots.
///
/// # Signal safety
///
/// The methods of a hazard pointer are wait-free or lock-free, and async-signal-safe. Creating and dropping one is not.
#[derive(Debug)]
pub struct HazardPointer<F: Family = Global> {
    slot: Slot,
    family: Of<F>,
}

impl<F: Family> HazardPointer<F> {
    /// Creates a hazard pointer that protects nothing yet.
    ///
    /// ```
    /// use asymfence_hazard::{Global, HazardPointer};
    ///
    /// let hazard: HazardPointer = HazardPointer::new();
    /// let of_the_process = HazardPointer::<Global>::new();
    /// ```
    #[inline]
    #[must_use]
    #[allow(clippy::new_without_default, reason = "nobody looks for a default slot")]
    pub fn new() -> Self {
        let slot = F::with_local(Local::take).flatten().unwrap_or_else(Self::find_slot);
        HazardPointer { slot, family: PhantomData }
    }

    /// Creates several hazard pointers at once.
    ///
    /// ```
    /// use asymfence_hazard::{AtomicBox, HazardPointer};
    ///
    /// let [left, right] = [1, 2].map(|value| AtomicBox::<u32>::from(Box::new(value)));
    /// let [mut a, mut b] = HazardPointer::array();
    /// assert_eq!((a.protect(&left), b.protect(&right)), (Some(&1), Some(&2)));
    /// ```
    #[inline]
    #[must_use]
    pub fn array<const N: usize>() -> [Self; N] {
        core::array::from_fn(|_| Self::new())
    }

    /// Takes a slot from the domain, and further slots for the thread to keep.
    #[cold]
    fn find_slot() -> Slot {
        F::domain().untyped().slots().take(CAPACITY.saturating_sub(1), keep::<F>)
    }

    /// Publishes `object`, and executes the light fence. The object is protected if it was not retired before. The
    /// caller must check that: it must load the link again *after* this call, and find the object still linked. Until
    /// then it must not even create a reference to the object.
    ///
    /// For structures with links of their own: see the queue in `examples/structures`. To hand a protected object to
    /// another hazard pointer, swap the two hazard pointers. To protect the same object with a second hazard pointer,
    /// repeat the load for that one too. A reclaim reads the slots one after the other: it may read the second slot
    /// before it is written, and the first one after it is reset, and so miss the object.
    ///
    /// Under loom this call does not tell `asymfence::model::witness` that the object is protected, because it does not
    /// check that. A model must call `witness::used` after its own check, and `witness::left` before the protection
    /// ends. Or the object has a flag in a `loom::cell::UnsafeCell`, which its deleter sets and each reader reads.
    /// Otherwise the model does not find a use after free.
    ///
    /// ```
    /// use asymfence_hazard::HazardPointer;
    ///
    /// let object = Box::into_raw(Box::new(7));
    /// let mut hazard: HazardPointer = HazardPointer::new();
    /// hazard.protect_raw(object); // and now check that it is still linked
    /// # drop(unsafe { Box::from_raw(object) });
    /// ```
    #[inline]
    pub fn protect_raw<T>(&mut self, object: *mut T) {
        self.slot.protect(object);
        // Light fence: our publication comes before the second load of the source. Pairs with: the heavy fences in
        // `Untyped::fence` and `Cohort::reclaim_now`, and every other heavy fence that serves the ticket of a `Moment`
        // (scenario A).
        //  - our store came first: the scan sees the hazard pointer and keeps the object;
        //  - the heavy fence came first: we see that the source changed, and try again.
        light_fence();
    }

    /// Ends the protection.
    #[inline]
    pub fn reset_protection(&mut self) {
        self.slot.protect(ptr::null_mut::<()>());
    }

    /// Publishes what `source` holds, and repeats that until `source` has not changed meanwhile. Returns what it holds:
    /// null, or an object. The object is protected if `source` keeps the rule that an object in it is not retired.
    #[inline]
    pub(crate) fn settle<T>(&mut self, source: &AtomicPtr<T>) -> *mut T {
        // Relaxed: a guess. What is used is what `look_again` finds.
        let mut object = source.load(Relaxed);
        loop {
            match self.look_again(object, object, source) {
                Ok(object) => return object,
                Err(found) => object = found,
            }
        }
    }

    /// As `settle`, without a store if `source` holds what was published last.
    ///
    /// The store that published the object was followed by a light fence. The load here comes after that fence, as the
    /// first look did. So scenario A holds for this load too, whatever the thread did in between. The hazard pointer
    /// may also have been sent to another thread since. The sending orders the light fence before the load here. A
    /// heavy fence causes a full fence in the first thread. Either that full fence comes before the thread's light
    /// fence, and so before this load. Or it comes after the light fence, and so after the store.
    #[inline]
    pub(crate) fn settle_again<T>(&mut self, source: &AtomicPtr<T>) -> *mut T {
        // Acquire: the object is complete before we use it. Pairs with: the Release of the store that linked it. If
        // `source` is empty and the hazard pointer protects nothing, both are null, and null is returned.
        let object = source.load(Acquire);
        if self.slot.protects(object) {
            self.slot.confirm(object);
            return object;
        }
        self.settle(source)
    }

    /// Publishes `object`, and checks whether `source` still holds `expected`: its address and its tags. In either case
    /// returns the pointer that it has just loaded, and the caller must use that one. A pointer with the same address
    /// that was read earlier may have the provenance of an object that was freed.
    #[inline]
    pub(crate) fn look_again<T>(
        &mut self,
        object: *mut T,
        expected: *mut T,
        source: &AtomicPtr<T>,
    ) -> Result<*mut T, *mut T> {
        self.protect_raw(object);
        // Acquire: the object is complete before we use it. Pairs with: the Releases of the threads that link objects.
        let found = source.load(Acquire);
        if found == expected {
            self.slot.confirm(object);
            Ok(found)
        } else {
            Err(found)
        }
    }
}

impl<F: Family> Drop for HazardPointer<F> {
    #[inline]
    fn drop(&mut self) {
        self.reset_protection();
        keep::<F>(self.slot);
    }
}

/// Keeps the slot for the thread, or gives it back to the domain.
#[inline]
fn keep<F: Family>(slot: Slot) {
    if F::with_local(|local| local.keep(slot)) != Some(true) {
        keep_slowly::<F>(slot);
    }
}

/// Called if the thread has no room: it has kept no slot yet, is ending, or keeps enough slots. In the first case this
/// registers the `End`, unless a retire has, and keeps the slot. Otherwise the slot goes back to the domain.
#[cold]
fn keep_slowly<F: Family>(slot: Slot) {
    let begin = |local: &Local| {
        local.begin();
        local.keep(slot)
    };
    let is_kept = !LOOM && F::begin() && F::with_local(begin) == Some(true);
    if !is_kept {
        F::domain().untyped().slots().release(slot);
    }
}
