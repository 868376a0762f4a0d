//! Each heavy fence interrupts a sibling that runs. A rung that is slow and reaches no other thread would pass most
//! litmus tests. The kernel's counters of interrupts show the difference.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};
use std::thread;
use std::time::{Duration, Instant};

use asymfence::{heavy_fence, init};

use crate::child::Child;
use crate::force_mprotect;

/// How many interrupts of this kind, named as in `/proc/interrupts`, all processors have counted.
pub(crate) fn interrupts(kind: &str) -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/interrupts").ok()?;
    let line = counters.lines().find(|line| line.trim_end().ends_with(kind))?;
    let counts = line.split_whitespace().skip(1);
    Some(counts.map_while(|count| count.parse::<u64>().ok()).sum())
}

/// How many calls a go makes (few, so that it is over before another process interrupts much), and how many goes there
/// are at most.
const CALLS: u64 = 400;
const GOES: u32 = 200;

/// How many interrupts a go causes, and how long a call took. A go is `CALLS` calls, each made while a thread of this
/// process runs on another core. `None` where there is no other core, or no such counter.
fn go(kind: &str, call: impl Fn() + Send) -> Option<(u64, Duration)> {
    let cores = core_affinity::get_core_ids()?;
    let (mine, siblings) = (*cores.first()?, *cores.get(1)?);
    interrupts(kind)?;
    let (progress, stop) = (&AtomicU64::new(0), &AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(move || {
            core_affinity::set_for_current(siblings);
            while !stop.load(Relaxed) {
                progress.fetch_add(1, Relaxed);
            }
        });
        let worker = scope.spawn(move || {
            core_affinity::set_for_current(mine);
            let before = interrupts(kind);
            let mut took = Duration::ZERO;
            for _ in 0..CALLS {
                // On a busy machine the sibling waits for its core. That it goes on shows that it runs now.
                let seen = progress.load(Relaxed);
                while progress.load(Relaxed) == seen {
                    std::hint::spin_loop();
                }
                let start = Instant::now();
                call();
                took += start.elapsed();
            }
            let after = interrupts(kind);
            stop.store(true, Relaxed);
            Some((after?.checked_sub(before?)?, took / CALLS as u32))
        });
        worker.join().expect("no panic")
    })
}

/// The counters are the machine's. A go in which no other process interrupts much shows what `call` does.
fn is_ever_quiet(kind: &str, call: impl Fn() + Send + Sync) -> bool {
    (0..GOES).filter_map(|_| go(kind, &call)).any(|(interrupts, _)| interrupts < CALLS / 4)
}

#[track_caller]
fn each_heavy_fence_interrupts(kind: &str) {
    let Some((caused, took)) = go(kind, heavy_fence) else {
        let why = format!("no other core, or no counter of {kind} in /proc/interrupts");
        return crate::ledger::skipped("two cores", why);
    };
    assert!(caused > CALLS / 2, "{caused} {kind} by {CALLS} heavy fences");

    // The twin: a call that takes as long, and is a full fence of its caller alone, causes none.
    let decoy = || {
        let start = Instant::now();
        fence(SeqCst);
        while start.elapsed() < took {
            std::hint::spin_loop();
        }
        fence(SeqCst);
    };
    if !is_ever_quiet(kind, decoy) {
        assert!(!is_ever_quiet(kind, || ()), "{kind} by {CALLS} decoys of {took:?}");
        crate::ledger::skipped("quiet counters", format!("others cause {kind} without a pause"));
    }
}

#[test]
fn membarrier_interrupts_a_running_sibling() {
    Child::default().run(|| {
        init();
        each_heavy_fence_interrupts("Function call interrupts");
    });
}

#[test]
fn mprotect_interrupts_a_running_sibling() {
    Child::default().run(|| {
        if force_mprotect() {
            each_heavy_fence_interrupts("TLB shootdowns");
        }
    });
}
