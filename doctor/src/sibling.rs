//! Threads beside what is measured. A heavy fence interrupts those that run.

use std::io::{self, Write, stderr};
use std::process::exit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread::{self, Builder, Scope, ScopedJoinHandle};

use core_affinity::CoreId;

/// The cores of this process. Asked once, before any thread stays on one: its children inherit that, and
/// would know of no other.
pub(crate) fn cores() -> &'static [CoreId] {
    static CORES: OnceLock<Vec<CoreId>> = OnceLock::new();
    CORES.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default())
}

/// Whether the system refused to keep a thread on its core. Relaxed: a flag for the report.
static STRAYED: AtomicBool = AtomicBool::new(false);

/// Keeps the calling thread on this core, if the system allows that.
fn stay_on(core: CoreId) {
    if !core_affinity::set_for_current(core) {
        STRAYED.store(true, Relaxed);
    }
}

#[allow(dead_code, reason = "for the doctor's report; benches use this file too")]
pub(crate) fn have_strayed() -> bool {
    STRAYED.load(Relaxed)
}

/// Does `work` on the first core, while `running` threads do `theirs` over and over on the others, and `sleeping`
/// threads wait for the end. `None` if the cores are not known, or if threads are to run beside the work and there is
/// no second core.
pub(crate) fn beside<T: Send>(
    running: usize,
    sleeping: usize,
    theirs: impl Fn() + Sync,
    work: impl FnOnce() -> T + Send,
) -> Option<T> {
    let (&mine, others) = cores().split_first()?;
    if running > 0 && others.is_empty() {
        return None;
    }
    // Relaxed, all accesses: a count and a flag. What the threads did is ordered by their end.
    let (started, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let is_over = || stop.load(Relaxed);
    Some(thread::scope(|scope| {
        for i in 0..running {
            let (theirs, started) = (&theirs, &started);
            start(scope, move || {
                stay_on(others[i % others.len()]);
                theirs();
                started.fetch_add(1, Relaxed);
                while !is_over() {
                    theirs();
                }
            });
        }
        let sleep = || {
            started.fetch_add(1, Relaxed);
            while !is_over() {
                thread::park();
            }
        };
        let asleep: Vec<_> = (0..sleeping).map(|_| start(scope, sleep)).collect();
        let worker = start(scope, || {
            stay_on(mine);
            while started.load(Relaxed) < running + sleeping {
                thread::yield_now();
            }
            // Also if the work panics, or the scope would wait for ever.
            let _end = Defer(|| stop.store(true, Relaxed));
            work()
        });
        let result = worker.join();
        asleep.iter().for_each(|thread| thread.thread().unpark());
        result.expect("the work does not panic")
    }))
}

/// Starts a thread. If that is refused, it ends the program with exit code 2: the scope would wait for ever for the
/// threads that have started.
fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    Builder::new().spawn_scoped(scope, work).unwrap_or_else(|error| {
        _ = writeln!(stderr(), "a thread cannot be created: {error}");
        exit(2)
    })
}

/// Whether so many threads can be there at once.
#[allow(dead_code, reason = "the doctor asks, and no benchmark")]
pub(crate) fn can_start(threads: usize) -> io::Result<()> {
    let mut started = Vec::new();
    let outcome = (0..threads).try_for_each(|_| {
        let (end, ended) = channel::<()>();
        let thread = Builder::new().spawn(move || _ = ended.recv())?;
        started.push((end, thread));
        Ok(())
    });
    for (end, thread) in started {
        drop(end);
        _ = thread.join();
    }
    outcome
}

struct Defer<F: Fn()>(F);

impl<F: Fn()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The middle of the samples.
#[allow(dead_code, reason = "benches/light.rs takes minima")]
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
