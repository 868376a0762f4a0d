//! A participant of a segment, and its fences.
//!
//! REGISTERED-BEFORE: a process has a participant of an asymmetric segment only after it registered. A heavy fence may
//! run during the registration and not find the process registered. That is harmless: the registration sets the mark
//! that heavy fences check, and then makes every thread of the process pass a full barrier
//! (`sync_runqueues_membarrier_state`, kernel/sched/membarrier.c@v6.9).
//!
//! ```text
//! heavy                      participant
//! x = 1                      mark = 1, in the registration
//! full barrier               full barrier, in the registration
//! r1 = mark                  r2 = x
//! forbidden: r1 == 0 && r2 == 0
//! ```
//!
//! So if the heavy fence does not find the mark, everything that the participant does sees what the heavy side did
//! before. And a heavy fence of a thread that has seen anything that the participant did finds the mark.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::AtomicBool;

use super::SegmentError;
use super::segment::{Header, LockFile, Place};
use crate::coalesce::between_full_fences;
use crate::failure::Failure;
use crate::fence::insist;
use crate::refusal::Refusal;
use crate::strategy::switched_off;
use crate::sync::{Ordering::SeqCst, fence};
use crate::sys;
use crate::sys::global_expedited::BETWEEN_PROCESSES;

/// A participant of a segment of either mode: what [`attach`](super::attach) returns.
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
/// match attach(&words, file.as_fd())? {
///     Attached::Asymmetric(me) => me.heavy_fence(),
///     Attached::Symmetric(me) => me.heavy_fence(),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum Attached<'a> {
    /// Its light fence is no instruction.
    Asymmetric(Participant<'a, AsymmetricFences>),
    /// Both of its fences are `fence(SeqCst)`.
    Symmetric(Participant<'a, SymmetricFences>),
}

/// A process that is attached to a segment. It has a place in the segment's table until the participant is dropped.
///
/// A child of fork(2) has a copy of the participant. The place is given back when the last copy is dropped. If a
/// process ends without dropping its copy, the place must be [reaped](super::reap). The same holds if the last copy is
/// dropped while a child that was forked or spawned during `attach` has not called exec yet. Dropping makes three system
/// calls, munmap(2), fstat(2) and fcntl(2).
///
/// The mode is part of the type, so no fence has to check it. Code that works in both modes is generic over [`Fences`].
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
/// if let Attached::Symmetric(me) = attach(&words, file.as_fd())? {
///     assert_eq!(me.index(), 0); // the first place
///     me.light_fence();
///     me.try_heavy_fence()?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// ```compile_fail
/// use asymfence::cross_process::{AsymmetricFences, Participant};
///
/// // Only `attach` makes a participant, after it has registered the process.
/// let me: Participant<'static, AsymmetricFences> = Participant { place: (), fences: () };
/// ```
pub struct Participant<'a, F: Fences> {
    place: Place<'a>,
    fences: PhantomData<F>,
}

/// The fences of a mode: [`AsymmetricFences`] or [`SymmetricFences`]. For code that works in both.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// use asymfence::cross_process::{Fences, Participant};
///
/// fn announce<F: Fences>(me: &Participant<'_, F>, reading: &AtomicU32) {
///     reading.store(1, Relaxed);
///     me.light_fence();
/// }
/// ```
pub trait Fences: sealed::Fences {}

/// See [`Mode::Asymmetric`](super::Mode::Asymmetric).
///
/// ```
/// use asymfence::cross_process::{AsymmetricFences, Participant};
///
/// fn light(me: &Participant<'_, AsymmetricFences>) {
///     me.light_fence(); // no instruction
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum AsymmetricFences {}

/// See [`Mode::Symmetric`](super::Mode::Symmetric).
///
/// ```
/// use asymfence::cross_process::{Participant, SymmetricFences};
///
/// fn light(me: &Participant<'_, SymmetricFences>) {
///     me.light_fence(); // `fence(SeqCst)`
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum SymmetricFences {}

mod sealed {
    use super::{Failure, Refusal};

    pub trait Fences {
        /// Registers this process, so that heavy fences reach it.
        fn register() -> Result<(), Refusal>;
        fn light();
        fn heavy() -> Result<(), Failure>;
    }
}

impl Fences for AsymmetricFences {}
impl sealed::Fences for AsymmetricFences {
    fn register() -> Result<(), Refusal> {
        register()
    }

    #[inline(always)]
    fn light() {
        // REGISTERED-BEFORE. Pairs with: every heavy fence of the segment.
        sys::compiler_barrier();
    }

    fn heavy() -> Result<(), Failure> {
        between_full_fences(fence, || insist(&BETWEEN_PROCESSES))
    }
}

impl Fences for SymmetricFences {}
impl sealed::Fences for SymmetricFences {
    fn register() -> Result<(), Refusal> {
        Ok(())
    }

    #[inline(always)]
    fn light() {
        // Pairs with: every fence of the segment, which are all full.
        fence(SeqCst);
    }

    fn heavy() -> Result<(), Failure> {
        // Pairs with: every fence of the segment, which are all full.
        fence(SeqCst);
        Ok(())
    }
}

/// Registers this process to be reached by heavy fences.
pub(super) fn register() -> Result<(), Refusal> {
    if let Some(off) = switched_off() {
        return Err(Refusal::new(off));
    }
    sys::no_unwind(|| (BETWEEN_PROCESSES.admit)().and_then(|()| (BETWEEN_PROCESSES.probe)()))?;
    // FORKED-TOGETHER: a child of fork that has a participant has the registration.
    static NO_FORK_IS_OLDER: AtomicBool = AtomicBool::new(false);
    // guard survives: the C library refuses this only without memory, which no test takes away at this moment.
    Ok(sys::let_forks_end(&NO_FORK_IS_OLDER)?)
}

impl<'a, F: Fences> Participant<'a, F> {
    pub(super) fn new(header: &'a Header, file: LockFile<'a>) -> Result<Self, SegmentError> {
        // REGISTERED-BEFORE: first the registration, then the place in the table, then light fences.
        F::register()?;
        Ok(Participant { place: header.take_place(file)?, fences: PhantomData })
    }

    /// Orders the memory accesses before it against those after it, as seen by a thread that executes a
    /// [`heavy_fence`](Self::heavy_fence) of the same segment, and by no other thread.
    ///
    /// In an asymmetric segment it compiles to nothing: no load, no branch. It has the contract and the signal safety of
    /// [`light_fence`](crate::light_fence).
    #[inline(always)]
    pub fn light_fence(&self) {
        F::light();
    }

    /// Orders the memory accesses before it against those after it, as seen by every thread of every participant that
    /// executes a light fence, a `fence(SeqCst)` or a heavy fence.
    ///
    /// It has all the effects of `fence(SeqCst)` on its caller. It interrupts every processor that runs a thread of
    /// *any* registered process of the system, whether that registered for this segment or for another purpose.
    ///
    /// # Aborts
    ///
    /// Never panics. **Aborts the process** if it cannot keep its guarantee, as [`heavy_fence`](crate::heavy_fence)
    /// does, for example if a sandbox was installed that forbids the call, or if the kernel is out of memory.
    /// Async-signal-safe.
    #[inline]
    pub fn heavy_fence(&self) {
        if let Err(failure) = self.try_heavy_fence() {
            sys::abort(format_args!(
                "heavy fence between processes: {failure}. The process stops: light fences that were executed \
                 rely on this heavy fence."
            ));
        }
    }

    /// The same as [`heavy_fence`](Self::heavy_fence), but returns an error where `heavy_fence` aborts.
    ///
    /// # Errors
    ///
    /// If the call fails, even after a bounded number of tries where these may help. Then **nothing has been ordered**,
    /// and the caller must not continue as if it had been. Never fails in a symmetric segment.
    pub fn try_heavy_fence(&self) -> Result<(), Failure> {
        F::heavy()
    }

    /// The number of this participant's place, below [`PARTICIPANTS`](super::PARTICIPANTS). No other participant has
    /// the same number at the same time. Use it for a slot in the shared data that belongs to this participant.
    ///
    /// A child of fork(2) has a copy of the participant with the same index.
    #[must_use]
    pub fn index(&self) -> usize {
        self.place.index
    }

    /// The places that are taken now, including that of this participant.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.place.header.taken()
    }

    /// Frees the places of processes that have ended without giving them back: see
    /// [`reap`](super::reap), which does the same without a participant.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Failed`], or [`SegmentError::OtherFile`] if the descriptor's number belongs to another file now.
    pub fn reap(&self, clean: impl FnMut(usize)) -> Result<usize, SegmentError> {
        self.place.header.reap(&self.place.locks, clean)
    }

    /// Registers this process again, and checks that kernel, file and place are still the same. Call it in a process
    /// that was restored from a checkpoint, before its next light fence, and in a child of a bare clone(2), before its
    /// first light fence. Cheap if nothing has changed.
    ///
    /// # Errors
    ///
    /// As [`attach`](super::attach), and [`SegmentError::PlaceLost`]. After an error the process must not execute a light
    /// fence of this participant.
    pub fn renew(&self) -> Result<(), SegmentError> {
        F::register()?;
        self.place.header.admit(self.place.locks.common()?)?;
        if self.place.is_held()? { Ok(()) } else { Err(SegmentError::PlaceLost) }
    }
}

impl<F: Fences> fmt::Debug for Participant<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant").field("index", &self.index()).finish_non_exhaustive()
    }
}
