//! Hazard pointers on the asymmetric fences (feature `hazard`, needs an allocator).
//!
//! A reader says in a slot of its own which object it is about to use, and looks again whether the
//! object is still linked. Who unlinks an object *retires* it; from time to time the retired objects are
//! *reclaimed*: those that no slot names are freed.
//!
//! ```text
//! A (store buffering)   reader                     reclaimer
//!                       slot = object              source = other      (unlinked)
//!                       light_fence()              heavy_fence()       (one for all that is retired)
//!                       source == object ?         slot == object ?
//!                       forbidden: both find what was there before
//! ```
//!
//! The reader runs millions of times a second and pays a store, a compiler barrier and a load. The
//! heavy fence is shared by a thousand objects. A reader that stops keeps only what it protects from
//! being freed, while an epoch or an RCU section keeps everything.
//!
//! ```
//! use asymfence::hazard::{AtomicPtr, Domain};
//!
//! asymfence::init(); // before there are threads
//!
//! static CONFIG: AtomicPtr<String> = AtomicPtr::null();
//! let publish = |new: &str| {
//!     // SAFETY: a box's, and freed by `retire` alone.
//!     let old = unsafe { CONFIG.swap(Box::into_raw(Box::new(new.to_owned()))) };
//!     if !old.is_null() {
//!         // SAFETY: from a box, and unlinked by the swap, by us alone.
//!         unsafe { Domain::global().retire(old) };
//!     }
//! };
//!
//! publish("one");
//! let mut hazard = Domain::global().hazard_pointer();
//! let config = hazard.protect(&CONFIG).expect("published");
//! publish("two");
//! assert_eq!(config, "one"); // retired, and not freed
//! ```
//!
//! Modelled on C++26's `std::hazard_pointer` (P2530) and folly's hazptr; the method is Maged Michael's
//! (IEEE TPDS 15(6), 2004). `examples/hazard` has a stack, a queue and a read-mostly cell.

mod domain;
mod pointer;
mod retired;
mod slots;
mod thread;

pub use domain::{Domain, Reclaimed, Stats};
pub use pointer::{AtomicPtr, HazardPointer};

/// Tells domains apart: a type of your own for each, so that a pointer into one cannot be protected by a
/// hazard pointer of another. See [`Domain`].
pub trait Family {}

/// The family of [`Domain::global`], which has no other domain.
#[derive(Clone, Copy, Debug)]
pub enum Global {}
