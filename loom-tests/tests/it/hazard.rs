//! The hazard pointers of the library, and structures on them. The library's witness fails a model in
//! which an object is freed while it is protected, or protected after it was freed; loom's cells fail it
//! if the use of an object and its end are not ordered.
//!
//! With a fence removed, weakened or misplaced these must fail: `cargo xtask mutants hazard`.

#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../../examples/hazard/cell.rs"]
mod cell;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../../examples/hazard/queue.rs"]
mod queue;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../../examples/hazard/stack.rs"]
mod stack;

use std::ptr;
use std::sync::Arc;

use asymfence::hazard::{AtomicPtr, Domain, Family};
use asymfence::model::Start;
use loom::cell::UnsafeCell;
use loom::thread;

use crate::{check, is_ever};

const STARTS: [Start; 3] =
    [Start::Asymmetric, Start::Symmetric, Start::Undecided { rung_works: true }];

struct Tests;
impl Family for Tests {}

/// An object whose uses and whose end loom sees.
struct Object(UnsafeCell<bool>);

// SAFETY: loom sees to it.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

impl Object {
    fn new() -> *mut Self {
        Box::into_raw(Box::new(Object(UnsafeCell::new(true))))
    }

    fn assert_alive(&self) {
        // SAFETY: loom fails the model if another thread writes at the same time.
        assert!(self.0.with(|alive| unsafe { *alive }), "used after it was freed");
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: loom fails the model if another thread has not done with it.
        self.0.with_mut(|alive| unsafe { *alive = false });
    }
}

/// A domain, and two places that link an object each.
struct World {
    domain: Domain<Tests>,
    sources: [AtomicPtr<Object, Tests>; 2],
}

impl World {
    fn new() -> Arc<Self> {
        let world =
            World { domain: Domain::new(), sources: [AtomicPtr::null(), AtomicPtr::null()] };
        for source in &world.sources {
            // SAFETY: a box's; freed by `retire`, or by `drop`.
            unsafe { source.store(Object::new()) };
        }
        Arc::new(world)
    }

    fn unlink(&self, source: usize) {
        // SAFETY: null is always allowed.
        let old = unsafe { self.sources[source].swap(ptr::null_mut()) };
        // SAFETY: from a box, and unlinked by us.
        unsafe { self.domain.retire(old) };
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for source in &self.sources {
            let object = source.load();
            if !object.is_null() {
                // SAFETY: linked to the end, and all threads are done.
                drop(unsafe { Box::from_raw(object) });
            }
        }
    }
}

/// One reader, and one who retires and reclaims. True if the object was kept.
fn protect_against_retire() -> bool {
    let world = World::new();
    let reader = {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            let mut hazard = world.domain.hazard_pointer();
            if let Some(object) = hazard.protect(&world.sources[0]) {
                object.assert_alive();
            }
        })
    };
    world.unlink(0);
    let kept = world.domain.reclaim().expect("a heavy fence").kept == 1;
    reader.join().expect("no panic");
    kept
}

#[test]
fn what_is_protected_is_not_freed() {
    for start in STARTS {
        check(start, || drop(protect_against_retire()));
    }
}

/// An object that another thread has made is complete when it is found.
#[test]
fn what_is_protected_is_complete() {
    check(Start::Asymmetric, || {
        let world = World::new();
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let [mut hazard] = world.domain.hazard_pointers();
                hazard.protect(&world.sources[0]).expect("never null").assert_alive();
                let object = world.sources[1].load();
                if let Ok(Some(object)) = hazard.try_protect(object, &world.sources[1]) {
                    object.assert_alive();
                }
            })
        };
        // SAFETY: a box's; freed by `retire`, or by `drop`.
        let old = unsafe { world.sources[0].swap(Object::new()) };
        // SAFETY: from a box, and unlinked by us.
        unsafe { world.domain.retire(old) };
        world.domain.reclaim().expect("a heavy fence");
        reader.join().expect("no panic");
    });
}

/// So the tests above have seen both.
#[test]
fn what_is_protected_is_kept_at_times_and_freed_at_others() {
    assert!(is_ever(Start::Asymmetric, protect_against_retire));
    assert!(is_ever(Start::Asymmetric, || !protect_against_retire()));
}

/// The uses of an object come before its end, also when the hazard pointer goes on to another object.
#[test]
fn a_hazard_pointer_that_goes_on_lets_go_of_what_it_protected() {
    for start in STARTS {
        check(start, || {
            let world = World::new();
            let reader = {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    let mut hazard = world.domain.hazard_pointer();
                    for source in &world.sources {
                        if let Some(object) = hazard.protect(source) {
                            object.assert_alive();
                        }
                    }
                })
            };
            world.unlink(0);
            world.domain.reclaim().expect("a heavy fence");
            reader.join().expect("no panic");
        });
    }
}

/// A slot that one thread gives back and another takes protects for each.
#[test]
fn a_slot_passes_from_thread_to_thread() {
    check(Start::Asymmetric, || {
        let world = World::new();
        let readers = [0, 1].map(|source| {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let mut hazard = world.domain.hazard_pointer();
                if let Some(object) = hazard.protect(&world.sources[source]) {
                    object.assert_alive();
                }
            })
        });
        world.unlink(0);
        world.domain.reclaim().expect("a heavy fence");
        readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
    });
}

/// One thread retires, another reclaims what it finds.
#[test]
fn what_another_thread_has_retired_is_reclaimed_as_ones_own() {
    check(Start::Asymmetric, || {
        let world = World::new();
        let threads: [fn(&World); 2] = [
            |world| {
                let mut hazard = world.domain.hazard_pointer();
                if let Some(object) = hazard.protect(&world.sources[0]) {
                    object.assert_alive();
                }
            },
            |world| world.unlink(0),
        ];
        let threads = threads.map(|body| {
            let world = Arc::clone(&world);
            thread::spawn(move || body(&world))
        });
        world.domain.reclaim().expect("a heavy fence");
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

/// The global domain is made by the first thread: a model's statics synchronise their first user with
/// all others.
fn structure<S: Send + Sync + 'static>(
    make: fn() -> S,
    one: fn(&S),
    other: fn(&S),
) -> impl Fn() + Send + Sync + 'static {
    move || {
        let domain = Domain::global();
        let structure = Arc::new(make());
        let thread = {
            let structure = Arc::clone(&structure);
            thread::spawn(move || other(&structure))
        };
        one(&structure);
        domain.reclaim().expect("a heavy fence");
        thread.join().expect("no panic");
    }
}

#[test]
fn a_stack_hands_out_each_value_once() {
    fn pop(stack: &stack::Stack<Box<u32>>) {
        assert!(stack.pop().is_none_or(|value| *value < 3));
    }
    fn pop_and_push(stack: &stack::Stack<Box<u32>>) {
        let value = stack.pop();
        stack.push(value.unwrap_or_default());
    }
    fn two() -> stack::Stack<Box<u32>> {
        let stack = stack::Stack::new();
        stack.push(Box::new(1));
        stack.push(Box::new(2));
        stack
    }
    check(Start::Asymmetric, structure(two, pop, pop));
    check(Start::Asymmetric, structure(two, pop, pop_and_push));
}

#[test]
fn a_queue_hands_out_each_value_once() {
    type Queue = queue::Queue<Box<u32>>;
    fn one() -> Queue {
        let queue = Queue::new();
        queue.push(Box::new(1));
        queue
    }
    fn pop(queue: &Queue) {
        queue.pop();
    }
    fn push(queue: &Queue) {
        queue.push(Box::new(2));
    }
    check(Start::Asymmetric, structure(one, pop, pop));
    check(Start::Asymmetric, structure(one, pop, push));
}

#[test]
fn a_cell_is_read_while_it_is_replaced() {
    type Cell = cell::ReadMostly<Box<u32>>;
    fn read(cell: &Cell) {
        assert!(**cell.load() < 3);
    }
    fn store(cell: &Cell) {
        cell.store(Box::new(1));
    }
    fn exchange(cell: &Cell) {
        let seen = cell.load();
        let _ = cell.compare_and_swap(&seen, Box::new(2));
    }
    check(Start::Asymmetric, structure(|| Cell::new(Box::new(0)), store, read));
    check(Start::Asymmetric, structure(|| Cell::new(Box::new(0)), exchange, store));
}
