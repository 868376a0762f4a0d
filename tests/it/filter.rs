//! seccomp filters, as sandboxes install them.

use nix::libc::{
    SYS_exit_group, SYS_kill, SYS_membarrier, SYS_mlock, SYS_mprotect, SYS_pwritev2, SYS_tgkill,
    SYS_tkill, c_long,
};
use rustix::thread::MembarrierCommand;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::child;

/// fcntl on offsets of 64 bits.
#[cfg(target_pointer_width = "64")]
pub(crate) const SYS_FCNTL: c_long = nix::libc::SYS_fcntl;
#[cfg(target_pointer_width = "32")]
pub(crate) const SYS_FCNTL: c_long = nix::libc::SYS_fcntl64;

/// Every membarrier command meets `action`.
pub(crate) fn on_membarrier(action: SeccompAction) -> BpfProgram {
    compile([(SYS_membarrier, Vec::new())], action)
}

/// membarrier and mlock meet `action`: a process that has not taken the mprotect rung can use no rung. (One that has
/// taken it needs `on_protection_too` as well.)
pub(crate) fn on_every_rung(action: SeccompAction) -> BpfProgram {
    compile([(SYS_membarrier, Vec::new()), (SYS_mlock, Vec::new())], action)
}

/// Most calls of the decision that a program does not make all the time by itself meet `action`.
pub(crate) fn on_calls_of_the_decision(action: SeccompAction) -> BpfProgram {
    let on_page =
        [(1, SeccompCmpOp::Eq, 1), (2, SeccompCmpOp::Eq, nix::libc::MADV_DONTNEED as u64)];
    let wake_op = [(1, SeccompCmpOp::MaskedEq(0x7f), nix::libc::FUTEX_WAKE_OP as u64)];
    let on_all = [
        (SYS_membarrier, Vec::new()),
        (SYS_mlock, Vec::new()),
        (nix::libc::SYS_munlock, Vec::new()),
        (SYS_mprotect, Vec::new()),
        (nix::libc::SYS_pread64, Vec::new()),
        (nix::libc::SYS_madvise, vec![all(&on_page)]),
        (nix::libc::SYS_futex, vec![all(&wake_op)]),
        (nix::libc::SYS_prctl, vec![argument(0, SeccompCmpOp::Eq, nix::libc::PR_GET_TSC as u64)]),
        #[cfg(target_arch = "x86_64")]
        (nix::libc::SYS_access, Vec::new()),
        #[cfg(target_arch = "x86_64")]
        (nix::libc::SYS_arch_prctl, Vec::new()),
    ];
    compile(on_all, action)
}

/// kill, tkill and tgkill meet `action`.
pub(crate) fn on_signalling(action: SeccompAction) -> BpfProgram {
    compile([SYS_kill, SYS_tkill, SYS_tgkill].map(|call| (call, Vec::new())), action)
}

/// getpid and gettid meet `action`.
pub(crate) fn on_own_number(action: SeccompAction) -> BpfProgram {
    compile([nix::libc::SYS_gettid, nix::libc::SYS_getpid].map(|call| (call, Vec::new())), action)
}

/// A read that moves the position of its file meets `action`.
pub(crate) fn on_read(action: SeccompAction) -> BpfProgram {
    compile([(nix::libc::SYS_read, Vec::new())], action)
}

/// A read from a position that it names meets `action`.
pub(crate) fn on_pread(action: SeccompAction) -> BpfProgram {
    compile([(nix::libc::SYS_pread64, Vec::new())], action)
}

/// prctl(PR_GET_TSC) meets `action`.
pub(crate) fn on_get_tsc(action: SeccompAction) -> BpfProgram {
    let is = argument(0, SeccompCmpOp::Eq, nix::libc::PR_GET_TSC as u64);
    compile([(nix::libc::SYS_prctl, vec![is])], action)
}

/// close meets `action`.
pub(crate) fn on_close(action: SeccompAction) -> BpfProgram {
    compile([(nix::libc::SYS_close, Vec::new())], action)
}

/// pwritev2 meets `action`.
pub(crate) fn on_pwritev2(action: SeccompAction) -> BpfProgram {
    compile([(SYS_pwritev2, Vec::new())], action)
}

/// These commands of fcntl, on offsets of 64 bits, meet `action`.
pub(crate) fn on_fcntl(commands: &[i32], action: SeccompAction) -> BpfProgram {
    let is = |&command: &i32| argument(1, SeccompCmpOp::Eq, command as u64);
    compile([(SYS_FCNTL, commands.iter().map(is).collect())], action)
}

/// fstat meets `action`.
pub(crate) fn on_fstat(action: SeccompAction) -> BpfProgram {
    #[cfg(target_pointer_width = "64")]
    let call = nix::libc::SYS_fstat;
    #[cfg(target_pointer_width = "32")]
    let call = nix::libc::SYS_fstat64;
    compile([(call, Vec::new())], action)
}

/// fstatfs meets `action`.
pub(crate) fn on_fstatfs(action: SeccompAction) -> BpfProgram {
    #[cfg(target_pointer_width = "64")]
    let call = nix::libc::SYS_fstatfs;
    #[cfg(target_pointer_width = "32")]
    let call = nix::libc::SYS_fstatfs64;
    compile([(call, Vec::new())], action)
}

/// An mmap of so many bytes meets `action`. Only the mprotect rung maps one byte, and only the segments map four.
pub(crate) fn on_mmap_of(bytes: u64, action: SeccompAction) -> BpfProgram {
    #[cfg(target_pointer_width = "64")]
    let call = nix::libc::SYS_mmap;
    #[cfg(target_pointer_width = "32")]
    let call = nix::libc::SYS_mmap2;
    compile([(call, vec![argument(1, SeccompCmpOp::Eq, bytes)])], action)
}

/// arch_prctl(ARCH_GET_CPUID) meets `action`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn on_cpuid_mode(action: SeccompAction) -> BpfProgram {
    const ARCH_GET_CPUID: u64 = 0x1011;
    let is = argument(0, SeccompCmpOp::Eq, ARCH_GET_CPUID);
    compile([(nix::libc::SYS_arch_prctl, vec![is])], action)
}

/// madvise(MADV_WIPEONFORK) meets `action`.
pub(crate) fn on_wipe_on_fork(action: SeccompAction) -> BpfProgram {
    let is = argument(2, SeccompCmpOp::Eq, nix::libc::MADV_WIPEONFORK as u64);
    compile([(nix::libc::SYS_madvise, vec![is])], action)
}

/// membarrier and mprotect meet `action`.
pub(crate) fn on_protection_too(action: SeccompAction) -> BpfProgram {
    compile([(SYS_membarrier, Vec::new()), (SYS_mprotect, Vec::new())], action)
}

/// One membarrier command works, the others meet `action`.
pub(crate) fn on_all_but(command: MembarrierCommand, action: SeccompAction) -> BpfProgram {
    compile([(SYS_membarrier, vec![rule(SeccompCmpOp::Ne, command)])], action)
}

/// One membarrier command works, and exit_group(2); everything else kills the process.
pub(crate) fn on_everything_but(command: MembarrierCommand) -> BpfProgram {
    let allowed =
        [(SYS_membarrier, vec![rule(SeccompCmpOp::Eq, command)]), (SYS_exit_group, vec![])];
    compile_with(allowed, SeccompAction::KillProcess, SeccompAction::Allow)
}

/// These calls work; everything else kills the process.
pub(crate) fn on_all_calls_but(calls: &[c_long]) -> BpfProgram {
    let allowed = calls.iter().map(|&call| (call, Vec::new()));
    compile_with(allowed, SeccompAction::KillProcess, SeccompAction::Allow)
}

/// One membarrier command meets `action`, the others work.
pub(crate) fn on_command(command: MembarrierCommand, action: SeccompAction) -> BpfProgram {
    compile([(SYS_membarrier, vec![rule(SeccompCmpOp::Eq, command)])], action)
}

/// A membarrier call meets `action` if its arguments (the command, the flags) satisfy every condition of at least one
/// of these lists.
pub(crate) fn on_arguments(
    any_of: &[&[(u8, SeccompCmpOp, u64)]],
    action: SeccompAction,
) -> BpfProgram {
    on_call(SYS_membarrier, any_of, action)
}

/// The call meets `action` if its arguments satisfy every condition of at least one of these lists; if there is no
/// list, always.
pub(crate) fn on_call(
    call: c_long,
    any_of: &[&[(u8, SeccompCmpOp, u64)]],
    action: SeccompAction,
) -> BpfProgram {
    compile([(call, any_of.iter().map(|all_of| all(all_of)).collect())], action)
}

fn all(of: &[(u8, SeccompCmpOp, u64)]) -> SeccompRule {
    let condition = |&(argument, ref comparison, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison.clone(), value)
    };
    let conditions = of.iter().map(condition).collect::<Result<_, _>>();
    conditions.and_then(SeccompRule::new).expect("a valid rule")
}

/// Compares the command that membarrier is called with.
fn rule(comparison: SeccompCmpOp, command: MembarrierCommand) -> SeccompRule {
    argument(0, comparison, command as u64)
}

/// Compares one argument of a call.
fn argument(index: u8, comparison: SeccompCmpOp, value: u64) -> SeccompRule {
    all(&[(index, comparison, value)])
}

fn compile(
    rules: impl IntoIterator<Item = (c_long, Vec<SeccompRule>)>,
    action: SeccompAction,
) -> BpfProgram {
    compile_with(rules, SeccompAction::Allow, action)
}

fn compile_with(
    rules: impl IntoIterator<Item = (c_long, Vec<SeccompRule>)>,
    otherwise: SeccompAction,
    action: SeccompAction,
) -> BpfProgram {
    #[allow(clippy::useless_conversion, reason = "a c_long has 32 bits on some targets")]
    let rules = rules.into_iter().map(|(call, rules)| (i64::from(call), rules)).collect();
    if let Some(why) = child::no_filters() {
        child::cannot_run_in_a_child("seccomp", why);
        return Vec::new(); // in the parent, whose child ends here
    }
    let arch = std::env::consts::ARCH.try_into().expect("known");
    let filter = SeccompFilter::new(rules, otherwise, action, arch);
    filter.and_then(TryInto::try_into).expect("a valid filter")
}
