//! Which kernel this is, as far as it can be told.

use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::io::{Errno, read};

/// Major and minor version.
pub(super) type Version = (u32, u32);

/// What the kernel says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// `None` if it does not say, or in no known form.
    pub(super) version: Option<Version>,
    /// Nothing else stands in for Linux on a processor of its own architecture.
    #[allow(dead_code, reason = "only the mprotect rung asks")]
    pub(super) plain_x86_linux: bool,
}

impl Kernel {
    pub(super) fn running() -> Self {
        // Not uname(2): the personality UNAME26 makes it lie, and rustix takes it for infallible.
        let mut buffer = [0; 64];
        let release =
            open(c"/proc/sys/kernel/osrelease", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .and_then(|file| read(file, &mut buffer))
                .map_or(&[][..], |length| &buffer[..length]);
        Kernel { version: parse_release(release), plain_x86_linux: is_plain_x86_linux(release) }
    }
}

/// Reads `6.8.0-45-generic` as `(6, 8)`.
fn parse_release(release: &[u8]) -> Option<Version> {
    let mut parts = release.split(|byte| !byte.is_ascii_digit());
    let mut number = || core::str::from_utf8(parts.next()?).ok()?.parse().ok();
    Some((number()?, number()?))
}

/// Whether no other kernel, and no other program, stands in for Linux.
///
/// - `/sys/kernel/boot_params` is there on x86 alone (since 3.14): no translated binary on another
///   processor's kernel, no gVisor, no Linux emulation of FreeBSD or illumos.
/// - `/sys/hypervisor/type` is Xen's, whose paravirtual guests may run without a sign of it in CPUID.
/// - WSL1, which is the Windows kernel, says so in its release (`-Microsoft`; WSL2, which is Linux on
///   Hyper-V, has a small m).
fn is_plain_x86_linux(release: &[u8]) -> bool {
    access(c"/sys/kernel/boot_params/version", Access::EXISTS).is_ok()
        && access(c"/sys/hypervisor/type", Access::EXISTS) == Err(Errno::NOENT)
        && !release.windows(9).any(|word| word == b"Microsoft")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_by_their_first_two_numbers() {
        for (release, version) in [
            ("6.8.0-45-generic", Some((6, 8))),
            ("6.18.44-custom", Some((6, 18))),
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
