//! A place that owns its object. Storing, swapping and protecting are safe, wherever the place lies.
//!
//! ONE-PLACE: an object is in one place at any time. It enters as a `Box`, which is unique, or as a [`Replaced`] of a
//! box, which is unique too. It leaves as a `Replaced`. So after it has left no thread can find it any more, and it is
//! retired once.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use crate::family::{Family, Global, Of};
use crate::pointer::HazardPointer;
use crate::protected::Protected;
use crate::replaced::Replaced;
use crate::sync::Ordering::{AcqRel, Acquire};
use crate::sync::{AtomicPtr, get_mut, witness};

/// An `Option<Box<T>>` that many threads read and replace. One word.
///
/// Readers protect the object without a fence instruction and without a read-modify-write. A thread that replaces the
/// object gets the old one as [`Replaced`], which retires it.
///
/// ```
/// #![forbid(unsafe_code)]
/// use asymfence_hazard::{AtomicBox, HazardPointer};
///
/// static CONFIG: AtomicBox<String> = AtomicBox::null();
///
/// CONFIG.store(Box::new("one".to_owned()));
/// let mut hazard = HazardPointer::new();
/// let config = hazard.protect(&CONFIG).expect("published");
/// CONFIG.store(Box::new("two".to_owned()));
/// assert_eq!(config, "one"); // retired, and not freed
/// ```
///
/// # Objects that own others
///
/// An `AtomicBox` may lie inside an object that is retired itself. When it is dropped it *retires* the object that it
/// holds, because a guard may have been loaded from it. So if the head of a chain of `n` objects is retired, freeing
/// the chain takes `n` reclaims (or one [`reclaim_all`](crate::Domain::reclaim_all)), because freeing one object of the
/// chain only retires the next one, which waits for the next reclaim. To avoid that, [`take`](AtomicBox::take) the
/// objects out from the front, or use a [`Chain`](crate::Chain).
///
/// Walking over a tree takes two hazard pointers, one for the current node and one for the next:
///
/// ```
/// #![forbid(unsafe_code)]
/// use std::mem;
///
/// use asymfence_hazard::{AtomicBox, HazardPointer, Protected};
///
/// struct Node {
///     key: u32,
///     children: [AtomicBox<Node>; 2],
/// }
///
/// fn node(key: u32, children: [Option<Box<Node>>; 2]) -> Option<Box<Node>> {
///     Some(Box::new(Node { key, children: children.map(AtomicBox::from) }))
/// }
///
/// fn find(root: &AtomicBox<Node>, key: u32) -> Option<Protected<Node>> {
///     let (mut here, mut spare) = (root.load()?, HazardPointer::new());
///     while here.key != key {
///         let child = &here.children[usize::from(here.key < key)];
///         let next = child.load_by(spare).ok()?;
///         spare = mem::replace(&mut here, next).into_hazard();
///     }
///     Some(here)
/// }
///
/// let left = node(1, [None, node(2, [None, None])]);
/// let root = AtomicBox::from(node(3, [left, None]));
/// assert_eq!(find(&root, 2).map(|found| found.key), Some(2));
/// assert!(find(&root, 4).is_none());
/// ```
///
/// *Reading* from an owner that was removed meanwhile is safe as long as the owner is protected: the owner is not
/// freed, so its places still own what they hold, and no thread retires that.
///
/// *Inserting* into an owner that was removed meanwhile returns `Ok`, but the new object is lost: it is retired when
/// its owner is freed. A [`Link`](crate::Link) and the nodes of a [`Chain`](crate::Chain) can be *frozen*: then the
/// link leads nowhere for ever, and an insertion there fails. An `AtomicBox` cannot be frozen. So if other threads
/// remove owners, use one of these, or let only one thread at a time insert and remove.
///
/// # Orderings
///
/// Loading and protecting acquire, as does an exchange that fails. A store, a swap and a successful exchange both
/// release and acquire. None is sequentially consistent.
///
/// # What it may hold
///
/// Many threads see the object, and any of them may free it:
///
/// ```compile_fail,E0277
/// asymfence_hazard::AtomicBox::<std::cell::Cell<u32>>::null();
/// ```
///
/// The type must be sized, because an atomic word has no room for the second half of a `Box<dyn Trait>`. Use
/// `AtomicBox<Box<dyn Trait>>`, and [`Protected::map`] for a guard of what is in the inner box.
pub struct AtomicBox<T: Send + Sync + 'static, F: Family = Global> {
    pointer: AtomicPtr<T>,
    owns: PhantomData<Box<T>>,
    family: Of<F>,
}

/// The constructor, `const` where the atomics' is.
macro_rules! null {
    ($($constness:ident)?) => {
        /// Creates an empty place.
        ///
        /// ```
        /// static CONFIG: asymfence_hazard::AtomicBox<String> = asymfence_hazard::AtomicBox::null();
        /// ```
        #[must_use]
        pub $($constness)? fn null() -> Self {
            AtomicBox { pointer: AtomicPtr::new(ptr::null_mut()), owns: PhantomData, family: PhantomData }
        }
    };
}

/// The pointer of an object that is about to be stored. Tells the witness of a model about it.
fn into_raw<T>(object: Option<Box<T>>) -> *mut T {
    let object = object.map_or(ptr::null_mut(), Box::into_raw);
    witness::linked(object);
    object
}

/// The pointer of an object that was in a place before, and is stored again.
fn from_place<T: Send, F: Family>(object: Replaced<T, F>) -> NonNull<T> {
    assert!(object.is_box(), "an object that was never in a box cannot be put into an AtomicBox");
    object.into_inner()
}

impl<T: Send + Sync + 'static, F: Family> AtomicBox<T, F> {
    crate::sync::const_where_possible!(null);

    /// The object, protected by a hazard pointer of the guard's own. `None` if the place is empty.
    ///
    /// ```
    /// use asymfence_hazard::AtomicBox;
    ///
    /// let sources: [AtomicBox<u32>; 2] = [7, 700].map(|value| AtomicBox::from(Box::new(value)));
    /// let large = sources.iter().filter_map(AtomicBox::load).find(|value| **value > 100);
    /// assert_eq!(large.as_deref(), Some(&700));
    /// ```
    #[inline]
    #[must_use]
    pub fn load(&self) -> Option<Protected<T, F>> {
        self.load_by(HazardPointer::new()).ok()
    }

    /// As [`load`](AtomicBox::load), with a hazard pointer that the caller has. It is returned if there is nothing to
    /// protect.
    ///
    /// # Errors
    ///
    /// The hazard pointer, if the place holds nothing.
    #[inline]
    pub fn load_by(
        &self,
        mut hazard: HazardPointer<F>,
    ) -> Result<Protected<T, F>, HazardPointer<F>> {
        match NonNull::new(hazard.settle(&self.pointer)) {
            // SAFETY: protected, and held by the place after that. The thread that takes it out retires it to the
            // domain of the hazard pointer (ONE-PLACE).
            Some(object) => Ok(unsafe { Protected::new(object, hazard) }),
            None => Err(hazard),
        }
    }

    /// Stores `new`, and retires the old object.
    pub fn store(&self, new: Box<T>) {
        drop(self.swap(Some(new)));
    }

    /// Stores `new`, and returns the old object.
    pub fn swap(&self, new: Option<Box<T>>) -> Option<Replaced<T, F>> {
        self.swap_raw(into_raw(new))
    }

    /// Empties the place, and returns the old object.
    ///
    /// ```
    /// use asymfence_hazard::AtomicBox;
    ///
    /// let source = AtomicBox::<u32>::from(Box::new(1));
    /// assert_eq!(source.take().as_deref(), Some(&1));
    /// assert!(source.take().is_none());
    /// ```
    pub fn take(&self) -> Option<Replaced<T, F>> {
        self.swap_raw(ptr::null_mut())
    }

    /// Stores an object that was in another place, or in this one, and returns the old object.
    ///
    /// An object is in one place at a time, so readers find it in no place between `take` and `put_back`. If they must
    /// always find it, store a copy of it (or an `Arc`) in the new place first.
    ///
    /// ```
    /// use asymfence_hazard::AtomicBox;
    ///
    /// let [from, to] = [1, 2].map(|value| AtomicBox::<u32>::from(Box::new(value)));
    /// let one = from.take().expect("not null");
    /// assert_eq!(to.put_back(one).as_deref(), Some(&2));
    /// assert_eq!(to.load().as_deref(), Some(&1));
    /// ```
    ///
    /// # Panics
    ///
    /// If `object` is the value that was passed to [`HazardCell::from_static`](crate::HazardCell::from_static): a place
    /// holds only boxes.
    pub fn put_back(&self, object: Replaced<T, F>) -> Option<Replaced<T, F>> {
        self.swap_raw(from_place(object).as_ptr())
    }

    /// Stores `new` if the place holds the same object that `current` refers to, or is empty if `current` is `None`.
    /// Returns the old object.
    ///
    /// As long as `current` is borrowed its address is not reused. (Boxes of zero-sized objects have one address, so
    /// all of them count as the same.)
    ///
    /// Whether it succeeds or fails, it synchronises with the call that stored what it finds, or that emptied the
    /// place.
    ///
    /// ```
    /// use asymfence_hazard::AtomicBox;
    ///
    /// let count = AtomicBox::<u32>::from(Box::new(1));
    /// let seen = count.load();
    /// let next = seen.as_deref().map(|seen| Box::new(seen + 1));
    /// assert!(count.compare_exchange(seen.as_deref(), next).is_ok());
    /// assert!(count.compare_exchange(seen.as_deref(), None).is_err());
    /// ```
    ///
    /// In a loop, with one allocation:
    ///
    /// ```
    /// use asymfence_hazard::{AtomicBox, HazardPointer};
    ///
    /// fn add(total: &AtomicBox<u64>, more: u64) {
    ///     let (mut hazard, mut new) = (HazardPointer::new(), Box::new(0));
    ///     loop {
    ///         let seen = hazard.protect(total).expect("never empty");
    ///         *new = seen + more;
    ///         match total.compare_exchange(Some(seen), Some(new)) {
    ///             Ok(_old) => return, // retires it
    ///             Err(back) => new = back.expect("what was to be stored"),
    ///         }
    ///     }
    /// }
    ///
    /// let total: AtomicBox<u64> = AtomicBox::from(Box::new(0));
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| (0..100).for_each(|_| add(&total, 1)));
    ///     (0..100).for_each(|_| add(&total, 2));
    /// });
    /// assert_eq!(total.load().as_deref(), Some(&300));
    /// ```
    ///
    /// # Errors
    ///
    /// `new`, if the place holds something else.
    pub fn compare_exchange(
        &self,
        current: Option<&T>,
        new: Option<Box<T>>,
    ) -> Result<Option<Replaced<T, F>>, Option<Box<T>>> {
        self.exchange_box(current, new, false)
    }

    /// As [`compare_exchange`](AtomicBox::compare_exchange), but it may fail spuriously.
    ///
    /// # Errors
    ///
    /// `new`.
    pub fn compare_exchange_weak(
        &self,
        current: Option<&T>,
        new: Option<Box<T>>,
    ) -> Result<Option<Replaced<T, F>>, Option<Box<T>>> {
        self.exchange_box(current, new, true)
    }

    /// As [`compare_exchange`](AtomicBox::compare_exchange), of an object that was in another place, or in this one.
    ///
    /// ```
    /// use asymfence_hazard::AtomicBox;
    ///
    /// let [from, to] = [AtomicBox::<u32>::from(Box::new(1)), AtomicBox::null()];
    /// let one = from.take().expect("not null");
    /// assert!(to.compare_and_put_back(None, one).is_ok_and(|old| old.is_none()));
    ///
    /// // A place that is not empty gives the object back.
    /// let one = to.take().expect("not null");
    /// to.store(Box::new(2));
    /// assert_eq!(to.compare_and_put_back(None, one).err().as_deref(), Some(&1));
    /// ```
    ///
    /// # Errors
    ///
    /// `object`, if the place holds something else.
    ///
    /// # Panics
    ///
    /// As [`put_back`](AtomicBox::put_back).
    pub fn compare_and_put_back(
        &self,
        current: Option<&T>,
        object: Replaced<T, F>,
    ) -> Result<Option<Replaced<T, F>>, Replaced<T, F>> {
        let new = from_place(object);
        // SAFETY: a `Replaced`'s of this family until now, and not stored.
        self.exchange(current, new.as_ptr(), false)
            .map_err(|()| unsafe { Replaced::new(new, true) })
    }

    #[inline]
    fn exchange_box(
        &self,
        current: Option<&T>,
        new: Option<Box<T>>,
        weak: bool,
    ) -> Result<Option<Replaced<T, F>>, Option<Box<T>>> {
        let new = into_raw(new);
        // SAFETY: from a box, and not stored.
        let back = |()| (!new.is_null()).then(|| unsafe { Box::from_raw(new) });
        self.exchange(current, new, weak).map_err(back)
    }

    /// Stores `new`, which belongs to the caller, if the place holds `current`.
    #[inline]
    fn exchange(
        &self,
        current: Option<&T>,
        new: *mut T,
        weak: bool,
    ) -> Result<Option<Replaced<T, F>>, ()> {
        let current = current.map_or(ptr::null_mut(), |current| ptr::from_ref(current).cast_mut());
        // Release, Acquire: as in `swap_raw`. On failure Relaxed would be enough, since the object that is found is not
        // accessed. Acquire, so that the caller may draw conclusions from the failure.
        // guard survives: on this processor, and in a model, neither fails without a reason.
        let exchanged = if weak {
            self.pointer.compare_exchange_weak(current, new, AcqRel, Acquire)
        } else {
            self.pointer.compare_exchange(current, new, AcqRel, Acquire)
        };
        exchanged.map(|old| self.replaced(old)).map_err(|_| ())
    }

    /// The address of the object, for comparisons or for [`try_protect`](HazardPointer::try_protect). Null if the place
    /// is empty.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *mut T {
        // Acquire: a caller that draws conclusions from the address sees what came before it was stored. Pairs with:
        // the Release in `swap_raw` or `exchange` of the thread that stored it.
        self.pointer.load(Acquire)
    }

    fn swap_raw(&self, new: *mut T) -> Option<Replaced<T, F>> {
        // Release: the object is complete before it can be found. Pairs with: the Acquire in
        // `HazardPointer::look_again`. Acquire: the caller may access the old object. Pairs with: this Release, or that
        // of `exchange`, in the thread that stored it.
        self.replaced(self.pointer.swap(new, AcqRel))
    }

    fn replaced(&self, old: *mut T) -> Option<Replaced<T, F>> {
        // SAFETY: from a box; the exchange has taken it out of its only place (ONE-PLACE), whose readers protect by
        // hazard pointers of this family.
        NonNull::new(old).map(|old| unsafe { Replaced::new(old, true) })
    }
}

/// Protecting from a place.
impl<F: Family> HazardPointer<F> {
    /// The object that `source` holds, protected. `None` if `source` is empty.
    ///
    /// The object stays valid as long as it is borrowed from this hazard pointer, even if it is replaced meanwhile.
    ///
    /// Stores the object's address into the hazard pointer's slot, executes a light fence, and loads `source` again. If
    /// `source` has changed, begins again. No read-modify-write and no fence instruction. The light fence pairs with
    /// the heavy fence of [`Domain::reclaim`](crate::Domain::reclaim).
    #[inline]
    pub fn protect<'h, T: Send + Sync + 'static>(
        &'h mut self,
        source: &AtomicBox<T, F>,
    ) -> Option<&'h T> {
        let object = self.settle(&source.pointer);
        // SAFETY: as in `AtomicBox::load_by`.
        unsafe { object.as_ref() }
    }

    /// As [`protect`](HazardPointer::protect), for a source that seldom changes: no store, if it holds what this hazard
    /// pointer protects already.
    ///
    /// A walk from object to object is faster with `protect`, since each step protects another one.
    ///
    /// ```
    /// use asymfence_hazard::{AtomicBox, HazardPointer};
    ///
    /// let level = AtomicBox::<u32>::from(Box::new(7));
    /// let mut hazard = HazardPointer::new();
    /// let sum: u32 = (0..3).filter_map(|_| hazard.protect_again(&level).copied()).sum();
    /// assert_eq!(sum, 21);
    /// ```
    #[inline]
    pub fn protect_again<'h, T: Send + Sync + 'static>(
        &'h mut self,
        source: &AtomicBox<T, F>,
    ) -> Option<&'h T> {
        let object = self.settle_again(&source.pointer);
        // SAFETY: as in `AtomicBox::load_by`.
        unsafe { object.as_ref() }
    }

    /// The object that `source` holds, protected, if it is `wanted`. If not, returns the hazard pointer: for loops that
    /// return what they find.
    ///
    /// ```
    /// use asymfence_hazard::{AtomicBox, HazardPointer};
    ///
    /// fn large<'h>(sources: &[AtomicBox<u32>], mut hazard: &'h mut HazardPointer) -> Option<&'h u32> {
    ///     for source in sources {
    ///         match hazard.protect_if(source, |value| *value > 100) {
    ///             Ok(value) => return Some(value),
    ///             Err(back) => hazard = back,
    ///         }
    ///     }
    ///     None
    /// }
    ///
    /// let sources = [7, 700].map(|value| AtomicBox::from(Box::new(value)));
    /// assert_eq!(large(&sources, &mut HazardPointer::new()), Some(&700));
    /// ```
    ///
    /// # Errors
    ///
    /// This hazard pointer, if `source` is empty or its object is not wanted.
    #[inline]
    pub fn protect_if<'h, T: Send + Sync + 'static>(
        &'h mut self,
        source: &AtomicBox<T, F>,
        wanted: impl FnOnce(&T) -> bool,
    ) -> Result<&'h T, &'h mut Self> {
        let object = self.settle(&source.pointer);
        // SAFETY: as in `AtomicBox::load_by`. While the caller borrows `self`, it cannot be made to protect another
        // object.
        match unsafe { object.as_ref() } {
            Some(object) if wanted(object) => Ok(object),
            _ => Err(self),
        }
    }

    /// Makes one try of [`protect`](HazardPointer::protect), for a caller that has already read the address from
    /// `source`.
    ///
    /// ```
    /// use asymfence_hazard::{AtomicBox, HazardPointer};
    ///
    /// let source = AtomicBox::<u32>::from(Box::new(7));
    /// let address = source.as_ptr();
    /// assert_eq!(HazardPointer::new().try_protect(address, &source), Ok(Some(&7)));
    /// ```
    ///
    /// # Errors
    ///
    /// The address of what `source` holds, if it is no longer `expected`. Then nothing is protected.
    #[inline]
    pub fn try_protect<'h, T: Send + Sync + 'static>(
        &'h mut self,
        expected: *mut T,
        source: &AtomicBox<T, F>,
    ) -> Result<Option<&'h T>, *mut T> {
        match self.look_again(expected, expected, &source.pointer) {
            // SAFETY: as in `AtomicBox::load_by`.
            Ok(object) => Ok(unsafe { object.as_ref() }),
            Err(found) => {
                self.reset_protection();
                Err(found)
            }
        }
    }
}

impl<T: Send + Sync + 'static, F: Family> Drop for AtomicBox<T, F> {
    fn drop(&mut self) {
        let object = get_mut(&mut self.pointer);
        drop(self.replaced(object));
    }
}

impl<T: Send + Sync + 'static, F: Family> Default for AtomicBox<T, F> {
    fn default() -> Self {
        Self::null()
    }
}

impl<T: Send + Sync + 'static, F: Family> From<Box<T>> for AtomicBox<T, F> {
    fn from(object: Box<T>) -> Self {
        AtomicBox {
            pointer: AtomicPtr::new(into_raw(Some(object))),
            owns: PhantomData,
            family: PhantomData,
        }
    }
}

impl<T: Send + Sync + 'static, F: Family> From<Option<Box<T>>> for AtomicBox<T, F> {
    fn from(object: Option<Box<T>>) -> Self {
        AtomicBox {
            pointer: AtomicPtr::new(into_raw(object)),
            owns: PhantomData,
            family: PhantomData,
        }
    }
}

impl<T: Send + Sync + fmt::Debug + 'static, F: Family> fmt::Debug for AtomicBox<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AtomicBox").field(&self.load()).finish()
    }
}
