//! An allocator that retires: while `RETIRES` is set, each allocation, and each free of a block larger than one of the
//! objects, runs code of the program, which replaces an object in a place.
#![cfg(target_os = "linux")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use asymfence_hazard::{AtomicBox, Family, HazardPointer, domain};

domain! { enum Tests {} }

const ALIVE: u64 = 0x0A11_0A11_0A11_0A11;

static NEWEST: AtomicBox<Canary, Tests> = AtomicBox::null();
static CONFIG: AtomicBox<Canary, Tests> = AtomicBox::null();

/// What the allocator has retired, and what was freed.
static NESTED: AtomicUsize = AtomicUsize::new(0);
static FREED: AtomicUsize = AtomicUsize::new(0);

struct Canary(u64);

impl Canary {
    fn boxed() -> Box<Self> {
        Box::new(Canary(ALIVE))
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        assert_eq!(std::mem::replace(&mut self.0, 0), ALIVE, "freed twice, or foreign");
        FREED.fetch_add(1, Relaxed);
    }
}

thread_local! {
    /// How many objects each allocation of this thread retires: 0 except in `while_the_allocator_retires`, and 0 while
    /// the allocator itself retires.
    static RETIRES: Cell<usize> = const { Cell::new(0) };
}

struct Retiring;

impl Retiring {
    fn retire(&self) {
        let count = RETIRES.replace(0);
        for _ in 0..count {
            NESTED.fetch_add(1, Relaxed);
            NEWEST.store(Canary::boxed());
        }
        RETIRES.set(count);
    }
}

// SAFETY: every allocation is the system's.
unsafe impl GlobalAlloc for Retiring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.retire();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // Without this condition each object that is freed would retire another one, for ever.
        if layout.size() > size_of::<Canary>() {
            self.retire();
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Retiring = Retiring;

/// Does `work` while each allocation retires so many objects.
fn while_the_allocator_retires(count: usize, work: impl FnOnce()) {
    RETIRES.set(count);
    work();
    RETIRES.set(0);
}

#[test]
fn what_an_allocator_retires_in_the_middle_of_a_retire_is_freed_once() {
    let work = |count| {
        let mut hazard = HazardPointer::<Tests>::new();
        let protected = hazard.protect(&CONFIG);
        while_the_allocator_retires(count, || {
            for _ in 0..1_000 {
                CONFIG.store(Canary::boxed());
            }
            drop(HazardPointer::<Tests>::array::<9>());
            Tests::domain().reclaim().expect("a heavy fence");
        });
        protected.into_iter().for_each(|canary| assert_eq!(canary.0, ALIVE));
    };
    asymfence::init();
    CONFIG.store(Canary::boxed());
    // 70 is more than a block of a ring holds: so the ring that the inner retires take is full too.
    for count in [1, 2, 70] {
        work(count);
        // The end of a scope does not wait for the end of a thread's locals. A join does.
        let threads = [0, 1].map(|_| thread::spawn(move || work(count)));
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
    assert!(NESTED.load(Relaxed) > 9_000);
    drop((CONFIG.take(), NEWEST.take()));
    let done = Tests::domain().reclaim_all().expect("a heavy fence");
    let stats = Tests::domain().stats();
    assert_eq!((done.kept, stats.waiting()), (0, 0));
    assert_eq!(stats.retired, FREED.load(Relaxed));
    // Each thread had one ring when it ended. This thread still has its ring, if threads keep one (with `std`).
    assert_eq!(stats.threads, usize::from(cfg!(feature = "std")));
}
