//! The work-stealing deque: every item comes out once, on either side.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::Duration;

use asymfence_cookbook::deque::{Owner, Steal, Stealer, deque, with_capacity, with_pause};

use crate::canary::Canary;
use crate::{alone, asked, pass};

/// Steals until the owner has ended and nothing is left.
fn steal_all(thief: &Stealer<Canary>, ended: &AtomicBool, mut taken: impl FnMut(Box<Canary>)) {
    loop {
        // Acquire: after the end nothing is pushed. It is loaded before the steal: an end that is seen only afterwards
        // does not say that nothing was pushed in between.
        let is_over = ended.load(Acquire);
        match thief.steal() {
            Steal::Taken(item) => taken(item),
            Steal::Retry => {}
            Steal::Empty if is_over => return,
            Steal::Empty => thread::yield_now(),
        }
    }
}

/// Tells the thieves, also if the owner panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        // Release: all pushes come before. Pairs with: the Acquire in `steal_all`.
        self.0.store(true, Release);
    }
}

/// An owner that pushes `items` and pops so many after each, beside so many thieves on other cores.
fn hammer(
    capacity: usize,
    thieves: usize,
    items: usize,
    mut pops: impl FnMut(usize) -> usize + Send,
) {
    let cores = &core_affinity::get_core_ids().unwrap_or_default();
    let stay_on =
        move |nth: usize| cores.get(nth).map(|&core| core_affinity::set_for_current(core));
    let deaths = Arc::default();
    let counts: Vec<_> = (0..items).map(|_| AtomicUsize::new(0)).collect();
    let count = |item: Box<Canary>| counts[item.number].fetch_add(1, Relaxed);
    let (owner, thief) = with_capacity(capacity);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for nth in 0..thieves {
            let (thief, ended) = (&thief, &ended);
            scope.spawn(move || {
                stay_on(1 + nth % cores.len().saturating_sub(1).max(1));
                steal_all(thief, ended, |item| _ = count(item));
            });
        }
        let (owner, deaths, ended) = (owner, &deaths, &ended);
        scope.spawn(move || {
            stay_on(0);
            let _end = End(ended);
            for number in 0..items {
                owner.push(Box::new(Canary::new(number, deaths)));
                for _ in 0..pops(number) {
                    owner.pop().map(count);
                }
            }
        });
    });
    assert_eq!(deaths.load(Relaxed), items);
    for (number, count) in counts.iter().enumerate() {
        assert_eq!(count.load(Relaxed), 1, "item {number}");
    }
}

#[test]
fn every_item_comes_out_once_when_there_is_one_at_a_time() {
    let items = if cfg!(miri) { 60 } else { 100_000 };
    for thieves in [1, 3] {
        hammer(1, thieves, items, |_| 1);
    }
}

#[test]
fn every_item_comes_out_once_when_there_are_few() {
    let items = if cfg!(miri) { 60 } else { 100_000 };
    for thieves in [1, 2, 3] {
        let mut random = fastrand::Rng::with_seed(7);
        hammer(2, thieves, items, move |_| random.usize(..3));
    }
}

#[test]
fn every_item_comes_out_once_when_there_are_two() {
    let items = if cfg!(miri) { 120 } else { 400_000 };
    hammer(2, 1, items, |number| if number % 2 == 1 { 2 } else { 0 });
}

#[test]
fn every_item_comes_out_once_while_the_deque_grows_and_comes_round() {
    // Waves: up by a thousand items, and down again.
    let (items, wave) = if cfg!(miri) { (200, 64) } else { (100_000, 1024) };
    hammer(1, 3, items, |number| if number % wave == wave - 1 { wave } else { 0 });
}

#[test]
fn every_item_comes_out_once_if_only_thieves_take() {
    hammer(4, 3, if cfg!(miri) { 60 } else { 20_000 }, |_| 0);
}

#[test]
fn the_owner_takes_the_newest_and_thieves_the_oldest() {
    let (owner, thief) = deque();
    (1..=4).for_each(|number| owner.push(Box::new(number)));
    let other = thief.clone();
    assert_eq!(thief.steal(), Steal::Taken(Box::new(1)));
    assert_eq!(owner.pop(), Some(Box::new(4)));
    assert_eq!(other.steal(), Steal::Taken(Box::new(2)));
    assert_eq!(owner.pop(), Some(Box::new(3)));
    assert_eq!(owner.pop(), None);
    assert_eq!(owner.pop(), None);
    assert_eq!([thief.steal(), other.steal()], [Steal::Empty, Steal::Empty]);
    owner.push(Box::new(5));
    assert_eq!(thief.steal(), Steal::Taken(Box::new(5)));
}

#[test]
fn a_deque_that_grows_keeps_its_order() {
    let (owner, thief) = with_capacity(2);
    // The items do not begin with the first slot.
    owner.push(Box::new(0));
    assert_eq!(thief.steal(), Steal::Taken(Box::new(0)));
    (1..=100).for_each(|number| owner.push(Box::new(number)));
    assert_eq!(owner.capacity(), 128);
    (1..=50).for_each(|number| assert_eq!(thief.steal(), Steal::Taken(Box::new(number))));
    (51..=100).rev().for_each(|number| assert_eq!(owner.pop(), Some(Box::new(number))));
    assert_eq!(owner.pop(), None);
}

#[test]
fn a_deque_grows_only_when_it_is_full() {
    let (owner, thief) = with_capacity(3);
    assert_eq!(owner.capacity(), 4);
    (0..4).for_each(|number| owner.push(Box::new(number)));
    for number in 4..1_000 {
        assert_eq!(thief.steal(), Steal::Taken(Box::new(number - 4)));
        owner.push(Box::new(number));
    }
    assert_eq!(owner.capacity(), 4);
    owner.push(Box::new(1_000));
    assert_eq!(owner.capacity(), 8);
}

#[test]
#[should_panic(expected = "a capacity that is a power of two")]
fn a_capacity_beyond_all_powers_of_two_is_refused() {
    let _ = with_capacity::<u8>(usize::MAX);
}

#[test]
fn a_capacity_of_nothing_is_one_of_one() {
    let (owner, thief) = with_capacity(0);
    owner.push(Box::new(1));
    owner.push(Box::new(2));
    assert_eq!(thief.steal(), Steal::Taken(Box::new(1)));
    assert_eq!(owner.pop(), Some(Box::new(2)));
}

/// A deque of 100 items, 10 popped and 10 stolen.
fn with_80_left(deaths: &Arc<AtomicUsize>) -> (Owner<Canary>, Stealer<Canary>) {
    let (owner, thief) = with_capacity(1);
    (0..100).for_each(|number| owner.push(Box::new(Canary::new(number, deaths))));
    for _ in 0..10 {
        assert!(owner.pop().is_some());
        assert!(matches!(thief.steal(), Steal::Taken(_)));
    }
    assert_eq!(deaths.load(Relaxed), 20);
    (owner, thief)
}

#[test]
fn what_is_left_is_dropped_with_the_last_handle() {
    let deaths = Arc::default();
    let (owner, thief) = with_80_left(&deaths);
    drop(thief);
    assert_eq!(deaths.load(Relaxed), 20);
    drop(owner);
    assert_eq!(deaths.load(Relaxed), 100);
}

#[test]
fn thieves_outlive_the_owner() {
    let deaths = Arc::default();
    let (owner, thief) = with_80_left(&deaths);
    drop(owner);
    assert!(matches!(thief.steal(), Steal::Taken(_)));
    assert_eq!(deaths.load(Relaxed), 21);
    drop(thief);
    assert_eq!(deaths.load(Relaxed), 100);
}

#[test]
fn a_destructor_that_panics_keeps_nothing_else_from_being_dropped() {
    struct Item(Arc<AtomicUsize>, bool);
    impl Drop for Item {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
            assert!(!self.1, "on purpose");
        }
    }
    let deaths = Arc::<AtomicUsize>::default();
    let (owner, thief) = deque();
    for panics in [false, true, false] {
        owner.push(Box::new(Item(Arc::clone(&deaths), panics)));
    }
    drop(thief);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(owner))).is_err());
    assert_eq!(deaths.load(Relaxed), 3);
}

#[test]
fn a_panic_between_push_and_pop_loses_nothing() {
    let deaths = Arc::default();
    let (owner, thief) = with_80_left(&deaths);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        owner.push(Box::new(Canary::new(100, &deaths)));
        let _in_hand = owner.pop();
        panic!("on purpose");
    }));
    assert!(unwound.is_err());
    assert_eq!(deaths.load(Relaxed), 21);
    drop((owner, thief));
    assert_eq!(deaths.load(Relaxed), 101);
}

#[test]
fn an_owner_goes_from_thread_to_thread() {
    let (owner, thief) = deque();
    owner.push(Box::new(1));
    let owner = thread::spawn(move || {
        owner.push(Box::new(2));
        assert_eq!(owner.pop(), Some(Box::new(2)));
        owner
    });
    let owner = owner.join().expect("no panic");
    assert_eq!(owner.pop(), Some(Box::new(1)));
    assert_eq!(thief.steal(), Steal::Empty);
}

#[test]
fn half_of_the_items_are_stolen_at_once() {
    let ((owner, thief), (own, _)) = (deque(), deque());
    (1..=7).for_each(|number| owner.push(Box::new(number)));
    assert_eq!(thief.steal_batch(&own), Steal::Taken(Box::new(1)));
    assert_eq!([owner.len(), own.len()], [3, 3]);
    let popped: Vec<_> = std::iter::from_fn(|| own.pop()).map(|item| *item).collect();
    assert_eq!(popped, [4, 3, 2]);
    assert_eq!(thief.steal_batch(&own), Steal::Taken(Box::new(5)));
    assert_eq!(own.pop(), Some(Box::new(6)));
    assert_eq!(thief.steal_batch(&own), Steal::Taken(Box::new(7)));
    assert!(own.is_empty());
    assert_eq!(thief.steal_batch(&own), Steal::Empty);
    assert!(thief.is_empty());
    assert_eq!(owner.pop(), None);
    owner.push(Box::new(8));
    assert_eq!(thief.len(), 1);
    assert_eq!(owner.pop(), Some(Box::new(8)));
}

/// Into the deque that it is stolen from: a detour.
#[test]
fn a_batch_may_come_back() {
    let (owner, thief) = deque();
    (1..=4).for_each(|number| owner.push(Box::new(number)));
    assert_eq!(thief.steal_batch(&owner), Steal::Taken(Box::new(1)));
    let popped: Vec<_> = std::iter::from_fn(|| owner.pop()).map(|item| *item).collect();
    assert_eq!(popped, [2, 4, 3]);
}

#[test]
fn an_owner_may_take_the_oldest() {
    let (owner, thief) = with_capacity(2);
    (1..=6).for_each(|number| owner.push(Box::new(number)));
    assert_eq!(owner.pop_oldest(), Some(Box::new(1)));
    assert_eq!(thief.steal(), Steal::Taken(Box::new(2)));
    assert_eq!(owner.pop(), Some(Box::new(6)));
    (3..=5).for_each(|number| assert_eq!(owner.pop_oldest(), Some(Box::new(number))));
    assert_eq!([owner.pop_oldest(), owner.pop()], [None, None]);
    owner.push(Box::new(7));
    assert_eq!(owner.pop_oldest(), Some(Box::new(7)));
}

/// Owners and thieves of every kind at once: each item comes out once.
#[test]
fn every_item_comes_out_once_whoever_takes_how_many() {
    const ITEMS: usize = if cfg!(miri) { 60 } else { 100_000 };
    for pause in [1_000, 10, 1].map(Duration::from_micros) {
        let deaths = Arc::default();
        let counts: Vec<_> = (0..ITEMS).map(|_| AtomicUsize::new(0)).collect();
        let count = |item: Box<Canary>| {
            item.assert_alive();
            counts[item.number].fetch_add(1, Relaxed);
        };
        let (owner, thief) = with_pause(1, pause);
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            for batches in [true, true, false] {
                let (thief, ended, count) = (&thief, &ended, &count);
                scope.spawn(move || {
                    if !batches {
                        return steal_all(thief, ended, count);
                    }
                    let (own, _) = deque();
                    loop {
                        let is_over = ended.load(Acquire);
                        let stolen = thief.steal_batch(&own);
                        while let Some(item) = own.pop() {
                            count(item);
                        }
                        match stolen {
                            Steal::Taken(item) => count(item),
                            Steal::Empty if is_over => return,
                            _ => thread::yield_now(),
                        }
                    }
                });
            }
            let (owner, deaths, ended, count) = (owner, &deaths, &ended, &count);
            scope.spawn(move || {
                let _end = End(ended);
                let mut random = fastrand::Rng::with_seed(3);
                for number in 0..ITEMS {
                    owner.push(Box::new(Canary::new(number, deaths)));
                    match random.u8(..) {
                        0..80 => owner.pop().into_iter().for_each(count),
                        80..120 => owner.pop_oldest().into_iter().for_each(count),
                        120 => while owner.pop().map(count).is_some() {},
                        _ => {}
                    }
                }
            });
        });
        assert_eq!(deaths.load(Relaxed), ITEMS);
        for (number, count) in counts.iter().enumerate() {
            assert_eq!(count.load(Relaxed), 1, "item {number}");
        }
    }
}

#[test]
fn room_is_given_back_after_a_burst() {
    if crate::ledger::is_too_long() {
        return;
    }
    const BURST: usize = 1 << 20;
    type Take = fn(&Owner<usize>, &Stealer<usize>) -> bool;
    let ways: [Take; 3] = [
        |owner, _| owner.pop().is_some(),
        |owner, _| owner.pop_oldest().is_some(),
        |owner, thief| {
            let is_taken = matches!(thief.steal(), Steal::Taken(_));
            // The owner does not know before it comes again.
            owner.push(Box::new(0));
            owner.pop();
            is_taken
        },
    ];
    for (i, take) in ways.into_iter().enumerate() {
        // Only the third way steals. Heavy fences are not what is tried here: so fewer items there, and a long pause.
        let burst = if i == 2 { BURST >> 6 } else { BURST };
        let (owner, thief) = with_pause(64, Duration::from_secs(30));
        (0..burst).for_each(|item| owner.push(Box::new(item)));
        assert_eq!(owner.capacity(), burst);
        while take(&owner, &thief) {
            let most = 64.max(16 * owner.len());
            assert!(owner.capacity() <= most, "{} for {}", owner.capacity(), owner.len());
        }
        assert_eq!(owner.capacity(), 64);
    }
}

/// While steals are rare, each costs one heavy fence. If they come often, there are at most two heavy fences in a
/// pause.
#[test]
fn thieves_that_come_often_cost_no_heavy_fence_each() {
    alone(|| {
        const TIMES: usize = 1_000;
        let fences = |pause: Duration, rest: Duration| {
            let (owner, thief) = with_pause(64, pause);
            asked(|| {
                for item in 0..TIMES {
                    owner.push(Box::new(item));
                    assert_eq!(thief.steal(), Steal::Taken(Box::new(item)));
                    pass(rest);
                }
            })
        };
        // Half a minute is longer than it takes.
        assert!(fences(Duration::from_secs(30), Duration::ZERO) <= 4);
        // More than a pause passes between two.
        assert!(fences(Duration::from_micros(1), Duration::from_micros(3)) >= TIMES);
    });
}

#[test]
fn a_thief_that_finds_nothing_pays_nothing() {
    alone(|| {
        let ((owner, thief), (own, _)) = (deque::<usize>(), deque());
        owner.push(Box::new(1));
        assert!(owner.pop().is_some());
        let steals = || {
            assert_eq!([thief.steal(), thief.steal_batch(&own)], [Steal::Empty, Steal::Empty]);
        };
        assert_eq!(asked(steals), 0);
    });
}
