//! Which kernel this is, as far as it says so itself.

use rustix::fs::{Access, access};

/// Major and minor version.
pub(super) type Version = (u32, u32);

pub(super) fn version() -> Option<Version> {
    parse_release(rustix::system::uname().release().to_bytes())
}

/// Reads `6.8.0-45-generic` as `(6, 8)`.
pub(super) fn parse_release(release: &[u8]) -> Option<Version> {
    let mut parts = release.split(|byte| !byte.is_ascii_digit());
    let mut number = || core::str::from_utf8(parts.next()?).ok()?.parse().ok();
    Some((number()?, number()?))
}

/// Whether another kernel, or another program, stands in for Linux. gVisor, WSL1 and the Linux
/// emulations of FreeBSD and illumos have no `/sys/kernel/notes` (Linux has had it since 2.6.23);
/// Xen, whose guests may run without a sign of it in CPUID, has `/sys/hypervisor/type`.
pub(super) fn is_plain_linux() -> bool {
    access(c"/sys/kernel/notes", Access::EXISTS).is_ok()
        && access(c"/sys/hypervisor/type", Access::EXISTS).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_by_their_first_two_numbers() {
        for (release, version) in [
            ("6.8.0-45-generic", Some((6, 8))),
            ("6.18.44-fc-v769", Some((6, 18))),
            ("4.4.0", Some((4, 4))),
            ("7.0", Some((7, 0))),
            ("6.19-rc1", Some((6, 19))),
            ("6", None),
            ("six.eight", None),
            ("", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(parse_release(release.as_bytes()), version, "{release}");
        }
    }
}
