//! Slots of the global domain that each thread keeps at hand, so that to take one and to give it back
//! is no read-modify-write.

#[cfg(feature = "std")]
mod chosen {
    use core::cell::Cell;

    use crate::hazard::slots::{BLOCK, Slot};
    use crate::sync::LOOM;

    /// How many slots a thread keeps: those of a block. In a model none, since the domain of the process
    /// ends there before its threads do.
    pub(in crate::hazard) const CAPACITY: usize = if LOOM { 0 } else { BLOCK };

    struct Cached {
        slots: [Cell<Option<&'static Slot>>; CAPACITY],
        /// How many, from the first.
        count: Cell<usize>,
    }

    std::thread_local! {
        static CACHED: Cached = const {
            Cached { slots: [const { Cell::new(None) }; CAPACITY], count: Cell::new(0) }
        };
    }

    impl Drop for Cached {
        fn drop(&mut self) {
            self.slots.iter().filter_map(Cell::take).for_each(Slot::release);
        }
    }

    #[inline]
    pub(in crate::hazard) fn take() -> Option<&'static Slot> {
        let take = |cached: &Cached| {
            let last = cached.count.get().checked_sub(1)?;
            cached.count.set(last);
            cached.slots.get(last)?.take()
        };
        CACHED.try_with(take).ok().flatten()
    }

    /// Releases it where there is no room, or the thread's locals are gone.
    #[inline]
    pub(in crate::hazard) fn keep(slot: &'static Slot) {
        let keep = |cached: &Cached| {
            let place = cached.slots.get(cached.count.get())?;
            place.set(Some(slot));
            cached.count.set(cached.count.get() + 1);
            Some(())
        };
        if CACHED.try_with(keep).ok().flatten().is_none() {
            slot.release();
        }
    }
}

/// Without `std` there is nothing that belongs to a thread.
#[cfg(not(feature = "std"))]
mod chosen {
    use crate::hazard::slots::Slot;

    pub(in crate::hazard) const CAPACITY: usize = 0;

    pub(in crate::hazard) fn take() -> Option<&'static Slot> {
        None
    }

    pub(in crate::hazard) fn keep(slot: &'static Slot) {
        slot.release();
    }
}

pub(super) use chosen::*;
