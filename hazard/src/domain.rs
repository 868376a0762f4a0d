//! The heavy side: what is retired, and when it is freed.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::AtomicUsize;

use asymfence::{HeavyFenceError, try_heavy_fence};
use crossbeam_utils::CachePadded;

use crate::retired::{Bag, Garbage, through_panics};
use crate::slots::Slots;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{LOOM, array_of, yield_now};
use crate::thread;

/// The hazard pointers of one family, and the objects that wait until none of them protects them.
///
/// The hazard pointers of a domain protect what is retired to it, and nothing else. Most programs use
/// [`Domain::global`] without naming it. [`domain!`](crate::domain!) makes a domain of one's own.
///
/// ```
/// use asymfence_hazard::{AtomicBox, Domain};
///
/// let config: AtomicBox<String> = AtomicBox::from(Box::new("one".to_owned()));
/// config.store(Box::new("two".to_owned())); // retires the first
/// assert!(Domain::global().reclaim_all().unwrap().freed >= 1);
/// ```
///
/// Nothing takes a domain, so a second one of a family cannot be made to matter:
///
/// ```compile_fail,E0061
/// use asymfence_hazard::{Domain, Global, HazardPointer};
///
/// let mut hazard = HazardPointer::<Global>::new(Domain::global());
/// ```
///
/// # How much garbage there can be
///
/// With `H` hazard pointers ([`DomainStats::hazard_pointers`]), at most `2·H + 1536` objects wait, and as many
/// again for each reclaim that is in progress, whether it runs or was preempted; a thread is in at most one
/// that [`retire`](Domain::retire) began. A reclaim leaves at most the one object that each hazard pointer
/// protects, `H`; the next begins when `max(1024, H)` more have been retired, up to 64 in each of 8 bags not
/// counted. A reader that stops holds back what it protects, and nothing else.
///
/// Not in this count: what destructors retire, until the reclaim that runs them is done; objects of no
/// size, which share one address and so wait for each other; everything, while heavy fences *fail*
/// ([`DomainStats::failed`]); and without the feature `std` what is retired while 16 reclaims are in progress.
///
/// # Fork
///
/// A child of fork(2) can go on. What the parent's other threads protected stays protected in it, what
/// they were about to free is not freed, and their hazard pointers are not used again. (Without the feature
/// `std`, reclaims that they were in count as in progress in the child too.)
pub struct Domain<F> {
    bags: [CachePadded<Bag>; BAGS],
    slots: Slots,
    /// Objects freed, ever. Never loom's, as the other numbers: no order depends on them.
    freed: CachePadded<AtomicUsize>,
    /// Objects retired, but for the last few in each bag; and the number up to which somebody has come to
    /// look at them. They wrap.
    counted: AtomicUsize,
    looked_at: AtomicUsize,
    failed: AtomicUsize,
    family: PhantomData<fn(F) -> F>,
}

/// Threads that retire at once had better not share a bag. A power of two.
const BAGS: usize = if LOOM { 1 } else { 8 };

/// How many retired objects make a reclaim worth its heavy fence.
const ENOUGH: usize = 1024;

/// How many objects are retired to a bag before the domain counts them.
const AT_ONCE: usize = 64;

/// How often `reclaim_all` looks again whether another thread is done.
const PATIENCE: u32 = 1_000;

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        #[doc(hidden)]
        #[must_use]
        pub $($constness)? fn __new() -> Self {
            Domain {
                bags: array_of!(CachePadded::new(Bag::new()); BAGS),
                slots: Slots::new(),
                freed: CachePadded::new(AtomicUsize::new(0)),
                counted: AtomicUsize::new(0),
                looked_at: AtomicUsize::new(0),
                failed: AtomicUsize::new(0),
                family: PhantomData,
            }
        }
    };
}

impl<F> Domain<F> {
    crate::sync::const_where_possible!(new);

    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Frees `object`, a box's, as soon as no hazard pointer protects it.
    ///
    /// Once in a while this reclaims, like [`reclaim`](Domain::reclaim): it makes a heavy fence and runs the
    /// destructors of whatever any thread has retired. So hold no lock that one of them may want. May be
    /// called in a destructor.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    ///
    /// let object = Box::into_raw(Box::new(7));
    /// // SAFETY: from a box, and never linked.
    /// unsafe { Domain::global().retire(object) };
    /// ```
    ///
    /// # Safety
    ///
    /// - `object` came from [`Box::into_raw`] and is retired once. Hand over the pointer that a `swap` or
    ///   `compare_exchange` returned, not one made from a `&T`, which nobody may write through, let alone free.
    /// - It was unlinked *before*: no pointer by which another thread may find and protect it leads to it
    ///   any more, or will again. What unlinked it happens before this call.
    /// - Whoever still uses it has protected it by a hazard pointer of this family with this very address, not
    ///   that of a part of it.
    /// - This is the domain of its family.
    ///
    /// # Panics
    ///
    /// If the destructor of an object that is freed here panics. The panic goes on when all others have been
    /// freed. (Without `std` it goes on at once, and the others stay retired.)
    #[inline]
    pub unsafe fn retire<T: Send + 'static>(&self, object: *mut T) {
        // SAFETY: the contract of this function.
        self.put(unsafe { Garbage::of_box(object) });
    }

    /// Frees `object` by `deleter`, as soon as no hazard pointer protects it.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    /// use std::sync::Arc;
    ///
    /// let object = Arc::into_raw(Arc::new(7)).cast_mut();
    /// // SAFETY: an Arc's, and never linked.
    /// unsafe { Domain::global().retire_with(object, |object| drop(Arc::from_raw(object))) };
    /// ```
    ///
    /// # Safety
    ///
    /// As [`retire`](Domain::retire), except that `object` came from where `deleter` knows; and `deleter`
    /// may be called with it in any thread, and until then the object is valid. It may also never be called.
    ///
    /// # Panics
    ///
    /// As [`retire`](Domain::retire).
    pub unsafe fn retire_with<T, D>(&self, object: *mut T, deleter: D)
    where
        D: FnOnce(*mut T) + Send + 'static,
    {
        // SAFETY: the contract of this function.
        self.put(unsafe { Garbage::with(object, deleter) });
    }

    /// Frees `object` with the next reclaim. For what has never been linked: it is freed in the thread that
    /// reclaims, beside others.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    ///
    /// let object: Box<dyn std::any::Any + Send> = Box::new(7);
    /// Domain::global().retire_box(object);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`retire`](Domain::retire).
    pub fn retire_box<T: ?Sized + Send + 'static>(&self, object: Box<T>) {
        let object = Box::into_raw(object);
        // SAFETY: a box's, which nobody else has.
        let free = move |_: *mut ()| drop(unsafe { Box::from_raw(object) });
        // SAFETY: the object is `Send`, and nobody else's.
        self.put(unsafe { Garbage::with(object.cast::<()>(), free) });
    }

    fn put(&self, garbage: Garbage) {
        let bag = self.bag();
        // Counted before it can be found, so that the numbers never say that more was freed.
        let count = bag.count();
        bag.put(garbage);
        if count % AT_ONCE == 0 {
            self.reclaim_if_due();
        }
    }

    /// Frees every retired object that no hazard pointer protects: one heavy fence for all of them.
    ///
    /// Waits for another thread nowhere but in its heavy fence. What another thread is about to free at this
    /// moment is left to that. Called in a destructor, it runs other destructors within that one.
    ///
    /// # Errors
    ///
    /// If the heavy fence failed ([`try_heavy_fence`]). Then nothing has been freed: the garbage is kept,
    /// and tried again later.
    ///
    /// # Panics
    ///
    /// As [`retire`](Domain::retire).
    pub fn reclaim(&self) -> Result<Reclaimed, HeavyFenceError> {
        // Relaxed, both: numbers that decide when a reclaim begins, never what it frees.
        self.looked_at.store(self.counted.load(Relaxed), Relaxed);
        let mut freed = Tally { total: &self.freed, count: 0 };
        let mut taken = self.bags.each_ref().map(|bag| InHand { garbage: bag.take(), bag });
        if taken.iter().all(|taken| taken.garbage.is_empty()) {
            return Ok(Reclaimed::default());
        }
        // Heavy fence: every object in hand was unlinked before it, by us or by a thread whose Release
        // in `Bag::put` we have acquired.
        // Pairs with: the light fence in `HazardPointer::protect_raw` (scenario A).
        //  - the reader's publication came first: we see it below, and keep the object;
        //  - the heavy fence came first: the reader sees that the source has changed, and tries again.
        if let Err(error) = try_heavy_fence() {
            // Relaxed: a number for reports.
            self.failed.fetch_add(1, Relaxed);
            return Err(error);
        }
        let protected = self.slots.protected();
        let mut kept = InHand { garbage: Garbage::empty(), bag: self.bag() };
        let mut done = Reclaimed::default();
        through_panics(|| {
            for InHand { garbage, .. } in &mut taken {
                // SAFETY: all was unlinked before the heavy fence, and `protected` read after it; those who
                // used an object are done, as the Acquire in `Slots::protected` says.
                done.kept += unsafe {
                    free_unprotected(&protected, garbage, &mut kept.garbage, &mut freed.count)
                };
            }
        });
        done.freed = freed.count;
        Ok(done)
    }

    /// Frees every retired object that no hazard pointer protects, and what their destructors retire,
    /// until nothing is left but what is protected. For tests and for the end of a program.
    ///
    /// Waits for other threads that are about to free objects of this domain, but not for ever: afterwards
    /// everything that was retired before the call has been freed or is counted in [`Reclaimed::kept`]. That
    /// counts more than what is protected only if another thread goes on retiring, is stuck in a destructor,
    /// as this one is if it was called in one, or is gone with objects in hand after a fork. As long as
    /// there is something to free it goes on: threads that retire without a pause keep it busy.
    ///
    /// # Errors and panics
    ///
    /// As [`reclaim`](Domain::reclaim).
    pub fn reclaim_all(&self) -> Result<Reclaimed, HeavyFenceError> {
        let mut freed = 0;
        let mut tries = 0;
        loop {
            let pass = self.reclaim()?;
            freed += pass.freed;
            let kept = self.stats().waiting();
            if kept <= pass.kept || tries == PATIENCE {
                return Ok(Reclaimed { freed, kept });
            }
            if pass.freed == 0 {
                yield_now();
                tries += 1;
            }
        }
    }

    /// What the domain has done so far.
    #[must_use]
    pub fn stats(&self) -> DomainStats {
        // Acquire, and before the others: what was freed was counted as retired before. Pairs with: the
        // Release in `Tally`, by way of that in `Bag::put`. The others Relaxed: numbers for reports.
        let freed = self.freed.load(Acquire);
        DomainStats {
            hazard_pointers: self.slots.made(),
            retired: self.bags.iter().fold(0, |sum, bag| sum.wrapping_add(bag.retired())),
            freed,
            failed: self.failed.load(Relaxed),
        }
    }

    /// Counts objects that were retired. If that makes enough of them, one caller reclaims.
    #[cold]
    fn reclaim_if_due(&self) {
        // Relaxed, all: numbers that decide when a reclaim begins, never what it frees.
        let counted = self.counted.fetch_add(AT_ONCE, Relaxed).wrapping_add(AT_ONCE);
        let looked_at = self.looked_at.load(Relaxed);
        // Signed: another may have come to look at more than we have counted.
        let new = counted.wrapping_sub(looked_at) as isize;
        if new >= ENOUGH.max(self.slots.made()) as isize
            && self.looked_at.compare_exchange(looked_at, counted, Relaxed, Relaxed).is_ok()
        {
            thread::not_nested(ptr::from_ref(self).cast(), || {
                // An error is counted, and the garbage kept.
                let _ = self.reclaim();
            });
        }
    }

    /// The bag of this thread, more or less.
    fn bag(&self) -> &Bag {
        // Stacks lie apart. Where two threads meet in a bag nevertheless, they share it.
        const STACK: u32 = 20;
        let here = 0_u8;
        let stack = (&raw const here).addr() >> STACK;
        // The fractional part of the golden ratio spreads what lies side by side.
        let spread = (stack as u32).wrapping_mul(0x9E37_79B9) >> 16;
        &self.bags[spread as usize & (BAGS - 1)]
    }
}

/// Retired objects that a reclaim has in hand. What is left of them at its end, or when a destructor
/// panics, goes back into a bag.
pub(crate) struct InHand<'b> {
    pub(crate) garbage: Garbage,
    pub(crate) bag: &'b Bag,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.bag.put(core::mem::replace(&mut self.garbage, Garbage::empty()));
    }
}

/// Frees what is in `garbage` and not `protected`, counts it in `freed`, and moves the rest to `kept`.
/// Returns how many those are.
///
/// # Safety
///
/// All of it was unlinked before a heavy fence. `protected` is sorted, and was read after that fence.
pub(crate) unsafe fn free_unprotected(
    protected: &[*mut ()],
    garbage: &mut Garbage,
    kept: &mut Garbage,
    freed: &mut usize,
) -> usize {
    let mut count = 0;
    while let Some(object) = garbage.first() {
        if protected.binary_search(&object).is_ok() {
            count += 1;
            garbage.hand_on(kept);
        } else {
            *freed += 1;
            // SAFETY: nobody protects it, and nobody can find it.
            unsafe { garbage.free_first() };
        }
    }
    count
}

/// Adds to a total at the end, also if that is a panic.
struct Tally<'d> {
    total: &'d AtomicUsize,
    count: usize,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        // Release: see `stats`, its partner.
        self.total.fetch_add(self.count, Release);
    }
}

/// What a reclaim has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Objects that were freed.
    pub freed: usize,
    /// Objects that wait on, because a hazard pointer protects them.
    pub kept: usize,
}

/// What a domain has done since it was made. The numbers wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainStats {
    /// Hazard pointers that there are, free ones included: as many as were ever needed at the same time,
    /// with those that threads keep at hand, 7 each.
    pub hazard_pointers: usize,
    /// Objects retired.
    pub retired: usize,
    /// Objects freed.
    pub freed: usize,
    /// Reclaims whose heavy fence failed: as long as this grows, garbage piles up.
    /// [`Domain::reclaim`] returns the error, which says why.
    pub failed: usize,
}

impl DomainStats {
    /// Objects that are retired and not freed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.retired.wrapping_sub(self.freed)
    }
}

impl<F> fmt::Debug for Domain<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Domain").field(&self.stats()).finish()
    }
}
