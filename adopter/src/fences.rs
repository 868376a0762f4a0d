//! The two fences: asymfence's with the feature `asymmetric`, and `fence(SeqCst)` on both sides without.
//!
//! asymfence sees to the rest by itself: under `--cfg loom`, where `Cargo.toml` turns its feature `loom` on,
//! its fences are a model of their contract; under `--cfg asymfence_tsan` ThreadSanitizer follows them; in
//! Miri both are `fence(SeqCst)`.

#[cfg(feature = "asymmetric")]
pub(crate) use asymfence::{heavy_fence, light_fence};

#[cfg(not(feature = "asymmetric"))]
pub(crate) use symmetric::{full_fence as heavy_fence, full_fence as light_fence};

#[cfg(not(feature = "asymmetric"))]
mod symmetric {
    #[cfg(not(loom))]
    use core::sync::atomic::{Ordering::SeqCst, fence};
    #[cfg(loom)]
    use loom::sync::atomic::{Ordering::SeqCst, fence};

    #[inline]
    pub(crate) fn full_fence() {
        // Pairs with: itself, on the other side.
        fence(SeqCst);
    }
}

#[cfg(all(asymfence_tsan, not(feature = "asymmetric")))]
compile_error!("ThreadSanitizer knows no fence but asymfence's: add the feature `asymmetric`");
