//! What the structures of the cookbook take their `crate::sync` for, with a condition variable that is as bad
//! as one may be.

pub(crate) use asymfence::{heavy_fence, light_fence};
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};

use std::sync::LockResult;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// Who notifies one wakes all; and every other wait returns at once.
#[derive(Debug)]
pub(crate) struct Condvar {
    inner: loom::sync::Condvar,
    /// Not loom's: that it is as it is in some execution is enough.
    has_waited: AtomicBool,
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar { inner: loom::sync::Condvar::new(), has_waited: AtomicBool::new(true) }
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        if self.has_waited.fetch_not(Relaxed) { Ok(guard) } else { self.inner.wait(guard) }
    }

    pub(crate) fn notify_one(&self) {
        self.inner.notify_all();
    }

    pub(crate) fn notify_all(&self) {
        self.inner.notify_all();
    }
}
