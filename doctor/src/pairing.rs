//! The nine cells of the pairing table, as expected and as observed.

use std::cell::Cell as Counter;
use std::time::{Duration, Instant};

use asymfence::Strategy;

use crate::bar::Bar;
use crate::litmus::{Fence, Litmus, Observed};

/// One pair of fences.
pub(crate) struct Cell {
    pub(crate) left: Fence,
    pub(crate) right: Fence,
    pub(crate) ordered: bool,
    pub(crate) observed: Observed,
}

impl Cell {
    pub(crate) fn expected(&self) -> &'static str {
        if self.ordered { "ordered" } else { "unordered" }
    }

    pub(crate) fn is_violated(&self) -> bool {
        self.ordered && self.observed.weak > 0
    }

    pub(crate) fn verdict(&self) -> &'static str {
        match (self.ordered, self.observed.weak) {
            (true, 0) => "as it must be",
            (true, _) => "VIOLATED",
            (false, 0) => "allowed, not seen",
            (false, _) => "allowed",
        }
    }
}

/// How often the bar moves for a cell.
const STEPS: u64 = 20;

/// How often the bar moves in all.
pub(crate) const TICKS: u64 = 9 * STEPS;

/// Empty on one processor, which shows no reordering, and where no time is given.
pub(crate) fn observe(strategy: Strategy, time: Duration, bar: &Bar) -> Vec<Cell> {
    let litmus = (!time.is_zero()).then(Litmus::new).flatten();
    let Some(mut litmus) = litmus else { return Vec::new() };
    let pairs = Fence::ALL.into_iter().flat_map(|left| Fence::ALL.map(|right| (left, right)));
    pairs
        .map(|(left, right)| {
            let work = format!("{} against {}", left.words(), right.words());
            let (start, mine, steps) = (Instant::now(), time / 9, Counter::new(0));
            let advance_to = |step| {
                while steps.get() < step {
                    bar.advance(&work);
                    steps.set(steps.get() + 1);
                }
            };
            let observed = litmus.run_while(left, right, |seen| {
                let spent = start.elapsed().as_secs_f64() / mine.as_secs_f64();
                advance_to(((spent * STEPS as f64) as u64).min(STEPS));
                seen.rounds == 0 || spent < 1.0
            });
            advance_to(STEPS);
            Cell { left, right, ordered: left.is_ordered_with(right, strategy), observed }
        })
        .collect()
}
