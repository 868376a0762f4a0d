//! The header at the beginning of the shared memory, and the participants' places in its table.
//!
//! Any process may write anything there at any time. So the header consists of atomics, and every value is checked.
//!
//! HELD-BY-LOCK: a place is used only by the holder of the kernel's lock on it, and the kernel gives that lock to one
//! holder at a time. A mapping keeps the lock ([`Description::hold`]). So a process holds its places exactly as long as
//! it has the memory in which its participants are: fork copies both, exec and the end of the process drop both. Who
//! holds a place does not depend on a process number, which another process may have, or may get later.
//!
//! A place has two bytes of the file. Its holder has [`Byte::Held`] locked. A process that takes or reaps the place has
//! [`Byte::Change`] locked meanwhile. Under that lock, and only if the word is free, a process that takes the place
//! locks the holder's byte; a process that reaps only asks about it. So a process that only tries to take or reap a
//! place never locks the holder's byte while the word is taken. If a process finds that byte locked, and the word is
//! still the one that it wrote itself, then it has the lock itself, or a copy of it by fork. (Not if one of the
//! processes that have the lock by fork was restored from a checkpoint without the others: `Participant::renew` says
//! so.)
//!
//! The word of a place says what the locks cannot say: whether its last holder gave it back.
//!
//! | word | the holder's byte | the place |
//! | --- | --- | --- |
//! | free | free | can be taken |
//! | free | locked | is being taken |
//! | taken | locked | has a holder |
//! | taken | free | was left by a process that ended: to be reaped. Or it is being cleaned, or given back |
//!
//! The accesses to these words are relaxed. The next process to take or reap a place sees what the last holder did,
//! because the kernel passes each lock on under a spin lock (`flc_lock`, fs/locks.c@v6.18). A process that reaps asks
//! whether the holder's byte is locked. It has a lock on the same file then, so the kernel takes the spin lock for that
//! question too (`posix_test_lock`). A process that was killed could not order anything itself.
//!
//! Case FORKED-IN-THE-MIDDLE: a signal handler, or `clean`, may fork the process, and the child may return and go on as
//! the parent does. Then both have one description, and the kernel gives both the same locks. So a process
//!
//! - reads the word after it got [`Byte::Change`], and then asks whether it opened the description. A child that was
//!   forked before did not: it drops its references to the description, and opens another one;
//! - exchanges that word. If the child was forked after the question, both exchange the same word, and one of the two
//!   fails. It drops its references too, and does not unlock the holder's byte, which may be the other's;
//! - asks again after the exchange, if it reaps. So a child that was forked before this question cleans no place under
//!   a lock that its parent can release. (One that a handler forks later may: the module's documentation says so.)
//!
//! Only the process that opened a description unlocks a byte of it. The locks of a description that nobody unlocks are
//! released with the last reference to it.
//!
//! Words and locks are type parameters: the loom models run this file over words and locks of their own.

use core::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

/// How many words of shared memory a segment takes: 1 KiB.
pub const WORDS: usize = 256;

/// The first of the bytes of the file that are locked, two for each place. The file may be shorter than that. Nothing
/// else may lock these bytes.
pub(super) const FIRST_BYTE: u64 = 1 << 62;

/// How many participants a segment has places for.
pub const PARTICIPANTS: usize = 240;

/// How the fences of a segment work, in every process, as long as the segment exists.
///
/// ```
/// # use std::{fs::File, os::fd::AsFd, sync::atomic::AtomicU32};
/// # use asymfence::cross_process::WORDS;
/// # use rustix::fs::{MemfdFlags, memfd_create};
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// # let file = File::from(memfd_create("segment", MemfdFlags::CLOEXEC)?);
/// # let words: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
/// use asymfence::cross_process::{Attached, Mode, attach, create};
///
/// create(&words, file.as_fd(), Mode::Symmetric)?;
/// assert!(matches!(attach(&words, file.as_fd())?, Attached::Symmetric(_)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The light fence is a compiler barrier; the heavy fence makes every other thread of every
    /// participating process pass a full one.
    Asymmetric,
    /// Both fences are `fence(SeqCst)`.
    Symmetric,
}

const MAGIC: u32 = u32::from_ne_bytes(*b"asyf");
/// Takes the place of the magic while the header is being written.
const IN_THE_MAKING: u32 = !MAGIC;
pub(super) const VERSION: u32 = 3;
const ASYMMETRIC: u32 = 1;
const SYMMETRIC: u32 = 2;

/// An atomic word of the shared memory.
pub(super) trait Word {
    fn load(&self, order: Ordering) -> u32;
    fn store(&self, value: u32, order: Ordering);
    fn compare_exchange(
        &self,
        current: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32>;
}

/// The kernel's locks on the places of one segment.
pub(super) trait Locks {
    type Description: Description<Hold = Self::Hold, Error = Self::Error>;
    type Hold;
    type Error: From<Misfit>;

    /// Opens a description without locks. Only its owner, and copies of the owner by fork, can lock with it.
    fn open(&self) -> Result<Self::Description, Self::Error>;

    /// Whether any description has a lock on the byte.
    fn is_locked(&self, byte: Byte) -> Result<bool, Self::Error>;
}

/// A byte of the file, for the place with this index: HELD-BY-LOCK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Byte {
    /// Its holder has it locked.
    Held(usize),
    /// A process that takes or reaps the place has it locked.
    Change(usize),
}

/// An open file description, which owns locks. The kernel releases them when no process has the description or a hold
/// of it.
pub(super) trait Description {
    type Hold;
    type Error;

    /// Whether this process opened it. A child that was forked since has a copy, and with it the same locks.
    fn is_of_this_process(&self) -> bool;
    /// Locks the byte, unless another description has a lock on it. Never waits.
    fn try_lock(&self, byte: Byte) -> Result<bool, Self::Error>;
    fn unlock(&self, byte: Byte);
    /// Whether another description has a lock on the byte.
    fn is_locked_by_another(&self, byte: Byte) -> Result<bool, Self::Error>;

    /// Whether its number still stands for the file. Another thread may have closed every descriptor of the process.
    /// Then what is under the number is not ours, and must not be used or closed.
    fn has_its_number(&self) -> bool;
    /// The same, and whether the lock on the byte is its own: the number may stand for another description of the file.
    fn is_open(&self, byte: Byte) -> bool;
    /// Whether it was found that its number is not its own. When such a description is dropped, it closes nothing.
    fn is_lost(&self) -> bool;

    /// Keeps the locks without the description.
    fn hold(&self) -> Result<Self::Hold, Self::Error>;
}

/// Why a header, or a place in it, cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    NotEmpty,
    NotCreated,
    Foreign(u32),
    Version(u32),
    Mode(u32),
    OtherKernel,
    OtherFile,
    Full { ended: usize },
    Locked,
    LockNotKept,
}

/// What the processes of a segment must have in common. Otherwise their locks would not exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Common {
    /// The boot id of the kernel.
    pub(super) kernel: [u32; 4],
    /// Device and inode of the file that is locked.
    pub(super) file: [u32; 4],
}

#[repr(C)]
pub(super) struct Header<W, const N: usize> {
    pub(super) magic: W,
    pub(super) version: W,
    pub(super) mode: W,
    /// Zero.
    pub(super) reserved: [W; 5],
    pub(super) kernel: [W; 4],
    pub(super) file: [W; 4],
    pub(super) places: [W; N],
}

impl<W: Word, const N: usize> Header<W, N> {
    /// Whether the header has not been written.
    pub(super) fn is_empty(&self) -> bool {
        let (head, reserved) = ([&self.magic, &self.version, &self.mode], &self.reserved);
        let rest = reserved.iter().chain(&self.kernel).chain(&self.file).chain(&self.places);
        // Relaxed: a header that was not written has nothing to synchronise with.
        head.into_iter().chain(rest).all(|word| word.load(Relaxed) == 0)
    }

    pub(super) fn create(&self, mode: Mode, common: Common) -> Result<(), Misfit> {
        // Relaxed: as in `is_empty`. If several processes create, one exchange succeeds.
        if !self.is_empty()
            || self.magic.compare_exchange(0, IN_THE_MAKING, Relaxed, Relaxed).is_err()
        {
            return Err(Misfit::NotEmpty);
        }
        let mode = match mode {
            Mode::Asymmetric => ASYMMETRIC,
            Mode::Symmetric => SYMMETRIC,
        };
        // Relaxed, all: published by the magic.
        self.version.store(VERSION, Relaxed);
        self.mode.store(mode, Relaxed);
        store(&self.kernel, common.kernel);
        store(&self.file, common.file);
        // Release: the header is written before the magic. Pairs with the Acquire in `mode`.
        self.magic.store(MAGIC, Release);
        Ok(())
    }

    /// The mode, if the header is one that this version understands.
    pub(super) fn mode(&self) -> Result<Mode, Misfit> {
        // Acquire: the header was written before the magic. Pairs with the Release in `create`.
        match self.magic.load(Acquire) {
            MAGIC => {}
            0 | IN_THE_MAKING => return Err(Misfit::NotCreated),
            word => return Err(Misfit::Foreign(word)),
        }
        // Relaxed, here and in `admit`: written before the magic, and never again.
        let version = self.version.load(Relaxed);
        if version != VERSION {
            return Err(Misfit::Version(version));
        }
        // Relaxed: as above.
        match self.mode.load(Relaxed) {
            ASYMMETRIC => Ok(Mode::Asymmetric),
            SYMMETRIC => Ok(Mode::Symmetric),
            mode => Err(Misfit::Mode(mode)),
        }
    }

    /// Checks that this process has the same in common as the creator.
    pub(super) fn admit(&self, common: Common) -> Result<(), Misfit> {
        if load(&self.kernel) != common.kernel {
            return Err(Misfit::OtherKernel);
        }
        if load(&self.file) != common.file {
            return Err(Misfit::OtherFile);
        }
        Ok(())
    }

    pub(super) fn take_place<L: Locks>(
        &self,
        locks: L,
    ) -> Result<Place<'_, W, N, L, L::Hold>, L::Error> {
        let mut opened = open(&locks)?;
        let mut some_are_free = false;
        for index in 0..N {
            for _ in 0..LOOKS {
                if self.word(index).is_taken() {
                    break;
                }
                some_are_free = true;
                // guard survives: `try_take` asks too. But before that it would lock `Byte::Change` of this place by the
                // description of the parent, and a child does not unlock it: nobody could take this place as long as
                // the parent has a place.
                if !opened.0.is_of_this_process() || opened.0.is_lost() {
                    drop(opened);
                    // guard survives: the same error as above; no test has a fork and a failing call.
                    opened = open(&locks)?;
                }
                match self.try_take(&locks, &opened.0, index) {
                    Err(Stop::Passed) => break,
                    Err(Stop::Failed(error)) => return Err(error),
                    Err(Stop::Again) => {
                        drop(opened);
                        // guard survives: as above.
                        opened = open(&locks)?;
                    }
                    Ok(mine) => {
                        let (description, hold) = opened;
                        let place = Place { header: self, locks, index, mine, hold: Some(hold) };
                        // From now on the hold alone keeps the lock, if the file system supports that.
                        drop(description);
                        let error = match place.is_held() {
                            Ok(true) => return Ok(place),
                            Ok(false) => Misfit::LockNotKept.into(),
                            Err(error) => error,
                        };
                        place.free();
                        return Err(error);
                    }
                }
            }
        }
        if some_are_free {
            return Err(Misfit::Locked.into());
        }
        let mut ended = 0;
        for index in 0..N {
            let is_left = !locks.is_locked(Byte::Held(index))?;
            // A place that is being cleaned cannot be reaped once more.
            // guard survives: what refuses this question has refused the one above.
            ended += usize::from(is_left && !locks.is_locked(Byte::Change(index))?);
        }
        Err(Misfit::Full { ended }.into())
    }

    fn try_take<L: Locks>(
        &self,
        locks: &L,
        description: &L::Description,
        index: usize,
    ) -> Result<Taken, Stop<L::Error>> {
        let _change = Change::lock(locks, description, index)?;
        let found = self.word(index);
        // Only who finds the word free under this lock locks the holder's byte.
        if found.is_taken() {
            return Err(Stop::Passed);
        }
        if !description.is_of_this_process() {
            return Err(Stop::Again);
        }
        // Before the place is taken: a sandbox that refuses the questions would leave it taken.
        lock(locks, description, Byte::Held(index))?;
        // If it fails, the other process has the place, by the same lock.
        if !self.exchange(index, found, found.next()) {
            return Err(Stop::Again);
        }
        Ok(found.next())
    }

    /// Frees the places that no process holds any more. Calls `clean` with the index of each place while no other
    /// process can take it; if `clean` panics, the place stays taken. Returns the number of places freed.
    pub(super) fn reap<L: Locks>(
        &self,
        locks: &L,
        mut clean: impl FnMut(usize),
    ) -> Result<usize, L::Error> {
        // Nothing to reap. `open` would fail on a file system that does not keep the locks, where no place stays taken.
        if self.taken().next().is_none() {
            return Ok(0);
        }
        // A description of its own: two calls with the same description would not exclude each other.
        let mut opened = open(locks)?;
        let mut cleaned = 0;
        for index in self.taken() {
            for _ in 0..LOOKS {
                if opened.0.is_lost() {
                    drop(opened);
                    // guard survives: the same error as above; no test closes all and has a failing call.
                    opened = open(locks)?;
                }
                match self.try_reap(locks, &opened.0, index, &mut clean) {
                    Err(Stop::Passed) => break,
                    Err(Stop::Failed(error)) => return Err(error),
                    Err(Stop::Again) => {
                        drop(opened);
                        // guard survives: the same error as above; no test has a fork and a failing call.
                        opened = open(locks)?;
                    }
                    Ok(Cleaned::Here) => {
                        cleaned += 1;
                        break;
                    }
                    Ok(Cleaned::ByTheParent) => return Ok(cleaned),
                }
            }
        }
        Ok(cleaned)
    }

    fn try_reap<L: Locks>(
        &self,
        locks: &L,
        description: &L::Description,
        index: usize,
        clean: &mut impl FnMut(usize),
    ) -> Result<Cleaned, Stop<L::Error>> {
        let _change = Change::lock(locks, description, index)?;
        let found = self.word(index);
        if !description.is_of_this_process() {
            return Err(Stop::Again);
        }
        // The place may have been reaped or given back before we got the lock.
        if !found.is_taken() || description.is_locked_by_another(Byte::Held(index))? {
            return Err(Stop::Passed);
        }
        // The same question by the caller's descriptor, which is lent to us and so not closed. Another thread may have
        // closed every other one, and the number of ours may belong to a file on which nobody has a lock.
        // guard survives: the same call by this descriptor has succeeded in `lock` a moment before.
        if locks.is_locked(Byte::Held(index))? {
            return Err(Stop::Passed);
        }
        // Its last holder may be alive and have lost the lock. From now on it finds another word, and frees nothing.
        let ours = found.anew();
        // It fails if the holder has given the place back meanwhile, or a child that was forked a moment ago was first.
        if !self.exchange(index, found, ours) || !description.is_of_this_process() {
            return Err(Stop::Again);
        }
        clean(index);
        if !description.is_of_this_process() {
            return Ok(Cleaned::ByTheParent);
        }
        // Fails only in two cases. A handler has forked after that question, and the other of the two processes was
        // first. Or a process overwrote the table.
        self.exchange(index, ours, ours.next());
        Ok(Cleaned::Here)
    }

    fn word(&self, index: usize) -> Taken {
        // Relaxed: the exchange checks it, and fails if the place has been taken, reaped or given back since.
        Taken(self.places[index].load(Relaxed))
    }

    /// Changes the word of a place, if it is still `from`.
    fn exchange(&self, index: usize, from: Taken, to: Taken) -> bool {
        // Relaxed: HELD-BY-LOCK.
        self.places[index].compare_exchange(from.0, to.0, Relaxed, Relaxed).is_ok()
    }

    /// Which places are taken. The answer may be outdated a moment later.
    pub(super) fn taken(&self) -> impl Iterator<Item = usize> {
        (0..N).filter(|&index| self.word(index).is_taken())
    }
}

/// How often a place is looked at, at most. It is looked at again only after a fork in the middle, if the number of the
/// description came to another file, or if the place was given back at that moment. There is a bound because a process
/// may overwrite the table each time.
const LOOKS: usize = 4;

/// How a place was cleaned.
enum Cleaned {
    Here,
    /// In a child that was forked in `clean`, and has returned from it, as its parent will.
    ByTheParent,
}

/// Why a trial to take or to reap a place ended before it was done.
enum Stop<E> {
    /// There is nothing to be done, or another process does it.
    Passed,
    /// To be tried again, with another description: this one may be that of two processes (FORKED-IN-THE-MIDDLE), or
    /// its number is another file's by now.
    Again,
    Failed(E),
}

impl<E> From<E> for Stop<E> {
    fn from(error: E) -> Self {
        Stop::Failed(error)
    }
}

/// A description, and a hold that keeps its locks even if another thread closes every descriptor.
fn open<L: Locks>(locks: &L) -> Result<(L::Description, L::Hold), L::Error> {
    let description = locks.open()?;
    let hold = description.hold()?;
    Ok((description, hold))
}

/// Locks the byte for this description alone, unless another has a lock on it. A sandbox may have answered in the
/// kernel's place: to the lock, or to the call that `try_lock` makes first in order to find out whether the kernel
/// answers. So this function asks whether the lock is there, and whether it is another's. And another thread may have
/// put another file under the number of the description. Then that file's byte was locked, and the lock that is found
/// may be that of a process that takes or reaps the same place. (The byte of the other file stays locked: that lock may
/// be the other thread's own.)
fn lock<L: Locks>(
    locks: &L,
    description: &L::Description,
    byte: Byte,
) -> Result<(), Stop<L::Error>> {
    if !description.try_lock(byte)? {
        return Err(Stop::Passed);
    }
    if !description.has_its_number() {
        return Err(Stop::Again);
    }
    if locks.is_locked(byte)? && !description.is_locked_by_another(byte)? {
        return Ok(());
    }
    // A parent releases its lock, which is its child's too.
    if description.is_of_this_process() {
        Err(Stop::Failed(Misfit::LockNotKept.into()))
    } else {
        Err(Stop::Again)
    }
}

/// The lock of a process that takes or reaps the place. Released when dropped, even if `clean` panics. But not by a copy
/// of the process that has the lock.
struct Change<'a, D: Description>(&'a D, usize);

impl<'a, D: Description> Change<'a, D> {
    fn lock<L: Locks<Description = D>>(
        locks: &L,
        description: &'a D,
        index: usize,
    ) -> Result<Self, Stop<L::Error>> {
        lock(locks, description, Byte::Change(index))?;
        Ok(Change(description, index))
    }
}

impl<D: Description> Drop for Change<'_, D> {
    fn drop(&mut self) {
        let byte = Byte::Change(self.1);
        // Another thread may have closed every descriptor, and the number may belong to another segment's file now.
        // Then our lock goes with the hold of the description, or is gone already.
        if self.0.is_open(byte) && self.0.is_of_this_process() {
            self.0.unlock(byte);
        }
    }
}

// Relaxed: the magic publishes these words, see `create` and `admit`.
fn store<W: Word, const N: usize>(words: &[W; N], values: [u32; N]) {
    words.iter().zip(values).for_each(|(word, value)| word.store(value, Relaxed));
}

fn load<W: Word, const N: usize>(words: &[W; N]) -> [u32; N] {
    // Relaxed: as `store`.
    words.each_ref().map(|word| word.load(Relaxed))
}

/// A word of the table: whether the place is taken, and how often that has changed. So a process that reads it and then
/// acts does not act on the next holder of the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken(u32);

impl Taken {
    fn is_taken(self) -> bool {
        self.0 & 1 == 1
    }

    fn next(self) -> Self {
        Taken(self.0.wrapping_add(1))
    }

    /// Still taken, but by another process.
    fn anew(self) -> Self {
        Taken(self.0.wrapping_add(2))
    }
}

/// A place in the table. It is given back when its last copy is dropped.
pub(super) struct Place<'a, W: Word, const N: usize, L: Locks<Hold = H>, H> {
    pub(super) header: &'a Header<W, N>,
    pub(super) locks: L,
    pub(super) index: usize,
    mine: Taken,
    hold: Option<H>,
}

impl<W: Word, const N: usize, L: Locks<Hold = H>, H> Place<'_, W, N, L, H> {
    /// Whether the place is still ours. A process that was restored from a checkpoint may have lost its locks.
    pub(super) fn is_held(&self) -> Result<bool, L::Error> {
        // The lock first: the word changes before another holder locks that byte.
        let is_locked = self.locks.is_locked(Byte::Held(self.index))?;
        // HELD-BY-LOCK: if the lock is another holder's, the word is not ours any more: it was made free before that
        // holder locked the byte.
        Ok(is_locked && self.header.word(self.index) == self.mine)
    }

    /// Makes the word free.
    fn free(&self) {
        // Fails if the word is free already (freed by `take_place` before the drop, or by another copy that is dropped
        // at the same time), if the place was reaped since, or if a process overwrote the table.
        self.header.exchange(self.index, self.mine, self.mine.next());
    }
}

impl<W: Word, const N: usize, L: Locks<Hold = H>, H> Drop for Place<'_, W, N, L, H> {
    fn drop(&mut self) {
        drop(self.hold.take());
        // A copy in a forked process keeps the lock and continues to use the place. If that cannot be found out, the
        // place stays taken, and can be reaped.
        if let Ok(false) = self.locks.is_locked(Byte::Held(self.index)) {
            self.free();
        }
    }
}
