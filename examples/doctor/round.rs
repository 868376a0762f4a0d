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

/// So many rounds, at each place of a cache line where their loop may begin: a loop of few instructions
/// takes up to half as long again at a bad one, and where it stands is the linker's choice.
pub(crate) fn everywhere(rounds: u64, fence: impl Fn() + Copy) -> [Duration; 4] {
    [
        time(|| at_place::<0>(rounds, fence)),
        time(|| at_place::<1>(rounds, fence)),
        time(|| at_place::<2>(rounds, fence)),
        time(|| at_place::<3>(rounds, fence)),
    ]
}

fn time(work: impl Fn()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

#[inline(never)]
pub(crate) fn at_place<const PLACE: usize>(rounds: u64, fence: impl Fn()) {
    let (slot, source) = (black_box(&*SLOT), black_box(&*SOURCE));
    let mut seen = 0;
    // SAFETY: aligns what follows, and executes nothing but that many times nothing.
    unsafe { asm!(".p2align 6", ".rept {}", "nop", ".endr", const 16 * PLACE) };
    for _ in 0..rounds {
        // Relaxed: what stands between the store and the second load is what is measured.
        let pointer = source.load(Relaxed);
        slot.store(pointer, Relaxed);
        fence();
        seen += u64::from(source.load(Relaxed) == pointer);
    }
    assert_eq!(black_box(seen), rounds);
}
