//! A guard that owns its hazard pointer.

use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;

use crate::family::{Family, Global};
use crate::pointer::HazardPointer;

/// An object, and the hazard pointer that protects it. Two words.
///
/// A `Protected` borrows nothing: you can keep it in a field, return it, or send it to another thread. The object stays
/// valid as long as the guard, even if the place from which it was loaded is gone.
/// [`into_hazard`](Protected::into_hazard) returns the hazard pointer.
///
/// ```
/// use asymfence_hazard::{AtomicBox, Protected};
///
/// struct Session {
///     user: Protected<String>,
/// }
///
/// let current = AtomicBox::from(Box::new("ann".to_owned()));
/// let session = Session { user: current.load().expect("not null") };
/// drop(current);
/// assert_eq!(*session.user, "ann");
/// ```
pub struct Protected<T, F: Family = Global> {
    /// Valid, and not freed as long as we have the hazard pointer.
    object: NonNull<T>,
    hazard: HazardPointer<F>,
}

// SAFETY: a `&T`, and a hazard pointer, which any thread may use.
unsafe impl<T: Send + Sync, F: Family> Send for Protected<T, F> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, F: Family> Sync for Protected<T, F> {}

impl<T, F: Family> Protected<T, F> {
    /// # Safety
    ///
    /// `hazard` protects `object`, and `object` was still linked after it was published.
    #[inline]
    pub(crate) unsafe fn new(object: NonNull<T>, hazard: HazardPointer<F>) -> Self {
        Protected { object, hazard }
    }

    #[inline]
    pub(crate) fn into_parts(self) -> (NonNull<T>, HazardPointer<F>) {
        (self.object, self.hazard)
    }

    /// Returns the hazard pointer.
    ///
    /// ```
    /// use asymfence_hazard::AtomicBox;
    ///
    /// let source = AtomicBox::<u32>::from(Box::new(7));
    /// let seven = source.load().expect("not null");
    /// let mut hazard = seven.into_hazard();
    /// assert_eq!(hazard.protect(&source), Some(&7));
    /// ```
    #[inline]
    #[must_use]
    pub fn into_hazard(self) -> HazardPointer<F> {
        self.hazard
    }

    /// The address, for comparisons. It must not be freed.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T, F: Family> Deref for Protected<T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: protected, by a hazard pointer that we own and do not expose.
        unsafe { self.object.as_ref() }
    }
}

impl<T: fmt::Debug, F: Family> fmt::Debug for Protected<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
