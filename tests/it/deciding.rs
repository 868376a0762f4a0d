//! The decision: the first caller makes it, and nothing changes it.

use std::sync::{Arc, Barrier};
use std::thread;

use asymfence::{
    Asymmetric, ForceError, Strategy, Verdict, force, heavy_fence, init, ladder, light_fence,
    strategy, try_heavy_fence,
};

use crate::child::{Child, needs_procfs};
use crate::filter::on_membarrier;
use crate::ledger;
use crate::litmus::{Fence, Litmus};
use crate::{fences_hold, force_mprotect, mprotect_is_refused, rung, verdict};

#[test]
fn nothing_is_decided_until_somebody_asks() {
    Child::default().run(|| {
        light_fence();
        assert_eq!(strategy(), None);
        assert!(ladder().all(|rung| rung.verdict == Verdict::NotTried));
        heavy_fence();
        assert!(strategy().is_some());
    });
}

#[test]
fn private_expedited_is_taken_and_holds() {
    Child::default().run(|| {
        assert_eq!(rung("private-expedited").map(Strategy::Asymmetric), Some(init()));
        assert_eq!(verdict("private-expedited"), Some(Verdict::Taken));
        assert_eq!(verdict("symmetric"), Some(Verdict::NotTried));
        assert!(Asymmetric::new().is_ok());
        fences_hold();
    });
}

#[test]
fn mprotect_can_be_forced_and_holds_or_is_refused_and_decides_nothing() {
    Child::default().run(|| {
        if force_mprotect() {
            assert_eq!(verdict("mprotect"), Some(Verdict::Taken));
            fences_hold();
        } else {
            assert!(mprotect_is_refused());
            assert_eq!(strategy(), None);
        }
    });
}

#[test]
fn symmetric_can_be_forced_and_holds() {
    Child::default().run(|| {
        force(Strategy::Symmetric).expect("nothing was decided before");
        assert_eq!(init(), Strategy::Symmetric);
        let error = Asymmetric::new().expect_err("no proof of what is not so");
        assert_eq!(error.to_string(), "the fences of this process are symmetric");
        fences_hold();
    });
}

#[test]
fn a_decision_cannot_be_changed() {
    Child::default().run(|| {
        let decided = init();
        assert_eq!(force(decided), Ok(()));
        let Err(ForceError::AlreadyCommitted(error)) = force(Strategy::Symmetric) else {
            panic!("two decisions in one process");
        };
        assert_eq!(error.committed(), decided);
        assert!(error.to_string().contains("private-expedited"), "{error}");
        assert_eq!(strategy(), Some(decided));
    });
}

#[test]
fn many_threads_decide_once() {
    Child::default().run(|| {
        let start = Barrier::new(16);
        let decisions: Vec<_> = thread::scope(|scope| {
            let deciders: Vec<_> = (0..16)
                .map(|i| {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        match i % 4 {
                            0 => drop(force(Strategy::Symmetric)),
                            1 => heavy_fence(),
                            _ => light_fence(),
                        }
                        init()
                    })
                })
                .collect();
            deciders.into_iter().map(|decider| decider.join().expect("no panic")).collect()
        });
        assert!(decisions.iter().all(|&decision| Some(decision) == strategy()), "{decisions:?}");
    });
}

#[test]
fn one_thread_in_a_sandbox_decides_with_the_others() {
    Child::default().run(|| {
        needs_procfs();
        let filter = on_membarrier(seccompiler::SeccompAction::Errno(nix::libc::EPERM as u32));
        let decided_here = Arc::new(Barrier::new(2));
        let decided_there = Arc::clone(&decided_here);
        // A filter is a thread's own unless it asks otherwise.
        let sandboxed = thread::spawn(move || {
            seccompiler::apply_filter(&filter).expect("the filter is accepted");
            decided_here.wait();
            (init(), try_heavy_fence())
        });
        let decided = init();
        decided_there.wait();
        let (seen, fenced) = sandboxed.join().expect("no panic");
        assert_eq!(seen, decided, "the decision is the process's");
        match fenced {
            // By mprotect: the light fences of all threads are compiler barriers already.
            Ok(()) => assert!(!mprotect_is_refused()),
            Err(error) => {
                assert_eq!(error.failure().errno(), nix::libc::EPERM);
                assert!(mprotect_is_refused());
            }
        }
        fences_hold(); // the other threads' heavy fences are not affected
    });
}

/// Real fences across the decision, which falls into the first round of each process. A model shows that the light
/// fence must be full before it (`loom-tests/tests/it/deciding.rs`). Here only one round of a process could show it.
#[test]
fn light_before_the_decision_pairs_with_heavy_after_it() {
    for _ in 0..4 {
        Child::default().run(|| {
            assert_eq!(strategy(), None);
            let Some(mut litmus) = ledger::on_two_cores(Litmus::new()) else { return };
            let seen = litmus.run_while(Fence::Light, Fence::Heavy, |seen| seen.rounds < 2_000);
            assert_eq!(seen.weak, 0, "{seen:?}");
            assert!(strategy().is_some());
        });
    }
}
