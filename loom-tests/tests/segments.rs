//! The shared memory of a segment and the owners of its places: src/cross_process/header.rs itself, on loom's atomics
//! and a model of the kernel's locks.
//!
//! HELD-BY-LOCK relies on one thing that fcntl(2) does not say: the kernel orders what was done under a lock before
//! what is done under the next lock. The twin is a kernel that does not.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "the library uses all of the file")]

#[path = "../../src/cross_process/header.rs"]
mod header;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize as AtomicUsizeOfStd};
use std::sync::{Arc, Mutex};

use header::{Byte, Common, Description, Header, Locks, Misfit, Mode, Place, Word};
use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicBool as LoomBool, AtomicU32, AtomicUsize, fence};
use loom::thread;

impl Word for AtomicU32 {
    fn load(&self, order: Ordering) -> u32 {
        self.load(order)
    }

    fn store(&self, value: u32, order: Ordering) {
        self.store(value, order);
    }

    fn compare_exchange(
        &self,
        current: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32> {
        self.compare_exchange(current, new, success, failure)
    }
}

const N: usize = 1;
const COMMON: Common = Common { kernel: [1, 2, 3, 4], file: [5, 6, 7, 8] };

/// The memory, the data that belong to each place, and the locks.
struct Segment {
    header: Header<AtomicU32, N>,
    data: [UnsafeCell<u32>; N],
    /// The owner of each lock, or 0. First the locks on the holders' bytes, then the locks on the bytes of a change.
    locks: [AtomicUsize; 2 * N],
    /// Whether the kernel orders what is done under a lock before what is done under the next lock.
    orders: bool,
}

// SAFETY: loom checks the accesses to `data`.
unsafe impl Sync for Segment {}
// SAFETY: as above.
unsafe impl Send for Segment {}

impl Segment {
    fn new(orders: bool) -> Arc<Self> {
        Arc::new(Segment {
            header: Header {
                magic: AtomicU32::new(0),
                version: AtomicU32::new(0),
                mode: AtomicU32::new(0),
                reserved: [(); 5].map(|()| AtomicU32::new(0)),
                kernel: [(); 4].map(|()| AtomicU32::new(0)),
                file: [(); 4].map(|()| AtomicU32::new(0)),
                places: [(); N].map(|()| AtomicU32::new(0)),
            },
            data: [(); N].map(|()| UnsafeCell::new(0)),
            locks: [(); 2 * N].map(|()| AtomicUsize::new(0)),
            orders,
        })
    }

    fn lock(&self, byte: Byte) -> &AtomicUsize {
        match byte {
            Byte::Held(index) => &self.locks[index],
            Byte::Change(index) => &self.locks[N + index],
        }
    }

    fn add(&self, place: usize) -> u32 {
        self.data[place].with_mut(|data| {
            // SAFETY: the place is ours, which loom checks.
            let data = unsafe { &mut *data };
            *data += 1;
            *data
        })
    }

    fn clean(&self, place: usize) {
        // SAFETY: as above.
        self.data[place].with_mut(|data| unsafe { *data = 0 });
    }
}

/// A process: its open files and its mappings.
struct Process {
    segment: Arc<Segment>,
    number: usize,
    files: Mutex<Vec<Arc<OpenFile>>>,
    /// What the first `open` returns, if the process was forked in the middle of `attach` or `reap`, or forks there.
    opened: Mutex<Option<Reference>>,
}

/// An open file description, with the number of references to it.
struct OpenFile {
    segment: Arc<Segment>,
    id: usize,
    references: AtomicUsize,
    /// Whether the child has come to the fork: it has asked the last question (`is_of_this_process`) to which the
    /// answer is still yes.
    is_forked: LoomBool,
}

impl OpenFile {
    fn refer(self: &Arc<Self>) -> Reference {
        // Relaxed: the caller has a reference already.
        self.references.fetch_add(1, Relaxed);
        Reference { file: Arc::clone(self), says: AtomicUsizeOfStd::new(usize::MAX), forks: 0 }
    }

    fn give_back(&self) {
        if self.references.fetch_sub(1, AcqRel) == 1 {
            for index in 0..N {
                self.unlock(Byte::Held(index));
                self.unlock(Byte::Change(index));
            }
        }
    }

    fn unlock(&self, byte: Byte) {
        let lock = self.segment.lock(byte);
        let order = if self.segment.orders { Release } else { Relaxed };
        // Fails if the lock is another's.
        let _ = lock.compare_exchange(self.id, 0, order, Relaxed);
    }
}

struct Reference {
    file: Arc<OpenFile>,
    /// How often it will say that this process opened the description.
    says: AtomicUsizeOfStd,
    /// If `says` is this number when the question comes, the process forks here: it waits until the child is here too.
    /// 0: it does not fork.
    forks: usize,
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.file.give_back();
    }
}

impl Process {
    fn new(segment: &Arc<Segment>, number: usize) -> Self {
        let (files, opened) = (Mutex::default(), Mutex::default());
        Process { segment: Arc::clone(segment), number, files, opened }
    }

    /// FORKED-IN-THE-MIDDLE: two that go on with one description. The second is the child. It was forked after this many
    /// questions whether the process opened the description.
    fn forked_after(questions: usize, segment: &Arc<Segment>) -> [Self; 2] {
        let both = [1, 2].map(|number| Process::new(segment, number));
        let file = Arc::new(OpenFile {
            segment: Arc::clone(segment),
            id: 1000,
            references: AtomicUsize::new(0),
            is_forked: LoomBool::new(false),
        });
        for (process, says) in both.iter().zip([usize::MAX, questions]) {
            let mut reference = file.refer();
            reference.says = AtomicUsizeOfStd::new(says);
            if questions > 0 && says == usize::MAX {
                reference.forks = usize::MAX - questions + 1;
            }
            *process.opened.lock().expect("no panic") = Some(reference);
        }
        both
    }

    /// Attaches, if there is a place.
    fn take(&self) -> Option<Participant<'_>> {
        match self.segment.header.take_place(self) {
            Ok(place) => Some(place),
            Err(Misfit::Full { .. } | Misfit::Locked) => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    fn reap(&self) -> usize {
        let clean = |index| self.segment.clean(index);
        self.segment.header.reap(&self, clean).expect("never fails here")
    }

    /// Forks: a copy of the process has a reference to each of its files too.
    fn fork(&self) {
        let files = self.files.lock().expect("no panic");
        files.iter().for_each(|file| std::mem::forget(file.refer()));
    }

    /// The process ends, and drops nothing.
    fn exit(&self, place: Participant<'_>) {
        std::mem::forget(place);
        self.loses_its_locks();
    }

    /// Like a checkpoint that restores no lock.
    fn loses_its_locks(&self) {
        let files = self.files.lock().expect("no panic");
        files.iter().for_each(|file| file.give_back());
    }
}

type Participant<'a> = Place<'a, AtomicU32, N, &'a Process, Reference>;

impl Locks for &Process {
    type Description = Reference;
    type Hold = Reference;
    type Error = Misfit;

    fn open(&self) -> Result<Reference, Misfit> {
        if let Some(opened) = self.opened.lock().expect("no panic").take() {
            return Ok(opened);
        }
        let mut files = self.files.lock().expect("no panic");
        let file = Arc::new(OpenFile {
            segment: Arc::clone(&self.segment),
            id: self.number * 10 + files.len(),
            references: AtomicUsize::new(0),
            is_forked: LoomBool::new(false),
        });
        files.push(Arc::clone(&file));
        Ok(file.refer())
    }

    fn is_locked(&self, byte: Byte) -> Result<bool, Misfit> {
        // Relaxed: the kernel looks without its spin lock whether there is any (`posix_test_lock`, fs/locks.c@v6.18).
        let is_locked = self.segment.lock(byte).load(Relaxed) != 0;
        if is_locked && self.segment.orders {
            fence(Acquire);
        }
        Ok(is_locked)
    }
}

impl Description for Reference {
    type Hold = Reference;
    type Error = Misfit;

    fn try_lock(&self, byte: Byte) -> Result<bool, Misfit> {
        let lock = self.file.segment.lock(byte);
        let success = if self.file.segment.orders { AcqRel } else { Relaxed };
        Ok(match lock.compare_exchange(0, self.file.id, success, Relaxed) {
            Ok(_) => true,
            Err(holder) => holder == self.file.id,
        })
    }

    fn unlock(&self, byte: Byte) {
        self.file.unlock(byte);
    }

    fn has_its_number(&self) -> bool {
        true // no thread of a model closes what is another's
    }

    fn is_open(&self, _: Byte) -> bool {
        true // as above
    }

    fn is_lost(&self) -> bool {
        false
    }

    fn is_of_this_process(&self) -> bool {
        let fewer = |questions: usize| questions.checked_sub(1);
        // Relaxed: of one process.
        let left = self.says.fetch_update(Relaxed, Relaxed, fewer);
        if left == Ok(1) {
            // Release: here the child has come to the fork. What it did until now comes before what the parent does
            // after the fork. Pairs with: the Acquire below.
            self.file.is_forked.store(true, Release);
        }
        if left == Ok(self.forks) {
            while !self.file.is_forked.load(Acquire) {
                thread::yield_now();
            }
        }
        left.is_ok()
    }

    fn is_locked_by_another(&self, byte: Byte) -> Result<bool, Misfit> {
        // Acquire: this process has a lock on the file, so the kernel looks under its spin lock.
        let order = if self.file.segment.orders { Acquire } else { Relaxed };
        let holder = self.file.segment.lock(byte).load(order);
        Ok(holder != 0 && holder != self.file.id)
    }

    fn hold(&self) -> Result<Reference, Misfit> {
        Ok(self.file.refer())
    }
}

fn check(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

fn fails(f: impl Fn() + Send + Sync + 'static) -> bool {
    catch_unwind(AssertUnwindSafe(|| check(f))).is_err()
}

fn created(orders: bool) -> Arc<Segment> {
    let segment = Segment::new(orders);
    segment.header.create(Mode::Symmetric, COMMON).expect("empty");
    segment
}

#[test]
fn whoever_finds_a_segment_finds_all_of_its_header() {
    static FOUND: AtomicBool = AtomicBool::new(false);
    check(|| {
        let segment = Segment::new(true);
        // The maker must be the first thread. Otherwise loom, when the maker loads the magic, would forget that the
        // other thread has loaded it, and leave out the executions in which the maker comes first.
        let finder = Arc::clone(&segment);
        let finder = thread::spawn(move || match finder.header.mode() {
            Err(error) => assert_eq!(error, Misfit::NotCreated),
            Ok(mode) => {
                assert_eq!(mode, Mode::Asymmetric);
                assert_eq!(finder.header.admit(COMMON), Ok(()));
                FOUND.store(true, Relaxed);
            }
        });
        assert_eq!(segment.header.create(Mode::Asymmetric, COMMON), Ok(()));
        finder.join().expect("no panic");
    });
    assert!(FOUND.load(Relaxed), "in no execution was it found");
}

#[test]
fn of_two_makers_one_comes_first_and_the_header_is_its() {
    check(|| {
        let segment = Segment::new(true);
        let other = Common { kernel: [9; 4], file: [9; 4] };
        let maker = Arc::clone(&segment);
        let maker = thread::spawn(move || maker.header.create(Mode::Asymmetric, other));
        let here = segment.header.create(Mode::Symmetric, COMMON);
        let there = maker.join().expect("no panic");
        let (mode, common) = match (here, there) {
            (Ok(()), Err(Misfit::NotEmpty)) => (Mode::Symmetric, COMMON),
            (Err(Misfit::NotEmpty), Ok(())) => (Mode::Asymmetric, other),
            both => panic!("{both:?}"),
        };
        assert_eq!(segment.header.mode(), Ok(mode));
        assert_eq!(segment.header.admit(common), Ok(()));
    });
}

/// Two processes take the place, use it and give it back.
fn two_come_and_go(orders: bool) {
    let segment = created(orders);
    let other = Arc::clone(&segment);
    let come_and_go = |process: &Process| {
        if let Some(place) = process.take() {
            process.segment.add(place.index);
            assert_eq!(place.is_held(), Ok(true));
        }
    };
    let other = thread::spawn(move || come_and_go(&Process::new(&other, 1)));
    come_and_go(&Process::new(&segment, 2));
    other.join().expect("no panic");
    let last = Process::new(&segment, 3);
    assert_eq!(last.reap(), 0, "each gave its place back, though the other was looking");
    assert!(last.take().is_some());
}

#[test]
fn a_place_has_one_holder_at_a_time_and_the_next_sees_what_the_last_did() {
    check(|| two_come_and_go(true));
    assert!(fails(|| two_come_and_go(false)), "the twin: a kernel that orders nothing");
}

/// One process dies in its place, a second one reaps the place, and a third one takes it.
fn one_dies(orders: bool) {
    let segment = created(orders);
    let (dies, reaps) = (Arc::clone(&segment), Arc::clone(&segment));
    let process = Process::new(&dies, 1);
    let dies = thread::spawn(move || {
        let place = process.take().expect("nobody else does");
        process.segment.add(place.index);
        process.exit(place);
    });
    let reaps = thread::spawn(move || Process::new(&reaps, 2).reap());
    dies.join().expect("no panic");
    let taker = Process::new(&segment, 3);
    if let Some(place) = taker.take() {
        assert_eq!(segment.add(place.index), 1, "the place was not clean");
    }
    reaps.join().expect("no panic");
}

#[test]
fn the_place_of_a_dead_process_is_clean_before_the_next_has_it() {
    check(|| one_dies(true));
    assert!(fails(|| one_dies(false)), "the twin: a kernel that orders nothing");
}

#[test]
fn of_two_that_reap_one_cleans() {
    check(|| {
        let segment = created(true);
        let dead = Process::new(&segment, 1);
        dead.exit(dead.take().expect("a place"));
        let other = Arc::clone(&segment);
        let other = thread::spawn(move || Process::new(&other, 2).reap());
        let here = Process::new(&segment, 3).reap();
        assert_eq!(here + other.join().expect("no panic"), 1);
    });
}

/// A process has lost its lock, and another one reaps its place and takes it. The first does not mistake the lock of
/// the other for its own.
#[test]
fn who_has_lost_a_place_is_told_also_while_it_is_reaped_and_taken() {
    check(|| {
        let segment = created(true);
        let lost = Process::new(&segment, 1);
        let place = lost.take().expect("a place");
        assert_eq!(place.is_held(), Ok(true));
        lost.loses_its_locks();
        let other = Arc::clone(&segment);
        let other = thread::spawn(move || {
            let process = Process::new(&other, 2);
            process.reap();
            std::mem::forget(process.take().expect("nobody else does"));
        });
        assert_eq!(place.is_held(), Ok(false));
        other.join().expect("no panic");
        assert_eq!(place.is_held(), Ok(false));
        std::mem::forget(place);
    });
    // The other one in the first thread: in the first model loom leaves out some executions.
    check(|| {
        let segment = created(true);
        let lost: &Process = Box::leak(Box::new(Process::new(&segment, 1)));
        let place = lost.take().expect("a place");
        lost.loses_its_locks();
        let lost = thread::spawn(move || {
            assert_eq!(place.is_held(), Ok(false));
            std::mem::forget(place);
        });
        let process = Process::new(&segment, 2);
        process.reap();
        std::mem::forget(process.take().expect("nobody else does"));
        lost.join().expect("no panic");
    });
}

/// A process that has lost its place drops it while another one cleans it and does not finish.
#[test]
fn who_has_lost_a_place_does_not_free_what_is_half_clean() {
    check(|| {
        let segment = created(true);
        let lost = Process::new(&segment, 1);
        let place = lost.take().expect("a place");
        lost.loses_its_locks();
        let other = Arc::clone(&segment);
        let other = thread::spawn(move || {
            let process = &Process::new(&other, 2);
            // A panic that is not printed.
            let clean = |_| std::panic::resume_unwind(Box::new(()));
            let reaps = AssertUnwindSafe(|| process.segment.header.reap(&process, clean));
            catch_unwind(reaps).is_err()
        });
        drop(place);
        let is_half_clean = other.join().expect("no panic");
        if is_half_clean {
            assert!(Process::new(&segment, 3).take().is_none(), "the place is half clean");
        }
    });
}

/// The place was given back, taken by another process, and left when that one ended. Its word has changed.
#[test]
fn a_word_of_a_place_does_not_come_again() {
    check(|| {
        let segment = created(true);
        let [first, second] = [1, 2].map(|number| Process::new(&segment, number));
        let place = first.take().expect("a place");
        first.fork();
        // SAFETY: a copy, as fork makes one; each is dropped once.
        let copy: Participant<'_> = unsafe { std::ptr::read(&place) };
        // In the parent and in the child.
        first.loses_its_locks();
        first.loses_its_locks();
        drop(copy);
        second.exit(second.take().expect("the place"));
        drop(place);
        assert_eq!(segment.header.taken().count(), 1, "it is to be reaped, and not free");
    });
}

/// A process leaves slowly: after it releases its lock and before it stores its word, others reap the place and take it.
#[test]
fn one_that_leaves_late_does_not_free_the_place_of_the_next() {
    check(|| {
        let segment = created(true);
        let leaves = Process::new(&segment, 1);
        let place = leaves.take().expect("a place");
        let other = Arc::clone(&segment);
        let other = thread::spawn(move || {
            let process = Process::new(&other, 2);
            process.reap();
            if let Some(place) = process.take() {
                process.segment.add(place.index);
                thread::yield_now();
                assert_eq!(place.is_held(), Ok(true), "somebody freed it");
            }
        });
        drop(place);
        other.join().expect("no panic");
    });
}

#[test]
fn a_place_is_taken_until_the_last_copy_of_it_is_dropped() {
    check(|| {
        let segment = created(true);
        let process = Arc::new(Process::new(&segment, 1));
        let child = Arc::clone(&process);
        let place = process.take().expect("a place");
        process.fork();
        // SAFETY: a copy, as fork makes one; each is dropped once.
        let copy: Participant<'_> = unsafe { std::ptr::read(&place) };
        // SAFETY: the child has its own reference to the process that it is in.
        let copy: Participant<'static> = unsafe { std::mem::transmute(copy) };
        let child = thread::spawn(move || {
            let _child = child;
            assert_eq!(copy.is_held(), Ok(true), "the parent gave it back");
            drop(copy);
        });
        drop(place);
        child.join().expect("no panic");
        // Both left at the same time: the place was given back, or can be reaped.
        let last = Process::new(&segment, 2);
        last.reap();
        assert!(last.take().is_some());
    });
}

/// A handler forks in the middle of `attach`, at the latest after the second question whether the process opened the
/// description, and both go on.
#[test]
fn two_that_a_fork_in_attach_has_made_do_not_get_one_place() {
    for questions in 0..=2 {
        check(move || {
            let segment = created(true);
            let [parent, child] = Process::forked_after(questions, &segment);
            let come_and_go = |process: &Process| {
                // `take` panics if the other one's attempt has changed a lock of this one.
                if let Some(place) = process.take() {
                    process.segment.add(place.index);
                    assert_eq!(place.is_held(), Ok(true), "it was disturbed");
                }
            };
            let child = thread::spawn(move || come_and_go(&child));
            come_and_go(&parent);
            child.join().expect("no panic");
            let last = Process::new(&segment, 3);
            last.reap();
            assert!(last.take().is_some(), "a lock is left");
        });
    }
}

/// The same in `reap`, before the first such question, or between it and the exchange of the word. Meanwhile the parent
/// also takes the place, as any process may.
#[test]
fn two_that_a_fork_in_reap_has_made_do_not_clean_one_place() {
    for questions in 0..=1 {
        check(move || {
            let segment = created(true);
            let dead = Process::new(&segment, 4);
            dead.exit(dead.take().expect("a place"));
            let [parent, child] = Process::forked_after(questions, &segment);
            // An error is no fault here: this child locks once more what it had locked before the fork.
            let clean = |process: &Process, index| process.segment.clean(index);
            let child = thread::spawn(move || {
                child.segment.header.reap(&&child, |index| clean(&child, index)).unwrap_or(0)
            });
            let here = parent.reap();
            let place = parent.take();
            if let Some(place) = &place {
                parent.segment.add(place.index);
            }
            assert!(here + child.join().expect("no panic") <= 1, "it was cleaned by two");
            if let Some(place) = &place {
                assert_eq!(place.is_held(), Ok(true), "it was cleaned while it was held");
            }
            drop(place);
            let last = Process::new(&segment, 3);
            last.reap();
            assert!(last.take().is_some(), "a lock is left");
        });
    }
}
