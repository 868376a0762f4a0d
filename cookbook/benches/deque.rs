//! The deque against its symmetric twin and crossbeam-deque: an owner alone, an owner beside a thief that steals more or
//! less often, and a fork-join program with large and small tasks.
//!
//! The contenders of a table run sample by sample in turn, so that other work on the machine affects all alike. The table
//! shows medians, and ratios to the first contender.
//!
//! `cargo bench -p cookbook-benches --bench deque`, or with the beginning of a title: `-- "one of 100 "`
#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

mod in_turn;
#[path = "../../doctor/src/sibling.rs"]
mod sibling;
#[allow(dead_code, unreachable_pub, unused_imports, reason = "what a bench needs of a structure")]
#[path = "../src/deque.rs"]
mod symmetric;
#[path = "symmetric/sync.rs"]
mod sync;

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use asymfence_cookbook::deque as asymmetric;
use criterion::{Criterion, criterion_group, criterion_main};
use crossbeam_utils::CachePadded;

use self::in_turn::{is_quick, is_wanted};
use self::sibling::{beside, cores};

/// The operations that all contenders have.
trait Deque {
    type Owner: Send;
    type Thief: Sync;
    fn make() -> (Self::Owner, Self::Thief);
    fn push(owner: &Self::Owner, task: Box<u64>);
    fn pop(owner: &Self::Owner) -> Option<Box<u64>>;
    fn steal(thief: &Self::Thief) -> Option<Box<u64>>;
    /// Steals one item. An implementation may move more items into the thief's own deque.
    fn steal_into(thief: &Self::Thief, _mine: &Self::Owner) -> Option<Box<u64>> {
        Self::steal(thief)
    }
}

macro_rules! of_the_cookbook {
    ($name:ident, $module:ident, $pop:ident, $($batches:ident)?) => {
        struct $name;

        impl Deque for $name {
            type Owner = $module::Owner<u64>;
            type Thief = $module::Stealer<u64>;

            fn make() -> (Self::Owner, Self::Thief) {
                $module::deque()
            }

            fn push(owner: &Self::Owner, task: Box<u64>) {
                owner.push(task);
            }

            fn pop(owner: &Self::Owner) -> Option<Box<u64>> {
                owner.$pop()
            }

            fn steal(thief: &Self::Thief) -> Option<Box<u64>> {
                match thief.steal() {
                    $module::Steal::Taken(task) => Some(task),
                    $module::Steal::Retry | $module::Steal::Empty => None,
                }
            }

            $(fn steal_into(thief: &Self::Thief, mine: &Self::Owner) -> Option<Box<u64>> {
                match thief.$batches(mine) {
                    $module::Steal::Taken(task) => Some(task),
                    $module::Steal::Retry | $module::Steal::Empty => None,
                }
            })?
        }
    };
}

of_the_cookbook!(Here, asymmetric, pop,);
of_the_cookbook!(Batches, asymmetric, pop, steal_batch);
of_the_cookbook!(Oldest, asymmetric, pop_oldest,);
of_the_cookbook!(Twin, symmetric, pop,);

struct Crossbeam;

impl Deque for Crossbeam {
    type Owner = crossbeam_deque::Worker<Box<u64>>;
    type Thief = crossbeam_deque::Stealer<Box<u64>>;

    fn make() -> (Self::Owner, Self::Thief) {
        let worker = crossbeam_deque::Worker::new_lifo();
        let stealer = worker.stealer();
        (worker, stealer)
    }

    fn push(owner: &Self::Owner, task: Box<u64>) {
        owner.push(task);
    }

    fn pop(owner: &Self::Owner) -> Option<Box<u64>> {
        owner.pop()
    }

    fn steal(thief: &Self::Thief) -> Option<Box<u64>> {
        thief.steal().success()
    }

    fn steal_into(thief: &Self::Thief, mine: &Self::Owner) -> Option<Box<u64>> {
        thief.steal_batch_and_pop(mine).success()
    }
}

/// Pops and pushes, over and over. A deque that thieves have emptied gets so many items again.
fn pop_and_push<D: Deque>(owner: &D::Owner, items: u64, rounds: u64) -> Duration {
    let begin = Instant::now();
    for _ in 0..rounds {
        match D::pop(owner) {
            Some(task) => D::push(owner, black_box(task)),
            None => (0..items).for_each(|task| D::push(owner, Box::new(task))),
        }
    }
    begin.elapsed()
}

fn alone<D: Deque>(items: u64, rounds: u64) -> Duration {
    let work = || {
        let (owner, _thief) = D::make();
        pop_and_push::<D>(&owner, items, 1_000);
        pop_and_push::<D>(&owner, items, rounds)
    };
    beside(0, 0, || (), work).expect("a core")
}

/// The same beside a thief on another core, which pauses that long after each attempt.
fn beside_a_thief<D: Deque>(rest: Duration, rounds: u64) -> Duration {
    let (owner, thief) = D::make();
    let steal = || {
        drop(black_box(D::steal(&thief)));
        let end = Instant::now() + rest;
        while Instant::now() < end {
            spin_loop();
        }
    };
    beside(1, 0, steal, move || pop_and_push::<D>(&owner, 1_000, rounds)).expect("two cores")
}

/// Batches of so many items, of which a thief on another core steals exactly one, and is waited for.
fn one_stolen<D: Deque>(batch: u64, batches: u64) -> Duration {
    let (owner, thief) = D::make();
    let (asked, done) = (CachePadded::new(AtomicU64::new(0)), CachePadded::new(AtomicU64::new(0)));
    // Relaxed, all of them: the deque orders what is stolen, and these count.
    let steal = || {
        if done.load(Relaxed) < asked.load(Relaxed) && D::steal(&thief).is_some() {
            done.fetch_add(1, Relaxed);
        }
    };
    let (asked, done) = (&asked, &done);
    let work = move || {
        // The first batch runs without a thief, so that the deque has its final size before anything is measured.
        (0..batch).for_each(|task| D::push(&owner, Box::new(task)));
        let mut spare: Vec<_> = (0..batch).map_while(|_| D::pop(&owner)).collect();
        let begin = Instant::now();
        for nth in 1..=batches {
            asked.store(nth, Relaxed);
            spare.drain(..).for_each(|task| D::push(&owner, task));
            spare.extend((1..batch).map(|_| D::pop(&owner).expect("one is stolen")));
            while done.load(Relaxed) < nth {
                spin_loop();
            }
            spare.push(Box::new(nth));
        }
        begin.elapsed()
    };
    beside(1, 0, steal, work).expect("two cores")
}

/// A fork-join program: the tree of calls of fib(n), each right branch a task. A leaf works so long.
fn tree<D: Deque>(threads: usize, n: u64, leaf: u64) -> Duration {
    let (owners, thieves): (Vec<_>, Vec<_>) = (0..threads).map(|_| D::make()).unzip();
    D::push(&owners[0], Box::new(n));
    // A thread without work looks whether all threads together have found what is to be found. Relaxed:
    // sums only, and a sum that is late comes at the next look.
    let found: Vec<CachePadded<AtomicU64>> = (0..threads).map(|_| CachePadded::default()).collect();
    let is_over = || found.iter().map(|found| found.load(Relaxed)).sum::<u64>() == fib(n);
    let start = Barrier::new(threads);
    let work = |me: usize, mine: D::Owner| {
        core_affinity::set_for_current(cores()[me]);
        let others = || (1..threads).map(|i| &thieves[(me + i) % threads]);
        let (mut spare, mut sum) = (Vec::new(), 0);
        start.wait();
        let begin = Instant::now();
        loop {
            let Some(mut task) =
                D::pop(&mine).or_else(|| others().find_map(|thief| D::steal_into(thief, &mine)))
            else {
                found[me].store(sum, Relaxed);
                if is_over() {
                    return (begin, Instant::now());
                }
                spin_loop();
                continue;
            };
            while *task > 1 {
                let mut right: Box<u64> = spare.pop().unwrap_or_default();
                *right = *task - 2;
                D::push(&mine, right);
                *task -= 1;
            }
            (0..leaf).for_each(|i| _ = black_box(i));
            sum += *task;
            spare.push(task);
        }
    };
    let times: Vec<_> = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..).zip(owners).map(|(me, mine)| scope.spawn(move || work(me, mine))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let begin = times.iter().map(|&(begin, _)| begin).min().expect("a thread");
    times.iter().map(|&(_, end)| end - begin).max().expect("a thread")
}

fn fib(n: u64) -> u64 {
    (0..n).fold((0, 1), |(this, next), _| (next, this + next)).0
}

/// What a measurement runs.
#[derive(Clone, Copy)]
enum Load {
    Alone { items: u64 },
    BesideAThief { rest: Duration },
    OneStolen { batch: u64 },
    Tree { threads: usize, n: u64, leaf: u64 },
}

impl Load {
    /// How long so many rounds take: a push and a pop each, or a leaf of the tree.
    fn run<D: Deque>(self, rounds: u64) -> Duration {
        match self {
            Load::Alone { items } => alone::<D>(items, rounds),
            Load::BesideAThief { rest } => beside_a_thief::<D>(rest, rounds),
            Load::OneStolen { batch } => one_stolen::<D>(batch, rounds / batch),
            Load::Tree { threads, n, leaf } => tree::<D>(threads, n, leaf),
        }
    }

    /// How many rounds a sample has: some milliseconds' worth, so that a thief comes several times.
    fn rounds(self) -> u64 {
        match self {
            Load::Alone { .. } | Load::BesideAThief { .. } => 2_000_000,
            Load::OneStolen { batch } => 1_000 * batch.clamp(10, 1_000),
            Load::Tree { n, .. } => fib(n + 1),
        }
    }

    fn cores(self) -> usize {
        match self {
            Load::Alone { .. } => 1,
            Load::BesideAThief { .. } | Load::OneStolen { .. } => 2,
            Load::Tree { threads, .. } => threads,
        }
    }
}

const LOADS: [(&str, Load); 15] = [
    ("alone, 1,000 items", Load::Alone { items: 1_000 }),
    ("alone, the last item each time", Load::Alone { items: 1 }),
    ("a thief each ms", Load::BesideAThief { rest: Duration::from_millis(1) }),
    ("a thief each 100 us", Load::BesideAThief { rest: Duration::from_micros(100) }),
    ("a thief each 30 us", Load::BesideAThief { rest: Duration::from_micros(30) }),
    ("a thief each 10 us", Load::BesideAThief { rest: Duration::from_micros(10) }),
    ("one of 10 stolen", Load::OneStolen { batch: 10 }),
    ("one of 100 stolen", Load::OneStolen { batch: 100 }),
    ("one of 1,000 stolen", Load::OneStolen { batch: 1_000 }),
    ("one of 10,000 stolen", Load::OneStolen { batch: 10_000 }),
    ("one of 100,000 stolen", Load::OneStolen { batch: 100_000 }),
    ("fork-join, 1 thread", Load::Tree { threads: 1, n: 27, leaf: 0 }),
    ("fork-join, 2 threads", Load::Tree { threads: 2, n: 27, leaf: 0 }),
    ("fork-join, 2 threads, small", Load::Tree { threads: 2, n: 15, leaf: 0 }),
    ("fork-join, 2 threads, larger leaves", Load::Tree { threads: 2, n: 20, leaf: 2_000 }),
];

type Run = fn(Load, u64) -> Duration;

const CONTENDERS: [(&str, Run); 5] = [
    ("here", Load::run::<Here>),
    ("here, thieves take batches", Load::run::<Batches>),
    ("here, the oldest first", Load::run::<Oldest>),
    ("its symmetric twin", Load::run::<Twin>),
    ("crossbeam-deque", Load::run::<Crossbeam>),
];

fn loads() -> impl Iterator<Item = (&'static str, Load)> {
    LOADS.into_iter().filter(|(_, load)| load.cores() <= cores().len())
}

fn groups(criterion: &mut Criterion) {
    println!("fences: {}", asymfence::init());
    for (what, load) in loads() {
        // Criterion measures these two kinds of load. The others are only in the table.
        if !matches!(load, Load::Alone { .. } | Load::BesideAThief { .. }) {
            continue;
        }
        let mut group = criterion.benchmark_group(what);
        for (name, run) in CONTENDERS {
            group.bench_function(name, |bencher| bencher.iter_custom(|rounds| run(load, rounds)));
        }
        group.finish();
    }
}

fn all_in_turn(_: &mut Criterion) {
    let samples = if is_quick() { 5 } else { 21 };
    println!(
        "\nns a push and a pop, or a leaf; as a ratio to here; heavy fences of `here` in 1,000 of these"
    );
    for (what, load) in loads().filter(|(what, _)| is_wanted(what)) {
        let rounds = load.rounds();
        let mut asked = 0;
        let costs = in_turn::samples(CONTENDERS.len(), samples, |i| {
            let before = asymfence::stats().heavy.asked;
            let took = CONTENDERS[i].1(load, rounds).as_nanos() as f64;
            if i == 0 {
                asked += asymfence::stats().heavy.asked - before;
            }
            took / rounds as f64
        });
        let per_mille = asked as f64 * 1e3 / (samples as f64 * rounds as f64);
        println!("{what}   ({per_mille:.3} heavy fences)");
        in_turn::print(CONTENDERS.iter().map(|contender| contender.0), costs);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        // Its plots panic if the samples of a row do not vary.
        .without_plots()
        .sample_size(10)
        .measurement_time(Duration::from_millis(400))
        .warm_up_time(Duration::from_millis(100));
    targets = all_in_turn, groups
}
criterion_main!(benches);
