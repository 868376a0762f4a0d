//! Atomics and fences: `core`'s, loom's with the feature `loom`, or fences that ThreadSanitizer follows.

#[cfg(not(feature = "loom"))]
mod chosen {
    #[cfg(not(asymfence_tsan))]
    pub(crate) use core::sync::atomic::fence;
    pub(crate) use core::sync::atomic::{AtomicU8, AtomicUsize};

    #[cfg(asymfence_tsan)]
    pub(crate) use crate::sys::sanitized::fence;

    /// A process-wide value.
    macro_rules! global {
        ($(#[$doc:meta])* $vis:vis static $name:ident: $type:ty = $init:expr;) => {
            $(#[$doc])*
            $vis static $name: crossbeam_utils::CachePadded<$type> =
                crossbeam_utils::CachePadded::new($init);
        };
    }
    pub(crate) use global;

    macro_rules! const_where_possible {
        ($function:ident) => {
            $function!(const);
        };
    }
    pub(crate) use const_where_possible;
}

#[cfg(feature = "loom")]
mod chosen {
    pub(crate) use crate::sys::modelled::Mode as AtomicU8;
    pub(crate) use crate::sys::modelled::fence;
    pub(crate) use loom::sync::atomic::AtomicUsize;

    /// A value of the current model.
    macro_rules! global {
        ($(#[$doc:meta])* $vis:vis static $name:ident: $type:ty = $init:expr;) => {
            $vis struct PerModel;
            impl core::ops::Deref for PerModel {
                type Target = $type;
                fn deref(&self) -> &$type {
                    crate::sys::modelled::global(core::any::TypeId::of::<PerModel>(), || $init)
                }
            }
            $(#[$doc])*
            $vis static $name: PerModel = PerModel;
        };
    }
    pub(crate) use global;

    macro_rules! const_where_possible {
        ($function:ident) => {
            $function!();
        };
    }
    pub(crate) use const_where_possible;
}

pub(crate) use chosen::*;
pub(crate) use core::sync::atomic::Ordering;
