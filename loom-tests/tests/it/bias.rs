//! A bias that is revoked and restored: the library's own, then a transcription and its mutants. A, B, C are the
//! scenarios, with the frequent side light and the rare side heavy.
//!
//! | mutant | fails where the bias is |
//! | --- | --- |
//! | the frequent side looks at the word before its barrier | revoked |
//! | the frequent side does not acquire the word | restored |
//! | the frequent side is light, whatever the word says | revoked |
//! | the rare side looks at the word before its fence | restored |
//! | the rare side does not acquire the word | revoked |
//! | the rare side is full, whatever the word says | kept |
//! | it is full while the bias is being revoked | revoked |
//! | it is full while the bias returns | restored |
//! | revoked without the heavy fence | revoked |
//! | restored without the heavy fence | restored |
//! | restored although a rare side has come meanwhile | restored |

use std::sync::Arc;
use std::time::Duration;

use asymfence::model::{Start, fence};
use asymfence::{Bias, Ticket, heavy_fence, light_fence};
use loom::sync::Mutex;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::thread::{self, JoinHandle};

use loom_tests::check::{STARTS, check_within, failure_within, is_ever};

/// A bias, by the library or by a transcription.
trait Gives: Send + Sync + 'static {
    fn light(&self) -> bool;
    fn heavy(&self);
    fn revoke(&self);
    fn restore(&self) -> bool;
}

const BROKEN: &str = "the two sides missed each other";

struct World<B> {
    bias: B,
    x: AtomicUsize,
    y: AtomicUsize,
}

impl<B: Gives> World<B> {
    fn new(bias: B) -> Arc<Self> {
        Arc::new(World { bias, x: AtomicUsize::new(0), y: AtomicUsize::new(0) })
    }

    fn spawn<R: 'static>(self: &Arc<Self>, body: fn(&Self) -> R) -> JoinHandle<R> {
        let world = Arc::clone(self);
        thread::spawn(move || body(&world))
    }

    /// The frequent side of scenario A.
    fn frequent(&self) -> (bool, usize) {
        self.x.store(1, Relaxed);
        (self.bias.light(), self.y.load(Relaxed))
    }

    /// The rare side of scenario A.
    fn rare(&self) -> usize {
        self.y.store(1, Relaxed);
        self.bias.heavy();
        self.x.load(Relaxed)
    }
}

fn join<R>(thread: JoinHandle<R>) -> R {
    thread.join().expect("no panic")
}

/// What a third thread does to the bias meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meanwhile {
    Kept,
    Revoked,
    Restored,
}
use Meanwhile::*;

/// The state of the bias before, and the thread that changes it.
fn change<B: Gives>(world: &Arc<World<B>>, meanwhile: Meanwhile) -> Option<JoinHandle<()>> {
    if meanwhile != Restored {
        world.bias.restore();
    }
    match meanwhile {
        Kept => None,
        Revoked => Some(world.spawn(|world| world.bias.revoke())),
        Restored => Some(world.spawn(|world| _ = world.bias.restore())),
    }
}

/// Whether the frequent side's fence was a light one.
fn a<B: Gives>(bias: B, meanwhile: Meanwhile) -> bool {
    let world = World::new(bias);
    let changes = change(&world, meanwhile);
    let rare = world.spawn(World::rare);
    let (light, y) = world.frequent();
    let x = join(rare);
    changes.map(join);
    assert!(x == 1 || y == 1, "{BROKEN}");
    light
}

/// Message passing: the frequent side sends.
fn b<B: Gives>(bias: B, meanwhile: Meanwhile) {
    let world = World::new(bias);
    let changes = change(&world, meanwhile);
    let receiver = world.spawn(|world| {
        let y = world.y.load(Relaxed);
        world.bias.heavy();
        (y, world.x.load(Relaxed))
    });
    world.x.store(1, Relaxed);
    world.bias.light();
    world.y.store(1, Relaxed);
    let seen = join(receiver);
    changes.map(join);
    assert!(seen != (1, 0), "{BROKEN}");
}

/// Message passing: the rare side sends.
fn c<B: Gives>(bias: B, meanwhile: Meanwhile) {
    let world = World::new(bias);
    let changes = change(&world, meanwhile);
    let sender = world.spawn(|world| {
        world.x.store(1, Relaxed);
        world.bias.heavy();
        world.y.store(1, Relaxed);
    });
    let y = world.y.load(Relaxed);
    world.bias.light();
    let x = world.x.load(Relaxed);
    join(sender);
    changes.map(join);
    assert!((y, x) != (1, 0), "{BROKEN}");
}

/// One thread revokes the bias, acts as the rare side, and restores the bias, which takes two calls.
fn to_and_fro<B: Gives>(bias: B) {
    let world = World::new(bias);
    world.bias.restore();
    let rare = world.spawn(|world| {
        world.bias.revoke();
        let x = world.rare();
        world.bias.restore();
        world.bias.restore();
        x
    });
    let (_, y) = world.frequent();
    let x = join(rare);
    assert!(x == 1 || y == 1, "{BROKEN}");
}

/// A rare side that comes twice while the bias is being restored.
fn twice<B: Gives>(bias: B, _: Meanwhile) {
    let world = World::new(bias);
    let rare = world.spawn(|world| {
        world.bias.heavy();
        world.rare()
    });
    // The first thread restores: so one preemption is enough for the rare side to come in between.
    let frequent = world.spawn(World::frequent);
    world.bias.restore();
    let (_, y) = join(frequent);
    let x = join(rare);
    assert!(x == 1 || y == 1, "{BROKEN}");
}

/// Two threads try to restore it while a rare side comes.
fn two_restore<B: Gives>(bias: B) {
    let world = World::new(bias);
    let rare = world.spawn(World::rare);
    let restorer = world.spawn(|world| _ = world.bias.restore());
    world.bias.restore();
    let (_, y) = world.frequent();
    let x = join(rare);
    join(restorer);
    assert!(x == 1 || y == 1, "{BROKEN}");
}

struct Library(Bias);

fn library() -> Library {
    Library(Bias::new(Duration::from_millis(1)))
}

impl Gives for Library {
    fn light(&self) -> bool {
        self.0.light_fence()
    }

    fn heavy(&self) {
        // The last heavy fence was long ago, so the first call leaves the bias alone.
        self.0.heavy_fence(|| Duration::from_secs(1));
    }

    fn revoke(&self) {
        self.0.revoke();
    }

    fn restore(&self) -> bool {
        self.0.restore()
    }
}

#[test]
fn the_librarys_sides_do_not_miss_each_other() {
    for start in STARTS {
        for meanwhile in [Kept, Revoked, Restored] {
            check_within(Some(2), start, move || _ = a(library(), meanwhile));
            check_within(Some(2), start, move || b(library(), meanwhile));
            check_within(Some(2), start, move || c(library(), meanwhile));
        }
    }
}

#[test]
fn the_librarys_do_not_while_the_bias_goes_to_and_fro() {
    check_within(Some(2), Start::Asymmetric, || to_and_fro(library()));
    check_within(Some(2), Start::Asymmetric, || two_restore(library()));
    check_within(Some(2), Start::Asymmetric, || twice(library(), Restored));
}

/// A rare side that comes again before a pause is over revokes the bias itself.
#[test]
fn the_librarys_do_not_where_the_rare_side_revokes() {
    struct Often(Library);
    impl Gives for Often {
        fn light(&self) -> bool {
            self.0.light()
        }
        fn heavy(&self) {
            self.0.0.heavy_fence(|| Duration::ZERO);
        }
        fn revoke(&self) {
            self.0.revoke();
        }
        fn restore(&self) -> bool {
            self.0.restore()
        }
    }
    let often = || Often(library());
    for meanwhile in [Kept, Revoked, Restored] {
        check_within(Some(2), Start::Asymmetric, move || _ = a(often(), meanwhile));
    }
    check_within(Some(2), Start::Asymmetric, move || {
        let world = World::new(often());
        world.bias.restore();
        let rare = [world.spawn(World::rare), world.spawn(World::rare)];
        let (_, y) = world.frequent();
        for x in rare.map(join) {
            assert!(x == 1 || y == 1, "{BROKEN}");
        }
    });
}

/// A bias that is on from the start, without a heavy fence.
#[test]
fn the_librarys_do_not_where_the_bias_is_there_from_the_start() {
    for start in STARTS {
        let biased = || Library(Bias::biased(Duration::from_millis(1)));
        for meanwhile in [Kept, Revoked] {
            check_within(Some(2), start, move || _ = a(biased(), meanwhile));
            check_within(Some(2), start, move || b(biased(), meanwhile));
            check_within(Some(2), start, move || c(biased(), meanwhile));
        }
    }
}

/// Two rare sides that come together: the first one takes a ticket under a lock, and the second one finds it there.
/// Whether the second one had a ticket to share.
fn together(meanwhile: Meanwhile) -> bool {
    let world = World::new(library());
    let changes = change(&world, meanwhile);
    let rare = {
        let (world, announced) = (Arc::clone(&world), Arc::new(Mutex::new(None)));
        let come = move || {
            let mut announced = announced.lock().expect("no panic while it is held");
            world.y.store(1, Relaxed);
            let shared = *announced;
            if shared.is_none() {
                *announced = Some(Ticket::now());
            }
            drop(announced);
            match shared {
                Some(ticket) => world.bias.0.wait(ticket),
                None => world.bias.heavy(),
            }
            (world.x.load(Relaxed), shared.is_some())
        };
        [thread::spawn(come.clone()), thread::spawn(come)]
    };
    let (_, y) = world.frequent();
    let seen = rare.map(join);
    changes.map(join);
    for (x, _) in seen {
        assert!(x == 1 || y == 1, "{BROKEN}");
    }
    seen.iter().any(|&(_, shared)| shared)
}

#[test]
fn the_librarys_do_not_where_two_rare_sides_share_a_ticket() {
    check_within(Some(2), Start::Asymmetric, || assert!(together(Kept)));
    check_within(Some(1), Start::Asymmetric, || assert!(together(Revoked)));
    check_within(Some(1), Start::Asymmetric, || assert!(together(Restored)));
}

#[test]
fn the_frequent_side_is_light_at_times_and_full_at_others() {
    for meanwhile in [Revoked, Restored] {
        for light in [false, true] {
            assert!(is_ever(Start::Asymmetric, move || a(library(), meanwhile) == light));
        }
    }
    assert!(!is_ever(Start::Symmetric, || a(library(), Kept)));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    Exact,
    WordBeforeTheBarrier,
    FrequentDoesNotAcquire,
    FrequentAlwaysLight,
    WordBeforeTheFence,
    RareDoesNotAcquire,
    RareAlwaysFull,
    FullWhileRevoking,
    FullWhileReturning,
    RevokedWithoutHeavy,
    RestoredWithoutHeavy,
    RestoredInAnyCase,
}
use Mutant::*;

const FULL: usize = 0;
const BIASED: usize = 1;
const RETURNING: usize = 2;
const REVOKING: usize = 3;

/// Without the count of rounds in the word. It is for a thread that comes back in a later round, and no model here
/// restores often enough for that.
struct Transcription(Mutant, AtomicUsize);

fn transcription(mutant: Mutant) -> Transcription {
    Transcription(mutant, AtomicUsize::new(FULL))
}

impl Gives for Transcription {
    fn light(&self) -> bool {
        let ordering = if self.0 == FrequentDoesNotAcquire { Relaxed } else { Acquire };
        let early = self.1.load(ordering);
        light_fence();
        let word = if self.0 == WordBeforeTheBarrier { early } else { self.1.load(ordering) };
        let light = word == BIASED;
        if !light && self.0 != FrequentAlwaysLight {
            fence(SeqCst);
        }
        light
    }

    fn heavy(&self) {
        let ordering = if self.0 == RareDoesNotAcquire { Relaxed } else { Acquire };
        let word = if self.0 == WordBeforeTheFence {
            let word = self.1.load(ordering);
            fence(SeqCst);
            word
        } else {
            fence(SeqCst);
            self.1.load(ordering)
        };
        let is_full = match word {
            FULL => true,
            REVOKING => self.0 == FullWhileRevoking,
            RETURNING => self.0 == FullWhileReturning,
            _ => false,
        };
        if is_full || self.0 == RareAlwaysFull {
            return;
        }
        if word == BIASED {
            return heavy_fence();
        }
        let changed = self.1.compare_exchange(word, REVOKING, Relaxed, Relaxed);
        heavy_fence();
        if changed.is_ok() {
            let _ = self.1.compare_exchange(REVOKING, FULL, Release, Relaxed);
        }
    }

    fn revoke(&self) {
        if self.1.compare_exchange(BIASED, REVOKING, Relaxed, Relaxed).is_ok() {
            if self.0 != RevokedWithoutHeavy {
                heavy_fence();
            }
            let _ = self.1.compare_exchange(REVOKING, FULL, Release, Relaxed);
        }
    }

    fn restore(&self) -> bool {
        if self.1.compare_exchange(FULL, RETURNING, Relaxed, Relaxed).is_err() {
            return false;
        }
        if self.0 != RestoredWithoutHeavy {
            heavy_fence();
        }
        if self.0 == RestoredInAnyCase {
            self.1.store(BIASED, Release);
            return true;
        }
        self.1.compare_exchange(RETURNING, BIASED, Release, Relaxed).is_ok()
    }
}

#[test]
fn the_transcription_is_right() {
    for meanwhile in [Kept, Revoked, Restored] {
        check_within(Some(2), Start::Asymmetric, move || _ = a(transcription(Exact), meanwhile));
        check_within(Some(2), Start::Asymmetric, move || b(transcription(Exact), meanwhile));
        check_within(Some(2), Start::Asymmetric, move || c(transcription(Exact), meanwhile));
    }
}

#[test]
fn every_mutant_fails() {
    for (mutant, meanwhile) in [
        (WordBeforeTheBarrier, Revoked),
        (FrequentDoesNotAcquire, Restored),
        (FrequentAlwaysLight, Revoked),
        (WordBeforeTheFence, Restored),
        (RareDoesNotAcquire, Revoked),
        (RareAlwaysFull, Kept),
        (FullWhileRevoking, Revoked),
        (FullWhileReturning, Restored),
        (RevokedWithoutHeavy, Revoked),
        (RestoredWithoutHeavy, Restored),
        (RestoredInAnyCase, Restored),
    ] {
        let programs: [fn(Transcription, Meanwhile); 4] =
            [|bias, meanwhile| _ = a(bias, meanwhile), b, c, twice];
        let fails = programs.into_iter().any(|program| {
            let program = move || program(transcription(mutant), meanwhile);
            failure_within(Some(2), Start::Asymmetric, program)
                .is_some_and(|message| message.contains(BROKEN))
        });
        assert!(fails, "{mutant:?} passes");
    }
}
