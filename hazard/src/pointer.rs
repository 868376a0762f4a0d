//! The light side: what is protected, and by whom.

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
/// It belongs to the domain of its family, which the compiler infers from the places that it protects from.
///
/// What it protects is borrowed from it, so it cannot be made to protect another object meanwhile:
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
/// To take one and to drop it are a few instructions, as long as the thread has one at hand (feature
/// `std`): a thread keeps up to seven for each family. Otherwise it takes a free one of the domain's, in constant
/// time, and allocates where there is none.
///
/// # Signal safety
///
/// What a hazard pointer does is wait-free or lock-free, and async-signal-safe. To make one and to drop
/// it are not.
#[derive(Debug)]
pub struct HazardPointer<F: Family = Global> {
    slot: Slot,
    family: Of<F>,
}

impl<F: Family> HazardPointer<F> {
    /// Protects nothing yet.
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

    /// Several at once.
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

    /// A slot from the domain, and others for the thread to keep.
    #[cold]
    fn find_slot() -> Slot {
        F::domain().slots().take(CAPACITY.saturating_sub(1), keep::<F>)
    }

    /// Protects `object` if it is not retired yet. The caller has to find that out by a load *after* this
    /// call, which shows that the object was still linked. Until then it must not even be referred to.
    ///
    /// For structures whose links are none of this crate's: see the queue in `examples/structures`. To pass a
    /// protection on, swap the two hazard pointers. A copy of it is a protection like any other, and needs that load: a
    /// scan may see this slot before the copy, and the other one after it was reset.
    ///
    /// It does the publication and the light fence; the load is yours.
    ///
    /// ```
    /// use asymfence_hazard::HazardPointer;
    ///
    /// let object = Box::into_raw(Box::new(7));
    /// let mut hazard: HazardPointer = HazardPointer::new();
    /// hazard.protect_raw(object); // and now look whether it is still linked
    /// # drop(unsafe { Box::from_raw(object) });
    /// ```
    #[inline]
    pub fn protect_raw<T>(&mut self, object: *mut T) {
        self.slot.protect(object);
        // Light fence: our publication stands before the re-read of the source.
        // Pairs with: the heavy fences in `Domain::fence` and `Cohort::reclaim` (scenario A).
        //  - our store came first: the scan sees the hazard pointer and keeps the object;
        //  - the heavy fence came first: we see that the source changed, and try again.
        light_fence();
    }

    /// Protects nothing any more.
    #[inline]
    pub fn reset_protection(&mut self) {
        self.slot.protect(ptr::null_mut::<()>());
    }

    /// Publishes what `source` holds until it holds still, and returns that: null, or protected if what
    /// `source` holds is not retired.
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

    /// Publishes `object`, and looks whether `source` still holds `expected`: its address, and tags. Returns
    /// what it holds, in any case: an equal address that was read earlier may be that of an object that is gone.
    #[inline]
    pub(crate) fn look_again<T>(
        &mut self,
        object: *mut T,
        expected: *mut T,
        source: &AtomicPtr<T>,
    ) -> Result<*mut T, *mut T> {
        self.protect_raw(object);
        // Acquire: the object is complete before we use it. Pairs with: the Releases of whoever links.
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

/// Kept for the thread, or given back to the domain.
#[inline]
fn keep<F: Family>(slot: Slot) {
    if F::with_local(|local| local.keep(slot)) != Some(true) {
        keep_slowly::<F>(slot);
    }
}

/// Where there is no room, or nothing to end what the thread has.
#[cold]
fn keep_slowly<F: Family>(slot: Slot) {
    let begin = |local: &Local| {
        local.begin();
        local.keep(slot)
    };
    let is_kept = !LOOM && F::begin() && F::with_local(begin) == Some(true);
    if !is_kept {
        F::domain().slots().release(slot);
    }
}
