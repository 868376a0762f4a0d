//! A lock on one byte of a file that lasts as long as a mapping of the file: fcntl(2) F_OFD_SETLK. Since
//! Linux 3.15.
//!
//! The lock belongs to an open file description. The kernel removes it when nothing refers to the description
//! any more, and a mapping refers to it as a descriptor does (`locks_remove_file`, called by `__fput`,
//! fs/file_table.c@v6.18). So fork(2) copies the hold, exec(2) and the end of the process give it back, and
//! closing descriptors does not. It needs no common PID namespace.
//!
//! Not every file system keeps it: overlayfs maps another file than the one that was opened (`ovl_mmap`,
//! fs/overlayfs/file.c@v6.18). So the holder has to look afterwards, with [`find`]. That is not enough: a child that
//! another thread spawns meanwhile holds the description too, until it calls exec, and hides the loss. So overlayfs is
//! also [refused by its number](Description::is_layered).
//!
//! A sandbox may answer 0 in the kernel's place. That is noticed: each question and each lock has a form to which
//! only the kernel gives the right answer.
//!
//! By libc: rustix 1.1 has no names for locks of open file descriptions.

use core::cell::Cell;
use core::ffi::{CStr, c_int};
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr::{null_mut, without_provenance_mut};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fstat, fstatfs, open};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::byte_lock::Answer;
use super::kernel::despite_signals;
use super::patience::despite;

/// Identifies the file among all of this kernel while it is open: device and inode.
pub(crate) fn identity(file: BorrowedFd<'_>) -> Result<[u64; 2], Errno> {
    let found = complete(|| fstat(file))?;
    Ok([found.st_dev, found.st_ino])
}

/// Whether another description than `file`'s own has a lock on one of the bytes.
pub(crate) fn find(file: BorrowedFd<'_>, bytes: Range<u64>) -> Answer<bool> {
    // We ask with a negative length, which counts backwards from the start. If the kernel finds a lock, it writes back
    // a length that is not negative. So if the answer is 0 and the structure still has our lock in it, no kernel has
    // answered.
    let length = (bytes.end - bytes.start) as i64;
    let asked = Flock::of(bytes.end, libc::F_WRLCK);
    let mut found = Flock { length: -length, ..asked };
    fcntl(file, libc::F_OFD_GETLK, &mut found)?;
    match c_int::from(found.kind) {
        libc::F_UNLCK => Ok(false),
        libc::F_RDLCK | libc::F_WRLCK if found.length >= 0 => Ok(true),
        _ => Err(0),
    }
}

/// Tells the process that made it from the children that are forked afterwards.
///
/// A page that the kernel clears in each child that has a copy of the memory (madvise(2) MADV_WIPEONFORK, since
/// Linux 4.14), whichever call made the child. The number of the process is compared too, for older kernels and for
/// sandboxes that refuse madvise(2) or answer 0 in the kernel's place. It alone is not enough: a parent and its child can
/// both be PID 1, and a sandbox may refuse getpid(2) to both.
pub(crate) struct Origin {
    process: u32,
    page: *mut AtomicU32,
}

impl Origin {
    pub(crate) fn here() -> Answer<Self> {
        let process = std::process::id();
        let (readable, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let page = complete(|| unsafe {
            mmap_anonymous(null_mut(), size_of::<AtomicU32>(), readable, flags)
        })
        .map_err(Errno::raw_os_error)?;
        // What a sandbox may answer, and no kernel does for an address that it chooses itself.
        if page.is_null() {
            return Err(0);
        }
        let origin = Origin { process, page: page.cast() };
        // SAFETY: the mapping is ours, and begins with zeros.
        let wiped =
            complete(|| unsafe { madvise(page, size_of::<AtomicU32>(), Advice::LinuxWipeOnFork) });
        // The kernel has no memory, or the process has as many mappings as it may have. Later the call may succeed.
        // After any other error the number has to do: the kernel is too old, or a sandbox refuses.
        if let Err(error @ (Errno::NOMEM | Errno::AGAIN)) = wiped {
            return Err(error.raw_os_error());
        }
        // Relaxed: a child of this thread has what this thread has stored.
        origin.word().store(1, Relaxed);
        Ok(origin)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: mapped until this is dropped; a child has a mapping of its own.
        unsafe { &*self.page }
    }

    fn is_here(&self) -> bool {
        // The page last, since a handler may fork in getpid(2). Relaxed: as the store.
        self.process == std::process::id() && self.word().load(Relaxed) != 0
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // SAFETY: our mapping, or in a forked child its copy; nothing refers to it any more.
        let _ = complete(|| unsafe { munmap(self.page.cast(), size_of::<AtomicU32>()) });
    }
}

/// An open file description of its own.
pub(crate) struct Description {
    /// A program may close every descriptor. So this one is closed only while its number is ours.
    file: ManuallyDrop<OwnedFd>,
    /// Its number was found not to be ours.
    is_lost: Cell<bool>,
    origin: Origin,
    identity: [u64; 2],
    /// How much a mapping of it takes at least.
    length: usize,
}

impl Description {
    /// Of the same file, whose `identity` this is. Another descriptor, as by dup(2), would have the locks of `file`'s
    /// description. If another file was opened, or has got the number meanwhile, the description is
    /// [lost](Description::is_lost).
    pub(crate) fn of(
        file: BorrowedFd<'_>,
        identity: [u64; 2],
        origin: Origin,
    ) -> Result<Self, Errno> {
        // This thread's descriptors. /proc/self has those of the thread that the process began with, which may have
        // others (CLONE_FILES), or may have ended. Since Linux 3.17.
        // On the stack: a forked child may have no allocator that works.
        let mut path = [0; 40];
        let _ = write!(&mut path[..], "/proc/thread-self/fd/{}\0", file.as_raw_fd());
        // guard survives: a descriptor has ten digits at most, so a zero follows.
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::NAMETOOLONG)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = ManuallyDrop::new(complete(|| open(path, flags, Mode::empty()))?);
        let is_lost = Cell::new(false);
        let mut opened = Description { file, is_lost, origin, identity, length: 1 };
        // munmap(2) of a file on hugetlbfs needs a length in whole huge pages, and `st_blksize` is the size of one. On
        // other file systems the kernel rounds the length up to a page, and a large `st_blksize` costs only address
        // space.
        // guard survives: what refuses this fstat(2) has refused `identity` before.
        let found = complete(|| fstat(&*opened.file))?;
        opened.length = opened.length.max(found.st_blksize as usize);
        opened.is_lost.set([found.st_dev, found.st_ino] != identity);
        Ok(opened)
    }

    /// Whether this process opened it, and not the one from which this one was forked.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.origin.is_here()
    }

    /// As [`find`], of this description. Its own locks are not found.
    pub(crate) fn find(&self, bytes: Range<u64>) -> Answer<bool> {
        find(self.file.as_fd(), bytes)
    }

    /// Whether the number of the descriptor is still ours. The byte is one that this description has locked. A
    /// description does not find its own lock. So if the lock is found, the number stands for another description of
    /// the same file.
    pub(crate) fn is_open(&self, bytes: Range<u64>) -> bool {
        let is_ours = self.has_its_number()
            && self.find(bytes).map_or_else(|errno| errno != libc::EBADF, |is_found| !is_found);
        // The process is asked last: in a child that was forked a moment ago the lock may be another process's by now.
        // (No test has such a child. Without the question it would leave its copy of the descriptor open, with its
        // locks.)
        if !is_ours && self.is_of_this_process() {
            self.is_lost.set(true);
        }
        is_ours
    }

    /// Whether it was found that the number is not ours. Then the description is of no use any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.get()
    }

    /// Whether the number still stands for the file that was opened. If a filter that began a moment ago refuses the
    /// question, the answer is yes: a descriptor that is left open by mistake would keep its locks.
    pub(crate) fn has_its_number(&self) -> bool {
        let is_ours = match identity(self.file.as_fd()) {
            Ok(found) => found == self.identity,
            Err(errno) => errno != Errno::BADF,
        };
        if !is_ours {
            self.is_lost.set(true);
        }
        is_ours
    }

    /// Locks the byte for this description alone, unless another has a lock on it.
    pub(crate) fn try_lock(&self, byte: u64) -> Answer<bool> {
        // The canary: the kernel refuses a lock that names a process (`fcntl_setlk`, fs/locks.c@v6.18).
        let lock = Flock::of(byte, libc::F_WRLCK);
        match self.set(Flock { pid: [1, 0], ..lock }) {
            Err(libc::EINVAL) => {}
            answer => return answer.and(Err(0)),
        }
        match self.set(lock) {
            Ok(()) => Ok(true),
            Err(libc::EAGAIN | libc::EACCES) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn unlock(&self, byte: u64) {
        // Should it fail, the lock goes with the description.
        let _ = self.set(Flock::of(byte, libc::F_UNLCK));
    }

    fn set(&self, mut lock: Flock) -> Answer<()> {
        fcntl(self.file.as_fd(), libc::F_OFD_SETLK, &mut lock)
    }

    /// Whether the file system is known to map another file than the one that was opened, or may have two files where
    /// there is one: FUSE, where the program that serves it decides what is one file, and may keep locks of its own.
    pub(crate) fn is_layered(&self) -> Result<bool, Errno> {
        // Numbers of include/uapi/linux/magic.h@v6.18, which fit in 32 bits; and that of aufs, which is outside of the
        // kernel's tree.
        const OVERLAYFS: u32 = 0x794c_7630;
        const FUSE: u32 = 0x6573_5546;
        const AUFS: u32 = 0x6175_6673;
        Ok([OVERLAYFS, FUSE, AUFS].contains(&(complete(|| fstatfs(&*self.file))?.f_type as u32)))
    }

    /// Keeps the description, and its locks, for as long as the mapping is there.
    pub(crate) fn hold(&self) -> Result<Hold, Errno> {
        // NORESERVE: hugetlbfs may have no memory to set aside.
        let (length, flags) = (self.length, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start = complete(|| unsafe {
            mmap(null_mut(), length, ProtFlags::empty(), flags, &*self.file, 0)
        });
        start.map(|start| Hold { start: start.addr(), length })
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        if !self.is_lost() && self.has_its_number() {
            // By libc: the standard library's debug build aborts if the descriptor was closed a moment ago.
            // SAFETY: ours a moment ago. (docs/limits.md names the program that closes it in that moment.)
            unsafe { libc::close(self.file.as_raw_fd()) };
        }
    }
}

/// The address of a mapping that nobody can access and nobody else knows.
pub(crate) struct Hold {
    start: usize,
    length: usize,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let unmap = || {
            // SAFETY: our mapping, or in a forked child its copy; nothing refers to the memory.
            unsafe { munmap(without_provenance_mut(self.start), self.length) }
        };
        let _ = complete(unmap);
    }
}

/// `struct flock64`, include/uapi/asm-generic/fcntl.h@v6.18: where a `long` has 64 bits, `struct flock` has the same
/// layout.
#[derive(Clone, Copy)]
#[repr(C)]
struct Flock {
    kind: i16,
    whence: i16,
    start: i64,
    length: i64,
    /// Zero, as the kernel demands. (Some architectures have padding behind it.)
    pid: [c_int; 2],
}

impl Flock {
    fn of(byte: u64, kind: c_int) -> Self {
        let start = byte as i64;
        Flock { kind: kind as i16, whence: libc::SEEK_SET as i16, start, length: 1, pid: [0; 2] }
    }
}

/// Made again if a signal interrupts it.
fn complete<T>(call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    super::no_unwind(|| despite_signals(call))
}

/// Made again if a signal interrupts it.
fn fcntl(file: BorrowedFd<'_>, command: c_int, lock: &mut Flock) -> Answer<()> {
    despite(|&errno| errno == libc::EINTR, || fcntl_once(file, command, lock))
}

/// With offsets of 64 bits on every architecture; never waits.
fn fcntl_once(file: BorrowedFd<'_>, command: c_int, lock: &mut Flock) -> Answer<()> {
    let lock = core::ptr::from_mut(lock);
    // SAFETY: the kernel reads and writes a `flock64`, which `lock` is.
    let answer = unsafe { libc::syscall(super::SYS_FCNTL64, file.as_raw_fd(), command, lock) };
    match answer {
        0 => Ok(()),
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        // No kernel answers that to these commands.
        _ => Err(0),
    }
}
