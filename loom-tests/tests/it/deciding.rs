//! The real `strategy.rs` and `fence.rs` on loom's atomics: the first heavy fence decides while other
//! threads fence.

use asymfence::model::Start;
use asymfence::{Strategy, Ticket, force, heavy_fence, init, light_fence, strategy};
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use loom_tests::check::{check, is_ever};

const WORKS: Start = Start::Undecided { rung_works: true };
const FAILS: Start = Start::Undecided { rung_works: false };

/// Scenario A with that many writers. Returns whether the reader and one of them ever miss each other.
fn misses(start: Start, writers: usize, before: fn()) -> bool {
    misses_by(heavy_fence, start, writers, before)
}

/// The same, with this in the place of each heavy fence.
fn misses_by(fence: fn(), start: Start, writers: usize, before: fn()) -> bool {
    is_ever(start, move || {
        let x = Arc::new(AtomicUsize::new(0));
        let y: Arc<Vec<AtomicUsize>> =
            Arc::new((0..writers).map(|_| AtomicUsize::new(0)).collect());
        let heavies: Vec<_> = (0..writers)
            .map(|writer| {
                let (x, y) = (x.clone(), y.clone());
                thread::spawn(move || {
                    y[writer].store(1, Relaxed);
                    fence();
                    x.load(Relaxed)
                })
            })
            .collect();
        before();
        x.store(1, Relaxed);
        light_fence();
        let reader: Vec<usize> = y.iter().map(|y| y.load(Relaxed)).collect();
        let pairs = heavies.into_iter().map(|heavy| heavy.join().expect("no panic")).zip(reader);
        { pairs }.any(|(writer, reader)| writer == 0 && reader == 0)
    })
}

#[test]
fn light_pairs_with_the_heavy_fence_that_decides() {
    assert!(!misses(WORKS, 1, || {}));
    assert!(!misses(FAILS, 1, || {}));
}

#[test]
fn light_pairs_with_two_heavy_fences_that_decide() {
    assert!(!misses(WORKS, 2, || {}));
    assert!(!misses(FAILS, 2, || {}));
}

#[test]
fn light_pairs_while_another_thread_forces_the_symmetric_strategy() {
    fn force_symmetric() {
        let _ = force(Strategy::Symmetric);
    }
    assert!(!misses(WORKS, 1, force_symmetric));
    assert!(!misses(FAILS, 1, force_symmetric));
}

#[test]
fn light_pairs_while_its_own_thread_decides() {
    fn decide() {
        init();
    }
    assert!(!misses(WORKS, 1, decide));
    assert!(!misses(FAILS, 1, decide));
}

#[test]
fn light_pairs_with_the_ticket_that_decides() {
    fn wait() {
        Ticket::now().wait();
    }
    fn decide() {
        init();
    }
    for start in [WORKS, FAILS] {
        assert!(!misses_by(wait, start, 1, || {}));
        assert!(!misses_by(wait, start, 1, decide));
    }
}

/// The light fence comes before the decision, and the heavy fence after it.
#[test]
fn light_before_the_decision_pairs_with_heavy_after_it() {
    for start in [WORKS, FAILS] {
        let misses = is_ever(start, || {
            let (x, y) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (x2, y2) = (x.clone(), y.clone());
            let reader = thread::spawn(move || {
                let undecided = strategy().is_none();
                x2.store(1, Relaxed);
                light_fence();
                (undecided, y2.load(Relaxed))
            });
            init();
            y.store(1, Relaxed);
            heavy_fence();
            let writer = x.load(Relaxed);
            let (undecided, reader) = reader.join().expect("no panic");
            undecided && reader == 0 && writer == 0
        });
        assert!(!misses);
    }
}

#[test]
fn all_threads_see_one_decision() {
    for start in [WORKS, FAILS] {
        check(start, || {
            let deciders: Vec<_> = [
                || init(),
                || {
                    let _ = force(Strategy::Symmetric);
                    init()
                },
            ]
            .map(thread::spawn)
            .into();
            let seen = strategy();
            let decisions: Vec<Strategy> =
                deciders.into_iter().map(|decider| decider.join().expect("no panic")).collect();
            assert_eq!(decisions[0], decisions[1]);
            assert_eq!(strategy(), Some(decisions[0]));
            assert!(seen.is_none() || seen == strategy());
        });
    }
}
