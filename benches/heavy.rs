//! What a heavy fence costs: alone, beside a running sibling, and with many callers at once, against the
//! raw system call between two fences and against other crates. And what sharing saves, with a fast call
//! and with a slow one.
//!
//! `cargo bench --bench heavy`
#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

use std::num::NonZeroU32;
use std::sync::Barrier;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, fence};
use std::thread;
use std::time::{Duration, Instant};

use asymfence::{Coalesce, heavy_fence};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rustix::thread::MembarrierCommand::{Global, PrivateExpedited};
use rustix::thread::membarrier;

/// What a user would write by hand, after registering.
fn raw() {
    fence(SeqCst);
    membarrier(PrivateExpedited).expect("registered by `init`");
    fence(SeqCst);
}

/// The same, shared.
fn raw_shared() {
    static SHARED: Coalesce = Coalesce::new();
    let call = || membarrier(PrivateExpedited).map_err(|_| NonZeroU32::MIN);
    SHARED.run(256, call).expect("registered by `init`");
}

const FENCES: [(&str, fn()); 5] = [
    ("raw", raw),
    ("asymfence", heavy_fence),
    ("raw, shared", raw_shared),
    ("membarrier2", membarrier2::heavy),
    ("swmr-barrier", swmr_barrier::heavy_barrier),
];

/// Keeps this thread on the core of that number, if there is one.
fn stay_on(core: usize) {
    if let Some(&core) = core_affinity::get_core_ids().unwrap_or_default().get(core) {
        core_affinity::set_for_current(core);
    }
}

/// Runs `work` while a thread of this process runs on the second core: with none, nobody is interrupted.
fn with_running_sibling<T>(work: impl FnOnce() -> T) -> T {
    let (running, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(1);
            running.store(true, Relaxed);
            while !stop.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        while !running.load(Relaxed) {
            thread::yield_now();
        }
        let result = work();
        stop.store(true, Relaxed);
        result
    })
}

/// How long `callers` threads take for so many fences each.
fn together(callers: usize, fences: u64, fence: fn()) -> Duration {
    let start = Barrier::new(callers + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|_| {
                scope.spawn(|| {
                    if callers == 1 {
                        stay_on(0);
                    }
                    start.wait();
                    (0..fences).for_each(|_| fence());
                })
            })
            .collect();
        start.wait();
        let begin = Instant::now();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        begin.elapsed()
    })
}

fn one_caller(criterion: &mut Criterion) {
    asymfence::init();
    let mut group = criterion.benchmark_group("1 one caller, nobody else runs");
    for (name, fence) in FENCES {
        group.bench_function(name, |bencher| bencher.iter(fence));
    }
    group.finish();
    let mut group = criterion.benchmark_group("2 one caller, a sibling runs");
    for (name, fence) in FENCES {
        group.bench_function(name, |bencher| {
            stay_on(0);
            with_running_sibling(|| bencher.iter(fence));
        });
    }
    group.finish();
}

/// Time of the whole divided by all its fences.
fn many_callers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("3 many callers, a sibling runs");
    for callers in [1, 2, 4, 8, 16] {
        for (name, fence) in FENCES {
            let id = BenchmarkId::new(name, callers);
            group.bench_with_input(id, &callers, |bencher, &callers| {
                bencher.iter_custom(|fences| {
                    let each = fences.div_ceil(callers as u64);
                    let time = with_running_sibling(|| together(callers, each, fence));
                    time.mul_f64(fences as f64 / (each * callers as u64) as f64)
                });
            });
        }
    }
    group.finish();
}

/// Every way beside the raw one, sample by sample in turn, so that what else the machine does strikes all
/// alike. Medians, and ratios to the raw call.
fn ratios(_: &mut Criterion) {
    const SAMPLES: usize = 15;
    println!("\n4 the same in turn: ns per fence, and as a ratio to raw");
    for (callers, sibling) in [(1, false), (1, true), (2, true), (4, true), (8, true), (16, true)] {
        let mut samples = FENCES.map(|_| Vec::new());
        for _ in 0..SAMPLES {
            for ((_, fence), samples) in FENCES.iter().zip(&mut samples) {
                let each = 4_000 / callers as u64;
                let time = || together(callers, each, *fence);
                let time = if sibling { with_running_sibling(time) } else { time() };
                samples.push(time.as_nanos() as f64 / (each * callers as u64) as f64);
            }
        }
        let medians = samples.map(|mut samples| {
            samples.sort_by(f64::total_cmp);
            samples[SAMPLES / 2]
        });
        print!("{callers:2} callers, {}:", if sibling { "a sibling runs" } else { "nobody else " });
        for ((name, _), median) in FENCES.iter().zip(medians) {
            print!("  {name} {median:.0} ({:.2})", median / medians[0]);
        }
        println!();
    }
}

/// membarrier GLOBAL waits for an RCU grace period: milliseconds.
fn slow_call(_: &mut Criterion) {
    const CALLERS: usize = 16;
    const FENCES: u64 = 20;
    static SHARED: Coalesce = Coalesce::new();
    fn shared() {
        let call = || membarrier(Global).map_err(|_| NonZeroU32::MIN);
        SHARED.run(1_000_000, call).expect("a kernel with membarrier");
    }
    fn unshared() {
        fence(SeqCst);
        membarrier(Global).expect("a kernel with membarrier");
        fence(SeqCst);
    }
    if membarrier(Global).is_err() {
        println!("membarrier GLOBAL is not to be had here: no slow call to share");
        return;
    }
    let unshared = together(CALLERS, FENCES, unshared);
    let shared = together(CALLERS, FENCES, shared);
    let stats = SHARED.stats();
    println!("\n5 {CALLERS} callers of membarrier GLOBAL, {FENCES} fences each");
    println!("not shared: {unshared:?}; shared: {shared:?}");
    println!("calls per fence, shared: {:.2}", stats.calls as f64 / stats.asked as f64);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .measurement_time(Duration::from_secs(1))
        .warm_up_time(Duration::from_millis(300));
    targets = one_caller, many_callers, ratios, slow_call
}
criterion_main!(benches);
