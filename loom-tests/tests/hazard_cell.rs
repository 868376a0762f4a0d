//! Two threads that add to a sum in a cell.
#![cfg(loom)]

use std::sync::Arc;

use asymfence::model::model;
use asymfence_hazard::{Domain, HazardCell};
use loom::thread;

type Sum = HazardCell<u64>;

fn add(sum: &Sum) {
    drop(sum.rcu(|sum| sum + 1));
}

/// Overwrites what another thread adds between the load and the store.
fn mutant(sum: &Sum) {
    let more = *sum.load() + 1;
    sum.store(more);
}

fn add_in_two_threads(add: fn(&Sum)) {
    let _ = Domain::global(); // made before there is another thread
    let sum = Arc::new(Sum::new(0));
    let theirs = Arc::clone(&sum);
    let other = thread::spawn(move || add(&theirs));
    add(&sum);
    other.join().unwrap();
    assert_eq!(*sum.load(), 2);
}

#[test]
fn what_two_threads_add_is_in_the_sum() {
    model(|| add_in_two_threads(add));
}

#[test]
#[should_panic(expected = "left == right")]
fn by_a_load_and_a_store_an_addition_may_be_lost() {
    model(|| add_in_two_threads(mutant));
}
