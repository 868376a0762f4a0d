//! What a heavy fence costs: alone, beside a running sibling, and with many callers at once, against the
//! raw system call between two fences and against other crates. And what sharing saves, with a fast call
//! and with a slow one.
//!
//! `cargo bench --bench heavy`
#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

#[path = "../doctor/src/sibling.rs"]
mod sibling;

use std::num::NonZeroU32;
use std::sync::Barrier;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::fence;
use std::thread;
use std::time::{Duration, Instant};

use asymfence::{Coalesce, heavy_fence, light_fence};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rustix::thread::MembarrierCommand::{Global, PrivateExpedited};
use rustix::thread::membarrier;
use sibling::{beside, cores, median};

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

/// Does `work` on the first core while a thread of this process runs on the second: with none, nobody is
/// interrupted.
fn with_running_sibling<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    beside(1, 0, std::hint::spin_loop, work).expect("a second core")
}

/// How long `callers` threads, spread over the cores, take for so many fences each: from the first that
/// begins to the last that ends. (Who waits for them may itself have to wait for a core.)
fn together(callers: usize, fences: u64, fence: fn()) -> Duration {
    let start = &Barrier::new(callers);
    thread::scope(|scope| {
        let call = |i: usize| {
            move || {
                core_affinity::set_for_current(cores()[i % cores().len()]);
                start.wait();
                let begin = Instant::now();
                (0..fences).for_each(|_| fence());
                (begin, Instant::now())
            }
        };
        let threads: Vec<_> = (0..callers).map(|i| scope.spawn(call(i))).collect();
        let times = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        let (begins, ends): (Vec<_>, Vec<_>) = times.unzip();
        *ends.iter().max().expect("a caller") - *begins.iter().min().expect("a caller")
    })
}

fn one_caller(criterion: &mut Criterion) {
    asymfence::init();
    let mut group = criterion.benchmark_group("1 one caller, nobody else runs");
    for (name, fence) in FENCES {
        group.bench_function(name, |bencher| {
            beside(0, 0, || (), || bencher.iter(fence)).expect("a core");
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("2 one caller, a sibling runs");
    for (name, fence) in FENCES {
        group.bench_function(name, |bencher| {
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

/// Beside threads that sleep, who are not interrupted, and threads that run, of which each core but the
/// first runs one at a time. The light fence knows of neither.
fn many_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("4 one caller, so many threads beside it");
    for (fence, call) in [("heavy", heavy_fence as fn()), ("light", || light_fence())] {
        let sleeping = [1, 4, 16, 64].map(|count| (count, 0, format!("{count} sleep")));
        let running = [1, 2, 3, 4].map(|count| (0, count, format!("{count} run")));
        for (sleeping, running, what) in sleeping.into_iter().chain(running) {
            group.bench_function(BenchmarkId::new(fence, what), |bencher| {
                beside(running, sleeping, std::hint::spin_loop, || bencher.iter(call))
                    .expect("a second core");
            });
        }
    }
    group.finish();
}

/// Every way beside the raw one, sample by sample in turn, so that what else the machine does strikes all
/// alike. Medians, and ratios to the raw call.
fn ratios(_: &mut Criterion) {
    const SAMPLES: usize = 15;
    println!("\n5 one and many callers in turn: ns per fence, and as a ratio to raw");
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
        let medians = samples.map(median);
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
    println!("\n6 {CALLERS} callers of membarrier GLOBAL, {FENCES} fences each");
    println!("not shared: {unshared:?}; shared: {shared:?}");
    println!("calls per fence, shared: {:.2}", stats.calls as f64 / stats.asked as f64);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .measurement_time(Duration::from_secs(1))
        .warm_up_time(Duration::from_millis(300));
    targets = one_caller, many_callers, many_threads, ratios, slow_call
}
criterion_main!(benches);
