//! A moment at which objects waited, and a ticket of that moment. If any thread of the process executes a heavy fence
//! later, for whatever reason, these objects need no heavy fence of their own.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;

use asymfence::Ticket;

use crate::ring::Ring;
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::sync::{AtomicPtr, get_mut};

/// The positions up to which objects had been retired at the moment of the ticket.
#[derive(Debug)]
pub(crate) struct Moment {
    ticket: Ticket,
    tails: Vec<(*const Ring, usize)>,
    /// The domain's count of objects and bytes at that moment.
    counted: [usize; 2],
}

/// The tails of the rings, and the counted objects and bytes, at a moment.
type Served<'r> = (Vec<(&'r Ring, usize)>, [usize; 2]);

impl Moment {
    /// `tails` reads the tails of rings. The ticket is taken after that. So what came before these tails was unlinked before
    /// the heavy fence that serves the ticket: FENCED of `ring.rs`.
    pub(crate) fn now<'r>(
        tails: impl FnOnce() -> Vec<(&'r Ring, usize)>,
        counted: [usize; 2],
    ) -> Self {
        let tails = tails();
        let ticket = Ticket::now();
        Moment::new(ticket, &tails, counted)
    }

    /// `tails` were read before the ticket was taken.
    pub(crate) fn new(ticket: Ticket, tails: &[(&Ring, usize)], counted: [usize; 2]) -> Self {
        let tails = tails.iter().map(|&(ring, tail)| (ptr::from_ref(ring), tail)).collect();
        Moment { ticket, tails, counted }
    }

    /// Whether a heavy fence has come since. If so, what that fence serves.
    ///
    /// # Safety
    ///
    /// The rings that were passed to `new` are there as long as `'r`.
    pub(crate) unsafe fn served<'r>(&self) -> Option<Served<'r>> {
        if !self.ticket.is_served() {
            return None;
        }
        // SAFETY: the contract of this function.
        let tails = self.tails.iter().map(|&(ring, tail)| (unsafe { &*ring }, tail));
        Some((tails.collect(), self.counted))
    }
}

// SAFETY: any thread may use the rings.
unsafe impl Send for Moment {}

/// The latest moment that a domain has noted, until a heavy fence has used it.
#[derive(Debug)]
pub(crate) struct Noted(AtomicPtr<Moment>);

macro_rules! new {
    ($($constness:ident)?) => {
        pub(crate) $($constness)? fn new() -> Self {
            Noted(AtomicPtr::new(ptr::null_mut()))
        }
    };
}

impl Noted {
    crate::sync::const_where_possible!(new);

    /// Whether there is a moment.
    pub(crate) fn is_there(&self) -> bool {
        // Relaxed: advice.
        !self.0.load(Relaxed).is_null()
    }

    /// Replaces the moment.
    pub(crate) fn set(&self, moment: Moment) {
        // Release: the moment is written, and its tails were loaded, so the objects before them are seen. Pairs with:
        // the Acquire in `take`. Acquire: as there, for the one that is dropped.
        // survives: what is dropped is plain memory, and loom checks only atomics and cells.
        let old = self.0.swap(Box::into_raw(Box::new(moment)), AcqRel);
        drop(boxed(old));
    }

    /// Takes the moment.
    pub(crate) fn take(&self) -> Option<Box<Moment>> {
        if !self.is_there() {
            return None;
        }
        // Acquire: pairs with the Release in `set`.
        boxed(self.0.swap(ptr::null_mut(), Acquire))
    }
}

/// The moment that a swap has returned.
fn boxed(moment: *mut Moment) -> Option<Box<Moment>> {
    // SAFETY: from a box, and only one swap returns it.
    (!moment.is_null()).then(|| unsafe { Box::from_raw(moment) })
}

impl Drop for Noted {
    fn drop(&mut self) {
        drop(boxed(get_mut(&mut self.0)));
    }
}
