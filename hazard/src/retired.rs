//! Retired objects: unlinked, and not freed as long as somebody may use them.

use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::AtomicUsize;

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicPtr, witness};

/// What frees an object.
pub(crate) type Deleter<T> = unsafe fn(*mut T);

/// Of an object that was a box's.
///
/// # Safety
///
/// `object` came from `Box::into_raw`, and nobody uses it.
pub(crate) unsafe fn free_box<T>(object: *mut T) {
    // SAFETY: the contract of this function.
    drop(unsafe { Box::from_raw(object) });
}

/// One object, and how to free it.
#[derive(Debug)]
struct Retired {
    object: *mut (),
    deleter: Deleter<()>,
    next: *mut Retired,
}

/// Retired objects that one thread has in hand. Dropped, they leak.
#[derive(Debug)]
#[must_use]
pub(crate) struct Chain {
    first: *mut Retired,
}

impl Chain {
    pub(crate) const fn empty() -> Self {
        Chain { first: ptr::null_mut() }
    }

    /// # Safety
    ///
    /// `deleter` may be called with `object`, once, from any thread, by whoever frees the chain.
    pub(crate) unsafe fn of<T>(object: *mut T, deleter: Deleter<T>) -> Self {
        // SAFETY: functions that differ in what a thin pointer points to have the same ABI.
        let deleter = unsafe { core::mem::transmute::<Deleter<T>, Deleter<()>>(deleter) };
        let retired = Retired { object: object.cast(), deleter, next: ptr::null_mut() };
        Chain { first: Box::into_raw(Box::new(retired)) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Moves the first object to the front of `other`.
    pub(crate) fn hand_on(&mut self, other: &mut Chain) {
        // SAFETY: the chain is ours, and so is every node in it.
        if let Some(first) = unsafe { self.first.as_mut() } {
            self.first = core::mem::replace(&mut first.next, other.first);
            other.first = first;
        }
    }

    /// The address of the first object.
    pub(crate) fn first(&self) -> Option<*mut ()> {
        // SAFETY: as in `hand_on`.
        unsafe { self.first.as_ref() }.map(|first| first.object)
    }

    /// Frees the first object. It has left the chain before its destructor runs.
    ///
    /// # Safety
    ///
    /// Nobody uses the object.
    pub(crate) unsafe fn free_first(&mut self) {
        if !self.first.is_null() {
            // SAFETY: as in `hand_on`; made by `of`, from a box.
            let first = unsafe { Box::from_raw(self.first) };
            self.first = first.next;
            let Retired { object, deleter, .. } = *first;
            witness::freed(object);
            // SAFETY: the contract of `of`, and that of this function.
            unsafe { deleter(object) };
        }
    }

    /// The last node; null if there is none.
    fn last(&self) -> *mut Retired {
        let (mut last, mut next) = (ptr::null_mut(), self.first);
        while !next.is_null() {
            last = next;
            // SAFETY: as in `hand_on`.
            next = unsafe { (*last).next };
        }
        last
    }
}

/// Retired objects that nobody has in hand, and how many of them came here.
///
/// Objects are added one by one and removed all at once, so no address comes back in the middle of an
/// exchange of the head.
#[derive(Debug)]
pub(crate) struct Bag {
    newest: AtomicPtr<Retired>,
    /// Objects retired here, ever. Wraps. Never loom's: no order depends on it.
    retired: AtomicUsize,
}

macro_rules! new {
    ($($constness:ident)?) => {
        pub(crate) $($constness)? fn new() -> Self {
            Bag {
                newest: AtomicPtr::new(ptr::null_mut()),
                retired: AtomicUsize::new(0),
            }
        }
    };
}

impl Bag {
    crate::sync::const_where_possible!(new);

    /// Puts `chain` in.
    pub(crate) fn put(&self, chain: Chain) {
        let last = chain.last();
        if last.is_null() {
            return;
        }
        // Relaxed: only compared with.
        let mut newest = self.newest.load(Relaxed);
        loop {
            // SAFETY: the chain is ours until it is in the bag.
            unsafe { (*last).next = newest };
            // Release: the objects were unlinked, and these nodes written, before they can be found
            // here. Pairs with: the Acquire in `take`, and so with the heavy fence behind that. What
            // we find instead we do not look into: Relaxed.
            match self.newest.compare_exchange(newest, chain.first, Release, Relaxed) {
                Ok(_) => return,
                Err(found) => newest = found,
            }
        }
    }

    /// Counts one more retired object, and returns the new number.
    pub(crate) fn count(&self) -> usize {
        // Relaxed: a number that decides when something is done, never what.
        self.retired.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// How many objects were retired here, ever.
    pub(crate) fn retired(&self) -> usize {
        // Relaxed: a number for reports.
        self.retired.load(Relaxed)
    }

    /// Takes all out.
    pub(crate) fn take(&self) -> Chain {
        // Acquire: see `put`, its partner. (The heavy fence that follows acquires too, unless it fails.)
        Chain { first: self.newest.swap(ptr::null_mut(), Acquire) }
    }
}

impl Drop for Bag {
    /// Frees what is in it: the domain is dropped, and hazard pointers borrow that, so there are none. A
    /// destructor that panics keeps no other from running, unless that panics too.
    fn drop(&mut self) {
        struct Rest(Chain);
        impl Rest {
            fn free(&mut self) {
                while !self.0.is_empty() {
                    // SAFETY: nobody uses what no hazard pointer protects.
                    unsafe { self.0.free_first() };
                }
            }
        }
        impl Drop for Rest {
            fn drop(&mut self) {
                self.free();
            }
        }
        Rest(self.take()).free();
    }
}
