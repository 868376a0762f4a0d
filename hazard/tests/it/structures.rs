//! The structures of `examples/structures` and the cell, by many threads at once.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use asymfence_hazard::{Domain, HazardCell, HazardPointer};

use crate::Canary;
use crate::list::{Entry, List};
use crate::map::Map;
use crate::queue::Queue;
use crate::stack::Stack;

/// Every structure under four threads. Each value is alive when it is seen, and dies once.
pub(crate) fn hammer(rounds: usize) {
    hammer_stack(rounds);
    hammer_queue(rounds);
    hammer_cell(rounds);
    hammer_rcu(rounds);
    hammer_keys(&List::new(), rounds);
    // Two lists, so that keys share a bucket.
    hammer_keys(&Map::new(2), rounds);
}

const THREADS: usize = 4;

fn hammer_stack(rounds: usize) {
    let (stack, deaths) = (Stack::new(), Arc::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut hazard = HazardPointer::new();
                for round in 0..rounds {
                    stack.push(Canary::new(&deaths));
                    // One in four stays.
                    if round % 4 != 0 {
                        stack.pop_with(&mut hazard).expect("ours, or another's").assert_alive();
                    }
                }
            });
        }
    });
    drop(stack);
    assert_eq!(deaths.load(Relaxed), THREADS * rounds);
}

fn hammer_queue(rounds: usize) {
    let (queue, deaths) = (Queue::new(), Arc::default());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (queue, deaths) = (&queue, &deaths);
            scope.spawn(move || {
                let mut last_of = [None; THREADS];
                for round in 0..rounds {
                    queue.push((thread, round, Canary::new(deaths)));
                    if round % 4 != 0 {
                        let (from, number, canary) = queue.pop().expect("ours, or another's");
                        canary.assert_alive();
                        assert!(last_of[from] < Some(number), "out of order");
                        last_of[from] = Some(number);
                    }
                }
            });
        }
    });
    drop(queue);
    assert_eq!(deaths.load(Relaxed), THREADS * rounds);
}

fn hammer_cell(rounds: usize) {
    let deaths = Arc::default();
    let cell = HazardCell::<_>::new((0, Canary::new(&deaths)));
    let written = AtomicUsize::new(1);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut hazard = HazardPointer::new();
                for _ in 0..rounds {
                    let guard = cell.load();
                    guard.1.assert_alive();
                    let later = cell.load_with(&mut hazard);
                    later.1.assert_alive();
                    assert!(guard.0 <= later.0, "back in time");
                }
            });
            scope.spawn(|| {
                for _ in 0..rounds {
                    let current = cell.load();
                    let next = (current.0 + 1, Canary::new(&deaths));
                    written.fetch_add(1, Relaxed);
                    if let Ok(replaced) = cell.compare_and_swap(&current, next) {
                        replaced.1.assert_alive();
                        assert_eq!(replaced.0, current.0);
                    }
                }
            });
        }
    });
    drop(cell);
    // Another test's thread may have some of them in hand.
    while deaths.load(Relaxed) < written.load(Relaxed) {
        Domain::global().reclaim_all().expect("a heavy fence");
    }
    assert_eq!(deaths.load(Relaxed), written.load(Relaxed));
}

/// No update is lost.
fn hammer_rcu(rounds: usize) {
    let cell = HazardCell::<_>::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..rounds / 10).for_each(|_| drop(cell.rcu(|value| value + 1))));
        }
    });
    assert_eq!(cell.into_inner(), Some(THREADS * (rounds / 10)));
}

type Value = (usize, Canary);

/// What a list and a map have in common.
trait Keyed: Sync {
    fn insert(&self, key: usize, value: Value) -> Result<(), Value>;
    fn remove(&self, key: &usize) -> Option<Entry<'_, usize, Value>>;
    fn get(&self, key: &usize) -> Option<Entry<'_, usize, Value>>;
}

macro_rules! keyed {
    ($($structure:ident)*) => {
        $(
            impl Keyed for $structure<usize, Value> {
                fn insert(&self, key: usize, value: Value) -> Result<(), Value> {
                    $structure::insert(self, key, value)
                }
                fn remove(&self, key: &usize) -> Option<Entry<'_, usize, Value>> {
                    $structure::remove(self, key)
                }
                fn get(&self, key: &usize) -> Option<Entry<'_, usize, Value>> {
                    $structure::get(self, key)
                }
            }
        )*
    };
}
keyed!(List Map);

fn hammer_keys(structure: &impl Keyed, rounds: usize) {
    const KEYS: usize = 16;
    let deaths = Arc::default();
    let (there, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (deaths, there, made) = (&deaths, &there, &made);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread as u64);
                for _ in 0..rounds {
                    let key = random.usize(..KEYS);
                    let assert_of = |value: &(usize, Canary)| {
                        value.1.assert_alive();
                        assert_eq!(value.0, key);
                    };
                    if random.u8(..64) == 0 {
                        Domain::global().reclaim().expect("a heavy fence");
                    }
                    match random.u8(..3) {
                        0 => {
                            made.fetch_add(1, Relaxed);
                            if structure.insert(key, (key, Canary::new(deaths))).is_ok() {
                                there.fetch_add(1, Relaxed);
                            }
                        }
                        1 => {
                            if let Some(entry) = structure.remove(&key) {
                                there.fetch_sub(1, Relaxed);
                                assert_of(entry.value());
                            }
                        }
                        _ => {
                            if let Some(entry) = structure.get(&key) {
                                assert_of(entry.value());
                            }
                        }
                    }
                }
            });
        }
    });
    assert_eq!((0..KEYS).filter(|key| structure.get(key).is_some()).count(), there.load(Relaxed));
    (0..KEYS).for_each(|key| _ = structure.remove(&key));
    // Another test's thread may have some of them in hand.
    while deaths.load(Relaxed) < made.load(Relaxed) {
        Domain::global().reclaim_all().expect("a heavy fence");
    }
    assert_eq!(deaths.load(Relaxed), made.load(Relaxed));
}

#[test]
fn values_are_alive_when_they_are_seen_and_die_once() {
    hammer(if cfg!(miri) { 15 } else { 50_000 });
}

#[test]
fn a_stack_gives_back_the_last_first() {
    let stack = Stack::new();
    (0..3).for_each(|value| stack.push(value));
    assert_eq!(
        [stack.pop(), stack.pop(), stack.pop(), stack.pop()],
        [Some(2), Some(1), Some(0), None]
    );
}

#[test]
fn a_queue_gives_back_the_first_first() {
    let queue = Queue::new();
    (0..3).for_each(|value| queue.push(value));
    assert_eq!(
        [queue.pop(), queue.pop(), queue.pop(), queue.pop()],
        [Some(0), Some(1), Some(2), None]
    );
}

#[test]
fn a_cell_is_replaced_only_by_who_has_seen_its_value() {
    let cell = HazardCell::<_>::new("one".to_owned());
    let one = cell.load();
    assert_eq!(*cell.swap("two".to_owned()), "one");
    assert_eq!(cell.compare_and_swap(&one, "three".to_owned()).err(), Some("three".to_owned()));
    let two = cell.load();
    assert_eq!(
        cell.compare_and_swap(&two, "three".to_owned()).ok().as_deref(),
        Some(&"two".to_owned())
    );
    cell.store("four".to_owned());
    assert_eq!([&*one, &*two, &*cell.load()], ["one", "two", "four"]);
}

#[test]
fn a_map_holds_what_was_inserted_and_not_removed() {
    let map = crate::map::Map::new(8);
    assert!((0..100).all(|key| map.insert(key, key * key).is_ok()));
    assert_eq!(map.insert(7, 0), Err(0));
    assert_eq!(map.remove(&7).map(|entry| *entry.value()), Some(49));
    assert!(map.remove(&7).is_none() && map.get(&7).is_none());
    assert_eq!(map.get(&8).map(|entry| (*entry.key(), *entry.value())), Some((8, 64)));
}
