//! What the documentation of families, places, cells, guards and links says in passing: each with its twin.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use asymfence_hazard::{
    AtomicBox, Chain, Family, Follow, HazardCell, HazardPointer, Link, NewNode, Place, Protected,
    Tagged, domain,
};

use crate::{BY_NUMBERS, Canary, reclaim, replace};

fn address<F: Family>() -> usize {
    ptr::from_ref(F::domain()).addr()
}

#[test]
fn a_family_has_one_domain_in_all_threads_and_no_other_family_has_it() {
    domain! { enum Tests {} = BY_NUMBERS; }
    domain! { enum Others {} = BY_NUMBERS; }
    let here = address::<Tests>();
    let there = thread::spawn(address::<Tests>).join().expect("no panic");
    assert_eq!(here, there);
    assert_ne!(here, address::<Others>());
}

/// An object that owns the next one.
struct Owner {
    _canary: Canary,
    next: AtomicBox<Owner, Owners>,
}

domain! { enum Owners {} = BY_NUMBERS; }

/// A chain of so many owners.
fn owners(count: usize, deaths: &Arc<AtomicUsize>) -> AtomicBox<Owner, Owners> {
    (0..count).fold(AtomicBox::null(), |next, _| {
        AtomicBox::from(Box::new(Owner { _canary: Canary::new(deaths), next }))
    })
}

fn reclaim_once() -> usize {
    Owners::domain().reclaim().expect("a heavy fence").freed
}

#[test]
fn a_retired_chain_of_owners_takes_a_reclaim_for_each_and_one_taken_from_the_front_takes_one() {
    const COUNT: usize = 5;
    let deaths = Arc::default();
    drop(owners(COUNT, &deaths));
    for freed in 1..=COUNT {
        assert_eq!((reclaim_once(), deaths.load(Relaxed)), (1, freed));
    }
    assert_eq!(reclaim_once(), 0);
    // At once, where all is to be reclaimed.
    drop(owners(COUNT, &deaths));
    assert_eq!(reclaim::<Owners>(), (COUNT, 0));
    // The twin: out from the front, so that each is in no other.
    let head = owners(COUNT, &deaths);
    while let Some(first) = head.take() {
        if let Some(next) = first.next.take() {
            assert!(head.put_back(next).is_none());
        }
    }
    assert_eq!(reclaim_once(), COUNT);
}

#[test]
fn what_is_put_into_an_owner_that_was_removed_is_freed_with_it() {
    domain! { enum Tests {} = BY_NUMBERS; }
    struct Node(AtomicBox<Canary, Tests>);
    let deaths = Arc::default();
    let root = AtomicBox::<Node, Tests>::from(Box::new(Node(AtomicBox::null())));
    let owner = root.load().expect("not null");
    drop(root.take());
    assert!(owner.0.compare_exchange(None, Some(Canary::boxed(&deaths))).is_ok());
    drop(owner);
    assert_eq!((reclaim::<Tests>(), deaths.load(Relaxed)), ((2, 0), 1));
    // The twin: a node of a chain refuses, since it is frozen.
    let chain = Chain::<u32, Tests>::new();
    assert!(Place::First(&chain).insert(None, NewNode::new(1)).is_ok());
    let Follow::To(node) = Place::First(&chain).follow(HazardPointer::new()) else { panic!() };
    assert!(node.freeze() && Place::First(&chain).unlink(&node));
    assert!(Place::After(node).insert(None, NewNode::new(2)).is_err());
}

#[test]
fn an_address_is_not_reused_while_what_is_to_be_exchanged_is_borrowed() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    let place = AtomicBox::<Canary, Tests>::from(Canary::boxed(&deaths));
    let seen = place.load();
    for _ in 0..if cfg!(miri) { 10 } else { 100 } {
        replace(&place, &deaths);
        reclaim::<Tests>();
        assert!(place.compare_exchange(seen.as_deref(), None).is_err());
    }
    // The twin: objects of no size share an address.
    let place = AtomicBox::<(), Tests>::from(Box::new(()));
    let seen = place.load();
    place.store(Box::new(()));
    assert!(place.compare_exchange(seen.as_deref(), None).is_ok());
}

#[test]
fn a_dropped_cell_frees_its_value_at_once_and_a_dropped_place_retires_it() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    drop(HazardCell::<Canary, Tests>::new(Canary::new(&deaths)));
    assert_eq!(deaths.load(Relaxed), 1);
    drop(AtomicBox::<Canary, Tests>::from(Canary::boxed(&deaths)));
    assert_eq!(deaths.load(Relaxed), 1);
    assert_eq!((reclaim::<Tests>(), deaths.load(Relaxed)), ((1, 0), 2));
}

#[test]
fn a_dropped_link_frees_nothing_and_a_dropped_chain_all() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let deaths = Arc::default();
    let object = Tagged::from(Canary::boxed(&deaths));
    {
        let link = Link::<Canary, Tests>::null();
        // SAFETY: freed below, when the link is gone.
        unsafe { link.store(object) };
    }
    assert_eq!((reclaim::<Tests>(), deaths.load(Relaxed)), ((0, 0), 0));
    // SAFETY: from a box, and nobody else has it.
    drop(unsafe { Box::from_raw(object.as_ptr()) });
    assert_eq!(deaths.load(Relaxed), 1);

    let chain = Chain::<Canary, Tests>::new();
    for before in [false, true] {
        let mut cursor = chain.cursor();
        cursor.seek(|_| before);
        assert!(cursor.insert(NewNode::new(Canary::new(&deaths))).is_ok());
    }
    drop(chain);
    assert_eq!(deaths.load(Relaxed), 3);
}

#[test]
fn a_guard_of_a_part_keeps_the_whole_object() {
    domain! { enum Tests {} = BY_NUMBERS; }
    trait Lives: Send + Sync {
        fn assert_alive(&self);
    }
    impl Lives for (Canary, Option<u32>) {
        fn assert_alive(&self) {
            self.0.assert_alive();
        }
    }
    let deaths = Arc::default();
    let object: Box<dyn Lives> = Box::new((Canary::new(&deaths), None));
    let place = AtomicBox::<Box<dyn Lives>, Tests>::from(Box::new(object));
    let part: Protected<dyn Lives, Tests> =
        Protected::map(place.load().expect("not null"), |object| &**object);
    drop(place);
    assert_eq!(reclaim::<Tests>(), (0, 1));
    part.assert_alive();
    // Also where the part is not there, and the guard comes back.
    let part = Protected::try_map(part, |_| None::<&u32>).expect_err("it has none");
    assert_eq!(reclaim::<Tests>(), (0, 1));
    part.assert_alive();
    // The twin: the guard is gone, or what is left of it.
    drop(part.into_hazard());
    assert_eq!((reclaim::<Tests>(), deaths.load(Relaxed)), ((1, 0), 1));
}

/// It may be frozen again, and no exchange changes it.
#[test]
fn a_frozen_link_stays_as_it_is() {
    domain! { enum Tests {} = BY_NUMBERS; }
    let link = Link::<u64, Tests>::null();
    assert!(!link.freeze().is_frozen());
    let frozen = link.load();
    let new = Tagged::from(Box::new(7));
    // SAFETY: it holds null and is frozen, so the exchange fails and nothing is linked.
    assert!(unsafe { link.compare_exchange(Tagged::null(), new) }.is_err());
    assert!(link.freeze().is_frozen() && link.load() == frozen);
    assert!(matches!(HazardPointer::new().follow(&link), Follow::Frozen(_)));
    // The twin: one that is not frozen.
    let link = Link::<u64, Tests>::null();
    // SAFETY: unlinked and freed below.
    assert!(unsafe { link.compare_exchange(Tagged::null(), new) }.is_ok());
    assert!(matches!(HazardPointer::new().follow(&link), Follow::To(seven) if *seven == 7));
    // SAFETY: null is no object.
    let old = unsafe { link.swap(Tagged::null()) };
    // SAFETY: from a box, and unlinked; no guard of it is left.
    drop(unsafe { Box::from_raw(old.as_ptr()) });
}
