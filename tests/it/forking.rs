//! fork(2) copies the decision and the kernel's registration; exec(2) clears both.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use asymfence::{Strategy, force, heavy_fence, init, strategy, try_heavy_fence};

use crate::child::{Child, needs_procfs, this_binary};
use crate::fork::in_fork;
use crate::{fences_hold, force_mprotect};

#[test]
fn a_panic_in_a_forked_child_is_seen() {
    Child::default().run(|| {
        let seen = catch_unwind(|| in_fork(|| panic!("on purpose")));
        assert!(seen.is_err(), "the assertions of these tests are void");
    });
}

#[test]
fn a_forked_child_keeps_the_decision_and_its_fences_hold() {
    Child::default().run(|| {
        let decided = init();
        in_fork(|| {
            assert_eq!(strategy(), Some(decided));
            fences_hold();
        });
        fences_hold();
    });
}

#[test]
fn a_forked_child_of_an_undecided_process_decides_for_itself() {
    Child::default().run(|| {
        in_fork(|| {
            force(Strategy::Symmetric).expect("nothing was decided before");
            fences_hold();
        });
        assert_eq!(strategy(), None, "the child's decision is its own");
        init();
        fences_hold();
    });
}

/// Forks again and again while another thread is in the middle of a heavy fence.
fn forks_while_another_thread_fences(forks: usize) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                heavy_fence();
            }
        });
        for _ in 0..forks {
            in_fork(|| assert!((0..10).all(|_| try_heavy_fence().is_ok())));
        }
        stop.store(true, Relaxed);
    });
}

#[test]
fn fork_while_another_thread_fences_hangs_nobody() {
    Child::default().run(|| {
        init();
        forks_while_another_thread_fences(200);
    });
}

#[test]
fn fork_while_another_thread_fences_by_mprotect_hangs_nobody() {
    Child::default().run(|| {
        if force_mprotect() {
            forks_while_another_thread_fences(200);
        }
    });
}

/// The child of a fork has one thread, and forks again.
#[test]
fn a_process_of_one_thread_forks_too() {
    Child::default().run(|| {
        needs_procfs();
        in_fork(|| {
            let threads = std::fs::read_dir("/proc/self/task").expect("procfs").count();
            assert_eq!(threads, 1);
            let decided = init();
            in_fork(|| {
                assert_eq!(strategy(), Some(decided));
                fences_hold();
            });
            fences_hold();
        });
    });
}

#[test]
fn exec_forgets_the_decision_and_the_registration() {
    use rustix::thread::{MembarrierCommand, membarrier};

    Child::default().run(|| {
        // The first time through, decide and exec the same test; the second time, look.
        const AGAIN: &str = "ASYMFENCE_TEST_AFTER_EXEC";
        if std::env::var_os(AGAIN).is_none() {
            init();
            use std::os::unix::process::CommandExt;
            let error = this_binary().args(std::env::args_os().skip(1)).env(AGAIN, "1").exec();
            panic!("exec failed: {error}");
        }
        assert_eq!(strategy(), None);
        let unregistered = membarrier(MembarrierCommand::PrivateExpedited);
        assert_eq!(unregistered, Err(rustix::io::Errno::PERM));
        init();
        fences_hold();
    });
}
