//! A domain: what its users see of it, and its family.

use core::fmt;
use core::marker::PhantomData;

use asymfence::HeavyFenceError;

use crate::thread::Local;
use crate::thresholds::Thresholds;
use crate::untyped::{DomainStats, Reclaimed, Untyped};

/// A set of hazard pointers, and of the retired objects that wait until no hazard pointer of the set protects them.
///
/// The hazard pointers of a domain protect objects that are retired to it, or to a [`Cohort`](crate::Cohort) of its
/// family, and no others. Most programs use [`Domain::global`] without naming it. [`domain!`](crate::domain!) makes
/// another domain, and a type that names it, its [`Family`](crate::Family).
///
/// ```
/// use asymfence_hazard::{AtomicBox, Domain};
///
/// let config: AtomicBox<String> = AtomicBox::from(Box::new("one".to_owned()));
/// config.store(Box::new("two".to_owned())); // retires the first
/// assert!(Domain::global().reclaim_all().unwrap().freed >= 1);
/// ```
///
/// A family has one domain. So a hazard pointer needs only the family, and its constructor takes no domain:
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
/// ([`DomainStats::threads`]), and `E` the larger of two numbers: `H`, and the product of `T` and
/// [`Thresholds::objects`].
///
/// - **Objects**: at most `4·E + H` wait, if heavy fences are not slow. When `E` objects have been retired since a
///   thread last began a heavy fence, one thread executes the next, which serves all threads. From then on each thread
///   frees one object for each one that it retires, and also a few objects of threads that are stalled or have ended. A
///   stalled reader holds back only what it protects.
/// - **Other fences**: when half of `E` objects have come, the domain takes a [`Ticket`](asymfence::Ticket). If any
///   thread of the process then executes a heavy fence, for whatever purpose, before `E` objects have come, that fence
///   serves the half that came before the ticket. The domain executes none of its own then, and counts to `E` again from
///   the ticket on.
/// - **Slow fences**: while a heavy fence is slow, or its thread is preempted, another thread executes one for the next
///   `E` objects. So at most `T` heavy fences are under way, and for each of them about `E` more objects wait.
///   (Measured while a supervisor held up each heavy fence for 5 or 10 ms, on 2 cores of an AMD EPYC (Zen 4) beside
///   other programs, 2026-11-27: with 8 to 32 threads the number that waited exceeded `4·E + H + T·E` in some runs, by
///   at most 3.4 times `E`.)
/// - **Threads that end**: `T` falls, and `E` with it. What waited under the greater `E` is freed by later retires. A
///   thread counts its objects 64 at a time (fewer, if a sixteenth of [`Thresholds::objects`] is fewer; earlier, if
///   they have many bytes), so the last ones of a thread that ends are not counted yet. When ended threads have
///   together left 64 such objects (or that smaller number), another thread counts them within its next 64 retires (or
///   that smaller number). After the next heavy fence, threads that continue to retire free up to 64 of the ended
///   threads' objects whenever they free their own: at every fourth retire, by default ([`Thresholds::at_once`]). If no
///   thread retires, the objects wait.
/// - **Hazard pointers that are dropped**: `H` falls, and `E` with it. What waited under the greater `E` is freed by
///   later retires: after the next heavy fence each frees several objects. In one test 100,000 hazard pointers were
///   dropped while 100,000 objects waited. After 4,000 more retires no more waited than the smaller bound allows. If no
///   thread retires, the objects wait.
/// - **Bytes**: at most four times [`Thresholds::bytes`], plus that threshold once for each heavy fence under way, plus
///   what was protected when the domain last looked, plus the last [`Thresholds::at_once`] objects of each thread,
///   which the domain has not counted yet. The domain looks after a heavy fence, so what is no longer protected waits
///   until the next one. An object counts with the size of its type, or with the bytes that
///   [`retire_weighing`](Domain::retire_weighing) was told. A thread keeps what it has retired in a queue, its *ring*,
///   and frees its objects in that order. Therefore a large object may have to wait behind many small ones. If more
///   than two times [`Thresholds::bytes`] wait at a heavy fence, beside what is protected, the next retire of a large
///   object frees everything that the fence serves in its thread's ring, and in the rings of threads that are stalled
///   or have ended. An object is large if the bytes that its thread has retired since the domain last counted them,
///   this object included, reach a sixteenth of [`Thresholds::bytes`]. (With more than 16 threads that retire:
///   [`Thresholds::bytes`] divided by their number.)
/// - **Time** (with the feature `std`): if the last heavy fence is at least [`Thresholds::pause`] ago, and an object
///   that a thread has retired earlier still waits, the next retire of that thread executes one, and frees up to 16
///   waiting objects, or as many as the thread has retired since it last freed some, if that is more. These heavy
///   fences take less than 1 % of the time, if each takes less than a millisecond: after a slow one the pause grows, up
///   to a tenth of a second. A thread that retires fast reads the clock once in 32 objects. So after a burst of a
///   thread, up to 32 slow retires, and up to [`Thresholds::at_once`] more, come before the first that frees. In a
///   child that enters a time namespace with an earlier clock, it may be that nothing is freed by time until that clock
///   has caught up with the parent's. If a sandbox refuses clock_gettime(2) where no vdso serves it, nothing is freed
///   by time. Where addresses have 32 bits the count of microseconds wraps: if the last heavy fence is more than 70
///   minutes ago, nothing is freed by time during one minute of each 71.6, and during the pause that follows it. If no
///   thread retires, nothing is done: the last few objects wait for the next retire, for [`reclaim`](Domain::reclaim),
///   or for the thread of
#[cfg_attr(feature = "std", doc = "  [`reclaim_in_background`](Domain::reclaim_in_background).")]
#[cfg_attr(not(feature = "std"), doc = "  `reclaim_in_background`, which the feature `std` has.")]
///
/// Other threads may help to empty the ring of a thread. One of them may be stopped while it does so. If the ring then
/// holds more than `2·E / T` objects (its owner's *share*), or too many bytes wait when the owner retires a large
/// object, the owner waits for that thread in `retire`, for a fifth of a second at most, or without a clock for 10,000
/// turns of a loop. After that the owner takes a new ring.
///
/// Measured with the default thresholds, on 2 cores under KVM and Linux 6.18 (the first two on an AMD EPYC (Zen 4)
/// beside other programs, 2026-11-27; the others on an Intel Xeon, 2026-11-26):
///
/// - 4 threads retire 500,000 objects each, so `4·E` is 16,384: at most 6,966 to 11,675 objects waited in 20 runs.
/// - 64 threads retire 20,000 objects each, so `4·E` is 262,144: at most 10,200 to 256,515 objects waited in 40 runs.
/// - 1,000 threads retire half a megabyte each and are then stalled: 17.6 MB waited.
/// - A thread retires 1,000 objects of a few bytes, and then objects of 8 MiB each: at most 24 MiB waited.
/// - 64 threads retire 900 small objects each, and then 3,000 of up to 256 KiB, with a threshold of 1 MiB: at most
///   3.1 MiB waited.
/// - 2,000 threads retire 60 objects each and end, without a pause in the thresholds: 120,000 objects waited. After
///   another thread had retired 10,000 objects, 956 waited.
///
/// Not counted are
///
/// - up to 64 objects of each thread that is stopped in the middle of a retire or a reclaim, and up to `2·E` more that
///   it has retired, if it was stopped while it took objects out of its ring;
/// - without the feature `std`, the objects of a thread whose stack lies less than 16 KiB below the stack of a thread
///   that is stopped in the middle of a reclaim, or less than 8 MiB below the stacks of 16 such threads. (There a call
///   tells by stack addresses whether a destructor led to it. If it takes another thread's stack for its own, it frees
///   nothing, as in a destructor.) While 256 threads are stopped in the middle of a reclaim, no object of any thread is
///   within the bound;
/// - objects that destructors retire: they come within the bound only after as many other objects have been retired;
/// - zero-sized objects, which share one address and so wait for each other;
/// - objects of [`retire_deferred`](Domain::retire_deferred). A thread frees its objects in the order in which it has
///   retired them, and no more than 128 with one retire (unless it retires a large object while too many bytes wait).
///   So if a thread makes more than 60 deferred retires for each ordinary one, the objects of its ordinary retires wait
///   longer too;
/// - everything, while heavy fences *fail* ([`DomainStats::failed`]). They are then tried less and less often: by
///   retires, up to 64 times as late; by the thread of a background reclaimer, after a pause that grows to a second, or
///   earlier if up to 64 times as many objects or bytes have come as make a heavy fence due. When they succeed again,
///   no single retire frees more than 128 objects, not even one of a large object, until what waited meanwhile has been
///   freed.
///
/// Each domain has its own bound, and takes less than a kilobyte. Each thread that retires to a domain has a ring of
/// its own there, of some 1.4 KiB. The ring grows by a kilobyte for each 64 objects, and shrinks again. When the thread
/// ends another thread uses the ring.
///
/// # Fork
///
/// A child of fork(2) can continue to use the domain. (Not so a child of a bare clone(2) or of `_Fork(3)` whose parent
/// has other threads: a domain allocates and frees, and there the allocator's locks may stay locked.) In the child
///
/// - objects that other threads of the parent protected stay protected for ever, and the hazard pointers of those
///   threads, with those that they kept or were about to take, are not used again;
/// - objects that other threads of the parent had retired are freed. Objects that those threads were just freeing are
///   not, no matter which thread had retired them;
/// - if another thread was taking objects out of a ring during the fork, the objects in that ring are never freed. If
///   it was the ring of the forking thread, that thread takes a new ring once the old one holds more than its share, or
///   too many bytes wait. Each reclaim of the child (`reclaim_all`: each of its passes) waits in vain for the lock of
///   the first such ring, and for no further one: for a fifth of a second at most, or without a clock for 10,000 turns
///   of a loop that, with the feature `std`, lets other threads run.
///
/// (Without the feature `std` the child also counts the reclaims of the parent's other threads as still under way.)
pub struct Domain<F> {
    untyped: Untyped,
    family: PhantomData<fn(F) -> F>,
}

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        /// # Safety
        ///
        /// For `domain!`: it is the only domain of its family.
        #[doc(hidden)]
        #[must_use]
        pub $($constness)? unsafe fn __new(thresholds: Thresholds) -> Self {
            Domain { untyped: Untyped::new(thresholds), family: PhantomData }
        }
    };
}

impl<F> Domain<F> {
    crate::sync::const_where_possible!(new);

    /// Ends a thread's `Local`.
    ///
    /// # Safety
    ///
    /// For `domain!`: the `Local` is the calling thread's own of this family. No other call on this domain is under way
    /// in this thread, except one that runs destructors.
    #[doc(hidden)]
    pub unsafe fn __leave(&self, local: &Local) {
        // SAFETY: the contract of this function.
        unsafe { self.untyped.leave(local) };
    }

    pub(crate) fn untyped(&self) -> &Untyped {
        &self.untyped
    }

    /// Frees every retired object that no hazard pointer protects, whichever thread retired it: one heavy fence for
    /// all of them.
    ///
    /// May wait, for a bounded time, for another thread that executes a heavy fence or takes objects out of a ring.
    /// Objects that another thread is about to free are freed by that thread, perhaps after this call returns.
    ///
    /// If a destructor that the domain runs calls `reclaim`, this inner call frees nothing, so that the stack does not
    /// grow with what destructors do. Instead the outer call, which runs the destructor, reclaims again after the other
    /// destructors, unless one of them has panicked. It does so as often as destructors ask: a destructor that retires
    /// an object of its own kind and reclaims keeps the outer call busy for ever.
    ///
    /// If the destructors of one domain or cohort lead to a reclaim of another one, calls nest, up to 16 deep. A deeper
    /// call, and a retire that makes one, frees nothing: what waits there is freed by a later call. (Without the
    /// feature `std` the outer call does not reclaim again. If the destructor's frames take more than 16 KiB of the
    /// stack, the inner call is not recognised as one, and reclaims; such calls nest up to 16 deep. While 256 calls are
    /// under way in the process, or 16 on stacks that lie within 8 MiB above this one, no further call reclaims.)
    ///
    /// # Errors
    ///
    /// If the heavy fence failed ([`try_heavy_fence`](asymfence::try_heavy_fence)). Then nothing has been freed: the
    /// garbage is kept for a later reclaim. (But if a destructor that the call has run asks it to reclaim again, and
    /// that heavy fence fails, the result is `Ok`, and [`DomainStats::failed`] counts the failure.)
    ///
    /// # Panics
    ///
    /// As [`retire`](Domain::retire).
    pub fn reclaim(&self) -> Result<Reclaimed, HeavyFenceError> {
        self.untyped.reclaim()
    }

    /// Frees every retired object that no hazard pointer protects, and the objects that their destructors retire, until
    /// only protected objects are left. For tests and for the end of a program.
    ///
    /// May wait for other threads that are about to free objects of this domain. It looks again, in turns, and lets
    /// other threads run after each turn. The wait ends when the call has freed nothing for a second, or after 1,000
    /// turns. (A pass over the rings that has begun may take a fifth of a second more. Without the feature `std` there
    /// is a spin hint after each turn, and only the number of turns ends the wait.) Afterwards everything that was
    /// retired before the call has been freed or is counted in [`Reclaimed::kept`]. Usually `kept` counts protected
    /// objects alone. It counts unprotected ones too in these cases: another thread keeps retiring; another thread is
    /// freeing objects, and does not end soon; a fork left behind a thread that was freeing objects; a panic has leaked
    /// objects ([`retire`](Domain::retire) says when: they count for ever); this call was made in a destructor that
    /// this domain runs, or where [`reclaim`](Domain::reclaim) frees nothing because too many calls are under way: then
    /// it frees nothing and waits for nobody. The call continues as long as there is something to free: threads that
    /// retire without a pause keep it busy.
    ///
    /// # Errors and panics
    ///
    /// As [`reclaim`](Domain::reclaim). But if a heavy fence fails that is not the first of this call, objects may have
    /// been freed before.
    pub fn reclaim_all(&self) -> Result<Reclaimed, HeavyFenceError> {
        self.untyped.reclaim_all()
    }

    /// What the domain has done so far.
    ///
    /// The numbers are read one after the other. While other threads retire or reclaim, they do not belong to a single
    /// moment.
    #[must_use]
    pub fn stats(&self) -> DomainStats {
        self.untyped.stats()
    }
}

impl<F> fmt::Debug for Domain<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Domain").field(&self.stats()).finish()
    }
}
