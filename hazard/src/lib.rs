//! Hazard pointers whose readers execute no fence, on the asymmetric fences of [`asymfence`].
//!
//! A reader writes into a slot of its own which object it is about to use, and then looks again whether the
//! object is still linked. A writer that unlinks an object *retires* it. From time to time the retired objects
//! are *reclaimed*: those that no slot names are freed.
//!
//! ```text
//! A (store buffering)   reader                     reclaimer
//!                       slot = object              source = other      (unlinked)
//!                       light_fence()              heavy_fence()       (one for all that is retired)
//!                       source == object ?         slot == object ?
//!                       forbidden: both find what was there before
//! ```
//!
//! The reader runs millions of times a second: a store, a light fence (a load, a compare and a branch, and no fence
//! instruction) and a load. A thousand objects share one heavy fence. A reader that stops keeps the object that it
//! protects from being freed, while an epoch or an RCU section keeps everything.
//!
//! ```
//! #![forbid(unsafe_code)]
//! use asymfence_hazard::HazardCell;
//!
//! asymfence::init(); // before there are threads
//!
//! let config = HazardCell::<String>::new("one".to_owned());
//! let guard = config.load();
//! config.store("two".to_owned());
//! assert_eq!(*guard, "one"); // retired, and not freed
//! assert_eq!(*config.load(), "two");
//! ```
//!
//! # Which type
//!
//! | | for | unsafe to use |
//! | --- | --- | --- |
//! | [`HazardCell`] | a value that is read all the time and replaced now and then | nothing |
//! | [`AtomicBox`] | a place that may be empty; objects that own others | nothing |
//! | [`Chain`] | lists, and what is made of lists | nothing |
//! | [`Link`], [`Tagged`] | structures of another shape | to write a link, to retire |
//! | [`HazardPointer::protect_raw`] | structures whose links are atomics of their own | to dereference, to retire |
//! | [`Cohort`] | garbage that ends with its structure, and may borrow | to retire |
//!
//! Each belongs to the domain of the process, or to one of your own by its last type parameter: see [`domain!`].
//! `examples/structures` has a list and a hash map, which contain no `unsafe`, and a stack and a queue, which do.
//!
//! # Coming from another crate
//!
//! | there | here |
//! | --- | --- |
//! | haphazard `HazardPointer::new`, `new_in_domain` | [`HazardPointer::new`]: the family is a type |
//! | haphazard `AtomicPtr::safe_load`, `load` | [`HazardPointer::protect`] |
//! | haphazard `AtomicPtr::swap`, `Replaced::retire` | [`AtomicBox::swap`]; [`Replaced`] retires when it is dropped |
//! | haphazard `Domain::retire_ptr` | [`Domain::retire`], [`Domain::retire_with`] |
//! | haphazard `Domain::eager_reclaim` | [`Domain::reclaim`], [`Domain::reclaim_all`] |
//! | haphazard `unique_domain!` | [`domain!`] |
//! | crossbeam-epoch `pin` | a [`HazardPointer`] for each object that is used at a time |
//! | crossbeam-epoch `Atomic`, `Owned`, `Shared` | [`Link`], `Box`, [`Protected`] and [`Tagged`] |
//! | crossbeam-epoch `Guard::defer_destroy` | [`Domain::retire`] |
//! | crossbeam-epoch `Guard::defer` | nothing: there is no pinned period at whose end to run it |
//! | seize `Guard::protect` | [`HazardPointer::follow`] |
//! | seize `Collector::retire`, with a collector in each structure | [`Cohort::retire`] |
//! | arc-swap `ArcSwap::load`, `store`, `swap`, `rcu` | [`HazardCell`], the same names |
//! | arc-swap `Cache`, `load_full` | [`HazardCell::load_with`]; no counted reference |
//!
//! An epoch protects whatever is reached while it is pinned. A hazard pointer protects one object, and each step
//! from object to object needs a look at the link behind it: that is what [`Follow::Frozen`] is for.
//!
//! # C++26
//!
//! Modelled on `std::hazard_pointer` (P2530R3) and folly's hazptr; the method is Maged Michael's (IEEE TPDS 15(6),
//! 2004).
//!
//! | P2530 | here |
//! | --- | --- |
//! | `hazard_pointer_obj_base<T, D>` | no base class: any object, [`Domain::retire_with`] for a deleter |
//! | `retire(d)` | [`Domain::retire`] |
//! | `make_hazard_pointer()` | [`HazardPointer::new`] |
//! | `hazard_pointer()`, `empty()` | `Option<HazardPointer>`, which is one word too |
//! | `protect(src)` | [`HazardPointer::protect`], [`HazardPointer::protect_link`] |
//! | `try_protect(ptr, src)` | [`HazardPointer::try_protect`] |
//! | `reset_protection(ptr)` | [`HazardPointer::protect_raw`] |
//! | `reset_protection()` | [`HazardPointer::reset_protection`] |
//! | `swap` | `core::mem::swap` |
//! | cohorts, synchronous reclamation (P3135) | [`Cohort`] |
//! | batches of hazard pointers (P3428) | [`HazardPointer::array`] |
//!
//! # How much garbage there can be
//!
//! At most `4·E + H` objects wait, where `H` is the number of hazard pointers, and `E` the largest of 1,024, `H` and
//! 128 for each thread that retires; at most four times 8 MiB, as far as bytes are told, and what is protected; and what
//! waited when a thread retires after a pause of a millisecond is freed by that and the next retires. The numbers are a
//! domain's own ([`Thresholds`]). [`Domain`] has what is not in this count.
//!
//! # Limits
//!
//! It needs an allocator. A model takes the feature `loom`, as [the fences' guide] says; with it no constructor is a
//! `const fn`, so a `static` of these types does not compile. Signal handlers may protect, and may not retire. After a
//! fork the child goes on: see [`Domain`].
//!
//! [the fences' guide]: https://docs.rs/asymfence/latest/asymfence/guide/checking_under_loom/

#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", feature = "loom"))]
extern crate std;

mod atomic_box;
#[cfg(feature = "std")]
mod background;
mod cell;
mod chain;
mod clock;
mod cohort;
mod domain;
mod family;
mod item;
mod link;
mod panics;
mod pointer;
mod protected;
#[cfg(feature = "std")]
mod reclaimer;
mod replaced;
mod retire;
mod retired;
mod ring;
mod slots;
mod sync;
mod thread;

pub use atomic_box::AtomicBox;
pub use cell::{CellGuard, HazardCell};
pub use chain::{Chain, Cursor, Guard, NewNode, Place};
pub use cohort::Cohort;
pub use domain::{Domain, DomainStats, Reclaimed, Thresholds};
pub use family::{Family, Global};
pub use link::{Follow, Frozen, Link, Tagged};
pub use pointer::HazardPointer;
pub use protected::Protected;
pub use replaced::Replaced;

/// For what the macro [`domain!`] expands to.
#[doc(hidden)]
pub mod __private {
    pub use crate::domain::{Domain, Thresholds};
    pub use crate::family::Family;
    pub use crate::thread::{End, Local};
    #[cfg(feature = "loom")]
    pub use loom;
    #[cfg(feature = "std")]
    pub extern crate std;
}
