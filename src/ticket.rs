//! A moment in the past, and whether a heavy fence has been executed since.
//!
//! `coalesce.rs` has the count, and why it is right: STARTED-AFTER.

use crate::fence::{HEAVY, HeavyFenceError, heavy, or_abort};
use crate::strategy::{self, Strategy};
use crate::sys;

/// Records a moment, and tells later whether any thread of this process has executed a heavy fence since.
///
/// A caller that will need a heavy fence takes a ticket now. If another thread executes one before the caller does, the
/// caller needs none of its own. So one heavy fence can serve a hundred tickets. Linux's RCU has the same in
/// `get_state_synchronize_rcu` and `poll_state_synchronize_rcu`.
///
/// A ticket that is served orders the accesses before [`now`](Ticket::now) against those after
/// [`is_served`](Ticket::is_served), or after [`wait`](Ticket::wait), as if this thread had executed one
/// [`heavy_fence`](crate::heavy_fence) between the two calls. It pairs with the same fences. Accesses between the two
/// calls are not ordered.
///
/// A ticket is one word, and `Copy`. To send a copy to another thread, use a Release store that an Acquire load reads,
/// or a lock. Then the ticket orders, for the receiving thread, the accesses that the sending thread made before `now`.
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
/// // Other work. Meanwhile some thread executes a heavy fence:
/// heavy_fence();
/// // So this thread executes none. If a reader has not seen the flag, we see now what that reader has published.
/// assert!(unlinked.is_served());
/// unlinked.wait();
/// ```
///
/// # Threads, fork, exec
///
/// A child of fork(2) may use its parent's tickets. A ticket is valid for one copy of this crate, as the decision is:
/// see [`Strategy`].
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

    /// Whether a heavy fence of this process *started* after [`now`](Ticket::now) and has succeeded. A heavy fence that
    /// was already under way does not count. Once served, a ticket stays served. (On 32 bits it stays served for a
    /// billion heavy fences, and counts as not served for the next billion. [`wait`](Ticket::wait) then executes one
    /// heavy fence.)
    ///
    /// In a symmetric process every ticket is served: there a heavy fence is a full fence, and `now` has executed one.
    /// Before the decision no ticket is served. Costs at most two loads and an acquire-release fence, which is no
    /// instruction on x86.
    ///
    /// Never decides. Wait-free and async-signal-safe.
    #[inline]
    #[must_use]
    pub fn is_served(self) -> bool {
        sys::assert_counts();
        HEAVY.is_served(self.0) || strategy::strategy() == Some(Strategy::Symmetric)
    }

    /// Executes a heavy fence, unless the ticket is served. May share the heavy fence of another thread, even one that
    /// started before this call, if it started after `now`.
    ///
    /// Panics, aborts and signal safety are those of [`heavy_fence`](crate::heavy_fence).
    #[inline]
    pub fn wait(self) {
        or_abort(self.try_wait());
    }

    /// As [`wait`](Ticket::wait), but returns an error where `wait` aborts.
    ///
    /// # Errors
    ///
    /// As [`try_heavy_fence`](crate::try_heavy_fence). Then nothing has been ordered, and the ticket is unchanged.
    #[inline]
    pub fn try_wait(self) -> Result<(), HeavyFenceError> {
        sys::assert_counts();
        match strategy::init() {
            Strategy::Asymmetric(rung) if !HEAVY.is_served(self.0) => heavy(Some(self.0), rung),
            // Served. In a symmetric process by `now`, whose full fence is a heavy fence there.
            _ => Ok(()),
        }
    }
}
