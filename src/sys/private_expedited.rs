//! membarrier(2) PRIVATE_EXPEDITED: the kernel interrupts each processor that runs a thread of this
//! process, and waits. Threads that do not run have passed a full barrier when they were switched
//! out. Since Linux 4.14; the contract is the man page's table.
//!
//! Not what the man page says (kernel/sched/membarrier.c@v6.8):
//! - the call does block: expedited commands of the whole system queue on one mutex;
//! - later calls can fail: ENOMEM for a cpumask, EPERM or ENOSYS from a seccomp filter;
//! - with one user of the mm or one processor it returns before any barrier, so it orders nothing
//!   for its caller.
//!
//! A sandbox that is closed over the process after the decision and answers 0 without calling the
//! kernel cannot be told from success, short of a second system call in each fence.

use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

use super::kernel::Kernel;
use super::{MEMBARRIER_SOUND_SINCE, Mechanism};
use crate::refusal::{Call, Failure, Reason, Refusal};

/// Its calls are shared, or else callers wait in the kernel's queue and each interrupts everybody: beside
/// a running sibling that took 0.8 times as long for 2 callers and 0.6 times for 4 to 16, and for one 1.0
/// times (benches/heavy.rs; AMD EPYC, 2 cores, 2026-11-23).
pub(super) const RUNG: Mechanism =
    Mechanism { name: "private-expedited", probe, call, patience: Some(256), register };

fn probe() -> Result<(), Refusal> {
    if let Some(sound) = MEMBARRIER_SOUND_SINCE {
        let version = Kernel::running().version.ok_or(Refusal::new(Reason::KernelUnknown))?;
        if version < sound {
            return Err(Refusal::new(Reason::KernelTooOld));
        }
    }
    // A filter that answers 0 to everything, or a stub kernel, would pass for success below: the
    // bits of QUERY are the proof that somebody means it.
    let offered = membarrier_query();
    if offered.is_empty() {
        // rustix takes an error of QUERY for an empty mask. The registration, asked all the same,
        // knows the errno.
        register()?;
    }
    let needed = MembarrierQuery::PRIVATE_EXPEDITED | MembarrierQuery::REGISTER_PRIVATE_EXPEDITED;
    if !offered.contains(needed) {
        return Err(Refusal::not_offered(offered.bits() as u16));
    }
    register()?;
    call()?;
    Ok(())
}

fn call() -> Result<(), Failure> {
    issue(Call::PrivateExpedited, MembarrierCommand::PrivateExpedited)
}

fn register() -> Result<(), Failure> {
    issue(Call::RegisterPrivateExpedited, MembarrierCommand::RegisterPrivateExpedited)
}

/// Success is exactly 0. rustix 1.1 compares with 0 and makes an error of every other value, also
/// of the positive ones that a SIGSYS handler may leave in the return register.
fn issue(call: Call, command: MembarrierCommand) -> Result<(), Failure> {
    membarrier(command).map_err(|errno| Failure::new(call, errno.raw_os_error()))
}
