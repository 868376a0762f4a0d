//! What belongs to a thread: slots of the global domain that it keeps at hand, so that to take one and to
//! give it back is no read-modify-write; and which reclaims it is in the middle of.

#[cfg(feature = "std")]
mod chosen {
    use core::cell::Cell;
    use core::ptr;

    use crate::slots::{BLOCK, Slot};
    use crate::sync::LOOM;

    /// How many slots a thread keeps: those of a block. In a model none, since the domain of the process
    /// ends there before its threads do.
    pub(crate) const CAPACITY: usize = if LOOM { 0 } else { BLOCK };

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
    pub(crate) fn take() -> Option<&'static Slot> {
        let take = |cached: &Cached| {
            let last = cached.count.get().checked_sub(1)?;
            cached.count.set(last);
            cached.slots.get(last)?.take()
        };
        CACHED.try_with(take).ok().flatten()
    }

    /// Releases it where there is no room, or the thread's locals are gone.
    #[inline]
    pub(crate) fn keep(slot: &'static Slot) {
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

    /// A reclaim of a domain that this thread is in the middle of, and the one around it: that of another
    /// domain, whose destructors led to this one. They lie on the thread's stack.
    struct Frame {
        domain: *const (),
        around: *const Frame,
        again: Cell<bool>,
    }

    std::thread_local! {
        static INNERMOST: Cell<*const Frame> = const { Cell::new(ptr::null()) };
    }

    /// Reclaims, and again if meanwhile destructors asked for that: within another reclaim of the domain
    /// it is left to that one, so that the depth of the stack does not grow with what they retire.
    pub(crate) fn not_nested(domain: *const (), mut reclaim: impl FnMut()) {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                // SAFETY: the innermost frame is that of the call which leaves, and is still there.
                INNERMOST.set(unsafe { (*INNERMOST.get()).around });
            }
        }
        let innermost = INNERMOST.get();
        let mut next = innermost;
        // SAFETY: a frame is on the stack of this thread until its `Leave` has taken it out.
        while let Some(frame) = unsafe { next.as_ref() } {
            if frame.domain == domain {
                return frame.again.set(true);
            }
            next = frame.around;
        }
        let frame = Frame { domain, around: innermost, again: Cell::new(true) };
        INNERMOST.set(&raw const frame);
        let _leave = Leave;
        while frame.again.take() {
            reclaim();
        }
    }
}

/// Without `std` there is nothing that belongs to a thread.
#[cfg(not(feature = "std"))]
mod chosen {
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use crate::slots::Slot;

    pub(crate) const CAPACITY: usize = 0;

    pub(crate) fn take() -> Option<&'static Slot> {
        None
    }

    pub(crate) fn keep(slot: &'static Slot) {
        slot.release();
    }

    /// Reclaims, unless that many reclaims are under way in the process: they may all be nested in one
    /// thread, and its stack has an end.
    pub(crate) fn not_nested(_domain: *const (), mut reclaim: impl FnMut()) {
        const MOST: usize = 16;
        static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                // Relaxed: as below.
                UNDER_WAY.fetch_sub(1, Relaxed);
            }
        }
        // Relaxed: a number that orders nothing.
        let under_way = UNDER_WAY.fetch_add(1, Relaxed);
        let _leave = Leave;
        if under_way < MOST {
            reclaim();
        }
    }
}

pub(crate) use chosen::*;
