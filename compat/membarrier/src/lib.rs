//! The calls of [membarrier 0.2](https://docs.rs/membarrier/0.2.3), made by asymfence.
//!
//! What changes in meaning:
//!
//! - [`light`] never decides and never makes a system call. Until the first [`heavy`], or until the program calls
//!   `asymfence::init()`, it is a `fence(SeqCst)`.
//! - [`heavy`] is also a `fence(SeqCst)` for its caller.
//! - There is no total order over all barriers: light in one thread, heavy in a second and light in a third do not
//!   order the first thread against the third.
//! - Where membarrier(2) cannot be used, mprotect(2) takes its place, but only where it is known to be a barrier. If no
//!   mechanism works, both calls are `fence(SeqCst)`.
//!
//! ```
//! membarrier::light();
//! membarrier::heavy();
//! ```

#![no_std]

pub use asymfence::{heavy_fence as heavy, light_fence as light};

#[cfg(test)]
mod tests {
    #[test]
    fn the_calls_have_the_types_that_dependents_call() {
        let calls: [fn(); 2] = [crate::light, crate::heavy];
        for call in calls {
            call();
        }
    }
}
