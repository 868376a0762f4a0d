//! File systems that only a child process sees.

use std::ffi::CString;

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
