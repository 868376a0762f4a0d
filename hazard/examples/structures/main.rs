//! Structures on hazard pointers, and a look at what became of their garbage.
//!
//! `cargo run --release -p asymfence-hazard --example structures`

#![allow(dead_code, unreachable_pub, reason = "structures for a library, of which this is a part")]

mod list;
mod map;
mod queue;
mod stack;

use std::sync::atomic;

use std::thread;

use asymfence_hazard::{Domain, HazardCell};

const ITEMS: usize = 100_000;

fn main() {
    println!("fences: {}", asymfence::init());

    let (stack, queue) = (stack::Stack::new(), queue::Queue::new());
    let (config, map) = (HazardCell::<usize>::new(0), map::Map::new(64));
    let sum = thread::scope(|scope| {
        scope.spawn(|| (1..=ITEMS).for_each(|item| stack.push(item)));
        scope.spawn(|| (1..=ITEMS).for_each(|version| config.store(version)));
        scope.spawn(|| {
            for key in 0..ITEMS {
                map.insert(key, key).expect("a new key");
                map.remove(&(key / 2));
            }
        });
        scope.spawn(|| {
            let mut moved = 0;
            while moved < ITEMS {
                if let Some(item) = stack.pop() {
                    queue.push(item);
                    moved += 1;
                }
            }
        });
        let (mut sum, mut taken) = (0, 0);
        while taken < ITEMS {
            if let Some(item) = queue.pop() {
                sum += item;
                taken += 1;
            }
        }
        sum
    });
    println!("{ITEMS} items, pushed on a stack, moved to a queue, taken from it: sum {sum}");
    println!("the cell, replaced {ITEMS} times: {}", *config.load());

    let stats = Domain::global().stats();
    println!("while it ran: {} objects retired, {} freed", stats.retired, stats.freed);
    match Domain::global().reclaim_all() {
        Ok(done) => println!("at the end: {} freed, {} kept", done.freed, done.kept),
        Err(error) => println!("at the end: {error}"),
    }
    let heavy = asymfence::stats().heavy.asked;
    println!("{heavy} heavy fences for {} objects", stats.retired);
    assert_eq!(sum, ITEMS * (ITEMS + 1) / 2);
}
