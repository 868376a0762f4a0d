//! The biased lock.

use std::mem;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use asymfence_cookbook::biased_lock::{BiasedRwLock, ReadGuard, Reader};

use crate::{alone, asked, pass};

/// Whether a read section that begins now goes by the slot.
fn is_biased<T>(reader: &mut Reader<'_, T>) -> bool {
    ReadGuard::is_biased(&reader.read())
}

/// Runs `behind` while a writer waits that has revoked the bias, and then lets `section` go.
fn while_a_writer_waits<G>(lock: &BiasedRwLock<u32>, section: G, behind: impl FnOnce(&G)) {
    thread::scope(|scope| {
        scope.spawn(|| *lock.write() += 1);
        while lock.is_biased() {
            thread::yield_now();
        }
        behind(&section);
        drop(section);
    });
}

#[test]
fn readers_are_in_together() {
    let lock = BiasedRwLock::with_patience(1, 4);
    let [mut one, mut other] = [lock.reader(), lock.reader()];
    for _ in 0..2 {
        {
            let sections = [one.read(), other.read()];
            assert_eq!(sections.map(|section| *section), [1, 1]);
        }
        // The second time by the underlying lock.
        drop(lock.write());
    }
}

#[test]
fn a_writer_waits_for_a_section_by_the_slot() {
    let mut lock = BiasedRwLock::new(0);
    let mut reader = lock.reader();
    let section = reader.read();
    assert!(ReadGuard::is_biased(&section));
    while_a_writer_waits(&lock, section, |section| assert_eq!(**section, 0));
    drop(reader);
    assert_eq!(*lock.get_mut(), 1);
}

#[test]
fn readers_that_come_while_a_writer_waits_go_behind_it() {
    let lock = BiasedRwLock::new(0);
    let [mut one, mut other] = [lock.reader(), lock.reader()];
    while_a_writer_waits(&lock, one.read(), |_| assert!(other.try_read().is_none()));
    assert_eq!(other.try_read().map(|section| *section), Some(1));
}

#[test]
fn a_reader_registers_and_goes_while_a_writer_waits() {
    let lock = BiasedRwLock::new(0);
    let mut reader = lock.reader();
    while_a_writer_waits(&lock, reader.read(), |_| assert!(lock.reader().try_read().is_none()));
    assert_eq!(*reader.read(), 1);
}

#[test]
fn who_does_not_wait_comes_by_the_slot_or_by_the_lock() {
    let lock = BiasedRwLock::with_patience(0, 2);
    let mut reader = lock.reader();
    for biased in [true, false, false, true] {
        let section = reader.try_read().expect("no writer is in");
        assert_eq!(ReadGuard::is_biased(&section), biased);
        drop(section);
        if biased {
            drop(lock.write());
        }
    }
}

#[test]
fn the_bias_comes_back_after_so_many_sections_for_each_reader() {
    let lock = BiasedRwLock::with_patience((), 3);
    let [mut one, mut other] = [lock.reader(), lock.reader()];
    assert!(is_biased(&mut one));
    for _ in 0..2 {
        drop(lock.write());
        for _ in 0..3 {
            assert!(!is_biased(&mut one));
            assert!(!is_biased(&mut other));
        }
        assert!(is_biased(&mut one) && is_biased(&mut other));
    }
    drop(other);
    drop(lock.write());
    assert_eq!([(); 5].map(|()| is_biased(&mut one)), [false, false, false, true, true]);
}

#[test]
fn a_write_that_revokes_nothing_does_not_put_the_bias_off() {
    let lock = BiasedRwLock::with_patience((), 2);
    let mut reader = lock.reader();
    drop(lock.write());
    assert!(!is_biased(&mut reader));
    drop(lock.write());
    assert!(!is_biased(&mut reader));
    assert!(is_biased(&mut reader));
}

#[test]
fn a_patience_without_an_end_leaves_the_lock_as_it_is() {
    let lock = BiasedRwLock::with_patience((), usize::MAX);
    let [mut one, _other] = [lock.reader(), lock.reader()];
    drop(lock.write());
    assert!((0..1000).all(|_| !is_biased(&mut one)));
}

#[test]
#[should_panic = "a patience of 0"]
fn no_patience_at_all_is_refused() {
    BiasedRwLock::with_patience((), 0);
}

#[test]
fn who_panics_lets_go_of_the_lock() {
    let lock = BiasedRwLock::with_patience(0, 2);
    let mut reader = lock.reader();
    for round in 1..=3 {
        let write = catch_unwind(AssertUnwindSafe(|| {
            let mut value = lock.write();
            *value += 1;
            panic::resume_unwind(Box::new("in a write section"));
        }));
        assert!(write.is_err());
        for biased in [false, false, true] {
            let read = catch_unwind(AssertUnwindSafe(|| {
                let section = reader.read();
                assert_eq!((*section, ReadGuard::is_biased(&section)), (round, biased));
                panic::resume_unwind(Box::new("in a read section"));
            }));
            assert_eq!(read.unwrap_err().downcast_ref(), Some(&"in a read section"));
        }
        assert!(reader.try_read().is_some());
    }
}

/// Its reader, when it reads once more or goes away, ends what the guard would have ended.
#[test]
fn a_forgotten_section_by_the_slot_lasts_until_its_reader_moves_on() {
    let lock = BiasedRwLock::new(0);
    let mut reader = lock.reader();
    mem::forget(reader.read());
    let mut reader = Some(reader);
    thread::scope(|scope| {
        scope.spawn(|| *lock.write() += 1);
        while lock.is_biased() {
            thread::yield_now();
        }
        assert!(lock.reader().try_read().is_none());
        // Waits for the writer, which waits for the slot.
        assert_eq!(*reader.as_mut().expect("a reader").read(), 1);
    });

    let lock = BiasedRwLock::new(0);
    let mut reader = lock.reader();
    mem::forget(reader.read());
    while_a_writer_waits(&lock, reader, |_| ());
    assert_eq!(*lock.reader().read(), 1);
}

#[test]
fn a_forgotten_section_by_the_lock_keeps_no_reader_out_as_long_as_nobody_writes() {
    let lock = BiasedRwLock::with_patience(0, 1);
    drop(lock.write());
    let mut reader = lock.reader();
    mem::forget(reader.read());
    assert!(lock.is_biased());
    assert_eq!(*reader.read(), 0);
    assert_eq!(*lock.reader().read(), 0);
}

#[test]
fn a_reader_goes_from_thread_to_thread() {
    let lock = BiasedRwLock::new(0);
    let mut reader = lock.reader();
    assert_eq!(*reader.read(), 0);
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(*reader.read(), 0));
    });
    *lock.write() += 1;
    assert_eq!(*reader.read(), 1);
}

#[test]
fn the_value_is_dropped_once_with_the_lock() {
    let value = Arc::new(());
    let lock = BiasedRwLock::new(Arc::clone(&value));
    drop(lock.reader().read());
    *lock.write() = Arc::clone(&value);
    assert_eq!(Arc::strong_count(&value), 2);
    drop(lock);
    assert_eq!(Arc::strong_count(&value), 1);
}

/// Numbers that are all the same when nobody is writing, behind a box that each write replaces.
struct Numbers(Box<[usize; 16]>);

impl Numbers {
    fn increment(&mut self) {
        for i in 0..self.0.len() {
            self.0[i] += 1;
        }
        self.0 = self.0.clone();
    }

    fn value(&self) -> usize {
        let first = self.0[0];
        assert!(self.0.iter().all(|&number| number == first), "read while it was written");
        first
    }
}

/// After every fourth of its writes a writer waits until the lock is biased, so that a later write revokes the bias.
/// Readers come and go.
#[test]
fn nobody_reads_while_another_writes_and_no_write_is_lost() {
    const WRITES: usize = if cfg!(miri) { 12 } else { 150 };
    for (readers, writers, patience) in [(1, 1, 1), (3, 1, 1), (2, 2, 10), (4, 1, 100)] {
        let mut lock = BiasedRwLock::with_patience(Numbers(Box::new([0; 16])), patience);
        thread::scope(|scope| {
            for _ in 0..writers {
                scope.spawn(|| {
                    for write in 0..WRITES {
                        lock.write().increment();
                        while write % 4 == 0 && !lock.is_biased() {
                            thread::yield_now();
                        }
                    }
                });
            }
            for _ in 0..readers {
                scope.spawn(|| {
                    let mut reader = lock.reader();
                    let mut last = 0;
                    while last < writers * WRITES {
                        let value = reader.read().value();
                        assert!(last <= value, "back in time");
                        last = value;
                        if value % 16 == 0 {
                            reader = lock.reader();
                        }
                    }
                });
            }
        });
        assert_eq!(lock.get_mut().value(), writers * WRITES);
    }
}

#[test]
fn a_writer_that_does_not_wait_finds_the_lock_free_or_not() {
    let lock = BiasedRwLock::new(1);
    let (mut first, mut second) = (lock.reader(), lock.reader());
    for by_slot in [true, false] {
        let section = first.read();
        assert_eq!(ReadGuard::is_biased(&section), by_slot);
        assert!(lock.try_write().is_none());
        assert!(lock.write_timeout(Duration::from_micros(100)).is_none());
        // As it was: others go in.
        assert_eq!(second.try_read().map(|section| *section), Some(1));
        drop(section);
        *lock.try_write().expect("nobody is in") = 1;
        *lock.write_timeout(Duration::MAX).expect("nobody is in") = 1;
    }
    let alone = lock.write();
    assert!(lock.try_write().is_none());
    assert!(first.try_read().is_none());
    assert!(first.read_timeout(Duration::from_micros(100)).is_none());
    drop(alone);
    assert_eq!(first.read_timeout(Duration::from_micros(100)).map(|section| *section), Some(1));
    assert_eq!(first.read_timeout(Duration::MAX).map(|section| *section), Some(1));
}

/// If the lock is free already when the reader comes, the reader does not wait. Mostly it comes earlier.
#[test]
fn who_waits_for_a_time_waits_until_the_lock_is_free() {
    let lock = BiasedRwLock::new(1);
    let mut reader = lock.reader();
    let alone = lock.write();
    let comes = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            comes.store(true, Relaxed);
            assert!(reader.read_timeout(Duration::from_secs(600)).is_some());
        });
        while !comes.load(Relaxed) {
            thread::yield_now();
        }
        (0..100).for_each(|_| thread::yield_now());
        drop(alone);
    });
}

/// Writers of all kinds, and readers, of which none sees a value that is half written.
#[test]
fn writers_that_give_up_leave_the_lock_whole() {
    const ROUNDS: u64 = if cfg!(miri) { 30 } else { 3_000 };
    let lock = BiasedRwLock::with_patience([0_u64; 2], 10);
    let stop = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reader = lock.reader();
                while !stop.load(Relaxed) {
                    let [a, b] = *reader.read();
                    assert_eq!(a, b);
                    let section = reader.read_timeout(Duration::from_micros(10));
                    section.into_iter().for_each(|values| assert_eq!(values[0], values[1]));
                }
            });
        }
        let mut written = 0;
        for round in 0..ROUNDS {
            let guard = match round % 3 {
                0 => lock.try_write(),
                1 => lock.write_timeout(Duration::from_micros(20)),
                _ => Some(lock.write()),
            };
            if let Some(mut values) = guard {
                values.iter_mut().for_each(|value| *value += 1);
                written += 1;
            }
        }
        stop.store(true, Relaxed);
        written
    });
    assert!(written >= ROUNDS / 3);
    assert_eq!(lock.into_inner(), [written; 2]);
}

#[test]
fn a_lock_of_what_has_no_size_is_a_lock() {
    let mut lock = BiasedRwLock::new([1, 2, 3]);
    lock.get_mut()[0] = 4;
    let unsized_lock: &BiasedRwLock<[i32]> = &lock;
    unsized_lock.write()[2] = 5;
    assert_eq!(unsized_lock.reader().read().len(), 3);
    let unsized_box: Box<BiasedRwLock<dyn Fn() -> i32 + Send + Sync>> =
        Box::new(BiasedRwLock::new(|| 7));
    assert_eq!(unsized_box.reader().read()(), 7);
    assert_eq!(lock.into_inner(), [4, 2, 5]);
}

/// While writes that revoke the bias are rare, each costs one heavy fence. If they come often, there are at most two
/// heavy fences in a pause.
#[test]
fn writers_that_come_often_cost_no_heavy_fence_each() {
    alone(|| {
        const TIMES: usize = 1_000;
        let fences = |pause: Duration, rest: Duration| {
            let lock = BiasedRwLock::with_patience(0, 1).with_pause(pause);
            let mut reader = lock.reader();
            asked(|| {
                for _ in 0..TIMES {
                    *lock.write() += 1;
                    // Turns the bias on.
                    assert!(*reader.read() > 0);
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
