//! What the structures are without asymmetric fences: the same files, included once more beside these.

#![allow(dead_code, unused_imports, reason = "each bench needs a part")]

pub(crate) use std::sync::atomic::Ordering::SeqCst;
pub(crate) use std::{hint, sync::*, thread};

pub(crate) fn light_fence() {
    atomic::fence(SeqCst);
}

pub(crate) fn heavy_fence() {
    atomic::fence(SeqCst);
}
