//! Why the fences between processes do not use GLOBAL_EXPEDITED: it passes over a process that has registered.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use asymfence::membarrier::{GlobalExpedited, global_expedited, register};
use core_affinity::{CoreId, set_for_current};
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::Segment;
use crate::child::{Child, DONE, end, ledger};
use crate::fork::in_fork;
use crate::interrupts::interrupts;
use crate::litmus::two_cores;
use crate::memory::{Atomics, Memory};

#[repr(C)]
struct Progress(AtomicU64);

// SAFETY: an atomic integer.
unsafe impl Atomics for Progress {}

const CALLS: u64 = 50;
const ATTEMPTS: u32 = 50;
const KIND: &str = "Function call interrupts";
const STOP: u64 = u64::MAX / 2;

/// Real-time threads of the same processor run one after the other, the one of the highest priority first. False if
/// that is not allowed.
fn runs_first(priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: a valid parameter.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}

/// Lets a process with other memory run on that processor. So the kernel renews the processor's copy of the
/// registration when the registered process comes there.
fn visit(processor: CoreId) {
    in_fork(|| assert!(set_for_current(processor)));
}

/// How many interrupts so many calls cause, each made while a registered process runs on the second core. `prepares`
/// registers, and brings that process there. `None` where there is no such core or counter.
fn interrupts_by(progress: &AtomicU64, prepares: impl FnOnce([CoreId; 2])) -> Option<u64> {
    let cores = two_cores()?;
    interrupts(KIND)?;
    progress.store(0, Relaxed);
    // SAFETY: the child takes no lock that a thread of the parent may hold: the harness's other thread waits.
    let peer = match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            prepares(cores);
            while progress.fetch_add(1, Relaxed) < STOP {}
            end();
        }
    };
    set_for_current(cores[0]);
    while progress.load(Relaxed) == 0 {
        thread::yield_now();
    }
    let before = interrupts(KIND)?;
    for _ in 0..CALLS {
        let seen = progress.load(Relaxed);
        while progress.load(Relaxed) == seen {
            std::hint::spin_loop();
        }
        global_expedited().expect("the call");
    }
    let caused = interrupts(KIND)?.checked_sub(before);
    progress.store(STOP, Relaxed);
    assert_eq!(waitpid(peer, None), Ok(WaitStatus::Exited(peer, DONE)));
    caused
}

fn registers() {
    register::<GlobalExpedited>().expect("registered");
}

/// Requires that in some attempt hardly any call interrupts the process, or records that this kernel is better.
#[track_caller]
fn is_passed_over(progress: &AtomicU64, prepares: impl Fn([CoreId; 2])) {
    if two_cores().is_none() || interrupts(KIND).is_none() {
        return ledger::skipped("two cores", format!("no other core, or no counter of {KIND}"));
    }
    let misses = |_| interrupts_by(progress, &prepares).is_some_and(|caused| caused < CALLS / 4);
    if !(0..ATTEMPTS).any(misses) {
        ledger::skipped("GLOBAL_EXPEDITED that misses a process", "every call reached it here");
    }
}

/// When a thread ends, the kernel marks its processor as running no registered process, and does not take that back
/// when another thread of the same process runs there next.
#[test]
fn a_registered_process_one_of_whose_threads_ends_is_passed_over() {
    Child::default().run(|| {
        let memory = Memory::new::<Progress>().expect("a memfd");
        let progress = &Segment::<Progress>::of(&memory).data.0;
        in_fork(|| {
            if !runs_first(1) {
                ledger::skipped("real-time scheduling", std::io::Error::last_os_error());
                end();
            }
        });
        is_passed_over(progress, |[mine, other]| {
            set_for_current(mine);
            registers();
            visit(other);
            static IS_THERE: AtomicU64 = AtomicU64::new(0);
            let ends = thread::spawn(move || {
                runs_first(50);
                set_for_current(other);
                IS_THERE.store(1, Relaxed);
                for _ in 0..100_000 {
                    std::hint::spin_loop();
                }
            });
            while IS_THERE.load(Relaxed) == 0 {
                std::hint::spin_loop();
            }
            // Waits there until that thread has ended.
            runs_first(40);
            set_for_current(other);
            drop(ends);
        });
        // The twin: no thread ends.
        let caused = interrupts_by(progress, |[mine, other]| {
            set_for_current(mine);
            registers();
            visit(other);
            runs_first(40);
            set_for_current(other);
        });
        assert!(caused.is_none_or(|caused| caused >= CALLS / 2), "{caused:?}");
    });
}
