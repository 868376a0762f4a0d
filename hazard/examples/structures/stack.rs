//! Treiber's stack.

use std::mem::ManuallyDrop;
use std::ptr;

use asymfence_hazard::{Domain, HazardPointer, Link, Tagged};

/// A stack that any number of threads push to and pop from. Lock-free.
#[derive(Debug)]
pub struct Stack<T> {
    /// Never frozen.
    top: Link<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    /// Taken by the thread that unlinks the node.
    value: ManuallyDrop<T>,
    /// Written before the node is linked, and never again. No `Link`, since it is not frozen when the node is
    /// unlinked: nobody follows it.
    below: Tagged<Node<T>>,
}

// SAFETY: a node hands its value over to one thread, and `below` is an address.
unsafe impl<T: Send> Send for Node<T> {}
// SAFETY: threads that share a node read `below`; its value only the one that has unlinked it.
unsafe impl<T: Send> Sync for Node<T> {}

impl<T: Send + 'static> Stack<T> {
    pub fn new() -> Self {
        Stack { top: Link::null() }
    }

    pub fn push(&self, value: T) {
        self.push_with(value, &mut HazardPointer::new());
    }

    /// As `push`, with a hazard pointer that is at hand.
    pub fn push_with(&self, value: T, hazard: &mut HazardPointer) {
        let below = Tagged::null();
        let node = Tagged::from(Box::new(Node { value: ManuallyDrop::new(value), below }));
        // After the allocation: the less time passes until the exchange, the fewer exchanges fail.
        let mut below = self.top.load();
        loop {
            // Without the protection another thread could free the top, and push a new node that has the same
            // address. Then the exchange would succeed, but `below` would hold a pointer to the freed node. To follow
            // it is undefined behaviour, although the address is right.
            hazard.protect_raw(below.as_ptr());
            let found = self.top.load();
            if found != below {
                below = found;
                continue;
            }
            // `found`, and not the pointer that was loaded before it was protected.
            // SAFETY: the node is ours until it is linked.
            unsafe { (*node.as_ptr()).below = found };
            // SAFETY: `node` is valid, and freed by `retire` once it is unlinked, or by `drop`, when nobody
            // borrows the stack.
            match unsafe { self.top.compare_exchange_weak(found, node) } {
                Ok(_) => break,
                Err(found) => below = found,
            }
        }
        hazard.reset_protection();
    }

    pub fn pop(&self) -> Option<T> {
        self.pop_with(&mut HazardPointer::new())
    }

    /// As `pop`, with a hazard pointer that is at hand.
    pub fn pop_with(&self, hazard: &mut HazardPointer) -> Option<T> {
        loop {
            let top = hazard.protect_link(&self.top).ok().flatten()?;
            let (address, below) = (Tagged::from(ptr::from_ref(top)), top.below);
            // As long as the node is protected its address does not come back, so if it is the top, then
            // `below` is what is below the top.
            // SAFETY: `below` was linked when this node was pushed onto it, and stays linked, and so valid, as long as
            // this node is linked.
            if let Ok(node) = unsafe { self.top.compare_exchange(address, below) } {
                // The pointer is the box's own, as the exchange returned it: through one made from a `&Node`
                // the node could not be freed.
                let node = node.as_ptr();
                // SAFETY: the node is valid until it is retired.
                let value = unsafe { &raw const (*node).value };
                // SAFETY: we have unlinked the node, so the value is ours, and it is read once.
                let value = unsafe { ptr::read(value) };
                // SAFETY: from a box, and unlinked by us alone.
                unsafe { Domain::global().retire(node) };
                return Some(ManuallyDrop::into_inner(value));
            }
        }
    }
}

impl<T> Drop for Stack<T> {
    fn drop(&mut self) {
        let mut next = self.top.load().as_ptr();
        while !next.is_null() {
            // SAFETY: what is linked still is ours, since nobody borrows the stack.
            let node = *unsafe { Box::from_raw(next) };
            next = node.below.as_ptr();
            drop(ManuallyDrop::into_inner(node.value));
        }
    }
}
