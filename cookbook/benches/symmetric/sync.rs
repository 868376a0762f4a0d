//! What the structures are without asymmetric fences: the same files, included once more beside these.

#![allow(dead_code, unused_imports, reason = "each bench needs a part")]

pub(crate) use asymfence::Pacer;
pub(crate) use std::sync::atomic::Ordering::SeqCst;
pub(crate) use std::{hint, sync::*, thread};

pub(crate) fn light_fence() {
    atomic::fence(SeqCst);
}

pub(crate) fn heavy_fence() {
    atomic::fence(SeqCst);
}

pub(crate) fn full_fence() {
    atomic::fence(SeqCst);
}

/// The fence stands where it is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket;

impl Ticket {
    pub(crate) fn now() -> Self {
        atomic::fence(SeqCst);
        Ticket
    }

    pub(crate) fn wait(self) {}
}
