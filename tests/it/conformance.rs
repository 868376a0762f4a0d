//! Every command of membarrier(2) on the running kernel, like the kernel's own self-tests: before and after each
//! registration, with wrong flags, after fork and after exec, with one thread and with several.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use asymfence::membarrier::{
    Commands, GlobalExpedited, PrivateExpedited, PrivateExpeditedRseq, PrivateExpeditedSyncCore,
    global, global_expedited, query, register, registrations,
};
use asymfence::{Call, Failure};
use nix::errno::Errno;
use nix::libc;
use rustix::thread::MembarrierCommand;
use seccompiler::SeccompAction;

use crate::child::{Child, ledger, needs_procfs, this_binary};
use crate::filter::{on_command, on_membarrier};
use crate::fork::in_fork;

/// The raw system call, which also takes flags that no typed function passes.
fn raw(command: i32, flags: u32, cpu: i32) -> Result<u32, i32> {
    // SAFETY: the command touches no memory.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, command, flags, cpu) };
    u32::try_from(answer).map_err(|_| Errno::last_raw())
}

const QUERY: i32 = 0;
const RSEQ: i32 = 1 << 7;
const GET_REGISTRATIONS: i32 = 1 << 9;
const FLAG_CPU: u32 = 1;
/// Each of these private commands needs the registration that is the next bit.
const NEED_REGISTRATION: [i32; 3] = [1 << 3, 1 << 5, RSEQ];
const REGISTRATIONS: [i32; 4] = [1 << 2, 1 << 4, 1 << 6, 1 << 8];

/// The answer of kernel/sched/membarrier.c to a process with these registrations, if QUERY answers `offered`.
fn answer(offered: u32, registered: u32, command: i32, flags: u32) -> Result<u32, i32> {
    let offers = |command: i32| command.count_ones() == 1 && offered & command as u32 != 0;
    match command {
        _ if flags != 0 && !(command == RSEQ && flags == FLAG_CPU) => Err(libc::EINVAL),
        QUERY => Ok(offered),
        _ if !offers(command) => Err(libc::EINVAL),
        GET_REGISTRATIONS => Ok(registered),
        _ if NEED_REGISTRATION.contains(&command) && registered & (command as u32) << 1 == 0 => {
            Err(libc::EPERM)
        }
        _ => Ok(0),
    }
}

/// Everything but a registration.
#[track_caller]
fn conforms(registered: u32) {
    let offered = raw(QUERY, 0, 0).expect("a kernel with membarrier");
    let known = (0..12).map(|bit| 1 << bit);
    let unknown = [-1, 3, (1 << 3) | (1 << 4), i32::MIN];
    for command in known.chain(unknown).chain([QUERY]) {
        for flags in [0, FLAG_CPU, 2, 3, u32::MAX] {
            for cpu in [-1, 0, 9_999] {
                if flags == 0 && (REGISTRATIONS.contains(&command) || cpu != -1) {
                    continue; // a registration would change what is tested; without a flag `cpu` is ignored
                }
                assert_eq!(
                    raw(command, flags, cpu),
                    answer(offered, registered, command, flags),
                    "command {command:#x}, flags {flags:#x}, cpu {cpu}, registered {registered:#x}"
                );
            }
        }
    }
}

/// Makes all registrations, one after the other, each twice.
#[track_caller]
fn conforms_while_it_registers() -> u32 {
    let offered = raw(QUERY, 0, 0).expect("a kernel with membarrier");
    let mut registered = 0;
    conforms(registered);
    for registration in REGISTRATIONS {
        let expected = answer(offered, registered, registration, 0);
        for _ in 0..2 {
            assert_eq!(raw(registration, 0, 0), expected, "registration {registration:#x}");
        }
        if expected.is_ok() {
            registered |= registration as u32;
        }
        conforms(registered);
    }
    registered
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("procfs").count()
}

#[test]
fn every_command_answers_as_the_kernel_says_in_a_process_of_one_thread() {
    Child::default().run(|| {
        needs_procfs();
        in_fork(|| {
            assert_eq!(threads(), 1);
            conforms_while_it_registers();
        });
        conforms(0); // the child's registrations are its own
    });
}

#[test]
fn every_command_answers_as_the_kernel_says_while_other_threads_run() {
    Child::default().run(|| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            conforms_while_it_registers();
            stop.store(true, Relaxed);
        });
    });
}

#[test]
fn fork_copies_the_registrations_and_exec_clears_them() {
    Child::default().run(|| {
        const AGAIN: &str = "ASYMFENCE_TEST_AFTER_EXEC";
        if std::env::var_os(AGAIN).is_some() {
            return conforms(0);
        }
        let registered = conforms_while_it_registers();
        in_fork(|| {
            conforms(registered);
            in_fork(|| conforms(registered));
        });
        use std::os::unix::process::CommandExt;
        let mut again = this_binary();
        let error = again.args(std::env::args_os().skip(1)).env(AGAIN, "1").exec();
        panic!("exec failed: {error}");
    });
}

/// The typed functions return what the raw call returns.
#[test]
fn the_typed_commands_are_the_kernels() {
    Child::default().run(|| {
        let offered = query().expect("a kernel with membarrier");
        assert_eq!(Ok(offered.bits()), raw(QUERY, 0, 0));
        let knows = offered.contains(Commands::GET_REGISTRATIONS);
        let registered = |expected: Commands| match registrations() {
            Ok(registered) => assert_eq!(registered, expected),
            Err(failure) => assert_eq!((failure.errno(), knows), (libc::EINVAL, false)),
        };
        registered(Commands::empty());
        let mut all = Commands::empty();

        if offered.contains(Commands::GLOBAL) {
            assert_eq!(global(), Ok(()));
        }
        assert_eq!(global_expedited(), Ok(()), "the caller needs no registration");
        register::<GlobalExpedited>().expect("offered");
        all |= Commands::REGISTER_GLOBAL_EXPEDITED;
        registered(all);
        assert_eq!(global_expedited(), Ok(()));

        assert_eq!(register::<PrivateExpedited>().expect("offered").barrier(), Ok(()));
        all |= Commands::REGISTER_PRIVATE_EXPEDITED;
        registered(all);

        match register::<PrivateExpeditedSyncCore>() {
            Ok(registration) => {
                assert_eq!(registration.sync_core(), Ok(()));
                all |= Commands::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE;
            }
            Err(failure) => not_offered(failure, offered, Commands::PRIVATE_EXPEDITED_SYNC_CORE),
        }
        match register::<PrivateExpeditedRseq>() {
            Ok(registration) => {
                assert_eq!(registration.restart(), Ok(()));
                assert_eq!(registration.restart_on(0), Ok(()));
                assert_eq!(registration.restart_on(9_999), Ok(()), "nobody runs there");
                all |= Commands::REGISTER_PRIVATE_EXPEDITED_RSEQ;
            }
            Err(failure) => not_offered(failure, offered, Commands::PRIVATE_EXPEDITED_RSEQ),
        }
        registered(all);
    });
}

#[track_caller]
fn not_offered(failure: Failure, offered: Commands, command: Commands) {
    assert_eq!(failure.errno(), libc::EINVAL);
    assert!(!offered.contains(command), "{failure}");
}

/// After a registration for SYNC_CORE or RSEQ the kernel lists PRIVATE_EXPEDITED too, but refuses its call. So
/// `registrations` does not list it.
#[test]
fn a_registration_that_does_not_work_is_not_listed() {
    Child::default().run(|| {
        const PRIVATE: Commands = Commands::REGISTER_PRIVATE_EXPEDITED;
        if let Err(failure) = registrations() {
            return ledger::skipped("GET_REGISTRATIONS", failure);
        }
        if let Err(failure) = register::<PrivateExpeditedSyncCore>() {
            return ledger::skipped("PRIVATE_EXPEDITED_SYNC_CORE", failure);
        }
        let listed = raw(GET_REGISTRATIONS, 0, 0).map(Commands::from_bits_retain);
        assert!(
            listed.expect("as above").contains(PRIVATE),
            "the kernel has learned: no care needed"
        );
        assert_eq!(raw(1 << 3, 0, 0), Err(libc::EPERM));
        assert_eq!(registrations(), Ok(Commands::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE));
        register::<PrivateExpedited>().expect("offered");
        assert!(registrations().expect("as above").contains(PRIVATE));
        // What a sandbox says of the call tells nothing of the registration.
        let refusing = SeccompAction::Errno(libc::EACCES as u32);
        let filter = on_command(MembarrierCommand::PrivateExpedited, refusing);
        seccompiler::apply_filter_all_threads(&filter).expect("the filter is accepted");
        let failure = registrations().expect_err("the sandbox refuses");
        assert_eq!((failure.call(), failure.errno()), (Call::PrivateExpedited, libc::EACCES));
    });
}

#[test]
fn a_registration_that_is_refused_is_no_proof() {
    let filter = on_command(
        MembarrierCommand::RegisterGlobalExpedited,
        SeccompAction::Errno(libc::EACCES as u32),
    );
    Child::under(filter).run(|| {
        let error = register::<GlobalExpedited>().map(drop).expect_err("the sandbox refuses");
        assert_eq!(error.errno(), libc::EACCES);
    });
}

#[test]
fn what_query_does_not_list_is_not_registered_for() {
    Child::under(on_membarrier(SeccompAction::Errno(0))).run(|| {
        assert_eq!(query(), Ok(Commands::empty()));
        let refused = |answer: Result<(), Failure>| {
            assert_eq!(answer.expect_err("a proof of what is not so").errno(), libc::EINVAL);
        };
        refused(register::<GlobalExpedited>().map(drop));
        refused(register::<PrivateExpedited>().map(drop));
        refused(register::<PrivateExpeditedSyncCore>().map(drop));
        refused(register::<PrivateExpeditedRseq>().map(drop));
    });
}

#[test]
fn a_barrier_that_is_refused_in_spite_of_a_proof_is_an_error() {
    Child::default().run(|| {
        let private = register::<PrivateExpedited>().expect("offered");
        in_fork(|| assert_eq!(private.barrier(), Ok(())));
        for (errno, words) in [
            (libc::EPERM, "not registered prior to using private expedited commands"),
            (libc::ENOMEM, "short of memory"),
            (libc::EAGAIN, "short of memory"),
            (libc::EINVAL, "QUERY"),
            (libc::ENOSYS, "not implemented by this kernel"),
        ] {
            in_fork(|| {
                let filter = on_command(
                    MembarrierCommand::PrivateExpedited,
                    SeccompAction::Errno(errno as u32),
                );
                seccompiler::apply_filter(&filter).expect("the filter is accepted");
                let failure = private.barrier().expect_err("refused");
                assert_eq!((failure.call(), failure.errno()), (Call::PrivateExpedited, errno));
                assert!(failure.to_string().contains(words), "{failure}");
                // The message names the errno as the C library does.
                let name = format!("{:?} ({errno})", Errno::from_raw(errno));
                assert!(failure.to_string().contains(&name), "no {name} in: {failure}");
            });
        }
    });
}

#[test]
fn in_a_sandbox_without_membarrier_query_says_why() {
    for errno in ["1", "38"] {
        Child::with("ERRNO", errno).run(|| {
            let errno: i32 = std::env::var("ERRNO").expect("set above").parse().expect("a number");
            let filter = on_membarrier(SeccompAction::Errno(errno as u32));
            seccompiler::apply_filter_all_threads(&filter).expect("the filter is accepted");
            let failure = query().expect_err("refused");
            assert_eq!((failure.call(), failure.errno()), (Call::Query, errno));
            assert_eq!(registrations().expect_err("refused").errno(), errno);
            assert_eq!(global().expect_err("refused").errno(), errno);
            assert_eq!(global_expedited().expect_err("refused").errno(), errno);
            let failure = register::<PrivateExpedited>().expect_err("refused");
            assert_eq!(failure.call(), Call::RegisterPrivateExpedited);
        });
    }
}
