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
//! Why one more is enough: let H be the heavy fence of the advance from `t + 1`. A tag `t` was read before H reached
//! its thread, or it would be `t + 1`; so the unlinking stands before H. A reader that still finds the object had
//! pinned its epoch before H reached the reader. So it pinned `t + 1` or an earlier epoch, and the epoch does not go
//! beyond `t + 2` while it is pinned.
//!
//! loom's cells fail a model in which the object is freed while a thread reads it, or read after it was freed.

use std::sync::Arc;

use asymfence::model::{Start, fence};
use asymfence::{heavy_fence, light_fence};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::thread;

use loom_tests::check::{check_within, failure_within};

/// The fences in the places where crossbeam-epoch has `fence(SeqCst)`, and after how many advances it frees.
#[derive(Clone, Copy)]
struct Scheme {
    pin: fn(),
    seal: fn(),
    advance: fn(),
    grace: usize,
}

fn nothing() {}

fn full() {
    fence(SeqCst);
}

const AS_IT_IS: Scheme = Scheme { pin: full, seal: full, advance: full, grace: 2 };
const SWAPPED: Scheme = Scheme { pin: light_fence, seal: full, advance: heavy_fence, grace: 2 };
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
        // Relaxed: an old one only holds the epoch back.
        let epoch = self.epoch.load(Relaxed);
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

/// One thread reads, one advances, and one unlinks, advances and frees. The last two advance that often.
fn program(scheme: Scheme, advances: [usize; 2]) {
    let world = Arc::new(World {
        scheme,
        epoch: AtomicUsize::new(FREE + 1),
        slot: AtomicUsize::new(FREE),
        linked: AtomicUsize::new(1),
        alive: UnsafeCell::new(true),
    });
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
fn with_three_advances_the_fence_before_the_tag_may_be_light() {
    is_sound(LIGHT_SEAL, [2, 1]);
}

#[test]
fn three_advances_without_one_of_the_fences_are_too_few() {
    is_unsound(Scheme { pin: nothing, ..THREE }, [0, 3]);
    is_unsound(Scheme { seal: nothing, ..THREE }, [2, 1]);
    is_unsound(Scheme { advance: full, ..THREE }, [0, 3]);
    is_unsound(Scheme { advance: light_fence, ..THREE }, [0, 3]);
}
