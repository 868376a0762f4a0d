//! Memory that holds no segment, or not one of ours.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use asymfence::cross_process::{Attached, Error, Mode, WORDS, attach, create};

use seccompiler::SeccompAction;

use super::{attach_asymmetric, fresh};
use crate::child::Child;
use crate::filter::on_membarrier;

/// Where the header has what.
const MAGIC: usize = 0;
const VERSION: usize = 1;
const MODE: usize = 2;
const PID_NAMESPACE: usize = 3;
const BOOT_ID: usize = 4;
const PLACES: usize = 16;

/// The header of an asymmetric segment, with one word changed.
fn changed(word: usize, change: impl Fn(u32) -> u32) -> Vec<AtomicU32> {
    let header = fresh();
    create(&header, Mode::Asymmetric).expect("membarrier is offered");
    header[word].store(change(header[word].load(Relaxed)), Relaxed);
    header
}

#[track_caller]
fn attach_fails(header: &[AtomicU32], expected: Error, words: &str) {
    let error = attach(header).expect_err("not let in");
    assert_eq!(error, expected);
    assert!(error.to_string().contains(words), "no {words} in: {error}");
}

#[test]
fn what_is_no_segment_is_refused_by_name() {
    Child::default().run(|| {
        attach_fails(&fresh(), Error::NotCreated, "create it");
        attach_fails(&fresh()[1..], Error::TooShort(WORDS - 1), "takes 256");
        attach_fails(&[], Error::TooShort(0), "0 words");
        let foreign = changed(MAGIC, |_| 0x7F45_4C46);
        attach_fails(&foreign, Error::Foreign(0x7F45_4C46), "0x7f454c46");
        let in_the_making = changed(MAGIC, |magic| !magic);
        attach_fails(&in_the_making, Error::NotCreated, "try again");
        attach_fails(&changed(VERSION, |_| 2), Error::Version(2), "the same asymfence");
        attach_fails(&changed(MODE, |_| 3), Error::Mode(3), "wrote over it");
        for word in BOOT_ID..BOOT_ID + 4 {
            attach_fails(&changed(word, |id| id ^ 1), Error::OtherKernel, "another kernel");
        }
        // The twin: with nothing changed it is let in.
        assert_eq!(attach_asymmetric(&changed(MAGIC, |magic| magic)).index(), 0);
    });
}

#[test]
fn a_participant_that_wakes_under_another_kernel_is_told() {
    Child::default().run(|| {
        let header = changed(MAGIC, |magic| magic);
        let me = attach_asymmetric(&header);
        assert_eq!(me.renew(), Ok(()));
        header[BOOT_ID].fetch_xor(1, Relaxed);
        assert_eq!(me.renew(), Err(Error::OtherKernel));
    });
}

#[test]
fn a_participant_that_wakes_in_a_sandbox_is_told() {
    Child::default().run(|| {
        let header = changed(MAGIC, |magic| magic);
        let me = attach_asymmetric(&header);
        let filter = on_membarrier(SeccompAction::Errno(nix::libc::EPERM as u32));
        seccompiler::apply_filter_all_threads(&filter).expect("the filter is accepted");
        assert!(matches!(me.renew(), Err(Error::Refused(_))));
    });
}

#[test]
fn memory_that_is_in_use_is_not_made_a_segment() {
    Child::default().run(|| {
        for mode in [Mode::Asymmetric, Mode::Symmetric] {
            let header = fresh();
            assert_eq!(create(&header[..WORDS - 1], mode), Err(Error::TooShort(WORDS - 1)));
            create(&header, mode).expect("membarrier is offered");
            assert_eq!(create(&header, mode), Err(Error::NotEmpty));
            let other = fresh();
            other[WORDS - 1].store(1, Relaxed);
            assert_eq!(create(&other, mode), Err(Error::NotEmpty));
            assert!(other[..WORDS - 1].iter().all(|word| word.load(Relaxed) == 0));
        }
    });
}

#[test]
fn of_several_makers_one_comes_first() {
    Child::default().run(|| {
        for _ in 0..1_000 {
            let header = &fresh();
            let made = std::thread::scope(|scope| {
                let makers = [(); 4].map(|()| scope.spawn(|| create(header, Mode::Symmetric)));
                makers.map(|maker| maker.join().expect("no panic"))
            });
            assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
            assert!(matches!(attach(header), Ok(Attached::Symmetric(_))));
        }
    });
}

/// A segment of another PID namespace: whoever attaches has a place, and is never taken for dead.
#[test]
fn from_another_pid_namespace_nobody_is_taken_for_dead() {
    Child::default().run(|| {
        let header = changed(PID_NAMESPACE, |namespace| namespace ^ 1);
        // Of a process that has ended, by a number that nobody has.
        header[PLACES].store(4_194_302, Relaxed);
        let me = attach_asymmetric(&header);
        assert_eq!(me.index(), 1);
        assert_eq!(me.reap(|_| panic!("who knows")), Err(Error::OtherPidNamespace));
        header[PID_NAMESPACE].fetch_xor(1, Relaxed);
        // The twin: in the right namespace that one has ended, and `me` is one of another.
        let mut dead = Vec::new();
        assert_eq!(me.reap(|place| dead.push(place)), Ok(1));
        assert_eq!(dead, [0]);
    });
}

/// Others may write anything: that is an error, or a participant, and nothing else.
#[test]
fn no_garbage_panics() {
    Child::default().run(|| {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let header = changed(PLACES, |_| 0);
            for _ in 0..random.usize(1..WORDS) {
                header[random.usize(3..WORDS)].store(random.u32(..), Relaxed);
            }
            header[random.usize(..4)].store(random.u32(..4), Relaxed);
            match attach(&header) {
                Ok(Attached::Asymmetric(me)) => drop((me.places().count(), me.reap(|_| ()))),
                Ok(Attached::Symmetric(me)) => drop((me.places().count(), me.reap(|_| ()))),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    });
}
