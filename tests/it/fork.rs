//! A body that runs in a forked child.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// The exit status of a forked child whose body returned. Not 0, which a child may have for another reason.
const HELD: i32 = 42;

/// Forks. The child runs `body`, which must return without a panic.
#[track_caller]
pub(crate) fn in_fork(body: impl FnOnce()) {
    // SAFETY: the test harness's other thread waits for this one. If another thread may hold a lock during the fork,
    // the bodies take only locks that a forked child can still take: the locks of the library, and of glibc's
    // allocator.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            // If the panic left this function, it would end the child's copy of the test, and the child with status 0.
            let held = catch_unwind(AssertUnwindSafe(body)).is_ok();
            // SAFETY: ends the process without running the test harness's destructors.
            unsafe { nix::libc::_exit(if held { HELD } else { 1 }) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, HELD)));
        }
    }
}
