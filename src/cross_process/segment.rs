//! A segment as real processes use it: the words of the header, and the file whose locks keep the places.

use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use std::os::fd::BorrowedFd;

use super::error::{SegmentError, SegmentStep};
use super::header::{self, Byte, Common, FIRST_BYTE, Locks, PARTICIPANTS, WORDS, Word};
use crate::sys::kernel::boot_id;
use crate::sys::ofd_lock::{self, Hold, Origin, identity};

pub(super) type Header = header::Header<AtomicU32, PARTICIPANTS>;
pub(super) type Place<'a> = header::Place<'a, AtomicU32, PARTICIPANTS, LockFile<'a>, Hold>;

const _: () = assert!(size_of::<Header>() == WORDS * size_of::<AtomicU32>());
const _: () = assert!(align_of::<Header>() == align_of::<AtomicU32>());

/// The header over the first of `words`.
pub(super) fn over(words: &[AtomicU32]) -> Result<&Header, SegmentError> {
    let Some(header) = words.first_chunk::<WORDS>() else {
        return Err(SegmentError::TooShort(words.len()));
    };
    // SAFETY: both types consist of the same number of `AtomicU32`s, with the same size and alignment.
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

/// The file that the processes of a segment lock. A daemon may close every descriptor and open another file with the
/// same number. So `open` and `is_locked` check that it is the same file. (`is_in_use` does not: `create` calls it just
/// after `of`.)
#[derive(Clone, Copy)]
pub(super) struct LockFile<'a> {
    descriptor: BorrowedFd<'a>,
    /// Its device and inode.
    identity: [u64; 2],
}

impl<'a> LockFile<'a> {
    pub(super) fn of(descriptor: BorrowedFd<'a>) -> Result<Self, SegmentError> {
        let identity = identity(descriptor).map_err(SegmentStep::Identify.failed())?;
        Ok(LockFile { descriptor, identity })
    }

    /// The descriptor, if it still refers to the same file.
    fn same(self) -> Result<BorrowedFd<'a>, SegmentError> {
        let now = LockFile::of(self.descriptor)?;
        if now.identity == self.identity {
            Ok(self.descriptor)
        } else {
            Err(SegmentError::OtherFile)
        }
    }

    /// Whether any process has a place in a segment with this file.
    pub(super) fn is_in_use(self) -> Result<bool, SegmentError> {
        let places = of(Byte::Held(0)).start..of(Byte::Held(PARTICIPANTS)).start;
        ofd_lock::find(self.descriptor, places).map_err(lock_failed)
    }

    /// The kernel and the file.
    pub(super) fn common(self) -> Result<Common, SegmentError> {
        let [device, inode] = self.identity;
        let halves = |value: u64| [value as u32, (value >> 32) as u32];
        let ([d0, d1], [i0, i1]) = (halves(device), halves(inode));
        let kernel = boot_id().map_err(SegmentStep::ReadBootId.failed())?;
        Ok(Common { kernel, file: [d0, d1, i0, i1] })
    }
}

impl Locks for LockFile<'_> {
    type Description = Description;
    type Hold = Hold;
    type Error = SegmentError;

    fn open(&self) -> Result<Description, SegmentError> {
        // Before it is opened: a handler that interrupts the call may fork, and the child has the description too.
        let origin = Origin::here().map_err(|errno| SegmentStep::Map.failed_with(errno))?;
        let opened = ofd_lock::Description::of(self.same()?, self.identity, origin)
            .map_err(SegmentStep::Reopen.failed())?;
        // The file that was opened is not the one that had the number before, or by now another file has the number of
        // the new descriptor.
        if opened.is_lost() { Err(SegmentError::OtherFile) } else { Ok(Description(opened)) }
    }

    fn is_locked(&self, byte: Byte) -> Result<bool, SegmentError> {
        ofd_lock::find(self.same()?, of(byte)).map_err(lock_failed)
    }
}

pub(super) struct Description(ofd_lock::Description);

impl header::Description for Description {
    type Hold = Hold;
    type Error = SegmentError;

    fn is_of_this_process(&self) -> bool {
        self.0.is_of_this_process()
    }

    fn try_lock(&self, byte: Byte) -> Result<bool, SegmentError> {
        self.0.try_lock(of(byte).start).map_err(lock_failed)
    }

    fn unlock(&self, byte: Byte) {
        self.0.unlock(of(byte).start);
    }

    fn is_locked_by_another(&self, byte: Byte) -> Result<bool, SegmentError> {
        self.0.find(of(byte)).map_err(lock_failed)
    }

    fn has_its_number(&self) -> bool {
        self.0.has_its_number()
    }

    fn is_open(&self, byte: Byte) -> bool {
        self.0.is_open(of(byte))
    }

    fn is_lost(&self) -> bool {
        self.0.is_lost()
    }

    fn hold(&self) -> Result<Hold, SegmentError> {
        if self.0.is_layered().map_err(SegmentStep::Identify.failed())? {
            return Err(SegmentError::LockNotKept);
        }
        self.0.hold().map_err(SegmentStep::Map.failed())
    }
}

fn lock_failed(errno: i32) -> SegmentError {
    SegmentStep::Lock.failed_with(errno)
}

/// The holders' bytes come first.
fn of(byte: Byte) -> Range<u64> {
    let number = match byte {
        Byte::Held(index) => index,
        Byte::Change(index) => PARTICIPANTS + index,
    };
    let byte = FIRST_BYTE + number as u64;
    byte..byte + 1
}
