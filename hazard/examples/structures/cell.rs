//! A cell for what is read all the time and replaced now and then.

use std::fmt;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use asymfence_hazard::{AtomicPtr, Domain, HazardPointer};

/// A value that many threads read while others replace it. To read is a few instructions, writes no
/// memory that is shared with another reader, and counts no references.
pub struct ReadMostly<T> {
    current: AtomicPtr<T>,
}

impl<T: Send + Sync + 'static> ReadMostly<T> {
    pub fn new(value: T) -> Self {
        ReadMostly { current: AtomicPtr::from(Box::new(value)) }
    }

    /// The value of now. It stays valid as long as the guard, also when it is replaced meanwhile.
    #[inline]
    pub fn load(&self) -> Guard<'_, T> {
        let mut hazard = Domain::global().hazard_pointer();
        let value = NonNull::from(protect(&self.current, &mut hazard));
        Guard { value, _hazard: hazard, _cell: self }
    }

    /// As `load`, with a hazard pointer that is at hand.
    #[inline]
    pub fn load_with<'a>(&'a self, hazard: &'a mut HazardPointer<'_>) -> &'a T {
        protect(&self.current, hazard)
    }

    pub fn store(&self, new: T) {
        drop(self.swap(new));
    }

    /// Returns the value that was replaced. Others may be reading it still.
    pub fn swap(&self, new: T) -> Replaced<T> {
        // SAFETY: a box's. Freed by `retire` when it is replaced, or by `drop`, when nobody borrows
        // the cell and so nobody has a guard.
        let old = unsafe { self.current.swap(Box::into_raw(Box::new(new))) };
        Replaced { value: NonNull::new(old).expect("a cell is never empty") }
    }

    /// Replaces the value if it is the very one that `current` refers to, as a guard of this cell does.
    /// Otherwise returns `new`.
    pub fn compare_and_swap(&self, current: &T, new: T) -> Result<Replaced<T>, T> {
        let new = Box::into_raw(Box::new(new));
        // As long as `current` is borrowed its address does not come back.
        // SAFETY: as in `swap`.
        match unsafe { self.current.compare_exchange(ptr::from_ref(current).cast_mut(), new) } {
            Ok(old) => Ok(Replaced { value: NonNull::new(old).expect("a cell is never empty") }),
            // SAFETY: ours still: the cell has not got it.
            Err(_) => Err(*unsafe { Box::from_raw(new) }),
        }
    }
}

#[inline]
fn protect<'h, T>(current: &AtomicPtr<T>, hazard: &'h mut HazardPointer<'_>) -> &'h T {
    hazard.protect(current).expect("a cell is never empty")
}

impl<T> Drop for ReadMostly<T> {
    fn drop(&mut self) {
        // SAFETY: the current value is a box's, and nobody borrows the cell.
        drop(unsafe { Box::from_raw(self.current.load()) });
    }
}

impl<T: fmt::Debug + Send + Sync + 'static> fmt::Debug for ReadMostly<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadMostly").field(&*self.load()).finish()
    }
}

/// A value that was in the cell when it was loaded.
pub struct Guard<'c, T> {
    value: NonNull<T>,
    /// Protects the value.
    _hazard: HazardPointer<'static>,
    /// Frees what is in it when it is dropped.
    _cell: &'c ReadMostly<T>,
}

// SAFETY: a guard is a `&T`; what else it holds any thread may use.
unsafe impl<T: Send + Sync> Send for Guard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Guard<'_, T> {}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: protected, by a hazard pointer that we have.
        unsafe { self.value.as_ref() }
    }
}

/// A value that has been replaced: retired when this is dropped.
pub struct Replaced<T: Send + 'static> {
    value: NonNull<T>,
}

// SAFETY: the value is seen by this thread and freed by any.
unsafe impl<T: Send + Sync> Send for Replaced<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Replaced<T> {}

impl<T: Send> Deref for Replaced<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: not retired yet, and nobody else retires it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Send + 'static> Drop for Replaced<T> {
    fn drop(&mut self) {
        // SAFETY: from a box; unlinked by the one who made this, alone.
        unsafe { Domain::global().retire(self.value.as_ptr()) };
    }
}
