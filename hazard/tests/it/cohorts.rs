//! Cohorts: objects that borrow, by many threads at once, and freed when the structure is dropped.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use asymfence_hazard::domain;

use crate::child::Child;
use crate::slot::Slot;
use crate::{BY_NUMBERS, Canary};

#[test]
fn what_readers_see_of_a_cohort_is_alive_and_all_dies_with_it() {
    domain! { enum Tests {} = BY_NUMBERS; }
    const ROUNDS: usize = 20_000;
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
    drop(slot);
    assert_eq!(deaths.load(Relaxed), 2 * ROUNDS);
}

/// Borrows what it counts its death in.
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

        // The twin: a reclaim, which a reader may be beside, asks for one.
        let slot = Slot::<Borrows<'_>, Tests>::new(usize::MAX);
        (0..2).for_each(|_| slot.store(Borrows(&deaths)));
        assert_eq!(slot.reclaim().expect("a heavy fence").freed, 1);
        assert_eq!(asymfence::stats().heavy.asked, asked + one);
    });
}
