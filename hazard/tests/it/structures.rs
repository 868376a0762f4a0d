//! The structures of `examples/hazard`, by many threads at once.

#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../examples/structures/cell.rs"]
mod cell;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../examples/structures/queue.rs"]
mod queue;
#[allow(dead_code, unreachable_pub, reason = "an example's")]
#[path = "../../examples/structures/stack.rs"]
mod stack;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use asymfence_hazard::Domain;

use self::cell::ReadMostly;
use self::queue::Queue;
use self::stack::Stack;
use crate::Canary;

/// The value itself, not a box's.
fn canary(deaths: &Arc<AtomicUsize>) -> Canary {
    // SAFETY: a box's, and ours.
    *unsafe { Box::from_raw(Canary::new(deaths)) }
}

/// Every structure under four threads. Each value is alive when it is seen, and dies once.
pub(super) fn hammer(rounds: usize) {
    hammer_stack(rounds);
    hammer_queue(rounds);
    hammer_cell(rounds);
}

const THREADS: usize = 4;

fn hammer_stack(rounds: usize) {
    let (stack, deaths) = (Stack::new(), Arc::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut hazard = Domain::global().hazard_pointer();
                for round in 0..rounds {
                    stack.push(canary(&deaths));
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
                    queue.push((thread, round, canary(deaths)));
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
    let cell = ReadMostly::new((0, canary(&deaths)));
    let written = AtomicUsize::new(1);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut hazard = Domain::global().hazard_pointer();
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
                    let next = (current.0 + 1, canary(&deaths));
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

#[test]
fn values_are_alive_when_they_are_seen_and_die_once() {
    hammer(50_000);
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
    let cell = ReadMostly::new("one".to_owned());
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
