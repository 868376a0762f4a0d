//! A registration, and the fork(2) of another thread.
//!
//! FORKED-TOGETHER: a child of fork(2) that has anything that was written after a registration has the registration
//! too. The kernel alone does not promise that. It copies the registration at the start of a fork (`dup_mm`,
//! kernel/fork.c@v6.18) and the memory later, when it gets the lock of the address space (`dup_mmap`). A process that
//! registers between the two would hand its child a decision of which the kernel knows nothing.
//!
//! So a thread that has registered passes once through a lock that the C library holds for as long as the
//! kernel is in a fork. A fork that began before has then ended, and its child has nothing of what is
//! written now. A fork that begins later copies the registration.
//!
//! - glibc from 2.28 on (posix/fork.c, posix/register-atfork.c@2.42) and Android's libc
//!   (bionic/pthread_atfork.cpp) hold the lock of pthread_atfork(3). glibc from 2.36 on lets it go while a
//!   handler runs, but holds it between the last handler before the system call and the first one after it.
//! - musl holds it only if somebody has registered a handler before. But from 1.2.2 on it holds the lock of
//!   pthread_key_create(3) for reading (src/process/fork.c, src/thread/pthread_key_create.c@1.2.5).
//!
//! The child makes no system call for this, so a seccomp filter that it inherits from the parent cannot make it fail. A
//! child of _Fork(3) or of a bare clone(2) takes no lock, and an older C library has none. A plugin that dlmopen(3) has
//! loaded takes the lock of its own copy of the C library, and the program's fork(2) takes another one. For those the
//! documents of `init` and `register` say what holds.

use core::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};

use super::patience::patiently;
use crate::refusal::{Call, Failure};

/// A lock that fork(2) holds around the system call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    Handlers,
    Keys,
}

/// Waits until each fork that another thread has begun has ended. If `done` is set, a thread has waited
/// already. Not async-signal-safe.
pub(super) fn let_end(lock: Lock, done: &AtomicBool) -> Result<(), Failure> {
    // Acquire: the wait of the thread that stored this comes before what we do next. Pairs with the
    // Release below.
    // survives: the wait is in the C library, which no model runs, and x86 keeps this order by itself.
    if !done.load(Acquire) {
        patiently(|| pass(lock))?;
        // Release: our wait comes before what a thread does that sees it done. Pairs with the Acquire
        // above.
        // survives: like the Acquire above.
        done.store(true, Release);
    }
    Ok(())
}

fn pass(lock: Lock) -> Result<(), Failure> {
    let (call, errno) = match lock {
        // No handlers: what counts is the lock. An entry in the library's list is left.
        // SAFETY: handlers may be null.
        Lock::Handlers => (Call::Atfork, unsafe { libc::pthread_atfork(None, None, None) }),
        Lock::Keys => {
            let mut key = 0;
            // SAFETY: the key is ours to write, and has no destructor.
            let errno = unsafe { libc::pthread_key_create(&raw mut key, None) };
            if errno == 0 {
                // SAFETY: the key was created just now, and nobody else knows it.
                unsafe { libc::pthread_key_delete(key) };
            }
            // If no key is free, the library has found that out under the lock, which is enough.
            (Call::KeyCreate, if errno == libc::EAGAIN { 0 } else { errno })
        }
    };
    if errno == 0 { Ok(()) } else { Err(Failure::new(call, errno)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lock_can_be_passed() {
        for lock in [Lock::Handlers, Lock::Keys] {
            let done = AtomicBool::new(false);
            assert_eq!(let_end(lock, &done), Ok(()));
            assert!(done.into_inner());
        }
    }

    #[test]
    #[ignore = "the_lock_of_the_keys_takes_no_key runs it as a child, since no other thread finds a key meanwhile"]
    fn child_that_takes_all_keys() {
        let keys = || -> std::vec::Vec<libc::pthread_key_t> {
            let next = || {
                let mut key = 0;
                // SAFETY: the key is ours to write, and has no destructor.
                let errno = unsafe { libc::pthread_key_create(&raw mut key, None) };
                (errno == 0).then_some(key)
            };
            core::iter::from_fn(next).collect()
        };
        let all = keys();
        assert_eq!(pass(Lock::Keys), Ok(()), "where no key is free");
        for &key in &all {
            // SAFETY: created above, and not used.
            unsafe { libc::pthread_key_delete(key) };
        }
        (0..=all.len()).for_each(|_| assert_eq!(pass(Lock::Keys), Ok(())));
        assert_eq!(keys().len(), all.len(), "it gives each key back");
    }
}
