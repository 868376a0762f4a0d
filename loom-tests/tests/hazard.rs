//! The hazard pointers of the library, and structures on them. The library's witness fails a model in
//! which an object is freed while it is protected, or protected after it was freed; loom's cells fail it
//! if the use of an object and its end are not ordered.
//!
//! `cargo xtask mutants hazard` removes, weakens or misplaces a fence: then a model here must fail.
#![cfg(loom)]

extern crate alloc;

#[allow(
    dead_code,
    reason = "a part of the library, of which models use `start`, `wake` and `sleep`"
)]
#[path = "../../hazard/src/background.rs"]
mod background;
#[path = "../../hazard/src/freed.rs"]
mod freed;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../hazard/examples/structures/list.rs"]
mod list;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../hazard/examples/structures/map.rs"]
mod map;
#[allow(dead_code, reason = "a part of the library")]
#[path = "../../hazard/src/noted.rs"]
mod noted;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../hazard/examples/structures/queue.rs"]
mod queue;
#[allow(dead_code, reason = "some is for the tests of the hazard pointers")]
#[path = "../../hazard/tests/it/slot.rs"]
mod slot;
#[allow(dead_code, reason = "a part of the library")]
#[path = "../../hazard/src/slots.rs"]
mod slots;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../hazard/examples/structures/stack.rs"]
mod stack;

use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use asymfence::model::Start;
use asymfence_hazard::{
    AtomicBox, Chain, Domain, Family, Follow, HazardCell, HazardPointer, Link, NewNode, NodeGuard,
    Place, Protected, Tagged, Thresholds, domain,
};
use loom::cell::UnsafeCell;
use loom::sync::atomic;
use loom::thread;

use loom_tests::check::{STARTS, check, check_within, is_ever};
use loom_tests::quick;
use slot::Slot;

domain! { enum Tests {} }

/// An object whose uses and whose end loom checks.
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
        // SAFETY: loom fails the model if another thread may still use it.
        self.0.with_mut(|alive| unsafe { *alive = false });
    }
}

fn object() -> Box<Object> {
    Box::new(Object::new())
}

fn reclaim() -> usize {
    Tests::domain().reclaim().expect("a heavy fence").kept
}

/// Uses what `source` holds.
fn read<F: Family>(source: &AtomicBox<Object, F>) {
    if let Some(object) = HazardPointer::new().protect(source) {
        object.assert_alive();
    }
}

/// Runs `others` and `first` concurrently, `first` in the first thread, and returns its result.
fn beside<W: Send + Sync + 'static, R, const N: usize>(
    world: &Arc<W>,
    others: [fn(&W); N],
    first: impl FnOnce(&W) -> R,
) -> R {
    let others = others.map(|other| {
        let world = Arc::clone(world);
        thread::spawn(move || other(&world))
    });
    let done = first(world);
    others.into_iter().for_each(|other| other.join().expect("no panic"));
    done
}

/// Two places, each of which owns an object. In a model a static synchronises its first user with all others, so
/// the first thread creates the domain.
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

    fn unlink_and_reclaim(&self, source: usize) -> usize {
        self.unlink(source);
        reclaim()
    }
}

/// One thread reads, and one retires and reclaims. True if the object was kept.
fn protect_against_retire() -> bool {
    let others: [fn(&World); 1] = [|world| read(&world.sources[0])];
    beside(&World::new(), others, |world| world.unlink_and_reclaim(0) == 1)
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
        let reader = |world: &World| {
            let mut hazard = HazardPointer::new();
            hazard.protect(&world.sources[0]).expect("never null").assert_alive();
            let object = world.sources[1].as_ptr();
            if let Ok(Some(object)) = hazard.try_protect(object, &world.sources[1]) {
                object.assert_alive();
            }
        };
        beside(&World::new(), [reader], |world| {
            world.sources[0].store(object());
            reclaim();
        });
    });
}

/// One hazard pointer that is used on one source after the other.
fn protect_again_each(world: &World, sources: &[usize]) {
    let mut hazard = HazardPointer::new();
    for &source in sources {
        if let Some(object) = hazard.protect_again(&world.sources[source]) {
            object.assert_alive();
        }
    }
}

/// A hazard pointer protects its own object again without a store, and another object by a store.
#[test]
fn what_is_protected_again_is_not_freed() {
    for start in STARTS {
        check(start, || {
            let reader = |world: &World| protect_again_each(world, &[0, 0, 1]);
            beside(&World::new(), [reader], |world| _ = world.unlink_and_reclaim(0));
        });
    }
    check(Start::Asymmetric, || {
        let reader = |world: &World| protect_again_each(world, &[0, 1]);
        beside(&World::new(), [reader], |world| _ = world.unlink_and_reclaim(1));
    });
}

/// The light fence is that of the thread that had the hazard pointer before.
#[test]
fn a_hazard_pointer_that_was_sent_to_another_thread_protects_again() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let mut hazard = HazardPointer::new();
                let _ = hazard.protect(&world.sources[0]);
                let theirs = Arc::clone(&world);
                let other = thread::spawn(move || {
                    if let Some(object) = hazard.protect_again(&theirs.sources[0]) {
                        object.assert_alive();
                    }
                });
                other.join().expect("no panic");
            })
        };
        world.unlink_and_reclaim(0);
        reader.join().expect("no panic");
    });
}

/// An object whose address was published before it was complete.
struct Known {
    object: *mut Object,
    source: AtomicBox<Object, Tests>,
}

// SAFETY: the reader uses the address alone.
unsafe impl Send for Known {}
// SAFETY: as above.
unsafe impl Sync for Known {}

#[test]
fn what_is_protected_again_is_complete() {
    check(Start::Asymmetric, || {
        let _ = Tests::domain();
        let object = Box::into_raw(object());
        let world = Arc::new(Known { object, source: AtomicBox::null() });
        let reader = |world: &Known| {
            let mut hazard = HazardPointer::new();
            hazard.protect_raw(world.object);
            if let Some(object) = hazard.protect_again(&world.source) {
                object.assert_alive();
            }
        };
        beside(&world, [reader], |world| {
            // SAFETY: nobody else looks into it before it is stored.
            let object = unsafe { Box::from_raw(world.object) };
            // SAFETY: as above.
            object.0.with_mut(|alive| unsafe { *alive = true });
            world.source.store(object);
        });
    });
}

/// So the tests above have seen both cases.
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
            let reader = |world: &World| {
                let mut hazard = HazardPointer::new();
                for source in &world.sources {
                    if let Some(object) = hazard.protect(source) {
                        object.assert_alive();
                    }
                }
            };
            beside(&World::new(), [reader], |world| _ = world.unlink_and_reclaim(0));
        });
    }
}

/// A slot that one thread gives back and another takes protects for each.
#[test]
fn a_slot_passes_from_thread_to_thread() {
    check(Start::Asymmetric, || {
        let readers: [fn(&World); 2] =
            [|world| read(&world.sources[0]), |world| read(&world.sources[1])];
        beside(&World::new(), readers, |world| _ = world.unlink_and_reclaim(0));
    });
}

/// One thread retires, another reclaims what it finds.
#[test]
fn what_another_thread_has_retired_is_reclaimed_as_ones_own() {
    check(Start::Asymmetric, || {
        let others: [fn(&World); 2] = [|world| read(&world.sources[0]), |world| world.unlink(0)];
        beside(&World::new(), others, |_| _ = reclaim());
    });
}

/// The first thread creates the global domain: in a model a static synchronises its first user with all others.
fn structure<S: Send + Sync + 'static>(
    make: fn() -> S,
    one: fn(&S),
    other: fn(&S),
) -> impl Fn() + Send + Sync + 'static {
    move || {
        let domain = Domain::global();
        beside(&Arc::new(make()), [other], |structure| {
            one(structure);
            domain.reclaim().expect("a heavy fence");
        });
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
fn queues(preemptions: usize, values: usize, one: fn(&Queue), other: fn(&Queue)) {
    check_within(Some(preemptions), Start::Asymmetric, move || {
        let _ = Domain::global();
        let queue = Arc::new(Queue::new());
        (0..values).for_each(|_| queue.push(value()));
        beside(&queue, [other], one);
    });
}

fn reclaim_global() {
    Domain::global().reclaim().expect("a heavy fence");
}

fn pop(queue: &Queue) {
    used_once(queue.pop());
}

fn push(queue: &Queue) {
    queue.push(value());
}

/// Two threads are at the first value.
#[test]
fn a_queue_hands_out_each_value_once() {
    queues(2, 1, pop, |queue| {
        pop(queue);
        reclaim_global();
    });
}

/// A thread that is stopped at the first node finds the second one retired and freed.
#[test]
fn a_queue_is_popped_while_its_nodes_are_freed() {
    // One preemption is enough to get there. Two take minutes.
    queues(1, 2, pop, |queue| {
        pop(queue);
        pop(queue);
        reclaim_global();
    });
}

/// A pop moves the tail forward for a thread that was stopped in a push.
#[test]
fn a_queue_is_pushed_to_while_it_is_popped() {
    queues(2, 0, push, |queue| {
        pop(queue);
        reclaim_global();
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

/// An owning guard keeps its object after the place is gone.
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
        let reader = |world: &World| {
            let mut hazard = HazardPointer::new();
            for source in world.sources.iter().rev() {
                if let Some(object) = hazard.protect(source) {
                    object.assert_alive();
                }
            }
        };
        beside(&World::new(), [reader], |world| {
            let object = world.sources[0].take().expect("not null");
            drop(world.sources[1].put_back(object));
            world.unlink_and_reclaim(1);
        });
    });
}

/// Two threads exchange what they have seen. Each object is complete, and one of them replaces it.
#[test]
fn what_is_exchanged_is_complete_and_is_replaced_by_one() {
    fn seen(world: &World) -> Protected<Object, Tests> {
        let seen = world.sources[0].load().expect("never empty");
        seen.assert_alive();
        seen
    }
    fn exchange(world: &World) {
        let exchanged = world.sources[0].compare_exchange(Some(&seen(world)), Some(object()));
        exchanged.ok().flatten().iter().for_each(|old| old.assert_alive());
    }
    fn exchange_weakly(world: &World) {
        let exchanged = world.sources[0].compare_exchange_weak(Some(&seen(world)), Some(object()));
        exchanged.ok().flatten().iter().for_each(|old| old.assert_alive());
    }
    for other in [exchange, exchange_weakly] {
        check(Start::Asymmetric, move || {
            beside(&World::new(), [other], |world| {
                exchange(world);
                reclaim();
            });
        });
    }
}

/// It is put back into an empty place, or comes back; in no case is it in two.
#[test]
fn what_is_put_back_where_nothing_is_is_in_one_place() {
    check(Start::Asymmetric, || {
        fn put_back(world: &World) {
            if let Some(object) = world.sources[0].take()
                && let Err(back) = world.sources[1].compare_and_put_back(None, object)
            {
                back.assert_alive();
            }
        }
        beside(&World::new(), [put_back], |world| {
            world.unlink(1);
            read(&world.sources[1]);
            world.unlink_and_reclaim(1);
        });
    });
}

/// An exchange sees what came before the change that lets it succeed, or fail.
#[test]
fn an_exchange_synchronises_with_the_change_that_it_finds() {
    struct Shared {
        place: AtomicBox<Object, Tests>,
        before: UnsafeCell<u32>,
    }
    // SAFETY: the cell is written before the place is emptied, and read after that was found; loom sees to it.
    unsafe impl Send for Shared {}
    // SAFETY: as above.
    unsafe impl Sync for Shared {}

    fn take(world: &Shared) {
        // SAFETY: read only after it was found that the place is empty.
        world.before.with_mut(|before| unsafe { *before = 1 });
        drop(world.place.take());
    }
    fn look(world: &Shared) {
        // SAFETY: written before the place was emptied, and never again.
        assert_eq!(world.before.with(|before| unsafe { *before }), 1);
    }
    fn succeeds(world: &Shared) {
        if world.place.compare_exchange(None, Some(object())).is_ok() {
            look(world);
        }
    }
    fn fails(world: &Shared) {
        let seen = world.place.load();
        if seen.is_some() && world.place.compare_exchange(seen.as_deref(), None).is_err() {
            look(world);
        }
    }
    fn succeeds_weakly(world: &Shared) {
        if world.place.compare_exchange_weak(None, Some(object())).is_ok() {
            look(world);
        }
    }
    fn fails_weakly(world: &Shared) {
        let seen = world.place.load();
        if seen.is_some() && world.place.compare_exchange_weak(seen.as_deref(), None).is_err() {
            look(world);
        }
    }
    for looks in [succeeds, fails, succeeds_weakly, fails_weakly] {
        check(Start::Asymmetric, move || {
            let _ = Tests::domain();
            let place = AtomicBox::from(object());
            beside(&Arc::new(Shared { place, before: UnsafeCell::new(0) }), [take], looks);
        });
    }
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
        beside(&Arc::new(list_of_two()), [other], |list| {
            one(list);
            reclaim();
        });
    });
}

fn get(list: &List, key: u8) -> bool {
    list.get(&key).inspect(|entry| entry.value().assert_alive()).is_some()
}

fn remove(list: &List, key: u8) -> bool {
    list.remove(&key).inspect(|entry| entry.value().assert_alive()).is_some()
}

/// A reader that is on the first node when both were removed does not get to the second one.
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

/// The same by guards.
#[test]
fn a_guard_of_a_removed_node_is_not_led_to_what_was_freed() {
    type Links = Chain<Object, Tests>;
    fn first(chain: &Links) -> NodeGuard<'_, Object, Tests> {
        match Place::First(chain).follow(HazardPointer::new()) {
            Follow::To(node) => node,
            _ => panic!("no node"),
        }
    }
    fn remove_first(chain: &Links) {
        let node = first(chain);
        assert!(node.freeze() && Place::First(chain).unlink(&node));
    }
    check_within(Some(2), Start::Asymmetric, || {
        let _ = Tests::domain();
        let chain = Links::new();
        for _ in 0..2 {
            let mut cursor = chain.cursor();
            cursor.seek(|_| false);
            assert!(cursor.insert(NewNode::new(Object::new())).is_ok());
        }
        let reader = |chain: &Links| {
            let Follow::To(node) = Place::First(chain).follow(HazardPointer::new()) else { return };
            node.assert_alive();
            if let Follow::To(next) = Place::After(node).follow(HazardPointer::new()) {
                next.assert_alive();
            }
        };
        beside(&Arc::new(chain), [reader], |chain| {
            (0..2).for_each(|_| remove_first(chain));
            reclaim();
        });
    });
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

/// Two lists: odd keys are in one, even ones in the other.
type Map<S = ByKey> = map::Map<u8, Object, S, Tests>;
type ByKey = BuildHasherDefault<KeyHasher>;

/// The hash of a key is the key. (The random one of the example would differ from execution to execution.)
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = u64::from(byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map of the keys 1 and 2.
fn map_of_two<S: BuildHasher>(hasher: S) -> Map<S> {
    let _ = Tests::domain();
    let map = Map::with_hasher(2, hasher);
    for key in [1, 2] {
        assert!(map.insert(key, Object::new()).is_ok());
    }
    map
}

#[test]
fn an_entry_of_a_map_is_read_while_it_is_removed() {
    check_within(Some(2), Start::Asymmetric, || {
        let removes = |map: &Map| {
            let removed = map.remove(&1).expect("nobody else removes it");
            removed.value().assert_alive();
            drop(removed);
            reclaim();
        };
        beside(&Arc::new(map_of_two(ByKey::default())), [removes], |map| {
            map.get(&1).iter().for_each(|entry| entry.value().assert_alive());
            map.get(&2).expect("nobody removes it").value().assert_alive();
        });
    });
}

#[test]
fn what_is_inserted_into_a_map_behind_a_key_that_is_removed_is_found() {
    check_within(Some(2), Start::Asymmetric, || {
        let removes = |map: &Map| assert!(map.remove(&1).is_some());
        beside(&Arc::new(map_of_two(ByKey::default())), [removes], |map| {
            assert!(map.insert(3, Object::new()).is_ok());
            map.get(&3).expect("nobody removes it").value().assert_alive();
        });
    });
}

/// Two threads insert a key. One of them succeeds.
fn insert_twice<S: BuildHasher + Send + Sync + 'static>(hasher: fn() -> S) {
    check_within(Some(2), Start::Asymmetric, move || {
        let map = Arc::new(map_of_two(hasher()));
        let other = {
            let map = Arc::clone(&map);
            thread::spawn(move || map.insert(3, Object::new()).is_ok())
        };
        let inserted = map.insert(3, Object::new()).is_ok();
        assert!(inserted != other.join().expect("no panic"), "one of two inserts a key");
        map.get(&3).expect("inserted").value().assert_alive();
    });
}

#[test]
fn a_key_is_inserted_into_a_map_once() {
    insert_twice(ByKey::default);
}

/// The twin: a hash that changes leads to two lists.
#[test]
#[should_panic(expected = "one of two inserts a key")]
fn a_map_whose_hashes_change_has_a_key_twice() {
    struct Changes(AtomicU64);

    impl BuildHasher for Changes {
        type Hasher = KeyHasher;

        fn build_hasher(&self) -> KeyHasher {
            KeyHasher::default()
        }

        fn hash_one<T: std::hash::Hash>(&self, _: T) -> u64 {
            self.0.fetch_add(1, Relaxed)
        }
    }

    insert_twice(|| Changes(AtomicU64::new(0)));
}

/// A place that one thread fills and two freeze: one of them gets what was put there, complete, and nothing is put
/// there later.
#[test]
fn what_is_frozen_is_handed_to_one() {
    /// Freezes the place. Returns whether this thread took an object out of it.
    fn take(place: &Link<Object, Tests>) -> bool {
        let held = place.freeze();
        let is_taken = !held.is_frozen() && held != Tagged::null();
        if is_taken {
            // SAFETY: from a box. Of those who freeze the place one finds it not frozen.
            let object = unsafe { Box::from_raw(held.as_ptr()) };
            object.assert_alive();
        }
        is_taken
    }
    let outcome = || {
        let place = Arc::new(Link::<Object, Tests>::null());
        let [fills, takes] = [Arc::clone(&place), Arc::clone(&place)];
        let fills = thread::spawn(move || {
            let object = Tagged::from(object());
            // SAFETY: no thread follows the place, and the thread that freezes it frees the object.
            let is_filled = unsafe { fills.compare_exchange(Tagged::null(), object) }.is_ok();
            if !is_filled {
                // SAFETY: from a box, and not stored.
                drop(unsafe { Box::from_raw(object.as_ptr()) });
            }
            is_filled
        });
        let takes = thread::spawn(move || take(&takes));
        let taken = [take(&place), takes.join().expect("no panic")];
        let is_filled = fills.join().expect("no panic");
        assert_eq!(taken.iter().filter(|&&taken| taken).count(), usize::from(is_filled));
        is_filled
    };
    assert!(is_ever(Start::Asymmetric, outcome));
    assert!(is_ever(Start::Asymmetric, move || !outcome()));
}

/// A thread that finds a removal sees what came before the removal.
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
        let removes = |world: &Shared| {
            // SAFETY: read only after the removal was found.
            world.before.with_mut(|before| unsafe { *before = 1 });
            remove(&world.list, 1);
        };
        beside(&world, [removes], |world| {
            if !get(&world.list, 1) {
                // SAFETY: written before the removal, and never again.
                assert_eq!(world.before.with(|before| unsafe { *before }), 1);
            }
        });
    });
}

#[test]
fn a_cohort_frees_what_is_not_protected_and_all_when_it_is_dropped() {
    check(Start::Asymmetric, || {
        let _ = Tests::domain();
        let slot = Arc::new(Slot::<Object, Tests>::new(1));
        slot.store(Object::new());
        let reader = |slot: &Slot<Object, Tests>| _ = slot.read(Object::assert_alive);
        beside(&slot, [reader], |slot| slot.store(Object::new())); // reclaims
    });
}

/// An assertion that fails in a model fails one test only: the domain outlives the execution, and does not panic
/// later.
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

/// By a swap and by both exchanges.
#[test]
fn an_address_that_was_freed_may_be_linked_again() {
    type Place = Link<u64, Tests>;
    let links: [fn(&Place, Tagged<u64>) -> bool; 3] = [
        // SAFETY: nothing is linked, and the caller unlinks the object before it is freed.
        |link, new| unsafe { link.swap(new) } == Tagged::null(),
        // SAFETY: as above.
        |link, new| unsafe { link.compare_exchange(Tagged::null(), new) }.is_ok(),
        // SAFETY: as above.
        |link, new| unsafe { link.compare_exchange_weak(Tagged::null(), new) }.is_ok(),
    ];
    check(Start::Asymmetric, move || {
        let object = Box::into_raw(Box::new(7_u64));
        let link = Place::null();
        for links in links {
            assert!(links(&link, Tagged::from(object.cast_const())));
            assert_eq!(HazardPointer::<Tests>::new().protect_link(&link).ok(), Some(Some(&7)));
            // SAFETY: null is no object.
            unsafe { link.store(Tagged::null()) };
            // SAFETY: unlinked. The deleter frees nothing, so the address comes back.
            unsafe { Tests::domain().retire_with(object, |_| ()) };
            assert_eq!(reclaim(), 0);
        }
        // SAFETY: from a box, and not linked.
        drop(unsafe { Box::from_raw(object) });
    });
}

/// One thread retires to a cohort, another reclaims what it finds.
#[test]
fn what_another_thread_has_retired_to_a_cohort_is_reclaimed_as_ones_own() {
    check(Start::Asymmetric, || {
        let _ = Tests::domain();
        let slot = Arc::new(Slot::<Object, Tests>::new(9));
        slot.store(Object::new());
        let writer = |slot: &Slot<Object, Tests>| slot.store(Object::new());
        beside(&slot, [writer], |slot| _ = slot.reclaim().expect("a heavy fence"));
    });
}

/// The node to which another one is being linked is not freed meanwhile: its address must not come back.
#[test]
fn a_cohort_keeps_the_node_to_which_another_is_being_linked() {
    fn retire(cohort: &asymfence_hazard::Cohort<Tests>) {
        // SAFETY: from a box, and never linked.
        unsafe { cohort.retire(Box::into_raw(object())) };
    }
    check(Start::Asymmetric, || {
        let _ = Tests::domain();
        let cohort = Arc::new(asymfence_hazard::Cohort::new(9));
        retire(&cohort);
        let retires = |cohort: &asymfence_hazard::Cohort<Tests>| retire(cohort);
        beside(&cohort, [retires], |cohort| _ = cohort.reclaim().expect("a heavy fence"));
    });
}

domain! {
    /// A thread examines its ring at each object, and executes a fence then.
    enum Eager {} = Thresholds { objects: 1, bytes: usize::MAX, pause: None, ..Thresholds::DEFAULT };
}

/// Two places of the eager domain.
struct Places([AtomicBox<Object, Eager>; 2]);

impl Places {
    fn new() -> Arc<Self> {
        let _ = Eager::domain();
        Arc::new(Places([(); 2].map(|()| AtomicBox::from(object()))))
    }
}

/// Runs `others` and `first` concurrently, `first` in the first thread, with at most that many preemptions.
fn places<const N: usize>(preemptions: usize, others: [fn(&Places); N], first: fn(&Places)) {
    check_within(Some(preemptions), Start::Asymmetric, move || {
        beside(&Places::new(), others, first);
    });
}

fn reclaim_eagerly() {
    Eager::domain().reclaim().expect("a heavy fence");
}

/// The owner of a ring frees objects that are served by another thread's heavy fence. Two preemptions take minutes.
#[test]
fn one_heavy_fence_serves_every_ring() {
    places(1, [|places| read(&places.0[0]), |_| reclaim_eagerly()], |places| {
        drop(places.0[0].take());
        Eager::domain().retire_box(object()); // looks again
    });
}

/// The owner frees by its own fences, and scans after them.
#[test]
fn an_owner_frees_what_it_has_retired() {
    places(2, [|places| read(&places.0[0])], |places| {
        drop(places.0[0].take());
        (0..2).for_each(|_| Eager::domain().retire_box(object()));
    });
}

/// The owner and another thread take objects from one ring.
#[test]
fn an_object_of_a_ring_is_freed_once() {
    places(2, [|_| reclaim_eagerly()], |places| {
        drop(places.0[0].take());
        drop(places.0[1].take());
        reclaim_eagerly();
    });
}

/// A reclaim that was stopped after its scan does not free what was retired and kept after that.
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
    /// A thread examines its ring at the fourth object, and executes no fence of its own before the eighth.
    enum Patient {} = Thresholds { objects: 8, bytes: usize::MAX, pause: None, ..Thresholds::DEFAULT };
}

/// A place, and that many objects retired before the threads begin.
fn place_and_garbage(retired: usize) -> Arc<AtomicBox<Object, Patient>> {
    (0..retired).for_each(|_| Patient::domain().retire_box(object()));
    Arc::new(AtomicBox::from(object()))
}

fn reclaim_patiently() {
    Patient::domain().reclaim().expect("a heavy fence");
}

/// A heavy fence does not serve what is retired after it: the next look condemns only what the fence serves.
#[test]
fn a_heavy_fence_serves_what_was_retired_before_it() {
    check_within(Some(2), Start::Asymmetric, || {
        let others: [fn(&AtomicBox<Object, Patient>); 2] =
            [read, |place| place.take().expect("not null").retire_deferred()];
        beside(&place_and_garbage(2), others, |_| {
            reclaim_patiently();
            Patient::domain().retire_box(object()); // looks, if it is the fourth
        });
    });
}

/// A thread that finds another thread's heavy fence scans the slots after that fence.
#[test]
fn a_scan_comes_behind_the_heavy_fence_of_another() {
    check_within(Some(2), Start::Asymmetric, || {
        let other = |place: &AtomicBox<Object, Patient>| {
            let mut hazard = HazardPointer::new();
            let object = hazard.protect(place);
            reclaim_patiently();
            object.iter().for_each(|object| object.assert_alive());
        };
        beside(&place_and_garbage(3), [other], |place| drop(place.take())); // the fourth: looks
    });
}

domain! {
    /// A thread looks at its ring at each object, takes a ticket at the first, and makes a fence at the second.
    enum Halved {} = Thresholds { objects: 2, bytes: usize::MAX, pause: None, ..Thresholds::DEFAULT };
}

/// What came before half of the threshold is freed at the threshold without a fence of the domain's own, if any thread
/// has executed a heavy fence since, and otherwise not.
#[test]
fn a_heavy_fence_of_anybody_serves_what_came_before_half_of_the_threshold() {
    check_within(Some(2), Start::Asymmetric, || {
        let _ = Halved::domain();
        let place = Arc::new(AtomicBox::from(object()));
        let others: [fn(&AtomicBox<Object, Halved>); 2] = [read, |_| asymfence::heavy_fence()];
        beside(&place, others, |place| {
            drop(place.take()); // half
            Halved::domain().retire_box(object());
        });
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

/// Objects that are left when a model ends may own places. Their objects are then retired to a domain that is gone.
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

/// What stands for the ring of `noted.rs`: loom sees when it is made.
mod ring {
    #[derive(Debug)]
    pub(crate) struct Ring(pub(crate) loom::cell::UnsafeCell<bool>);

    // SAFETY: only read after it was made; loom sees to it.
    unsafe impl Sync for Ring {}
}

/// A moment that one thread notes is complete when another takes it.
#[test]
fn a_noted_moment_is_complete() {
    check(Start::Symmetric, || {
        let noted = Arc::new(noted::Noted::new());
        let theirs = noted.clone();
        let other = thread::spawn(move || {
            let ticket = asymfence::Ticket::now();
            // After the ticket, which is a full fence.
            let ring: &'static _ = Box::leak(Box::new(ring::Ring(UnsafeCell::new(true))));
            theirs.set(noted::Moment::new(ticket, &[(ring, 1)], [0; 2]));
        });
        if let Some(moment) = noted.take() {
            // SAFETY: the rings are there for good.
            let (tails, _) = unsafe { moment.served() }.expect("a ticket of a symmetric process");
            // SAFETY: never written again.
            assert!(tails[0].0.0.with(|made| unsafe { *made }));
        }
        other.join().expect("no panic");
    });
}

/// A reader protects an object, which is unlinked and retired while the tails for a `Moment` are read. The heavy fence
/// comes before the unlinking if `before`, otherwise after the `Moment`. Returns whether the object is freed: the
/// `Moment` is served, and the reader's protection is not seen.
fn frees_what_a_moment_has_noted(before: bool) -> bool {
    let world = Arc::new([true, false].map(atomic::AtomicBool::new));
    let theirs = world.clone();
    let reader = thread::spawn(move || {
        let [linked, protected] = &*theirs;
        // Relaxed, both: the fences alone order them.
        protected.store(true, atomic::Ordering::Relaxed);
        asymfence::light_fence();
        linked.load(atomic::Ordering::Relaxed) // then it uses the object
    });
    let [linked, protected] = &*world;
    let moment = noted::Moment::now(
        || {
            if before {
                asymfence::heavy_fence(); // of any thread
            }
            // Relaxed: as above.
            linked.store(false, atomic::Ordering::Relaxed);
            Vec::new()
        },
        [0; 2],
    );
    if !before {
        asymfence::heavy_fence();
    }
    // SAFETY: of no ring.
    let is_served = unsafe { moment.served() }.is_some();
    let is_freed = is_served && !protected.load(atomic::Ordering::Relaxed);
    let is_used = reader.join().expect("no panic");
    assert!(!(is_used && is_freed), "freed while it is used");
    is_freed
}

/// A heavy fence serves a moment only if it comes behind what the moment has noted.
#[test]
fn a_heavy_fence_serves_a_moment_that_came_before_it() {
    assert!(is_ever(Start::Asymmetric, || frees_what_a_moment_has_noted(false)));
    assert!(!is_ever(Start::Asymmetric, || frees_what_a_moment_has_noted(true)));
}

/// What `background.rs`, `freed.rs`, `noted.rs` and `slots.rs` import from their crate.
mod sync {
    pub(crate) use asymfence::model::witness;
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
    pub(crate) use loom::thread::yield_now;
    pub(crate) use std::sync::atomic::AtomicUsize as Number;

    pub(crate) use AtomicUsize as Counter;

    pub(crate) const LOOM: bool = true;

    pub(crate) fn get_mut<T>(pointer: &mut AtomicPtr<T>) -> *mut T {
        pointer.with_mut(|pointer| *pointer)
    }

    pub(crate) mod threads {
        pub(crate) use loom::thread::{Builder, park};

        /// A thread's handle, of which loom sees when it is made.
        pub(crate) struct Thread(super::UnsafeCell<loom::thread::Thread>);

        // SAFETY: only read after it was made; loom sees to it.
        unsafe impl Sync for Thread {}
        // SAFETY: as above.
        unsafe impl Send for Thread {}

        impl Thread {
            pub(crate) fn unpark(&self) {
                // SAFETY: as above.
                self.0.with(|thread| unsafe { (*thread).unpark() });
            }
        }

        pub(crate) fn current() -> Thread {
            Thread(super::UnsafeCell::new(loom::thread::current()))
        }

        /// A model has no clock.
        pub(crate) fn park_timeout(_: std::time::Duration) {
            loom::thread::yield_now();
        }

        pub(crate) fn without_signals<T>(starts: impl FnOnce() -> T) -> T {
            starts()
        }

        /// A model does not fork.
        pub(crate) fn count_forks() {}

        pub(crate) fn forks() -> usize {
            0
        }
    }

    macro_rules! const_where_possible {
        ($function:ident) => {
            $function!();
        };
    }
    pub(crate) use const_where_possible;
}

/// The retired objects, and the thread that is to free them.
struct Reclaimed {
    retired: atomic::AtomicUsize,
    background: background::Background,
}

/// As in the library: the reclaimer sleeps while nothing waits, and a thread that retires wakes it. A thread that
/// sleeps for ever fails the model.
///
/// Only one object. If a plain store follows a swap in another thread, loom may take either for the last one. After a
/// second sleep it would report a lost wake-up that no machine loses.
#[test]
fn who_retires_wakes_the_background_reclaimer() {
    for start in STARTS {
        check(start, || {
            let world: &'static Reclaimed = Box::leak(Box::new(Reclaimed {
                retired: atomic::AtomicUsize::new(0),
                background: background::Background::new(),
            }));
            let (ends, ended) = loom::sync::mpsc::channel();
            let reclaims = move || {
                let freed = std::cell::Cell::new(0);
                // Acquire: as of a ring's tail.
                let waits = || world.retired.load(atomic::Ordering::Acquire) != freed.get();
                while freed.get() < 1 {
                    if !waits() {
                        world.background.sleep(waits);
                    }
                    freed.set(world.retired.load(atomic::Ordering::Acquire));
                }
                ends.send(()).expect("somebody waits");
            };
            world.background.start(reclaims).expect("a thread");
            // Release: as of a ring's tail.
            world.retired.store(1, atomic::Ordering::Release);
            world.background.wake(false);
            // Waits for the thread, so that it executes no fence after the closure has ended: the model is inexact
            // there.
            ended.recv().expect("it ends");
        });
    }
}

/// An owner that cannot lock its ring leaves the ring, with its objects, to the next owner or to another thread's
/// reclaim.
#[test]
fn a_ring_that_is_left_while_it_is_locked_is_emptied_later() {
    check_within(Some(3), Start::Asymmetric, || {
        let domain = Eager::domain();
        (0..3).for_each(|_| {
            // SAFETY: it is from a box, and was never linked.
            unsafe { domain.retire_deferred(Box::into_raw(object())) };
        });
        let other = thread::spawn(reclaim_eagerly);
        // More objects wait in the ring than its owner's share (see `Domain`), so the owner waits for the lock. If it
        // does not get it in time, it leaves the ring and takes another one.
        (0..2).for_each(|_| domain.retire_box(object()));
        other.join().expect("no panic");
        let done = domain.reclaim().expect("a heavy fence");
        assert_eq!((domain.stats().freed, done.kept), (5, 0));
    });
}

/// What is retired after the heavy fence of a running reclaim is left to the next reclaim.
#[test]
fn what_is_retired_behind_a_heavy_fence_waits_for_the_next() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        world.unlink(0);
        let others: [fn(&World); 3] =
            [|world| read(&world.sources[1]), |_| _ = reclaim(), |world| world.unlink(1)];
        beside(&world, others, |_| ());
    });
}

/// Of objects and of bytes, whether one thread counts or several.
#[test]
fn no_more_is_freed_than_was_retired() {
    for count in [freed::Freed::add, freed::Freed::add_alone] {
        check(Start::Symmetric, move || {
            let retired = Arc::new(atomic::AtomicUsize::new(0));
            let freed = Arc::new(freed::Freed::new());
            let is_over = Arc::new(atomic::AtomicBool::new(false));
            let other = {
                let (retired, freed, is_over) = (retired.clone(), freed.clone(), is_over.clone());
                thread::spawn(move || {
                    // Relaxed: the Release in `count`, below, publishes it.
                    retired.store(1, atomic::Ordering::Relaxed);
                    count(&freed, 1, 1);
                    is_over.store(true, atomic::Ordering::Relaxed);
                })
            };
            // Without this loom does not try to read behind the other thread. Relaxed: orders nothing.
            _ = is_over.load(atomic::Ordering::Relaxed);
            let (objects, bytes) = freed.read();
            let retired = retired.load(atomic::Ordering::Relaxed);
            assert!(objects <= retired && bytes <= retired);
            other.join().expect("no panic");
        });
    }
}

/// A place, and what is written before the place is changed.
struct Written<P> {
    place: P,
    before: UnsafeCell<bool>,
}

// SAFETY: the cell is written before the change, and read by a thread that has found the change; loom sees to it.
unsafe impl<P: Sync> Sync for Written<P> {}

/// One thread `changes` the place. If another `finds` that, it sees what came before. It finds it at times.
fn synchronises<P: Send + Sync + 'static>(
    place: fn() -> P,
    changes: fn(&P),
    finds: fn(&P) -> bool,
) {
    let found = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ever = found.clone();
    check_within(Some(2), Start::Asymmetric, move || {
        let _ = Tests::domain();
        let written = Arc::new(Written { place: place(), before: UnsafeCell::new(false) });
        let other = {
            let written = written.clone();
            thread::spawn(move || {
                // SAFETY: read only after the change was found.
                written.before.with_mut(|before| unsafe { *before = true });
                changes(&written.place);
            })
        };
        if finds(&written.place) {
            // SAFETY: written before the change, and never again.
            assert!(written.before.with(|before| unsafe { *before }));
            ever.store(true, atomic::Ordering::Relaxed);
        }
        other.join().expect("no panic");
    });
    assert!(found.load(atomic::Ordering::Relaxed), "the change is never found");
}

/// Three uses of one kind of exchange: it fills a place; it succeeds, and so finds a change; it fails, and so finds a
/// change.
type Exchanges<P> = (fn(&P), fn(&P) -> bool, fn(&P) -> bool);

#[test]
fn an_atomic_box_synchronises_with_those_who_find_it_changed() {
    type One = AtomicBox<Object, Tests>;
    fn full() -> One {
        AtomicBox::from(object())
    }
    fn store(place: &One) {
        place.store(object());
    }
    fn take(place: &One) {
        drop(place.take());
    }
    let exchanges: [Exchanges<One>; 2] = [
        (
            |place| _ = place.compare_exchange(None, Some(object())),
            |place| place.compare_exchange(None, Some(object())).is_ok(),
            |place| place.compare_exchange(None, None).is_err(),
        ),
        (
            |place| _ = place.compare_exchange_weak(None, Some(object())),
            |place| place.compare_exchange_weak(None, Some(object())).is_ok(),
            |place| place.compare_exchange_weak(None, None).is_err(),
        ),
    ];
    for (fills, finds_it_empty, finds_it_full) in exchanges {
        synchronises(One::null, fills, |place| !place.as_ptr().is_null());
        synchronises(full, take, finds_it_empty);
        synchronises(One::null, store, finds_it_full);
    }
    synchronises(full, take, |place| place.as_ptr().is_null());
    synchronises(One::null, store, |place| place.take().is_some());
}

#[test]
fn a_cell_synchronises_with_those_who_find_it_changed() {
    type One = HazardCell<u8, Tests>;
    fn zero() -> One {
        HazardCell::new(0)
    }
    fn store(cell: &One) {
        cell.store(1);
    }
    synchronises(zero, store, |cell| *cell.swap(2) == 1);
    synchronises(zero, store, |cell| {
        let seen = cell.load();
        *seen == 0 && cell.compare_and_swap(&seen, 2).is_err()
    });
}

#[test]
fn a_link_synchronises_with_those_who_find_it_changed() {
    type One = Link<u32, Tests>;
    static OBJECT: u32 = 0;
    fn object() -> Tagged<u32> {
        Tagged::from(&raw const OBJECT)
    }
    fn store(link: &One) {
        // SAFETY: static.
        unsafe { link.store(object()) };
    }
    let exchanges: [Exchanges<One>; 2] = [
        (
            // SAFETY: as above.
            |link| _ = unsafe { link.compare_exchange(Tagged::null(), object()) },
            // SAFETY: as above.
            |link| unsafe { link.compare_exchange(object(), Tagged::null()) }.is_ok(),
            // SAFETY: as above.
            |link| unsafe { link.compare_exchange(Tagged::null(), Tagged::null()) }.is_err(),
        ),
        (
            // SAFETY: as above.
            |link| _ = unsafe { link.compare_exchange_weak(Tagged::null(), object()) },
            // SAFETY: as above.
            |link| unsafe { link.compare_exchange_weak(object(), Tagged::null()) }.is_ok(),
            // SAFETY: as above.
            |link| unsafe { link.compare_exchange_weak(Tagged::null(), Tagged::null()) }.is_err(),
        ),
    ];
    for (links, finds_it_in_place, finds_another) in exchanges {
        synchronises(One::null, links, |link| link.load() == object());
        synchronises(One::null, store, finds_it_in_place);
        synchronises(One::null, store, finds_another);
    }
    synchronises(One::null, store, |link| link.load() == object());
    // SAFETY: as above.
    synchronises(One::null, store, |link| unsafe { link.swap(Tagged::null()) } == object());
    synchronises(One::null, store, |link| link.fetch_or(2).as_ptr() == object().as_ptr());
    // `fetch_or` loads, then exchanges. loom checks an exchange for a conflict only with the last access to the atomic,
    // here that load of the same thread. So it would not try the other order of the threads. The flag orders nothing,
    // but lets loom begin with either thread.
    synchronises(
        || (One::null(), atomic::AtomicBool::new(false)),
        |(link, flag)| {
            flag.store(true, atomic::Ordering::Relaxed);
            link.fetch_or(2);
        },
        |(link, flag)| flag.load(atomic::Ordering::Relaxed) && link.load().tag() == 2,
    );
}

/// A thread uses what it has unlinked, and retires it. Another frees it.
#[test]
fn what_is_retired_to_a_cohort_is_not_freed_before_its_last_use() {
    struct Garbage {
        place: Link<Object, Tests>,
        cohort: asymfence_hazard::Cohort<Tests>,
    }

    check_within(Some(2), Start::Asymmetric, || {
        let _ = Tests::domain();
        let world =
            Arc::new(Garbage { place: Link::null(), cohort: asymfence_hazard::Cohort::new(9) });
        // SAFETY: retired when it is unlinked.
        unsafe { world.place.store(Tagged::from(object())) };
        let retires = |world: &Garbage| {
            // SAFETY: null.
            let object = unsafe { world.place.swap(Tagged::null()) }.as_ptr();
            // SAFETY: ours.
            unsafe { &*object }.assert_alive();
            // SAFETY: from a box, unlinked just now.
            unsafe { world.cohort.retire(object) };
        };
        beside(&world, [retires], |world| _ = world.cohort.reclaim().expect("a heavy fence"));
    });
}

/// A block that another thread has emptied is filled again by the owner of the ring.
#[test]
fn a_block_is_emptied_before_it_is_filled_again() {
    check_within(Some(2), Start::Asymmetric, || {
        let domain = Tests::domain();
        // SAFETY: a box's, which nobody links.
        let retire = || unsafe { domain.retire_deferred(Box::into_raw(object())) };
        // One more than a block of a model holds.
        (0..5).for_each(|_| retire());
        let other = thread::spawn(|| _ = reclaim());
        // The last of these begins the third block.
        (0..4).for_each(|_| retire());
        other.join().expect("no panic");
    });
}

/// One thread retires and ends. Another finds that this ring has fallen behind. A third, which has synchronised with
/// neither of the two threads, takes objects out of it.
#[test]
fn the_ring_of_a_thread_that_has_ended_is_emptied_by_others() {
    check_within(Some(2), Start::Asymmetric, || {
        let place = place_and_garbage(3);
        let mut hazard = HazardPointer::new();
        // So that something stays in that ring.
        let protected = hazard.protect(&place).expect("never null");
        let theirs = place.clone();
        let other = thread::spawn(move || {
            thread::spawn(move || drop(theirs.take())).join().expect("no panic");
            reclaim_patiently();
        });
        Patient::domain().retire_box(object()); // the fourth: looks, and helps
        other.join().expect("no panic");
        protected.assert_alive();
    });
}

/// A slot has one owner at a time, and is made only if none is free.
#[allow(clippy::arc_with_non_send_sync, reason = "loom checks who uses the cell")]
#[test]
fn two_threads_take_and_give_back_slots() {
    check(Start::Symmetric, || {
        let free = Arc::new(slots::Slots::new());
        let first = free.take(0, |_| ());
        free.release(first);
        // Written by the thread that has the first slot.
        let owned = Arc::new(UnsafeCell::new(()));
        let take_and_give_back = move |slots: &slots::Slots, owned: &UnsafeCell<()>| {
            let slot = slots.take(0, |_| ());
            if slot == first {
                owned.with_mut(|_| ());
            }
            slots.release(slot);
        };
        let theirs = (free.clone(), owned.clone());
        let other = thread::spawn(move || take_and_give_back(&theirs.0, &theirs.1));
        take_and_give_back(&free, &owned);
        other.join().expect("no panic");
        assert!((1..=2).contains(&free.made()));
        assert_eq!(free.used(), 0);
    });
}
