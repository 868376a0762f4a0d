//! The pacer: each thing that waits is reported once, and none is forgotten. No order depends on it.

use std::sync::Arc;
use std::time::Duration;

use asymfence::Pacer;
use asymfence::model::Start;
use loom::thread;

use loom_tests::check::{check, is_ever};

/// Two threads add one each and ask. Each pays if a fence is due. Returns what was reported, and what still waits.
fn two_ask(batch: usize) -> ([usize; 2], usize) {
    let pacer = Arc::new(Pacer::new(batch).each(2));
    let ask = |nth: usize| {
        let pacer = Arc::clone(&pacer);
        move || {
            pacer.add(1);
            pacer.due(nth).map_or(0, |due| {
                let things = due.things();
                due.paid();
                things
            })
        }
    };
    let other = thread::spawn(ask(1));
    let told = [ask(1)(), other.join().expect("no panic")];
    (told, pacer.waiting())
}

#[test]
fn each_thing_is_told_of_once() {
    for batch in [1, 2, 3] {
        check(Start::Asymmetric, move || {
            let (told, waits) = two_ask(batch);
            assert_eq!(told[0] + told[1] + waits, 2, "{told:?}");
        });
    }
}

#[test]
fn a_batch_is_told_to_one() {
    check(Start::Asymmetric, || {
        let (told, waits) = two_ask(2);
        assert!(waits == 0 && (told == [0, 2] || told == [2, 0]), "{told:?} {waits}");
    });
    for told in [[0, 2], [2, 0]] {
        assert!(is_ever(Start::Asymmetric, move || two_ask(2).0 == told));
    }
}

/// Each of two threads adds a thing, and drops a `Due` if it gets one. Nothing is forgotten: the next `Due` has all.
#[test]
fn what_did_not_help_waits_on() {
    check(Start::Asymmetric, || {
        let pacer = Arc::new(Pacer::new(1).after(Duration::from_micros(1)));
        let other = {
            let pacer = Arc::clone(&pacer);
            thread::spawn(move || {
                pacer.add(1);
                drop(pacer.due(1));
            })
        };
        pacer.add(1);
        drop(pacer.due(1));
        other.join().expect("no panic");
        assert_eq!(pacer.waiting(), 2);
        let due = pacer.due_at(1, Duration::from_secs(1)).expect("a pause is over");
        assert_eq!(due.things(), 2);
        due.paid();
        assert_eq!(pacer.waiting(), 0);
    });
}

/// However often heavy fences did not help, `MOST_IN_VAIN` more batches make the next one due.
#[test]
fn backing_off_costs_a_bounded_number_of_batches() {
    check(Start::Asymmetric, || {
        let pacer = Pacer::new(1);
        for _ in 0..10 {
            pacer.add(Pacer::MOST_IN_VAIN);
            drop(pacer.due(1).expect("the bound on backing off"));
        }
    });
}
