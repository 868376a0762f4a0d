//! The names of domains.

use core::marker::PhantomData;

use crate::domain::Domain;
use crate::thread::Local;

/// Invariant, and without a value of its own.
pub(crate) type Of<F> = PhantomData<fn(F) -> F>;

/// A type that names a domain. Each domain has exactly one such type, its *family*. [`domain!`](crate::domain!) makes
/// both.
///
/// Every hazard pointer and every place that holds a pointer has a family as its type parameter, and none of their
/// functions takes a domain. So a hazard pointer always belongs to the domain to which its objects are retired: if they
/// do not belong together, their types differ.
///
/// # Safety
///
/// - `domain` always returns the same domain, for the life of the program, and no other family has that domain.
/// - `with_local` passes a `Local` of the calling thread that no other family has, and `begin` sees to it that it ends
///   with the thread. Both are hidden and may change, so leave the impl to [`domain!`](crate::domain!).
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

    /// Calls `work` with this thread's `Local`. `None` without the feature `std`.
    #[doc(hidden)]
    fn with_local<R>(work: impl FnOnce(&Local) -> R) -> Option<R>;

    /// Makes sure that this thread's `Local` ends with the thread. False if the thread is ending already.
    #[doc(hidden)]
    fn begin() -> bool;
}

/// Makes a new domain, and the family that names it.
///
/// A separate domain keeps one part of the program's garbage apart from the rest: a reclaim runs only the destructors
/// of this domain's objects, and scans only its hazard pointers. Taking a hazard pointer costs the same as in the
/// domain of the process.
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
/// Thresholds of the domain's own may follow, as a constant expression of type [`Thresholds`](crate::Thresholds): it
/// initialises a `static`, so write `..Thresholds::DEFAULT`, not `..Default::default()`. The expression is not in an
/// unsafe block, so it may do only what safe code may:
///
/// ```
/// use asymfence_hazard::{Thresholds, domain};
///
/// const fn few() -> Thresholds {
///     Thresholds { objects: 64, ..Thresholds::DEFAULT }
/// }
/// domain! { enum Few {} = few(); }
///
/// // A constant of any name:
/// const DOMAIN: Thresholds = few();
/// #[allow(non_upper_case_globals, reason = "a macro must not mistake it for a variable")]
/// const work: Thresholds = few();
/// domain! { enum Some {} = DOMAIN; }
/// domain! { enum Others {} = work; }
/// ```
///
/// ```compile_fail,E0133
/// use asymfence_hazard::{Thresholds, domain};
///
/// const unsafe fn few() -> Thresholds {
///     Thresholds { objects: 64, ..Thresholds::DEFAULT }
/// }
/// domain! { enum Few {} = few(); }
/// ```
///
/// A generic family would have one domain for all its types, so it is not allowed:
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
                $crate::__domain!(unsafe $family, $thresholds)
            }

            $crate::__thread!($family);
        }
    };
}

domain! {
    /// The family of the domain of the process. It is the default of every type.
    pub enum Global {}
}

impl Domain<Global> {
    /// The domain of the process.
    ///
    /// Objects that are not reclaimed when the process ends are never freed: call [`reclaim_all`](Domain::reclaim_all)
    /// if their destructors have to run.
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
