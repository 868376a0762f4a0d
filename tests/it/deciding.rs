//! The decision: made once, by whoever comes first, and never unmade.

use std::sync::Barrier;
use std::thread;

use asymfence::{
    Asymmetric, ForceError, Strategy, Verdict, force, heavy_fence, init, ladder, light_fence,
    strategy, try_heavy_fence,
};

use crate::child::Child;
use crate::filter::on_membarrier;
use crate::{fences_hold, rung, verdict};

#[test]
fn nothing_is_decided_until_somebody_asks() {
    Child::default().run(|| {
        light_fence();
        assert_eq!(strategy(), None);
        assert!(ladder().all(|rung| rung.verdict == Verdict::NotReached));
        heavy_fence();
        assert!(strategy().is_some());
    });
}

#[test]
fn private_expedited_is_taken_and_holds() {
    Child::default().run(|| {
        assert_eq!(init(), Strategy::Asymmetric(rung("private-expedited")));
        assert_eq!(verdict("private-expedited"), Verdict::Taken);
        assert_eq!(verdict("symmetric"), Verdict::NotReached);
        assert!(Asymmetric::new().is_ok());
        fences_hold();
    });
}

#[test]
fn mprotect_can_be_forced_and_holds_or_says_why_not() {
    Child::default().run(|| {
        let mprotect = rung("mprotect");
        match force(Strategy::Asymmetric(mprotect)) {
            Ok(()) => {
                assert_eq!(verdict("mprotect"), Verdict::Taken);
                fences_hold();
            }
            Err(ForceError::Refused(refused, refusal)) => {
                assert_eq!(refused, mprotect);
                assert_eq!(verdict("mprotect"), Verdict::Refused(refusal));
                assert_eq!(strategy(), None, "a refusal decides nothing");
                println!("mprotect is not admitted on this machine: {refusal}");
            }
            Err(error) => panic!("{error}"),
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
        assert_eq!(ladder().filter(|rung| rung.verdict == Verdict::Taken).count(), 1);
    });
}

#[test]
fn one_thread_in_a_sandbox_decides_with_the_others() {
    Child::default().run(|| {
        let filter = on_membarrier(seccompiler::SeccompAction::Errno(nix::libc::EPERM as u32));
        // A filter is a thread's own unless it asks otherwise.
        let sandboxed = thread::spawn(move || {
            seccompiler::apply_filter(&filter).expect("the filter is accepted");
            thread::park();
            (init(), try_heavy_fence())
        });
        let decided = init();
        sandboxed.thread().unpark();
        let (seen, fenced) = sandboxed.join().expect("no panic");
        assert_eq!(seen, decided, "the decision is the process's");
        match fenced {
            // By mprotect: the light fences of all threads are compiler barriers already.
            Ok(()) => assert_eq!(verdict("mprotect"), Verdict::NotReached),
            Err(error) => {
                assert_eq!(error.failure().errno(), nix::libc::EPERM);
                assert!(matches!(verdict("mprotect"), Verdict::Refused(_)));
            }
        }
        fences_hold(); // the other threads' heavy fences are not affected
    });
}

#[test]
fn light_before_the_decision_pairs_with_heavy_after_it() {
    use crate::litmus::{Fence, Litmus};

    // The first heavy fence decides, somewhere in the first rounds.
    for _ in 0..4 {
        Child::default().run(|| {
            assert_eq!(strategy(), None);
            let Some(mut litmus) = Litmus::new() else { return };
            let seen = litmus.run_while(Fence::Light, Fence::Heavy, |seen| seen.rounds < 2_000);
            assert_eq!(seen.weak, 0, "{seen:?}");
            assert!(strategy().is_some());
        });
    }
}
