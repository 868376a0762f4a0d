//! The gate in every interleaving of at most two preemptions, in the worlds that its users may be in.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use loom::model::Builder;

use crate::{
    full_for_heavy, light_for_heavy, no_acquire, no_heavy_fence, no_light_fence, no_release,
    original,
};

/// What the fences are when a model begins.
#[cfg(feature = "asymmetric")]
mod worlds {
    use asymfence::model::{Start, Visit, init_from};

    pub(super) const FIRST: [fn(); 2] = [
        || init_from(Start::Asymmetric, Visit::Upward),
        || init_from(Start::Asymmetric, Visit::Downward),
    ];
    pub(super) const OTHERS: [fn(); 2] = [
        || init_from(Start::Symmetric, Visit::Upward),
        || init_from(Start::Undecided { rung_works: true }, Visit::Upward),
    ];
}
#[cfg(not(feature = "asymmetric"))]
mod worlds {
    pub(super) const FIRST: [fn(); 1] = [|| ()];
    pub(super) const OTHERS: [fn(); 0] = [];
}

fn check_in(worlds: &[fn()], program: impl Fn() + Send + Sync + 'static) {
    let program = Arc::new(program);
    for &world in worlds {
        let program = Arc::clone(&program);
        let mut builder = Builder::new();
        builder.preemption_bound = Some(2); // enough for every twin
        builder.check(move || {
            world();
            program();
        });
    }
}

fn check(program: impl Fn() + Send + Sync + 'static) {
    check_in(&[&worlds::FIRST[..], &worlds::OTHERS[..]].concat(), program);
}

/// Two threads use the value at once, or it is used when it is gone.
#[track_caller]
fn assert_fails(program: impl Fn() + Send + Sync + 'static) {
    let check = AssertUnwindSafe(|| check_in(&worlds::FIRST, program));
    let panic = catch_unwind(check).expect_err("the twin passes");
    let message = panic.downcast_ref::<String>().map_or("", String::as_str);
    assert!(message.contains("Causality violation") || message.contains("gate was"), "{message}");
}

fn is_ever(program: impl Fn() -> bool + Send + Sync + 'static) -> bool {
    let ever = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ever);
    check_in(&worlds::FIRST, move || _ = seen.fetch_or(program(), Relaxed));
    ever.load(Relaxed)
}

#[test]
fn what_somebody_is_inside_of_is_not_taken_away() {
    check(|| _ = original::programs::visit_twice_and_close());
}

#[test]
fn a_visitor_gets_in_at_times_and_turns_back_at_others() {
    for visits in 0..=2 {
        assert!(is_ever(move || original::programs::visit_twice_and_close() == visits), "{visits}");
    }
}

#[test]
fn a_place_passes_from_visitor_to_visitor() {
    check(|| _ = original::programs::visit_in_turn_and_close());
    assert!(is_ever(|| original::programs::visit_in_turn_and_close() == 2));
}

#[test]
fn of_two_that_close_one_takes_the_value() {
    check(|| _ = original::programs::close_twice());
}

#[test]
fn without_the_light_fence_the_model_fails() {
    assert_fails(|| _ = no_light_fence::programs::visit_twice_and_close());
}

#[test]
fn without_the_heavy_fence_the_model_fails() {
    assert_fails(|| _ = no_heavy_fence::programs::visit_twice_and_close());
}

#[test]
fn without_release_the_model_fails() {
    assert_fails(|| _ = no_release::programs::visit_twice_and_close());
}

#[test]
fn without_acquire_the_model_fails() {
    assert_fails(|| _ = no_acquire::programs::visit_twice_and_close());
}

#[cfg(feature = "asymmetric")]
#[test]
fn a_weaker_fence_for_the_heavy_one_fails_and_passes_where_the_process_is_symmetric() {
    let light = || _ = light_for_heavy::programs::visit_twice_and_close();
    let full = || _ = full_for_heavy::programs::visit_twice_and_close();
    assert_fails(light);
    assert_fails(full);
    check_in(&worlds::OTHERS[..1], light);
    check_in(&worlds::OTHERS[..1], full);
}

/// So a crate's models must run with the feature too.
#[cfg(not(feature = "asymmetric"))]
#[test]
fn a_weaker_fence_for_the_heavy_one_passes_without_the_feature() {
    check(|| _ = light_for_heavy::programs::visit_twice_and_close());
    check(|| _ = full_for_heavy::programs::visit_twice_and_close());
}
