//! seccomp filters: the sandboxes that the fences meet.

use std::collections::BTreeMap;

use nix::libc::{SYS_membarrier, SYS_mlock};
use rustix::thread::MembarrierCommand;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Every membarrier command meets `action`.
pub(crate) fn on_membarrier(action: SeccompAction) -> BpfProgram {
    compile([(SYS_membarrier, Vec::new())], action)
}

/// membarrier and mlock meet `action`: no rung is left.
pub(crate) fn on_every_rung(action: SeccompAction) -> BpfProgram {
    compile([(SYS_membarrier, Vec::new()), (SYS_mlock, Vec::new())], action)
}

/// One membarrier command meets `action`, the others work.
pub(crate) fn on_command(command: MembarrierCommand, action: SeccompAction) -> BpfProgram {
    let command =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command as u64);
    let rule = SeccompRule::new(vec![command.expect("a valid condition")]);
    compile([(SYS_membarrier, vec![rule.expect("a valid rule")])], action)
}

fn compile<const N: usize>(
    rules: [(i64, Vec<SeccompRule>); N],
    action: SeccompAction,
) -> BpfProgram {
    let arch = std::env::consts::ARCH.try_into().expect("an architecture that seccompiler knows");
    let filter = SeccompFilter::new(BTreeMap::from(rules), SeccompAction::Allow, action, arch);
    filter.and_then(TryInto::try_into).expect("a valid filter")
}
