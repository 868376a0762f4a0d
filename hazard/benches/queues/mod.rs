//! The queue of Michael and Scott on crossbeam-epoch.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crossbeam_epoch::{Atomic, Owned, Shared};

pub(crate) struct Epoch {
    head: Atomic<Node>,
    tail: Atomic<Node>,
}

struct Node {
    value: MaybeUninit<u64>,
    next: Atomic<Node>,
}

impl Epoch {
    pub(crate) fn new() -> Self {
        let guard = crossbeam_epoch::pin();
        let taken = Owned::new(Node { value: MaybeUninit::uninit(), next: Atomic::null() });
        let taken = taken.into_shared(&guard);
        Epoch { head: Atomic::from(taken), tail: Atomic::from(taken) }
    }

    pub(crate) fn push(&self, value: u64) {
        let guard = crossbeam_epoch::pin();
        let node = Owned::new(Node { value: MaybeUninit::new(value), next: Atomic::null() });
        let node = node.into_shared(&guard);
        loop {
            let last = self.tail.load(Acquire, &guard);
            // SAFETY: never null, and destroyed after the guard.
            let next = &unsafe { last.deref() }.next;
            let linked = next.compare_exchange(Shared::null(), node, AcqRel, Acquire, &guard);
            let next = linked.as_ref().map_or_else(|error| error.current, |_| node);
            let _ = self.tail.compare_exchange(last, next, AcqRel, Relaxed, &guard);
            if linked.is_ok() {
                return;
            }
        }
    }

    pub(crate) fn pop(&self) -> Option<u64> {
        let guard = crossbeam_epoch::pin();
        loop {
            let head = self.head.load(Acquire, &guard);
            // SAFETY: never null, and destroyed after the guard.
            let next = unsafe { head.deref() }.next.load(Acquire, &guard);
            // SAFETY: destroyed after the guard.
            let node = unsafe { next.as_ref() }?;
            // The tail goes first, so that it never points to a node that is destroyed.
            if self.tail.load(Relaxed, &guard) == head {
                let _ = self.tail.compare_exchange(head, next, AcqRel, Relaxed, &guard);
            }
            if self.head.compare_exchange(head, next, AcqRel, Relaxed, &guard).is_ok() {
                // SAFETY: we have made this node the head, so the value is ours, and it is read once.
                let value = unsafe { ptr::read(node.value.as_ptr()) };
                // SAFETY: unlinked by us alone.
                unsafe { guard.defer_destroy(head) };
                return Some(value);
            }
        }
    }
}
