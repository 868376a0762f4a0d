//! The one place that calls membarrier(2).
//!
//! By rustix, except for GET_REGISTRATIONS: rustix 1.1 has no name for that, so it goes through
//! `syscall` of the C library.

use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

use crate::refusal::{Call, Failure, Refusal};

/// A command that answers 0, and its name in a [`Failure`].
pub(crate) type Command = (MembarrierCommand, Call);

/// Success is exactly 0. rustix 1.1 compares with 0 and makes an error of every other value, also
/// of the positive ones that a SIGSYS handler may leave in the return register.
pub(crate) fn issue((command, call): Command) -> Result<(), Failure> {
    membarrier(command).map_err(|errno| Failure::new(call, errno.raw_os_error()))
}

/// QUERY. Empty also where it fails: rustix hides the errno.
pub(crate) fn query() -> MembarrierQuery {
    membarrier_query()
}

super::on_linux! {
    /// The same with FLAG_CPU.
    pub(crate) fn issue_on((command, call): Command, cpu: u32) -> Result<(), Failure> {
        // SAFETY: the number goes to the kernel alone, which checks it.
        let cpu = unsafe { rustix::thread::Cpuid::from_raw(cpu) };
        rustix::thread::membarrier_cpu(command, cpu)
            .map_err(|errno| Failure::new(call, errno.raw_os_error()))
    }

    /// `MEMBARRIER_CMD_GET_REGISTRATIONS`, include/uapi/linux/membarrier.h@v6.3.
    #[cfg(feature = "std")]
    const GET_REGISTRATIONS: libc::c_int = 1 << 9;

    /// GET_REGISTRATIONS: the mask of the registrations of this process. Without `std` there may be no C
    /// library to call it by.
    #[cfg(feature = "std")]
    pub(crate) fn registrations() -> Result<u32, Failure> {
        let flags: libc::c_uint = 0;
        // SAFETY: the command answers a mask and touches no memory of ours.
        let answer = unsafe { libc::syscall(libc::SYS_membarrier, GET_REGISTRATIONS, flags) };
        u32::try_from(answer).map_err(|_| {
            // SAFETY: no precondition.
            let errno = unsafe { libc::__errno_location() };
            // SAFETY: the C library keeps an errno for each thread, and this is the address of ours.
            Failure::new(Call::GetRegistrations, unsafe { *errno })
        })
    }
}

/// Makes `call` ready: finds out that the kernel means it, registers, and tries it once.
pub(super) fn probe(
    needed: MembarrierQuery,
    register: Command,
    call: Command,
) -> Result<(), Refusal> {
    super::may_ask_for_membarrier()?;
    // A filter that answers 0 to everything, or a stub kernel, would pass for success below: the
    // bits of QUERY are the proof that somebody means it.
    let offered = query();
    if offered.is_empty() {
        // rustix takes an error of QUERY for an empty mask. The registration, asked all the same,
        // knows the errno.
        issue(register)?;
    }
    if !offered.contains(needed) {
        return Err(Refusal::not_offered(offered.bits() as u16));
    }
    issue(register)?;
    issue(call)?;
    Ok(())
}
