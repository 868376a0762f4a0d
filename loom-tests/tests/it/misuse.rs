//! A fence that the model cannot see panics, with a message that lists every cause.

use asymfence::model::{Start, Visit, fence, init_from, model, model_from};
use asymfence::{Strategy, heavy_fence, init, light_fence, strategy};
use loom::sync::atomic::Ordering::SeqCst;

#[test]
#[should_panic(expected = "set `resolver = \"2\"`")]
fn a_light_fence_outside_of_any_model_panics_and_names_the_resolver() {
    light_fence();
}

#[test]
#[should_panic(expected = "Enable the feature only under a cfg")]
fn a_heavy_fence_outside_of_any_model_panics_and_names_the_feature() {
    heavy_fence();
}

#[test]
#[should_panic(expected = "outside of a loom model")]
fn a_full_fence_outside_of_any_model_panics() {
    fence(SeqCst);
}

#[test]
#[should_panic(expected = "outside of a loom model")]
fn a_fence_behind_a_model_panics() {
    model(heavy_fence);
    heavy_fence();
}

#[test]
fn a_thread_of_std_in_a_model_panics_and_the_message_names_it() {
    model(|| {
        let panic = std::thread::spawn(light_fence).join().expect_err("no thread of loom's");
        let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(message.contains("A thread of `std` in a model"), "{message}");
    });
}

#[test]
#[should_panic(expected = "in the first thread")]
fn an_init_in_another_thread_panics() {
    loom::model(|| loom::thread::spawn(asymfence::model::init).join().expect("no panic"));
}

#[test]
#[should_panic(expected = "before the first fence of the execution")]
fn an_init_behind_a_fence_panics() {
    loom::model(|| {
        light_fence();
        asymfence::model::init();
    });
}

#[test]
#[should_panic(expected = "must call `asymfence::model::init_from` first in its closure")]
fn an_undecided_process_that_no_init_has_made_panics() {
    asymfence::model::begin_with(Start::Undecided { rung_works: true }, Visit::Upward);
    loom::model(light_fence);
}

#[test]
#[should_panic(expected = "`asymfence::model::count_calls()` first in its closure")]
fn a_ticket_in_a_model_that_does_not_count_panics() {
    model(|| _ = asymfence::Ticket::now());
}

/// A model that fails leaves nothing behind for the next one in the same thread.
#[test]
fn a_model_behind_one_that_failed_runs() {
    let failed = std::panic::catch_unwind(|| {
        model(|| {
            light_fence();
            panic!("the model's own");
        });
    });
    assert!(failed.is_err());
    model(|| {
        light_fence();
        heavy_fence();
    });
    loom::model(light_fence);
}

/// A destructor that runs while a model's panic unwinds may fence.
#[test]
#[should_panic(expected = "the model's own")]
fn a_destructor_that_fences_while_a_model_fails_hides_no_message() {
    struct Fences;
    impl Drop for Fences {
        fn drop(&mut self) {
            light_fence();
            heavy_fence();
            fence(SeqCst);
        }
    }
    loom::thread_local! { static LOCAL: Fences = Fences; }
    model(|| {
        let _here = Fences;
        LOCAL.with(|_| ());
        let other = loom::thread::spawn(|| {
            let _there = Fences;
            heavy_fence();
        });
        light_fence();
        assert!(other.thread().name().is_some(), "the model's own");
    });
}

#[test]
fn a_model_begins_in_the_world_it_asks_for() {
    model(|| assert!(matches!(strategy(), Some(Strategy::Asymmetric(_)))));
    model_from(Start::Symmetric, || assert_eq!(strategy(), Some(Strategy::Symmetric)));
    model_from(Start::Undecided { rung_works: true }, || {
        assert_eq!(strategy(), None);
        assert!(matches!(init(), Strategy::Asymmetric(_)));
    });
    model_from(Start::Undecided { rung_works: false }, || assert_eq!(init(), Strategy::Symmetric));
    loom::model(|| {
        init_from(Start::Symmetric, Visit::Upward);
        assert_eq!(strategy(), Some(Strategy::Symmetric));
    });
}

/// loom's default of 1,000 branches is enough for models of this size.
#[test]
fn a_hundred_fences_fit_into_a_model() {
    model(|| (0..50).for_each(|_| (light_fence(), heavy_fence()).1));
}
