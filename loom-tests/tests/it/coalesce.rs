//! STARTED-AFTER: two callers that may share one heavy call, and a light reader.
//!
//! The library's own `Coalesce` is checked first; then a transcription of its protocol, and mutants of that. The
//! `SeqCst` mapping takes both fences for `fence(SeqCst)`, as the models of other crates do. (`cargo xtask mutants`
//! makes the same changes to the library itself.)
//!
//! | mutant | `SeqCst` mapping | model |
//! | --- | --- | --- |
//! | shares the call that is in flight when it arrives | misses it | fails |
//! | counts a call among those started only after the call | misses it | fails |
//! | a call that failed serves | misses it | fails |
//! | reads `served` relaxed, without the closing fence | misses it | fails |
//! | no entry fence | fails | fails |
//! | an entry fence that acquires and releases | fails | fails |

use std::num::NonZeroU32;

use asymfence::model::{Start, Visit, barrier_elsewhere, fence, init_from, run};
use asymfence::{Coalesce, light_fence};
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use loom::thread;

use loom_tests::check::{check_within, failure};

/// One heavy fence for many callers, by the library or by a transcription.
trait Shares: Send + Sync + 'static {
    /// False if the fence failed. `fails` says whether a call of the caller's own fails, and then reaches no thread.
    fn heavy_fence(&self, fails: bool) -> bool;
}

/// Scenario A with two writers: the reader and a writer must not miss each other. The call of one writer may fail.
fn two_writers_and_a_reader(shared: impl Shares, failing: Option<usize>) {
    let shared = Arc::new(shared);
    let x = Arc::new(AtomicUsize::new(0));
    let y = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let writers = [0, 1].map(|me| {
        let (shared, x, y) = (shared.clone(), x.clone(), y.clone());
        thread::spawn(move || {
            y[me].store(1, Relaxed);
            let ordered = shared.heavy_fence(failing == Some(me));
            !ordered || x.load(Relaxed) == 1
        })
    });
    x.store(1, Relaxed);
    light_fence();
    let reader = [y[0].load(Relaxed), y[1].load(Relaxed)];
    for (writer, reader) in
        writers.map(|writer| writer.join().expect("no panic")).iter().zip(reader)
    {
        assert!(*writer || reader == 1, "a heavy fence was shared too early");
    }
}

/// Two callers against each other: heavy against heavy.
fn two_writers(shared: impl Shares) {
    let shared = Arc::new(shared);
    let y = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let writers = [0, 1].map(|me| {
        let (shared, y) = (shared.clone(), y.clone());
        thread::spawn(move || {
            y[me].store(1, Relaxed);
            shared.heavy_fence(false);
            y[1 - me].load(Relaxed)
        })
    });
    let seen = writers.map(|writer| writer.join().expect("no panic"));
    assert!(seen != [0, 0], "a heavy fence was shared too early");
}

/// The library's, and how often a caller looks at another's call.
struct Library(Coalesce, u32);

const FAILURE: NonZeroU32 = NonZeroU32::MIN;

impl Shares for Library {
    fn heavy_fence(&self, fails: bool) -> bool {
        let call = || {
            if fails {
                return Err(FAILURE);
            }
            barrier_elsewhere();
            Ok(())
        };
        run(&self.0, self.1, call).is_ok()
    }
}

/// Two preemptions find every mutant of it.
fn check_library(program: impl Fn() + Send + Sync + 'static) {
    let preemptions = if loom_tests::deep() { 3 } else { 2 };
    check_within(Some(preemptions), Start::Asymmetric, program);
}

#[test]
fn the_library_shares_only_what_started_after() {
    // Each caller here makes one call, and loom runs it to its end while another waits, so a second look sees no more
    // than the first.
    for looks in [0, 1] {
        let library = move || Library(Coalesce::new(), looks);
        check_library(move || two_writers_and_a_reader(library(), None));
        check_library(move || two_writers(library()));
    }
}

#[test]
fn the_library_shares_no_call_that_failed() {
    for looks in [0, 1] {
        let library = move || Library(Coalesce::new(), looks);
        check_library(move || two_writers_and_a_reader(library(), Some(0)));
    }
}

/// The first call of one caller serves nobody that comes while it is made, and the second fails.
#[test]
fn the_library_shares_no_call_that_failed_behind_one_that_did_not() {
    for looks in [1, 2] {
        check_library(move || {
            let shared = Arc::new(Library(Coalesce::new(), looks));
            let [x, y] = [0; 2].map(|_| Arc::new(AtomicUsize::new(0)));
            let leader = {
                let shared = shared.clone();
                thread::spawn(move || [false, true].map(|fails| shared.heavy_fence(fails)))
            };
            let writer = {
                let (x, y) = (x.clone(), y.clone());
                thread::spawn(move || {
                    y.store(1, Relaxed);
                    let ordered = shared.heavy_fence(false);
                    !ordered || x.load(Relaxed) == 1
                })
            };
            x.store(1, Relaxed);
            light_fence();
            let reader = y.load(Relaxed);
            assert!(writer.join().expect("no panic") || reader == 1, "a failed call was shared");
            assert_eq!(leader.join().expect("no panic"), [true, false]);
        });
    }
}

/// Three callers: while one leads, the two others wait for the call after that.
#[test]
fn the_library_does_share() {
    // Of std, not of loom: it outlives the executions.
    let sharing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = sharing.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(1);
    builder.check(move || {
        init_from(Start::Asymmetric, Visit::Upward);
        let shared = Arc::new(Library(Coalesce::new(), 2));
        let callers = [(); 3].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || shared.heavy_fence(false))
        });
        assert!(callers.into_iter().all(|caller| caller.join().expect("no panic")));
        if shared.0.stats().shared > 0 {
            seen.store(true, Relaxed);
        }
    });
    assert!(sharing.load(Relaxed), "nobody ever shares: the models above prove nothing");
}

/// How a transcription differs from the library.
#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    SharesTheCallInFlight,
    StartedCountedAfter,
    FailureServes,
    ServedReadRelaxed,
    NoEntryFence,
    EntryFence(Ordering),
}

struct Transcription {
    mutant: Mutant,
    /// Twice the number of calls that have started, plus 1 while the last one runs.
    lead: AtomicUsize,
    served: AtomicUsize,
}

impl Transcription {
    fn new(mutant: Mutant) -> Self {
        Transcription { mutant, lead: AtomicUsize::new(0), served: AtomicUsize::new(0) }
    }

    fn is_served(&self, arrived: usize) -> bool {
        let is_served = self.served.load(Relaxed) > arrived;
        if is_served && self.mutant != Mutant::ServedReadRelaxed {
            fence(AcqRel);
        }
        is_served
    }

    fn call(&self, number: usize, fails: bool) -> bool {
        fence(SeqCst);
        if !fails {
            barrier_elsewhere();
        }
        fence(SeqCst);
        if !fails || self.mutant == Mutant::FailureServes {
            self.served.fetch_max(number, Release);
        }
        !fails
    }
}

impl Shares for Transcription {
    fn heavy_fence(&self, fails: bool) -> bool {
        match self.mutant {
            Mutant::NoEntryFence => {}
            Mutant::EntryFence(ordering) => fence(ordering),
            _ => fence(SeqCst),
        }
        let arrived = match self.mutant {
            // Any call that ends next is enough.
            Mutant::SharesTheCallInFlight => self.served.load(Relaxed),
            _ => self.lead.load(Relaxed) & !1,
        };
        for looks in 0.. {
            let lead = self.lead.load(Acquire);
            if self.is_served(arrived) {
                return true;
            }
            if lead & 1 == 1 && looks < 2 {
                thread::yield_now();
                continue;
            }
            let number = (lead & !1) + 2;
            // The mutant that counts a call afterwards leads it without a number.
            let after = self.mutant == Mutant::StartedCountedAfter;
            let led = if after { lead | 1 } else { number | 1 };
            if self.lead.compare_exchange(lead, led, Relaxed, Relaxed).is_ok() {
                let outcome = self.call(number, fails);
                let _ = self.lead.compare_exchange(led, number, Release, Relaxed);
                return outcome;
            }
        }
        unreachable!("it ends in the loop")
    }
}

fn program(mutant: Mutant) -> impl Fn() + Send + Sync + 'static {
    let failing = (mutant == Mutant::FailureServes).then_some(0);
    move || two_writers_and_a_reader(Transcription::new(mutant), failing)
}

#[track_caller]
fn fails(start: Start, mutant: Mutant) {
    let message = failure(start, program(mutant)).expect("the mutant passes");
    assert!(message.contains("shared too early"), "{message}");
}

#[test]
fn the_transcription_is_right() {
    check_within(Some(2), Start::Asymmetric, program(Mutant::None));
    check_within(Some(2), Start::Symmetric, program(Mutant::None));
}

#[test]
fn sharing_the_call_in_flight_fails() {
    fails(Start::Asymmetric, Mutant::SharesTheCallInFlight);
}

#[test]
fn counting_a_call_only_after_it_fails() {
    fails(Start::Asymmetric, Mutant::StartedCountedAfter);
}

#[test]
fn a_failed_call_that_serves_fails() {
    fails(Start::Asymmetric, Mutant::FailureServes);
}

#[test]
fn reading_served_relaxed_fails() {
    fails(Start::Asymmetric, Mutant::ServedReadRelaxed);
}

#[test]
fn no_entry_fence_fails() {
    fails(Start::Asymmetric, Mutant::NoEntryFence);
}

#[test]
fn an_entry_fence_that_is_not_full_fails() {
    fails(Start::Asymmetric, Mutant::EntryFence(AcqRel));
}

/// In a symmetric process the light fence and the entry fence are full fences, so the call between does not matter.
#[test]
fn the_seqcst_mapping_misses_these() {
    use Mutant::{FailureServes, ServedReadRelaxed, SharesTheCallInFlight, StartedCountedAfter};
    for mutant in [SharesTheCallInFlight, StartedCountedAfter, FailureServes, ServedReadRelaxed] {
        check_within(Some(2), Start::Symmetric, program(mutant));
    }
}
