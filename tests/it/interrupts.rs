//! Each heavy fence interrupts a sibling that runs. A rung that is slow and reaches no other thread would pass most
//! litmus tests. The kernel's counters of interrupts show the difference.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, fence};
use std::thread;
use std::time::{Duration, Instant};

use asymfence::{heavy_fence, init};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::child::Child;
use crate::force_mprotect;

/// How many interrupts of this kind, named as in `/proc/interrupts`, all processors have counted.
fn interrupts(kind: &str) -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/interrupts").ok()?;
    let line = counters.lines().find(|line| line.trim_end().ends_with(kind))?;
    let counts = line.split_whitespace().skip(1);
    Some(counts.map_while(|count| count.parse::<u64>().ok()).sum())
}

/// What was counted while a thread of this process ran on another core.
struct Go {
    interrupts: u64,
    /// Whether that thread ran nearly all the time. The machine may be busy with something else.
    sibling_ran: bool,
}

/// Of this thread.
fn processor_time() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_THREAD).expect("a measure");
    Duration::from_micros((used.user_time() + used.system_time()).num_microseconds() as u64)
}

/// How many interrupts `work` causes. `None` where there is no other core, or no such counter.
fn caused_by(kind: &str, work: impl FnOnce() + Send) -> Option<Go> {
    let cores = core_affinity::get_core_ids()?;
    let (mine, siblings) = (*cores.first()?, *cores.get(1)?);
    interrupts(kind)?;
    let (running, stop) = (&AtomicBool::new(false), &AtomicBool::new(false));
    thread::scope(|scope| {
        let sibling = scope.spawn(move || {
            core_affinity::set_for_current(siblings);
            let (began, used) = (Instant::now(), processor_time());
            while !stop.load(Relaxed) {
                running.store(true, Relaxed);
            }
            (processor_time() - used).as_secs_f64() > 0.9 * began.elapsed().as_secs_f64()
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
        let interrupts = worker.join().expect("no panic")?;
        let sibling_ran = sibling.join().expect("no panic");
        Some(Go { interrupts, sibling_ran })
    })
}

/// Fences in one go, and the number of goes in which the sibling may fail to run because the machine is busy.
const TIMES: u64 = 4_000;
const GOES: u32 = 200;

/// The most interrupts of a go, how long each fence of that go took, and whether the sibling ran in any.
fn most(kind: &str, fence: impl Fn() + Sync, goes: u32) -> Option<(u64, Duration, bool)> {
    let (mut most, mut sibling_ran) = ((0, Duration::ZERO), false);
    for _ in 0..goes {
        if most.0 > TIMES / 2 {
            break;
        }
        let mut took = Duration::ZERO;
        let caused = caused_by(kind, || {
            let start = Instant::now();
            (0..TIMES).for_each(|_| fence());
            took = start.elapsed() / TIMES as u32;
        })?;
        most = most.max((caused.interrupts, took));
        sibling_ran |= caused.sibling_ran;
    }
    Some((most.0, most.1, sibling_ran))
}

#[track_caller]
fn each_heavy_fence_interrupts(kind: &str) {
    let Some((caused, took, sibling_ran)) = most(kind, heavy_fence, GOES) else {
        let why = format!("no other core, or no counter of {kind} in /proc/interrupts");
        return crate::ledger::skipped("two cores", why);
    };
    if caused <= TIMES / 2 && !sibling_ran {
        return crate::ledger::skipped("two cores", "something else keeps the other one busy");
    }
    assert!(caused > TIMES / 2, "{caused} {kind} by {TIMES} heavy fences");

    // The twin: a call that takes as long, and is a full fence of its caller alone, causes none.
    let decoy = || {
        let start = Instant::now();
        fence(SeqCst);
        while start.elapsed() < took {
            std::hint::spin_loop();
        }
        fence(SeqCst);
    };
    // The counters are those of the whole machine. In some go no other process causes interrupts.
    let mut goes = (0..GOES).filter_map(|_| caused_by(kind, || (0..TIMES).for_each(|_| decoy())));
    assert!(goes.any(|go| go.interrupts < TIMES / 4), "{kind} by {TIMES} decoys of {took:?}");
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
