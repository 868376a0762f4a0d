//! Sees in a model what loom cannot: an object that is freed while a hazard pointer protects it, or
//! protected after it was freed. Knows the truth, of which the threads of the model have their views.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::thread_local;

#[derive(Default)]
struct Witness {
    /// What each slot protects by a look that found it linked.
    in_use: BTreeMap<usize, usize>,
    /// Addresses whose objects were freed, until they are linked again.
    freed: BTreeSet<usize>,
}

thread_local! {
    /// loom runs all threads of a model on one thread of the system.
    static WITNESS: RefCell<Witness> = RefCell::default();
}

fn see<T>(what: impl FnOnce(&mut Witness) -> T) -> T {
    WITNESS.with_borrow_mut(what)
}

/// A model begins.
pub(crate) fn forget() {
    see(|witness| *witness = Witness::default());
}

/// The object is valid.
pub(crate) fn linked<T>(object: *mut T) {
    see(|witness| witness.freed.remove(&object.addr()));
}

/// A reader has protected the object, and may use it from now on.
pub(crate) fn used<T>(slot: usize, object: *mut T) {
    let freed = see(|witness| {
        witness.in_use.insert(slot, object.addr());
        witness.freed.contains(&object.addr())
    });
    assert!(!freed, "protected after it was freed");
}

/// The reader uses it no more.
pub(crate) fn left(slot: usize) {
    see(|witness| witness.in_use.remove(&slot));
}

/// The object is about to be freed.
pub(crate) fn freed<T>(object: *mut T) {
    let used = see(|witness| {
        witness.freed.insert(object.addr());
        witness.in_use.values().any(|&used| used == object.addr())
    });
    assert!(!used, "freed while it is protected");
}
