//! Which kernel this is, where that can be told.

use core::ffi::CStr;
use core::num::NonZeroU32;

use rustix::fd::OwnedFd;
use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::io::{Errno, pread};

use super::patience::despite;

/// Major and minor version.
pub(super) type Version = (u32, u32);

/// What the kernel says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// `None` if it does not say, or in no known form.
    pub(super) version: Option<Version>,
    /// The 123 of `6.1.123-anything`, which says what a stable tree holds. 0 says nothing: distributions keep
    /// `6.1.0` whatever they add.
    #[allow(dead_code, reason = "only the mprotect rung asks")]
    pub(super) level: Option<NonZeroU32>,
    /// `6.18.0-rc3`: not yet what the version says.
    #[allow(dead_code, reason = "only the mprotect rung asks")]
    pub(super) is_candidate: bool,
    /// This is Linux itself, on an x86 processor: no emulation of its system calls, no translation of the program.
    #[allow(dead_code, reason = "only the mprotect rung asks")]
    pub(super) plain_x86_linux: bool,
}

impl Kernel {
    pub(super) fn running() -> Self {
        // Not uname(2): the personality UNAME26 makes it lie, and rustix takes it for infallible.
        let mut buffer = [0; 64];
        let release = beginning(c"/proc/sys/kernel/osrelease", &mut buffer).unwrap_or_default();
        let (version, level) = parse_release(release);
        let is_candidate = is_candidate(release);
        Kernel { version, level, is_candidate, plain_x86_linux: is_plain_x86_linux(release) }
    }
}

/// NONBLOCK: whoever sets up a container may have mounted a FIFO over the file. It must not stop the process.
fn open_to_read(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
    despite_signals(|| open(path, flags, Mode::empty()))
}

/// Makes the call again if a signal interrupts it. A supervisor of seccomp(2) may make any call wait, and a call that
/// waits can be interrupted.
pub(super) fn despite_signals<T>(call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    despite(|&errno| errno == Errno::INTR, call)
}

/// What the file begins with.
fn beginning<'a>(path: &CStr, buffer: &'a mut [u8; 64]) -> Result<&'a [u8], Errno> {
    if super::INTERPRETED {
        return Err(Errno::NOSYS); // there is no kernel
    }
    super::no_unwind(|| {
        let file = open_to_read(path)?;
        let mut length = 0;
        // One call may give less than there is.
        loop {
            match read_some(&file, &mut buffer[length..], length)? {
                0 => return Ok(&buffer[..length]),
                more => length += more,
            }
        }
    })
}

/// Reads from the position `at`. Not read(2): a handler that interrupts us may fork, and the child shares the position of
/// the file with its parent.
fn read_some(file: &OwnedFd, buffer: &mut [u8], at: usize) -> Result<usize, Errno> {
    match despite_signals(|| pread(file, &mut *buffer, at as u64)) {
        // No kernel reads more than there is room for.
        Ok(length) if length > buffer.len() => Err(Errno::IO),
        answer => answer,
    }
}

/// The switch in the environment that this process was started with, as far as its memory still
/// has it; `None` also if that cannot be read.
#[cfg(feature = "std")]
pub(super) fn search_environment() -> Option<Option<super::environment::Switch>> {
    super::no_unwind(|| {
        // Of this thread: /proc/self/environ is empty once the first thread of the process has ended.
        let environment = open_to_read(c"/proc/thread-self/environ");
        let (environment, mut buffer) = (environment.ok()?, [0; 512]);
        let mut search = super::environment::Search::default();
        // Bounded, since a sandbox may answer "one more byte" for ever. The kernel keeps 6 MiB at most, arguments
        // included (`bprm_stack_limits`, fs/exec.c@v6.18): an eighth of what 100,000 reads of 512 bytes can give.
        let mut at = 0;
        for _ in 0..100_000 {
            match read_some(&environment, &mut buffer[..], at) {
                Ok(0) => return search.found(),
                Ok(length) => {
                    search.read(&buffer[..length]);
                    at += length;
                }
                Err(_) => return None,
            }
        }
        None
    })
}

super::on_linux! {
    /// Identifies this boot of the kernel: another boot has another id.
    #[cfg(feature = "std")]
    pub(crate) fn boot_id() -> Result<[u32; 4], Errno> {
        if super::INTERPRETED {
            return Ok([0; 4]); // there is one process
        }
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

/// Reads `6.8.12-45-generic` as `(6, 8)` and 12.
fn parse_release(release: &[u8]) -> (Option<Version>, Option<NonZeroU32>) {
    let mut parts = release.split(|byte| !byte.is_ascii_digit());
    // guard survives: ASCII digits are UTF-8.
    let mut number = || core::str::from_utf8(parts.next()?).ok()?.parse().ok();
    let (Some(major), Some(minor)) = (number(), number()) else { return (None, None) };
    // A level is only what follows a dot after the minor number: `6.8-45` has none.
    let dots = release.split(|byte| !b"0123456789.".contains(byte)).next().unwrap_or_default();
    let has_level = dots.iter().filter(|&&byte| byte == b'.').count() >= 2;
    let level = if has_level { number() } else { None };
    (Some((major, minor)), level.and_then(NonZeroU32::new))
}

fn is_candidate(release: &[u8]) -> bool {
    release.windows(3).any(|word| word == b"-rc")
}

/// Whether no other kernel, and no other program, stands in for Linux.
///
/// - `/sys/kernel/boot_params` exists on x86 alone (since 3.14). If it exists, this is no translated binary on another
///   processor's kernel, no gVisor, and no Linux emulation of FreeBSD or illumos.
/// - `/sys/hypervisor/type` is Xen's, whose paravirtual guests may run without a sign of it in CPUID.
/// - WSL1, which is the Windows kernel, says so in its release (`-Microsoft`; WSL2, which is Linux on
///   Hyper-V, has a small m).
fn is_plain_x86_linux(release: &[u8]) -> bool {
    let exists = |path: &CStr| despite_signals(|| access(path, Access::EXISTS));
    !super::INTERPRETED
        && exists(c"/sys/kernel/boot_params/version").is_ok()
        && exists(c"/sys/hypervisor/type") == Err(Errno::NOENT)
        && !release.windows(9).any(|word| word == b"Microsoft")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::patience::ATTEMPTS;

    #[test]
    fn releases_are_read_by_their_numbers() {
        for (release, version, level) in [
            ("6.8.0-45-generic", Some((6, 8)), 0),
            ("6.18.44-custom", Some((6, 18)), 44),
            ("6.12.57+deb13-amd64", Some((6, 12)), 57),
            ("6.1.0-44-amd64", Some((6, 1)), 0),
            ("6.1.141-155.222.amzn2023.x86_64", Some((6, 1)), 141),
            ("5.15.167.4-microsoft-standard-WSL2", Some((5, 15)), 167),
            ("4.4.0", Some((4, 4)), 0),
            ("7.0", Some((7, 0)), 0),
            ("7.0-45", Some((7, 0)), 0),
            ("6.19-rc1", Some((6, 19)), 0),
            ("6.19.0-rc1", Some((6, 19)), 0),
            ("6.1.7-rc2", Some((6, 1)), 7),
            ("6", None, 0),
            ("six.eight", None, 0),
            ("", None, 0),
            ("99999999999.1", None, 0),
        ] {
            let read = parse_release(release.as_bytes());
            assert_eq!(read, (version, NonZeroU32::new(level)), "{release}");
            assert_eq!(is_candidate(release.as_bytes()), release.contains("-rc"), "{release}");
        }
    }

    #[test]
    fn a_call_that_signals_interrupt_is_made_again_and_not_for_ever() {
        let made = |interrupted: u32| {
            let mut calls = 0;
            let outcome = despite_signals(|| {
                calls += 1;
                if calls > interrupted { Ok(()) } else { Err(Errno::INTR) }
            });
            (outcome, calls)
        };
        assert_eq!(made(0), (Ok(()), 1));
        assert_eq!(made(ATTEMPTS - 1), (Ok(()), ATTEMPTS));
        assert_eq!(made(ATTEMPTS), (Err(Errno::INTR), ATTEMPTS));
        assert_eq!(despite_signals(|| Err::<(), _>(Errno::NOENT)), Err(Errno::NOENT));
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_file_is_read_to_its_end_and_a_missing_one_is_told() {
        if !crate::ledger::has_procfs() {
            return;
        }
        let mut buffer = [0; 64];
        let release = beginning(c"/proc/sys/kernel/osrelease", &mut buffer).expect("a release");
        assert!(release.ends_with(b"\n") && release.len() > 3, "{release:?}");
        assert_eq!(beginning(c"/proc/sys/kernel/no_such_file", &mut [0; 64]), Err(Errno::NOENT));
        // Longer than the buffer.
        let mut buffer = [0; 64];
        assert_eq!(beginning(c"/proc/self/status", &mut buffer).map(<[u8]>::len), Ok(64));
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_fifo_in_place_of_a_file_does_not_stop_the_process() {
        use rustix::fs::{CWD, FileType, mknodat, unlink};

        let path = std::env::temp_dir().join(std::format!("asymfence-fifo-{}", std::process::id()));
        let name =
            std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no zero in a path");
        mknodat(CWD, &name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        let mut buffer = [0; 64];
        // A FIFO has no positions.
        assert_eq!(beginning(&name, &mut buffer), Err(Errno::SPIPE));
        unlink(&name).expect("its own file");
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_boot_id_is_32_digits() {
        let uuid = b"01234567-89ab-cdef-0123-456789abcdef\n";
        assert_eq!(parse_uuid(uuid), Some([0x0123_4567, 0x89ab_cdef, 0x0123_4567, 0x89ab_cdef]));
        assert_eq!(parse_uuid(&uuid[1..]), None);
        assert_eq!(parse_uuid(&[&uuid[..], b"0"].concat()), None);
        assert_eq!(parse_uuid(b""), None);
        if crate::ledger::has_procfs() {
            assert_eq!(boot_id(), boot_id());
            assert!(boot_id().is_ok());
        }
    }
}
