//! A segment as the processes have it: the header's words, and the file whose locks say who holds a place.

use core::sync::atomic::{AtomicU32, Ordering};
use std::os::fd::BorrowedFd;

use super::error::{Error, Step};
use super::header::{self, Common, FIRST_BYTE, Locks, PARTICIPANTS, WORDS, Word};
use crate::sys::kernel::boot_id;
use crate::sys::ofd_lock::{self, Hold, identity};

pub(super) type Header = header::Header<AtomicU32, PARTICIPANTS>;
pub(super) type Place<'a> = header::Place<'a, AtomicU32, PARTICIPANTS, LockFile<'a>, Hold>;

const _: () = assert!(size_of::<Header>() == WORDS * size_of::<AtomicU32>());
const _: () = assert!(align_of::<Header>() == align_of::<AtomicU32>());

/// The header over the first of `words`.
pub(super) fn over(words: &[AtomicU32]) -> Result<&Header, Error> {
    let Some(header) = words.first_chunk::<WORDS>() else {
        return Err(Error::TooShort(words.len()));
    };
    // SAFETY: both are so many `AtomicU32` and nothing else, of the same size and alignment.
    Ok(unsafe { &*core::ptr::from_ref(header).cast::<Header>() })
}

impl Word for AtomicU32 {
    fn load(&self, order: Ordering) -> u32 {
        self.load(order)
    }

    fn store(&self, value: u32, order: Ordering) {
        self.store(value, order);
    }

    fn compare_exchange(
        &self,
        current: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32> {
        self.compare_exchange(current, new, success, failure)
    }
}

/// The file that the processes of a segment lock. A daemon that closes every descriptor may have opened another
/// file under the number since: each use looks whether it is the same.
#[derive(Clone, Copy)]
pub(super) struct LockFile<'a> {
    descriptor: BorrowedFd<'a>,
    /// Its device and inode.
    identity: [u64; 2],
}

impl<'a> LockFile<'a> {
    pub(super) fn of(descriptor: BorrowedFd<'a>) -> Result<Self, Error> {
        let identity = identity(descriptor).map_err(Step::Identify.failed())?;
        Ok(LockFile { descriptor, identity })
    }

    /// The descriptor, if it is the file that it was.
    fn same(self) -> Result<BorrowedFd<'a>, Error> {
        let now = LockFile::of(self.descriptor)?;
        if now.identity == self.identity { Ok(self.descriptor) } else { Err(Error::OtherFile) }
    }

    /// Which kernel and which file this is.
    pub(super) fn common(self) -> Result<Common, Error> {
        let [device, inode] = self.identity;
        let halves = |value: u64| [value as u32, (value >> 32) as u32];
        let ([d0, d1], [i0, i1]) = (halves(device), halves(inode));
        let kernel = boot_id().map_err(Step::ReadBootId.failed())?;
        Ok(Common { kernel, file: [d0, d1, i0, i1] })
    }
}

impl Locks for LockFile<'_> {
    type Description = Description;
    type Hold = Hold;
    type Error = Error;

    fn open(&self) -> Result<Description, Error> {
        ofd_lock::Description::of(self.same()?).map(Description).map_err(Step::Reopen.failed())
    }

    fn is_locked(&self, index: usize) -> Result<bool, Error> {
        ofd_lock::is_locked(self.same()?, byte_of(index)).map_err(Step::Lock.failed())
    }
}

pub(super) struct Description(ofd_lock::Description);

impl header::Description for Description {
    type Hold = Hold;
    type Error = Error;

    fn try_lock(&self, index: usize) -> Result<bool, Error> {
        self.0.try_lock(byte_of(index)).map_err(Step::Lock.failed())
    }

    fn unlock(&self, index: usize) {
        self.0.unlock(byte_of(index));
    }

    fn hold(&self) -> Result<Hold, Error> {
        self.0.hold().map_err(Step::Map.failed())
    }
}

fn byte_of(index: usize) -> u64 {
    FIRST_BYTE + index as u64
}
