//! membarrier(2) GLOBAL_EXPEDITED: the kernel interrupts each processor that runs a thread of *any*
//! process that registered for it, and waits. Since Linux 4.16.
//!
//! Not what the man page says: see `private_expedited`; and with one processor online it returns
//! before any barrier. A process that is not registered is passed over, and the answer is 0 all the
//! same (kernel/sched/membarrier.c@v6.9).

use rustix::thread::{MembarrierCommand, MembarrierQuery};

use super::Mechanism;
use super::membarrier::{self, Command};
use crate::refusal::{Call, Failure, Refusal};

/// No rung of the ladder: a heavy fence of one process needs less. Its calls are not shared, since
/// those of other processes could not be.
pub(crate) const BETWEEN_PROCESSES: Mechanism =
    Mechanism { name: "global-expedited", admit: || Ok(()), probe, call, waiting: None, register };

const CALL: Command = (MembarrierCommand::GlobalExpedited, Call::GlobalExpedited);
const REGISTER: Command =
    (MembarrierCommand::RegisterGlobalExpedited, Call::RegisterGlobalExpedited);

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
