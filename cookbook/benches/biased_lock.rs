//! The biased lock against its symmetric twin and other locks: 1, 2 and 8 readers, beside a writer that writes rarely,
//! never, or too often. Also attempts to lock that do not wait, and attempts with a time limit.
//!
//! `cargo bench -p cookbook-benches --bench biased_lock`, or with the beginning of a title: `-- "4 "`
#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

mod in_turn;
#[allow(dead_code, reason = "a bench's, of which this uses a part")]
#[path = "../../doctor/src/sibling.rs"]
mod sibling;
#[allow(dead_code, unreachable_pub, reason = "the structure, with other fences")]
#[path = "../src/biased_lock.rs"]
mod symmetric;
#[path = "symmetric/sync.rs"]
mod sync;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use asymfence_cookbook::biased_lock as asymmetric;
use criterion::{Criterion, criterion_group, criterion_main};
use in_turn::{is_quick, is_wanted};
use sibling::{beside, cores, median};

/// The protected value. A read section reads one word of it, a write replaces all of it.
type Value = [u64; 8];

fn change(value: &mut Value) {
    value.iter_mut().for_each(|word| *word += 1);
}

trait Lock: Sync {
    fn new() -> Self;
    /// A lock as a reading thread uses it, after it has registered.
    fn reader(&self) -> impl FnMut() -> u64;
    fn write(&self);
    /// Whether it wrote.
    fn try_write(&self) -> bool;
    /// Calls the closure while the read lock is held.
    fn hold(&self, meanwhile: &mut dyn FnMut());
}

/// One that waits for a time at most.
trait Timed: Lock {
    fn reader_for(&self, timeout: Duration) -> impl FnMut() -> Option<u64>;
    /// Whether it wrote.
    fn write_for(&self, timeout: Duration) -> bool;
}

/// Implements the trait for the biased lock and for its symmetric twin, which is another type.
macro_rules! biased_lock {
    ($module:ident) => {
        impl Lock for $module::BiasedRwLock<Value> {
            fn new() -> Self {
                Self::new([0; 8])
            }

            fn reader(&self) -> impl FnMut() -> u64 {
                let mut reader = self.reader();
                move || reader.read()[0]
            }

            fn write(&self) {
                change(&mut self.write());
            }

            fn try_write(&self) -> bool {
                self.try_write().map(|mut value| change(&mut value)).is_some()
            }

            fn hold(&self, meanwhile: &mut dyn FnMut()) {
                let mut reader = self.reader();
                let _section = reader.read();
                meanwhile();
            }
        }

        impl Timed for $module::BiasedRwLock<Value> {
            fn reader_for(&self, timeout: Duration) -> impl FnMut() -> Option<u64> {
                let mut reader = self.reader();
                move || reader.read_timeout(timeout).map(|value| value[0])
            }

            fn write_for(&self, timeout: Duration) -> bool {
                self.write_timeout(timeout).map(|mut value| change(&mut value)).is_some()
            }
        }
    };
}
biased_lock!(asymmetric);
biased_lock!(symmetric);

impl Lock for std::sync::RwLock<Value> {
    fn new() -> Self {
        Self::new([0; 8])
    }

    fn reader(&self) -> impl FnMut() -> u64 {
        || self.read().expect("no panic while it is held")[0]
    }

    fn write(&self) {
        change(&mut self.write().expect("no panic while it is held"));
    }

    fn try_write(&self) -> bool {
        self.try_write().map(|mut value| change(&mut value)).is_ok()
    }

    fn hold(&self, meanwhile: &mut dyn FnMut()) {
        let _section = self.read();
        meanwhile();
    }
}

impl Lock for parking_lot::RwLock<Value> {
    fn new() -> Self {
        Self::new([0; 8])
    }

    fn reader(&self) -> impl FnMut() -> u64 {
        || self.read()[0]
    }

    fn write(&self) {
        change(&mut self.write());
    }

    fn try_write(&self) -> bool {
        self.try_write().map(|mut value| change(&mut value)).is_some()
    }

    fn hold(&self, meanwhile: &mut dyn FnMut()) {
        let _section = self.read();
        meanwhile();
    }
}

impl Timed for parking_lot::RwLock<Value> {
    fn reader_for(&self, timeout: Duration) -> impl FnMut() -> Option<u64> {
        move || self.try_read_for(timeout).map(|value| value[0])
    }

    fn write_for(&self, timeout: Duration) -> bool {
        self.try_write_for(timeout).map(|mut value| change(&mut value)).is_some()
    }
}

/// A lock, and what is done to it: read sections by criterion, writes by criterion, both for a table.
struct Contender {
    name: &'static str,
    reads: fn(&mut criterion::Bencher<'_>),
    writes: fn(&mut criterion::Bencher<'_>),
    sample: fn(usize, Option<Duration>) -> Sample,
}

const CONTENDERS: [Contender; 4] = [
    contender::<asymmetric::BiasedRwLock<Value>>("biased lock"),
    contender::<symmetric::BiasedRwLock<Value>>("its symmetric twin"),
    contender::<parking_lot::RwLock<Value>>("parking_lot"),
    contender::<std::sync::RwLock<Value>>("std"),
];

const fn contender<L: Lock>(name: &'static str) -> Contender {
    Contender { name, reads: reads::<L>, writes: writes::<L>, sample: sample::<L> }
}

/// One reader, while another runs on the other core.
fn reads<L: Lock>(bencher: &mut criterion::Bencher<'_>) {
    let lock = L::new();
    beside(1, 0, || read_on(&lock), || bencher.iter(lock.reader())).expect("a second core");
}

/// One write after another, while a reader runs on the other core.
fn writes<L: Lock>(bencher: &mut criterion::Bencher<'_>) {
    let lock = L::new();
    beside(1, 0, || read_on(&lock), || bencher.iter(|| lock.write())).expect("a second core");
}

fn read_on<L: Lock>(lock: &L) {
    let mut read = lock.reader();
    (0..10_000).for_each(|_| _ = black_box(read()));
}

/// The result of one run.
struct Sample {
    /// Nanoseconds of a core, for each read section.
    read: f64,
    /// Nanoseconds of each write.
    writes: Vec<f64>,
}

/// Runs `readers` threads, spread over all cores, and a writer that pauses that long after each write, if there is one.
fn sample<L: Lock>(readers: usize, rest: Option<Duration>) -> Sample {
    const BATCH: u64 = 100;
    let (lock, stop) = (L::new(), AtomicBool::new(false));
    let start = Barrier::new(readers + usize::from(rest.is_some()) + 1);
    let cores = cores();
    let reading = |number: usize| {
        core_affinity::set_for_current(cores[number % cores.len()]);
        let (mut read, mut batches) = (lock.reader(), 0);
        start.wait();
        let begin = Instant::now();
        while !stop.load(Relaxed) {
            (0..BATCH).for_each(|_| _ = black_box(read()));
            batches += 1;
        }
        (begin, Instant::now(), batches * BATCH)
    };
    let writing = |rest| {
        core_affinity::set_for_current(cores[cores.len() - 1]);
        let mut writes = Vec::new();
        start.wait();
        while !stop.load(Relaxed) {
            thread::sleep(rest);
            let begin = Instant::now();
            lock.write();
            writes.push(begin.elapsed().as_nanos() as f64);
        }
        writes
    };
    thread::scope(|scope| {
        let reading = &reading;
        let readers: Vec<_> =
            (0..readers).map(|number| scope.spawn(move || reading(number))).collect();
        let writer = rest.map(|rest| scope.spawn(move || writing(rest)));
        start.wait();
        thread::sleep(Duration::from_millis(if is_quick() { 10 } else { 40 }));
        stop.store(true, Relaxed);
        let used = readers.len().min(cores.len()) as f64;
        let runs: Vec<_> =
            readers.into_iter().map(|reader| reader.join().expect("no panic")).collect();
        let begin = runs.iter().map(|run| run.0).min().expect("a reader");
        let end = runs.iter().map(|run| run.1).max().expect("a reader");
        let sections: u64 = runs.iter().map(|run| run.2).sum();
        let writes = writer.map_or(Vec::new(), |writer| writer.join().expect("no panic"));
        let time = (end - begin).as_nanos() as f64;
        Sample { read: time * used / sections as f64, writes }
    })
}

/// The nanoseconds of each attempt, and the share of attempts that got the lock.
type Attempts = fn(u64) -> (f64, f64);

/// A time limit that is never reached.
const LONG: Duration = Duration::from_secs(10);

fn attempts(times: u64, mut attempt: impl FnMut() -> bool) -> (f64, f64) {
    let begin = Instant::now();
    let went_in = (0..times).filter(|_| attempt()).count();
    (begin.elapsed().as_nanos() as f64 / times as f64, went_in as f64 / times as f64)
}

fn try_to_write<L: Lock>(times: u64) -> (f64, f64) {
    let lock = L::new();
    beside(1, 0, || read_on(&lock), || attempts(times, || lock.try_write())).expect("a second core")
}

/// A reader holds the lock all the time.
fn try_in_vain<L: Lock>(times: u64) -> (f64, f64) {
    let lock = L::new();
    let (is_in, is_over) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            lock.hold(&mut || {
                is_in.wait();
                while !is_over.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        });
        is_in.wait();
        let outcome = attempts(times, || lock.try_write());
        is_over.store(true, Relaxed);
        outcome
    })
}

fn write_for<L: Timed>(times: u64) -> (f64, f64) {
    let lock = L::new();
    beside(1, 0, || read_on(&lock), || attempts(times, || lock.write_for(LONG)))
        .expect("a second core")
}

fn read_for<L: Timed>(times: u64) -> (f64, f64) {
    let lock = L::new();
    let work = || {
        let mut read = lock.reader_for(LONG);
        attempts(times, || black_box(read()).is_some())
    };
    beside(1, 0, || read_on(&lock), work).expect("a second core")
}

/// Attempts that do not wait, and attempts with a time limit.
fn tries_in_turn(_: &mut Criterion) {
    type Ours = asymmetric::BiasedRwLock<Value>;
    type Twin = symmetric::BiasedRwLock<Value>;
    type ParkingLot = parking_lot::RwLock<Value>;
    type Std = std::sync::RwLock<Value>;
    let tables: [(&str, u64, &[Attempts]); 4] = [
        (
            "try_write, beside a reader that comes and goes",
            20_000,
            &[
                try_to_write::<Ours>,
                try_to_write::<Twin>,
                try_to_write::<ParkingLot>,
                try_to_write::<Std>,
            ],
        ),
        (
            "try_write, while a reader stays in",
            20_000,
            &[
                try_in_vain::<Ours>,
                try_in_vain::<Twin>,
                try_in_vain::<ParkingLot>,
                try_in_vain::<Std>,
            ],
        ),
        (
            "write_timeout, beside a reader that comes and goes",
            2_000,
            &[write_for::<Ours>, write_for::<Twin>, write_for::<ParkingLot>],
        ),
        (
            "read_timeout, beside another reader",
            200_000,
            &[read_for::<Ours>, read_for::<Twin>, read_for::<ParkingLot>],
        ),
    ];
    const TITLE: &str =
        "4 in turn: ns of each attempt, as a ratio, and which share of them went in";
    if !is_wanted(TITLE) {
        return;
    }
    println!("\n{TITLE}");
    for (title, times, runs) in tables {
        println!("{title}");
        let samples =
            in_turn::samples(runs.len(), if is_quick() { 3 } else { 9 }, |i| runs[i](times));
        let of = |i: usize, which: fn(&(f64, f64)) -> f64| {
            median(samples[i].iter().map(which).collect())
        };
        for (i, Contender { name, .. }) in CONTENDERS.iter().enumerate().take(runs.len()) {
            let (nanoseconds, went_in) = (of(i, |sample| sample.0), of(i, |sample| sample.1));
            let ratio = nanoseconds / of(0, |sample| sample.0);
            println!("  {name:30} {nanoseconds:10.2} ns {ratio:9.3} x {went_in:6.3}");
        }
    }
}

fn one_by_one(criterion: &mut Criterion) {
    println!("fences: {}", asymfence::init());
    let mut group = criterion.benchmark_group("1 a read section, another reader runs");
    for Contender { name, reads, .. } in CONTENDERS {
        group.bench_function(name, reads);
    }
    group.finish();
    let mut group = criterion.benchmark_group("2 write after write, a reader runs");
    for Contender { name, writes, .. } in CONTENDERS {
        group.bench_function(name, writes);
    }
    group.finish();
}

fn all_in_turn(_: &mut Criterion) {
    const TITLE: &str =
        "3 in turn: ns of a core for each read section, and as a ratio; ns for each write";
    if !is_wanted(TITLE) {
        return;
    }
    println!("\n{TITLE}");
    let rests = [None, Some(10_000), Some(1_000), Some(100), Some(10)];
    for (readers, rests) in [(1, &rests[..3]), (2, &rests[..]), (8, &rests[..3])] {
        for &rest in rests {
            table(readers, rest.map(Duration::from_micros));
        }
    }
}

fn table(readers: usize, rest: Option<Duration>) {
    let writer = rest.map_or("no writer".to_owned(), |rest| format!("a writer rests {rest:?}"));
    println!("{readers} reader{}, {writer}", if readers == 1 { "" } else { "s" });
    let mut writes = CONTENDERS.map(|_| Vec::new());
    let reads = in_turn::samples(CONTENDERS.len(), if is_quick() { 3 } else { 9 }, |i| {
        let sample = (CONTENDERS[i].sample)(readers, rest);
        writes[i].extend(sample.writes);
        sample.read
    });
    in_turn::print(CONTENDERS.iter().map(|contender| contender.name), reads);
    for (Contender { name, .. }, writes) in CONTENDERS.iter().zip(writes) {
        if !writes.is_empty() {
            println!("  {name:30} {:10.0} ns a write", median(writes));
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        // Its plots panic if the samples of a row do not vary.
        .without_plots()
        .sample_size(20)
        .measurement_time(Duration::from_millis(500))
        .warm_up_time(Duration::from_millis(200));
    targets = all_in_turn, tries_in_turn, one_by_one
}
criterion_main!(benches);
