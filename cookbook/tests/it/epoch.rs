use std::cell::Cell;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::{panic, thread};

use asymfence::Pacer;
use asymfence_cookbook::epoch::{Collector, Guard, Handle};

use crate::canary::Canary;
use crate::{alone, asked};

#[test]
fn what_is_retired_is_dropped_after_three_flushes_and_not_while_it_is_pinned() {
    let (collector, deaths) = (Collector::new(), Arc::default());
    let (handle, reader) = (collector.handle(), collector.handle());
    let guard = reader.pin();
    // SAFETY: nobody has found it.
    unsafe { handle.retire(Box::into_raw(Box::new(Canary::new(0, &deaths)))) };
    (0..10).for_each(|_| handle.flush());
    assert_eq!(deaths.load(Relaxed), 0);
    drop(guard);
    (0..3).for_each(|_| handle.flush());
    assert_eq!(deaths.load(Relaxed), 1);
}

#[test]
fn guards_nest() {
    let (collector, deaths) = (Collector::new(), Arc::default());
    let (handle, reader) = (collector.handle(), collector.handle());
    let [first, second] = [reader.pin(), reader.pin()];
    // SAFETY: nobody has found it.
    unsafe { handle.retire(Box::into_raw(Box::new(Canary::new(0, &deaths)))) };
    drop(first);
    (0..10).for_each(|_| handle.flush());
    assert_eq!(deaths.load(Relaxed), 0);
    drop(second);
    (0..3).for_each(|_| handle.flush());
    assert_eq!(deaths.load(Relaxed), 1);
}

#[test]
fn what_a_handle_leaves_another_drops_or_the_collector() {
    let (collector, deaths) = (Collector::new(), Arc::default());
    let retire = || {
        // SAFETY: nobody has found it.
        unsafe { collector.handle().retire(Box::into_raw(Box::new(Canary::new(0, &deaths)))) };
    };
    retire();
    let other = collector.handle();
    (0..3).for_each(|_| other.flush());
    assert_eq!(deaths.load(Relaxed), 1);
    retire();
    drop(other);
    drop(collector);
    assert_eq!(deaths.load(Relaxed), 2);
}

#[test]
fn a_drop_may_pin_and_retire() {
    struct Nested<'c>(&'c Collector, u32, Arc<AtomicUsize>);
    impl Drop for Nested<'_> {
        fn drop(&mut self) {
            self.2.fetch_add(1, Relaxed);
            if self.1 > 0 {
                let handle = self.0.handle();
                let _guard = handle.pin();
                // SAFETY: nobody has found it.
                unsafe {
                    handle.retire(Box::into_raw(Box::new(Nested(
                        self.0,
                        self.1 - 1,
                        self.2.clone(),
                    ))))
                };
            }
        }
    }
    let (collector, deaths) = (Collector::new(), Arc::default());
    let handle = collector.handle();
    // SAFETY: nobody has found it, and the collector drops it before it goes.
    unsafe { handle.retire(Box::into_raw(Box::new(Nested(&collector, 3, Arc::clone(&deaths))))) };
    (0..30).for_each(|_| handle.flush());
    assert_eq!(deaths.load(Relaxed), 4);
}

/// A pointer that only a tool that looks for leaks follows.
struct Kept(#[expect(dead_code, reason = "see above")] *const ());

// SAFETY: as above.
unsafe impl Send for Kept {}

/// Keeps a value for ever, where the leak sanitizer and Miri find it.
fn keep<T>(value: T) -> &'static T {
    static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());
    let kept = Box::leak(Box::new(value));
    KEPT.lock().expect("no panic").push(Kept(ptr::from_ref(kept).cast()));
    kept
}

/// Pins when it is dropped, and keeps the guard.
struct Keeps(&'static Handle<'static>);

// SAFETY: for the test below, in which one thread has the handles and drops everything.
unsafe impl Send for Keeps {}

thread_local!(static KEPT: Cell<Option<Guard<'static>>> = const { Cell::new(None) });

impl Drop for Keeps {
    fn drop(&mut self) {
        KEPT.set(Some(self.0.pin()));
    }
}

#[test]
fn a_guard_that_a_destructor_keeps_inside_a_pin_holds() {
    let (collector, deaths) = (keep(Collector::new()), Arc::default());
    let [first, second]: [&'static Handle<'_>; 2] = [(); 2].map(|()| keep(collector.handle()));
    // SAFETY: nobody has found it, and it borrows for ever.
    unsafe { first.retire(Box::into_raw(Box::new(Keeps(first)))) };
    first.flush();
    // The epoch advances, but the first handle drops nothing, until a pin of its own does.
    (0..3).for_each(|_| second.flush());
    while !KEPT.with(|kept| {
        let guard = kept.take();
        let is_there = guard.is_some();
        kept.set(guard);
        is_there
    }) {
        drop(first.pin());
    }
    // SAFETY: nobody has found it.
    unsafe { second.retire(Box::into_raw(Box::new(Canary::new(0, &deaths)))) };
    (0..10).for_each(|_| second.flush());
    assert_eq!(deaths.load(Relaxed), 0, "the guard is kept");
    KEPT.set(None);
    (0..3).for_each(|_| second.flush());
    assert_eq!(deaths.load(Relaxed), 1);
}

/// A list, each part of which retires the rest of it when it is dropped, and flushes: by the handle, or by a handle of
/// its own.
struct Chain(Option<Box<Chain>>, &'static Collector, Option<&'static Handle<'static>>);

// SAFETY: for the test below, in which one thread has the handle and drops everything.
unsafe impl Send for Chain {}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

impl Drop for Chain {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Relaxed);
        if let Some(next) = self.0.take() {
            let own = self.1.handle();
            let handle = self.2.unwrap_or(&own);
            // SAFETY: nobody has found it, and it borrows for ever.
            unsafe { handle.retire(Box::into_raw(next)) };
            (0..3).for_each(|_| handle.flush());
        }
    }
}

#[test]
fn drops_that_retire_and_flush_do_not_nest() {
    const LENGTH: usize = if cfg!(miri) { 500 } else { 10_000 };
    let work = || {
        for is_shared in [true, false] {
            let collector = keep(Collector::new());
            let handle = keep(collector.handle());
            let chain = |next| Box::new(Chain(next, collector, is_shared.then_some(handle)));
            let first = (1..LENGTH).fold(chain(None), |next, _| chain(Some(next)));
            DROPPED.store(0, Relaxed);
            // SAFETY: nobody has found it.
            unsafe { handle.retire(Box::into_raw(first)) };
            // The first object takes three flushes. Each flush after them drops one object, since every destructor has
            // advanced the epoch three times.
            (0..LENGTH + 3).for_each(|_| handle.flush());
            assert_eq!(DROPPED.load(Relaxed), LENGTH);
            assert_eq!(collector.waiting(), 0);
        }
    };
    let small = thread::Builder::new().stack_size(64 * 1024);
    small.spawn(work).expect("a thread").join().expect("no panic");
}

/// Flushes a handle when it is dropped.
struct Flushes(&'static Handle<'static>);

// SAFETY: for the test below, in which one thread has the handle and drops everything.
unsafe impl Send for Flushes {}

impl Drop for Flushes {
    fn drop(&mut self) {
        (0..3).for_each(|_| self.0.flush());
    }
}

/// A destructor may flush. It drops what another collector has. What its own collector has is dropped by the call that
/// runs the destructor, also if another destructor panics.
#[test]
fn a_destructor_drops_what_other_collectors_have() {
    let deaths = Arc::default();
    let [outer, inner] = [(); 2].map(|()| keep(keep(Collector::new()).handle()));
    for round in 1..=3 {
        // SAFETY: nobody has found it, and it borrows for ever.
        unsafe { outer.retire(Box::into_raw(Box::new(Flushes(outer)))) };
        // SAFETY: as above.
        unsafe { outer.retire(Box::into_raw(Box::new(Flushes(inner)))) };
        // SAFETY: as above.
        unsafe { inner.retire(Box::into_raw(Box::new(Canary::new(round, &deaths)))) };
        // SAFETY: as above.
        unsafe { outer.retire(Box::into_raw(Box::new(Panics))) };
        (0..2).for_each(|_| outer.flush());
        assert_eq!(deaths.load(Relaxed), round - 1);
        let flush = panic::AssertUnwindSafe(|| outer.flush());
        panic::catch_unwind(flush).expect_err("a panic");
        assert_eq!(deaths.load(Relaxed), round);
    }
}

struct Panics;

impl Drop for Panics {
    fn drop(&mut self) {
        panic::resume_unwind(Box::new("in a destructor"));
    }
}

#[test]
fn handles_that_live_for_a_moment_leave_no_more_than_a_batch_or_two() {
    let (collector, deaths) = (Collector::with_pacer(Pacer::new(100)), Arc::default());
    for number in 0..10_000 {
        let handle = collector.handle();
        // SAFETY: nobody has found it.
        unsafe { handle.retire(Box::into_raw(Box::new(Canary::new(number, &deaths)))) };
    }
    // It takes three advances, each of which is due when 100 wait.
    assert!(deaths.load(Relaxed) > 9_000, "{}", deaths.load(Relaxed));
}

/// Each has fresh objects of its own when it finds what others have left.
#[test]
fn handles_that_live_for_one_batch_drop_what_others_left() {
    let (collector, deaths) = (Collector::with_pacer(Pacer::new(100)), Arc::default());
    for _ in 0..100 {
        let handle = collector.handle();
        for number in 0..64 {
            // SAFETY: nobody has found it.
            unsafe { handle.retire(Box::into_raw(Box::new(Canary::new(number, &deaths)))) };
        }
    }
    assert!(deaths.load(Relaxed) > 5_000, "{}", deaths.load(Relaxed));
}

/// Readers of one object that another thread replaces, with paced heavy fences.
#[test]
fn what_is_pinned_is_alive_and_what_is_retired_dies_once() {
    const REPLACEMENTS: usize = if cfg!(miri) { 200 } else { 20_000 };
    let (collector, deaths) = (Collector::new(), Arc::default());
    let current = AtomicPtr::new(Box::into_raw(Box::new(Canary::new(0, &deaths))));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let handle = collector.handle();
                let mut last = 0;
                while !stop.load(Relaxed) {
                    let guard = handle.pin();
                    // SAFETY: found while pinned.
                    let object = unsafe { &*current.load(Acquire) };
                    object.assert_alive();
                    assert!(last <= object.number);
                    last = object.number;
                    drop(guard);
                }
            });
        }
        let handle = collector.handle();
        for number in 1..=REPLACEMENTS {
            let new = Box::into_raw(Box::new(Canary::new(number, &deaths)));
            let old = current.swap(new, AcqRel);
            // SAFETY: from a box, unlinked just now, by us alone.
            unsafe { handle.retire(old) };
            if number % 64 == 0 {
                thread::yield_now();
            }
        }
        stop.store(true, Relaxed);
    });
    let last = current.swap(ptr::null_mut(), Relaxed);
    // SAFETY: from a box, and nobody else is left.
    drop(unsafe { Box::from_raw(last) });
    let handle = collector.handle();
    (0..3).for_each(|_| handle.flush());
    assert_eq!(deaths.load(Relaxed), REPLACEMENTS + 1);
}

/// Pins alone never advance the epoch; a pin after a retirement does, now and then.
#[test]
fn nothing_is_paid_while_nothing_waits() {
    alone(|| {
        let pins = |collector: &Collector| {
            let handle = collector.handle();
            (0..1_000).for_each(|_| drop(handle.pin()));
        };
        assert_eq!(asked(|| pins(&Collector::new())), 0);
        let unpaced = Collector::with_pacer(Pacer::new(1));
        assert_eq!(asked(|| pins(&unpaced)), 0);
        assert_ne!(
            asked(|| {
                let collector = Collector::new();
                // SAFETY: nobody has found it.
                unsafe { collector.handle().retire(Box::into_raw(Box::new(0))) };
                // Three advances, a pause apart.
                while collector.waiting() > 0 {
                    pins(&collector);
                }
            }),
            0
        );
    });
}

/// The advances are made by `flush`, by another handle, or by several threads at once.
#[test]
fn nothing_is_paid_when_all_that_was_retired_is_dropped_and_nothing_is_counted() {
    const EACH: usize = if cfg!(miri) { 500 } else { 5_000 };
    const PINS: usize = 3 * 128 * Pacer::MOST_IN_VAIN;
    alone(|| {
        for pacer in [Pacer::new(64).each(128), Pacer::new(1).each(128)] {
            let (collector, deaths) = (Collector::with_pacer(pacer), Arc::default());
            let retire = |handle: &Handle<'_>| {
                // SAFETY: nobody has found it.
                unsafe { handle.retire(Box::into_raw(Box::new(Canary::new(0, &deaths)))) };
            };
            let pins = |handle: &Handle<'_>| asked(|| (0..PINS).for_each(|_| drop(handle.pin())));
            let [first, second] = [collector.handle(), collector.handle()];
            retire(&first);
            retire(&second);
            second.flush();
            (0..3).for_each(|_| first.flush());
            // The other object waits until `second`, which retired it, drops it. No heavy fence is needed for that.
            assert_eq!((deaths.load(Relaxed), collector.waiting()), (1, 1));
            assert_eq!((pins(&first), collector.waiting()), (0, 1));
            assert_eq!((pins(&second), collector.waiting()), (0, 0));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let handle = collector.handle();
                        for _ in 0..EACH {
                            retire(&handle);
                            drop(handle.pin());
                        }
                    });
                }
            });
            pins(&first);
            assert_eq!((deaths.load(Relaxed), collector.waiting()), (4 * EACH + 2, 0));
            assert_eq!(pins(&first), 0);
            // As long as an object needs heavy fences, pins execute them: two after the one of the flush, three in all.
            retire(&first);
            first.flush();
            assert_eq!((pins(&first), collector.waiting()), (2, 0));
        }
    });
}

/// A reader that stands still is found by a scan: it costs no heavy fence.
#[test]
fn a_reader_that_lags_behind_costs_no_heavy_fence() {
    alone(|| {
        let collector = Collector::new();
        let (handle, reader) = (collector.handle(), collector.handle());
        let guard = reader.pin();
        handle.flush(); // now it lags behind
        let fences = asked(|| {
            for _ in 0..1_000 {
                // SAFETY: nobody has found it.
                unsafe { handle.retire(Box::into_raw(Box::new(0))) };
                drop(handle.pin());
            }
        });
        assert_eq!(fences, 0);
        drop(guard);
    });
}

/// Only these may drop objects: the pins between them are wait-free.
#[test]
fn one_pin_in_128_asks_the_pacer() {
    alone(|| {
        let collector = Collector::with_pacer(Pacer::new(1));
        let handle = collector.handle();
        // SAFETY: nobody has found it.
        unsafe { handle.retire(Box::into_raw(Box::new(0))) };
        handle.flush();
        let pins = |count: usize| asked(|| (0..count).for_each(|_| drop(handle.pin())));
        assert_eq!([pins(127), pins(1)], [0, 1]);
    });
}

#[test]
fn objects_wait_in_batches_of_64() {
    let (collector, deaths) = (Collector::new(), Arc::default());
    let handle = collector.handle();
    let retire = |number| {
        // SAFETY: nobody has found it.
        unsafe { handle.retire(Box::into_raw(Box::new(Canary::new(number, &deaths)))) };
    };
    (0..63).for_each(retire);
    assert_eq!(collector.waiting(), 0);
    retire(63);
    assert_eq!(collector.waiting(), 64);
}
