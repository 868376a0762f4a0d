//! The event count. A wake-up that is lost is a deadlock here, which loom reports; a cell fails the model
//! if what a notification announces is not visible to whom it wakes.
//!
//! `cargo xtask mutants "cookbook event count"` removes, weakens or misplaces a fence: then a model here must fail.

/// The same file, compiled with `crate::sync`, whose condition variable wakes all threads at each notification, and
/// returns from every second wait at once.
#[allow(dead_code, unreachable_pub, reason = "of the cookbook")]
#[path = "../../../cookbook/src/event_count.rs"]
mod woken_at_will;

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use asymfence::model::Start;
use asymfence_cookbook::event_count::EventCount;
use loom::cell::UnsafeCell;
use loom::future::block_on;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use loom::thread;

use crate::sync::ASLEEP;
use loom_tests::check::{check, check_within, is_ever};

const STARTS: [Start; 4] = [
    Start::Asymmetric,
    Start::Symmetric,
    Start::Undecided { rung_works: true },
    Start::Undecided { rung_works: false },
];

/// An event count, and items that become available one by one.
struct World {
    event: EventCount,
    available: AtomicUsize,
}

impl World {
    fn new() -> Arc<Self> {
        // One look before it announces itself: fewer looks keep the model small.
        Arc::new(World { event: EventCount::with_looks(1), available: AtomicUsize::new(0) })
    }

    fn busy() -> Arc<Self> {
        Arc::new(World { event: busy(), available: AtomicUsize::new(0) })
    }

    fn spawn<T: 'static>(self: &Arc<Self>, body: fn(&World) -> T) -> thread::JoinHandle<T> {
        let world = Arc::clone(self);
        thread::spawn(move || body(&world))
    }

    fn push(&self) {
        self.available.fetch_add(1, Relaxed);
        self.event.notify_one();
    }

    /// The first item, by a plain store: the weakest access that the documentation allows.
    fn store(&self) {
        self.available.store(1, Relaxed);
        self.event.notify_one();
    }

    fn try_take(&self) -> Option<()> {
        self.available.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).ok().map(drop)
    }

    /// Takes one, and returns how often it looked.
    fn take(&self) -> usize {
        let mut looks = 0;
        self.event.wait_until(|| {
            looks += 1;
            self.try_take()
        });
        looks
    }
}

/// A task that sleeps for an item.
fn take_as_a_task(world: &World) {
    block_on(world.event.wait_until_async(|| world.try_take()));
}

/// A task that announces itself, is polled once, and is dropped.
fn give_up_as_a_task(world: &World) {
    let listener = world.event.listen();
    let mut waiting = pin!(listener.into_future());
    let mut context = Context::from_waker(Waker::noop());
    if waiting.as_mut().poll(&mut context) == Poll::Pending {
        thread::yield_now();
    }
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// If a thread sleeps again within two looks at the clock, the bias is revoked. After two more looks it is restored.
fn busy() -> EventCount {
    EventCount::with_looks(1).with_pause(Duration::from_millis(2))
}

/// One thread stores and notifies, another sleeps. Returns how often the sleeper looked.
fn store_against_sleep() -> usize {
    let world = World::new();
    let notifier = world.spawn(World::store);
    let looks = world.take();
    join([notifier]);
    looks
}

#[test]
fn no_wake_up_is_lost() {
    for start in STARTS {
        check(start, || _ = store_against_sleep());
    }
}

/// So the test above has seen a thread that need not sleep, one that sees the item in time, and one that is notified.
#[test]
fn a_sleeper_looks_once_or_twice_or_wakes() {
    for looks in 1..=3 {
        assert!(is_ever(Start::Asymmetric, move || store_against_sleep() == looks), "{looks}");
    }
}

#[test]
fn nobody_is_announced_at_the_end() {
    check(Start::Asymmetric, || {
        let world = World::new();
        let notifier = world.spawn(World::push);
        world.take();
        join([notifier]);
        assert_eq!(format!("{:?}", world.event), "EventCount { waiters: 0, .. }");
    });
}

#[test]
fn who_takes_one_after_another_misses_none() {
    check(Start::Asymmetric, || {
        let world = World::new();
        let producer = world.spawn(|world| {
            world.push();
            world.push();
        });
        world.take();
        world.take();
        join([producer]);
    });
}

#[test]
fn two_who_notify_lose_no_wake_up() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        let producers = [world.spawn(World::push), world.spawn(World::push)];
        world.take();
        world.take();
        join(producers);
    });
}

/// Each of two notifications wakes one of two sleepers, or finds one awake.
#[test]
fn notify_one_reaches_as_many_as_it_is_called() {
    for start in [Start::Asymmetric, Start::Symmetric] {
        let both_slept = Arc::new(AtomicBool::new(false));
        let ever = Arc::clone(&both_slept);
        check_within(Some(2), start, move || {
            let world = World::new();
            let sleepers = [0, 1].map(|_| world.spawn(World::take));
            world.push();
            world.push();
            let looks = sleepers.map(|sleeper| sleeper.join().expect("no panic"));
            ever.fetch_or(looks.iter().all(|&looks| looks > 2), Relaxed);
        });
        assert!(both_slept.load(Relaxed));
    }
}

/// A listener that leaves takes no wake-up away from a sleeper, whether it was notified or not.
#[test]
fn who_cancels_swallows_nothing() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        let sleeper = world.spawn(|world| _ = world.take());
        let fickle = world.spawn(|world| drop(world.event.listen()));
        world.push();
        join([sleeper, fickle]);
        assert_eq!(format!("{:?}", world.event), "EventCount { waiters: 0, .. }");
    });
}

/// The same for a listener that leaves because it found what another one was notified of.
#[test]
fn who_takes_and_leaves_swallows_nothing() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        let sleeper = world.spawn(|world| _ = world.take());
        let passer_by = world.spawn(|world| {
            let listener = world.event.listen();
            if world.try_take().is_some() {
                // Taken away from the sleeper: so there has to be another.
                drop(listener);
                world.push();
            }
        });
        world.push();
        join([sleeper, passer_by]);
    });
}

/// Two conditions on one event count. A thread that a notification woke leaves, even if another one parks before it
/// is awake: the other one waits for something else.
#[test]
fn notify_all_wakes_those_who_parked_before_it() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        let first = world.spawn(|world| {
            world.event.wait_until(|| (world.available.load(Relaxed) > 0).then_some(()));
        });
        let second = world.spawn(|world| {
            world.event.wait_until(|| (world.available.load(Relaxed) > 1).then_some(()));
        });
        world.available.store(1, Relaxed);
        world.event.notify_all();
        // If it were asleep, the second notification would hide that.
        join([first]);
        world.available.store(2, Relaxed);
        world.event.notify_all();
        join([second]);
    });
}

#[test]
fn a_task_loses_no_wake_up() {
    for start in STARTS {
        check(start, || {
            let world = World::new();
            let notifier = world.spawn(World::store);
            take_as_a_task(&world);
            join([notifier]);
            assert_eq!(format!("{:?}", world.event), "EventCount { waiters: 0, .. }");
        });
    }
}

#[test]
fn a_task_and_a_thread_lose_no_wake_up() {
    check_within(Some(2), Start::Asymmetric, || {
        let world = World::new();
        let sleepers = [world.spawn(take_as_a_task), world.spawn(|world| _ = world.take())];
        world.push();
        world.push();
        join(sleepers);
    });
}

/// Whether it was woken or not.
#[test]
fn a_task_that_is_dropped_swallows_nothing() {
    for sleeper in [take_as_a_task as fn(&World), |world| _ = world.take()] {
        check_within(Some(2), Start::Asymmetric, move || {
            let world = World::new();
            let fickle = world.spawn(give_up_as_a_task);
            let sleeper = world.spawn(sleeper);
            world.push();
            join([sleeper, fickle]);
            assert_eq!(format!("{:?}", world.event), "EventCount { waiters: 0, .. }");
        });
    }
}

/// A listener whose time is over leaves, and takes no wake-up away from one that sleeps.
#[test]
fn who_waits_for_a_time_swallows_nothing() {
    let both = Arc::new([false, true].map(AtomicBool::new));
    let ever = Arc::clone(&both);
    check_within(Some(2), Start::Asymmetric, move || {
        let world = World::new();
        let sleeper = world.spawn(|world| _ = world.take());
        let impatient = world.spawn(|world| {
            world.event.wait_until_timeout(Duration::from_millis(2), || world.try_take()).is_some()
        });
        world.push();
        let found = impatient.join().expect("no panic");
        ever[0].fetch_or(found, Relaxed);
        ever[1].fetch_and(found, Relaxed);
        if found {
            world.push();
        }
        join([sleeper]);
        assert_eq!(format!("{:?}", world.event), "EventCount { waiters: 0, .. }");
    });
    let [found, not_found] = [both[0].load(Relaxed), !both[1].load(Relaxed)];
    assert!(found && not_found, "it found it at times, and at others it did not");
}

#[test]
fn a_notification_for_two_reaches_two() {
    for second in [take_as_a_task as fn(&World), |world| _ = world.take()] {
        check_within(Some(2), Start::Asymmetric, move || {
            let world = World::new();
            let sleepers = [world.spawn(|world| _ = world.take()), world.spawn(second)];
            world.available.fetch_add(2, Relaxed);
            world.event.notify(2);
            join(sleepers);
        });
    }
}

/// Three are parked.
#[test]
fn a_notification_for_two_of_three_reaches_two() {
    check_within(Some(1), Start::Symmetric, || {
        let event: &'static _ = Box::leak(Box::new(EventCount::new()));
        let left = Arc::new(AtomicUsize::new(0));
        let sleepers = [0; 3].map(|_| {
            let (listener, left) = (event.listen(), Arc::clone(&left));
            thread::spawn(move || {
                listener.wait();
                left.fetch_add(1, Relaxed);
            })
        });
        // Until all of them are parked.
        thread::yield_now();
        event.notify(2);
        while left.load(Relaxed) < 2 {
            thread::yield_now();
        }
        event.notify_all();
        join(sleepers);
    });
}

/// A thread sleeps again and again, so the fences become full ones. The notifications ask for the bias back.
#[test]
fn no_wake_up_is_lost_while_the_fences_give_way_and_return() {
    for start in [Start::Asymmetric, Start::Symmetric] {
        check_within(Some(2), start, || {
            let world = World::busy();
            let notifier = world.spawn(|world| {
                world.push();
                world.push();
                world.push();
            });
            (0..3).for_each(|_| _ = world.take());
            join([notifier]);
        });
    }
}

/// The bias was revoked before the notifier comes. Its fence is a full one, or a light one again.
#[test]
fn no_wake_up_is_lost_by_full_fences() {
    check(Start::Asymmetric, || {
        let world = World::busy();
        (0..2).for_each(|_| drop(world.event.listen()));
        let notifier = world.spawn(World::store);
        world.take();
        join([notifier]);
    });
}

#[test]
fn what_came_before_a_notification_is_visible_after_it() {
    struct World {
        event: EventCount,
        data: UnsafeCell<u32>,
    }
    // SAFETY: loom sees to it.
    unsafe impl Sync for World {}

    check(Start::Asymmetric, || {
        let (data, event) = (UnsafeCell::new(0), EventCount::with_looks(1));
        let world = Arc::new(World { event, data });
        let listener = world.event.listen();
        let notifier = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                // SAFETY: loom fails the model if another thread reads at the same time.
                world.data.with_mut(|data| unsafe { *data = 1 });
                world.event.notify_one();
            })
        };
        listener.wait();
        // SAFETY: loom fails the model if another thread writes at the same time.
        assert_eq!(world.data.with(|data| unsafe { *data }), 1);
        join([notifier]);
    });
}

/// A ring of one place: what is pushed is complete when it is popped, and is popped before it is overwritten.
#[test]
fn two_who_wait_for_each_other_hand_everything_over() {
    struct Ring {
        items: EventCount,
        space: EventCount,
        full: AtomicUsize,
        place: UnsafeCell<u32>,
    }
    // SAFETY: loom sees to it.
    unsafe impl Sync for Ring {}

    impl Ring {
        fn push(&self, item: u32) {
            // Acquire: what was in the place has been read. Pairs with: the Release in `pop`.
            self.space.wait_until(|| (self.full.load(Acquire) == 0).then_some(()));
            // SAFETY: loom fails the model if another thread reads at the same time.
            self.place.with_mut(|place| unsafe { *place = item });
            // Release: the item is in its place. Pairs with: the Acquire in `pop`.
            self.full.store(1, Release);
            self.items.notify_one();
        }

        fn pop(&self) -> u32 {
            self.items.wait_until(|| (self.full.load(Acquire) == 1).then_some(()));
            // SAFETY: loom fails the model if another thread writes at the same time.
            let item = self.place.with(|place| unsafe { *place });
            self.full.store(0, Release);
            self.space.notify_one();
            item
        }
    }

    check_within(Some(2), Start::Asymmetric, || {
        let ring = Arc::new(Ring {
            items: EventCount::with_looks(1),
            space: EventCount::with_looks(1),
            full: AtomicUsize::new(0),
            place: UnsafeCell::new(0),
        });
        let producer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || (1..=2).for_each(|item| ring.push(item)))
        };
        assert_eq!([ring.pop(), ring.pop()], [1, 2]);
        join([producer]);
    });
}

/// A thread that already listens, and now waits. The event count is never dropped, so the thread borrows it.
fn wait(event: &'static woken_at_will::EventCount) -> thread::JoinHandle<()> {
    let listener = event.listen();
    thread::spawn(move || listener.wait())
}

#[test]
fn whom_notify_all_has_reached_nobody_overtakes() {
    check(Start::Symmetric, || {
        let event = Box::leak(Box::new(woken_at_will::EventCount::new()));
        let first = wait(event);
        event.notify_all();
        let others = [wait(event), wait(event)];
        event.notify_one();
        first.join().expect("no panic");
        event.notify_all();
        others.into_iter().for_each(|other| other.join().expect("no panic"));
    });
}

#[test]
fn whom_notify_one_has_reached_nobody_overtakes_that_listens_later() {
    check(Start::Symmetric, || {
        let event = Box::leak(Box::new(woken_at_will::EventCount::new()));
        let first = wait(event);
        event.notify_one();
        let second = wait(event);
        first.join().expect("no panic");
        event.notify_one();
        second.join().expect("no panic");
    });
}

/// One of two parked threads is woken, and one that listens later does not leave in its place.
#[test]
fn whom_notify_one_has_reached_of_two_nobody_overtakes_that_listens_later() {
    check_within(Some(2), Start::Symmetric, || {
        let event: &'static _ = Box::leak(Box::new(woken_at_will::EventCount::new()));
        let left = Arc::new(AtomicUsize::new(0));
        let first = [0; 2].map(|_| {
            let (listener, left) = (event.listen(), Arc::clone(&left));
            thread::spawn(move || {
                listener.wait();
                left.fetch_add(1, Relaxed);
            })
        });
        event.notify_one();
        let later = wait(event);
        while left.load(Relaxed) == 0 {
            thread::yield_now();
        }
        event.notify_all();
        first.into_iter().chain([later]).for_each(|thread| thread.join().expect("no panic"));
    });
}

/// Two are parked. Each `notify(1)` is for one of them.
#[test]
fn a_notification_for_one_ends_one_wait() {
    check_within(Some(2), Start::Symmetric, || {
        ASLEEP.set(0);
        let event: &'static _ = Box::leak(Box::new(woken_at_will::EventCount::new()));
        // The number of notifications, and of the threads that they woke.
        let counts = Arc::new([0; 2].map(AtomicUsize::new));
        let parked = [0; 2].map(|_| {
            let (listener, counts) = (event.listen(), Arc::clone(&counts));
            thread::spawn(move || {
                listener.wait();
                let [notified, woken] = &*counts;
                // AcqRel: a thread that left before us has seen its notification, and we see that.
                let before = woken.fetch_add(1, AcqRel);
                assert!(before < notified.load(Relaxed), "two left by one notification");
            })
        });
        while ASLEEP.get() < 2 {
            thread::yield_now();
        }
        for notified in 1..=2 {
            counts[0].store(notified, Relaxed);
            event.notify_one();
        }
        parked.into_iter().for_each(|parked| parked.join().expect("no panic"));
    });
}

#[test]
fn a_wake_up_that_is_no_notification_ends_no_wait() {
    for notify in [woken_at_will::EventCount::notify_one, woken_at_will::EventCount::notify_all] {
        check(Start::Symmetric, move || {
            let event: &'static _ = Box::leak(Box::new(woken_at_will::EventCount::new()));
            let is_notified = Arc::new(AtomicUsize::new(0));
            let (listener, seen) = (event.listen(), Arc::clone(&is_notified));
            let waits = thread::spawn(move || {
                listener.wait();
                assert_eq!(seen.load(Relaxed), 1, "nobody has notified it");
            });
            is_notified.store(1, Relaxed);
            notify(event);
            waits.join().expect("no panic");
        });
    }
}
