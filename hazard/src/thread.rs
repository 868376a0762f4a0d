//! What belongs to a thread: slots of each family that it keeps at hand, so that to take one and to give it
//! back is no read-modify-write; and which reclaims it is in the middle of.

use core::cell::Cell;

use crate::slots::{BLOCK, Slot};
use crate::sync::LOOM;

/// How many slots a thread keeps: those of a block. In a model none, since the domain ends there before
/// the model's threads do.
pub(crate) const CAPACITY: usize = if LOOM || !cfg!(feature = "std") { 0 } else { BLOCK };

/// Slots of one family that this thread keeps at hand.
#[derive(Debug)]
pub struct Cache {
    slots: [Cell<Option<&'static Slot>>; CAPACITY],
    /// How many, from the first.
    count: Cell<usize>,
}

impl Cache {
    /// For a thread that has none yet.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "for the macro `domain!` alone")]
    pub const fn new() -> Self {
        Cache { slots: [const { Cell::new(None) }; CAPACITY], count: Cell::new(0) }
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<&'static Slot> {
        let last = self.count.get().checked_sub(1)?;
        self.count.set(last);
        self.slots.get(last)?.take()
    }

    /// False if there is no room.
    #[inline]
    pub(crate) fn keep(&self, slot: &'static Slot) -> bool {
        let Some(place) = self.slots.get(self.count.get()) else { return false };
        place.set(Some(slot));
        self.count.set(self.count.get() + 1);
        true
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.slots.iter().filter_map(Cell::take).for_each(Slot::release);
    }
}

/// Hands the thread's cache to `$work`. `None` where the thread's locals are gone, or `std` is off.
#[cfg(feature = "std")]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_cache {
    ($work:expr) => {{
        $crate::__private::std::thread_local! {
            static CACHE: $crate::__private::Cache = const { $crate::__private::Cache::new() };
        }
        CACHE.try_with($work).ok()
    }};
}

#[cfg(not(feature = "std"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __with_cache {
    ($work:expr) => {{
        let _ = $work;
        ::core::option::Option::None
    }};
}

#[cfg(feature = "std")]
mod chosen {
    use core::cell::Cell;
    use core::ptr;

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

#[cfg(not(feature = "std"))]
mod chosen {
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

pub(crate) use chosen::not_nested;
