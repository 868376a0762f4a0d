//! A pipeline of three threads, with rings between them. A thread sleeps if its ring is empty or full. Every push and every
//! pop notifies, and almost none of them finds a sleeper.
//!
//! `cargo run --release --package asymfence-cookbook --example event_count`

#![allow(unreachable_pub, reason = "a structure for a library, of which this is a part")]

mod ring;

use std::thread;
use std::time::Instant;

use asymfence::Strategy;
use asymfence_cookbook::event_count::EventCount;
use ring::Ring;

const ITEMS: u64 = 10_000_000;

/// A ring whose producer and consumer wait for each other.
struct Channel {
    ring: Ring<4096>,
    items: EventCount,
    space: EventCount,
}

impl Channel {
    fn new() -> Self {
        Channel { ring: Ring::new(), items: EventCount::new(), space: EventCount::new() }
    }

    fn push(&self, item: u64) {
        self.space.wait_until(|| self.ring.try_push(item));
        self.items.notify_one();
    }

    fn pop(&self) -> u64 {
        let item = self.items.wait_until(|| self.ring.try_pop());
        self.space.notify_one();
        item
    }
}

fn main() {
    let strategy = asymfence::init();
    println!("fences: {strategy}");

    let (numbers, squares) = (Channel::new(), Channel::new());
    let start = Instant::now();
    let sum = thread::scope(|scope| {
        scope.spawn(|| (1..=ITEMS).for_each(|item| numbers.push(item)));
        scope.spawn(|| {
            for _ in 0..ITEMS {
                let item = numbers.pop();
                squares.push(item.wrapping_mul(item));
            }
        });
        (0..ITEMS).fold(0, |sum: u64, _| sum.wrapping_add(squares.pop()))
    });
    let each = start.elapsed().as_nanos() as f64 / ITEMS as f64;

    println!(
        "{ITEMS} numbers through two rings: {each:.1} ns each, the sum of their squares modulo 2^64 {sum}"
    );
    // Two pushes and two pops for each number.
    let notifications = 4 * ITEMS;
    match strategy {
        Strategy::Asymmetric(_) => {
            let heavy = asymfence::stats().heavy.asked;
            println!(
                "{notifications} notifications, a light fence each (a full one while threads sleep often)"
            );
            println!(
                "{heavy} heavy fences: about two in a millisecond at most for each of the four event counts"
            );
        }
        Strategy::Symmetric => println!("{notifications} notifications, a full fence each"),
    }
    let expected = (1..=ITEMS).fold(0, |sum: u64, item| sum.wrapping_add(item.wrapping_mul(item)));
    assert_eq!(sum, expected);
}
