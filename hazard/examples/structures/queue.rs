//! The queue of Michael and Scott (PODC 1996).

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;

use asymfence_hazard::{AtomicPtr, Domain};

/// A first-in-first-out queue for any number of threads. Lock-free.
#[derive(Debug)]
pub struct Queue<T> {
    /// A node whose value is taken; the first value is in the next one.
    head: AtomicPtr<Node<T>>,
    /// The last node, or for a moment the one before it. Never behind the head.
    tail: AtomicPtr<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    /// Taken by the one who makes this node the head.
    value: UnsafeCell<MaybeUninit<T>>,
    next: AtomicPtr<Node<T>>,
}

// SAFETY: a node hands its value over to one thread.
unsafe impl<T: Send> Send for Node<T> {}
// SAFETY: threads that share a node read `next`; its value only the one that makes it the head.
unsafe impl<T: Send> Sync for Node<T> {}

impl<T> Node<T> {
    fn boxed(value: MaybeUninit<T>) -> *mut Self {
        Box::into_raw(Box::new(Node { value: UnsafeCell::new(value), next: AtomicPtr::null() }))
    }
}

impl<T: Send + 'static> Queue<T> {
    pub fn new() -> Self {
        let queue = Queue { head: AtomicPtr::null(), tail: AtomicPtr::null() };
        let taken = Node::boxed(MaybeUninit::uninit());
        for end in [&queue.head, &queue.tail] {
            // SAFETY: nodes are valid until they are freed by `retire`, when neither end links them, or
            // by `drop`, when nobody borrows the queue. Only the ends are handed to `protect`. So
            // everywhere below.
            unsafe { end.store(taken) };
        }
        queue
    }

    pub fn push(&self, value: T) {
        let mut hazard = Domain::global().hazard_pointer();
        let node = Node::boxed(MaybeUninit::new(value));
        loop {
            let last = hazard.protect(&self.tail).expect("there is always a node");
            let last_address = ptr::from_ref(last).cast_mut();
            // SAFETY: as in `new`.
            let linked = unsafe { last.next.compare_exchange(ptr::null_mut(), node) };
            let next = linked.map_or_else(|next| next, |_| node);
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
        let [mut hazard, mut next_hazard] = Domain::global().hazard_pointers();
        loop {
            let head = hazard.protect(&self.head).expect("there is always a node");
            let head_address = ptr::from_ref(head).cast_mut();
            // A node that is not the head any more still links the next one, which may be retired, or
            // freed. The next of the head is not: so look at the head once more, after the protection.
            let next_address = head.next.load();
            next_hazard.protect_raw(next_address);
            if self.head.load() != head_address {
                continue;
            }
            // SAFETY: protected, and the next of the head after that.
            let next = unsafe { next_address.as_ref() }?;
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
                unsafe { Domain::global().retire(head) };
                return Some(value);
            }
        }
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        // SAFETY: what is linked still is ours, since nobody borrows the queue.
        let taken = unsafe { Box::from_raw(self.head.load()) };
        let mut next = taken.next.load();
        while !next.is_null() {
            // SAFETY: as above.
            let node = unsafe { Box::from_raw(next) };
            next = node.next.load();
            // SAFETY: the nodes behind the head have their values.
            unsafe { node.value.into_inner().assume_init_drop() };
        }
    }
}
