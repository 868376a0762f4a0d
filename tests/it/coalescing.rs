//! One heavy call for many callers, with calls that count, that are slow, that fail, and that block.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Barrier};
use std::thread;

use asymfence::{Calls, Coalesce, heavy_fence, init, stats, try_heavy_fence};
use nix::sys::signal::{SigHandler, Signal, raise, signal};

use seccompiler::SeccompAction::Errno;
#[cfg(target_arch = "x86_64")]
use seccompiler::SeccompAction::Trap;
use seccompiler::apply_filter;

use crate::child::Child;
#[cfg(target_arch = "x86_64")]
use crate::child::end;
#[cfg(target_arch = "x86_64")]
use crate::filter::on_get_tsc;
use crate::filter::on_protection_too;
use crate::fork::in_fork;
use crate::{fences_hold, force_mprotect};

fn yield_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

#[test]
fn one_caller_makes_every_call_itself() {
    let shared = Coalesce::new();
    let calls = AtomicUsize::new(0);
    for _ in 0..100 {
        let count = || {
            calls.fetch_add(1, Relaxed);
            Ok(())
        };
        shared.run(count).expect("no failure");
    }
    assert_eq!(calls.load(Relaxed), 100);
    assert_eq!((shared.stats().calls, shared.stats().shared), (100, 0));
}

#[test]
fn a_failure_reaches_nobody_but_its_caller() {
    let failure = NonZeroU32::new(7).expect("not 0");
    let shared = Coalesce::new();
    let (round, failures) = (Barrier::new(8), AtomicUsize::new(0));
    let (shared, round, failures) = (&shared, &round, &failures);
    thread::scope(|scope| {
        for caller in 0..8 {
            scope.spawn(move || {
                for _ in 0..200 {
                    round.wait();
                    let fails = || {
                        failures.fetch_add(1, Relaxed);
                        Err(failure)
                    };
                    // A caller that shares relies on a call that succeeded, even if its own would have failed.
                    let outcome =
                        if caller < 4 { shared.run(fails) } else { shared.run(|| Ok(())) };
                    assert!(caller < 4 || outcome == Ok(()), "the failure of another");
                }
            });
        }
    });
    let Calls { asked, calls, shared, .. } = shared.stats();
    assert_eq!(asked, 8 * 200);
    assert_eq!(calls + shared, asked);
    assert!(failures.load(Relaxed) > 0);
}

/// A leader that is stopped in the middle of its call, for as long as `others` takes.
fn while_a_leader_is_stopped(shared: &Coalesce, others: impl FnOnce()) {
    let (leads, released) = (AtomicBool::new(false), AtomicBool::new(false));
    let (leads, released) = (&leads, &released);
    thread::scope(|scope| {
        scope.spawn(move || {
            let block = || {
                leads.store(true, SeqCst);
                yield_until(|| released.load(SeqCst));
                Ok(())
            };
            shared.run(block).expect("no failure");
        });
        yield_until(|| leads.load(SeqCst));
        others();
        released.store(true, SeqCst);
    });
}

#[test]
fn a_leader_that_is_stopped_hangs_nobody() {
    let shared = Coalesce::new();
    while_a_leader_is_stopped(&shared, || {
        assert_eq!(shared.run(|| Ok(())), Ok(()));
        // Another caller took the lead over and finished: nobody waits for the first leader any more.
        for calls in 3..100 {
            assert_eq!(shared.run(|| Ok(())), Ok(()));
            assert_eq!(shared.stats().calls, calls);
        }
    });
    // The leader has come back.
    assert_eq!(shared.run(|| Ok(())), Ok(()));
    assert_eq!(shared.stats().calls, 100);
    assert_eq!(shared.stats().shared, 0);
}

#[test]
fn a_child_forked_while_another_thread_leads_hangs_not() {
    Child::default().run(|| {
        let shared = Arc::new(Coalesce::new());
        while_a_leader_is_stopped(&shared, || {
            in_fork(|| {
                for _ in 0..10 {
                    assert_eq!(shared.run(|| Ok(())), Ok(()));
                }
            });
        });
    });
}

#[test]
fn a_handler_that_interrupts_the_leader_hangs_not() {
    static SHARED: Coalesce = Coalesce::new();
    static HANDLED: AtomicBool = AtomicBool::new(false);
    extern "C" fn fence_in_handler(_signal: nix::libc::c_int) {
        HANDLED.store(SHARED.run(|| Ok(())).is_ok(), Relaxed);
    }

    Child::default().run(|| {
        // SAFETY: the handler touches atomics, and yields.
        unsafe { signal(Signal::SIGUSR1, SigHandler::Handler(fence_in_handler)) }
            .expect("a handler");
        let interrupted = || {
            raise(Signal::SIGUSR1).expect("a signal to oneself");
            Ok(())
        };
        assert_eq!(SHARED.run(interrupted), Ok(()));
        assert!(HANDLED.load(Relaxed));
        assert_eq!(SHARED.stats().calls, 2);
    });
}

/// Sixteen callers at a time. A call lasts until all have come. Repeats until some have shared.
fn sixteen_share(shared: &Coalesce) {
    let before = shared.stats();
    let (round, asking, done) = (Barrier::new(16), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for turn in 1..=2_000 {
                    round.wait();
                    asking.fetch_add(1, SeqCst);
                    let slow = || {
                        yield_until(|| asking.load(SeqCst) >= 16 * turn);
                        Ok(())
                    };
                    shared.run(slow).expect("no failure");
                    if round.wait().is_leader() {
                        done.store(shared.stats().shared > before.shared + 16, SeqCst);
                    }
                    round.wait();
                    if done.load(SeqCst) {
                        break;
                    }
                }
            });
        }
    });
    assert!(done.load(SeqCst), "{:?}", shared.stats());
}

/// A panic releases the lead: nobody waits for it, and callers share as before.
#[test]
fn a_call_that_panics_leaves_the_lead_free() {
    let shared = Coalesce::new();
    for _ in 0..3 {
        sixteen_share(&shared);
        assert!(catch_unwind(AssertUnwindSafe(|| shared.run(|| panic!("on purpose")))).is_err());
        let before = shared.stats().calls;
        assert_eq!(shared.run(|| Ok(())), Ok(()));
        assert_eq!(shared.stats().calls, before + 1);
    }
    sixteen_share(&shared);
}

#[test]
fn a_call_that_panicked_serves_nobody() {
    let shared = &Coalesce::new();
    let (leads, asked) = (&AtomicBool::new(false), &AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(move || {
            let call = || {
                leads.store(true, SeqCst);
                yield_until(|| asked.load(SeqCst));
                panic!("on purpose");
            };
            assert!(catch_unwind(AssertUnwindSafe(|| shared.run(call))).is_err());
        });
        yield_until(|| leads.load(SeqCst));
        asked.store(true, SeqCst);
        let made = AtomicBool::new(false);
        let call = || {
            made.store(true, Relaxed);
            Ok(())
        };
        assert_eq!(shared.run(call), Ok(()));
        assert!(made.load(Relaxed), "a call that panicked was shared");
    });
}

#[test]
fn the_process_counts_its_heavy_fences() {
    Child::default().run(|| {
        init();
        let fences = || (0..1_000).for_each(|_| heavy_fence());
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(fences))));
        let stats = stats();
        assert_eq!(stats.heavy.asked, 4_000);
        assert_eq!(stats.heavy.asked, stats.heavy.calls + stats.heavy.shared);
        assert_eq!(stats.retries, 0);
    });
}

/// Four threads execute heavy fences until many calls were shared.
fn share_calls() {
    let stop = AtomicBool::new(false);
    let stop = &stop;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    heavy_fence();
                }
            });
        }
        // On a single core they hardly ever overlap.
        yield_until(|| stats().heavy.shared > 100 || stats().heavy.asked > 1_000_000);
        stop.store(true, Relaxed);
    });
    let Calls { asked, calls, shared, .. } = stats().heavy;
    assert_eq!(asked, calls + shared);
    fences_hold();
}

#[test]
fn the_fences_hold_where_calls_of_membarrier_are_shared() {
    Child::default().run(|| {
        share_calls();
    });
}

/// Forbids the time stamp counter to this thread and to those that it starts, as a defence against timing attacks does.
#[cfg(target_arch = "x86_64")]
fn forbid_the_clock() {
    use rustix::process::TimeStampCounterReadability::RaiseSIGSEGV;
    rustix::process::set_time_stamp_counter_readability(RaiseSIGSEGV).expect("x86");
}

/// A process that forbids the clock to itself.
#[cfg(target_arch = "x86_64")]
#[test]
fn callers_that_may_not_read_the_clock_share_all_the_same() {
    Child::default().run(|| {
        forbid_the_clock();
        init();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        heavy_fence();
                    }
                });
            }
            yield_until(|| stats().heavy.shared > 1_000 || stats().heavy.asked > 1_000_000);
            stop.store(true, Relaxed);
        });
        // At the end of a test the standard library reads the clock.
        end()
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_clock_that_is_forbidden_ends_who_reads_it() {
    let outcome = Child::default().outcome(|| {
        forbid_the_clock();
        // SAFETY: it is forbidden: the process ends by a signal.
        std::hint::black_box(unsafe { std::arch::x86_64::_rdtsc() });
    });
    outcome.was_ended_by(Signal::SIGSEGV);
}

/// A spawned thread forbids itself the clock. Then the caller calls `init`, and then the spawned thread waits for the
/// call of a third one.
#[cfg(target_arch = "x86_64")]
fn wait_without_the_clock() {
    let shared = Coalesce::new();
    let (forbidden, decided) = (AtomicBool::new(false), AtomicBool::new(false));
    while_a_leader_is_stopped(&shared, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                forbid_the_clock();
                forbidden.store(true, SeqCst);
                yield_until(|| decided.load(SeqCst));
                shared.run(|| Ok(())).expect("no failure");
            });
            yield_until(|| forbidden.load(SeqCst));
            init();
            decided.store(true, SeqCst);
        });
    });
    end()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn who_may_not_read_the_clock_and_did_not_decide_is_ended_where_it_waits() {
    for decided in ["first", "then"] {
        let outcome = Child::with("DECIDED", decided).outcome(|| {
            if std::env::var("DECIDED").as_deref() == Ok("first") {
                init();
            }
            wait_without_the_clock();
        });
        outcome.was_ended_by(Signal::SIGSEGV);
    }
}

/// The twin of the one before.
#[cfg(target_arch = "x86_64")]
#[test]
fn where_who_decides_may_not_read_the_clock_nobody_reads_it() {
    Child::default().run(|| {
        forbid_the_clock();
        wait_without_the_clock();
    });
}

/// A thread asks the kernel whether it may read the clock, and may. But it decides too late: another thread, to which
/// the clock is forbidden, has decided meanwhile.
#[cfg(target_arch = "x86_64")]
#[test]
fn who_comes_too_late_to_decide_does_not_say_that_the_clock_is_read() {
    use nix::libc;
    use nix::sys::signal::{SaFlags, SigAction, SigSet, sigaction};

    static ASKS: AtomicBool = AtomicBool::new(false);
    static DECIDED: AtomicBool = AtomicBool::new(false);

    extern "C" fn answer(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        ASKS.store(true, SeqCst);
        yield_until(|| DECIDED.load(SeqCst));
        // SAFETY: what the kernel gives such a handler.
        let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let place =
            std::ptr::with_exposed_provenance_mut(registers[libc::REG_RSI as usize] as usize);
        // SAFETY: where prctl(2) is to write the answer.
        unsafe { *place = libc::PR_TSC_ENABLE };
        registers[libc::REG_RAX as usize] = 0;
    }

    Child::default().run(|| {
        let handler = SigHandler::SigAction(answer);
        let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
        // SAFETY: the handler waits for another thread, and allocates nothing.
        unsafe { sigaction(Signal::SIGSYS, &action) }.expect("a handler");
        thread::scope(|scope| {
            let late = scope.spawn(|| {
                apply_filter(&on_get_tsc(Trap)).expect("seccomp");
                init();
            });
            yield_until(|| ASKS.load(SeqCst));
            assert_eq!(asymfence::strategy(), None);
            forbid_the_clock();
            init();
            DECIDED.store(true, SeqCst);
            late.join().expect("no panic");
        });
        wait_without_the_clock();
    });
}

#[test]
fn the_fences_hold_where_calls_of_mprotect_are_shared() {
    Child::default().run(|| {
        if force_mprotect() {
            share_calls();
        }
    });
}

#[test]
fn a_sandbox_around_one_thread_fails_no_heavy_fence_of_another() {
    Child::default().run(|| {
        init();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let filter = on_protection_too(Errno(nix::libc::EPERM as u32));
                apply_filter(&filter).expect("seccomp");
                // Sometimes it shares a call of the other thread, which succeeds.
                while !done.load(Relaxed) {
                    let _ = try_heavy_fence();
                }
            });
            for _ in 0..20_000 {
                try_heavy_fence().expect("no sandbox around this thread");
            }
            done.store(true, Relaxed);
        });
    });
}
