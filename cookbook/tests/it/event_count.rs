use std::future::{Future, IntoFuture};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use std::{array, mem, thread};

use asymfence_cookbook::event_count::EventCount;
use crossbeam_deque::{Injector, Steal};
use ring::Ring;

use crate::{alone, asked, pass};

#[allow(unreachable_pub, reason = "an example's")]
#[path = "../../examples/event_count/ring.rs"]
mod ring;

/// Sleeps as soon as it can.
fn drowsy() -> EventCount {
    EventCount::with_looks(1)
}

fn assert_nobody_waits(event: &EventCount) {
    assert_eq!(format!("{event:?}"), "EventCount { waiters: 0, .. }");
}

#[test]
fn a_condition_that_holds_is_looked_at_once() {
    let (event, mut looks) = (EventCount::new(), 0);
    event.wait_until(|| {
        looks += 1;
        Some(())
    });
    assert_eq!(looks, 1);
}

#[test]
fn a_sleeper_looks_as_often_as_it_was_told_and_once_more() {
    for looks in 1..5 {
        let (event, mut looked) = (EventCount::with_looks(looks), 0);
        event.wait_until(|| {
            looked += 1;
            let announced = format!("{event:?}").contains("waiters: 1");
            announced.then_some(())
        });
        assert_eq!(looked, looks + 1);
        assert_nobody_waits(&event);
    }
}

#[test]
fn who_was_notified_while_it_listened_does_not_park() {
    let event = EventCount::new();
    for notify in [EventCount::notify_one, EventCount::notify_all] {
        let listeners = [event.listen(), event.listen()];
        notify(&event);
        assert_nobody_waits(&event);
        listeners.into_iter().for_each(|listener| listener.wait());
    }
}

#[test]
fn a_notification_for_nobody_is_not_kept() {
    let event = EventCount::new();
    event.notify_one();
    event.notify_all();
    let listener = event.listen();
    assert_eq!(format!("{event:?}"), "EventCount { waiters: 1, .. }");
    drop(listener);
    assert_nobody_waits(&event);
}

#[test]
fn a_listener_that_is_dropped_after_a_notification_takes_nobody_off_the_count() {
    let event = EventCount::new();
    let early = event.listen();
    event.notify_one();
    let late = event.listen();
    drop(early);
    assert_eq!(format!("{event:?}"), "EventCount { waiters: 1, .. }");
    event.notify_one();
    late.wait();
}

#[test]
fn a_listener_that_is_forgotten_is_so_by_the_next_notification() {
    let event = EventCount::new();
    mem::forget(event.listen());
    event.notify_one();
    assert_nobody_waits(&event);
}

#[test]
fn a_condition_that_panics_leaves_nobody_announced() {
    let (event, mut looks) = (drowsy(), 0);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        event.wait_until(|| {
            looks += 1;
            assert!(looks < 2, "the look after the announcement");
            None::<()>
        });
    }));
    assert!(panic.is_err());
    assert_nobody_waits(&event);
    // Nor anything poisoned.
    let listener = event.listen();
    event.notify_one();
    listener.wait();
}

#[test]
fn a_condition_may_notify_and_wait_itself() {
    let (event, mut looks) = (drowsy(), 0);
    event.wait_until(|| {
        looks += 1;
        event.notify_one();
        event.wait_until(|| Some(()));
        (looks == 3).then_some(())
    });
    assert_nobody_waits(&event);
}

/// The notification may reach the one that cancels, or the sleeper, which may sleep already or not yet.
#[test]
fn who_cancels_takes_no_wake_up_from_who_sleeps() {
    for _ in 0..if cfg!(miri) { 10 } else { 1_000 } {
        let (event, listening, ready) = (drowsy(), Barrier::new(2), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let listener = event.listen();
                listening.wait();
                listener.wait();
                assert!(ready.load(Relaxed), "woken for nothing");
            });
            let fickle = event.listen();
            listening.wait();
            ready.store(true, Relaxed);
            event.notify_one();
            drop(fickle);
        });
        assert_nobody_waits(&event);
    }
}

#[test]
fn notify_all_wakes_all() {
    const SLEEPERS: usize = 8;
    const ROUNDS: usize = if cfg!(miri) { 5 } else { 500 };
    let event = drowsy();
    let (round, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let back = drowsy();
    thread::scope(|scope| {
        for _ in 0..SLEEPERS {
            scope.spawn(|| {
                for mine in 1..=ROUNDS {
                    event.wait_until(|| (round.load(Acquire) >= mine).then_some(()));
                    done.fetch_add(1, Release);
                    back.notify_one();
                }
            });
        }
        for next in 1..=ROUNDS {
            round.store(next, Release);
            event.notify_all();
            back.wait_until(|| (done.load(Acquire) == next * SLEEPERS).then_some(()));
        }
    });
    assert_nobody_waits(&event);
    assert_nobody_waits(&back);
}

/// Two threads that sleep at every single item: one wake-up lost, and both sleep for ever.
#[test]
fn ping_pong_loses_no_wake_up() {
    const ROUNDS: u64 = if cfg!(miri) { 100 } else { 20_000 };
    let (rings, events) = ([Ring::<1>::new(), Ring::new()], [drowsy(), drowsy()]);
    let pop = |side: usize| events[side].wait_until(|| rings[side].try_pop());
    let push = |side: usize, item| {
        rings[side].try_push(item).expect("one item, and it is here");
        events[side].notify_one();
    };
    thread::scope(|scope| {
        scope.spawn(|| (0..ROUNDS).for_each(|_| push(1, pop(0) + 1)));
        for round in 0..ROUNDS {
            push(0, 2 * round);
            assert_eq!(pop(1), 2 * round + 1);
        }
    });
}

/// Rings whose ends sleep when they find them empty or full, which they do all the time.
#[test]
fn a_ring_that_is_empty_or_full_hands_everything_over_in_order() {
    fn hand_over<const N: usize>(event: fn() -> EventCount, items: u64) {
        let (ring, filled, emptied) = (Ring::<N>::new(), event(), event());
        thread::scope(|scope| {
            scope.spawn(|| {
                for item in 0..items {
                    emptied.wait_until(|| ring.try_push(item));
                    filled.notify_one();
                }
            });
            for item in 0..items {
                assert_eq!(filled.wait_until(|| ring.try_pop()), item);
                emptied.notify_one();
            }
        });
    }
    let items = if cfg!(miri) { [50, 100, 2_000] } else { [20_000, 50_000, 2_000_000] };
    hand_over::<1>(drowsy, items[0]);
    hand_over::<7>(drowsy, items[1]);
    hand_over::<1024>(EventCount::new, items[2]);
}

/// Several conditions on one event count: each consumer waits for rings of its own.
#[test]
fn several_producers_and_consumers_on_one_event_count_lose_no_wake_up() {
    const PAIRS: usize = 3;
    const ITEMS: u64 = if cfg!(miri) { 100 } else { 20_000 };
    let rings: [_; PAIRS] = array::from_fn(|_| Ring::<64>::new());
    let (filled, emptied) = (drowsy(), drowsy());
    thread::scope(|scope| {
        for ring in &rings {
            scope.spawn(|| {
                for item in 0..ITEMS {
                    emptied.wait_until(|| ring.try_push(item));
                    filled.notify_all();
                }
            });
            scope.spawn(|| {
                for item in 0..ITEMS {
                    assert_eq!(filled.wait_until(|| ring.try_pop()), item);
                    emptied.notify_all();
                }
            });
        }
    });
    assert_nobody_waits(&filled);
    assert_nobody_waits(&emptied);
}

/// A value that counts its end.
struct Canary<'c>(&'c AtomicUsize);

impl Drop for Canary<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A queue that all of them share: any consumer may take any item, so each push wakes one.
#[test]
fn notify_one_is_enough_for_consumers_that_are_alike() {
    const THREADS: usize = 4;
    const ITEMS: usize = if cfg!(miri) { 50 } else { 20_000 };
    let ends = AtomicUsize::new(0);
    let (queue, filled) = (Injector::new(), drowsy());
    let try_take = || match queue.steal() {
        Steal::Success(item) => Some(Some(item)),
        Steal::Retry => Some(None),
        Steal::Empty => None,
    };
    let take = || loop {
        if let Some(item) = filled.wait_until(try_take) {
            break item;
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ITEMS {
                    queue.push(Canary(&ends));
                    filled.notify_one();
                }
            });
            // Takes exactly its share of the items, and leaves. No other consumer may sleep on because this one has
            // gone.
            scope.spawn(|| (0..ITEMS).for_each(|_| drop(take())));
        }
    });
    assert!(queue.is_empty());
    assert_eq!(ends.load(Relaxed), THREADS * ITEMS);
    assert_nobody_waits(&filled);
}

/// Wakes a thread, and counts.
struct Counted(Thread, AtomicUsize);

impl Counted {
    fn new() -> Arc<Self> {
        Arc::new(Counted(thread::current(), AtomicUsize::new(0)))
    }
}

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Relaxed);
        self.0.unpark();
    }
}

/// The smallest executor there is.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Counted::new());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park();
    }
}

#[test]
fn so_many_wake_as_are_notified() {
    let event = EventCount::new();
    let wakers: [_; 4] = array::from_fn(|_| Counted::new());
    let mut tasks = array::from_fn::<_, 4, _>(|_| Box::pin(event.listen().into_future()));
    let mut poll = |i: usize| {
        let waker = Waker::from(Arc::clone(&wakers[i]));
        tasks[i].as_mut().poll(&mut Context::from_waker(&waker))
    };
    (0..4).for_each(|i| assert_eq!(poll(i), Poll::Pending));
    event.notify(2);
    // The oldest first.
    assert_eq!(wakers.each_ref().map(|waker| waker.1.load(Relaxed)), [1, 1, 0, 0]);
    assert_eq!(
        [0, 1, 2, 3].map(&mut poll),
        [Poll::Ready(()), Poll::Ready(()), Poll::Pending, Poll::Pending]
    );
    assert_eq!(format!("{event:?}"), "EventCount { waiters: 2, .. }");
    event.notify(7);
    assert_eq!([2, 3].map(&mut poll), [Poll::Ready(()); 2]);
    assert_nobody_waits(&event);
}

/// A task may move from executor to executor.
#[test]
fn the_waker_of_the_last_poll_is_woken() {
    let event = EventCount::new();
    let mut waiting = pin!(event.listen().into_future());
    let wakers: [_; 2] = array::from_fn(|_| Counted::new());
    for waker in &wakers {
        let waker = Waker::from(Arc::clone(waker));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    event.notify_one();
    assert_eq!(wakers.map(|waker| waker.1.load(Relaxed)), [0, 1]);
}

/// Whether the task is announced at each look.
#[test]
fn a_task_looks_before_it_announces_itself_and_after() {
    let event = EventCount::new();
    for looks in 1..=2 {
        let mut announced = Vec::new();
        let waiting = event.wait_until_async(|| {
            announced.push(format!("{event:?}").contains("waiters: 1"));
            (announced.len() == looks).then_some(())
        });
        let polled = pin!(waiting).poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_ready());
        assert_eq!(announced, [false, true][..looks]);
        assert_nobody_waits(&event);
    }
}

/// Tasks that listen, and have been polled once.
fn parked<'e, const N: usize>(
    event: &'e EventCount,
    context: &mut Context<'_>,
) -> [Pin<Box<impl Future<Output = ()> + use<'e, N>>>; N] {
    let mut tasks = array::from_fn(|_| Box::pin(event.listen().into_future()));
    tasks.iter_mut().for_each(|task| assert!(task.as_mut().poll(context).is_pending()));
    tasks
}

#[test]
fn a_notification_of_as_many_as_are_parked_is_one_of_all() {
    let event = EventCount::new();
    let mut context = Context::from_waker(Waker::noop());
    let tasks: [_; 2] = parked(&event, &mut context);
    event.notify(2);
    // Who comes later is woken by none of the two that go.
    let mut late = pin!(event.listen().into_future());
    assert!(late.as_mut().poll(&mut context).is_pending());
    drop(tasks);
    assert!(late.as_mut().poll(&mut context).is_pending());
}

/// Also if all that listened before them have been notified already.
#[test]
fn tasks_that_listen_after_a_notification_of_all_pass_the_next_one_on() {
    let event = EventCount::new();
    let mut context = Context::from_waker(Waker::noop());
    let before = event.listen();
    event.notify_all();
    drop(before);
    let [woken, mut next] = parked(&event, &mut context);
    event.notify_one();
    drop(woken);
    assert!(next.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_task_that_is_dropped_passes_its_notification_on() {
    let event = EventCount::new();
    let mut context = Context::from_waker(Waker::noop());
    let [woken, mut next, never] = parked(&event, &mut context);
    drop(never);
    event.notify_one();
    drop(woken);
    assert!(next.as_mut().poll(&mut context).is_ready());
    assert_nobody_waits(&event);
}

/// A waker is anybody's code, also where it is cloned and dropped.
#[test]
fn a_waker_may_use_the_event_count() {
    struct Nosy(EventCount);
    impl Wake for Nosy {
        fn wake(self: Arc<Self>) {
            self.0.notify_all();
            drop(self.0.listen());
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.0.notify_all();
        }
    }
    let nosy = Arc::new(Nosy(EventCount::new()));
    let mut waiting = pin!(nosy.0.listen().into_future());
    for _ in 0..2 {
        let waker = Waker::from(Arc::clone(&nosy));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    nosy.0.notify_one();
    let ready = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(ready.is_ready());
}

#[test]
fn a_waker_that_panics_leaves_no_other_task_asleep() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            resume_unwind(Box::new("a waker"));
        }
    }
    let (event, counted) = (drowsy(), Counted::new());
    let wakers = [Waker::from(Arc::new(Panics)), Waker::from(Arc::clone(&counted))];
    let mut waiting =
        [event.listen(), event.listen()].map(|listener| Box::pin(listener.into_future()));
    for (waiting, waker) in waiting.iter_mut().zip(&wakers) {
        assert!(waiting.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    catch_unwind(AssertUnwindSafe(|| event.notify_all())).expect_err("a waker panics");
    assert_eq!(counted.1.load(Relaxed), 1);
}

/// Threads and tasks, of which some give up now and then, on one queue.
#[test]
fn tasks_and_threads_that_give_up_lose_no_wake_up() {
    const ITEMS: usize = if cfg!(miri) { 50 } else { 20_000 };
    let (queue, filled) = (Injector::new(), drowsy());
    let taken = AtomicUsize::new(0);
    let try_take = || match queue.steal() {
        Steal::Success(()) => Some(true),
        Steal::Retry => Some(false),
        Steal::Empty => (taken.load(Relaxed) == ITEMS).then_some(false),
    };
    let take = |found: bool| {
        // The last item wakes the threads that would wait in vain.
        if found && taken.fetch_add(1, Relaxed) + 1 == ITEMS {
            filled.notify_all();
        }
    };
    let goes_on = || taken.load(Relaxed) < ITEMS;
    thread::scope(|scope| {
        scope.spawn(|| {
            while goes_on() {
                take(filled.wait_until(try_take));
            }
        });
        scope.spawn(|| {
            while goes_on() {
                let time = Duration::from_micros(50);
                filled.wait_until_timeout(time, try_take).into_iter().for_each(take);
            }
        });
        scope.spawn(|| {
            while goes_on() {
                take(block_on(filled.wait_until_async(try_take)));
            }
        });
        scope.spawn(|| {
            let mut context = Context::from_waker(Waker::noop());
            while goes_on() {
                // Polled once, woken perhaps, and dropped.
                let mut waiting = pin!(filled.wait_until_async(try_take));
                if let Poll::Ready(found) = waiting.as_mut().poll(&mut context) {
                    take(found);
                }
                thread::yield_now();
            }
        });
        for _ in 0..ITEMS {
            queue.push(());
            filled.notify_one();
        }
    });
    assert_eq!(taken.load(Relaxed), ITEMS);
    assert_nobody_waits(&filled);
}

/// The condition notifies each time, so the thread never sleeps.
#[test]
fn who_waits_for_a_time_waits_no_longer_although_notifications_come() {
    let event = EventCount::with_looks(1);
    let mut looks = 0;
    let found = event.wait_until_timeout(Duration::ZERO, || {
        event.notify_one();
        looks += 1;
        (looks == 100).then_some(())
    });
    // Before the announcement, after it, and once more.
    assert_eq!((found, looks), (None, 3));
}

#[test]
fn who_waits_for_a_time_leaves_nothing_behind() {
    let event = EventCount::new();
    assert!(!event.listen().wait_timeout(Duration::from_micros(1)));
    assert_eq!(event.wait_until_timeout(Duration::ZERO, || None::<()>), None);
    assert_eq!(event.wait_until_timeout(Duration::MAX, || Some(1)), Some(1));
    assert_nobody_waits(&event);
    let listener = event.listen();
    event.notify_one();
    assert!(listener.wait_timeout(Duration::ZERO), "it was notified");
    // The second listener comes after `notify_all`: that notification is not for it.
    mem::forget(event.listen());
    event.notify_all();
    assert!(!event.listen().wait_timeout(Duration::from_micros(1)), "the one before it was");
}

/// The notification may come before it sleeps, but mostly does not.
#[test]
fn who_waits_for_a_time_sleeps_until_it_is_notified() {
    for _ in 0..if cfg!(miri) { 5 } else { 200 } {
        let event = EventCount::new();
        let listener = event.listen();
        thread::scope(|scope| {
            scope.spawn(|| event.notify_one());
            assert!(listener.wait_timeout(Duration::from_secs(600)));
        });
    }
}

#[test]
fn listeners_of_one_time_share_a_heavy_fence() {
    alone(|| {
        // Each comes after a pause, so the fences stay asymmetric.
        let event = EventCount::new().with_pause(Duration::from_micros(1));
        let mut listeners = Vec::new();
        let mut listen = || {
            pass(Duration::from_micros(3));
            listeners.push(event.listen());
        };
        assert_eq!([asked(&mut listen), asked(&mut listen), asked(&mut listen)], [1, 0, 0]);
    });
}

/// While threads rarely go to sleep, each costs one heavy fence. If they do so often, there are at most two heavy
/// fences in a pause.
#[test]
fn sleepers_that_come_often_cost_no_heavy_fence_each() {
    alone(|| {
        const TIMES: usize = 1_000;
        let fences = |pause: Duration, rest: Duration| {
            let event = EventCount::new().with_pause(pause);
            asked(|| {
                for _ in 0..TIMES {
                    drop(event.listen());
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
