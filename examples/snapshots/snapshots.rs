//! One writer publishes snapshots, readers in other processes read the newest. Nobody waits for anybody.
//!
//! ```text
//! reader                        writer
//! reading = newest              newest = another
//! light fence                   heavy fence
//! newest still the same?        which are being read?
//! ```
//!
//! Scenario A: the reader sees that its snapshot is not the newest any more, and tries again, or the
//! writer sees that it is being read, and does not write over it. The writer needs the heavy fence only
//! when it is out of buffers.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use asymfence::cross_process::{Fences, PARTICIPANTS, Participant, SegmentError};
use crossbeam_utils::CachePadded;

use crate::memory::Atomics;

/// Each participant reads at most one buffer, and one more buffer holds the newest snapshot. After each `reclaim` at
/// least the spare ones are free to be written.
const SPARE: usize = 1_023;
const BUFFERS: usize = PARTICIPANTS + 1 + SPARE;

#[repr(C)]
pub(crate) struct Snapshots {
    /// The index of a buffer.
    newest: CachePadded<AtomicU32>,
    /// By the index of the participant: one more than the buffer's index, 0 for none.
    reading: [CachePadded<AtomicU32>; PARTICIPANTS],
    buffers: [Snapshot; BUFFERS],
}

// SAFETY: atomic integers, in arrays and with padding between.
unsafe impl Atomics for Snapshots {}

/// All words follow from the first, so that a snapshot that is torn can be told.
#[repr(C, align(64))]
pub(crate) struct Snapshot([AtomicU64; 8]);

impl Snapshot {
    fn write(&self, number: u64) {
        // Relaxed: nobody reads it before it is published.
        for (factor, word) in (1..).zip(&self.0) {
            word.store(number.wrapping_mul(factor), Relaxed);
        }
    }

    /// The number it was written with, if it is whole.
    pub(crate) fn check(&self) -> Option<u64> {
        // Relaxed: published by `newest`.
        let number = self.0[0].load(Relaxed);
        let is_whole =
            |(factor, word): (u64, &AtomicU64)| word.load(Relaxed) == number.wrapping_mul(factor);
        (1..).zip(&self.0).all(is_whole).then_some(number)
    }
}

impl Snapshots {
    /// Reads the newest snapshot.
    #[inline]
    pub(crate) fn read<F: Fences, T>(
        &self,
        me: &Participant<'_, F>,
        look: impl FnOnce(&Snapshot) -> T,
    ) -> T {
        let reading = &self.reading[me.index()];
        // Relaxed: a guess, checked below.
        let mut guess = self.newest.load(Relaxed);
        loop {
            // Release: what we read of other buffers before comes first. The writer may see this store, and never the 0
            // below. Pairs with the Acquire in `reclaim`.
            reading.store(guess + 1, Release);
            // Our store to `reading` comes before the second load of `newest`. Pairs with: the heavy fence in `reclaim`
            // (scenario A).
            me.light_fence();
            // Acquire: the snapshot was written before. Pairs with the Release in `publish`.
            let newest = self.newest.load(Acquire);
            if newest == guess {
                break;
            }
            guess = newest;
        }
        let seen = look(&self.buffers[guess as usize]);
        // Release: we have read before it may be written over. Pairs with the Acquire in `reclaim`.
        reading.store(0, Release);
        seen
    }

    /// What a reader that has died was reading: nobody reads it any more.
    pub(crate) fn forget(&self, index: usize) {
        // Relaxed: it reads no more. The participant that takes its place next is ordered after this store by the table
        // of places.
        self.reading[index].store(0, Relaxed);
    }
}

/// The one writer.
pub(crate) struct Writer<'a, F: Fences> {
    me: &'a Participant<'a, F>,
    shared: &'a Snapshots,
    /// Buffers that nobody reads.
    free: Vec<u32>,
    /// Buffers that were the newest and are not any more.
    retired: Vec<u32>,
    published: u64,
    heavy_fences: u64,
}

impl<'a, F: Fences> Writer<'a, F> {
    /// For memory that is still all zero: the first buffer is the newest.
    pub(crate) fn new(me: &'a Participant<'a, F>, shared: &'a Snapshots) -> Self {
        let free = (1..BUFFERS as u32).collect();
        Writer { me, shared, free, retired: Vec::new(), published: 0, heavy_fences: 0 }
    }

    pub(crate) fn publish(&mut self) {
        let buffer = loop {
            if let Some(buffer) = self.free.pop() {
                break buffer;
            }
            self.reclaim();
        };
        self.published += 1;
        self.shared.buffers[buffer as usize].write(self.published);
        // Release: the snapshot stands before its index. Pairs with the Acquire in `read`.
        self.retired.push(self.shared.newest.swap(buffer, Release));
    }

    /// Finds the retired buffers that nobody reads.
    fn reclaim(&mut self) {
        self.heavy_fences += 1;
        // The stores that put others in their place came before; the loads of `reading` come after. Pairs with: the
        // light fence in `read` (scenario A).
        self.me.heavy_fence();
        // Acquire: a reader that has left has finished its reads. Pairs with the Release in `read`.
        let reading = self.shared.reading.each_ref().map(|slot| slot.load(Acquire));
        let (kept, free) =
            self.retired.iter().partition(|&&buffer| reading.contains(&(buffer + 1)));
        self.retired = kept;
        self.free.extend::<Vec<u32>>(free);
    }

    /// Frees what readers hold that have died.
    pub(crate) fn reap(&self) -> Result<usize, SegmentError> {
        self.me.reap(|index| self.shared.forget(index))
    }

    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    pub(crate) fn heavy_fences(&self) -> u64 {
        self.heavy_fences
    }

    /// How many buffers readers keep from being reused.
    pub(crate) fn kept_by_readers(&mut self) -> usize {
        self.reclaim();
        self.retired.len()
    }
}
