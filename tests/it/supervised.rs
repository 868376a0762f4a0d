//! Sandboxes that ask a supervisor (SECCOMP_RET_USER_NOTIF), here a thread without a filter.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::channel;

use nix::libc;
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::thread::MembarrierCommand::PrivateExpedited;
use seccompiler::SeccompAction::{Errno, Trap};
use seccompiler::{BpfProgram, apply_filter};

use asymfence::{Strategy, Verdict, heavy_fence, init, stats};

use crate::child::Child;
use crate::filter::{on_calls_of_the_decision, on_every_rung};
use crate::{force_mprotect, rung, verdict};

#[derive(Clone, Copy)]
enum Answer {
    /// The kernel makes the call.
    GoOn,
    /// None, but a signal to the caller while it waits.
    Signal,
    /// None: the supervisor ends.
    End,
}

/// `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)`, include/uapi/linux/seccomp.h@v6.18.
const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;

/// From now on each call of this thread that `filter` would trap waits for an answer, which `answer` gives in a thread
/// without a filter.
fn ask_a_supervisor(
    filter: BpfProgram,
    mut answer: impl FnMut(&libc::seccomp_data) -> Answer + Send + 'static,
) {
    // Without SA_RESTART.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("sigaction(2)");
    let (send, receive) = channel::<(OwnedFd, Pthread)>();
    std::thread::spawn(move || {
        let (listener, caller) = receive.recv().expect("the thread installs its filter");
        loop {
            // SAFETY: plain numbers, for the kernel to fill in.
            let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the command takes a pointer to such a struct.
            if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut asked) } != 0 {
                return; // the caller has ended
            }
            match answer(&asked.data) {
                Answer::GoOn => {
                    let mut answer = libc::seccomp_notif_resp {
                        id: asked.id,
                        val: 0,
                        error: 0,
                        flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
                    };
                    // SAFETY: the command takes a pointer to such a struct.
                    unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut answer) };
                }
                Answer::Signal => pthread_kill(caller, Signal::SIGUSR1).expect("it waits"),
                Answer::End => return,
            }
        }
    });
    let listener = install(filter);
    send.send((listener, pthread_self())).expect("the supervisor waits for it");
}

/// Installs the filter on this thread. Seccompiler knows no such action, so another is replaced.
fn install(mut filter: BpfProgram) -> OwnedFd {
    for instruction in &mut filter {
        if instruction.k == libc::SECCOMP_RET_TRAP {
            instruction.k = libc::SECCOMP_RET_USER_NOTIF;
        }
    }
    let program = libc::sock_fprog {
        len: filter.len().try_into().expect("a short filter"),
        filter: filter.as_mut_ptr().cast(),
    };
    nix::sys::prctl::set_no_new_privs().expect("prctl(2)");
    // SAFETY: the program is as long as it says.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    let listener = listener.try_into().ok().filter(|&listener| listener >= 0);
    // SAFETY: of this call, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(listener.expect("seccomp(2) gives a listener")) }
}

extern "C" fn nothing(_: i32) {}

/// The call of PRIVATE_EXPEDITED, without a flag.
fn is_heavy(call: &libc::seccomp_data) -> bool {
    libc::c_long::from(call.nr) == libc::SYS_membarrier
        && call.args[..2] == [PrivateExpedited as u64, 0]
}

/// Decides, and fences twice. The supervisor lets the trial at the decision and the first heavy fence go on, and answers
/// as `later` says from then on.
fn fence_twice(later: Answer) {
    let mut heavy = 0;
    ask_a_supervisor(on_every_rung(Trap), move |call| {
        heavy += usize::from(is_heavy(call));
        if heavy <= 2 { Answer::GoOn } else { later }
    });
    assert_eq!(rung("private-expedited").map(Strategy::Asymmetric), Some(init()));
    heavy_fence();
    heavy_fence();
}

/// The twin of the next two.
#[test]
fn what_a_supervisor_lets_go_on_succeeds() {
    Child::default().run(|| fence_twice(Answer::GoOn));
}

#[test]
fn where_the_supervisor_has_ended_a_heavy_fence_aborts() {
    let outcome = Child::default().outcome(|| fence_twice(Answer::End));
    outcome.aborted_saying(&["asymfence: heavy fence by private-expedited", "ENOSYS"]);
}

#[test]
fn where_the_supervisor_is_slow_and_signals_come_a_heavy_fence_aborts() {
    let outcome = Child::default().outcome(|| fence_twice(Answer::Signal));
    outcome.aborted_saying(&["asymfence: heavy fence by private-expedited", "EINTR"]);
}

/// Interrupts each call of `on_calls_of_the_decision` once.
fn interrupt_each_call_once() {
    let mut interrupted = Vec::new();
    ask_a_supervisor(on_calls_of_the_decision(Trap), move |call| {
        // The allocator protects pages too, but none of one byte.
        let is_ours = libc::c_long::from(call.nr) != libc::SYS_mprotect || call.args[1] == 1;
        let which = (call.nr, call.args[0], call.args[1]);
        if !is_ours || interrupted.contains(&which) {
            return Answer::GoOn;
        }
        interrupted.push(which);
        Answer::Signal
    });
}

#[test]
fn a_signal_during_a_call_of_the_decision_does_not_cost_the_rung() {
    Child::default().run(|| {
        interrupt_each_call_once();
        assert_eq!(rung("private-expedited").map(Strategy::Asymmetric), Some(init()));
        // Without `std` the repetitions of QUERY are not counted, and the calls that must be refused are not repeated.
        let least = if cfg!(feature = "std") { 6 } else { 1 };
        assert!(stats().retries >= least, "{:?}", stats());
    });
}

#[test]
fn a_signal_during_a_call_of_the_decision_does_not_cost_the_other_rung() {
    Child::default().run(|| {
        interrupt_each_call_once();
        if !force_mprotect() {
            let Some(Verdict::Refused(refusal)) = verdict("mprotect") else { return };
            let errno = refusal.failure().map(|failure| failure.errno());
            assert_ne!(errno, Some(libc::EINTR), "{refusal}");
        }
    });
}

/// A thread whose rung works commits after another thread, in a sandbox, has committed the process.
#[test]
fn why_a_rung_was_refused_is_not_forgotten_where_it_works_in_another_thread() {
    Child::default().run(|| {
        let mut is_committed = false;
        ask_a_supervisor(on_every_rung(Trap), move |call| {
            if is_heavy(call) && !std::mem::replace(&mut is_committed, true) {
                let filter = on_every_rung(Errno(libc::EPERM as u32));
                apply_filter(&filter).expect("the filter is accepted");
                assert_eq!(init(), Strategy::Symmetric);
            }
            Answer::GoOn
        });
        assert_eq!(init(), Strategy::Symmetric);
        assert!(matches!(verdict("private-expedited"), Some(Verdict::Refused(_))));
    });
}
