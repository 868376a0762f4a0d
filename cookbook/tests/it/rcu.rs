//! RCU: what is read is alive, what is replaced dies once, and which guard holds which writer back.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Barrier};
use std::{fmt, mem, panic, thread};

use asymfence_cookbook::rcu::Rcu;

use crate::canary::Canary;
use crate::{alone, asked};

/// Two writers replace, one by waiting and one by polling; readers read, nested and not, and now and then a
/// new reader takes the place of one.
#[test]
fn what_is_read_is_alive_and_what_is_replaced_dies_once() {
    const REPLACED: usize = if cfg!(miri) { 10 } else { 300 };
    const READS: usize = if cfg!(miri) { 20 } else { 1_000 };
    let deaths = Arc::default();
    let rcu = Rcu::new(Canary::new(0, &deaths));
    let (stop, begin) = (AtomicBool::new(false), Barrier::new(4));
    thread::scope(|scope| {
        let readers: [_; 2] = std::array::from_fn(|_| {
            scope.spawn(|| {
                begin.wait();
                let mut reads = 0;
                while reads == 0 || !stop.load(Relaxed) {
                    let reader = rcu.reader();
                    for _ in 0..READS {
                        let outer = reader.read();
                        outer.assert_alive();
                        let inner = reader.read();
                        drop(outer);
                        inner.assert_alive();
                        reads += 1;
                    }
                }
                reads
            })
        });
        let waits = scope.spawn(|| {
            begin.wait();
            for number in 1..=REPLACED {
                rcu.replace(Box::new(Canary::new(number, &deaths))).assert_alive();
            }
        });
        let polls = scope.spawn(|| {
            begin.wait();
            let mut waiting = Vec::new();
            for number in 1..=REPLACED {
                waiting.push(rcu.publish(Box::new(Canary::new(number, &deaths))));
                for mut old in mem::take(&mut waiting) {
                    if old.is_over() { old.wait().assert_alive() } else { waiting.push(old) }
                }
            }
        });
        waits.join().expect("no panic");
        polls.join().expect("no panic");
        stop.store(true, Relaxed);
        readers.into_iter().for_each(|reader| assert!(reader.join().expect("no panic") > 0));
    });
    assert_eq!(deaths.load(Relaxed), 2 * REPLACED);
    drop(rcu);
    assert_eq!(deaths.load(Relaxed), 2 * REPLACED + 1);
}

#[test]
fn a_reader_that_stalls_holds_a_writer_back_until_it_leaves() {
    let rcu = Rcu::new("old");
    let (done, is_done) = mpsc::channel();
    thread::scope(|scope| {
        let reader = rcu.reader();
        let stalled = reader.read();
        let another = rcu.reader();
        scope.spawn(|| {
            let old = rcu.replace(Box::new("new"));
            done.send(*old).expect("a receiver");
        });
        // Others see the new value meanwhile.
        while *another.read() == "old" {
            thread::yield_now();
        }
        for _ in 0..1_000 {
            assert_eq!(is_done.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(*stalled, "old");
            thread::yield_now();
        }
        drop(stalled);
        assert_eq!(is_done.recv(), Ok("old"));
    });
}

/// Also the reader that was waited for, when it comes again.
#[test]
fn who_begins_to_read_during_a_grace_period_is_not_waited_for() {
    let rcu = Rcu::new(1);
    let [slow, other] = [rcu.reader(), rcu.reader()];
    let old = slow.read();
    let mut replaced = rcu.publish(Box::new(2));
    assert!(!replaced.is_over());
    let late = rcu.reader();
    let new = [other.read(), late.read()];
    assert!(!replaced.is_over());
    drop(old);
    let again = slow.read();
    assert!(replaced.is_over());
    assert_eq!([*again, *new[0], *new[1]], [2, 2, 2]);
    assert_eq!(*replaced.wait(), 1);
}

#[test]
fn the_last_guard_that_goes_ends_a_read_in_whatever_order() {
    let rcu = Rcu::new(1);
    let reader = rcu.reader();
    let first = reader.read();
    let mut grace_period = rcu.grace_period();
    let mut replaced = rcu.publish(Box::new(2));
    let second = reader.read();
    assert_eq!([*first, *second], [1, 2]);
    drop(first);
    let third = reader.read();
    drop(second);
    assert!(!grace_period.is_over());
    assert!(!replaced.is_over());
    drop(third);
    assert!(grace_period.is_over());
    assert!(replaced.is_over());
}

/// A hundred values wait. The first that is waited for executes a heavy fence, which serves the others too.
#[test]
fn many_that_wait_have_one_heavy_fence() {
    alone(|| {
        let rcu = Rcu::new(0);
        let _reader = rcu.reader(); // without one no fence is needed
        for _ in 0..1_000 {
            let replaced: Vec<_> = (0..100).map(|value| rcu.publish(Box::new(value))).collect();
            let seen = asked(|| replaced.into_iter().for_each(|replaced| drop(replaced.wait())));
            assert_eq!(seen, 1, "heavy fences for a hundred values");
        }
    });
}

#[test]
fn who_waits_for_the_end_of_a_grace_period_does_not_return_before() {
    let rcu = Rcu::new(1);
    let (waits, left) = (&AtomicBool::new(false), &AtomicBool::new(false));
    thread::scope(|scope| {
        let reader = rcu.reader();
        let guard = reader.read();
        let mut replaced = rcu.publish(Box::new(2));
        assert!(!replaced.is_over());
        scope.spawn(move || {
            waits.store(true, Relaxed);
            drop(replaced.wait());
            assert!(left.load(Relaxed), "before the reader has left");
        });
        while !waits.load(Relaxed) {
            thread::yield_now();
        }
        (0..1_000).for_each(|_| thread::yield_now());
        left.store(true, Relaxed);
        drop(guard);
    });
}

/// Three readers read, and leave one after the other. The grace period ends with the last.
#[test]
fn every_reader_is_waited_for() {
    let rcu = Rcu::new(());
    let readers: [_; 3] = std::array::from_fn(|_| rcu.reader());
    let [one, two, three] = readers.each_ref().map(|reader| reader.read());
    let mut grace_period = rcu.grace_period();
    for guard in [two, one, three] {
        assert!(!grace_period.is_over());
        drop(guard);
    }
    assert!(grace_period.is_over());
    rcu.synchronize();
}

#[test]
fn nobody_waits_for_a_reader_that_is_outside_or_gone() {
    let rcu = Rcu::new(1);
    assert_eq!(*rcu.replace(Box::new(2)), 1);
    let (outside, gone) = (rcu.reader(), rcu.reader());
    assert_eq!(*outside.read(), 2);
    drop(gone);
    assert_eq!(*rcu.replace(Box::new(3)), 2);
}

#[test]
fn a_panic_ends_a_read() {
    let rcu = Rcu::new(1);
    let reader = rcu.reader();
    let read = panic::AssertUnwindSafe(|| {
        let _guards = [reader.read(), reader.read()];
        panic::resume_unwind(Box::new("in the middle"));
    });
    panic::catch_unwind(read).expect_err("a panic");
    assert_eq!(*rcu.replace(Box::new(2)), 1);
    assert_eq!(*reader.read(), 2);
}

#[test]
fn a_guard_that_was_forgotten_lasts_as_long_as_its_reader() {
    let rcu = Rcu::new(1);
    let reader = rcu.reader();
    mem::forget(reader.read());
    assert_eq!(*reader.read(), 1);
    let mut replaced = rcu.publish(Box::new(2));
    // The one that counts is the one that was forgotten, and it stays.
    assert_eq!(*reader.read(), 2);
    assert!(!replaced.is_over());
    drop(reader);
    assert_eq!(*replaced.wait(), 1);
}

/// Forgotten with its guard it holds every grace period back; what was replaced then is not freed.
#[test]
fn a_reader_that_was_forgotten_leaks_and_no_more() {
    let deaths = Arc::default();
    let rcu = Rcu::new(Canary::new(0, &deaths));
    let reader = rcu.reader();
    mem::forget(reader.read());
    mem::forget(reader);
    let mut replaced = rcu.publish(Box::new(Canary::new(1, &deaths)));
    drop(rcu);
    assert_eq!(deaths.load(Relaxed), 1, "the current one");
    assert!(!replaced.is_over());
    mem::forget(replaced);
    assert_eq!(deaths.load(Relaxed), 1);
}

#[test]
fn what_is_replaced_and_dropped_dies_after_its_readers() {
    let deaths = Arc::default();
    let rcu = Rcu::new(Canary::new(0, &deaths));
    let reader = rcu.reader();
    let (begun, has_begun) = mpsc::channel();
    thread::scope(|scope| {
        let guard = reader.read();
        scope.spawn(|| {
            let replaced = rcu.publish(Box::new(Canary::new(1, &deaths)));
            begun.send(()).expect("a receiver");
            drop(replaced);
        });
        has_begun.recv().expect("a sender");
        for _ in 0..1_000 {
            guard.assert_alive();
            assert_eq!(deaths.load(Relaxed), 0);
            thread::yield_now();
        }
        drop(guard);
    });
    assert_eq!(deaths.load(Relaxed), 1);
    assert_eq!(reader.read().number, 1);
}

#[test]
fn a_reader_goes_from_thread_to_thread() {
    let rcu = Rcu::new(1);
    let reader = rcu.reader();
    assert_eq!(*reader.read(), 1);
    let reader = thread::scope(|scope| {
        let there = scope.spawn(|| {
            let guard = reader.read();
            let mut replaced = rcu.publish(Box::new(2));
            assert!(!replaced.is_over());
            drop(guard);
            assert_eq!(*replaced.wait(), 1);
            reader
        });
        there.join().expect("no panic")
    });
    assert_eq!(*reader.read(), 2);
}

/// Nor where the readers have gone again.
#[test]
fn where_no_reader_is_registered_nothing_is_paid() {
    alone(|| {
        let rcu = Rcu::new(1);
        drop(rcu.reader());
        assert_eq!(asked(|| drop(rcu.replace(Box::new(2)))), 0);
        let reader = rcu.reader();
        assert_ne!(asked(|| (0..10).for_each(|_| drop(rcu.replace(Box::new(2))))), 0);
        drop(reader);
    });
}

#[test]
fn what_is_deferred_waits_for_readers_and_is_done_in_order() {
    let (rcu, done) = (Rcu::new(()), Arc::new(AtomicUsize::new(0)));
    let reader = rcu.reader();
    let guard = reader.read();
    let defer = |number: usize| {
        let done = Arc::clone(&done);
        rcu.defer(move || assert_eq!(done.fetch_add(1, Relaxed), number));
    };
    (0..1_000).for_each(defer);
    rcu.run_deferred();
    assert_eq!(done.load(Relaxed), 0);
    drop(guard);
    rcu.run_deferred();
    assert_eq!(done.load(Relaxed), 1_000);
    defer(1_000);
    rcu.run_all_deferred();
    assert_eq!(done.load(Relaxed), 1_001);
    // The drop of the `Rcu` runs it.
    defer(1_001);
    drop(reader);
    drop(rcu);
    assert_eq!(done.load(Relaxed), 1_002);
}

#[test]
fn what_is_replaced_later_dies_once_and_not_before_its_readers() {
    const REPLACED: usize = if cfg!(miri) { 100 } else { 10_000 };
    let deaths = Arc::default();
    let rcu = Rcu::new(Canary::new(0, &deaths));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = rcu.reader();
                while !stop.load(Relaxed) {
                    reader.read().assert_alive();
                }
            });
        }
        for number in 1..=REPLACED {
            rcu.replace_later(Box::new(Canary::new(number, &deaths)));
            if number % 64 == 0 {
                thread::yield_now();
            }
        }
        rcu.run_all_deferred();
        assert_eq!(deaths.load(Relaxed), REPLACED);
        stop.store(true, Relaxed);
    });
}

#[test]
fn what_is_deferred_may_defer_and_panic() {
    let (rcu, done) = (Arc::new(Rcu::new(())), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&done);
    let again = Arc::downgrade(&rcu);
    rcu.defer(move || {
        let rcu = again.upgrade().expect("it is there");
        rcu.defer(move || _ = count.fetch_add(1, Relaxed));
    });
    rcu.defer(|| panic::resume_unwind(Box::new("in the middle")));
    let count = Arc::clone(&done);
    rcu.defer(move || _ = count.fetch_add(1, Relaxed));
    let run = panic::AssertUnwindSafe(|| rcu.run_all_deferred());
    panic::catch_unwind(run).expect_err("a panic");
    assert_eq!(done.load(Relaxed), 0);
    rcu.run_all_deferred();
    assert_eq!(done.load(Relaxed), 2);
}

#[test]
fn a_dropped_rcu_runs_every_work_also_if_some_panic() {
    let done = Arc::new(AtomicUsize::new(0));
    let rcu = Rcu::new(Canary::new(0, &done));
    for number in 0..10 {
        let count = Arc::clone(&done);
        rcu.defer(move || {
            if number % 2 == 0 {
                // Later payloads are forgotten. These have no size, so nothing leaks.
                panic::resume_unwind(if number == 0 { Box::new(0) } else { Box::new(()) });
            }
            count.fetch_add(1, Relaxed);
        });
    }
    let payload = panic::catch_unwind(panic::AssertUnwindSafe(|| drop(rcu))).expect_err("a panic");
    assert_eq!(payload.downcast_ref(), Some(&0), "the first one");
    // Five works, and the value.
    assert_eq!(done.load(Relaxed), 6);
}

/// The other thread calls `run_deferred` all the time, which asks whether the work is due, and runs what is.
#[test]
fn all_deferred_work_is_waited_for_also_while_another_thread_asks_whether_it_is_due() {
    const ROUNDS: usize = if cfg!(miri) { 5 } else { 6_000 };
    let rcu = Rcu::new(());
    let (held, stop, round) = (AtomicBool::new(false), AtomicBool::new(false), Barrier::new(2));
    let mut early = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                rcu.run_deferred();
                thread::yield_now(); // on one core it would be asked for a whole time slice
            }
        });
        let (held, round, rcu) = (&held, &round, &rcu);
        scope.spawn(move || {
            let reader = rcu.reader();
            for _ in 0..ROUNDS {
                let guard = reader.read();
                held.store(true, Relaxed);
                round.wait();
                (0..20).for_each(|_| thread::yield_now());
                held.store(false, Relaxed);
                drop(guard);
                round.wait();
            }
        });
        for _ in 0..ROUNDS {
            round.wait();
            rcu.defer(|| ());
            rcu.run_all_deferred();
            early += usize::from(held.load(Relaxed));
            round.wait();
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(early, 0, "returned before the grace period was over");
}

/// Each reader begins before the one before it leaves, so there is always one.
#[test]
fn deferred_work_does_not_wait_for_readers_that_came_after_it_was_asked_about() {
    let (rcu, done) = (Rcu::new(()), Arc::new(AtomicUsize::new(0)));
    let readers = [rcu.reader(), rcu.reader()];
    let first = readers[0].read();
    let count = Arc::clone(&done);
    rcu.defer(move || _ = count.fetch_add(1, Relaxed));
    rcu.run_deferred();
    let second = readers[1].read();
    assert_eq!(done.load(Relaxed), 0, "the first reader is there");
    drop(first);
    rcu.run_deferred();
    assert_eq!(done.load(Relaxed), 1);
    drop(second);
}

#[test]
fn one_deferred_work_in_64_pays_a_heavy_fence_and_runs_what_is_due() {
    alone(|| {
        let (rcu, done) = (Rcu::new(()), Arc::new(AtomicUsize::new(0)));
        // Where no reader is registered nothing is paid.
        let _reader = rcu.reader();
        let defers = |works: usize| {
            asked(|| {
                for _ in 0..works {
                    let done = Arc::clone(&done);
                    rcu.defer(move || _ = done.fetch_add(1, Relaxed));
                }
            })
        };
        for round in 0..3 {
            assert_eq!((defers(63), done.load(Relaxed)), (0, 64 * round));
            assert_eq!((defers(1), done.load(Relaxed)), (1, 64 * (round + 1)));
        }
    });
}

/// Two readers hand over again and again, so there is always one.
#[test]
fn no_deferred_work_waits_for_readers_that_came_after_its_batch() {
    const BATCHES: usize = if cfg!(miri) { 2 } else { 10 };
    let (rcu, done) = (Rcu::new(()), Arc::new(AtomicUsize::new(0)));
    let [first, second] = [rcu.reader(), rcu.reader()];
    let defer = |works: usize| {
        for _ in 0..works {
            let done = Arc::clone(&done);
            rcu.defer(move || _ = done.fetch_add(1, Relaxed));
        }
    };
    let mut guard = first.read();
    let mut expected = 0;
    for round in 0..10 {
        defer(64 * BATCHES);
        let next = if round % 2 == 0 { second.read() } else { first.read() };
        // The next guard holds these back, and only these.
        defer(64);
        rcu.run_deferred();
        assert_eq!(done.load(Relaxed), expected, "a guard is there");
        drop(mem::replace(&mut guard, next));
        rcu.run_deferred();
        // Also the last batch of the round before, which this guard held back.
        expected = 64 * BATCHES * (round + 1) + 64 * round;
        assert_eq!(done.load(Relaxed), expected);
    }
    drop(guard);
    rcu.run_deferred();
    assert_eq!(done.load(Relaxed), expected + 64);
}

/// One of the works that `run_all_deferred` runs lets another thread take a guard, and then defers work that this guard
/// holds back.
#[test]
fn who_runs_all_deferred_work_does_not_wait_for_what_is_deferred_meanwhile() {
    let (rcu, done) = (Arc::new(Rcu::new(())), Arc::new(AtomicUsize::new(0)));
    let (begun, has_begun) = mpsc::channel();
    let (read, has_read) = mpsc::channel();
    let (returned, has_returned) = mpsc::channel();
    thread::scope(|scope| {
        let reading = Arc::clone(&rcu);
        scope.spawn(move || {
            let reader = reading.reader();
            has_begun.recv().expect("a sender");
            let guard = reader.read();
            read.send(()).expect("a receiver");
            has_returned.recv().expect("a sender");
            drop(guard);
        });
        let (again, count) = (Arc::downgrade(&rcu), Arc::clone(&done));
        rcu.defer(move || {
            begun.send(()).expect("a receiver");
            has_read.recv().expect("a sender");
            for _ in 0..64 {
                let count = Arc::clone(&count);
                again
                    .upgrade()
                    .expect("it is there")
                    .defer(move || _ = count.fetch_add(1, Relaxed));
            }
        });
        rcu.run_all_deferred();
        assert_eq!(done.load(Relaxed), 0, "the guard is there");
        returned.send(()).expect("a receiver");
    });
    rcu.run_all_deferred();
    assert_eq!(done.load(Relaxed), 64);
}

/// Each defers the next one, and as many more as make a batch.
fn defer_in_turn(rcu: &Arc<Rcu<()>>, done: &Arc<AtomicUsize>, left: usize) {
    let (again, count) = (Arc::downgrade(rcu), Arc::clone(done));
    rcu.defer(move || {
        count.fetch_add(1, Relaxed);
        let rcu = again.upgrade().expect("it is there");
        if left > 0 {
            defer_in_turn(&rcu, &count, left - 1);
            (1..64).for_each(|_| rcu.defer(|| ()));
        }
        rcu.run_deferred();
        rcu.run_all_deferred();
    });
}

#[test]
fn works_that_defer_do_not_nest() {
    const WORKS: usize = if cfg!(miri) { 100 } else { 2_000 };
    let work = || {
        let (rcu, done) = (Arc::new(Rcu::new(())), Arc::new(AtomicUsize::new(0)));
        let _reader = rcu.reader();
        defer_in_turn(&rcu, &done, WORKS - 1);
        for round in 1..=WORKS {
            if round % 2 == 0 {
                rcu.run_deferred()
            } else {
                rcu.run_all_deferred()
            }
            assert_eq!(done.load(Relaxed), round);
        }
    };
    let small = thread::Builder::new().stack_size(64 * 1024);
    small.spawn(work).expect("a thread").join().expect("no panic");
}

/// Each leads to the next of many structures.
#[test]
fn works_of_many_structures_do_not_nest_without_a_bound() {
    const MANY: usize = 40;
    let rcus: Arc<[Rcu<()>; MANY]> = Arc::new(std::array::from_fn(|_| Rcu::new(())));
    let [deep, deepest, done] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    for (at, rcu) in rcus.iter().enumerate() {
        let (rcus, deep, deepest) = (Arc::clone(&rcus), Arc::clone(&deep), Arc::clone(&deepest));
        let done = Arc::clone(&done);
        rcu.defer(move || {
            deepest.fetch_max(deep.fetch_add(1, Relaxed) + 1, Relaxed);
            if let Some(next) = rcus.get(at + 1) {
                next.run_all_deferred();
            }
            deep.fetch_sub(1, Relaxed);
            done.fetch_add(1, Relaxed);
        });
    }
    rcus[0].run_all_deferred();
    assert_eq!((deepest.load(Relaxed), done.load(Relaxed)), (16, 16));
    // The others are run by later calls, for which there is room.
    rcus.iter().for_each(Rcu::run_all_deferred);
    assert_eq!((deepest.load(Relaxed), done.load(Relaxed)), (16, MANY));
}

/// The `Debug` of an `Rcu` and of a reader holds no lock while it writes: the writer may be any code.
#[test]
fn a_writer_of_debug_may_panic_and_use_the_rcu() {
    /// Uses the `Rcu` at each piece of text, and panics at the last.
    struct Uses<'r>(&'r Rcu<usize>, Arc<AtomicUsize>);
    impl fmt::Write for Uses<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let works = Arc::clone(&self.1);
            self.0.defer(move || _ = works.fetch_add(1, Relaxed));
            drop(self.0.reader());
            assert!(!text.contains(".."), "the end");
            Ok(())
        }
    }
    let rcu = Rcu::new(1);
    let works = Arc::default();
    let reader = rcu.reader();
    for formatted in [format_args!("{rcu:?}"), format_args!("{reader:?}")] {
        let mut uses = Uses(&rcu, Arc::clone(&works));
        let writes = panic::AssertUnwindSafe(|| fmt::write(&mut uses, formatted));
        panic::catch_unwind(writes).expect_err("the writer panics");
    }
    rcu.run_all_deferred();
    assert!(works.load(Relaxed) > 2);
    assert_eq!(format!("{rcu:?}"), "Rcu { readers: 1, deferred: 0, .. }");
    drop(reader);
}
