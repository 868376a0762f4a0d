//! A fence where its model cannot see it fails loudly, and says what to call.

use std::cell::RefCell;

use asymfence::model::{Start, fence, model, model_from};
use asymfence::{Strategy, heavy_fence, init, light_fence, strategy};
use loom::sync::atomic::Ordering::SeqCst;
use loom::sync::{Arc, Notify};

#[test]
#[should_panic(expected = "call `asymfence::model::model` in place of `loom::model`")]
fn a_light_fence_in_a_plain_loom_model_panics() {
    loom::model(light_fence);
}

#[test]
#[should_panic(expected = "call `asymfence::model::model` in place of `loom::model`")]
fn a_heavy_fence_in_a_plain_loom_model_panics() {
    loom::model(heavy_fence);
}

#[test]
#[should_panic(expected = "call `asymfence::model::model` in place of `loom::model`")]
fn a_full_fence_outside_of_any_model_panics() {
    fence(SeqCst);
}

#[test]
#[should_panic(expected = "join every thread before the model's closure ends")]
fn a_thread_that_outlives_its_model_panics_in_a_fence() {
    model(|| {
        loom::thread::spawn(|| {
            // Runs on after the closure has ended, in some execution.
            loom::thread::yield_now();
            light_fence();
        });
    });
}

#[test]
#[should_panic(expected = "belongs into the first thread")]
fn an_init_in_another_thread_panics() {
    loom::model(|| loom::thread::spawn(asymfence::model::init).join().expect("no panic"));
}

#[test]
#[should_panic(expected = "in a destructor of a thread-local is not modelled")]
fn a_heavy_fence_in_a_destructor_of_a_thread_local_panics() {
    struct Fences(Arc<Notify>);
    impl Drop for Fences {
        fn drop(&mut self) {
            heavy_fence();
            self.0.notify();
        }
    }
    loom::thread_local! { static LOCAL: RefCell<Option<Fences>> = RefCell::new(None); }
    model(|| {
        let gone = Arc::new(Notify::new());
        let theirs = gone.clone();
        let other = loom::thread::spawn(move || {
            LOCAL.with(|local| *local.borrow_mut() = Some(Fences(theirs)));
        });
        gone.wait();
        other.join().expect("no panic");
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
}

/// loom's default of 1,000 branches is enough for models of this size.
#[test]
fn fifty_fences_fit_into_a_model() {
    model(|| (0..25).for_each(|_| (light_fence(), heavy_fence()).1));
}
