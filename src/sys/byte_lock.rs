//! The type of the answers of `ofd_lock`, and of `one_process`, which stands in for it in Miri.

use core::ffi::c_int;

/// The errno of a call, or 0 if the answer cannot come from a kernel.
pub(crate) type Answer<T> = Result<T, c_int>;
