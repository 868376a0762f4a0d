//! File systems that only a child process sees.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;

/// From now on only this process sees what it mounts. False, with the errno, where that is forbidden.
pub(crate) fn mounts_of_its_own() -> bool {
    // SAFETY: takes no memory.
    let apart = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0
        // SAFETY: as above.
        || unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } == 0;
    apart && mount("none", "/", "", libc::MS_PRIVATE | libc::MS_REC, "")
}

pub(crate) fn mount(
    what: &str,
    target: &str,
    kind: &str,
    flags: libc::c_ulong,
    options: &str,
) -> bool {
    let [what, target, kind, options] =
        [what, target, kind, options].map(|text| CString::new(text).expect("plain"));
    let options = options.as_ptr().cast();
    // SAFETY: the texts are terminated and live as long as the call.
    unsafe { libc::mount(what.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options) == 0 }
}

/// Removes the file system that is mounted there, and those that are mounted in it.
#[track_caller]
pub(crate) fn unmount(target: &str) {
    let target = CString::new(target).expect("plain");
    // SAFETY: the text is terminated and lives as long as the call.
    let done = unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

/// From now on the root of this process is an empty folder, in which there is no /proc. The folder has no name any more.
pub(crate) fn enter_an_empty_root() -> io::Result<()> {
    let name = format!("asymfence-{}", std::process::id());
    let folder = std::env::temp_dir().join(&name);
    let around = File::open(std::env::temp_dir())?;
    fs::create_dir(&folder)?;
    let entered = std::os::unix::fs::chroot(&folder);
    let name = CString::new(name).expect("plain");
    // SAFETY: the name is terminated and lives as long as the call. It is named relative to the folder around it, which
    // is open, since no absolute path leads there now.
    let removed = unsafe { libc::unlinkat(around.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) };
    assert_eq!(removed, 0, "{}", io::Error::last_os_error());
    entered
}
