//! Programs that use the fences, and their mutants: one fence is removed, weakened or misplaced. Each mutant must fail in
//! the model. Other crates model both fences as `fence(SeqCst)`, which is a symmetric process here. That mapping misses
//! the first mutants.
//!
//! | program | mutant | `SeqCst` mapping | model |
//! | --- | --- | --- | --- |
//! | both | the writer's heavy fence is a light one | misses it | fails |
//! | both | the writer's heavy fence is `fence(SeqCst)` | misses it | fails |
//! | both | the reader's light fence is missing | fails | fails |
//! | both | the writer's heavy fence is missing | fails | fails |
//! | both | the light fence stands before the publication | fails | fails |

use asymfence::model::{Start, fence};
use asymfence::{heavy_fence, light_fence};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use loom_tests::check::{check, failure};

/// The fences of the protocol, or what replaces them.
#[derive(Clone, Copy)]
struct Fences {
    before_publication: fn(),
    reader: fn(),
    writer: fn(),
}

fn nothing() {}

fn full() {
    fence(SeqCst);
}

const RIGHT: Fences =
    Fences { before_publication: nothing, reader: light_fence, writer: heavy_fence };
const LIGHT_WRITER: Fences = Fences { writer: light_fence, ..RIGHT };
const FULL_WRITER: Fences = Fences { writer: full, ..RIGHT };
const NO_READER: Fences = Fences { reader: nothing, ..RIGHT };
const NO_WRITER: Fences = Fences { writer: nothing, ..RIGHT };
const MISPLACED: Fences = Fences { before_publication: light_fence, reader: nothing, ..RIGHT };

/// A hazard pointer. Two objects; the source names one, the writer retires it, and "frees" it if
/// nobody protects it.
fn hazard_pointer(fences: Fences) {
    let source = Arc::new(AtomicUsize::new(1));
    let hazard = Arc::new(AtomicUsize::new(0));
    let freed = Arc::new([AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false)]);

    let reader = {
        let (source, hazard, freed) = (source.clone(), hazard.clone(), freed.clone());
        thread::spawn(move || {
            let object = source.load(Acquire);
            (fences.before_publication)();
            hazard.store(object, Relaxed);
            (fences.reader)();
            if source.load(Acquire) == object {
                assert!(!freed[object].load(Relaxed), "used after it was freed");
            }
            // Release: our use of the object comes before its end, if it is freed after this.
            hazard.store(0, Release);
        })
    };
    source.store(2, Release);
    (fences.writer)();
    if hazard.load(Acquire) != 1 {
        freed[1].store(true, Relaxed);
    }
    reader.join().expect("no panic");
}

/// A biased lock. The reader enters by a store of its own; the writer revokes, and writes if no reader is inside.
fn biased_lock(fences: Fences) {
    let revoked = Arc::new(AtomicBool::new(false));
    let inside = Arc::new(AtomicBool::new(false));
    let writing = Arc::new(AtomicBool::new(false));

    let reader = {
        let (revoked, inside, writing) = (revoked.clone(), inside.clone(), writing.clone());
        thread::spawn(move || {
            (fences.before_publication)();
            inside.store(true, Relaxed);
            (fences.reader)();
            if !revoked.load(Relaxed) {
                assert!(!writing.load(Relaxed), "a reader beside the writer");
            }
            // Release: what we read comes before what the writer writes after it.
            inside.store(false, Release);
        })
    };
    revoked.store(true, Relaxed);
    (fences.writer)();
    if !inside.load(Acquire) {
        writing.store(true, Relaxed);
    }
    reader.join().expect("no panic");
}

#[track_caller]
fn passes(program: fn(Fences), start: Start, fences: Fences) {
    check(start, move || program(fences));
}

#[track_caller]
fn fails(program: fn(Fences), start: Start, fences: Fences) {
    let message = failure(start, move || program(fences)).expect("the mutant passes");
    assert!(message.contains("freed") || message.contains("beside"), "{message}");
}

macro_rules! programs {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn is_right() {
                passes(super::$name, Start::Asymmetric, RIGHT);
                passes(super::$name, Start::Symmetric, RIGHT);
                passes(super::$name, Start::Undecided { rung_works: true }, RIGHT);
                passes(super::$name, Start::Undecided { rung_works: false }, RIGHT);
            }

            #[test]
            fn with_a_light_fence_for_the_heavy_one_fails_and_the_seqcst_mapping_misses_it() {
                fails(super::$name, Start::Asymmetric, LIGHT_WRITER);
                passes(super::$name, Start::Symmetric, LIGHT_WRITER);
            }

            #[test]
            fn with_a_full_fence_for_the_heavy_one_fails_and_the_seqcst_mapping_misses_it() {
                fails(super::$name, Start::Asymmetric, FULL_WRITER);
                passes(super::$name, Start::Symmetric, FULL_WRITER);
            }

            #[test]
            fn without_the_light_fence_fails() {
                fails(super::$name, Start::Asymmetric, NO_READER);
                fails(super::$name, Start::Symmetric, NO_READER);
            }

            #[test]
            fn without_the_heavy_fence_fails() {
                fails(super::$name, Start::Asymmetric, NO_WRITER);
                fails(super::$name, Start::Symmetric, NO_WRITER);
            }

            #[test]
            fn with_the_light_fence_before_the_publication_fails() {
                fails(super::$name, Start::Asymmetric, MISPLACED);
                fails(super::$name, Start::Symmetric, MISPLACED);
            }
        }
    )*};
}

programs! { hazard_pointer biased_lock }
