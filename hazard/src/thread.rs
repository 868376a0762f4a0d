//! The state of a thread. For each family the thread keeps slots and a ring, so that taking a slot, giving it back and
//! retiring need no read-modify-write. It also records the domains whose destructors it is running.

use core::cell::Cell;

use crate::ring::{Ring, Rings};
use crate::slots::{BLOCK, Slot, Slots};
use crate::sync::LOOM;

/// How many slots a thread keeps: as many as a block has. In a model a thread keeps none, because the domain ends
/// before the threads.
pub(crate) const CAPACITY: usize = if LOOM || !cfg!(feature = "std") { 0 } else { BLOCK };

/// The slots and the ring of this thread for one family. It has no destructor, so that access needs no check: [`End`]
/// ends it.
#[derive(Debug)]
pub struct Local {
    /// The slot that is taken first. It has a field of its own, not an index that the last call has stored, so the
    /// processor need not wait for that store.
    own: Cell<Option<Slot>>,
    /// Whether `own` is in use.
    busy: Cell<bool>,
    /// Further slots: the first `count` are kept.
    slots: [Cell<Option<Slot>>; CAPACITY],
    count: Cell<usize>,
    /// How many slots the thread may keep, `own` included. 0 before the thread has an `End`, and again after
    /// the `End` has run.
    room: Cell<usize>,
    ring: Cell<Option<&'static Ring>>,
}

impl Local {
    /// For a thread that keeps nothing yet.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "for the macro `domain!` alone")]
    pub const fn new() -> Self {
        Local {
            own: Cell::new(None),
            busy: Cell::new(true),
            slots: [const { Cell::new(None) }; CAPACITY],
            count: Cell::new(0),
            room: Cell::new(0),
            ring: Cell::new(None),
        }
    }

    #[inline]
    pub(crate) fn take(&self) -> Option<Slot> {
        if !self.busy.get() {
            self.busy.set(true);
            return self.own.get();
        }
        let last = self.count.get().checked_sub(1)?;
        self.count.set(last);
        // The place keeps its copy, which `count` hides.
        // guard survives: `count` is at most the length. An index would be checked too, with a panic in this path.
        self.slots.get(last)?.get()
    }

    /// False if there is no room.
    #[inline]
    pub(crate) fn keep(&self, slot: Slot) -> bool {
        if self.own.get() == Some(slot) {
            self.busy.set(false);
            return true;
        }
        self.keep_further(slot)
    }

    fn keep_further(&self, slot: Slot) -> bool {
        let (count, room) = (self.count.get(), self.room.get());
        if self.busy.get() && room > 0 {
            // The slot that was `own` is in use, perhaps by another thread. It is kept as a further slot later.
            self.own.set(Some(slot));
            self.busy.set(false);
            return true;
        }
        // `room` counts `own` too.
        if count + 1 >= room {
            return false;
        }
        // guard survives: `room` is at most the length, so the place is there.
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
        // A slot that is in use is given back by its hazard pointer.
        let own = self.own.take().filter(|_| !self.busy.replace(true));
        own.into_iter().for_each(|slot| slots.release(slot));
        let kept = self.slots.iter().take(self.count.replace(0));
        kept.filter_map(Cell::get).for_each(|slot| slots.release(slot));
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
                    // SAFETY: this is the family's `Local`, when the thread's locals are dropped. Then no call is under
                    // way, or one that never continues (of a destructor that has called exit(3)).
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

/// Without `std` there is no state of a thread. Which calls are nested is told by their stack addresses.
#[cfg(not(feature = "std"))]
mod chosen {
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// A call that is under way: its stack address, or 0, and the domain.
    struct Call(AtomicUsize, AtomicUsize);

    /// How many calls may be under way in the process at the same time.
    const MOST: usize = 256;

    /// Stacks grow downward. A call of the same domain at an address that is higher by less than this may be on the
    /// same stack, an outer call: then a destructor that it runs led here.
    const NEAR: usize = 16 << 10;

    /// If the frames of destructors are larger than `NEAR`, calls nest: at most `DEPTH` of them within `STACK` bytes.
    const DEPTH: usize = 16;
    const STACK: usize = 8 << 20;

    static CALLS: [Call; MOST] = [const { Call(AtomicUsize::new(0), AtomicUsize::new(0)) }; MOST];

    /// The calls from this one on have never been used.
    static USED: AtomicUsize = AtomicUsize::new(0);

    struct Leave(&'static Call);

    impl Drop for Leave {
        fn drop(&mut self) {
            // Relaxed: as below.
            self.0.0.store(0, Relaxed);
        }
    }

    /// Does `work`, unless a call for the same domain may be under way in this thread, or too many are in the process.
    pub(crate) fn outermost<T>(
        domain: *const (),
        _asks: bool,
        work: impl FnOnce() -> T,
        _again: impl FnMut(),
    ) -> Option<T> {
        let here = core::ptr::from_ref(&domain).addr();
        // Relaxed, all: a thread sees its own calls in order, and those of other threads do not matter. If the stack of
        // another thread is as near, this call does nothing. A later call does the work.
        let used = USED.load(Relaxed).min(MOST);
        let mut depth = 0;
        for Call(address, of) in &CALLS[..used] {
            let above = address.load(Relaxed).wrapping_sub(here);
            // guard survives: the bound by `<=` is a byte more.
            if above < NEAR && of.load(Relaxed) == domain.addr() {
                return None;
            }
            // guard survives: as above.
            depth += usize::from(above < STACK);
        }
        if depth >= DEPTH {
            return None;
        }
        let is_free = |call: &&Call| {
            call.0.load(Relaxed) == 0 && call.0.compare_exchange(0, here, Relaxed, Relaxed).is_ok()
        };
        // guard survives: a test that has all calls under way would keep the other tests of its process from their work.
        let at = CALLS.iter().position(|call| is_free(&call))?;
        CALLS[at].1.store(domain.addr(), Relaxed);
        USED.fetch_max(at + 1, Relaxed);
        let _leave = Leave(&CALLS[at]);
        Some(work())
    }

    #[cfg(test)]
    mod tests {
        extern crate std;

        use super::*;

        /// Calls itself for so many domains in turn. How deep it came.
        fn nested(domains: usize, deep: usize) -> usize {
            let domain = core::ptr::without_provenance(1 + deep % domains);
            let work = || if deep < 100 { nested(domains, deep + 1) } else { deep };
            outermost(domain, false, work, || ()).unwrap_or(deep)
        }

        #[test]
        fn calls_of_one_domain_do_not_nest_and_those_of_a_few_domains_not_without_a_bound() {
            assert_eq!(nested(1, 0), 1);
            assert_eq!(nested(3, 0), 3);
            // Calls of other tests may be as near, and are counted until they end.
            while nested(100, 0) != DEPTH {
                assert!(nested(100, 0) <= DEPTH);
            }
        }

        #[test]
        fn calls_of_many_threads_do_not_keep_another_from_its_work() {
            let all = std::sync::Barrier::new(101);
            std::thread::scope(|scope| {
                let inside = || outermost(core::ptr::null(), false, || all.wait(), || ()).is_some();
                let threads: std::vec::Vec<_> = (0..100).map(|_| scope.spawn(inside)).collect();
                // All are inside: and so is this one.
                assert!(inside());
                for thread in threads {
                    assert!(thread.join().expect("no panic"));
                }
            });
        }
    }
}

pub(crate) use chosen::outermost;
