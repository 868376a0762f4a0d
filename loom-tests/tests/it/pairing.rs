//! The nine cells of the pairing table, by scenario A of `fence.rs`, and by message passing (B and C). The unordered
//! cells are required to be found.

use asymfence::model::{Start, fence};
use asymfence::{Asymmetric, heavy_fence, light_fence, try_heavy_fence};
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::thread;

use loom_tests::check::is_ever;
use loom_tests::litmus::scenario_a;

fn full_fence() {
    fence(SeqCst);
}

fn asymmetric_light_fence() {
    Asymmetric::new().expect("the model is asymmetric").light_fence();
}

fn fallible_heavy_fence() {
    try_heavy_fence().expect("the modelled rung does not fail");
}

/// Scenario A: whether each side ever misses the other's store.
fn misses(left: fn(), right: fn()) -> bool {
    is_ever(Start::Asymmetric, move || scenario_a(right, left) == [0, 0])
}

/// Scenarios B and C: whether a message is ever seen without what was sent before it.
fn passes_stale(sender: fn(), receiver: fn()) -> bool {
    is_ever(Start::Asymmetric, move || {
        let x = Arc::new(AtomicUsize::new(0));
        let y = Arc::new(AtomicUsize::new(0));
        let (x2, y2) = (x.clone(), y.clone());
        let other = thread::spawn(move || {
            x2.store(1, Relaxed);
            sender();
            y2.store(1, Relaxed);
        });
        let r1 = y.load(Relaxed);
        receiver();
        let r2 = x.load(Relaxed);
        other.join().expect("no panic");
        r1 == 1 && r2 == 0
    })
}

#[test]
fn light_light_is_unordered() {
    assert!(misses(light_fence, light_fence));
    assert!(misses(asymmetric_light_fence, light_fence));
    assert!(passes_stale(light_fence, light_fence));
}

#[test]
fn light_full_is_unordered() {
    assert!(misses(light_fence, full_fence));
    assert!(passes_stale(light_fence, full_fence));
}

#[test]
fn full_light_is_unordered() {
    assert!(misses(full_fence, light_fence));
    assert!(passes_stale(full_fence, light_fence));
}

#[test]
fn light_heavy_is_ordered() {
    for light in [light_fence, asymmetric_light_fence] {
        for heavy in [heavy_fence, fallible_heavy_fence] {
            assert!(!misses(light, heavy));
            assert!(!passes_stale(light, heavy));
        }
    }
}

#[test]
fn heavy_light_is_ordered() {
    assert!(!misses(heavy_fence, light_fence));
    assert!(!passes_stale(heavy_fence, light_fence));
}

#[test]
fn full_full_is_ordered() {
    assert!(!misses(full_fence, full_fence));
    assert!(!passes_stale(full_fence, full_fence));
}

#[test]
fn full_heavy_is_ordered() {
    assert!(!misses(full_fence, heavy_fence));
    assert!(!passes_stale(full_fence, heavy_fence));
}

#[test]
fn heavy_full_is_ordered() {
    assert!(!misses(heavy_fence, full_fence));
    assert!(!passes_stale(heavy_fence, full_fence));
}

#[test]
fn heavy_heavy_is_ordered() {
    assert!(!misses(heavy_fence, heavy_fence));
    assert!(!passes_stale(heavy_fence, heavy_fence));
}
