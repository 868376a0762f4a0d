//! Hazard pointers on the asymmetric fences of [`asymfence`]. They need an allocator.
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
//! use asymfence_hazard::{AtomicPtr, Domain};
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
//! (IEEE TPDS 15(6), 2004). `examples/structures` has a stack, a queue and a read-mostly cell.

#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod domain;
mod family;
mod pointer;
mod retired;
mod slots;
mod sync;
mod thread;

pub use domain::{Domain, Reclaimed, Stats};
pub use family::{Family, Global};
pub use pointer::{AtomicPtr, HazardPointer};
