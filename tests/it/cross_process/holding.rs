//! Who holds a place, and until when: whatever forks, namespaces, process numbers and descriptors do.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::mem::forget;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32};
use std::sync::{Barrier, Mutex};
use std::thread;

use asymfence::cross_process::{
    Attached, Mode, PARTICIPANTS, Participant, SegmentError, SegmentStep, WORDS,
};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{self, SigHandler};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid};
use rustix::process::{Signal, kill_process, set_child_subreaper};
use seccompiler::{SeccompAction, apply_filter};

use super::forked::{OPEN, at_each};
use super::{
    FCNTL, Header, Segment, attach, attach_asymmetric, attach_symmetric, create, fresh, reap,
};
use crate::child::{Child, Outcome, ledger, needs_procfs};
use crate::filter::{SYS_FCNTL, on_close};
use crate::fork::in_fork;
use crate::memory::{Atomics, Memory};
use crate::mount::{enter_an_empty_root, mount, mounts_of_its_own, unmount};

/// How far the other process has come.
#[repr(C)]
struct Progress(AtomicU32);

// SAFETY: an atomic integer.
unsafe impl Atomics for Progress {}

/// A symmetric segment that forked processes share. Its fences are not the question here.
pub(super) fn shared(work: impl FnOnce(Header<'_>, &AtomicU32)) {
    needs_procfs();
    let memory = Memory::new::<Progress>().expect("a memfd");
    let Segment { header, data } = Segment::<Progress>::of(&memory);
    create(header, Mode::Symmetric).expect("a memfd can be locked");
    work(header, &data.0);
}

pub(super) fn wait_for(step: &AtomicU32, value: u32) {
    while step.load(SeqCst) != value {
        thread::yield_now();
    }
}

/// Runs `body` in a forked process, which then ends without a destructor.
pub(super) fn fork_off(body: impl FnOnce()) -> Pid {
    // SAFETY: as in `in_fork`.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let fails = catch_unwind(AssertUnwindSafe(body)).is_err();
            // SAFETY: ends the process without running the test harness's destructors.
            unsafe { libc::_exit(i32::from(fails)) }
        }
        ForkResult::Parent { child } => child,
    }
}

#[track_caller]
pub(super) fn ends_well(child: Pid) {
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
}

#[track_caller]
fn kill(child: Pid) {
    let pid = rustix::process::Pid::from_raw(child.as_raw()).expect("a process");
    kill_process(pid, Signal::KILL).expect("a child");
    waitpid(child, None).expect("a child");
}

fn places<F: asymfence::cross_process::Fences>(me: &Participant<'_, F>) -> Vec<usize> {
    me.places().collect()
}

/// The places that are reaped.
pub(super) fn reaped(header: Header<'_>) -> Vec<usize> {
    let mut dead = Vec::new();
    let count = reap(header, |place| dead.push(place)).expect("the file can be locked");
    assert_eq!(count, dead.len());
    dead
}

/// The copy of the participant that a forked child has.
///
/// # Safety
///
/// `me` belongs to the parent of this forked process, and is not used in this process any more.
unsafe fn copy_of<T>(me: &T) -> T {
    // SAFETY: as the caller says.
    unsafe { ptr::read(me) }
}

/// A new PID namespace for the next child; false, and said in the ledger, where that is forbidden.
pub(super) fn next_child_is_pid_1() -> bool {
    // SAFETY: takes no memory.
    let may = unsafe { libc::unshare(libc::CLONE_NEWPID) } == 0;
    if may {
        ledger::ran("PID namespace");
    } else {
        ledger::skipped("PID namespace", std::io::Error::last_os_error());
    }
    may
}

#[test]
fn a_forked_child_that_drops_its_copy_leaves_the_place_to_its_parent() {
    Child::default().run(|| {
        shared(|header, _| {
            let me = attach_symmetric(header);
            in_fork(|| {
                // SAFETY: in the child `me` is forgotten with the process.
                drop(unsafe { copy_of(&me) });
                let other = attach_symmetric(header);
                assert_eq!((other.index(), places(&other)), (1, vec![0, 1]), "one of its own");
            });
            assert_eq!(places(&me), [0]);
            assert_eq!(reaped(header), []);
            drop(me);
            assert_eq!(attach_symmetric(header).index(), 0);
        });
    });
}

/// A process and its child can both be PID 1.
#[test]
fn pid_1_and_its_child_pid_1_are_told_apart() {
    Child::default().run(|| {
        shared(|header, _| {
            if !next_child_is_pid_1() {
                return;
            }
            in_fork(|| {
                assert_eq!(getpid().as_raw(), 1);
                let me = attach_symmetric(header);
                assert!(next_child_is_pid_1());
                in_fork(|| {
                    assert_eq!(getpid().as_raw(), 1);
                    // SAFETY: in the child `me` is forgotten with the process.
                    drop(unsafe { copy_of(&me) });
                });
                assert_eq!(places(&me), [0]);
                assert_eq!(attach_symmetric(header).index(), 1);
            });
        });
    });
}

#[test]
fn those_that_die_in_another_pid_namespace_are_reaped_from_anywhere() {
    Child::default().run(|| {
        shared(|header, step| {
            let me = attach_symmetric(header);
            if !next_child_is_pid_1() {
                return;
            }
            // In a namespace of their own: one that lives, and three that die.
            let init = fork_off(|| {
                let me = attach_symmetric(header);
                for _ in 0..3 {
                    ends_well(fork_off(|| forget(attach_symmetric(header))));
                }
                step.store(1, SeqCst);
                wait_for(step, 2);
                drop(me);
            });
            wait_for(step, 1);
            assert_eq!(places(&me), [0, 1, 2, 3, 4]);
            assert_eq!(reaped(header), [2, 3, 4], "from here, and not the one that lives");
            step.store(2, SeqCst);
            ends_well(init);
            assert_eq!(places(&me), [0]);
        });
    });
}

/// From one namespace into another, neither of which sees the other.
#[test]
fn those_that_die_in_a_sibling_pid_namespace_are_reaped() {
    Child::default().run(|| {
        shared(|header, _| {
            // A process can ask only once for a new PID namespace of its children (unshare(2)). So each of the two is
            // made by a fork.
            in_fork(|| {
                if next_child_is_pid_1() {
                    ends_well(fork_off(|| forget(attach_symmetric(header))));
                } else {
                    forget(attach_symmetric(header));
                }
            });
            in_fork(|| {
                next_child_is_pid_1();
                in_fork(|| assert_eq!(reaped(header), [0]));
            });
        });
    });
}

#[test]
fn a_process_that_has_the_number_of_one_that_died_is_not_taken_for_it() {
    Child::default().run(|| {
        shared(|header, step| {
            if !next_child_is_pid_1() {
                return;
            }
            in_fork(|| {
                let dead = fork_off(|| forget(attach_symmetric(header)));
                ends_well(dead);
                let last = (dead.as_raw() - 1).to_string();
                fs::write("/proc/sys/kernel/ns_last_pid", last).expect("root of the namespace");
                let other = fork_off(|| wait_for(step, 1));
                assert_eq!(other, dead, "the number is given again");
                assert_eq!(reaped(header), [0]);
                step.store(1, SeqCst);
                ends_well(other);
            });
        });
    });
}

/// fork(2), the parent exits, the child goes on: a daemon.
#[test]
fn a_daemon_keeps_the_place_that_it_had_before_its_parent_exited() {
    Child::default().run(|| {
        set_child_subreaper(Some(rustix::process::getpid())).expect("the daemon's new parent");
        shared(|header, step| {
            for parent_drops in [false, true] {
                step.store(0, SeqCst);
                let parent = fork_off(|| {
                    let me = attach_symmetric(header);
                    fork_off(|| {
                        wait_for(step, 1);
                        assert_eq!(me.index(), 0);
                    });
                    if parent_drops { drop(me) } else { forget(me) }
                });
                ends_well(parent);
                let other = attach_symmetric(header);
                assert_eq!((other.index(), places(&other)), (1, vec![0, 1]), "the daemon has it");
                assert_eq!(reaped(header), []);
                step.store(1, SeqCst);
                let Ok(WaitStatus::Exited(_, 0)) = waitpid(None, None) else { panic!() };
                assert_eq!(reaped(header), [0], "the twin: nobody has it now");
            }
        });
    });
}

/// As a daemon does, which does not know what its libraries have opened.
#[test]
fn closing_every_descriptor_does_not_give_the_place_back() {
    Child::default().run(|| {
        shared(|header, step| {
            let other = fork_off(|| {
                forget(attach_symmetric(header));
                // SAFETY: what this forked process uses afterwards is no descriptor.
                assert_eq!(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) }, 0);
                step.store(1, SeqCst);
                wait_for(step, 2);
            });
            wait_for(step, 1);
            assert_eq!(reaped(header), []);
            kill(other);
            assert_eq!(reaped(header), [0]);
        });
    });
}

/// All numbers that a descriptor of this process may have, except that of the segment's file.
fn numbers_but_of(header: Header<'_>) -> impl Iterator<Item = libc::c_int> {
    let kept = header.file.as_raw_fd();
    (3..100).filter(move |&number| number != kept)
}

fn file_under(number: libc::c_int) -> Option<[u64; 2]> {
    // SAFETY: only asks which file has the number, if any.
    let found = rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(number) }).ok()?;
    Some([found.st_dev, found.st_ino])
}

/// Puts another file under each number but that of the segment's file, or closes them.
fn take_all_numbers_but_of(header: Header<'_>, is_replaced: bool) {
    let other = fs::File::open("/dev/null").expect("a file");
    for number in numbers_but_of(header) {
        // SAFETY: nobody uses what the number stood for any more, except to close it.
        unsafe { libc::dup2(other.as_raw_fd(), number) };
        if !is_replaced {
            // SAFETY: as above.
            unsafe { libc::close(number) };
        }
    }
    forget(other); // its number may be one of these
}

/// As a thread does that makes the process a daemon, while another thread cleans.
#[test]
fn closing_every_descriptor_does_not_let_another_clean_a_place_that_is_being_cleaned() {
    Child::default().run(|| {
        shared(|header, _| {
            ends_well(fork_off(|| forget(attach_symmetric(header))));
            ends_well(fork_off(|| {
                let count = reap(header, |place| {
                    assert_eq!(place, 0);
                    take_all_numbers_but_of(header, true);
                    ends_well(fork_off(|| {
                        assert_eq!(reaped(header), []);
                        assert_eq!(attach_symmetric(header).index(), 1, "0 is being cleaned");
                    }));
                });
                assert_eq!(count, Ok(1));
            }));
            assert_eq!(attach_symmetric(header).index(), 0);
        });
    });
}

/// Another thread may have opened the lock file again under a number that was closed. If this thread went on with the
/// old number, both would lock by one description, and its locks do not exclude each other.
#[test]
fn after_a_clean_in_which_all_was_closed_no_place_is_cleaned_by_the_old_number() {
    Child::default().run(|| {
        shared(|header, step| {
            ends_well(fork_off(|| (0..2).for_each(|_| forget(attach_symmetric(header)))));
            ends_well(fork_off(|| {
                thread::scope(|scope| {
                    let mut other = None;
                    let count = reap(header, |place| {
                        if place != 0 {
                            step.store(2, SeqCst);
                            panic!("{place} is being cleaned by the other thread");
                        }
                        take_all_numbers_but_of(header, false);
                        other = Some(scope.spawn(|| {
                            reap(header, |place| {
                                assert_eq!(place, 1);
                                step.store(1, SeqCst);
                                wait_for(step, 2);
                            })
                        }));
                        wait_for(step, 1);
                    });
                    // The descriptor of the other thread's `reap`, whose number is the one that was closed.
                    let file = file_under(header.file.as_raw_fd());
                    let is_there = numbers_but_of(header).any(|number| file_under(number) == file);
                    step.store(2, SeqCst);
                    assert!(is_there, "the descriptor of the other thread was closed");
                    let other = other.expect("spawned").join().expect("no panic");
                    assert_eq!((count, other), (Ok(1), Ok(1)));
                });
            }));
            assert_eq!(reaped(header), []);
            assert_eq!(attach_symmetric(header).index(), 0);
        });
    });
}

/// The descriptors that `replaces` leaves alone: first that of the segment's file, then two of the test.
static KEPT: [AtomicI32; 3] = [const { AtomicI32::new(0) }; 3];
static IS_DONE: AtomicBool = AtomicBool::new(false);
/// The number that the descriptor of `reap` or `attach` had; 0 if it had none.
static REPLACED: AtomicI32 = AtomicI32::new(0);

/// As if another thread closed every descriptor in the middle of `reap` or `attach`, and opened a file (`KEPT[1]`).
extern "C" fn replaces(_signal: libc::c_int) {
    let kept = KEPT.each_ref().map(|number| number.load(SeqCst));
    let locked = file_under(kept[0]);
    for number in (3..100).filter(|number| !kept.contains(number)) {
        if file_under(number) == locked {
            REPLACED.store(number, SeqCst);
        }
        // SAFETY: nobody uses what the number stood for any more, except to close it.
        unsafe { libc::dup2(kept[1], number) };
    }
    IS_DONE.store(true, SeqCst);
}

/// From now on SIGUSR1 interrupts the process in that way.
fn replace_at_the_signal() {
    // SAFETY: the handler's calls are async-signal-safe.
    unsafe { signal::signal(signal::SIGUSR1, SigHandler::Handler(replaces)) }.expect("a handler");
}

/// Gives `body` a segment, and another description of the segment's file. Checks afterwards that neither `reap` nor
/// `attach` has closed the file that `replaces` put under the number of their descriptor.
fn while_replaced(body: impl FnOnce(Header<'_>, &fs::File)) {
    shared(|header, _| {
        // A file that can be mapped: otherwise `reap` fails.
        let other = Memory::new::<Progress>().expect("a memfd");
        let another = opened_anew(header, true);
        let kept = [header.file.as_raw_fd(), other.file().as_raw_fd(), another.as_raw_fd()];
        KEPT.iter().zip(kept).for_each(|(place, number)| place.store(number, SeqCst));
        body(header, &another);
        if !IS_DONE.load(SeqCst) {
            println!("no signal");
        }
        let replaced = REPLACED.load(SeqCst);
        if replaced != 0 {
            println!("its descriptor");
            assert_eq!(file_under(replaced), file_under(kept[1]));
        }
    });
}

/// Runs a child, in which `replaces` runs after its first call on locks, or after the first open(2) of a descriptor;
/// then another one, in which it runs after the second; and so on.
fn at_each_lock(runs: impl Fn(Child) -> Outcome) {
    for call in [OPEN, FCNTL] {
        let (ran, of_its_own) = (Cell::new(0), Cell::new(0));
        at_each(call, |child| {
            let outcome = runs(child);
            ran.set(ran.get() + usize::from(!outcome.cannot_run()));
            of_its_own.set(of_its_own.get() + outcome.count("its descriptor"));
            outcome
        });
        // The file may have another descriptor than 3: see `at_each`.
        assert!(of_its_own.get() != 0 || ran.get() == 0 || call == OPEN);
    }
}

#[test]
fn a_reap_whose_descriptor_is_replaced_takes_no_place_of_the_living() {
    let reaps = |header: Header<'_>, _: &fs::File| {
        let me = attach_symmetric(header);
        replace_at_the_signal();
        // It may be an error.
        let _ = reap(header, |place| panic!("{place} is cleaned, and its holder lives"));
        let _ = attach(header);
        assert_eq!(me.renew(), Ok(()));
    };
    at_each_lock(|child| child.outcome(|| while_replaced(reaps)));
}

/// A lock of another process is not taken for one's own.
#[test]
fn an_attach_whose_descriptor_is_replaced_takes_no_place_that_another_is_taking() {
    let attaches = |header: Header<'_>, another: &fs::File| {
        // As a process that is taking place 0, and has not changed its word yet.
        [HELD, CHANGE].iter().for_each(|&byte| lock(another, libc::F_WRLCK, byte, 1));
        replace_at_the_signal();
        match attach(header) {
            Ok(Attached::Symmetric(mine)) => {
                assert_eq!(mine.index(), 1, "the other process takes 0")
            }
            answer => assert!(IS_DONE.load(SeqCst), "without a signal: {answer:?}"),
        }
    };
    at_each_lock(|child| child.outcome(|| while_replaced(attaches)));
}

#[test]
fn a_reap_whose_descriptor_is_replaced_keeps_the_place_that_it_cleans() {
    let reaps = |header: Header<'_>, _: &fs::File| {
        // As a process leaves it that ended. (Such a process would get the signal too.)
        header.words[WORDS - PARTICIPANTS].store(1, SeqCst);
        replace_at_the_signal();
        let count = reap(header, |place| {
            assert_eq!(place, 0);
            assert!(is_locked(header.file, CHANGE), "others may clean it too");
        });
        assert!(count == Ok(1) || IS_DONE.load(SeqCst), "without a signal: {count:?}");
    };
    at_each_lock(|child| child.outcome(|| while_replaced(reaps)));
}

/// In `clean` all descriptors but that of the segment's file are closed, or another file gets their numbers. Either the
/// process does this, and `clean` panics; or a child that `clean` forks does it, and returns from `clean`. (So the
/// library closes its descriptor by the C library, and only while the number is its own: in a debug build the standard
/// library aborts if it closes a descriptor that is closed already.)
#[test]
fn a_reap_whose_descriptor_was_closed_closes_no_other() {
    Child::default().run(|| {
        shared(|header, _| {
            for (is_replaced, panics) in
                [(true, true), (true, false), (false, true), (false, false)]
            {
                ends_well(fork_off(|| forget(attach_symmetric(header))));
                ends_well(fork_off(|| {
                    let cleans = || {
                        reap(header, |_| {
                            if panics {
                                take_all_numbers_but_of(header, is_replaced);
                                panic!("on purpose");
                            }
                            // SAFETY: parent and child make calls that need no lock of another thread.
                            match unsafe { fork() }.expect("fork") {
                                ForkResult::Child => take_all_numbers_but_of(header, is_replaced),
                                ForkResult::Parent { child } => ends_well(child),
                            }
                        })
                    };
                    let count = catch_unwind(AssertUnwindSafe(cleans));
                    assert_eq!(count.is_err(), panics);
                    // Not in the process whose child took the numbers: its own descriptors are as before.
                    if is_replaced && !matches!(count, Ok(Ok(1))) {
                        for number in 3..100 {
                            assert!(file_under(number).is_some(), "{number} was closed");
                        }
                    }
                }));
                assert_eq!(reaped(header), if panics { vec![0] } else { vec![] });
                assert_eq!(attach_symmetric(header).index(), 0);
            }
        });
    });
}

/// Another thread may reap another segment by the number that was closed. It keeps its lock.
#[test]
fn after_a_clean_in_which_all_was_closed_no_lock_of_another_segment_is_released() {
    Child::default().run(|| {
        shared(|first, step| {
            shared(|second, _| {
                let close_the_others = || {
                    for number in numbers_but_of(first) {
                        if number != second.file.as_raw_fd() {
                            // SAFETY: nobody uses it any more.
                            unsafe { libc::close(number) };
                        }
                    }
                };
                for header in [first, second] {
                    ends_well(fork_off(|| forget(attach_symmetric(header))));
                }
                ends_well(fork_off(|| {
                    // So both reaps get the lowest number that is free.
                    close_the_others();
                    thread::scope(|scope| {
                        let mut other = None;
                        let count = reap(first, |_| {
                            close_the_others();
                            other = Some(scope.spawn(|| {
                                reap(second, |_| {
                                    step.store(1, SeqCst);
                                    wait_for(step, 2);
                                })
                            }));
                            wait_for(step, 1);
                        });
                        let cleaned_again = reaped(second);
                        step.store(2, SeqCst);
                        let other = other.expect("spawned").join().expect("no panic");
                        assert_eq!((count, other), (Ok(1), Ok(1)));
                        assert_eq!(cleaned_again, [], "it is being cleaned");
                    });
                }));
            });
        });
    });
}

/// A daemon closes every descriptor and opens its log, which gets the segment's number.
#[test]
fn another_file_under_the_number_is_not_taken_for_the_segments() {
    Child::default().run(|| {
        shared(|header, _| {
            let mine = attach_symmetric(header);
            in_fork(|| {
                let log = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC)
                    .expect("a descriptor");
                // SAFETY: nobody else uses the segment's number in this forked process.
                let answer = unsafe { libc::dup2(log.as_raw_fd(), header.file.as_raw_fd()) };
                assert!(answer >= 0);
                // SAFETY: the parent's, which this process does not use any more.
                let copy = unsafe { copy_of(&mine) };
                assert_eq!(copy.renew(), Err(SegmentError::OtherFile));
                assert_eq!(copy.reap(|_| panic!("it lives")), Err(SegmentError::OtherFile));
                drop(copy);
            });
            assert_eq!(mine.places().collect::<Vec<_>>(), [mine.index()]);
            assert_eq!(mine.renew(), Ok(()));
        });
    });
}

#[test]
fn exec_gives_the_place_to_be_reaped() {
    Child::default().run(|| {
        needs_procfs();
        let memory: &'static Memory =
            Box::leak(Box::new(Memory::new::<Progress>().expect("a memfd")));
        let Segment { header, .. } = Segment::<Progress>::of(memory);
        create(header, Mode::Symmetric).expect("a memfd can be locked");
        let mut command = Command::new("cat");
        // SAFETY: between fork and exec the closure makes system calls only.
        unsafe {
            command.pre_exec(move || {
                forget(attach(header).map_err(std::io::Error::other)?);
                Ok(())
            })
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut cat = command.spawn().expect("a program that waits");
        // The new program has written this byte. So the kernel was through with the old memory by then.
        cat.stdin.as_mut().expect("a pipe").write_all(b"x").expect("a pipe");
        cat.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("a byte");
        assert_eq!(reaped(header), [0]);
        assert!(cat.try_wait().expect("a child").is_none(), "it lives");
        cat.kill().expect("a child");
        cat.wait().expect("a child");
    });
}

#[test]
fn the_place_of_a_zombie_is_reaped() {
    Child::default().run(|| {
        shared(|header, _| {
            let zombie = fork_off(|| forget(attach_symmetric(header)));
            waitid(Id::Pid(zombie), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("a child");
            assert_eq!(reaped(header), [0]);
            ends_well(zombie);
        });
    });
}

#[test]
fn a_place_whose_cleaning_panics_stays_taken_and_is_found_again() {
    Child::default().run(|| {
        shared(|header, _| {
            let me = attach_symmetric(header);
            ends_well(fork_off(|| forget(attach_symmetric(header))));
            let panics = AssertUnwindSafe(|| me.reap(|_| panic!("on purpose")));
            assert!(catch_unwind(panics).is_err());
            assert_eq!(places(&me), [0, 1]);
            assert_eq!(attach_symmetric(header).index(), 2, "nobody gets what is not clean");
            assert_eq!(reaped(header), [1]);
            assert_eq!(attach_symmetric(header).index(), 1);
        });
    });
}

#[test]
fn a_process_that_dies_while_it_cleans_leaves_the_place_to_be_reaped() {
    Child::default().run(|| {
        shared(|header, _| {
            ends_well(fork_off(|| forget(attach_symmetric(header))));
            ends_well(fork_off(|| {
                // SAFETY: ends the process.
                let count = reap(header, |_| unsafe { libc::_exit(0) });
                panic!("it did not end in there: {count:?}");
            }));
            assert_eq!(reaped(header), [0]);
        });
    });
}

/// Place 0 is not reaped before the orphans that hold it have ended, which happens at the next step.
#[track_caller]
fn is_reaped_after_the_orphans(header: Header<'_>, step: &AtomicU32) {
    assert_eq!(reaped(header), []);
    assert_eq!(attach_symmetric(header).index(), 1);
    step.store(1, SeqCst);
    while waitpid(None, None).is_ok() {}
    assert_eq!(reaped(header), [0]);
}

#[test]
fn a_bystander_that_was_forked_while_a_process_cleaned_keeps_the_place_until_it_ends() {
    Child::default().run(|| {
        set_child_subreaper(Some(rustix::process::getpid())).expect("the bystander's new parent");
        shared(|header, step| {
            ends_well(fork_off(|| forget(attach_symmetric(header))));
            ends_well(fork_off(|| {
                let count = reap(header, |_| {
                    fork_off(|| wait_for(step, 1));
                    // SAFETY: ends the process.
                    unsafe { libc::_exit(0) }
                });
                panic!("it did not end in there: {count:?}");
            }));
            is_reaped_after_the_orphans(header, step);
        });
    });
}

#[test]
fn a_bystander_that_executes_another_program_keeps_no_place() {
    Child::default().run(|| {
        shared(|header, _| {
            ends_well(fork_off(|| forget(attach_symmetric(header))));
            let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
            let ((input, to), (from, output)) = (pipe(), pipe());
            let [input, output] = [input, output].map(|end| Mutex::new(Some(end)));
            ends_well(fork_off(|| {
                let count = reap(header, |_| {
                    fork_off(|| {
                        let [input, output] = [&input, &output].map(|end| {
                            Stdio::from(end.lock().expect("no panic").take().expect("the first"))
                        });
                        let error = Command::new("cat").stdin(input).stdout(output).exec();
                        panic!("{error}");
                    });
                    // SAFETY: ends the process.
                    unsafe { libc::_exit(0) }
                });
                panic!("it did not end in there: {count:?}");
            }));
            // As above: the new program has written this byte. It ends when its input does.
            fs::File::from(to.try_clone().expect("a descriptor")).write_all(b"x").expect("a pipe");
            fs::File::from(from).read_exact(&mut [0]).expect("a byte");
            assert_eq!(reaped(header), [0]);
        });
    });
}

/// As if another thread had forked at that moment: here a handler forks at each file that attaching closes, the last of
/// which is the one with the lock.
#[test]
fn a_child_that_was_forked_in_the_middle_of_attaching_keeps_the_place_until_it_ends() {
    static STEP: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

    extern "C" fn forks(_signal: libc::c_int) {
        // SAFETY: stored below, and mapped for as long as these processes live.
        let step = unsafe { &*STEP.load(SeqCst) };
        // SAFETY: the child waits and ends.
        if unsafe { libc::fork() } == 0 {
            wait_for(step, 1);
            // SAFETY: nothing is to be done at the end of this process.
            unsafe { libc::_exit(0) }
        }
    }

    Child::default().filtering().run(|| {
        set_child_subreaper(Some(rustix::process::getpid())).expect("the child's new parent");
        shared(|header, step| {
            STEP.store(ptr::from_ref(step).cast_mut(), SeqCst);
            ends_well(fork_off(|| {
                // SAFETY: the handler's calls are async-signal-safe.
                unsafe { signal::signal(signal::SIGSYS, SigHandler::Handler(forks)) }
                    .expect("a handler");
                apply_filter(&on_close(SeccompAction::Trap)).expect("the filter is accepted");
                forget(attach_symmetric(header));
            }));
            is_reaped_after_the_orphans(header, step);
        });
    });
}

#[test]
fn nobody_takes_or_reaps_a_place_that_is_being_cleaned() {
    Child::default().run(|| {
        shared(|header, _| {
            let me = attach_symmetric(header);
            ends_well(fork_off(|| forget(attach_symmetric(header))));
            let cleaned = me.reap(|place| {
                assert_eq!(place, 1);
                assert_eq!(me.reap(|_| panic!("it is being cleaned")), Ok(0));
                assert_eq!(reaped(header), []);
                assert_eq!(attach_symmetric(header).index(), 2);
            });
            assert_eq!(cleaned, Ok(1));
        });
    });
}

#[test]
fn of_several_that_reap_each_cleans_other_places() {
    const DEAD: usize = 8;
    Child::default().run(|| {
        shared(|header, _| {
            let me = attach_symmetric(header);
            for _ in 0..20 {
                let first = places(&me).len();
                (0..DEAD).for_each(|_| ends_well(fork_off(|| forget(attach_symmetric(header)))));
                let (barrier, cleaned) = (Barrier::new(3), Mutex::new(Vec::new()));
                thread::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| {
                            barrier.wait();
                            me.reap(|place| cleaned.lock().expect("no panic").push(place))
                                .expect("the file can be locked");
                        });
                    }
                });
                let mut cleaned = cleaned.into_inner().expect("no panic");
                cleaned.sort_unstable();
                assert_eq!(cleaned.len(), DEAD);
                assert!(cleaned.iter().copied().eq(first..first + DEAD));
            }
        });
    });
}

#[test]
fn a_segment_full_of_the_dead_can_be_reaped_by_a_process_that_has_no_place() {
    Child::default().run(|| {
        shared(|header, _| {
            for _ in 0..PARTICIPANTS {
                ends_well(fork_off(|| forget(attach_symmetric(header))));
            }
            let error = attach(header).expect_err("full");
            assert_eq!(error, SegmentError::Full { ended: PARTICIPANTS });
            assert!(error.to_string().contains("reap"), "{error}");
            assert!(reaped(header).into_iter().eq(0..PARTICIPANTS));
            assert_eq!(attach_symmetric(header).index(), 0);
        });
    });
}

fn flock(kind: libc::c_int, first: i64, length: i64) -> libc::flock64 {
    libc::flock64 {
        l_type: kind as _,
        l_whence: libc::SEEK_SET as _,
        l_start: first,
        l_len: length,
        l_pid: 0,
    }
}

/// A lock of the file's description on so many bytes; 0 means all that follow.
#[track_caller]
pub(super) fn lock(file: &fs::File, kind: libc::c_int, first: i64, length: i64) {
    let lock = flock(kind, first, length);
    // SAFETY: the call reads the struct.
    let answer = unsafe { libc::syscall(SYS_FCNTL, file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// The byte that the holder of the first place has locked, and the one that a process locks while it takes or reaps
/// that place.
const HELD: i64 = 1 << 62;
pub(super) const CHANGE: i64 = HELD + PARTICIPANTS as i64;

/// Whether another description has a lock on the byte.
pub(super) fn is_locked(file: BorrowedFd<'_>, byte: i64) -> bool {
    let mut found = flock(libc::F_WRLCK, byte, 1);
    // SAFETY: the call reads and writes the struct.
    let answer =
        unsafe { libc::syscall(SYS_FCNTL, file.as_raw_fd(), libc::F_OFD_GETLK, &mut found) };
    answer == 0 && found.l_type != libc::F_UNLCK as _
}

/// A description of its own of the lock file, for reading, and if `writes` for writing too.
pub(super) fn opened_anew(header: Header<'_>, writes: bool) -> fs::File {
    let path = format!("/proc/self/fd/{}", header.file.as_raw_fd());
    fs::File::options().read(true).write(writes).open(path).expect("our own")
}

/// Another process looks whether it can take or reap the place, for as long as it likes.
#[test]
fn a_place_is_given_back_while_another_process_looks_at_it() {
    Child::default().run(|| {
        shared(|header, _| {
            let other = opened_anew(header, true);
            let (first, second) = (attach_symmetric(header), attach_symmetric(header));
            lock(&other, libc::F_WRLCK, CHANGE, 1);
            assert_eq!(first.renew(), Ok(()));
            drop(first);
            assert_eq!(places(&second), [1]);
            // The twin: place 2, on whose first byte somebody has a lock, is not taken. (Nor is place 0, whose other
            // byte is still locked.)
            lock(&other, libc::F_RDLCK, HELD + 2, 1);
            assert_eq!(attach_symmetric(header).index(), 3);
        });
    });
}

#[test]
fn who_may_only_read_the_file_can_keep_places_from_being_taken_and_reaped() {
    Child::default().run(|| {
        shared(|header, _| {
            ends_well(fork_off(|| forget(attach_symmetric(header))));
            let stranger = opened_anew(header, false);
            for byte in [HELD, CHANGE] {
                lock(&stranger, libc::F_RDLCK, byte, 2);
                assert_eq!(reaped(header), []);
                assert_eq!(attach_symmetric(header).index(), 2);
                lock(&stranger, libc::F_UNLCK, byte, 2);
            }
            lock(&stranger, libc::F_RDLCK, HELD, 2);
            // The twin: it lets them go.
            drop(stranger);
            assert_eq!(reaped(header), [0]);
            assert_eq!(attach_symmetric(header).index(), 0);
        });
    });
}

#[test]
fn a_lock_of_the_programs_own_on_the_whole_file_is_named() {
    Child::default().run(|| {
        shared(|header, _| {
            let file = opened_anew(header, true);
            file.lock().expect("another kind of lock, which is no matter");
            drop(attach_symmetric(header));
            lock(&file, libc::F_WRLCK, 0, 0);
            let error = attach(header).expect_err("locked");
            assert_eq!(error, SegmentError::Locked);
            assert!(error.to_string().contains("lock less"), "{error}");
            // `create` refuses the file too, for a lock of either kind.
            let segment = fresh();
            let other = Header { file: header.file, ..segment.header() };
            for kind in [libc::F_WRLCK, libc::F_RDLCK] {
                lock(&file, kind, 0, 0);
                assert_eq!(create(other, Mode::Symmetric), Err(SegmentError::FileInUse));
            }
        });
    });
}

/// overlayfs is refused by its number (fstatfs(2)), also while a child that is being spawned hides that the lock is
/// lost.
#[test]
fn a_file_system_that_does_not_keep_the_lock_is_refused() {
    Child::default().run(|| {
        let folder = std::env::temp_dir().join(format!("asymfence-{}", std::process::id()));
        let path = |name: &str| folder.join(name).to_str().expect("plain").to_owned();
        fs::create_dir(&folder).expect("a folder");
        let apart = mounts_of_its_own() && mount("tmpfs", &path(""), "tmpfs", 0, "");
        let mounted = apart && {
            for name in ["lower", "upper", "work", "merged"] {
                fs::create_dir(path(name)).expect("a folder");
            }
            let [lower, upper, work] = ["lower", "upper", "work"].map(path);
            let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
            mount("overlay", &path("merged"), "overlay", 0, &options)
        };
        if mounted {
            ledger::ran("overlayfs");
            for (name, expected) in
                [("merged/file", Err(SegmentError::LockNotKept)), ("file", Ok(0))]
            {
                let file = fs::File::create_new(path(name)).expect("a file");
                let segment = fresh();
                let header = Header { file: file.as_fd(), ..segment.header() };
                create(header, Mode::Symmetric).expect("the file is known");
                let outcome = attach(header).map(|_| 0);
                assert_eq!(outcome, expected, "{name}");
                assert_eq!(reaped(header), [], "the place is free");
                if expected == Ok(0) {
                    continue;
                }
                // A child that is spawned meanwhile holds every description, and its locks, until it calls exec.
                thread::scope(|scope| {
                    let spawns = scope.spawn(|| {
                        for _ in 0..100 {
                            Command::new("true").status().expect("a program");
                        }
                    });
                    while !spawns.is_finished() {
                        assert_eq!(attach(header).map(|_| 0), expected, "beside a spawn");
                    }
                });
            }
        } else {
            ledger::skipped("overlayfs", std::io::Error::last_os_error());
        }
        if apart {
            unmount(&path(""));
        }
        fs::remove_dir_all(&folder).expect("no file system is mounted there");
    });
}

#[test]
fn who_has_no_descriptor_left_is_told_so_and_its_fences_go_on() {
    Child::default().run(|| {
        let (segment, other) = (fresh(), fresh());
        let header = segment.header();
        create(header, Mode::Asymmetric).expect("membarrier is offered");
        let me = attach_asymmetric(header);
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, 0, most).expect("a lower one");
        for error in [
            create(other.header(), Mode::Asymmetric).expect_err("refused"),
            create(other.header(), Mode::Symmetric).expect_err("refused"),
            attach(header).expect_err("refused"),
            reap(header, |_| ()).expect_err("refused"),
            me.reap(|_| ()).expect_err("refused"),
        ] {
            let SegmentError::Failed(step, libc::EMFILE) = error else { panic!("{error:?}") };
            assert!(matches!(step, SegmentStep::ReadBootId | SegmentStep::Reopen));
            let words = error.to_string();
            assert!(words.contains("no descriptor left"), "{words}");
            assert!(!words.contains("mount"), "{words}");
        }
        assert!(other.words.iter().all(|word| word.load(SeqCst) == 0), "nothing was written");
        me.heavy_fence();
        drop(me);
        setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("the same as before");
        let me = attach_asymmetric(header);
        assert_eq!(me.index(), 0, "a place is given back without a descriptor");
    });
}

/// The twin of the one before: here that is the advice.
#[test]
fn who_has_no_proc_is_told_to_mount_it() {
    Child::default().run(|| {
        let segment = fresh();
        if let Err(error) = enter_an_empty_root() {
            ledger::skipped("chroot", error);
        } else {
            ledger::ran("chroot");
            let error = create(segment.header(), Mode::Asymmetric).expect_err("refused");
            assert_eq!(error, SegmentError::Failed(SegmentStep::ReadBootId, libc::ENOENT));
            assert!(error.to_string().contains("mount /proc"), "{error}");
        }
    });
}

#[test]
fn a_participant_that_has_lost_its_place_is_told() {
    Child::default().run(|| {
        let segment = fresh();
        let header = segment.header();
        create(header, Mode::Asymmetric).expect("membarrier is offered");
        let me = attach_asymmetric(header);
        assert_eq!(me.renew(), Ok(()));
        header.words[16].fetch_add(2, SeqCst);
        assert_eq!(me.renew(), Err(SegmentError::PlaceLost));
        header.words[16].fetch_sub(2, SeqCst);
        assert_eq!(me.renew(), Ok(()));

        super::lose_the_lock_of("/memfd:locks");
        assert_eq!(me.renew(), Err(SegmentError::PlaceLost));
        forget(me);
        assert_eq!(reaped(header), [0]);
    });
}
