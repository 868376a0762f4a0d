//! The number of objects that were freed, and of their bytes. A thread that reads these numbers, and then how many were
//! retired, finds no more freed than retired.

use crate::sync::Counter;
use crate::sync::Ordering::{Acquire, Relaxed, Release};

/// Both wrap.
#[derive(Debug)]
pub(crate) struct Freed {
    objects: Counter,
    bytes: Counter,
}

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        pub(crate) $($constness)? fn new() -> Self {
            Freed { objects: Counter::new(0), bytes: Counter::new(0) }
        }
    };
}

impl Freed {
    crate::sync::const_where_possible!(new);

    /// Counts, where several threads do.
    pub(crate) fn add(&self, objects: usize, bytes: usize) {
        // Release, both: the caller knows that these were retired. Pairs with: the Acquire in `read`.
        self.bytes.fetch_add(bytes, Release);
        self.objects.fetch_add(objects, Release);
    }

    /// Counts, where only the caller does.
    #[inline]
    pub(crate) fn add_alone(&self, objects: usize, bytes: usize) {
        // Relaxed, both: only the caller writes these numbers. Release, both: as in `add`.
        self.bytes.store(self.bytes.load(Relaxed).wrapping_add(bytes), Release);
        self.objects.store(self.objects.load(Relaxed).wrapping_add(objects), Release);
    }

    /// Objects and bytes. The caller reads the numbers of retired objects after these.
    pub(crate) fn read(&self) -> (usize, usize) {
        // Acquire, both: what was freed was counted as retired before. Pairs with: the Release in `add` or `add_alone`.
        (self.objects.load(Acquire), self.bytes.load(Acquire))
    }
}
