//! What is drawn, as measured on this machine: medians of samples that are taken in turn.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use asymfence::{Asymmetric, heavy_fence};

use crate::break_even::Model;
use crate::round;
use crate::sibling::{beside, median};

pub(crate) struct Measured {
    pub(crate) model: Model,
    /// The part of `model.heavy` that is the interrupted sibling's.
    pub(crate) lost: f64,
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

    // What the sibling does is what it is interrupted in. Relaxed: a number that grows.
    let progress = AtomicU64::new(0);
    let come_on = || _ = progress.fetch_add(1, Ordering::Relaxed);
    let measured = beside(1, 0, come_on, || {
        let (heavy, lost) = heavy(samples, &progress);
        let none = least(samples, || ());
        let light_round = least(samples, light);
        let full_round = least(samples, full);
        let model = Model {
            light: light_round,
            full: full_round,
            heavy: heavy + lost,
            instead: full_round - none,
        };
        let points = (0..=12).map(|half| 10f64.powf(f64::from(half) / 2.0).round() as u64);
        let points = points
            .map(|rounds| Point {
                rounds,
                symmetric: in_all(samples, rounds, full, full),
                asymmetric: in_all(samples, rounds, light, heavy_fence) + lost / rounds as f64,
            })
            .collect();
        (model, lost, points)
    });
    let (model, lost, points) =
        measured.ok_or("a heavy fence interrupts nobody on one core alone")?;

    let sleeping = [1, 2, 4, 8, 16, 32, 64].map(|threads| (threads, false));
    let running = [1, 2, 3, 4].map(|threads| (threads, true));
    let scale = sleeping.into_iter().chain(running).map(|(threads, run)| {
        let (running, sleeping) = if run { (threads, 0) } else { (0, threads) };
        let work = || (median((0..samples).map(|_| calls()).collect()), least(samples, light));
        let (heavy, light) =
            beside(running, sleeping, std::hint::spin_loop, work).expect("as before");
        Scale { threads, run, heavy, light }
    });
    Ok(Measured { model, lost, points, scale: scale.collect() })
}

/// Nanoseconds of a round: the least of all samples, at the best place of the loop.
fn least(samples: usize, fence: impl Fn() + Copy) -> f64 {
    let times = (0..samples).flat_map(|_| round::everywhere(ROUNDS, fence));
    times.min().expect("samples").as_nanos() as f64 / ROUNDS as f64
}

/// Nanoseconds of a heavy fence.
fn calls() -> f64 {
    const CALLS: u32 = 200;
    let start = Instant::now();
    (0..CALLS).for_each(|_| heavy_fence());
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// What a heavy fence takes from its caller, and what from the sibling: by how much that comes on more
/// slowly than while it is left alone.
fn heavy(samples: usize, progress: &AtomicU64) -> (f64, f64) {
    // Relaxed: as the sibling counts.
    let now = || progress.load(Ordering::Relaxed) as f64;
    let (mut costs, mut losses) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let (start, before) = (Instant::now(), now());
        while start.elapsed() < A_WHILE {
            std::hint::spin_loop();
        }
        let alone = (now() - before) / start.elapsed().as_nanos() as f64;

        let (start, before, mut calls) = (Instant::now(), now(), 0.0);
        while start.elapsed() < A_WHILE {
            heavy_fence();
            calls += 1.0;
        }
        let time = start.elapsed().as_nanos() as f64;
        costs.push(time / calls);
        losses.push((time - (now() - before) / alone) / calls);
    }
    (median(costs), median(losses).max(0.0))
}

/// Nanoseconds a round, with one call of the other side's fence after so many: at the best place.
fn in_all(samples: usize, rounds: u64, mine: impl Fn() + Copy, others: fn()) -> f64 {
    let places =
        [round::at_place::<0>, round::at_place::<1>, round::at_place::<2>, round::at_place::<3>];
    let sample = |place: fn(u64, _)| {
        let (start, mut groups) = (Instant::now(), 0);
        while groups == 0 || start.elapsed() < A_WHILE {
            // So many that looking at the clock does not count.
            for _ in 0..=1_000 / rounds {
                place(rounds, mine);
                others();
                groups += 1;
            }
        }
        start.elapsed().as_nanos() as f64 / (groups * rounds) as f64
    };
    let at = |place| median((0..samples.div_ceil(4)).map(|_| sample(place)).collect());
    places.map(at).into_iter().fold(f64::INFINITY, f64::min)
}
