//! Hazard pointers against other crates: a protection, a hazard pointer that is taken and released, a read-mostly cell, a
//! list, a map, a stack, a queue, and retired objects. Most safe forms are measured beside their raw forms. In some
//! tables a writer runs beside the readers.
//!
//! The contenders of a table run round by round, so that other work on the machine affects all alike. Each table
//! has medians, and ratios to its first contender. The last table has a row for most of the other tables: the first
//! contender, the other crates and the floor, as docs/hazard-costs.md shows it.
//!
//! `cargo bench -p hazard-benches`. To build all contenders with another allocator than the system's:
//! `RUSTFLAGS="--cfg asymfence_jemalloc" cargo bench -p hazard-benches --target-dir target/jemalloc`, or `mimalloc` in
//! both places.

#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../examples/structures/list.rs"]
mod list;
mod lists;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../examples/structures/map.rs"]
mod map;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../examples/structures/queue.rs"]
mod queue;
mod queues;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../examples/structures/stack.rs"]
mod stack;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{self, AtomicBool, AtomicPtr};
use std::sync::{Arc, Barrier, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use asymfence_hazard::{
    AtomicBox, Cohort, Domain, Family, Follow, HazardCell, HazardPointer, Link, Tagged, Thresholds,
    domain,
};
use crossbeam_epoch::{Atomic, Owned};
use crossbeam_utils::CachePadded;
use fastrand::Rng;
use seize::Guard;

#[cfg(asymfence_jemalloc)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(asymfence_mimalloc)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The object that is read and replaced.
type Object = [u64; 4];

fn boxed(version: u64) -> *mut Object {
    Box::into_raw(Box::new([version; 4]))
}

/// Frees an object of `boxed`, where there is no reader.
fn free_alone(object: *mut Object) {
    // SAFETY: a box's, and nobody else has it.
    drop(unsafe { Box::from_raw(object) });
}

domain! {
    /// A domain of the bench's own.
    enum Own {}
}

domain! {
    /// A domain that frees only by an explicit reclaim.
    enum Explicit {} = Thresholds { objects: 1 << 30, bytes: usize::MAX, pause: None, ..Thresholds::DEFAULT };
}

domain! {
    /// A domain whose threads free as many at a time as they can. For allocators that cache more than glibc's.
    enum Many {} = Thresholds { at_once: 32, ..Thresholds::DEFAULT };
}

/// An object with the header that kovan needs.
#[repr(C)]
struct KovanNode {
    retired: kovan::RetiredNode,
    value: Object,
}

fn kovan_node(version: u64) -> *mut KovanNode {
    Box::into_raw(Box::new(KovanNode { retired: kovan::RetiredNode::new(), value: [version; 4] }))
}

/// Objects that each library reclaims. Each is in a cache line of its own, so that a contender loads nothing else from the
/// line for which its threads contend.
struct Sources {
    asymfence: CachePadded<AtomicBox<Object>>,
    raw: CachePadded<Link<Object>>,
    of_cohort: CachePadded<Link<Object>>,
    cohort: CachePadded<Cohort>,
    own: CachePadded<AtomicBox<Object, Own>>,
    many: CachePadded<AtomicBox<Object, Many>>,
    haphazard: CachePadded<AtomicPtr<Object>>,
    epoch: CachePadded<Atomic<Object>>,
    seize: CachePadded<AtomicPtr<Object>>,
    collector: CachePadded<seize::Collector>,
    arc_swap: CachePadded<ArcSwap<Object>>,
    kovan: CachePadded<kovan::Atomic<KovanNode>>,
    sdd: CachePadded<sdd::AtomicOwned<Object>>,
    hazarc: CachePadded<hazarc::AtomicArc<Object>>,
    floor: CachePadded<AtomicPtr<Object>>,
    cell: CachePadded<HazardCell<Object>>,
    /// Never replaced.
    plain: CachePadded<AtomicPtr<Object>>,
}

fn link() -> Link<Object> {
    let link = Link::null();
    // SAFETY: retired when it has been replaced.
    unsafe { link.store(Tagged::from(Box::new([0; 4]))) };
    link
}

static SOURCES: LazyLock<Sources> = LazyLock::new(|| Sources {
    asymfence: CachePadded::new(AtomicBox::from(Box::new([0; 4]))),
    raw: CachePadded::new(link()),
    of_cohort: CachePadded::new(link()),
    cohort: CachePadded::new(Cohort::new(1_024)),
    own: CachePadded::new(AtomicBox::from(Box::new([0; 4]))),
    many: CachePadded::new(AtomicBox::from(Box::new([0; 4]))),
    haphazard: CachePadded::new(AtomicPtr::new(boxed(0))),
    epoch: CachePadded::new(Atomic::new([0; 4])),
    seize: CachePadded::new(AtomicPtr::new(boxed(0))),
    collector: CachePadded::new(seize::Collector::new()),
    arc_swap: CachePadded::new(ArcSwap::from_pointee([0; 4])),
    kovan: CachePadded::new(kovan::Atomic::new(kovan_node(0))),
    sdd: CachePadded::new(sdd::AtomicOwned::new([0; 4])),
    hazarc: CachePadded::new(hazarc::AtomicArc::new(Arc::new([0; 4]))),
    floor: CachePadded::new(AtomicPtr::new(boxed(0))),
    cell: CachePadded::new(HazardCell::new([0; 4])),
    plain: CachePadded::new(AtomicPtr::new(boxed(0))),
});

fn replace_asymfence(sources: &Sources) {
    sources.asymfence.store(Box::new([1; 4]));
}

fn replace_raw(sources: &Sources) {
    // SAFETY: retired when it has been replaced.
    let old = unsafe { sources.raw.swap(Tagged::from(Box::new([1; 4]))) };
    // SAFETY: from a box, and unlinked by us.
    unsafe { Domain::global().retire(old.as_ptr()) };
}

fn replace_of_cohort(sources: &Sources) {
    // SAFETY: retired when it has been replaced.
    let old = unsafe { sources.of_cohort.swap(Tagged::from(Box::new([1; 4]))) };
    // SAFETY: from a box, and unlinked by us; the cohort is never dropped.
    unsafe { sources.cohort.retire(old.as_ptr()) };
}

fn replace_own(sources: &Sources) {
    sources.own.store(Box::new([1; 4]));
}

fn replace_haphazard(sources: &Sources) {
    let old = sources.haphazard.swap(boxed(1), AcqRel);
    // SAFETY: from a box, and unlinked by us.
    unsafe { haphazard::Domain::global().retire_ptr::<Object, Box<Object>>(old) };
}

fn replace_epoch(sources: &Sources) {
    let guard = crossbeam_epoch::pin();
    let old = sources.epoch.swap(Owned::new([1; 4]), AcqRel, &guard);
    // SAFETY: from a box, and unlinked by us.
    unsafe { guard.defer_destroy(old) };
}

fn replace_seize(sources: &Sources) {
    let old = sources.seize.swap(boxed(1), AcqRel);
    // SAFETY: from a box, and unlinked by us.
    unsafe { sources.collector.retire(old, seize::reclaim::boxed) };
}

fn replace_arc_swap(sources: &Sources) {
    sources.arc_swap.store(Arc::new([1; 4]));
}

fn replace_kovan(sources: &Sources) {
    let guard = kovan::pin();
    // SAFETY: from a box.
    let new = unsafe { kovan::Shared::from_raw(kovan_node(1)) };
    let old = sources.kovan.swap(new, AcqRel, &guard);
    // SAFETY: from a box, and unlinked by us.
    unsafe { kovan::retire(old.as_raw()) };
}

fn replace_sdd(sources: &Sources) {
    drop(sources.sdd.swap((Some(sdd::Owned::new([1; 4])), sdd::Tag::None), AcqRel));
}

fn replace_hazarc(sources: &Sources) {
    sources.hazarc.store(Arc::new([1; 4]));
}

fn replace_cell(sources: &Sources) {
    sources.cell.store([1; 4]);
}

fn replace_floor(sources: &Sources) {
    // SAFETY: a box's, and no reader is there.
    drop(unsafe { Box::from_raw(sources.floor.swap(boxed(1), AcqRel)) });
}

fn replace_nothing(_: &Sources) {}

type Replace = fn(&Sources);
type Body = fn(&Sources, u64);

/// A contender of a table: its name, what its writers do, and the function that is timed, which runs its work that many
/// times. The first contender of a table is ours. The last table has also those whose names begin with one of [`PEERS`].
struct Contender(&'static str, Replace, Body);

/// Runs `work` that many times.
fn repeat(times: u64, mut work: impl FnMut()) {
    (0..times).for_each(|_| work());
}

/// Reads the first word of an object, so that the compiler cannot leave out the load.
fn first(object: &Object) -> u64 {
    object[0]
}

/// What a protection does, without a hazard pointer.
#[inline(always)]
fn by_hand(sources: &Sources, times: u64, fence: impl Fn()) {
    let slot = AtomicPtr::new(ptr::null_mut());
    repeat(times, || {
        let object = sources.plain.load(Relaxed);
        black_box(&slot).store(object, Release);
        fence();
        if black_box(&sources.plain).load(Acquire) == object {
            // SAFETY: never freed.
            black_box(unsafe { object.as_ref() }.map(first));
        }
    });
}

const PROTECT: &[Contender] = &[
    Contender("protect", replace_asymfence, |sources, times| {
        let mut hazard = HazardPointer::new();
        repeat(times, || {
            black_box(hazard.protect(&sources.asymfence).map(first));
        });
    }),
    Contender("protect, raw link", replace_raw, |sources, times| {
        let mut hazard = HazardPointer::new();
        repeat(times, || {
            black_box(hazard.protect_link(&sources.raw).ok().flatten().map(first));
        });
    }),
    Contender(
        "protect again, no store where it is unchanged",
        replace_asymfence,
        |sources, times| {
            let mut hazard = HazardPointer::new();
            repeat(times, || {
                black_box(hazard.protect_again(&sources.asymfence).map(first));
            });
        },
    ),
    Contender("floor: load and re-check, no hazard pointer", replace_nothing, |sources, times| {
        repeat(times, || {
            let object = sources.plain.load(Acquire);
            if black_box(&sources.plain).load(Acquire) == object {
                // SAFETY: never freed.
                black_box(unsafe { object.as_ref() }.map(first));
            }
        });
    }),
    Contender("load, store, re-check, no fence", replace_nothing, |sources, times| {
        by_hand(sources, times, || ());
    }),
    Contender("load, store, light fence, re-check", replace_nothing, |sources, times| {
        by_hand(sources, times, asymfence::light_fence);
    }),
    Contender("haphazard", replace_haphazard, |sources, times| {
        let mut hazard = haphazard::HazardPointer::new();
        repeat(times, || {
            // SAFETY: retired to the global domain, which the hazard pointer is of.
            black_box(unsafe { hazard.protect(&sources.haphazard) }.map(first));
        });
    }),
    Contender("crossbeam-epoch, pin held", replace_epoch, |sources, times| {
        let guard = crossbeam_epoch::pin();
        repeat(times, || {
            // SAFETY: destroyed after the guard.
            black_box(unsafe { sources.epoch.load(Acquire, &guard).as_ref() }.map(first));
        });
    }),
    Contender("seize, guard held", replace_seize, |sources, times| {
        let guard = sources.collector.enter();
        repeat(times, || {
            // SAFETY: protected.
            black_box(first(unsafe { &*guard.protect(&sources.seize, Acquire) }));
        });
    }),
    Contender("kovan, guard held", replace_kovan, |sources, times| {
        let guard = kovan::pin();
        repeat(times, || {
            let node = sources.kovan.load(Acquire, &guard);
            // SAFETY: retired after the guard.
            black_box(unsafe { node.as_ref() }.map(|node| first(&node.value)));
        });
    }),
    Contender("sdd, guard held", replace_sdd, |sources, times| {
        let guard = sdd::Guard::new();
        repeat(times, || {
            black_box(sources.sdd.load(Acquire, &guard).as_ref().map(first));
        });
    }),
];

/// The timed function of a contender of [`TAKE`].
fn take(name: &str) -> Body {
    let named = TAKE.iter().find(|contender| contender.0 == name);
    named.expect("a contender of that table").2
}

const TAKE: &[Contender] = &[
    Contender("take, protect, release", replace_asymfence, |sources, times| {
        repeat(times, || {
            let mut hazard = HazardPointer::new();
            black_box(hazard.protect(&sources.asymfence).map(first));
        });
    }),
    Contender("a guard of its own", replace_asymfence, |sources, times| {
        repeat(times, || {
            if let Some(object) = sources.asymfence.load() {
                black_box(first(&object));
            }
        });
    }),
    Contender("take, protect, release, raw link", replace_raw, |sources, times| {
        repeat(times, || {
            let mut hazard = HazardPointer::new();
            black_box(hazard.protect_link(&sources.raw).ok().flatten().map(first));
        });
    }),
    Contender("a guard of a raw link", replace_raw, |sources, times| {
        repeat(times, || {
            if let Follow::To(object) = HazardPointer::new().follow(&sources.raw) {
                black_box(first(&object));
            }
        });
    }),
    Contender("take, protect, release, own domain", replace_own, |sources, times| {
        repeat(times, || {
            let mut hazard = HazardPointer::new();
            black_box(hazard.protect(&sources.own).map(first));
        });
    }),
    Contender("haphazard, new", replace_haphazard, |sources, times| {
        repeat(times, || {
            let mut hazard = haphazard::HazardPointer::new();
            // SAFETY: retired to the global domain, which the hazard pointer is of.
            black_box(unsafe { hazard.protect(&sources.haphazard) }.map(first));
        });
    }),
    Contender("crossbeam-epoch, pin", replace_epoch, |sources, times| {
        repeat(times, || {
            let guard = crossbeam_epoch::pin();
            // SAFETY: destroyed after the guard.
            black_box(unsafe { sources.epoch.load(Acquire, &guard).as_ref() }.map(first));
        });
    }),
    Contender("seize, enter", replace_seize, |sources, times| {
        repeat(times, || {
            let guard = sources.collector.enter();
            // SAFETY: protected.
            black_box(first(unsafe { &*guard.protect(&sources.seize, Acquire) }));
        });
    }),
    Contender("kovan, pin", replace_kovan, |sources, times| {
        repeat(times, || {
            let guard = kovan::pin();
            let node = sources.kovan.load(Acquire, &guard);
            // SAFETY: retired after the guard.
            black_box(unsafe { node.as_ref() }.map(|node| first(&node.value)));
        });
    }),
    Contender("sdd, guard", replace_sdd, |sources, times| {
        repeat(times, || {
            let guard = sdd::Guard::new();
            black_box(sources.sdd.load(Acquire, &guard).as_ref().map(first));
        });
    }),
];

const CELL: &[Contender] = &[
    Contender("load", replace_cell, |sources, times| {
        repeat(times, || {
            black_box(first(&sources.cell.load()));
        });
    }),
    Contender("take, protect, release, raw link", replace_raw, |sources, times| {
        take("take, protect, release, raw link")(sources, times);
    }),
    Contender("arc-swap, load", replace_arc_swap, |sources, times| {
        repeat(times, || {
            black_box(first(&sources.arc_swap.load()));
        });
    }),
    Contender("haphazard, new", replace_haphazard, |sources, times| {
        take("haphazard, new")(sources, times);
    }),
    Contender("crossbeam-epoch, pin", replace_epoch, |sources, times| {
        take("crossbeam-epoch, pin")(sources, times);
    }),
    Contender("seize, enter", replace_seize, |sources, times| take("seize, enter")(sources, times)),
    Contender("kovan, pin", replace_kovan, |sources, times| take("kovan, pin")(sources, times)),
    Contender("sdd, guard", replace_sdd, |sources, times| take("sdd, guard")(sources, times)),
    Contender("hazarc, load", replace_hazarc, |sources, times| {
        repeat(times, || {
            black_box(first(&sources.hazarc.load()));
        });
    }),
];

/// The cell, read by contenders that keep a hazard pointer or a cache between reads.
const CELL_AT_HAND: &[Contender] = &[
    Contender("load_with", replace_cell, |sources, times| {
        let mut hazard = HazardPointer::new();
        repeat(times, || {
            black_box(first(sources.cell.load_with(&mut hazard)));
        });
    }),
    Contender("load_with, of two cells in turn", replace_cell, |sources, times| {
        let (other, mut hazard) = (HazardCell::<Object>::new([0; 4]), HazardPointer::new());
        repeat(times / 2, || {
            black_box(first(sources.cell.load_with(&mut hazard)));
            black_box(first(other.load_with(&mut hazard)));
        });
    }),
    Contender("arc-swap, cache held", replace_arc_swap, |sources, times| {
        let mut cache = arc_swap::Cache::new(&*sources.arc_swap);
        repeat(times, || {
            black_box(first(cache.load()));
        });
    }),
    Contender("hazarc, cache held", replace_hazarc, |sources, times| {
        let mut cache = hazarc::Cache::new(&sources.hazarc);
        repeat(times, || {
            black_box(first(cache.load()));
        });
    }),
];

const MANY_AT_ONCE: &str = "swap and retire, 32 freed at a time";

const CHURN: &[Contender] = &[
    Contender("swap and retire", replace_nothing, |sources, times| {
        repeat(times, || replace_asymfence(sources));
    }),
    Contender("swap and retire, raw link", replace_nothing, |sources, times| {
        repeat(times, || replace_raw(sources));
    }),
    Contender(MANY_AT_ONCE, replace_nothing, |sources, times| {
        repeat(times, || sources.many.store(Box::new([1; 4])));
    }),
    Contender("cell, store", replace_nothing, |sources, times| {
        repeat(times, || replace_cell(sources));
    }),
    Contender("swap and retire to a cohort, raw link", replace_nothing, |sources, times| {
        repeat(times, || replace_of_cohort(sources));
    }),
    Contender("exchange and retire", replace_nothing, |sources, times| {
        let mut hazard = HazardPointer::new();
        repeat(times, || {
            let mut new = Box::new([1; 4]);
            loop {
                let seen = hazard.protect(&sources.asymfence);
                match sources.asymfence.compare_exchange(seen, Some(new)) {
                    Ok(_old) => break,
                    Err(back) => new = back.expect("what was to be stored"),
                }
            }
        });
    }),
    Contender("exchange and retire, raw link", replace_nothing, |sources, times| {
        let mut hazard = HazardPointer::new();
        repeat(times, || {
            let new = Tagged::from(Box::new([1; 4]));
            loop {
                let seen = hazard.protect_link(&sources.raw).ok().flatten();
                let seen = seen.map_or(Tagged::null(), |seen| Tagged::from(ptr::from_ref(seen)));
                // SAFETY: retired when it has been replaced.
                if let Ok(old) = unsafe { sources.raw.compare_exchange(seen, new) } {
                    // SAFETY: from a box, and unlinked by us.
                    unsafe { Domain::global().retire(old.as_ptr()) };
                    break;
                }
            }
        });
    }),
    Contender("haphazard", replace_nothing, |sources, times| {
        repeat(times, || replace_haphazard(sources));
    }),
    Contender("crossbeam-epoch", replace_nothing, |sources, times| {
        repeat(times, || replace_epoch(sources));
    }),
    Contender("seize", replace_nothing, |sources, times| {
        repeat(times, || replace_seize(sources));
    }),
    Contender("arc-swap", replace_nothing, |sources, times| {
        repeat(times, || replace_arc_swap(sources));
    }),
    Contender("floor: freed by 1,024", replace_nothing, |sources, times| {
        let mut later = Vec::with_capacity(1_024);
        repeat(times, || {
            later.push(sources.floor.swap(boxed(1), AcqRel));
            if later.len() == 1_024 {
                later.drain(..).for_each(free_alone);
            }
        });
        later.drain(..).for_each(free_alone);
    }),
    // As many wait as with our hazard pointers, and as many are freed at a time. The time that ours take beyond this is
    // their own work.
    Contender("freed by 4 when 2,048 wait, no reclamation", replace_nothing, |sources, times| {
        let mut later = VecDeque::with_capacity(2_052);
        repeat(times, || {
            later.push_back(sources.floor.swap(boxed(1), AcqRel));
            if later.len() == 2_052 {
                later.drain(..4).for_each(free_alone);
            }
        });
        later.drain(..).for_each(free_alone);
    }),
    Contender("kovan", replace_nothing, |sources, times| {
        repeat(times, || replace_kovan(sources));
    }),
    Contender("sdd", replace_nothing, |sources, times| {
        repeat(times, || replace_sdd(sources));
    }),
    Contender("hazarc, a cell", replace_nothing, |sources, times| {
        repeat(times, || replace_hazarc(sources));
    }),
];

/// The contenders whose single calls are timed.
const SINGLE: &[(&str, Replace)] = &[
    ("swap and retire", replace_asymfence),
    ("haphazard", replace_haphazard),
    ("crossbeam-epoch", replace_epoch),
    ("seize", replace_seize),
    ("kovan", replace_kovan),
    ("sdd", replace_sdd),
    ("arc-swap", replace_arc_swap),
    ("hazarc", replace_hazarc),
    ("floor: freed at once", replace_floor),
];

/// Two rows, in nanoseconds: the 99.99th percentile of 50,000 calls (the median of the rounds), and the slowest call of
/// a round (the least of the rounds). Beside a thread that computes, if `beside`.
///
/// Some thousand calls run first and are not counted: memory that was not touched for long makes every call slower.
fn worst(beside: bool) -> [Row; 2] {
    const CALLS: usize = 50_000;
    const BEFORE: usize = 5_000;
    let rounds = if quick() { 3 } else { 11 };
    let mut samples = vec![Vec::new(); SINGLE.len()];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        if beside {
            scope.spawn(|| {
                stay_on(1);
                while !stop.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        stay_on(0);
        for _ in 0..rounds {
            for ((_, replace), samples) in SINGLE.iter().zip(&mut samples) {
                (0..BEFORE).for_each(|_| replace(&SOURCES));
                let mut calls: Vec<u64> = (0..CALLS)
                    .map(|_| {
                        let begin = Instant::now();
                        replace(&SOURCES);
                        begin.elapsed().as_nanos() as u64
                    })
                    .collect();
                calls.sort_unstable();
                samples.push([calls[CALLS - CALLS / 10_000 - 1], calls[CALLS - 1]]);
            }
        }
        stop.store(true, Relaxed);
    });
    let beside = if beside { ", beside a thread that computes" } else { "" };
    let worst = samples.into_iter().map(|mut samples| {
        samples.sort_unstable();
        [samples[samples.len() / 2][0], samples.iter().map(|calls| calls[1]).min().unwrap_or(0)]
    });
    let worst: Vec<[u64; 2]> = worst.collect();
    let row = |what: &str, which: usize| {
        let nanoseconds = SINGLE.iter().zip(&worst).map(|(of, worst)| (of.0, worst[which] as f64));
        Row::new(format!("{what} of 50,000 single retires{beside}"), nanoseconds.collect())
    };
    [row("p99.99", 0), row("least max", 1)]
}

/// Nanoseconds for each of 20,000 objects that one reclaim frees, while `protecting` hazard pointers protect other
/// objects.
fn reclaim_beside(protecting: usize) -> f64 {
    const OBJECTS: usize = 20_000;
    let protected: Vec<*mut Object> = (0..protecting as u64).map(boxed).collect();
    let mut hazards: Vec<HazardPointer<Explicit>> =
        protected.iter().map(|_| HazardPointer::new()).collect();
    for (hazard, &object) in hazards.iter_mut().zip(&protected) {
        hazard.protect_raw(object);
    }
    let mut samples: Vec<f64> = (0..if quick() { 3 } else { 15 })
        .map(|_| {
            (0..OBJECTS).for_each(|_| Explicit::domain().retire_box(Box::new([1_u64; 4])));
            let begin = Instant::now();
            let done = Explicit::domain().reclaim().expect("a heavy fence");
            assert_eq!((done.freed, done.kept), (OBJECTS, 0));
            begin.elapsed().as_nanos() as f64 / OBJECTS as f64
        })
        .collect();
    drop(hazards);
    // SAFETY: boxes', which nobody else has.
    protected.into_iter().for_each(|object| drop(unsafe { Box::from_raw(object) }));
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Treiber's stack on the other libraries.
mod stacks {
    use super::*;

    pub(super) static ASYMFENCE: LazyLock<CachePadded<stack::Stack<u64>>> =
        LazyLock::new(|| CachePadded::new(stack::Stack::new()));
    static HAPHAZARD: CachePadded<AtomicPtr<Node>> =
        CachePadded::new(AtomicPtr::new(ptr::null_mut()));
    static EPOCH: CachePadded<Atomic<EpochNode>> = CachePadded::new(Atomic::null());
    pub(super) static LOCKED: Mutex<Vec<u64>> = Mutex::new(Vec::new());

    struct Node {
        value: u64,
        below: *mut Node,
    }
    // SAFETY: an address, which nobody changes once the node is linked.
    unsafe impl Send for Node {}
    // SAFETY: as above.
    unsafe impl Sync for Node {}

    pub(super) fn push_haphazard(value: u64) {
        let node = Box::into_raw(Box::new(Node { value, below: ptr::null_mut() }));
        let mut below = HAPHAZARD.load(Relaxed);
        loop {
            // SAFETY: ours until it is linked.
            unsafe { (*node).below = below };
            match HAPHAZARD.compare_exchange(below, node, AcqRel, Acquire) {
                Ok(_) => return,
                Err(found) => below = found,
            }
        }
    }

    pub(super) fn pop_haphazard() -> Option<u64> {
        let mut hazard = haphazard::HazardPointer::new();
        loop {
            // SAFETY: retired to the global domain, which the hazard pointer is of.
            let node = unsafe { hazard.protect(&HAPHAZARD) }?;
            let (value, below, node) = (node.value, node.below, ptr::from_ref(node).cast_mut());
            if HAPHAZARD.compare_exchange(node, below, AcqRel, Acquire).is_ok() {
                // SAFETY: from a box, and unlinked by us.
                unsafe { haphazard::Domain::global().retire_ptr::<Node, Box<Node>>(node) };
                return Some(value);
            }
        }
    }

    #[repr(C)]
    pub(super) struct OfKovan {
        retired: kovan::RetiredNode,
        value: u64,
        below: *mut OfKovan,
    }

    // SAFETY: an address, which nobody changes once the node is linked.
    unsafe impl Send for OfKovan {}
    // SAFETY: as above.
    unsafe impl Sync for OfKovan {}

    pub(super) static KOVAN: LazyLock<CachePadded<kovan::Atomic<OfKovan>>> =
        LazyLock::new(|| CachePadded::new(kovan::Atomic::null()));

    pub(super) fn push_kovan(top: &kovan::Atomic<OfKovan>, value: u64) {
        let guard = kovan::pin();
        let (retired, below) = (kovan::RetiredNode::new(), ptr::null_mut());
        let node = Box::into_raw(Box::new(OfKovan { retired, value, below }));
        let mut below = top.load(Acquire, &guard);
        loop {
            // SAFETY: ours until it is linked.
            unsafe { (*node).below = below.as_raw() };
            // SAFETY: from a box.
            let new = unsafe { kovan::Shared::from_raw(node) };
            match top.compare_exchange(below, new, AcqRel, Acquire, &guard) {
                Ok(_) => return,
                Err(found) => below = found,
            }
        }
    }

    pub(super) fn pop_kovan(top: &kovan::Atomic<OfKovan>) -> Option<u64> {
        let guard = kovan::pin();
        loop {
            let node = top.load(Acquire, &guard);
            // SAFETY: retired after the guard.
            let inner = unsafe { node.as_ref() }?;
            // SAFETY: compared with, and followed under a guard.
            let below = unsafe { kovan::Shared::from_raw(inner.below) };
            if top.compare_exchange(node, below, AcqRel, Acquire, &guard).is_ok() {
                let value = inner.value;
                // SAFETY: from a box, and unlinked by us.
                unsafe { kovan::retire(node.as_raw()) };
                return Some(value);
            }
        }
    }

    struct EpochNode {
        value: u64,
        below: Atomic<EpochNode>,
    }

    pub(super) fn push_epoch(value: u64) {
        let guard = crossbeam_epoch::pin();
        let mut node = Owned::new(EpochNode { value, below: Atomic::null() });
        loop {
            let below = EPOCH.load(Relaxed, &guard);
            node.below.store(below, Relaxed);
            match EPOCH.compare_exchange(below, node, AcqRel, Relaxed, &guard) {
                Ok(_) => return,
                Err(error) => node = error.new,
            }
        }
    }

    pub(super) fn pop_epoch() -> Option<u64> {
        let guard = crossbeam_epoch::pin();
        loop {
            let node = EPOCH.load(Acquire, &guard);
            // SAFETY: destroyed after the guard.
            let inner = unsafe { node.as_ref() }?;
            let below = inner.below.load(Relaxed, &guard);
            if EPOCH.compare_exchange(node, below, AcqRel, Relaxed, &guard).is_ok() {
                let value = inner.value;
                // SAFETY: from a box, and unlinked by us.
                unsafe { guard.defer_destroy(node) };
                return Some(value);
            }
        }
    }
}

const STACK: &[Contender] = &[
    Contender("push and pop", replace_nothing, |_, times| {
        let stack = &**stacks::ASYMFENCE;
        repeat(times, || {
            stack.push(1);
            black_box(stack.pop());
        });
    }),
    Contender("haphazard", replace_nothing, |_, times| {
        repeat(times, || {
            stacks::push_haphazard(1);
            black_box(stacks::pop_haphazard());
        });
    }),
    Contender("crossbeam-epoch", replace_nothing, |_, times| {
        repeat(times, || {
            stacks::push_epoch(1);
            black_box(stacks::pop_epoch());
        });
    }),
    Contender("kovan", replace_nothing, |_, times| {
        let top = &**stacks::KOVAN;
        repeat(times, || {
            stacks::push_kovan(top, 1);
            black_box(stacks::pop_kovan(top));
        });
    }),
    Contender("a locked vector", replace_nothing, |_, times| {
        let locked = || stacks::LOCKED.lock().expect("no panic while it is held");
        repeat(times, || {
            locked().push(1);
            black_box(locked().pop());
        });
    }),
];

static QUEUE: LazyLock<queue::Queue<u64>> = LazyLock::new(queue::Queue::new);
static EPOCH_QUEUE: LazyLock<queues::Epoch> = LazyLock::new(queues::Epoch::new);

const QUEUES: &[Contender] = &[
    Contender("push and pop", replace_nothing, |_, times| {
        repeat(times, || {
            QUEUE.push(1);
            black_box(QUEUE.pop());
        });
    }),
    Contender("crossbeam-epoch", replace_nothing, |_, times| {
        repeat(times, || {
            EPOCH_QUEUE.push(1);
            black_box(EPOCH_QUEUE.pop());
        });
    }),
];

/// Hash maps of 64 lists, of 512 keys.
struct Maps {
    safe: map::Map<u64, u64>,
    epoch: Vec<lists::Epoch>,
    hasher: RandomState,
}

impl Maps {
    const KEYS: u64 = 512;

    fn epoch(&self, key: u64) -> &lists::Epoch {
        &self.epoch[self.hasher.hash_one(key) as usize & 63]
    }
}

static MAPS: LazyLock<Maps> = LazyLock::new(|| {
    let (epoch, hasher) = ((0..64).map(|_| lists::Epoch::new()).collect(), RandomState::new());
    let maps = Maps { safe: map::Map::new(64), epoch, hasher };
    for key in 0..Maps::KEYS {
        maps.safe.insert(key, key).expect("a new key");
        maps.epoch(key).insert(key, key);
    }
    maps
});

const MAP: &[Contender] = &[
    Contender("map, no unsafe, hashed by SipHash", replace_nothing, |_, times| {
        let mut random = fastrand::Rng::with_seed(1);
        repeat(times, || {
            let key = random.u64(0..Maps::KEYS);
            black_box(MAPS.safe.get(&key).map(|entry| *entry.value()));
        });
    }),
    Contender("crossbeam-epoch, hashed by SipHash", replace_nothing, |_, times| {
        let mut random = fastrand::Rng::with_seed(1);
        repeat(times, || {
            let key = random.u64(0..Maps::KEYS);
            black_box(MAPS.epoch(key).get(key));
        });
    }),
];

/// The ordered list, of even keys.
struct Lists {
    keys: u64,
    safe: list::List<u64, u64>,
    raw: lists::Raw,
    epoch: lists::Epoch,
}

impl Lists {
    fn of(keys: u64) -> Self {
        let lists = Lists {
            keys,
            safe: list::List::new(),
            raw: lists::Raw::new(),
            epoch: lists::Epoch::new(),
        };
        for key in (0..keys).map(|key| 2 * key) {
            lists.safe.insert(key, key).expect("a new key");
            lists.raw.insert(key, key);
            lists.epoch.insert(key, key);
        }
        lists
    }

    /// Runs `work` that many times, each with one of these keys. All contenders get the same keys.
    fn repeat(&self, times: u64, mut work: impl FnMut(u64)) {
        let mut random = fastrand::Rng::with_seed(1);
        repeat(times, || work(2 * random.u64(0..self.keys)));
    }
}

static FEW: LazyLock<Lists> = LazyLock::new(|| Lists::of(64));
static MANY: LazyLock<Lists> = LazyLock::new(|| Lists::of(512));

/// The contenders of a list.
macro_rules! list {
    ($lists:ident) => {
        &[
            Contender("no unsafe", replace_nothing, |_, times| {
                $lists
                    .repeat(times, |key| _ = black_box($lists.safe.get(&key).map(|e| *e.value())));
            }),
            Contender("raw", replace_nothing, |_, times| {
                $lists.repeat(times, |key| _ = black_box($lists.raw.get(key)));
            }),
            Contender("crossbeam-epoch", replace_nothing, |_, times| {
                $lists.repeat(times, |key| _ = black_box($lists.epoch.get(key)));
            }),
        ]
    };
}

/// The contenders of a list that insert a key which is not in it, and remove it again.
macro_rules! change {
    ($lists:ident) => {
        &[
            Contender("no unsafe", replace_nothing, |_, times| {
                $lists.repeat(times, |key| {
                    let _ = $lists.safe.insert(key + 1, key);
                    drop($lists.safe.remove(&(key + 1)));
                });
            }),
            Contender("raw", replace_nothing, |_, times| {
                $lists.repeat(times, |key| {
                    $lists.raw.insert(key + 1, key);
                    $lists.raw.remove(key + 1);
                });
            }),
            Contender("crossbeam-epoch", replace_nothing, |_, times| {
                $lists.repeat(times, |key| {
                    $lists.epoch.insert(key + 1, key);
                    $lists.epoch.remove(key + 1);
                });
            }),
        ]
    };
}

/// Pins this thread to the core of that number, or to one of a lower number if there are fewer cores.
fn stay_on(core: usize) {
    // Read once, before any thread is pinned. A thread that a pinned thread spawns is pinned too, and would find one
    // core.
    static CORES: LazyLock<Vec<core_affinity::CoreId>> =
        LazyLock::new(|| core_affinity::get_core_ids().unwrap_or_default());
    let cores = &*CORES;
    if let Some(&core) = cores.get(core % cores.len().max(1)) {
        core_affinity::set_for_current(core);
    }
}

/// Nanoseconds of an operation of one thread, while that many threads do the same, and a writer if there is one. The
/// writer replaces the object about every 10 microseconds.
fn measure(contender: &Contender, threads: usize, writer: bool, times: u64) -> f64 {
    const REST: Duration = Duration::from_micros(10);
    let Contender(_, replace, body) = contender;
    let sources = &*SOURCES;
    let (start, stop) = (Barrier::new(threads + usize::from(writer)), AtomicBool::new(false));
    let timed = |core| {
        stay_on(core);
        start.wait();
        let begin = Instant::now();
        body(sources, times);
        begin.elapsed().as_nanos() as f64 / times as f64
    };
    thread::scope(|scope| {
        if writer {
            scope.spawn(|| {
                stay_on(1);
                start.wait();
                while !stop.load(Relaxed) {
                    replace(sources);
                    let end = Instant::now() + REST;
                    while Instant::now() < end {
                        std::hint::spin_loop();
                    }
                }
            });
        }
        let timed = &timed;
        let threads: Vec<_> = (0..threads).map(|core| scope.spawn(move || timed(core))).collect();
        let count = threads.len() as f64;
        let sum: f64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        stop.store(true, Relaxed);
        sum / count
    })
}

/// Other crates and the floor: the columns of the last table.
const PEERS: [&str; 8] =
    ["haphazard", "crossbeam-epoch", "seize", "arc-swap", "kovan", "sdd", "hazarc", "floor"];

/// The medians of a table, in nanoseconds. Ours is the first.
struct Row {
    title: String,
    nanoseconds: Vec<(&'static str, f64)>,
    /// The minima. If other work runs on the core's other hardware thread during half of the rounds, one contender's
    /// median may come from a round with such work, and another's from a round without.
    least: Vec<f64>,
}

impl Row {
    /// Also prints it, with ratios to the first contender.
    fn new(title: String, nanoseconds: Vec<(&'static str, f64)>) -> Self {
        println!("\n{title}");
        for (name, of) in &nanoseconds {
            println!("  {name:46} {of:9.2} ns   {:6.2} x", of / nanoseconds[0].1);
        }
        let least = nanoseconds.iter().map(|(_, of)| *of).collect();
        Row { title, nanoseconds, least }
    }

    /// The time of the contender whose name begins so.
    fn find(&self, name: &str) -> Option<f64> {
        let named = self.nanoseconds.iter().find(|(of, _)| of.starts_with(name));
        named.map(|(_, nanoseconds)| *nanoseconds)
    }

    fn of(&self, name: &str) -> f64 {
        self.find(name).expect("a contender of this table")
    }

    fn ours(&self) -> f64 {
        self.nanoseconds[0].1
    }

    /// The ratio of the minima of two contenders.
    fn least(&self, name: &str, to: &str) -> f64 {
        let least = |name: &str| {
            let named = self.nanoseconds.iter().position(|(of, _)| *of == name);
            self.least[named.expect("a contender of this table")]
        };
        least(name) / least(to)
    }

    /// Our time divided by that of the contender `name`.
    fn ratio(&self, name: &str) -> f64 {
        self.ours() / self.of(name)
    }
}

/// The last table, in Markdown: of each row the first contender, the other crates and the floor.
fn print_all(rows: &[&Row]) {
    let of = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = of("/proc/cpuinfo");
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    // The cores of the machine: this thread may be pinned to one of them.
    let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
    let model = model.map_or("a processor", |(_, model)| model);
    println!(
        "\nIn nanoseconds, on {cores} cores of {model}, Linux {}",
        of("/proc/sys/kernel/osrelease")
    );
    println!("| | here | {} |", PEERS.join(" | "));
    println!("| --- |{}", " ---: |".repeat(1 + PEERS.len()));
    let shown = |nanoseconds: f64| match nanoseconds {
        few if few < 10.0 => format!("{few:.2}"),
        some if some < 100.0 => format!("{some:.1}"),
        many => format!("{many:.0}"),
    };
    for row in rows {
        let peers = PEERS.map(|peer| row.find(peer).map_or_else(String::new, shown));
        let cells: String = peers.iter().map(|cell| format!(" {cell} |")).collect();
        println!("| {} | {} |{cells}", row.title, shown(row.ours()));
    }
}

/// Every contender in each round; the median of each.
fn table(title: &str, contenders: &[Contender], threads: usize, writer: bool, times: u64) -> Row {
    let rounds = if quick() { 3 } else { 15 };
    let mut samples = vec![Vec::new(); contenders.len()];
    // In an order of its own in each round: a contender finds the heap as the one before has left it.
    let (mut order, mut random) = ((0..contenders.len()).collect::<Vec<_>>(), Rng::with_seed(1));
    for _ in 0..rounds {
        random.shuffle(&mut order);
        for &at in &order {
            samples[at].push(measure(&contenders[at], threads, writer, times));
        }
    }
    samples.iter_mut().for_each(|samples| samples.sort_by(f64::total_cmp));
    let medians = samples.iter().map(|samples| samples[samples.len() / 2]);
    let least = samples.iter().map(|samples| samples[0]).collect();
    let beside = if writer { ", beside a writer" } else { "" };
    let title = format!("{title}, {threads} thread{}{beside}", if threads == 1 { "" } else { "s" });
    let row =
        Row::new(title, contenders.iter().map(|contender| contender.0).zip(medians).collect());
    Row { least, ..row }
}

fn quick() -> bool {
    std::env::args().any(|argument| argument == "--quick" || argument == "--test")
}

/// Prints a ratio, and the target that it is to stay below.
fn aim(what: &str, ratio: f64, largest: f64) {
    let verdict = if ratio <= largest { "reached" } else { "MISSED" };
    println!("  {what:66} {ratio:5.2}   aim {largest:4.2}   {verdict}");
}

fn main() {
    println!("fences: {}", asymfence::init());
    // Long enough for the writer to reclaim several times: its heavy fences are due every one or two milliseconds.
    const TIMES: u64 = 20_000_000;
    let times = std::env::var("TIMES").map_or(TIMES, |times| times.parse().expect("a number"));
    // The groups that were asked for: read, retire, list. Without a name, all of them.
    let only = std::env::var("ONLY").unwrap_or_default();
    let run = |group: &str, work: fn(u64) -> Vec<Row>| {
        if only.is_empty() || only == group { work(times) } else { Vec::new() }
    };
    let rows = [run("read", read), run("retire", retire), run("list", list)];
    print_all(&rows.iter().flatten().collect::<Vec<_>>());
}

fn read(times: u64) -> Vec<Row> {
    let protect = table("protect, pointer or guard at hand", PROTECT, 1, true, times);
    let unchanged = table("protect, pointer or guard at hand", PROTECT, 1, false, times);
    let take = table("take, protect, release", TAKE, 1, true, times);
    let alone = table("cell, load", CELL, 1, false, times);
    let cell = table("cell, load", CELL, 1, true, times);
    let two = table("cell, load", CELL, 2, true, times);
    let hand_alone = table("cell, pointer or cache at hand", CELL_AT_HAND, 1, false, times);
    let hand = table("cell, pointer or cache at hand", CELL_AT_HAND, 1, true, times);

    println!("\nAs ratios:");
    aim("protect to its raw form", protect.ratio("protect, raw link"), 1.05);
    aim("protect to a plain load and re-check", protect.ratio("floor"), 1.5);
    aim("protect to load, store and re-check", protect.ratio("load, store, re-check"), 1.05);
    aim("protect to the same with a light fence", protect.ratio("load, store, light fence"), 1.05);
    aim("protect to haphazard's", protect.ratio("haphazard"), 0.2);
    let again = unchanged.of("protect again");
    aim("protect again, unchanged, to protect", again / unchanged.ours(), 1.0);
    aim(
        "protect again, unchanged, to a plain load and re-check",
        again / unchanged.of("floor"),
        1.5,
    );
    const TAKEN: &str = "take, protect, release";
    const RAW: &str = "take, protect, release, raw link";
    for (name, to, largest) in [
        ("a guard of its own", TAKEN, 1.1),
        ("a guard of its own", "a guard of a raw link", 1.05),
        (TAKEN, RAW, 1.05),
        ("take, protect, release, own domain", TAKEN, 1.05),
    ] {
        aim(&format!("{name} to {to}, minima"), take.least(name, to), largest);
    }
    aim("cell load to its raw form, minima", alone.least("load", RAW), 1.05);
    aim("take, protect, release to crossbeam-epoch's pin", take.ratio("crossbeam-epoch"), 0.5);
    aim("take, protect, release to seize's enter", take.ratio("seize"), 0.5);
    aim("take, protect, release to kovan's pin", take.ratio("kovan"), 1.0);
    aim("take, protect, release to sdd's guard", take.ratio("sdd"), 1.0);
    aim("cell load to arc-swap's", alone.ratio("arc-swap"), 1.0 / 3.0);
    aim("cell load to arc-swap's, beside a writer", cell.ratio("arc-swap"), 1.0 / 3.0);
    aim("cell load_with to arc-swap's load", hand_alone.ours() / alone.of("arc-swap"), 1.0 / 3.0);
    aim("cell load_with to arc-swap's cache", hand_alone.ratio("arc-swap"), 1.0);
    aim("the same, beside a writer", hand.ratio("arc-swap"), 1.0);
    vec![protect, take, alone, cell, two, hand_alone, hand]
}

fn retire(times: u64) -> Vec<Row> {
    const THREADS: [usize; 4] = [1, 2, 4, 8];
    // With few operations for each thread some threads would end before others begin, and would not contend.
    let stacks = [1, 2, 8].map(|threads| {
        table("stack, push and pop", STACK, threads, false, times / 20 / threads as u64)
    });
    let churns = THREADS.map(|threads| {
        table("swap and retire", CHURN, threads, false, times / 10 / threads as u64)
    });
    let [alone, beside] = [false, true].map(worst);
    let [one, many] = [1, 10_000].map(reclaim_beside);
    println!(
        "\nreclaim, for each object: {one:.1} ns beside 1 hazard pointer, {many:.1} beside 10,000"
    );

    println!("\nAs ratios:");
    let most = if cfg!(any(asymfence_jemalloc, asymfence_mimalloc)) { 1.3 } else { 1.0 };
    for (churn, threads) in churns.iter().zip(THREADS) {
        let what = |of: &str| format!("swap and retire to {of}, {threads} threads");
        aim(&what("the floor"), churn.ratio("floor"), most);
        let many = churn.of(MANY_AT_ONCE) / churn.of("floor");
        aim(&format!("{MANY_AT_ONCE}, to the floor, {threads} threads"), many, most);
        aim(&what("crossbeam-epoch"), churn.ratio("crossbeam-epoch"), 1.0);
        aim(&what("haphazard"), churn.ratio("haphazard"), 1.0);
    }
    // One thread only: with several, the minima are of rounds in which the threads did not meet.
    for (name, raw) in [
        ("swap and retire", "swap and retire, raw link"),
        ("cell, store", "swap and retire, raw link"),
        ("exchange and retire", "exchange and retire, raw link"),
    ] {
        aim(&format!("{name} to {raw}, 1 thread, minima"), churns[0].least(name, raw), 1.05);
    }
    for (stack, threads) in stacks.iter().zip([1, 2, 8]) {
        for of in ["crossbeam-epoch", "kovan"] {
            aim(&format!("stack to {of}'s, {threads} threads"), stack.ratio(of), 1.0);
        }
    }
    aim("p99.99 of single calls, in microseconds", alone[0].ours() / 1e3, 1.0);
    aim("least max to seize's", alone[1].ratio("seize"), 1.0);
    aim("the same, beside a thread", beside[1].ratio("seize"), 1.0);
    aim("reclaim beside 10,000 hazard pointers to beside 1", many / one, 1.5);
    stacks.into_iter().chain(churns).chain(alone).chain(beside).collect()
}

fn list(times: u64) -> Vec<Row> {
    let few = table("list of 64, get", list!(FEW), 1, false, times / 100);
    let many = table("list of 512, get", list!(MANY), 1, false, times / 1000);
    let change_few = table("list of 64, insert and remove", change!(FEW), 1, false, times / 200);
    let change_many =
        table("list of 512, insert and remove", change!(MANY), 1, false, times / 1000);

    let map = table("map of 512, get", MAP, 1, false, times / 200);
    let queue = table("queue, push and pop", QUEUES, 1, false, times / 200);

    println!("\nAs ratios:");
    aim("list of 64, get, to its raw form", few.ratio("raw"), 1.05);
    aim("list of 512, get, to its raw form", many.ratio("raw"), 1.05);
    aim("list of 64, insert and remove, to its raw form", change_few.ratio("raw"), 1.05);
    vec![few, many, change_few, change_many, map, queue]
}
