//! A moment, and whether a heavy fence has come after it.
//!
//! The count behind it, and why it is right, is `coalesce.rs`: STARTED-AFTER.

use crate::fence::{HEAVY, HeavyFenceError, heavy, or_abort};
use crate::strategy::{self, Strategy};
use crate::sys;

/// A moment, and whether a heavy fence of any thread of this process has come after it.
///
/// A caller that needs a heavy fence later than now takes a ticket now. If another thread's heavy fence comes first, it
/// need not make its own. So of a hundred that need one, one makes it, and the others
/// share its cost. Linux's RCU has the same as
/// `get_state_synchronize_rcu` and `poll_state_synchronize_rcu`.
///
/// A ticket that is served orders the accesses before [`now`](Ticket::now) against those after
/// [`is_served`](Ticket::is_served), or after [`wait`](Ticket::wait), as if this thread had executed one
/// [`heavy_fence`](crate::heavy_fence) in between, and pairs with what that pairs with. Accesses between
/// the two are not ordered by it.
///
/// It is one word, and `Copy`. A copy that goes to another thread must get there by a Release store that an Acquire load
/// reads, or by a lock. Then it is as if that thread had done what stood before `now`.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
///
/// use asymfence::{Ticket, heavy_fence};
///
/// static UNLINKED: AtomicBool = AtomicBool::new(false);
///
/// UNLINKED.store(true, Relaxed);
/// let unlinked = Ticket::now();
/// // Other work. Meanwhile some thread has executed a heavy fence:
/// heavy_fence();
/// // So this costs a load. A reader that missed the flag has shown what it reads.
/// assert!(unlinked.is_served());
/// unlinked.wait();
/// ```
///
/// # Threads, fork, exec
///
/// A child of fork(2) may use its parent's tickets. A ticket belongs to one copy of this crate, as the
/// decision does: see [`Strategy`].
///
/// # Source
///
/// Linux `include/linux/rcutiny.h`, `rcutree.h`@v6.1: `get_state_synchronize_rcu`; liburcu's
/// `start_poll_synchronize_rcu`. A heavy fence takes the place of their grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Ticket(usize);

impl Ticket {
    /// Takes a ticket: a full fence and a load.
    ///
    /// Never decides. Wait-free and async-signal-safe.
    #[inline]
    pub fn now() -> Self {
        sys::assert_counts();
        Ticket(HEAVY.now())
    }

    /// Whether a heavy fence of this process *started* after [`now`](Ticket::now) and has succeeded.
    /// One that was in progress does not count. Once served, a ticket stays so (on 32 bits for a billion heavy
    /// fences; then it may ask for another).
    ///
    /// In a symmetric process every ticket is served: `now` was a heavy fence. While nothing has decided
    /// none is. Two loads, and a fence that is no instruction on x86 if the answer is yes.
    ///
    /// Never decides. Wait-free and async-signal-safe.
    #[inline]
    #[must_use]
    pub fn is_served(self) -> bool {
        sys::assert_counts();
        HEAVY.is_served(self.0) || strategy::strategy() == Some(Strategy::Symmetric)
    }

    /// Executes a heavy fence, unless the ticket is served. May share that of another thread, which may have
    /// started before this call: it is enough that it started after `now`.
    ///
    /// Panics, aborts and signal safety are those of [`heavy_fence`](crate::heavy_fence).
    #[inline]
    pub fn wait(self) {
        or_abort(self.try_wait());
    }

    /// As [`wait`](Ticket::wait), but returns a failure where that aborts.
    ///
    /// # Errors
    ///
    /// As [`try_heavy_fence`](crate::try_heavy_fence). Then nothing has been ordered, and the ticket is as
    /// it was.
    #[inline]
    pub fn try_wait(self) -> Result<(), HeavyFenceError> {
        sys::assert_counts();
        match strategy::init() {
            Strategy::Asymmetric(rung) if !HEAVY.is_served(self.0) => heavy(Some(self.0), rung),
            // Served; or `now` was a heavy fence.
            _ => Ok(()),
        }
    }
}
