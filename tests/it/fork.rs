//! A body that runs in a forked child.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// How a fork's child ends whose body held. Not 0, with which a child might end by another way.
const HELD: i32 = 42;

/// Forks; the child runs `body`, which must come to its end without a panic.
#[track_caller]
pub(crate) fn in_fork(body: impl FnOnce()) {
    // SAFETY: where another thread may hold a lock, the bodies below take none and allocate nothing;
    // the test harness's other thread waits for this one. glibc's allocator survives a fork.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            // Out of here the panic would end the child's copy of the test, and the child, with 0.
            let held = catch_unwind(AssertUnwindSafe(body)).is_ok();
            // SAFETY: ends the process without running the test harness's destructors.
            unsafe { nix::libc::_exit(if held { HELD } else { 1 }) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, HELD)));
        }
    }
}
