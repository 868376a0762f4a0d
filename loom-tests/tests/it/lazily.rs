//! The decision, transcribed, and its mutants. The library's own is checked in `deciding.rs`, and `cargo xtask mutants`
//! makes the same changes to it; here they stand beside the `SeqCst` mapping, which takes both fences for
//! `fence(SeqCst)`, and misses the first three.
//!
//! | mutant | `SeqCst` mapping | model |
//! | --- | --- | --- |
//! | a heavy fence does not decide while another thread does | misses it | fails |
//! | a light fence takes undecided for asymmetric | misses it | fails |
//! | a light fence does not know symmetric | misses it | fails |
//! | the mode is published before the rung is ready | fails | fails |

use asymfence::light_fence;
use asymfence::model::{Start, barrier_elsewhere, fence};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use loom_tests::check::{check, failure};

#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    HeavyDoesNotDecide,
    UndecidedForAsymmetric,
    SymmetricNotKnown,
    PublishedBeforeReady,
}

const UNDECIDED: usize = 0;
const SYMMETRIC: usize = 1;
const ASYMMETRIC: usize = 2;

struct Decision {
    mutant: Mutant,
    rung_works: bool,
    mode: AtomicUsize,
    ready: AtomicBool,
}

impl Decision {
    fn light_fence(&self) {
        let mode = self.mode.load(Relaxed);
        let relaxes = match self.mutant {
            Mutant::UndecidedForAsymmetric => mode != SYMMETRIC,
            Mutant::SymmetricNotKnown => mode != UNDECIDED,
            _ => mode == ASYMMETRIC,
        };
        // In a symmetric process the light fence is a full one: the `SeqCst` mapping.
        if relaxes { light_fence() } else { fence(SeqCst) }
    }

    fn decide(&self) {
        let mode = if self.rung_works { ASYMMETRIC } else { SYMMETRIC };
        if self.mutant != Mutant::PublishedBeforeReady {
            self.ready.store(true, Relaxed);
        }
        let _ = self.mode.compare_exchange(UNDECIDED, mode, Release, Relaxed);
        self.ready.store(true, Relaxed);
    }

    fn heavy_fence(&self, decides: bool) {
        let undecided = self.mode.load(Relaxed) == UNDECIDED;
        if undecided && (decides || self.mutant != Mutant::HeavyDoesNotDecide) {
            self.decide();
        }
        let asymmetric = self.mode.load(Relaxed) == ASYMMETRIC
            && !(undecided && !decides && self.mutant == Mutant::HeavyDoesNotDecide);
        fence(SeqCst);
        if asymmetric {
            assert!(self.ready.load(Relaxed), "EPERM: the rung is not ready");
            barrier_elsewhere();
        }
        fence(SeqCst);
    }
}

/// Scenario A with two writers. The first may be the one that decides.
fn program(mutant: Mutant, rung_works: bool) -> impl Fn() + Send + Sync + 'static {
    move || {
        let decision = Arc::new(Decision {
            mutant,
            rung_works,
            mode: AtomicUsize::new(UNDECIDED),
            ready: AtomicBool::new(false),
        });
        let x = Arc::new(AtomicUsize::new(0));
        let y = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let writers = [0, 1].map(|me| {
            let (decision, x, y) = (decision.clone(), x.clone(), y.clone());
            thread::spawn(move || {
                y[me].store(1, Relaxed);
                decision.heavy_fence(me == 0);
                x.load(Relaxed)
            })
        });
        x.store(1, Relaxed);
        decision.light_fence();
        let reader = [y[0].load(Relaxed), y[1].load(Relaxed)];
        for (writer, reader) in writers.into_iter().zip(reader) {
            let writer = writer.join().expect("no panic");
            assert!(writer == 1 || reader == 1, "both missed");
        }
    }
}

#[track_caller]
fn fails(start: Start, mutant: Mutant, rung_works: bool, saying: &str) {
    let message = failure(start, program(mutant, rung_works)).expect("the mutant passes");
    assert!(message.contains(saying), "{message}");
}

#[test]
fn the_transcription_is_right() {
    for start in [Start::Asymmetric, Start::Symmetric] {
        check(start, program(Mutant::None, true));
        check(start, program(Mutant::None, false));
    }
}

#[test]
fn a_heavy_fence_that_does_not_decide_fails() {
    fails(Start::Asymmetric, Mutant::HeavyDoesNotDecide, true, "both missed");
}

#[test]
fn a_light_fence_that_takes_undecided_for_asymmetric_fails() {
    fails(Start::Asymmetric, Mutant::UndecidedForAsymmetric, false, "both missed");
}

#[test]
fn a_light_fence_that_does_not_know_symmetric_fails() {
    fails(Start::Asymmetric, Mutant::SymmetricNotKnown, false, "both missed");
}

#[test]
fn a_mode_published_before_the_rung_is_ready_fails() {
    for start in [Start::Asymmetric, Start::Symmetric] {
        fails(start, Mutant::PublishedBeforeReady, true, "EPERM");
    }
}

#[test]
fn the_seqcst_mapping_misses_these() {
    check(Start::Symmetric, program(Mutant::HeavyDoesNotDecide, true));
    check(Start::Symmetric, program(Mutant::UndecidedForAsymmetric, false));
    check(Start::Symmetric, program(Mutant::SymmetricNotKnown, false));
}
