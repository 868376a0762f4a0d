//! Reclaiming in a thread of its own.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crate::background::PAUSES;
use crate::domain::Domain;

impl<F: 'static> Domain<F> {
    /// Starts a thread that reclaims what is retired to this domain. From now on no
    /// [`retire`](Domain::retire) runs a destructor or makes a heavy fence, in whatever thread. If there is such a
    /// thread already, this does nothing.
    ///
    /// The thread sleeps while nothing waits, and ends with the program. What waits when that ends is not freed. A
    /// panic of a destructor is reported by the panic hook, and the thread goes on.
    ///
    /// Threads that retire faster than one thread frees are not held up: then garbage grows.
    ///
    /// A child of fork(2) has no such thread: what it retires is reclaimed as without one, until this is called again.
    /// It is told by its process number, so a child with the number of the process that started the thread is not
    /// noticed: in another PID namespace (PID 1 may fork the PID 1 of another), or when that process has ended and a later
    /// descendant gets its number. There no retire frees anything, and calling this again starts no thread; a call of
    /// [`reclaim`](Domain::reclaim) frees what is retired.
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
    /// If the system starts no thread.
    pub fn reclaim_in_background(&'static self) -> io::Result<()> {
        self.background().start(|| self.reclaim_for_ever())
    }

    fn reclaim_for_ever(&self) -> ! {
        let mut pause = PAUSES[0];
        loop {
            if !self.anything_waits() {
                self.background().sleep(|| self.anything_waits());
                pause = PAUSES[0];
            }
            // The few that came are to be more, but not for long.
            thread::park_timeout(pause);
            let freed = catch_unwind(AssertUnwindSafe(|| self.reclaim()));
            let is_freed = !matches!(freed, Ok(Ok(done)) if done.freed == 0);
            // What a panic carries may panic when it is dropped.
            let _ = freed.map_err(core::mem::forget);
            pause = match is_freed {
                true => PAUSES[0],
                false => PAUSES[1].min(2 * pause),
            };
        }
    }
}
