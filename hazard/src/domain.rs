//! The heavy side: what is retired, and when it is freed.

use core::fmt;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::AtomicUsize;

use asymfence::{HeavyFenceError, try_heavy_fence};
use crossbeam_utils::CachePadded;

use crate::family::{Family, Global};
use crate::pointer::HazardPointer;
use crate::retired::{Bag, Chain, free_box};
use crate::slots::{Slot, Slots};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{LOOM, array_of, global, yield_now};
use crate::thread;

/// Hazard pointers, and the objects that wait until none of them protects them.
///
/// The hazard pointers of a domain protect what is retired to it, and nothing else. Most programs use
/// [`Domain::global`]; a domain of one's own, with a [`Family`] to tell it apart, keeps one structure's
/// garbage from another's and frees what is left when it is dropped.
///
/// ```
/// use asymfence_hazard::{AtomicPtr, Domain, Family};
///
/// struct Routes;
/// impl Family for Routes {}
/// static ROUTES: Domain<Routes> = Domain::new();
///
/// let table: AtomicPtr<[u8; 4], Routes> = AtomicPtr::from(Box::new([127, 0, 0, 1]));
/// let mut hazard = ROUTES.hazard_pointer();
/// assert_eq!(hazard.protect(&table), Some(&[127, 0, 0, 1]));
/// # drop(hazard);
/// # let old = unsafe { table.swap(std::ptr::null_mut()) };
/// # unsafe { ROUTES.retire(old) };
/// # assert_eq!(ROUTES.reclaim_all().unwrap().freed, 1);
/// ```
///
/// A hazard pointer of another family does not protect it:
///
/// ```compile_fail,E0308
/// use asymfence_hazard::{AtomicPtr, Domain, Family};
///
/// struct Routes;
/// impl Family for Routes {}
///
/// let table: AtomicPtr<[u8; 4], Routes> = AtomicPtr::from(Box::new([127, 0, 0, 1]));
/// let mut hazard = Domain::global().hazard_pointer();
/// assert_eq!(hazard.protect(&table), Some(&[127, 0, 0, 1]));
/// ```
///
/// # How much garbage there can be
///
/// With `H` hazard pointers ([`Stats::hazard_pointers`]), at most `2·H + 1536` objects wait, and as many
/// again for each reclaim that is in progress, whether it runs or was preempted; a thread is in at most one
/// that [`retire`](Domain::retire) began. A reclaim leaves at most the one object that each hazard pointer
/// protects, `H`; the next begins when `max(1024, H)` more have been retired, up to 64 in each of 8 bags not
/// counted. A reader that stops holds back what it protects, and nothing else.
///
/// Not in this count: what destructors retire, until the reclaim that runs them is done; objects of no
/// size, which share one address and so wait for each other; everything, while heavy fences *fail*
/// ([`Stats::failed`]); and without the feature `std` what is retired while 16 reclaims are in progress.
///
/// # Fork
///
/// A child of fork(2) can go on. What the parent's other threads protected stays protected in it, what
/// they were about to free is not freed, and their hazard pointers are not used again. (Without the feature
/// `std`, reclaims that they were in count as in progress in the child too.)
pub struct Domain<F = Global> {
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

global! {
    /// Of the process.
    static GLOBAL: Domain<Global> = Domain::empty();
}

impl Domain<Global> {
    /// The domain of the process. Threads keep some of its hazard pointers at hand (feature `std`), so
    /// that taking one costs a few instructions.
    ///
    /// What was retired to it and not reclaimed when the process ends is never freed: call
    /// [`reclaim_all`](Domain::reclaim_all) if destructors have to run.
    #[must_use]
    pub fn global() -> &'static Self {
        &GLOBAL
    }
}

/// The constructors, `const` where the atomics' are.
macro_rules! new {
    ($($constness:ident)?) => {
        /// A domain of one's own.
        #[must_use]
        pub $($constness)? fn new() -> Self
        where
            F: Family,
        {
            Self::empty()
        }

        $($constness)? fn empty() -> Self {
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

    /// A hazard pointer that protects nothing yet. It goes back to the domain when it is dropped.
    ///
    /// Of the global domain: a few instructions, as long as the thread has one at hand. Of another: a
    /// search for a free one. Allocates where there is none.
    #[inline]
    #[must_use]
    pub fn hazard_pointer(&self) -> HazardPointer<'_, F> {
        HazardPointer::new(self, self.take_slot())
    }

    /// Several hazard pointers at once.
    ///
    /// ```
    /// use asymfence_hazard::Domain;
    ///
    /// let [mut head, mut next] = Domain::global().hazard_pointers();
    /// # head.reset_protection();
    /// # next.reset_protection();
    /// ```
    #[inline]
    #[must_use]
    pub fn hazard_pointers<const N: usize>(&self) -> [HazardPointer<'_, F>; N] {
        core::array::from_fn(|_| self.hazard_pointer())
    }

    /// Frees `object`, a box's, as soon as no hazard pointer protects it.
    ///
    /// Once in a while this reclaims, like [`reclaim`](Domain::reclaim): it makes a heavy fence and runs the
    /// destructors of whatever was retired by whomever. So hold no lock that one of them may want. May be
    /// called in a destructor.
    ///
    /// # Safety
    ///
    /// - `object` came from [`Box::into_raw`](alloc::boxed::Box::into_raw) and is retired once. Hand over
    ///   the pointer that a `swap` or `compare_exchange` returned, not one made from the `&T` of a
    ///   `protect`, which nobody may write through, let alone free.
    /// - It was unlinked *before*: no pointer by which another thread may find and protect it leads to it
    ///   any more, or will again. What unlinked it happens before this call.
    /// - Whoever still uses it has protected it by a hazard pointer with this very address, not that of a
    ///   part of it, and of *this* domain. (For the global domain the family sees to that, and for any other
    ///   that is the only one of its family.)
    /// - If its destructor runs when the domain is dropped, it does not use the domain.
    ///
    /// # Panics
    ///
    /// If the destructor of an object that is freed here panics. The object counts as freed, and the
    /// others that were to be freed stay retired.
    #[inline]
    pub unsafe fn retire<T: Send + 'static>(&self, object: *mut T) {
        // SAFETY: that the object came from a box is the caller's to promise; the rest as well.
        unsafe { self.retire_with(object, free_box) };
    }

    /// Frees `object` by `deleter`, as soon as no hazard pointer protects it.
    ///
    /// # Safety
    ///
    /// As [`retire`](Domain::retire), except that `object` came from where `deleter` knows; and `deleter`
    /// may be called with it in any thread, as late as when the domain is dropped, and until then both are
    /// valid. It may also never be called.
    ///
    /// # Panics
    ///
    /// As [`retire`](Domain::retire).
    pub unsafe fn retire_with<T>(&self, object: *mut T, deleter: unsafe fn(*mut T)) {
        let bag = self.bag();
        // Counted before it can be found, so that the numbers never say that more was freed.
        let count = bag.count();
        // SAFETY: the contract of this function.
        bag.put(unsafe { Chain::of(object, deleter) });
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
        let mut taken = self.bags.each_ref().map(|bag| InHand { chain: bag.take(), bag });
        if taken.iter().all(|taken| taken.chain.is_empty()) {
            return Ok(Reclaimed::default());
        }
        // Heavy fence: every object in hand was unlinked before it, by us or by a thread whose Release
        // in `Bag::put` we have acquired.
        // Pairs with: the light fence in `HazardPointer::protect` (scenario A).
        //  - the reader's publication came first: we see it below, and keep the object;
        //  - the heavy fence came first: the reader sees that the source has changed, and tries again.
        if let Err(error) = try_heavy_fence() {
            // Relaxed: a number for reports.
            self.failed.fetch_add(1, Relaxed);
            return Err(error);
        }
        let protected = self.slots.protected();
        let mut kept = InHand { chain: Chain::empty(), bag: self.bag() };
        let mut done = Reclaimed::default();
        for InHand { chain, .. } in &mut taken {
            while let Some(object) = chain.first() {
                if protected.binary_search(&object).is_ok() {
                    done.kept += 1;
                    chain.hand_on(&mut kept.chain);
                } else {
                    freed.count += 1;
                    // SAFETY: unlinked before the heavy fence, and not protected after it; those who
                    // used it are done, as the Acquire in `Slots::protected` says.
                    unsafe { chain.free_first() };
                }
            }
        }
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
    pub fn stats(&self) -> Stats {
        // Acquire, and before the others: what was freed was counted as retired before. Pairs with: the
        // Release in `Tally`, by way of that in `Bag::put`. The others Relaxed: numbers for reports.
        let freed = self.freed.load(Acquire);
        Stats {
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

impl<F> Domain<F> {
    /// A slot for a hazard pointer of this domain.
    #[inline]
    fn take_slot(&self) -> &Slot {
        match self.if_global().map(|_| thread::take()) {
            Some(Some(slot)) => slot,
            _ => self.find_slot(),
        }
    }

    #[cold]
    fn find_slot(&self) -> &Slot {
        match self.if_global() {
            Some(slots) => slots.take(thread::CAPACITY.saturating_sub(1), thread::keep),
            None => self.slots.take(0, |_| ()),
        }
    }

    /// Takes back a slot that protects nothing.
    #[inline]
    pub(crate) fn give_back(&self, slot: &Slot) {
        if self.if_global().is_some() {
            // SAFETY: a slot of the global domain is one for ever.
            thread::keep(unsafe { &*ptr::from_ref(slot) });
        } else {
            slot.release();
        }
    }

    /// The slots of the global domain, if this is it.
    #[inline]
    fn if_global(&self) -> Option<&'static Slots> {
        let global = Domain::global();
        ptr::eq(ptr::from_ref(self).cast(), global).then_some(&global.slots)
    }
}

/// Retired objects that a reclaim has in hand. What is left of them at its end, or when a destructor
/// panics, goes back into a bag.
struct InHand<'d> {
    chain: Chain,
    bag: &'d Bag,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.bag.put(core::mem::replace(&mut self.chain, Chain::empty()));
    }
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
pub struct Stats {
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

impl Stats {
    /// Objects that are retired and not freed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.retired.wrapping_sub(self.freed)
    }
}

impl<F: Family> Default for Domain<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> fmt::Debug for Domain<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Domain").field(&self.stats()).finish()
    }
}
