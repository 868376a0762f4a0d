//! One heavy call for many callers, with calls that count, that are slow, that fail, and that block.

use std::num::NonZeroU32;
use std::panic::catch_unwind;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Barrier};
use std::thread;

use asymfence::{Calls, Coalesce, heavy_fence, init, stats, try_heavy_fence};
use nix::sys::signal::{SigHandler, Signal, raise, signal};

use seccompiler::SeccompAction::Errno;
use seccompiler::apply_filter;

use crate::child::Child;
use crate::filter::on_protection_too;
use crate::fork::in_fork;
use crate::{fences_hold, force_mprotect};

/// Enough to wait for any call of these tests.
const FOR_EVER: u32 = u32::MAX;

fn yield_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

#[test]
fn sixteen_callers_of_a_slow_call_need_a_fifth_of_a_call_each() {
    const FENCES: usize = 50;
    let shared = Coalesce::new();
    let (round, asking) = (Barrier::new(16), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for turn in 1..=FENCES {
                    round.wait();
                    asking.fetch_add(1, SeqCst);
                    // A call lasts until every caller of this round has come.
                    let slow = || {
                        yield_until(|| asking.load(SeqCst) == 16 * turn);
                        Ok(())
                    };
                    shared.run(FOR_EVER, slow).expect("no failure");
                }
            });
        }
    });
    let stats = shared.stats();
    assert_eq!(stats.asked, 16 * FENCES);
    assert_eq!(stats.asked, stats.calls + stats.shared);
    assert!(stats.calls * 5 <= stats.asked, "{stats:?}");
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
        shared.run(FOR_EVER, count).expect("no failure");
    }
    assert_eq!(calls.load(Relaxed), 100);
    assert_eq!((shared.stats().calls, shared.stats().shared), (100, 0));
}

#[test]
fn a_failure_reaches_those_who_share() {
    let failure = NonZeroU32::new(7).expect("not 0");
    let shared = Coalesce::new();
    while shared.stats().shared == 0 {
        let (waiting, released) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (shared, waiting, released) = (&shared, &waiting, &released);
        thread::scope(|scope| {
            scope.spawn(move || {
                let block = || {
                    yield_until(|| released.load(Relaxed));
                    Ok(())
                };
                assert_eq!(shared.run(FOR_EVER, block), Ok(()));
            });
            for _ in 0..8 {
                scope.spawn(move || {
                    waiting.fetch_add(1, Relaxed);
                    let outcome = shared.run(FOR_EVER, || Err(failure));
                    // Whoever came before the first call started may share that.
                    assert!(outcome == Err(failure) || shared.stats().shared > 0);
                });
            }
            yield_until(|| waiting.load(Relaxed) == 8);
            (0..100).for_each(|_| thread::yield_now());
            released.store(true, Relaxed);
        });
    }
    // A later success is not taken for the old failure.
    assert_eq!(shared.run(FOR_EVER, || Ok(())), Ok(()));
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
            shared.run(FOR_EVER, block).expect("no failure");
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
        assert_eq!(shared.run(100, || Ok(())), Ok(()));
        // Once somebody has given up on the leader, nobody waits for it.
        assert_eq!(shared.run(FOR_EVER, || Ok(())), Ok(()));
        assert_eq!(shared.stats().calls, 2);
    });
    assert_eq!(shared.stats().calls, 3);
    // The leader has come back: calls are shared as before.
    assert_eq!(shared.run(FOR_EVER, || Ok(())), Ok(()));
    assert_eq!(shared.stats().shared, 0);
}

#[test]
fn a_child_forked_while_another_thread_leads_hangs_not() {
    Child::default().run(|| {
        let shared = Arc::new(Coalesce::new());
        while_a_leader_is_stopped(&shared, || {
            in_fork(|| {
                for _ in 0..10 {
                    assert_eq!(shared.run(100, || Ok(())), Ok(()));
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
        HANDLED.store(SHARED.run(100, || Ok(())).is_ok(), Relaxed);
    }

    Child::default().run(|| {
        // SAFETY: the handler touches atomics, and yields.
        unsafe { signal(Signal::SIGUSR1, SigHandler::Handler(fence_in_handler)) }
            .expect("a handler");
        let interrupted = || {
            raise(Signal::SIGUSR1).expect("a signal to oneself");
            Ok(())
        };
        assert_eq!(SHARED.run(100, interrupted), Ok(()));
        assert!(HANDLED.load(Relaxed));
        assert_eq!(SHARED.stats().calls, 2);
    });
}

/// What a panic in the call must not do is leave the lead taken for ever: others give up on it.
#[test]
fn a_call_that_panics_hangs_nobody() {
    let shared = Coalesce::new();
    let panicked = catch_unwind(|| shared.run(100, || panic!("on purpose")));
    assert!(panicked.is_err());
    assert_eq!(shared.run(100, || Ok(())), Ok(()));
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

/// Heavy fences by four threads, until many calls were shared.
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
        // On a single core they hardly ever meet.
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
                // At times it shares a call of the other's, which succeeds.
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
