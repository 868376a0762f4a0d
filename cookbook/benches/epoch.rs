//! The epochs against their symmetric twin, their unpaced twin and crossbeam-epoch: the cost of a pin, alone and beside a
//! thread that replaces objects. Also the heavy fences in a second, and the largest number of objects that wait.
//!
//! `cargo bench -p cookbook-benches --bench epoch`, and with `-- --quick` for a rough answer
#![allow(missing_docs, reason = "nobody calls it")]

mod in_turn;
#[path = "../../doctor/src/sibling.rs"]
mod sibling;
#[allow(dead_code, unreachable_pub, reason = "the structure, with other fences")]
#[path = "../src/epoch.rs"]
mod symmetric;
#[path = "symmetric/sync.rs"]
mod sync;

use std::hint::{black_box, spin_loop};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicPtr, AtomicUsize};
use std::time::{Duration, Instant};

use asymfence::Pacer;
use asymfence_cookbook::epoch as asymmetric;
use crossbeam_epoch::{Atomic, Owned};
use in_turn::is_quick;
use sibling::beside;

/// The object that is read and replaced.
type Object = [u64; 4];

/// An object, and what frees the one before.
trait Epochs: Sync + Sized {
    fn new() -> Self;
    /// A collector as a reading thread uses it, after it has registered.
    fn reader(&self) -> impl FnMut() -> u64;
    /// A function that replaces the object once. It returns how many objects wait then, or 0 if that is not known.
    fn writer(&self) -> impl FnMut() -> usize;
}

/// The structure and its twins, each with its collector.
macro_rules! epochs {
    ($name:ident, $module:ident, $collector:expr) => {
        struct $name {
            collector: $module::Collector,
            newest: AtomicPtr<Object>,
        }

        impl Epochs for $name {
            fn new() -> Self {
                let newest = AtomicPtr::new(Box::into_raw(Box::new([0; 4])));
                $name { collector: $collector, newest }
            }

            fn reader(&self) -> impl FnMut() -> u64 {
                let handle = self.collector.handle();
                move || {
                    let _guard = handle.pin();
                    // SAFETY: found while pinned.
                    unsafe { (*self.newest.load(Acquire))[0] }
                }
            }

            fn writer(&self) -> impl FnMut() -> usize {
                let handle = self.collector.handle();
                move || {
                    let old = self.newest.swap(Box::into_raw(Box::new([1; 4])), AcqRel);
                    // SAFETY: from a box, unlinked just now, by us alone.
                    unsafe { handle.retire(old) };
                    self.collector.waiting()
                }
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: from a box, and nobody else is left.
                drop(unsafe { Box::from_raw(*self.newest.get_mut()) });
            }
        }
    };
}

epochs!(Here, asymmetric, asymmetric::Collector::new());
epochs!(Twin, symmetric, symmetric::Collector::new());
// A heavy fence is due at each check if anything waits: as if crossbeam-epoch had a light fence and a heavy one in
// place of its full fences, and no pacer.
epochs!(Unpaced, asymmetric, asymmetric::Collector::with_pacer(Pacer::new(1).each(128)));

struct Crossbeam {
    collector: crossbeam_epoch::Collector,
    newest: Atomic<Object>,
}

impl Epochs for Crossbeam {
    fn new() -> Self {
        Crossbeam { collector: crossbeam_epoch::Collector::new(), newest: Atomic::new([0; 4]) }
    }

    fn reader(&self) -> impl FnMut() -> u64 {
        let handle = self.collector.register();
        move || {
            let guard = handle.pin();
            // SAFETY: never null, and found while pinned.
            unsafe { self.newest.load(Acquire, &guard).deref()[0] }
        }
    }

    fn writer(&self) -> impl FnMut() -> usize {
        let handle = self.collector.register();
        move || {
            let guard = handle.pin();
            let old = self.newest.swap(Owned::new([1; 4]), AcqRel, &guard);
            // SAFETY: from a box, and unlinked by us.
            unsafe { guard.defer_destroy(old) };
            0
        }
    }
}

/// The result of a run.
struct Sample {
    nanoseconds: f64,
    /// Heavy fences a second.
    fences: f64,
    /// The most objects that waited at once.
    garbage: f64,
}

/// Pins `times` times beside a thread that replaces the object and pauses that long after each replacement.
fn pins<E: Epochs>(rest: Option<Duration>, times: u64) -> Sample {
    let (epochs, most) = (E::new(), AtomicUsize::new(0));
    let replace = || {
        let Some(rest) = rest else { return };
        let mut replace = epochs.writer();
        // A handle lasts for ten milliseconds.
        for _ in 0..Duration::from_millis(10).as_nanos() / rest.as_nanos() {
            most.fetch_max(replace(), Relaxed);
            let end = Instant::now() + rest;
            while Instant::now() < end {
                spin_loop();
            }
        }
    };
    let read = || {
        let mut read = epochs.reader();
        let (before, begin) = (asymfence::stats().heavy.asked, Instant::now());
        (0..times).for_each(|_| _ = black_box(read()));
        let took = begin.elapsed();
        (took, asymfence::stats().heavy.asked - before)
    };
    let siblings = usize::from(rest.is_some());
    let (took, fences) = beside(siblings, 0, replace, read).expect("a second core");
    Sample {
        nanoseconds: took.as_nanos() as f64 / times as f64,
        fences: fences as f64 / took.as_secs_f64(),
        garbage: most.load(Relaxed) as f64,
    }
}

/// One thread replaces, and frees what it replaced.
fn replacements<E: Epochs>(_: Option<Duration>, times: u64) -> Sample {
    let epochs = E::new();
    let work = || {
        let mut replace = epochs.writer();
        let (before, begin) = (asymfence::stats().heavy.asked, Instant::now());
        let most = (0..times).map(|_| replace()).max().expect("some times");
        let (took, asked) = (begin.elapsed(), asymfence::stats().heavy.asked - before);
        Sample {
            nanoseconds: took.as_nanos() as f64 / times as f64,
            fences: asked as f64 / took.as_secs_f64(),
            garbage: most as f64,
        }
    };
    beside(1, 0, spin_loop, work).expect("a second core")
}

type Run = fn(Option<Duration>, u64) -> Sample;

fn table(title: &str, rest: Option<Duration>, times: u64, contenders: [(&str, Run); 4]) {
    println!("\n{title}: ns, heavy fences a second, most garbage");
    let samples =
        in_turn::samples(4, if is_quick() { 3 } else { 11 }, |i| (contenders[i].1)(rest, times));
    let median =
        |of: fn(&Sample) -> f64, i: usize| sibling::median(samples[i].iter().map(of).collect());
    for (i, (name, _)) in contenders.iter().enumerate() {
        let nanoseconds = median(|sample| sample.nanoseconds, i);
        let ratio = nanoseconds / median(|sample| sample.nanoseconds, 0);
        let [fences, garbage] = [|sample: &Sample| sample.fences, |sample: &Sample| sample.garbage]
            .map(|of| median(of, i));
        println!("  {name:20} {nanoseconds:10.2} {ratio:7.3} x {fences:12.0} {garbage:10.0}");
    }
}

macro_rules! contenders {
    ($what:ident) => {
        [
            ("here", $what::<Here> as Run),
            ("its symmetric twin", $what::<Twin>),
            ("its unpaced twin", $what::<Unpaced>),
            ("crossbeam-epoch", $what::<Crossbeam>),
        ]
    };
}

fn main() {
    println!("fences: {}", asymfence::init());
    if sibling::cores().len() < 2 {
        return println!("one core: nothing to measure");
    }
    // `cargo test --benches` only checks that the bench runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let times = if is_bench { 2_000_000 } else { 1_000 };
    table("pin and leave, nobody else", None, times, contenders!(pins));
    for micros in [100, 10, 1] {
        let rest = Duration::from_micros(micros);
        let title = format!("pin and leave, beside one who replaces every {micros} us");
        table(&title, Some(rest), times, contenders!(pins));
    }
    table(
        "replace and retire, beside a thread that runs",
        None,
        times / 20,
        contenders!(replacements),
    );
}
