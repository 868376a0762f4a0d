//! Atomics, locks, threads and the time: std's, or loom's with the feature `loom`; and the fences.
//!
//! The benches include the structures once more beside a `sync` of their own, whose fences are both
//! `fence(SeqCst)`: the symmetric twins.

mod waiting;

pub(crate) use waiting::{now, rest, sleep_on};

pub(crate) use asymfence::{Bias, Pacer, Ticket, heavy_fence, light_fence};

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

/// True at each 1,021st call of a thread, for what is to be asked now and then; in a model at each. (A prime: who
/// calls it for several structures in turn asks for each of them.)
#[inline]
pub(crate) fn now_and_then() -> bool {
    #[cfg(not(feature = "loom"))]
    {
        std::thread_local! {
            static LEFT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
        }
        // Not by `LocalKey::set`, which is a call: that takes as long as a full fence.
        LEFT.with(|cell| {
            let left = cell.get();
            cell.set(left.checked_sub(1).unwrap_or(1_020));
            left == 0
        })
    }
    #[cfg(feature = "loom")]
    true
}

/// How long something lives that threads share by its address. In a model a use that does not come before the end fails.
#[derive(Debug)]
pub(crate) struct Life {
    #[cfg(feature = "loom")]
    goes_on: loom::cell::UnsafeCell<bool>,
}

impl Life {
    pub(crate) fn new() -> Self {
        Life {
            #[cfg(feature = "loom")]
            goes_on: loom::cell::UnsafeCell::new(true),
        }
    }

    /// It is used.
    #[inline(always)]
    pub(crate) fn go_on(&self) {
        #[cfg(feature = "loom")]
        // SAFETY: loom fails the model if another thread ends it at the same time.
        self.goes_on.with(|goes_on| assert!(unsafe { *goes_on }, "used after it was freed"));
    }

    /// Frees it; in a model its memory stays, so that a later use is seen.
    #[inline(always)]
    pub(crate) fn end<T>(of: Box<T>, life: impl Fn(&T) -> &Life) {
        let _ = &life;
        #[cfg(feature = "loom")]
        // SAFETY: loom fails the model if another thread uses it at the same time.
        life(Box::leak(of)).goes_on.with_mut(|goes_on| unsafe { *goes_on = false });
        #[cfg(not(feature = "loom"))]
        drop(of);
    }
}
