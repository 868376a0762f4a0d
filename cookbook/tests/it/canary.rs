//! An object that tells of its use after its end.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// An object that knows whether it is alive, and is counted when it dies.
#[derive(Debug)]
pub(crate) struct Canary {
    alive: u64,
    pub(crate) number: usize,
    deaths: Arc<AtomicUsize>,
}

const ALIVE: u64 = 0x0A11_0A11_0A11_0A11;

impl Canary {
    pub(crate) fn new(number: usize, deaths: &Arc<AtomicUsize>) -> Self {
        Canary { alive: ALIVE, number, deaths: Arc::clone(deaths) }
    }

    #[track_caller]
    pub(crate) fn assert_alive(&self) {
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
