//! Two sides that must not both win: the owner of a slot takes it cheaply, another with a heavy fence.

#[cfg(lock_loom)]
use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
#[cfg(not(lock_loom))]
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[derive(Debug)]
pub struct Slot {
    owner: AtomicBool,
    other: AtomicBool,
}

impl Slot {
    #[allow(clippy::new_without_default, reason = "nobody needs one here")]
    pub fn new() -> Self {
        Slot { owner: AtomicBool::new(false), other: AtomicBool::new(false) }
    }

    /// Whether the owner has it.
    pub fn take_as_owner(&self) -> bool {
        self.owner.store(true, Relaxed);
        // Pairs with: the heavy fence in `take`. The mutant has none.
        if !cfg!(feature = "mutant") {
            asymfence::light_fence();
        }
        !self.other.load(Relaxed)
    }

    /// Whether the other has it.
    pub fn take(&self) -> bool {
        self.other.store(true, Relaxed);
        // Pairs with: the light fence in `take_as_owner`.
        asymfence::heavy_fence();
        !self.owner.load(Relaxed)
    }
}
