//! Atomics and fences: `core`'s, or loom's under `cfg(loom)`.

#[cfg(not(loom))]
mod chosen {
    pub(crate) use core::sync::atomic::{AtomicU8, fence};

    /// A process-wide value.
    macro_rules! global {
        ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
            $(#[$doc])*
            static $name: crossbeam_utils::CachePadded<$type> =
                crossbeam_utils::CachePadded::new($init);
        };
    }
    pub(crate) use global;
}

#[cfg(loom)]
mod chosen {
    pub(crate) use crate::model::fence;
    pub(crate) use loom::sync::atomic::AtomicU8;

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
}

pub(crate) use chosen::*;
pub(crate) use core::sync::atomic::Ordering;
