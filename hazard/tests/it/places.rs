//! Hazard pointers where things go wrong: heavy fences that fail, a fork, no membarrier.

use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Barrier};
use std::thread;

use asymfence::{Strategy, init, strategy};
use asymfence_hazard::{AtomicPtr, Domain, HazardPointer};
use nix::libc;
use seccompiler::SeccompAction::Errno;
use seccompiler::apply_filter;

use crate::child::Child;
use crate::filter::{on_every_rung, on_protection_too};
use crate::fork::in_fork;
use crate::structures::hammer;
use crate::{Canary, Source, Tests, end, replace};

#[test]
fn a_heavy_fence_that_a_sandbox_refuses_frees_nothing_and_the_domain_says_so() {
    const RETIRED: usize = 5_000;
    Child::default().run(|| {
        init();
        let (domain, deaths) = (Domain::<Tests>::new(), Arc::default());
        thread::scope(|scope| {
            scope.spawn(|| {
                let filter = on_protection_too(Errno(libc::EPERM as u32));
                apply_filter(&filter).expect("seccomp");
                for _ in 0..RETIRED {
                    // SAFETY: a box's, that nobody links.
                    unsafe { domain.retire(Canary::new(&deaths)) };
                }
                let error = domain.reclaim().expect_err("no barrier is to be had in this thread");
                assert_eq!(error.failure().errno(), libc::EPERM);
                assert_eq!(domain.reclaim_all().expect_err("nor now"), error);
                let stats = domain.stats();
                assert_eq!((stats.waiting(), stats.freed), (RETIRED, 0));
                // Those that were asked for, and those that `retire` began.
                assert_eq!(stats.failed, 2 + RETIRED / 1024);
                assert_eq!(deaths.load(Relaxed), 0);
            });
        });
        // A thread outside of the sandbox frees it all.
        let done = domain.reclaim_all().expect("a heavy fence");
        assert_eq!((done.freed, done.kept), (RETIRED, 0));
        assert_eq!(deaths.load(Relaxed), RETIRED);
    });
}

#[test]
fn a_forked_child_keeps_what_its_parents_threads_protected_and_frees_the_rest() {
    Child::default().run(|| {
        init();
        let (domain, source, deaths) = (Domain::new(), Source::null(), Arc::default());
        replace(&domain, &source, &deaths);
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut hazard = domain.hazard_pointer();
                let object = hazard.protect(&source).expect("not null");
                barrier.wait(); // protected
                barrier.wait(); // forked
                object.assert_alive();
            });
            barrier.wait();
            let protected = source.load();
            in_fork(|| {
                (0..5_000).for_each(|_| replace(&domain, &source, &deaths));
                end(&domain, &source);
                assert_eq!(domain.reclaim_all().expect("a heavy fence").kept, 1);
                assert_eq!(deaths.load(Relaxed), 5_000);
                // SAFETY: kept, as was just seen.
                unsafe { &*protected }.assert_alive();
            });
            barrier.wait();
        });
        end(&domain, &source);
        assert_eq!(domain.reclaim_all().expect("a heavy fence").freed, 1);
    });
}

#[test]
fn a_fork_in_the_middle_of_reclaims_hangs_nobody() {
    Child::default().run(|| {
        init();
        let (domain, deaths) = (Domain::<Tests>::new(), Arc::default());
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    // SAFETY: a box's, that nobody links.
                    unsafe { domain.retire(Canary::new(&deaths)) };
                    domain.reclaim().expect("a heavy fence");
                }
            });
            for _ in 0..50 {
                in_fork(|| {
                    let lost = domain.stats().waiting();
                    let deaths = Arc::default();
                    for _ in 0..100 {
                        // SAFETY: as above.
                        unsafe { domain.retire(Canary::new(&deaths)) };
                    }
                    let done = domain.reclaim_all().expect("a heavy fence");
                    assert!(done.freed >= 100 && done.kept <= lost, "{done:?}, {lost}");
                    assert_eq!(deaths.load(Relaxed), 100);
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

/// Hazard pointers of the domain of the process, which threads keep at hand: each has a slot of its own.
#[test]
fn hazard_pointers_of_many_threads_protect_an_object_each() {
    const THREADS: usize = 5;
    const EACH: usize = 9;
    Child::default().run(|| {
        let (domain, deaths) = (Domain::global(), Arc::default());
        let (taken, retired) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        let sources: [[AtomicPtr<Canary>; EACH]; THREADS] =
            std::array::from_fn(|_| std::array::from_fn(|_| AtomicPtr::null()));
        for source in sources.iter().flatten() {
            // SAFETY: a box's, freed by `retire` alone.
            unsafe { source.store(Canary::new(&deaths)) };
        }
        thread::scope(|scope| {
            for sources in &sources {
                let (taken, retired) = (&taken, &retired);
                scope.spawn(move || {
                    // Some that come back to the thread's cache, and are taken again.
                    drop(domain.hazard_pointers::<4>());
                    let mut hazards: [HazardPointer<'_>; EACH] = domain.hazard_pointers();
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
            for source in sources.iter().flatten() {
                // SAFETY: null is always allowed.
                let old = unsafe { source.swap(std::ptr::null_mut()) };
                // SAFETY: from a box, and unlinked by us alone.
                unsafe { domain.retire(old) };
            }
            let kept = domain.reclaim_all().expect("a heavy fence");
            assert_eq!((kept.freed, kept.kept), (0, THREADS * EACH));
            retired.wait();
        });
        assert_eq!(domain.reclaim_all().expect("a heavy fence").freed, THREADS * EACH);
    });
}

#[test]
fn a_thread_that_ends_leaves_its_hazard_pointers_to_others() {
    thread_local! {
        static LATE: RefCell<Option<HazardPointer<'static>>> = const { RefCell::new(None) };
    }
    Child::default().run(|| {
        let in_a_thread = |body: fn()| {
            thread::spawn(body).join().expect("no panic");
            Domain::global().stats().hazard_pointers
        };
        let take: fn() = || drop(Domain::global().hazard_pointers::<2>());
        let first = in_a_thread(take);
        assert!((0..100).all(|_| in_a_thread(take) == first));

        let late: fn() = || {
            // Registered before the thread's cache, so destroyed after it.
            LATE.with(|late| *late.borrow_mut() = None);
            let hazard = Domain::global().hazard_pointer();
            LATE.with(|late| *late.borrow_mut() = Some(hazard));
        };
        assert!((0..100).all(|_| in_a_thread(late) == first));
    });
}

#[test]
fn a_hazard_pointer_protects_when_the_thread_that_took_it_has_ended() {
    Child::default().run(|| {
        let (domain, deaths) = (Domain::global(), Arc::default());
        let mut hazard =
            thread::spawn(|| Domain::global().hazard_pointer()).join().expect("no panic");
        let source: AtomicPtr<Canary> = AtomicPtr::null();
        // SAFETY: a box's, freed by `retire` alone.
        unsafe { source.store(Canary::new(&deaths)) };
        let object = hazard.protect(&source).expect("not null");
        // Others take and give back every slot that is free.
        drop(domain.hazard_pointers::<20>());
        // SAFETY: null is always allowed.
        let old = unsafe { source.swap(std::ptr::null_mut()) };
        // SAFETY: from a box, and unlinked by us alone.
        unsafe { domain.retire(old) };
        assert_eq!(domain.reclaim_all().expect("a heavy fence").kept, 1);
        object.assert_alive();
    });
}
