//! The gate and real threads. Small enough for Miri, which sees every access to the value.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use adopter::Gate;

/// Gates, one after another.
const GATES: usize = if cfg!(miri) { 5 } else { 300 };
const VISITORS: usize = 3;

/// Dies once, and not while it is looked at.
struct Canary<'deaths> {
    alive: Box<bool>,
    deaths: &'deaths AtomicUsize,
}

impl Drop for Canary<'_> {
    fn drop(&mut self) {
        assert!(*self.alive, "dies once");
        *self.alive = false;
        // Relaxed: read after the threads are joined.
        self.deaths.fetch_add(1, Relaxed);
    }
}

#[test]
fn what_somebody_is_inside_of_is_not_taken_away() {
    let deaths = AtomicUsize::new(0);
    for _ in 0..GATES {
        let alive = Box::new(true);
        let gate = Gate::<_, VISITORS>::new(Canary { alive, deaths: &deaths });
        let together = Barrier::new(VISITORS + 1);
        thread::scope(|scope| {
            for _ in 0..VISITORS {
                scope.spawn(|| {
                    let mut visitor = gate.visitor().expect("a place for each");
                    together.wait();
                    while let Some(inside) = visitor.enter() {
                        assert!(*inside.alive);
                    }
                });
            }
            together.wait();
            drop(gate.close().expect("nobody else closes it"));
        });
        assert!(gate.close().is_none());
    }
    // Relaxed: the threads are joined.
    assert_eq!(deaths.load(Relaxed), GATES);
}

#[test]
fn a_gate_that_nobody_closes_drops_its_value() {
    let deaths = AtomicUsize::new(0);
    drop(Gate::<_, 1>::new(Canary { alive: Box::new(true), deaths: &deaths }));
    assert_eq!(deaths.load(Relaxed), 1);
}

#[test]
fn there_are_as_many_visitors_as_places_at_a_time() {
    let gate = Gate::<_, 2>::new(());
    let visitors = [gate.visitor(), gate.visitor()];
    assert!(visitors.iter().all(Option::is_some));
    assert!(gate.visitor().is_none());
    drop(visitors);
    assert!(gate.visitor().is_some());
}

#[test]
fn a_visitor_that_panics_inside_leaves() {
    let gate = Gate::<_, 1>::new(());
    thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            let mut visitor = gate.visitor().expect("the only visitor");
            let _inside = visitor.enter().expect("an open gate");
            panic!("of the test");
        });
        assert!(visitor.join().is_err());
    });
    assert_eq!(gate.close(), Some(()));
    assert!(gate.visitor().expect("the place is free").enter().is_none());
}
