//! Hazard pointers whose readers execute no fence instruction, on the asymmetric fences of [`asymfence`].
//!
//! A reader writes the address of the object that it is about to use into a slot of its own. Then it checks again that
//! the object is still linked. A writer that unlinks an object *retires* it. From time to time the retired objects are
//! *reclaimed*: the objects whose address is in no slot are freed. This is *store buffering*: each side stores, fences,
//! and loads what the other side stores.
//!
//! ```text
//! A (store buffering)   reader                     reclaimer
//!                       slot = object              source = other      (unlinked)
//!                       light_fence()              heavy_fence()       (one for all that is retired)
//!                       source == object ?         slot == object ?
//!                       forbidden: the reader finds the object still linked, and the reclaimer does not find it
//!                                  in the slot
//! ```
//!
//! The reader runs millions of times a second: a store, a light fence (a load, a compare and a branch, and no fence
//! instruction) and a load. While threads retire fast, a thousand objects share one heavy fence. A stalled reader keeps
//! one object from being freed. With epochs or RCU, two other ways to reclaim, one stalled reader keeps every object
//! that is retired meanwhile from being freed.
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
//! | [`Chain`] | lists, and structures made of lists | nothing |
//! | [`Link`], [`Tagged`] | structures of another shape | writing a link, retiring |
//! | [`HazardPointer::protect_raw`] | structures whose links are atomics of their own | dereferencing, retiring |
//! | [`Cohort`] | garbage that is freed with its structure, and may hold references that are not `'static` | retiring |
//!
//! Each but [`Tagged`] belongs to a [`Domain`]: that of the process, or one of your own. The domain has the slots and
//! the retired objects. The last type parameter of these types, the [`Family`], says which: see [`domain!`]. Its
//! default, [`Global`], is that of the process. Rust uses the default only where the type is written: in a field, in a
//! `static`, or as `HazardCell::<String>::new(..)`. An expression such as `HazardCell::new(..)` alone may not compile.
//! `examples/structures` has a list and a hash map without `unsafe`. It also has a stack and a queue, which use
//! `unsafe` inside because they hand out their values by move.
//!
//! # Coming from another crate
//!
//! | there | here |
//! | --- | --- |
//! | haphazard `HazardPointer::new`, `new_in_domain` | [`HazardPointer::new`]: a type parameter, the [`Family`], names the domain |
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
//! | arc-swap `Cache` | [`HazardCell::load_with`], [`HazardPointer::protect_again`] |
//! | arc-swap `load_full` | nothing: a value has no reference count, so there is no `Arc` to take out |
//!
//! An epoch protects every object that a thread reaches while it is pinned. A hazard pointer protects one object. After
//! each step to the next object the reader must check that the link it followed is still live. [`Follow::Frozen`]
//! reports that it is not.
//!
//! # C++26
//!
//! Modelled on `std::hazard_pointer` (P2530R3) and folly's hazptr; the method is Maged Michael's (IEEE TPDS 15(6),
//! 2004).
//!
//! | P2530 | here |
//! | --- | --- |
//! | `hazard_pointer_obj_base<T, D>` | no base class: any object, [`Domain::retire_with`] for a deleter |
//! | `retire()`, `retire(d)` | [`Domain::retire`], [`Domain::retire_with`] |
//! | `make_hazard_pointer()` | [`HazardPointer::new`] |
//! | `hazard_pointer()`, `empty()` | `Option<HazardPointer>`, which is one word too |
//! | `protect(src)` | [`HazardPointer::protect`], [`HazardPointer::protect_link`] |
//! | `try_protect(ptr, src)` | [`HazardPointer::try_protect`] |
//! | `reset_protection(ptr)` | [`HazardPointer::protect_raw`] |
//! | `reset_protection()` | [`HazardPointer::reset_protection`] |
//! | `swap` | `core::mem::swap` |
//! | moves, the destructor | moves, `Drop` |
//! | cohorts, synchronous reclamation (P3135) | [`Cohort`] |
//! | batches of hazard pointers (P3428) | [`HazardPointer::array`] |
//!
//! There is no base class: Rust has no inheritance, and an object that had to contain a list node could not be of a
//! foreign type. A domain for each instance, as folly's `hazptr_domain`, is left out: a hazard pointer would have to
//! carry its domain, or check it at each protection. Here the family, a type, names the domain. A [`Cohort`] keeps the
//! garbage of one instance apart.
//!
//! # How much garbage there can be
//!
//! Let `H` be the number of hazard pointers, `T` the number of threads that retire, and `E` the larger of `1,024·T` and
//! `H`.
//!
//! - Objects: at most `4·E + H` wait, if heavy fences are not slow. When hazard pointers are dropped, `H` falls, and
//!   later retires free what waited under the greater `H`.
//! - Bytes, as far as the domain was told the sizes: at most 32 MiB wait, plus 8 MiB for each heavy fence that is under
//!   way, plus what is protected, plus the last four objects of each thread.
//! - Time: if a retire comes a millisecond or more after the last heavy fence, and its thread has retired something
//!   earlier that still waits, this retire and the following ones free it. After a slow heavy fence this millisecond
//!   becomes longer: 128 times as long as that fence took, if that is more than a millisecond, but at most a tenth of a
//!   second. After a burst of fast retires a thread reads the clock late, at one retire in 32.
//!
//! Each domain can have its own numbers ([`Thresholds`]). [`Domain`] says what these counts leave out.
//!
//! # Limits
//!
//! The crate needs an allocator. On x86-64 it executes `prefetchw`. Intel's first 64-bit processors (the Pentium 4 and
//! Xeon of 2004 and 2005) do not have that instruction, so it does not run on them. [The limits] of the fences say what
//! every promise assumes. Models use the feature `loom`, as [the fences' guide] says; with it the constructors are not
//! `const fn`, so a `static` of these types does not compile. With `std`, the first call of a thread for a domain
//! registers a destructor of a thread-local with the C library, which may take a lock: glibc takes that of dlopen(3).
//! What these pages say of waiting does not count that lock. A signal handler may protect an object by a hazard pointer
//! that was created before. It must not create or drop one, as `load` does, and must not retire. A global allocator,
//! and a hook that it calls, may create and drop hazard pointers, and may retire. (A thread keeps what it has retired
//! in a queue, its *ring*: see [`Domain`]. If a retire allocates, and the allocator retires meanwhile, the inner retire
//! puts its object into another ring. A retire may allocate, so the allocator must see to it that it does not call
//! itself for ever.) In a destructor one may retire. If a destructor runs in a coroutine and suspends it, the thread
//! that ran the destructor frees nothing of the domain until the coroutine continues or is dropped. A coroutine with a
//! stack of its own that creates or drops a hazard pointer, loads from a cell, or retires, must not continue in another
//! thread: the compiler may assume that the coroutine is still in the thread in which it was before (see [the limits]).
//! With the feature `std` a retire or a reclaim reads the clock, by an instruction that prctl(PR_SET_TSC) can forbid to
//! a thread: then it gets SIGSEGV. If [`Thresholds::pause`] is `None`, a thread reads the clock only while it waits for
//! another thread: for one that takes objects out of a ring or frees them, or for one that executes a heavy fence (see
//! [`asymfence::heavy_fence`]). This holds for the thread of `reclaim_in_background` too, whose sleep reads no clock on
//! Linux and Android. A child of fork(2) can continue to use everything: see [`Domain`].
//!
//! [the fences' guide]: https://docs.rs/asymfence/latest/asymfence/guide/checking_under_loom/
//! [the limits]: https://docs.rs/asymfence/latest/asymfence/guide/limits/

#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

// In all files: `survives:` says why no test fails if `cargo xtask mutants` weakens the ordering or the fence on the next
// line, and `guard survives:` why none fails if it changes the next condition, bound, `?` or `else` (CONTRIBUTING.md).

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
mod freed;
mod item;
mod link;
mod noted;
mod panics;
mod pointer;
mod prefetch;
mod protected;
#[cfg(feature = "std")]
mod reclaimer;
#[cfg(doctest)]
mod rejected;
mod replaced;
mod retire;
mod retired;
mod ring;
mod slots;
mod sync;
mod thread;
#[cfg(all(feature = "std", not(feature = "loom")))]
mod threads;
mod thresholds;
mod untyped;

pub use atomic_box::AtomicBox;
pub use cell::{CellGuard, HazardCell};
pub use chain::{Chain, Cursor, NewNode, NodeGuard, Place};
pub use cohort::{Cohort, CohortStats};
pub use domain::Domain;
pub use family::{Family, Global};
pub use link::{Follow, Frozen, Link, Tagged};
pub use pointer::HazardPointer;
pub use protected::Protected;
pub use replaced::Replaced;
pub use thresholds::Thresholds;
pub use untyped::{DomainStats, Reclaimed};

/// For the expansion of the macro [`domain!`].
#[doc(hidden)]
pub mod __private {
    pub use crate::domain::Domain;
    pub use crate::family::Family;
    pub use crate::thread::{End, Local};
    pub use crate::thresholds::Thresholds;
    #[cfg(feature = "loom")]
    pub use loom;
    #[cfg(feature = "std")]
    pub extern crate std;
}
