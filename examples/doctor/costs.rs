//! What the fences cost here, in nanoseconds.
//!
//! The machine may be shared: variants are interleaved, the minimum of many samples is taken for a
//! loop of instructions, the median for a heavy fence, whose cost depends on whom it interrupts.

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::time::Instant;

use asymfence::{Asymmetric, heavy_fence, light_fence};

use crate::break_even::Model;
use crate::round;
use crate::sibling::{self, median};

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
        let (light, full, heavy) = (self.light, self.seqcst, self.heavy_running?);
        Model { light, full, heavy, instead: full - self.none }.crossing()
    }

    pub(crate) fn measure(mut tick: impl FnMut()) -> Self {
        let proof = Asymmetric::new().ok();
        let mut best = [f64::INFINITY; 4];
        for _ in 0..SAMPLES {
            let sample = [
                publish_then_recheck(|| ()),
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
const ROUNDS: u64 = 100_000;

/// Nanoseconds a round, at the best place.
fn publish_then_recheck(fence: impl Fn() + Copy) -> f64 {
    let least = round::everywhere(ROUNDS, fence).into_iter().min().expect("four places");
    least.as_nanos() as f64 / ROUNDS as f64
}

fn heavy() -> f64 {
    const CALLS: u32 = 200;
    let start = Instant::now();
    for _ in 0..CALLS {
        heavy_fence();
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// While another thread runs: without one there is nobody to interrupt, and only the system call is
/// timed. Samples during which that did not come on (the machine has other things to do) are not counted.
fn heavy_with_running_sibling() -> Option<f64> {
    let progress = AtomicUsize::new(0);
    // Relaxed: a number that grows.
    let come_on = || _ = progress.fetch_add(1, Ordering::Relaxed);
    let samples = sibling::beside(1, 0, come_on, || {
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
        samples
    })?;
    (!samples.is_empty()).then(|| median(samples))
}
