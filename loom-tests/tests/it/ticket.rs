//! Tickets: if a ticket is served, its holder is ordered as if it had executed a heavy fence after it took the ticket.
//!
//! First the library's own tickets, on the modelled rung; then a transcription and its mutants. A, B, C are the
//! scenarios. D is A with a third thread, which learns from the holder that its ticket was served.
//!
//! | mutant | fails in |
//! | --- | --- |
//! | no fence when it is taken, or one that acquires and releases | A |
//! | a call is counted among those started only after the call | A |
//! | takes the count of calls that were served | A |
//! | a call serves what was taken before its end | two callers, 3 preemptions |
//! | served before the call | A |
//! | `served` read relaxed | A |
//! | `served` read with Acquire, and no fence after it | D |
//! | no opening fence | A |
//! | no closing fence | A |

use std::sync::Arc;

use asymfence::model::{Start, barrier_elsewhere, fence};
use asymfence::{Ticket, heavy_fence, light_fence};
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use loom::thread::{self, JoinHandle};

use loom_tests::check::{check, check_within, failure, failure_within, is_ever};

/// Tickets, by the library or by a transcription.
trait Tickets: Send + Sync + 'static {
    type Ticket: Copy;
    fn now(&self) -> Self::Ticket;
    fn is_served(&self, ticket: Self::Ticket) -> bool;
    fn heavy_fence(&self);
}

/// Two or three locations, and tickets.
struct World<T> {
    tickets: T,
    x: AtomicUsize,
    y: AtomicUsize,
    z: AtomicUsize,
}

const EARLY: &str = "a ticket was served too early";

impl<T: Tickets> World<T> {
    fn new(tickets: T) -> Arc<Self> {
        let [x, y, z] = [0; 3].map(AtomicUsize::new);
        Arc::new(World { tickets, x, y, z })
    }

    fn spawn<R: 'static>(self: &Arc<Self>, body: fn(&Self) -> R) -> JoinHandle<R> {
        let world = Arc::clone(self);
        thread::spawn(move || body(&world))
    }

    fn caller(self: &Arc<Self>) -> JoinHandle<()> {
        self.spawn(|world| world.tickets.heavy_fence())
    }

    /// The light side of scenario A: whether it saw the holder.
    fn reader(&self) -> bool {
        self.x.store(1, Relaxed);
        light_fence();
        self.y.load(Relaxed) == 1
    }

    /// The heavy side of scenario A: whether it saw the reader; `None` if the ticket was not served.
    fn holder(&self) -> Option<bool> {
        self.y.store(1, Relaxed);
        let ticket = self.tickets.now();
        self.tickets.is_served(ticket).then(|| self.x.load(Relaxed) == 1)
    }
}

fn join<R>(thread: JoinHandle<R>) -> R {
    thread.join().expect("no panic")
}

/// Whether the ticket was served.
fn a<T: Tickets>(tickets: T, callers: usize) -> bool {
    let world = World::new(tickets);
    let callers: Vec<_> = (0..callers).map(|_| world.caller()).collect();
    let holder = world.spawn(World::holder);
    let reader = world.reader();
    let holder = join(holder);
    callers.into_iter().for_each(join);
    assert!(reader || holder != Some(false), "{EARLY}");
    holder.is_some()
}

/// The holder has seen what came after the light fence.
fn b<T: Tickets>(tickets: T) -> bool {
    let world = World::new(tickets);
    let caller = world.caller();
    let holder = world.spawn(|world| {
        let y = world.y.load(Relaxed);
        let ticket = world.tickets.now();
        world.tickets.is_served(ticket).then(|| (y, world.x.load(Relaxed)))
    });
    world.x.store(1, Relaxed);
    light_fence();
    world.y.store(1, Relaxed);
    let seen = join(holder);
    join(caller);
    assert!(seen != Some((1, 0)), "{EARLY}");
    seen.is_some_and(|(y, _)| y == 1)
}

/// The holder stores `y` after its ticket is served. A thread that sees that before its light fence sees, after the
/// fence, what the holder did before it took the ticket.
fn c<T: Tickets>(tickets: T) -> bool {
    let world = World::new(tickets);
    let caller = world.caller();
    let holder = world.spawn(|world| {
        world.x.store(1, Relaxed);
        let ticket = world.tickets.now();
        let served = world.tickets.is_served(ticket);
        if served {
            world.y.store(1, Relaxed);
        }
        served
    });
    let y = world.y.load(Relaxed);
    light_fence();
    let x = world.x.load(Relaxed);
    let served = join(holder);
    join(caller);
    assert!((y, x) != (1, 0), "{EARLY}");
    served
}

/// A thread that learns from the holder, by a relaxed store after `is_served`, that the ticket was served, also comes
/// after the barriers of the other threads.
fn d<T: Tickets>(tickets: T) -> bool {
    let world = World::new(tickets);
    let caller = world.caller();
    let holder = world.spawn(|world| {
        world.y.store(1, Relaxed);
        let ticket = world.tickets.now();
        if world.tickets.is_served(ticket) {
            world.z.store(1, Relaxed);
        }
    });
    let third =
        world.spawn(|world| (world.z.load(Acquire) == 1).then(|| world.x.load(Relaxed) == 1));
    let reader = world.reader();
    let third = join(third);
    join(holder);
    join(caller);
    assert!(reader || third != Some(false), "{EARLY}");
    third.is_some()
}

/// Scenario A with two callers, of which the first thread is one. Therefore a few preemptions are enough for both calls
/// and a ticket to overlap.
fn two_callers<T: Tickets>(tickets: T) {
    let world = World::new(tickets);
    let reader = world.spawn(World::reader);
    let holder = world.spawn(World::holder);
    let caller = world.caller();
    world.tickets.heavy_fence();
    let (reader, holder) = (join(reader), join(holder));
    join(caller);
    assert!(reader || holder != Some(false), "{EARLY}");
}

/// Two threads wait, each for its own ticket, so that one may be served by the other's call.
fn two_wait() {
    let world = Arc::new((AtomicUsize::new(0), [0; 2].map(AtomicUsize::new)));
    let waiters = [0, 1].map(|me| {
        let world = world.clone();
        thread::spawn(move || {
            world.1[me].store(1, Relaxed);
            Ticket::now().wait();
            world.0.load(Relaxed) == 1
        })
    });
    world.0.store(1, Relaxed);
    light_fence();
    let reader = [0, 1].map(|me| world.1[me].load(Relaxed) == 1);
    for (waiter, reader) in waiters.map(join).into_iter().zip(reader) {
        assert!(waiter || reader, "{EARLY}");
    }
}

struct Library;

impl Tickets for Library {
    type Ticket = Ticket;

    fn now(&self) -> Ticket {
        Ticket::now()
    }

    fn is_served(&self, ticket: Ticket) -> bool {
        ticket.is_served()
    }

    fn heavy_fence(&self) {
        heavy_fence();
    }
}

const STARTS: [Start; 4] = [
    Start::Asymmetric,
    Start::Symmetric,
    Start::Undecided { rung_works: true },
    Start::Undecided { rung_works: false },
];

#[test]
fn the_librarys_are_served_by_what_started_after() {
    for start in STARTS {
        check(start, || _ = a(Library, 1));
        check(start, || _ = b(Library));
        check(start, || _ = c(Library));
    }
}

#[test]
fn the_librarys_are_with_two_callers() {
    check_within(Some(2), Start::Asymmetric, || two_callers(Library));
}

#[test]
fn the_librarys_tell_a_third() {
    check_within(Some(2), Start::Asymmetric, || _ = d(Library));
}

#[test]
fn one_who_waits_may_be_served_by_another_who_waits() {
    for start in STARTS {
        check(start, two_wait);
    }
}

/// If the process decides to be symmetric, the decision serves earlier tickets.
#[test]
fn tickets_are_served_at_times() {
    for start in [Start::Asymmetric, Start::Symmetric, Start::Undecided { rung_works: false }] {
        assert!(is_ever(start, || a(Library, 1)));
        assert!(is_ever(start, || b(Library)));
        assert!(is_ever(start, || c(Library)));
    }
    for start in [Start::Asymmetric, Start::Undecided { rung_works: true }] {
        assert!(is_ever(start, || !a(Library, 1)));
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Mutant {
    Exact,
    NoFenceAtNow,
    AcqRelAtNow,
    StartedCountedAfter,
    ServedBeforeTheCall,
    ServedReadRelaxed,
    TakesWhatIsServed,
    ServesUpToTheEnd,
    NoOpening,
    NoClosing,
    AcquiresAlone,
}
use Mutant::*;

struct Transcription {
    mutant: Mutant,
    started: AtomicUsize,
    served: AtomicUsize,
}

impl Transcription {
    fn new(mutant: Mutant) -> Self {
        Transcription { mutant, started: AtomicUsize::new(0), served: AtomicUsize::new(0) }
    }

    fn start(&self) -> usize {
        self.started.fetch_add(1, Relaxed) + 1
    }
}

impl Tickets for Transcription {
    type Ticket = usize;

    fn now(&self) -> usize {
        match self.mutant {
            NoFenceAtNow => {}
            AcqRelAtNow => fence(AcqRel),
            _ => fence(SeqCst),
        }
        let count = if self.mutant == TakesWhatIsServed { &self.served } else { &self.started };
        count.load(Relaxed)
    }

    fn is_served(&self, ticket: usize) -> bool {
        match self.mutant {
            ServedReadRelaxed => self.served.load(Relaxed) > ticket,
            AcquiresAlone => self.served.load(Acquire) > ticket,
            _ => {
                let served = self.served.load(Relaxed) > ticket;
                if served {
                    fence(AcqRel);
                }
                served
            }
        }
    }

    fn heavy_fence(&self) {
        let mutant = self.mutant;
        let mut number = if mutant == StartedCountedAfter { 0 } else { self.start() };
        if mutant == ServedBeforeTheCall {
            self.served.fetch_max(number, Release);
        }
        if mutant != NoOpening {
            fence(SeqCst);
        }
        barrier_elsewhere();
        if mutant != NoClosing {
            fence(SeqCst);
        }
        if mutant == StartedCountedAfter {
            number = self.start();
        }
        match mutant {
            ServedBeforeTheCall => 0,
            ServesUpToTheEnd => self.served.fetch_max(self.started.load(Relaxed), Release),
            _ => self.served.fetch_max(number, Release),
        };
    }
}

#[track_caller]
fn is_early(message: Option<String>, mutant: Mutant) {
    let message = message.unwrap_or_else(|| panic!("{mutant:?} passes"));
    assert!(message.contains(EARLY), "{mutant:?}: {message}");
}

#[test]
fn the_transcription_is_right() {
    check(Start::Asymmetric, || _ = a(Transcription::new(Exact), 1));
    check(Start::Asymmetric, || _ = b(Transcription::new(Exact)));
    check(Start::Asymmetric, || _ = c(Transcription::new(Exact)));
    check_within(Some(2), Start::Asymmetric, || _ = d(Transcription::new(Exact)));
    check_within(Some(2), Start::Asymmetric, || two_callers(Transcription::new(Exact)));
}

#[test]
fn one_caller_is_enough_to_see_most_mutants() {
    for mutant in [
        NoFenceAtNow,
        AcqRelAtNow,
        StartedCountedAfter,
        ServedBeforeTheCall,
        ServedReadRelaxed,
        TakesWhatIsServed,
        NoOpening,
        NoClosing,
    ] {
        is_early(failure(Start::Asymmetric, move || _ = a(Transcription::new(mutant), 1)), mutant);
    }
}

#[test]
fn a_third_thread_sees_that_nothing_is_released() {
    let program = || _ = d(Transcription::new(AcquiresAlone));
    is_early(failure_within(Some(2), Start::Asymmetric, program), AcquiresAlone);
}

#[test]
fn a_second_caller_sees_what_serves_too_much() {
    let program = || two_callers(Transcription::new(ServesUpToTheEnd));
    is_early(failure_within(Some(3), Start::Asymmetric, program), ServesUpToTheEnd);
}
