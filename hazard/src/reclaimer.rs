//! Reclaiming in a thread of its own.

use std::io;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::background::PAUSES;
use crate::domain::Domain;
use crate::sync::threads::park_timeout;
use crate::untyped::{Reclaimed, Untyped};

impl<F: 'static> Domain<F> {
    /// Starts a thread that reclaims the objects that are retired to this domain. From now on
    /// [`retire`](Domain::retire) runs no destructor and executes no heavy fence, in any thread. If there is such a
    /// thread already, this does nothing.
    ///
    /// The thread sleeps while nothing waits, but looks once a second, and ends with the program. It inherits the
    /// filters of the thread that calls this. (If a filter kills the new thread alone, SECCOMP_RET_KILL_THREAD, nothing
    /// notices that: garbage grows, and another call of this does nothing.) A retire wakes it. While all waiting
    /// objects are protected, a retire wakes it only if a heavy fence is due by the number of objects or bytes.
    /// Otherwise it looks again after a pause, which doubles from a millisecond up to a second. The pause doubles too
    /// while heavy fences fail. (A thread that has retired objects before this call may retire a few more without
    /// waking it: fewer than [`Thresholds::at_once`](crate::Thresholds::at_once), so up to three by default. They are
    /// freed within two seconds. All these times may be longer by the thread's timer slack (prctl(2),
    /// PR_SET_TIMERSLACK), which it inherits.) Objects that wait at the end of the program are not freed. If a
    /// destructor panics, the panic hook reports it, and the thread continues. On Linux and Android it waits by
    /// futex(2), without reading the clock (if a filter refuses that call, it does not wait, and looks all the time),
    /// and it blocks all signals except those that report a fault (SIGSEGV, for example), unless a filter refuses
    /// rt_sigprocmask(2). Threads and programs that a destructor starts there inherit that mask. Elsewhere it waits by
    /// [`std::thread::park_timeout`].
    ///
    /// Nothing holds back threads that retire: if they retire faster than one thread frees, garbage grows.
    ///
    /// A child of fork(2) has no such thread. A thread of the child notices this when its retire reads the clock, as
    /// the time bullet of [`Domain`] says; or, if [`Thresholds::pause`](crate::Thresholds::pause) is `None`, within its
    /// first 64 retires. From then on the child reclaims as if this had never been called, until it calls this again.
    /// (The child must not make that call in a handler of pthread_atfork(3) that was registered before the first call
    /// of this. Otherwise it takes the new thread for lost.) If a thread of the parent was starting or ending a thread,
    /// or changing the environment, at the moment of the fork, locks of std may stay locked in the child. Then the new
    /// thread waits for ever, so that nothing is freed although this call returned `Ok`; or this call itself waits for
    /// ever. So call it in a child only if the parent had no other threads. On Linux and Android a child is recognised
    /// by a handler of pthread_atfork(3), and by its process number if a bare clone(2) made it, which calls no handler.
    /// Elsewhere it is recognised by its number alone. A child for which no handler has run is not recognised if a
    /// filter refuses getpid(2), or if it has the same number as the process that started the thread. That can happen
    /// in another PID namespace (PID 1 may fork the PID 1 of another), or if that process has ended and a later
    /// descendant reuses its number. In such a child no retire frees anything, and calling this again starts no thread;
    /// but [`reclaim`](Domain::reclaim) frees what is retired.
    ///
    /// A process that shares the memory of its parent (a child of vfork(2), or of clone(2) with `CLONE_VM` and without
    /// `CLONE_THREAD`) must not retire. It has another process number, so the domain would take the thread for lost:
    /// all threads would reclaim again, and calling this again would start a second thread.
    ///
    /// ```
    /// use asymfence_hazard::{AtomicBox, Family, domain};
    ///
    /// domain! { enum Routes {} }
    /// Routes::domain().reclaim_in_background()?;
    /// static TABLE: AtomicBox<String, Routes> = AtomicBox::null();
    /// TABLE.store(Box::new("freed by another thread".to_owned()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the operating system cannot start a thread. (Another thread that makes this call meanwhile gets `Ok`.)
    pub fn reclaim_in_background(&'static self) -> io::Result<()> {
        let untyped = self.untyped();
        untyped.background().start(|| untyped.reclaim_for_ever())
    }
}

impl Untyped {
    fn reclaim_for_ever(&self) -> ! {
        let mut pause = PAUSES[0];
        loop {
            // guard survives: without this sleep an object is found up to a second later, and no test looks at the time.
            if !self.anything_waits() {
                self.background().sleep(|| self.anything_waits());
                pause = PAUSES[0];
            }
            // Few objects have come. Wait for more, but not for long.
            park_timeout(pause);
            // The payload of a panic may panic when it is dropped.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.reclaim())).map_err(forget);
            pause = next_pause(pause, &outcome);
        }
    }
}

/// The pause after a reclaim with this outcome. The outer `Err` is a panic of a destructor. Then the other objects of
/// the batch were freed.
fn next_pause<E>(last: Duration, outcome: &Result<Result<Reclaimed, E>, ()>) -> Duration {
    match outcome {
        Ok(Ok(Reclaimed { freed: 0, .. }) | Err(_)) => PAUSES[1].min(2 * last),
        _ => PAUSES[0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_nothing_can_be_freed_the_pause_doubles() {
        let done = |freed| Ok(Ok::<_, &str>(Reclaimed { freed, kept: 1 }));
        let (mut pause, mut pauses) = (PAUSES[0], 0);
        while pause < PAUSES[1] {
            assert_eq!(next_pause(pause, &done(0)), PAUSES[1].min(2 * pause));
            pause = next_pause(pause, &done(0));
            pauses += 1;
        }
        assert_eq!((next_pause(pause, &done(0)), pauses), (PAUSES[1], 10));
        assert_eq!(next_pause(PAUSES[0], &Ok(Err("no barrier"))), 2 * PAUSES[0]);
        // The twins: something was freed, or a destructor panicked.
        assert_eq!([done(1), Err(())].map(|outcome| next_pause(pause, &outcome)), [PAUSES[0]; 2]);
    }
}
