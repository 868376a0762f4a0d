//! The one place that calls Linux's membarrier(2), and that decides whether to believe the answers.
//!
//! By rustix. With `std` some calls go through `syscall` of the C library: GET_REGISTRATIONS, which rustix 1.1 does not
//! have; QUERY, because rustix does not return its errno; and calls with a command or a flag that does not exist.

use rustix::thread::{Cpuid, MembarrierCommand, MembarrierQuery, membarrier, membarrier_cpu};

use super::INTERPRETED;
use super::patience::patiently;
#[cfg(feature = "std")]
use super::patience::{count_a_retry, despite};
use crate::refusal::{Call, Failure, Reason, Refusal};

/// A command that answers 0, and its name in a [`Failure`].
pub(crate) type Command = (MembarrierCommand, Call);

/// Success is exactly 0. rustix 1.1 compares with 0 and makes an error of every other value, also of the positive ones
/// that a SIGSYS handler may leave in the return register. (Where it makes its calls by the C library, it compares the
/// low 32 bits alone: see docs/limits.md.)
#[inline]
pub(crate) fn issue((command, call): Command) -> Result<(), Failure> {
    // guard survives: it fails in Miri alone, whose own job runs this.
    has_a_kernel(call)?;
    membarrier(command).map_err(|errno| Failure::new(call, errno.raw_os_error()))
}

/// The same with FLAG_CPU.
#[allow(dead_code, reason = "with `std` on Android nobody asks")]
pub(crate) fn issue_on((command, call): Command, cpu: u32) -> Result<(), Failure> {
    // guard survives: it fails in Miri alone, whose own job runs this.
    has_a_kernel(call)?;
    // SAFETY: the number goes to the kernel alone, which checks it.
    let cpu = unsafe { Cpuid::from_raw(cpu) };
    membarrier_cpu(command, cpu).map_err(|errno| Failure::new(call, errno.raw_os_error()))
}

/// Under Miri there is no kernel, and Miri stops the program at a system call that it does not know.
#[inline]
fn has_a_kernel(call: Call) -> Result<(), Failure> {
    if INTERPRETED { Err(Failure::new(call, Failure::ENOSYS.into())) } else { Ok(()) }
}

/// A command that answers a mask.
#[cfg(feature = "std")]
fn mask(command: u32, call: Call) -> Result<MembarrierQuery, Failure> {
    // guard survives: it fails in Miri alone, whose own job runs this.
    has_a_kernel(call)?;
    let answer = raw(command, 0).map_err(|errno| Failure::new(call, errno))?;
    Ok(MembarrierQuery::from_bits_retain(answer))
}

/// The system call itself: the answer, or the errno. If a sandbox asks a supervisor, a signal may interrupt the call.
/// Then it is made again.
#[cfg(feature = "std")]
fn raw(command: u32, flags: u32) -> Result<u32, i32> {
    let is_interrupted = |&errno: &i32| {
        let is_interrupted = errno == i32::from(Failure::EINTR);
        if is_interrupted {
            count_a_retry();
        }
        is_interrupted
    };
    despite(is_interrupted, || {
        // SAFETY: no command touches memory of ours.
        let answer = unsafe { libc::syscall(libc::SYS_membarrier, command, flags, 0) };
        // An answer that is neither a mask nor -1 does not come from a kernel. Then errno is not this call's.
        match (u32::try_from(answer), answer) {
            (Ok(mask), _) => Ok(mask),
            (_, -1) => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
            _ => Err(0),
        }
    })
}

/// QUERY: the commands that are offered.
#[cfg(feature = "std")]
pub(crate) fn query() -> Result<MembarrierQuery, Failure> {
    mask(0, Call::Query)
}

/// How often QUERY is made in all, at most.
#[cfg(not(feature = "std"))]
const QUERIES: u32 = 8;

/// QUERY: the commands that are offered. rustix hides its errno. So after an empty mask PRIVATE_EXPEDITED is called,
/// for its errno: a kernel without membarrier answers both with the same one. That call changes no state. If that
/// succeeds, or its errno is EPERM, the kernel may have it, and a signal may have interrupted QUERY. Then both are made
/// again, but not often: EPERM may be a sandbox's.
#[cfg(not(feature = "std"))]
pub(crate) fn query() -> Result<MembarrierQuery, Failure> {
    // guard survives: it fails in Miri alone, whose own job runs this.
    has_a_kernel(Call::Query)?;
    let ask = || match rustix::thread::membarrier_query() {
        none if none.is_empty() => Err(issue((MembarrierCommand::PrivateExpedited, Call::Query))),
        offered => Ok(offered),
    };
    let has_failed = |other: &Result<(), Failure>| match other {
        Ok(()) => true,
        Err(failure) => failure.is_unregistered() || failure.is_transient(),
    };
    let mut answer = ask();
    for _ in 1..QUERIES {
        match &answer {
            Err(other) if has_failed(other) => answer = ask(),
            _ => break,
        }
    }
    match answer {
        Ok(offered) => Ok(offered),
        Err(Err(failure)) if failure.errno() != i32::from(Failure::EINVAL) => Err(failure),
        Err(_) => Ok(MembarrierQuery::empty()),
    }
}

super::on_linux! {
    /// `MEMBARRIER_CMD_GET_REGISTRATIONS`, include/uapi/linux/membarrier.h@v6.3.
    #[cfg(feature = "std")]
    const GET_REGISTRATIONS: u32 = 1 << 9;

    /// GET_REGISTRATIONS: the mask of the registrations of this process. Without `std` there may be no C
    /// library to call it by.
    #[cfg(feature = "std")]
    pub(crate) fn registrations() -> Result<MembarrierQuery, Failure> {
        const PRIVATE: MembarrierQuery = MembarrierQuery::REGISTER_PRIVATE_EXPEDITED;
        const IMPLYING: MembarrierQuery = MembarrierQuery::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
            .union(MembarrierQuery::REGISTER_PRIVATE_EXPEDITED_RSEQ);

        let registered = mask(GET_REGISTRATIONS, Call::GetRegistrations)?;
        // A registration for SYNC_CORE or RSEQ marks the process for PRIVATE_EXPEDITED too, which is
        // refused all the same (`membarrier_register_private_expedited`, kernel/sched/membarrier.c@v6.18).
        if registered.contains(PRIVATE) && registered.intersects(IMPLYING) {
            match patiently(|| issue((MembarrierCommand::PrivateExpedited, Call::PrivateExpedited))) {
                Err(failure) if failure.is_unregistered() => return Ok(registered - PRIVATE),
                answer => answer?,
            }
        }
        Ok(registered)
    }
}

/// Makes `call` ready: asks whether it is offered, registers, and tries it once. [`refuses_nonsense`] tells whether a
/// kernel gave the answers.
pub(super) fn probe(
    needed: MembarrierQuery,
    registration: Command,
    call: Command,
) -> Result<(), Refusal> {
    // guard survives: the mutants run on x86, where it may always be asked.
    super::may_ask_for_membarrier()?;
    is_offered(needed, registration)?;
    patiently(|| issue(registration))?;
    patiently(|| issue(call))?;
    Ok(())
}

/// Whether QUERY lists what is `needed`. A sandbox or a stub may answer success to everything. The bits of
/// QUERY and [`refuses_nonsense`] show that the kernel itself has answered.
pub(crate) fn is_offered(needed: MembarrierQuery, registration: Command) -> Result<(), Refusal> {
    let offered = query().or_else(|failure| {
        // If the registration fails too, its failure is the one to report.
        issue(registration)?;
        Err(failure)
    })?;
    if offered.is_empty() {
        issue(registration)?;
    }
    if offered.contains(needed) { Ok(()) } else { Err(Refusal::not_offered(offered.bits() as u16)) }
}

/// The kernel assigns flags from the lowest bit on, and has one so far. So this bit is no flag.
#[cfg(feature = "std")]
const NO_FLAG: u32 = 1 << 30;

super::on_linux! {
    /// Whether this command, with a flag that does not exist, is answered EINVAL.
    #[cfg(feature = "std")]
    #[allow(dead_code, reason = "models make no call between processes")]
    pub(super) fn is_refused_for_a_flag((command, _): Command) -> bool {
        raw(command as u32, NO_FLAG) == Err(Failure::EINVAL.into())
    }
}

/// The canary: a command that does not exist must be answered EINVAL. And the registration, and the command that it is
/// for, must fail if they are called with a flag that does not exist.
#[cfg(feature = "std")]
pub(crate) fn refuses_nonsense((registration, _): Command) -> Result<(), Refusal> {
    /// Two bits: each command of the kernel is one, so that the mask of QUERY can list it. FreeBSD's are the
    /// same.
    const NO_COMMAND: u32 = 1 << 30 | 1 << 29;

    // The command that a registration is for is the bit before it. (For GLOBAL, which needs no registration, this is
    // QUERY, which must refuse a flag too.)
    let registration = registration as u32;
    let refused = raw(NO_COMMAND, 0) == Err(Failure::EINVAL.into())
        && [registration, registration >> 1]
            .into_iter()
            .all(|command| matches!(raw(command, NO_FLAG), Err(1..)));
    if refused { Ok(()) } else { Err(Refusal::new(Reason::AcceptsNonsense)) }
}

/// The canary, of what rustix can name: the registration must not succeed with FLAG_CPU. Nobody registers for
/// one processor.
#[cfg(not(feature = "std"))]
pub(crate) fn refuses_nonsense(registration: Command) -> Result<(), Refusal> {
    match issue_on(registration, 0) {
        Err(failure) if failure.errno() != 0 => Ok(()),
        _ => Err(Refusal::new(Reason::AcceptsNonsense)),
    }
}
