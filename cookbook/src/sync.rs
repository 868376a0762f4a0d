//! Atomics, locks and threads: std's, or loom's with the feature `loom`; and the fences.
//!
//! The benches include the structures once more beside a `sync` of their own, whose fences are both
//! `fence(SeqCst)`: the symmetric twins.

pub(crate) use asymfence::{heavy_fence, light_fence};

#[cfg(not(feature = "loom"))]
pub(crate) use std::{hint, sync::*, thread};

#[cfg(feature = "loom")]
pub(crate) use loom::{hint, sync::*, thread};
