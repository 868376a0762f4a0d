//! System calls that fail: an error names each, and nothing is left.

use std::mem::forget;
use std::panic::catch_unwind;
use std::sync::atomic::Ordering::SeqCst;

use asymfence::cross_process::{
    self, Attached, Mode, PARTICIPANTS, Participant, SegmentError, SegmentStep, SymmetricFences,
    WORDS,
};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::SeccompAction::Errno;
use seccompiler::apply_filter;

use super::holding::{ends_well, fork_off, reaped, shared, wait_for};
use super::{FCNTL, FSTAT, Header, at_each_call, attach, attach_symmetric, create, fresh, reap};
use crate::child::Child;
use crate::filter::{on_fcntl, on_fstat, on_fstatfs, on_mmap_of, on_wipe_on_fork};

const EPERM: seccompiler::SeccompAction = Errno(libc::EPERM as u32);

#[track_caller]
fn symmetric(header: Header<'_>) -> Participant<'_, SymmetricFences> {
    create(header, Mode::Symmetric).expect("a memfd can be locked");
    attach_symmetric(header)
}

/// Each fcntl(2) on the lock file fails in one run of the child: those that `create`, two `attach`, `renew`, the drop
/// of a participant and `reap` make.
#[test]
fn each_call_on_the_locks_that_fails_is_an_error_and_leaves_nothing() {
    let inject = |nth| format!("error=EIO:when={nth}");
    let said = at_each_call(FCNTL, inject, ("EIO", 20), |child| {
        child.outcome(|| {
            let segment = fresh();
            let header = segment.header();
            let goes_through = || {
                create(header, Mode::Symmetric)?;
                let Attached::Symmetric(me) = attach(header)? else { panic!("symmetric") };
                me.renew()?;
                drop(me);
                forget(attach(header)?);
                super::lose_the_lock_of("/memfd:locks");
                reap(header, |_| ())
            };
            match goes_through() {
                // A place whose lock could not be asked about is not given back.
                Ok(reaped) => assert!((1..=2).contains(&reaped)),
                Err(SegmentError::Failed(SegmentStep::Lock, libc::EIO)) => println!("EIO"),
                Err(error) => panic!("{error:?}"),
            }
            // It fails once: so nothing is in the way.
            if segment.words[0].load(SeqCst) == 0 {
                create(header, Mode::Symmetric).expect("nothing was written");
            }
            reap(header, |_| ()).expect("no lock is left");
            assert!(matches!(attach(header), Ok(Attached::Symmetric(_))));
        })
    });
    assert!(said.is_none_or(|said| said >= 12), "{said:?}");
}

/// In each run every fcntl(2) fails from a certain one on, as when another thread installs a filter in the middle.
#[test]
fn an_attach_that_is_refused_in_the_middle_leaves_no_place_taken() {
    let inject = |nth| format!("error=EPERM:when={nth}+");
    let said = at_each_call(FCNTL, inject, ("EPERM", 12), |child| {
        child.outcome(|| {
            let segment = fresh();
            if create(segment.header(), Mode::Symmetric).is_err() {
                return;
            }
            match attach(segment.header()) {
                Ok(attached) => forget(attached),
                Err(_) => {
                    println!("EPERM");
                    let places = segment.words[WORDS - PARTICIPANTS..].iter();
                    let taken = places.filter(|word| word.load(SeqCst) % 2 == 1).count();
                    assert_eq!(taken, 0);
                }
            }
        })
    });
    assert!(said.is_none_or(|said| said >= 4), "{said:?}");
}

/// The page by which a forked child is recognised. 0 is an address that no kernel gives.
#[test]
fn a_page_that_cannot_be_had_is_an_error_of_attach() {
    for errno in ["ENOMEM", "0"] {
        Child::with("ERRNO", errno).run(|| {
            let is_refused = std::env::var("ERRNO").as_deref() == Ok("ENOMEM");
            let errno = if is_refused { libc::ENOMEM } else { 0 };
            let segment = fresh();
            create(segment.header(), Mode::Symmetric).expect("a memfd can be locked");
            apply_filter(&on_mmap_of(4, Errno(errno as u32))).expect("the filter is accepted");
            let answer = attach(segment.header()).map(forget);
            assert_eq!(answer, Err(SegmentError::Failed(SegmentStep::Map, errno)));
        });
    }
}

/// A process that has as many mappings as it may have: the kernel cannot give the page a mapping of its own. If
/// `attach` went on, the process number alone would tell a child from its parent. A later `attach` may succeed, so this
/// one returns an error. The twin: a sandbox that refuses the call (EPERM) refuses it each time, so `attach` goes on
/// with the number alone.
#[test]
fn a_page_that_the_kernel_cannot_set_apart_is_an_error_of_attach() {
    for errno in ["ENOMEM", "EAGAIN", "EPERM"] {
        Child::with("ERRNO", errno).run(|| {
            let errno = match std::env::var("ERRNO").as_deref() {
                Ok("ENOMEM") => libc::ENOMEM,
                Ok("EAGAIN") => libc::EAGAIN,
                _ => libc::EPERM,
            };
            let segment = fresh();
            create(segment.header(), Mode::Symmetric).expect("a memfd can be locked");
            apply_filter(&on_wipe_on_fork(Errno(errno as u32))).expect("the filter is accepted");
            let answer = attach(segment.header()).map(forget);
            let expected = Err(SegmentError::Failed(SegmentStep::Map, errno));
            assert_eq!(answer, if errno == libc::EPERM { Ok(()) } else { expected });
        });
    }
}

/// A place is cleaned only while a mapping of the lock file keeps its lock. Without the mapping, another thread that
/// closes all descriptors would release the lock meanwhile.
#[test]
fn a_place_that_cannot_be_kept_while_it_is_cleaned_is_left_to_the_next() {
    Child::default().filtering().run(|| {
        shared(|header, _| {
            ends_well(fork_off(|| forget(attach(header).expect("a place is free"))));
            ends_well(fork_off(|| {
                let refused = on_fstatfs(EPERM);
                apply_filter(&refused).expect("the filter is accepted");
                let expected = SegmentError::Failed(SegmentStep::Identify, libc::EPERM);
                assert_eq!(reap(header, |place| panic!("{place} is cleaned")), Err(expected));
            }));
            assert_eq!(reaped(header), [0], "the twin");
        });
    });
}

/// A signal can interrupt these calls if a supervisor lets them wait.
#[test]
fn each_call_that_is_interrupted_is_made_again() {
    for call in [FCNTL, FSTAT, "munmap"] {
        for nth in 1..=16 {
            let Some(child) = Child::injected_into(call, &format!("error=EINTR:when={nth}")) else {
                return;
            };
            let outcome = child.outcome(|| {
                let segment = fresh();
                let header = segment.header();
                create(header, Mode::Symmetric).expect("a memfd can be locked");
                let Ok(Attached::Symmetric(me)) = attach(header) else { panic!("a place is free") };
                assert_eq!(me.renew(), Ok(()));
                drop(me);
                assert_eq!(reap(header, |place| panic!("{place} was left")), Ok(0));
            });
            // The standard library's own calls come before ours, and are not made again.
            let is_ours = outcome.count("a place is free") + outcome.count("was left") != 0;
            assert!(outcome.succeeded() || !is_ours, "{call} {nth}: {}", outcome.output());
        }
    }
}

/// Anybody can make such an error, and print it.
#[test]
fn an_errno_that_no_kernel_gives_is_printed() {
    for errno in [0, -1, 4096, i32::MAX, i32::MIN] {
        for step in [SegmentStep::Reopen, SegmentStep::Lock] {
            let words = SegmentError::Failed(step, errno).to_string();
            assert!(words.contains("no kernel gives"), "{words}");
        }
    }
}

#[test]
fn who_may_not_ask_which_file_it_is_is_told() {
    Child::default().run(|| {
        let (segment, other) = (fresh(), fresh());
        let header = segment.header();
        let me = symmetric(header);
        let filter = on_fstat(EPERM);
        apply_filter(&filter).expect("the filter is accepted");
        for outcome in [
            create(other.header(), Mode::Symmetric),
            attach(header).map(|_| ()),
            reap(header, |_| ()).map(|_| ()),
            me.reap(|_| ()).map(|_| ()),
            me.renew(),
        ] {
            let expected = SegmentError::Failed(SegmentStep::Identify, libc::EPERM);
            assert_eq!(outcome, Err(expected));
        }
    });
}

#[test]
fn who_may_not_ask_which_file_system_it_is_takes_no_place() {
    Child::default().run(|| {
        let segment = fresh();
        create(segment.header(), Mode::Symmetric).expect("a memfd can be locked");
        let filter = on_fstatfs(EPERM);
        apply_filter(&filter).expect("the filter is accepted");
        let error = attach(segment.header()).expect_err("refused");
        assert_eq!(error, SegmentError::Failed(SegmentStep::Identify, libc::EPERM));
        assert_eq!(reap(segment.header(), |place| panic!("{place} was left")), Ok(0));
    });
}

#[test]
fn who_may_not_ask_whether_those_that_have_all_places_live_is_told() {
    Child::default().run(|| {
        let segment = fresh();
        let header = segment.header();
        create(header, Mode::Symmetric).expect("a memfd can be locked");
        (0..PARTICIPANTS).for_each(|_| forget(attach(header).expect("a place is free")));
        assert_eq!(attach(header).expect_err("full"), SegmentError::Full { ended: 0 });
        let filter = on_fcntl(&[libc::F_OFD_GETLK], EPERM);
        apply_filter(&filter).expect("the filter is accepted");
        let error = attach(header).expect_err("full");
        assert_eq!(error, SegmentError::Failed(SegmentStep::Lock, libc::EPERM));
    });
}

#[test]
fn who_renews_without_a_descriptor_left_is_told() {
    Child::default().run(|| {
        let segment = fresh();
        let me = symmetric(segment.header());
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, 0, most).expect("a lower one");
        let error = SegmentError::Failed(SegmentStep::ReadBootId, libc::EMFILE);
        assert_eq!(me.renew(), Err(error));
    });
}

#[test]
fn who_reaps_what_is_no_segment_is_told() {
    Child::default().run(|| {
        let segment = fresh();
        let header = segment.header();
        assert_eq!(reap(header, |_| ()), Err(SegmentError::NotCreated));
        let short = cross_process::reap(&header.words[1..], header.file, |_| ());
        assert_eq!(short, Err(SegmentError::TooShort(WORDS - 1)));
    });
}

/// The process that has reaped lives on, so its end releases no lock.
#[test]
fn a_filter_that_begins_in_clean_leaves_the_place_free() {
    Child::default().filtering().run(|| {
        shared(|header, step| {
            let locks = [libc::F_OFD_GETLK, libc::F_OFD_SETLK];
            for (nth, refused) in (1..).zip([on_fcntl(&locks, EPERM), on_fstat(EPERM)]) {
                ends_well(fork_off(|| forget(attach_symmetric(header))));
                let reaper = fork_off(|| {
                    let clean = |_| apply_filter(&refused).expect("the filter is accepted");
                    let count = catch_unwind(|| reap(header, clean));
                    step.store(2 * nth - 1, SeqCst);
                    wait_for(step, 2 * nth);
                    assert_eq!(count.expect("no panic"), Ok(1));
                });
                wait_for(step, 2 * nth - 1);
                let taken = catch_unwind(|| attach_symmetric(header).index());
                step.store(2 * nth, SeqCst);
                ends_well(reaper);
                assert_eq!(taken.ok(), Some(0));
            }
        });
    });
}
