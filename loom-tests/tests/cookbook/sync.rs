//! What the structures of the cookbook take their `crate::sync` for, with a condition variable that is as bad
//! as one may be: who notifies one wakes all.

pub(crate) use asymfence::{heavy_fence, light_fence};
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};

use std::sync::LockResult;

#[derive(Debug)]
pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_all();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}
