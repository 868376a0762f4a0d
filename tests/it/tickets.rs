//! Tickets on real cores, across forks, in signal handlers, and where heavy fences fail.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;

use asymfence::{
    Strategy, Ticket, force, heavy_fence, init, light_fence, stats, strategy, try_heavy_fence,
};
use nix::sys::signal::{SigHandler, Signal, raise, signal};
use seccompiler::SeccompAction::Errno;
use seccompiler::apply_filter_all_threads;

use crate::child::{Child, ledger};
use crate::filter::{on_every_rung, on_protection_too};
use crate::fork::in_fork;
use crate::litmus::{Shared, longest_pause, scatter, two_cores};
use crate::{force_mprotect, is_asymmetric};

/// Rounds in one go.
const PORTION: usize = 500;

/// Counts weak rounds of a reader's light fence against `ticket`, while a third thread executes one heavy fence after the
/// other.
fn weak_rounds(rounds: usize, ticket: impl Fn() + Sync) -> Option<usize> {
    let cores = ledger::on_two_cores(two_cores())?;
    let (mut scatter, shared) = (scatter(), Shared::default());
    let (stop, shared, ticket) = (AtomicBool::new(false), &shared, &ticket);
    let weak = thread::scope(|scope| {
        scope.spawn(|| {
            core_affinity::set_for_current(cores[1]);
            while !stop.load(Relaxed) {
                heavy_fence();
                thread::yield_now();
            }
        });
        let mut weak = 0;
        for first in (1..rounds).step_by(PORTION) {
            let rounds = first as u64..(first + PORTION) as u64;
            let (of_reader, of_holder) = (rounds.clone(), rounds);
            let scatter = &mut scatter;
            let missed = thread::scope(|scope| {
                let reader = scope.spawn(move || {
                    let pause = longest_pause(true);
                    shared.rounds(0, cores[0], light_fence, Some(scatter), pause, of_reader)
                });
                let holder = scope.spawn(move || {
                    shared.rounds(1, cores[1], ticket, None, longest_pause(false), of_holder)
                });
                [reader, holder].map(|side| side.join().expect("no panic"))
            });
            weak += missed[0].iter().zip(&missed[1]).filter(|(a, b)| **a && **b).count();
        }
        stop.store(true, Relaxed);
        weak
    });
    Some(weak)
}

fn until_served() {
    let ticket = Ticket::now();
    while !ticket.is_served() {
        thread::yield_now();
    }
}

fn another_thread_serves() {
    let before = stats().heavy;
    if let Some(weak) = weak_rounds(4 * PORTION, until_served) {
        assert_eq!(weak, 0, "a ticket was served too early");
    }
    assert_eq!(stats().heavy.shared, before.shared, "nobody shared a call");
}

#[test]
fn a_ticket_that_another_thread_serves_orders() {
    Child::default().run(|| {
        init();
        another_thread_serves();
    });
}

#[test]
fn a_ticket_that_another_thread_serves_by_mprotect_orders() {
    Child::default().run(|| {
        if force_mprotect() {
            another_thread_serves();
        }
    });
}

#[test]
fn a_ticket_that_is_not_served_orders_nothing() {
    Child::default().run(|| {
        if !is_asymmetric() || ledger::on_two_cores(two_cores()).is_none() {
            return;
        }
        let weak = |_| weak_rounds(PORTION, || _ = Ticket::now()) != Some(0);
        assert!((0..500).any(weak), "the test above has no teeth");
    });
}

#[test]
fn a_wait_makes_a_call_only_if_the_ticket_is_not_served() {
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        let ticket = Ticket::now();
        assert!(!ticket.is_served());
        ticket.wait();
        assert!(ticket.is_served());
        let calls = stats().heavy.calls;
        let later = [Ticket::now(), Ticket::now()];
        ticket.wait();
        assert_eq!(stats().heavy.calls, calls);
        assert_eq!(later.map(Ticket::is_served), [false; 2]);
        later[0].wait();
        later[1].wait();
        assert_eq!(stats().heavy.calls, calls + 1, "one call serves both");
    });
}

#[test]
fn a_ticket_of_a_symmetric_process_is_served() {
    Child::default().run(|| {
        force(Strategy::Symmetric).expect("nothing was decided before");
        let ticket = Ticket::now();
        assert!(ticket.is_served());
        ticket.wait();
        assert_eq!(stats().heavy.asked, 0);
    });
}

#[test]
fn a_ticket_of_before_the_decision_waits_for_a_heavy_fence() {
    Child::default().run(|| {
        let ticket = Ticket::now();
        assert!(!ticket.is_served());
        assert_eq!(strategy(), None, "a ticket decides nothing");
        ticket.wait();
        assert!(ticket.is_served());
    });
}

/// Forks many children while another thread fences. Only a child's own fences serve its tickets.
#[test]
fn a_forked_child_serves_its_own_tickets() {
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    heavy_fence();
                }
            });
            for _ in 0..300 {
                in_fork(|| {
                    for _ in 0..3 {
                        let ticket = Ticket::now();
                        assert!(!ticket.is_served(), "served by a call of the parent");
                        ticket.wait();
                        assert!(ticket.is_served());
                    }
                });
            }
            stop.store(true, Relaxed);
        });
        let ticket = Ticket::now();
        in_fork(|| {
            assert!(!ticket.is_served());
            ticket.wait();
            assert!(ticket.is_served());
        });
        assert!(!ticket.is_served(), "served by a call of the child");
    });
}

#[test]
fn a_handler_takes_tickets_while_its_thread_fences() {
    static HANDLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn ticket_in_handler(_signal: nix::libc::c_int) {
        let ticket = Ticket::now();
        let early = ticket.is_served();
        if !early && ticket.try_wait().is_ok() && ticket.is_served() {
            HANDLED.fetch_add(1, Relaxed);
        }
    }
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        // SAFETY: a decided process's tickets and fences are async-signal-safe, and so are atomics.
        unsafe { signal(Signal::SIGUSR1, SigHandler::Handler(ticket_in_handler)) }
            .expect("a handler");
        // In the middle of a call of another `Coalesce`, which serves no ticket.
        let shared = asymfence::Coalesce::new();
        let interrupted = || {
            raise(Signal::SIGUSR1).expect("a signal to oneself");
            Ok(())
        };
        for _ in 0..100 {
            shared.run(interrupted).expect("no failure");
        }
        assert_eq!(HANDLED.load(Relaxed), 100);
    });
}

#[test]
fn a_heavy_fence_that_fails_serves_nobody() {
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        let ticket = Ticket::now();
        let errno = Errno(nix::libc::EPERM as u32);
        apply_filter_all_threads(&on_every_rung(errno.clone())).expect("seccomp");
        apply_filter_all_threads(&on_protection_too(errno)).expect("seccomp");
        let error = try_heavy_fence().expect_err("the sandbox refuses");
        assert!(!ticket.is_served());
        assert_eq!(ticket.try_wait(), Err(error));
        assert!(!ticket.is_served());
    });
}

#[test]
fn waiting_for_a_ticket_aborts_where_a_heavy_fence_does() {
    let outcome = Child::default().outcome(|| {
        if !is_asymmetric() {
            std::process::abort();
        }
        let ticket = Ticket::now();
        let errno = Errno(nix::libc::EPERM as u32);
        apply_filter_all_threads(&on_every_rung(errno.clone())).expect("seccomp");
        apply_filter_all_threads(&on_protection_too(errno)).expect("seccomp");
        ticket.wait();
    });
    outcome.aborted_saying(&[]);
}
