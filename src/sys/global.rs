//! membarrier(2) GLOBAL: every thread of the system passes a full barrier, in whatever process it is. The kernel waits
//! for an RCU grace period, which takes some ten milliseconds, and usually interrupts nobody
//! (kernel/sched/membarrier.c@v6.18; with the kernel's `rcu_expedited` it does). Since Linux 4.3, where its name was
//! SHARED; used from 4.14 on. Not with `nohz_full`, under which the kernel refuses it (since 4.10, commit 907565337ebf;
//! before, it succeeds there and misses processors).
//!
//! GLOBAL_EXPEDITED takes microseconds, but since Linux 5.4 it does not reach every process that registered for it:
//! docs/specification.md says why, and tests/it/cross_process/expedited.rs shows it.

use rustix::thread::{MembarrierCommand, MembarrierQuery};

use super::Mechanism;
use super::membarrier::{self, Command};
use super::patience::patiently;
use crate::refusal::{Call, Failure, Refusal};

/// No rung of the ladder: a heavy fence of one process needs less. Its calls are not shared: the kernel lets callers
/// that come together wait for one grace period.
pub(crate) const BETWEEN_PROCESSES: Mechanism =
    Mechanism { name: "global", admit: || Ok(()), probe, call, waiting: None, register: None };

const CALL: Command = (MembarrierCommand::Global, Call::Global);

fn probe() -> Result<(), Refusal> {
    // guard survives: the mutants run on x86, where it may always be asked.
    super::may_ask_for_membarrier()?;
    // Kernels that have PRIVATE_EXPEDITED, from 4.14 on, refuse GLOBAL where it would not be a barrier.
    const NEEDED: MembarrierQuery =
        MembarrierQuery::GLOBAL.union(MembarrierQuery::PRIVATE_EXPEDITED);
    membarrier::is_offered(NEEDED, CALL)?;
    membarrier::refuses_nonsense(CALL)?;
    // The kernel answers EINVAL to a flag that does not exist, at once. So that answer shows that the command reaches the
    // kernel, and a call that takes milliseconds is not needed.
    if membarrier::is_refused_for_a_flag(CALL) { Ok(()) } else { Ok(patiently(call)?) }
}

fn call() -> Result<(), Failure> {
    membarrier::issue(CALL)
}
