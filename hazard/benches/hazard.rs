//! Hazard pointers against the crates that one would take otherwise: to protect, to take and release, a
//! read-mostly cell, a list, a stack, and much garbage. Each safe form stands beside its raw one. Writers run
//! meanwhile.
//!
//! All contenders of a table run in turn, round after round, so that what else the machine does strikes
//! all alike. Medians, and ratios to the first of each table.
//!
//! `cargo bench -p hazard-benches`

#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../examples/structures/list.rs"]
mod list;
mod lists;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../examples/structures/stack.rs"]
mod stack;

use std::hint::black_box;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr};
use std::sync::{Arc, Barrier, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use asymfence_hazard::{
    AtomicBox, Domain, Family, HazardCell, HazardPointer, Link, Tagged, Thresholds, domain,
};
use crossbeam_epoch::{Atomic, Owned};
use seize::Guard;

/// What is read and replaced.
type Object = [u64; 4];

fn boxed(version: u64) -> *mut Object {
    Box::into_raw(Box::new([version; 4]))
}

domain! {
    /// A domain of the bench's own.
    enum Own {}
}

domain! {
    /// In which nothing is freed but by an explicit reclaim.
    enum Explicit {} = Thresholds { objects: 1 << 30, bytes: usize::MAX, pause: None };
}

/// An object with the header that kovan wants.
#[repr(C)]
struct KovanNode {
    retired: kovan::RetiredNode,
    value: Object,
}

fn kovan_node(version: u64) -> *mut KovanNode {
    Box::into_raw(Box::new(KovanNode { retired: kovan::RetiredNode::new(), value: [version; 4] }))
}

/// Objects that each library reclaims.
struct Sources {
    asymfence: AtomicBox<Object>,
    raw: Link<Object>,
    own: AtomicBox<Object, Own>,
    haphazard: AtomicPtr<Object>,
    epoch: Atomic<Object>,
    seize: AtomicPtr<Object>,
    collector: seize::Collector,
    arc_swap: ArcSwap<Object>,
    kovan: kovan::Atomic<KovanNode>,
    sdd: sdd::AtomicOwned<Object>,
    hazarc: hazarc::AtomicArc<Object>,
    floor: AtomicPtr<Object>,
    cell: HazardCell<Object>,
    /// Never replaced.
    plain: AtomicPtr<Object>,
}

static SOURCES: LazyLock<Sources> = LazyLock::new(|| Sources {
    asymfence: AtomicBox::from(Box::new([0; 4])),
    raw: {
        let raw = Link::null();
        // SAFETY: retired when it has been replaced.
        unsafe { raw.store(Tagged::from(Box::new([0; 4]))) };
        raw
    },
    own: AtomicBox::from(Box::new([0; 4])),
    haphazard: AtomicPtr::new(boxed(0)),
    epoch: Atomic::new([0; 4]),
    seize: AtomicPtr::new(boxed(0)),
    collector: seize::Collector::new(),
    arc_swap: ArcSwap::from_pointee([0; 4]),
    kovan: kovan::Atomic::new(kovan_node(0)),
    sdd: sdd::AtomicOwned::new([0; 4]),
    hazarc: hazarc::AtomicArc::new(Arc::new([0; 4])),
    floor: AtomicPtr::new(boxed(0)),
    cell: HazardCell::new([0; 4]),
    plain: AtomicPtr::new(boxed(0)),
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

fn replace_nothing(_: &Sources) {}

type Replace = fn(&Sources);
type Body = fn(&Sources, u64);

/// One way to do what a table is about: what its writers do, and what is timed, so many times.
struct Contender(&'static str, Replace, Body);

/// Runs `work` so many times.
fn repeat(times: u64, mut work: impl FnMut()) {
    (0..times).for_each(|_| work());
}

/// The first word of an object, so that it is read.
fn first(object: &Object) -> u64 {
    object[0]
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
    Contender("load and re-check, no hazard pointer", replace_nothing, |sources, times| {
        repeat(times, || {
            let object = sources.plain.load(Acquire);
            if black_box(&sources.plain).load(Acquire) == object {
                // SAFETY: never freed.
                black_box(first(unsafe { &*object }));
            }
        });
    }),
    Contender("load, store, re-check, no fence", replace_nothing, |sources, times| {
        let slot = AtomicPtr::new(ptr::null_mut());
        repeat(times, || {
            let object = sources.plain.load(Relaxed);
            black_box(&slot).store(object, Release);
            if black_box(&sources.plain).load(Acquire) == object {
                // SAFETY: never freed.
                black_box(first(unsafe { &*object }));
            }
        });
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
];

const TAKE: &[Contender] = &[
    Contender("take, protect, release", replace_asymfence, |sources, times| {
        repeat(times, || {
            let mut hazard = HazardPointer::new();
            black_box(hazard.protect(&sources.asymfence).map(first));
        });
    }),
    Contender("a guard of its own", replace_asymfence, |sources, times| {
        repeat(times, || {
            black_box(sources.asymfence.load().as_deref().map(first));
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
    Contender("load_with", replace_cell, |sources, times| {
        let mut hazard = HazardPointer::new();
        repeat(times, || {
            black_box(first(sources.cell.load_with(&mut hazard)));
        });
    }),
    Contender("arc-swap, load", replace_arc_swap, |sources, times| {
        repeat(times, || {
            black_box(first(&sources.arc_swap.load()));
        });
    }),
    Contender("arc-swap, cache held", replace_arc_swap, |sources, times| {
        let mut cache = arc_swap::Cache::new(&sources.arc_swap);
        repeat(times, || {
            black_box(first(cache.load()));
        });
    }),
    Contender("crossbeam-epoch, pin", replace_epoch, TAKE[4].2),
    Contender("seize, enter", replace_seize, TAKE[5].2),
    Contender("hazarc, load", replace_hazarc, |sources, times| {
        repeat(times, || {
            black_box(first(&sources.hazarc.load()));
        });
    }),
];

const CHURN: &[Contender] = &[
    Contender("swap and retire", replace_nothing, |sources, times| {
        repeat(times, || replace_asymfence(sources));
    }),
    Contender("swap and retire, raw link", replace_nothing, |sources, times| {
        repeat(times, || replace_raw(sources));
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
        // SAFETY: a box's, and no reader is there.
        let free = |object| drop(unsafe { Box::from_raw(object) });
        repeat(times, || {
            later.push(sources.floor.swap(boxed(1), AcqRel));
            if later.len() == 1_024 {
                later.drain(..).for_each(free);
            }
        });
        later.drain(..).for_each(free);
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

/// The contenders of which single calls are timed.
const SINGLE: &[(&str, Replace)] = &[
    ("swap and retire", replace_asymfence),
    ("haphazard", replace_haphazard),
    ("crossbeam-epoch", replace_epoch),
    ("seize", replace_seize),
    ("kovan", replace_kovan),
    ("sdd", replace_sdd),
];

/// The worst of 50,000 calls, in nanoseconds: the 99.99th percentile, the median of all rounds, and the least
/// maximum. Beside a thread that computes, if `beside`.
fn worst(beside: bool) -> Vec<[u64; 2]> {
    const CALLS: usize = 50_000;
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
    println!("\nworst of 50,000 single calls{beside}: p99.99, least max");
    let worst = samples.into_iter().map(|mut samples| {
        samples.sort_unstable();
        [samples[samples.len() / 2][0], samples.iter().map(|calls| calls[1]).min().unwrap_or(0)]
    });
    let worst: Vec<[u64; 2]> = worst.collect();
    for ((name, _), [percentile, max]) in SINGLE.iter().zip(&worst) {
        println!("  {name:36} {percentile:9} ns {max:9} ns");
    }
    worst
}

/// Nanoseconds for each object of a reclaim of 20,000, while so many hazard pointers protect other objects.
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

/// Treiber's stack again, on the other libraries.
mod stacks {
    use super::*;

    pub(super) static ASYMFENCE: LazyLock<stack::Stack<u64>> = LazyLock::new(stack::Stack::new);
    static HAPHAZARD: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());
    static EPOCH: Atomic<EpochNode> = Atomic::null();
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
        let mut below = HAPHAZARD.load(Relaxed);
        let node = Box::into_raw(Box::new(Node { value, below }));
        while let Err(found) = HAPHAZARD.compare_exchange(below, node, AcqRel, Acquire) {
            below = found;
            // SAFETY: ours until it is linked.
            unsafe { (*node).below = below };
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

    static KOVAN: LazyLock<kovan::Atomic<OfKovan>> = LazyLock::new(kovan::Atomic::null);

    pub(super) fn push_kovan(value: u64) {
        let guard = kovan::pin();
        let (retired, below) = (kovan::RetiredNode::new(), ptr::null_mut());
        let node = Box::into_raw(Box::new(OfKovan { retired, value, below }));
        let mut below = KOVAN.load(Acquire, &guard);
        loop {
            // SAFETY: ours until it is linked.
            unsafe { (*node).below = below.as_raw() };
            // SAFETY: from a box.
            let new = unsafe { kovan::Shared::from_raw(node) };
            match KOVAN.compare_exchange(below, new, AcqRel, Acquire, &guard) {
                Ok(_) => return,
                Err(found) => below = found,
            }
        }
    }

    pub(super) fn pop_kovan() -> Option<u64> {
        let guard = kovan::pin();
        loop {
            let node = KOVAN.load(Acquire, &guard);
            // SAFETY: retired after the guard.
            let inner = unsafe { node.as_ref() }?;
            // SAFETY: compared with, and followed under a guard.
            let below = unsafe { kovan::Shared::from_raw(inner.below) };
            if KOVAN.compare_exchange(node, below, AcqRel, Acquire, &guard).is_ok() {
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
        repeat(times, || {
            stacks::ASYMFENCE.push(1);
            black_box(stacks::ASYMFENCE.pop());
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
        repeat(times, || {
            stacks::push_kovan(1);
            black_box(stacks::pop_kovan());
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

    /// Runs `work` so many times with a key of these, the same keys for all.
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
            Contender("list, no unsafe", replace_nothing, |_, times| {
                $lists
                    .repeat(times, |key| _ = black_box($lists.safe.get(&key).map(|e| *e.value())));
            }),
            Contender("list, raw", replace_nothing, |_, times| {
                $lists.repeat(times, |key| _ = black_box($lists.raw.get(key)));
            }),
            Contender("list, crossbeam-epoch", replace_nothing, |_, times| {
                $lists.repeat(times, |key| _ = black_box($lists.epoch.get(key)));
            }),
        ]
    };
}

/// As `list`, to insert a key that is not there and remove it.
macro_rules! change {
    ($lists:ident) => {
        &[
            Contender("list, no unsafe", replace_nothing, |_, times| {
                $lists.repeat(times, |key| {
                    let _ = $lists.safe.insert(key + 1, key);
                    drop($lists.safe.remove(&(key + 1)));
                });
            }),
            Contender("list, raw", replace_nothing, |_, times| {
                $lists.repeat(times, |key| {
                    $lists.raw.insert(key + 1, key);
                    $lists.raw.remove(key + 1);
                });
            }),
            Contender("list, crossbeam-epoch", replace_nothing, |_, times| {
                $lists.repeat(times, |key| {
                    $lists.epoch.insert(key + 1, key);
                    $lists.epoch.remove(key + 1);
                });
            }),
        ]
    };
}

/// Keeps this thread on the core of that number, or of one less if there are fewer.
fn stay_on(core: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(&core) = cores.get(core % cores.len().max(1)) {
        core_affinity::set_for_current(core);
    }
}

/// Nanoseconds per operation of one thread, when so many do the same at once, and a writer beside them if
/// there is to be one: it replaces the object every 10 microseconds or so.
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

/// Every contender in turn; the median of each.
fn table(
    title: &str,
    contenders: &[Contender],
    threads: usize,
    writer: bool,
    times: u64,
) -> Vec<f64> {
    let rounds = if quick() { 3 } else { 15 };
    let mut samples = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            samples.push(measure(contender, threads, writer, times));
        }
    }
    let medians: Vec<f64> = samples
        .into_iter()
        .map(|mut samples| {
            samples.sort_by(f64::total_cmp);
            samples[samples.len() / 2]
        })
        .collect();
    let beside = if writer { ", beside a writer" } else { "" };
    println!("\n{title}: {threads} thread{}{beside}", if threads == 1 { "" } else { "s" });
    for (Contender(name, ..), median) in contenders.iter().zip(&medians) {
        println!("  {name:36} {median:9.2} ns   {:6.2} x", median / medians[0]);
    }
    medians
}

fn quick() -> bool {
    std::env::args().any(|argument| argument == "--quick" || argument == "--test")
}

/// One line of the verdict: a ratio, and the largest that was aimed at.
fn aim(what: &str, ratio: f64, largest: f64) {
    let verdict = if ratio <= largest { "reached" } else { "MISSED" };
    println!("  {what:58} {ratio:5.2}   aim {largest:4.2}   {verdict}");
}

fn main() {
    println!("fences: {}", asymfence::init());
    // Long enough for the reclaims of a writer to come in: each 1,024 replacements.
    const TIMES: u64 = 20_000_000;
    let times = std::env::var("TIMES").map_or(TIMES, |times| times.parse().expect("a number"));
    // Of the groups read, retire, list; all, if none is named.
    let only = std::env::var("ONLY").unwrap_or_default();
    let is_chosen = |group: &str| only.is_empty() || only == group;
    if is_chosen("read") {
        read(times);
    }
    if is_chosen("retire") {
        retire(times);
    }
    if is_chosen("list") {
        list(times);
    }
}

fn read(times: u64) {
    let protect = table("1 protect", PROTECT, 1, true, times);
    let take = table("2 take, protect and release", TAKE, 1, true, times);
    let alone = table("3 read-mostly cell", CELL, 1, false, times);
    let cell = table("3 read-mostly cell", CELL, 1, true, times);
    table("3 read-mostly cell", CELL, 2, false, times);
    table("3 read-mostly cell", CELL, 2, true, times);

    println!("\nAs ratios:");
    aim("protect to its raw form", protect[0] / protect[1], 1.05);
    aim("protect to a plain load and re-check", protect[0] / protect[2], 1.5);
    aim("protect to load, store and re-check", protect[0] / protect[3], 1.05);
    aim("protect to haphazard's", protect[0] / protect[4], 0.2);
    aim("a guard of its own to take, protect, release", take[1] / take[0], 1.1);
    aim("an own domain to that of the process", take[2] / take[0], 1.1);
    aim("take, protect, release to crossbeam-epoch's pin", take[0] / take[4], 0.5);
    aim("take, protect, release to seize's enter", take[0] / take[5], 0.5);
    aim("take, protect, release to kovan's pin", take[0] / take[6], 1.0);
    aim("take, protect, release to sdd's guard", take[0] / take[7], 1.0);
    aim("cell load to arc-swap's", alone[0] / alone[2], 1.0 / 3.0);
    aim("cell load_with to arc-swap's load", alone[1] / alone[2], 1.0 / 3.0);
    aim("cell load to arc-swap's, beside a writer", cell[0] / cell[2], 1.0 / 3.0);
    aim("cell load_with to arc-swap's load, beside a writer", cell[1] / cell[2], 1.0 / 3.0);
}

fn retire(times: u64) {
    const THREADS: [usize; 4] = [1, 2, 4, 8];
    let stacks = [1, 2, 8].map(|threads| {
        table("4 stack", STACK, threads, false, times / 200 / threads.min(4) as u64)
    });
    let churns = THREADS.map(|threads| {
        table("5 churn", CHURN, threads, false, times / 100 / threads.min(4) as u64)
    });
    let [alone, beside] = [false, true].map(worst);
    let [one, many] = [1, 10_000].map(reclaim_beside);
    println!(
        "\nreclaim, for each object: {one:.1} ns beside 1 hazard pointer, {many:.1} beside 10,000"
    );

    println!("\nAs ratios:");
    for (churn, threads) in churns.iter().zip(THREADS) {
        let what = |of: &str| format!("swap and retire to {of}, {threads} threads");
        aim(&what("the floor"), churn[0] / churn[6], 1.0);
        aim(&what("crossbeam-epoch"), churn[0] / churn[3], 1.0);
        aim(&what("haphazard"), churn[0] / churn[2], 1.0);
    }
    for (stack, threads) in stacks.iter().zip([1, 2, 8]) {
        aim(&format!("stack to crossbeam-epoch's, {threads} threads"), stack[0] / stack[2], 1.0);
        aim(&format!("stack to kovan's, {threads} threads"), stack[0] / stack[3], 1.0);
    }
    aim("p99.99 of single calls, in microseconds", alone[0][0] as f64 / 1e3, 1.0);
    aim("least max to seize's", alone[0][1] as f64 / alone[3][1] as f64, 1.0);
    aim("the same, beside a thread", beside[0][1] as f64 / beside[3][1] as f64, 1.0);
    aim("reclaim beside 10,000 hazard pointers to beside 1", many / one, 1.5);
}

fn list(times: u64) {
    let few = table("6 list of 64: get", list!(FEW), 1, false, times / 100);
    let many = table("6 list of 512: get", list!(MANY), 1, false, times / 1000);
    let change_few = table("7 list of 64: insert and remove", change!(FEW), 1, false, times / 200);
    table("7 list of 512: insert and remove", change!(MANY), 1, false, times / 1000);

    println!("\nAs ratios:");
    aim("list of 64, get, to its raw form", few[0] / few[1], 1.05);
    aim("list of 512, get, to its raw form", many[0] / many[1], 1.05);
    aim("list of 64, insert and remove, to its raw form", change_few[0] / change_few[1], 1.05);
}
