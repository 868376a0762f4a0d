//! crossbeam-epoch 0.9 in miniature: why an object waits for three advances of the epoch, and not two, once the fence of
//! `pin` is a light one.
//!
//! ```text
//! pins (`Local::pin`)       unlinks (`Global::push_bag`)       advances (`Global::try_advance`)
//! slot = epoch              unlink                             e = epoch
//! full fence, now light     full fence                         full fence, now heavy
//! read                      tag = epoch                        each slot is free, or at e
//! slot = free               free when epoch is tag + grace     epoch = e + 1
//! ```
//!
//! The fence of `pin` paired with two other fences, and only one of them becomes heavy. The full fence before the tag no
//! longer pairs with it: a reader may pin an epoch newer than the tag, and still find the object. So the tag may be one
//! too low. There are two ways out: one more advance, or a heavy fence before the tag too.
//!
//! Why one more is enough: let H be the heavy fence of the advance from `t + 1` to `t + 2`. A thread that executes a full
//! fence and then reads the tag `t`, not `t + 1`, executes that fence before H begins. So the unlinking comes before H,
//! and no reader finds the object once H has reached the reader. A reader that still finds it had pinned its epoch
//! before that. So it pinned `t + 1` or an earlier epoch, and the epoch does not go beyond `t + 2` while it is pinned.
//!
//! With a light fence before the tag, the tag is read before H reaches *that* thread. H may have reached the reader long
//! before. Then the reader may pin `t + 2` and still find the object, unless `pin` loads the epoch by an Acquire.
//!
//! loom's cells fail a model in which the object is freed while a thread reads it, or read after it was freed.

use std::sync::Arc;

use asymfence::model::{Start, fence};
use asymfence::{heavy_fence, light_fence};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use loom::thread;

use loom_tests::check::{check, check_within, failure, failure_within};

/// The fences in the places where crossbeam-epoch has `fence(SeqCst)`, and after how many advances it frees.
#[derive(Clone, Copy)]
struct Scheme {
    /// The load of the epoch in `pin`.
    load: Ordering,
    pin: fn(),
    seal: fn(),
    advance: fn(),
    grace: usize,
}

fn nothing() {}

fn full() {
    fence(SeqCst);
}

const AS_IT_IS: Scheme = Scheme { load: Relaxed, pin: full, seal: full, advance: full, grace: 2 };
const SWAPPED: Scheme = Scheme { pin: light_fence, advance: heavy_fence, ..AS_IT_IS };
const THREE: Scheme = Scheme { grace: 3, ..SWAPPED };
const LIGHT_SEAL: Scheme = Scheme { seal: light_fence, ..THREE };
const HEAVY_SEAL: Scheme = Scheme { seal: heavy_fence, ..SWAPPED };

/// Nobody is pinned.
const FREE: usize = 0;

struct World {
    scheme: Scheme,
    epoch: AtomicUsize,
    /// The reader's slot. The thread that unlinks is not pinned: pinning could only hold the epoch back.
    slot: AtomicUsize,
    /// Whether the object can be found.
    linked: AtomicUsize,
    alive: UnsafeCell<bool>,
}

// SAFETY: loom fails a model whose threads use the cell at once.
unsafe impl Send for World {}
// SAFETY: the same.
unsafe impl Sync for World {}

impl World {
    fn pin(&self) {
        // Relaxed is enough: an old one only holds the epoch back.
        let epoch = self.epoch.load(self.scheme.load);
        // Relaxed: publishes nothing.
        self.slot.store(epoch, Relaxed);
        (self.scheme.pin)();
    }

    fn unpin(&self) {
        // Release: what was read comes before it. Pairs with: the Acquire in `advance`.
        self.slot.store(FREE, Release);
    }

    fn read(&self) {
        self.pin();
        if self.linked.load(Acquire) == 1 {
            // SAFETY: loom fails the model if another thread writes at the same time.
            assert!(self.alive.with(|alive| unsafe { *alive }), "used after it was freed");
        }
        self.unpin();
    }

    /// Unlinks the object. Its tag.
    fn unlink(&self) -> usize {
        self.linked.store(0, Release);
        (self.scheme.seal)();
        // Relaxed: the fence orders it.
        self.epoch.load(Relaxed)
    }

    fn advance(&self) {
        // Acquire: the scans of earlier advances. Pairs with: the Release below.
        let epoch = self.epoch.load(Acquire);
        (self.scheme.advance)();
        // Acquire: a reader that has left no longer reads. Pairs with: the Release in `unpin`.
        if [FREE, epoch].contains(&self.slot.load(Acquire)) {
            // Release: our scan. Pairs with: the Acquires of who advances next, and of who frees. If another was
            // quicker it is as good; Relaxed: we learn nothing.
            let _ = self.epoch.compare_exchange(epoch, epoch + 1, Release, Relaxed);
        }
    }

    fn free(&self, tag: usize) {
        // Acquire: the readers of the object do not use it any more. Pairs with: the Release in `advance`.
        if self.epoch.load(Acquire) >= tag + self.scheme.grace {
            // SAFETY: loom fails the model if another thread uses it at the same time.
            self.alive.with_mut(|alive| unsafe { *alive = false });
        }
    }
}

fn world(scheme: Scheme) -> Arc<World> {
    Arc::new(World {
        scheme,
        epoch: AtomicUsize::new(FREE + 1),
        slot: AtomicUsize::new(FREE),
        linked: AtomicUsize::new(1),
        alive: UnsafeCell::new(true),
    })
}

/// One thread reads, one advances, and one unlinks, advances and frees. The last two advance that often.
fn program(scheme: Scheme, advances: [usize; 2]) {
    let world = world(scheme);
    let reader = {
        let world = Arc::clone(&world);
        thread::spawn(move || world.read())
    };
    let other = {
        let world = Arc::clone(&world);
        thread::spawn(move || (0..advances[0]).for_each(|_| world.advance()))
    };
    let tag = world.unlink();
    (0..advances[1]).for_each(|_| world.advance());
    world.free(tag);
    reader.join().expect("no panic");
    other.join().expect("no panic");
}

/// Fails if a reader pins `t + 2` and finds an object whose tag is `t`: the third advance does not wait for it. (A program
/// that also frees the object would need more preemptions than can be explored.)
fn found_late(scheme: Scheme) {
    let world = world(scheme);
    let reader = {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            world.pin();
            // Relaxed: only its own store.
            world.linked.load(Acquire) == 1 && world.slot.load(Relaxed) == 3
        })
    };
    let other = {
        let world = Arc::clone(&world);
        // Two advances, both without a scan: only executions in which the reader pins epoch 3 count, and in these it is
        // not pinned before. The first one also has no fence: the claim is about the fence of the second.
        thread::spawn(move || {
            world.epoch.store(2, Release);
            (world.scheme.advance)();
            world.epoch.store(3, Release);
        })
    };
    let tag = world.unlink();
    let is_found = reader.join().expect("no panic");
    other.join().expect("no panic");
    assert!(!is_found || tag > 1, "found late");
}

const PREEMPTIONS: Option<usize> = Some(2);

#[track_caller]
fn is_sound(scheme: Scheme, advances: [usize; 2]) {
    check_within(PREEMPTIONS, Start::Asymmetric, move || program(scheme, advances));
}

#[track_caller]
fn is_unsound(scheme: Scheme, advances: [usize; 2]) {
    let program = move || program(scheme, advances);
    let failure = failure_within(PREEMPTIONS, Start::Asymmetric, program);
    let message = failure.expect("the mutant passes");
    let is_found = ["used after", "Causality violation"].iter().any(|word| message.contains(word));
    assert!(is_found, "{message}");
}

#[test]
fn two_advances_are_enough_where_every_fence_is_full() {
    is_sound(AS_IT_IS, [1, 1]);
}

#[test]
fn two_advances_are_too_few_once_pin_has_a_light_fence() {
    is_unsound(SWAPPED, [1, 1]);
}

#[test]
fn three_advances_are_enough() {
    is_sound(THREE, [2, 1]);
}

#[test]
fn two_advances_are_enough_with_a_heavy_fence_before_the_tag() {
    is_sound(HEAVY_SEAL, [1, 1]);
}

#[test]
fn with_a_full_fence_before_the_tag_no_reader_of_the_newest_epoch_finds_the_object() {
    check(Start::Asymmetric, || found_late(THREE));
}

#[test]
fn with_a_light_fence_before_the_tag_a_reader_of_the_newest_epoch_finds_the_object() {
    let failure = failure(Start::Asymmetric, || found_late(LIGHT_SEAL));
    assert_eq!(failure.as_deref(), Some("found late"));
}

#[test]
fn with_a_light_fence_before_the_tag_an_acquire_in_pin_is_enough() {
    const ACQUIRED: Scheme = Scheme { load: Acquire, ..LIGHT_SEAL };
    check(Start::Asymmetric, || found_late(ACQUIRED));
    is_sound(ACQUIRED, [2, 1]);
    let failure = failure(Start::Asymmetric, || found_late(Scheme { seal: nothing, ..ACQUIRED }));
    assert_eq!(failure.as_deref(), Some("found late"));
}

#[test]
fn three_advances_without_one_of_the_fences_are_too_few() {
    is_unsound(Scheme { pin: nothing, ..THREE }, [0, 3]);
    is_unsound(Scheme { seal: nothing, ..THREE }, [2, 1]);
    is_unsound(Scheme { advance: full, ..THREE }, [0, 3]);
    is_unsound(Scheme { advance: light_fence, ..THREE }, [0, 3]);
}
