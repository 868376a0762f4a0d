//! Participants that die, and processes that are refused.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use asymfence::cross_process::{Attached, Mode, PARTICIPANTS, SegmentError};
use asymfence::{Call, Reason};
use nix::libc::{EINVAL, EPERM};
use rustix::process::{Signal, getpid, kill_process};
use rustix::thread::MembarrierCommand::Global;
use seccompiler::SeccompAction::Errno;
use seccompiler::{apply_filter, apply_filter_all_threads};

use super::{
    Segment, attach, attach_asymmetric, attach_symmetric, attach_when_made, create, fresh,
    two_processes,
};
use crate::child::Child;
use crate::filter::{on_command, on_membarrier};
use crate::fork::in_fork;
use crate::memory::Atomics;

/// How far the peer has come.
#[repr(C)]
struct SegmentStep(AtomicU32);

// SAFETY: an atomic integer.
unsafe impl Atomics for SegmentStep {}

#[test]
fn the_place_of_a_process_that_died_is_reaped_once() {
    Child::default().run(|| {
        two_processes(
            None,
            |Segment::<SegmentStep> { header, data }, mut peer| {
                create(header, Mode::Asymmetric).expect("membarrier is offered");
                let me = attach_asymmetric(header);
                peer.wait_until(|| data.0.load(SeqCst) == 1);
                assert_eq!(me.places().collect::<Vec<_>>(), [0, 1]);
                assert_eq!(me.reap(|_| panic!("nobody has died")), Ok(0));

                data.0.store(2, SeqCst);
                peer.wait();
                me.heavy_fence();
                assert_eq!(me.places().count(), 2, "nobody has looked yet");

                let mut dead = Vec::new();
                assert_eq!(me.reap(|place| dead.push(place)), Ok(1));
                assert_eq!(dead, [1]);
                assert_eq!(me.places().collect::<Vec<_>>(), [0]);
                assert_eq!(me.reap(|_| panic!("it was reaped")), Ok(0));
                assert_eq!(attach_asymmetric(header).index(), 1, "the place can be taken again");
            },
            |Segment { header, data }| {
                let Attached::Asymmetric(_me) = attach_when_made(header) else {
                    panic!("symmetric")
                };
                data.0.store(1, SeqCst);
                while data.0.load(SeqCst) == 1 {
                    std::thread::yield_now();
                }
                kill_process(getpid(), Signal::KILL).expect("oneself");
            },
        );
    });
}

#[test]
fn a_process_whose_sandbox_forbids_the_call_is_refused_and_told_what_to_do() {
    Child::default().run(|| {
        two_processes(
            Some(on_command(Global, Errno(EPERM as u32))),
            |Segment::<SegmentStep> { header, .. }, peer| {
                create(header, Mode::Asymmetric).expect("membarrier is offered");
                peer.ends_well();
                // It never had a place, not even for a moment. The words would show that.
                assert!(header.words[16..].iter().all(|word| word.load(SeqCst) == 0));
                assert_eq!(attach_asymmetric(header).index(), 0);
                assert_ne!(header.words[16].load(SeqCst), 0, "the words show it");
            },
            |Segment { header, .. }| {
                let error = loop {
                    match attach(header) {
                        Err(SegmentError::NotCreated) => std::thread::yield_now(),
                        other => break other.expect_err("refused"),
                    }
                };
                let SegmentError::Refused(refusal) = error else { panic!("{error}") };
                assert_eq!(refusal.reason(), Reason::Failed(Call::Global));
                let words = error.to_string();
                for word in ["MEMBARRIER_CMD_GLOBAL)", "EPERM", "seccomp", "symmetric"] {
                    assert!(words.contains(word), "no {word} in: {words}");
                }
            },
        );
    });
}

#[test]
fn a_process_in_a_sandbox_without_membarrier_takes_part_in_a_symmetric_segment() {
    Child::default().run(|| {
        two_processes(
            Some(on_membarrier(Errno(EPERM as u32))),
            |Segment::<SegmentStep> { header, .. }, peer| {
                create(header, Mode::Symmetric).expect("always");
                peer.ends_well();
            },
            |Segment { header, .. }| {
                let Attached::Symmetric(me) = attach_when_made(header) else {
                    panic!("asymmetric")
                };
                me.light_fence();
                me.heavy_fence();
                let error = create(fresh().header(), Mode::Asymmetric).expect_err("no membarrier");
                assert!(matches!(error, SegmentError::Refused(_)), "{error}");
            },
        );
    });
}

/// A sandbox that answers success to everything: so QUERY lists no command.
#[test]
fn a_success_of_a_sandbox_that_query_does_not_bear_out_is_not_believed() {
    Child::under(on_membarrier(Errno(0))).run(|| {
        let Err(SegmentError::Refused(refusal)) = create(fresh().header(), Mode::Asymmetric) else {
            panic!()
        };
        assert_eq!(refusal.reason(), Reason::CommandsNotOffered);
    });
}

/// What was found out before a sandbox is entered does not count in it.
#[test]
fn a_forked_child_and_a_thread_that_enter_a_sandbox_are_refused_there() {
    // Success, and EPERM.
    for errno in ["0", "1"] {
        Child::with("ERRNO", errno).run(|| {
            let errno: u32 = std::env::var("ERRNO").expect("set above").parse().expect("a number");
            let reason =
                if errno == 0 { Reason::AcceptsNonsense } else { Reason::Failed(Call::Global) };
            let segment = fresh();
            create(segment.header(), Mode::Asymmetric).expect("membarrier is offered");
            drop(attach_asymmetric(segment.header()));
            let is_refused = || {
                apply_filter(&on_command(Global, Errno(errno))).expect("the filter is accepted");
                let Err(SegmentError::Refused(refusal)) = attach(segment.header()) else {
                    panic!()
                };
                assert_eq!(refusal.reason(), reason);
                assert!(create(fresh().header(), Mode::Asymmetric).is_err());
            };
            in_fork(is_refused);
            std::thread::scope(|scope| scope.spawn(is_refused).join().expect("no panic"));
            // The twin: outside of the sandbox.
            drop(attach_asymmetric(segment.header()));
        });
    }
}

#[test]
fn a_call_that_a_sandbox_answers_and_not_the_kernel_is_not_believed() {
    Child::under(on_command(Global, Errno(0))).run(|| {
        let Err(SegmentError::Refused(refusal)) = create(fresh().header(), Mode::Asymmetric) else {
            panic!("it is believed")
        };
        assert_eq!(refusal.reason(), Reason::AcceptsNonsense);
    });
}

#[test]
fn a_sandbox_closed_later_is_an_error_of_try_heavy_fence() {
    Child::default().run(|| {
        let header = fresh();
        create(header.header(), Mode::Asymmetric).expect("membarrier is offered");
        let me = attach_asymmetric(header.header());
        apply_filter_all_threads(&on_command(Global, Errno(EINVAL as u32)))
            .expect("the filter is accepted");
        let failure = me.try_heavy_fence().expect_err("refused");
        assert_eq!((failure.call(), failure.errno()), (Call::Global, EINVAL));
    });
}

#[test]
fn a_sandbox_closed_later_aborts_heavy_fence() {
    let outcome = Child::default().outcome(|| {
        let header = fresh();
        create(header.header(), Mode::Asymmetric).expect("membarrier is offered");
        let me = attach_asymmetric(header.header());
        apply_filter_all_threads(&on_membarrier(Errno(EPERM as u32)))
            .expect("the filter is accepted");
        me.heavy_fence();
    });
    outcome.aborted_saying(&[
        "asymfence: heavy fence between processes",
        "membarrier(MEMBARRIER_CMD_GLOBAL) failed with EPERM (1)",
    ]);
}

#[test]
fn when_every_place_is_taken_the_next_is_told() {
    Child::default().run(|| {
        let segment = fresh();
        let header = segment.header();
        create(header, Mode::Asymmetric).expect("membarrier is offered");
        let taken: Vec<_> = (0..PARTICIPANTS).map(|_| attach_asymmetric(header)).collect();
        assert!(taken.iter().map(|participant| participant.index()).eq(0..PARTICIPANTS));
        let error = attach(header).expect_err("full");
        assert_eq!(error, SegmentError::Full { ended: 0 });
        assert!(error.to_string().contains("their processes live"), "{error}");
        drop(taken);
        assert_eq!(attach_asymmetric(header).index(), 0);
    });
}

#[test]
fn threads_that_attach_at_once_get_places_of_their_own() {
    Child::default().run(|| {
        let segment = fresh();
        let header = segment.header();
        create(header, Mode::Symmetric).expect("always");
        let barrier = &std::sync::Barrier::new(8);
        let had = &std::sync::Mutex::new(std::collections::BTreeSet::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(move || {
                    for _ in 0..1_000 {
                        barrier.wait();
                        let me = attach_symmetric(header);
                        assert!(me.index() < 8);
                        assert!(had.lock().expect("no panic").insert(me.index()), "another's");
                        assert!(me.places().any(|place| place == me.index()));
                        barrier.wait();
                        assert_eq!(me.places().count(), 8);
                        had.lock().expect("no panic").remove(&me.index());
                        barrier.wait();
                    }
                });
            }
        });
    });
}
