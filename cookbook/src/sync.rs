//! Atomics, locks and threads: std's, or loom's under `cfg(loom)`; and the fences.
//!
//! The benches include the structures once more beside a `sync` of their own, whose fences are both
//! `fence(SeqCst)`: the symmetric twins.

pub(crate) use asymfence::{heavy_fence, light_fence};

#[cfg(not(loom))]
pub(crate) use std::{hint, sync::*, thread};

#[cfg(loom)]
pub(crate) use loom::{hint, sync::*, thread};
