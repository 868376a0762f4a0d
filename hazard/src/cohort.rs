//! The retired objects of one structure, which are all freed when the structure is dropped.

use core::fmt;
use core::marker::PhantomData;
use core::ptr;

use asymfence::{HeavyFenceError, try_heavy_fence};

use crate::family::{Family, Global, Of};
use crate::freed::Freed;
use crate::panics::through_panics;
use crate::retired::{Bag, Garbage, InHand, free_unprotected};
use crate::sync::Number;
use crate::sync::Ordering::Relaxed;
use crate::untyped::{LATEST, Reclaimed};

/// The garbage of one structure, protected by the hazard pointers of a family's domain. For a field of the structure.
///
/// Only the cohort holds the objects that are retired to it. Readers and reclaims borrow the cohort, so when it is
/// dropped there are none. It then frees the remaining objects at once, without a fence and without waiting. The
/// objects do not have to be `'static`.
///
/// ```
/// use asymfence_hazard::{Cohort, HazardPointer, Link, Tagged};
///
/// /// Its values may borrow. When it is dropped, all of them are freed, the replaced ones too.
/// struct Slot<T> {
///     current: Link<T>,
///     cohort: Cohort,
/// }
///
/// impl<T: Send + Sync> Slot<T> {
///     fn store(&self, value: T) {
///         // SAFETY: retired when it has been replaced, or freed by `drop`.
///         let old = unsafe { self.current.swap(Tagged::from(Box::new(value))) };
///         if old != Tagged::null() {
///             // SAFETY: from a box, unlinked by us alone; `read` borrows the cohort.
///             unsafe { self.cohort.retire(old.as_ptr()) };
///         }
///     }
///
///     fn read<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
///         HazardPointer::new().protect_link(&self.current).ok()?.map(read)
///     }
/// }
///
/// impl<T> Drop for Slot<T> {
///     // The cohort drops values of `T` after this. `Drop` tells the compiler that what `T` borrows must live so long.
///     fn drop(&mut self) {
///         let last = self.current.load();
///         if last != Tagged::null() {
///             // SAFETY: a box's, and nobody borrows the slot.
///             drop(unsafe { Box::from_raw(last.as_ptr()) });
///         }
///     }
/// }
///
/// let text = String::from("borrowed");
/// let slot = Slot { current: Link::null(), cohort: Cohort::new(256) };
/// slot.store(&*text);
/// assert_eq!(slot.read(|value| value.len()), Some(8));
/// ```
///
/// Let `N` be the sum of three numbers: `enough`, which was passed to [`new`](Cohort::new); the number of hazard
/// pointers of the domain; and the number of threads in the middle of a retire. At most `N` objects wait, and `N` more
/// for each reclaim of the cohort that is under way. (When hazard pointers are dropped, `N` falls at once. What waited
/// under the greater `N` is freed when `enough` more objects have been retired.) Not counted is what waits while heavy
/// fences fail ([`CohortStats::failed`]): they are then tried less and less often, up to 64 times as late. Not counted
/// either are objects without a size (they may share the address of a protected one), objects that destructors retire,
/// and, without the feature `std`, what waits because a reclaim does nothing: see [`reclaim`](Cohort::reclaim).
///
/// The domain's own numbers ([`DomainStats`](crate::DomainStats), [`Thresholds`](crate::Thresholds)) leave out the
/// garbage of its cohorts.
///
/// # Fork
///
/// A child of fork(2) can continue to use the cohort. But some objects are never freed in the child, not even when the
/// cohort is dropped there: those that another thread of the parent had taken out to free them (at most all that
/// waited), and those that it was just retiring. [`CohortStats::waiting`] counts these for ever, so it may exceed the
/// bound above.
pub struct Cohort<F: Family = Global> {
    bag: Bag,
    /// The number of retired objects up to which a thread has begun a reclaim. Wraps.
    looked_at: Number,
    freed: Freed,
    failed: Number,
    /// How many times as late the next reclaim begins, because the last heavy fences failed.
    factor: Number,
    enough: usize,
    family: Of<F>,
}

/// What a cohort has done since it was created. The numbers wrap, and are read one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CohortStats {
    /// Objects retired.
    pub retired: usize,
    /// Objects freed.
    pub freed: usize,
    /// Heavy fences that failed. As long as this number grows, garbage accumulates. [`Cohort::reclaim`] returns the
    /// error, which says why.
    pub failed: usize,
}

impl CohortStats {
    /// Objects that are retired and not freed. While other threads retire, the result may be greater than what ever
    /// waited at one moment.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.retired.wrapping_sub(self.freed)
    }
}

/// Counts the objects that a reclaim has freed, also if a destructor panics.
struct Counting<'c> {
    here: usize,
    all: &'c Freed,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.all.add(self.here, 0); // bytes are not counted
    }
}

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        /// Creates a cohort. It reclaims when `enough` objects have been retired since it last reclaimed.
        #[must_use]
        pub $($constness)? fn new(enough: usize) -> Self {
            Cohort {
                bag: Bag::new(),
                looked_at: Number::new(0),
                freed: Freed::new(),
                failed: Number::new(0),
                factor: Number::new(1),
                enough,
                family: PhantomData,
            }
        }
    };
}

impl<F: Family> Cohort<F> {
    crate::sync::const_where_possible!(new);

    /// Retires `object`, which came from a box. A later reclaim of the cohort frees it, when no hazard pointer protects
    /// it any more; or the drop of the cohort does.
    ///
    /// # Safety
    ///
    /// As [`Domain::retire`](crate::Domain::retire), where the family is that of this cohort. Besides:
    ///
    /// - A thread that protects the object borrows the cohort, or the structure around it, for as long as it protects
    ///   the object.
    /// - What the object borrows outlives the cohort. The cohort does not name the type of its objects. So the compiler
    ///   checks this only if the structure around the cohort has a `Drop` that is generic over the type, or a
    ///   `PhantomData` of it. The structure must have one of the two. It must also be invariant in the type, as a
    ///   [`Link`](crate::Link), an `AtomicPtr` or a `PhantomData<Cell<T>>` makes it, and must let nobody take the
    ///   cohort out.
    ///
    /// (So the object does not have to be `'static`: if the cohort is leaked, the object is never freed.)
    ///
    /// If a destructor that this call runs retires an object, and that makes another reclaim due, this call reclaims
    /// once more. So if each destructor retires an object of its own kind to the cohort, the call may never return.
    ///
    /// # Panics
    ///
    /// As [`Domain::retire`](crate::Domain::retire).
    pub unsafe fn retire<T: Send>(&self, object: *mut T) {
        let count = self.bag.count();
        // SAFETY: the contract of this function.
        self.bag.put::<F>(unsafe { Garbage::of_box(object) });
        // Relaxed, all: numbers that decide when a reclaim begins.
        let looked_at = self.looked_at.load(Relaxed);
        // More would be negative below.
        let enough = self.enough.saturating_mul(self.factor.load(Relaxed)).min(isize::MAX as usize);
        // Signed: another thread may have covered more than we have counted.
        if count.wrapping_sub(looked_at) as isize >= enough as isize
            && self.looked_at.compare_exchange(looked_at, count, Relaxed, Relaxed).is_ok()
        {
            // After an error the garbage is kept.
            let _ = self.reclaim();
        }
    }

    /// Frees every object of the cohort that no hazard pointer protects: one heavy fence for all of them. Objects that
    /// another thread is about to free are freed by that thread, perhaps after this call returns.
    ///
    /// In a destructor that the cohort runs, this frees nothing. Instead the outer call reclaims again, as in
    /// [`Domain::reclaim`](crate::Domain::reclaim). In a destructor to which 16 calls have led, each of another domain or
    /// cohort, this frees nothing either, and a later call does.
    ///
    /// Without the feature `std` a call tells by stack addresses whether a destructor led to it. A call, and so a retire
    /// that makes one, then frees nothing and returns `Ok`
    ///
    /// - in a thread whose stack lies less than 16 KiB below that of a thread that is in the middle of a reclaim of the
    ///   same cohort;
    /// - in a thread for which there are 16 other threads in the middle of reclaims, of any domain or cohort, with
    ///   stacks less than 8 MiB above its own;
    /// - while 256 threads of the process are in the middle of such reclaims.
    ///
    /// # Errors
    ///
    /// If the heavy fence failed. Then nothing has been freed. (If it is a further one, for which a destructor asked,
    /// the result is `Ok`.)
    ///
    /// # Panics
    ///
    /// As [`Domain::retire`](crate::Domain::retire).
    pub fn reclaim(&self) -> Result<Reclaimed, HeavyFenceError> {
        Reclaimed::outermost(ptr::from_ref(self).cast(), || self.reclaim_now())
            .map(Option::unwrap_or_default)
    }

    fn reclaim_now(&self) -> Result<Reclaimed, HeavyFenceError> {
        // Relaxed: a number that decides when the next reclaim begins.
        self.looked_at.store(self.bag.retired(), Relaxed);
        let mut taken = self.in_hand(self.bag.take());
        if taken.garbage.is_empty() {
            return Ok(Reclaimed::default());
        }
        // Relaxed, all: advice, and numbers for reports.
        // Heavy fence: as in `Untyped::fence` (scenario A).
        if let Err(error) = try_heavy_fence() {
            self.failed.fetch_add(1, Relaxed);
            self.factor.store(LATEST.min(2 * self.factor.load(Relaxed)), Relaxed);
            return Err(error);
        }
        self.factor.store(1, Relaxed);
        let scan = F::domain().untyped().slots().protected();
        let mut kept = self.in_hand(Garbage::empty());
        let (mut freed, mut count) = (Counting { here: 0, all: &self.freed }, 0);
        through_panics(|| {
            let (garbage, kept) = (&mut taken.garbage, &mut kept.garbage);
            // SAFETY: unlinked before the heavy fence above. The scan after it is of the slots of the family's domain, whose
            // hazard pointers protect the objects.
            count += unsafe { free_unprotected(&scan, garbage, kept, &mut freed.here) };
        });
        Ok(Reclaimed { freed: freed.here, kept: count })
    }

    fn in_hand(&self, garbage: Garbage) -> InHand<'_, F> {
        InHand { garbage, bag: &self.bag, family: PhantomData }
    }

    /// What the cohort has done so far.
    #[must_use]
    pub fn stats(&self) -> CohortStats {
        // First: what was freed was retired before.
        let (freed, _) = self.freed.read();
        // Relaxed: numbers for reports.
        CohortStats { retired: self.bag.retired(), freed, failed: self.failed.load(Relaxed) }
    }
}

impl<F: Family> fmt::Debug for Cohort<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("Cohort").field("enough", &self.enough).field("stats", &stats).finish()
    }
}
