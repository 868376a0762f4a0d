//! The names of domains.

use core::marker::PhantomData;

use crate::domain::Domain;
use crate::thread::Local;

/// Invariant, and without a value of its own.
pub(crate) type Of<F> = PhantomData<fn(F) -> F>;

/// Names a domain of the program, of which there is one. [`domain!`](crate::domain!) implements it.
///
/// Every hazard pointer and every place that holds a pointer has a family as its type parameter, and no
/// function takes a domain. So a hazard pointer always belongs to the domain to which the objects that it
/// protects are retired: what does not belong together has different types.
///
/// # Safety
///
/// `domain` returns the same domain whenever it is called, for the life of the program, and nothing else
/// has that domain.
///
/// Only the macro makes a family without `unsafe`:
///
/// ```
/// use asymfence_hazard::{AtomicBox, domain};
///
/// domain! { enum Routes {} }
/// static TABLE: AtomicBox<String, Routes> = AtomicBox::null();
/// assert!(TABLE.load().is_none());
/// ```
///
/// ```compile_fail,E0200
/// use asymfence_hazard::{Domain, Family};
///
/// enum Routes {}
/// impl Family for Routes {
///     fn domain() -> &'static Domain<Routes> {
///         loop {}
///     }
/// }
/// ```
pub unsafe trait Family: Sized + 'static {
    /// The domain of this family.
    fn domain() -> &'static Domain<Self>;

    /// Hands `work` what this thread has. `None` without the feature `std`.
    #[doc(hidden)]
    fn with_local<R>(work: impl FnOnce(&Local) -> R) -> Option<R>;

    /// Sees to it that what this thread has ends with the thread. False if the thread is ending already.
    #[doc(hidden)]
    fn begin() -> bool;
}

/// Makes a domain of one's own, and the family that names it.
///
/// A domain of one's own keeps one part of the program's garbage apart from another's: a reclaim runs the
/// destructors of this domain's objects only, and looks at its hazard pointers only. Taking a hazard pointer
/// costs the same as in the domain of the process.
///
/// ```
/// #![forbid(unsafe_code)]
/// use asymfence_hazard::{AtomicBox, Family, HazardPointer, domain};
///
/// domain! {
///     /// Of the routing table.
///     pub enum Routes {}
/// }
///
/// static TABLE: AtomicBox<[u8; 4], Routes> = AtomicBox::null();
///
/// TABLE.store(Box::new([127, 0, 0, 1]));
/// let mut hazard = HazardPointer::new();
/// assert_eq!(hazard.protect(&TABLE), Some(&[127, 0, 0, 1]));
/// drop(hazard);
/// drop(TABLE.take());
/// assert_eq!(Routes::domain().reclaim_all().unwrap().freed, 1);
/// ```
///
/// A family has one domain:
///
/// ```compile_fail,E0428
/// asymfence_hazard::domain! { pub enum Routes {} }
/// asymfence_hazard::domain! { pub enum Routes {} }
/// ```
///
/// A generic family would have one for all its types, so there is none:
///
/// ```compile_fail
/// asymfence_hazard::domain! { pub enum Routes<T> {} }
/// ```
#[macro_export]
macro_rules! domain {
    ($(#[$meta:meta])* $visibility:vis enum $family:ident {}) => {
        $crate::domain! {
            $(#[$meta])* $visibility enum $family {} = $crate::__private::Thresholds::DEFAULT;
        }
    };
    ($(#[$meta:meta])* $visibility:vis enum $family:ident {} = $thresholds:expr;) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $visibility enum $family {}

        // SAFETY: a type has one impl of a trait, and this impl, which is not generic, one static.
        unsafe impl $crate::__private::Family for $family {
            #[inline]
            fn domain() -> &'static $crate::__private::Domain<$family> {
                $crate::__domain!($family, $thresholds)
            }

            $crate::__thread!($family);
        }
    };
}

domain! {
    /// The family of the domain of the process, which is every type's default.
    pub enum Global {}
}

impl Domain<Global> {
    /// The domain of the process.
    ///
    /// What is retired to it and not reclaimed when the process ends is never freed: call
    /// [`reclaim_all`](Domain::reclaim_all) if destructors have to run.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    ///
    /// println!("{} objects wait", Domain::global().stats().waiting());
    /// ```
    #[must_use]
    pub fn global() -> &'static Self {
        Global::domain()
    }
}
