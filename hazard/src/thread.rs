//! The state of a thread. For each family the thread keeps slots and a ring, so that taking a slot, giving it back and
//! retiring need no read-modify-write. It also records the domains whose destructors it is running.

use core::cell::Cell;

use crate::ring::{Ring, Rings};
use crate::slots::{BLOCK, Slot, Slots};
use crate::sync::LOOM;

/// How many slots a thread keeps: as many as a block has. In a model a thread keeps none, because the domain ends before
/// the threads.
pub(crate) const CAPACITY: usize = if LOOM || !cfg!(feature = "std") { 0 } else { BLOCK };

/// The slots and the ring of this thread for one family. It has no destructor, so that access needs no check: [`End`]
/// ends it.
#[derive(Debug)]
pub struct Local {
    slots: [Cell<Option<Slot>>; CAPACITY],
    /// The number of slots, from the first; and the maximum: 0 before there is an `End`, and after it.
    count: Cell<usize>,
    room: Cell<usize>,
    ring: Cell<Option<&'static Ring>>,
}

impl Local {
    /// For a thread that keeps nothing yet.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "for the macro `domain!` alone")]
    pub const fn new() -> Self {
        Local {
            slots: [const { Cell::new(None) }; CAPACITY],
            count: Cell::new(0),
            room: Cell::new(0),
            ring: Cell::new(None),
        }
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<Slot> {
        let last = self.count.get().checked_sub(1)?;
        self.count.set(last);
        self.slots.get(last)?.take()
    }

    /// False if there is no room.
    #[inline]
    pub(crate) fn keep(&self, slot: Slot) -> bool {
        let count = self.count.get();
        if count >= self.room.get() {
            return false;
        }
        let Some(place) = self.slots.get(count) else { return false };
        place.set(Some(slot));
        self.count.set(count + 1);
        true
    }

    /// From now on the thread may keep slots and a ring: its `End` exists.
    pub(crate) fn begin(&self) {
        self.room.set(CAPACITY);
    }

    #[inline]
    pub(crate) fn ring(&self) -> Option<&'static Ring> {
        self.ring.get()
    }

    pub(crate) fn set_ring(&self, ring: &'static Ring) {
        self.ring.set(Some(ring));
    }

    /// The thread ends, and leaves its slots and its ring to other threads.
    pub(crate) fn leave(&self, slots: &Slots, rings: &Rings) {
        self.room.set(0);
        self.count.set(0);
        self.slots.iter().filter_map(Cell::take).for_each(|slot| slots.release(slot));
        self.leave_ring(rings);
    }

    /// The thread leaves its ring to other threads. It takes another ring when it retires again.
    pub(crate) fn leave_ring(&self, rings: &Rings) {
        if let Some(ring) = self.ring.take() {
            // SAFETY: this thread's until now.
            unsafe { rings.leave(ring) };
        }
    }
}

/// Ends a thread's [`Local`] with the thread.
#[derive(Debug)]
pub struct End(fn());

impl End {
    /// `end` ends the thread's `Local`.
    #[must_use]
    pub const fn new(end: fn()) -> Self {
        End(end)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The per-thread part of a family: the macro `domain!` puts this into the impl.
#[cfg(feature = "std")]
#[doc(hidden)]
#[macro_export]
macro_rules! __thread {
    ($family:ty) => {
        #[inline]
        fn with_local<R>(
            work: impl ::core::ops::FnOnce(&$crate::__private::Local) -> R,
        ) -> ::core::option::Option<R> {
            $crate::__private::std::thread_local! {
                static LOCAL: $crate::__private::Local = const { $crate::__private::Local::new() };
            }
            LOCAL.try_with(work).ok()
        }

        fn begin() -> bool {
            fn end() {
                let _ = <$family as $crate::__private::Family>::with_local(|local| {
                    // SAFETY: this is the family's `Local`, when the thread's locals are dropped.
                    unsafe { <$family as $crate::__private::Family>::domain().__leave(local) };
                });
            }
            $crate::__private::std::thread_local! {
                static END: $crate::__private::End = const { $crate::__private::End::new(end) };
            }
            END.try_with(|_| ()).is_ok()
        }
    };
}

#[cfg(not(feature = "std"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __thread {
    ($family:ty) => {
        #[inline]
        fn with_local<R>(
            _: impl ::core::ops::FnOnce(&$crate::__private::Local) -> R,
        ) -> ::core::option::Option<R> {
            ::core::option::Option::None
        }

        fn begin() -> bool {
            false
        }
    };
}

#[cfg(feature = "std")]
mod chosen {
    use core::cell::Cell;
    use core::ptr;

    use crate::sync::{is_cut_short, thread_cell};

    /// A domain whose destructors this thread may be running, and the frame around it: another domain, whose
    /// destructors led to this one. The frames lie on the thread's stack.
    struct Frame {
        domain: *const (),
        around: *const Frame,
        again: Cell<bool>,
    }

    thread_cell!(INNERMOST: *const Frame = ptr::null());

    struct Leave;

    impl Drop for Leave {
        #[inline]
        fn drop(&mut self) {
            if is_cut_short() {
                return;
            }
            // SAFETY: the innermost frame belongs to the call that leaves, and still exists.
            INNERMOST.with(|innermost| innermost.set(unsafe { (*innermost.get()).around }));
        }
    }

    /// Does `work`, unless this thread is already doing such work for the domain. Then destructors led here, and the
    /// stack must not grow with what they do: the result is `None`, and, if `asks`, the outer work does `again` before
    /// it ends.
    #[inline]
    pub(crate) fn outermost<T>(
        domain: *const (),
        asks: bool,
        work: impl FnOnce() -> T,
        mut again: impl FnMut(),
    ) -> Option<T> {
        let innermost = INNERMOST.with(Cell::get);
        let mut next = innermost;
        // SAFETY: a frame is on the stack of this thread until its `Leave` has taken it out.
        while let Some(frame) = unsafe { next.as_ref() } {
            if ptr::eq(frame.domain, domain) {
                frame.again.set(frame.again.get() || asks);
                return None;
            }
            next = frame.around;
        }
        let frame = Frame { domain, around: innermost, again: Cell::new(false) };
        INNERMOST.with(|innermost| innermost.set(&raw const frame));
        let _leave = Leave;
        let done = work();
        while frame.again.take() {
            again();
        }
        Some(done)
    }
}

#[cfg(not(feature = "std"))]
mod chosen {
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    struct Leave;

    static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

    impl Drop for Leave {
        fn drop(&mut self) {
            // Relaxed: as below.
            UNDER_WAY.fetch_sub(1, Relaxed);
        }
    }

    /// Does `work`, unless so much work is under way in the process that it might all be nested in one thread, whose
    /// stack is limited.
    pub(crate) fn outermost<T>(
        _domain: *const (),
        _asks: bool,
        work: impl FnOnce() -> T,
        _again: impl FnMut(),
    ) -> Option<T> {
        const MOST: usize = 16;
        // Relaxed: a number that orders nothing.
        let under_way = UNDER_WAY.fetch_add(1, Relaxed);
        let _leave = Leave;
        (under_way < MOST).then(work)
    }
}

pub(crate) use chosen::outermost;
