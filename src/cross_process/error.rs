//! What can be wrong with a segment, or with a process that attaches to it, in words.

use core::fmt;

use rustix::io::Errno;

use super::header::{FIRST_BYTE, Misfit, PARTICIPANTS, VERSION, WORDS};
use crate::failure::known;
use crate::refusal::Refusal;

/// Why a segment was not created, or a process could not attach. `Display` says what to do.
///
/// ```
/// # use std::{fs::File, os::fd::AsFd, sync::atomic::AtomicU32};
/// # use asymfence::cross_process::WORDS;
/// # use rustix::fs::{MemfdFlags, memfd_create};
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// # let file = File::from(memfd_create("segment", MemfdFlags::CLOEXEC)?);
/// # let words: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
/// use asymfence::cross_process::{SegmentError, attach};
///
/// let error = attach(&words, file.as_fd()).unwrap_err();
/// assert_eq!(error, SegmentError::NotCreated);
/// println!("{error}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentError {
    /// The memory is too short: it has only this many words.
    TooShort(usize),
    /// The memory of the header is not all zero, so it may be in use.
    NotEmpty,
    /// The segment has not been created yet, or is being created at this moment, or its creator died in the middle.
    NotCreated,
    /// The memory holds no segment: it begins with this word.
    Foreign(u32),
    /// The segment has another version: this one.
    Version(u32),
    /// The segment's mode is unknown: this value.
    Mode(u32),
    /// The segment was created under another kernel.
    OtherKernel,
    /// The segment was created with another file.
    OtherFile,
    /// This process cannot be asymmetric.
    Refused(Refusal),
    /// Every place is taken. `ended` of them belong to processes that have ended, or to participants that are being
    /// dropped at this moment.
    Full {
        /// How many [`reap`](super::reap) can free.
        ended: usize,
    },
    /// No place can be locked, though some are free.
    Locked,
    /// The file system does not keep a lock for a mapping, or a sandbox answers in the kernel's place that there is a
    /// lock.
    LockNotKept,
    /// The process has lost its place.
    PlaceLost,
    /// The file is in use: a process has a place in another segment with it.
    FileInUse,
    /// The step failed with this errno. The errno is 0 if the answer is one that no kernel gives (as far as can be
    /// told: see [`Failure::errno`](crate::Failure::errno)).
    Failed(SegmentStep, i32),
}

/// The system calls of [`create`](super::create), [`attach`](super::attach) and [`reap`](super::reap) other than
/// membarrier.
///
/// ```
/// use asymfence::cross_process::{SegmentError, SegmentStep};
///
/// let error = SegmentError::Failed(SegmentStep::Reopen, 24); // EMFILE
/// println!("{error}");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentStep {
    /// Reading `/proc/sys/kernel/random/boot_id`, which tells this kernel from others.
    ReadBootId,
    /// fstat(2) of the file, to recognise it later, or fstatfs(2), to know its file system.
    Identify,
    /// Opening the file again, as `/proc/thread-self/fd/N`, for locks of its own, or fstat(2) of what was opened.
    Reopen,
    /// fcntl(2) F_OFD_SETLK or F_OFD_GETLK on one byte of the file.
    Lock,
    /// mmap(2) of the beginning of the file, which keeps the lock; or mmap(2) or madvise(2) of one page of memory, by
    /// which a forked child is recognised.
    Map,
}

impl SegmentStep {
    pub(super) fn failed(self) -> impl Fn(Errno) -> SegmentError {
        move |errno| self.failed_with(errno.raw_os_error())
    }

    pub(super) fn failed_with(self, errno: i32) -> SegmentError {
        SegmentError::Failed(self, known(errno))
    }

    const fn words(self) -> &'static str {
        match self {
            SegmentStep::ReadBootId => "reading /proc/sys/kernel/random/boot_id",
            SegmentStep::Identify => "fstat or fstatfs of the lock file",
            SegmentStep::Reopen => {
                "opening the lock file anew by /proc/thread-self/fd, or fstat of it"
            }
            SegmentStep::Lock => "fcntl(F_OFD_SETLK or F_OFD_GETLK) on the lock file",
            SegmentStep::Map => "mmap of the lock file, or mmap or madvise of a page of memory",
        }
    }

    fn advice(self, errno: i32) -> &'static str {
        let errno = known(errno);
        if errno == 0 {
            return "no kernel gives this answer: a sandbox answers in its place; let the kernel answer";
        }
        match (self, Errno::from_raw_os_error(errno)) {
            (_, Errno::MFILE) => {
                "EMFILE: this process has no descriptor left; close some, or raise RLIMIT_NOFILE"
            }
            (_, Errno::NFILE) => "ENFILE: the system has no descriptor left; close some",
            (_, Errno::NOMEM) => "ENOMEM: no memory, or no room for one more mapping",
            (SegmentStep::ReadBootId, Errno::NOENT) => {
                "ENOENT: mount /proc, and the whole of it (not subset=pid)"
            }
            (SegmentStep::Reopen, Errno::NOENT) => {
                "ENOENT: mount the /proc of this PID namespace (Linux 3.17 or later)"
            }
            (SegmentStep::ReadBootId, Errno::INVAL) => {
                "the file holds no boot id: mount the kernel's own"
            }
            (SegmentStep::Reopen, Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                "the file must be open to this process for reading and writing; give it the permission, mount its \
                 file system for writing, clear its attributes (chattr(1)), or take a memfd"
            }
            (SegmentStep::ReadBootId, Errno::ACCESS | Errno::PERM) => {
                "a sandbox forbids it; attach before the sandbox is installed"
            }
            (SegmentStep::Lock, Errno::INVAL | Errno::NOLCK | Errno::OPNOTSUPP) => {
                "the kernel is older than 3.15, or the file system has no such locks; take a memfd"
            }
            (SegmentStep::Map, Errno::AGAIN) => {
                "EAGAIN: mlockall(MCL_FUTURE) locks new mappings too, and RLIMIT_MEMLOCK has no room; raise it"
            }
            (SegmentStep::Map, Errno::NODEV | Errno::ACCESS) => {
                "the file cannot be mapped; take a memfd"
            }
            (SegmentStep::Reopen, Errno::NXIO | Errno::ISDIR | Errno::NODEV) => {
                "a file of this kind cannot be opened anew, locked and mapped; take a memfd"
            }
            (SegmentStep::Reopen, Errno::TXTBSY) => {
                "ETXTBSY: the file is a program that runs; take a memfd, or another file"
            }
            (_, Errno::INTR) => "EINTR: a signal interrupted it; try again",
            (_, Errno::BADF) => "EBADF: the descriptor is closed, or was opened with O_PATH",
            _ => "a sandbox may forbid it; attach before the sandbox is installed",
        }
    }
}

impl From<Misfit> for SegmentError {
    fn from(misfit: Misfit) -> Self {
        match misfit {
            Misfit::NotEmpty => SegmentError::NotEmpty,
            Misfit::NotCreated => SegmentError::NotCreated,
            Misfit::Foreign(word) => SegmentError::Foreign(word),
            Misfit::Version(version) => SegmentError::Version(version),
            Misfit::Mode(mode) => SegmentError::Mode(mode),
            Misfit::OtherKernel => SegmentError::OtherKernel,
            Misfit::OtherFile => SegmentError::OtherFile,
            Misfit::Full { ended } => SegmentError::Full { ended },
            Misfit::Locked => SegmentError::Locked,
            Misfit::LockNotKept => SegmentError::LockNotKept,
        }
    }
}

impl From<Refusal> for SegmentError {
    fn from(refusal: Refusal) -> Self {
        SegmentError::Refused(refusal)
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SegmentError::TooShort(words) => {
                write!(f, "the memory has {words} words of 4 bytes, and the header takes {WORDS}")
            }
            SegmentError::NotEmpty => f.write_str(
                "the memory of the header is not all zero: there is a segment already, or a process died while it made one; \
                 attach to the segment, or take fresh memory",
            ),
            SegmentError::NotCreated => f.write_str(
                "there is no segment in this memory yet; create it before you tell others of it, or try again later. If a \
                 process died while it made one, take fresh memory",
            ),
            SegmentError::Foreign(word) => {
                write!(f, "the memory begins with {word:#010x} and holds no segment of asymfence")
            }
            SegmentError::Version(version) => write!(
                f,
                "the segment is of version {version}, this program of version {VERSION}; build all \
                 its programs with the same asymfence"
            ),
            SegmentError::Mode(mode) => {
                write!(f, "the segment's mode is {mode}, which is not one; something has written over it")
            }
            SegmentError::OtherKernel => f.write_str(
                "the segment was made under another kernel (on another machine or virtual machine, or \
                 before a reboot), where this kernel's heavy fences and locks reach nobody; create it anew",
            ),
            SegmentError::OtherFile => f.write_str(
                "the segment was made with another file; every process must give the same file, but may open it by \
                 any path or descriptor",
            ),
            SegmentError::Refused(refusal) => write!(
                f,
                "this process cannot take part in asymmetric fences: {refusal}. Or create the \
                 segment symmetric"
            ),
            SegmentError::Full { ended: 0 } => write!(
                f,
                "all {PARTICIPANTS} places are taken, and none can be reaped: their processes live, or somebody else \
                 has locked them; drop participants that are not needed, also the copies in forked children"
            ),
            SegmentError::Full { ended } => write!(
                f,
                "all {PARTICIPANTS} places are taken, {ended} of them by processes that have ended; free \
                 those with `reap`"
            ),
            SegmentError::Locked => write!(
                f,
                "the free places are locked: by processes that attach at this moment, or by a lock that the program \
                 itself has on the lock file, from byte {FIRST_BYTE} on; try again, or lock less"
            ),
            SegmentError::LockNotKept => f.write_str(
                "the lock is not there: either the file system does not keep a lock for as long as the file is mapped \
                 (overlayfs does not; FUSE and aufs may not, and are refused): take a memfd, or a file in /dev/shm; or \
                 a sandbox answers fcntl(2) or mmap(2) in the kernel's place: let the kernel answer",
            ),
            SegmentError::PlaceLost => f.write_str(
                "the place in the table is no longer held, as after the restore of a checkpoint; attach again",
            ),
            SegmentError::FileInUse => f.write_str(
                "processes have places in another segment with this file, and their locks would count in this one too; \
                 take a file of its own for each segment",
            ),
            SegmentError::Failed(step, errno) => {
                write!(f, "{} failed with errno {errno}: {}", step.words(), step.advice(*errno))
            }
        }
    }
}

impl core::error::Error for SegmentError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            SegmentError::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}
