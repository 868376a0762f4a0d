//! Fences between real processes over real shared memory.

mod alone;
mod believing;
mod dying;
mod expedited;
mod failing;
mod forked;
mod headers;
mod holding;
mod ordering;
mod snapshots;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::ExitStatus;
use std::sync::atomic::AtomicU32;
use std::thread;

use asymfence::cross_process::{
    self, AsymmetricFences, Attached, Mode, Participant, SegmentError, SymmetricFences, WORDS,
};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, set_parent_process_death_signal};
use seccompiler::{BpfProgram, apply_filter};

use crate::child::{Child, Outcome, needs_procfs, this_binary};
use crate::memory::{Atomics, Memory};

const PEER: &str = "ASYMFENCE_TEST_PEER";

/// Another process with the same memory.
struct Peer(std::process::Child);

impl Peer {
    /// Lets others run until `condition` holds. Panics if the peer ends before that.
    #[track_caller]
    fn wait_until(&mut self, condition: impl Fn() -> bool) {
        while !condition() {
            if let Some(status) = self.0.try_wait().expect("a child") {
                assert!(condition(), "the peer has ended: {status}");
            }
            thread::yield_now();
        }
    }

    fn kill(&mut self) {
        self.0.kill().expect("a child");
        self.wait();
    }

    /// Until it has ended, and is no zombie any more.
    fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("a child")
    }

    /// The peer comes to its end.
    #[track_caller]
    fn ends_well(mut self) {
        let status = self.wait();
        assert_eq!(status.code(), Some(crate::child::DONE), "{status}");
    }
}

/// The words of a header, and the file whose locks it goes by.
#[derive(Clone, Copy)]
struct Header<'a> {
    words: &'a [AtomicU32],
    file: BorrowedFd<'a>,
}

/// What two processes share.
struct Segment<'a, T> {
    header: Header<'a>,
    data: &'a T,
}

impl<'a, T: Atomics> Segment<'a, T> {
    fn of(memory: &'a Memory) -> Self {
        let layout = memory.layout::<T>();
        Segment {
            header: Header { words: &layout.header, file: memory.file() },
            data: &layout.data,
        }
    }
}

/// In a test's own process: runs `here` in this process, and `there` in a new one, a second run of the
/// same test under `filter`. Both have the same memory.
fn two_processes<T: Atomics>(
    filter: Option<BpfProgram>,
    here: impl FnOnce(Segment<'_, T>, Peer),
    there: impl FnOnce(Segment<'_, T>),
) {
    needs_procfs();
    if let Ok(path) = std::env::var(PEER) {
        // If the parent dies, this process must not wait for it for ever.
        set_parent_process_death_signal(Some(Signal::KILL)).expect("a signal");
        return there(Segment::of(&Memory::open(&path).expect("the memory of the parent")));
    }
    let memory = Memory::new::<T>().expect("a memfd");
    let mut command = this_binary();
    command.args(std::env::args_os().skip(1)).env(PEER, memory.path());
    if let Some(filter) = filter {
        // SAFETY: between fork and exec the closure makes system calls only; the filter was compiled
        // before.
        unsafe { command.pre_exec(move || apply_filter(&filter).map_err(std::io::Error::other)) };
    }
    here(Segment::of(&memory), Peer(command.spawn().expect("the peer runs")));
}

/// For strace, the names of fcntl(2), fstat(2) and fstatfs(2) with numbers of 64 bits.
const FCNTL: &str = if cfg!(target_pointer_width = "32") { "fcntl64" } else { "fcntl" };
const FSTAT: &str = if cfg!(target_pointer_width = "32") { "fstat64" } else { "fstat" };
const FSTATFS: &str = if cfg!(target_pointer_width = "32") { "fstatfs64" } else { "fstatfs" };

/// Runs a test's process again and again, as `runs` says. Each time strace answers another one of its calls of `call`:
/// `inject` makes the rule from the number of that call. Ends with the first process after number `least` that does not
/// say `word`. Returns how often the word was said; `None` where tracing is not allowed.
fn at_each_call(
    call: &'static str,
    inject: impl Fn(usize) -> String,
    (word, least): (&str, usize),
    runs: impl Fn(Child) -> Outcome,
) -> Option<usize> {
    let mut said = 0;
    for nth in 1.. {
        let outcome = runs(Child::injected_into(call, &inject(nth))?);
        assert!(outcome.succeeded(), "{nth}: {}", outcome.output());
        let count = outcome.count(word);
        if count == 0 && nth > least {
            break;
        }
        said += count;
    }
    Some(said)
}

fn create(header: Header<'_>, mode: Mode) -> Result<(), SegmentError> {
    cross_process::create(header.words, header.file, mode)
}

fn attach(header: Header<'_>) -> Result<Attached<'_>, SegmentError> {
    cross_process::attach(header.words, header.file)
}

fn reap(header: Header<'_>, clean: impl FnMut(usize)) -> Result<usize, SegmentError> {
    cross_process::reap(header.words, header.file, clean)
}

/// Attaches to a segment that must be asymmetric.
#[track_caller]
fn attach_asymmetric(header: Header<'_>) -> Participant<'_, AsymmetricFences> {
    match attach(header) {
        Ok(Attached::Asymmetric(participant)) => participant,
        other => panic!("{other:?}"),
    }
}

/// Attaches to a segment that must be symmetric.
#[track_caller]
fn attach_symmetric(header: Header<'_>) -> Participant<'_, SymmetricFences> {
    match attach(header) {
        Ok(Attached::Symmetric(participant)) => participant,
        other => panic!("{other:?}"),
    }
}

/// Attaches as soon as the segment is there.
#[track_caller]
fn attach_when_made(header: Header<'_>) -> Attached<'_> {
    loop {
        match attach(header) {
            Err(SegmentError::NotCreated) => thread::yield_now(),
            other => return other.expect("let in"),
        }
    }
}

/// Fresh memory of this process alone, for what needs no other, with a file to lock.
struct Fresh {
    words: Vec<AtomicU32>,
    file: File,
}

fn fresh() -> Fresh {
    needs_procfs();
    let file = memfd_create("locks", MemfdFlags::CLOEXEC).expect("a memfd");
    Fresh { words: (0..WORDS).map(|_| AtomicU32::new(0)).collect(), file: file.into() }
}

impl Fresh {
    fn header(&self) -> Header<'_> {
        Header { words: &self.words, file: self.file.as_fd() }
    }
}

/// Takes the one lock on the file of this name from the participant that has it, as a checkpoint does that restores
/// none. What keeps the lock is a mapping without access.
#[track_caller]
fn lose_the_lock_of(file: &str) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("our own");
    let hold = maps.lines().find(|line| line.contains("---p") && line.contains(file));
    let range = hold.and_then(|line| line.split([' ', '-']).next()).expect("the mapping");
    let start = usize::from_str_radix(range, 16).expect("an address");
    let start = std::ptr::without_provenance_mut(start);
    let flags = nix::libc::MAP_PRIVATE | nix::libc::MAP_ANONYMOUS | nix::libc::MAP_FIXED;
    // SAFETY: the mapping is the participant's, who uses it for nothing but to unmap it. Another mapping takes its
    // place. So the participant's munmap(2) does not remove what would come there next.
    let instead = unsafe { nix::libc::mmap(start, 1, nix::libc::PROT_NONE, flags, -1, 0) };
    assert_eq!(instead, start);
}

/// For the tests of sandboxes.
#[track_caller]
pub(crate) fn a_fresh_segment_fails_with(errno: i32) {
    let answer = create(fresh().header(), Mode::Symmetric);
    assert!(matches!(answer, Err(SegmentError::Failed(_, found)) if found == errno), "{answer:?}");
}

/// For the tests of sandboxes and switches.
#[track_caller]
pub(crate) fn a_fresh_segment_is_made() {
    assert_eq!(create(fresh().header(), Mode::Asymmetric), Ok(()));
}

/// For the tests of sandboxes and switches.
#[track_caller]
pub(crate) fn a_fresh_segment_is_refused() {
    let answer = create(fresh().header(), Mode::Asymmetric);
    assert!(matches!(answer, Err(SegmentError::Refused(_))), "{answer:?}");
}
