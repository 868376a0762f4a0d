//! Sandboxes that ask a supervisor (SECCOMP_RET_USER_NOTIF), here a thread without a filter.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::channel;

use nix::libc;
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::thread::MembarrierCommand::PrivateExpedited;
use seccompiler::SeccompAction::Trap;

use asymfence::{heavy_fence, init};

use crate::child::Child;
use crate::filter::on_every_rung;
use crate::rung;

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

/// From now on each call of a rung by this thread waits for an answer. The first call of PRIVATE_EXPEDITED is the trial at
/// the decision, the second one the first heavy fence. What comes after them is answered as `later` says.
fn ask_a_supervisor(later: Answer) {
    let (send, receive) = channel::<(OwnedFd, Pthread)>();
    std::thread::spawn(move || {
        let (listener, caller) = receive.recv().expect("the thread installs its filter");
        let mut heavy = 0;
        loop {
            // SAFETY: plain numbers, for the kernel to fill in.
            let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the command takes a pointer to such a struct.
            if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut asked) } != 0 {
                return; // the caller has ended
            }
            let is_membarrier = libc::c_long::from(asked.data.nr) == libc::SYS_membarrier;
            let is_heavy = is_membarrier && asked.data.args[..2] == [PrivateExpedited as u64, 0];
            heavy += usize::from(is_heavy);
            match if heavy <= 2 { Answer::GoOn } else { later } {
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
    let listener = install();
    send.send((listener, pthread_self())).expect("the supervisor waits for it");
}

/// Installs the filter on this thread. Seccompiler knows no such action, so another is replaced.
fn install() -> OwnedFd {
    let mut filter = on_every_rung(Trap);
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

/// Decides, and fences twice: the supervisor still goes on at the first.
fn fence_twice(later: Answer) {
    // Without SA_RESTART.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("sigaction(2)");
    ask_a_supervisor(later);
    assert_eq!(rung("private-expedited").map(asymfence::Strategy::Asymmetric), Some(init()));
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
