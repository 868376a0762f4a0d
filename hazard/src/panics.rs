//! Destructors that panic.

/// Runs `work`, and runs it again after each panic, until it ends without one. Then resumes the first panic. Each run
/// must make progress. Without `std` a panic is not caught.
#[inline(always)]
pub(crate) fn through_panics(mut work: impl FnMut()) {
    #[cfg(feature = "std")]
    {
        use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
        let Err(first) = catch_unwind(AssertUnwindSafe(&mut work)) else { return };
        while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) {
            // The payload may panic when it is dropped.
            core::mem::forget(panic);
        }
        resume_unwind(first);
    }
    #[cfg(not(feature = "std"))]
    work();
}
