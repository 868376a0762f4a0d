//! A thread that reclaims, so that no retire runs a destructor.
//!
//! It sleeps while nothing waits, and looks once a second. A retire wakes it, without a fence instruction:
//!
//! ```text
//! A (store buffering)   retires                    reclaimer
//!                       puts an object in          asleep = true
//!                       light_fence()              heavy_fence()
//!                       asleep ?                   does anything wait ?
//!                       forbidden: neither sees the other
//! ```

use core::ptr;
use core::time::Duration;
use std::borrow::ToOwned;
use std::boxed::Box;
use std::{io, process};

use asymfence::{light_fence, try_heavy_fence};

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::threads::{
    Builder, Thread, count_forks, current, forks, park, park_timeout, without_signals,
};
use crate::sync::{AtomicBool, AtomicPtr, LOOM, Number};

/// How long the thread waits for more objects before it reclaims, unless so many wait that a heavy fence is worth its
/// cost. It waits for the first of these two pauses. While all waiting objects are protected the pause doubles, up to
/// the second pause.
pub(crate) const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];

/// The reclaimer of a domain, if there is one.
#[derive(Debug)]
pub(crate) struct Background {
    /// The process in which the thread runs, as [`this_process`] names it; 0 if there is no thread. In a child of
    /// fork(2) it names the parent until [`look_whether_it_is_there`](Self::look_whether_it_is_there) has noticed that.
    process: Number,
    /// The handle of the thread that was started last, which is never freed; null before the first. In a child of
    /// fork(2) it may be the parent's.
    thread: AtomicPtr<Thread>,
    /// Whether the thread waits to be woken.
    asleep: AtomicBool,
}

/// The constructor, `const` where the atomics' is.
macro_rules! new {
    ($($constness:ident)?) => {
        pub(crate) $($constness)? fn new() -> Self {
            Background {
                process: Number::new(0),
                thread: AtomicPtr::new(ptr::null_mut()),
                asleep: AtomicBool::new(false),
            }
        }
    };
}

/// The name of a process is one word. The bits of the word below the bit with this index are the process's number. The
/// others count the calls of fork(2) that led to the process. Neither part is enough alone. A child may have the same
/// number as the process that started the thread, in another PID namespace or later, or a filter may refuse to tell the
/// number. And a child that was not made by the C library's fork(2) is not counted.
const FORKS: u32 = usize::BITS - 10;

/// A name of this process: never 0.
fn this_process() -> usize {
    forks() << FORKS | process::id() as usize & NUMBER
}

const NUMBER: usize = (1 << FORKS) - 1;

/// Whether another process has this name.
fn is_another(name: usize) -> bool {
    let own = process::id();
    // A filter may refuse to tell the number: then it is negative.
    // guard survives: the bound by `>=` is the same, since no process has the number 0.
    let is_told = own as i32 > 0;
    let is_child = name >> FORKS != forks() & (usize::MAX >> FORKS);
    is_child || is_told && name & NUMBER != own as usize & NUMBER
}

impl Background {
    crate::sync::const_where_possible!(new);

    /// Whether there is such a thread.
    #[inline]
    pub(crate) fn is_there(&self) -> bool {
        // Relaxed: advice.
        self.process.load(Relaxed) != 0
    }

    /// Notices that this is a child of fork(2), which has no such thread.
    pub(crate) fn look_whether_it_is_there(&self) {
        // Relaxed, all: advice.
        let process = self.process.load(Relaxed);
        if process != 0 && is_another(process) {
            let _ = self.process.compare_exchange(process, 0, Relaxed, Relaxed);
        }
    }

    /// Called after an object was put into a ring. `enough` wakes the thread early.
    pub(crate) fn wake(&self, enough: bool) {
        // Light fence: the object is in the ring before we check whether the reclaimer sleeps.
        // Pairs with: the heavy fence in `sleep` (scenario A).
        light_fence();
        // Relaxed, both: the fences order the object. Of several callers one wakes the reclaimer.
        if (self.asleep.load(Relaxed) && self.asleep.swap(false, Relaxed)) || enough {
            // Acquire: the handle was written before. Pairs with: the Release in `start`. If the handle is not found
            // yet, the light fence came before the heavy one, and the reclaimer sees the object.
            let thread = self.thread.load(Acquire);
            // SAFETY: never freed.
            if let Some(thread) = unsafe { thread.as_ref() } {
                thread.unpark();
            }
        }
    }

    /// Sleeps until something is retired. `waits` tells whether something waits.
    pub(crate) fn sleep(&self, waits: impl Fn() -> bool) {
        // Relaxed: the fence alone orders it.
        self.asleep.store(true, Relaxed);
        // Heavy fence: `asleep` is stored before we check what waits.
        // Pairs with: the light fence in `wake` (scenario A).
        //  - the object came first: we see that it waits, and do not sleep;
        //  - the heavy fence came first: the retiring thread sees that we sleep.
        let fenced = try_heavy_fence();
        match fenced {
            Ok(()) => {
                // Relaxed: the thread that wakes us has executed its light fence. If we do not see its object yet, we
                // see it after the heavy fence of the next `sleep`.
                while !waits() && self.asleep.load(Relaxed) {
                    // With a timeout, because a thread that had retired before the reclaimer started does not announce
                    // its next few objects one by one. (A model has no timeout, so that it finds a lost wake.)
                    // guard survives: it depends on the schedule whether such an object comes while the thread sleeps.
                    if LOOM { park() } else { park_timeout(PAUSES[1]) }
                }
            }
            Err(_) => park_timeout(PAUSES[1]),
        }
        // Relaxed: as above.
        self.asleep.store(false, Relaxed);
    }

    /// Starts the thread, unless it runs already. It does `work` for ever.
    pub(crate) fn start(&'static self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        count_forks();
        let id = this_process();
        // Relaxed, all: one of several callers starts it.
        let mut found = self.process.load(Relaxed);
        loop {
            if found != 0 && !is_another(found) {
                return Ok(()); // it runs, or another caller starts it
            }
            match self.process.compare_exchange(found, id, Relaxed, Relaxed) {
                Ok(_) => break,
                // Another caller has put its name there, or a retire in a child has removed that of the parent.
                Err(now) => found = now,
            }
        }
        let work = move || {
            let handle = Box::into_raw(Box::new(current()));
            // Release: the handle is written. Pairs with: the Acquire in `wake`.
            self.thread.store(handle, Release);
            work();
        };
        let name = "asymfence-hazard".to_owned();
        let started = without_signals(|| Builder::new().name(name).spawn(work));
        if started.is_err() {
            // Relaxed: advice.
            self.process.store(0, Relaxed);
        }
        started.map(drop)
    }
}
