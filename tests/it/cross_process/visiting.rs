//! A process that registers while a processor idles on which it has run, and then returns to that processor.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use asymfence::cross_process::Mode;
use asymfence::membarrier::{GlobalExpedited, global_expedited, register};
use core_affinity::set_for_current;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use seccompiler::SeccompAction::{Errno, KillProcess};
use seccompiler::apply_filter;

use super::{Segment, attach, attach_asymmetric, create};
use crate::child::{Child, DONE, end, ledger};
use crate::filter::on_affinity;
use crate::fork::in_fork;
use crate::interrupts::interrupts;
use crate::litmus::two_cores;
use crate::memory::{Atomics, Memory};

#[repr(C)]
struct Progress(AtomicU64);

// SAFETY: an atomic integer.
unsafe impl Atomics for Progress {}

const CALLS: u64 = 200;
const ATTEMPTS: u32 = 20;
const KIND: &str = "Function call interrupts";

/// How many interrupts so many global heavy fences cause, each made while a process runs on the second core. That
/// process has run there before, and `registers` on the first core meanwhile. `None` where there is no such core or
/// counter.
fn interrupts_by(segment: &Segment<'_, Progress>, registers: impl FnOnce()) -> Option<u64> {
    let [mine, other] = two_cores()?;
    interrupts(KIND)?;
    let progress = &segment.data.0;
    let now = progress.load(Relaxed);
    // SAFETY: the child takes no lock that a thread of the parent may hold: the harness's other thread waits.
    let peer = match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            set_for_current(other);
            for _ in 0..100_000 {
                std::hint::spin_loop();
            }
            set_for_current(mine);
            registers();
            set_for_current(other);
            while progress.fetch_add(1, Relaxed) < u64::MAX / 2 {}
            end();
        }
    };
    set_for_current(mine);
    while progress.load(Relaxed) == now {
        std::thread::yield_now();
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
    progress.store(u64::MAX / 2, Relaxed);
    assert_eq!(waitpid(peer, None), Ok(WaitStatus::Exited(peer, DONE)));
    progress.store(0, Relaxed);
    caused
}

#[test]
fn a_participant_that_returns_to_an_idle_processor_is_reached() {
    Child::default().run(|| {
        let memory = Memory::new::<Progress>().expect("a memfd");
        let segment = Segment::of(&memory);
        // Not by this process: a forked child would have the registration from its start.
        in_fork(|| create(segment.header, Mode::Asymmetric).expect("asymmetric"));
        for _ in 0..ATTEMPTS {
            let attaches = || std::mem::forget(attach_asymmetric(segment.header));
            let Some(caused) = interrupts_by(&segment, attaches) else {
                return ledger::skipped("two cores", format!("or a counter of {KIND}"));
            };
            assert!(caused > CALLS / 2, "{caused} {KIND} by {CALLS} heavy fences");
        }
        // The twin: the registration alone is not enough. Other processes may visit the processor, on a busy machine.
        let registers = || {
            register::<GlobalExpedited>().expect("registered");
        };
        let misses = |caused: Option<u64>| caused.is_some_and(|caused| caused < CALLS / 4);
        if !(0..10 * ATTEMPTS).any(|_| misses(interrupts_by(&segment, registers))) {
            ledger::skipped("an idle processor", "every one was visited by other processes");
        }
    });
}

#[test]
fn where_the_processors_cannot_be_visited_a_process_is_refused_and_told_why() {
    for (answer, words) in [(Errno(libc::EPERM as u32), "EPERM"), (KillProcess, "no kernel gives")]
    {
        Child::default().run(|| {
            let memory = Memory::new::<Progress>().expect("a memfd");
            let header = Segment::<'_, Progress>::of(&memory).header;
            in_fork(|| create(header, Mode::Asymmetric).expect("asymmetric"));
            apply_filter(&on_affinity(answer.clone())).expect("the filter is accepted");
            let error = attach(header).expect_err("refused").to_string();
            for word in ["sched_setaffinity to each processor", words, "sandbox", "symmetric"] {
                assert!(error.contains(word), "{error}");
            }
            end();
        });
    }
}
