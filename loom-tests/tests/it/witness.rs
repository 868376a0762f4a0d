//! The witness fails a model whose reader and reclaimer contradict each other, and no other.

use std::panic::catch_unwind;
use std::ptr;

use asymfence::model::{model, witness};

const OBJECT: *const u64 = ptr::without_provenance(16);
const OTHER: *const u64 = ptr::without_provenance(32);
const SLOT: usize = 1;

/// The message with which a model of these steps fails.
fn failure(steps: fn()) -> Option<String> {
    let panic = catch_unwind(|| model(steps)).err()?;
    let words = panic.downcast_ref::<&str>().map(|&words| words.to_owned());
    Some(words.or_else(|| panic.downcast_ref::<String>().cloned()).expect("a message"))
}

#[test]
fn an_object_freed_while_it_is_used_fails() {
    let failure = failure(|| {
        witness::linked(OBJECT);
        witness::used(SLOT, OBJECT);
        witness::freed(OBJECT);
    });
    assert_eq!(failure.as_deref(), Some("freed while it is protected"));
}

#[test]
fn an_object_used_after_it_was_freed_fails() {
    let failure = failure(|| {
        witness::linked(OBJECT);
        witness::freed(OBJECT);
        witness::used(SLOT, OBJECT);
    });
    assert_eq!(failure.as_deref(), Some("protected after it was freed"));
}

#[test]
fn a_second_slot_is_seen_behind_the_first() {
    let failure = failure(|| {
        witness::used(SLOT, OBJECT);
        witness::used(SLOT + 1, OBJECT);
        witness::left(SLOT);
        witness::freed(OBJECT);
    });
    assert_eq!(failure.as_deref(), Some("freed while it is protected"));
}

#[test]
fn what_is_left_may_be_freed_and_what_is_linked_again_used() {
    let failure = failure(|| {
        witness::linked(OBJECT);
        witness::used(SLOT, OBJECT);
        witness::left(SLOT);
        witness::freed(OBJECT);
        witness::linked(OBJECT);
        witness::used(SLOT, OBJECT);
        // A slot protects one object at a time.
        witness::used(SLOT, OTHER);
        witness::freed(OBJECT);
    });
    assert_eq!(failure, None);
}

#[test]
fn each_execution_begins_with_nothing_freed() {
    for _ in 0..2 {
        assert_eq!(failure(|| witness::freed(OBJECT)), None);
        assert_eq!(failure(|| witness::used(SLOT, OBJECT)), None);
    }
}
