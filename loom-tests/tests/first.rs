//! The README's first example, unchanged, except that its `std` is loom. `cargo xtask mutants first` runs its mutants.
#![cfg(loom)]
#![allow(dead_code, unused_imports, reason = "the example's `main` is a program's")]

extern crate loom as std;

use loom::cell::UnsafeCell;

use loom_tests::check::{STARTS, check};

// Included here and not as a module, because its items are private. It imports `Arc` and `thread`.
include!("../../examples/first/progress.rs");

/// An item that the publisher writes before it publishes, and the waiter reads after it has waited.
#[derive(Default)]
struct Items([UnsafeCell<u64>; 2]);

// SAFETY: loom fails the model if an item is read and written at the same time.
unsafe impl Sync for Items {}

/// One thread publishes two items. The other waits for each number in `waits`, in turn, and then reads that many items.
/// loom's `unpark` wakes a thread from a `join` too, so the waiter joins nobody.
fn hand_over(waits: &'static [u64]) {
    let shared = Arc::new((Progress::default(), Items::default()));
    let waiter = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            for &done in waits {
                shared.0.wait_for(done);
                for (item, number) in shared.1.0.iter().zip(1..=done) {
                    // SAFETY: loom fails the model otherwise.
                    assert_eq!(item.with(|item| unsafe { *item }), number);
                }
            }
        })
    };
    for (item, done) in shared.1.0.iter().zip(1..) {
        // SAFETY: as above.
        item.with_mut(|item| unsafe { *item = done });
        shared.0.publish(done, waiter.thread());
    }
    waiter.join().expect("no panic");
}

/// loom fails a model that ends with a thread asleep.
#[test]
fn nobody_sleeps_for_ever_and_what_was_waited_for_is_there() {
    for start in STARTS {
        check(start, || hand_over(&[2]));
        check(start, || hand_over(&[1]));
        check(start, || hand_over(&[1, 2]));
    }
}
