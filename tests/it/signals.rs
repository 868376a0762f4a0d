//! A heavy fence in a signal handler that interrupts a heavy fence.

use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;

use asymfence::{Call, Reason, Verdict, heavy_fence, init, light_fence, try_heavy_fence};
use nix::sys::pthread::pthread_kill;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::child::Child;
use crate::{force_mprotect, verdict};

static HANDLED: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicBool = AtomicBool::new(false);

extern "C" fn fence_in_handler(_signal: nix::libc::c_int) {
    light_fence();
    if try_heavy_fence().is_err() {
        FAILED.store(true, Relaxed);
    }
    HANDLED.fetch_add(1, Relaxed);
}

/// Interrupts a thread that does nothing but heavy fences, and fences in the handler.
fn handlers_fence_while_their_thread_fences() {
    // SAFETY: a decided process's fences are async-signal-safe, and so are atomics.
    unsafe { signal(Signal::SIGUSR1, SigHandler::Handler(fence_in_handler)) }.expect("a handler");
    static STOP: AtomicBool = AtomicBool::new(false);
    let fencing = thread::spawn(|| {
        while !STOP.load(Relaxed) {
            heavy_fence();
        }
    });
    for sent in 0..2_000 {
        pthread_kill(fencing.as_pthread_t(), Signal::SIGUSR1).expect("the thread runs");
        while HANDLED.load(Relaxed) <= sent {
            thread::yield_now();
        }
    }
    STOP.store(true, Relaxed);
    fencing.join().expect("no panic");
    assert!(!FAILED.load(Relaxed));
}

#[test]
fn heavy_in_a_handler_that_interrupts_a_heavy_fence_works() {
    Child::default().run(|| {
        init();
        handlers_fence_while_their_thread_fences();
    });
}

#[test]
fn heavy_in_a_handler_that_interrupts_a_heavy_fence_works_by_mprotect() {
    Child::default().run(|| {
        if force_mprotect() {
            handlers_fence_while_their_thread_fences();
        }
    });
}

/// The limit of a user may leave room for one locked page and no second one. The fence in the handler locks none: it
/// uses another page of those that were mapped at the decision.
#[test]
fn heavy_in_a_handler_needs_no_second_locked_page() {
    Child::default().run(|| {
        // The size of a page on x86, which alone has the rung.
        let page = 4096;
        setrlimit(Resource::RLIMIT_MEMLOCK, page, page).expect("a limit can be lowered");
        // This thread may be root, for which there is no limit.
        // SAFETY: no memory depends on who runs the thread.
        let answer = unsafe { nix::libc::syscall(nix::libc::SYS_setuid, 65534) };
        assert!(answer == 0 || !rustix::process::getuid().is_root());
        if force_mprotect() {
            handlers_fence_while_their_thread_fences();
        } else if let Some(Verdict::Refused(refusal)) = verdict("mprotect") {
            assert_ne!(refusal.reason(), Reason::Failed(Call::Mlock));
        }
    });
}
