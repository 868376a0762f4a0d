//! Each heavy fence interrupts a sibling that runs. A rung that takes its time and reaches nobody
//! would pass most litmus tests; the kernel's counters tell.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use asymfence::{heavy_fence, init};

use crate::child::Child;
use crate::force_mprotect;

/// How many interrupts of this kind, named as in `/proc/interrupts`, all processors have counted.
fn interrupts(kind: &str) -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/interrupts").ok()?;
    let line = counters.lines().find(|line| line.trim_end().ends_with(kind))?;
    let counts = line.split_whitespace().skip(1);
    Some(counts.map_while(|count| count.parse::<u64>().ok()).sum())
}

/// How many interrupts `work` causes while a thread of this process runs on another core. `None`
/// where there is no other core, or no such counter.
fn caused_by(kind: &str, work: impl FnOnce() + Send) -> Option<u64> {
    let cores = core_affinity::get_core_ids()?;
    let (mine, siblings) = (*cores.first()?, *cores.get(1)?);
    interrupts(kind)?;
    let (running, stop) = (&AtomicBool::new(false), &AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(move || {
            core_affinity::set_for_current(siblings);
            while !stop.load(Relaxed) {
                running.store(true, Relaxed);
            }
        });
        let worker = scope.spawn(move || {
            core_affinity::set_for_current(mine);
            while !running.load(Relaxed) {
                thread::yield_now();
            }
            let before = interrupts(kind);
            work();
            let after = interrupts(kind);
            stop.store(true, Relaxed);
            after?.checked_sub(before?)
        });
        worker.join().expect("no panic")
    })
}

const TIMES: u64 = 4_000;

#[track_caller]
fn each_heavy_fence_interrupts(kind: &str) {
    let fences = || (0..TIMES).for_each(|_| heavy_fence());
    let Some(caused) = caused_by(kind, fences) else {
        println!("no other core, or no counter of {kind}");
        return;
    };
    assert!(caused > TIMES / 2, "{caused} {kind} by {TIMES} heavy fences");

    // The twin: full fences cause none.
    let fences =
        || (0..TIMES).for_each(|_| std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst));
    let caused = caused_by(kind, fences).expect("a counter, as before");
    assert!(caused < TIMES / 4, "{caused} {kind} by {TIMES} full fences");
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
