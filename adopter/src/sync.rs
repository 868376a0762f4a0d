//! Atomics, a cell, and how a thread waits: from core and std, or from loom under `cfg(loom)`.

#[cfg(loom)]
pub(crate) use loom::{cell::UnsafeCell, sync::atomic::AtomicBool, thread::yield_now};

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::AtomicBool;
pub(crate) use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[cfg(all(not(loom), not(feature = "std")))]
pub(crate) use core::hint::spin_loop as yield_now;
#[cfg(all(not(loom), feature = "std"))]
pub(crate) use std::thread::yield_now;

/// Core's, with the methods of loom's.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        UnsafeCell(core::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    #[inline]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}
