//! The header at the beginning of the shared memory. Any process may write anything there at any time:
//! it is made of atomics, and every value is checked.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

use super::Error;
use crate::sys::kernel::pid_namespace;

/// How many words of shared memory a segment takes: 1 KiB.
pub const WORDS: usize = 256;

/// How many participants a segment has places for.
pub const PARTICIPANTS: usize = 240;

/// How the fences of a segment work, in every process, for as long as the segment is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The light fence is a compiler barrier; the heavy fence makes every other thread of every
    /// participating process pass a full one.
    Asymmetric,
    /// Both fences are `fence(SeqCst)`.
    Symmetric,
}

const MAGIC: u32 = u32::from_ne_bytes(*b"asyf");
/// Stands in the place of the magic while the header is being made.
const IN_THE_MAKING: u32 = !MAGIC;
pub(super) const VERSION: u32 = 1;
const ASYMMETRIC: u32 = 1;
const SYMMETRIC: u32 = 2;

#[repr(C)]
pub(super) struct Header {
    magic: AtomicU32,
    version: AtomicU32,
    mode: AtomicU32,
    /// In which the numbers in `places` mean anything; 0 if unknown.
    pid_namespace: AtomicU32,
    /// Of the kernel under which the segment was made; 0 if it is symmetric.
    boot_id: [AtomicU32; 4],
    /// Zero.
    reserved: [AtomicU32; 8],
    places: [AtomicU32; PARTICIPANTS],
}

const _: () = assert!(size_of::<Header>() == WORDS * size_of::<AtomicU32>());
const _: () = assert!(align_of::<Header>() == align_of::<AtomicU32>());

impl Header {
    pub(super) fn over(words: &[AtomicU32]) -> Result<&Header, Error> {
        let Some(header) = words.first_chunk::<WORDS>() else {
            return Err(Error::TooShort(words.len()));
        };
        // SAFETY: both are so many `AtomicU32` and nothing else, of the same size and alignment.
        Ok(unsafe { &*core::ptr::from_ref(header).cast::<Header>() })
    }

    pub(super) fn create(words: &[AtomicU32], mode: Mode, boot_id: [u32; 4]) -> Result<(), Error> {
        let header = Self::over(words)?;
        // Relaxed, both: nothing was written here that we could read. Of several makers one comes first.
        let is_empty = words[..WORDS].iter().all(|word| word.load(Relaxed) == 0);
        if !is_empty || header.magic.compare_exchange(0, IN_THE_MAKING, Relaxed, Relaxed).is_err() {
            return Err(Error::NotEmpty);
        }
        // Relaxed, all: published by the magic.
        let mode = match mode {
            Mode::Asymmetric => ASYMMETRIC,
            Mode::Symmetric => SYMMETRIC,
        };
        header.version.store(VERSION, Relaxed);
        header.mode.store(mode, Relaxed);
        header.pid_namespace.store(pid_namespace().unwrap_or(0), Relaxed);
        for (word, value) in header.boot_id.iter().zip(boot_id) {
            word.store(value, Relaxed);
        }
        // Release: the header stands before the magic. Pairs with the Acquire in `mode`.
        header.magic.store(MAGIC, Release);
        Ok(())
    }

    /// The mode, of a header that is understood.
    pub(super) fn mode(&self) -> Result<Mode, Error> {
        // Acquire: the header was written before. Pairs with the Release in `create`.
        match self.magic.load(Acquire) {
            MAGIC => {}
            0 | IN_THE_MAKING => return Err(Error::NotCreated),
            word => return Err(Error::Foreign(word)),
        }
        // Relaxed, here and below: written before the magic, and never again.
        let version = self.version.load(Relaxed);
        if version != VERSION {
            return Err(Error::Version(version));
        }
        match self.mode.load(Relaxed) {
            ASYMMETRIC => Ok(Mode::Asymmetric),
            SYMMETRIC => Ok(Mode::Symmetric),
            mode => Err(Error::Mode(mode)),
        }
    }

    pub(super) fn boot_id(&self) -> [u32; 4] {
        self.boot_id.each_ref().map(|word| word.load(Relaxed))
    }

    /// Whether the process numbers in the table are those of this process's namespace.
    fn knows_our_pids(&self) -> bool {
        let namespace = pid_namespace().unwrap_or(0);
        namespace != 0 && self.pid_namespace.load(Relaxed) == namespace
    }

    pub(super) fn take_place(&self) -> Result<Place<'_>, Error> {
        let who = if self.knows_our_pids() { getpid().as_raw_pid() as u32 } else { ELSEWHERE };
        let mut places = (0..PARTICIPANTS).map(|index| self.take(index, Taken::is_free, who));
        places.find_map(|place| place).ok_or(Error::Full)
    }

    /// Takes over the places of processes that have ended, one after the other.
    pub(super) fn abandoned(&self) -> Result<impl Iterator<Item = Place<'_>>, Error> {
        if !self.knows_our_pids() {
            return Err(Error::OtherPidNamespace);
        }
        let who = getpid().as_raw_pid() as u32;
        Ok((0..PARTICIPANTS).filter_map(move |index| self.take(index, Taken::is_abandoned, who)))
    }

    /// Which places are taken.
    pub(super) fn taken(&self) -> impl Iterator<Item = usize> {
        // Relaxed: it may be another's a moment later.
        let is_taken = |index: &usize| !Taken(self.places[*index].load(Relaxed)).is_free();
        (0..PARTICIPANTS).filter(is_taken)
    }

    fn take(&self, index: usize, when: fn(Taken) -> bool, who: u32) -> Option<Place<'_>> {
        let place = &self.places[index];
        // Relaxed: checked by the exchange.
        let found = Taken(place.load(Relaxed));
        if !when(found) {
            return None;
        }
        let mine = found.next(who);
        // Acquire: what belongs to the place is ours from now on. Pairs with the Release in `drop`; an
        // ended process has done all that it did. Relaxed on failure: another was faster.
        place.compare_exchange(found.0, mine.0, Acquire, Relaxed).ok()?;
        Some(Place { header: self, index, mine, pid: getpid() })
    }
}

/// A word of the table: the number of the process, 0 if the place is free; and how often the place has
/// changed hands, so that one who looks and then acts does not act on the next in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken(u32);

/// Linux gives no number above 2^22 (`PID_MAX_LIMIT`).
const PID_BITS: u32 = 23;
const PID: u32 = (1 << PID_BITS) - 1;

/// In the place of the number of a process in another PID namespace, or in one that is not known.
const ELSEWHERE: u32 = PID;

impl Taken {
    fn is_free(self) -> bool {
        self.0 & PID == 0
    }

    /// Whether the process has ended. Not while it is a zombie, and not if another has its number.
    fn is_abandoned(self) -> bool {
        let pid = self.0 & PID;
        let local = (pid != ELSEWHERE).then(|| Pid::from_raw(pid as i32)).flatten();
        local.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
    }

    fn next(self, who: u32) -> Self {
        let turn = (self.0 >> PID_BITS).wrapping_add(1);
        Taken(turn << PID_BITS | who & PID)
    }
}

/// A place in the table, given back when dropped.
pub(super) struct Place<'a> {
    pub(super) header: &'a Header,
    pub(super) index: usize,
    mine: Taken,
    pid: Pid,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // The copy in a forked child is not the child's to give back.
        if getpid() == self.pid {
            let free = self.mine.next(0);
            let place = &self.header.places[self.index];
            // Release: whoever takes the place has our use of it behind it. Pairs with the Acquire in
            // `take`. Fails, for no reason we would know, if somebody wrote over the table.
            let _ = place.compare_exchange(self.mine.0, free.0, Release, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_tells_its_holders_apart() {
        let mut place = Taken(0);
        for who in [1, 7, PID - 1, 0, ELSEWHERE] {
            let before = place;
            place = place.next(who);
            assert_ne!(place.next(who), place);
            assert_ne!(before, place);
            assert_eq!(place.0 & PID, who);
            assert_eq!(place.is_free(), who == 0);
        }
        assert!(!place.is_abandoned(), "nobody knows when a process elsewhere ends");
        assert!(!Taken(getpid().as_raw_pid() as u32).is_abandoned());
        assert!(Taken(PID - 1).is_abandoned(), "no process has such a number");
    }
}
