//! The work-stealing deque. loom's cells fail a model in which two take the same item, or one takes it without
//! having seen what came before its push.
//!
//! `cargo xtask mutants "cookbook deque"` removes or weakens a fence or an ordering: then a model here must fail.
//!
//! The models cannot show the following, because loom executes each thread in order: that a pop of the last item must
//! release the bottom that it restores, and that a thief's exchange must release its reading of the slot. The argument
//! stands beside each of these orderings in `cookbook/src/deque.rs`, in a comment `survives: ..`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use asymfence::model::Start;
use asymfence_cookbook::deque::{Owner, Steal, Stealer, with_capacity, with_pause};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
use loom::thread;

use loom_tests::check::{STARTS, check, check_within, is_ever};

/// An item of the deque is an index into `items`.
struct World {
    /// Whether each was pushed, and taken.
    items: [UnsafeCell<(bool, bool)>; 3],
}

// SAFETY: loom sees to it.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World { items: std::array::from_fn(|_| UnsafeCell::new((false, false))) })
    }

    fn push(&self, owner: &Owner<usize>, number: usize) {
        // SAFETY: loom fails the model if another uses the item at the same time.
        self.items[number].with_mut(|item| unsafe { (*item).0 = true });
        owner.push(Box::new(number));
    }

    fn take(&self, item: Box<usize>) -> usize {
        // Not freed, so that a model in which it is taken twice says so.
        let number = *Box::leak(item);
        self.items[number].with_mut(|item| {
            // SAFETY: loom fails the model if another uses the item at the same time, or if its push is
            // not ordered before.
            let (pushed, taken) = unsafe { &mut *item };
            assert!(*pushed, "item {number} was taken before it was pushed");
            assert!(!*taken, "item {number} was taken twice");
            *taken = true;
        });
        number
    }

    fn pop(&self, owner: &Owner<usize>) -> Option<usize> {
        owner.pop().map(|item| self.take(item))
    }

    fn steal(&self, thief: &Stealer<usize>) -> Steal<usize> {
        self.take_stolen(thief.steal())
    }

    /// The oldest item of a batch. The others are taken too.
    fn steal_batch(&self, thief: &Stealer<usize>) -> Steal<usize> {
        let (own, _) = with_capacity(2);
        let oldest = thief.steal_batch(&own);
        while self.pop(&own).is_some() {}
        self.take_stolen(oldest)
    }

    fn take_stolen(&self, stolen: Steal<usize>) -> Steal<usize> {
        match stolen {
            Steal::Taken(item) => Steal::Taken(Box::new(self.take(item))),
            Steal::Retry => Steal::Retry,
            Steal::Empty => Steal::Empty,
        }
    }

    /// Pops what is left after all thieves are done, and checks that nothing is missing.
    fn end(&self, owner: &Owner<usize>, pushed: usize) {
        while self.pop(owner).is_some() {}
        for item in &self.items[..pushed] {
            // SAFETY: loom fails the model if another uses the item at the same time.
            assert!(item.with(|item| unsafe { (*item).1 }), "an item was lost");
        }
    }
}

/// The results of a thief's attempts, in order.
type Loot = Vec<Steal<usize>>;

/// One attempt to steal.
type Way = fn(&World, &Stealer<usize>) -> Steal<usize>;
const ONE: Way = World::steal;
const BATCH: Way = World::steal_batch;

/// The owner pushes `before` items. Then the thieves begin, one for each number in `attempts`, and the owner does
/// `then`. A thief tries to steal as often as its number says. Returns what each thief got.
fn run(
    capacity: usize,
    before: usize,
    attempts: &'static [usize],
    then: fn(&World, &Owner<usize>) -> usize,
) -> Vec<Loot> {
    let ways = attempts.iter().map(|&attempts| vec![ONE; attempts]).collect();
    run_on(with_capacity(capacity), before, ways, then)
}

fn run_on(
    (owner, thief): (Owner<usize>, Stealer<usize>),
    before: usize,
    ways: Vec<Vec<Way>>,
    then: fn(&World, &Owner<usize>) -> usize,
) -> Vec<Loot> {
    let world = World::new();
    (0..before).for_each(|number| world.push(&owner, number));
    let thieves: Vec<_> = ways
        .into_iter()
        .map(|ways| {
            let (world, thief) = (Arc::clone(&world), thief.clone());
            thread::spawn(move || -> Loot { ways.iter().map(|way| way(&world, &thief)).collect() })
        })
        .collect();
    let pushed = then(&world, &owner);
    let loot = thieves.into_iter().map(|thief| thief.join().expect("no panic")).collect();
    world.end(&owner, before + pushed);
    loot
}

/// Lets other threads go first, which is no preemption.
fn give_way() {
    thread::spawn(|| ()).join().expect("no panic");
}

/// A pop that finds nothing leaves nothing for the next one.
fn pops(times: usize, world: &World, owner: &Owner<usize>) -> usize {
    let popped = (0..times).map(|_| world.pop(owner));
    popped.skip_while(Option::is_some).for_each(|item| assert_eq!(item, None, "it was there"));
    0
}

/// The owner and a thief compete for the last item.
fn last_item() -> Vec<Loot> {
    run(2, 1, &[1], |world, owner| pops(1, world, owner))
}

#[test]
fn the_last_item_is_popped_or_stolen() {
    for start in STARTS {
        check(start, || _ = last_item());
    }
}

#[test]
fn the_last_item_is_popped_at_times_and_stolen_at_others() {
    let is_ever = |expected: Steal<usize>| {
        let expected = Arc::new(vec![vec![expected]]);
        is_ever(Start::Asymmetric, move || last_item() == *expected)
    };
    assert!(is_ever(Steal::Taken(Box::new(0))));
    assert!(is_ever(Steal::Retry));
    assert!(is_ever(Steal::Empty));
}

/// A thief whose first steal makes the top reach the item that the owner pops. In the scenario at the head of
/// `cookbook/src/deque.rs` another thread may have written that top; here it is the same thief.
fn two_steals() -> Vec<Loot> {
    run(2, 2, &[2], |world, owner| pops(1, world, owner))
}

#[test]
fn an_item_that_the_top_reaches_is_popped_or_stolen() {
    for start in STARTS {
        check(start, || _ = two_steals());
    }
}

#[test]
fn a_thief_takes_all_at_times() {
    assert!(is_ever(Start::Asymmetric, || {
        two_steals() == [[Steal::Taken(Box::new(0)), Steal::Taken(Box::new(1))]]
    }));
}

/// A thief may have looked at the place of the item that is popped, and find another item there.
fn popped_and_pushed() -> Vec<Loot> {
    run(2, 2, &[2], |world, owner| {
        world.pop(owner);
        world.push(owner, 2);
        1
    })
}

#[test]
fn an_item_that_comes_in_anothers_place_is_itself() {
    check(Start::Asymmetric, || _ = popped_and_pushed());
    check(Start::Symmetric, || _ = popped_and_pushed());
}

#[test]
fn an_item_that_comes_in_anothers_place_is_stolen_at_times() {
    assert!(is_ever(Start::Asymmetric, || {
        popped_and_pushed() == [[Steal::Taken(Box::new(0)), Steal::Taken(Box::new(2))]]
    }));
}

/// As `two_steals`, but another thief has written the top. The thief that tries to take the item that the owner pops
/// has only read that top.
fn two_thieves() -> Vec<Loot> {
    run(2, 2, &[1, 1], |world, owner| pops(1, world, owner))
}

#[test]
fn an_item_that_another_thief_made_the_top_is_popped_or_stolen() {
    check_within(Some(2), Start::Asymmetric, || _ = two_thieves());
    check_within(Some(2), Start::Symmetric, || _ = two_thieves());
}

#[test]
fn two_thieves_take_an_item_each_at_times_and_want_the_same_at_others() {
    let both = Arc::new(Mutex::new([false; 2]));
    let seen = Arc::clone(&both);
    check_within(Some(2), Start::Asymmetric, move || {
        let loot = two_thieves();
        let taken = |thief: usize| matches!(loot[thief][0], Steal::Taken(_));
        let retry = |thief: usize| loot[thief][0] == Steal::Retry;
        let mut seen = seen.lock().expect("no panic while it is held");
        seen[0] |= taken(0) && taken(1);
        seen[1] |= taken(0) && retry(1) || taken(1) && retry(0);
    });
    assert_eq!(*both.lock().expect("no panic while it is held"), [true; 2]);
}

/// Also if the only bottom that the thief sees was stored by a pop, and not by the push.
#[test]
fn who_steals_knows_what_came_before_the_push() {
    for start in STARTS {
        check(start, || {
            run(2, 0, &[1], |world, owner| {
                world.push(owner, 0);
                world.push(owner, 1);
                world.pop(owner);
                2
            });
        });
    }
}

/// The second push finds the deque full.
fn growth() -> Vec<Loot> {
    run(1, 1, &[2], |world, owner| {
        world.push(owner, 1);
        world.pop(owner);
        1
    })
}

#[test]
fn nothing_is_lost_while_the_deque_grows() {
    check(Start::Asymmetric, || _ = growth());
    check(Start::Symmetric, || _ = growth());
}

#[test]
fn the_deque_grows_under_a_thief_at_times() {
    assert!(is_ever(Start::Asymmetric, || matches!(growth()[0][..], [Steal::Taken(_), _])));
}

/// A push into a slot from which an item was stolen writes to the slot after the thief has read it. In loom a
/// thread never reads what is written later, so a cell stands in for the slot. (The thief's fence covers the cell,
/// but not the real slot. So this shows the owner's side only.) True if there was room.
fn a_slot_again() -> bool {
    let world = World::new();
    let (owner, thief) = with_capacity(1);
    world.push(&owner, 0);
    let slot = Arc::new(Slot { read: UnsafeCell::new(false), stolen: AtomicBool::new(false) });
    let thief = {
        let (world, slot) = (Arc::clone(&world), Arc::clone(&slot));
        thread::spawn(move || {
            // SAFETY: loom fails the model if another uses the cell at the same time.
            slot.read.with_mut(|read| unsafe { *read = true });
            _ = world.steal(&thief);
            slot.stolen.store(true, Relaxed);
        })
    };
    // Without this access loom does not try a push after a steal. Relaxed: orders nothing.
    _ = slot.stolen.load(Relaxed);
    world.push(&owner, 1);
    let is_again = owner.capacity() == 1;
    if is_again {
        // SAFETY: as above.
        assert!(slot.read.with(|read| unsafe { *read }));
    }
    thief.join().expect("no panic");
    world.end(&owner, 2);
    is_again
}

struct Slot {
    read: UnsafeCell<bool>,
    stolen: AtomicBool,
}

// SAFETY: loom sees to it.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

#[test]
fn a_slot_is_written_again_after_it_was_read() {
    check(Start::Asymmetric, || _ = a_slot_again());
    assert!(is_ever(Start::Asymmetric, a_slot_again));
}

/// Half of three items are two. The owner pops the newest, and then takes back what is claimed, or does not.
fn a_batch(then: fn(&World, &Owner<usize>) -> usize) -> Loot {
    run_on(with_capacity(4), 3, vec![vec![BATCH]], then).remove(0)
}

#[test]
fn an_item_that_is_claimed_is_popped_or_stolen() {
    for start in STARTS {
        check_within(Some(2), start, || _ = a_batch(|world, owner| pops(2, world, owner)));
        check_within(Some(2), start, || _ = a_batch(|world, owner| pops(3, world, owner)));
    }
}

/// The owner also takes the oldest item, and does not look at the claim for that.
#[test]
fn an_item_that_is_claimed_is_taken_from_the_other_end_or_stolen() {
    check_within(Some(2), Start::Asymmetric, || {
        a_batch(|world, owner| {
            owner.pop_oldest().map(|item| world.take(item));
            pops(2, world, owner)
        });
    });
}

/// The owner takes both claimed items from the other end, and the third item stays.
#[test]
fn who_comes_too_late_for_its_batch_does_not_say_that_nothing_is_there() {
    check_within(Some(2), Start::Asymmetric, || {
        let loot = a_batch(|world, owner| {
            (0..2).for_each(|_| _ = owner.pop_oldest().map(|item| world.take(item)));
            0
        });
        assert_ne!(loot, [Steal::Empty]);
    });
}

#[test]
fn a_batch_is_two_items_at_times_and_fewer_at_others() {
    let seen = Arc::new(Mutex::new([false; 3]));
    let ever = Arc::clone(&seen);
    check_within(Some(2), Start::Asymmetric, move || {
        let world = World::new();
        let (owner, thief) = with_capacity(4);
        (0..3).for_each(|number| world.push(&owner, number));
        let thief = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let (own, _) = with_capacity(2);
                let Steal::Taken(oldest) = thief.steal_batch(&own) else { return 0 };
                world.take(oldest);
                let more = own.len();
                while world.pop(&own).is_some() {}
                1 + more
            })
        };
        pops(3, &world, &owner);
        let batch = thief.join().expect("no panic");
        world.end(&owner, 3);
        ever.lock().expect("no panic while it is held")[batch] = true;
    });
    assert_eq!(*seen.lock().expect("no panic while it is held"), [true; 3]);
}

/// One batch after another. A late pop sees the later claim or none, and the top that the first batch stored.
#[test]
fn what_a_batch_has_taken_is_not_popped_when_its_claim_is_over() {
    for start in [Start::Asymmetric, Start::Symmetric] {
        check_within(Some(3), start, || {
            run_on(with_capacity(2), 2, vec![vec![BATCH, BATCH]], |world, owner| {
                pops(1, world, owner)
            });
        });
        check_within(Some(3), start, || {
            run_on(with_capacity(4), 3, vec![vec![BATCH, BATCH]], |world, owner| {
                pops(2, world, owner)
            });
        });
    }
}

/// An item is pushed into the place of one that was claimed and popped.
#[test]
fn an_item_that_comes_in_the_place_of_a_claimed_one_is_itself() {
    check_within(Some(2), Start::Asymmetric, || {
        run_on(with_capacity(2), 2, vec![vec![BATCH, ONE]], |world, owner| {
            world.pop(owner);
            world.pop(owner);
            world.push(owner, 2);
            1
        });
    });
}

#[test]
fn a_batch_and_a_single_thief_and_the_owner_share_the_items() {
    check_within(Some(1), Start::Asymmetric, || {
        run_on(with_capacity(4), 3, vec![vec![BATCH], vec![ONE]], |world, owner| {
            pops(2, world, owner)
        });
    });
}

/// A thief may know the bottom from an owner that has given up an item to a batch.
#[test]
fn who_steals_beside_a_batch_knows_what_came_before_the_push() {
    check_within(Some(2), Start::Asymmetric, || {
        run_on(with_capacity(2), 0, vec![vec![BATCH], vec![ONE]], |world, owner| {
            world.push(owner, 0);
            world.pop(owner);
            1
        });
    });
}

/// The claim that the owner takes back may be a later one, which looks the same. (Two preemptions take ten times as long,
/// and catch no mutant more.)
#[test]
fn what_a_batch_has_taken_is_not_popped_when_another_claims_as_much() {
    check_within(Some(1), Start::Asymmetric, || {
        run_on(with_capacity(4), 3, vec![vec![BATCH], vec![BATCH]], |world, owner| {
            give_way();
            pops(2, world, owner)
        });
    });
}

#[test]
fn two_batches_and_the_owner_share_the_items() {
    check_within(Some(1), Start::Asymmetric, || {
        run_on(with_capacity(4), 3, vec![vec![BATCH], vec![BATCH]], |world, owner| {
            pops(2, world, owner)
        });
    });
}

/// The thief of a batch sees what came before the push of each of its items.
#[test]
fn who_steals_a_batch_knows_what_came_before_the_pushes() {
    check_within(Some(2), Start::Asymmetric, || {
        run_on(with_capacity(2), 0, vec![vec![BATCH]], |world, owner| {
            world.push(owner, 0);
            world.push(owner, 1);
            2
        });
    });
}

/// The owner replaces buffers while a thief may still use the earlier ones.
#[test]
fn no_buffer_is_freed_under_a_thief() {
    for way in [ONE, BATCH] {
        check_within(Some(2), Start::Asymmetric, move || {
            run_on(with_capacity(1), 1, vec![vec![way]], |world, owner| {
                world.push(owner, 1);
                world.push(owner, 2);
                2
            });
        });
    }
}

/// A thief that comes again within two looks at the clock revokes the bias, and the pops ask for it back.
#[test]
fn an_item_is_popped_or_stolen_while_the_fences_give_way_and_return() {
    let busy = || with_pause(4, Duration::from_millis(2));
    for start in [Start::Asymmetric, Start::Symmetric] {
        check_within(Some(2), start, move || {
            run_on(busy(), 3, vec![vec![ONE, ONE]], |world, owner| pops(2, world, owner));
        });
    }
}

/// The bias was revoked before: the fences of both sides are full ones, or the bias is being restored.
#[test]
fn an_item_that_the_top_reaches_is_popped_or_stolen_by_full_fences() {
    check_within(Some(2), Start::Asymmetric, || {
        let (owner, thief) = with_pause(4, Duration::from_millis(2));
        for _ in 0..2 {
            owner.push(Box::new(0));
            assert!(matches!(thief.steal(), Steal::Taken(_)));
        }
        run_on((owner, thief), 2, vec![vec![ONE, ONE]], |world, owner| pops(1, world, owner));
    });
}
