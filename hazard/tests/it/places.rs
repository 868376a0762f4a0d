//! Hazard pointers where things go wrong: heavy fences that fail, a fork, no membarrier.

use std::cell::RefCell;
#[cfg(feature = "std")]
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Barrier};
use std::thread;
#[cfg(feature = "std")]
use std::time::{Duration, Instant};

use asymfence::{Strategy, init, strategy};
use asymfence_hazard::{AtomicBox, Family, Global, HazardPointer, Thresholds, domain};
use nix::libc;
use seccompiler::SeccompAction::Errno;
use seccompiler::apply_filter;

use crate::child::Child;
#[cfg(feature = "std")]
use crate::filter::on_own_number;
use crate::filter::{on_every_rung, on_protection_too};
use crate::fork::in_fork;
use crate::structures::hammer;
use crate::{BY_NUMBERS, Canary, bound, end, joined, reclaim, replace, retire, stats};

domain! { enum Tests {} = BY_NUMBERS; }

type Source = AtomicBox<Canary, Tests>;

/// Retires so many objects in a thread whose sandbox refuses heavy fences, and then `looks`, in that thread.
fn retire_without_a_barrier(count: usize, deaths: &Arc<AtomicUsize>, looks: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let retires = || {
            let filter = on_protection_too(Errno(libc::EPERM as u32));
            apply_filter(&filter).expect("seccomp");
            retire::<Tests>(count, deaths);
            looks();
        };
        joined(vec![scope.spawn(retires)]);
    });
}

/// The twin is a fork, whose child has no such thread.
#[cfg(feature = "std")]
#[test]
fn a_refused_process_number_does_not_cost_the_background_reclaimer() {
    domain! { enum Watched {} = BY_NUMBERS; }
    struct Dies;
    impl Drop for Dies {
        fn drop(&mut self) {
            assert_eq!(thread::current().name(), Some("asymfence-hazard"));
        }
    }
    Child::default().run(|| {
        Watched::domain().reclaim_in_background().expect("a thread");
        apply_filter(&on_own_number(Errno(libc::EPERM as u32))).expect("seccomp");
        (0..20_000).for_each(|_| Watched::domain().retire_box(Box::new(Dies)));
        while stats::<Watched>().waiting() != 0 {
            thread::yield_now();
        }
        crate::child::end();
    });
}

/// A signal would end a wait of the thread, and each wait is followed by a heavy fence if an object is protected.
#[cfg(feature = "std")]
#[test]
fn the_background_reclaimer_handles_no_signals_but_those_of_its_faults() {
    domain! { enum Watched {} = BY_NUMBERS; }
    /// Whether the thread of the destructor has blocked a timer's signal, and that of a fault.
    static BLOCKED: Mutex<Option<[libc::c_int; 2]>> = Mutex::new(None);
    struct Notes;
    impl Drop for Notes {
        fn drop(&mut self) {
            let mut set = std::mem::MaybeUninit::uninit();
            // SAFETY: the call stores this thread's mask, and changes nothing.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr()) };
            // SAFETY: the mask was stored above.
            let is_blocked = |signal| unsafe { libc::sigismember(set.as_ptr(), signal) };
            let blocked = [libc::SIGALRM, libc::SIGSEGV].map(is_blocked);
            *BLOCKED.lock().expect("no panic") = Some(blocked);
        }
    }
    Child::default().run(|| {
        let noted = || BLOCKED.lock().expect("no panic").take();
        drop(Notes);
        assert_eq!(noted(), Some([0, 0]), "the twin: this thread");
        Watched::domain().reclaim_in_background().expect("a thread");
        Watched::domain().retire_box(Box::new(Notes));
        let blocked = loop {
            match noted() {
                None => thread::yield_now(),
                Some(blocked) => break blocked,
            }
        };
        assert_eq!(blocked, [1, 0]);
        drop(Notes);
        assert_eq!(noted(), Some([0, 0]), "and it has its mask again");
    });
}

/// As where parent and child have the same number, in two PID namespaces.
#[cfg(feature = "std")]
#[test]
fn a_forked_child_that_cannot_tell_its_number_knows_that_it_has_no_background_reclaimer() {
    domain! { enum Watched {} = BY_NUMBERS; }
    Child::default().run(|| {
        init();
        Watched::domain().reclaim_in_background().expect("a thread");
        apply_filter(&on_own_number(Errno(libc::EPERM as u32))).expect("seccomp");
        in_fork(|| {
            let deaths = Arc::default();
            retire::<Watched>(20_000, &deaths);
            assert!(stats::<Watched>().waiting() <= 4 * 1_024, "{:?}", stats::<Watched>());
            // Now it has one.
            Watched::domain().reclaim_in_background().expect("a thread");
            while stats::<Watched>().waiting() != 0 {
                thread::yield_now();
            }
        });
        crate::child::end();
    });
}

#[test]
fn a_heavy_fence_that_a_sandbox_refuses_frees_nothing_and_the_domain_says_so() {
    const RETIRED: usize = 5_000;
    Child::default().run(|| {
        init();
        let deaths = Arc::default();
        retire_without_a_barrier(RETIRED, &deaths, || {
            let error = Tests::domain().reclaim().expect_err("no barrier in this thread");
            assert_eq!(error.failure().errno(), libc::EPERM);
            assert_eq!(Tests::domain().reclaim_all().expect_err("nor now"), error);
            let stats = stats::<Tests>();
            assert_eq!((stats.waiting(), stats.freed), (RETIRED, 0));
            // Those that were asked for, and those that `retire` began, twice as late each time: after 1,024
            // objects, and after 2,048 more.
            assert_eq!(stats.failed, 2 + 2);
            assert_eq!(deaths.load(Relaxed), 0);
        });
        // A thread outside of the sandbox frees it all.
        assert_eq!(reclaim::<Tests>(), (RETIRED, 0));
        assert_eq!(deaths.load(Relaxed), RETIRED);
    });
}

#[test]
fn a_forked_child_keeps_what_its_parents_threads_protected_and_frees_the_rest() {
    Child::default().run(|| {
        init();
        let (source, deaths) = (Source::null(), Arc::default());
        replace(&source, &deaths);
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut hazard = HazardPointer::new();
                let object = hazard.protect(&source).expect("not null");
                barrier.wait(); // protected
                barrier.wait(); // forked
                object.assert_alive();
            });
            barrier.wait();
            let protected = source.as_ptr();
            in_fork(|| {
                (0..5_000).for_each(|_| replace(&source, &deaths));
                end(&source);
                assert_eq!(reclaim::<Tests>().1, 1);
                assert_eq!(deaths.load(Relaxed), 5_000);
                // SAFETY: kept, as was just seen.
                unsafe { &*protected }.assert_alive();
            });
            barrier.wait();
        });
        end(&source);
        assert_eq!(reclaim::<Tests>(), (1, 0));
    });
}

/// However much waits when heavy fences work again, no single call frees more than it may.
#[test]
fn after_heavy_fences_have_failed_each_retire_frees_a_few() {
    const RETIRED: usize = 200_000;
    Child::default().run(|| {
        init();
        let deaths = Arc::default();
        retire_without_a_barrier(RETIRED, &deaths, || {
            assert_eq!(stats::<Tests>().waiting(), RETIRED);
            // One for each 64 times 1,024, but for the first few.
            let failed = stats::<Tests>().failed;
            assert!(failed <= 6 + RETIRED / (64 * 1024), "{failed}");
        });
        let (mut calls, mut before) = (0, 0);
        while stats::<Tests>().waiting() > bound::<Tests>() {
            Tests::domain().retire_box(Canary::boxed(&deaths));
            calls += 1;
            let now = deaths.load(Relaxed);
            // A look frees so many of its own thread's ring, and so many of others'.
            assert!(now - before <= 64 + 64, "{} in one call", now - before);
            before = now;
        }
        assert!(calls < RETIRED / 4 + 64 * 1024, "{calls}");
        assert_eq!(reclaim::<Tests>().1, 0);
    });
}

/// (While heavy fences succeed, a retire of so many bytes may free all that its thread has retired.)
#[test]
fn after_heavy_fences_have_failed_a_retire_of_many_bytes_frees_a_few_too() {
    Child::default().run(|| {
        init();
        let deaths = Arc::default();
        retire_without_a_barrier(20_000, &deaths, || ());
        let mut before = 0;
        for _ in 0..20_000 {
            let object = Box::into_raw(Canary::boxed(&deaths));
            // SAFETY: a box's, which nobody links.
            unsafe { Tests::domain().retire_weighing(object, Thresholds::DEFAULT.bytes) };
            let now = deaths.load(Relaxed);
            assert!(now - before <= 64 + 64, "{} in one call", now - before);
            before = now;
        }
        assert!(stats::<Tests>().waiting() <= bound::<Tests>(), "{:?}", stats::<Tests>());
        assert_eq!(reclaim::<Tests>().1, 0);
    });
}

/// If a retire freed only as many as are retired, the backlog would never shrink.
#[test]
fn after_heavy_fences_have_failed_a_few_times_what_waits_shrinks_to_the_bound() {
    // More than the bound, and not so much that each retire frees as many as it may.
    const RETIRED: usize = 6_000;
    Child::default().run(|| {
        init();
        let deaths = Arc::default();
        retire_without_a_barrier(RETIRED, &deaths, || {
            assert_eq!(stats::<Tests>().waiting(), RETIRED);
        });
        // The next heavy fence comes four times as late, and then one for each 1,024.
        retire::<Tests>(8 * 1_024, &deaths);
        assert!(stats::<Tests>().waiting() <= bound::<Tests>(), "{:?}", stats::<Tests>());
    });
}

#[test]
fn a_forked_child_frees_what_its_parents_threads_had_retired() {
    Child::default().run(|| {
        init();
        let deaths = Arc::default();
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                retire::<Tests>(700, &deaths);
                barrier.wait(); // retired
                barrier.wait(); // forked
            });
            barrier.wait();
            in_fork(|| {
                retire::<Tests>(5_000, &deaths);
                assert_eq!(reclaim::<Tests>().1, 0);
                assert_eq!(deaths.load(Relaxed), 5_700);
            });
            barrier.wait();
        });
        assert_eq!(reclaim::<Tests>(), (700, 0));
    });
}

/// The twin is `a_background_reclaimer_runs_every_destructor`: in the parent the retiring thread runs none.
#[cfg(feature = "std")]
#[test]
fn a_forked_child_has_no_background_reclaimer_and_frees_what_it_retires_slowly() {
    domain! { enum Watched {} }
    Child::default().run(|| {
        init();
        Watched::domain().reclaim_in_background().expect("a thread");
        in_fork(|| {
            let deaths = Arc::default();
            // The first retire notices, and the second finds that the first object waits.
            for _ in 0..3 {
                retire::<Watched>(1, &deaths);
                // Longer than the pause after a slow heavy fence.
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_millis(120) {
                    thread::yield_now();
                }
            }
            assert_ne!(deaths.load(Relaxed), 0, "{:?}", stats::<Watched>());
        });
        crate::child::end();
    });
}

#[test]
fn a_fork_in_the_middle_of_reclaims_hangs_nobody() {
    Child::default().run(|| {
        init();
        let deaths = Arc::default();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    Tests::domain().retire_box(Canary::boxed(&deaths));
                    Tests::domain().reclaim().expect("a heavy fence");
                }
            });
            for _ in 0..50 {
                in_fork(|| {
                    let lost = stats::<Tests>().waiting();
                    let deaths = Arc::default();
                    retire::<Tests>(100, &deaths);
                    let (freed, kept) = reclaim::<Tests>();
                    assert!(freed >= 100 && kept <= lost, "{freed}, {kept}, {lost}");
                    assert_eq!(deaths.load(Relaxed), 100);
                });
            }
            stop.store(true, Relaxed);
        });
    });
}

/// What the parent's other threads had, kept or were about to take is all that the child cannot use.
#[test]
fn a_fork_in_the_middle_of_taking_hazard_pointers_costs_no_more_than_those() {
    const THREADS: usize = 4;
    const EACH: usize = 12;
    const KEPT: usize = 7;
    Child::default().run(|| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        drop(HazardPointer::<Tests>::array::<EACH>());
                    }
                });
            }
            for _ in 0..50 {
                in_fork(|| {
                    for _ in 0..1_000 {
                        drop(HazardPointer::<Tests>::array::<EACH>());
                    }
                    let stats = stats::<Tests>();
                    assert!(stats.slots <= 2 * (THREADS + 1) * (EACH + KEPT), "{stats:?}");
                });
            }
            stop.store(true, Relaxed);
        });
    });
}

#[test]
fn in_a_sandbox_without_membarrier_the_structures_hold_too() {
    Child::under(on_every_rung(Errno(libc::ENOSYS as u32))).run(|| {
        hammer(20_000);
        assert_eq!(strategy(), Some(Strategy::Symmetric));
    });
}

#[test]
fn undecided_at_first_the_structures_hold_too() {
    Child::default().run(|| {
        assert_eq!(strategy(), None);
        hammer(20_000);
        assert!(strategy().is_some(), "the first reclaim decides");
    });
}

/// Each thread keeps hazard pointers at hand, and each hazard pointer has a slot of its own.
fn of_many_threads<F: Family>() {
    const THREADS: usize = 5;
    const EACH: usize = 9;
    let deaths = Arc::default();
    let (taken, retired) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let sources: [[AtomicBox<Canary, F>; EACH]; THREADS] =
        std::array::from_fn(|_| std::array::from_fn(|_| AtomicBox::from(Canary::boxed(&deaths))));
    thread::scope(|scope| {
        for sources in &sources {
            let (taken, retired) = (&taken, &retired);
            scope.spawn(move || {
                // Some that come back to the thread's cache, and are taken again.
                drop(HazardPointer::<F>::array::<4>());
                let mut hazards: [HazardPointer<F>; EACH] = HazardPointer::array();
                let objects: Vec<_> = hazards
                    .iter_mut()
                    .zip(sources)
                    .map(|(hazard, source)| hazard.protect(source).expect("not null"))
                    .collect();
                taken.wait();
                retired.wait();
                objects.iter().for_each(|object| object.assert_alive());
            });
        }
        taken.wait();
        sources.iter().flatten().for_each(end);
        assert_eq!(reclaim::<F>(), (0, THREADS * EACH));
        retired.wait();
    });
    assert_eq!(reclaim::<F>(), (THREADS * EACH, 0));
}

#[test]
fn hazard_pointers_of_many_threads_protect_an_object_each() {
    Child::default().run(|| {
        of_many_threads::<Global>();
        of_many_threads::<Tests>();
    });
}

/// A thread that ends leaves its hazard pointers to others, whichever of its locals ends first.
fn a_thread_that_ends<F: Family>(late: fn()) {
    let in_a_thread = |body: fn()| {
        thread::spawn(body).join().expect("no panic");
        stats::<F>().slots
    };
    let take: fn() = || drop(HazardPointer::<F>::array::<2>());
    let first = in_a_thread(take);
    assert!((0..100).all(|_| in_a_thread(take) == first));
    assert!((0..100).all(|_| in_a_thread(late) == first));
}

#[test]
fn a_thread_that_ends_leaves_its_hazard_pointers_to_others() {
    thread_local! {
        static LATE: RefCell<Option<HazardPointer>> = const { RefCell::new(None) };
        static LATE_OF_TESTS: RefCell<Option<HazardPointer<Tests>>> = const { RefCell::new(None) };
    }
    Child::default().run(|| {
        a_thread_that_ends::<Global>(|| {
            // Registered before the thread's cache, so destroyed after it.
            LATE.with(|late| *late.borrow_mut() = None);
            let hazard = HazardPointer::new();
            LATE.with(|late| *late.borrow_mut() = Some(hazard));
        });
        a_thread_that_ends::<Tests>(|| {
            LATE_OF_TESTS.with(|late| *late.borrow_mut() = None);
            let hazard = HazardPointer::new();
            LATE_OF_TESTS.with(|late| *late.borrow_mut() = Some(hazard));
        });
    });
}

#[test]
fn a_hazard_pointer_protects_when_the_thread_that_took_it_has_ended() {
    Child::default().run(|| {
        let deaths = Arc::default();
        let mut hazard = thread::spawn(HazardPointer::<Global>::new).join().expect("no panic");
        let source: AtomicBox<Canary> = AtomicBox::from(Canary::boxed(&deaths));
        let object = hazard.protect(&source).expect("not null");
        // Others take and give back every slot that is free.
        drop(HazardPointer::<Global>::array::<20>());
        end(&source);
        assert_eq!(reclaim::<Global>(), (0, 1));
        object.assert_alive();
    });
}
