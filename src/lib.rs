//! Asymmetric memory fences: [`light_fence`] for the side that runs millions of times a second, which executes no fence
//! instruction, and [`heavy_fence`] for the side that runs rarely, which makes every thread of the process execute a
//! full fence, `fence(SeqCst)`. Together the two order memory accesses as a pair of `fence(SeqCst)` does. Before the
//! process has chosen a mechanism for heavy fences, and where none works, a light fence is `fence(SeqCst)`. Where none
//! works, a heavy fence is `fence(SeqCst)` too (see [`Strategy`]).
//!
//! # The contract
//!
//! Take two threads of one process, each with a fence between its accesses. The table says whether the two fences order
//! the accesses of the first thread against the accesses of the second. For example, one thread stores to `x` and the
//! other to `y`. Then each executes its fence, and loads the other variable. If the two fences are ordered, at least
//! one of the threads sees the other's store.
//!
//! | | light | `fence(SeqCst)` | heavy |
//! | --- | --- | --- | --- |
//! | **light** | unordered | unordered | ordered |
//! | **`fence(SeqCst)`** | unordered | ordered | ordered |
//! | **heavy** | ordered | ordered | ordered |
//!
//! - `heavy_fence()` is a full fence, then one full fence in every other thread, then a full fence. Only then it
//!   returns. A light fence marks a position in its thread. The full fence that a heavy fence causes in that thread
//!   comes before that position, or after it. In a thread without a fence of its own a heavy fence orders nothing,
//!   because the compiler may move the thread's accesses across the point where it is interrupted.
//! - The accesses must be atomic, `Relaxed` or stronger, on both sides.
//! - A heavy fence in thread 2 does not order thread 1 against thread 3 if those only execute light fences.
//! - `heavy_fence` covers the threads of this process. For memory that processes share, on Linux, there is the module
//!   `cross_process`: see [between processes](guide::between_processes).
//!
//! [The specification](guide::specification) states the contract exactly, and why it holds on each platform.
//! [The limits](guide::limits) say what every promise of these pages assumes.
//!
//! # Quick start
//!
//! ```
//! use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
//!
//! static WORK: AtomicBool = AtomicBool::new(false);
//! static ASLEEP: AtomicBool = AtomicBool::new(false);
//!
//! asymfence::init(); // before the program starts threads or enters a sandbox
//!
//! // On every push:
//! WORK.store(true, Relaxed);
//! asymfence::light_fence(); // no fence instruction
//! if ASLEEP.load(Relaxed) { /* wake the other side */ }
//!
//! // Before the other side goes to sleep:
//! ASLEEP.store(true, Relaxed);
//! asymfence::heavy_fence(); // either it sees WORK, or the push sees ASLEEP
//! assert!(WORK.load(Relaxed));
//! ```
//!
//! # Fewer heavy fences
//!
//! A heavy fence takes microseconds and interrupts every thread that runs. It is due after the rare side has stored
//! something ("this object is unlinked") and before it loads what the frequent side is doing. One heavy fence serves
//! all stores before it, so operations that can wait share one:
//!
//! - [`Ticket`]: a moment. It says whether a heavy fence of any thread has come after it, so that none is needed.
//! - [`Pacer`]: counts what waits for a heavy fence, and tells a caller, usually one, when enough waits.
//! - [`Bias`]: a light and a heavy side, both of which become `fence(SeqCst)` while the heavy side is busy.
//!
//! # What is where
//!
//! | | |
//! | --- | --- |
//! | the fences | [`light_fence`], [`heavy_fence`], [`try_heavy_fence`]; [`Asymmetric`], a token whose light fence needs no check |
//! | the decision | [`init`], [`strategy()`], [`ladder`], [`force`]: which mechanism is used, and why the better ones are not |
//! | fewer heavy fences | [`Ticket`], [`Pacer`], [`Bias`], [`Coalesce`]; [`stats`] counts |
//! | memory that processes share | [between processes](guide::between_processes): the module `cross_process`, on Linux |
//! | the system call | the module `membarrier`, on Linux: each command by its name |
//! | models under loom | [`model`], feature `loom` |
//! | pages | [`guide`]: [platforms](guide::platforms), [costs](guide::costs), [limits](guide::limits), [hazard pointers](guide::hazard_pointers), [the cookbook](guide::cookbook) |
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

// In all files: `survives:` says why no test fails if `cargo xtask mutants` weakens the ordering or the fence on the next
// line, and `guard survives:` why none fails if it changes the next condition, bound, `?` or `else` (CONTRIBUTING.md).

#[cfg(any(feature = "std", feature = "loom", test, doc))]
#[macro_use]
extern crate std;

mod asymmetric;
mod bias;
mod coalesce;
mod failure;
mod fence;
#[cfg(any(doc, doctest))]
pub mod guide;
#[cfg(all(test, feature = "std"))]
#[allow(dead_code, reason = "some is for other tests")]
#[path = "../tests/it/ledger.rs"]
mod ledger;
#[cfg(all(feature = "loom", doctest))]
#[doc = include_str!("../docs/checking-under-loom.md")]
mod checking_under_loom {}
#[cfg(any(feature = "loom", doc))]
pub mod model;
mod pacer;
mod patience;
mod pause;
mod refusal;
mod strategy;
mod sync;
mod sys;
mod ticket;

sys::on_linux! {
    #[cfg(feature = "std")]
    pub mod cross_process;
    pub mod membarrier;
}

pub use asymmetric::{Asymmetric, NotAsymmetric};
pub use bias::Bias;
pub use coalesce::{Calls, Coalesce};
pub use fence::{FenceStats, HeavyFenceError, heavy_fence, light_fence, stats, try_heavy_fence};
pub use pacer::{Due, Pacer};
pub use refusal::{Call, Failure, Reason, Refusal};
pub use strategy::{
    AlreadyCommitted, ForceError, Rung, RungReport, Strategy, Verdict, force, init, ladder,
    strategy,
};
pub use ticket::Ticket;
