//! Fences between processes that share memory. Linux only.
//!
//! [`heavy_fence`](crate::heavy_fence) ends at the border of its process. The fences here reach every
//! thread of every process that has attached to the same segment, by membarrier(2) GLOBAL_EXPEDITED. The
//! kernel passes over a process that did not register, and answers success all the same; so what decides
//! is written into the shared memory, and a process that cannot hold to it does not get in:
//!
//! - [`create`] fixes the [`Mode`] once, for all processes, in the [`WORDS`] first words of the memory;
//! - [`attach`] registers the process, and refuses it if that fails. Only then is there a
//!   [`Participant`], and only a participant has fences.
//!
//! ```
//! use std::fs::File;
//! use std::os::fd::AsFd;
//! use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//!
//! use asymfence::cross_process::{Attached, Error, Fences, Mode, Participant, WORDS, attach, create};
//! use rustix::fs::{MemfdFlags, memfd_create};
//!
//! /// One that reads often: says that it reads, and looks whether the writer is at it.
//! fn read<F: Fences>(me: &Participant<'_, F>, reading: &AtomicU32, writing: &AtomicU32) -> bool {
//!     reading.store(1, Relaxed);
//!     me.light_fence(); // pairs with the heavy fence of the writer, in whatever process that is
//!     writing.load(Relaxed) == 0
//! }
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! // In earnest: the words of a mapping of this file.
//! let file = File::from(memfd_create("segment", MemfdFlags::CLOEXEC)?);
//! let memory: Vec<AtomicU32> = (0..WORDS + 2).map(|_| AtomicU32::new(0)).collect();
//! let (header, data) = memory.split_at(WORDS);
//!
//! // Once, by the process that makes the segment. It is told if it cannot be asymmetric, and why.
//! create(header, file.as_fd(), Mode::Asymmetric).or_else(|refusal| match refusal {
//!     Error::Refused(_) => create(header, file.as_fd(), Mode::Symmetric),
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
//! The table of [`light_fence`](crate::light_fence) and [`heavy_fence`](crate::heavy_fence), between any
//! two threads of the participating processes, those of the same process included. The fences of the
//! crate's root do not pair with these.
//!
//! # Who holds a place
//!
//! Each participant has a place in the header's table, whose number, [`Participant::index`], no other has. A
//! process that ends without giving its place back leaves it taken, and [`reap`] frees it. What says that the
//! process has ended is the kernel: each participant has a lock of its own (fcntl(2) F_OFD_SETLK, on the bytes of
//! the segment's file from 2^62 on), which a mapping of one page keeps. No process number is compared, so
//!
//! - a place is never reaped while a process has the participant, or a copy of it by fork(2): a daemon keeps
//!   the place that it had before its parent exited;
//! - a place can be reaped once the last of them has ended or executed another program, in whatever PID namespace,
//!   and whoever has its number now. A child that was forked while another thread attached counts as one of them,
//!   and so does one that was forked during a [`reap`] of the place that did not come to its end;
//! - closing descriptors, all of them too, gives no place back. Where another file has the segment's number since,
//!   a participant that is dropped leaves its place to be reaped, and its `reap` and `renew` answer
//!   [`Error::OtherFile`].
//!
//! Other mechanisms lose one of these: a process number and a start time say nothing in another PID namespace;
//! a robust mutex belongs to a thread; locks of fcntl(2) F_SETLK go when the process closes *any* descriptor of
//! the file; a descriptor that is kept open goes when a daemon closes all.
//!
//! So all processes give the same file, and its file system must keep a lock for a mapping. [`attach`] verifies
//! both: a memfd keeps it, and a file on tmpfs or ext4; overlayfs does not. The program itself must not lock
//! those bytes. The lock of a process that has been waited for is free, unless a child of it has a copy.
//!
//! # What would be lost in silence
//!
//! | what | why | what is done about it |
//! | --- | --- | --- |
//! | a process that is not registered | the kernel passes over it | no [`Participant`] without a registration, which [`attach`] checks with the kernel where that can tell (6.3) |
//! | exec(2) | clears the registration | a participant is a value in memory, which exec clears too; the new program attaches anew. Its old place can be reaped |
//! | fork(2) | the child has a copy of the participant | the kernel copies the registration too, so its fences hold, also if another thread was attaching meanwhile: [`attach`] waits for forks that have begun. Both hold one place, with one *index*, until both have dropped it or ended: a child that needs its own attaches. A child that is forked while another thread attaches has no participant, but keeps that place taken until it ends or executes another program |
//! | a bare clone(2), _Fork(3), or fork(2) under glibc before 2.28 or musl before 1.2.2 | a child that was made while another thread was attaching may have the participant alone | [`Participant::renew`] before the child's first light fence |
//! | the end of a process | its place, and what it said it was reading, stay | [`reap`] |
//! | checkpoint and restore, a migrated container | the registration and the place may be gone, the kernel another | detach before, or [`Participant::renew`] after the restore and before the next light fence. Nothing notices by itself |
//! | memory shared with another virtual machine, or another kernel | no interrupt reaches it, and no lock | the header holds the kernel's boot id; another one is refused. Two clones of one virtual machine have the same: do not share between them |
//! | a program with another version of this crate | another protocol | the header holds a version; another one is refused |
//! | a sandbox closed later | the heavy fence fails | it aborts, or [`Participant::try_heavy_fence`] says so. The light side makes no call |
//! | Linux 5.4 to 5.11 | a registration may miss the processor that it runs on | the kernel's version is read, and refused |
//! | riscv before 6.9 | the command is not always a full barrier | the kernel's version is read, and refused |
//!
//! Processes of 32 and 64 bits may share a segment, and so may containers on one kernel, whatever their
//! namespaces. (systemd-nspawn shows its containers a boot id of their own: there the segment is
//! refused.) All who can write the memory are trusted, and all who can open the lock file, be it only for reading.
//! One that scribbles over the memory breaks the others' data; one that locks the file's bytes keeps places from being
//! taken and reaped. Neither breaks the memory safety of this module, which takes nothing from them but numbers.
//!
//! With the feature `loom` the fences of a participant are the modelled ones of one process: attach in the
//! model, and let its threads stand for the processes. The segment itself is a real one.
//!
//! # Source
//!
//! membarrier(2); `membarrier_register_global_expedited` and `membarrier_global_expedited` in
//! kernel/sched/membarrier.c@v6.9; measured, with processes on real cores: tests/it/cross_process.

mod error;
mod header;
mod participant;
mod segment;

use core::sync::atomic::AtomicU32;
use std::os::fd::BorrowedFd;

pub use error::{Error, Step};
pub use header::{Mode, PARTICIPANTS, WORDS};
pub use participant::{Asymmetric, Attached, Fences, Participant, Symmetric};

use segment::{LockFile, over};

/// Makes a segment of memory whose first [`WORDS`] words are zero, and fixes how the fences work there.
///
/// `words` is the beginning of the shared memory, at least [`WORDS`] long. To have a slice of atomics over
/// a mapping, it must be mapped shared, readable and writable, aligned to 4 bytes, and stay so for as long
/// as the slice is used; seal a memfd against shrinking.
///
/// `file` is the file of that memory, or another that every process of the segment can open for writing. The
/// header remembers which. One file is for one segment: of two with the same file the participants would take places
/// from each other, and the dead would not be told from the living. What its locks are for: [the module's documentation](self#who-holds-a-place).
///
/// [`Mode::Asymmetric`] registers this process with the kernel, for the sake of the answer. It does not
/// attach it.
///
/// # Errors
///
/// [`Error::Refused`] if the segment cannot be asymmetric here: then create it with [`Mode::Symmetric`], in
/// which every fence is `fence(SeqCst)`. [`Error::Failed`] names what failed, with its errno.
/// [`Error::TooShort`], [`Error::NotEmpty`] and [`Error::FileInUse`] (somebody has attached with this file already) say what they mean. Nothing is written unless it succeeds.
///
/// ```
/// # use std::{fs::File, os::fd::AsFd, sync::atomic::AtomicU32};
/// # use asymfence::cross_process::WORDS;
/// # use rustix::fs::{MemfdFlags, memfd_create};
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// # let file = File::from(memfd_create("segment", MemfdFlags::CLOEXEC)?);
/// # let words: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
/// use asymfence::cross_process::{Error, Mode, create};
///
/// create(&words, file.as_fd(), Mode::Asymmetric).or_else(|error| match error {
///     Error::Refused(_) => create(&words, file.as_fd(), Mode::Symmetric),
///     error => Err(error),
/// })?;
/// # Ok(())
/// # }
/// ```
pub fn create(words: &[AtomicU32], file: BorrowedFd<'_>, mode: Mode) -> Result<(), Error> {
    let header = over(words)?;
    if let Mode::Asymmetric = mode {
        participant::register()?;
    }
    let file = LockFile::of(file)?;
    let common = file.common()?;
    if header.is_empty() && file.is_in_use()? {
        return Err(Error::FileInUse);
    }
    Ok(header.create(mode, common)?)
}

/// Takes part: registers this process if the segment is asymmetric, and takes a place in its table.
///
/// The first of a process is not to be called by a handler of pthread_atfork(3), nor by a thread that holds a lock which
/// such a handler takes: glibc from 2.28 to 2.35 holds its own while handlers run. Nor in a forked child whose parent has
/// neither attached nor decided, if another of its threads was changing the environment.
///
/// Call it after exec and before the process starts threads: registering takes half a microsecond in a
/// process of one thread, and milliseconds once there are more. Every thread of the process may use the
/// participant. `file` is the file that [`create`] got, by any descriptor. It takes one more descriptor while
/// it runs, and afterwards none.
///
/// # Errors
///
/// See [`Error`]. Success is not believed if a sandbox invents it for membarrier(2) or for fcntl(2). A process that cannot
/// be asymmetric is refused by an asymmetric segment; what it can do is
/// in the error's words.
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
pub fn attach<'a>(words: &'a [AtomicU32], file: BorrowedFd<'a>) -> Result<Attached<'a>, Error> {
    let (header, file) = (over(words)?, LockFile::of(file)?);
    let mode = header.mode()?;
    header.admit(file.common()?)?;
    Ok(match mode {
        Mode::Asymmetric => Attached::Asymmetric(Participant::new(header, file)?),
        Mode::Symmetric => Attached::Symmetric(Participant::new(header, file)?),
    })
}

/// Frees the places of processes that have ended without giving them back. `clean` is told the number of each
/// before anybody else can take it, to clear what the process left in the shared data. Returns how many there
/// were.
///
/// Any process can do it that can attach, in whatever PID namespace, and needs no place for it: also where
/// [`attach`] says [`Error::Full`]. Only places that nobody holds are freed. `clean` may also be told of a
/// participant that is being dropped at this moment.
///
/// If `clean` panics, the place stays taken, and the next call finds it again. The same holds if the process ends in
/// `clean`; but then each child that it forked during this call keeps the lock, and the place is found again once these
/// have ended too, or executed another program.
///
/// # Errors
///
/// As [`attach`]. Those before the error are freed.
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
) -> Result<usize, Error> {
    let (header, file) = (over(words)?, LockFile::of(file)?);
    header.mode()?;
    header.admit(file.common()?)?;
    header.reap(&file, clean)
}
