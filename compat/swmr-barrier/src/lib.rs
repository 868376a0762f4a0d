//! The calls of [swmr-barrier 0.1](https://docs.rs/swmr-barrier/0.1.4), made by asymfence.
//!
//! What changes in meaning:
//!
//! - Nothing runs before `main`. Until the first [`heavy_barrier`] or [`is_accelerated`], or until the program calls
//!   `asymfence::init()`, [`light_barrier`] is a `fence(SeqCst)`. After that it is a load and a branch, or still a
//!   `fence(SeqCst)` if no mechanism works here.
//! - [`heavy_barrier`] is also a `fence(SeqCst)` for its caller. If the heavy fence can no longer be made, it aborts
//!   the process. It never returns without having fenced.
//! - GLOBAL is not used. Where the kernel has no PRIVATE_EXPEDITED, both calls are `fence(SeqCst)`, unless mprotect(2)
//!   can take its place.
//! - [`is_accelerated`] decides, and is true with mprotect(2) too.
//! - With the feature `loom` the fences are a model of their contract. A model may fail that passed with
//!   `fence(SeqCst)`.
//!
//! ```
//! swmr_barrier::light_barrier();
//! swmr_barrier::heavy_barrier();
//! assert_eq!(swmr_barrier::is_accelerated(), asymfence::Asymmetric::new().is_ok());
//! ```

#![no_std]

pub use asymfence::{heavy_fence as heavy_barrier, light_fence as light_barrier};

/// Whether [`light_barrier`] is cheaper than a full fence. Decides, if nothing has: `asymfence::init()`.
#[must_use]
pub fn is_accelerated() -> bool {
    asymfence::Asymmetric::new().is_ok()
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    #[test]
    fn the_calls_have_the_types_that_dependents_call() {
        let calls: [fn(); 2] = [crate::light_barrier, crate::heavy_barrier];
        for call in calls {
            call();
        }
        let is_accelerated: fn() -> bool = crate::is_accelerated;
        assert_eq!(is_accelerated(), asymfence::Asymmetric::new().is_ok());
    }
}
