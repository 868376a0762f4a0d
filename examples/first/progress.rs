use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{self, Thread};

use asymfence::{heavy_fence, init, light_fence};

/// How far one thread has come, and whether another one waits for it.
#[derive(Default)]
struct Progress {
    done: AtomicU64,
    waits: AtomicBool,
}

impl Progress {
    /// Runs for every item. (Release and Acquire hand over the work itself. For the fences alone `Relaxed` would do.)
    fn publish(&self, done: u64, waiter: &Thread) {
        self.done.store(done, Release);
        light_fence(); // no fence instruction
        if self.waits.load(Relaxed) {
            waiter.unpark();
        }
    }

    /// Runs seldom.
    fn wait_for(&self, done: u64) {
        self.waits.store(true, Relaxed);
        heavy_fence(); // either `publish` sees `waits`, or the next line sees `done`
        // `waits` stays set, so every later `publish` sees it.
        while self.done.load(Acquire) < done {
            thread::park();
        }
        self.waits.store(false, Relaxed);
    }
}

fn main() {
    init(); // before the program starts threads or enters a sandbox
    let progress = Arc::new(Progress::default());
    let (theirs, waiter) = (Arc::clone(&progress), thread::current());
    let publisher = thread::spawn(move || {
        for done in 1..=1_000_000 {
            theirs.publish(done, &waiter);
        }
    });
    progress.wait_for(1_000_000);
    publisher.join().unwrap();
}
