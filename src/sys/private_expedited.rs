//! membarrier(2) PRIVATE_EXPEDITED: the kernel interrupts each processor that runs a thread of this
//! process, and waits. Threads that do not run have passed a full barrier when they were switched
//! out. Since Linux 4.14; the contract is the man page's table.
//!
//! Not what the man page says (kernel/sched/membarrier.c@v6.8):
//! - the call does block: expedited commands of the whole system queue on one mutex;
//! - later calls can fail: ENOMEM for a cpumask, EPERM or ENOSYS from a seccomp filter;
//! - with one user of the mm or one processor it returns before any barrier, so it orders nothing
//!   for its caller.

use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

use super::{MEMBARRIER_SOUND_SINCE, Mechanism, NoUnwind, kernel};
use crate::refusal::{Call, Failure, Reason, Refusal};

pub(super) const RUNG: Mechanism = Mechanism { name: "private-expedited", probe, call, register };

fn probe() -> Result<(), Refusal> {
    if kernel::version() < Some(MEMBARRIER_SOUND_SINCE) {
        return Err(Refusal::new(Reason::KernelTooOld));
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
    let no_unwind = NoUnwind;
    let answer = membarrier(command);
    core::mem::forget(no_unwind);
    answer.map_err(|errno| Failure::new(call, errno.raw_os_error()))
}
