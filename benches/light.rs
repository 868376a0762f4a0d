//! What a light fence costs a reader, against no fence, a full fence and other crates, while a sibling
//! reclaims: it executes a heavy fence, loads what the reader publishes, and does something else for a
//! millisecond.
//!
//! `cargo bench -p fence-benches --bench light`
#![allow(missing_docs, reason = "the macro of criterion makes a public function")]

#[macro_use]
#[path = "../doctor/src/round.rs"]
mod round;
#[path = "../doctor/src/sibling.rs"]
mod sibling;

use std::hint::black_box;
use std::sync::LazyLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, compiler_fence, fence};
use std::time::{Duration, Instant};

use asymfence::{Asymmetric, Strategy, heavy_fence, light_fence};
use criterion::{Criterion, criterion_group, criterion_main};
use crossbeam_utils::CachePadded;
use sibling::beside;

/// Entries behind pointers. Their number is a power of two, and they live as long as the process.
type Table = Vec<AtomicPtr<CachePadded<AtomicUsize>>>;

fn table(entries: usize) -> Table {
    let entries = (0..entries).map(|i| CachePadded::new(AtomicUsize::new(i)));
    Vec::leak(entries.collect()).iter_mut().map(|entry| AtomicPtr::new(entry)).collect()
}

/// 32 kB of entries, which fit into the first-level cache.
static NEAR: LazyLock<Table> = LazyLock::new(|| table(1 << 8));

/// 256 MB of entries, many times more than the caches hold.
static FAR: LazyLock<Table> = LazyLock::new(|| table(1 << 21));

/// 256 MB of places to write results to.
static RESULTS: LazyLock<Vec<AtomicUsize>> =
    LazyLock::new(|| (0..1 << 25).map(AtomicUsize::new).collect());

/// That many lookups of random entries, each protected by a hazard pointer. The entry is written to a random place of
/// `results`, or added up if there is none.
#[inline(never)]
fn look_up<const PLACE: usize>(
    table: &Table,
    results: &[AtomicUsize],
    lookups: u64,
    fence: impl Fn(),
) -> Duration {
    let slot = black_box(&*round::SLOT);
    // Other places in each sample, because the caches hold the last ones. Relaxed: a number.
    static SEED: AtomicU64 = AtomicU64::new(0);
    let mut random = fastrand::Rng::with_seed(SEED.fetch_add(1, Relaxed));
    let mut sum = 0;
    let start = Instant::now();
    round::stand_at::<PLACE>();
    for _ in 0..lookups {
        let random = random.usize(..);
        let source = &table[random & (table.len() - 1)];
        let entry = loop {
            // Relaxed: the fence orders the store and the second load. Acquire: the entry was filled in before it was put
            // there.
            let entry = source.load(Relaxed);
            slot.store(entry.addr(), Relaxed);
            fence();
            if source.load(Acquire) == entry {
                // SAFETY: no entry of a table is ever freed.
                break unsafe { &*entry };
            }
        };
        // Relaxed: no other thread reads them.
        let found = entry.load(Relaxed);
        match results.get((random >> 32) & results.len().wrapping_sub(1)) {
            Some(result) => result.store(found, Relaxed),
            None => sum += found,
        }
        // Release: what was read of the entry was read before it is given up. Pairs with: the Acquire
        // of the sibling that reclaims.
        slot.store(0, Release);
    }
    black_box(sum);
    start.elapsed()
}

/// Rounds, and how long they take.
type Loop = Box<dyn Fn(u64) -> Duration + Sync>;

/// A fence of readers, and that of the reclaiming sibling.
struct Contender {
    name: &'static str,
    heavy: fn(),
    loops: [Loop; 4],
}

/// The work of a reader in each of the loops.
const LOOPS: [&str; 4] = [
    "publish and look again, nothing else",
    "look up, all in the first cache",
    "look up, far more than the caches hold",
    "look up in the first cache, write to far more than the caches hold",
];

fn contender(
    name: &'static str,
    heavy: fn(),
    fence: impl Fn() + Copy + Sync + 'static,
) -> Contender {
    let loops: [Loop; 4] = [
        Box::new(move |rounds| round::at_its_best(rounds, fence)),
        Box::new(move |lookups| best_place!(PLACE => look_up::<PLACE>(&NEAR, &[], lookups, fence))),
        Box::new(move |lookups| best_place!(PLACE => look_up::<PLACE>(&FAR, &[], lookups, fence))),
        Box::new(
            move |lookups| best_place!(PLACE => look_up::<PLACE>(&NEAR, &RESULTS, lookups, fence)),
        ),
    ];
    Contender { name, heavy, loops }
}

impl Contender {
    /// Rounds that take some milliseconds, so that the sibling reclaims several times meanwhile.
    fn rounds(&self, i: usize) -> u64 {
        const TRIAL: u64 = 20_000;
        let trial = self.loops[i](TRIAL);
        (TRIAL as f64 * Duration::from_millis(5).div_duration_f64(trial)) as u64
    }

    /// The time that they take while a sibling reclaims, if there is a core for it.
    fn beside_a_reclaimer(&self, i: usize, rounds: u64) -> Duration {
        let work = || self.loops[i](rounds);
        beside(1, 0, || reclaim(self.heavy), work).unwrap_or_else(work)
    }
}

/// The first one is the base of the ratios. It is not correct: nothing orders its two accesses.
fn contenders() -> Vec<Contender> {
    let full = || fence(SeqCst);
    let mut all = vec![
        contender("no fence", || (), || ()),
        contender("compiler_fence", heavy_fence, || compiler_fence(SeqCst)),
        contender("light_fence", heavy_fence, light_fence),
        contender("membarrier2", membarrier2::heavy, membarrier2::light),
        contender("swmr-barrier", swmr_barrier::heavy_barrier, swmr_barrier::light_barrier),
        contender("fence(SeqCst)", full, full),
    ];
    if let Ok(proof) = Asymmetric::new() {
        all.insert(3, contender("Asymmetric", heavy_fence, move || proof.light_fence()));
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction touches nothing but the order of memory accesses.
    all.push(contender("mfence", full, || unsafe {
        std::arch::asm!("mfence", options(nostack, preserves_flags));
    }));
    all
}

/// A turn of the sibling that reclaims.
fn reclaim(heavy: fn()) {
    heavy();
    // Acquire: pairs with the Release of a reader that gives up what it read.
    black_box(round::SLOT.load(Acquire));
    let end = Instant::now() + Duration::from_millis(1);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

fn beside_a_reclaimer(criterion: &mut Criterion) {
    asymfence::init();
    for (i, what) in LOOPS.into_iter().enumerate() {
        let mut group = criterion.benchmark_group(format!("{} {what}", i + 1));
        for contender in contenders() {
            let measured = |rounds| contender.beside_a_reclaimer(i, rounds);
            group.bench_function(contender.name, |bencher| bencher.iter_custom(measured));
        }
        group.finish();
    }
}

/// The least time of each contender. They run sample by sample in turn, so that other work on the machine affects all
/// alike.
fn ratios(_: &mut Criterion) {
    let contenders = contenders();
    for (i, what) in LOOPS.into_iter().enumerate() {
        let costs = in_turn(&contenders, i);
        println!("\n{} {what}: ns a round, and as a ratio to no fence", i + 1);
        for (contender, cost) in contenders.iter().zip(&costs) {
            println!("  {:14} {cost:8.2} {:7.3}", contender.name, cost / costs[0]);
        }
        let cost_of = |name| {
            let at = contenders.iter().position(|contender| contender.name == name)?;
            Some(costs[at])
        };
        let full = cost_of("fence(SeqCst)").expect("among the contenders");
        for name in ["light_fence", "Asymmetric"] {
            if let Some(light) = cost_of(name) {
                target(name, "no fence", light / costs[0], 1.05);
                target(name, "fence(SeqCst)", light / full, 0.1);
            }
        }
    }
    if asymfence::strategy() == Some(Strategy::Symmetric) {
        println!("this process is symmetric: its light fence is a full one");
    }
}

/// Nanoseconds a round.
fn in_turn(contenders: &[Contender], i: usize) -> Vec<f64> {
    const SAMPLES: usize = 21;
    let rounds: Vec<u64> = contenders.iter().map(|who| who.rounds(i)).collect();
    let mut costs = vec![f64::INFINITY; contenders.len()];
    for sample in 0..SAMPLES {
        // Another contender goes first each time.
        for j in 0..contenders.len() {
            let j = (sample + j) % contenders.len();
            let time = contenders[j].beside_a_reclaimer(i, rounds[j]);
            costs[j] = costs[j].min(time.as_nanos() as f64 / rounds[j] as f64);
        }
    }
    costs
}

fn target(name: &str, other: &str, ratio: f64, most: f64) {
    let verdict = if ratio <= most { "pass" } else { "MISS" };
    println!("  {verdict}: {name} is {ratio:.3} of {other}, to be at most {most}");
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        // Its plots panic if the samples of a row do not vary.
        .without_plots()
        .sample_size(20)
        .measurement_time(Duration::from_millis(500))
        .warm_up_time(Duration::from_millis(200));
    targets = ratios, beside_a_reclaimer
}
criterion_main!(benches);
