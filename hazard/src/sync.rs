//! What a model replaces: atomics, and the values of a process. The feature `loom` is asked here alone.

#[cfg(not(feature = "loom"))]
mod chosen {
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr};

    /// Whether loom explores every access. Its models use smaller sizes.
    pub(crate) const LOOM: bool = false;

    /// A static domain of the family.
    #[doc(hidden)]
    #[macro_export]
    macro_rules! __domain {
        ($family:ty) => {{
            static DOMAIN: $crate::__private::Domain<$family> = $crate::__private::Domain::__new();
            &DOMAIN
        }};
    }

    /// An array of values that cannot be copied.
    macro_rules! array_of {
        ($value:expr; $count:expr) => {
            [const { $value }; $count]
        };
    }
    pub(crate) use array_of;

    macro_rules! const_where_possible {
        ($function:ident) => {
            $function!(const);
        };
    }
    pub(crate) use const_where_possible;

    /// Lets another thread run, where a system is known that can.
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

    /// The witness of `asymfence::model`. Outside of a model nobody looks.
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
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr};
    pub(crate) use loom::thread::yield_now;

    pub(crate) const LOOM: bool = true;

    /// A domain of the family in the model that runs now.
    #[doc(hidden)]
    #[macro_export]
    macro_rules! __domain {
        ($family:ty) => {{
            $crate::__private::loom::lazy_static! {
                static ref DOMAIN: $crate::__private::Domain<$family> = $crate::__private::Domain::__new();
            }
            &DOMAIN
        }};
    }

    macro_rules! array_of {
        ($value:expr; $count:expr) => {
            core::array::from_fn::<_, { $count }, _>(|_| $value)
        };
    }
    pub(crate) use array_of;

    macro_rules! const_where_possible {
        ($function:ident) => {
            $function!();
        };
    }
    pub(crate) use const_where_possible;

    /// The value behind `&mut`, without an atomic access. Null while a model's panic unwinds: loom has dropped the
    /// execution then, and a second panic would abort the test binary. What hangs there leaks.
    pub(crate) fn get_mut<T>(pointer: &mut AtomicPtr<T>) -> *mut T {
        if std::thread::panicking() {
            return core::ptr::null_mut();
        }
        pointer.with_mut(|pointer| *pointer)
    }
}

pub(crate) use chosen::*;
pub(crate) use core::sync::atomic::Ordering;
