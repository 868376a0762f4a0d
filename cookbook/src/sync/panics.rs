//! Code of others that may panic.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Calls `work` with each of `all`, also after a panic. Then resumes the first panic.
pub(crate) fn with_each<T>(all: impl IntoIterator<Item = T>, mut work: impl FnMut(T)) {
    let mut first = None;
    for one in all {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(one))) {
            match first {
                None => first = Some(panic),
                // The payload may panic when it is dropped.
                Some(_) => std::mem::forget(panic),
            }
        }
    }
    if let Some(panic) = first {
        resume_unwind(panic);
    }
}
