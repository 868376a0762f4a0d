//! What the fences cost here, in nanoseconds.
//!
//! The machine may be shared: variants are interleaved, the minimum of many samples is taken for a
//! loop of instructions, the median for a heavy fence, whose cost depends on whom it interrupts.

use std::sync::atomic::{Ordering, fence};

use asymfence::{Asymmetric, light_fence};

use crate::break_even::Model;
use crate::heavy::{self, Heavy};
use crate::round;
use crate::sibling::median;

#[derive(Debug)]
pub(crate) struct Costs {
    pub(crate) none: f64,
    pub(crate) light: f64,
    /// `None` in a symmetric process.
    pub(crate) asymmetric_light: Option<f64>,
    pub(crate) seqcst: f64,
    pub(crate) heavy_idle: f64,
    /// `None` where no sibling runs beside it.
    pub(crate) heavy_running: Option<Heavy>,
}

impl Costs {
    /// How many light fences, each cheaper than a full one, pay for one heavy fence. `None` where
    /// they are not cheaper, as in a symmetric process.
    pub(crate) fn break_even(&self) -> Option<f64> {
        self.asymmetric_light?;
        let (light, full, heavy) = (self.light, self.seqcst, self.heavy_running?.in_all());
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
        let heavy_idle = median((0..SAMPLES).map(|_| heavy::caller()).collect());
        tick();
        let heavy_running = heavy::beside_running(1, SAMPLES);
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

/// Nanoseconds a round.
fn publish_then_recheck(fence: impl Fn() + Copy) -> f64 {
    round::at_its_best(ROUNDS, fence).as_nanos() as f64 / ROUNDS as f64
}
