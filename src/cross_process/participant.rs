//! A participant of a segment, and its fences.

use core::fmt;
use core::marker::PhantomData;

use super::SegmentError;
use super::segment::{Header, LockFile, Place};
use crate::coalesce::between_full_fences;
use crate::failure::Failure;
use crate::fence::insist;
use crate::refusal::Refusal;
use crate::strategy::switched_off;
use crate::sync::{Ordering::SeqCst, fence};
use crate::sys;
use crate::sys::global::BETWEEN_PROCESSES;

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

/// An attachment of this process to a segment. It has a place in the segment's table until it is dropped.
///
/// A child of fork(2) has a copy of the participant. The place is given back when the last copy is dropped, even if
/// another copy ended with its process before. Such a place is not reaped, so the `clean` of [`reap`](super::reap) does
/// not run for it, unless a `reap` meets the place while it is being dropped. If the last copy ends with its process,
/// without being dropped, the place must be [reaped](super::reap). The same holds in three cases. The last copy is
/// dropped while a child that was forked or spawned during `attach` has not called exec yet. Or a filter refuses
/// fstat(2) or fcntl(2). Or the descriptor of the lock file is closed where the participant is dropped: in the process,
/// or, if the dropping thread has a table of descriptors of its own (unshare(2) CLONE_FILES), in that table. (If a
/// filter refuses munmap(2), or refused close(2) during `attach`, the place cannot even be reaped before the process
/// ends. [Limits](crate::guide::limits) has more such cases: another process that holds the lock, tables of descriptors
/// that are shared or split, signals beside a slow supervisor, and filters that start in the middle.) Other processes
/// that attach or reap while the last copy is dropped do not keep the place from being given back. But a fork(2) that
/// another thread makes at that moment counts as a copy, even if it fails (EAGAIN, ENOMEM) and leaves no child: then
/// the place must be reaped, too. The same holds if another process inspects the mapping at that moment, and so refers
/// to its open file description for a moment (as the ioctl PROCMAP_QUERY of /proc/PID/maps does for a build id on
/// recent kernels, such as 6.18.44). Dropping makes three system calls, munmap(2), fstat(2) and fcntl(2).
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
/// // Only `attach` makes a participant.
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
        /// Whether heavy fences work in this thread.
        fn admit() -> Result<(), Refusal>;
        fn light();
        fn heavy() -> Result<(), Failure>;
    }
}

impl Fences for AsymmetricFences {}
impl sealed::Fences for AsymmetricFences {
    fn admit() -> Result<(), Refusal> {
        admit()
    }

    #[inline(always)]
    fn light() {
        // Pairs with: every heavy fence of the segment.
        sys::compiler_barrier();
    }

    fn heavy() -> Result<(), Failure> {
        between_full_fences(fence, || insist(&BETWEEN_PROCESSES))
    }
}

impl Fences for SymmetricFences {}
impl sealed::Fences for SymmetricFences {
    fn admit() -> Result<(), Refusal> {
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

/// Finds out whether heavy fences work in this thread. Each time anew: a thread or a forked child may have entered a
/// sandbox meanwhile.
pub(super) fn admit() -> Result<(), Refusal> {
    match switched_off() {
        Some(off) => Err(Refusal::new(off)),
        None => sys::no_unwind(BETWEEN_PROCESSES.probe),
    }
}

impl<'a, F: Fences> Participant<'a, F> {
    pub(super) fn new(header: &'a Header, file: LockFile<'a>) -> Result<Self, SegmentError> {
        F::admit()?;
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
    /// It has all the effects of `fence(SeqCst)` on its caller. In an asymmetric segment it takes some ten
    /// milliseconds: the kernel waits for an RCU grace period. It interrupts nobody, unless the kernel's
    /// `rcu_expedited` is set. So execute one for many operations, as [`Pacer`](crate::Pacer) helps to do. Heavy fences
    /// of several callers do not wait for one another.
    ///
    /// # Aborts
    ///
    /// Never panics. **Aborts the process** if it cannot keep its guarantee, as [`heavy_fence`](crate::heavy_fence)
    /// does, for example if a sandbox was installed that forbids the call. Async-signal-safe.
    #[inline]
    pub fn heavy_fence(&self) {
        if let Err(failure) = self.try_heavy_fence() {
            sys::abort(format_args!(
                "heavy fence between processes: {failure}. The process stops: light fences that were executed \
                 rely on this heavy fence."
            ));
        }
    }

    /// The same as [`heavy_fence`](Self::heavy_fence), but returns an error where `heavy_fence` aborts. It aborts too in
    /// one case: if a sandbox answers the system call with a value that no kernel gives, and rustix was built with debug
    /// assertions.
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
    /// As [`reap`](super::reap).
    pub fn reap(&self, clean: impl FnMut(usize)) -> Result<usize, SegmentError> {
        self.place.header.reap(&self.place.locks, clean)
    }

    /// Checks that heavy fences work, and that kernel, file and place are still the same. Call it in a process that was
    /// restored from a checkpoint, before its next light fence. Cheap if nothing has changed.
    ///
    /// Several processes may have this participant by fork(2). If one of them is restored alone while another lives on,
    /// the restored one must attach anew: `renew` would mistake the lock of the other for its own, and return `Ok`.
    ///
    /// # Errors
    ///
    /// As [`attach`](super::attach), and [`SegmentError::PlaceLost`]. After an error the process must not execute a light
    /// fence of this participant.
    pub fn renew(&self) -> Result<(), SegmentError> {
        F::admit()?;
        self.place.header.admit(self.place.locks.common()?)?;
        if self.place.is_held()? { Ok(()) } else { Err(SegmentError::PlaceLost) }
    }
}

impl<F: Fences> fmt::Debug for Participant<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant").field("index", &self.index()).finish_non_exhaustive()
    }
}
