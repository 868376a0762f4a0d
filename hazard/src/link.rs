//! Links for other structures: an address with tags. Following a link is safe, writing one is unsafe.
//!
//! LINKED: as long as a link is not frozen, the object that it holds is not retired. Every function that writes a link
//! requires that of its caller. So if a thread publishes an address, and then sees that the link still holds it and is
//! not frozen, the thread has protected an object that is not retired yet.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use crate::family::{Family, Global, Of};
use crate::pointer::HazardPointer;
use crate::protected::Protected;
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::{AtomicPtr, witness};

/// An address, with tags in the bits that its alignment leaves free. It can be compared and stored, but not followed.
///
/// ```
/// use asymfence_hazard::Tagged;
///
/// let seven = Tagged::from(Box::new(7_u64));
/// let marked = seven.with_tag(2);
/// assert_eq!((marked.tag(), marked.with_tag(0) == seven), (2, true));
/// # drop(unsafe { Box::from_raw(seven.as_ptr()) });
/// ```
///
/// A `Tagged` that is made from a reference is for comparisons: an exchange may expect it. The `Tagged` that the
/// exchange *returns* has the box's own pointer, which can be retired:
///
/// ```
/// use asymfence_hazard::{Domain, HazardPointer, Link, Tagged};
///
/// let root: Link<u64> = Link::null();
/// // SAFETY: retired below, when the root has been changed.
/// unsafe { root.store(Tagged::from(Box::new(7))) };
///
/// let mut hazard = HazardPointer::new();
/// let seven = hazard.protect_link(&root).unwrap().expect("not null");
/// let expected = Tagged::from(std::ptr::from_ref(seven));
/// // SAFETY: null is no object.
/// let old = unsafe { root.compare_exchange(expected, Tagged::null()) }.expect("unchanged");
/// // SAFETY: a box's, and unlinked by us alone.
/// unsafe { Domain::global().retire(old.as_ptr()) };
/// assert_eq!(*seven, 7); // still protected
/// ```
pub struct Tagged<T> {
    word: *mut T,
}

impl<T> Tagged<T> {
    /// The bits that tags may use: as many as the alignment of `T` leaves free.
    pub const TAGS: usize = align_of::<T>() - 1;

    /// No object and no tags.
    #[must_use]
    pub const fn null() -> Self {
        Tagged { word: ptr::null_mut() }
    }

    #[inline]
    pub(crate) const fn from_word(word: *mut T) -> Self {
        Tagged { word }
    }

    #[inline]
    pub(crate) fn word(self) -> *mut T {
        self.word
    }

    /// The object's address, without tags.
    #[inline]
    #[must_use]
    pub fn as_ptr(self) -> *mut T {
        self.with_tag(0).word
    }

    /// The tags.
    #[inline]
    #[must_use]
    pub fn tag(self) -> usize {
        self.word.addr() & Self::TAGS
    }

    /// The same object with other tags. Bits outside of [`TAGS`](Tagged::TAGS) are dropped.
    #[inline]
    #[must_use]
    pub fn with_tag(self, tag: usize) -> Self {
        let word = self.word.map_addr(|word| (word & !Self::TAGS) | (tag & Self::TAGS));
        Tagged { word }
    }

    /// Whether the link that held this was frozen: see [`Link::FROZEN`].
    #[inline]
    #[must_use]
    pub fn is_frozen(self) -> bool {
        self.tag() & Link::<T>::FROZEN != 0
    }
}

impl<T> Clone for Tagged<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Tagged<T> {}

impl<T> PartialEq for Tagged<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.word, other.word)
    }
}

impl<T> Eq for Tagged<T> {}

impl<T> From<Box<T>> for Tagged<T> {
    fn from(object: Box<T>) -> Self {
        Tagged { word: Box::into_raw(object) }
    }
}

/// For comparisons: a `Tagged` made from a reference must not be written through, and so not freed.
impl<T> From<*const T> for Tagged<T> {
    #[inline]
    fn from(object: *const T) -> Self {
        Tagged { word: object.cast_mut() }
    }
}

impl<T> fmt::Debug for Tagged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tagged").field("pointer", &self.as_ptr()).field("tag", &self.tag()).finish()
    }
}

/// A link to an object, in a structure or in one of its objects.
///
/// The lowest bit of the word, [`FROZEN`](Link::FROZEN), closes the link for ever: it leads nowhere any more. Freeze a
/// node's links before you unlink the node. Then a reader at an unlinked node does not follow its links to objects that
/// are freed: [`HazardPointer::follow`] returns [`Follow::Frozen`]. The structure may use the other bits.
///
/// A link owns nothing: if it is dropped, its object leaks.
///
/// ```
/// use asymfence_hazard::{Domain, Follow, HazardPointer, Link, Tagged};
///
/// struct Node {
///     key: u32,
///     next: Link<Node>,
/// }
///
/// let last = Tagged::from(Box::new(Node { key: 2, next: Link::null() }));
/// let first = Box::new(Node { key: 1, next: Link::null() });
/// // SAFETY: `last` is retired below, after `first.next` was frozen and the root unlinked it.
/// unsafe { first.next.store(last) };
/// let root: Link<Node> = Link::null();
/// // SAFETY: `first` is retired below, after the root was changed.
/// unsafe { root.store(Tagged::from(first)) };
///
/// let Follow::To(first) = HazardPointer::new().follow(&root) else { panic!() };
/// let Follow::To(last) = HazardPointer::new().follow(&first.next) else { panic!() };
/// assert_eq!((first.key, last.key), (1, 2));
///
/// let next = first.next.freeze();
/// // SAFETY: `first` is frozen, so it is no way to `last`, which the root holds now.
/// let old = unsafe { root.swap(next) };
/// // SAFETY: a box's, which the root held alone.
/// unsafe { Domain::global().retire(old.as_ptr()) };
/// assert!(matches!(HazardPointer::new().follow(&first.next), Follow::Frozen(_)));
/// # let old = unsafe { root.swap(Tagged::null()) };
/// # unsafe { Domain::global().retire(old.as_ptr()) };
/// ```
///
/// # Orderings
///
/// Loading, following and an exchange that fails are Acquire. (Following a frozen link may be Relaxed: to see what came
/// before the freeze, `load` the link.) [`store`](Link::store) is Release. A swap, an exchange that succeeds,
/// [`fetch_or`](Link::fetch_or) and [`freeze`](Link::freeze) are AcqRel. So everything that a thread did before it
/// wrote a link happens before what another thread does after it has read that value. None of them is sequentially
/// consistent.
///
/// # An object with several links
///
/// In a queue, both the tail and the node before lead to the last node. Such an object may be retired only after
/// *every* link to it has been changed or frozen. Decide which link is changed last: the thread that changes it retires
/// the object. Before that, every other link to the object must have been changed or frozen, and no link may be set to
/// the object again. An example: a slow thread protects the node A, and tries to move a queue's tail from A to the next
/// node B. If B has been retired by then, the tail has left A. It does not come back to A's address, because that
/// address is not reused while A is protected. So the exchange fails, and the tail is not set to B.
///
/// # A place that is filled and taken
///
/// Freezing also hands an object over to one thread: of all threads that freeze a link, only the first gets a value
/// that is not frozen. Nothing can be stored there later. A link that was null when it was frozen stays null:
///
/// ```
/// use asymfence_hazard::{Link, Tagged};
///
/// let place: Link<u64> = Link::null();
/// // SAFETY: no thread follows `place`, and the thread that freezes it frees the object.
/// assert!(unsafe { place.compare_exchange(Tagged::null(), Tagged::from(Box::new(7))) }.is_ok());
///
/// let taken = place.freeze();
/// assert!(!taken.is_frozen() && place.freeze().is_frozen());
/// // SAFETY: a box's, and ours alone: the link was not frozen before.
/// assert_eq!(*unsafe { Box::from_raw(taken.as_ptr()) }, 7);
/// ```
///
/// # What it may lead to
///
/// Tags need a free bit. A type whose alignment is 1, or any type of a generic structure, goes into a wrapper that is
/// aligned: `#[repr(align(8))] struct Item<T>(T);`.
///
/// Threads share a link if its object is `Send` and `Sync`, since many threads see the object, and any of them may free
/// it. (A structure that hands each value to one thread, and lets nobody see it before, may implement `Sync` for its
/// node where `T: Send`.)
///
/// ```compile_fail,E0277
/// static COUNT: asymfence_hazard::Link<std::cell::Cell<u32>> = asymfence_hazard::Link::null();
/// ```
pub struct Link<T, F: Family = Global> {
    word: AtomicPtr<T>,
    points_to: PhantomData<*mut T>,
    family: Of<F>,
}

// SAFETY: it hands out `&T` in every thread that can name it, and `*mut T` to free in another.
unsafe impl<T: Send + Sync, F: Family> Send for Link<T, F> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, F: Family> Sync for Link<T, F> {}

/// The constructor, `const` where the atomics' is.
macro_rules! null {
    ($($constness:ident)?) => {
        /// Creates a link that leads nowhere.
        #[must_use]
        pub $($constness)? fn null() -> Self {
            Link { word: AtomicPtr::new(ptr::null_mut()), points_to: PhantomData, family: PhantomData }
        }
    };
}

impl<T, F: Family> Link<T, F> {
    /// The tag of a frozen link, which leads nowhere for ever. Nothing changes such a link, except that
    /// [`fetch_or`](Link::fetch_or) may add tags.
    pub const FROZEN: usize = 1;

    crate::sync::const_where_possible!(null);

    /// What the link holds. For comparisons, or for a caller that knows that the object is valid. To use an object that
    /// other threads may retire, [`follow`](HazardPointer::follow) the link. To write what the link holds into another
    /// object, as the push of a stack does, first protect the object that the link holds
    /// ([`protect_raw`](HazardPointer::protect_raw)), and then load the link again. Otherwise the object may be freed,
    /// and another one be linked at its address: then a later exchange succeeds, and what was written is a pointer to
    /// the freed object.
    #[inline]
    #[must_use]
    pub fn load(&self) -> Tagged<T> {
        // Acquire: the object is complete before the caller uses it. Pairs with: the Releases below.
        Tagged { word: self.word.load(Acquire) }
    }

    /// Stores `new`.
    ///
    /// # Safety
    ///
    /// - The object of `new` is valid. As long as this link leads to it (with whatever tag, and also after the link was
    ///   moved or swapped) and is not frozen, the object is neither retired nor freed, and is accessed only by shared
    ///   references. Afterwards it is either retired to this family's domain or to a [`Cohort`](crate::Cohort) of this
    ///   family, or freed directly once no reference and no guard obtained through this link exists. (A [`Protected`]
    ///   may outlive the structure, so dropping the structure is not enough.)
    /// - A frozen link may only be given the value that it holds already.
    ///
    /// An unlinked node still points to the next one. So freeze its links before you unlink it.
    #[inline]
    pub unsafe fn store(&self, new: Tagged<T>) {
        witness::linked(new.as_ptr());
        // Release: the object is complete. Pairs with: the Acquire of `load` and `look_again`.
        self.word.store(new.word, Release);
    }

    /// Stores `new`, and returns what the link held.
    ///
    /// # Safety
    ///
    /// As [`store`](Link::store).
    #[inline]
    pub unsafe fn swap(&self, new: Tagged<T>) -> Tagged<T> {
        witness::linked(new.as_ptr());
        // Release: as `store`. Acquire: as `load`; a caller that retires the old object may access it.
        Tagged { word: self.word.swap(new.word, AcqRel) }
    }

    /// Stores `new` if the link holds `current`, including its tags. Returns what it held.
    ///
    /// The address of a freed object may be reused. To prevent that, protect the object of `current`.
    ///
    /// # Errors
    ///
    /// What the link holds, if that is not `current`.
    ///
    /// # Safety
    ///
    /// As [`store`](Link::store), if the link holds `current`.
    #[inline]
    pub unsafe fn compare_exchange(
        &self,
        current: Tagged<T>,
        new: Tagged<T>,
    ) -> Result<Tagged<T>, Tagged<T>> {
        // Release: as `store`. Acquire, both: as `load`.
        let exchanged = self.word.compare_exchange(current.word, new.word, AcqRel, Acquire);
        Self::exchanged(exchanged, new)
    }

    /// As [`compare_exchange`](Link::compare_exchange), but it may fail spuriously.
    ///
    /// # Errors
    ///
    /// What the link holds.
    ///
    /// # Safety
    ///
    /// As [`compare_exchange`](Link::compare_exchange).
    #[inline]
    pub unsafe fn compare_exchange_weak(
        &self,
        current: Tagged<T>,
        new: Tagged<T>,
    ) -> Result<Tagged<T>, Tagged<T>> {
        // Release, Acquire: as `compare_exchange`.
        let exchanged = self.word.compare_exchange_weak(current.word, new.word, AcqRel, Acquire);
        Self::exchanged(exchanged, new)
    }

    #[inline]
    fn exchanged(
        exchanged: Result<*mut T, *mut T>,
        new: Tagged<T>,
    ) -> Result<Tagged<T>, Tagged<T>> {
        if exchanged.is_ok() {
            witness::linked(new.as_ptr());
        }
        exchanged.map(|word| Tagged { word }).map_err(|word| Tagged { word })
    }

    /// Adds tags. Returns what the link held before. This is safe, because tags do not make the link lead to another
    /// object.
    ///
    /// Does not compile if the alignment of the type leaves no bits free: see [what it may lead
    /// to](Link#what-it-may-lead-to).
    pub fn fetch_or(&self, tag: usize) -> Tagged<T> {
        const {
            assert!(
                Tagged::<T>::TAGS & Self::FROZEN != 0,
                "the alignment of the type leaves no bit for a tag"
            )
        };
        // Relaxed: a guess, for the exchange to compare with.
        let mut word = self.word.load(Relaxed);
        loop {
            let held = Tagged { word };
            let new = held.with_tag(held.tag() | tag);
            // Release: what this thread did before comes before the tag, as before an unlock. Pairs with: the Acquire
            // of a thread that finds the tag. Acquire: as `load`. Relaxed on failure: a guess, as above.
            match self.word.compare_exchange_weak(word, new.word, AcqRel, Relaxed) {
                Ok(_) => return held,
                Err(found) => word = found,
            }
        }
    }

    /// Freezes the link: it leads nowhere any more. Returns what it held before. If that [is
    /// frozen](Tagged::is_frozen), another thread was first.
    ///
    /// A link that is null stays null, so nothing can be appended there.
    ///
    /// Does not compile if the alignment of the type leaves no bits free: see [what it may lead
    /// to](Link#what-it-may-lead-to).
    pub fn freeze(&self) -> Tagged<T> {
        self.fetch_or(Self::FROZEN)
    }

    /// A link of a new node, which no other thread sees.
    pub(crate) fn of(word: *mut T) -> Self {
        Link { word: AtomicPtr::new(word), points_to: PhantomData, family: PhantomData }
    }

    #[inline]
    pub(crate) fn word(&self) -> &AtomicPtr<T> {
        &self.word
    }

    pub(crate) fn word_mut(&mut self) -> &mut AtomicPtr<T> {
        &mut self.word
    }
}

impl<T, F: Family> Default for Link<T, F> {
    fn default() -> Self {
        Self::null()
    }
}

impl<T, F: Family> fmt::Debug for Link<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}

/// Where a link leads. The hazard pointer is returned if it is not in use.
#[derive(Debug)]
pub enum Follow<N, F: Family = Global> {
    /// To a node, which is protected.
    To(N),
    /// Nowhere: it is null.
    End(HazardPointer<F>),
    /// Nowhere any more: the node with this link has been removed. Begin again.
    Frozen(HazardPointer<F>),
}

/// The link is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen;

/// Following links.
impl<F: Family> HazardPointer<F> {
    /// Where `link` leads, protected.
    ///
    /// Because the caller has a reference to the link, the object around the link is protected or borrowed. Because the
    /// link is not frozen at the second load, the object to which it leads was not retired.
    #[inline]
    #[must_use]
    pub fn follow<T>(mut self, link: &Link<T, F>) -> Follow<Protected<T, F>, F> {
        match self.protect_link_raw(link) {
            Err(Frozen) => Follow::Frozen(self),
            Ok(object) => match NonNull::new(object) {
                // SAFETY: protected, and linked after that (LINKED).
                Some(object) => Follow::To(unsafe { Protected::new(object, self) }),
                None => Follow::End(self),
            },
        }
    }

    /// As [`follow`](HazardPointer::follow), borrowed from this hazard pointer. `None` if `link` is null.
    ///
    /// ```
    /// use asymfence_hazard::{HazardPointer, Link};
    ///
    /// let root: Link<u32> = Link::null();
    /// assert_eq!(HazardPointer::new().protect_link(&root), Ok(None));
    /// ```
    ///
    /// # Errors
    ///
    /// If the link is frozen.
    #[inline]
    pub fn protect_link<'h, T>(&'h mut self, link: &Link<T, F>) -> Result<Option<&'h T>, Frozen> {
        // SAFETY: as in `follow`.
        self.protect_link_raw(link).map(|object| unsafe { object.as_ref() })
    }

    #[inline]
    fn protect_link_raw<T>(&mut self, link: &Link<T, F>) -> Result<*mut T, Frozen> {
        // Relaxed: a guess. What is used is what `look_again` finds.
        let mut held = Tagged { word: link.word.load(Relaxed) };
        loop {
            if held.is_frozen() {
                return Err(Frozen);
            }
            match self.look_again(held.as_ptr(), held.word, &link.word) {
                Ok(word) => return Ok(Tagged { word }.as_ptr()),
                Err(word) => held = Tagged { word },
            }
        }
    }
}
