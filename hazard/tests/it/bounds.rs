//! How much garbage there can be: in objects, in bytes and by time; and who frees it.

use std::cell::RefCell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use asymfence_hazard::{AtomicBox, Domain, Family, HazardPointer, Thresholds, domain};

use crate::child::{Child, ledger};
use crate::{
    BY_NUMBERS, Canary, bound, bound_while_all_retire, joined, reclaim, retire, stats, waiting,
};

/// Until the clock has moved on by two milliseconds.
fn until_later() {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(2) {
        thread::yield_now();
    }
}

#[cfg(feature = "std")]
#[test]
fn a_retire_after_a_pause_frees_what_waited() {
    domain! { enum Tests {} }
    let deaths = Arc::default();
    for round in 0..5 {
        retire::<Tests>(1, &deaths);
        assert!(round == 0 || deaths.load(Relaxed) > 0, "{:?}", stats::<Tests>());
        // Longer than the pause after a slow heavy fence.
        (0..if round == 1 { 60 } else { 1 }).for_each(|_| until_later());
    }
    assert!(deaths.load(Relaxed) >= 3);
    assert_eq!(reclaim::<Tests>().1, 0);
}

/// A thread takes the ring of one that has ended, and not its pace.
#[cfg(feature = "std")]
#[test]
fn a_new_thread_is_slow_until_it_is_fast() {
    domain! { enum Tests {} }
    let deaths: Arc<AtomicUsize> = Arc::default();
    thread::scope(|scope| {
        scope.spawn(|| retire::<Tests>(if cfg!(miri) { 200 } else { 5_001 }, &deaths));
    });
    assert_eq!(reclaim::<Tests>().1, 0);
    let before = deaths.load(Relaxed);
    let second_frees = || {
        retire::<Tests>(1, &deaths);
        // Longer than the pause after a slow heavy fence.
        (0..60).for_each(|_| until_later());
        retire::<Tests>(1, &deaths);
        deaths.load(Relaxed) > before
    };
    assert!(thread::scope(|scope| scope.spawn(second_frees).join().expect("no panic")));
    assert_eq!(reclaim::<Tests>().1, 0);
}

/// The calls that a heavy fence makes here.
#[cfg(feature = "std")]
fn calls_of_a_fence() -> usize {
    usize::from(asymfence::init() != asymfence::Strategy::Symmetric)
}

#[cfg(feature = "std")]
#[test]
fn a_retire_after_a_pause_executes_a_heavy_fence_if_something_waited() {
    domain! { enum Tests {} }
    // In a process of its own: the calls are counted.
    Child::default().run(|| {
        let each = calls_of_a_fence();
        let deaths = Arc::default();
        let calls_of_a_retire = || {
            // Longer than the pause after a slow heavy fence.
            (0..60).for_each(|_| until_later());
            let before = asymfence::stats().heavy.calls;
            retire::<Tests>(1, &deaths);
            asymfence::stats().heavy.calls - before
        };
        retire::<Tests>(1, &deaths);
        assert_eq!(reclaim::<Tests>(), (1, 0));
        assert_eq!(calls_of_a_retire(), 0, "nothing waited");
        assert_eq!(calls_of_a_retire(), each, "an object waited");
    });
}

/// The twin.
#[test]
fn by_numbers_alone_a_retire_after_a_pause_frees_nothing() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    for _ in 0..5 {
        retire::<Tests>(1, &deaths);
        until_later();
    }
    assert_eq!(deaths.load(Relaxed), 0);
}

#[test]
fn bytes_that_are_told_bound_what_waits() {
    const BYTES: usize = 1 << 20;
    const COUNT: usize = if cfg!(miri) { 50 } else { 1_000 };
    domain! { enum Tests {} = Thresholds { bytes: BYTES, ..BY_NUMBERS }; }
    let deaths = Arc::default();
    for _ in 0..COUNT {
        let object = Box::into_raw(Canary::boxed(&deaths));
        // SAFETY: a box's, which nobody links.
        unsafe { Tests::domain().retire_weighing(object, BYTES / 4) };
        let waiting = stats::<Tests>().waiting_bytes;
        assert!(waiting <= 4 * BYTES, "{waiting}");
    }
    assert!(deaths.load(Relaxed) >= COUNT - 12);
    assert_eq!(reclaim::<Tests>().1, 0);
    assert_eq!(stats::<Tests>().waiting_bytes, 0);
}

/// A thread frees its objects in the order in which it has retired them.
#[test]
fn bytes_bound_what_waits_behind_many_small_objects() {
    const BYTES: usize = 1 << 20;
    const SMALL: usize = 8;
    domain! { enum Usual {} = Thresholds { bytes: BYTES, ..BY_NUMBERS }; }
    domain! { enum ByBytes {} = Thresholds { bytes: BYTES, objects: usize::MAX, ..BY_NUMBERS }; }

    static WAITING: AtomicUsize = AtomicUsize::new(0);
    struct Holds(usize);
    impl Drop for Holds {
        fn drop(&mut self) {
            WAITING.fetch_sub(self.0, Relaxed);
        }
    }
    /// How many of these bytes waited at most. Nothing waited before.
    fn most_waiting<F: Family>(sizes: impl Iterator<Item = usize>, tells: bool) -> usize {
        let retired = sizes.map(|size| {
            WAITING.fetch_add(size, Relaxed);
            let object = Box::into_raw(Box::new(Holds(size)));
            // SAFETY: a box's, which nobody links.
            unsafe { F::domain().retire_weighing(object, if tells { size } else { 1 }) };
            WAITING.load(Relaxed)
        });
        let most = retired.max().expect("some");
        assert_eq!(reclaim::<F>().1, 0);
        most
    }

    // By turns so many small objects, and so many of this size.
    let turns = |small: usize, large: usize, size: usize, count: usize| {
        let turn = move |number| if number % (small + large) < small { SMALL } else { size };
        (0..count).map(turn)
    };
    // First so many small objects, and then large ones.
    let first = |small: usize| turns(small, usize::MAX - small, BYTES, small + 300);
    // The last four are not counted yet.
    let most = |size| 4 * BYTES + 4 * size;

    assert!(most_waiting::<Usual>(first(1_000), true) <= most(BYTES));
    // The twin.
    assert!(most_waiting::<Usual>(first(1_000), false) > most(BYTES));
    let small = if cfg!(miri) { 2_000 } else { 100_000 };
    assert!(most_waiting::<ByBytes>(first(small), true) <= most(BYTES));
    let count = if cfg!(miri) { 2_000 } else { 20_000 };
    for (small, large, size) in [(900, 20, BYTES / 2), (500, 100, BYTES / 8), (19, 1, BYTES / 2)] {
        let waited = most_waiting::<Usual>(turns(small, large, size, count), true);
        assert!(waited <= most(size), "{small}, {large}: {waited}");
    }
}

/// A heavy fence of another purpose serves what was retired before half of the threshold was reached. What came after
/// the half, even before that fence, may be enough for a fence of the domain's own.
#[test]
fn bytes_bound_what_waits_beside_heavy_fences_of_others() {
    const BYTES: usize = 1 << 20;
    const LARGE: usize = 32 * BYTES;
    domain! { enum Usual {} = Thresholds { bytes: BYTES, ..BY_NUMBERS }; }
    domain! { enum Wide {} = Thresholds { bytes: BYTES, at_once: 32, ..BY_NUMBERS }; }

    fn check<F: Family>(at_once: usize) {
        let retire_weighing = |bytes| {
            let object = Box::into_raw(Box::new(1_u8));
            // SAFETY: a box's, which nobody links.
            unsafe { F::domain().retire_weighing(object, bytes) };
        };
        (0..if cfg!(miri) { 0 } else { 200 }).for_each(|_| retire_weighing(8));
        for round in 0..if cfg!(miri) { 4 } else { 40 } {
            assert_eq!(reclaim::<F>().1, 0);
            // So the checks of the ring come at another object.
            (0..round).for_each(|_| retire_weighing(8));
            (0..at_once).for_each(|_| retire_weighing(BYTES * 5 / 8 / at_once));
            asymfence::heavy_fence();
            for _ in 0..3 * at_once {
                retire_weighing(LARGE);
                let waiting = stats::<F>().waiting_bytes;
                assert!(waiting <= 4 * BYTES + at_once * LARGE, "{round}: {waiting}");
            }
        }
    }
    check::<Usual>(4);
    check::<Wide>(32);
}

/// Objects of threads that have become slow are freed by others.
#[test]
fn bytes_bound_what_waits_where_threads_slow_down() {
    const BYTES: usize = 1 << 20;
    const THREADS: usize = 16;
    domain! { enum Tests {} = Thresholds { bytes: BYTES, ..BY_NUMBERS }; }
    let retire_weighing = |bytes| {
        let object = Box::into_raw(Box::new(1_u8));
        // SAFETY: a box's, which nobody links.
        unsafe { Tests::domain().retire_weighing(object, bytes) };
    };
    let (all, most) = (Barrier::new(THREADS), AtomicUsize::new(0));
    thread::scope(|scope| {
        let (all, most) = (&all, &most);
        let works = |thread| {
            move || {
                (0..500).for_each(|_| retire_weighing(8));
                for turn in 0..THREADS {
                    all.wait();
                    // One thread retires large objects. The others wait for it. Every second turn brings a heavy fence.
                    for _ in 0..if turn == thread { 4 } else { 0 } {
                        retire_weighing(BYTES / 5);
                        most.fetch_max(stats::<Tests>().waiting_bytes, Relaxed);
                    }
                    all.wait();
                    // From then on this thread retires one small object between two heavy fences.
                    if turn > thread && turn % 2 == 0 {
                        retire_weighing(8);
                    }
                }
                all.wait(); // nobody has ended
            }
        };
        joined((0..THREADS).map(|thread| scope.spawn(works(thread))).collect());
    });
    let most = most.into_inner();
    assert!(most <= 4 * BYTES + 4 * BYTES / 5, "{most}");
    assert_eq!(reclaim::<Tests>().1, 0);
}

/// What is protected cannot be freed, and so is no reason to free many objects at a time.
#[test]
fn bytes_that_are_protected_make_no_retire_free_more() {
    const BYTES: usize = 1 << 20;
    domain! { enum Tests {} = Thresholds { bytes: BYTES, ..BY_NUMBERS }; }
    let deaths: Arc<AtomicUsize> = Arc::default();
    let retire_weighing = |object: *mut Canary, bytes| {
        // SAFETY: a box's, which nobody links.
        unsafe { Tests::domain().retire_weighing(object, bytes) };
    };
    // So many small objects, and then larger ones: the most that a single retire frees.
    let most_freed = |small: usize| {
        let freed = (0..small + 1_000).map(|number| {
            let before = deaths.load(Relaxed);
            let bytes = if number < small { 8 } else { BYTES / 8 };
            retire_weighing(Box::into_raw(Canary::boxed(&deaths)), bytes);
            deaths.load(Relaxed) - before
        });
        freed.max().expect("some")
    };
    let mut hazard: HazardPointer<Tests> = HazardPointer::new();
    let protected = Box::into_raw(Canary::boxed(&deaths));
    hazard.protect_raw(protected);
    retire_weighing(protected, 1_000 * BYTES);
    assert_eq!(reclaim::<Tests>(), (0, 1));
    let freed = most_freed(0);
    assert!(freed <= 8, "{freed}");
    // The twin: small objects stand before others that are not protected.
    let freed = most_freed(900);
    assert!(freed > 64, "{freed}");
    hazard.reset_protection();
    assert_eq!(reclaim::<Tests>().1, 0);
    assert_eq!(stats::<Tests>().waiting_bytes, 0);
    let freed = most_freed(0);
    assert!(freed <= 8, "{freed}");
    assert_eq!(reclaim::<Tests>().1, 0);
}

/// However wrong a number is that was told, the next ones count.
#[test]
fn a_wrong_number_of_bytes_does_not_make_the_domain_forget_the_others() {
    const BYTES: usize = 1 << 20;
    domain! { enum Tests {} = Thresholds { bytes: BYTES, objects: usize::MAX, ..BY_NUMBERS }; }
    let deaths = Arc::default();
    for bytes in [1 << (usize::BITS - 1), usize::MAX, isize::MAX as usize] {
        for number in 0..100 {
            let bytes = if number == 0 { bytes } else { BYTES };
            let object = Box::into_raw(Canary::boxed(&deaths));
            // SAFETY: a box's, which nobody links.
            unsafe { Tests::domain().retire_weighing(object, bytes) };
        }
        assert!(stats::<Tests>().waiting_bytes <= 8 * BYTES, "{:?}", stats::<Tests>());
    }
    assert!(deaths.load(Relaxed) >= 300 - 8);
    assert_eq!(reclaim::<Tests>().1, 0);
}

/// However many threads there are.
#[test]
fn bytes_of_many_threads_bound_what_waits() {
    if ledger::is_too_long() {
        return;
    }
    const BYTES: usize = 1 << 20;
    const THREADS: usize = 200;
    domain! { enum Tests {} = Thresholds { bytes: BYTES, ..BY_NUMBERS }; }
    let deaths = Arc::default();
    let (retired, all) = (Barrier::new(2), Barrier::new(THREADS));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let object = Box::into_raw(Canary::boxed(&deaths));
                // Less than a sixteenth of the threshold in bytes, so with up to 16 threads no object is large. With
                // more threads this object is large if it reaches the threshold divided by their number (see
                // `Domain`).
                // SAFETY: a box's, which nobody links.
                unsafe { Tests::domain().retire_weighing(object, BYTES / 20) };
                retired.wait();
                all.wait(); // nobody has ended
            });
            // One after the other, so that one heavy fence is in flight.
            retired.wait();
        }
    });
    let waiting = stats::<Tests>().waiting_bytes;
    assert!(waiting <= 4 * BYTES, "{waiting}");
    assert_eq!(reclaim::<Tests>().1, 0);
}

/// The twin: the size of the object alone bounds less.
#[test]
fn bytes_that_are_not_told_do_not_count() {
    domain! { enum Tests {} = Thresholds { bytes: 1 << 20, ..BY_NUMBERS }; }
    let deaths = Arc::default();
    retire::<Tests>(1_000, &deaths);
    assert_eq!(deaths.load(Relaxed), 0);
    assert_eq!(stats::<Tests>().waiting_bytes, 1_000 * size_of::<Canary>());
    assert_eq!(reclaim::<Tests>(), (1_000, 0));
}

#[test]
fn a_domain_reclaims_at_its_own_threshold() {
    domain! { enum Tests {} = Thresholds { objects: 64, ..BY_NUMBERS }; }
    let deaths = Arc::default();
    for _ in 0..if cfg!(miri) { 150 } else { 1_000 } {
        retire::<Tests>(1, &deaths);
        assert!(stats::<Tests>().waiting() <= 4 * 64, "{:?}", stats::<Tests>());
    }
    assert_eq!(reclaim::<Tests>().1, 0);
}

#[cfg(feature = "std")]
#[test]
fn once_a_heavy_fence_is_due_each_retire_frees_an_object() {
    domain! { enum Tests {} = BY_NUMBERS; }
    // In a process of its own: nobody else's heavy fence serves this domain.
    Child::default().run(|| {
        let deaths = Arc::default();
        retire::<Tests>(1_023, &deaths);
        assert_eq!(deaths.load(Relaxed), 0);
        retire::<Tests>(1, &deaths);
        assert_ne!(deaths.load(Relaxed), 0);
        // From now on one for each, but for the few between two looks.
        for count in 1..=1_000 {
            retire::<Tests>(1, &deaths);
            let freed = deaths.load(Relaxed);
            assert!(freed <= count + 8 && count <= freed + 8, "{freed} after {count}");
        }
    });
}

#[test]
fn a_deferred_retire_runs_no_destructor() {
    const COUNT: usize = if cfg!(miri) { 30 } else { 10_000 };
    domain! { enum Tests {} }
    let deaths = Arc::default();
    for _ in 0..COUNT {
        let object = Box::into_raw(Canary::boxed(&deaths));
        // SAFETY: a box's, which nobody links.
        unsafe { Tests::domain().retire_deferred(object) };
    }
    assert_eq!((deaths.load(Relaxed), stats::<Tests>().waiting()), (0, COUNT));
    // Others free it, as they retire.
    thread::scope(|scope| {
        scope.spawn(|| retire::<Tests>(COUNT, &deaths));
    });
    assert!(stats::<Tests>().waiting() <= COUNT + bound::<Tests>(), "{:?}", stats::<Tests>());
    assert_eq!(reclaim::<Tests>().1, 0);
    assert_eq!(deaths.load(Relaxed), 2 * COUNT);
}

/// Wherever they come among the others.
#[test]
fn deferred_retires_keep_no_other_retire_from_freeing() {
    domain! { enum Low {} = Thresholds { objects: 64, ..BY_NUMBERS }; }
    domain! { enum Narrow {} = Thresholds { objects: 64, at_once: 1, ..BY_NUMBERS }; }
    domain! { enum Wide {} = Thresholds { objects: 512, at_once: 32, ..BY_NUMBERS }; }

    /// The most objects that waited and were not deferred, if one in `every` objects is deferred, beginning with number
    /// `first`.
    fn most_waiting<F: Family>(count: usize, every: usize, first: usize) -> usize {
        let (deaths, deferred) = (Arc::default(), Arc::default());
        let (mut retired, mut most) = (0, 0);
        for number in 0..count {
            if number % every == first {
                let object = Box::into_raw(Canary::boxed(&deferred));
                // SAFETY: a box's, which nobody links.
                unsafe { F::domain().retire_deferred(object) };
            } else {
                retire::<F>(1, &deaths);
                retired += 1;
            }
            most = most.max(retired - deaths.load(Relaxed));
        }
        assert_eq!(reclaim::<F>().1, 0);
        most
    }

    for every in if cfg!(miri) { 4..5 } else { 2..70 } {
        for first in (0..every).step_by(1 + every / 8) {
            // After `every * 64` objects the deferred ones stand at the same places of the ring's blocks again. The
            // other factor: so many objects in all that the bounds could be exceeded.
            let count = every * 64 * if cfg!(miri) { 2 } else { 1 + 64 / every };
            let waited = most_waiting::<Low>(count, every, first);
            assert!(waited <= 4 * 64, "{first} of {every}: {waited}");
            let waited = most_waiting::<Narrow>(count, every, first);
            assert!(waited <= 4 * 64, "{first} of {every}, one at a time: {waited}");
            if !cfg!(miri) {
                let waited = most_waiting::<Wide>(count, every, first);
                assert!(waited <= 4 * 512, "{first} of {every}: {waited}");
            }
        }
    }
}

/// Also if most are deferred.
#[test]
fn one_retire_among_60_deferred_ones_frees_as_many() {
    domain! { enum Fast {} = Thresholds { objects: 64, ..BY_NUMBERS }; }
    domain! { enum Slow {} = Thresholds { objects: 64, ..Thresholds::DEFAULT }; }

    fn check<F: Family>(rounds: usize, before_each: impl Fn()) {
        let deaths = Arc::default();
        for _ in 0..rounds {
            for _ in 0..60 {
                let object = Box::into_raw(Canary::boxed(&deaths));
                // SAFETY: a box's, which nobody links.
                unsafe { F::domain().retire_deferred(object) };
            }
            before_each();
            retire::<F>(1, &deaths);
            assert!(stats::<F>().waiting() <= 4 * 64, "{:?}", stats::<F>());
        }
        assert_eq!(reclaim::<F>().1, 0);
    }
    check::<Fast>(if cfg!(miri) { 10 } else { 200 }, || ());
    check::<Slow>(30, until_later);
}

/// Also of thresholds that are no power of two.
#[test]
fn a_low_threshold_bounds_what_waits() {
    const COUNT: usize = if cfg!(miri) { 10 } else { 2_000 };
    macro_rules! most_waiting {
        ($at_once:literal: $($objects:literal)*) => {
            [$({
                domain! { enum Tests {} = Thresholds { objects: $objects, at_once: $at_once, ..BY_NUMBERS }; }
                let most = (0..COUNT).map(|_| {
                    retire::<Tests>(1, &Arc::default());
                    stats::<Tests>().waiting()
                });
                ($objects, most.max().expect("some"))
            }),*]
        };
    }
    let mut most = most_waiting!(4: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15).to_vec();
    // Also where a thread is to free many at a time.
    most.extend(most_waiting!(32: 1 2 3 4 7 8 15 16 17 63 127 128 255 256 500));
    for (objects, most) in most {
        // One thread, and no hazard pointer.
        assert!(most <= 4 * objects, "{objects}: {most}");
    }
}

/// Also while readers protect what is then replaced.
#[test]
fn a_low_threshold_bounds_what_waits_beside_readers() {
    const COUNT: usize = if cfg!(miri) { 20 } else { 5_000 };

    /// How many objects waited at most, and how many may.
    fn most_waiting<F: Family>(objects: usize, readers: usize) -> (usize, usize) {
        let deaths = Arc::default();
        let place: AtomicBox<Canary, F> = AtomicBox::from(Canary::boxed(&deaths));
        let mut hazards: Vec<HazardPointer<F>> =
            (0..readers).map(|_| HazardPointer::new()).collect();
        // A linear congruential generator. The same numbers in each run.
        let mut state = 1_u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % below
        };
        let mut most = 0;
        for number in 0..COUNT {
            if readers > 0 && random(4) == 0 {
                let hazard = &mut hazards[random(readers)];
                let _ = hazard.protect(&place);
                if random(6) == 0 {
                    hazard.reset_protection();
                }
            }
            place.store(Canary::boxed(&deaths));
            most = most.max(number + 1 - deaths.load(Relaxed));
        }
        let stats = stats::<F>();
        let enough = stats.hazard_pointers.max(objects * stats.threads.max(1));
        drop((hazards, place));
        assert_eq!(reclaim::<F>().1, 0);
        // No heavy fence is under way.
        (most, 4 * enough + stats.hazard_pointers)
    }

    macro_rules! check {
        ($($objects:literal)*) => {
            $({
                domain! { enum Tests {} = Thresholds { objects: $objects, ..BY_NUMBERS }; }
                for readers in [0, 1, 3, 7, 20] {
                    let (waited, most) = most_waiting::<Tests>($objects, readers);
                    assert!(waited <= most, "{}, {readers} readers: {waited}", $objects);
                }
            })*
        };
    }
    check!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 24 31 32 48 63 64 65);
}

#[test]
fn garbage_is_bounded_while_many_threads_free_many_at_a_time() {
    const THREADS: usize = 4;
    const EACH: usize = if cfg!(miri) { 20 } else { 20_000 };
    domain! { enum Tests {} = Thresholds { at_once: 32, ..BY_NUMBERS }; }
    let deaths = Arc::default();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    retire::<Tests>(1, &deaths);
                    let most = bound_while_all_retire(THREADS);
                    assert!(waiting::<Tests>() <= most, "{:?}", stats::<Tests>());
                }
            });
        }
    });
    assert_eq!(reclaim::<Tests>().1, 0);
    assert_eq!(deaths.load(Relaxed), THREADS * EACH);
}

/// As many at a time as the thresholds say, whenever as many were retired.
#[test]
fn a_thread_frees_as_many_at_a_time_as_it_is_told() {
    const COUNT: usize = if cfg!(miri) { 200 } else { 2_000 };
    macro_rules! freed_at_a_time {
        ($($objects:literal $at_once:literal)*) => {
            [$({
                domain! { enum Tests {} = Thresholds { objects: $objects, at_once: $at_once, ..BY_NUMBERS }; }
                let deaths = Arc::default();
                let (mut last, mut most) = (0, 0);
                for _ in 0..COUNT {
                    retire::<Tests>(1, &deaths);
                    let freed = deaths.load(Relaxed) - last;
                    (last, most) = (last + freed, most.max(freed));
                }
                assert!(last > 0);
                most
            }),*]
        };
    }
    // The second number is rounded down to a power of two. It is 32 at most, and less if the threshold is low.
    let at_a_time = freed_at_a_time!(128 1 128 2 128 4 128 7 128 8 128 100 64 8 64 100);
    assert_eq!(at_a_time, [1, 2, 4, 4, 8, 8, 4, 4]);
    if !cfg!(miri) {
        assert_eq!(freed_at_a_time!(300 100 512 31 512 32 512 100), [16, 16, 32, 32]);
    }
}

#[cfg(feature = "std")]
#[test]
fn a_background_reclaimer_runs_every_destructor() {
    use std::sync::Mutex;
    use std::thread::ThreadId;

    /// Notes the thread that it dies in.
    struct Noted(Arc<Mutex<Vec<ThreadId>>>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.lock().expect("no panic").push(thread::current().id());
        }
    }
    domain! { enum Tests {} }
    Child::default().run(|| {
        // Before the reclaimer starts: then this thread is a fast one, which looks at its ring only once in a few
        // objects.
        retire::<Tests>(500, &Arc::default());
        Tests::domain().reclaim_in_background().expect("a thread");
        Tests::domain().reclaim_in_background().expect("it is there");
        let noted: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
        let mut retired = 0;
        // It sleeps in between, and is woken: by one object as well as by many.
        for count in [1, 1, 5_000, 1, 3, 20_000, 1] {
            for _ in 0..count {
                Tests::domain().retire_box(Box::new(Noted(Arc::clone(&noted))));
            }
            retired += count;
            while noted.lock().expect("no panic").len() < retired {
                thread::yield_now();
            }
        }
        let noted = noted.lock().expect("no panic");
        assert!(noted.iter().all(|thread| *thread == noted[0]));
        assert_ne!(noted[0], thread::current().id());
    });
}

#[test]
fn hazard_pointers_that_are_gone_do_not_raise_the_threshold() {
    if ledger::is_too_long() {
        return;
    }
    domain! { enum Tests {} = BY_NUMBERS; }
    drop::<Vec<HazardPointer<Tests>>>((0..40_000).map(|_| HazardPointer::new()).collect());
    let slots = stats::<Tests>().slots;
    drop::<Vec<HazardPointer<Tests>>>((0..40_000).map(|_| HazardPointer::new()).collect());
    assert_eq!(stats::<Tests>().slots, slots, "the same again");
    assert!(stats::<Tests>().hazard_pointers < 100, "{:?}", stats::<Tests>());
    let deaths = Arc::default();
    retire::<Tests>(3_000, &deaths);
    assert!(stats::<Tests>().waiting() <= bound::<Tests>() && deaths.load(Relaxed) > 0);
}

#[cfg(feature = "std")]
#[test]
fn a_thread_keeps_seven_hazard_pointers_and_gives_back_the_others() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let many = HazardPointer::<Tests>::array::<20>();
    assert!(stats::<Tests>().hazard_pointers >= 20);
    drop(many);
    assert_eq!(stats::<Tests>().hazard_pointers, 7);
    let same = HazardPointer::<Tests>::array::<7>();
    assert_eq!(stats::<Tests>().hazard_pointers, 7);
    drop(same);
    assert_eq!(stats::<Tests>().hazard_pointers, 7);
}

/// However many threads create and drop hazard pointers, and wherever they are preempted.
#[test]
fn there_are_at_most_twice_as_many_slots_as_hazard_pointers() {
    const THREADS: usize = 8;
    const EACH: usize = 12;
    const ROUNDS: usize = if cfg!(miri) { 10 } else { 20_000 };
    /// What a thread keeps.
    const KEPT: usize = 7;
    domain! { enum Tests {} = BY_NUMBERS; }
    let all = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                all.wait();
                for _ in 0..ROUNDS {
                    drop(HazardPointer::<Tests>::array::<EACH>());
                }
            });
        }
    });
    let most = 2 * THREADS * (EACH + KEPT);
    assert!(stats::<Tests>().slots <= most, "{:?}", stats::<Tests>());
    // The twin: who needs more at the same time gets more.
    let held: Vec<HazardPointer<Tests>> = (0..=most).map(|_| HazardPointer::new()).collect();
    let slots = stats::<Tests>().slots;
    assert!(slots > most && slots <= 2 * (held.len() + (1 + THREADS) * KEPT), "{slots}");
}

#[test]
fn many_threads_share_heavy_fences() {
    const OBJECTS: usize = 64;
    domain! { enum Tests {} = Thresholds { objects: OBJECTS, ..BY_NUMBERS }; }
    Child::default().run(|| {
        // Symmetric, a heavy fence makes no call.
        let calls_count = asymfence::init() != asymfence::Strategy::Symmetric;
        // So many that the bound is less than all.
        for (threads, each) in [(1, 20_000), (4, 20_000), (16, 20_000), (64, 20_000), (256, 40_000)]
        {
            // Without `std` a thread keeps no ring, so a heavy fence serves as few objects with many threads as with
            // one (`shared`, below). 256 threads would show nothing that 64 do not.
            if threads == 256 && !cfg!(feature = "std") {
                continue;
            }
            let before = asymfence::stats().heavy.calls;
            let (barrier, waited) = (Barrier::new(threads), AtomicUsize::new(0));
            thread::scope(|scope| {
                let retires = || {
                    Tests::domain().retire_box(Box::new(1_u64));
                    barrier.wait(); // all have retired
                    for number in 0..each {
                        Tests::domain().retire_box(Box::new(1_u64));
                        // To look at every ring costs more the more there are.
                        if number % threads == 0 {
                            waited.fetch_max(waiting::<Tests>(), Relaxed);
                        }
                    }
                    barrier.wait(); // nobody has ended
                };
                joined((0..threads).map(|_| scope.spawn(retires)).collect());
            });
            let enough = OBJECTS * threads;
            // Each may be preempted while it makes a heavy fence, and with objects in hand.
            let most = (4 + threads) * enough + 64 * threads;
            let waited = waited.into_inner();
            assert!(waited <= most, "{threads} threads: {waited} waited");
            let calls = asymfence::stats().heavy.calls - before;
            let shared = if cfg!(feature = "std") { enough / 2 } else { OBJECTS / 2 };
            let most = threads * each / shared;
            assert!(calls <= most + 1, "{threads} threads: {calls} heavy fences");
            // The twin: one thread makes more for each object than many do.
            let alone = each / (OBJECTS + OBJECTS / 4);
            assert!(threads != 1 || !calls_count || calls >= alone, "{calls} heavy fences");
        }
    });
}

/// How many heavy fences a domain executes of its own for 6,400 objects, while another thread executes one for each 16,
/// or none.
fn fences_of_its_own(beside_others: bool) -> usize {
    domain! { enum Tests {} = Thresholds { objects: 64, ..BY_NUMBERS }; }
    let deaths = Arc::default();
    let before = asymfence::stats().heavy.calls;
    let mut of_others = 0;
    for _ in 0..400 {
        retire::<Tests>(16, &deaths);
        if beside_others {
            thread::spawn(asymfence::heavy_fence).join().expect("no panic");
            of_others += 1;
        }
        let waiting = stats::<Tests>().waiting();
        assert!(waiting <= 4 * 64, "{waiting}");
    }
    assert!(deaths.load(Relaxed) >= 6_400 - 4 * 64);
    asymfence::stats().heavy.calls - before - of_others
}

/// Another thread's heavy fence, for whatever purpose, serves what had been retired at half of the threshold.
#[test]
fn a_heavy_fence_of_anybody_frees_what_waits() {
    Child::default().run(|| {
        if asymfence::init() == asymfence::Strategy::Symmetric {
            if !cfg!(asymfence_symmetric) {
                ledger::skipped("a rung", "a symmetric heavy fence makes no call");
            }
        } else {
            assert_eq!(fences_of_its_own(true), 0);
            // The twin: nobody else executes one.
            let own = fences_of_its_own(false);
            assert!(own >= 6_400 / 80, "{own}");
        }
    });
}

/// What is retired while a thread's locals end, whichever ends first, is freed by others.
#[test]
fn a_thread_that_ends_may_retire() {
    domain! { enum Tests {} = BY_NUMBERS; }
    struct Late(Arc<AtomicUsize>);
    impl Drop for Late {
        fn drop(&mut self) {
            retire::<Tests>(100, &self.0);
            let _ = HazardPointer::<Tests>::new();
        }
    }
    thread_local! {
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    }
    let deaths: Arc<AtomicUsize> = Arc::default();
    for late_first in [false, true] {
        let deaths = Arc::clone(&deaths);
        let body = move || {
            if late_first {
                LATE.with(|late| *late.borrow_mut() = Some(Late(Arc::clone(&deaths))));
            }
            retire::<Tests>(1, &deaths);
            drop(HazardPointer::<Tests>::new());
            LATE.with(|late| *late.borrow_mut() = Some(Late(Arc::clone(&deaths))));
        };
        thread::spawn(body).join().expect("no panic");
    }
    assert_eq!(stats::<Tests>().threads, 0);
    assert_eq!(reclaim::<Tests>().1, 0);
    assert_eq!(stats::<Tests>().waiting(), 0);
    assert_eq!(deaths.load(Relaxed), 302);
}

#[test]
fn the_global_domain_is_the_same_at_each_call() {
    Domain::global().retire_box(Box::new(1));
    assert!(Domain::global().stats().retired >= 1);
}
