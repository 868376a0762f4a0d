//! A cell for a value that is read all the time and replaced now and then.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use crate::family::{Family, Global, Of};
use crate::pointer::HazardPointer;
use crate::replaced::Replaced;
use crate::sync::Ordering::{AcqRel, Acquire, Release};
use crate::sync::{AtomicPtr, get_mut, witness};

/// A value that many threads read while others replace it. Never empty.
///
/// It serves the same purpose as `ArcSwap`. Reading takes a few instructions, writes no memory that other readers
/// share, and counts no references.
///
/// ```
/// #![forbid(unsafe_code)]
/// use asymfence_hazard::HazardCell;
///
/// static LEVEL: HazardCell<u32> = HazardCell::from_static(&3);
///
/// let level = LEVEL.load();
/// LEVEL.store(4);
/// assert_eq!((*level, *LEVEL.load()), (3, 4));
/// drop(LEVEL.rcu(|level| level + 1));
/// assert_eq!(*LEVEL.load(), 5);
/// ```
///
/// A guard does not outlive the cell, so a cell that is dropped frees its value at once:
///
/// ```compile_fail,E0505
/// let cell = asymfence_hazard::HazardCell::<String>::new("one".to_owned());
/// let guard = cell.load();
/// cell.into_inner();
/// guard.len();
/// ```
pub struct HazardCell<T: Send + Sync + 'static, F: Family = Global> {
    current: AtomicPtr<T>,
    /// The argument of `from_static`. It is not from a box, and lives for ever, so no box has its address.
    first: Option<&'static T>,
    owns: PhantomData<Box<T>>,
    family: Of<F>,
}

/// The constructor, `const` where the atomics' is.
macro_rules! from_static {
    ($($constness:ident)?) => {
        /// Creates a cell for a `static`. Allocates nothing until the value is replaced. The value must not be
        /// zero-sized.
        #[must_use]
        pub $($constness)? fn from_static(value: &'static T) -> Self {
            const { assert!(size_of::<T>() != 0, "the type has no size: a box of it may have the static's address") };
            let current = AtomicPtr::new(ptr::from_ref(value).cast_mut());
            HazardCell { current, first: Some(value), owns: PhantomData, family: PhantomData }
        }
    };
}

/// The pointer of a value that is about to be stored. Tells the witness of a model about it.
fn into_raw<T>(value: Box<T>) -> *mut T {
    let value = Box::into_raw(value);
    witness::linked(value);
    value
}

impl<T: Send + Sync + 'static, F: Family> HazardCell<T, F> {
    /// Creates a cell with `value`.
    #[must_use]
    pub fn new(value: T) -> Self {
        let current = AtomicPtr::new(into_raw(Box::new(value)));
        HazardCell { current, first: None, owns: PhantomData, family: PhantomData }
    }

    crate::sync::const_where_possible!(from_static);

    /// The current value. It stays valid as long as the guard, even if it is replaced meanwhile.
    #[inline]
    pub fn load(&self) -> CellGuard<'_, T, F> {
        let mut hazard = HazardPointer::new();
        let value = NonNull::new(hazard.settle(&self.current));
        // SAFETY: a cell is never empty.
        let value = unsafe { value.unwrap_unchecked() };
        CellGuard { value, _hazard: hazard, cell: PhantomData }
    }

    /// As [`load`](HazardCell::load), with a hazard pointer that the caller has. This is the fastest way to read. It
    /// stores nothing if the hazard pointer protects the value already. So keep one hazard pointer for each cell.
    ///
    /// ```
    /// use asymfence_hazard::{HazardCell, HazardPointer};
    ///
    /// let cell = HazardCell::<u32>::new(7);
    /// let mut hazard = HazardPointer::new();
    /// assert_eq!(*cell.load_with(&mut hazard), 7);
    /// ```
    #[inline]
    pub fn load_with<'a>(&'a self, hazard: &'a mut HazardPointer<F>) -> &'a T {
        let value = hazard.settle_again(&self.current);
        // SAFETY: a cell is never empty; protected; and the cell, which frees its value in `drop`, is borrowed.
        unsafe { &*value }
    }

    /// Replaces the value, and retires the old one.
    pub fn store(&self, value: T) {
        drop(self.swap(value));
    }

    /// Replaces the value, and returns the old one.
    pub fn swap(&self, value: T) -> Replaced<T, F> {
        // Release: the value is complete before it can be found. Pairs with: the Acquire in
        // `HazardPointer::look_again`. Acquire: the caller may access the old value. Pairs with: this Release, or that
        // of `compare_and_swap`.
        self.replaced(self.current.swap(into_raw(Box::new(value)), AcqRel))
    }

    /// Replaces the value if the cell still holds the one that `current` refers to. (`current` may be a guard of an
    /// earlier [`load`](HazardCell::load).)
    ///
    /// ```
    /// use asymfence_hazard::HazardCell;
    ///
    /// let cell = HazardCell::<u32>::new(1);
    /// let one = cell.load();
    /// assert!(cell.compare_and_swap(&one, 2).is_ok());
    /// assert_eq!(cell.compare_and_swap(&one, 3).err(), Some(3));
    /// ```
    ///
    /// # Errors
    ///
    /// `value`, if the cell holds another value.
    pub fn compare_and_swap(&self, current: &T, value: T) -> Result<Replaced<T, F>, T> {
        let current = ptr::from_ref(current).cast_mut();
        let value = into_raw(Box::new(value));
        // As long as `current` is borrowed its address is not reused. Release: as in `swap`; the caller has the old
        // value already. Acquire on failure: a caller that draws conclusions sees what came before the other value.
        // Pairs with: the Release of the `swap` or exchange that stored that value.
        match self.current.compare_exchange(current, value, Release, Acquire) {
            Ok(old) => Ok(self.replaced(old)),
            // SAFETY: from a box, and not stored.
            Err(_) => Err(*unsafe { Box::from_raw(value) }),
        }
    }

    /// Replaces the value by the result of `update`. Calls `update` again if another thread has replaced the value
    /// meanwhile. Returns the old value.
    pub fn rcu(&self, mut update: impl FnMut(&T) -> T) -> Replaced<T, F> {
        loop {
            let old = self.load();
            if let Ok(replaced) = self.compare_and_swap(&old, update(&old)) {
                return replaced;
            }
        }
    }

    /// The value. `None` if it is still the argument of [`from_static`](HazardCell::from_static).
    ///
    /// ```
    /// assert_eq!(asymfence_hazard::HazardCell::<u32>::new(7).into_inner(), Some(7));
    /// ```
    #[must_use]
    pub fn into_inner(self) -> Option<T> {
        let mut cell = ManuallyDrop::new(self);
        let current = get_mut(&mut cell.current);
        // SAFETY: a box's, and every guard borrows the cell.
        (!cell.is_first(current)).then(|| *unsafe { Box::from_raw(current) })
    }

    /// The value. `None` if it is still the argument of [`from_static`](HazardCell::from_static).
    #[must_use]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        let current = get_mut(&mut self.current);
        // SAFETY: as in `into_inner`.
        (!self.is_first(current)).then(|| unsafe { &mut *current })
    }

    fn is_first(&self, value: *mut T) -> bool {
        self.first.is_some_and(|first| ptr::eq(first, value))
    }

    fn replaced(&self, old: *mut T) -> Replaced<T, F> {
        // SAFETY: a cell is never empty.
        let value = unsafe { NonNull::new_unchecked(old) };
        // SAFETY: the exchange has taken it out of the cell, whose readers protect by hazard pointers of this family. It
        // is from a box, or lives for ever.
        unsafe { Replaced::new(value, !self.is_first(old)) }
    }
}

impl<T: Send + Sync + 'static, F: Family> Drop for HazardCell<T, F> {
    fn drop(&mut self) {
        let current = get_mut(&mut self.current);
        if !self.is_first(current) {
            // SAFETY: a box's, and every guard borrows the cell.
            drop(unsafe { Box::from_raw(current) });
        }
    }
}

impl<T: Send + Sync + Default + 'static, F: Family> Default for HazardCell<T, F> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: Send + Sync + 'static, F: Family> From<T> for HazardCell<T, F> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Send + Sync + fmt::Debug + 'static, F: Family> fmt::Debug for HazardCell<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HazardCell").field(&*self.load()).finish()
    }
}

/// The value that a [`HazardCell`] held when it was loaded.
pub struct CellGuard<'c, T: Send + Sync + 'static, F: Family = Global> {
    value: NonNull<T>,
    /// Protects the value.
    _hazard: HazardPointer<F>,
    /// The cell frees the value when the cell is dropped.
    cell: PhantomData<&'c HazardCell<T, F>>,
}

// SAFETY: a `&T`, and a hazard pointer, which any thread may use.
unsafe impl<T: Send + Sync, F: Family> Send for CellGuard<'_, T, F> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, F: Family> Sync for CellGuard<'_, T, F> {}

impl<T: Send + Sync, F: Family> Deref for CellGuard<'_, T, F> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: protected, by a hazard pointer that we have.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Send + Sync + fmt::Debug, F: Family> fmt::Debug for CellGuard<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
