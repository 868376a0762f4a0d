//! Destructors that panic.

/// Runs `work`, and runs it again after each panic, until it ends without one. Then resumes the first panic. Each run
/// must make progress. Without `std` a panic is not caught.
pub(crate) fn through_panics(mut work: impl FnMut()) {
    #[cfg(feature = "std")]
    {
        use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
        let mut first = None;
        while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) {
            match first {
                None => first = Some(panic),
                // The payload may panic when it is dropped.
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
