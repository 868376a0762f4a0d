//! What a model replaces: atomics, cells, statics, thread-local values and threads. Only this file chooses between two
//! versions by the feature `loom`; `lib.rs` declares crates and a module by it.

#[cfg(not(feature = "loom"))]
mod chosen {
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};

    /// The cell of `core`, with loom's names.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        #[inline]
        pub(crate) const fn new(value: T) -> Self {
            UnsafeCell(core::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with<R>(&self, work: impl FnOnce(*const T) -> R) -> R {
            work(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, work: impl FnOnce(*mut T) -> R) -> R {
            work(self.0.get())
        }
    }

    /// How a thread is started, waits and is woken.
    #[cfg(feature = "std")]
    pub(crate) use crate::threads;

    /// Whether loom explores every access. Its models use smaller sizes.
    pub(crate) const LOOM: bool = false;

    /// A static domain of the family. The word `unsafe` is the caller's: a family must not have two domains.
    #[doc(hidden)]
    #[macro_export]
    macro_rules! __domain {
        ($unsafe:tt $family:ty, $thresholds:expr) => {{
            // Unusual names: the caller's expression is evaluated where they are known, and must not mean them by
            // accident.
            static __ASYMFENCE_DOMAIN: $crate::__private::Domain<$family> = {
                // The caller's expression, outside of the unsafe block.
                const __ASYMFENCE_THRESHOLDS: $crate::__private::Thresholds = $thresholds;
                // SAFETY: a family's `domain` has this static, and no other.
                $unsafe { $crate::__private::Domain::__new(__ASYMFENCE_THRESHOLDS) }
            };
            &__ASYMFENCE_DOMAIN
        }};
    }

    macro_rules! const_where_possible {
        ($function:ident) => {
            $function!(const);
        };
    }
    pub(crate) use const_where_possible;

    /// A value of each thread, without a destructor.
    #[cfg(feature = "std")]
    macro_rules! thread_value {
        ($name:ident: $of:ty = $value:expr) => {
            std::thread_local! {
                static $name: $of = const { $value };
            }
        };
    }
    #[cfg(feature = "std")]
    pub(crate) use thread_value;

    /// Whether a panic unwinds a model.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn is_cut_short() -> bool {
        false
    }

    /// Lets another thread run, if the system can do that.
    pub(crate) fn yield_now() {
        #[cfg(feature = "std")]
        std::thread::yield_now();
        #[cfg(not(feature = "std"))]
        core::hint::spin_loop();
    }

    /// The value behind `&mut`, without an atomic access.
    pub(crate) fn get_mut<T>(pointer: &mut AtomicPtr<T>) -> *mut T {
        *pointer.get_mut()
    }

    /// Whether a model has ended, and a domain of it frees what is left.
    #[inline(always)]
    pub(crate) fn is_closing() -> bool {
        false
    }

    #[inline(always)]
    pub(crate) fn closing(free: impl FnOnce()) {
        free();
    }

    /// The witness of `asymfence::model`. Outside of a model it does nothing.
    pub(crate) mod witness {
        #[inline(always)]
        pub(crate) fn linked<T>(_object: *const T) {}
        #[inline(always)]
        pub(crate) fn used<T>(_slot: usize, _object: *const T) {}
        #[inline(always)]
        pub(crate) fn left(_slot: usize) {}
        #[inline(always)]
        pub(crate) fn freed<T>(_object: *const T) {}
    }
}

#[cfg(feature = "loom")]
mod chosen {
    pub(crate) use asymfence::model::witness;
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
    pub(crate) use loom::thread::yield_now;

    #[cfg(feature = "std")]
    pub(crate) mod threads {
        pub(crate) use loom::thread::{Builder, Thread, current, park};

        /// A model has no clock.
        pub(crate) fn park_timeout(_: core::time::Duration) {
            super::yield_now();
        }

        pub(crate) fn without_signals<T>(starts: impl FnOnce() -> T) -> T {
            starts()
        }

        /// A model does not fork.
        pub(crate) fn count_forks() {}

        pub(crate) fn forks() -> usize {
            0
        }
    }

    pub(crate) const LOOM: bool = true;

    /// A domain of the family in the current model. The word `unsafe` is the caller's, as above.
    #[doc(hidden)]
    #[macro_export]
    macro_rules! __domain {
        ($unsafe:tt $family:ty, $thresholds:expr) => {{
            $crate::__private::loom::lazy_static! {
                static ref __ASYMFENCE_DOMAIN: $crate::__private::Domain<$family> = {
                    // The caller's expression, outside of the unsafe block.
                    const __ASYMFENCE_THRESHOLDS: $crate::__private::Thresholds = $thresholds;
                    // SAFETY: a family's `domain` has this static, and no other.
                    $unsafe { $crate::__private::Domain::__new(__ASYMFENCE_THRESHOLDS) }
                };
            }
            &__ASYMFENCE_DOMAIN
        }};
    }

    macro_rules! const_where_possible {
        ($function:ident) => {
            $function!();
        };
    }
    pub(crate) use const_where_possible;

    /// A value of each thread of the model.
    #[cfg(feature = "std")]
    macro_rules! thread_value {
        ($name:ident: $of:ty = $value:expr) => {
            loom::thread_local! {
                static $name: $of = $value;
            }
        };
    }
    #[cfg(feature = "std")]
    pub(crate) use thread_value;

    /// Whether a panic unwinds a model: loom may have dropped its threads' cells.
    #[cfg(feature = "std")]
    pub(crate) fn is_cut_short() -> bool {
        std::thread::panicking()
    }

    std::thread_local! {
        // loom runs all threads of a model on one thread of the system.
        static CLOSING: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
    }

    /// Whether a model has ended, and a domain of it frees what is left. Then a retire has no domain any more, and no
    /// thread protects anything.
    pub(crate) fn is_closing() -> bool {
        CLOSING.get()
    }

    pub(crate) fn closing(free: impl FnOnce()) {
        CLOSING.set(true);
        free();
        CLOSING.set(false);
    }

    /// The value behind `&mut`, without an atomic access. Null while the panic of a model unwinds: loom has dropped the
    /// execution then, and a second panic would abort the test binary. The objects that depend on it leak.
    pub(crate) fn get_mut<T>(pointer: &mut AtomicPtr<T>) -> *mut T {
        if std::thread::panicking() {
            return core::ptr::null_mut();
        }
        pointer.with_mut(|pointer| *pointer)
    }
}

pub(crate) use chosen::*;
pub(crate) use core::sync::atomic::Ordering;

/// A number that orders nothing, for thresholds and reports. Never loom's.
pub(crate) type Number = core::sync::atomic::AtomicUsize;

/// A number with an order. Not loom's, because models would take much longer. Only the model of `freed.rs` in
/// loom-tests/tests/hazard.rs has a `Counter` that is loom's.
pub(crate) type Counter = core::sync::atomic::AtomicUsize;
