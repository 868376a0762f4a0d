//! What `ofd_lock` does, for Miri, which has no such locks and no mapping of a file, and runs one process: the locks
//! are in the memory of that process. A description's locks last as long as the description or a [`Hold`] of it.

use core::ops::Range;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::vec::Vec;

use rustix::io::Errno;

use super::byte_lock::Answer;

/// Device and inode. Miri knows statx(2), by which the standard library asks.
pub(crate) fn identity(file: BorrowedFd<'_>) -> Result<[u64; 2], Errno> {
    let found = file.try_clone_to_owned().and_then(|file| File::from(file).metadata());
    let found = found.map_err(errno)?;
    Ok([found.dev(), found.ino()])
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or(0))
}

/// The locks of a description, by their bytes.
struct Open {
    /// As long as it is open, no other file has its inode.
    _file: OwnedFd,
    identity: [u64; 2],
    locks: Mutex<BTreeSet<u64>>,
}

impl Open {
    fn locks(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All descriptions. Its guard is held for each change of a lock.
static ALL: Mutex<Vec<Weak<Open>>> = Mutex::new(Vec::new());

fn all() -> MutexGuard<'static, Vec<Weak<Open>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a description of this file has a lock on one of the bytes.
fn is_locked(all: &[Weak<Open>], identity: [u64; 2], bytes: Range<u64>) -> bool {
    let mut opened = all.iter().filter_map(Weak::upgrade).filter(|open| open.identity == identity);
    opened.any(|open| open.locks().range(bytes.clone()).next().is_some())
}

/// Whether a description has a lock on one of the bytes. (`file`'s own has none: only a [`Description`] locks.)
pub(crate) fn find(file: BorrowedFd<'_>, bytes: Range<u64>) -> Answer<bool> {
    let identity = identity(file).map_err(Errno::raw_os_error)?;
    Ok(is_locked(&all(), identity, bytes))
}

/// There is only this process.
pub(crate) struct Origin;

impl Origin {
    pub(crate) fn here() -> Answer<Self> {
        Ok(Origin)
    }
}

/// An open file description of its own.
pub(crate) struct Description(Arc<Open>);

impl Description {
    pub(crate) fn of(
        file: BorrowedFd<'_>,
        identity: [u64; 2],
        _origin: Origin,
    ) -> Result<Self, Errno> {
        let file = file.try_clone_to_owned().map_err(errno)?;
        let open = Arc::new(Open { _file: file, identity, locks: Mutex::default() });
        let mut all = all();
        all.retain(|open| open.strong_count() != 0);
        all.push(Arc::downgrade(&open));
        Ok(Description(open))
    }

    pub(crate) fn is_open(&self, _: Range<u64>) -> bool {
        true
    }

    pub(crate) fn is_lost(&self) -> bool {
        false
    }

    pub(crate) fn is_of_this_process(&self) -> bool {
        true
    }

    /// Whether another description has a lock on one of the bytes.
    pub(crate) fn find(&self, bytes: Range<u64>) -> Answer<bool> {
        let is_own = |open: &&Weak<Open>| open.as_ptr() == Arc::as_ptr(&self.0);
        let others: Vec<_> = all().iter().filter(|open| !is_own(open)).cloned().collect();
        Ok(is_locked(&others, self.0.identity, bytes))
    }

    pub(crate) fn try_lock(&self, byte: u64) -> Answer<bool> {
        let all = all();
        let is_free = !is_locked(&all, self.0.identity, byte..byte + 1);
        if is_free {
            self.0.locks().insert(byte);
        }
        Ok(is_free)
    }

    pub(crate) fn unlock(&self, byte: u64) {
        let _all = all();
        self.0.locks().remove(&byte);
    }

    pub(crate) fn is_layered(&self) -> Result<bool, Errno> {
        Ok(false)
    }

    pub(crate) fn hold(&self) -> Result<Hold, Errno> {
        Ok(Hold { _open: Arc::clone(&self.0) })
    }
}

pub(crate) struct Hold {
    _open: Arc<Open>,
}
