//! The fences of a participant. Their contract is that of the fences of one process, so here one participant is enough:
//! the model's threads share it, with the modelled heavy fence. Tests with real processes show that the call reaches
//! other processes.

use std::fs::{File, remove_file};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, LazyLock};

use asymfence::cross_process::{
    AsymmetricFences, Attached, Mode, Participant, SymmetricFences, WORDS, attach, create,
};
use asymfence::model::{Start, fence};
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::thread;

use loom_tests::check::{check, is_ever};

/// The file that is locked. All executions share it.
static FILE: LazyLock<File> = LazyLock::new(|| {
    let path = format!("/dev/shm/asymfence-{}", std::process::id());
    let file =
        File::options().read(true).write(true).create_new(true).open(&path).expect("a tmpfs");
    remove_file(path).expect("our own");
    file
});

/// The words are leaked, so that the participant is `'static`: the model's threads share it.
fn attached(mode: Mode) -> Attached<'static> {
    let words: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
    let words: &'static [AtomicU32] = words.leak();
    create(words, FILE.as_fd(), mode).expect("a file that can be locked");
    attach(words, FILE.as_fd()).expect("there is no other")
}

fn asymmetric() -> Participant<'static, AsymmetricFences> {
    let Attached::Asymmetric(me) = attached(Mode::Asymmetric) else { panic!("symmetric") };
    me
}

fn symmetric() -> Participant<'static, SymmetricFences> {
    let Attached::Symmetric(me) = attached(Mode::Symmetric) else { panic!("asymmetric") };
    me
}

/// Scenario A. Returns whether each missed the other's store.
fn both_miss<P: Send + Sync + 'static>(me: P, left: fn(&P), right: fn(&P)) -> bool {
    let me = Arc::new(me);
    let (x, y) =
        (loom::sync::Arc::new(AtomicUsize::new(0)), loom::sync::Arc::new(AtomicUsize::new(0)));
    let other = {
        let (me, x, y) = (me.clone(), x.clone(), y.clone());
        thread::spawn(move || {
            x.store(1, Relaxed);
            left(&me);
            y.load(Relaxed)
        })
    };
    y.store(1, Relaxed);
    right(&me);
    let right = x.load(Relaxed);
    other.join().expect("no panic") == 0 && right == 0
}

const LIGHT: fn(&Participant<'static, AsymmetricFences>) = |me| me.light_fence();
const HEAVY: fn(&Participant<'static, AsymmetricFences>) = |me| me.heavy_fence();
const FULL: fn(&Participant<'static, AsymmetricFences>) = |_| fence(SeqCst);

#[test]
fn a_heavy_fence_pairs_with_every_fence_of_a_participant() {
    for (left, right) in
        [(LIGHT, HEAVY), (HEAVY, LIGHT), (HEAVY, HEAVY), (FULL, HEAVY), (HEAVY, FULL)]
    {
        check(Start::Asymmetric, move || assert!(!both_miss(asymmetric(), left, right)));
    }
}

#[test]
fn two_light_fences_of_a_participant_are_unordered() {
    assert!(is_ever(Start::Asymmetric, || both_miss(asymmetric(), LIGHT, LIGHT)));
    assert!(is_ever(Start::Asymmetric, || both_miss(asymmetric(), LIGHT, FULL)));
}

#[test]
fn in_a_symmetric_segment_every_fence_is_full() {
    let light: fn(&Participant<'static, SymmetricFences>) = |me| me.light_fence();
    let heavy: fn(&Participant<'static, SymmetricFences>) = |me| me.heavy_fence();
    for (left, right) in [(light, light), (light, heavy), (heavy, heavy)] {
        check(Start::Asymmetric, move || assert!(!both_miss(symmetric(), left, right)));
    }
}
