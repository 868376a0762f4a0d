//! The deque where the global allocator is somebody's code: it uses the deque while that grows.
#![cfg(not(feature = "loom"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::thread::LocalKey;

use asymfence_cookbook::deque::{Owner, deque, with_capacity};

/// What an allocation does first, and to which deque.
type Hook = (fn(&Owner<usize>), *const Owner<usize>);

thread_local! {
    /// That of the next large allocation of this thread.
    static HOOK: Cell<Option<Hook>> = const { Cell::new(None) };
    /// The bytes of large allocations that this thread has made and not freed.
    static LARGE: Cell<isize> = const { Cell::new(0) };
}

struct Meddling;

// SAFETY: memory is the system's.
unsafe impl GlobalAlloc for Meddling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // The buffer's, and not the items'.
        let hook = if layout.size() >= 64 { take(&HOOK) } else { None };
        if let Some((meddle, owner)) = hook {
            // SAFETY: set by a test that lends its owner for the time of one push.
            meddle(unsafe { &*owner });
        }
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

fn take<T>(hook: &'static LocalKey<Cell<Option<T>>>) -> Option<T> {
    hook.try_with(Cell::take).ok().flatten()
}

fn count(size: isize) {
    if size.abs() >= 64 {
        let _ = LARGE.try_with(|bytes| bytes.set(bytes.get() + size));
    }
}

#[global_allocator]
static MEDDLING: Meddling = Meddling;

/// Pushes one item too many, and the allocator `meddle`s while the deque grows: then everything is there once.
#[track_caller]
fn all_are_there(meddle: fn(&Owner<usize>), mut expected: Vec<usize>) {
    let (owner, _thief) = deque();
    let capacity = owner.capacity();
    (0..capacity).for_each(|item| owner.push(Box::new(item)));
    let one_too_many = Box::new(capacity);
    HOOK.set(Some((meddle, &owner)));
    owner.push(one_too_many);
    assert!(HOOK.take().is_none(), "the deque has not allocated");
    let mut popped: Vec<_> = std::iter::from_fn(|| owner.pop()).map(|item| *item).collect();
    popped.sort_unstable();
    expected.extend(0..=capacity);
    expected.sort_unstable();
    assert_eq!(popped, expected);
}

#[test]
fn an_allocator_that_pushes_loses_nothing() {
    all_are_there(|owner| owner.push(Box::new(1_000_000)), vec![1_000_000]);
}

#[test]
fn an_allocator_that_pops_and_pushes_loses_nothing() {
    let meddle = |owner: &Owner<usize>| {
        let item = owner.pop().expect("a full deque");
        owner.push(item);
        owner.push(Box::new(1_000_000));
    };
    all_are_there(meddle, vec![1_000_000]);
}

#[test]
fn an_allocator_that_fills_the_next_buffer_loses_nothing() {
    let meddle = |owner: &Owner<usize>| {
        let more = 3 * owner.capacity();
        (1_000_000..).take(more).for_each(|item| owner.push(Box::new(item)));
    };
    let (owner, _thief) = deque::<usize>();
    all_are_there(meddle, (1_000_000..).take(3 * owner.capacity()).collect());
}

/// No thief is in the middle of a steal, so none could read in it.
#[test]
fn a_buffer_that_is_too_small_is_freed_at_once() {
    let before = LARGE.get();
    let (owner, _thief) = with_capacity::<usize>(8);
    (0..1024).for_each(|item| owner.push(Box::new(item)));
    assert_eq!(owner.capacity(), 1024);
    // The slots, and what belongs to the buffer and to the handles. The one before had half as many slots.
    let slots = 1024 * size_of::<usize>() as isize;
    let bytes = LARGE.get() - before;
    assert!((slots..slots + slots / 4).contains(&bytes), "{bytes}");
}
