//! How much waits before a domain executes a heavy fence.

use core::time::Duration;

use crate::ring::FARTHEST;

/// How much waits before a domain executes a heavy fence.
///
/// ```
/// use asymfence_hazard::{Thresholds, domain};
///
/// domain! {
///     /// Of large objects.
///     pub enum Textures {} = Thresholds { objects: 64, bytes: 256 << 20, ..Thresholds::DEFAULT };
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Objects, for each thread that retires: a heavy fence is due when all threads together have retired at least this
    /// number times the number of threads, whichever of them retired how many; or as many as there are hazard pointers,
    /// if that is more. (One heavy fence serves all threads, and interrupts every processor that runs one of them.)
    pub objects: usize,
    /// Bytes. An object counts with the size of its type, or with what
    /// [`retire_weighing`](crate::Domain::retire_weighing) was told.
    pub bytes: usize,
    /// If the last heavy fence is at least this long ago, the next retire of a thread executes one, even if only one
    /// object that the thread has retired earlier still waits. (A thread that retired fast before may notice this up to
    /// 32 retires late, and up to [`at_once`](Thresholds::at_once) more.) A pause below a millisecond counts as one.
    /// The pause is at least 128 times as long as the last heavy fence took, up to a tenth of a second. With `None`
    /// only objects and bytes count. Ignored without the feature `std`, since there is no clock.
    pub pause: Option<Duration>,
    /// How many objects a thread frees at a time, rounded down to a power of two. It frees them after it has retired as
    /// many. The maximum is 32 (16 if [`objects`](Thresholds::objects) is below 512, 8 below 256, 4 below 128, 2 below 8,
    /// 1 below 4).
    ///
    /// The default, 4, suits glibc's allocator: it caches at least 7 objects of a size for each thread, and so the next
    /// allocations find the freed objects in the cache. With mimalloc 32 are faster. With jemalloc it depends on the
    /// processor and on the number of threads: measure. With 32, one retire in 32 frees 32 objects, and so takes longer
    /// than most retires take with 4. (The slowest, those that execute a heavy fence, are the same with both.)
    pub at_once: usize,
}

impl Thresholds {
    /// 1,024 objects for each thread, 8 MiB in all, a millisecond; 4 objects at a time.
    pub const DEFAULT: Self = Thresholds {
        objects: 1024,
        bytes: 8 << 20,
        pause: Some(Duration::from_millis(1)),
        at_once: STRIDE,
    };

    /// A power of two, so that steps meet the end of a block.
    pub(crate) const fn stride(self) -> usize {
        let most = match self.objects {
            0..4 => 1,
            4..8 => 2,
            8..128 => STRIDE,
            128..512 => self.objects / SHARE,
            _ => FARTHEST,
        };
        match self.at_once {
            0 => 1,
            at_once if at_once < most => 1 << at_once.ilog2(),
            _ => 1 << most.ilog2(),
        }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The default of [`Thresholds::at_once`], and its maximum if `Thresholds::objects` is from 8 to 127. (Below 8 the
/// maximum is lower.)
pub(crate) const STRIDE: usize = 4;

/// The domain counts a thread's new objects when their number reaches `Thresholds::objects` divided by this (`AT_ONCE`
/// if that is less). It also counts them when their bytes reach `Thresholds::bytes` divided by this, or by the number
/// of rings that have an owner, if that is more.
pub(crate) const SHARE: usize = 16;
