//! What a model replaces: atomics, and the values of a process. The feature `loom` is asked here alone.

#[cfg(not(feature = "loom"))]
mod chosen {
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr};

    /// Whether loom explores every access. Its models use smaller sizes.
    pub(crate) const LOOM: bool = false;

    /// A process-wide value.
    macro_rules! global {
        ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
            $(#[$doc])*
            static $name: crossbeam_utils::CachePadded<$type> =
                crossbeam_utils::CachePadded::new($init);
        };
    }
    pub(crate) use global;

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

    /// The witness of `asymfence::model`. Outside of a model nobody looks.
    pub(crate) mod witness {
        #[inline(always)]
        pub(crate) fn linked<T>(_object: *mut T) {}
        #[inline(always)]
        pub(crate) fn used<T>(_slot: usize, _object: *mut T) {}
        #[inline(always)]
        pub(crate) fn left(_slot: usize) {}
        #[inline(always)]
        pub(crate) fn freed<T>(_object: *mut T) {}
    }
}

#[cfg(feature = "loom")]
mod chosen {
    pub(crate) use asymfence::model::witness;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr};
    pub(crate) use loom::thread::yield_now;

    pub(crate) const LOOM: bool = true;

    /// A value of the model that runs now.
    macro_rules! global {
        ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
            loom::lazy_static! {
                $(#[$doc])*
                static ref $name: $type = $init;
            }
        };
    }
    pub(crate) use global;

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
}

pub(crate) use chosen::*;
pub(crate) use core::sync::atomic::Ordering;
