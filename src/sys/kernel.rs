//! Which kernel this is, as far as it can be told.

use core::ffi::CStr;

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
        let release = beginning(c"/proc/sys/kernel/osrelease", &mut buffer).unwrap_or_default();
        Kernel { version: parse_release(release), plain_x86_linux: is_plain_x86_linux(release) }
    }
}

/// What the file begins with.
fn beginning<'a>(path: &CStr, buffer: &'a mut [u8; 64]) -> Result<&'a [u8], Errno> {
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let length = read(file, &mut buffer[..])?;
    Ok(&buffer[..length])
}

super::on_linux! {
    /// Tells this kernel, since it booted, from every other.
    #[cfg(feature = "std")]
    pub(crate) fn boot_id() -> Result<[u32; 4], Errno> {
        let mut buffer = [0; 64];
        let text = beginning(c"/proc/sys/kernel/random/boot_id", &mut buffer)?;
        parse_uuid(text).ok_or(Errno::INVAL)
    }

    /// Reads `d8e0d1a7-…`, 32 hexadecimal digits, with whatever stands between them.
    #[cfg(feature = "std")]
    fn parse_uuid(text: &[u8]) -> Option<[u32; 4]> {
        let mut digits = text.iter().filter_map(|&byte| char::from(byte).to_digit(16));
        let mut words = [0; 4];
        for word in &mut words {
            for _ in 0..8 {
                *word = *word << 4 | digits.next()?;
            }
        }
        digits.next().is_none().then_some(words)
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

    #[cfg(feature = "std")]
    #[test]
    fn a_boot_id_is_32_digits() {
        let uuid = b"01234567-89ab-cdef-0123-456789abcdef\n";
        assert_eq!(parse_uuid(uuid), Some([0x0123_4567, 0x89ab_cdef, 0x0123_4567, 0x89ab_cdef]));
        assert_eq!(parse_uuid(&uuid[1..]), None);
        assert_eq!(parse_uuid(&[&uuid[..], b"0"].concat()), None);
        assert_eq!(parse_uuid(b""), None);
        assert_eq!(boot_id(), boot_id());
        assert!(boot_id().is_ok());
    }
}
