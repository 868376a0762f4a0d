#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(any(feature = "std", feature = "loom", test, doc))]
#[macro_use]
extern crate std;

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/adopting.md")]
pub mod adopting {}

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/checking-under-loom.md")]
pub mod checking_under_loom {}

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/large-machines.md")]
pub mod large_machines {}

mod asymmetric;
mod bias;
mod coalesce;
mod failure;
mod fence;
#[cfg(any(feature = "loom", doc))]
pub mod model;
mod pacer;
mod patience;
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

pub use asymmetric::{Asymmetric, Unsupported};
pub use bias::Bias;
pub use coalesce::{Calls, Coalesce};
pub use fence::{HeavyFenceError, Stats, heavy_fence, light_fence, stats, try_heavy_fence};
pub use pacer::{Due, Pacer};
pub use refusal::{Call, Failure, Reason, Refusal};
pub use strategy::{
    AlreadyCommitted, ForceError, Rung, RungReport, Strategy, Verdict, force, init, ladder,
    strategy,
};
pub use ticket::Ticket;
