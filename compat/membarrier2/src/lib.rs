//! The calls of [membarrier2 0.1](https://docs.rs/membarrier2/0.1.1), made by asymfence.
//!
//! What changes in meaning:
//!
//! - Nothing runs before `main`. Until the first [`heavy`] or [`is_supported`], or until the program calls
//!   `asymfence::init()`, [`light`] is a `fence(SeqCst)`. After that it is a load and a branch, or still a
//!   `fence(SeqCst)` if no mechanism works here.
//! - [`heavy`] is also a `fence(SeqCst)` for its caller. If the heavy fence can no longer be made, it aborts the
//!   process. It does not panic.
//! - [`is_supported`] decides, and is true with mprotect(2) too. It is false in Miri.
//! - There is no total order over all barriers: light in one thread, heavy in a second and light in a third do not
//!   order the first thread against the third.
//! - On macOS and iOS both calls are `fence(SeqCst)`.
//! - Under `--cfg loom` the fences are a model of their contract. A model may fail that passed with `fence(SeqCst)`.
//!
//! ```
//! membarrier2::light();
//! membarrier2::heavy();
//! assert_eq!(membarrier2::is_supported(), asymfence::Asymmetric::new().is_ok());
//! ```

#![no_std]

pub use asymfence::{heavy_fence as heavy, light_fence as light};

/// Whether [`light`] is cheaper than a full fence. Decides, if nothing has: `asymfence::init()`.
#[must_use]
pub fn is_supported() -> bool {
    asymfence::Asymmetric::new().is_ok()
}

#[cfg(all(test, not(loom)))]
mod tests {
    #[test]
    fn the_calls_have_the_types_that_dependents_call() {
        let calls: [fn(); 2] = [crate::light, crate::heavy];
        for call in calls {
            call();
        }
        let is_supported: fn() -> bool = crate::is_supported;
        assert_eq!(is_supported(), asymfence::Asymmetric::new().is_ok());
    }
}
