//! The biased lock. The value is a cell of loom's, which fails a model in which a read and a write of it
//! are not ordered.

use std::collections::HashSet;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asymfence::model::Start;
use asymfence_cookbook::biased_lock::{BiasedRwLock, ReadGuard, Reader, WriteGuard};
use loom::cell::UnsafeCell;
use loom::thread;

use loom_tests::check::{STARTS, check, check_within, is_ever};
use loom_tests::quick;

/// A number whose reads and writes loom checks.
struct Value(UnsafeCell<usize>);

// SAFETY: loom sees to it.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

type Lock = Arc<BiasedRwLock<Value>>;

/// Biased again after one slow read section for each reader.
fn lock() -> Lock {
    Arc::new(BiasedRwLock::with_patience(Value(UnsafeCell::new(0)), 1))
}

/// A lock with a short pause: two writes close together revoke the bias of the fences. (In a model each look at the
/// clock takes a millisecond, see `now` in `cookbook/src/sync.rs`; so the pause is two looks.)
fn busy() -> Lock {
    let lock = BiasedRwLock::with_patience(Value(UnsafeCell::new(0)), 1);
    Arc::new(lock.with_pause(Duration::from_millis(2)))
}

/// How a reader came in, and what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Seen {
    BySlot(usize),
    ByLock(usize),
}
use Seen::{ByLock, BySlot};

fn read(reader: &mut Reader<'_, Value>) -> Seen {
    let section = reader.read();
    // SAFETY: loom fails the model if another thread writes at the same time.
    let value = section.0.with(|value| unsafe { *value });
    if ReadGuard::is_biased(&section) { BySlot(value) } else { ByLock(value) }
}

fn write(lock: &Lock) {
    change(lock.write());
}

fn change(value: WriteGuard<'_, Value>) {
    // SAFETY: loom fails the model if another thread reads or writes at the same time.
    value.0.with_mut(|value| unsafe { *value += 1 });
}

/// Another thread, with a reader of its own, which it gives up at the end.
fn reading<const SECTIONS: usize>(lock: &Lock) -> thread::JoinHandle<[Seen; SECTIONS]> {
    let lock = Arc::clone(lock);
    thread::spawn(move || {
        let mut reader = lock.reader();
        [(); SECTIONS].map(|()| read(&mut reader))
    })
}

/// A reader is inside by its slot, comes while the bias is revoked, or comes later.
fn two_sections_against_a_write() -> [Seen; 2] {
    let lock = lock();
    let reader = reading(&lock);
    write(&lock);
    reader.join().expect("no panic")
}

/// Exactly these cases occur: no reader enters by its slot directly after a writer.
#[test]
fn a_reader_goes_before_the_writer_or_behind_it() {
    let expected = [
        [BySlot(0), BySlot(0)],
        [BySlot(0), ByLock(1)],
        // The reader's slow section turns the bias on.
        [ByLock(1), BySlot(1)],
    ];
    for start in STARTS {
        let outcomes = Arc::new(Mutex::new(HashSet::new()));
        let seen = Arc::clone(&outcomes);
        check(start, move || {
            seen.lock().expect("no panic").insert(two_sections_against_a_write());
        });
        assert_eq!(*outcomes.lock().expect("no panic"), HashSet::from(expected));
    }
}

/// The reader that turns the bias on passes on, with the bias, what it has seen by the underlying lock.
fn a_section_after_the_bias_was_turned_on() -> [Seen; 1] {
    let lock = lock();
    let other = reading(&lock);
    write(&lock);
    read(&mut lock.reader());
    other.join().expect("no panic")
}

#[test]
fn who_comes_by_the_slot_has_what_was_written_before_the_bias() {
    for start in STARTS {
        check(start, || _ = a_section_after_the_bias_was_turned_on());
    }
    assert!(is_ever(Start::Asymmetric, || {
        a_section_after_the_bias_was_turned_on() == [BySlot(1)]
    }));
}

/// The first write makes the reader slow, the slow reader turns the bias on, and the second write revokes
/// it, whether the reader is still in its slow section or in one by its slot.
fn three_sections_against_two_writes() -> [Seen; 3] {
    let lock = lock();
    let reader = reading(&lock);
    write(&lock);
    write(&lock);
    reader.join().expect("no panic")
}

#[test]
fn a_bias_that_a_slow_reader_turned_on_is_revoked_by_the_next_writer() {
    for start in STARTS {
        check(start, || _ = three_sections_against_two_writes());
    }
    for seen in [[ByLock(1), ByLock(2), BySlot(2)], [ByLock(1), BySlot(1), ByLock(2)]] {
        assert!(is_ever(Start::Asymmetric, move || three_sections_against_two_writes() == seen));
    }
}

/// One reader turns the bias on, the other uses it, and the writer comes a second time.
fn two_readers_and_two_writes() -> [[Seen; 2]; 2] {
    let lock = lock();
    let readers = [reading(&lock), reading(&lock)];
    write(&lock);
    write(&lock);
    readers.map(|reader| reader.join().expect("no panic"))
}

#[test]
fn two_readers_and_a_writer_are_not_in_together() {
    check_within(Some(2), Start::Asymmetric, || _ = two_readers_and_two_writes());
}

#[test]
fn two_writers_and_a_reader_are_not_in_together() {
    for start in STARTS {
        check_within(Some(2), start, || {
            let lock = lock();
            let reader = reading::<2>(&lock);
            let writer = {
                let lock = Arc::clone(&lock);
                thread::spawn(move || write(&lock))
            };
            write(&lock);
            writer.join().expect("no panic");
            reader.join().expect("no panic");
            // SAFETY: as in `read`.
            assert_eq!(lock.write().0.with(|value| unsafe { *value }), 2);
        });
    }
}

/// Nor does it wait for a writer.
#[test]
fn a_reader_that_tries_is_not_in_together_with_a_writer() {
    for start in STARTS {
        check(start, || {
            let lock = lock();
            let other = {
                let lock = Arc::clone(&lock);
                thread::spawn(move || {
                    let mut reader = lock.reader();
                    for _ in 0..2 {
                        let section = reader.try_read();
                        // SAFETY: as in `read`.
                        section.map(|section| section.0.with(|value| unsafe { *value }));
                    }
                })
            };
            write(&lock);
            other.join().expect("no panic");
        });
    }
}

/// The writer waits for the slot of the forgotten section until the reader moves on, and no longer.
#[test]
fn a_reader_that_forgot_a_section_lets_the_writer_in() {
    for reads_on in [true, false] {
        check(Start::Asymmetric, move || {
            let lock = lock();
            let other = {
                let lock = Arc::clone(&lock);
                thread::spawn(move || {
                    let mut reader = lock.reader();
                    let section = reader.read();
                    if ReadGuard::is_biased(&section) {
                        mem::forget(section);
                    } else {
                        drop(section);
                    }
                    if reads_on {
                        read(&mut reader);
                    }
                })
            };
            write(&lock);
            other.join().expect("no panic");
        });
    }
}

/// A writer that does not wait, or not for long.
type Attempt = for<'l> fn(&'l Lock) -> Option<WriteGuard<'l, Value>>;
const ATTEMPTS: [Attempt; 2] =
    [|lock| lock.try_write(), |lock| lock.write_timeout(Duration::from_millis(1))];

/// Whether it got in, while a reader has two sections.
fn two_sections_against_an_attempt(attempt: Attempt) -> bool {
    let lock = lock();
    let reader = reading::<2>(&lock);
    let guard = attempt(&lock);
    let is_in = guard.is_some();
    guard.map(change);
    reader.join().expect("no panic");
    is_in
}

#[test]
fn a_writer_that_does_not_wait_is_not_in_together_with_a_reader() {
    for attempt in ATTEMPTS {
        for start in [Start::Asymmetric, Start::Symmetric] {
            check_within(Some(2), start, move || _ = two_sections_against_an_attempt(attempt));
        }
        // Three preemptions show both.
        for is_in in [false, true].into_iter().filter(|_| !quick()) {
            assert!(is_ever(Start::Asymmetric, move || {
                two_sections_against_an_attempt(attempt) == is_in
            }));
        }
    }
}

/// The writer that gives up leaves the lock as it was: the next one waits for the readers that are in.
#[test]
fn who_comes_behind_a_writer_that_gave_up_waits_for_the_readers() {
    for attempt in ATTEMPTS {
        check_within(Some(3), Start::Asymmetric, move || {
            let lock = lock();
            let reader = reading::<1>(&lock);
            let gave_up = attempt(&lock).is_none();
            if gave_up {
                write(&lock);
            }
            reader.join().expect("no panic");
        });
    }
}

/// Nor does it hide what was written before: the other reader enters by its slot.
#[test]
fn who_comes_by_the_slot_behind_a_writer_that_gave_up_has_what_was_written() {
    check_within(Some(2), Start::Asymmetric, || {
        let lock = lock();
        let mut mine = lock.reader();
        let other = reading::<1>(&lock);
        write(&lock);
        // Turns the bias on.
        read(&mut mine);
        let attempt = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || drop(lock.write_timeout(Duration::from_millis(1))))
        };
        read(&mut mine);
        attempt.join().expect("no panic");
        other.join().expect("no panic");
    });
}

/// The same, for a reader that was registered before.
#[test]
fn who_was_registered_before_a_writer_that_gave_up_has_what_was_written() {
    check_within(Some(2), Start::Asymmetric, || {
        let value = Value(UnsafeCell::new(0));
        let lock: &'static BiasedRwLock<Value> =
            Box::leak(Box::new(BiasedRwLock::with_patience(value, 1)));
        let (mut mine, mut theirs) = (lock.reader(), lock.reader());
        let other = thread::spawn(move || read(&mut theirs));
        change(lock.write());
        // Turn the bias on: one section for each reader.
        (0..2).for_each(|_| _ = read(&mut mine));
        let attempt = thread::spawn(move || drop(lock.write_timeout(Duration::from_millis(1))));
        attempt.join().expect("no panic");
        other.join().expect("no panic");
    });
}

/// Writers that come within two looks at the clock: the fences become full ones, and readers ask for the bias back.
#[test]
fn a_reader_and_a_writer_are_not_in_together_while_the_fences_give_way_and_return() {
    for start in [Start::Asymmetric, Start::Symmetric] {
        check_within(Some(2), start, || {
            let lock = busy();
            let reader = reading::<3>(&lock);
            write(&lock);
            write(&lock);
            reader.join().expect("no panic");
        });
    }
}

/// The bias of the fences was revoked before.
#[test]
fn a_reader_and_a_writer_are_not_in_together_by_full_fences() {
    check(Start::Asymmetric, || {
        let lock = busy();
        for _ in 0..2 {
            write(&lock);
            read(&mut lock.reader());
        }
        let reader = reading::<2>(&lock);
        write(&lock);
        reader.join().expect("no panic");
    });
}
