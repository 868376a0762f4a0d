//! FORKED-TOGETHER: after a thread has registered, and before it publishes anything that depends on that, it acquires
//! and releases the lock that the C library holds around fork(2). This binary has its own `pthread_atfork`, which
//! records that. tests/it/registering.rs shows what it is for.
#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    feature = "std",
    not(any(feature = "loom", asymfence_symmetric))
))]

#[allow(dead_code, reason = "sandboxes are tests/it's")]
#[path = "it/child.rs"]
mod child;
#[allow(dead_code, reason = "its path is for the example's child")]
#[path = "../examples/snapshots/memory.rs"]
mod memory;

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};

use asymfence::cross_process::{Attached, Mode, attach, create};
use asymfence::membarrier::{
    Commands, GlobalExpedited, PrivateExpedited, PrivateExpeditedRseq, PrivateExpeditedSyncCore,
    Registrable, register, registrations,
};
use asymfence::{Call, ForceError, Reason, Strategy, Verdict, force, init, ladder};
use nix::libc;

use child::{Child, ledger};
use memory::{Atomics, Memory};

/// How often a thread passed the lock, and the registrations of the process at that time.
static PASSES: AtomicU32 = AtomicU32::new(0);
static REGISTERED: AtomicU32 = AtomicU32::new(0);
/// What `pthread_atfork` answers.
static ANSWER: AtomicI32 = AtomicI32::new(0);

type Handler = Option<unsafe extern "C" fn()>;

/// Replaces the C library's.
#[unsafe(no_mangle)]
extern "C" fn pthread_atfork(_prepare: Handler, _parent: Handler, _child: Handler) -> libc::c_int {
    PASSES.fetch_add(1, SeqCst);
    if let Ok(registered) = registrations() {
        REGISTERED.store(registered.bits(), SeqCst);
    }
    ANSWER.load(SeqCst)
}

/// `work` passes the lock once, and the process is registered for `what` by then.
#[track_caller]
fn passes_behind(what: Commands, work: impl FnOnce()) {
    let before = PASSES.load(SeqCst);
    work();
    assert_eq!(PASSES.load(SeqCst), before + 1);
    if let Err(failure) = registrations() {
        return ledger::skipped("GET_REGISTRATIONS", failure);
    }
    ledger::ran("GET_REGISTRATIONS");
    let registered = Commands::from_bits_retain(REGISTERED.load(SeqCst));
    assert!(registered.contains(what), "{registered:?}");
}

#[track_caller]
fn passes_not(work: impl FnOnce()) {
    let before = PASSES.load(SeqCst);
    work();
    assert_eq!(PASSES.load(SeqCst), before);
}

/// The memory after the header.
#[repr(C)]
struct Nothing;

// SAFETY: no bytes.
unsafe impl Atomics for Nothing {}

/// Makes a segment and attaches to it, which registers for nothing.
#[track_caller]
fn attaches() {
    let memory = Memory::new::<Nothing>().expect("a memfd");
    let words = &memory.layout::<Nothing>().header;
    create(words, memory.file(), Mode::Asymmetric).expect("membarrier is offered");
    let attached = attach(words, memory.file());
    assert!(matches!(attached, Ok(Attached::Asymmetric(_))), "{attached:?}");
}

#[test]
fn who_decides_for_membarrier_passes_once() {
    Child::default().run(|| {
        let decide = || assert!(matches!(init(), Strategy::Asymmetric(_)));
        passes_behind(Commands::REGISTER_PRIVATE_EXPEDITED, decide);
        passes_not(decide);
    });
}

#[test]
fn who_has_a_proof_of_a_registration_has_passed_once() {
    fn registers<C: Registrable>(what: Commands) {
        let offered = asymfence::membarrier::query().expect("a kernel with membarrier");
        if offered.contains(what) {
            passes_behind(what, || assert!(register::<C>().is_ok()));
            passes_not(|| assert!(register::<C>().is_ok()));
        }
    }
    Child::default().run(|| {
        registers::<GlobalExpedited>(Commands::REGISTER_GLOBAL_EXPEDITED);
        registers::<PrivateExpedited>(Commands::REGISTER_PRIVATE_EXPEDITED);
        registers::<PrivateExpeditedSyncCore>(Commands::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE);
        registers::<PrivateExpeditedRseq>(Commands::REGISTER_PRIVATE_EXPEDITED_RSEQ);
    });
}

/// The twin: a thread that registers for nothing does not pass the lock.
#[test]
fn who_registers_for_nothing_does_not_pass() {
    Child::default().run(|| {
        let rung =
            |name| ladder().map(|report| report.strategy).find(|strategy| strategy.name() == name);
        let Some(mprotect) = rung("mprotect") else {
            return ledger::skipped("mprotect rung", "this target has none");
        };
        passes_not(|| match force(mprotect) {
            Ok(()) => ledger::ran("mprotect rung"),
            Err(ForceError::Refused(_, refusal)) => ledger::skipped("mprotect rung", refusal),
            Err(error) => panic!("{error}"),
        });
    });
    Child::default()
        .run(|| passes_not(|| force(Strategy::Symmetric).expect("nothing was decided")));
    Child::default().run(|| passes_not(attaches));
}

#[test]
fn who_cannot_pass_is_told() {
    Child::default().run(|| {
        ANSWER.store(libc::ENOMEM, SeqCst);
        let failure = register::<PrivateExpedited>().expect_err("no memory");
        assert_eq!((failure.call(), failure.errno()), (Call::Atfork, libc::ENOMEM));
        init();
        let membarrier = ladder().next().expect("a rung");
        let Verdict::Refused(refusal) = membarrier.verdict else { panic!("{membarrier:?}") };
        assert_eq!(refusal.reason(), Reason::Failed(Call::Atfork));
    });
}
