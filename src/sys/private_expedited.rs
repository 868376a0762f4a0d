//! membarrier(2) PRIVATE_EXPEDITED: the kernel interrupts each processor that runs a thread of this process, and waits.
//! A thread that does not run has passed a full barrier when it was switched out. Before it runs again in user space it
//! usually passes another one. It may pass none if it follows another thread of the process on a processor. Then the
//! interrupt comes to that processor in place of the barrier, and the thread may be in user space by then
//! (docs/specification.md has the argument). Since Linux 4.14; the contract is the man page's table.
//!
//! Not what the man page says (kernel/sched/membarrier.c@v6.8):
//! - the call does block: since 6.8, and in stable kernels with commit 944d5fe50f3f, expedited commands of the whole
//!   system queue on one mutex;
//! - later calls can fail: ENOMEM for a cpumask, EPERM or ENOSYS from a seccomp filter;
//! - with one user of the mm or one processor it returns before any barrier, so it orders nothing
//!   for its caller.
//!
//! A sandbox that is installed after the decision, and answers 0 without calling the kernel, cannot be told from
//! success, short of a second system call in each fence.

use rustix::thread::{MembarrierCommand, MembarrierQuery};

use super::membarrier::{self, Command};
use super::{Mechanism, Waiting};
use crate::refusal::{Call, Failure, Refusal};

/// Its calls are shared, or else callers wait in the kernel's queue and each interrupts everybody (benches/heavy.rs
/// measures both).
pub(super) const RUNG: Mechanism = Mechanism {
    name: "private-expedited",
    admit: || Ok(()),
    probe,
    call,
    waiting: Some(Waiting::Awake),
    register: Some(register),
};

const CALL: Command = (MembarrierCommand::PrivateExpedited, Call::PrivateExpedited);
const REGISTER: Command =
    (MembarrierCommand::RegisterPrivateExpedited, Call::RegisterPrivateExpedited);

fn probe() -> Result<(), Refusal> {
    const NEEDED: MembarrierQuery =
        MembarrierQuery::PRIVATE_EXPEDITED.union(MembarrierQuery::REGISTER_PRIVATE_EXPEDITED);
    membarrier::probe(NEEDED, REGISTER, CALL)?;
    membarrier::refuses_nonsense(REGISTER)
}

#[inline]
fn call() -> Result<(), Failure> {
    membarrier::issue(CALL)
}

fn register() -> Result<(), Failure> {
    membarrier::issue(REGISTER)
}
