//! Sandboxes that refuse membarrier(2), answer it falsely, or start later.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use rustix::thread::MembarrierCommand::{PrivateExpedited, RegisterPrivateExpedited};
use seccompiler::SeccompAction::{Errno, KillProcess, Trap};
use seccompiler::SeccompCmpOp::{self, Eq, MaskedEq};
#[cfg(feature = "std")]
use seccompiler::SeccompCmpOp::{Gt, Ne};
use seccompiler::{BpfProgram, apply_filter, apply_filter_all_threads};

use asymfence::{
    Call, Reason, Refusal, Strategy, Verdict, heavy_fence, init, strategy, try_heavy_fence,
};

use crate::child::{Child, cannot_run, end, needs_procfs};
#[cfg(target_arch = "x86_64")]
use crate::filter::on_cpuid_mode;
use crate::filter::{
    on_all_but, on_arguments, on_call, on_command, on_every_rung, on_everything_but, on_membarrier,
    on_mmap_of, on_pread, on_protection_too, on_read,
};
use crate::mount::enter_an_empty_root;
use crate::{fences_hold, force_mprotect, mprotect_is_refused, rung, verdict};

/// The refusal of the membarrier rung.
#[track_caller]
fn refusal() -> Refusal {
    match verdict("private-expedited") {
        Some(Verdict::Refused(refusal)) => refusal,
        verdict => panic!("not refused: {verdict:?}"),
    }
}

/// Decides under a sandbox without membarrier: by mprotect where that is admitted, else symmetric.
#[track_caller]
fn decides_without_membarrier() {
    match init() {
        Strategy::Symmetric => assert!(mprotect_is_refused()),
        Strategy::Asymmetric(taken) => assert_eq!(Some(taken), rung("mprotect")),
    }
    fences_hold();
}

#[test]
fn enosys_is_passed_by() {
    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        decides_without_membarrier();
        let failure = refusal().failure().expect("a failed call");
        assert_eq!(failure.call(), Call::RegisterPrivateExpedited);
        assert_eq!(failure.errno(), libc::ENOSYS);
        let failure = asymfence::membarrier::query().expect_err("a failed call");
        assert_eq!((failure.call(), failure.errno()), (Call::Query, libc::ENOSYS));
    });
}

#[test]
fn eperm_is_passed_by_with_the_advice_to_allow_it() {
    Child::under(on_membarrier(Errno(libc::EPERM as u32))).run(|| {
        decides_without_membarrier();
        let words = refusal().to_string();
        assert!(words.contains("EPERM (1)") && words.contains("seccomp"), "{words}");
    });
}

#[test]
fn a_registration_that_is_refused_is_passed_by() {
    let filter = on_command(RegisterPrivateExpedited, Errno(libc::EPERM as u32));
    Child::under(filter).run(|| {
        decides_without_membarrier();
        assert_eq!(refusal().reason(), Reason::Failed(Call::RegisterPrivateExpedited));
    });
}

#[test]
fn a_registration_that_is_refused_is_named_also_where_query_lists_nothing() {
    Child::default().run(|| {
        install(on_command(RegisterPrivateExpedited, Errno(libc::EPERM as u32)));
        install(on_arguments(&[&[(0, Eq, 0)]], Errno(0)));
        decides_without_membarrier();
        assert_eq!(refusal().reason(), Reason::Failed(Call::RegisterPrivateExpedited));
    });
}

#[test]
fn a_trial_call_that_is_refused_is_passed_by() {
    Child::under(on_command(PrivateExpedited, Errno(libc::EINVAL as u32))).run(|| {
        decides_without_membarrier();
        assert_eq!(refusal().reason(), Reason::Failed(Call::PrivateExpedited));
    });
}

#[test]
fn a_sandbox_that_answers_0_to_everything_is_not_believed() {
    Child::under(on_membarrier(Errno(0))).run(|| {
        decides_without_membarrier();
        assert_eq!(refusal().reason(), Reason::CommandsNotOffered);
    });
}

/// A process that decides, or takes part in a segment, must be able to believe the success of these commands.
const BELIEVED: [u64; 3] = [1 << 0, 1 << 3, 1 << 4];

/// The kernel answers QUERY. A sandbox answers 0 to the other commands, to some of them, or to numbers that are no
/// command; or it answers EPERM to such a number, for which the kernel has EINVAL.
#[cfg(feature = "std")]
#[test]
fn a_sandbox_that_answers_0_to_what_does_not_exist_is_not_believed() {
    use asymfence::membarrier::{PrivateExpedited, query, register};

    let lies = [
        "to all but QUERY",
        "to the commands",
        "to the calls",
        "to no command",
        "EPERM to no command",
    ];
    for lie in lies {
        Child::with("LIE", lie).run(|| {
            install(match std::env::var("LIE").expect("set above").as_str() {
                "to all but QUERY" => on_arguments(&[&[(0, Ne, 0)]], Errno(0)),
                "to the commands" => {
                    let commands = BELIEVED.map(|command| [(0, Eq, command)]);
                    on_arguments(&commands.each_ref().map(|rule| &rule[..]), Errno(0))
                }
                "to the calls" => on_arguments(&[&[(0, Eq, 1)], &[(0, Eq, 1 << 3)]], Errno(0)),
                "to no command" => on_arguments(&[&[(0, Gt, 0xffff)]], Errno(0)),
                _ => on_arguments(&[&[(0, Gt, 0xffff)]], Errno(libc::EPERM as u32)),
            });
            assert_ne!(rung("private-expedited").map(Strategy::Asymmetric), Some(init()));
            assert_eq!(refusal().reason(), Reason::AcceptsNonsense);
            assert!(query().is_ok());
            let failure = register::<PrivateExpedited>().expect_err("a proof of what is not so");
            assert_eq!((failure.call(), failure.errno()), (Call::RegisterPrivateExpedited, 0));
            crate::cross_process::a_fresh_segment_is_refused();
        });
    }
}

/// The twin: a sandbox that knows what the kernel refuses is not detected, as the documents say.
#[test]
fn a_sandbox_that_knows_the_commands_and_their_flags_is_not_noticed() {
    Child::default().run(|| {
        let commands = BELIEVED.map(|command| [(0, Eq, command), (1, Eq, 0)]);
        install(on_arguments(&commands.each_ref().map(|rule| &rule[..]), Errno(0)));
        assert_eq!(rung("private-expedited").map(Strategy::Asymmetric), Some(init()));
    });
}

/// The first call is QUERY, the next one the registration, then the trial call, then those that must be refused. (The first
/// and the last are interrupted with `std` alone, since without it nobody sees their errnos.)
#[test]
fn a_moments_reason_at_the_registration_or_the_trial_does_not_cost_the_rung() {
    let rows = ["error=ENOMEM:when=2..5", "error=EINTR:when=3..6", "error=EAGAIN:when=2..30"];
    let others = ["error=EINTR:when=1..4", "error=EINTR:when=4..6"];
    let others = if cfg!(feature = "std") { &others[..] } else { &[] };
    for inject in rows.iter().chain(others) {
        let Some(child) = Child::injected(inject) else { return };
        child.run(|| {
            assert_eq!(rung("private-expedited").map(Strategy::Asymmetric), Some(init()));
            assert_eq!(try_heavy_fence(), Ok(()));
        });
    }
}

/// The twin. It shows that the failures were injected, and that a lasting one is reported.
#[test]
fn want_of_memory_that_does_not_pass_costs_the_rung() {
    let Some(child) = Child::injected("error=ENOMEM:when=2+") else { return };
    child.run(|| {
        assert_ne!(rung("private-expedited").map(Strategy::Asymmetric), Some(init()));
        let failure = refusal().failure().expect("a failed call");
        assert_eq!(failure.call(), Call::RegisterPrivateExpedited);
        assert_eq!(failure.errno(), libc::ENOMEM);
    });
}

/// Between two tries a thread lets others run. It calls sched_yield(2), which no kernel refuses. rustix asserts that it
/// succeeds, so with `std` the library calls it by libc. (Without `std` it calls rustix.)
#[cfg(feature = "std")]
#[test]
fn who_may_not_let_others_run_tries_again_all_the_same() {
    Child::default().run(|| {
        init();
        install(on_call(libc::SYS_sched_yield, &[], Errno(libc::EPERM as u32)));
        install(on_every_rung(Errno(libc::ENOMEM as u32)));
        let error = try_heavy_fence().expect_err("no memory");
        assert_eq!(error.failure().errno(), libc::ENOMEM);
    });
}

/// A transient failure is retried a bounded number of times, also when a file is read.
#[test]
fn a_sandbox_that_interrupts_every_read_holds_nobody_up() {
    Child::default().run(|| {
        install(on_pread(Errno(libc::EINTR as u32)));
        assert!(matches!(init(), Strategy::Asymmetric(_)), "membarrier needs no file");
        assert_eq!(try_heavy_fence(), Ok(()));
        #[cfg(feature = "std")]
        crate::cross_process::a_fresh_segment_fails_with(libc::EINTR);
        end();
    });
}

/// A signal handler that interrupts the reading of a file may fork. Parent and child share the positions of their
/// files, so neither may move one. The twin is the test above: it shows that the files are read.
#[test]
fn no_file_is_read_by_its_position() {
    Child::default().run(|| {
        install(on_read(KillProcess));
        assert!(matches!(init(), Strategy::Asymmetric(_)));
        #[cfg(feature = "std")]
        crate::cross_process::a_fresh_segment_is_made();
        end();
    });
}

/// A sandbox that answers 0 only after the decision is not detected, since a fence makes one system call. The documents
/// say so.
#[test]
fn a_sandbox_that_answers_0_later_is_not_noticed() {
    Child::default().run(|| {
        init();
        install(on_membarrier(Errno(0)));
        assert_eq!(try_heavy_fence(), Ok(()));
    });
}

#[test]
fn a_sandbox_that_answers_0_to_mprotect_is_not_believed() {
    Child::default().run(|| {
        install(on_protection_too(Errno(0)));
        assert_eq!(init(), Strategy::Symmetric);
        assert!(mprotect_is_refused());
    });
}

#[test]
fn a_sandbox_that_answers_0_to_mmap_is_not_believed() {
    Child::default().run(|| {
        install(on_membarrier(Errno(libc::ENOSYS as u32)));
        install(on_mmap_of(1, Errno(0)));
        assert_eq!(init(), Strategy::Symmetric);
        if let Some(Verdict::Refused(refusal)) = verdict("mprotect") {
            match refusal.failure() {
                Some(failure) => assert_eq!((failure.call(), failure.errno()), (Call::Mmap, 0)),
                None => crate::ledger::skipped("mprotect rung", refusal),
            }
        }
        fences_hold();
    });
}

/// mprotect as only the mprotect rung calls it: for one byte, with this protection.
fn mprotect(protection: libc::c_int) -> (libc::c_long, [(u8, SeccompCmpOp, u64); 2]) {
    (libc::SYS_mprotect, [(1, Eq, 1), (2, Eq, protection as u64)])
}

/// A sandbox without membarrier answers `$answer` to one more call, or to several. Then the mprotect rung is refused
/// with this call and errno. (A macro, since a child runs a closure of the test itself.)
macro_rules! is_not_believed {
    ($($of:expr, $answer:expr),+ => $call:ident, $errno:expr) => {
        Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
            $(
                let (call, arguments) = $of;
                install(on_call(call, &[&arguments], Errno($answer as u32)));
            )+
            assert_eq!(init(), Strategy::Symmetric);
            assert!(mprotect_is_refused());
            if let Some(Verdict::Refused(refusal)) = verdict("mprotect") {
                let Some(failure) = refusal.failure() else {
                    cannot_run("mprotect rung", refusal);
                };
                assert_eq!((failure.call(), failure.errno()), (Call::$call, $errno));
            }
            fences_hold();
        })
    };
}

#[test]
fn a_permission_that_is_not_taken_is_noticed() {
    is_not_believed!(mprotect(libc::PROT_READ), 0 => Mprotect, 0);
}

#[test]
fn a_permission_that_is_not_given_is_noticed() {
    is_not_believed!(mprotect(libc::PROT_READ | libc::PROT_WRITE), 0 => Mprotect, 0);
}

/// From now on `answer`, a handler of SIGSYS, answers this call with these arguments in the kernel's place.
///
/// # Safety
///
/// The handler may be called wherever the call is made.
#[cfg(target_arch = "x86_64")]
unsafe fn is_answered_by<const N: usize>(
    answer: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void),
    (call, arguments): (libc::c_long, [(u8, SeccompCmpOp, u64); N]),
) {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};

    let action =
        SigAction::new(SigHandler::SigAction(answer), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the caller's.
    unsafe { sigaction(Signal::SIGSYS, &action) }.expect("a handler");
    install(on_call(call, &[&arguments], Trap));
}

/// A handler answers in the kernel's place. It takes the permission from the page that it sees first, and from no other.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_permission_that_is_taken_from_one_page_alone_is_noticed() {
    static FIRST: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn answer(
        _signal: libc::c_int,
        _info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        // SAFETY: the context of this signal, which nobody else uses.
        let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let page = registers[libc::REG_RDI as usize] as usize;
        // Relaxed: one thread.
        let first = FIRST.compare_exchange(0, page, Relaxed, Relaxed).err();
        registers[libc::REG_RAX as usize] = match first {
            Some(first) if first != page => 0,
            // Two bytes: the filter lets that pass.
            // SAFETY: a page of the rung, which asks for this.
            _ => unsafe { libc::mprotect(page as *mut libc::c_void, 2, libc::PROT_READ) }.into(),
        };
    }

    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        // SAFETY: the handler makes one system call, and writes to its own context.
        unsafe { is_answered_by(answer, mprotect(libc::PROT_READ)) };
        assert_eq!(init(), Strategy::Symmetric);
        assert!(mprotect_is_refused());
        // Relaxed: as above.
        if FIRST.load(Relaxed) == 0 {
            cannot_run("mprotect rung", format!("{:?}", verdict("mprotect")));
        }
        let Some(Verdict::Refused(refusal)) = verdict("mprotect") else { panic!("not refused") };
        let failure = refusal.failure().expect("a call");
        assert_eq!((failure.call(), failure.errno()), (Call::Mprotect, 0));
    });
}

#[test]
fn where_mprotect_is_refused_the_errno_is_told() {
    is_not_believed!(mprotect(libc::PROT_READ), libc::EPERM => Mprotect, libc::EPERM);
}

/// mlock(2) as only the mprotect rung calls it: for one byte.
const MLOCK: (libc::c_long, [(u8, SeccompCmpOp, u64); 1]) = (libc::SYS_mlock, [(1, Eq, 1)]);

/// madvise(2) by which the rung asks whether its page is locked.
const IS_LOCKED: (libc::c_long, [(u8, SeccompCmpOp, u64); 2]) =
    (libc::SYS_madvise, [(1, Eq, 1), (2, Eq, libc::MADV_DONTNEED as u64)]);

#[test]
fn a_page_that_is_not_locked_is_noticed() {
    is_not_believed!(MLOCK, 0 => Mlock, 0);
}

#[test]
fn where_it_cannot_be_seen_whether_a_page_is_locked_the_rung_is_refused() {
    is_not_believed!(IS_LOCKED, libc::EPERM => Madvise, libc::EPERM);
}

/// EINVAL is the kernel's answer for a locked page.
#[test]
fn an_invented_lock_is_noticed_though_its_question_gets_an_invented_answer() {
    is_not_believed!(MLOCK, 0, IS_LOCKED, libc::EINVAL => Madvise, libc::EINVAL);
}

/// The twin: the page is locked before the rung locks it.
#[test]
fn where_every_new_page_is_locked_the_rung_is_taken() {
    Child::default().run(|| {
        // SAFETY: locks memory, and changes none.
        if unsafe { libc::mlockall(libc::MCL_FUTURE) } != 0 {
            cannot_run("mlockall(MCL_FUTURE)", std::io::Error::last_os_error());
        }
        // (No litmus test: its memory would be locked, too.)
        if force_mprotect() {
            assert_eq!(try_heavy_fence(), Ok(()));
        } else if let Some(Verdict::Refused(refusal)) = verdict("mprotect") {
            // EAGAIN: RLIMIT_MEMLOCK has no room for a new page.
            let errno = refusal.failure().map(|failure| failure.errno());
            assert!([None, Some(libc::EAGAIN)].contains(&errno), "{refusal}");
        }
    });
}

/// A handler forks when the page has been locked, before the rung asks whether it is. The child has no lock, and makes
/// one of its own.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_fork_before_the_lock_is_checked_costs_the_child_no_rung() {
    use std::sync::atomic::AtomicI32;

    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static CHILD: AtomicI32 = AtomicI32::new(-1);
    const RUNG_TAKEN: i32 = 42;

    extern "C" fn answer(
        _signal: libc::c_int,
        _info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        // SAFETY: the context of this signal, which nobody else uses.
        let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let page = registers[libc::REG_RDI as usize] as *mut libc::c_void;
        // The first question comes before mlock(2). Relaxed, here and below: one thread.
        if ASKED.fetch_add(1, Relaxed) == 1 {
            // SAFETY: the child goes on with the rung, and then ends.
            CHILD.store(unsafe { libc::fork() }, Relaxed);
        }
        // Two bytes: the filter lets that pass.
        // SAFETY: a page of the rung, which asks for this.
        let failed = unsafe { libc::madvise(page, 2, libc::MADV_DONTNEED) } != 0;
        registers[libc::REG_RAX as usize] = if failed { -i64::from(libc::EINVAL) } else { 0 };
    }

    Child::default().run(|| {
        // SAFETY: the handler forks, makes a system call, and writes to its own context.
        unsafe { is_answered_by(answer, IS_LOCKED) };
        let mprotect = rung("mprotect").map(Strategy::Asymmetric);
        let is_taken = mprotect.map(asymfence::force) == Some(Ok(())) && try_heavy_fence().is_ok();
        match CHILD.load(Relaxed) {
            // SAFETY: nothing is to be done at the end of this process.
            0 => unsafe { libc::_exit(if is_taken { RUNG_TAKEN } else { 1 }) },
            -1 if is_taken => panic!("the rung did not ask twice, or fork(2) failed"),
            -1 => cannot_run("mprotect rung", format!("{:?}", verdict("mprotect"))),
            child => {
                assert!(is_taken, "the parent's page is locked");
                let child = nix::unistd::Pid::from_raw(child);
                let ended = nix::sys::wait::waitpid(child, None).expect("a child");
                assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, RUNG_TAKEN));
            }
        }
    });
}

/// futex(2) by which the kernel tries to write to a page.
fn write() -> (libc::c_long, [(u8, SeccompCmpOp, u64); 1]) {
    (libc::SYS_futex, [(1, MaskedEq(0x7f), libc::FUTEX_WAKE_OP as u64)])
}

#[test]
fn where_it_cannot_be_seen_whether_a_page_can_be_written_the_rung_is_refused() {
    is_not_believed!(write(), libc::EPERM => Futex, libc::EPERM);
}

#[test]
fn a_write_that_the_kernel_does_not_make_is_noticed() {
    is_not_believed!(write(), 0 => Futex, 0);
}

#[test]
fn a_signal_handler_that_leaves_the_answer_open_is_not_believed() {
    extern "C" fn leave_it(_signal: libc::c_int) {}

    Child::default().run(|| {
        use nix::sys::signal::{SigHandler, signal};
        // SAFETY: the handler does nothing.
        unsafe { signal(Signal::SIGSYS, SigHandler::Handler(leave_it)) }.expect("a handler");
        install(on_membarrier(Trap));
        decides_without_membarrier();
        assert_eq!(refusal().reason(), Reason::CommandsNotOffered);
    });
}

#[test]
fn without_any_rung_the_process_is_symmetric() {
    Child::under(on_every_rung(Errno(libc::ENOSYS as u32))).run(|| {
        assert_eq!(init(), Strategy::Symmetric);
        assert_eq!(verdict("symmetric"), Some(Verdict::Taken));
        assert!(mprotect_is_refused());
        let error = asymfence::Asymmetric::new().expect_err("symmetric").to_string();
        assert!(error.contains("private-expedited is refused"), "{error}");
        assert!(rung("mprotect").is_none() || error.contains("mprotect is refused"), "{error}");
        fences_hold();
    });
}

#[test]
fn a_sandbox_that_kills_is_survived_by_deciding_before() {
    Child::default().run(|| {
        init();
        install(on_all_but(PrivateExpedited, KillProcess));
        assert!(matches!(strategy(), Some(Strategy::Asymmetric(_))));
        fences_hold();
    });
}

#[test]
fn a_sandbox_that_kills_is_survived_by_deciding_without_the_kernel() {
    Child::default().run(|| {
        install(on_membarrier(KillProcess));
        asymfence::force(Strategy::Symmetric).expect("nothing was decided before");
        fences_hold();
    });
}

/// The twin of both: the process cannot prevent it from inside.
#[test]
fn a_sandbox_that_kills_cannot_be_probed() {
    let outcome = Child::default().outcome(|| {
        install(on_membarrier(KillProcess));
        init();
    });
    outcome.was_ended_by(Signal::SIGSYS);
}

/// Puts the running process into a sandbox.
fn install(filter: BpfProgram) {
    apply_filter_all_threads(&filter).expect("the filter is accepted");
}

#[test]
fn a_sandbox_closed_later_leaves_the_other_rung_where_that_is_sound() {
    Child::default().run(|| {
        needs_procfs();
        let decided = init();
        install(on_membarrier(Errno(libc::EPERM as u32)));
        match try_heavy_fence() {
            Ok(()) => fences_hold(),
            Err(error) => {
                assert_eq!(error.failure().errno(), libc::EPERM);
                assert!(mprotect_is_refused());
            }
        }
        assert_eq!(strategy(), Some(decided));
    });
}

/// Decides. Then forbids membarrier, removes by `away` what the other rung's gate reads, and fences.
fn falls_back_without(away: impl FnOnce()) {
    needs_procfs();
    init();
    install(on_membarrier(Errno(libc::EPERM as u32)));
    away();
    match try_heavy_fence() {
        Ok(()) => (0..100).for_each(|_| heavy_fence()),
        Err(error) => {
            let (other, refusal) = error.instead().expect("a second rung");
            crate::ledger::skipped(&format!("{other} rung"), refusal);
            assert_ne!(refusal.reason(), Reason::KernelUnknown, "{refusal}");
        }
    }
}

#[test]
fn the_other_rung_needs_no_descriptor_once_decided() {
    Child::default().run(|| {
        falls_back_without(|| {
            setrlimit(Resource::RLIMIT_NOFILE, 0, 0).expect("a limit can be lowered");
            assert!(std::fs::File::open("/proc/self/status").is_err());
        });
    });
}

#[test]
fn the_other_rung_needs_no_proc_once_decided() {
    Child::default().run(|| {
        falls_back_without(|| match enter_an_empty_root() {
            Ok(()) => {
                crate::ledger::ran("chroot");
                assert!(!std::path::Path::new("/proc").exists());
            }
            Err(error) => crate::ledger::skipped("chroot", error),
        });
    });
}

/// The twin of both: without a descriptor before the decision the gate cannot read, and says so.
#[test]
fn without_a_descriptor_at_the_decision_the_other_rung_is_refused() {
    Child::default().run(|| {
        setrlimit(Resource::RLIMIT_NOFILE, 0, 0).expect("a limit can be lowered");
        assert!(matches!(init(), Strategy::Asymmetric(_)), "membarrier needs none");
        install(on_membarrier(Errno(libc::EPERM as u32)));
        let error = try_heavy_fence().expect_err("no rung is left");
        if let Some((_, refusal)) = error.instead() {
            assert_eq!(refusal.reason(), Reason::KernelUnknown);
            assert!(refusal.to_string().contains("file descriptor"), "{refusal}");
        }
    });
}

#[test]
fn a_sandbox_closed_over_every_rung_is_an_error_of_try_heavy_fence() {
    for errno in ["1", "12", "38"] {
        Child::with("ERRNO", errno).run(|| {
            init();
            let errno: i32 = std::env::var("ERRNO").expect("set above").parse().expect("a number");
            install(on_every_rung(Errno(errno as u32)));
            let error = try_heavy_fence().expect_err("no rung is left");
            assert_eq!(Some(error.rung()), rung("private-expedited"));
            assert_eq!(error.failure().call(), Call::PrivateExpedited);
            assert_eq!(error.failure().errno(), errno);
            let instead = error.instead().map(|(other, _)| other);
            assert_eq!(instead, rung("mprotect"), "the second reason is told too");
            // Still asymmetric: a heavy fence that only fenced would be wrong.
            assert!(matches!(strategy(), Some(Strategy::Asymmetric(_))));
        });
    }
}

#[test]
fn a_sandbox_closed_over_every_rung_aborts_heavy_fence() {
    let outcome = Child::default().outcome(|| {
        init();
        install(on_every_rung(Errno(libc::EPERM as u32)));
        heavy_fence();
    });
    outcome.aborted_saying(&[
        "asymfence: heavy fence by private-expedited",
        "membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) failed with EPERM (1)",
        if rung("mprotect").is_some() { "; mprotect cannot take over: " } else { "" },
    ]);
}

/// Causes that the documentation of `heavy_fence` names. (`supervised.rs` has the supervisor, and tests below have
/// three of the mprotect rung. No test brings about vm.max_map_count, or RLIMIT_AS while more than four heavy fences
/// overlap.)
#[test]
fn each_cause_of_an_abort_aborts() {
    let causes = [
        ("a sandbox", "EPERM"),
        ("a sandbox on this thread", "EPERM"),
        ("a sandbox on this thread since before the decision", "EPERM"),
        ("a kernel out of memory", "ENOMEM"),
        ("another kernel", "ENOSYS"),
    ];
    for (cause, errno) in causes {
        let outcome = Child::with("CAUSE", cause).outcome(|| {
            let cause = std::env::var("CAUSE").expect("set above");
            let filter = on_every_rung(Errno(match cause.as_str() {
                "a kernel out of memory" => libc::ENOMEM,
                "another kernel" => libc::ENOSYS,
                _ => libc::EPERM,
            } as u32));
            let here = || apply_filter(&filter).expect("the filter is accepted");
            match cause.as_str() {
                "a sandbox on this thread" => {
                    init();
                    here();
                }
                "a sandbox on this thread since before the decision" => {
                    let (is_here, decided) = (Barrier::new(2), Barrier::new(2));
                    std::thread::scope(|scope| {
                        scope.spawn(|| {
                            here();
                            is_here.wait();
                            decided.wait();
                            heavy_fence();
                        });
                        is_here.wait();
                        init();
                        heavy_fence();
                        decided.wait();
                    });
                }
                _ => {
                    init();
                    apply_filter_all_threads(&filter).expect("the filter is accepted");
                }
            }
            heavy_fence();
        });
        outcome.aborted_saying(&["asymfence: heavy fence by private-expedited", errno]);
    }
}

/// Forbids CPUID to this thread and to those that it starts, as rr(1) does.
#[cfg(target_arch = "x86_64")]
fn forbid_cpuid() {
    const ARCH_SET_CPUID: libc::c_int = 0x1012;
    // SAFETY: takes no memory.
    let answer = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, 0) };
    if answer != 0 {
        let why = std::io::Error::last_os_error();
        cannot_run(
            "CPUID that can be forbidden",
            format_args!("this processor offers no such switch (arch_prctl: {why})"),
        );
    }
    crate::ledger::ran("CPUID that can be forbidden");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn where_cpuid_is_forbidden_the_rung_that_needs_it_is_refused() {
    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        forbid_cpuid();
        assert_eq!(init(), Strategy::Symmetric);
        assert!(mprotect_is_refused());
        end()
    });
}

/// The same on a processor that cannot forbid it: a filter answers 0, as the kernel does where it is forbidden.
#[cfg(target_arch = "x86_64")]
#[test]
fn where_cpuid_is_said_to_be_forbidden_the_rung_that_needs_it_is_refused() {
    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        apply_filter(&on_cpuid_mode(Errno(0))).expect("the filter is accepted");
        crate::ledger::ran("a filter that says that CPUID is forbidden");
        assert_eq!(init(), Strategy::Symmetric);
        assert!(mprotect_is_refused());
    });
}

/// The decision has already read what CPUID says.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_other_rung_needs_no_cpuid_once_decided() {
    Child::default().run(|| {
        falls_back_without(forbid_cpuid);
        end()
    });
}

/// The twin of the two that call `forbid_cpuid`.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_forbidden_cpuid_ends_who_executes_it() {
    let outcome = Child::default().outcome(|| {
        forbid_cpuid();
        #[allow(unused_unsafe, reason = "safe since Rust 1.94, unsafe before")]
        // SAFETY: it is forbidden: the process ends by a signal.
        std::hint::black_box(unsafe { std::arch::x86_64::__cpuid(0) });
    });
    outcome.was_ended_by(Signal::SIGSEGV);
}

#[test]
fn an_unprivileged_user_without_memlock_is_symmetric_and_told_why() {
    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0).expect("a limit can be lowered");
        if rustix::process::getuid().is_root() {
            // This thread's own identity: the raw call.
            // SAFETY: no memory depends on who runs the thread.
            let answer = unsafe { libc::syscall(libc::SYS_setuid, 65534) };
            assert_eq!(answer, 0, "root may become nobody");
        }
        assert_eq!(init(), Strategy::Symmetric);
        assert!(mprotect_is_refused());
        match verdict("mprotect") {
            Some(Verdict::Refused(refusal)) if refusal.reason() == Reason::Failed(Call::Mlock) => {
                assert!(refusal.to_string().contains("RLIMIT_MEMLOCK"), "{refusal}");
            }
            verdict => crate::ledger::skipped("mprotect rung", format!("{verdict:?}")),
        }
        fences_hold();
    });
}

/// Decides for the mprotect rung where it is admitted; else the child ends here, and the ledger has it.
fn take_the_mprotect_rung() {
    if init() == Strategy::Symmetric {
        assert!(mprotect_is_refused());
        cannot_run("mprotect rung", format!("{:?}", verdict("mprotect")));
    }
}

/// The kernel checks the limit whenever a private page becomes writable.
#[test]
fn a_process_at_its_limit_of_data_fails_on_the_mprotect_rung_and_is_told_why() {
    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        take_the_mprotect_rung();
        try_heavy_fence().expect("below the limit");
        setrlimit(Resource::RLIMIT_DATA, 4096, 4096).expect("a limit can be lowered");
        let failure = try_heavy_fence().expect_err("at the limit").failure();
        assert_eq!((failure.call(), failure.errno()), (Call::Mprotect, libc::ENOMEM));
        assert!(failure.to_string().contains("RLIMIT_DATA"), "{failure}");
        end()
    });
}

/// A process that is at the limit when it decides does not take the rung.
#[test]
fn a_process_at_its_limit_of_data_does_not_take_the_mprotect_rung() {
    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        setrlimit(Resource::RLIMIT_DATA, 4096, 4096).expect("a limit can be lowered");
        assert_eq!(init(), Strategy::Symmetric);
        assert!(mprotect_is_refused());
        end()
    });
}

#[test]
fn a_process_without_address_space_does_not_take_the_mprotect_rung() {
    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        setrlimit(Resource::RLIMIT_AS, 4096, 4096).expect("a limit can be lowered");
        assert_eq!(init(), Strategy::Symmetric);
        assert!(mprotect_is_refused());
        end()
    });
}

/// The decision maps the four pages that the rung keeps, so a later limit does not matter while at most four heavy
/// fences overlap.
#[test]
fn a_process_without_address_space_left_goes_on_on_the_mprotect_rung() {
    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        take_the_mprotect_rung();
        setrlimit(Resource::RLIMIT_AS, 4096, 4096).expect("a limit can be lowered");
        assert_eq!(try_heavy_fence(), Ok(()));
        end()
    });
}

/// A kernel's answer, and not one that a sandbox invents.
#[test]
fn a_page_that_may_not_be_writable_and_executable_fails_and_is_told_why() {
    const PR_SET_MDWE: libc::c_int = 65;

    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        take_the_mprotect_rung();
        // SAFETY: what is mapped stays mapped as it is.
        let answer = unsafe { libc::prctl(PR_SET_MDWE, 1, 0, 0, 0) };
        if answer != 0 {
            cannot_run("PR_SET_MDWE", "a kernel older than 6.3");
        }
        // SAFETY: mappings that come now are executable too, or refused.
        unsafe { libc::personality(libc::READ_IMPLIES_EXEC as libc::c_ulong) };
        let failure = try_heavy_fence().expect_err("forbidden").failure();
        assert_eq!((failure.call(), failure.errno()), (Call::Mprotect, libc::EACCES));
        assert!(failure.to_string().contains("PR_SET_MDWE"), "{failure}");
        end()
    });
}

/// As a program may do that seals all of its memory once it has started.
#[cfg(target_arch = "x86_64")]
#[test]
fn pages_that_have_been_sealed_fail_and_the_error_says_why() {
    const SYS_MSEAL: libc::c_long = 462;

    Child::under(on_membarrier(Errno(libc::ENOSYS as u32))).run(|| {
        take_the_mprotect_rung();
        try_heavy_fence().expect("not sealed yet");
        // The pages of the rung have no name. So every mapping without a name is sealed.
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        for map in maps.lines().filter(|map| map.split_whitespace().count() == 5) {
            let ends = map.split(' ').next().and_then(|range| range.split_once('-'));
            let (start, end) = ends.expect("a range");
            let number = |digits| usize::from_str_radix(digits, 16).expect("an address");
            let (start, end) = (number(start), number(end));
            // SAFETY: the process goes on with its mappings as they are, and then ends.
            let answer = unsafe { libc::syscall(SYS_MSEAL, start, end - start, 0) };
            if answer != 0 {
                cannot_run("mseal(2)", std::io::Error::last_os_error());
            }
        }
        let failure = try_heavy_fence().expect_err("sealed").failure();
        assert_eq!((failure.call(), failure.errno()), (Call::Mprotect, libc::EPERM));
        assert!(failure.to_string().contains("mseal(2)"), "{failure}");
        end()
    });
}

/// What `init` promises holds also when many threads fence at the same time.
#[test]
fn contended_heavy_fences_make_one_kind_of_system_call() {
    Child::default().run(|| contend_under_a_filter(|| {}));
}

#[test]
fn any_other_system_call_under_that_filter_kills() {
    let outcome = Child::default().outcome(|| contend_under_a_filter(std::thread::yield_now));
    outcome.was_ended_by(Signal::SIGSYS);
}

/// Four threads execute heavy fences, each under a filter that kills for every system call but that of a heavy fence
/// (and exit_group(2)). Each also calls `besides`.
fn contend_under_a_filter(besides: fn()) {
    if init() == Strategy::Symmetric || !is_taken("private-expedited") {
        cannot_run("private-expedited under a filter", "this machine has no such rung");
    }
    // One core runs one caller at a time, and nobody shares.
    let may_share = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    if !may_share {
        crate::ledger::skipped("two cores", "one core shows no sharing");
    }
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let before = asymfence::stats().heavy;
    let filter = on_everything_but(PrivateExpedited);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                apply_filter(&filter).expect("seccomp");
                let some_are_shared =
                    || !may_share || asymfence::stats().heavy.shared > before.shared;
                // On a machine that is busy with something else they hardly ever overlap.
                for turn in 0..2_000_000 {
                    if turn >= 20_000 && some_are_shared() {
                        break;
                    }
                    heavy_fence();
                    let ticket = asymfence::Ticket::now();
                    besides();
                    ticket.wait();
                }
                if DONE.fetch_add(1, Relaxed) == 3 {
                    // SAFETY: ends the process, which may make no other system call.
                    unsafe { libc::_exit(if some_are_shared() { crate::child::DONE } else { 1 }) }
                }
                // The threads may not even end.
                loop {
                    std::hint::spin_loop();
                }
            });
        }
    });
}

fn is_taken(name: &str) -> bool {
    verdict(name) == Some(Verdict::Taken)
}

/// Of the file that identifies the kernel, which is read on x86 for the mprotect rung.
#[test]
fn a_read_of_more_than_there_is_room_for_is_not_believed() {
    let Some(child) = Child::injected_into("pread64", "retval=1000") else { return };
    child.on_path("/proc/sys/kernel/osrelease").run(|| {
        if let Some(mprotect) = rung("mprotect") {
            asymfence::force(Strategy::Asymmetric(mprotect)).expect_err("the kernel is not known");
        }
        assert!(matches!(init(), Strategy::Asymmetric(_)), "membarrier needs no file");
        assert_eq!(try_heavy_fence(), Ok(()));
    });
}
