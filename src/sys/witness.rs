//! Finds in a model of a reclaimer what loom does not: an object that is freed while it is protected, or protected after
//! it was freed.
//!
//! loom fails a model if two accesses race. It does not find a use after free that no access of the program shows. A
//! reclaimer reports to the witness which address it links, protects, uses and frees. The model fails if the reports of
//! the reader and of the reclaimer contradict each other.
//!
//! The record lasts for one execution. A report orders nothing, and loom does not switch threads at it, so it hides no
//! execution. Report directly beside the access, without a loom operation in between.
//!
//! ```
//! # #[cfg(feature = "loom")] {
//! use asymfence::model::{model, witness};
//! use asymfence::{heavy_fence, light_fence};
//! use loom::sync::Arc;
//! use loom::sync::atomic::{AtomicUsize, Ordering::{Acquire, Relaxed, Release}};
//!
//! /// A cell whose value has the address 16 at first, and one hazard pointer, the slot 0.
//! fn read_and_free(writers_fence: fn()) {
//!     const OLD: *const u64 = std::ptr::without_provenance(16);
//!     witness::linked(OLD);
//!     let [source, hazard] = [OLD.addr(), 0].map(|address| Arc::new(AtomicUsize::new(address)));
//!     let reader = {
//!         let (source, hazard) = (source.clone(), hazard.clone());
//!         loom::thread::spawn(move || {
//!             let found = source.load(Acquire);
//!             hazard.store(found, Relaxed);
//!             light_fence(); // pairs with the writer's fence
//!             if found != 0 && source.load(Acquire) == found {
//!                 witness::used(0, std::ptr::without_provenance::<u64>(found));
//!             }
//!             hazard.store(0, Release);
//!             witness::left(0);
//!         })
//!     };
//!     source.store(0, Release);
//!     writers_fence();
//!     if hazard.load(Acquire) != OLD.addr() {
//!         witness::freed(OLD);
//!     }
//!     reader.join().unwrap();
//! }
//!
//! model(|| read_and_free(heavy_fence));
//!
//! let mutant = std::panic::catch_unwind(|| model(|| read_and_free(light_fence)));
//! assert!(mutant.is_err(), "the mutant must fail");
//! # }
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct Witness {
    /// For each slot the object that its reader has protected and has then found to be still linked.
    in_use: BTreeMap<usize, usize>,
    /// Addresses whose objects were freed, until they are linked again.
    freed: BTreeSet<usize>,
}

/// Asks the witness of the execution that runs; `None` if it has failed.
#[track_caller]
fn see<T>(what: impl FnOnce(&mut Witness) -> T) -> Option<T> {
    if std::thread::panicking() {
        return None;
    }
    let key = core::any::TypeId::of::<Witness>();
    let witness = super::modelled::global(key, RefCell::<Witness>::default);
    Some(what(&mut witness.borrow_mut()))
}

/// The object is valid from now on: call it before a link gets the address. An address that was freed
/// may come back.
#[track_caller]
pub fn linked<T>(object: *const T) {
    see(|witness| witness.freed.remove(&object.addr()));
}

/// The reader that has `slot` has protected the object, and may use it from now on. `slot` is a number that
/// no other reader has at this time: the address of its hazard pointer, say. A slot protects one object at a
/// time.
///
/// # Panics
///
/// If the object was freed: the model has found a use after free.
#[track_caller]
pub fn used<T>(slot: usize, object: *const T) {
    let freed = see(|witness| {
        witness.in_use.insert(slot, object.addr());
        witness.freed.contains(&object.addr())
    });
    assert!(freed != Some(true), "protected after it was freed");
}

/// The reader that has `slot` does not use its object any more.
#[track_caller]
pub fn left(slot: usize) {
    see(|witness| witness.in_use.remove(&slot));
}

/// The object is about to be freed.
///
/// # Panics
///
/// If a slot protects it: the model has found a use after free.
#[track_caller]
pub fn freed<T>(object: *const T) {
    let used = see(|witness| {
        witness.freed.insert(object.addr());
        witness.in_use.values().any(|&used| used == object.addr())
    });
    assert!(used != Some(true), "freed while it is protected");
}
