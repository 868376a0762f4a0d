//! Atomics and fences: `core`'s, or loom's under `cfg(loom)`.

#[cfg(not(loom))]
mod chosen {
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, fence};

    /// A process-wide value.
    macro_rules! global {
        ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
            $(#[$doc])*
            static $name: crossbeam_utils::CachePadded<$type> =
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

#[cfg(loom)]
mod chosen {
    pub(crate) use crate::sys::modelled::fence;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};

    /// A value of the model that runs now.
    macro_rules! global {
        ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
            loom::lazy_static! { static ref MODELLED: $type = $init; }

            struct Global;
            impl core::ops::Deref for Global {
                type Target = $type;
                fn deref(&self) -> &$type {
                    crate::sys::modelled::assert_running();
                    &MODELLED
                }
            }
            $(#[$doc])*
            static $name: Global = Global;
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
