//! A reader and a writer of one place, on hazard pointers.
#![cfg(loom)]

use std::sync::Arc;

use asymfence::model::model;
use asymfence_hazard::{Domain, HazardPointer};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicPtr;
use loom::sync::atomic::Ordering::{AcqRel, Acquire};
use loom::thread;

/// An object that knows whether it was freed. Its memory stays, so that the mutant may look.
struct Route(UnsafeCell<bool>);

// SAFETY: loom fails the model if two threads use the cell at the same time.
unsafe impl Send for Route {}

impl Route {
    fn new() -> *mut Route {
        Box::into_raw(Box::new(Route(UnsafeCell::new(false))))
    }

    fn look(&self) {
        // SAFETY: as above.
        assert!(!self.0.with(|freed| unsafe { *freed }), "used after it was freed");
    }

    fn free(&self) {
        // SAFETY: as above.
        self.0.with_mut(|freed| unsafe { *freed = true });
    }
}

type Source = AtomicPtr<Route>;

fn reader(source: &Source) {
    let mut hazard: HazardPointer = HazardPointer::new();
    loop {
        let route = source.load(Acquire);
        hazard.protect_raw(route); // publishes it, and executes a light fence
        if source.load(Acquire) == route {
            // SAFETY: this load came after the publication, and the route was still linked. So it was published before
            // it was retired: no reclaim frees it.
            return unsafe { (*route).look() };
        }
    }
}

fn mutant(source: &Source) {
    let mut hazard: HazardPointer = HazardPointer::new();
    let route = source.load(Acquire);
    hazard.protect_raw(route);
    // SAFETY: the memory stays. But the route may have been retired before it was protected.
    unsafe { (*route).look() };
}

#[allow(clippy::multiple_unsafe_ops_per_block, reason = "one retires, and one frees")]
fn writer(source: &Source) {
    let old = source.swap(Route::new(), AcqRel);
    // SAFETY: the swap has unlinked it, and `free` leaves the memory alone.
    unsafe { Domain::global().retire_with(old, |old| (*old).free()) };
    Domain::global().reclaim().expect("a heavy fence"); // frees what nobody protects
}

fn read_and_replace(read: fn(&Source)) {
    let _ = Domain::global(); // made before there is another thread
    let source = Arc::new(Source::new(Route::new()));
    let theirs = Arc::clone(&source);
    let reader = thread::spawn(move || read(&theirs));
    writer(&source);
    reader.join().unwrap();
}

#[test]
fn what_is_protected_is_not_freed() {
    model(|| read_and_replace(reader));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_a_second_look_what_is_used_may_have_been_freed() {
    model(|| read_and_replace(mutant));
}
