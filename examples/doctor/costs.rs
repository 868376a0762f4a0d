//! What the fences cost here, in nanoseconds.
//!
//! The machine may be shared: variants are interleaved, the minimum of many samples is taken for a
//! loop of instructions, the median for a heavy fence, whose cost depends on whom it interrupts.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread;
use std::time::Instant;

use asymfence::{Asymmetric, heavy_fence, light_fence};
use crossbeam_utils::CachePadded;

#[derive(Debug)]
pub(crate) struct Costs {
    pub(crate) none: f64,
    pub(crate) light: f64,
    /// `None` in a symmetric process.
    pub(crate) asymmetric_light: Option<f64>,
    pub(crate) seqcst: f64,
    pub(crate) heavy_idle: f64,
    /// `None` where no sibling runs beside it.
    pub(crate) heavy_running: Option<f64>,
}

impl Costs {
    /// How many light fences, each cheaper than a full one, pay for one heavy fence. `None` where
    /// they are not cheaper, as in a symmetric process.
    pub(crate) fn break_even(&self) -> Option<f64> {
        self.asymmetric_light?;
        let saved = self.seqcst - self.light;
        (saved > 0.0).then_some(self.heavy_running? / saved)
    }

    pub(crate) fn measure(mut tick: impl FnMut()) -> Self {
        let proof = Asymmetric::new().ok();
        let mut best = [f64::INFINITY; 4];
        for _ in 0..SAMPLES {
            let sample = [
                publish_then_recheck(|| {}),
                publish_then_recheck(light_fence),
                proof.map_or(f64::INFINITY, |proof| publish_then_recheck(|| proof.light_fence())),
                publish_then_recheck(|| fence(Ordering::SeqCst)),
            ];
            for (best, sample) in best.iter_mut().zip(sample) {
                *best = best.min(sample);
            }
            tick();
        }
        let heavy_idle = median((0..SAMPLES).map(|_| heavy()).collect());
        tick();
        let heavy_running = heavy_with_running_sibling();
        tick();
        let [none, light, asymmetric_light, seqcst] = best;
        Costs {
            none,
            light,
            asymmetric_light: proof.map(|_| asymmetric_light),
            seqcst,
            heavy_idle,
            heavy_running,
        }
    }

    /// How often `measure` ticks.
    pub(crate) const TICKS: u64 = SAMPLES as u64 + 2;
}

const SAMPLES: usize = 40;

/// A reader's hot path: publish what it is about to read, fence, look again.
#[inline(never)]
fn publish_then_recheck(fence: impl Fn()) -> f64 {
    const ROUNDS: usize = 200_000;
    static SLOT: CachePadded<AtomicUsize> = CachePadded::new(AtomicUsize::new(0));
    static SOURCE: CachePadded<AtomicUsize> = CachePadded::new(AtomicUsize::new(1));
    let (slot, source) = (black_box(&*SLOT), black_box(&*SOURCE));
    let start = Instant::now();
    let mut seen = 0;
    for _ in 0..ROUNDS {
        let pointer = source.load(Ordering::Relaxed);
        slot.store(pointer, Ordering::Relaxed);
        fence();
        seen += usize::from(source.load(Ordering::Relaxed) == pointer);
    }
    assert_eq!(black_box(seen), ROUNDS);
    start.elapsed().as_nanos() as f64 / ROUNDS as f64
}

fn heavy() -> f64 {
    const CALLS: u32 = 200;
    let start = Instant::now();
    for _ in 0..CALLS {
        heavy_fence();
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// On one core, while a thread of this process runs on another: without one there is nobody to
/// interrupt, and only the system call is timed. Samples during which the sibling did not come on (the
/// machine has other things to do) are not counted.
fn heavy_with_running_sibling() -> Option<f64> {
    let cores = core_affinity::get_core_ids()?;
    let (mine, siblings) = (*cores.first()?, *cores.get(1)?);
    let (progress, stop) = (&AtomicUsize::new(0), &AtomicBool::new(false));
    let samples = thread::scope(|scope| {
        scope.spawn(move || {
            core_affinity::set_for_current(siblings);
            while !stop.load(Ordering::Relaxed) {
                progress.fetch_add(1, Ordering::Relaxed);
            }
        });
        let worker = scope.spawn(move || {
            core_affinity::set_for_current(mine);
            while progress.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            let mut samples = Vec::new();
            for _ in 0..10 * SAMPLES {
                let before = progress.load(Ordering::Relaxed);
                let sample = heavy();
                if progress.load(Ordering::Relaxed) != before {
                    samples.push(sample);
                }
                if samples.len() == SAMPLES {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
            samples
        });
        worker.join().expect("no panic")
    });
    (!samples.is_empty()).then(|| median(samples))
}
