//! Memory that holds no segment, or not one of ours.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use asymfence::cross_process::{Attached, Mode, SegmentError, SegmentStep, WORDS};

use seccompiler::SeccompAction;

use super::{Fresh, Header, attach, attach_asymmetric, create, fresh, reap};
use crate::child::Child;
use crate::filter::on_membarrier;

/// The layout of the header.
const MAGIC: usize = 0;
const VERSION: usize = 1;
const MODE: usize = 2;
const BOOT_ID: usize = 8;
const FILE: usize = 12;
const PLACES: usize = 16;

/// The header of an asymmetric segment, with one word changed.
fn changed(word: usize, change: impl Fn(u32) -> u32) -> Fresh {
    let header = fresh();
    create(header.header(), Mode::Asymmetric).expect("membarrier is offered");
    header.words[word].store(change(header.words[word].load(Relaxed)), Relaxed);
    header
}

#[track_caller]
fn attach_fails(header: Header<'_>, expected: SegmentError, words: &str) {
    let error = attach(header).expect_err("not let in");
    assert_eq!(error, expected);
    assert!(error.to_string().contains(words), "no {words} in: {error}");
}

#[test]
fn a_busy_program_and_a_signal_are_not_called_a_sandbox() {
    for (errno, words) in [(libc::ETXTBSY, "take a memfd"), (libc::EINTR, "try again")] {
        let error = SegmentError::Failed(SegmentStep::Reopen, errno).to_string();
        assert!(error.contains(words) && !error.contains("sandbox"), "{error}");
    }
    // The twin: any other errno.
    assert!(
        SegmentError::Failed(SegmentStep::Reopen, libc::ENOSYS).to_string().contains("sandbox")
    );
}

#[test]
fn what_is_no_segment_is_refused_by_name() {
    Child::default().run(|| {
        let empty = fresh();
        attach_fails(empty.header(), SegmentError::NotCreated, "create it");
        let short = Header { words: &empty.words[1..], ..empty.header() };
        attach_fails(short, SegmentError::TooShort(WORDS - 1), "takes 256");
        attach_fails(Header { words: &[], ..empty.header() }, SegmentError::TooShort(0), "0 words");
        let foreign = changed(MAGIC, |_| 0x7F45_4C46);
        attach_fails(foreign.header(), SegmentError::Foreign(0x7F45_4C46), "0x7f454c46");
        let in_the_making = changed(MAGIC, |magic| !magic);
        attach_fails(in_the_making.header(), SegmentError::NotCreated, "try again");
        let other_version = changed(VERSION, |_| 2);
        attach_fails(other_version.header(), SegmentError::Version(2), "the same asymfence");
        attach_fails(changed(MODE, |_| 3).header(), SegmentError::Mode(3), "written over it");
        for word in BOOT_ID..BOOT_ID + 4 {
            let other = changed(word, |id| id ^ 1);
            attach_fails(other.header(), SegmentError::OtherKernel, "another kernel");
            assert_eq!(reap(other.header(), |_| ()), Err(SegmentError::OtherKernel));
        }
        for word in FILE..FILE + 4 {
            let other = changed(word, |id| id ^ 1);
            attach_fails(other.header(), SegmentError::OtherFile, "the same file");
            assert_eq!(reap(other.header(), |_| ()), Err(SegmentError::OtherFile));
        }
        // The twin: with nothing changed it is let in.
        assert_eq!(attach_asymmetric(changed(MAGIC, |magic| magic).header()).index(), 0);
    });
}

/// Two that lock different files would have the same place.
#[test]
fn a_participant_that_gives_another_file_is_not_let_in() {
    Child::default().run(|| {
        let (segment, other) = (fresh(), fresh());
        create(segment.header(), Mode::Symmetric).expect("always");
        let with_other = Header { file: other.header().file, ..segment.header() };
        attach_fails(with_other, SegmentError::OtherFile, "the same file");
        // The twin: another descriptor of the same file.
        let again = segment.file.try_clone().expect("a descriptor");
        assert!(attach(Header { file: again.as_fd(), ..segment.header() }).is_ok());
    });
}

#[test]
fn a_participant_that_wakes_under_another_kernel_is_told() {
    Child::default().run(|| {
        let segment = changed(MAGIC, |magic| magic);
        let me = attach_asymmetric(segment.header());
        assert_eq!(me.renew(), Ok(()));
        segment.words[BOOT_ID].fetch_xor(1, Relaxed);
        assert_eq!(me.renew(), Err(SegmentError::OtherKernel));
    });
}

#[test]
fn a_participant_that_wakes_in_a_sandbox_is_told() {
    Child::default().run(|| {
        let segment = changed(MAGIC, |magic| magic);
        let me = attach_asymmetric(segment.header());
        let filter = on_membarrier(SeccompAction::Errno(nix::libc::EPERM as u32));
        seccompiler::apply_filter_all_threads(&filter).expect("the filter is accepted");
        assert!(matches!(me.renew(), Err(SegmentError::Refused(_))));
    });
}

#[test]
fn memory_that_is_in_use_is_not_made_a_segment() {
    Child::default().run(|| {
        for mode in [Mode::Asymmetric, Mode::Symmetric] {
            let segment = fresh();
            let header = segment.header();
            let short = Header { words: &header.words[..WORDS - 1], ..header };
            assert_eq!(create(short, mode), Err(SegmentError::TooShort(WORDS - 1)));
            create(header, mode).expect("membarrier is offered");
            assert_eq!(create(header, mode), Err(SegmentError::NotEmpty));
            for word in 0..WORDS {
                let other = fresh();
                other.words[word].store(1, Relaxed);
                assert_eq!(create(other.header(), mode), Err(SegmentError::NotEmpty));
                assert_eq!(other.words.iter().map(|word| word.load(Relaxed)).sum::<u32>(), 1);
            }
        }
    });
}

#[test]
fn of_several_makers_one_comes_first() {
    Child::default().run(|| {
        for _ in 0..1_000 {
            let segment = fresh();
            let header = segment.header();
            let made = std::thread::scope(|scope| {
                let makers = [(); 4].map(|()| scope.spawn(|| create(header, Mode::Symmetric)));
                makers.map(|maker| maker.join().expect("no panic"))
            });
            assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
            assert!(matches!(attach(header), Ok(Attached::Symmetric(_))));
        }
    });
}

/// Others may write anything: that is an error, or a participant, and nothing else.
#[test]
fn no_garbage_panics() {
    Child::default().run(|| {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let segment = changed(PLACES, |_| 0);
            let header = segment.header();
            // The words of the kernel and of the file mostly stay as they are: if they are changed, nobody is let in.
            let first = if random.u8(..) < 16 { 3 } else { PLACES };
            for _ in 0..random.usize(1..WORDS) {
                header.words[random.usize(first..WORDS)].store(random.u32(..), Relaxed);
            }
            header.words[MODE].store(random.u32(..4), Relaxed);
            match attach(header) {
                Ok(Attached::Asymmetric(me)) => drop((me.places().count(), me.reap(|_| ()))),
                Ok(Attached::Symmetric(me)) => drop((me.places().count(), me.reap(|_| ()))),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    });
}
