//! RCU against its symmetric twin, crossbeam-epoch, arc-swap and a reader-writer lock: a read, alone and beside a writer;
//! a replacement, alone and beside a reader.
//!
//! `cargo bench -p cookbook-benches --bench rcu`
#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

mod in_turn;
#[path = "../../doctor/src/sibling.rs"]
mod sibling;
#[allow(dead_code, unreachable_pub, reason = "the cookbook's")]
#[path = "../src/rcu.rs"]
mod symmetric;
#[path = "symmetric/sync.rs"]
mod sync;

use std::hint::{black_box, spin_loop};
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, LazyLock, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use asymfence_cookbook::rcu::Rcu;
use criterion::{Criterion, criterion_group, criterion_main};
use crossbeam_epoch::{Atomic, Owned};
use in_turn::is_quick;
use sibling::beside;

/// The object that is read and replaced.
type Object = [u64; 4];

struct Sources {
    rcu: Rcu<Object>,
    symmetric: symmetric::Rcu<Object>,
    epoch: Atomic<Object>,
    arc_swap: ArcSwap<Object>,
    locked: RwLock<Box<Object>>,
    /// An object that is never replaced.
    plain: std::sync::atomic::AtomicPtr<Object>,
}

static SOURCES: LazyLock<Sources> = LazyLock::new(|| Sources {
    rcu: Rcu::new([0; 4]),
    symmetric: symmetric::Rcu::new([0; 4]),
    epoch: Atomic::new([0; 4]),
    arc_swap: ArcSwap::from_pointee([0; 4]),
    locked: RwLock::new(Box::new([0; 4])),
    plain: std::sync::atomic::AtomicPtr::new(Box::into_raw(Box::new([0; 4]))),
});

/// A contender: its name, a function that reads that many times, and one that replaces once.
struct Contender(&'static str, fn(&Sources, u64), fn(&Sources));

/// Runs `work` that many times.
fn repeat(times: u64, mut work: impl FnMut()) {
    (0..times).for_each(|_| work());
}

/// Reads the first word of an object, so that the compiler cannot leave out the load.
fn first(object: &Object) {
    black_box(object[0]);
}

fn replace_epoch(sources: &Sources) {
    let guard = crossbeam_epoch::pin();
    let old = sources.epoch.swap(Owned::new([1; 4]), AcqRel, &guard);
    // SAFETY: from a box, and unlinked by us.
    unsafe { guard.defer_destroy(old) };
}

const CONTENDERS: [Contender; 9] = [
    Contender(
        "rcu",
        |sources, times| {
            let reader = sources.rcu.reader();
            repeat(times, || first(&reader.read()));
        },
        |sources| _ = black_box(sources.rcu.replace(Box::new([1; 4]))),
    ),
    Contender(
        "rcu, freed later",
        |sources, times| {
            let reader = sources.rcu.reader();
            repeat(times, || first(&reader.read()));
        },
        |sources| sources.rcu.replace_later(Box::new([1; 4])),
    ),
    Contender(
        "its symmetric twin",
        |sources, times| {
            let reader = sources.symmetric.reader();
            repeat(times, || first(&reader.read()));
        },
        |sources| _ = black_box(sources.symmetric.replace(Box::new([1; 4]))),
    ),
    Contender(
        "crossbeam-epoch",
        |sources, times| {
            repeat(times, || {
                let guard = crossbeam_epoch::pin();
                // SAFETY: never null, and destroyed after the guard.
                first(unsafe { sources.epoch.load(Acquire, &guard).deref() });
            });
        },
        replace_epoch,
    ),
    Contender(
        "crossbeam-epoch, handle held",
        |sources, times| {
            let handle = crossbeam_epoch::default_collector().register();
            repeat(times, || {
                let guard = handle.pin();
                // SAFETY: as above.
                first(unsafe { sources.epoch.load(Acquire, &guard).deref() });
            });
        },
        replace_epoch,
    ),
    Contender(
        "arc-swap",
        |sources, times| repeat(times, || first(&sources.arc_swap.load())),
        |sources| sources.arc_swap.store(Arc::new([1; 4])),
    ),
    Contender(
        "arc-swap, cache held",
        |sources, times| {
            let mut cache = arc_swap::Cache::new(&sources.arc_swap);
            repeat(times, || first(cache.load()));
        },
        |sources| sources.arc_swap.store(Arc::new([1; 4])),
    ),
    Contender(
        "RwLock",
        |sources, times| {
            repeat(times, || first(&sources.locked.read().expect("no panic while it is held")));
        },
        |sources| {
            let new = Box::new([1; 4]);
            *sources.locked.write().expect("no panic while it is held") = new;
        },
    ),
    Contender(
        "a plain load",
        |sources, times| {
            // SAFETY: never freed.
            repeat(times, || first(unsafe { &*sources.plain.load(Acquire) }));
        },
        |_| (),
    ),
];

/// How often the writer beside readers replaces the object, if there is one.
const PACES: [(&str, Option<Duration>); 4] = [
    ("nobody else", None),
    ("a writer every millisecond", Some(Duration::from_millis(1))),
    ("a writer every 100 us", Some(Duration::from_micros(100))),
    ("a writer every 10 us", Some(Duration::from_micros(10))),
];

fn spin_for(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        spin_loop();
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn time_to_read(contender: &Contender, pace: Option<Duration>, times: u64) -> Duration {
    let sources = &*SOURCES;
    let Contender(_, read, replace) = contender;
    let write = || {
        replace(sources);
        pace.into_iter().for_each(spin_for);
    };
    let siblings = usize::from(pace.is_some());
    beside(siblings, 0, write, || timed(|| read(sources, times))).expect("a second core")
}

fn time_to_replace(contender: &Contender, beside_a_reader: bool, times: u64) -> Duration {
    let sources = &*SOURCES;
    let Contender(_, read, replace) = contender;
    let work = || timed(|| repeat(times, || replace(sources)));
    beside(usize::from(beside_a_reader), 0, || read(sources, 1_000), work).expect("a second core")
}

fn reads(criterion: &mut Criterion) {
    asymfence::init();
    for (beside, pace) in &PACES[..2] {
        let mut group = criterion.benchmark_group(format!("read, {beside}"));
        for contender in &CONTENDERS {
            group.bench_function(contender.0, |bencher| {
                bencher.iter_custom(|times| time_to_read(contender, *pace, times));
            });
        }
        group.finish();
    }
}

fn table(title: &str, contenders: &[Contender], times: u64, time: impl Fn(&Contender) -> Duration) {
    println!("\n{title}");
    let costs = in_turn::samples(contenders.len(), if is_quick() { 3 } else { 11 }, |i| {
        time(&contenders[i]).as_nanos() as f64 / times as f64
    });
    in_turn::print(contenders.iter().map(|contender| contender.0), costs);
}

fn all_in_turn(_: &mut Criterion) {
    println!("\nfences: {}. All in turn:", asymfence::init());
    const READS: u64 = 10_000_000;
    for (beside, pace) in PACES {
        let time = |contender: &_| time_to_read(contender, pace, READS);
        table(&format!("read, {beside}"), &CONTENDERS, READS, time);
    }
    const REPLACEMENTS: u64 = 2_000;
    let writers = &CONTENDERS[..CONTENDERS.len() - 1];
    for (beside, beside_a_reader) in [("nobody else", false), ("a reader runs", true)] {
        let time = |contender: &_| time_to_replace(contender, beside_a_reader, REPLACEMENTS);
        table(&format!("replace, {beside}"), writers, REPLACEMENTS, time);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        // Its plots panic if the samples of a row do not vary.
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = all_in_turn, reads
}
criterion_main!(benches);
