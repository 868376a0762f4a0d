//! What a background reclaimer needs of the system: a thread (on Linux and Android it handles no signals, except those
//! that report a fault), a wait (there one that reads no clock), and how many forks led to this process (0 elsewhere).

pub(crate) use std::thread::{Builder, park};

#[cfg(any(target_os = "linux", target_os = "android"))]
mod chosen {
    use core::cell::Cell;
    use core::sync::atomic::AtomicU32;
    use core::sync::atomic::Ordering::{Acquire, Release};
    use core::time::Duration;
    use std::boxed::Box;

    use rustix::thread::futex::{self, Flags};

    /// The handle of a thread that waits by [`park_timeout`]: 1 if it is to go on, or else 0.
    #[derive(Debug)]
    pub(crate) struct Thread(&'static AtomicU32);

    std::thread_local! {
        static OWN: Cell<Option<&'static AtomicU32>> = const { Cell::new(None) };
    }

    impl Thread {
        pub(crate) fn unpark(&self) {
            // Release: what its caller did, for the thread that goes on. Pairs with: the Acquire in `park_timeout`.
            // survives: no model executes it, and x86 keeps this order by itself.
            self.0.store(1, Release);
            // If a filter refuses the call, the wait ends by its timeout.
            let _ = futex::wake(self.0, Flags::PRIVATE, 1);
        }
    }

    /// The handle of this thread, which takes a word for ever.
    pub(crate) fn current() -> Thread {
        let own = OWN.get().unwrap_or_else(|| Box::leak(Box::new(AtomicU32::new(0))));
        OWN.set(Some(own));
        Thread(own)
    }

    /// Waits until somebody wakes this thread by its handle, for at most about this time. May end early.
    ///
    /// Not std's, which reads the clock, to know when the time ends. Its panic, if a sandbox refuses clock_gettime(2) where
    /// no vdso serves it, would end the process.
    pub(crate) fn park_timeout(longest: Duration) {
        let own = current().0;
        // The conversion fails only for times far above an hour, and nobody passes such a time.
        let longest = longest.try_into().ok();
        // Acquire, both: pairs with the Release in `unpark`.
        // survives: as there.
        // guard survives: inverted, a thread that was not woken does not wait, and only takes more time.
        if own.swap(0, Acquire) == 0 {
            // The wait ends when somebody wakes us, or after its time. If a filter refuses the call there is no wait.
            let waited = futex::wait(own, Flags::PRIVATE, 0, longest.as_ref());
            // guard survives: it decides only whether another thread runs between two tries.
            if waited.is_err() {
                std::thread::yield_now();
            }
            // survives: as above.
            own.swap(0, Acquire);
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod chosen {
    pub(crate) use std::thread::{Thread, current, park_timeout};
}

#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
mod by_libc {
    use core::sync::atomic::Ordering::Relaxed;
    use core::sync::atomic::{AtomicBool, AtomicUsize};

    static FORKS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn in_child() {
        // Relaxed: a child has one thread.
        FORKS.fetch_add(1, Relaxed);
    }

    /// Begins to count. Where that fails, a child is recognised by its number alone.
    pub(crate) fn count_forks() {
        static COUNTS: AtomicBool = AtomicBool::new(false);
        // Relaxed: a second handler would only count each fork twice. A child inherits the handlers of its parent.
        if !COUNTS.swap(true, Relaxed) {
            // SAFETY: the handler is async-signal-safe.
            let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        }
    }

    /// Does `starts` while all signals are blocked in this thread, except those that report a fault. A thread that it
    /// starts begins with that mask: a program does not expect that its handlers run there, and each would end a wait
    /// early.
    pub(crate) fn without_signals<T>(starts: impl FnOnce() -> T) -> T {
        use core::mem::MaybeUninit;

        // SIGABRT is not here: abort(3) unblocks it.
        use libc::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};

        let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: it makes the set.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        for fault in [SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP] {
            // SAFETY: the set was made above.
            unsafe { libc::sigdelset(set.as_mut_ptr(), fault) };
        }
        // SAFETY: as above. It stores the mask that was there.
        let is_done =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr()) };
        let result = starts();
        // guard survives: no test's filter refuses the call.
        if is_done == 0 {
            // SAFETY: the mask was stored above.
            unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), core::ptr::null_mut())
            };
        }
        result
    }

    /// How many calls of fork(2) lie between the first process that has counted them and this one.
    pub(crate) fn forks() -> usize {
        // Relaxed: written before the child has a second thread.
        FORKS.load(Relaxed)
    }
}

#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(miri))))]
mod by_libc {
    pub(crate) fn count_forks() {}

    pub(crate) fn forks() -> usize {
        0
    }

    pub(crate) fn without_signals<T>(starts: impl FnOnce() -> T) -> T {
        starts()
    }
}

pub(crate) use by_libc::{count_forks, forks, without_signals};
pub(crate) use chosen::{Thread, current, park_timeout};
