//! All of a domain but its family: when a heavy fence is executed for retired objects, and which thread frees how many of
//! them when.

use alloc::vec::Vec;
use core::ptr;

use asymfence::{HeavyFenceError, try_heavy_fence};
use crossbeam_utils::CachePadded;

#[cfg(feature = "std")]
use crate::background::Background;
use crate::clock::{self, Wait};
use crate::freed::Freed;
use crate::noted::{Moment, Noted};
use crate::panics::through_panics;
use crate::ring::{AT_ONCE, Batch, Counted, Extended, Patience, Ring, Rings, Speed};
use crate::slots::Slots;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicPtr, Number, yield_now};
use crate::thread::{self, Local};
use crate::thresholds::{SHARE, STRIDE, Thresholds};

/// What a [`Domain`](crate::Domain) is beside its family. Not generic: it is compiled once, not once for each family.
pub(crate) struct Untyped {
    slots: Slots,
    rings: Rings,
    thresholds: Thresholds,
    /// How many objects a thread retires between two checks of its ring, and then frees.
    stride: usize,
    due: CachePadded<Due>,
    /// The moment at which half of the objects that make the next heavy fence due had come.
    noted: Noted,
    /// Objects and bytes ever freed by reclaims and by threads that help: all but what owners free when they retire.
    freed: CachePadded<Freed>,
    /// A ring whose owner does not empty it, or null. Other threads empty it, a few objects at a time.
    behind: AtomicPtr<Ring>,
    #[cfg(feature = "std")]
    background: Background,
}

/// Decides when a heavy fence is due. All of it is advice: no order depends on it.
struct Due {
    /// Objects and bytes retired, except the last few in each ring. The numbers wrap.
    counted: [Number; 2],
    /// The value of `counted` at the last heavy fence that was begun, or at the last moment that was served.
    looked_at: [Number; 2],
    /// How many times as late the next heavy fence comes, because the last ones failed.
    factor: Number,
    /// What waited at the last heavy fence: the number of objects, and the number of bytes. The bytes of protected
    /// objects are left out.
    waited: [Number; 2],
    /// Whether heavy fences have failed, and what waited meanwhile is not freed yet: 1 or 0.
    recovers: Number,
    /// When the last heavy fence ended, in microseconds. While a thread executes one for time alone: when that began.
    fenced_at: Number,
    /// For how many microseconds after that no heavy fence is executed for time alone.
    pause: Number,
    failed: Number,
}

impl Due {
    fn numbers(&self, of: &[Number; 2]) -> [usize; 2] {
        // Relaxed: numbers that decide when a fence is made, never what it orders.
        of.each_ref().map(|number| number.load(Relaxed))
    }
}

/// How many times as late a heavy fence comes at most, after failures.
pub(crate) const LATEST: usize = 64;

/// The bounds of `Due::pause`, in microseconds. (A longer `Thresholds::pause`, and `Due::factor` after failures, make
/// the time between two heavy fences for time alone longer.)
const PAUSES: [usize; 2] = [1_000, 100_000];

/// After a heavy fence the pause is so many times as long as the fence took, within `PAUSES`. So heavy fences for time
/// alone take less than one part in so many of the time, unless the upper bound cuts the pause short.
const COSTLY: usize = 128;

/// Once so many objects or bytes have come since the last heavy fence, the domain counts no more until the next one. A
/// greater threshold counts as this number.
const MOST: isize = isize::MAX / 2;

/// How often `reclaim_all` checks again whether another thread is done, and for how many microseconds at most where
/// there is a clock. (The number of checks alone would not bound the time: beside busy programs a single yield may take
/// milliseconds.)
const PATIENCE: u32 = 1_000;
const LONGEST: usize = 1_000_000;

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        pub(crate) $($constness)? fn new(thresholds: Thresholds) -> Self {
            Untyped {
                slots: Slots::new(),
                rings: Rings::new(),
                thresholds,
                stride: thresholds.stride(),
                due: CachePadded::new(Due {
                    counted: [const { Number::new(0) }; 2],
                    looked_at: [const { Number::new(0) }; 2],
                    factor: Number::new(1),
                    waited: [const { Number::new(0) }; 2],
                    recovers: Number::new(0),
                    fenced_at: Number::new(0),
                    pause: Number::new(PAUSES[0]),
                    failed: Number::new(0),
                }),
                noted: Noted::new(),
                freed: CachePadded::new(Freed::new()),
                behind: AtomicPtr::new(ptr::null_mut()),
                #[cfg(feature = "std")]
                background: Background::new(),
            }
        }
    };
}

impl Untyped {
    crate::sync::const_where_possible!(new);

    /// Ends a thread's `Local`.
    ///
    /// # Safety
    ///
    /// As [`Domain::__leave`](crate::Domain::__leave).
    pub(crate) unsafe fn leave(&self, local: &Local) {
        local.leave_slots(&self.slots);
        // A coroutine may be suspended in a destructor that a call of this thread runs, and be dropped after this. That call
        // then still uses the ring, so no other thread gets it.
        if !thread::is_inside(self.address()) {
            local.leave_ring(&self.rings);
        }
    }

    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    pub(crate) fn rings(&self) -> &Rings {
        &self.rings
    }

    pub(crate) fn reclaim(&self) -> Result<Reclaimed, HeavyFenceError> {
        self.reclaim_outermost().map(Option::unwrap_or_default)
    }

    /// `None` where it frees nothing: in a destructor that this domain runs, and where too many calls are under way.
    fn reclaim_outermost(&self) -> Result<Option<Reclaimed>, HeavyFenceError> {
        Reclaimed::outermost(self.address(), || self.reclaim_now(clock::now))
    }

    fn reclaim_now(&self, clock: impl Fn() -> Option<usize>) -> Result<Reclaimed, HeavyFenceError> {
        let mut tails = self.tails();
        tails.retain(|&(ring, tail)| ring.waiting(tail) != 0);
        if tails.is_empty() {
            return Ok(Reclaimed::default());
        }
        self.fence(&tails)?;
        let scan = self.slots.protected();
        let mut done = Reclaimed::default();
        let mut patience = Patience::new(clock);
        let (mut tails, mut at) = (tails.into_iter(), None);
        through_panics(|| {
            while let Some((ring, tail, condemns)) =
                at.take().or_else(|| tails.next().map(|(ring, tail)| (ring, tail, true)))
            {
                let mut batch = Batch::new();
                let looked =
                    ring.take(tail, &scan, condemns, &self.slots, &mut patience, &mut batch);
                done.freed += batch.len();
                if looked.more {
                    at = Some((ring, tail, false));
                } else {
                    done.kept += looked.kept;
                }
                self.free(ring, &mut batch);
            }
        });
        Ok(done)
    }

    pub(crate) fn reclaim_all(&self) -> Result<Reclaimed, HeavyFenceError> {
        self.reclaim_patiently(clock::now)
    }

    fn reclaim_patiently(
        &self,
        clock: impl Fn() -> Option<usize>,
    ) -> Result<Reclaimed, HeavyFenceError> {
        let mut freed = 0;
        let (mut tries, mut wait) = (0, Wait::default());
        loop {
            // A destructor that this domain runs led here, and this thread itself has what is to be freed; or too many
            // calls are under way. To wait would be in vain.
            let Some(pass) = self.reclaim_outermost()? else {
                return Ok(Reclaimed { freed, kept: self.stats().waiting() });
            };
            freed += pass.freed;
            let kept = self.stats().waiting();
            if kept <= pass.kept {
                return Ok(Reclaimed { freed, kept });
            }
            if pass.freed != 0 {
                (tries, wait) = (0, Wait::default());
                continue;
            }
            if wait.is_longer_than(LONGEST, clock()) || tries == PATIENCE {
                return Ok(Reclaimed { freed, kept });
            }
            tries += 1;
            yield_now();
        }
    }

    pub(crate) fn stats(&self) -> DomainStats {
        // Before the others: what was freed was retired before.
        let (mut freed, mut freed_bytes) = self.freed.read();
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
            // Relaxed: a number for reports.
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

    /// The number of objects that makes a heavy fence worth its cost: so many that the fence, what it costs every
    /// running thread, the scan of the hazard pointers and the look at every ring cost little for each object.
    fn enough(&self) -> usize {
        let Thresholds { objects, .. } = self.thresholds;
        objects.saturating_mul(self.rings.owned().max(1)).max(self.slots.used())
    }

    /// How many objects a thread retires between two checks of its ring.
    #[inline]
    pub(crate) fn stride(&self) -> usize {
        // Each object is announced to a background reclaimer.
        #[cfg(feature = "std")]
        if self.background.is_there() {
            return 1;
        }
        self.stride
    }

    /// The owner's work once in a few objects: it counts what it has retired, executes a heavy fence if one is due, and
    /// frees as many objects as it has retired. If not `frees`, it only counts, and the rest is the work of the next
    /// object's retire. Returns false if the owner must leave the ring because its lock cannot be had: the holder has
    /// been stopped for longer than the owner waits, or, in a child of fork(2), does not exist.
    ///
    /// # Safety
    ///
    /// By the owner of `ring`, after a `put` that returned true. There is room: as [`Ring::extend`].
    pub(crate) unsafe fn step(&self, ring: &Ring, frees: bool) -> bool {
        // First, so that destructors may retire.
        // SAFETY: the contract of this function.
        let Extended { new, bytes, is_time, put_off } = unsafe { ring.extend(self.stride()) };
        // Objects are few at a time. Bytes may be many, so all rings together keep no more than the threshold
        // uncounted.
        let share = SHARE.max(self.rings.owned());
        // guard survives: the bound by `>` lets one byte more wait.
        let is_large = bytes.saturating_mul(share) >= self.thresholds.bytes;
        let is_time = is_time || is_large || put_off != Counted::Nothing;
        let counted = if is_time {
            // SAFETY: by the owner.
            unsafe { self.count_new(ring, share) }.max(put_off)
        } else {
            Counted::Nothing
        };
        #[cfg(feature = "std")]
        if self.background.is_there() {
            // SAFETY: as above.
            let speed = unsafe { ring.speed(|| self.now()) };
            // A system call: each slow retire makes it, and one in 32 fast ones.
            if counted != Counted::Nothing || speed != Speed::Unknown {
                self.background.look_whether_it_is_there();
            }
            if self.background.is_there() {
                self.background.wake(counted != Counted::Nothing && self.claim());
                return true;
            }
        }
        if !frees {
            // SAFETY: as above.
            unsafe { ring.put_off(new, counted) };
            return true;
        }
        // SAFETY: as above.
        let look = || unsafe { self.look(ring, new, is_time, counted) };
        // In a destructor the outer call uses the ring.
        thread::outermost(self.address(), false, look, || _ = self.reclaim_now(clock::now))
            .unwrap_or(true)
    }

    /// The time, if heavy fences are executed for it.
    fn now(&self) -> Option<usize> {
        self.thresholds.pause.and_then(|_| clock::now())
    }

    /// How many objects a thread retires before the domain counts them.
    fn unit(&self) -> usize {
        (self.thresholds.objects / SHARE).clamp(1, AT_ONCE)
    }

    /// Counts what the owner has retired, and what other owners have left uncounted, each if it is at least `unit`
    /// objects, or the threshold of bytes divided by `share`.
    ///
    /// # Safety
    ///
    /// By the owner of `ring`.
    #[inline(never)]
    unsafe fn count_new(&self, ring: &Ring, share: usize) -> Counted {
        let units = [self.unit(), (self.thresholds.bytes / share).max(1)];
        let left = self.rings.left(units[0], units[1]);
        if let Some(left) = left {
            self.count(left);
        }
        // SAFETY: by the owner.
        let own = unsafe { ring.to_count(units[0], units[1]) };
        if let Some((objects, bytes)) = own {
            self.count((objects, bytes));
            // If too many bytes wait, the owner owes more. Not if too many objects wait: `help` empties such a ring,
            // and a thread that frees more than it retires makes the allocator's cache now too full, now empty.
            if self.bytes_waited_of(9, 8) {
                // SAFETY: as above.
                unsafe { ring.settle(objects, 0, 0) };
            }
        }
        match (left, own) {
            // guard survives: by `>` a byte more makes an object a large one.
            (_, Some((_, bytes))) if bytes >= units[1] => Counted::Large,
            (None, None) => Counted::Nothing,
            _ => Counted::Something,
        }
    }

    /// Counts objects and bytes that have been retired.
    fn count(&self, (objects, bytes): (usize, usize)) {
        for (unit, new) in [objects, bytes].into_iter().enumerate() {
            let [counted, looked_at] = [&self.due.counted[unit], &self.due.looked_at[unit]];
            // Relaxed, all: numbers that decide when a fence is made, never what it orders.
            let since = counted.load(Relaxed).wrapping_sub(looked_at.load(Relaxed)) as isize;
            // A difference of `MOST` is enough for every threshold. A greater one would soon be negative in
            // `is_enough`.
            // guard survives: by `<=` it adds once more at `MOST`, and the difference still is not negative.
            if since < MOST {
                counted.fetch_add(new, Relaxed);
            }
        }
    }

    /// The owner's work whenever it has retired as many objects as the domain counts at a time, or has to read the
    /// clock. It executes a heavy fence if one is due. Returns how many objects may be freed now; `None` if the ring's
    /// lock cannot be had.
    ///
    /// # Safety
    ///
    /// By the owner of `ring`.
    #[inline(never)]
    unsafe fn review(&self, ring: &Ring, new: usize, counted: Counted) -> Option<usize> {
        // SAFETY: by the owner.
        let speed = unsafe { ring.speed(|| self.now()) };
        let by_time = match speed {
            Speed::Slow(now) | Speed::Fast(now) => {
                ring.waiting(ring.tail()) > new && self.claim_at(now)
            }
            Speed::Unknown => false,
        };
        if by_time || counted != Counted::Nothing && self.is_due() {
            // An error is counted, and the garbage kept.
            let _ = self.fence(&self.tails());
        }
        let least = if self.hurries() { AT_ONCE } else { 0 };
        // SAFETY: as above.
        unsafe { ring.reviewed(self.unit(), least) };
        // Relaxed: advice.
        let recovers = || self.due.recovers.load(Relaxed) != 0;
        if counted == Counted::Large && self.bytes_waited_of(2, 1) && !recovers() {
            // SAFETY: as above.
            if !unsafe { self.drain(ring) } {
                return None;
            }
        }
        Some(match speed {
            // These objects left the processor's cache long ago, so that each costs a quarter of a microsecond. So it
            // frees a few, but no fewer than have come.
            Speed::Slow(_) => (4 * STRIDE).max(new.min(AT_ONCE)),
            // SAFETY: as above.
            _ => unsafe { ring.most(self.pace(new)) },
        })
    }

    /// False if the ring's lock cannot be had.
    ///
    /// # Safety
    ///
    /// By the owner of `ring`.
    #[inline]
    unsafe fn look(&self, ring: &Ring, new: usize, is_time: bool, counted: Counted) -> bool {
        let most = if is_time {
            // SAFETY: by the owner.
            let Some(most) = (unsafe { self.review(ring, new, counted) }) else { return false };
            most
        } else {
            // SAFETY: as above.
            unsafe { ring.most(self.pace(new)) }
        };
        let mut batch = Batch::new();
        // A ring's share: how many objects it holds at most if all rings hold equally many and no preempted thread
        // holds a ring's lock.
        let fair = || (self.enough() / self.rings.owned().max(1)).saturating_mul(2);
        // guard survives: the bound by `>=` lets the owner wait for the lock one object earlier.
        let is_urgent = || ring.waiting(ring.tail()) > fair();
        let had = ring.take_own(&self.slots, most, is_urgent, &mut batch);
        // guard survives: inverted, or by `<=`, a debt is forgiven whose objects `help` frees: a ring that holds many is
        // behind at the next heavy fence.
        if had && batch.len() < most {
            // SAFETY: as above.
            unsafe { ring.forgive() };
        }
        if !batch.is_empty() {
            self.free_all(ring, &mut batch, true);
        }
        // Relaxed: a first look.
        if !self.behind.load(Relaxed).is_null() {
            self.help_a_little();
        }
        had
    }

    /// Frees everything that the last heavy fence has served in this ring, and in the rings that are behind. A thread
    /// that retires large objects does so if too many bytes wait, since many small objects may stand before the large
    /// ones. False if the ring's lock cannot be had.
    ///
    /// # Safety
    ///
    /// By the owner of `ring`.
    #[inline(never)]
    unsafe fn drain(&self, ring: &Ring) -> bool {
        let until = ring.fenced();
        while ring.has_before(until) {
            let mut batch = Batch::new();
            if !ring.take_own(&self.slots, AT_ONCE, || true, &mut batch) {
                return false;
            }
            self.free_all(ring, &mut batch, true);
        }
        // A finite number, although other threads may let further rings fall behind.
        self.help(self.due.numbers(&self.due.waited)[0]);
        true
    }

    /// Whether at the last heavy fence more objects or bytes waited than `of / part` times the number that makes one
    /// worth its cost. Of objects the `slack` of each ring that has an owner is allowed too.
    fn waited_of(&self, of: usize, part: usize) -> bool {
        let [objects, _] = self.due.numbers(&self.due.waited);
        let slack = self.slack().saturating_mul(self.rings.owned());
        let most = (self.enough() / part).saturating_mul(of).saturating_add(slack);
        // guard survives: with `>=` more is freed from one object less on.
        objects > most || self.bytes_waited_of(of, part)
    }

    /// The same of bytes alone.
    fn bytes_waited_of(&self, of: usize, part: usize) -> bool {
        let [_, bytes] = self.due.numbers(&self.due.waited);
        // guard survives: with `>=` more is freed from one byte less on.
        bytes > (self.thresholds.bytes / part).saturating_mul(of)
    }

    /// How many objects an owner frees at a check, of those that it owes: a step more than have come, so that a debt
    /// shrinks. No bound depends on the step: a ring with a debt is behind at the next heavy fence, and `help` empties
    /// it.
    fn pace(&self, new: usize) -> usize {
        new + STRIDE.max(self.stride)
    }

    /// Whether each check frees many objects, because very much waited at the last heavy fence. For bytes the bound is
    /// lower. So if many small objects stand before large ones, the small ones are gone before enough bytes wait for a
    /// single retire to free all (`drain`). (No bound depends on that: it only spreads what `drain` would free.)
    fn hurries(&self) -> bool {
        self.waited_of(8, 1) || self.bytes_waited_of(3, 2)
    }

    /// How many overdue objects a ring may hold before it counts as behind. An object is overdue if its owner, at its
    /// pace, would have freed it by now.
    fn slack(&self) -> usize {
        AT_ONCE.min(self.thresholds.objects)
    }

    /// Whether a heavy fence is due by numbers, and this thread has to execute it. The domain notes the moment when
    /// half of the objects that make a heavy fence due have come. If any thread of the process has executed one since
    /// then, for whatever purpose, it serves that half. Then none is due, unless what came after the moment is enough
    /// by itself.
    fn is_due(&self) -> bool {
        let mut is_served = false;
        while self.claim() {
            let moment = self.noted.take();
            // SAFETY: the rings of a domain are there as long as the domain.
            let served = moment.and_then(|moment| unsafe { moment.served() });
            let Some((tails, counted)) = served else { return true };
            for (looked_at, counted) in self.due.looked_at.iter().zip(counted) {
                // Relaxed: numbers that decide when a fence is made. What came after the moment counts towards the
                // next.
                looked_at.store(counted, Relaxed);
            }
            self.served(&tails);
            is_served = true;
        }
        if !is_served && (self.noted.is_there() || !self.is_enough(2)) {
            return false;
        }
        let counted = self.due.numbers(&self.due.counted);
        self.noted.set(Moment::now(|| self.tails(), counted));
        false
    }

    /// Whether a heavy fence is due by numbers. If enough objects have come, one caller gets true. If bytes make it
    /// due, several may, until one of them begins the fence.
    fn claim(&self) -> bool {
        let due = &*self.due;
        // Relaxed, all: numbers that decide when a fence is made, never what it orders.
        let looked_at = due.looked_at[0].load(Relaxed);
        let counted = due.counted[0].load(Relaxed);
        self.is_enough(1)
            && due.looked_at[0].compare_exchange(looked_at, counted, Relaxed, Relaxed).is_ok()
    }

    /// Whether so many objects or bytes have come since a thread last began a heavy fence that the next one is worth
    /// its cost; or, with a `part` of 2, half as many.
    fn is_enough(&self, part: usize) -> bool {
        let due = &*self.due;
        let [counted, looked_at] = [&due.counted, &due.looked_at].map(|of| due.numbers(of));
        // Relaxed: advice.
        let factor = due.factor.load(Relaxed);
        let enough = [self.enough(), self.thresholds.bytes.max(1)];
        (0..2).any(|unit| {
            let most = enough[unit].saturating_mul(factor).div_ceil(part);
            // Signed: another thread may have covered more than we have counted.
            counted[unit].wrapping_sub(looked_at[unit]) as isize >= most.min(MOST as usize) as isize
        })
    }

    /// Whether a heavy fence is due by time. One caller gets true, and executes it.
    fn claim_at(&self, now: usize) -> bool {
        let due = &*self.due;
        // Relaxed, all: as above.
        let fenced_at = due.fenced_at.load(Relaxed);
        let least = self.thresholds.pause.map_or(0, |pause| pause.as_micros());
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        let pause = due.pause.load(Relaxed).max(least).saturating_mul(due.factor.load(Relaxed));
        // guard survives: the bound by `>` is a microsecond more.
        clock::since(now, fenced_at) >= pause
            && due.fenced_at.compare_exchange(fenced_at, now, Relaxed, Relaxed).is_ok()
    }

    /// Every ring, with the position up to which a heavy fence that is executed now serves its objects.
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
        let begun = self.now();
        // Heavy fence: every object below these tails was unlinked before it, by us or by a thread whose Release in
        // `Ring::put` we have acquired.
        // Pairs with: the light fence in `HazardPointer::protect_raw` (scenario A).
        //  - the reader's publication came first: the scan sees it, and the object is kept;
        //  - the heavy fence came first: the reader sees that the source has changed, and tries again.
        // Relaxed, all below: advice, and numbers for reports.
        if let Err(error) = try_heavy_fence() {
            due.failed.fetch_add(1, Relaxed);
            due.factor.store(LATEST.min(2 * due.factor.load(Relaxed)), Relaxed);
            due.recovers.store(1, Relaxed);
            return Err(error);
        }
        due.factor.store(1, Relaxed);
        if let (Some(begun), Some(ended)) = (begun, self.now()) {
            let cost = ended.wrapping_sub(begun).min(PAUSES[1]);
            due.pause.store((COSTLY * cost).clamp(PAUSES[0], PAUSES[1]), Relaxed);
            due.fenced_at.store(ended, Relaxed);
        }
        // An earlier moment serves nothing any more.
        drop(self.noted.take());
        self.served(tails);
        Ok(())
    }

    /// Called after a heavy fence, before which the tails were read.
    fn served(&self, tails: &[(&Ring, usize)]) {
        // No reclaim can free what is protected.
        let kept = self.rings.iter().fold(0_usize, |sum, ring| sum.wrapping_add(ring.kept_bytes()));
        let bytes = self.stats().waiting_bytes.saturating_sub(kept);
        // Relaxed, all: advice.
        self.due.waited[1].store(bytes, Relaxed);
        // guard survives: the slack is at most 64 objects of a ring, which its owner frees after its next review.
        let slack = if self.bytes_waited_of(2, 1) { 0 } else { self.slack() };
        let mut waited = 0_usize;
        let mut behind = None;
        for &(ring, tail) in tails {
            let before = ring.raise(tail);
            let waiting = ring.waiting(tail);
            waited = waited.saturating_add(waiting);
            // If the owner continues at its pace, the objects that the heavy fence before this one served are gone by
            // now. A ring without an owner is not emptied by one.
            let new = tail.wrapping_sub(before);
            let (until, most) = match new {
                _ if !ring.is_owned() => (tail, 0),
                0 => (before, 0),
                _ => (before, new.saturating_add(slack)),
            };
            // guard survives: by `>=` a ring is behind one object earlier. `Ring::behind` passes over one that is empty.
            if waiting > most {
                ring.falls_behind(until);
                behind.get_or_insert(ring);
            }
        }
        self.due.waited[0].store(waited, Relaxed);
        if !self.waited_of(2, 1) {
            self.due.recovers.store(0, Relaxed);
        }
        if let Some(behind) = behind {
            self.set_behind(Some(behind));
        }
    }

    fn set_behind(&self, ring: Option<&Ring>) {
        let ring = ring.map_or(ptr::null_mut(), |ring| ptr::from_ref(ring).cast_mut());
        // Release: the ring was made before. Pairs with: the Acquire in `help`.
        // survives: in `served` a heavy fence came before, which releases as much (see `Ring::raise`). In `help` no
        // such fence comes before this store. Only a model of two rings that are behind, and of two threads that help,
        // would need this Release.
        self.behind.store(ring, Release);
    }

    /// Frees a few objects of rings that are behind.
    #[inline(never)]
    fn help_a_little(&self) {
        self.help(match () {
            () if self.hurries() => AT_ONCE,
            // guard survives: by `STRIDE` alone helpers still free as many objects as are retired, in addition to what
            // the owners free.
            () if self.waited_of(9, 8) => 4 * STRIDE,
            () => STRIDE,
        });
    }

    /// Frees up to so many objects of rings whose owners are stalled, are gone, or have become slower.
    fn help(&self, mut most: usize) {
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
                self.free(ring, &mut batch);
            }
            if is_done {
                self.set_behind(self.rings.behind(ring).find(|ring| ring.behind().is_some()));
            }
            // Checking an empty ring counts as one object.
            most -= freed.max(1);
        }
    }

    /// Frees the objects of the batch, which were taken out of `ring`.
    fn free(&self, ring: &Ring, batch: &mut Batch) {
        self.free_all(ring, batch, false);
    }

    /// As `free`: by the owner of the ring, if `own`.
    #[inline(always)]
    fn free_all(&self, ring: &Ring, batch: &mut Batch, own: bool) {
        struct Freeing<'d> {
            domain: &'d Untyped,
            ring: &'d Ring,
            batch: &'d mut Batch,
            own: bool,
            bytes: usize,
        }

        impl Drop for Freeing<'_> {
            #[inline]
            fn drop(&mut self) {
                let objects = self.batch.taken();
                // Without `std` a panic leaves some.
                while let Some(item) = self.batch.next() {
                    self.ring.keep(item);
                }
                if self.own {
                    // SAFETY: by the owner.
                    unsafe { self.ring.settle(0, objects, self.bytes) };
                } else {
                    self.domain.freed.add(objects, self.bytes);
                }
            }
        }

        let mut freeing = Freeing { domain: self, ring, batch, own, bytes: 0 };
        through_panics(|| {
            while let Some(item) = freeing.batch.next() {
                freeing.bytes = freeing.bytes.wrapping_add(item.weight());
                // SAFETY: unlinked before a heavy fence, and not protected at a scan after it (SCANNED). Threads that
                // used it are done with it, by the Acquire of the scan. No other thread frees it (ONCE).
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
    /// Objects that still wait: a hazard pointer protects them, or another thread kept them locked for too long. With
    /// [`reclaim_all`](crate::Domain::reclaim_all) also those in the other cases that it names.
    /// [`reclaim`](crate::Domain::reclaim) does not count what another thread has taken out to free it, also if a fork
    /// left that thread behind. If it frees nothing because it was called in a destructor, or because too many calls
    /// are under way, it returns 0 here, whatever waits.
    pub kept: usize,
}

impl Reclaimed {
    /// Does `pass`, and again as often as destructors ask. `of` is the address of the domain or cohort. `None` if a
    /// destructor that it runs led here, or if too many calls are under way.
    pub(crate) fn outermost(
        of: *const (),
        pass: impl Fn() -> Result<Self, HeavyFenceError>,
    ) -> Result<Option<Self>, HeavyFenceError> {
        let mut further = None;
        let again = || {
            // After an error the garbage is kept, so `kept` of the pass before still holds.
            if let Ok(pass) = pass() {
                let Reclaimed { freed, .. } = further.unwrap_or_default();
                further = Some(Reclaimed { freed: freed + pass.freed, kept: pass.kept });
            }
        };
        let Some(first) = thread::outermost(of, true, &pass, again).transpose()? else {
            return Ok(None);
        };
        Ok(Some(match further {
            None => first,
            Some(Reclaimed { freed, kept }) => Reclaimed { freed: first.freed + freed, kept },
        }))
    }
}

/// What a domain has done since it was created. The numbers wrap, and are read one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainStats {
    /// Hazard pointers, including those that threads keep for reuse, up to 7 for each thread. (A thread that counts for
    /// ever in [`threads`](DomainStats::threads) may keep its own for ever.)
    pub hazard_pointers: usize,
    /// Slots for hazard pointers: none before the first hazard pointer is created; then 7, or up to two times the
    /// greatest number of [`hazard_pointers`](DomainStats::hazard_pointers) that there ever was, if that is more.
    pub slots: usize,
    /// Threads that have retired something and not ended. (One that a filter has killed alone, SECCOMP_RET_KILL_THREAD,
    /// has not ended in this sense: it counts for ever. So does one that uses the domain for the first time in a
    /// destructor of pthread_key_create(3), after the thread-locals of Rust are gone.) A child of fork(2) continues to
    /// count all threads that the parent had at the fork, although it has at most one of them. (Without the feature
    /// `std`: threads in the middle of a retire.)
    pub threads: usize,
    /// Objects retired.
    pub retired: usize,
    /// Objects freed.
    pub freed: usize,
    /// Bytes of the objects that are retired and not freed. As with [`waiting`](DomainStats::waiting), the number may
    /// be greater than what ever waited.
    pub waiting_bytes: usize,
    /// Heavy fences that failed. As long as this number grows, garbage accumulates.
    /// [`Domain::reclaim`](crate::Domain::reclaim) returns the error, which says why.
    pub failed: usize,
}

impl DomainStats {
    /// Objects that are retired and not freed. The number of freed objects is read first. So while other threads
    /// retire, the result may be greater than what ever waited at one moment.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.retired.wrapping_sub(self.freed)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use alloc::boxed::Box;
    #[cfg(feature = "std")]
    use core::cell::Cell;
    #[cfg(feature = "std")]
    use std::sync::{Barrier, OnceLock};

    #[cfg(feature = "std")]
    use super::*;
    use crate::{Family, domain};

    #[cfg(feature = "std")]
    #[test]
    fn each_heavy_fence_decides_when_the_next_is_due_by_time() {
        if crate::sync::LOOM {
            return; // no clock
        }
        domain! { enum Tests {} }
        const LATE: usize = clock::LATE / 2;
        assert!(clock::now().expect("a clock") < LATE, "the process has just begun");
        let due = &Tests::domain().untyped().due;
        // Relaxed, all: one thread.
        due.fenced_at.store(LATE, Relaxed);
        due.pause.store(0, Relaxed);
        Tests::domain().retire_box(Box::new(1_u8));
        assert_eq!((due.fenced_at.load(Relaxed), due.pause.load(Relaxed)), (LATE, 0));
        Tests::domain().reclaim().expect("a heavy fence");
        assert!(due.fenced_at.load(Relaxed) < LATE);
        assert!((PAUSES[0]..=PAUSES[1]).contains(&due.pause.load(Relaxed)));
    }

    #[cfg(feature = "std")]
    #[test]
    fn reclaim_all_waits_for_what_another_thread_has_in_hand_until_the_clock_or_the_turns_end_it() {
        if crate::sync::LOOM {
            return; // no model
        }
        struct Slow<'b>(&'b Barrier);
        impl Drop for Slow<'_> {
            fn drop(&mut self) {
                self.0.wait(); // in hand
                self.0.wait(); // the other has given up
            }
        }
        static BOTH: OnceLock<Barrier> = OnceLock::new();
        domain! { enum Tests {} }
        let domain = Tests::domain();
        let both = BOTH.get_or_init(|| Barrier::new(2));
        domain.retire_box(Box::new(Slow(both)));
        // What `reclaim_patiently` has freed and kept, and how often it has read the clock. `tick` is the clock; its
        // argument is the number of the reading.
        let of = |tick: &dyn Fn(u32) -> Option<usize>| {
            let count = Cell::new(0_u32);
            let clock = || {
                count.set(count.get() + 1);
                tick(count.get())
            };
            let done = domain.untyped().reclaim_patiently(clock).expect("a heavy fence");
            (done.freed, done.kept, count.get())
        };
        // The clock shows the end of the wait from the second time on, and, if `late`, a microsecond more from the 101st
        // time on.
        let at = |begin: usize, late: bool| {
            move |count| {
                Some(match count {
                    1 => begin,
                    101.. if late => begin.wrapping_add(LONGEST + 1),
                    _ => begin.wrapping_add(LONGEST),
                })
            }
        };
        // What this call frees meanwhile begins the wait anew.
        let frees = |count| {
            if count == 50 {
                domain.retire_box(Box::new(1_u8));
            }
            Some(if count <= 50 { 0 } else { LONGEST + 1 })
        };
        let (late, wraps, turns, none, anew) = std::thread::scope(|scope| {
            scope.spawn(|| domain.reclaim().expect("a heavy fence"));
            both.wait();
            let late = of(&at(0, true));
            let wraps = of(&at(usize::MAX - 5, true));
            let turns = of(&at(0, false));
            let none = of(&|_| None);
            let anew = of(&frees);
            both.wait();
            (late, wraps, turns, none, anew)
        });
        assert_eq!((late, wraps), ((0, 1, 101), (0, 1, 101)));
        assert_eq!((turns, none), ((0, 1, PATIENCE + 1), (0, 1, PATIENCE + 1)));
        assert_eq!(anew, (1, 1, 50 + PATIENCE + 1));
    }

    /// As in a child of fork(2), where the thread that had the lock does not exist.
    #[cfg(feature = "std")]
    #[test]
    fn large_objects_are_freed_although_the_lock_of_their_ring_is_never_given_back() {
        if crate::sync::LOOM {
            return; // no model
        }
        domain! { enum Tests {} = Thresholds { bytes: 1 << 20, pause: None, ..Thresholds::DEFAULT }; }
        let domain = Tests::domain();
        let retire = || domain.retire_box(Box::new([0_u8; 1 << 18]));
        retire();
        Tests::with_local(|local| local.ring().expect("its first").lock_for_ever()).expect("alive");
        (0..64).for_each(|_| retire());
        let stats = domain.stats();
        assert!(stats.freed > 32, "{stats:?}");
    }

    /// As in a child of fork(2), where nobody gives back the locks.
    #[cfg(feature = "std")]
    #[test]
    fn a_reclaim_waits_in_vain_for_one_lock_alone() {
        if crate::sync::LOOM {
            return; // no model
        }
        // How often a reclaim reads the clock, beside so many rings that stay locked.
        fn readings<F: Family>(locked: usize) -> u32 {
            for _ in 0..locked {
                let lock = || {
                    F::domain().retire_box(Box::new(1_u8));
                    F::with_local(|local| local.ring().expect("its first").lock_for_ever())
                };
                std::thread::spawn(lock).join().expect("no panic").expect("alive");
            }
            let count = Cell::new(0);
            let clock = || {
                count.set(count.get() + 1);
                None
            };
            let done = F::domain().untyped().reclaim_now(clock).expect("a heavy fence");
            assert_eq!(done, Reclaimed { freed: 0, kept: locked });
            count.get()
        }
        domain! { enum One {} }
        domain! { enum Three {} }
        let one = readings::<One>(1);
        assert_ne!(one, 0);
        assert_eq!(readings::<Three>(3), one);
    }

    /// As where a coroutine is suspended in a destructor when its thread ends.
    #[cfg(feature = "std")]
    #[test]
    fn a_thread_that_ends_inside_of_a_destructor_keeps_its_ring() {
        if crate::sync::LOOM {
            return; // no model
        }
        domain! { enum Tests {} }
        let domain = Tests::domain();
        let end = || {
            domain.retire_box(Box::new(1_u8));
            // SAFETY: this thread's.
            let _ = Tests::with_local(|local| unsafe { domain.__leave(local) });
            domain.stats().threads
        };
        assert_eq!(end(), 0);
        assert_eq!(thread::outermost(domain.untyped().address(), false, end, || ()), Some(1));
        // The twin: inside of a destructor that another domain runs, the thread does leave its ring of this domain.
        domain! { enum Others {} }
        assert_eq!(
            thread::outermost(Others::domain().untyped().address(), false, end, || ()),
            Some(0)
        );
    }

    #[test]
    fn what_is_counted_until_the_next_heavy_fence_does_not_wrap() {
        if crate::sync::LOOM {
            return; // no model
        }
        domain! { enum Tests {} }
        let domain = Tests::domain().untyped();
        assert!(!domain.is_enough(1));
        for _ in 0..10 {
            domain.count((isize::MAX as usize / 3, isize::MAX as usize / 3));
            assert!(domain.is_enough(1));
        }
    }

    #[cfg(not(feature = "std"))]
    #[test]
    fn what_a_panic_leaves_is_put_back() {
        domain! { enum Tests {} }
        struct Panics(bool);
        impl Drop for Panics {
            fn drop(&mut self) {
                assert!(!self.0, "on purpose");
            }
        }
        (0..10).for_each(|number| Tests::domain().retire_box(Box::new(Panics(number == 4))));
        std::panic::catch_unwind(|| Tests::domain().reclaim()).expect_err("a panic");
        assert_eq!(Tests::domain().stats().waiting(), 5);
        let done = Tests::domain().reclaim().expect("a heavy fence");
        assert_eq!((done.freed, done.kept), (5, 0));
    }
}
