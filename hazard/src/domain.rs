//! The heavy side: when a heavy fence is made for what was retired, and who frees how much of it when.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;
use core::time::Duration;

use asymfence::{HeavyFenceError, try_heavy_fence};
use crossbeam_utils::CachePadded;

#[cfg(feature = "std")]
use crate::background::Background;
use crate::clock;
use crate::panics::through_panics;
use crate::ring::{AT_ONCE, Batch, Ring, Rings, Speed};
use crate::slots::Slots;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicPtr, LOOM, Number, yield_now};
use crate::thread::{self, Local};

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
/// Let `H` be the number of hazard pointers ([`DomainStats::hazard_pointers`]), `T` that of the threads that retire
/// ([`DomainStats::threads`]), and `E` the largest of [`Thresholds::objects`], `H`, and `T` eighths of
/// [`Thresholds::objects`].
///
/// - **Objects**: at most `4·E + H` wait, and `E` more for each heavy fence that is in flight. When `E` have been
///   retired since somebody last came to make a heavy fence, one thread makes the next, which serves all. From then on
///   each thread frees one object for each that it retires, and a few of those that threads have left who stand still
///   or have ended. A reader that stops holds back what it protects, and nothing else.
/// - **Slow fences**: while a heavy fence is slow, or the thread that makes it is preempted, the next `E` objects bring
///   another thread to make one. So there are as many in flight as threads that retire, at most, and `4·E + H + T·E`
///   objects.
/// - **Threads that end**: then `T` falls, and `E` with it. What they have left counts from the next retire on. Those who
///   go on to retire free up to 64 of these objects at each look, one in four retires; when nobody does, they wait.
/// - **Bytes**: at most four times [`Thresholds::bytes`], that once more for each heavy fence in flight, what is
///   protected, and the last four objects of each thread, at which it has not looked yet. An object counts as many as
///   its type has, or as [`retire_weighing`](Domain::retire_weighing) was told.
/// - **Time** (with the feature `std`): a retire that comes when the last heavy fence is [`Thresholds::pause`] ago makes
///   one, and frees up to 16 objects that wait. Such fences take less than 1 % of the time: after a slow one the next
///   comes later, up to a tenth of a second. A thread that retires fast looks at the clock once in 32 objects. At rest
///   nothing is done: the last few objects wait for the next retire, for
///   [`reclaim`](Domain::reclaim), or for the thread of
#[cfg_attr(feature = "std", doc = "  [`reclaim_in_background`](Domain::reclaim_in_background).")]
#[cfg_attr(not(feature = "std"), doc = "  `reclaim_in_background`, which the feature `std` has.")]
///
/// A thread whose ring another empties at the moment, and was stopped at that, waits for it when more than its share
/// waits there, `2·E / T` objects.
///
/// Measured, with the default thresholds, 2 cores of an Intel Xeon under KVM, Linux 6.18, 2026-11-26: of 4 threads that
/// retire 500,000 objects each at most 3,484 waited; of 64 that retire 20,000 each, where `4·E` is 32,768 and
/// fences are in flight, between 3,793 and 71,254 in 31 runs. Of 1,000 threads that retire half a megabyte each and then
/// stand still 15.5 MB waited. 2,000 threads that retired 60 objects each and ended left
/// 120,000 where no time was set; when another thread had retired 10,000, there were 783.
///
/// Not in this count: what a thread has in hand that was stopped in the middle of a retire or a reclaim, up to 64
/// objects, and if it was stopped while it took them out, what else it has retired, up to `2·E`; what destructors retire, until as
/// many objects have been retired by others; objects of no size, which share one address and so wait for each other;
/// what [`retire_deferred`](Domain::retire_deferred) has retired; and everything, while heavy fences *fail*
/// ([`DomainStats::failed`]). Then they are tried less and less often, up to 64 times as late; and when they succeed
/// again no single retire frees more than 128 objects.
///
/// Each thread that retires to a domain has a ring of some 1.5 KiB there, which grows by as much for each 64 objects,
/// shrinks again, and is used by another thread when it ends.
///
/// # Fork
///
/// A child of fork(2) can go on. What the parent's other threads protected stays protected in it, what they had
/// retired is freed, but for what they were about to free, and their hazard pointers are not used again. If one was
/// taking objects out of a ring at that moment, all that is in that ring stays. If that is the ring of the thread that
/// forked, it takes another as soon as more than its share is in it, after some 10,000 tries.
/// (Without the feature `std`, reclaims that they were in count as in progress in the child too.)
pub struct Domain<F> {
    slots: Slots,
    rings: Rings,
    thresholds: Thresholds,
    due: CachePadded<Due>,
    /// Objects and bytes freed by others than the owners of the rings, ever.
    freed: CachePadded<[Number; 2]>,
    /// A ring whose owner does not empty it: others do, a few objects at a time. Or null.
    behind: AtomicPtr<Ring>,
    #[cfg(feature = "std")]
    background: Background,
    family: PhantomData<fn(F) -> F>,
}

/// What decides when a heavy fence is due. Advice, all of it: no order depends on it.
struct Due {
    /// Objects and bytes retired, but for the last few in each ring. They wrap.
    counted: [Number; 2],
    /// The numbers up to which somebody has come to make a fence.
    looked_at: [Number; 2],
    /// How many times as late the next fence comes, since the last ones failed.
    factor: Number,
    /// Objects that waited at the last fence.
    waited: Number,
    /// When somebody has come to make a fence, in microseconds, and how long none is made after that for time alone.
    fenced_at: Number,
    pause: Number,
    failed: Number,
}

/// How much waits before a domain makes a heavy fence.
///
/// ```
/// use asymfence_hazard::{Thresholds, domain};
///
/// domain! {
///     /// Of large objects.
///     pub enum Textures {} = Thresholds { objects: 64, bytes: 256 << 20, ..Thresholds::DEFAULT };
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Objects.
    pub objects: usize,
    /// Bytes, as [`retire`](Domain::retire) counts them.
    pub bytes: usize,
    /// How long something waits, when a thread retires again: at least a millisecond. `None`: a retire reclaims by
    /// numbers alone. (Without the feature `std` there is no clock, and this is not looked at.)
    pub pause: Option<Duration>,
}

impl Thresholds {
    /// 1,024 objects, 8 MiB, a millisecond.
    pub const DEFAULT: Self =
        Thresholds { objects: 1024, bytes: 8 << 20, pause: Some(Duration::from_millis(1)) };
}

impl Default for Thresholds {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Objects between two looks of a thread at what it may free; as many are freed at each. No more than glibc's allocator
/// keeps at hand for a thread (7), so that the next allocations find them there.
const STRIDE: usize = 4;

/// How much of a threshold a thread retires before the domain counts it.
const SHARE: usize = 16;

/// How many times as late a fence comes at most, after failures.
const LATEST: usize = 64;

/// The least time between two heavy fences for time alone, and the most, in microseconds.
const PAUSES: [usize; 2] = [1_000, 100_000];

/// Heavy fences for time alone take less than one part in so many of the time.
const COSTLY: usize = 128;

/// How often `reclaim_all` looks again whether another thread is done.
const PATIENCE: u32 = 1_000;

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        /// # Safety
        ///
        /// For `domain!`: it is the only domain of its family.
        #[doc(hidden)]
        #[must_use]
        pub $($constness)? unsafe fn __new(thresholds: Thresholds) -> Self {
            Domain {
                slots: Slots::new(),
                rings: Rings::new(),
                thresholds,
                due: CachePadded::new(Due {
                    counted: [const { Number::new(0) }; 2],
                    looked_at: [const { Number::new(0) }; 2],
                    factor: Number::new(1),
                    waited: Number::new(0),
                    fenced_at: Number::new(0),
                    pause: Number::new(PAUSES[0]),
                    failed: Number::new(0),
                }),
                freed: CachePadded::new([const { Number::new(0) }; 2]),
                behind: AtomicPtr::new(ptr::null_mut()),
                #[cfg(feature = "std")]
                background: Background::new(),
                family: PhantomData,
            }
        }
    };
}

impl<F> Domain<F> {
    crate::sync::const_where_possible!(new);

    /// A thread ends that has these.
    ///
    /// # Safety
    ///
    /// For `domain!`: the `Local` is the thread's own of this family, and nothing of this domain runs below this call.
    #[doc(hidden)]
    pub unsafe fn __leave(&self, local: &Local) {
        local.leave(&self.slots, &self.rings);
    }

    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn rings(&self) -> &Rings {
        &self.rings
    }

    /// Frees every retired object that no hazard pointer protects, whichever thread retired it: one heavy fence for
    /// all of them.
    ///
    /// Waits for another thread in its heavy fence, and while that takes objects out of a ring, but not for ever. What
    /// another thread is about to free at this moment is left to that.
    ///
    /// Called in a destructor that the domain runs, it frees nothing, so that the depth of the stack does not grow
    /// with what destructors do. The call that runs the destructor reclaims again when it is done with the others,
    /// unless one of them has panicked. It does so each time that a destructor has asked for it: a destructor that
    /// retires an object of its own kind and reclaims keeps that call busy for ever. (Without the feature `std` a call
    /// in a destructor reclaims too, but no call does while 16 others are under way in the process.)
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
        let again = || _ = self.reclaim_now();
        let done = thread::outermost(self.address(), true, || self.reclaim_now(), again);
        done.unwrap_or(Ok(Reclaimed::default()))
    }

    fn reclaim_now(&self) -> Result<Reclaimed, HeavyFenceError> {
        let mut tails = self.tails();
        tails.retain(|&(ring, tail)| ring.waiting(tail) != 0);
        if tails.is_empty() {
            return Ok(Reclaimed::default());
        }
        self.fence(&tails)?;
        let scan = self.slots.protected();
        let mut done = Reclaimed::default();
        let (mut tails, mut at) = (tails.into_iter(), None);
        through_panics(|| {
            while let Some((ring, tail, condemns)) =
                at.take().or_else(|| tails.next().map(|(ring, tail)| (ring, tail, true)))
            {
                let mut batch = Batch::new();
                let looked = ring.take(tail, &scan, condemns, &self.slots, &mut batch);
                done.freed += batch.len();
                if looked.more {
                    at = Some((ring, tail, false));
                } else {
                    done.kept += looked.kept;
                }
                self.free(ring, &mut batch, false);
            }
        });
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
    ///
    /// The numbers are read one after the other. Beside threads that retire or reclaim they belong to no single moment.
    #[must_use]
    pub fn stats(&self) -> DomainStats {
        // Acquire, and before the others: what was freed was counted as retired before. Pairs with: the
        // Releases in `free`, and that in `Ring::settle`. The others Relaxed: numbers for reports.
        let [mut freed, mut freed_bytes] = [0, 1].map(|unit| self.freed[unit].load(Acquire));
        for (objects, bytes) in self.rings.iter().map(Ring::freed) {
            freed = freed.wrapping_add(objects);
            freed_bytes = freed_bytes.wrapping_add(bytes);
        }
        let sum = |of: fn(&Ring) -> usize| {
            self.rings.iter().fold(0_usize, |sum, ring| sum.wrapping_add(of(ring)))
        };
        DomainStats {
            hazard_pointers: self.slots.used(),
            slots: self.slots.made(),
            threads: self.rings.owned(),
            retired: sum(Ring::tail),
            freed,
            waiting_bytes: sum(Ring::bytes).wrapping_sub(freed_bytes),
            failed: self.due.failed.load(Relaxed),
        }
    }

    /// Whether anything is retired and not freed.
    #[cfg(feature = "std")]
    pub(crate) fn anything_waits(&self) -> bool {
        self.rings.iter().any(|ring| ring.waiting(ring.tail()) != 0)
    }

    #[cfg(feature = "std")]
    pub(crate) fn background(&self) -> &Background {
        &self.background
    }

    fn address(&self) -> *const () {
        ptr::from_ref(self).cast()
    }

    /// Objects that make a heavy fence worth it: so many that neither it nor the look at every hazard pointer nor that
    /// at every ring costs much for each.
    fn enough(&self) -> usize {
        let Thresholds { objects, .. } = self.thresholds;
        objects.max(self.slots.used()).max((objects / 8).saturating_mul(self.rings.owned()))
    }

    /// How many objects come to a new ring before the first look. In a model the fewer looks the better.
    pub(crate) fn first(&self) -> usize {
        if LOOM { STRIDE.min(self.thresholds.objects).max(1) } else { 1 }
    }

    /// What a thread does each few objects: it counts what it has retired, makes a heavy fence if one is due, and
    /// frees as many objects as it has retired, if `frees`. False if it is to leave the ring, whose lock it cannot have:
    /// so it is in a child of fork(2), where the holder is not.
    ///
    /// # Safety
    ///
    /// By the owner of `ring`.
    pub(crate) unsafe fn step(&self, ring: &Ring, frees: bool) -> bool {
        let Thresholds { objects, bytes, .. } = self.thresholds;
        // First of all, so that destructors find room.
        // SAFETY: by the owner.
        let new = unsafe { ring.extend(STRIDE.min(objects).max(1)) };
        // Objects are few at a time. Bytes may be many, so all rings together keep no more than the threshold uncounted.
        let share = SHARE.max(self.rings.owned());
        let units = [(objects / SHARE).clamp(1, AT_ONCE), (bytes / share).max(1)];
        let left = self.rings.left(units[0], units[1]);
        if let Some(left) = left {
            self.count(left);
        }
        // SAFETY: as above.
        let own = unsafe { ring.to_count(units[0], units[1]) };
        if let Some((objects, bytes)) = own {
            self.count((objects, bytes));
            if self.waited_of(9, 8) {
                // SAFETY: as above.
                unsafe { ring.settle(objects, 0, 0) };
            }
        }
        let counted = left.is_some() || own.is_some();
        #[cfg(feature = "std")]
        if self.background.is_there() {
            if counted {
                self.background.look_whether_it_is_there();
            }
            self.background.wake(counted && self.claim());
            return true;
        }
        if !frees {
            return true;
        }
        // SAFETY: as above.
        let look = || unsafe { self.look(ring, new, counted) };
        // In a destructor the call around has the ring in use.
        thread::outermost(self.address(), false, look, || _ = self.reclaim_now()).unwrap_or(true)
    }

    /// So many objects and bytes have been retired.
    fn count(&self, (objects, bytes): (usize, usize)) {
        // Relaxed: numbers that decide when a fence is made, never what it orders.
        self.due.counted[0].fetch_add(objects, Relaxed);
        self.due.counted[1].fetch_add(bytes, Relaxed);
    }

    /// False if the ring's lock is not to be had.
    ///
    /// # Safety
    ///
    /// By the owner of `ring`.
    unsafe fn look(&self, ring: &Ring, new: usize, counted: bool) -> bool {
        let now = || self.thresholds.pause.and_then(|_| clock::now());
        // SAFETY: by the owner.
        let speed = unsafe { ring.speed(now) };
        let by_time = match speed {
            Speed::Slow(now) | Speed::Fast(now) => {
                ring.waiting(ring.tail()) > new && self.claim_at(now)
            }
            Speed::Unknown => false,
        };
        if by_time || counted && self.claim() {
            // An error is counted, and the garbage kept.
            let _ = self.fence(&self.tails());
        }
        // SAFETY: as above.
        let debt = unsafe { ring.debt() };
        let most = match speed {
            // They have been out of the cache for long, each costs a quarter of a microsecond.
            Speed::Slow(_) => 4 * STRIDE,
            _ if self.waited_of(8, 1) => AT_ONCE,
            _ => debt.min(new + STRIDE),
        };
        let mut batch = Batch::new();
        // What a ring holds when all hold the same, and a thread that was preempted stops none of them.
        let fair = || (self.enough() / self.rings.owned().max(1)).saturating_mul(2);
        let is_urgent = || ring.waiting(ring.tail()) > fair();
        let had = ring.take_own(&self.slots, most, is_urgent, &mut batch);
        if !batch.is_empty() {
            self.free(ring, &mut batch, true);
        }
        self.help();
        had
    }

    /// Whether at the last fence more waited than so much of what makes one worth it.
    fn waited_of(&self, of: usize, part: usize) -> bool {
        // Relaxed: advice.
        let waited = self.due.waited.load(Relaxed);
        let most = (self.enough() / part).saturating_mul(of);
        waited > most.saturating_add(AT_ONCE * self.rings.owned())
    }

    /// Whether a fence is due by numbers: one caller makes it.
    fn claim(&self) -> bool {
        let due = &*self.due;
        // Relaxed, all: numbers that decide when a fence is made, never what it orders.
        let counted = [0, 1].map(|unit| due.counted[unit].load(Relaxed));
        let looked_at = [0, 1].map(|unit| due.looked_at[unit].load(Relaxed));
        let factor = due.factor.load(Relaxed);
        // Signed: another may have come to look at more than we have counted.
        let is_enough = |unit: usize, enough: usize| {
            counted[unit].wrapping_sub(looked_at[unit]) as isize
                >= enough.saturating_mul(factor).min(isize::MAX as usize) as isize
        };
        (is_enough(0, self.enough()) || is_enough(1, self.thresholds.bytes.max(1)))
            && due.looked_at[0].compare_exchange(looked_at[0], counted[0], Relaxed, Relaxed).is_ok()
    }

    /// Whether a fence is due by time: one caller makes it.
    fn claim_at(&self, now: usize) -> bool {
        let due = &*self.due;
        // Relaxed, all: as above.
        let fenced_at = due.fenced_at.load(Relaxed);
        let least = self.thresholds.pause.map_or(0, |pause| pause.as_micros());
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        let pause = due.pause.load(Relaxed).max(least).saturating_mul(due.factor.load(Relaxed));
        // A longer one would be negative.
        now.wrapping_sub(fenced_at) as isize >= pause.min(isize::MAX as usize) as isize
            && due.fenced_at.compare_exchange(fenced_at, now, Relaxed, Relaxed).is_ok()
    }

    /// Every ring, and the position before which a heavy fence serves what is in it that is made now.
    fn tails(&self) -> Vec<(&Ring, usize)> {
        self.rings.iter().map(|ring| (ring, ring.tail())).collect()
    }

    /// One heavy fence for every ring, whose tail was read before.
    fn fence(&self, tails: &[(&Ring, usize)]) -> Result<(), HeavyFenceError> {
        let due = &*self.due;
        for (looked_at, counted) in due.looked_at.iter().zip(&due.counted) {
            // Relaxed, both: numbers that decide when a fence is made.
            looked_at.store(counted.load(Relaxed), Relaxed);
        }
        let begun = clock::now();
        // Heavy fence: every object below these tails was unlinked before it, by us or by a thread whose Release in
        // `Ring::put` we have acquired.
        // Pairs with: the light fence in `HazardPointer::protect_raw` (scenario A).
        //  - the reader's publication came first: the scan sees it, and the object is kept;
        //  - the heavy fence came first: the reader sees that the source has changed, and tries again.
        // Relaxed, all below: advice, and numbers for reports.
        if let Err(error) = try_heavy_fence() {
            due.failed.fetch_add(1, Relaxed);
            due.factor.store(LATEST.min(2 * due.factor.load(Relaxed)), Relaxed);
            return Err(error);
        }
        due.factor.store(1, Relaxed);
        if let (Some(begun), Some(ended)) = (begun, clock::now()) {
            let cost = ended.wrapping_sub(begun).min(PAUSES[1]);
            due.pause.store((COSTLY * cost).clamp(PAUSES[0], PAUSES[1]), Relaxed);
            due.fenced_at.store(ended, Relaxed);
        }
        let mut waited = 0_usize;
        let mut behind = None;
        for &(ring, tail) in tails {
            let before = ring.raise(tail);
            let waiting = ring.waiting(tail);
            waited = waited.saturating_add(waiting);
            // What the last fence served is gone by now, if the owner goes on as it did. Where there is no owner, nobody
            // empties the ring.
            let new = tail.wrapping_sub(before);
            let (until, most) = match new {
                _ if !ring.is_owned() => (tail, 0),
                0 => (before, 0),
                _ => (before, new.saturating_add(AT_ONCE)),
            };
            if waiting > most {
                ring.falls_behind(until);
                behind.get_or_insert(ring);
            }
        }
        due.waited.store(waited, Relaxed);
        if let Some(behind) = behind {
            self.set_behind(Some(behind));
        }
        Ok(())
    }

    fn set_behind(&self, ring: Option<&Ring>) {
        let ring = ring.map_or(ptr::null_mut(), |ring| ptr::from_ref(ring).cast_mut());
        // Release: the ring was made before. Pairs with: the Acquire in `help`.
        self.behind.store(ring, Release);
    }

    /// Frees a few objects of rings whose owners stand still, have gone, or go on more slowly than they did.
    fn help(&self) {
        // Relaxed: a first look.
        if self.behind.load(Relaxed).is_null() {
            return;
        }
        let mut most = match () {
            () if self.waited_of(8, 1) => AT_ONCE,
            () if self.waited_of(9, 8) => 4 * STRIDE,
            () => STRIDE,
        };
        while most > 0 {
            // Acquire: the ring was made before it was stored here. Pairs with: the Release in `set_behind`.
            let behind = self.behind.load(Acquire);
            // SAFETY: a ring of this domain is valid as long as the domain, which we borrow.
            let Some(ring) = (unsafe { behind.as_ref() }) else { return };
            let mut freed = 0;
            let mut is_done = true;
            if let Some(until) = ring.behind() {
                let mut batch = Batch::new();
                is_done = !ring.take_for_owner(&self.slots, until, most, &mut batch);
                freed = batch.len();
                self.free(ring, &mut batch, false);
            }
            if is_done {
                self.set_behind(self.rings.behind(ring).find(|ring| ring.behind().is_some()));
            }
            // To look at a ring that has nothing counts as an object.
            most -= freed.max(1);
        }
    }

    /// Frees what is in the batch, which was taken out of `ring`: by its owner, if `own`.
    #[inline]
    fn free(&self, ring: &Ring, batch: &mut Batch, own: bool) {
        struct Freeing<'d, F> {
            domain: &'d Domain<F>,
            ring: &'d Ring,
            batch: &'d mut Batch,
            own: bool,
            objects: usize,
            bytes: usize,
        }

        impl<F> Drop for Freeing<'_, F> {
            #[inline]
            fn drop(&mut self) {
                // Without `std` a panic leaves some.
                while let Some(item) = self.batch.next() {
                    self.ring.keep(item);
                }
                if self.own {
                    // SAFETY: by the owner.
                    unsafe { self.ring.settle(0, self.objects, self.bytes) };
                } else {
                    // Release: see `stats`, its partner.
                    self.domain.freed[1].fetch_add(self.bytes, Release);
                    self.domain.freed[0].fetch_add(self.objects, Release);
                }
            }
        }

        let (objects, bytes) = (0, 0);
        let mut freeing = Freeing { domain: self, ring, batch, own, objects, bytes };
        through_panics(|| {
            while let Some(item) = freeing.batch.next() {
                freeing.objects += 1;
                freeing.bytes = freeing.bytes.wrapping_add(item.weight());
                // SAFETY: unlinked before a heavy fence, and not protected at a scan after it (SCANNED); those who used
                // it are done, as the Acquire of the scan says. In no other hands (ONCE).
                unsafe { item.free() };
            }
        });
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

/// What a domain has done since it was made. The numbers wrap, and are read one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainStats {
    /// Hazard pointers, with those that threads keep at hand, up to 7 each.
    pub hazard_pointers: usize,
    /// Places for hazard pointers: as many as were ever needed at the same time, or twice that.
    pub slots: usize,
    /// Threads that have retired something and not ended. A child of fork(2) goes on to count those that its parent had
    /// then, though it has no more than one of them. (Without the feature `std`: threads in the middle of a retire.)
    pub threads: usize,
    /// Objects retired.
    pub retired: usize,
    /// Objects freed.
    pub freed: usize,
    /// Bytes of the objects that are retired and not freed. As with [`waiting`](DomainStats::waiting), it may be more
    /// than ever waited.
    pub waiting_bytes: usize,
    /// Heavy fences that failed: as long as this grows, garbage piles up. [`Domain::reclaim`] returns the error,
    /// which says why.
    pub failed: usize,
}

impl DomainStats {
    /// Objects that are retired and not freed. What was freed is read first: so beside threads that retire this may be
    /// more than ever waited at one moment.
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
