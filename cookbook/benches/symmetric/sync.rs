//! Symmetric fences in place of the asymmetric ones. The files of the structures are included a second time beside this.

#![allow(dead_code, unused_imports, reason = "each bench needs a part")]

use std::time::Duration;

#[path = "../../src/sync/outermost.rs"]
mod outermost;
#[path = "../../src/sync/panics.rs"]
mod panics;
#[path = "../../src/sync/waiting.rs"]
mod waiting;

pub(crate) use asymfence::{HeavyFenceError, Pacer};
pub(crate) use outermost::outermost;
pub(crate) use panics::with_each;
pub(crate) use std::sync::atomic::Ordering::SeqCst;
pub(crate) use std::{hint, sync::*, thread, thread_local};
pub(crate) use waiting::{is_over, now, rest, sleep_on};

pub(crate) const LOOM: bool = false;

pub(crate) fn is_cut_short() -> bool {
    false
}

pub(crate) fn light_fence() {
    atomic::fence(SeqCst);
}

pub(crate) fn heavy_fence() {
    atomic::fence(SeqCst);
}

pub(crate) fn full_fence() {
    atomic::fence(SeqCst);
}

/// The full fence is executed when the ticket is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket;

impl Ticket {
    pub(crate) fn now() -> Self {
        atomic::fence(SeqCst);
        Ticket
    }

    pub(crate) fn wait(self) {}
}

/// Both sides are full, and nothing ever changes.
#[derive(Debug)]
pub(crate) struct Bias;

impl Bias {
    pub(crate) fn biased(_: Duration) -> Self {
        Bias
    }

    pub(crate) fn is_biased(&self) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn light_fence(&self) -> bool {
        atomic::fence(SeqCst);
        true
    }

    pub(crate) fn heavy_fence(&self, _: fn() -> Duration) {
        atomic::fence(SeqCst);
    }

    pub(crate) fn wait(&self, _: Ticket) {
        atomic::fence(SeqCst);
    }

    pub(crate) fn try_restore_at(&self, _: Duration) -> Result<bool, HeavyFenceError> {
        Ok(false)
    }
}

pub(crate) fn now_and_then() -> bool {
    false
}

/// Never asked: the light fence of the `Bias` here always returns true, so nobody looks whether to restore a bias.
#[derive(Debug)]
pub(crate) struct NowAndThen;

impl NowAndThen {
    pub(crate) const fn new() -> Self {
        NowAndThen
    }

    pub(crate) fn is_now(&self) -> bool {
        false
    }
}

#[derive(Debug)]
pub(crate) struct Life;

impl Life {
    pub(crate) fn new() -> Self {
        Life
    }

    pub(crate) fn go_on(&self) {}

    pub(crate) fn end<T>(of: Box<T>, _: impl Fn(&T) -> &Life) {
        drop(of);
    }
}
