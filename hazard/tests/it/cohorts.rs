//! Cohorts: objects that borrow, that many threads use at once, and that are freed when the structure is dropped.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use asymfence_hazard::{Cohort, Family, Reclaimed, domain};
#[cfg(not(asymfence_symmetric))]
use {nix::libc, seccompiler::SeccompAction::Errno, seccompiler::apply_filter};

use crate::chained::{self, Chain, on_a_small_stack};
use crate::child::Child;
use crate::child::ledger;
#[cfg(not(asymfence_symmetric))]
use crate::filter::on_protection_too;
use crate::slot::Slot;
use crate::{BY_NUMBERS, Canary};

#[test]
fn what_readers_see_of_a_cohort_is_alive_and_all_dies_with_it() {
    domain! { enum Tests {} = BY_NUMBERS; }
    const ROUNDS: usize = if cfg!(miri) { 100 } else { 20_000 };
    let deaths: Arc<AtomicUsize> = Arc::default();
    let slot = Slot::<Canary, Tests>::new(64);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..ROUNDS).for_each(|_| slot.store(Canary::new(&deaths))));
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    slot.read(Canary::assert_alive);
                    if round % 1_024 == 0 {
                        slot.reclaim().expect("a heavy fence");
                    }
                }
            });
        }
    });
    assert!(deaths.load(Relaxed) > ROUNDS, "it has reclaimed");
    // The last value is linked still.
    let stats = slot.stats();
    assert_eq!((stats.retired, stats.freed), (2 * ROUNDS - 1, deaths.load(Relaxed)));
    drop(slot);
    assert_eq!(deaths.load(Relaxed), 2 * ROUNDS);
}

#[test]
fn what_is_protected_of_a_cohort_is_kept_until_it_is_not() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    let slot = Slot::<Canary, Tests>::new(64);
    let reclaim = || {
        let done = slot.reclaim().expect("a heavy fence");
        (done.freed, done.kept)
    };
    slot.store(Canary::new(&deaths));
    slot.read(|first| {
        (0..2).for_each(|_| slot.store(Canary::new(&deaths)));
        assert_eq!(reclaim(), (1, 1));
        first.assert_alive();
    });
    assert_eq!(reclaim(), (1, 0));
    assert_eq!(deaths.load(Relaxed), 2);
}

/// Borrows the counter of its death.
struct Borrows<'a>(&'a AtomicUsize);

impl Drop for Borrows<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn a_cohort_that_is_dropped_frees_all_without_a_fence() {
    domain! { enum Tests {} = BY_NUMBERS; }
    // A process of its own: heavy fences are counted for the whole of it.
    Child::default().run(|| {
        // Symmetric, nothing is counted.
        let one = usize::from(asymfence::init() != asymfence::Strategy::Symmetric);
        let deaths = AtomicUsize::new(0);
        let slot = Slot::<Borrows<'_>, Tests>::new(usize::MAX);
        (0..1_000).for_each(|_| slot.store(Borrows(&deaths)));
        let asked = asymfence::stats().heavy.asked;
        assert_eq!(deaths.load(Relaxed), 0);
        drop(slot);
        assert_eq!(deaths.load(Relaxed), 1_000);
        assert_eq!(asymfence::stats().heavy.asked, asked);

        // The twin: a reclaim asks for one, since a reader may run beside it.
        let slot = Slot::<Borrows<'_>, Tests>::new(usize::MAX);
        (0..2).for_each(|_| slot.store(Borrows(&deaths)));
        assert_eq!(slot.reclaim().expect("a heavy fence").freed, 1);
        assert_eq!(asymfence::stats().heavy.asked, asked + one);
    });
}

#[test]
fn a_destructor_that_reclaims_its_cohort_does_not_nest() {
    domain! { enum Tests {} = BY_NUMBERS; }
    static COHORT: Cohort<Tests> = Cohort::new(1_000);
    fn retire(chain: Box<Chain>) {
        // SAFETY: from a box, and nobody has seen it.
        unsafe { COHORT.retire(Box::into_raw(chain)) };
    }
    fn reclaim() -> Reclaimed {
        COHORT.reclaim().expect("a heavy fence")
    }
    // In a process of its own: without `std` calls of other tests could delay these.
    Child::default().run(|| {
        on_a_small_stack(|| {
            chained::retire_and_reclaim((retire, reclaim));
            // Without `std` the call around does not reclaim again.
            while COHORT.stats().waiting() != 0 {
                reclaim();
            }
        });
        assert_eq!(COHORT.stats().retired, chained::LENGTH);
    });
}

/// A destructor that retires to the next cohort, which reclaims at once.
#[test]
fn destructors_that_retire_to_the_next_of_many_cohorts_do_not_nest_without_a_bound() {
    domain! { enum Tests {} = BY_NUMBERS; }
    const COUNT: usize = 1_000;
    static COHORTS: [Cohort<Tests>; COUNT] = [const { Cohort::new(1) }; COUNT];
    struct Next(usize);
    impl Drop for Next {
        fn drop(&mut self) {
            retire(self.0);
        }
    }
    fn retire(to: usize) {
        if let Some(cohort) = COHORTS.get(to) {
            // SAFETY: from a box, and nobody has seen it.
            unsafe { cohort.retire(Box::into_raw(Box::new(Next(to + 1)))) };
        }
    }
    // In a process of its own, as above.
    Child::default().run(|| {
        on_a_small_stack(|| {
            retire(0);
            for cohort in &COHORTS {
                while cohort.stats().waiting() != 0 {
                    cohort.reclaim().expect("a heavy fence");
                }
            }
        });
        assert!(COHORTS.iter().all(|cohort| cohort.stats().freed == 1));
    });
}

#[test]
fn garbage_of_a_cohort_is_bounded() {
    if ledger::is_too_long() {
        return;
    }
    domain! { enum Tests {} = BY_NUMBERS; }
    const THREADS: usize = 4;
    const ROUNDS: usize = 20_000;
    const ENOUGH: usize = 64;
    let deaths: Arc<AtomicUsize> = Arc::default();
    let slot = Slot::<Canary, Tests>::new(ENOUGH);
    // Each thread may be in the middle of a retire, and of a reclaim.
    let bound = || (1 + THREADS) * (ENOUGH + Tests::domain().stats().hazard_pointers + THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    slot.store(Canary::new(&deaths));
                    // `retired` is read first, so the difference may be too low. In the other order, what is retired
                    // and freed between the two would count as waiting.
                    let (retired, freed) = (slot.stats().retired, slot.stats().freed);
                    assert!(retired.saturating_sub(freed) <= bound());
                    slot.read(Canary::assert_alive);
                }
            });
        }
    });
    // The twin: with a threshold that is never reached, everything waits.
    let slot = Slot::<Canary, Tests>::new(usize::MAX);
    (0..=ROUNDS).for_each(|_| slot.store(Canary::new(&deaths)));
    assert_eq!(slot.stats().waiting(), ROUNDS);
    assert!(slot.stats().waiting() > bound());
}

#[test]
#[cfg(not(asymfence_symmetric))] // without a heavy fence nothing fails
fn heavy_fences_that_fail_free_nothing_of_a_cohort_and_are_counted() {
    domain! { enum Tests {} = BY_NUMBERS; }
    Child::default().run(|| {
        asymfence::init();
        let deaths = AtomicUsize::new(0);
        let slot = Slot::<Borrows<'_>, Tests>::new(10);
        thread::scope(|scope| {
            scope.spawn(|| {
                let filter = on_protection_too(Errno(libc::EPERM as u32));
                apply_filter(&filter).expect("seccomp");
                (0..=100).for_each(|_| slot.store(Borrows(&deaths)));
                // Each comes twice as late: after 10 objects, 20 more, 40 more.
                assert_eq!(slot.stats().failed, 3);
                slot.reclaim().expect_err("no barrier in this thread");
                assert_eq!((slot.stats().waiting(), slot.stats().failed), (100, 4));
            });
        });
        assert_eq!(deaths.load(Relaxed), 0);
        // A thread outside of the sandbox frees it all, and from then on ten at a time.
        assert_eq!(slot.reclaim().expect("a heavy fence").freed, 100);
        (0..10).for_each(|_| slot.store(Borrows(&deaths)));
        assert_eq!((deaths.load(Relaxed), slot.stats().waiting()), (110, 0));
    });
}
