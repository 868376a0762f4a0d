//! RCU. loom's cells fail a model in which an object ends while a thread reads it, or is read after it has
//! ended. Its memory stays until all threads are done.

use std::mem;
use std::sync::Arc;

use asymfence::model::Start;
use asymfence_cookbook::rcu::{Rcu, Reader, Replaced};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use loom_tests::check::{STARTS, check, check_within, is_ever};

/// An object and its number. loom checks its uses and its end.
#[derive(Debug)]
struct Object(UnsafeCell<bool>, u32);

// SAFETY: loom sees to it.
unsafe impl Sync for Object {}

impl Object {
    fn new(number: u32) -> Self {
        Object(UnsafeCell::new(true), number)
    }

    fn assert_alive(&self) {
        // SAFETY: loom fails the model if another thread writes at the same time.
        assert!(self.0.with(|alive| unsafe { *alive }), "used after it was freed");
    }

    fn end(&self) {
        // SAFETY: loom fails the model if another thread may still use it.
        self.0.with_mut(|alive| unsafe { *alive = false });
    }
}

fn read(reader: &Reader<'_, Object>) -> u32 {
    let object = reader.read();
    object.assert_alive();
    object.1
}

/// Returns the old object, so that its memory stays.
fn replace(rcu: &Rcu<Object>, number: u32) -> Box<Object> {
    let old = rcu.replace(Box::new(Object::new(number)));
    old.assert_alive();
    old.end();
    old
}

/// The first thread does `theirs` as a reader of object 0; meanwhile another replaces it by object 1.
fn against_replace<T>(theirs: impl FnOnce(Reader<'_, Object>) -> T) -> T {
    let rcu = Arc::new(Rcu::new(Object::new(0)));
    let reader = rcu.reader();
    let writer = {
        let rcu = Arc::clone(&rcu);
        thread::spawn(move || replace(&rcu, 1))
    };
    let result = theirs(reader);
    writer.join().expect("no panic");
    result
}

#[test]
fn what_is_read_is_not_freed() {
    for start in STARTS {
        check(start, || _ = against_replace(|reader| read(&reader)));
    }
}

/// A reader reads twice. The writer may miss that the reader was outside in between.
#[test]
fn what_was_read_before_the_last_read_is_not_freed_before_its_uses() {
    for start in STARTS {
        check(start, || {
            let seen = against_replace(|reader| [read(&reader), read(&reader)]);
            assert!(seen[0] <= seen[1], "back in time");
        });
    }
}

/// So the tests above have seen an old object, a new one, and one after the other.
#[test]
fn readers_see_the_old_and_the_new() {
    for expected in [0, 1] {
        assert!(is_ever(Start::Asymmetric, move || {
            against_replace(|reader| read(&reader)) == expected
        }));
    }
    assert!(is_ever(Start::Asymmetric, || {
        against_replace(|reader| [read(&reader), read(&reader)]) == [0, 1]
    }));
}

#[test]
fn the_first_guard_counts_and_the_last_one_that_goes() {
    for start in STARTS {
        check(start, || {
            against_replace(|reader| {
                let first = reader.read();
                let second = reader.read();
                first.assert_alive();
                drop(first);
                second.assert_alive();
            });
        });
        check(start, || {
            against_replace(|reader| {
                let outer = reader.read();
                read(&reader);
                outer.assert_alive();
            });
        });
    }
}

/// A guard that was forgotten lasts as long as its reader.
#[test]
fn who_drops_a_reader_has_done_with_what_it_read() {
    check(Start::Asymmetric, || {
        against_replace(|reader| {
            let forgotten = reader.read();
            forgotten.assert_alive();
            mem::forget(forgotten);
        });
    });
}

/// A reader registers and reads, while the first thread publishes. Returns whether the grace period was still
/// running at the first look, and what was read.
fn registering_against_publish() -> (bool, u32) {
    let rcu = Arc::new(Rcu::new(Object::new(0)));
    let reader = {
        let rcu = Arc::clone(&rcu);
        thread::spawn(move || read(&rcu.reader()))
    };
    let mut old = rcu.publish(Box::new(Object::new(1)));
    let waits = !old.is_over();
    let old = old.wait();
    old.end();
    (waits, reader.join().expect("no panic"))
}

#[test]
fn a_reader_may_register_during_a_grace_period() {
    for start in STARTS {
        check(start, || _ = registering_against_publish());
    }
}

/// The writer also waits for a reader of the new object, if it cannot tell that the reader has the new one.
#[test]
fn a_grace_period_is_over_at_once_at_times_and_not_at_others() {
    for expected in [(false, 0), (true, 0), (false, 1), (true, 1)] {
        assert!(is_ever(Start::Asymmetric, move || registering_against_publish() == expected));
    }
}

#[test]
fn two_readers_are_both_waited_for() {
    check_within(Some(2), Start::Asymmetric, || {
        let rcu = Arc::new(Rcu::new(Object::new(0)));
        let reader = rcu.reader();
        let another = {
            let rcu = Arc::clone(&rcu);
            thread::spawn(move || read(&rcu.reader()))
        };
        let writer = {
            let rcu = Arc::clone(&rcu);
            thread::spawn(move || replace(&rcu, 1))
        };
        read(&reader);
        drop(reader);
        another.join().expect("no panic");
        writer.join().expect("no panic");
    });
}

/// Each object goes to one of them, complete.
#[test]
fn two_writers_get_an_object_each() {
    check(Start::Asymmetric, || {
        let rcu = Arc::new(Rcu::new(Object::new(0)));
        let another = {
            let rcu = Arc::clone(&rcu);
            thread::spawn(move || replace(&rcu, 1))
        };
        let ours = replace(&rcu, 2);
        let theirs = another.join().expect("no panic");
        assert_ne!(ours.1, theirs.1);
    });
}

/// Their grace periods overlap, and neither takes the other's number for its own. A thread that would have to wait
/// leaves that to the first thread. Otherwise they would wait in turn without end.
#[test]
fn two_writers_wait_for_a_reader() {
    check_within(Some(2), Start::Asymmetric, || {
        let rcu = Arc::new(Rcu::new(Object::new(0)));
        let reader = rcu.reader();
        let writers = [1, 2].map(|number| {
            let rcu = Arc::clone(&rcu);
            thread::spawn(move || {
                let mut old = rcu.publish(Box::new(Object::new(number)));
                if old.is_over() {
                    let old = old.wait();
                    old.end();
                    Ok(old)
                } else {
                    Err(old)
                }
            })
        });
        read(&reader);
        read(&reader);
        drop(reader);
        for writer in writers {
            let _old = writer.join().expect("no panic").unwrap_or_else(Replaced::wait);
        }
    });
}

/// Objects that a link of the user's own leads to.
struct Linked {
    rcu: Rcu<()>,
    /// To object 0, and then to object 1. Relaxed, all accesses: both objects are there from the beginning, and the
    /// fences order the rest.
    link: AtomicUsize,
    objects: [Object; 2],
}

impl Linked {
    fn new() -> Arc<Self> {
        let objects = [Object::new(0), Object::new(1)];
        Arc::new(Linked { rcu: Rcu::new(()), link: AtomicUsize::new(0), objects })
    }

    /// The number of the object that it finds.
    fn read(&self, reader: &Reader<'_, ()>) -> usize {
        let _guard = reader.read();
        let found = self.link.load(Relaxed);
        self.objects[found].assert_alive();
        found
    }
}

#[test]
fn what_was_unlinked_before_synchronize_is_not_found_after_it() {
    for start in STARTS {
        check(start, || {
            let linked = Linked::new();
            let reader = linked.rcu.reader();
            let writer = {
                let linked = Arc::clone(&linked);
                thread::spawn(move || {
                    linked.link.store(1, Relaxed);
                    linked.rcu.synchronize();
                    linked.objects[0].end();
                })
            };
            linked.read(&reader);
            drop(reader);
            writer.join().expect("no panic");
        });
    }
}

/// What is deferred ends the old object.
fn reads_against_what_is_deferred(run: fn(&Rcu<()>)) -> usize {
    let linked = Linked::new();
    let reader = {
        let linked = Arc::clone(&linked);
        thread::spawn(move || linked.read(&linked.rcu.reader()))
    };
    linked.link.store(1, Relaxed);
    // By address: if the work owned the structure in which it is deferred, neither would ever end.
    let old = Alive(&raw const linked.objects[0]);
    linked.rcu.defer(move || old.end());
    run(&linked.rcu);
    reader.join().expect("no panic")
}

/// An object that outlives the model's threads.
struct Alive(*const Object);

// SAFETY: loom sees to it.
unsafe impl Send for Alive {}

impl Alive {
    fn end(&self) {
        // SAFETY: it outlives the model's threads.
        unsafe { &*self.0 }.end();
    }
}

#[test]
fn what_is_deferred_ends_nothing_that_is_read() {
    for run in [Rcu::run_deferred as fn(&Rcu<()>), Rcu::run_all_deferred] {
        for start in STARTS {
            check_within(Some(2), start, move || _ = reads_against_what_is_deferred(run));
        }
        for found in [0, 1] {
            assert!(is_ever(Start::Asymmetric, move || {
                reads_against_what_is_deferred(run) == found
            }));
        }
    }
}

/// What the deferring thread publishes is complete for the thread that reads it.
#[test]
fn what_comes_later_is_complete_when_it_is_read() {
    check_within(Some(2), Start::Asymmetric, || {
        let rcu = Arc::new(Rcu::new(Object::new(0)));
        let other = {
            let rcu = Arc::clone(&rcu);
            thread::spawn(move || read(&rcu.reader()))
        };
        rcu.replace_later(Box::new(Object::new(1)));
        other.join().expect("no panic");
    });
}

/// Each of two threads defers, and one of them begins the grace periods of both. The reader finds an object before it
/// is unlinked.
#[test]
fn what_two_threads_defer_ends_nothing_that_is_read() {
    check_within(Some(2), Start::Asymmetric, || {
        let linked = Linked::new();
        let reader = {
            let linked = Arc::clone(&linked);
            thread::spawn(move || {
                let reader = linked.rcu.reader();
                let _guard = reader.read();
                let found = linked.link.load(Relaxed);
                thread::yield_now();
                linked.objects[found].assert_alive();
            })
        };
        let other = {
            let linked = Arc::clone(&linked);
            thread::spawn(move || {
                linked.rcu.defer(|| ());
                linked.rcu.run_deferred();
            })
        };
        // Lets the other threads go first.
        thread::yield_now();
        linked.link.store(1, Relaxed);
        let old = Alive(&raw const linked.objects[0]);
        linked.rcu.defer(move || old.end());
        linked.rcu.run_deferred();
        reader.join().expect("no panic");
        other.join().expect("no panic");
    });
}
