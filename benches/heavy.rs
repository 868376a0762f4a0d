//! What a heavy fence costs: alone, beside a running sibling, and with many callers at once, against the
//! raw system call between two fences and against other crates. Also what sharing saves for calls of several lengths,
//! what a leader that stands still costs, and what tickets, a pacer and a bias cost when nothing is due.
//!
//! `cargo bench -p fence-benches --bench heavy`. A word after `--` selects what runs. Parts 5 to 8 print a table each.
//! A part of these runs if its title begins with the word (`-- "5 "`: part 5). Criterion prints parts 1 to 4. A line of
//! these runs if its name contains the word.
#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

#[path = "../doctor/src/sibling.rs"]
mod sibling;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::fence;
use std::thread;
use std::time::{Duration, Instant};

use asymfence::{Bias, Coalesce, Pacer, Ticket, heavy_fence, light_fence};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rustix::thread::MembarrierCommand::PrivateExpedited;
use rustix::thread::membarrier;
use sibling::{beside, cores, median};

/// The code that a user would write by hand, after registering.
fn raw() {
    fence(SeqCst);
    membarrier(PrivateExpedited).expect("registered by `init`");
    fence(SeqCst);
}

/// The same, shared.
fn raw_shared() {
    static SHARED: Coalesce = Coalesce::new();
    let call = || membarrier(PrivateExpedited).map_err(|_| NonZeroU32::MIN);
    SHARED.run(call).expect("registered by `init`");
}

const FENCES: [(&str, fn()); 5] = [
    ("raw", raw),
    ("asymfence", heavy_fence),
    ("raw, shared", raw_shared),
    ("membarrier2", membarrier2::heavy),
    ("swmr-barrier", swmr_barrier::heavy_barrier),
];

/// Does `work` on the first core while a thread of this process runs on the second. Without that thread a heavy fence
/// interrupts nobody.
fn with_running_sibling<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    beside(1, 0, std::hint::spin_loop, work).expect("a second core")
}

/// The time that `callers` threads, spread over the cores, take for that many fences each: from the first that begins to
/// the last that ends. (The thread that waits for them may itself have to wait for a core.)
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

/// Beside threads that sleep, which are not interrupted, and threads that run. These share the cores other than the
/// first: on each core one of them runs at a time. The light fence depends on neither.
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

/// Every way and the raw call, sample by sample in turn, so that other work on the machine affects all alike. Medians, and
/// ratios to the raw call.
fn ratios(_: &mut Criterion) {
    const SAMPLES: usize = 15;
    if !is_wanted("5 one and many callers in turn: ns per fence, and as a ratio to raw") {
        return;
    }
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

/// Whether the part with this title was asked for, or everything.
fn is_wanted(title: &str) -> bool {
    let mut filters = std::env::args().skip(1).filter(|word| !word.starts_with("--")).peekable();
    let wanted = filters.peek().is_none() || filters.any(|filter| title.starts_with(&filter));
    if wanted {
        println!("\n{title}");
    }
    wanted
}

/// A call that takes that long, during which its thread sleeps or runs.
fn takes(long: Duration, sleeps: bool) {
    if sleeps {
        return thread::sleep(long);
    }
    let start = Instant::now();
    while start.elapsed() < long {
        std::hint::spin_loop();
    }
}

/// Calls for each fence, at several lengths of a call. All callers begin together, and each fences again as soon as it can.
/// This lasts until each of them has had several turns on a core.
fn call_lengths(_: &mut Criterion) {
    if !is_wanted("6 calls for each fence") {
        return;
    }
    for sleeps in [true, false] {
        for callers in [8_usize, 64] {
            print!("{callers:2} callers, the call {:6}:", if sleeps { "sleeps" } else { "runs" });
            for micros in [100, 500, 1_000, 2_000, 5_000, 10_000] {
                let (shared, long) = (Coalesce::new(), Duration::from_micros(micros));
                let (start, fences) = (Barrier::new(callers), (50_000 / micros).clamp(10, 500));
                thread::scope(|scope| {
                    for _ in 0..callers {
                        scope.spawn(|| {
                            start.wait();
                            for _ in 0..fences {
                                let call = || {
                                    takes(long, sleeps);
                                    Ok(())
                                };
                                shared.run(call).expect("no failure");
                            }
                        });
                    }
                });
                let stats = shared.stats();
                let ratio = stats.calls as f64 / stats.asked as f64;
                print!("  {:.1} ms {ratio:.2}", long.as_secs_f64() * 1e3);
            }
            println!();
        }
    }
}

/// How long a fence takes that finds a leader which stands still. The unit is one call, made by the same thread
/// directly afterwards, while the machine is as busy as before.
fn stuck_leader(_: &mut Criterion) {
    if !is_wanted("7 beside a leader that stands still, in units of one's own call") {
        return;
    }
    for micros in [10, 100, 1_000, 10_000] {
        let long = Duration::from_micros(micros);
        let own = || {
            takes(long, false);
            Ok(())
        };
        let times = (0..15).map(|_| {
            let (shared, release) = (&Coalesce::new(), &Barrier::new(2));
            // First three callers share calls, so that the `Coalesce` has an estimate of how long a call takes
            // (`src/patience.rs`).
            let start = &Barrier::new(3);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(move || {
                        start.wait();
                        while shared.stats().shared < 16 && shared.stats().calls < 10_000 {
                            shared.run(own).expect("no failure");
                        }
                    });
                }
            });
            let leads = &Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(move || {
                    let stands = || {
                        leads.wait();
                        release.wait();
                        Ok(())
                    };
                    shared.run(stands).expect("no failure");
                });
                leads.wait();
                let begin = Instant::now();
                shared.run(own).expect("no failure");
                let time = begin.elapsed();
                let begin = Instant::now();
                takes(long, false);
                let unit = begin.elapsed();
                release.wait();
                time.div_duration_f64(unit)
            })
        });
        println!("{:6.2} ms: {:.2}", long.as_secs_f64() * 1e3, median(times.collect()));
    }
}

/// Operations that execute no heavy fence, sample by sample in turn. Medians.
fn when_nothing_is_due(_: &mut Criterion) {
    static PACER: Pacer = Pacer::new(64).each(128);
    static EMPTY: Pacer = Pacer::new(64).each(128);
    static ADDED: Pacer = Pacer::new(usize::MAX);
    static FULL: Bias = Bias::new(Duration::from_millis(1));
    static BIASED: Bias = Bias::new(Duration::from_millis(1));
    const TIMES: u32 = 100_000;
    if !is_wanted("8 nothing is due: ns") {
        return;
    }
    asymfence::init();
    let served = Ticket::now();
    served.wait();
    let not_served = Ticket::now();
    PACER.add(1);
    BIASED.restore();
    let rows: [(&str, &dyn Fn()); 10] = [
        ("fence(SeqCst)", &|| fence(SeqCst)),
        ("Ticket::now", &|| _ = black_box(Ticket::now())),
        ("Ticket::is_served, yes", &|| _ = black_box(served.is_served())),
        ("Ticket::is_served, no", &|| _ = black_box(not_served.is_served())),
        ("Pacer::due, nothing waits", &|| _ = black_box(EMPTY.due(1).is_some())),
        ("Pacer::due, something waits", &|| _ = black_box(PACER.due(1).is_some())),
        ("Pacer::add", &|| ADDED.add(1)),
        ("Bias::light_fence, full", &|| _ = FULL.light_fence()),
        ("Bias::light_fence, biased", &|| _ = BIASED.light_fence()),
        ("Bias::heavy_fence, full", &|| FULL.heavy_fence(|| Duration::ZERO)),
    ];
    let mut samples = rows.map(|_| Vec::new());
    for _ in 0..15 {
        for ((_, work), samples) in rows.iter().zip(&mut samples) {
            let begin = Instant::now();
            (0..TIMES).for_each(|_| work());
            samples.push(begin.elapsed().as_nanos() as f64 / f64::from(TIMES));
        }
    }
    // All of them include the time of the loop and of its indirect call.
    for ((name, _), samples) in rows.iter().zip(samples) {
        println!("  {name:28} {:6.2}", median(samples));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        // Its plots panic if the samples of a row do not vary.
        .without_plots()
        .sample_size(30)
        .measurement_time(Duration::from_secs(1))
        .warm_up_time(Duration::from_millis(300));
    targets = one_caller, many_callers, many_threads, ratios, call_lengths, stuck_leader,
        when_nothing_is_due
}
criterion_main!(benches);
