//! Fences between processes that share memory. Linux only.
//!
//! [`heavy_fence`](crate::heavy_fence) covers the threads of its own process. The fences here reach every thread of
//! every process, by membarrier(2) GLOBAL. Such a heavy fence takes **some ten milliseconds**: the kernel waits for an
//! RCU grace period, in which each busy processor passes a full barrier, and what ran on an idle one is ordered too. It
//! interrupts nobody (unless the kernel's `rcu_expedited` is set: then it takes microseconds), and the light fence is
//! no instruction. So execute one heavy fence for a thousand operations. (GLOBAL_EXPEDITED, which takes microseconds,
//! misses processes: see [the specification](crate::guide::specification).)
//!
//! A kernel may refuse GLOBAL (`nohz_full`), and so may a sandbox. So the mode is stored in the shared memory, and a
//! process that cannot use that mode cannot attach:
//!
//! - [`create`] fixes the [`Mode`] once, for all processes, in the first [`WORDS`] words of the memory.
//! - [`attach`] returns a [`Participant`], and only a participant has fences. In an asymmetric segment `attach` finds
//!   out whether the call reaches the kernel, and returns an error if not.
//!
//! ```
//! use std::fs::File;
//! use std::os::fd::AsFd;
//! use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//!
//! use asymfence::cross_process::{Attached, SegmentError, Fences, Mode, Participant, WORDS, attach, create};
//! use rustix::fs::{MemfdFlags, memfd_create};
//!
//! /// Reads often: says that it reads, and checks whether the writer is writing.
//! fn read<F: Fences>(me: &Participant<'_, F>, reading: &AtomicU32, writing: &AtomicU32) -> bool {
//!     reading.store(1, Relaxed);
//!     me.light_fence(); // pairs with the heavy fence of the writer, in any process
//!     writing.load(Relaxed) == 0
//! }
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! // In a real program: the words of a mapping of this file.
//! let file = File::from(memfd_create("segment", MemfdFlags::CLOEXEC)?);
//! let memory: Vec<AtomicU32> = (0..WORDS + 2).map(|_| AtomicU32::new(0)).collect();
//! let (header, data) = memory.split_at(WORDS);
//!
//! // Once, by the process that creates the segment. The error says why the segment cannot be asymmetric.
//! create(header, file.as_fd(), Mode::Asymmetric).or_else(|refusal| match refusal {
//!     SegmentError::Refused(_) => create(header, file.as_fd(), Mode::Symmetric),
//!     error => Err(error),
//! })?;
//!
//! // Every process, after exec and before it starts threads.
//! let may_read = match attach(header, file.as_fd())? {
//!     Attached::Asymmetric(me) => read(&me, &data[0], &data[1]),
//!     Attached::Symmetric(me) => read(&me, &data[0], &data[1]),
//! };
//! assert!(may_read);
//! # Ok(())
//! # }
//! ```
//!
//! # The contract
//!
//! The table of [`light_fence`](crate::light_fence) and [`heavy_fence`](crate::heavy_fence), between any two threads of
//! the participating processes, including two threads of the same process. The fences of the crate's root do not pair
//! with these.
//!
//! # Who holds a place
//!
//! Each participant has a place in the header's table, with a number, [`Participant::index`], that no other participant
//! has. If a process ends without giving its place back, the place stays taken, and [`reap`] frees it. The kernel tells
//! whether a process has ended. Each participant holds a lock (fcntl(2) F_OFD_SETLK) on a byte of the segment's *lock
//! file*, the file that `create` and `attach` were given. A second byte of the place is locked while a process takes or
//! reaps it. These bytes, 480 in all, begin at 2^62. The participant also has a mapping of the beginning of the file,
//! which keeps the open file description, and so the lock, alive. Process numbers are not used for that. So
//!
//! - a place is never reaped while a process has the participant, or a copy of it by fork(2): a daemon keeps the place
//!   that it had before its parent exited;
//! - a place can be reaped once the last of these processes has exited or called exec, or a moment later. PID
//!   namespaces and reused process numbers do not matter. A child that was forked while another thread was in
//!   [`attach`] counts as one of these processes. So does a child that was forked while another thread was in [`reap`],
//!   if that `reap` did not finish; and so does a process of which a thread was killed alone in `reap`
//!   (SECCOMP_RET_KILL_THREAD);
//! - a signal handler may fork in the middle of [`attach`] or [`reap`], and so may `clean`, the closure that is passed
//!   to `reap`; both processes may go on. They do not both get the same place, unless the fork came after the place was
//!   taken: then the child has a copy of the participant. If the fork came just before, and the process that gets the
//!   place drops it while the other is still in [`attach`], the place stays taken until [`reap`] frees it. A child that
//!   returns from `clean` leaves the place to its parent. But if a handler forks while `clean` runs, or between the
//!   last system call that `reap` makes before `clean` and `clean` itself, `clean` runs in both processes, from the
//!   point of the fork. A child that is slower than its parent then cleans a place that another participant may have.
//!   So let such a child end, or block the signal while `reap` runs;
//! - a forked child is recognised by a page of memory that the kernel clears in it (madvise(2) MADV_WIPEONFORK, since
//!   Linux 4.14), and by its process number. Where the kernel is older, or a sandbox refuses madvise(2) or answers it
//!   in the kernel's place, the number alone has to do. (If madvise(2) fails with ENOMEM or EAGAIN, [`attach`] returns
//!   that error.) The number fails if parent and child are both the first process of a PID namespace, with the number
//!   1, or if the sandbox also refuses getpid(2): then do not fork in the middle;
//! - closing descriptors, even all of them, gives no place back. Nor does it let anybody else clean or take a place for
//!   which `clean` runs. ([Limits](crate::guide::limits) has the exceptions, in the point on a descriptor that the
//!   program closes.) If the descriptor that was passed to [`attach`] has been closed, or its number belongs to another
//!   file since, a participant's `reap` and `renew` return [`SegmentError::Failed`] or [`SegmentError::OtherFile`], and
//!   when it is dropped it leaves its place to be reaped;
//! - a place cannot be given back before the process ends, if mseal(2) has sealed the participant's mapping, if a
//!   filter refuses munmap(2), if it refused close(2) during [`attach`] (then the descriptor stays open too), or if it
//!   has killed only the thread that was in [`attach`]. [Limits](crate::guide::limits) names more cases: another
//!   process that holds a lock, tables of descriptors that are shared or split (CLONE_FILES), signals beside a slow
//!   supervisor, and filters that start in the middle.
//!
//! Other mechanisms do not have all these properties. A process number and a start time mean nothing in another PID
//! namespace. A robust mutex belongs to a thread. A lock of fcntl(2) F_SETLK is released when the process closes *any*
//! descriptor of the file. A descriptor that is kept open is lost when a daemon closes all descriptors.
//!
//! So all processes must pass the same file, and its file system must keep a lock for as long as the file is mapped.
//! [`attach`] checks both. A memfd keeps the lock, and so does a file on tmpfs or ext4; overlayfs does not. On FUSE the
//! program that serves it decides, so it is refused too. A program that uses a segment must not itself lock the 480
//! bytes of the lock file. Once a process has been waited for, its lock is free, unless something else still refers to
//! its open file description:
//!
//! - a child that has a copy of the participant;
//! - another process that shares the memory (vfork(2), posix_spawn(3)), until it calls exec or exits: a child, or the
//!   parent of the one that has ended;
//! - a process that at that moment reads the memory of the one that ended (ps(1) at /proc/PID/cmdline, a debugger) or
//!   looks up its descriptors (lsof(8) at /proc/PID/fd), until it has done so;
//! - a process that duplicated the descriptor of [`attach`] or [`reap`] while they ran (pidfd_getfd(2)), until it
//!   closes the duplicate.
//!
//! [`attach`] and [`reap`] open and close a descriptor of the lock file. Closing it releases all F_SETLK locks that the
//! process has on that file (fcntl(2)). So take a file on which the process has no such locks. If the program has
//! closed standard error, that descriptor may get the number 2 for a moment, and a message of another thread is written
//! into the file. So keep the descriptors 0 to 2 open, or take a lock file other than the memory.
//!
//! # What would go wrong silently
//!
//! | what | why | what is done about it |
//! | --- | --- | --- |
//! | exec(2) | a participant is a value in memory, which exec clears | the new program attaches anew. The old place can be reaped |
//! | fork(2) | the child has a copy of the participant | its fences hold. Both hold one place, with one *index*, until both have dropped it or ended: a child that needs its own place attaches. A child that is forked while another thread attaches has no participant, but holds the place's lock until it exits or calls exec: a place that is dropped in this time stays taken until [`reap`] frees it |
//! | the end of a process | its place, and what it announced in the shared data, stay | [`reap`] |
//! | checkpoint and restore, a migrated container | the place may be gone, and the kernel may be another one | detach before, or [`Participant::renew`] after the restore and before the next light fence. This is not detected automatically |
//! | memory shared with another virtual machine, or another kernel | neither the heavy fence nor a lock reaches it | the header holds the kernel's boot id; another one is refused. Two clones of one virtual machine have the same boot id: do not share between them |
//! | a program with another version of this crate | another protocol | the header holds a version; another one is refused |
//! | a sandbox that is entered later, and refuses membarrier(2) | the heavy fence fails | it aborts, or [`Participant::try_heavy_fence`] returns the error. The light side makes no call. (One that answers success and does not call the kernel is not noticed) |
//! | `nohz_full` | the kernel does not wait until a processor in user space has passed a barrier | the kernel refuses GLOBAL, and [`create`] refuses an asymmetric segment |
//! | riscv before 6.9, loongarch | the kernel's documentation (Documentation/scheduler/membarrier.rst) vouches for no expedited command there. GLOBAL does not depend on that | an asymmetric segment is refused all the same |
//!
//! Processes of 32 and 64 bits may share a segment, and so may containers on one kernel, whatever their namespaces, if
//! each has the whole /proc of its own PID namespace, or of one above it: [`create`], [`attach`], `renew` and [`reap`]
//! read /proc/sys/kernel/random/boot_id, and `attach` and `reap` also open the lock file by /proc/thread-self/fd. (With
//! `subset=pid`, for example, they return an error. systemd-nspawn shows each container a boot id of its own, so the
//! segment is refused there.) Every process that can write the memory must be trusted, and so must every process that
//! can open the lock file, even only for reading. A process that overwrites the memory breaks the others' data. A
//! process that locks the file's bytes keeps places from being taken and reaped. Neither breaks the memory safety of
//! this module, which reads only numbers from the memory.
//!
//! With the feature `loom` the fences of a participant are the modelled fences of one process. Attach in the model, and
//! let threads stand for the processes. The segment itself is a real one.
//!
//! In Miri there is one process and no membarrier: [`create`] refuses [`Mode::Asymmetric`], and a symmetric segment
//! works. Its locks are then in the memory of the process. Miri has no memfd: pass a file that is open for writing, and
//! `-Zmiri-disable-isolation`.
//!
//! # Source
//!
//! membarrier(2); MEMBARRIER_CMD_GLOBAL in kernel/sched/membarrier.c@v6.18. tests/it/cross_process tests the fences
//! with processes on real cores.

mod error;
mod header;
mod participant;
mod segment;

use core::sync::atomic::AtomicU32;
use std::os::fd::BorrowedFd;

pub use error::{SegmentError, SegmentStep};
pub use header::{Mode, PARTICIPANTS, WORDS};
pub use participant::{AsymmetricFences, Attached, Fences, Participant, SymmetricFences};

use segment::{LockFile, over};

/// Creates a segment in memory whose first [`WORDS`] words are zero, and fixes how its fences work.
///
/// `words` is the beginning of the shared memory, at least [`WORDS`] long. A slice of atomics over a mapping is sound
/// if the memory is mapped shared, readable and writable, and aligned to 4 bytes, as long as the slice is used. Seal a
/// memfd against shrinking. Allocate the pages of a file (posix_fallocate(3)), and let nobody punch a hole into it: if
/// a page of a file has no memory and the file system is full, the kernel answers an access by SIGBUS.
///
/// `file` is the file of that memory, or another file that every process of the segment can open for reading and
/// writing. The header records which file it is. Use one file for each segment: with the same file, participants of one
/// segment would take places from the other, and `reap` could not tell which processes have ended. [Who holds a
/// place](self#who-holds-a-place) says what its locks are for.
///
/// With [`Mode::Asymmetric`] `create` finds out whether the call reaches the kernel, as [`attach`] does. It does not
/// attach the process. What [`attach`] says about its first call in a forked child then holds for `create` too.
///
/// # Errors
///
/// [`SegmentError::Refused`] if the segment cannot be asymmetric here. Then create it with [`Mode::Symmetric`], in
/// which every fence is `fence(SeqCst)`. [`SegmentError::Failed`] if a system call fails, with its errno.
/// [`SegmentError::TooShort`] and [`SegmentError::NotEmpty`] if the memory does not fit, and
/// [`SegmentError::FileInUse`] if a process has a place by this file already. `create` writes nothing unless it
/// succeeds.
///
/// ```
/// # use std::{fs::File, os::fd::AsFd, sync::atomic::AtomicU32};
/// # use asymfence::cross_process::WORDS;
/// # use rustix::fs::{MemfdFlags, memfd_create};
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// # let file = File::from(memfd_create("segment", MemfdFlags::CLOEXEC)?);
/// # let words: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
/// use asymfence::cross_process::{SegmentError, Mode, create};
///
/// create(&words, file.as_fd(), Mode::Asymmetric).or_else(|error| match error {
///     SegmentError::Refused(_) => create(&words, file.as_fd(), Mode::Symmetric),
///     error => Err(error),
/// })?;
/// # Ok(())
/// # }
/// ```
pub fn create(words: &[AtomicU32], file: BorrowedFd<'_>, mode: Mode) -> Result<(), SegmentError> {
    let header = over(words)?;
    let file = LockFile::of(file)?;
    // First, because without /proc the error of the boot id says why.
    let common = file.common()?;
    if let Mode::Asymmetric = mode {
        participant::admit()?;
    }
    if header.is_empty() && file.is_in_use()? {
        return Err(SegmentError::FileInUse);
    }
    Ok(header.create(mode, common)?)
}

/// Attaches this process: takes a place in the table.
///
/// Call `attach` after exec. If the segment is asymmetric, `attach` finds out whether heavy fences work in this thread,
/// by calls that the kernel refuses at once. (A sandbox that refuses GLOBAL with EINVAL, as the kernel refuses these
/// calls, is noticed only by the first heavy fence, which fails.) Every thread of the process may use the participant.
/// But a thread with descriptors of its own (unshare(2) CLONE_FILES) that has closed the descriptor `file` can only
/// execute the fences: `reap` and [`Participant::renew`] fail there with EBADF, and a participant that is dropped there
/// leaves its place to be reaped. `file` is the file that was passed to [`create`], by any descriptor except one with
/// O_PATH. `attach` uses one more descriptor while it runs, and none afterwards.
///
/// The first `attach` of a process to an asymmetric segment must not be called in a forked child, if another thread of
/// the parent was changing the environment during the fork, and the parent had not read `ASYMFENCE` yet. (A process
/// reads it when it first creates an asymmetric segment, attaches to one, or decides; but not when it decides by
/// `force(Strategy::Symmetric)`.) Such an `attach` may wait for ever.
///
/// # Errors
///
/// See [`SegmentError`]. `attach` also fails if a sandbox answers success to fcntl(2) without calling the kernel, or to
/// a membarrier command that the kernel refuses. (A sandbox that knows the commands and their flags is not detected.) A
/// process that cannot be asymmetric cannot attach to an asymmetric segment; the error's `Display` says what to do.
///
/// ```
/// # use std::{fs::File, os::fd::AsFd, sync::atomic::AtomicU32};
/// # use asymfence::cross_process::WORDS;
/// # use rustix::fs::{MemfdFlags, memfd_create};
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// # let file = File::from(memfd_create("segment", MemfdFlags::CLOEXEC)?);
/// # let words: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
/// use asymfence::cross_process::{Mode, attach, create};
///
/// create(&words, file.as_fd(), Mode::Symmetric)?;
/// let attached = attach(&words, file.as_fd())?; // holds a place until it is dropped
/// # drop(attached);
/// # Ok(())
/// # }
/// ```
pub fn attach<'a>(
    words: &'a [AtomicU32],
    file: BorrowedFd<'a>,
) -> Result<Attached<'a>, SegmentError> {
    let (header, file) = (over(words)?, LockFile::of(file)?);
    let mode = header.mode()?;
    header.admit(file.common()?)?;
    Ok(match mode {
        Mode::Asymmetric => Attached::Asymmetric(Participant::new(header, file)?),
        Mode::Symmetric => Attached::Symmetric(Participant::new(header, file)?),
    })
}

/// Frees the places of processes that have ended without giving them back. Calls `clean` with the number of each place
/// before another process can take it, to clear what the dead process left in the shared data. Returns the number of
/// places freed.
///
/// Any process that can attach can call `reap`, in any PID namespace. It needs no place of its own, so `reap` also
/// works when [`attach`] returns [`SegmentError::Full`]. It frees only places that no process holds. `clean` may also
/// be called for a participant that is being dropped at this moment.
///
/// If `clean` panics, the place stays taken, and the next `reap` finds it again. The same holds if the process ends in
/// `clean`. But then each child that it forked during this call keeps the lock, and `reap` finds the place only after
/// these children have exited or called exec.
///
/// # Errors
///
/// As [`attach`], except [`SegmentError::Refused`], [`SegmentError::Full`] and [`SegmentError::Locked`]. Places that
/// were found before the error are freed. If no place is taken, `reap` does not open the lock file.
///
/// ```
/// # use std::{fs::File, os::fd::AsFd, sync::atomic::AtomicU32};
/// # use asymfence::cross_process::WORDS;
/// # use rustix::fs::{MemfdFlags, memfd_create};
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// # let file = File::from(memfd_create("segment", MemfdFlags::CLOEXEC)?);
/// # let words: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
/// use asymfence::cross_process::{Mode, create, reap};
///
/// create(&words, file.as_fd(), Mode::Symmetric)?;
/// let freed = reap(&words, file.as_fd(), |index| println!("the place {index} is cleaned"))?;
/// assert_eq!(freed, 0); // nobody has ended
/// # Ok(())
/// # }
/// ```
pub fn reap(
    words: &[AtomicU32],
    file: BorrowedFd<'_>,
    clean: impl FnMut(usize),
) -> Result<usize, SegmentError> {
    let (header, file) = (over(words)?, LockFile::of(file)?);
    header.mode()?;
    header.admit(file.common()?)?;
    header.reap(&file, clean)
}
