//! What a heavy fence costs: its caller, and whom it interrupts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use asymfence::heavy_fence;

use crate::sibling::{beside, median};

/// Nanoseconds of one heavy fence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heavy {
    /// For which its caller waits.
    pub(crate) caller: f64,
    /// By which the sibling is held up.
    pub(crate) sibling: f64,
}

impl Heavy {
    pub(crate) fn in_all(self) -> f64 {
        self.caller + self.sibling
    }
}

/// Nanoseconds that the caller of one heavy fence waits, whatever runs beside it.
pub(crate) fn caller() -> f64 {
    const CALLS: u32 = 200;
    let start = Instant::now();
    (0..CALLS).for_each(|_| heavy_fence());
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// The median of both, beside so many threads that run: at least one, since a heavy fence that interrupts nobody costs
/// only the system call ([`caller`]). `None` where no second core runs one.
pub(crate) fn beside_running(threads: usize, samples: usize) -> Option<Heavy> {
    // Relaxed: a number that grows.
    let progress = AtomicU64::new(0);
    let come_on = || _ = progress.fetch_add(1, Relaxed);
    let heavy: Vec<Heavy> = beside(threads, 0, come_on, || {
        // The machine has other things to do: samples in which the sibling stood still do not count.
        (0..20 * samples).filter_map(|_| sample(&progress)).take(samples).collect()
    })?;
    if heavy.is_empty() {
        return None;
    }
    let caller = median(heavy.iter().map(|heavy| heavy.caller).collect());
    let sibling = median(heavy.iter().map(|heavy| heavy.sibling).collect());
    Some(Heavy { caller, sibling: sibling.max(0.0) })
}

/// The sibling while it is left alone, and while heavy fences follow each other.
fn sample(progress: &AtomicU64) -> Option<Heavy> {
    let (time, steps, _) = watch(progress, std::hint::spin_loop);
    let step = (steps > 0.0).then_some(time / steps)?;
    let (time, steps, calls) = watch(progress, heavy_fence);
    let sibling = (time - steps * step) / calls;
    (steps > 0.0).then_some(Heavy { caller: time / calls, sibling })
}

/// Calls `work` again and again for about a millisecond. Returns the nanoseconds that passed, the sibling's steps in
/// that time, and the number of calls.
fn watch(progress: &AtomicU64, work: fn()) -> (f64, f64, f64) {
    const A_WHILE: Duration = Duration::from_millis(1);
    let (before, start, mut times) = (progress.load(Relaxed), Instant::now(), 0);
    while start.elapsed() < A_WHILE {
        work();
        times += 1;
    }
    let time = start.elapsed().as_nanos() as f64;
    (time, (progress.load(Relaxed) - before) as f64, f64::from(times))
}
