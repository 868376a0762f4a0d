//! Forks in the middle of attaching and reaping, after which both processes go on.

use std::mem::forget;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32};
use std::{ptr, thread};

use asymfence::cross_process::Attached;
use nix::libc;
use nix::sys::signal::{self, SigHandler};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use super::holding::{ends_well, fork_off, reaped, shared};
use super::{FCNTL, FSTATFS, Header, attach, attach_symmetric, reap};
use crate::child::{Child, Outcome};

#[test]
fn a_child_that_returns_from_clean_leaves_the_place_to_its_parent() {
    Child::default().run(|| {
        shared(|header, step| {
            ends_well(fork_off(|| forget(attach_symmetric(header))));
            let parent = getpid();
            let mut child = None;
            let count = reap(header, |place| {
                assert_eq!(place, 0);
                // SAFETY: the child makes calls that need no lock of another thread, and ends.
                match unsafe { fork() }.expect("fork") {
                    ForkResult::Child => {}
                    ForkResult::Parent { child: pid } => {
                        child = Some(pid);
                        while step.load(SeqCst) == 0 {
                            thread::yield_now();
                        }
                        assert_eq!(step.load(SeqCst), 1, "the child has freed it");
                        assert_eq!(attach_symmetric(header).index(), 1, "0 is being cleaned");
                        assert_eq!(reaped(header), []);
                    }
                }
            });
            if getpid() != parent {
                step.store(if count == Ok(0) { 1 } else { 2 }, SeqCst);
                // SAFETY: nothing is to be done at the end of this process.
                unsafe { libc::_exit(0) }
            }
            assert_eq!(count, Ok(1));
            ends_well(child.expect("forked in there"));
            assert_eq!(attach_symmetric(header).index(), 0);
        });
    });
}

/// What the child says of its place: its number and this, or one of the next two.
const HELD: u32 = 16;
const LOST: u32 = 2;
const REFUSED: u32 = 3;

/// In a process that gets SIGUSR1 at one of its calls: its handler forks, and both go on, one when the other has
/// attached.
fn both_attach(child_is_first: bool) {
    static STEP: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
    static CHILD: AtomicI32 = AtomicI32::new(-1);
    static CHILD_IS_FIRST: AtomicI32 = AtomicI32::new(0);

    extern "C" fn forks(_signal: libc::c_int) {
        if CHILD.load(SeqCst) != -1 {
            return;
        }
        // SAFETY: both go on as one process would.
        CHILD.store(unsafe { libc::fork() }, SeqCst);
        // SAFETY: stored below, and mapped for as long as these processes live.
        let step = unsafe { &*STEP.load(SeqCst) };
        if (CHILD.load(SeqCst) == 0) != (CHILD_IS_FIRST.load(SeqCst) == 1) {
            while step.load(SeqCst) == 0 {
                thread::yield_now();
            }
        }
    }

    fn held(attached: &Result<Attached<'_>, impl Sized>) -> u32 {
        match attached {
            Ok(Attached::Symmetric(me)) if me.renew().is_ok() => HELD + me.index() as u32,
            Ok(_) => LOST,
            Err(_) => REFUSED,
        }
    }

    fn end(step: &AtomicU32, attached: &Result<Attached<'_>, impl Sized>) -> ! {
        let parent = getppid();
        step.store(held(attached), SeqCst);
        while step.load(SeqCst) != 0 && getppid() == parent {
            thread::yield_now();
        }
        // SAFETY: nothing is to be done at the end of this process.
        unsafe { libc::_exit(i32::from(held(attached) == LOST)) }
    }

    shared(|header: Header<'_>, step| {
        STEP.store(ptr::from_ref(step).cast_mut(), SeqCst);
        CHILD_IS_FIRST.store(i32::from(child_is_first), SeqCst);
        // SAFETY: the handler's calls are async-signal-safe.
        unsafe { signal::signal(signal::SIGUSR1, SigHandler::Handler(forks)) }.expect("a handler");
        let attached = attach(header);
        // From now on the handler does nothing.
        let child =
            match CHILD.compare_exchange(-1, -2, SeqCst, SeqCst).unwrap_or_else(|child| child) {
                -1 => return println!("no signal"),
                0 => end(step, &attached),
                child => Pid::from_raw(child),
            };
        if !child_is_first {
            step.store(1, SeqCst);
        }
        while step.load(SeqCst) <= 1 {
            thread::yield_now();
        }
        let (mine, theirs) = (held(&attached), step.load(SeqCst));
        assert_ne!(mine, LOST);
        assert_ne!(theirs, LOST);
        assert!(mine >= HELD || theirs >= HELD, "one of the two has a place");
        assert_eq!(reaped(header), [], "both live");
        let other = attach_symmetric(header).index() as u32 + HELD;
        assert!(other != mine && other != theirs, "{mine} {theirs} {other}");
        assert_eq!(held(&attached), mine);
        if theirs >= HELD && mine >= HELD && mine != theirs {
            // Each has a lock of its own, so each gives its place back by itself.
            drop(attached);
            assert_eq!(attach_symmetric(header).index() as u32 + HELD, mine);
        }
        step.store(0, SeqCst);
        ends_well(child);
    });
}

/// The calls that attaching makes for its lock.
const CALLS: [&str; 3] = ["?open,openat", FSTATFS, FCNTL];

/// At each of these calls, as long as there is one more.
fn at_each(call: &'static str, runs: impl Fn(Child) -> Outcome) {
    let mut forked = 0;
    for nth in 1.. {
        let Some(child) = Child::injected_into(call, &format!("signal=SIGUSR1:when={nth}")) else {
            return;
        };
        // The dynamic loader opens files too.
        let child =
            if call.contains("open") { child.on_path("/proc/thread-self/fd/3") } else { child };
        let outcome = runs(child);
        if outcome.signal() == Some(libc::SIGUSR1) {
            continue; // there was no handler yet
        }
        assert!(outcome.succeeded(), "{nth}: {}", outcome.output());
        if outcome.count("no signal") != 0 && nth > 12 {
            break;
        }
        forked += 1 - outcome.count("no signal");
    }
    // The file may have another descriptor than 3.
    assert!(forked != 0 || call.contains("open"), "{call}");
}

#[test]
fn a_handler_that_forks_in_attach_gives_no_place_to_two_if_the_child_is_first() {
    for call in CALLS {
        at_each(call, |child| child.outcome(|| both_attach(true)));
    }
}

#[test]
fn a_handler_that_forks_in_attach_gives_no_place_to_two_if_the_parent_is_first() {
    for call in CALLS {
        at_each(call, |child| child.outcome(|| both_attach(false)));
    }
}
