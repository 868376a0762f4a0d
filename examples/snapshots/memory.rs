//! Memory that two processes share: a memfd that is sealed against shrinking.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use asymfence::cross_process::WORDS;
use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

pub(crate) struct Memory {
    file: File,
    map: MmapRaw,
}

/// The header of a segment, and the shared value behind it.
#[repr(C)]
pub(crate) struct Layout<T> {
    pub(crate) header: [AtomicU32; WORDS],
    pub(crate) data: T,
}

/// What may lie in shared memory: other processes write to it, and at first every byte is zero.
///
/// # Safety
///
/// The type consists of atomics, for which every value is valid.
pub(crate) unsafe trait Atomics: Sync {}

impl Memory {
    /// New memory for a segment with a `T` in it.
    pub(crate) fn new<T: Atomics>() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("asymfence", flags)?);
        file.set_len(size_of::<Layout<T>>() as u64)?;
        // Processes that map the memory rely on its length: an access beyond it would raise SIGBUS.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Memory::map(file)
    }

    /// The memory of another process, by the path that [`path`](Self::path) returned there.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        Memory::map(File::options().read(true).write(true).open(path)?)
    }

    fn map(file: File) -> io::Result<Self> {
        let map = MmapRaw::map_raw(&file)?;
        Ok(Memory { file, map })
    }

    /// The path by which other processes of the same user open it, as long as this process lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// What the segment is made with, beside the header.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn layout<T: Atomics>(&self) -> &Layout<T> {
        let start = self.map.as_mut_ptr().cast::<Layout<T>>();
        assert!(self.map.len() >= size_of::<Layout<T>>() && start.is_aligned());
        // SAFETY: mapped for reading and writing for as long as `self` lives, sealed against shrinking,
        // aligned and long enough. Other processes write to it, which atomics allow; so no value is
        // invalid.
        unsafe { &*start }
    }
}
