//! membarrier(2) GLOBAL_EXPEDITED: the kernel interrupts each processor that runs a thread of *any*
//! process that registered for it, and waits. Since Linux 4.16.
//!
//! Not what the man page says: see `private_expedited`; and with one processor online it returns
//! before any barrier. A process that is not registered is passed over, and the answer is 0 all the
//! same (kernel/sched/membarrier.c@v6.9).

use rustix::thread::{MembarrierCommand, MembarrierQuery};

use super::Mechanism;
use super::kernel::{Kernel, Version};
use super::membarrier::{self, Command};
use crate::refusal::{Call, Failure, Reason, Refusal};

/// No rung of the ladder: a heavy fence of one process needs less. Its calls are not shared, since
/// those of other processes could not be.
pub(crate) const BETWEEN_PROCESSES: Mechanism = Mechanism {
    name: "global-expedited",
    admit: || admit(Kernel::running().version),
    probe,
    call,
    waiting: None,
    register: Some(register),
};

const CALL: Command = (MembarrierCommand::GlobalExpedited, Call::GlobalExpedited);
const REGISTER: Command =
    (MembarrierCommand::RegisterGlobalExpedited, Call::RegisterGlobalExpedited);

/// The kernels whose registration may miss the processor that it runs on: heavy fences then pass that
/// processor over until its next switch between processes. `sync_runqueues_membarrier_state`
/// (kernel/sched/membarrier.c@v5.10.13) came with 5.4 and marked only the *other* processors of a process with
/// threads until 5.12. Which stable releases have the mending was not read, so none is admitted.
const REGISTRATION_MISSES_ITSELF: core::ops::Range<Version> = (5, 4)..(5, 12);

fn admit(version: Option<Version>) -> Result<(), Refusal> {
    match version {
        None => Err(Refusal::new(Reason::KernelUnknown)),
        Some(version) if REGISTRATION_MISSES_ITSELF.contains(&version) => {
            Err(Refusal::new(Reason::KernelTooOld))
        }
        Some(_) => Ok(()),
    }
}

/// Registers this process to be reached, and sees to it that the kernel knows.
fn probe() -> Result<(), Refusal> {
    const NEEDED: MembarrierQuery =
        MembarrierQuery::GLOBAL_EXPEDITED.union(MembarrierQuery::REGISTER_GLOBAL_EXPEDITED);
    membarrier::probe(NEEDED, REGISTER, CALL)?;
    // A process that believes it is registered, and is not, is passed over in silence. Kernels before
    // 6.3 cannot be asked.
    if let Ok(registered) = membarrier::registrations() {
        if !registered.contains(MembarrierQuery::REGISTER_GLOBAL_EXPEDITED) {
            return Err(Failure::new(REGISTER.1, 0).into());
        }
    }
    membarrier::refuses_nonsense(REGISTER)
}

fn call() -> Result<(), Failure> {
    membarrier::issue(CALL)
}

fn register() -> Result<(), Failure> {
    membarrier::issue(REGISTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_whose_registration_may_miss_its_own_processor_is_refused() {
        for refused in [(5, 4), (5, 10), (5, 11)] {
            assert_eq!(admit(Some(refused)).map_err(Refusal::reason), Err(Reason::KernelTooOld));
        }
        for admitted in [(4, 16), (4, 19), (5, 3), (5, 12), (6, 1), (7, 2)] {
            assert_eq!(admit(Some(admitted)), Ok(()));
        }
        assert_eq!(admit(None).map_err(Refusal::reason), Err(Reason::KernelUnknown));
    }
}
