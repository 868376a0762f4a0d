//! Atomics whose relaxed stores stay in a store buffer until the thread's next light fence (the one below), exchange or
//! release, as a processor may keep them at times. These atomics always do.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{self, Ordering};

pub(crate) use crate::sync::{Acquire, Relaxed, Release, UnsafeCell, yield_now};

thread_local! {
    static BUFFER: RefCell<Vec<(Arc<atomic::AtomicBool>, bool)>> = const { RefCell::new(Vec::new()) };
}

/// Everything that is in this thread's buffer goes to memory.
pub(crate) fn drain() {
    BUFFER.take().into_iter().for_each(|(place, value)| place.store(value, Relaxed));
}

/// The light fence. It also drains the buffer, which the heavy fence of another thread would otherwise do.
pub(crate) fn light_fence() {
    drain();
    crate::fences::light_fence();
}

#[derive(Debug)]
pub(crate) struct AtomicBool(Arc<atomic::AtomicBool>);

impl AtomicBool {
    pub(crate) fn new(value: bool) -> Self {
        AtomicBool(Arc::new(value.into()))
    }

    pub(crate) fn load(&self, order: Ordering) -> bool {
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: bool, order: Ordering) {
        if order == Relaxed {
            let place = Arc::clone(&self.0);
            return BUFFER.with_borrow_mut(|buffer| buffer.push((place, value)));
        }
        drain();
        self.0.store(value, order);
    }

    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        drain();
        self.0.swap(value, order)
    }
}
