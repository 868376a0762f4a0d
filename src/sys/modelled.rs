//! The fences as loom can check them, no stronger than the contract.
//!
//! Each pair of a thread that executes light fences and a thread that executes heavy ones has a slot,
//! an atomic that both only ever read and modify. A light fence of `t` passes through the slots
//! `[t][h]` of every `h`; a heavy fence of `h`, between its two full fences, through `[t][h]` of
//! every `t`. Whoever comes second at a slot knows what the first knew: that is the one full fence
//! that a heavy fence makes each other thread execute, at a point that the two passages order.
//!
//! - Two light fences share no slot: light against light is unordered.
//! - The heavy side's passage is a *Release* only. What the slots hold it learns from its closing
//!   fence, all at once: with an Acquire it would hand one thread's past on to the next that it
//!   visits, while the kernel's interrupts are concurrent, and would hide outcomes.
//! - Any one order of visiting the slots hides a few outcomes too; upward and downward together were
//!   found exact. So a model is run once in each order.
//! - loom does not see that two `fence(SeqCst)` conflict, and may skip an interleaving of them. A
//!   relaxed read-modify-write of one location before each makes it look. A precaution: no program of
//!   loom-tests needs it.

use std::cell::Cell;

use loom::sync::atomic::{AtomicBool, AtomicUsize};

use super::Mechanism;
use super::world::{Start, Visit};
use crate::refusal::{Call, Failure, Refusal};
use crate::sync::Ordering::{self, AcqRel, Relaxed, Release};

pub(super) const RUNG: Mechanism = Mechanism {
    name: "modelled",
    admit: || Ok(()),
    probe,
    call,
    waiting: None,
    register: || Ok(()),
};

/// loom's five threads, and a row for threads whose locals are gone.
const THREADS: usize = 6;
const LOCALS_GONE: usize = THREADS - 1;

struct Slots {
    /// `[light thread][heavy thread]`
    passages: [[AtomicUsize; THREADS]; THREADS],
    /// Conflicts wherever two full fences do.
    full: AtomicUsize,
    /// The rung was made ready. The kernel orders more than this relaxed flag does; the library is
    /// not to rely on it.
    ready: AtomicBool,
    rung_works: bool,
    visit: Visit,
}

thread_local! {
    /// What the next `Slots` are to be. loom runs all threads of a model on one thread of the
    /// system, and one model at a time.
    static WORLD: Cell<Option<(Start, Visit)>> = const { Cell::new(None) };
}

loom::lazy_static! {
    static ref SLOTS: Slots = {
        let (start, visit) = WORLD.get().expect("checked before every access");
        Slots {
            passages: Default::default(),
            full: AtomicUsize::new(0),
            ready: AtomicBool::new(false),
            rung_works: start != Start::Undecided { rung_works: false },
            visit,
        }
    };
}

impl Drop for Slots {
    /// The execution is over; whoever fences now has outlived it.
    fn drop(&mut self) {
        WORLD.set(None);
    }
}

loom::thread_local! {
    static INDEX: usize = {
        // The `Debug` form, `ThreadId(3)`, is all that loom tells.
        let id = || format!("{:?}", loom::thread::current().id());
        // loom panics where the locals are gone and the thread has not fenced before.
        std::panic::catch_unwind(id).map_or(LOCALS_GONE, |id| {
            let digits = id.trim_matches(|letter: char| !letter.is_ascii_digit());
            digits.parse().expect("loom 0.7 numbers its threads")
        })
    };
}

/// Makes the slots. The atomics of loom synchronise whoever makes them with whoever comes later; so
/// the first thread must, before it has started another.
pub(crate) fn start(start: Start, visit: Visit) {
    assert!(me() == 0, "`asymfence::model::init` belongs into the first thread, before it spawns");
    WORLD.set(Some((start, visit)));
    super::witness::forget();
    let _ = slots();
}

fn slots() -> &'static Slots {
    assert_running();
    &SLOTS
}

/// Panics outside of a model, with what to do about it.
pub(crate) fn assert_running() {
    assert!(
        WORLD.get().is_some(),
        "a fence of asymfence outside of its model: call `asymfence::model::model` in place of \
         `loom::model`, or `asymfence::model::init()` first in a model of your own \
         `loom::model::Builder`; and join every thread before the model's closure ends"
    );
}

fn me() -> usize {
    INDEX.try_with(|index| *index).unwrap_or(LOCALS_GONE)
}

/// The index of a thread that executes heavy fences.
fn me_heavy() -> usize {
    let me = me();
    assert!(me != LOCALS_GONE, "a heavy fence in a destructor of a thread-local is not modelled");
    me
}

impl Slots {
    /// Every thread but `me`.
    fn others(&self, me: usize) -> impl Iterator<Item = usize> + use<> {
        let visit = self.visit;
        let nth = move |n| if visit == Visit::Upward { n } else { THREADS - 1 - n };
        (0..THREADS).map(nth).filter(move |&thread| thread != me)
    }
}

pub(super) fn light_fence() {
    let (slots, me) = (slots(), me());
    for heavy in slots.others(me) {
        // AcqRel: before the heavy fence, our past is its; after it, its past is ours. Pairs with
        // the Release in `call`, and with the closing fence behind that.
        slots.passages[me][heavy].fetch_add(1, AcqRel);
    }
}

fn call() -> Result<(), Failure> {
    // Relaxed: that it is true must follow from how the strategy was published.
    assert!(slots().ready.load(Relaxed), "a rung was used before it was ready");
    barrier_elsewhere();
    Ok(())
}

/// The call in the middle of a heavy fence.
pub(crate) fn barrier_elsewhere() {
    let (slots, me) = (slots(), me_heavy());
    for light in slots.others(me) {
        // Release: what came before our opening fence is known to light fences that come later.
        // Pairs with the AcqRel in `light_fence`. No Acquire: see above.
        slots.passages[light][me].fetch_add(1, Release);
    }
}

fn probe() -> Result<(), Refusal> {
    let slots = slots();
    if !slots.rung_works {
        return Err(Failure::new(Call::Modelled, 38).into());
    }
    // No trial call: it would synchronise more than the contract promises.
    slots.ready.store(true, Relaxed);
    Ok(())
}

/// loom's fence, and where it is a full one a conflict that loom's search sees.
pub(crate) fn fence(ordering: Ordering) {
    if ordering == Ordering::SeqCst {
        // Relaxed: it is there for loom's search, and synchronises nobody.
        slots().full.fetch_add(1, Relaxed);
    }
    loom::sync::atomic::fence(ordering);
}
