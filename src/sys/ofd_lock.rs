//! A lock on one byte of a file that lasts as long as a mapping of the file: fcntl(2) F_OFD_SETLK. Since
//! Linux 3.15.
//!
//! The lock belongs to an open file description. The kernel removes it when nothing refers to the description
//! any more, and a mapping refers to it as a descriptor does (`locks_remove_file`, called by `__fput`,
//! fs/file_table.c@v6.18). So fork(2) copies the hold, exec(2) and the end of the process give it back, and
//! closing descriptors does not. It needs no common PID namespace.
//!
//! Not every file system keeps it: overlayfs maps another file than the one that was opened
//! (`ovl_mmap`, fs/overlayfs/file.c@v6.18). So the holder has to look afterwards, with [`is_locked`].
//!
//! By libc: rustix 1.1 has no names for locks of open file descriptions.

use core::ffi::{CStr, c_int};
use core::ptr::{null_mut, without_provenance_mut};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// What tells the file from every other of this kernel while somebody has it open: device and inode.
pub(crate) fn identity(file: BorrowedFd<'_>) -> Result<[u64; 2], Errno> {
    let found = fstat(file)?;
    Ok([found.st_dev, found.st_ino])
}

/// Whether any description has a lock on the byte. (Other than `file`'s own.)
pub(crate) fn is_locked(file: BorrowedFd<'_>, byte: u64) -> Result<bool, Errno> {
    let mut lock = Lock::of(byte, libc::F_WRLCK);
    fcntl(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(c_int::from(lock.kind) != libc::F_UNLCK)
}

/// A description that nobody else has.
pub(crate) struct Description(OwnedFd);

impl Description {
    /// Of the same file. Another descriptor, as by dup(2), would have the locks of `file`'s description.
    pub(crate) fn of(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        // On the stack: a forked child may have no allocator that works.
        let mut path = [0; 32];
        let _ = write!(&mut path[..], "/proc/self/fd/{}\0", file.as_raw_fd());
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::NAMETOOLONG)?;
        open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map(Description)
    }

    /// Locks the byte, unless another description has a lock on it.
    pub(crate) fn try_lock(&self, byte: u64) -> Result<bool, Errno> {
        match fcntl(self.0.as_fd(), libc::F_OFD_SETLK, &mut Lock::of(byte, libc::F_WRLCK)) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn unlock(&self, byte: u64) {
        // Should it fail, the lock goes with the description.
        let _ = fcntl(self.0.as_fd(), libc::F_OFD_SETLK, &mut Lock::of(byte, libc::F_UNLCK));
    }

    /// Keeps the description, and its locks, for as long as the mapping is there.
    pub(crate) fn hold(&self) -> Result<Hold, Errno> {
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start =
            unsafe { mmap(null_mut(), LENGTH, ProtFlags::empty(), MapFlags::PRIVATE, &self.0, 0) };
        start.map(|start| Hold(start.addr()))
    }
}

/// One byte, which makes one page.
const LENGTH: usize = 1;

/// The address of a mapping that nobody can access and nobody else knows.
pub(crate) struct Hold(usize);

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: our mapping, or in a forked child its copy; nothing refers to the memory.
        let _ = unsafe { munmap(without_provenance_mut(self.0), LENGTH) };
    }
}

/// `struct flock64`, include/uapi/asm-generic/fcntl.h@v6.18: where a `long` has 64 bits, `struct flock` too.
#[repr(C)]
struct Lock {
    kind: i16,
    whence: i16,
    start: i64,
    length: i64,
    /// Zero, as F_OFD_SETLK demands. (Some architectures have padding behind it.)
    pid: [c_int; 2],
}

impl Lock {
    fn of(byte: u64, kind: c_int) -> Self {
        let start = byte as i64;
        Lock { kind: kind as i16, whence: libc::SEEK_SET as i16, start, length: 1, pid: [0; 2] }
    }
}

/// With offsets of 64 bits on every architecture; never waits.
fn fcntl(file: BorrowedFd<'_>, command: c_int, lock: &mut Lock) -> Result<(), Errno> {
    let lock = core::ptr::from_mut(lock);
    // SAFETY: the kernel reads and writes a `flock64`, which `lock` is.
    let answer = unsafe { libc::syscall(super::SYS_FCNTL64, file.as_raw_fd(), command, lock) };
    if answer == 0 {
        return Ok(());
    }
    // SAFETY: no precondition.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the C library keeps an errno for each thread, and this is the address of ours.
    Err(Errno::from_raw_os_error(unsafe { *errno }))
}
