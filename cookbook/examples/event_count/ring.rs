//! A ring from one producer to one consumer, by atomic loads and stores alone.

use std::array;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

use crossbeam_utils::CachePadded;

/// Holds `N` numbers. If more than one thread pushes, or pops, numbers get lost or come twice.
#[derive(Debug)]
pub struct Ring<const N: usize> {
    /// How many numbers were pushed. Only the producer writes it.
    pushed: CachePadded<AtomicUsize>,
    /// How many numbers were popped. Only the consumer writes it.
    popped: CachePadded<AtomicUsize>,
    places: [AtomicU64; N],
}

impl<const N: usize> Ring<N> {
    pub fn new() -> Self {
        Ring {
            pushed: CachePadded::default(),
            popped: CachePadded::default(),
            places: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// `None` if it is full.
    #[inline]
    pub fn try_push(&self, item: u64) -> Option<()> {
        // Relaxed: nobody else writes it. Acquire: the place was read. Pairs with: the Release in `try_pop`.
        let (pushed, popped) = (self.pushed.load(Relaxed), self.popped.load(Acquire));
        if pushed.wrapping_sub(popped) == N {
            return None;
        }
        // Relaxed: published by the count. Release: the item is in its place. Pairs with: the Acquire in
        // `try_pop`.
        self.places[pushed % N].store(item, Relaxed);
        self.pushed.store(pushed.wrapping_add(1), Release);
        Some(())
    }

    /// `None` if it is empty.
    #[inline]
    pub fn try_pop(&self) -> Option<u64> {
        // Relaxed, Acquire and Release: as in `try_push`, with the sides exchanged.
        let (popped, pushed) = (self.popped.load(Relaxed), self.pushed.load(Acquire));
        if pushed == popped {
            return None;
        }
        let item = self.places[popped % N].load(Relaxed);
        self.popped.store(popped.wrapping_add(1), Release);
        Some(item)
    }
}
