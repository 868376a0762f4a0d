//! The hazard pointers of the library, and structures on them. The library's witness fails a model in
//! which an object is freed while it is protected, or protected after it was freed; loom's cells fail it
//! if the use of an object and its end are not ordered.
//!
//! With a fence removed, weakened or misplaced these must fail: `cargo xtask mutants hazard`.
#![cfg(loom)]

#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../hazard/examples/structures/cell.rs"]
mod cell;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../hazard/examples/structures/queue.rs"]
mod queue;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../hazard/examples/structures/stack.rs"]
mod stack;

use std::ptr;
use std::sync::Arc;

use asymfence::model::Start;
use asymfence_hazard::{AtomicPtr, Domain, Family};
use loom::cell::UnsafeCell;
use loom::thread;

use loom_tests::check::{check, check_within, is_ever};

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
        check(start, || _ = protect_against_retire());
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

/// A value that is used once, by one thread, after it was made.
type Value = Box<Object>;

fn value() -> Value {
    // SAFETY: a box's, and ours.
    unsafe { Box::from_raw(Object::new()) }
}

fn used_once(value: Option<Value>) {
    if let Some(value) = value {
        value.assert_alive();
    }
}

#[test]
fn a_stack_hands_out_each_value_once() {
    type Stack = stack::Stack<Value>;
    fn two() -> Stack {
        let stack = Stack::new();
        stack.push(value());
        stack.push(value());
        stack
    }
    fn pop(stack: &Stack) {
        used_once(stack.pop());
    }
    fn pop_twice(stack: &Stack) {
        pop(stack);
        pop(stack);
    }
    fn push(stack: &Stack) {
        stack.push(value());
    }
    fn pop_and_push(stack: &Stack) {
        let value = stack.pop();
        value.into_iter().for_each(|value| stack.push(value));
    }
    check(Start::Asymmetric, structure(two, pop, pop));
    check(Start::Asymmetric, structure(two, pop_twice, pop_and_push));
    check(Start::Asymmetric, structure(Stack::new, push, pop));
    check(Start::Symmetric, structure(two, pop, pop));
}

#[test]
fn a_queue_hands_out_each_value_once() {
    type Queue = queue::Queue<Value>;
    fn of(values: usize) -> Queue {
        let queue = Queue::new();
        (0..values).for_each(|_| queue.push(value()));
        queue
    }
    fn pop(queue: &Queue) {
        used_once(queue.pop());
    }
    fn pop_twice(queue: &Queue) {
        pop(queue);
        pop(queue);
    }
    fn push(queue: &Queue) {
        queue.push(value());
    }
    // Three preemptions take minutes.
    let check = |structure: Box<dyn Fn() + Send + Sync>| {
        check_within(Some(2), Start::Asymmetric, structure)
    };
    // Two threads at the first value.
    check(Box::new(structure(|| of(1), pop, pop)));
    // The one who is stopped at the first node finds the second retired, and freed.
    check(Box::new(structure(|| of(2), pop_twice, pop)));
    // The tail that is left behind would point to a node that is retired.
    check(Box::new(structure(
        || of(0),
        push,
        |queue| {
            pop(queue);
            push(queue);
        },
    )));
}

#[test]
fn a_cell_is_read_while_it_is_replaced() {
    type Cell = cell::ReadMostly<Object>;
    fn make() -> Cell {
        Cell::new(*value())
    }
    fn read(cell: &Cell) {
        cell.load().assert_alive();
    }
    fn store(cell: &Cell) {
        cell.store(*value());
    }
    fn exchange(cell: &Cell) {
        let seen = cell.load();
        seen.assert_alive();
        if let Ok(replaced) = cell.compare_and_swap(&seen, *value()) {
            replaced.assert_alive();
        }
    }
    check(Start::Asymmetric, structure(make, store, read));
    check(Start::Asymmetric, structure(make, exchange, store));
    check(Start::Asymmetric, structure(make, exchange, exchange));
    check(Start::Symmetric, structure(make, store, read));
}
