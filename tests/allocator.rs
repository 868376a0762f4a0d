//! An allocator that executes fences: so the decision, the fences and the reports must not allocate.
#![cfg(all(target_os = "linux", feature = "std", not(any(feature = "loom", asymfence_symmetric))))]

#[allow(dead_code, reason = "sandboxes are tests/it's")]
#[path = "it/child.rs"]
mod child;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use asymfence::{
    Strategy, heavy_fence, init, ladder, light_fence, stats, strategy, try_heavy_fence,
};

use child::Child;

struct Fencing;

/// Allocations from inside of an allocation.
static NESTED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ALLOCATING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` as the allocator would, and returns how often it allocated.
fn allocations_in(body: impl FnOnce()) -> usize {
    let before = NESTED.load(Relaxed);
    let outer = ALLOCATING.replace(true);
    body();
    ALLOCATING.set(outer);
    NESTED.load(Relaxed) - before
}

// SAFETY: every allocation is the system's.
unsafe impl GlobalAlloc for Fencing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ALLOCATING.get() {
            NESTED.fetch_add(1, Relaxed);
        } else {
            allocations_in(heavy_fence);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Fencing = Fencing;

fn nothing_allocates() {
    assert_eq!(NESTED.load(Relaxed), 0, "the decision, or a fence in the allocator");
    let allocations = allocations_in(|| {
        init();
        light_fence();
        heavy_fence();
        let _ = try_heavy_fence();
        let _ = strategy();
        let _ = stats();
        assert_ne!(ladder().count(), 0);
    });
    assert_eq!(allocations, 0);
}

#[test]
fn an_allocator_may_fence() {
    Child::default().run(|| {
        assert!(
            matches!(strategy(), Some(Strategy::Asymmetric(_))),
            "decided by the first allocation"
        );
        nothing_allocates();
    });
}

#[test]
fn an_allocator_may_fence_where_the_environment_switches_off() {
    for word in ["symmetric", "asymmetric"] {
        Child::with("ASYMFENCE", word).run(|| {
            assert_eq!(strategy(), Some(Strategy::Symmetric));
            nothing_allocates();
            // The twin: what the standard library does with a variable that is set.
            assert_ne!(allocations_in(|| drop(std::env::var_os("ASYMFENCE"))), 0);
        });
    }
}
