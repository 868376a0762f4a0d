//! The measurements that are drawn: the least of all samples for a round without a fence of the other side; for a round
//! with its share of the other side's fence the least of the medians at the four places of the loop; for a heavy fence
//! the median. The variants are measured one after another; within one the four places of the loop (`round.rs`) take
//! turns.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use asymfence::{Asymmetric, Bias, heavy_fence, light_fence};

use crate::break_even::Model;
use crate::heavy::{self, Heavy};
use crate::round;
use crate::sibling::{beside, median};

pub(crate) struct Measured {
    /// Its light fence is that of `Asymmetric`.
    pub(crate) model: Model,
    /// A round with `light_fence`, which checks the decision.
    pub(crate) dynamic: f64,
    /// The two parts of `model.heavy`.
    pub(crate) heavy: Heavy,
    pub(crate) points: Vec<Point>,
    pub(crate) scale: Vec<Scale>,
}

/// The number of rounds for each heavy fence, and the nanoseconds that a round takes in all.
pub(crate) struct Point {
    pub(crate) rounds: u64,
    pub(crate) symmetric: f64,
    pub(crate) asymmetric: f64,
    /// With a bias.
    pub(crate) biased: f64,
}

/// The number of threads beside the caller, and nanoseconds.
pub(crate) struct Scale {
    pub(crate) threads: usize,
    pub(crate) run: bool,
    pub(crate) heavy: f64,
    pub(crate) light: f64,
}

/// Rounds in a sample of a round alone.
const ROUNDS: u64 = 50_000;

/// How long one sample of a point takes.
const A_WHILE: Duration = Duration::from_millis(2);

pub(crate) fn everything(samples: usize) -> Result<Measured, String> {
    let proof = Asymmetric::new().map_err(|error| format!("nothing to compare: {error}"))?;
    let light = move || proof.light_fence();
    // Pairs with: the same on the other side.
    let full = || fence(Ordering::SeqCst);

    const ALONE: &str = "no second core runs a sibling: a heavy fence would interrupt nobody";
    let heavy = heavy::beside_running(1, samples).ok_or(ALONE)?;
    let none = least(samples, || ());
    let (light_round, full_round) = (least(samples, light), least(samples, full));
    let dynamic = least(samples, light_fence);
    let model = Model {
        light: light_round,
        full: full_round,
        heavy: heavy.in_all(),
        instead: full_round - none,
    };

    // Relaxed: a number that grows.
    let progress = AtomicU64::new(0);
    let come_on = || _ = progress.fetch_add(1, Ordering::Relaxed);
    BIAS.restore();
    let point = |rounds: u64| {
        let loss = heavy.sibling;
        Some(Point {
            rounds,
            symmetric: in_all(samples, &progress, rounds, loss, full, full)?,
            asymmetric: in_all(samples, &progress, rounds, loss, light, heavy_fence)?,
            biased: in_all(samples, &progress, rounds, loss, biased, rare)?,
        })
    };
    let points = (0..=12).map(|half| 10f64.powf(f64::from(half) / 2.0).round() as u64);
    let points = beside(1, 0, come_on, || points.map(point).collect::<Option<_>>());
    let points = points.flatten().ok_or(ALONE)?;

    let mut scale = Vec::new();
    for threads in [1, 2, 4, 8, 16, 32, 64] {
        let heavy = || median((0..samples).map(|_| heavy::caller()).collect());
        let work = || (heavy(), least(samples, light));
        let (heavy, light) = beside(0, threads, || (), work).ok_or(ALONE)?;
        scale.push(Scale { threads, run: false, heavy, light });
    }
    for threads in [1, 2, 3, 4] {
        let heavy = heavy::beside_running(threads, samples).ok_or(ALONE)?.caller;
        let light = || least(samples, light);
        let light = beside(threads, 0, std::hint::spin_loop, light).ok_or(ALONE)?;
        scale.push(Scale { threads, run: true, heavy, light });
    }
    Ok(Measured { model, dynamic, heavy, points, scale })
}

static BIAS: Bias = Bias::new(Duration::from_millis(1));

fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// The frequent side's fence with a bias. It asks for the bias at each 1,021st time that it has none.
fn biased() {
    thread_local! {
        static LEFT: Cell<u32> = const { Cell::new(0) };
    }
    if !BIAS.light_fence() {
        let is_turn = LEFT.with(|cell| {
            let left = cell.get();
            cell.set(left.checked_sub(1).unwrap_or(1_020));
            left == 0
        });
        if is_turn {
            BIAS.restore_at(now());
        }
    }
}

/// The rare side's fence with a bias.
fn rare() {
    BIAS.heavy_fence(now);
}

/// Nanoseconds of a round: the least of all samples.
fn least(samples: usize, fence: impl Fn() + Copy) -> f64 {
    let times = (0..samples).map(|_| round::at_its_best(ROUNDS, fence));
    times.min().expect("samples").as_nanos() as f64 / ROUNDS as f64
}

/// Nanoseconds for a round, with one call of the other side's fence after that many rounds, and with the `loss` of the
/// sibling by each heavy fence. Samples in which the sibling did not run (the machine is busy) do not count. `None` if it
/// never ran.
fn in_all<F: Fn() + Copy>(
    samples: usize,
    progress: &AtomicU64,
    rounds: u64,
    loss: f64,
    mine: F,
    others: fn(),
) -> Option<f64> {
    let places: [fn(u64, F); 4] =
        [round::at_place::<0>, round::at_place::<1>, round::at_place::<2>, round::at_place::<3>];
    let sample = |place: fn(u64, F)| {
        let (before, asked) = (progress.load(Ordering::Relaxed), asymfence::stats().heavy.asked);
        let (start, mut groups) = (Instant::now(), 0);
        while groups == 0 || start.elapsed() < A_WHILE {
            // So many that reading the clock does not count.
            for _ in 0..=1_000 / rounds {
                place(rounds, mine);
                others();
                groups += 1;
            }
        }
        let time = start.elapsed().as_nanos() as f64;
        let fences = (asymfence::stats().heavy.asked - asked) as f64;
        let time = (time + fences * loss) / (groups * rounds) as f64;
        (progress.load(Ordering::Relaxed) != before).then_some(time)
    };
    let mut times = [const { Vec::new() }; 4];
    let enough = samples.div_ceil(4);
    for _ in 0..100 * enough {
        for (&place, times) in places.iter().zip(&mut times) {
            times.extend(sample(place));
        }
        if times.iter().all(|times| times.len() >= enough) {
            break;
        }
    }
    let medians = times.into_iter().filter(|times| !times.is_empty()).map(median);
    medians.min_by(f64::total_cmp)
}
