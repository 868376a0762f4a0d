//! The end of a thread, when its thread-locals are dropped. In loom that may be after the thread was joined, and after
//! the model's closure has ended.

use std::cell::RefCell;

use asymfence::model::{Start, model};
use asymfence::{heavy_fence, light_fence};
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Notify};
use loom::thread;

use loom_tests::check::{check_within, is_ever};

struct Shared {
    x: AtomicUsize,
    y: AtomicUsize,
    /// Whether a destructor has missed `y`. Set when it has run.
    missed: AtomicUsize,
    gone: Notify,
}

impl Shared {
    fn new() -> Self {
        let [x, y, missed] = [0; 3].map(AtomicUsize::new);
        Shared { x, y, missed, gone: Notify::new() }
    }
}

/// One side of scenario A, when it is dropped.
struct Publishes {
    shared: Arc<Shared>,
    fence: fn(),
}

impl Drop for Publishes {
    fn drop(&mut self) {
        self.shared.x.store(1, Relaxed);
        (self.fence)();
        self.shared.missed.store(usize::from(self.shared.y.load(Relaxed) == 0), Relaxed);
        self.shared.gone.notify();
    }
}

loom::thread_local! {
    static LOCAL: RefCell<Option<Publishes>> = RefCell::new(None);
}

/// Returns whether the destructor of one thread and another thread ever miss each other. The thread does `first`
/// before that.
fn misses(first: fn(), local: fn(), other: fn()) -> bool {
    is_ever(Start::Asymmetric, move || {
        let shared = Arc::new(Shared::new());
        let theirs = shared.clone();
        let thread = thread::spawn(move || {
            first();
            LOCAL.with(|place| {
                *place.borrow_mut() = Some(Publishes { shared: theirs, fence: local });
            });
        });
        shared.y.store(1, Relaxed);
        other();
        let missed = shared.x.load(Relaxed) == 0;
        shared.gone.wait();
        thread.join().expect("no panic");
        shared.missed.load(Relaxed) == 1 && missed
    })
}

/// The model has a number for a thread that has fenced before, and none for one that has not.
#[test]
fn fences_in_destructors_of_thread_locals_pair_as_others_do() {
    for first in [light_fence, heavy_fence, || {}] {
        assert!(!misses(first, light_fence, heavy_fence));
        assert!(!misses(first, heavy_fence, light_fence));
        assert!(!misses(first, heavy_fence, heavy_fence));
        assert!(misses(first, light_fence, light_fence));
    }
}

/// Of two threads without a number of their own, which share one in the model, neither hides what the other did.
#[test]
fn destructors_of_two_threads_pair_with_one_heavy_fence() {
    check_within(Some(2), Start::Asymmetric, || {
        let both = [(); 2].map(|()| Arc::new(Shared::new()));
        let threads = both.clone().map(|shared| {
            thread::spawn(move || {
                LOCAL.with(|place| {
                    *place.borrow_mut() = Some(Publishes { shared, fence: light_fence });
                });
            })
        });
        both.iter().for_each(|shared| shared.y.store(1, Relaxed));
        heavy_fence();
        let missed = both.each_ref().map(|shared| shared.x.load(Relaxed) == 0);
        both.iter().for_each(|shared| shared.gone.wait());
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        for (shared, missed) in both.iter().zip(missed) {
            assert!(shared.missed.load(Relaxed) == 0 || !missed, "they have missed each other");
        }
    });
}

struct Asserts(Arc<[AtomicUsize; 3]>, fn());

impl Drop for Asserts {
    fn drop(&mut self) {
        let [x, y, missed] = &*self.0;
        x.store(1, Relaxed);
        (self.1)();
        let misses = y.load(Relaxed) == 0;
        // Each side records what it missed, and the later side compares.
        assert!(!(misses && missed.fetch_add(1, Relaxed) == 1), "they have missed each other");
    }
}

loom::thread_local! {
    static ASSERTS: RefCell<Option<Asserts>> = RefCell::new(None);
}

/// The natural program: one thread has a local that fences when it is dropped; the other thread fences, and then joins.
/// Nothing waits for the destructor, which in some executions runs after the end of the closure.
fn natural(first: fn(), local: fn(), other: fn()) {
    let shared = Arc::new([(); 3].map(|()| AtomicUsize::new(0)));
    let theirs = shared.clone();
    let thread = thread::spawn(move || {
        first();
        ASSERTS.with(|place| *place.borrow_mut() = Some(Asserts(theirs, local)));
    });
    let [x, y, missed] = &*shared;
    y.store(1, Relaxed);
    other();
    if x.load(Relaxed) == 0 {
        assert!(missed.fetch_add(1, Relaxed) == 0, "they have missed each other");
    }
    thread.join().expect("no panic");
}

#[test]
fn a_destructor_that_nobody_waits_for_is_no_false_alarm() {
    for first in [light_fence, || {}] {
        model(move || natural(first, light_fence, heavy_fence));
        model(move || natural(first, heavy_fence, light_fence));
    }
    loom::model(|| natural(|| {}, light_fence, heavy_fence));
}

/// The twin of the one above.
#[test]
#[should_panic(expected = "they have missed each other")]
fn a_destructor_whose_fence_is_too_weak_is_found() {
    model(|| natural(|| {}, light_fence, light_fence));
}

/// The locals of the first thread are dropped after the closure has ended, while the other thread still runs.
#[test]
fn the_first_threads_locals_may_fence() {
    for (local, other) in [
        (light_fence as fn(), heavy_fence as fn()),
        (heavy_fence, light_fence),
        (heavy_fence, heavy_fence),
    ] {
        model(move || {
            let shared = Arc::new([(); 3].map(|()| AtomicUsize::new(0)));
            let theirs = shared.clone();
            ASSERTS.with(|place| *place.borrow_mut() = Some(Asserts(shared, local)));
            thread::spawn(move || {
                let [x, y, missed] = &*theirs;
                y.store(1, Relaxed);
                other();
                if x.load(Relaxed) == 0 {
                    assert!(missed.fetch_add(1, Relaxed) == 0, "they have missed each other");
                }
            });
        });
    }
}

/// The only fences of the program are in destructors of thread-locals. In some executions none has run when the closure
/// ends.
#[test]
fn a_destructor_may_be_the_only_one_that_fences() {
    struct Fences(fn());
    impl Drop for Fences {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    loom::thread_local! {
        static LIGHT: Fences = Fences(light_fence);
        static HEAVY: Fences = Fences(heavy_fence);
    }
    model(|| {
        let thread = thread::spawn(|| LIGHT.with(|_| ()));
        HEAVY.with(|_| ());
        thread.join().expect("no panic");
    });
    loom::model(|| {
        let threads = [(); 2].map(|()| thread::spawn(|| LIGHT.with(|_| ())));
        LIGHT.with(|_| ());
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
    loom::model(|| thread::spawn(|| HEAVY.with(|_| ())).join().expect("no panic"));
}

/// What the model loses when its closure has ended: each of two threads that were not joined forgets what the other knew
/// at a fence before that. With a join it does not.
fn two_others(joins: bool) {
    model(move || {
        let shared = Arc::new([(); 4].map(|()| AtomicUsize::new(0)));
        let [theirs, ours] = [(); 2].map(|()| shared.clone());
        let thread = thread::spawn(move || {
            let [x, y, missed, late] = &*shared;
            x.store(1, Relaxed);
            light_fence();
            let misses = y.load(Relaxed) == 0;
            late.store(1, Relaxed);
            assert!(!(misses && missed.fetch_add(1, Relaxed) == 1), "they have missed each other");
        });
        thread::spawn(move || {
            let [x, y, missed, _] = &*theirs;
            y.store(1, Relaxed);
            heavy_fence();
            let misses = x.load(Relaxed) == 0;
            assert!(!(misses && missed.fetch_add(1, Relaxed) == 1), "they have missed each other");
        });
        // In some executions the closure ends between the two fences.
        ours[3].load(Relaxed);
        if joins {
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn a_thread_that_was_joined_is_remembered_after_the_closure() {
    two_others(true);
}

/// The twin of the one above: a limit of the model, named in docs/checking-under-loom.md.
#[test]
#[should_panic(expected = "they have missed each other")]
fn a_thread_that_was_not_joined_is_forgotten_after_the_closure() {
    two_others(false);
}

/// The first thread fences before it publishes, and not between publishing and setting a flag. It sets the flag by a
/// destructor, or at once.
fn published_too_late(at_once: bool) {
    struct Flag(Arc<[AtomicUsize; 2]>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0[1].store(1, Relaxed);
        }
    }
    loom::thread_local! {
        static FLAG: RefCell<Option<Flag>> = RefCell::new(None);
    }
    model(move || {
        let shared = Arc::new([(); 2].map(|()| AtomicUsize::new(0)));
        let theirs = shared.clone();
        thread::spawn(move || {
            let [x, flag] = &*theirs;
            let flag = flag.load(Relaxed);
            heavy_fence();
            assert!(flag == 0 || x.load(Relaxed) == 1, "the flag came first");
        });
        light_fence();
        shared[0].store(1, Relaxed);
        match Flag(shared) {
            flag if at_once => drop(flag),
            flag => FLAG.with(|place| *place.borrow_mut() = Some(flag)),
        }
    });
}

#[test]
#[should_panic(expected = "the flag came first")]
fn in_the_closure_a_fence_too_early_is_found() {
    published_too_late(true);
}

/// The twin of the one above: a limit of the model, named in docs/checking-under-loom.md.
#[test]
fn after_the_closure_a_fence_too_early_is_not_found() {
    published_too_late(false);
}
