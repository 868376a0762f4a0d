//! Under ThreadSanitizer, with `--cfg asymfence_tsan`: it follows the fences, and reports a missing one.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use asymfence::{heavy_fence, light_fence};

use crate::child::Child;

/// Accessed by plain loads and stores, which the fences alone order.
#[derive(Default)]
struct Plain(UnsafeCell<u64>);

// SAFETY: `pass` makes sure that the store comes before each read.
unsafe impl Sync for Plain {}

/// Scenario B. With the fences exchanged it is scenario C.
fn pass(senders_fence: fn(), receivers_fence: fn()) {
    let (plain, sent) = (&Plain::default(), &AtomicBool::new(false));
    let receiving = &AtomicBool::new(false);
    let wait_for = |flag: &AtomicBool| {
        while !flag.load(Relaxed) {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            wait_for(receiving); // or the receiver's own start would order the two
            // SAFETY: nobody reads before `sent`.
            unsafe { *plain.0.get() = 1 };
            senders_fence();
            sent.store(true, Relaxed);
        });
        scope.spawn(move || {
            receiving.store(true, Relaxed);
            wait_for(sent);
            receivers_fence();
            // SAFETY: written before `sent`. (In the last two tests a fence is missing: the sanitizer is to see the
            // race.)
            assert_eq!(unsafe { *plain.0.get() }, 1);
        });
    });
}

#[test]
fn a_light_and_a_heavy_fence_are_followed() {
    Child::default().run(|| {
        pass(light_fence, heavy_fence);
        pass(heavy_fence, light_fence);
    });
}

#[test]
fn a_missing_heavy_fence_is_reported() {
    Child::default().outcome(|| pass(light_fence, || ())).was_reported();
}

#[test]
fn a_missing_light_fence_is_reported() {
    Child::default().outcome(|| pass(|| (), heavy_fence)).was_reported();
}
