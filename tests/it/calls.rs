//! Which system calls functions make: none, or membarrier(2) alone. They run in a child whose filter kills it for every
//! other call except exit.

use nix::libc::{SYS_exit_group, SYS_membarrier, c_long};
use nix::sys::signal::Signal;
use seccompiler::apply_filter;

use asymfence::{
    Asymmetric, Strategy, force, heavy_fence, init, ladder, light_fence, stats, strategy,
};

use crate::child::{Child, cannot_run, end};
use crate::filter::on_all_calls_but;

/// The calls that are allowed, for this thread.
fn allow(calls: &[c_long]) {
    apply_filter(&on_all_calls_but(calls)).expect("the filter is accepted");
}

#[test]
fn a_light_fence_makes_no_system_call_before_the_decision() {
    Child::default().run(|| {
        allow(&[SYS_exit_group]);
        (0..100).for_each(|_| light_fence());
        if strategy().is_some() {
            return; // the end of the process makes other calls, which kill
        }
        end();
    });
}

#[test]
fn no_light_fence_and_no_report_makes_a_system_call_after_it() {
    Child::default().run(|| {
        init();
        let proof = Asymmetric::new();
        allow(&[SYS_exit_group]);
        for _ in 0..100 {
            light_fence();
            if let Ok(proof) = proof {
                proof.light_fence();
            }
            _ = (strategy(), stats(), ladder().count());
        }
        end();
    });
}

#[test]
fn the_symmetric_strategy_is_chosen_and_fences_without_a_system_call() {
    Child::default().run(|| {
        allow(&[SYS_exit_group]);
        if force(Strategy::Symmetric).is_ok() {
            (0..100).for_each(|_| heavy_fence());
            end();
        }
    });
}

#[test]
fn a_heavy_fence_makes_calls_of_membarrier_alone() {
    Child::default().run(|| {
        init();
        if strategy().map(Strategy::name) != Some("private-expedited") {
            cannot_run("private-expedited rung", "the process has another strategy");
        }
        allow(&[SYS_exit_group, SYS_membarrier]);
        (0..100).for_each(|_| heavy_fence());
        end();
    });
}

/// The twin of all of them: the filter does kill, here for a heavy fence.
#[test]
fn a_heavy_fence_makes_a_system_call() {
    let outcome = Child::default().outcome(|| {
        if init() == Strategy::Symmetric {
            cannot_run("a rung", "the process is symmetric");
        }
        allow(&[SYS_exit_group]);
        heavy_fence();
        end();
    });
    outcome.was_ended_by(Signal::SIGSYS);
}
