//! A reader's hot path around each fence, for `cargo xtask codegen` to read the assembly of.
//!
//! The twins without a fence are what the others are held against. They are compiled to the same accesses in the same
//! order, since a compiler neither merges nor reorders relaxed accesses to two places that may be the same place. Here
//! they may be: the caller chose both references.
#![no_std]

use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicPtr, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
    fence,
};

#[cfg(all(target_os = "linux", feature = "std"))]
use asymfence::cross_process::{AsymmetricFences, Participant};
use asymfence::{Asymmetric, light_fence};

/// What a walk goes along.
#[derive(Debug)]
pub struct Node {
    next: AtomicPtr<Node>,
}

#[inline(always)]
fn no_fence() {}

macro_rules! hot_paths {
    ($($once:ident, $walk:ident: |$proof:ident: $type:ty| $fence:expr;)*) => {$(
        /// Publishes, fences, looks again.
        #[unsafe(no_mangle)]
        pub fn $once(slot: &AtomicUsize, source: &AtomicUsize, seen: usize, $proof: $type) -> bool {
            // Relaxed: only the fence between the store and the load may order the two. In the twin without a fence
            // nothing does.
            slot.store(seen, Relaxed);
            $fence;
            source.load(Relaxed) == seen
        }

        /// The same at each step along a list. Returns how often the second look found what was published.
        #[unsafe(no_mangle)]
        pub fn $walk(slot: &AtomicPtr<Node>, head: &'static Node, $proof: $type) -> usize {
            let (mut node, mut found) = (head, 0);
            // Relaxed: nothing is ever reclaimed; the accesses are here to be compiled.
            while let Some(next) = NonNull::new(node.next.load(Relaxed)) {
                slot.store(next.as_ptr(), Relaxed);
                $fence;
                found += usize::from(node.next.load(Relaxed) == next.as_ptr());
                // SAFETY: never called; a caller would see to it that nodes live for ever.
                node = unsafe { next.as_ref() };
            }
            found
        }
    )*};
}

hot_paths! {
    once_none, walk_none: |_proof: Asymmetric| no_fence();
    once_asymmetric, walk_asymmetric: |proof: Asymmetric| proof.light_fence();
    once_light, walk_light: |_proof: Asymmetric| light_fence();
    once_full, walk_full: |_proof: Asymmetric| fence(SeqCst);
    // One light fence too many, which the comparison must find.
    once_light_twice, walk_light_twice: |_proof: Asymmetric| { light_fence(); light_fence() };
}

// Between processes.
#[cfg(all(target_os = "linux", feature = "std"))]
hot_paths! {
    once_participant, walk_participant: |me: &Participant<'_, AsymmetricFences>| me.light_fence();
}

/// A hazard pointer taken, used and given back: in the domain of the process, and in one of one's own.
#[cfg(feature = "std")]
mod domains {
    use asymfence_hazard::{AtomicBox, Family, Global, HazardPointer, domain};

    domain! {
        /// A domain of one's own.
        pub enum Own {}
    }

    #[inline(always)]
    fn take<F: Family>(source: &AtomicBox<u64, F>) -> u64 {
        HazardPointer::new().protect(source).copied().unwrap_or_default()
    }

    /// In the domain of the process.
    #[unsafe(no_mangle)]
    pub fn take_global(source: &AtomicBox<u64, Global>) -> u64 {
        take(source)
    }

    /// In one of one's own.
    #[unsafe(no_mangle)]
    pub fn take_own(source: &AtomicBox<u64, Own>) -> u64 {
        take(source)
    }

    /// With a check too many, which the comparison must find.
    #[unsafe(no_mangle)]
    pub fn take_own_checked(source: &AtomicBox<u64, Own>) -> u64 {
        if source.as_ptr().is_null() { 0 } else { take(source) }
    }
}
#[cfg(feature = "std")]
pub use domains::*;
