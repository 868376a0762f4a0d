//! What the fences cost here, in nanoseconds.
//!
//! The machine may be shared: variants are interleaved, the minimum of many samples is taken for a
//! loop of instructions, the median for a heavy fence, whose cost depends on whom it interrupts.

use std::fmt;
use std::sync::atomic::{Ordering, fence};

use asymfence::{Asymmetric, light_fence};

use crate::break_even::Model;
use crate::heavy::{self, Heavy};
use crate::round;
use crate::sibling::median;
use crate::text::rounded;

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

/// One line of the report.
pub(crate) struct Cost {
    /// In JSON.
    pub(crate) key: &'static str,
    pub(crate) words: &'static str,
    /// `None` where there is nothing to measure.
    pub(crate) ns: Option<f64>,
}

/// From how many light fences for each heavy one the asymmetric pair is the cheaper.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BreakEven {
    At(f64),
    Symmetric,
    NoSibling,
    Never,
}

impl BreakEven {
    pub(crate) fn rounds(self) -> Option<f64> {
        if let BreakEven::At(rounds) = self { Some(rounds) } else { None }
    }
}

impl fmt::Display for BreakEven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BreakEven::At(rounds) => {
                return write!(f, "{} light fences for each heavy one", rounded(*rounds));
            }
            BreakEven::Symmetric => "both fences are fence(SeqCst)",
            BreakEven::NoSibling => "no other thread ran, so it cannot be told",
            BreakEven::Never => "never: a light fence saves nothing here",
        })
    }
}

impl Costs {
    pub(crate) fn list(&self) -> [Cost; 7] {
        let running = self.heavy_running;
        let cost = |key, words, ns| Cost { key, words, ns };
        [
            cost("none", "no fence", Some(self.none)),
            cost("light", "light_fence", Some(self.light)),
            cost("asymmetric_light", "Asymmetric::light_fence (no check)", self.asymmetric_light),
            cost("seqcst", "fence(SeqCst)", Some(self.seqcst)),
            cost("heavy_idle", "heavy_fence, no other thread runs", Some(self.heavy_idle)),
            cost("heavy_running", "heavy_fence, another thread runs", running.map(|it| it.caller)),
            cost(
                "heavy_running_sibling",
                "what that thread loses by it",
                running.map(|it| it.sibling),
            ),
        ]
    }

    /// How many of the list, from its beginning, are a round of the frequent side. The others are a heavy fence.
    pub(crate) const OF_A_ROUND: usize = 4;

    /// How many nanoseconds a light fence saves against a full one.
    pub(crate) fn saved(&self) -> f64 {
        self.seqcst - self.light
    }

    pub(crate) fn break_even(&self) -> BreakEven {
        if self.asymmetric_light.is_none() {
            return BreakEven::Symmetric;
        }
        let Some(heavy) = self.heavy_running.map(Heavy::in_all) else {
            return BreakEven::NoSibling;
        };
        let (light, full) = (self.light, self.seqcst);
        let model = Model { light, full, heavy, instead: full - self.none };
        model.crossing().map_or(BreakEven::Never, BreakEven::At)
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
