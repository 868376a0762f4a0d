//! What is drawn, as measured on this machine: medians of samples that are taken in turn.

use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use asymfence::{Asymmetric, heavy_fence};

use crate::break_even::Model;
use crate::heavy::{self, Heavy};
use crate::round;
use crate::sibling::{beside, median};

pub(crate) struct Measured {
    pub(crate) model: Model,
    /// The two parts of `model.heavy`.
    pub(crate) heavy: Heavy,
    pub(crate) points: Vec<Point>,
    pub(crate) scale: Vec<Scale>,
}

/// So many rounds for each heavy fence, and the nanoseconds a round takes in all.
pub(crate) struct Point {
    pub(crate) rounds: u64,
    pub(crate) symmetric: f64,
    pub(crate) asymmetric: f64,
}

/// So many threads beside the caller, and nanoseconds.
pub(crate) struct Scale {
    pub(crate) threads: usize,
    pub(crate) run: bool,
    pub(crate) heavy: f64,
    pub(crate) light: f64,
}

/// Rounds in a sample of a round alone.
const ROUNDS: u64 = 50_000;

/// How long a point is measured, once.
const A_WHILE: Duration = Duration::from_millis(2);

pub(crate) fn everything(samples: usize) -> Result<Measured, String> {
    let proof = Asymmetric::new().map_err(|error| format!("nothing to compare: {error}"))?;
    let light = move || proof.light_fence();
    // Pairs with: the same on the other side.
    let full = || fence(Ordering::SeqCst);

    let heavy =
        heavy::beside_a_sibling(samples).ok_or("on one core a heavy fence interrupts nobody")?;
    let measured = beside(1, 0, std::hint::spin_loop, || {
        let none = least(samples, || ());
        let light_round = least(samples, light);
        let full_round = least(samples, full);
        let model = Model {
            light: light_round,
            full: full_round,
            heavy: heavy.in_all(),
            instead: full_round - none,
        };
        let points = (0..=12).map(|half| 10f64.powf(f64::from(half) / 2.0).round() as u64);
        let points = points
            .map(|rounds| Point {
                rounds,
                symmetric: in_all(samples, rounds, full, full),
                asymmetric: in_all(samples, rounds, light, heavy_fence)
                    + heavy.sibling / rounds as f64,
            })
            .collect();
        (model, points)
    });
    let (model, points) = measured.expect("the second core is there still");

    let sleeping = [1, 2, 4, 8, 16, 32, 64].map(|threads| (threads, false));
    let running = [1, 2, 3, 4].map(|threads| (threads, true));
    let scale = sleeping.into_iter().chain(running).map(|(threads, run)| {
        let (running, sleeping) = if run { (threads, 0) } else { (0, threads) };
        let work =
            || (median((0..samples).map(|_| heavy::caller()).collect()), least(samples, light));
        let (heavy, light) = beside(running, sleeping, std::hint::spin_loop, work)
            .expect("the second core is there still");
        Scale { threads, run, heavy, light }
    });
    Ok(Measured { model, heavy, points, scale: scale.collect() })
}

/// Nanoseconds of a round: the least of all samples.
fn least(samples: usize, fence: impl Fn() + Copy) -> f64 {
    let times = (0..samples).map(|_| round::at_its_best(ROUNDS, fence));
    times.min().expect("samples").as_nanos() as f64 / ROUNDS as f64
}

/// Nanoseconds a round, with one call of the other side's fence after so many.
fn in_all(samples: usize, rounds: u64, mine: impl Fn() + Copy, others: fn()) -> f64 {
    let time = |place: fn(u64, _)| {
        let (start, mut groups) = (Instant::now(), 0);
        while groups == 0 || start.elapsed() < A_WHILE {
            // So many that looking at the clock does not count.
            for _ in 0..=1_000 / rounds {
                place(rounds, mine);
                others();
                groups += 1;
            }
        }
        start.elapsed().div_f64((groups * rounds) as f64 / 1e6)
    };
    let sample = |_| best_place!(PLACE => time(round::at_place::<PLACE>)).as_nanos() as f64 / 1e6;
    median((0..samples.div_ceil(4)).map(sample).collect())
}
