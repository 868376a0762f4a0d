//! What code without `unsafe` can do: the interleavings in which an unsound library would free what is read.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use asymfence_hazard::{
    AtomicBox, Chain, Cohort, Family, Follow, HazardCell, HazardPointer, Link, NewNode, Place,
    Protected, Tagged, Thresholds, domain,
};

use crate::{BY_NUMBERS, Canary, reclaim};

/// Hazard pointers of structures of one family protect each other's objects.
#[test]
fn a_hazard_pointer_that_strays_to_another_structure_protects_there() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    let [one, other] = [(); 2].map(|()| HazardCell::<Canary, Tests>::new(Canary::new(&deaths)));
    let mut hazard = HazardPointer::new();
    other.load_with(&mut hazard).assert_alive();
    let object = one.load_with(&mut hazard);
    one.store(Canary::new(&deaths));
    assert_eq!(reclaim::<Tests>(), (0, 1));
    object.assert_alive();
}

/// A chain of two nodes, `b` behind `a`.
fn two<F: Family>(deaths: &Arc<std::sync::atomic::AtomicUsize>) -> Chain<Canary, F> {
    let chain = Chain::new();
    for _ in 0..2 {
        let before = match Place::First(&chain).follow(HazardPointer::new()) {
            Follow::To(node) => Some(node),
            _ => None,
        };
        Place::First(&chain)
            .insert(before.as_ref(), NewNode::new(Canary::new(deaths)))
            .expect("alone");
    }
    chain
}

fn remove_first<F: Family>(chain: &Chain<Canary, F>) {
    let mut cursor = chain.cursor();
    cursor.seek(|_| false).expect("a node");
    assert!(cursor.remove());
}

/// The reader stands on `a`. `a` is removed, then `b`, and `b` is freed. The link of `a` still has the address
/// of `b`, and is not followed.
#[test]
fn a_reader_on_a_removed_node_is_not_led_to_what_was_freed() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    let chain = two::<Tests>(&deaths);
    let Follow::To(a) = Place::First(&chain).follow(HazardPointer::new()) else { panic!("empty") };
    remove_first(&chain);
    remove_first(&chain);
    assert_eq!(reclaim::<Tests>(), (1, 1));
    assert_eq!(deaths.load(Relaxed), 1);
    a.assert_alive();
    assert!(a.is_frozen());
    assert!(matches!(Place::After(a).follow(HazardPointer::new()), Follow::Frozen(_)));
}

/// The same with owning places: the link of `a` is empty when `b` has moved on.
#[test]
fn a_reader_on_a_replaced_object_finds_its_places_empty() {
    domain! { enum Tests {} = BY_NUMBERS; }
    struct Node(Canary, AtomicBox<Node, Tests>);
    let deaths = Arc::default();
    let b = Box::new(Node(Canary::new(&deaths), AtomicBox::null()));
    let head = AtomicBox::from(Box::new(Node(Canary::new(&deaths), AtomicBox::from(b))));
    let a = head.load().expect("not null");
    let b = a.1.take().expect("not null");
    drop(head.put_back(b));
    drop(head.take());
    assert_eq!(reclaim::<Tests>(), (1, 1));
    a.0.assert_alive();
    assert!(a.1.load().is_none());
}

/// Nothing is inserted behind a removed node. No node is unlinked twice, or before it is removed.
#[test]
fn a_chain_refuses_what_would_break_it() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    let chain = two::<Tests>(&deaths);
    let node = || match Place::First(&chain).follow(HazardPointer::new()) {
        Follow::To(node) => node,
        other => panic!("{other:?}"),
    };
    assert!(!Place::First(&chain).unlink(&node()), "not removed yet");
    let (a, again) = (node(), node());
    assert!(a.freeze() && !a.freeze() && !again.freeze());
    assert!(Place::First(&chain).unlink(&a));
    assert!(!Place::First(&chain).unlink(&again));
    let b = node();
    assert!(Place::After(a).insert(Some(&b), NewNode::new(Canary::new(&deaths))).is_err());
    assert!(Place::First(&chain).insert(None, NewNode::new(Canary::new(&deaths))).is_err());
    // A guard of another chain is nowhere in this one.
    let other = two::<Tests>(&deaths);
    let Follow::To(foreign) = Place::First(&other).follow(HazardPointer::new()) else {
        panic!("empty")
    };
    assert!(
        Place::First(&chain).insert(Some(&foreign), NewNode::new(Canary::new(&deaths))).is_err()
    );
    foreign.freeze();
    assert!(!Place::First(&chain).unlink(&foreign));
}

#[test]
fn a_cursor_searches_on_when_what_it_stood_on_was_removed() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    let chain = two::<Tests>(&deaths);
    let mut reader = chain.cursor();
    reader.seek(|_| false).expect("a node");
    remove_first(&chain);
    remove_first(&chain);
    assert_eq!(reclaim::<Tests>(), (1, 1));
    reader.get().expect("protected").assert_alive();
    assert!(!reader.remove(), "another was first");
    assert!(reader.insert(NewNode::new(Canary::new(&deaths))).is_err());
    assert!(reader.seek(|_| true).is_none());
    assert!(!reader.remove(), "it is at the end");
    assert!(chain.cursor().into_guard().is_none(), "it has not sought");
    assert!(reader.insert(NewNode::new(Canary::new(&deaths))).is_ok());
}

#[test]
fn what_was_replaced_is_retired_with_its_weight_or_deferred() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    let source = AtomicBox::<Canary, Tests>::from(Canary::boxed(&deaths));
    let replace = || source.swap(Some(Canary::boxed(&deaths))).expect("not null");
    replace().retire_weighing(1000);
    assert_eq!(Tests::domain().stats().waiting_bytes, 1000);
    // So many that a retire would have freed some.
    (0..10_000).for_each(|_| replace().retire_deferred());
    assert_eq!(deaths.load(Relaxed), 0);
    assert_eq!(Tests::domain().stats().waiting_bytes, 1000 + 10_000 * size_of::<Canary>());
    assert_eq!(reclaim::<Tests>(), (10_001, 0));
}

/// A guard keeps its object when the place is gone, and may be anywhere.
#[test]
fn a_guard_of_its_own_is_returned_kept_and_sent() {
    domain! { enum Tests {} = BY_NUMBERS; }
    struct Keeps(Protected<Canary, Tests>);
    fn load(source: &AtomicBox<Canary, Tests>) -> Option<Protected<Canary, Tests>> {
        source.load()
    }
    let deaths = Arc::default();
    let source = AtomicBox::from(Canary::boxed(&deaths));
    let keeps = Keeps(load(&source).expect("not null"));
    drop(source);
    std::thread::spawn(move || {
        assert_eq!(reclaim::<Tests>(), (0, 1));
        keeps.0.assert_alive();
    })
    .join()
    .expect("no panic");
    assert_eq!(reclaim::<Tests>(), (1, 0));
}

#[test]
fn a_loop_returns_what_it_finds_by_one_hazard_pointer() {
    fn large<'h>(sources: &[AtomicBox<u32>], mut hazard: &'h mut HazardPointer) -> Option<&'h u32> {
        for source in sources {
            match hazard.protect_if(source, |value| *value > 100) {
                Ok(value) => return Some(value),
                Err(back) => hazard = back,
            }
        }
        None
    }
    let sources = [AtomicBox::from(Box::new(7)), AtomicBox::null(), AtomicBox::from(Box::new(700))];
    assert_eq!(large(&sources, &mut HazardPointer::new()), Some(&700));
    assert_eq!(large(&sources[..2], &mut HazardPointer::new()), None);
}

#[test]
fn a_walk_hand_over_hand_needs_two_guards() {
    struct Node(u32, AtomicBox<Node>);
    let last = AtomicBox::from(Box::new(Node(2, AtomicBox::null())));
    let head = AtomicBox::from(Box::new(Node(1, last)));
    let mut here = head.load().expect("not null");
    while let Some(next) = here.1.load() {
        here = next;
    }
    assert_eq!(here.0, 2);
}

#[test]
fn an_exchange_is_for_those_who_have_seen_the_object() {
    let source = AtomicBox::<u32>::null();
    assert!(source.compare_exchange(None, Some(Box::new(1))).is_ok_and(|old| old.is_none()));
    let one = source.load();
    assert_eq!(source.compare_exchange(None, Some(Box::new(2))).err(), Some(Some(Box::new(2))));
    let old = source.compare_exchange(one.as_deref(), Some(Box::new(2))).expect("seen");
    assert_eq!(old.as_deref(), Some(&1));
    assert!(source.compare_exchange(one.as_deref(), None).is_err());
}

/// What was in a place goes into one that holds what was seen, and comes back from one that does not.
#[test]
fn what_was_in_a_place_is_put_back_into_one_that_holds_what_was_seen() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    let [one, other] = [(); 2].map(|()| AtomicBox::<_, Tests>::from(Canary::boxed(&deaths)));
    let seen = other.load();
    let object = one.take().expect("not null");
    let address = std::ptr::from_ref(&*object);
    let back = other.compare_and_put_back(None, object).expect_err("not empty");
    let old = other.compare_and_put_back(seen.as_deref(), back).expect("seen");
    assert_eq!(other.as_ptr().cast_const(), address);
    let back = other.compare_and_put_back(seen.as_deref(), old.expect("not null"));
    drop((back.expect_err("replaced meanwhile"), seen));
    assert_eq!(reclaim::<Tests>(), (1, 0));
    drop((one, other));
    assert_eq!(reclaim::<Tests>(), (1, 0));
}

#[test]
fn a_cell_made_of_a_static_frees_all_but_that() {
    domain! { enum Tests {} = BY_NUMBERS; }
    static FIRST: u32 = 3;
    let cell = HazardCell::<u32, Tests>::from_static(&FIRST);
    drop(cell.swap(4));
    assert_eq!(reclaim::<Tests>(), (0, 0), "the static is not retired");
    drop(cell.swap(5));
    assert_eq!(reclaim::<Tests>(), (1, 0));
    assert_eq!(cell.into_inner(), Some(5));
    assert_eq!(HazardCell::<u32, Tests>::from_static(&FIRST).into_inner(), None);
}

#[test]
fn hazard_pointers_and_guards_are_small() {
    const WORD: usize = size_of::<usize>();
    assert_eq!(size_of::<HazardPointer>(), WORD);
    assert_eq!(size_of::<Option<HazardPointer>>(), WORD);
    assert_eq!(size_of::<Option<Protected<u64>>>(), 2 * WORD);
    assert_eq!((size_of::<AtomicBox<u64>>(), size_of::<Chain<u64>>()), (WORD, WORD));
}

#[test]
fn a_tag_leaves_the_address_and_the_other_tags_alone() {
    /// Three bits on every processor.
    #[repr(align(8))]
    struct Aligned;

    let link = Link::<Aligned>::null();
    assert_eq!(link.fetch_or(2).tag(), 0);
    assert_eq!(link.fetch_or(4).tag(), 2);
    assert!(!link.load().is_frozen());
    assert_eq!(link.fetch_or(Link::<Aligned>::FROZEN).tag(), 6);
    assert!(link.load().is_frozen());
    let tagged = link.load();
    assert_eq!(tagged.tag(), 6 | Link::<Aligned>::FROZEN);
    assert!(tagged.as_ptr().is_null());
    assert_eq!(tagged.with_tag(usize::MAX).tag(), Tagged::<Aligned>::TAGS);
    assert!(tagged.with_tag(0) == Tagged::null());
}

/// Code without `unsafe` can make a cohort and reclaim it, but retire nothing to it.
#[test]
fn a_cohort_of_nothing_has_nothing_to_reclaim() {
    let done = Cohort::<asymfence_hazard::Global>::new(1).reclaim().expect("no fence needed");
    assert_eq!((done.freed, done.kept), (0, 0));
}

/// The static would be freed as a box.
#[test]
#[should_panic(expected = "never in a box")]
fn what_was_never_in_a_box_is_not_put_into_a_place() {
    domain! { enum Tests {} = BY_NUMBERS; }
    static FIVE: u64 = 5;
    let cell = HazardCell::<u64, Tests>::from_static(&FIVE);
    let place = AtomicBox::<u64, Tests>::null();
    _ = place.put_back(cell.swap(6));
}

/// The twin: what came from a box, by the same cell.
#[test]
fn what_a_cell_had_in_a_box_is_put_into_a_place() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let cell = HazardCell::<u64, Tests>::new(5);
    let place = AtomicBox::<u64, Tests>::null();
    assert!(place.put_back(cell.swap(6)).is_none());
    assert_eq!(place.load().as_deref(), Some(&5));
}

#[test]
fn thresholds_at_their_ends_are_fine() {
    const COUNT: usize = if cfg!(miri) { 50 } else { 1_000 };
    domain! { enum None {} = Thresholds { objects: 0, bytes: 0, at_once: 0, ..BY_NUMBERS }; }
    domain! { enum All {} = Thresholds { objects: usize::MAX, bytes: usize::MAX, pause: Some(Duration::MAX), at_once: usize::MAX }; }
    for _ in 0..COUNT {
        None::domain().retire_box(Box::new(1));
        All::domain().retire_box(Box::new(1));
    }
    // Where one object reaches the thresholds, objects are freed soon. Where no number reaches them, all are kept.
    assert!(None::domain().stats().waiting() < COUNT);
    assert_eq!(All::domain().stats().waiting(), COUNT);
}

/// Each destructor panics, and the payload of each panic panics when it is dropped. The panic of the first destructor
/// goes on.
#[cfg(feature = "std")] // without it the first panic goes on at once
#[test]
fn panics_whose_payloads_panic_keep_nobody_from_being_freed() {
    domain! { enum Tests {} = BY_NUMBERS; }
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the payload");
        }
    }
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new(Bomb));
        }
    }
    for _ in 0..10 {
        Tests::domain().retire_box(Box::new(Panics));
    }
    let outcome = std::panic::catch_unwind(|| Tests::domain().reclaim());
    std::mem::forget(outcome.expect_err("the first panic goes on"));
    assert_eq!(Tests::domain().stats().waiting(), 0);
}
