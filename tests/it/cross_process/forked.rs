//! Forks in the middle of attaching and reaping, after which both processes go on.

use std::mem::forget;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32};
use std::{ptr, thread};

use asymfence::cross_process::{Attached, Mode};
use nix::libc;
use nix::sys::signal::{self, SigHandler};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use seccompiler::SeccompAction::Errno;
use seccompiler::apply_filter;

use super::holding::{ends_well, fork_off, next_child_is_pid_1, reaped, shared};
use super::{FCNTL, FSTATFS, Header, Segment, attach, attach_symmetric, create, reap};
use crate::child::{Child, Outcome};
use crate::filter::{on_own_number, on_wipe_on_fork};
use crate::fork::in_fork;
use crate::memory::{Atomics, Memory};

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

/// What the child reports: `HELD` plus the number of its place, or `LOST`, or `REFUSED`.
const HELD: u32 = 16;
const LOST: u32 = 2;
const REFUSED: u32 = 3;

/// What the two processes must not be.
const MIXED: &str = "the child and its parent are mixed up";

/// In a process that gets SIGUSR1 at one of its calls: its handler forks, and both go on, one when the other has
/// attached. If the place was taken before the fork, both have it, as after any fork.
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
        assert_ne!(mine, LOST, "{MIXED}");
        assert_ne!(theirs, LOST, "{MIXED}");
        assert!(mine >= HELD || theirs >= HELD, "one of the two has a place");
        assert_eq!(reaped(header), [], "both live");
        let other = attach_symmetric(header).index() as u32 + HELD;
        assert!(other != mine && other != theirs, "{mine} {theirs} {other}");
        assert_eq!(held(&attached), mine, "{MIXED}");
        if theirs >= HELD && mine >= HELD && mine != theirs {
            // Each has a lock of its own, so each gives its place back by itself.
            drop(attached);
            assert_eq!(attach_symmetric(header).index() as u32 + HELD, mine, "{MIXED}");
        }
        step.store(0, SeqCst);
        ends_well(child);
    });
}

pub(super) const OPEN: &str = "?open,openat";

/// Calls by which `attach` and `reap` open the lock file, ask for its file system, and lock.
const CALLS: [&str; 3] = [OPEN, FSTATFS, FCNTL];

/// Runs a child again and again. It gets SIGUSR1 at its first such call, then at its second, and so on, until there is
/// no further one.
pub(super) fn at_each(call: &'static str, runs: impl Fn(Child) -> Outcome) {
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
        if outcome.cannot_run() {
            return;
        }
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

/// What the two processes of one `reap` note, in the words behind the segment's header. A process that has ended still
/// has the first `LEFT` places.
struct Notes<'a> {
    /// Not zero when one of them is through; with `PARENT` when the parent is.
    step: &'a AtomicU32,
    /// How many are in `clean` of each place, and how often it was cleaned.
    inside: &'a [AtomicU32],
    cleaned: &'a [AtomicU32],
}

const LEFT: usize = 3;
const PARENT: u32 = 2;

impl<'a> Notes<'a> {
    fn of(words: &'a [AtomicU32]) -> Self {
        let (step, rest) = words.split_first().expect("enough");
        let (inside, cleaned) = rest.split_at(LEFT);
        Notes { step, inside, cleaned }
    }

    fn wait(&self) {
        while self.step.load(SeqCst) == 0 {
            thread::yield_now();
        }
    }
}

/// Which process goes first: it reaps and then attaches. The other one waits in the handler, or in its first `clean`,
/// until that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Child,
    Parent,
    /// As `Child`, but the parent waits in its first `clean`, not in the handler.
    ChildBeforeClean,
    /// As `Parent`, but the child waits in its first `clean`, not in the handler.
    ParentBeforeClean,
}

/// In a process that gets SIGUSR1 at one of its calls: its handler forks, and both go on with their `reap`.
fn both_reap(first: First) {
    static WORDS: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
    static CHILD: AtomicI32 = AtomicI32::new(-2);
    static FIRST: AtomicU32 = AtomicU32::new(0);

    fn notes() -> Notes<'static> {
        // SAFETY: stored below, and mapped for as long as these processes live.
        Notes::of(unsafe { core::slice::from_raw_parts(WORDS.load(SeqCst), 1 + 2 * LEFT) })
    }

    extern "C" fn forks(_signal: libc::c_int) {
        if CHILD.load(SeqCst) != -1 {
            return;
        }
        // SAFETY: both go on as one process would.
        CHILD.store(unsafe { libc::fork() }, SeqCst);
        let is_child = CHILD.load(SeqCst) == 0;
        if FIRST.load(SeqCst) == (if is_child { First::Parent } else { First::Child }) as u32 {
            notes().wait();
        }
    }

    let memory = Memory::new::<Places>().expect("a memfd");
    let segment = Segment::<Places>::of(&memory);
    let header = segment.header;
    create(header, Mode::Symmetric).expect("a memfd can be locked");
    WORDS.store(segment.data.0.as_ptr().cast_mut(), SeqCst);
    FIRST.store(first as u32, SeqCst);
    // SAFETY: the handler's calls are async-signal-safe.
    unsafe { signal::signal(signal::SIGUSR1, SigHandler::Handler(forks)) }.expect("a handler");
    ends_well(fork_off(|| (0..LEFT).for_each(|_| forget(attach_symmetric(header)))));
    CHILD.store(-1, SeqCst);
    let waits = |is_child| {
        first == (if is_child { First::ParentBeforeClean } else { First::ChildBeforeClean })
    };
    let count = reap(header, |place| {
        // From now on the handler does nothing: a fork in `clean` is another test's.
        let child = CHILD.compare_exchange(-1, -2, SeqCst, SeqCst).unwrap_or_else(|child| child);
        let notes = notes();
        assert_eq!(notes.inside[place].fetch_add(1, SeqCst), 0, "{place} is cleaned by two");
        if child >= 0 && waits(child == 0) {
            notes.wait();
        }
        assert_eq!(notes.cleaned[place].fetch_add(1, SeqCst), 0, "{place} is cleaned again");
        assert_eq!(notes.inside[place].fetch_sub(1, SeqCst), 1);
    });
    let child = CHILD.swap(-2, SeqCst);
    if child < 0 {
        assert_eq!(count, Ok(LEFT));
        return println!("no signal");
    }
    let (is_child, notes) = (child == 0, notes());
    assert!(count.is_ok(), "{count:?}");
    // A place that the other one must not clean, if this one is first.
    let mine = attach_symmetric(header);
    notes.step.fetch_or(if is_child { 1 } else { PARENT }, SeqCst);
    if is_child {
        let parent = getppid();
        // If it ended before the parent has reaped, the parent would clean its place, too.
        while notes.step.load(SeqCst) & PARENT == 0 && getppid() == parent {
            thread::yield_now();
        }
        assert_eq!(mine.renew(), Ok(()));
        forget(mine);
        // SAFETY: nothing is to be done at the end of this process.
        unsafe { libc::_exit(0) }
    }
    ends_well(Pid::from_raw(child));
    assert_eq!(mine.renew(), Ok(()));
    // The child has ended, so its place alone is there to be reaped. If a lock were left on it, it would not be reaped.
    assert_eq!(reaped(header).len(), 1);
    assert!(notes.cleaned.iter().all(|count| count.load(SeqCst) == 1));
    assert_eq!(mine.places().collect::<Vec<_>>(), [mine.index()]);
    drop(mine);
    let all: Vec<_> = (0..=LEFT).map(|_| attach_symmetric(header)).collect();
    assert!(all.iter().map(|place| place.index()).eq(0..=LEFT), "every place can be taken");
}

#[repr(C)]
struct Places([AtomicU32; 1 + 2 * LEFT]);

// SAFETY: atomic integers.
unsafe impl Atomics for Places {}

#[test]
fn a_handler_that_forks_in_reap_lets_one_process_clean_each_place() {
    for first in [First::Child, First::Parent, First::ChildBeforeClean, First::ParentBeforeClean] {
        for call in CALLS {
            at_each(call, |child| child.outcome(|| both_reap(first)));
        }
    }
}

/// From now on getpid(2) is refused: this process and its children have the number -1.
fn without_numbers() {
    apply_filter(&on_own_number(Errno(libc::EPERM as u32))).expect("the filter is accepted");
}

#[test]
fn a_child_whose_number_is_its_parents_is_told_apart_in_reap() {
    for first in [First::Child, First::ParentBeforeClean] {
        at_each(FCNTL, |child| {
            child.filtering().outcome(|| {
                without_numbers();
                both_reap(first);
            })
        });
    }
}

#[test]
fn a_child_whose_number_is_its_parents_is_told_apart_in_attach() {
    for child_is_first in [false, true] {
        at_each(FCNTL, |child| {
            child.filtering().outcome(|| {
                without_numbers();
                both_attach(child_is_first);
            })
        });
    }
}

/// The twin of the two before this one: madvise(2) is refused too, so neither the number nor the page tells the child.
/// After a fork at some of the calls the two then share one lock.
#[test]
fn without_its_number_and_its_page_a_child_is_not_told_apart_in_attach() {
    let outcome = |nth| {
        let child = Child::injected_into(FCNTL, &format!("signal=SIGUSR1:when={nth}"))?;
        let outcome = child.filtering().outcome(|| {
            let refused = on_wipe_on_fork(Errno(libc::EPERM as u32));
            apply_filter(&refused).expect("the filter is accepted");
            without_numbers();
            both_attach(true);
        });
        (!outcome.cannot_run()).then_some(outcome)
    };
    let Some(all) = (1..=12).map(outcome).collect::<Option<Vec<_>>>() else { return };
    let failed: Vec<_> = all.iter().filter(|outcome| !outcome.succeeded()).collect();
    assert!(failed.iter().any(|outcome| outcome.count(MIXED) != 0), "{failed:?}");
}

/// A bare clone(2), whose child is PID 1 as its parent is.
#[test]
fn a_pid_1_that_returns_from_clean_leaves_the_place_to_its_parent_pid_1() {
    Child::default().run(|| {
        shared(|header, step| {
            if !next_child_is_pid_1() {
                return;
            }
            in_fork(|| {
                ends_well(fork_off(|| forget(attach_symmetric(header))));
                let mut child = None;
                let count = reap(header, |_| {
                    assert_eq!(getpid().as_raw(), 1);
                    // SAFETY: as fork(2): no stack, so both go on with copies of this one.
                    let pid = unsafe {
                        libc::syscall(
                            libc::SYS_clone,
                            libc::CLONE_NEWPID | libc::SIGCHLD,
                            0,
                            0,
                            0,
                            0,
                        )
                    };
                    assert!(pid >= 0);
                    child = Some(pid as i32);
                    while pid != 0 && step.load(SeqCst) == 0 {
                        thread::yield_now();
                    }
                });
                if child == Some(0) {
                    assert_eq!(getpid().as_raw(), 1);
                    step.store(if count == Ok(0) { 1 } else { 2 }, SeqCst);
                    // SAFETY: nothing is to be done at the end of this process.
                    unsafe { libc::_exit(0) }
                }
                assert_eq!((count, step.load(SeqCst)), (Ok(1), 1), "the child has freed it");
                ends_well(Pid::from_raw(child.expect("forked in there")));
            });
        });
    });
}
