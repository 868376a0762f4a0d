//! Destructors that panic.

/// Runs `work`, and again after each panic, until it ends without one. Then the first panic goes on. Each
/// run has to make progress. Without `std` a panic goes on at once.
pub(crate) fn through_panics(mut work: impl FnMut()) {
    #[cfg(feature = "std")]
    {
        use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
        let mut first = None;
        while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) {
            match first {
                None => first = Some(panic),
                // What it carries may panic when it is dropped.
                Some(_) => core::mem::forget(panic),
            }
        }
        if let Some(panic) = first {
            resume_unwind(panic);
        }
    }
    #[cfg(not(feature = "std"))]
    work();
}
