//! The state of a thread. For each family the thread keeps slots and a ring, so that taking a slot, giving it back and
//! adding a retired object to the ring need no read-modify-write. It also records the domains whose destructors it is
//! running.

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
            // There is no `own` yet. Or the slot that was `own` is in use, perhaps by another thread: it is kept as a
            // further slot later.
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

    /// From now on the thread may keep slots: its `End` exists.
    pub(crate) fn begin(&self) {
        self.room.set(CAPACITY);
    }

    #[inline]
    pub(crate) fn ring(&self) -> Option<&'static Ring> {
        self.ring.get()
    }

    /// From now on the thread has no ring here. It is still the owner of the ring.
    pub(crate) fn hide_ring(&self) {
        self.ring.set(None);
    }

    /// Gives the thread this ring. If it has another one, it leaves that: code that an allocator ran has retired
    /// meanwhile.
    pub(crate) fn change_ring(&self, ring: &'static Ring, rings: &Rings) {
        self.leave_ring(rings);
        self.ring.set(Some(ring));
    }

    /// The thread ends, and leaves its slots to other threads.
    pub(crate) fn leave_slots(&self, slots: &Slots) {
        self.room.set(0);
        // A slot that is in use is given back by its hazard pointer.
        let own = self.own.take().filter(|_| !self.busy.replace(true));
        own.into_iter().for_each(|slot| slots.release(slot));
        let kept = self.slots.iter().take(self.count.replace(0));
        kept.filter_map(Cell::get).for_each(|slot| slots.release(slot));
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

/// The per-thread part of a family: the macro `domain!` puts this into the impl. The variables have names that no
/// constant of the program has: otherwise they would be patterns that match that constant.
#[cfg(feature = "std")]
#[doc(hidden)]
#[macro_export]
macro_rules! __thread {
    ($family:ty) => {
        #[inline]
        fn with_local<R>(
            __work: impl ::core::ops::FnOnce(&$crate::__private::Local) -> R,
        ) -> ::core::option::Option<R> {
            $crate::__private::std::thread_local! {
                static LOCAL: $crate::__private::Local = const { $crate::__private::Local::new() };
            }
            LOCAL.try_with(__work).ok()
        }

        fn begin() -> bool {
            fn end() {
                let _ = <$family as $crate::__private::Family>::with_local(|__local| {
                    // SAFETY: this is the family's `Local`, when the thread's locals are dropped. A call may be under way
                    // that runs destructors: one of them has called exit(3), or a coroutine is suspended there.
                    unsafe { <$family as $crate::__private::Family>::domain().__leave(__local) };
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

    use crate::sync::{is_cut_short, thread_value};

    /// How many calls nest, each for another domain or cohort.
    pub(super) const DEPTH: usize = 16;

    /// The domains and cohorts whose destructors this thread may be running. No pointer leads to a call's stack: a
    /// stack of a coroutine may be freed before an outer call has ended, so calls end in any order.
    struct Calls {
        /// The calls from this one on are not under way.
        used: Cell<usize>,
        calls: [Call; DEPTH],
    }

    struct Call {
        /// Null if no call is under way here.
        domain: Cell<*const ()>,
        again: Cell<bool>,
    }

    impl Call {
        const fn new() -> Self {
            Call { domain: Cell::new(ptr::null()), again: Cell::new(false) }
        }
    }

    impl Calls {
        const fn new() -> Self {
            Calls { used: Cell::new(0), calls: [const { Call::new() }; DEPTH] }
        }

        fn of(&self, domain: *const ()) -> Option<&Call> {
            let mut used = self.calls[..self.used.get()].iter();
            used.find(|call| ptr::eq(call.domain.get(), domain))
        }

        /// Records a call, and returns its number. `None` if there is no room.
        fn enter(&self, domain: *const ()) -> Option<usize> {
            let at = self.calls.iter().position(|call| call.domain.get().is_null())?;
            self.calls[at].domain.set(domain);
            self.used.set(self.used.get().max(at + 1));
            Some(at)
        }

        fn leave(&self, at: usize) {
            self.calls[at].domain.set(ptr::null());
            self.calls[at].again.set(false);
            let is_free = |&used: &usize| used == 0 || !self.calls[used - 1].domain.get().is_null();
            self.used.set((0..=self.used.get()).rev().find(is_free).unwrap_or(0));
        }
    }

    thread_value!(CALLS: Calls = Calls::new());

    struct Leave(usize);

    impl Drop for Leave {
        #[inline]
        fn drop(&mut self) {
            if !is_cut_short() {
                CALLS.with(|calls| calls.leave(self.0));
            }
        }
    }

    /// Does `work`, unless this thread is already doing such work for the domain. Then destructors led here, and the
    /// stack must not grow with what they do: the result is `None`, and, if `asks`, the outer work does `again` before
    /// it ends. It is `None` too if `DEPTH` calls are under way in the thread.
    #[inline]
    pub(crate) fn outermost<T>(
        domain: *const (),
        asks: bool,
        work: impl FnOnce() -> T,
        mut again: impl FnMut(),
    ) -> Option<T> {
        let enter = |calls: &Calls| {
            if let Some(outer) = calls.of(domain) {
                outer.again.set(outer.again.get() || asks);
                return None;
            }
            calls.enter(domain)
        };
        let at = CALLS.with(enter)?;
        let _leave = Leave(at);
        let done = work();
        while CALLS.with(|calls| calls.calls[at].again.take()) {
            again();
        }
        Some(done)
    }

    /// Whether this thread does such work for the domain.
    pub(crate) fn is_inside(domain: *const ()) -> bool {
        CALLS.with(|calls| calls.of(domain).is_some())
    }

    #[cfg(test)]
    mod tests {
        extern crate std;

        use std::vec::Vec;

        use super::*;

        const DOMAINS: [*const (); DEPTH + 1] = {
            let mut domains = [ptr::null(); DEPTH + 1];
            let mut at = 0;
            while at <= DEPTH {
                domains[at] = ptr::without_provenance(1 + at);
                at += 1;
            }
            domains
        };

        /// As when a coroutine is dropped while one of the calls is on its stack.
        #[test]
        fn calls_that_end_in_another_order_than_they_began_leave_the_others_in_place() {
            for orders in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let calls = Calls::new();
                let mut inside: Vec<_> = (0..3).map(|at| (at, calls.enter(DOMAINS[at]))).collect();
                for at in orders {
                    calls.calls[at].again.set(true);
                    calls.leave(at);
                    inside.retain(|&(other, _)| other != at);
                    for (at, &domain) in DOMAINS[..3].iter().enumerate() {
                        let is_inside = inside.iter().any(|&(other, _)| other == at);
                        assert_eq!(calls.of(domain).is_some(), is_inside, "{orders:?}");
                    }
                    let used = inside.iter().map(|&(at, _)| at + 1).max().unwrap_or(0);
                    assert_eq!(calls.used.get(), used);
                }
                // The place is used again, and nobody has asked there.
                assert_eq!(calls.enter(DOMAINS[3]), Some(0));
                assert!(!calls.calls[0].again.get());
            }
        }

        #[test]
        fn calls_of_many_domains_do_not_nest_without_a_bound() {
            fn nested(deep: usize) -> usize {
                outermost(DOMAINS[deep], true, || nested(deep + 1), || ()).unwrap_or(deep)
            }
            if !crate::sync::LOOM {
                assert_eq!(nested(0), DEPTH);
                assert!(!is_inside(DOMAINS[0]));
                // They have ended, and there is room again.
                assert_eq!(nested(0), DEPTH);
            }
        }
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

    /// Only `Untyped::leave` asks this, and without `std` nothing calls that.
    pub(crate) fn is_inside(_: *const ()) -> bool {
        false
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

pub(crate) use chosen::{is_inside, outermost};
