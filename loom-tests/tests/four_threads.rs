//! What the contract says about two heavy fences that overlap. Only the oracle is asked: a model of the ring of four
//! threads is practical with two preemptions alone, and does not find every outcome then (it/battery.rs runs it).
//! docs/specification.md cites this.
#![cfg(loom)]

use loom_tests::litmus::row;
use loom_tests::oracle::{Threads, outcomes};

/// Store buffering in a ring of four threads, with these fences: whether every thread may miss the next one's store.
fn all_may_miss(fences: &str) -> bool {
    let ring = "x=1;F0;r0=y | y=1;F1;r1=z | z=1;F2;r2=w | w=1;F3;r3=x";
    let row = row("4.SB", ring, "r0=r1=r2=r3=0", fences, "allowed", None);
    row.is_weak_in(&outcomes(&row.program, Threads::OutOfOrder))
}

/// The points of two heavy fences that overlap have no common order. But no program can see that: if each fence is
/// ordered against the next one, the whole ring is ordered.
#[test]
fn a_ring_of_ordered_pairs_is_ordered() {
    for fences in ["HLHL", "HLHF", "HFHF", "HHFF", "HFFF"] {
        assert!(!all_may_miss(fences), "{fences}");
    }
}

/// If the heavy fence of one thread comes before the heavy or full fence of another (in `psc`: see `oracle.rs`), what
/// is ordered before the first is ordered before what is ordered after the second. P1202R5 does not promise that.
#[test]
fn two_strong_fences_in_a_row_make_up_for_one_pair_that_is_not_ordered() {
    for fences in ["HHLL", "HHLF", "HHFL", "HFFL"] {
        assert!(!all_may_miss(fences), "{fences}");
    }
}

#[test]
fn with_two_pairs_that_are_not_ordered_the_ring_is_not() {
    for fences in ["HLLL", "HLLF", "HLFL", "HFLL"] {
        assert!(all_may_miss(fences), "{fences}");
    }
}
