//! The gate, and its twins: the same file beside fences that are missing or too weak, or beside atomics
//! whose orderings are. Under `--cfg loom` models, otherwise threads.
#![allow(dead_code, unused_imports, reason = "each build of the tests needs a part of the twins")]
#![allow(unreachable_pub, reason = "public in the library")]
#![allow(clippy::duplicate_mod, reason = "that is what a twin is")]

#[path = "../../src/fences.rs"]
mod fences;
#[path = "../../src/sync.rs"]
mod sync;

#[cfg(not(loom))]
mod buffered;
#[cfg(loom)]
mod models;
#[cfg(asymfence_tsan)]
mod sanitizer;
#[cfg(not(loom))]
mod threads;

/// No fence.
fn nothing() {}

/// A full fence. In a model too it does not order against a light fence, as the contract says.
fn full_fence() {
    use core::sync::atomic::Ordering::SeqCst;
    #[cfg(all(loom, feature = "asymmetric"))]
    asymfence::model::fence(SeqCst);
    #[cfg(all(loom, not(feature = "asymmetric")))]
    loom::sync::atomic::fence(SeqCst);
    #[cfg(not(loom))]
    core::sync::atomic::fence(SeqCst);
}

/// The gate beside these fences and atomics, and the programs that run on it.
macro_rules! twin {
    ($(#[$on:meta])* mod $name:ident { light: $light:path, heavy: $heavy:path, $sync:item }) => {
        $(#[$on])*
        #[path = "."]
        mod $name {
            mod fences {
                pub(super) use {$heavy as heavy_fence, $light as light_fence};
            }
            $sync
            #[path = "../../src/gate.rs"]
            pub(crate) mod gate;
            pub(crate) mod programs;
        }
    };
}

twin! { mod original {
    light: crate::fences::light_fence, heavy: crate::fences::heavy_fence, use crate::sync;
} }
twin! { mod no_light_fence {
    light: crate::nothing, heavy: crate::fences::heavy_fence, use crate::sync;
} }
twin! { mod no_heavy_fence {
    light: crate::fences::light_fence, heavy: crate::nothing, use crate::sync;
} }
twin! { mod light_for_heavy {
    light: crate::fences::light_fence, heavy: crate::fences::light_fence, use crate::sync;
} }
twin! { mod full_for_heavy {
    light: crate::fences::light_fence, heavy: crate::full_fence, use crate::sync;
} }
twin! { mod no_release {
    light: crate::fences::light_fence, heavy: crate::fences::heavy_fence,
    mod sync { pub(super) use crate::sync::{*, Relaxed as Release}; }
} }
twin! { mod no_acquire {
    light: crate::fences::light_fence, heavy: crate::fences::heavy_fence,
    mod sync { pub(super) use crate::sync::{*, Relaxed as Acquire}; }
} }
twin! { #[cfg(not(loom))] mod buffered_stores {
    light: crate::buffered::light_fence, heavy: crate::fences::heavy_fence,
    use crate::buffered as sync;
} }
twin! { #[cfg(not(loom))] mod buffered_stores_and_no_light_fence {
    light: crate::nothing, heavy: crate::fences::heavy_fence, use crate::buffered as sync;
} }
