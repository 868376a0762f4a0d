//! The light side: what is protected, and by whom.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;

use asymfence::light_fence;

use crate::domain::Domain;
use crate::family::Global;
use crate::slots::Slot;
use crate::sync;
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::witness;

/// A pointer to an object that hazard pointers of the family `F` protect: `core`'s atomic pointer,
/// with the promise that what it points to stays valid for them.
///
/// It owns nothing: dropped, it leaks. Every store is a Release and every load an Acquire, so an object is
/// complete before it is found.
///
/// What it points to is seen by many threads, and freed by any:
///
/// ```compile_fail,E0277
/// use asymfence_hazard::AtomicPtr;
/// static COUNT: AtomicPtr<std::cell::Cell<u32>> = AtomicPtr::null();
/// ```
#[repr(transparent)]
pub struct AtomicPtr<T, F = Global> {
    pointer: sync::AtomicPtr<T>,
    /// Invariant, and without a value of its own.
    family: PhantomData<fn(F) -> F>,
}

// SAFETY: it hands out `&T` in every thread that can name it, and `*mut T` to free in another.
unsafe impl<T: Send + Sync, F> Send for AtomicPtr<T, F> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, F> Sync for AtomicPtr<T, F> {}

/// The constructor, `const` where the atomics' is.
macro_rules! null {
    ($($constness:ident)?) => {
        /// Points to nothing.
        #[must_use]
        pub $($constness)? fn null() -> Self {
            AtomicPtr { pointer: sync::AtomicPtr::new(ptr::null_mut()), family: PhantomData }
        }
    };
}

impl<T, F> AtomicPtr<T, F> {
    crate::sync::const_where_possible!(null);

    /// The address, to be compared, or followed by who knows that the object is valid. To use an object
    /// that others may retire, [`protect`](HazardPointer::protect) it.
    #[inline]
    #[must_use]
    pub fn load(&self) -> *mut T {
        // Acquire: the object is complete before we use it. Pairs with: the Releases below.
        self.pointer.load(Acquire)
    }

    /// Points to `new` from now on.
    ///
    /// # Safety
    ///
    /// `new` is null, or points to an object that is valid as long as somebody may
    /// [`protect`](HazardPointer::protect) it by way of this `AtomicPtr`; and after that until it has been
    /// freed by [`Domain::retire`], on the domain of the hazard pointers that may protect it, or by who
    /// knows that no `&T` of a `protect` is in use.
    ///
    /// A link *inside* of an object that may itself be retired goes on pointing to the next one when that
    /// has been freed. Such a link must not be handed to `protect`: [`load`](AtomicPtr::load) it, and see
    /// [`protect_raw`](HazardPointer::protect_raw).
    #[inline]
    pub unsafe fn store(&self, new: *mut T) {
        witness::linked(new);
        // Release: the object is complete. Pairs with: the Acquire of `load` and `protect`.
        self.pointer.store(new, Release);
    }

    /// Points to `new` from now on. Returns what it pointed to, which is unlinked now unless another
    /// `AtomicPtr` holds it.
    ///
    /// # Safety
    ///
    /// As [`store`](AtomicPtr::store).
    #[inline]
    pub unsafe fn swap(&self, new: *mut T) -> *mut T {
        witness::linked(new);
        // Release: as `store`. Acquire: as `load`; who retires the old object may look into it.
        self.pointer.swap(new, AcqRel)
    }

    /// Points to `new` from now on if it pointed to `current`.
    ///
    /// An address that was freed may come back. Protect `current`, so that it is not.
    ///
    /// # Errors
    ///
    /// What it points to, if that is not `current`.
    ///
    /// # Safety
    ///
    /// As [`store`](AtomicPtr::store).
    #[inline]
    pub unsafe fn compare_exchange(&self, current: *mut T, new: *mut T) -> Result<*mut T, *mut T> {
        // Release: as `store`. Acquire, both: as `load`.
        let exchanged = self.pointer.compare_exchange(current, new, AcqRel, Acquire);
        if exchanged.is_ok() {
            witness::linked(new);
        }
        exchanged
    }
}

impl<T, F> From<Box<T>> for AtomicPtr<T, F> {
    /// Points to what was the box's. Nothing frees it but [`Domain::retire`], or who takes it back.
    fn from(object: Box<T>) -> Self {
        let object = Box::into_raw(object);
        witness::linked(object);
        AtomicPtr { pointer: sync::AtomicPtr::new(object), family: PhantomData }
    }
}

impl<T, F> fmt::Debug for AtomicPtr<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}

/// Protects one object at a time from being freed.
///
/// Made by [`Domain::hazard_pointer`]. What it protects is borrowed from it, so it cannot be made to
/// protect another object meanwhile:
///
/// ```
/// use asymfence_hazard::{AtomicPtr, Domain};
///
/// let source: AtomicPtr<u32> = AtomicPtr::from(Box::new(7));
/// let mut hazard = Domain::global().hazard_pointer();
/// let seven = hazard.protect(&source).expect("not null");
/// assert_eq!(*seven, 7);
/// hazard.reset_protection();
/// ```
///
/// ```compile_fail,E0499
/// use asymfence_hazard::{AtomicPtr, Domain};
///
/// let source: AtomicPtr<u32> = AtomicPtr::from(Box::new(7));
/// let mut hazard = Domain::global().hazard_pointer();
/// let seven = hazard.protect(&source).expect("not null");
/// hazard.reset_protection();
/// assert_eq!(*seven, 7);
/// ```
///
/// Nor can it, or its domain, be dropped:
///
/// ```compile_fail,E0505
/// use asymfence_hazard::{AtomicPtr, Domain};
///
/// let source: AtomicPtr<u32> = AtomicPtr::from(Box::new(7));
/// let mut hazard = Domain::global().hazard_pointer();
/// let seven = hazard.protect(&source).expect("not null");
/// drop(hazard);
/// assert_eq!(*seven, 7);
/// ```
///
/// ```compile_fail,E0505
/// use asymfence_hazard::{Domain, Family};
///
/// struct Mine;
/// impl Family for Mine {}
/// let domain: Domain<Mine> = Domain::new();
/// let mut hazard = domain.hazard_pointer();
/// drop(domain);
/// hazard.reset_protection();
/// ```
///
/// # Signal safety
///
/// What a hazard pointer does is wait-free or lock-free, and async-signal-safe. To make one and to drop
/// it are not.
#[derive(Debug)]
pub struct HazardPointer<'d, F = Global> {
    slot: &'d Slot,
    domain: &'d Domain<F>,
}

impl<'d, F> HazardPointer<'d, F> {
    #[inline]
    pub(crate) fn new(domain: &'d Domain<F>, slot: &'d Slot) -> Self {
        HazardPointer { slot, domain }
    }

    /// The object that `source` points to, protected; `None` if it is null.
    ///
    /// The object stays valid as long as it is borrowed from this hazard pointer, also when it is
    /// retired meanwhile. Tries again as often as `source` changes at the very moment.
    ///
    /// No read-modify-write and no fence instruction: a store, a [`light_fence`],
    /// which pairs with the heavy fence of [`Domain::reclaim`], and a load.
    #[inline]
    pub fn protect<'h, T>(&'h mut self, source: &AtomicPtr<T, F>) -> Option<&'h T> {
        // Relaxed: a guess. What is used is what `look_again` finds.
        let mut object = source.pointer.load(Relaxed);
        loop {
            match self.look_again(object, source) {
                // SAFETY: protected, and the source held it after that.
                Ok(object) => return unsafe { object.as_ref() },
                Err(other) => object = other,
            }
        }
    }

    /// As [`protect`](HazardPointer::protect), once, for who has a pointer from `source` already.
    ///
    /// # Errors
    ///
    /// What `source` points to, if that is not `expected` any more. Then nothing is protected.
    #[inline]
    pub fn try_protect<'h, T>(
        &'h mut self,
        expected: *mut T,
        source: &AtomicPtr<T, F>,
    ) -> Result<Option<&'h T>, *mut T> {
        match self.look_again(expected, source) {
            // SAFETY: protected, and the source held it after that.
            Ok(object) => Ok(unsafe { object.as_ref() }),
            Err(other) => {
                self.reset_protection();
                Err(other)
            }
        }
    }

    /// Protects `expected`, and looks whether `source` still holds it.
    #[inline]
    fn look_again<T>(
        &mut self,
        expected: *mut T,
        source: &AtomicPtr<T, F>,
    ) -> Result<*mut T, *mut T> {
        self.protect_raw(expected);
        // Acquire: the object is complete before we use it. Pairs with: the Releases of `AtomicPtr`.
        let found = source.pointer.load(Acquire);
        if found == expected {
            self.slot.confirm(found);
            Ok(found)
        } else {
            Err(found)
        }
    }

    /// Protects `object` if it is not retired yet, which the caller has to find out: by a load *after* this
    /// call which shows that it was still linked. Until then it must not even be referred to.
    ///
    /// For a link inside of an object that may be unlinked itself, since such a link does not change when
    /// the next object is retired (see the queue in `examples/hazard`); for pointers that carry a mark; for
    /// structures that tell by other means.
    ///
    /// The publication, and the light fence between it and that load. To pass on what another hazard
    /// pointer protects needs no such load.
    #[inline]
    pub fn protect_raw<T>(&mut self, object: *mut T) {
        self.slot.protect(object);
        // Light fence: our publication stands before the re-read of the source.
        // Pairs with: the heavy fence in `Domain::reclaim` (scenario A).
        //  - our store came first: the scan sees the hazard pointer and keeps the object;
        //  - the heavy fence came first: we see that the source changed, and try again.
        light_fence();
    }

    /// Protects nothing any more.
    #[inline]
    pub fn reset_protection(&mut self) {
        self.slot.protect(ptr::null_mut::<()>());
    }
}

impl<F> Drop for HazardPointer<'_, F> {
    #[inline]
    fn drop(&mut self) {
        self.reset_protection();
        self.domain.give_back(self.slot);
    }
}
