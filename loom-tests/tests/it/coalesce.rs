//! STARTED-AFTER: two callers who may share one heavy call, and a light reader.
//!
//! The library's own `Coalesce` is checked first; then a transcription of its protocol, and mutants of
//! that. (`cargo xtask mutants` makes the same changes to the library itself.)
//!
//! | mutant | `SeqCst` mapping | model |
//! | --- | --- | --- |
//! | shares the call that is in flight when it arrives | misses it | fails |
//! | counts a call as started after it | misses it | fails |
//! | reads `ended` relaxed, without the closing fence | misses it | fails |
//! | no entry fence | fails | fails |
//! | an entry fence that acquires and releases | fails | fails |

use asymfence::model::{Start, Visit, barrier_elsewhere, fence, init_from};
use asymfence::{Coalesce, light_fence};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use loom_tests::check::{check, failure};

/// One heavy fence for many callers, by whatever protocol.
trait Shares: Send + Sync + 'static {
    fn heavy_fence(&self);
}

/// Scenario A with two writers: none of them and the reader may miss each other.
fn two_writers_and_a_reader(shared: impl Shares) {
    let shared = Arc::new(shared);
    let x = Arc::new(AtomicUsize::new(0));
    let y = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let writers = [0, 1].map(|me| {
        let (shared, x, y) = (shared.clone(), x.clone(), y.clone());
        thread::spawn(move || {
            y[me].store(1, Relaxed);
            shared.heavy_fence();
            x.load(Relaxed)
        })
    });
    x.store(1, Relaxed);
    light_fence();
    let reader = [y[0].load(Relaxed), y[1].load(Relaxed)];
    for (writer, reader) in
        writers.map(|writer| writer.join().expect("no panic")).iter().zip(reader)
    {
        assert!(*writer == 1 || reader == 1, "a heavy fence was shared too early");
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
            shared.heavy_fence();
            y[1 - me].load(Relaxed)
        })
    });
    let seen = writers.map(|writer| writer.join().expect("no panic"));
    assert!(seen != [0, 0], "a heavy fence was shared too early");
}

/// The library's.
struct Library(Coalesce, u32);

impl Shares for Library {
    fn heavy_fence(&self) {
        let call = || {
            barrier_elsewhere();
            Ok(())
        };
        self.0.run(self.1, call).expect("the modelled call does not fail");
    }
}

#[test]
fn the_library_shares_only_what_started_after() {
    for patience in [0, 1, 2] {
        check(Start::Asymmetric, move || {
            two_writers_and_a_reader(Library(Coalesce::new(), patience))
        });
        check(Start::Asymmetric, move || two_writers(Library(Coalesce::new(), patience)));
    }
}

/// Three callers: while one leads, the two others wait for the call after that.
#[test]
fn the_library_does_share() {
    // Not loom's: it outlives the executions.
    let sharing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = sharing.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(1);
    builder.check(move || {
        init_from(Start::Asymmetric, Visit::Upward);
        let shared = Arc::new(Library(Coalesce::new(), 2));
        let callers = [(); 3].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || shared.heavy_fence())
        });
        callers.into_iter().for_each(|caller| caller.join().expect("no panic"));
        if shared.0.stats().shared > 0 {
            seen.store(true, Relaxed);
        }
    });
    assert!(sharing.load(Relaxed), "nobody ever shares: the models above prove nothing");
}

/// What a transcription does otherwise than the library.
#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    SharesTheCallInFlight,
    StartedCountedAfter,
    EndedReadRelaxed,
    NoEntryFence,
    EntryFence(Ordering),
}

struct Transcription {
    mutant: Mutant,
    leading: AtomicBool,
    started: AtomicUsize,
    ended: AtomicUsize,
}

impl Transcription {
    fn new(mutant: Mutant) -> Self {
        Transcription {
            mutant,
            leading: AtomicBool::new(false),
            started: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        }
    }

    fn is_ended_after(&self, arrived: usize) -> bool {
        if self.mutant == Mutant::EndedReadRelaxed {
            self.ended.load(Relaxed) > arrived
        } else {
            self.ended.load(Acquire) > arrived
        }
    }
}

impl Shares for Transcription {
    fn heavy_fence(&self) {
        match self.mutant {
            Mutant::NoEntryFence => {}
            Mutant::EntryFence(ordering) => fence(ordering),
            _ => fence(SeqCst),
        }
        let arrived = match self.mutant {
            // Whichever ends next will do.
            Mutant::SharesTheCallInFlight => self.ended.load(Relaxed),
            _ => self.started.load(Relaxed),
        };
        for patience in 0.. {
            if self.is_ended_after(arrived) {
                break;
            }
            if self.leading.compare_exchange(false, true, Acquire, Relaxed).is_ok() {
                let n = self.ended.load(Relaxed) + 1;
                if n <= arrived + 1 {
                    if self.mutant != Mutant::StartedCountedAfter {
                        self.started.store(n, Relaxed);
                    }
                    fence(SeqCst);
                    barrier_elsewhere();
                    if self.mutant == Mutant::StartedCountedAfter {
                        self.started.store(n, Relaxed);
                    }
                    self.ended.store(n, Release);
                }
                self.leading.store(false, Release);
                break;
            }
            if patience == 2 {
                barrier_elsewhere();
                break;
            }
            thread::yield_now();
        }
        if self.mutant != Mutant::EndedReadRelaxed {
            fence(SeqCst);
        }
    }
}

fn program(mutant: Mutant) -> impl Fn() + Send + Sync + 'static {
    move || two_writers_and_a_reader(Transcription::new(mutant))
}

#[track_caller]
fn fails(start: Start, mutant: Mutant) {
    let message = failure(start, program(mutant)).expect("the mutant passes");
    assert!(message.contains("shared too early"), "{message}");
}

#[test]
fn the_transcription_is_right() {
    check(Start::Asymmetric, program(Mutant::None));
    check(Start::Symmetric, program(Mutant::None));
}

#[test]
fn sharing_the_call_in_flight_fails() {
    fails(Start::Asymmetric, Mutant::SharesTheCallInFlight);
}

#[test]
fn counting_a_call_as_started_after_it_fails() {
    fails(Start::Asymmetric, Mutant::StartedCountedAfter);
}

#[test]
fn reading_ended_relaxed_fails() {
    fails(Start::Asymmetric, Mutant::EndedReadRelaxed);
}

#[test]
fn no_entry_fence_fails() {
    fails(Start::Asymmetric, Mutant::NoEntryFence);
}

#[test]
fn an_entry_fence_that_is_not_full_fails() {
    fails(Start::Asymmetric, Mutant::EntryFence(AcqRel));
}

/// In the symmetric world the light fence is full, and so is the entry fence: what is called in
/// between does not matter.
#[test]
fn the_seqcst_mapping_misses_these() {
    for mutant in
        [Mutant::SharesTheCallInFlight, Mutant::StartedCountedAfter, Mutant::EndedReadRelaxed]
    {
        check(Start::Symmetric, program(mutant));
    }
}
