//! What `ofd_lock` answers, and what stands in for it in Miri.

use core::ffi::c_int;

/// The errno of a call, or 0 if the answer cannot come from a kernel.
pub(crate) type Answer<T> = Result<T, c_int>;
