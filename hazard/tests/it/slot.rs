//! A value that may borrow, whose garbage is its own: for tests and models of cohorts.

use asymfence::HeavyFenceError;
use asymfence_hazard::{Cohort, CohortStats, Family, HazardPointer, Link, Reclaimed, Tagged};

/// A value, and the garbage of it.
pub(crate) struct Slot<T, F: Family> {
    current: Link<T, F>,
    cohort: Cohort<F>,
}

impl<T: Send + Sync, F: Family> Slot<T, F> {
    pub(crate) fn new(enough: usize) -> Self {
        Slot { current: Link::null(), cohort: Cohort::new(enough) }
    }

    pub(crate) fn store(&self, value: T) {
        // SAFETY: retired when it has been replaced, or freed by `drop`.
        let old = unsafe { self.current.swap(Tagged::from(Box::new(value))) };
        if old != Tagged::null() {
            // SAFETY: from a box, unlinked by us alone; `read` borrows the cohort.
            unsafe { self.cohort.retire(old.as_ptr()) };
        }
    }

    pub(crate) fn reclaim(&self) -> Result<Reclaimed, HeavyFenceError> {
        self.cohort.reclaim()
    }

    pub(crate) fn stats(&self) -> CohortStats {
        self.cohort.stats()
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        HazardPointer::<F>::new().protect_link(&self.current).ok()?.map(read)
    }
}

impl<T, F: Family> Drop for Slot<T, F> {
    fn drop(&mut self) {
        let last = self.current.load();
        if last != Tagged::null() {
            // SAFETY: a box's, and nobody borrows the slot.
            drop(unsafe { Box::from_raw(last.as_ptr()) });
        }
    }
}
