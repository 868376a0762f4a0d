//! The hazard pointers of the library, and structures on them. The library's witness fails a model in
//! which an object is freed while it is protected, or protected after it was freed; loom's cells fail it
//! if the use of an object and its end are not ordered.
//!
//! With a fence removed, weakened or misplaced these must fail: `cargo xtask mutants hazard`.
#![cfg(loom)]

#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../hazard/examples/structures/list.rs"]
mod list;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../hazard/examples/structures/queue.rs"]
mod queue;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../hazard/examples/structures/stack.rs"]
mod stack;

use std::sync::Arc;

use asymfence::model::Start;
use asymfence_hazard::{
    AtomicBox, Cohort, Domain, Family, HazardCell, HazardPointer, Link, Tagged, Thresholds, domain,
};
use loom::cell::UnsafeCell;
use loom::sync::atomic;
use loom::thread;

use loom_tests::check::{STARTS, check, check_within, is_ever};
use loom_tests::quick;

domain! { enum Tests {} }

/// An object whose uses and whose end loom sees.
struct Object(UnsafeCell<bool>);

// SAFETY: loom sees to it.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

impl Object {
    fn new() -> Self {
        Object(UnsafeCell::new(true))
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

fn object() -> Box<Object> {
    Box::new(Object::new())
}

fn reclaim() -> usize {
    Tests::domain().reclaim().expect("a heavy fence").kept
}

/// Two places that own an object each. A model's statics synchronise their first user with all others, so
/// the first thread makes the domain.
struct World {
    sources: [AtomicBox<Object, Tests>; 2],
}

impl World {
    fn new() -> Arc<Self> {
        let _ = Tests::domain();
        Arc::new(World { sources: [(); 2].map(|()| AtomicBox::from(object())) })
    }

    fn unlink(&self, source: usize) {
        drop(self.sources[source].take());
    }
}

/// One reader, and one who retires and reclaims. True if the object was kept.
fn protect_against_retire() -> bool {
    let world = World::new();
    let reader = {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            let mut hazard = HazardPointer::new();
            if let Some(object) = hazard.protect(&world.sources[0]) {
                object.assert_alive();
            }
        })
    };
    world.unlink(0);
    let kept = reclaim() == 1;
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
                let mut hazard = HazardPointer::new();
                hazard.protect(&world.sources[0]).expect("never null").assert_alive();
                let object = world.sources[1].as_ptr();
                if let Ok(Some(object)) = hazard.try_protect(object, &world.sources[1]) {
                    object.assert_alive();
                }
            })
        };
        world.sources[0].store(object());
        reclaim();
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
                    let mut hazard = HazardPointer::new();
                    for source in &world.sources {
                        if let Some(object) = hazard.protect(source) {
                            object.assert_alive();
                        }
                    }
                })
            };
            world.unlink(0);
            reclaim();
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
                let mut hazard = HazardPointer::new();
                if let Some(object) = hazard.protect(&world.sources[source]) {
                    object.assert_alive();
                }
            })
        });
        world.unlink(0);
        reclaim();
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
                let mut hazard = HazardPointer::new();
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
        reclaim();
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
    object()
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

type Queue = queue::Queue<Value>;

/// The second reclaims: a reclaim in both takes minutes.
fn queues(preemptions: usize, values: usize, one: fn(&Queue), other: fn(&Queue, fn())) {
    check_within(Some(preemptions), Start::Asymmetric, move || {
        let _ = Domain::global();
        let queue = Arc::new(Queue::new());
        (0..values).for_each(|_| queue.push(value()));
        let thread = {
            let queue = Arc::clone(&queue);
            let reclaim = || _ = Domain::global().reclaim().expect("a heavy fence");
            thread::spawn(move || other(&queue, reclaim))
        };
        one(&queue);
        thread.join().expect("no panic");
    });
}

fn pop(queue: &Queue) {
    used_once(queue.pop());
}

fn push(queue: &Queue) {
    queue.push(value());
}

/// Two threads at the first value.
#[test]
fn a_queue_hands_out_each_value_once() {
    queues(2, 1, pop, |queue, reclaim| {
        pop(queue);
        reclaim();
    });
}

/// The one who is stopped at the first node finds the second retired, and freed.
#[test]
fn a_queue_is_popped_while_its_nodes_are_freed() {
    // One preemption leads there. Two take minutes.
    queues(1, 2, pop, |queue, reclaim| {
        pop(queue);
        pop(queue);
        reclaim();
    });
}

/// Who pops moves the tail on for one who was stopped in a push.
#[test]
fn a_queue_is_pushed_to_while_it_is_popped() {
    queues(2, 0, push, |queue, reclaim| {
        pop(queue);
        reclaim();
        push(queue);
    });
}

#[test]
fn a_cell_is_read_while_it_is_replaced() {
    type Cell = HazardCell<Object>;
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

/// Whoever holds an object in a guard of its own holds it wherever the place is.
#[test]
fn a_place_that_is_dropped_keeps_its_object_for_a_guard() {
    check(Start::Asymmetric, || {
        let world = World::new();
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let guard = world.sources[0].load();
                drop(world);
                guard.iter().for_each(|object| object.assert_alive());
            })
        };
        drop(world);
        reclaim();
        reader.join().expect("no panic");
    });
}

/// An object that moves from one place to another is in one of them at a time.
#[test]
fn what_is_put_back_is_protected_where_it_is_found() {
    check(Start::Asymmetric, || {
        let world = World::new();
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let mut hazard = HazardPointer::new();
                for source in world.sources.iter().rev() {
                    if let Some(object) = hazard.protect(source) {
                        object.assert_alive();
                    }
                }
            })
        };
        let object = world.sources[0].take().expect("not null");
        drop(world.sources[1].put_back(object));
        world.unlink(1);
        reclaim();
        reader.join().expect("no panic");
    });
}

type List = list::List<u8, Object, Tests>;

/// A list of the keys 1 and 2.
fn list_of_two() -> List {
    let _ = Tests::domain();
    let list = List::new();
    for key in [1, 2] {
        assert!(list.insert(key, Object::new()).is_ok());
    }
    list
}

fn lists(one: fn(&List), other: fn(&List)) {
    let preemptions = if quick() { 1 } else { 2 };
    check_within(Some(preemptions), Start::Asymmetric, move || {
        let list = Arc::new(list_of_two());
        let thread = {
            let list = Arc::clone(&list);
            thread::spawn(move || other(&list))
        };
        one(&list);
        reclaim();
        thread.join().expect("no panic");
    });
}

fn get(list: &List, key: u8) -> bool {
    list.get(&key).inspect(|entry| entry.value().assert_alive()).is_some()
}

fn remove(list: &List, key: u8) -> bool {
    list.remove(&key).inspect(|entry| entry.value().assert_alive()).is_some()
}

/// The reader that stands on the first node when both have been removed is not led to the second.
#[test]
fn a_reader_of_a_list_is_not_led_to_what_was_freed() {
    lists(
        |list| {
            assert!(remove(list, 1) && remove(list, 2));
        },
        |list| {
            get(list, 2);
        },
    );
}

#[test]
fn an_entry_of_a_list_is_removed_once() {
    lists(
        |list| {
            remove(list, 1);
        },
        |list| {
            remove(list, 1);
            assert!(!get(list, 1));
        },
    );
}

#[test]
fn two_neighbours_are_removed_at_a_time() {
    lists(
        |list| {
            assert!(remove(list, 1));
        },
        |list| {
            assert!(remove(list, 2));
        },
    );
}

#[test]
fn what_is_inserted_behind_a_node_that_is_removed_is_not_lost() {
    lists(
        |list| {
            assert!(remove(list, 2));
        },
        |list| {
            assert!(list.insert(3, Object::new()).is_ok());
            assert!(get(list, 3) && get(list, 1));
        },
    );
}

/// A removal tells those who find it what came before.
#[test]
fn a_removal_synchronises_with_those_who_find_it() {
    struct Shared {
        list: List,
        before: UnsafeCell<u32>,
    }
    // SAFETY: the cell is written before the removal, and read after it was found; loom sees to it.
    unsafe impl Send for Shared {}
    // SAFETY: as above.
    unsafe impl Sync for Shared {}

    check_within(Some(2), Start::Asymmetric, || {
        let world = Arc::new(Shared { list: list_of_two(), before: UnsafeCell::new(0) });
        let removes = Arc::clone(&world);
        let thread = thread::spawn(move || {
            // SAFETY: read only after the removal was found.
            removes.before.with_mut(|before| unsafe { *before = 1 });
            remove(&removes.list, 1);
        });
        if !get(&world.list, 1) {
            // SAFETY: written before the removal, and never again.
            assert_eq!(world.before.with(|before| unsafe { *before }), 1);
        }
        thread.join().expect("no panic");
    });
}

/// A structure whose garbage is its own.
struct Slot {
    current: Link<Object, Tests>,
    cohort: Cohort<Tests>,
}

impl Slot {
    fn store(&self) {
        // SAFETY: retired when it is replaced, or freed by `drop`.
        let old = unsafe { self.current.swap(Tagged::from(object())) };
        if old != Tagged::null() {
            // SAFETY: from a box, unlinked by us alone; readers borrow the slot.
            unsafe { self.cohort.retire(old.as_ptr()) };
        }
    }

    fn read(&self) {
        let mut hazard = HazardPointer::new();
        if let Ok(Some(object)) = hazard.protect_link(&self.current) {
            object.assert_alive();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: a box's, and nobody borrows the slot.
        drop(unsafe { Box::from_raw(self.current.load().as_ptr()) });
    }
}

#[test]
fn a_cohort_frees_what_is_not_protected_and_all_when_it_is_dropped() {
    check(Start::Asymmetric, || {
        let _ = Tests::domain();
        let slot = Arc::new(Slot { current: Link::null(), cohort: Cohort::new(1) });
        slot.store();
        let reader = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.read())
        };
        slot.store(); // reclaims
        reader.join().expect("no panic");
    });
}

/// Whose own assertion fails in a model fails one test: the domain, which outlives the execution, panics no more.
#[test]
#[should_panic(expected = "the model's own assertion")]
fn a_failing_model_with_hazard_pointers_fails_one_test() {
    asymfence::model::model(|| {
        let _hazard = HazardPointer::<Tests>::new();
        Tests::domain().retire_box(object());
        panic!("the model's own assertion");
    });
}

#[test]
fn a_mutant_that_frees_what_is_linked_fails_where_it_is_caught() {
    let mutant = std::panic::catch_unwind(|| {
        asymfence::model::model(|| {
            let first = Box::into_raw(Box::new(1));
            let source = Arc::new(Link::<u32, Tests>::null());
            // SAFETY: from a box.
            unsafe { source.store(Tagged::from(first.cast_const())) };
            let theirs = source.clone();
            let reader = thread::spawn(move || {
                _ = HazardPointer::<Tests>::new().protect_link(&theirs).map(|value| value.copied());
            });
            // SAFETY: none. It is linked: that is the mutant.
            unsafe { Tests::domain().retire(first) };
            reclaim();
            // SAFETY: null frees nothing.
            unsafe { source.store(Tagged::null()) };
            reader.join().expect("no panic");
        });
    });
    assert!(mutant.is_err());
}

/// One thread retires to a cohort, another reclaims what it finds.
#[test]
fn what_another_thread_has_retired_to_a_cohort_is_reclaimed_as_ones_own() {
    check(Start::Asymmetric, || {
        let _ = Tests::domain();
        let slot = Arc::new(Slot { current: Link::null(), cohort: Cohort::new(9) });
        slot.store();
        let other = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.store())
        };
        slot.cohort.reclaim().expect("a heavy fence");
        other.join().expect("no panic");
    });
}

domain! {
    /// A thread looks at its ring at each object, and makes a fence then.
    enum Eager {} = Thresholds { objects: 1, bytes: usize::MAX, pause: None };
}

/// Two places of the eager domain.
struct Places([AtomicBox<Object, Eager>; 2]);

impl Places {
    fn new() -> Arc<Self> {
        let _ = Eager::domain();
        Arc::new(Places([(); 2].map(|()| AtomicBox::from(object()))))
    }

    fn read(&self, place: usize) {
        let mut hazard = HazardPointer::new();
        if let Some(object) = hazard.protect(&self.0[place]) {
            object.assert_alive();
        }
    }
}

/// Runs these beside each other, the last in the first thread.
fn beside<const N: usize>(others: [fn(&Places); N], first: fn(&Places)) {
    beside_within(2, others, first);
}

/// The same, within so many preemptions.
fn beside_within<const N: usize>(preemptions: usize, others: [fn(&Places); N], first: fn(&Places)) {
    check_within(Some(preemptions), Start::Asymmetric, move || {
        let places = Places::new();
        let others = others.map(|other| {
            let places = Arc::clone(&places);
            thread::spawn(move || other(&places))
        });
        first(&places);
        others.into_iter().for_each(|other| other.join().expect("no panic"));
    });
}

fn reclaim_eagerly() {
    Eager::domain().reclaim().expect("a heavy fence");
}

/// The owner of a ring frees what another thread's heavy fence has served. Two preemptions take minutes.
#[test]
fn one_heavy_fence_serves_every_ring() {
    beside_within(1, [|places| places.read(0), |_| reclaim_eagerly()], |places| {
        drop(places.0[0].take());
        Eager::domain().retire_box(object()); // looks again
    });
}

/// The owner frees by its own fences, and scans after them.
#[test]
fn an_owner_frees_what_it_has_retired() {
    beside([|places| places.read(0)], |places| {
        drop(places.0[0].take());
        (0..2).for_each(|_| Eager::domain().retire_box(object()));
    });
}

/// The owner and another take from one ring.
#[test]
fn an_object_of_a_ring_is_freed_once() {
    beside([|_| reclaim_eagerly()], |places| {
        drop(places.0[0].take());
        drop(places.0[1].take());
        reclaim_eagerly();
    });
}

/// A reclaim that was stopped behind its scan knows nothing of what was retired and kept since.
#[test]
fn a_scan_that_is_too_old_condemns_nothing() {
    check_within(Some(3), Start::Asymmetric, || {
        let world = World::new();
        world.unlink(0); // so that the other's reclaim has something to do
        let other = thread::spawn(|| _ = reclaim());
        let mut hazard = HazardPointer::new();
        let object = hazard.protect(&world.sources[1]).expect("never null");
        world.unlink(1);
        reclaim(); // keeps the object
        other.join().expect("no panic"); // while the object is protected
        object.assert_alive();
    });
}

domain! {
    /// A thread looks at its ring at the fourth object, and makes no fence of its own before the eighth.
    enum Patient {} = Thresholds { objects: 8, bytes: usize::MAX, pause: None };
}

/// A place, and so many objects retired before the threads begin.
fn place_and_garbage(retired: usize) -> Arc<AtomicBox<Object, Patient>> {
    (0..retired).for_each(|_| Patient::domain().retire_box(object()));
    Arc::new(AtomicBox::from(object()))
}

fn reclaim_patiently() {
    Patient::domain().reclaim().expect("a heavy fence");
}

/// What is retired behind a heavy fence is not served by it: the next look condemns no more than that fence serves.
#[test]
fn a_heavy_fence_serves_what_was_retired_before_it() {
    check_within(Some(2), Start::Asymmetric, || {
        let place = place_and_garbage(2);
        let threads: [fn(&AtomicBox<Object, Patient>); 2] = [
            |place| {
                let mut hazard = HazardPointer::new();
                if let Some(object) = hazard.protect(place) {
                    object.assert_alive();
                }
            },
            |place| place.take().expect("not null").retire_deferred(),
        ];
        let threads = threads.map(|body| {
            let place = Arc::clone(&place);
            thread::spawn(move || body(&place))
        });
        reclaim_patiently();
        Patient::domain().retire_box(object()); // looks, if it is the fourth
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

/// Who finds that another has made a heavy fence scans the slots behind that fence.
#[test]
fn a_scan_comes_behind_the_heavy_fence_of_another() {
    check_within(Some(2), Start::Asymmetric, || {
        let place = place_and_garbage(3);
        let other = {
            let place = Arc::clone(&place);
            thread::spawn(move || {
                let mut hazard = HazardPointer::new();
                let object = hazard.protect(&place);
                reclaim_patiently();
                object.iter().for_each(|object| object.assert_alive());
            })
        };
        drop(place.take()); // the fourth: looks
        other.join().expect("no panic");
    });
}

/// A ring passes from thread to thread, and grows by a block.
#[test]
fn a_ring_passes_from_thread_to_thread() {
    check_within(Some(2), Start::Asymmetric, || {
        let domain = Tests::domain();
        let retire = move || (0..3).for_each(|_| domain.retire_box(object()));
        let other = thread::spawn(retire);
        retire();
        other.join().expect("no panic");
        let done = domain.reclaim().expect("a heavy fence");
        assert_eq!((domain.stats().freed, done.kept), (6, 0));
    });
}

/// What is left when a model ends may own places whose objects are retired in turn, to a domain that is gone.
#[test]
fn garbage_that_owns_a_place_may_be_left_at_the_end_of_a_model() {
    struct Outer {
        _inner: AtomicBox<u32, Tests>,
    }

    fn outer() -> Box<Outer> {
        Box::new(Outer { _inner: AtomicBox::from(Box::new(1)) })
    }

    asymfence::model::model(|| {
        let place = AtomicBox::<Outer, Tests>::from(outer());
        place.store(outer());
    });
}

/// What is retired while a reclaim is behind its heavy fence already is left to the next.
#[test]
fn what_is_retired_behind_a_heavy_fence_waits_for_the_next() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        world.unlink(0);
        let threads: [fn(&World); 3] = [
            |world| {
                let mut hazard = HazardPointer::new();
                if let Some(object) = hazard.protect(&world.sources[1]) {
                    object.assert_alive();
                }
            },
            |_| _ = reclaim(),
            |world| world.unlink(1),
        ];
        let threads = threads.map(|body| {
            let world = Arc::clone(&world);
            thread::spawn(move || body(&world))
        });
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}
