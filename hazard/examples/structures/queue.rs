//! The queue of Michael and Scott (PODC 1996).

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;

use asymfence_hazard::{Domain, HazardPointer, Link, Tagged};

use crate::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire},
};

/// A first-in-first-out queue for any number of threads. Lock-free.
#[derive(Debug)]
pub struct Queue<T> {
    /// A node whose value is taken; the first value is in the next one.
    head: Link<Node<T>>,
    /// The last node, or for a moment the one before it. The head never passes it.
    tail: Link<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    /// Taken by the one who makes this node the head.
    value: UnsafeCell<MaybeUninit<T>>,
    /// Not a `Link`: it still points to the next node after that node was retired. So `pop` protects its address, and
    /// checks the head, before it uses the node.
    next: AtomicPtr<Node<T>>,
}

// SAFETY: a node hands its value over to one thread.
unsafe impl<T: Send> Send for Node<T> {}
// SAFETY: threads that share a node access only its atomic `next`. The value is taken by the one thread that makes the
// node the head.
unsafe impl<T: Send> Sync for Node<T> {}

impl<T> Node<T> {
    fn boxed(value: MaybeUninit<T>) -> Tagged<Self> {
        let next = AtomicPtr::new(ptr::null_mut());
        Tagged::from(Box::new(Node { value: UnsafeCell::new(value), next }))
    }
}

impl<T: Send + 'static> Queue<T> {
    pub fn new() -> Self {
        let queue = Queue { head: Link::null(), tail: Link::null() };
        let taken = Node::boxed(MaybeUninit::uninit());
        for end in [&queue.head, &queue.tail] {
            // SAFETY: nodes are valid until they are freed by `retire`, when neither end links them, or
            // by `drop`, when nobody borrows the queue. So everywhere below.
            unsafe { end.store(taken) };
        }
        queue
    }

    pub fn push(&self, value: T) {
        let mut hazard = HazardPointer::new();
        let node = Node::boxed(MaybeUninit::new(value));
        loop {
            let last = self.end(&self.tail, &mut hazard);
            let last_address = Tagged::from(ptr::from_ref(last));
            // Release: the node is complete. Pairs with: the Acquire loads of `next`. Acquire, where it fails:
            // the other's node is complete when it becomes the tail.
            let linked =
                last.next.compare_exchange(ptr::null_mut(), node.as_ptr(), AcqRel, Acquire);
            let next = linked.map_or_else(|next| Tagged::from(next.cast_const()), |_| node);
            // Whether it is our node or another's that comes next: the tail has to go there. Somebody
            // else may have seen to it.
            // SAFETY: as in `new`. The tail does not fall behind: it was `last`, whose address does not
            // come back while it is protected.
            let _ = unsafe { self.tail.compare_exchange(last_address, next) };
            if linked.is_ok() {
                return;
            }
        }
    }

    pub fn pop(&self) -> Option<T> {
        let [mut hazard, mut next_hazard] = HazardPointer::array();
        loop {
            let head = self.end(&self.head, &mut hazard);
            let head_address = Tagged::from(ptr::from_ref(head));
            // A node that is not the head any more still links the next one, which may be retired, or
            // freed. The next of the head is not: so look at the head once more, after the protection.
            // Acquire: the next node is complete. Pairs with: the Release in `push`.
            let next_address = head.next.load(Acquire);
            next_hazard.protect_raw(next_address);
            if self.head.load() != head_address {
                continue;
            }
            // SAFETY: protected, and the next of the head after that.
            let next = unsafe { next_address.as_ref() }?;
            let next_address = Tagged::from(next_address.cast_const());
            // The tail goes first, so that it never points to a node that is retired.
            if self.tail.load() == head_address {
                // SAFETY: as in `new`; as in `push`, it goes forward.
                let _ = unsafe { self.tail.compare_exchange(head_address, next_address) };
            }
            // SAFETY: as in `new`.
            if let Ok(head) = unsafe { self.head.compare_exchange(head_address, next_address) } {
                // SAFETY: we have made this node the head, so the value is ours, and it is read once.
                let value = unsafe { ptr::read(next.value.get().cast::<T>()) };
                // SAFETY: from a box; we have unlinked it from the head, alone, and the tail is past it.
                unsafe { Domain::global().retire(head.as_ptr()) };
                return Some(value);
            }
        }
    }

    /// The node at an end, protected.
    fn end<'h>(&self, end: &Link<Node<T>>, hazard: &'h mut HazardPointer) -> &'h Node<T> {
        hazard.protect_link(end).ok().flatten().expect("the ends are never frozen, nor null")
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        // SAFETY: what is linked still is ours, since nobody borrows the queue.
        let taken = unsafe { Box::from_raw(self.head.load().as_ptr()) };
        let mut next = taken.next.load(Acquire);
        while !next.is_null() {
            // SAFETY: as above.
            let node = unsafe { Box::from_raw(next) };
            next = node.next.load(Acquire);
            // SAFETY: the nodes after the head have their values.
            unsafe { node.value.into_inner().assume_init_drop() };
        }
    }
}
