//! A guard that owns its hazard pointer.

use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;

use crate::family::{Family, Global};
use crate::pointer::HazardPointer;

/// An object, and the hazard pointer that protects it. Two words, if the type is sized.
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
pub struct Protected<T: ?Sized, F: Family = Global> {
    /// The object that the hazard pointer protects, or a part of it. Valid as long as we have the hazard pointer.
    object: NonNull<T>,
    hazard: HazardPointer<F>,
}

// SAFETY: a `&T`, and a hazard pointer, which any thread may use.
unsafe impl<T: Send + Sync + ?Sized, F: Family> Send for Protected<T, F> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync + ?Sized, F: Family> Sync for Protected<T, F> {}

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

    /// The address, for comparisons. It must not be freed.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

// `T: 'static`, here alone: otherwise the part might be what the object borrows, and the new guard would not know for
// how long that is valid.
impl<T: ?Sized + 'static, F: Family> Protected<T, F> {
    /// A guard of a part of the object. It keeps the whole object valid. This is an associated function, so that it
    /// does not hide a method of the object.
    ///
    /// ```
    /// use asymfence_hazard::{AtomicBox, Protected};
    ///
    /// struct Route {
    ///     name: String,
    /// }
    ///
    /// fn name(route: &AtomicBox<Route>) -> Option<Protected<str>> {
    ///     Some(Protected::map(route.load()?, |route| route.name.as_str()))
    /// }
    ///
    /// let route = AtomicBox::from(Box::new(Route { name: "north".to_owned() }));
    /// let name = name(&route).expect("not null");
    /// drop(route);
    /// assert_eq!(&*name, "north");
    /// ```
    ///
    /// The part must belong to the object, or be `'static`. A reference to anything else does not compile:
    ///
    /// ```compile_fail,E0597
    /// use asymfence_hazard::{AtomicBox, Protected};
    ///
    /// let route = AtomicBox::<u32>::from(Box::new(7));
    /// let other = String::from("north");
    /// let name: Protected<str> = Protected::map(route.load().expect("not null"), |_| other.as_str());
    /// ```
    ///
    /// Nor does it compile for an object that borrows. (Only a [`Link`](crate::Link) may lead to one.) The guard of a
    /// part could outlive what that object borrows:
    ///
    /// ```compile_fail,E0521
    /// use asymfence_hazard::Protected;
    ///
    /// fn text(guard: Protected<&str>) -> Protected<str> {
    ///     Protected::map(guard, |text| *text)
    /// }
    /// ```
    #[inline]
    pub fn map<U: ?Sized>(guard: Self, part: impl FnOnce(&T) -> &U) -> Protected<U, F> {
        Protected { object: NonNull::from(part(&guard)), hazard: guard.hazard }
    }

    /// As [`map`](Protected::map), if the object has that part. For enums and options.
    ///
    /// ```
    /// use asymfence_hazard::{AtomicBox, Protected};
    ///
    /// let place: AtomicBox<Option<u32>> = AtomicBox::from(Box::new(Some(7)));
    /// let guard = place.load().expect("not null");
    /// let seven = Protected::try_map(guard, Option::as_ref).expect("a number");
    /// assert_eq!(*seven, 7);
    /// ```
    ///
    /// # Errors
    ///
    /// The guard, if `part` returns `None`.
    #[inline]
    pub fn try_map<U: ?Sized>(
        guard: Self,
        part: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<Protected<U, F>, Self> {
        match part(&guard).map(NonNull::from) {
            Some(object) => Ok(Protected { object, hazard: guard.hazard }),
            None => Err(guard),
        }
    }
}

impl<T: ?Sized, F: Family> Protected<T, F> {
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
}

impl<T: ?Sized, F: Family> Deref for Protected<T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: protected, by a hazard pointer that we own and do not expose.
        unsafe { self.object.as_ref() }
    }
}

impl<T: fmt::Debug + ?Sized, F: Family> fmt::Debug for Protected<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
