//! A flag that one thread checks and another raises. The one that raises it learns whether the other is in the middle of
//! a check.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering::*};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering::*};

#[derive(Debug)]
pub struct Flag {
    raised: AtomicBool,
    inside: AtomicBool,
}

impl Flag {
    #[allow(clippy::new_without_default, reason = "nobody needs one here")]
    pub fn new() -> Self {
        Flag { raised: AtomicBool::new(false), inside: AtomicBool::new(false) }
    }

    /// Runs `f` unless the flag is raised. One thread only.
    pub fn unless_raised(&self, f: impl FnOnce()) {
        self.inside.store(true, Relaxed);
        // Pairs with: the heavy fence in `raise`.
        asymfence::light_fence();
        if !self.raised.load(Relaxed) {
            f();
        }
        self.inside.store(false, Release);
    }

    /// Raises the flag. Returns whether nobody is inside: if so, nobody comes in any more.
    pub fn raise(&self) -> bool {
        self.raised.store(true, Relaxed);
        // Pairs with: the light fence in `unless_raised`. The mutant's is too weak.
        if cfg!(feature = "mutant") {
            asymfence::light_fence();
        } else {
            asymfence::heavy_fence();
        }
        !self.inside.load(Acquire)
    }
}
