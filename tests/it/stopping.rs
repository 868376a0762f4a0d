//! A heavy fence that fails stops the process: whether or not its message is read, with any PID, and also if SIGABRT
//! cannot be sent, is handled, or is ignored.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};

use nix::libc;
use nix::pty::openpty;
use nix::sched::{CloneFlags, clone, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::termios::{FlowArg, SetArg, cfmakeraw, tcflow, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, alarm, fork, pipe};
use seccompiler::SeccompAction::Errno;
use seccompiler::apply_filter_all_threads;

use asymfence::{heavy_fence, init};

use crate::child::{Child, DONE, had_procfs, ledger};
use crate::filter::{
    on_call, on_every_rung, on_fcntl, on_fstat, on_own_number, on_pwritev2, on_signalling,
};

/// 128 + SIGABRT: the status where the signal does not end the process.
const STATUS: i32 = 134;

/// Decides, loses every rung, and fences. SIGALRM, which no test expects, ends a process that does not stop. (Not PID
/// 1, which ignores it, and not a forked child that waits while it writes the message: its one thread has blocked the
/// signal.)
fn fence_in_vain() {
    init();
    apply_filter_all_threads(&on_every_rung(Errno(libc::EPERM as u32))).expect("a filter");
    alarm::set(60);
    heavy_fence();
    unreachable!("a heavy fence whose call failed has returned");
}

/// Makes `fd` the standard error.
fn redirect(fd: &OwnedFd) {
    // SAFETY: both are open; the old standard error is nobody's to close.
    let answer = unsafe { libc::dup2(fd.as_raw_fd(), 2) };
    assert_eq!(answer, 2);
}

/// Fills a pipe, a socket or a terminal, and leaves it blocking.
fn fill(fd: &OwnedFd) {
    let mut file = File::from(fd.try_clone().expect("a descriptor"));
    let set = |flags: libc::c_int| {
        // SAFETY: sets the flags of an open descriptor.
        assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    set(libc::O_NONBLOCK);
    // The twin of what follows: a write that waits for room would wait for ever.
    for chunk in [&[b'.'; 4096][..], b"."] {
        let error = loop {
            if let Err(error) = file.write(chunk) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    set(0);
}

#[test]
fn a_full_pipe_for_standard_error_holds_nobody_up() {
    let outcome = Child::default().filtering().outcome(|| {
        let (_reader, writer) = pipe().expect("a pipe");
        fill(&writer);
        redirect(&writer);
        fence_in_vain();
    });
    outcome.was_ended_by(Signal::SIGABRT);
}

#[test]
fn a_full_pipe_of_an_older_kernel_holds_nobody_up() {
    let outcome = Child::default().filtering().outcome(|| {
        let (_reader, writer) = pipe().expect("a pipe");
        fill(&writer);
        redirect(&writer);
        apply_filter_all_threads(&on_pwritev2(Errno(libc::EOPNOTSUPP as u32))).expect("a filter");
        fence_in_vain();
    });
    outcome.was_ended_by(Signal::SIGABRT);
}

#[test]
fn a_full_socket_for_standard_error_holds_nobody_up() {
    let outcome = Child::default().filtering().outcome(|| {
        let (_reader, writer) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty())
                .expect("sockets");
        fill(&writer);
        redirect(&writer);
        fence_in_vain();
    });
    outcome.was_ended_by(Signal::SIGABRT);
}

#[test]
fn a_stopped_terminal_for_standard_error_holds_nobody_up() {
    let outcome = Child::default().filtering().outcome(|| {
        let terminal = openpty(None, None).expect("a terminal");
        // As Ctrl-S does.
        tcflow(&terminal.slave, FlowArg::TCOOFF).expect("a terminal can be stopped");
        redirect(&terminal.slave);
        fence_in_vain();
    });
    outcome.was_ended_by(Signal::SIGABRT);
}

/// Opened anew, it would be another terminal.
#[test]
fn the_master_side_of_a_terminal_for_standard_error_holds_nobody_up() {
    let outcome = Child::default().filtering().outcome(|| {
        let terminal = openpty(None, None).expect("a terminal");
        redirect(&terminal.master);
        fence_in_vain();
    });
    outcome.was_ended_by(Signal::SIGABRT);
}

/// A terminal in raw mode, and its reading end.
fn terminal() -> (File, OwnedFd) {
    let terminal = openpty(None, None).expect("a terminal");
    let mut settings = tcgetattr(&terminal.slave).expect("settings");
    cfmakeraw(&mut settings);
    tcsetattr(&terminal.slave, SetArg::TCSANOW, &settings).expect("settings");
    (terminal.master.into(), terminal.slave)
}

/// A heavy fence that fails in a child with this standard error, after `prepare`, writes nothing to `reader`.
fn gets_no_message(mut reader: File, stderr: OwnedFd, prepare: impl FnOnce()) {
    // SAFETY: the child makes the system calls below, and ends.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            redirect(&stderr);
            prepare();
            fence_in_vain();
        }
        ForkResult::Parent { child } => {
            drop(stderr);
            let status = waitpid(child, None).expect("a child");
            assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGABRT, _)), "{status:?}");
            // Nobody writes any more, so this does not wait: an error, or the end.
            assert_eq!(reader.read(&mut [0; 64]).unwrap_or_default(), 0);
        }
    }
}

/// Here without a free descriptor. The twin of this test and the next is `whatever_standard_error_is_it_gets_the_message`.
#[test]
fn a_terminal_that_cannot_be_opened_anew_gets_no_message() {
    Child::default().filtering().run(|| {
        let (reader, writer) = terminal();
        gets_no_message(reader, writer, || {
            setrlimit(Resource::RLIMIT_NOFILE, 0, 0).expect("a limit can be lowered");
        });
    });
}

#[test]
fn a_terminal_that_standard_error_can_only_read_gets_no_message() {
    Child::default().filtering().run(|| {
        if !had_procfs() {
            return ledger::skipped("procfs", "there is none at /proc: a terminal gets no message");
        }
        let (reader, both) = terminal();
        let path = format!("/proc/self/fd/{}", both.as_raw_fd());
        let stderr = File::open(path).expect("a terminal can be opened again");
        drop(both);
        gets_no_message(reader, stderr.into(), || {});
    });
}

/// The process may not ask what its standard error is (fstat(2)), or whether it may write to it (fcntl(2)).
#[test]
fn who_may_not_ask_about_a_terminal_stops_all_the_same() {
    for call in ["fstat", "fcntl"] {
        let outcome = Child::with("CALL", call).filtering().outcome(|| {
            let (_reader, writer) = terminal();
            redirect(&writer);
            let is_first = std::env::var("CALL").as_deref() == Ok("fstat");
            let refusing = Errno(libc::EPERM as u32);
            let filter =
                if is_first { on_fstat(refusing) } else { on_fcntl(&[libc::F_GETFL], refusing) };
            apply_filter_all_threads(&filter).expect("a filter");
            fence_in_vain();
        });
        outcome.was_ended_by(Signal::SIGABRT);
    }
}

/// On the reading end of a pipe vmsplice(2) reads: it would move what the pipe holds into the message. The twin is the
/// last case of `whatever_standard_error_is_it_gets_the_message`.
#[test]
fn a_pipe_that_standard_error_can_only_read_keeps_what_it_holds() {
    Child::default().filtering().run(|| {
        let (reader, writer) = pipe().expect("a pipe");
        let mut reader = File::from(reader);
        File::from(writer).write_all(b"of somebody else").expect("room");
        // SAFETY: the child makes the system calls below, and ends.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                redirect(&reader.into());
                apply_filter_all_threads(&on_pwritev2(Errno(libc::EPERM as u32)))
                    .expect("a filter");
                fence_in_vain();
            }
            ForkResult::Parent { child } => {
                let status = waitpid(child, None).expect("the child");
                assert!(
                    matches!(status, WaitStatus::Signaled(_, Signal::SIGABRT, _)),
                    "{status:?}"
                );
                let mut held = String::new();
                reader.read_to_string(&mut held).expect("an end of the file");
                assert_eq!(held, "of somebody else");
            }
        }
    });
}

/// A child of clone(2) with CLONE_VM has its parent's memory, where a C library may have stored the number of the
/// parent's thread.
#[test]
fn a_child_with_its_parents_memory_ends_alone() {
    Child::default().filtering().run(|| {
        init();
        apply_filter_all_threads(&on_every_rung(Errno(libc::EPERM as u32))).expect("a filter");
        let mut stack = vec![0; 1 << 18];
        let fence = Box::new(|| {
            heavy_fence();
            0
        });
        let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
        // SAFETY: the child has a stack of its own, and ends before this thread continues.
        let child = unsafe { clone(fence, &mut stack, flags, Some(libc::SIGCHLD)) };
        let status = waitpid(child.expect("a child"), None).expect("the child");
        assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGABRT, _)), "{status:?}");
    });
}

/// With a reader the message arrives: the twin of those above.
#[test]
fn whatever_standard_error_is_it_gets_the_message() {
    fn said_to(make: impl FnOnce() -> (File, OwnedFd)) {
        let (mut reader, writer) = make();
        // SAFETY: the child makes the system calls below, and ends.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                redirect(&writer);
                fence_in_vain();
            }
            ForkResult::Parent { child } => {
                assert_eq!(
                    waitpid(child, None).map(|status| matches!(
                        status,
                        WaitStatus::Signaled(_, Signal::SIGABRT, _)
                    )),
                    Ok(true)
                );
                let mut said = [0; 64];
                reader.read_exact(&mut said).expect("a message");
                assert!(
                    said.starts_with(b"asymfence: heavy fence by private-expedited"),
                    "{}",
                    String::from_utf8_lossy(&said)
                );
            }
        }
    }

    Child::default().filtering().run(|| {
        said_to(|| {
            let (reader, writer) = pipe().expect("a pipe");
            (reader.into(), writer)
        });
        said_to(|| {
            let none = SockFlag::empty();
            let sockets = socketpair(AddressFamily::Unix, SockType::Stream, None, none);
            let (reader, writer) = sockets.expect("sockets");
            (reader.into(), writer)
        });
        if had_procfs() {
            said_to(terminal);
        } else {
            ledger::skipped("procfs", "there is none at /proc: a terminal gets no message");
        }
        said_to(|| {
            let path = std::env::temp_dir().join(format!("asymfence-{}", std::process::id()));
            let file = File::create_new(&path).expect("a file");
            let reader = File::open(&path).expect("the file");
            std::fs::remove_file(&path).expect("the file is ours");
            (reader, file.into())
        });
        // A pipe of a kernel before 6.4.
        apply_filter_all_threads(&on_pwritev2(Errno(libc::EOPNOTSUPP as u32))).expect("a filter");
        said_to(|| {
            let (reader, writer) = pipe().expect("a pipe");
            (reader.into(), writer)
        });
    });
}

#[test]
fn a_process_that_may_send_no_signal_stops() {
    let outcome = Child::default().filtering().outcome(|| {
        init();
        apply_filter_all_threads(&on_signalling(Errno(libc::EPERM as u32))).expect("a filter");
        fence_in_vain();
    });
    outcome.ended_with(STATUS);
}

/// rustix, as these tests build it, panics at an answer that no kernel gives.
#[test]
fn a_process_that_is_not_told_its_number_stops_and_does_not_unwind() {
    let outcome = Child::default().filtering().outcome(|| {
        apply_filter_all_threads(&on_own_number(Errno(libc::EPERM as u32))).expect("a filter");
        let unwound = std::panic::catch_unwind(fence_in_vain);
        unreachable!("{unwound:?}");
    });
    // SIGABRT cannot be sent to a number that is not known.
    outcome.ended_with(STATUS);
}

#[test]
fn a_process_whose_number_is_said_to_be_0_stops_and_does_not_unwind() {
    let outcome = Child::default().filtering().outcome(|| {
        apply_filter_all_threads(&on_own_number(Errno(0))).expect("a filter");
        let unwound = std::panic::catch_unwind(fence_in_vain);
        unreachable!("{unwound:?}");
    });
    outcome.ended_with(STATUS);
}

/// The twin of the two tests before this one: what `heavy_fence` would do if it asked rustix, without a guard.
#[cfg(debug_assertions)] // then rustix has them too
#[test]
fn an_answer_that_no_kernel_gives_unwinds_from_rustix() {
    Child::default().filtering().run(|| {
        apply_filter_all_threads(&on_own_number(Errno(libc::EPERM as u32))).expect("a filter");
        assert!(std::panic::catch_unwind(rustix::thread::gettid).is_err());
    });
}

/// SIGABRT ends the process nevertheless, as in abort(3).
#[test]
fn a_handler_of_sigabrt_that_returns_is_no_way_out() {
    extern "C" fn ignore(_signal: libc::c_int) {}

    let outcome = Child::default().filtering().outcome(|| {
        // SAFETY: the handler does nothing.
        unsafe { signal(Signal::SIGABRT, SigHandler::Handler(ignore)) }.expect("a handler");
        fence_in_vain();
    });
    outcome.was_ended_by(Signal::SIGABRT);
}

/// A handler that jumps away, as by siglongjmp(3): the thread goes on elsewhere.
#[cfg(target_arch = "x86_64")]
mod jumping {
    use std::ffi::c_void;
    use std::os::fd::AsFd;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use asymfence::Ticket;
    use nix::sys::signal::{SaFlags, SigAction, SigSet, sigaction};
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use seccompiler::SeccompAction::Trap;
    use seccompiler::apply_filter;

    use super::*;
    use crate::child::end;
    use crate::filter::on_membarrier;

    /// Taken just before the heavy fence.
    static TICKET: OnceLock<Ticket> = OnceLock::new();

    /// Where the thread goes on: the heavy fence has not ordered anything.
    extern "C" fn elsewhere() -> ! {
        let ticket = TICKET.get().expect("taken before");
        assert!(!ticket.is_served());
        end()
    }

    extern "C" fn jump(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: what the kernel gives such a handler.
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        let registers = &mut context.uc_mcontext.gregs;
        // Below what the fence has on the stack, and aligned as after a call.
        let stack = &mut registers[libc::REG_RSP as usize];
        *stack = ((*stack - 4096) & !15) - 8;
        registers[libc::REG_RIP as usize] = elsewhere as *const () as i64;
    }

    /// For the first such signal alone: if `elsewhere` panics, the next one must end the process.
    fn jump_at(number: Signal) {
        let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESETHAND;
        let action = SigAction::new(SigHandler::SigAction(jump), flags, SigSet::empty());
        // SAFETY: what is skipped is no destructor of ours.
        unsafe { sigaction(number, &action) }.expect("a handler");
        init();
        TICKET.set(Ticket::now()).expect("the first");
    }

    #[test]
    fn a_handler_of_sigabrt_that_jumps_away_takes_the_thread_along() {
        Child::default().filtering().run(|| {
            jump_at(Signal::SIGABRT);
            fence_in_vain();
        });
    }

    #[test]
    fn a_handler_of_sigsys_that_jumps_away_takes_the_thread_along() {
        Child::default().filtering().run(|| {
            jump_at(Signal::SIGSYS);
            apply_filter(&on_membarrier(Trap)).expect("a filter");
            heavy_fence();
            unreachable!("a heavy fence whose call failed has returned");
        });
    }

    /// The stack pointer with which the thread goes on in the next test.
    static BELOW: AtomicUsize = AtomicUsize::new(0);
    /// The reading end of the pipe that is its standard error, and the standard error that it had before.
    static PIPE: OnceLock<(File, OwnedFd)> = OnceLock::new();

    /// Uses the stack that the heavy fence had, and reads what it has written.
    extern "C" fn reuse() -> ! {
        let mut other = [b'#'; 1 << 16];
        std::hint::black_box(&mut other);
        let (mut reader, before) = PIPE.get().map(|(pipe, before)| (pipe, before)).expect("set");
        redirect(before);
        let mut said = [0; 4096];
        let length = reader.read(&mut said).expect("a message");
        let said = String::from_utf8_lossy(&said[..length]);
        assert!(said.starts_with("asymfence: heavy fence by private-expedited"), "{said}");
        assert!(said.ends_with('\n') && !said.contains('#'), "{said}");
        end()
    }

    extern "C" fn return_to_caller(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
        // SAFETY: what the kernel gives such a handler.
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        let registers = &mut context.uc_mcontext.gregs;
        // Above what the fence has on the stack, and aligned as after a call. Relaxed: this thread has written it.
        registers[libc::REG_RSP as usize] = ((BELOW.load(Relaxed) & !15) - 8) as i64;
        registers[libc::REG_RIP as usize] = reuse as *const () as i64;
    }

    /// A pipe that does not know RWF_NOWAIT (a named one, or one of a kernel before 6.4) gets the message by
    /// vmsplice(2), and keeps the page in which it lies. (Other pipes copy the text.) There is no twin: this test
    /// failed while the message was on the stack.
    #[test]
    fn a_message_in_a_pipe_stays_what_it_is_when_the_stack_is_used_again() {
        for kind in ["named", "of an older kernel"] {
            Child::with("PIPE", kind).filtering().run(|| {
                let (reader, writer) = if std::env::var("PIPE").as_deref() == Ok("named") {
                    let name = format!("asymfence-{}.fifo", std::process::id());
                    let path = std::env::temp_dir().join(name);
                    mkfifo(&path, Mode::S_IRWXU).expect("a FIFO");
                    // Both ways, so that neither open waits for the other.
                    let both = File::options().read(true).write(true).open(&path).expect("ours");
                    let ends = (File::open(&path).expect("ours"), both.into());
                    std::fs::remove_file(&path).expect("ours");
                    ends
                } else {
                    let filter = on_pwritev2(Errno(libc::EOPNOTSUPP as u32));
                    apply_filter_all_threads(&filter).expect("a filter");
                    let (reader, writer) = pipe().expect("a pipe");
                    (reader.into(), writer)
                };
                let before = std::io::stderr().as_fd().try_clone_to_owned().expect("a descriptor");
                PIPE.set((reader, before)).expect("the first");
                redirect(&writer);
                let action = SigAction::new(
                    SigHandler::SigAction(return_to_caller),
                    SaFlags::SA_SIGINFO | SaFlags::SA_RESETHAND,
                    SigSet::empty(),
                );
                // SAFETY: what is skipped is no destructor of ours.
                unsafe { sigaction(Signal::SIGABRT, &action) }.expect("a handler");
                BELOW.store((&raw const action).addr(), Relaxed);
                fence_in_vain();
            });
        }
    }

    /// The twin of the first two: a heavy fence that returns has served the ticket.
    #[test]
    fn where_no_handler_is_called_the_heavy_fence_orders() {
        Child::default().run(|| {
            jump_at(Signal::SIGABRT);
            heavy_fence();
            assert!(TICKET.get().expect("taken before").is_served());
        });
    }
}

/// A handler that fences meets the same failure. It is not called again, and the message is written once.
#[test]
fn a_handler_of_sigabrt_that_fences_is_called_once() {
    extern "C" fn fence(_signal: libc::c_int) {
        heavy_fence();
    }

    let outcome = Child::default().filtering().outcome(|| {
        // SAFETY: a decided process's heavy fence is async-signal-safe.
        unsafe { signal(Signal::SIGABRT, SigHandler::Handler(fence)) }.expect("a handler");
        fence_in_vain();
    });
    outcome.was_ended_by(Signal::SIGABRT);
    assert!(outcome.cannot_run() || outcome.count("asymfence: heavy fence") == 1, "{outcome:?}");
}

/// Ends the process: with DONE if the handler of SIGABRT runs in the thread that does `work`, otherwise with 1.
fn handled_here(work: fn()) {
    static WORKER: AtomicI32 = AtomicI32::new(0);
    fn this_thread() -> i32 {
        rustix::thread::gettid().as_raw_nonzero().get()
    }
    extern "C" fn compare(_signal: libc::c_int) {
        // Relaxed: a handler in the worker finds its own number. A handler in another thread finds the worker's number
        // or 0, and neither is its own.
        let status = if WORKER.load(Relaxed) == this_thread() { DONE } else { 1 };
        // SAFETY: ends the process.
        unsafe { libc::_exit(status) }
    }

    // SAFETY: the handler reads a number, and makes two system calls.
    unsafe { signal(Signal::SIGABRT, SigHandler::Handler(compare)) }.expect("a handler");
    // glibc blocks all signals of a thread while that thread creates another. The first thread may still be creating
    // this one. If this one were still creating the worker, only the worker could take a signal to the process.
    static CREATED: std::sync::Barrier = std::sync::Barrier::new(2);
    let worker = std::thread::spawn(move || {
        WORKER.store(this_thread(), Relaxed);
        CREATED.wait();
        work();
    });
    CREATED.wait();
    unreachable!("{:?}", worker.join());
}

#[test]
fn a_handler_of_sigabrt_runs_in_the_thread_whose_heavy_fence_failed() {
    Child::default().filtering().outcome(|| handled_here(fence_in_vain)).ended_with(DONE);
}

/// The twin: a signal to the process goes to its first thread.
#[test]
fn a_signal_to_the_process_is_handled_elsewhere() {
    let outcome = Child::default().outcome(|| {
        handled_here(|| {
            nix::sys::signal::kill(nix::unistd::getpid(), Signal::SIGABRT).expect("to oneself");
        });
    });
    outcome.ended_with(1);
}

/// The default action cannot be had then, so it ends by exit_group(2).
#[test]
fn where_actions_cannot_be_changed_a_handler_of_sigabrt_that_fences_is_called_once() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn fence(_signal: libc::c_int) {
        // Relaxed: one thread.
        if CALLS.fetch_add(1, Relaxed) == 0 {
            heavy_fence();
        }
        // SAFETY: ends the process, with a status that nothing else has.
        unsafe { libc::_exit(1) }
    }

    let outcome = Child::default().filtering().outcome(|| {
        // SAFETY: a decided process's heavy fence is async-signal-safe.
        unsafe { signal(Signal::SIGABRT, SigHandler::Handler(fence)) }.expect("a handler");
        init();
        let refused = on_call(libc::SYS_rt_sigaction, &[], Errno(libc::EINVAL as u32));
        apply_filter_all_threads(&refused).expect("a filter");
        fence_in_vain();
    });
    outcome.ended_with(STATUS);
}

/// `redirect` makes standard error a file on which write(2) raises `expected`. A process that calls write(2), the twin,
/// is suspended or ended by that signal. One whose heavy fence fails is ended by SIGABRT.
fn writing_raises(expected: Signal, redirect: impl Fn()) {
    // SAFETY: the signal's default action, which the standard library has changed for SIGPIPE.
    unsafe { signal(expected, SigHandler::SigDfl) }.expect("a signal");
    for fences in [false, true] {
        // SAFETY: the child makes the system calls below, and ends.
        let child = match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                redirect();
                if fences {
                    fence_in_vain();
                }
                // SAFETY: the text is one byte long.
                unsafe { libc::write(2, c".".as_ptr().cast(), 1) };
                // SAFETY: nothing is to be done at the end of this process.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => child,
        };
        let untraced = Some(nix::sys::wait::WaitPidFlag::WUNTRACED);
        let met = match waitpid(child, untraced).expect("a child") {
            WaitStatus::Signaled(_, signal, _) => signal,
            WaitStatus::Stopped(_, signal) => {
                // SAFETY: a signal to our child.
                unsafe { libc::kill(child.as_raw(), libc::SIGKILL) };
                waitpid(child, None).expect("a child");
                signal
            }
            status => panic!("{status:?}"),
        };
        assert_eq!(met, if fences { Signal::SIGABRT } else { expected });
    }
}

fn redirect_to_a_pipe_that_nobody_reads() {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    redirect(&writer);
}

#[test]
fn a_pipe_that_nobody_reads_ends_nobody_by_sigpipe() {
    Child::default().filtering().run(|| {
        writing_raises(Signal::SIGPIPE, redirect_to_a_pipe_that_nobody_reads);
    });
}

/// Then it writes no message.
#[test]
fn where_no_signal_can_be_blocked_a_pipe_that_nobody_reads_ends_nobody_by_sigpipe() {
    Child::default().filtering().run(|| {
        writing_raises(Signal::SIGPIPE, || {
            redirect_to_a_pipe_that_nobody_reads();
            init();
            let refused = on_call(libc::SYS_rt_sigprocmask, &[], Errno(libc::EINVAL as u32));
            apply_filter_all_threads(&refused).expect("a filter");
        });
    });
}

#[test]
fn a_file_that_is_as_long_as_it_may_be_ends_nobody_by_sigxfsz() {
    Child::default().filtering().run(|| {
        writing_raises(Signal::SIGXFSZ, || {
            let name = c"stderr".as_ptr();
            // SAFETY: a new file without a name in a file system.
            let file = unsafe { libc::memfd_create(name, 0) };
            // SAFETY: both are open.
            assert_eq!(unsafe { libc::dup2(file, 2) }, 2);
            setrlimit(Resource::RLIMIT_FSIZE, 0, 0).expect("a limit can be lowered");
        });
    });
}

/// A job in the background, whose terminal suspends those that write (`stty tostop`).
#[test]
fn a_terminal_of_another_job_suspends_nobody() {
    Child::default().filtering().run(|| {
        use nix::sys::termios::LocalFlags;
        use nix::unistd::{Pid, setpgid, setsid};

        setsid().expect("not a leader of a group");
        let terminal = openpty(None, None).expect("a terminal");
        // SAFETY: makes it the terminal of this session, which has none.
        let answer = unsafe { libc::ioctl(terminal.slave.as_raw_fd(), libc::TIOCSCTTY, 0) };
        assert_eq!(answer, 0);
        let mut settings = tcgetattr(&terminal.slave).expect("settings");
        settings.local_flags |= LocalFlags::TOSTOP;
        tcsetattr(&terminal.slave, SetArg::TCSANOW, &settings).expect("settings");
        writing_raises(Signal::SIGTTOU, || {
            let own_group = Pid::from_raw(0);
            setpgid(own_group, own_group).expect("no leader of a session");
            redirect(&terminal.slave);
        });
        // Its end would hang up on this session.
        std::mem::forget(terminal);
    });
}

/// PID 1 of a namespace ignores signals that it does not handle.
#[test]
fn pid_1_of_a_namespace_stops() {
    Child::default().filtering().run(|| {
        let flags = CloneFlags::CLONE_NEWPID;
        if let Err(error) = unshare(flags).or_else(|_| unshare(flags | CloneFlags::CLONE_NEWUSER)) {
            ledger::skipped("PID namespace", error);
            return;
        }
        ledger::ran("PID namespace");
        // SAFETY: this process has one thread that runs; the child makes system calls and ends.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                assert_eq!(std::process::id(), 1);
                // The twin: signals that end other processes do not end it.
                for number in [Signal::SIGABRT, Signal::SIGKILL] {
                    // SAFETY: a signal to this process.
                    unsafe { libc::kill(1, number as i32) };
                }
                // The process must stop also if it has handlers that return, as some runtimes have.
                extern "C" fn ignore(_signal: libc::c_int) {}
                for number in [Signal::SIGSEGV, Signal::SIGILL] {
                    // SAFETY: the handler does nothing.
                    unsafe { signal(number, SigHandler::Handler(ignore)) }.expect("a handler");
                }
                fence_in_vain();
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, STATUS)));
            }
        }
    });
}
