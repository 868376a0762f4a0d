//! An object that was taken out of its place.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use crate::family::{Family, Global, Of};
use crate::sync::is_closing;

/// An object that was replaced. Other threads may still be reading it. When this value is dropped, the object is
/// retired.
///
/// ```
/// use asymfence_hazard::AtomicBox;
///
/// let source = AtomicBox::<u32>::from(Box::new(1));
/// let one = source.swap(Some(Box::new(2))).expect("not null");
/// assert_eq!(*one, 1);
/// ```
#[must_use = "dropped, it is retired"]
pub struct Replaced<T: Send + 'static, F: Family = Global> {
    object: NonNull<T>,
    /// Whether the object came from a box, and so must be retired.
    is_box: bool,
    family: Of<F>,
}

// SAFETY: a `&T`, and the right to have it freed in any thread.
unsafe impl<T: Send + Sync, F: Family> Send for Replaced<T, F> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, F: Family> Sync for Replaced<T, F> {}

impl<T: Send, F: Family> Replaced<T, F> {
    /// # Safety
    ///
    /// If `is_box`, the object came from a box, is in no place any more, and the caller hands it over. Threads that still
    /// use it protect it by hazard pointers of the family `F`. Otherwise the object lives for ever.
    pub(crate) unsafe fn new(object: NonNull<T>, is_box: bool) -> Self {
        Replaced { object, is_box, family: PhantomData }
    }

    /// Retires the object, and says how many bytes it holds: see
    /// [`Domain::retire_weighing`](crate::Domain::retire_weighing).
    ///
    /// ```
    /// use asymfence_hazard::HazardCell;
    ///
    /// let cell = HazardCell::<Vec<u8>>::new(vec![1; 1 << 20]);
    /// let old = cell.swap(vec![2; 1 << 20]);
    /// let bytes = old.len();
    /// old.retire_weighing(bytes);
    /// ```
    pub fn retire_weighing(self, bytes: usize) {
        if let Some(object) = self.into_box() {
            // SAFETY: as in `drop`.
            unsafe { F::domain().retire_weighing(object.as_ptr(), bytes) };
        }
    }

    /// Retires the object, and reclaims nothing: see [`Domain::retire_deferred`](crate::Domain::retire_deferred).
    ///
    /// ```
    /// use asymfence_hazard::AtomicBox;
    ///
    /// let source = AtomicBox::<u32>::from(Box::new(1));
    /// source.take().expect("not null").retire_deferred();
    /// ```
    pub fn retire_deferred(self) {
        if let Some(object) = self.into_box() {
            // SAFETY: as in `drop`.
            unsafe { F::domain().retire_deferred(object.as_ptr()) };
        }
    }

    /// The object, if it must be retired.
    fn into_box(self) -> Option<NonNull<T>> {
        let is_box = self.is_box;
        let object = self.into_inner();
        is_box.then_some(object)
    }

    /// Whether the object came from a box. That of `HazardCell::from_static` did not, and lives for ever.
    pub(crate) fn is_box(&self) -> bool {
        self.is_box
    }

    /// The object, which no place owns now. The caller puts it into another place.
    pub(crate) fn into_inner(self) -> NonNull<T> {
        let object = self.object;
        core::mem::forget(self);
        object
    }
}

impl<T: Send, F: Family> Deref for Replaced<T, F> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: not retired before we are dropped.
        unsafe { self.object.as_ref() }
    }
}

impl<T: Send + fmt::Debug, F: Family> fmt::Debug for Replaced<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Send, F: Family> Drop for Replaced<T, F> {
    fn drop(&mut self) {
        if self.is_box && is_closing() {
            // SAFETY: a box's, in no place any more, and ours alone.
            drop(unsafe { Box::from_raw(self.object.as_ptr()) });
        } else if self.is_box {
            // SAFETY: from a box, in no place any more, and ours alone. Every thread that protects it does so by a
            // hazard pointer of this family.
            unsafe { F::domain().retire(self.object.as_ptr()) };
        }
    }
}
