//! Atomics, locks and threads: std's, or loom's with the feature `loom`; and the fences.
//!
//! The benches include the structures once more beside a `sync` of their own, whose fences are both
//! `fence(SeqCst)`: the symmetric twins.

pub(crate) use asymfence::{Pacer, Ticket, heavy_fence, light_fence};

#[cfg(not(feature = "loom"))]
pub(crate) use std::{hint, sync::*, thread};

#[cfg(feature = "loom")]
pub(crate) use loom::{hint, sync::*, thread};

/// A full fence.
pub(crate) fn full_fence() {
    #[cfg(not(feature = "loom"))]
    atomic::fence(atomic::Ordering::SeqCst);
    #[cfg(feature = "loom")]
    asymfence::model::fence(atomic::Ordering::SeqCst);
}
