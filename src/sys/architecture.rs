//! Whether membarrier(2) is a barrier on a processor of this kind. `MEMBARRIER_SOUND_SINCE` has the list.

use super::kernel::Version;
use crate::refusal::{Reason, Refusal};

/// The commands are full barriers in every kernel that has them.
pub(super) const ALWAYS: Version = (0, 0);

/// Admits what is listed, in a kernel that is new enough. Asks for the version only where it matters.
pub(super) fn admit(
    sound_since: Option<Version>,
    running: impl FnOnce() -> Option<Version>,
) -> Result<(), Refusal> {
    let refuse = |reason| Err(Refusal::new(reason));
    match sound_since {
        None => refuse(Reason::ArchitectureNotListed),
        Some(ALWAYS) => Ok(()),
        Some(first) => match running() {
            None => refuse(Reason::KernelVersionUnknown),
            Some(version) if version < first => refuse(Reason::KernelTooOld),
            Some(_) => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_refused_whatever_the_kernel() {
        let verdict = |since, running| admit(since, || running).map_err(Refusal::reason);
        assert_eq!(verdict(None, Some((99, 0))), Err(Reason::ArchitectureNotListed));
        assert_eq!(verdict(None, None), Err(Reason::ArchitectureNotListed));
        assert_eq!(verdict(Some(ALWAYS), Some((4, 14))), Ok(()));
        assert_eq!(verdict(Some(ALWAYS), None), Ok(()));
        // As riscv.
        assert_eq!(verdict(Some((6, 9)), Some((6, 8))), Err(Reason::KernelTooOld));
        assert_eq!(verdict(Some((6, 9)), Some((5, 99))), Err(Reason::KernelTooOld));
        assert_eq!(verdict(Some((6, 9)), Some((6, 9))), Ok(()));
        assert_eq!(verdict(Some((6, 9)), None), Err(Reason::KernelVersionUnknown));
    }

    #[test]
    fn no_file_is_read_where_the_version_does_not_matter() {
        assert_eq!(admit(Some(ALWAYS), || panic!("read")), Ok(()));
        assert!(admit(None, || panic!("read")).is_err());
    }
}
