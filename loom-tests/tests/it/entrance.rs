//! Test suites that were not made for this crate: a bare `loom::model`, without an `init`, with the first fence
//! in any thread.

use std::sync::{Arc, Mutex};

use asymfence::model::{Start, Visit, begin_with, fence};
use asymfence::{heavy_fence, light_fence, stats};
use loom::sync::atomic::Ordering::SeqCst;

use loom_tests::litmus::{Outcome, explore_bare, scenario_a, tables};
use loom_tests::oracle::{Threads, outcomes};

/// The first fence is in a spawned thread: in each of them in some execution.
#[test]
fn a_bare_model_is_exact_on_the_shapes_of_two_threads_and_on_two_of_three() {
    let is_meant = |name: &str| {
        ["SB ", "MP ", "R ", "S ", "2+2W ", "LB ", "WRC ", "RWC "]
            .iter()
            .any(|shape| name.starts_with(shape))
            || ["3.SB LHL", "3.SB LLH", "3.SB HLL", "3.SB HHL"].contains(&name)
    };
    for row in tables().iter().filter(|row| is_meant(&row.name)) {
        let found = explore_bare(&row.program, Start::Asymmetric, Some(2));
        assert_eq!(found.outcomes, outcomes(&row.program, Threads::InOrder), "{}", row.name);
    }
}

/// A bare model begins as `begin_with` says: here symmetric, as other crates model their fences.
#[test]
fn a_bare_model_may_be_symmetric() {
    let row = &tables()[0];
    assert_eq!(row.name, "SB LL");
    let symmetric = explore_bare(&row.program, Start::Symmetric, None);
    assert!(!row.is_weak_in(&symmetric.outcomes));
    let asymmetric = explore_bare(&row.program, Start::Asymmetric, None);
    assert!(row.is_weak_in(&asymmetric.outcomes));
}

/// Scenario A in a bare model. Returns every pair of results.
fn found(left: impl Fn() + Copy + Send + Sync + 'static, right: fn()) -> Vec<Outcome> {
    begin_with(Start::Asymmetric, Visit::Upward);
    let all = Arc::new(Mutex::new(Vec::new()));
    let seen = all.clone();
    loom::model(move || {
        let outcome = scenario_a(right, left).to_vec();
        let mut seen = seen.lock().expect("no panic while it is held");
        if !seen.contains(&outcome) {
            seen.push(outcome);
        }
    });
    let mut all = all.lock().expect("no panic while it is held").clone();
    all.sort();
    all
}

const ORDERED: [[usize; 2]; 3] = [[0, 1], [1, 0], [1, 1]];
const UNORDERED: [[usize; 2]; 4] = [[0, 0], [0, 1], [1, 0], [1, 1]];

#[test]
fn a_bare_model_orders_what_the_table_orders_and_nothing_else() {
    assert_eq!(found(light_fence, heavy_fence), ORDERED);
    assert_eq!(found(heavy_fence, light_fence), ORDERED);
    assert_eq!(found(light_fence, light_fence), UNORDERED);
    assert_eq!(found(light_fence, || fence(SeqCst)), UNORDERED);
}

/// Reading statistics orders nothing, in either thread.
#[test]
fn reports_order_nothing() {
    fn light_and_asks() {
        light_fence();
        let _ = stats();
        let _ = asymfence::ladder().count();
        let _ = asymfence::strategy();
    }
    assert_eq!(found(light_and_asks, light_and_asks), UNORDERED);
}

#[test]
fn futures_are_modelled_too() {
    fn blocks(light: fn()) {
        loom::future::block_on(async move { light() });
    }
    assert_eq!(found(|| blocks(light_fence), || blocks(heavy_fence)), ORDERED);
    assert_eq!(found(|| blocks(light_fence), || blocks(light_fence)), UNORDERED);
}
