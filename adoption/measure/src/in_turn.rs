//! Two variants in turn, so that whatever else the machine does meets both.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

/// Makes a variant's structure and hands it over.
pub(crate) type Sides = fn(With<'_>);
pub(crate) type With<'w> = &'w mut dyn FnMut(&Structure<'_>);

/// A structure that threads share. Each side takes the number of operations.
pub(crate) struct Structure<'s> {
    pub(crate) hot: &'s (dyn Fn(u32) + Sync),
    pub(crate) rare: &'s dyn Fn(u32),
    /// Enough for a sample.
    pub(crate) rare_times: u32,
}

const SAMPLES: usize = 51;
const HOT_TIMES: u32 = 200_000;

/// The hot side, the rare one alone, the rare one beside the hot one. Of each variant the median, in nanoseconds for
/// one operation.
pub(crate) fn medians(before: Sides, after: Sides) -> [[f64; 2]; 3] {
    let mut samples = [const { [const { Vec::new() }; 2] }; 3];
    for _ in 0..SAMPLES {
        for (variant, sides) in [before, after].into_iter().enumerate() {
            sides(&mut |structure| {
                for (kind, time) in samples.iter_mut().zip(sample(structure)) {
                    kind[variant].push(time);
                }
            });
        }
    }
    samples.map(|kind| kind.map(median))
}

fn sample(&Structure { hot, rare, rare_times }: &Structure<'_>) -> [f64; 3] {
    // Once, for the caches.
    hot(HOT_TIMES / 10);
    rare(rare_times / 10);
    let [hot_time, alone] = [time(HOT_TIMES, hot), time(rare_times, rare)];
    let (runs, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let beside = thread::scope(|scope| {
        scope.spawn(|| {
            // Relaxed: nothing else is handed over.
            while !stop.load(Relaxed) {
                hot(20_000);
                runs.store(true, Relaxed);
            }
        });
        while !runs.load(Relaxed) {
            thread::yield_now();
        }
        let beside = time(rare_times, rare);
        stop.store(true, Relaxed);
        beside
    });
    [hot_time, alone, beside]
}

fn time(times: u32, operation: &dyn Fn(u32)) -> f64 {
    let begin = Instant::now();
    operation(times);
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(times)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
