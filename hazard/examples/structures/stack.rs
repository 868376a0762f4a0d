//! Treiber's stack.

use std::mem::ManuallyDrop;
use std::ptr;

use asymfence_hazard::{AtomicPtr, Domain, HazardPointer};

/// A stack that any number of threads push to and pop from. Lock-free.
#[derive(Debug)]
pub struct Stack<T> {
    top: AtomicPtr<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    /// Taken by the one who unlinks the node.
    value: ManuallyDrop<T>,
    /// Written before the node is linked, and never again.
    below: *mut Node<T>,
}

// SAFETY: a node hands its value over to one thread, and `below` is an address.
unsafe impl<T: Send> Send for Node<T> {}
// SAFETY: threads that share a node read `below`; its value only the one that has unlinked it.
unsafe impl<T: Send> Sync for Node<T> {}

impl<T: Send + 'static> Stack<T> {
    pub fn new() -> Self {
        Stack { top: AtomicPtr::null() }
    }

    pub fn push(&self, value: T) {
        let mut below = self.top.load();
        let node = Node { value: ManuallyDrop::new(value), below };
        let node = Box::into_raw(Box::new(node));
        // SAFETY: `node` is valid, and freed by `retire` once it is unlinked, or by `drop`, when nobody
        // borrows the stack.
        while let Err(found) = unsafe { self.top.compare_exchange(below, node) } {
            below = found;
            // SAFETY: the node is ours until it is linked.
            unsafe { (*node).below = below };
        }
    }

    pub fn pop(&self) -> Option<T> {
        self.pop_with(&mut Domain::global().hazard_pointer())
    }

    /// As `pop`, with a hazard pointer that is at hand.
    pub fn pop_with(&self, hazard: &mut HazardPointer<'_>) -> Option<T> {
        loop {
            let node = hazard.protect(&self.top)?;
            let (below, address) = (node.below, ptr::from_ref(node).cast_mut());
            // As long as the node is protected its address does not come back, so if it is the top, then
            // `below` is what is below the top.
            // SAFETY: `below` was linked, and is as long as the node is.
            if let Ok(node) = unsafe { self.top.compare_exchange(address, below) } {
                // SAFETY: the node is valid until it is retired.
                let value = unsafe { &raw const (*node).value };
                // SAFETY: we have unlinked the node, so the value is ours, and it is read once.
                let value = unsafe { ptr::read(value) };
                let value = ManuallyDrop::into_inner(value);
                // SAFETY: from a box, and unlinked by us alone. The pointer is the box's own, as the
                // exchange returned it: through one made from a `&Node` it could not be freed.
                unsafe { Domain::global().retire(node) };
                return Some(value);
            }
        }
    }
}

impl<T> Drop for Stack<T> {
    fn drop(&mut self) {
        let mut next = self.top.load();
        while !next.is_null() {
            // SAFETY: what is linked still is ours, since nobody borrows the stack.
            let node = *unsafe { Box::from_raw(next) };
            next = node.below;
            drop(ManuallyDrop::into_inner(node.value));
        }
    }
}
