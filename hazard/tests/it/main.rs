//! Hazard pointers: what is protected is kept, all else is freed, and nothing twice.
#![cfg(target_os = "linux")]
#![cfg_attr(asymfence_symmetric, allow(dead_code, reason = "two modules are left out"))]

#[allow(dead_code, reason = "some is for the tests of the fences")]
#[path = "../../../tests/it/child.rs"]
mod child;
#[allow(dead_code, reason = "some is for the tests of the fences")]
#[path = "../../../tests/it/filter.rs"]
mod filter;
#[cfg(not(asymfence_symmetric))]
#[path = "../../../tests/it/fork.rs"]
mod fork;

#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../examples/structures/list.rs"]
mod list;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../examples/structures/map.rs"]
mod map;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../examples/structures/queue.rs"]
mod queue;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../examples/structures/stack.rs"]
mod stack;

mod bounds;
mod chained;
mod cohorts;
mod domains;
#[cfg(not(asymfence_symmetric))]
mod places;
mod promises;
mod reclaiming;
mod safe;
mod slot;
mod structures;

use std::ptr;
use std::sync::Arc;
use std::sync::atomic;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::ScopedJoinHandle;

use asymfence_hazard::{AtomicBox, DomainStats, Family, Thresholds};

/// What a test's domain reclaims, and when, does not depend on time.
const BY_NUMBERS: Thresholds = Thresholds { pause: None, ..Thresholds::DEFAULT };

/// An object that knows whether it is alive, and is counted when it dies.
#[derive(Debug)]
struct Canary {
    alive: u64,
    deaths: Arc<AtomicUsize>,
}

const ALIVE: u64 = 0x0A11_0A11_0A11_0A11;

impl Canary {
    fn new(deaths: &Arc<AtomicUsize>) -> Self {
        Canary { alive: ALIVE, deaths: Arc::clone(deaths) }
    }

    fn boxed(deaths: &Arc<AtomicUsize>) -> Box<Self> {
        Box::new(Canary::new(deaths))
    }

    #[track_caller]
    fn assert_alive(&self) {
        // SAFETY: a valid reference; volatile, so that the compiler takes nothing for granted.
        assert_eq!(unsafe { ptr::read_volatile(&raw const self.alive) }, ALIVE);
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.assert_alive();
        // SAFETY: ours; volatile, since the compiler would drop a store that nobody is to read.
        unsafe { ptr::write_volatile(&raw mut self.alive, !ALIVE) };
        self.deaths.fetch_add(1, Relaxed);
    }
}

/// Puts a new object in place of that in `source`, which is retired.
fn replace<F: Family>(source: &AtomicBox<Canary, F>, deaths: &Arc<AtomicUsize>) {
    source.store(Canary::boxed(deaths));
}

/// Retires what is left in `source`.
fn end<F: Family>(source: &AtomicBox<Canary, F>) {
    drop(source.take());
}

fn stats<F: Family>() -> DomainStats {
    F::domain().stats()
}

/// Waits until these threads have ended. A scope waits only for their closures: what they do after that, such as
/// leaving a domain, may still be under way when the scope ends.
fn joined(threads: Vec<ScopedJoinHandle<'_, ()>>) {
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// How many wait, and never more than there were: the two numbers are not of one moment.
fn waiting<F: Family>() -> usize {
    let retired = stats::<F>().retired;
    retired.saturating_sub(stats::<F>().freed)
}

/// Retires so many.
fn retire<F: Family>(count: usize, deaths: &Arc<AtomicUsize>) {
    (0..count).for_each(|_| F::domain().retire_box(Canary::boxed(deaths)));
}

/// Reclaims all; how many objects were freed, and kept.
#[track_caller]
fn reclaim<F: Family>() -> (usize, usize) {
    let done = F::domain().reclaim_all().expect("a heavy fence");
    (done.freed, done.kept)
}

/// The most objects that may wait in a domain, as its documentation says.
fn bound<F: Family>() -> usize {
    let stats = stats::<F>();
    bound_of(stats.threads, stats.hazard_pointers)
}

/// The same for so many threads.
fn bound_of(threads: usize, hazard_pointers: usize) -> usize {
    4 * (1024 * threads.max(1)).max(hazard_pointers) + hazard_pointers
}

/// The same while so many threads retire, one of which may be preempted while it makes a heavy fence: then `E` more may
/// wait (see `Domain`; here `E` is 1,024 for each of these threads). When some of these threads have ended, as many may
/// still wait, until others have freed them.
fn bound_while_all_retire(threads: usize) -> usize {
    bound_of(threads, 0) + threads * 1024
}
