//! Hazard pointers: what is protected is kept, all else is freed, and nothing twice.
#![cfg(target_os = "linux")]
#![cfg_attr(asymfence_symmetric, allow(dead_code, reason = "one module is left out"))]

#[allow(dead_code, reason = "some is for the tests of the fences")]
#[path = "../../../tests/it/child.rs"]
mod child;
#[allow(dead_code, reason = "some is for the tests of the fences")]
#[path = "../../../tests/it/filter.rs"]
mod filter;
#[cfg(not(asymfence_symmetric))]
#[path = "../../../tests/it/fork.rs"]
mod fork;

#[cfg(not(asymfence_symmetric))]
mod places;
mod reclaiming;
mod structures;

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use asymfence_hazard::{AtomicPtr, Domain, Family};

struct Tests;
impl Family for Tests {}

type Source = AtomicPtr<Canary, Tests>;

/// An object that knows whether it is alive, and is counted when it dies.
#[derive(Debug)]
struct Canary {
    alive: u64,
    deaths: Arc<AtomicUsize>,
}

const ALIVE: u64 = 0x0A11_0A11_0A11_0A11;

impl Canary {
    fn new(deaths: &Arc<AtomicUsize>) -> *mut Self {
        Box::into_raw(Box::new(Canary { alive: ALIVE, deaths: Arc::clone(deaths) }))
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
fn replace(domain: &Domain<Tests>, source: &Source, deaths: &Arc<AtomicUsize>) {
    // SAFETY: a box's; freed by `retire`, or at the end of a test, by `end`.
    let old = unsafe { source.swap(Canary::new(deaths)) };
    if !old.is_null() {
        // SAFETY: from a box, and unlinked by us alone.
        unsafe { domain.retire(old) };
    }
}

/// Retires what is left in `source`.
fn end(domain: &Domain<Tests>, source: &Source) {
    // SAFETY: null is always allowed.
    let old = unsafe { source.swap(ptr::null_mut()) };
    // SAFETY: as in `replace`.
    unsafe { domain.retire(old) };
}

/// The most objects that may wait in a domain while nobody else reclaims.
fn bound(domain: &Domain<Tests>) -> usize {
    2 * domain.stats().hazard_pointers + 1536
}
