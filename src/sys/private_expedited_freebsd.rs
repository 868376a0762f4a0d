//! membarrier(2) PRIVATE_EXPEDITED of FreeBSD, since 14.1: the kernel interrupts each processor on which
//! the process's address space is active, and waits (sys/kern/kern_membarrier.c@14.1).
//!
//! - The caller must be registered: EPERM otherwise. So fork(2) and exec(2) need no care here: whatever they do to the
//!   registration, a heavy fence whose call fails with EPERM registers again.
//! - Only GLOBAL sleeps, so only GLOBAL can be interrupted. If PRIVATE_EXPEDITED should ever answer EINTR, the call is
//!   made again, as on every system.
//! - Older systems have no such call, and by default send SIGSYS for it (`kern.signosys`). So the version
//!   is asked first, and the call made by its number: libc has the name since 14.1 only.
//!   (A jail that is given a later `osreldate` than the kernel's own deceives this.)
//! - The processors are found by `pmap_active_cpus`. On amd64 a processor enters and leaves `pm_active` by
//!   a locked instruction, a full barrier (`pmap_activate_sw`): one that is not seen there has passed it,
//!   or passes it before it runs a thread of the process. On arm64 (`PMAP_WANT_ACTIVE_CPUS_NAIVE`) the
//!   kernel reads who is running, and a processor says so without a full barrier behind it. No proof, no
//!   rung: what is not x86_64 stays symmetric.
//! - Between processes there is GLOBAL_EXPEDITED, whose caller must be registered too. On every architecture it chooses
//!   whom to interrupt by such a plain read (`pc_curthread`). So there are no fences between processes on FreeBSD.

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::{fmt, ptr};

use super::Mechanism;
use super::patience::patiently;
use crate::refusal::{Call, Failure, Reason, Refusal};

/// Its calls are not shared: nobody has measured whether that pays.
pub(super) const RUNG: Mechanism = Mechanism {
    name: "private-expedited",
    admit: || Ok(()),
    probe,
    call,
    waiting: None,
    register: Some(register),
};

/// `__FreeBSD_version` of 14.1.
const FREEBSD_14_1: c_int = 1_401_000;

/// sys/kern/syscalls.master; the libc crate has no name for it.
const SYS_MEMBARRIER: c_int = 584;

/// sys/sys/membarrier.h: as on Linux.
const QUERY: c_int = 0;
const PRIVATE_EXPEDITED: c_int = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: c_int = 1 << 4;
/// Each command is one bit.
const NO_COMMAND: c_int = 1 << 30 | 1 << 29;

fn probe() -> Result<(), Refusal> {
    if osreldate() < Some(FREEBSD_14_1) {
        return Err(Refusal::new(Reason::SystemTooOld));
    }
    patiently(register)?;
    let needed = PRIVATE_EXPEDITED | REGISTER_PRIVATE_EXPEDITED;
    let offered = membarrier(QUERY);
    if offered < 0 || offered & needed != needed {
        return Err(Refusal::not_offered(offered as u16));
    }
    patiently(call)?;
    // A jail or an emulator that answers 0 to what it does not know answers 0 to this too
    // (`kern_membarrier`, sys/kern/kern_membarrier.c@14.1: EINVAL).
    match issue(Call::PrivateExpedited, NO_COMMAND) {
        Err(failure) if failure.errno() == i32::from(Failure::EINVAL) => Ok(()),
        _ => Err(Refusal::new(Reason::AcceptsNonsense)),
    }
}

fn call() -> Result<(), Failure> {
    issue(Call::PrivateExpedited, PRIVATE_EXPEDITED)
}

fn register() -> Result<(), Failure> {
    issue(Call::RegisterPrivateExpedited, REGISTER_PRIVATE_EXPEDITED)
}

/// Success is exactly 0.
fn issue(call: Call, command: c_int) -> Result<(), Failure> {
    match membarrier(command) {
        0 => Ok(()),
        -1 => {
            // SAFETY: no precondition.
            let errno = unsafe { libc::__error() };
            // SAFETY: the address of this thread's own errno.
            Err(Failure::new(call, unsafe { *errno }))
        }
        _ => Err(Failure::new(call, 0)),
    }
}

fn membarrier(command: c_int) -> c_int {
    let (flags, cpu): (c_int, c_int) = (0, 0);
    // SAFETY: the call touches no memory of ours; the three arguments are what it takes.
    unsafe { libc::syscall(SYS_MEMBARRIER, command, flags, cpu) }
}

/// The kernel's `__FreeBSD_version`. Not getosreldate(3), which believes the environment.
fn osreldate() -> Option<c_int> {
    let (mut version, mut size): (c_int, usize) = (0, size_of::<c_int>());
    // SAFETY: the name is terminated, `version` is as long as `size` says, and nothing is set.
    let answer = unsafe {
        libc::sysctlbyname(
            c"kern.osreldate".as_ptr(),
            (&raw mut version).cast(),
            &raw mut size,
            ptr::null(),
            0,
        )
    };
    (answer == 0).then_some(version)
}

/// Writes `message` to the standard error without waiting for its reader, and stops the process by SIGABRT, or by
/// status 134. Not by abort(3), which ends in exit(3), and in older releases flushed the files of stdio first: both
/// take locks.
pub(super) fn stop(message: fmt::Arguments<'_>) -> ! {
    /// A handler of SIGABRT may fence, and fail as well: it is not called again.
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

    // Relaxed: nothing else depends on it.
    let is_first = !HAS_BEGUN.swap(true, Relaxed);
    if is_first {
        print(message);
    }
    let mut only = core::mem::MaybeUninit::uninit();
    // SAFETY: makes an empty set.
    unsafe { libc::sigemptyset(only.as_mut_ptr()) };
    // SAFETY: it is a set now.
    unsafe { libc::sigaddset(only.as_mut_ptr(), libc::SIGABRT) };
    // SAFETY: as above; no old mask is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, only.as_ptr(), ptr::null_mut()) };
    if is_first {
        // SAFETY: no precondition.
        unsafe { libc::raise(libc::SIGABRT) };
    }
    // SAFETY: the system's own action.
    unsafe { libc::signal(libc::SIGABRT, libc::SIG_DFL) };
    // SAFETY: no precondition.
    unsafe { libc::raise(libc::SIGABRT) };
    // SAFETY: as above.
    unsafe { libc::_exit(128 + libc::SIGABRT) }
}

fn print(message: fmt::Arguments<'_>) {
    // Other descriptors of the same open file description share the flag. It is put back as soon as the message is out.
    // SAFETY: asks for a descriptor's flags.
    let flags = unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_GETFL) };
    // SAFETY: sets them.
    if unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_SETFL, flags | libc::O_NONBLOCK) } == 0 {
        let _ = fmt::write(&mut Stderr, message);
        // SAFETY: as above.
        unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_SETFL, flags) };
    }
}

struct Stderr;

impl fmt::Write for Stderr {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the text is as long as it says.
        let written = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        if written < 0 { Err(fmt::Error) } else { Ok(()) }
    }
}
