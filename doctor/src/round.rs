//! A reader's hot path in a loop: publish what it is about to read, fence, look again.

use std::arch::asm;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

/// Where the reader publishes, for a writer to look.
pub(crate) static SLOT: CachePadded<AtomicUsize> = CachePadded::new(AtomicUsize::new(0));

/// What it reads.
pub(crate) static SOURCE: CachePadded<AtomicUsize> = CachePadded::new(AtomicUsize::new(1));

/// The least of an expression's values for each of four `PLACE`s.
macro_rules! best_place {
    ($place:ident => $time:expr) => {
        [
            {
                const $place: usize = 0;
                $time
            },
            {
                const $place: usize = 1;
                $time
            },
            {
                const $place: usize = 2;
                $time
            },
            {
                const $place: usize = 3;
                $time
            },
        ]
        .into_iter()
        .min()
        .expect("four places")
    };
}

/// How long so many rounds take, where their loop stands best.
pub(crate) fn at_its_best(rounds: u64, fence: impl Fn() + Copy) -> Duration {
    best_place!(PLACE => {
        let start = Instant::now();
        at_place::<PLACE>(rounds, fence);
        start.elapsed()
    })
}

/// What follows begins, on x86, at one of four places of a cache line. (Where a `nop` is longer than a byte, some or
/// all of the four are the same place.) At a bad place a loop of few instructions takes up to half as long again.
/// Without this the linker would choose the place.
#[inline(always)]
pub(crate) fn stand_at<const PLACE: usize>() {
    // SAFETY: aligns the code, and executes only nops.
    unsafe { asm!(".p2align 6", ".rept {}", "nop", ".endr", const 16 * PLACE) };
}

#[inline(never)]
pub(crate) fn at_place<const PLACE: usize>(rounds: u64, fence: impl Fn()) {
    let (slot, source) = (black_box(&*SLOT), black_box(&*SOURCE));
    let mut seen = 0;
    stand_at::<PLACE>();
    for _ in 0..rounds {
        // Relaxed: what stands between the store and the second load is what is measured.
        let pointer = source.load(Relaxed);
        slot.store(pointer, Relaxed);
        fence();
        seen += u64::from(source.load(Relaxed) == pointer);
    }
    assert_eq!(black_box(seen), rounds);
}
