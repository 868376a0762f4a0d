//! Fences between processes that share memory. Linux only.
//!
//! [`heavy_fence`](crate::heavy_fence) ends at the border of its process. The fences here reach every
//! thread of every process that has attached to the same segment, by membarrier(2) GLOBAL_EXPEDITED. The
//! kernel passes over a process that did not register, and answers success all the same; so what decides
//! is written into the shared memory, and a process that cannot hold to it does not get in:
//!
//! - [`create`] fixes the [`Mode`] once, for all processes, in the [`WORDS`] first words of the memory;
//! - [`attach`] registers the process, and refuses it if that fails. Only then is there a
//!   [`Participant`], and only a participant has fences.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//!
//! use asymfence::cross_process::{Attached, Error, Fences, Mode, Participant, WORDS, attach, create};
//!
//! /// One that reads often: says that it reads, and looks whether the writer is at it.
//! fn read<F: Fences>(me: &Participant<'_, F>, reading: &AtomicU32, writing: &AtomicU32) -> bool {
//!     reading.store(1, Relaxed);
//!     me.light_fence(); // pairs with the heavy fence of the writer, in whatever process that is
//!     writing.load(Relaxed) == 0
//! }
//!
//! # fn main() -> Result<(), Error> {
//! // In earnest: the words of a shared mapping.
//! let memory: Vec<AtomicU32> = (0..WORDS + 2).map(|_| AtomicU32::new(0)).collect();
//! let (header, data) = memory.split_at(WORDS);
//!
//! // Once, by the process that makes the segment. It is told if it cannot be asymmetric, and why.
//! create(header, Mode::Asymmetric).or_else(|refusal| match refusal {
//!     Error::Refused(_) | Error::NoBootId => create(header, Mode::Symmetric),
//!     error => Err(error),
//! })?;
//!
//! // Every process, after exec and before it starts threads.
//! let may_read = match attach(header)? {
//!     Attached::Asymmetric(me) => read(&me, &data[0], &data[1]),
//!     Attached::Symmetric(me) => read(&me, &data[0], &data[1]),
//! };
//! assert!(may_read);
//! # Ok(())
//! # }
//! ```
//!
//! # The contract
//!
//! The table of [`light_fence`](crate::light_fence) and [`heavy_fence`](crate::heavy_fence), between any
//! two threads of the participating processes, those of the same process included. The fences of the
//! crate's root do not pair with these.
//!
//! # What would be lost in silence
//!
//! | what | why | what is done about it |
//! | --- | --- | --- |
//! | a process that is not registered | the kernel passes over it | no [`Participant`] without a registration, which [`attach`] checks with the kernel where that can tell (6.3, feature `std`) |
//! | exec(2) | clears the registration | a participant is a value in memory, which exec clears too; the new program attaches anew. Its old place stays taken until the process ends |
//! | fork(2) | the child has a copy of the participant | the kernel copies the registration too, so its fences hold; its drop leaves the parent's place alone. The *index* is the parent's: a child that needs its own attaches |
//! | the end of a process | its place, and what it said it was reading, stay | [`Participant::reap`] |
//! | checkpoint and restore, a migrated container | the registration may be gone, the kernel another | detach before, or [`Participant::renew`] after the restore and before the next light fence. Nothing notices by itself |
//! | memory shared with another virtual machine, or another kernel | no interrupt reaches it | the header holds the kernel's boot id; another one is refused. Two clones of one virtual machine have the same: do not share between them |
//! | a program with another version of this crate | another protocol | the header holds a version; another one is refused |
//! | a sandbox closed later | the heavy fence fails | it aborts, or [`Participant::try_heavy_fence`] says so. The light side makes no call |
//! | riscv before 6.9 | the command is not always a full barrier | the kernel's version is looked at, and refused |
//!
//! Processes of 32 and 64 bits may share a segment, and so may containers on one kernel, whatever their
//! namespaces. (systemd-nspawn shows its containers a boot id of their own: there the segment is
//! refused.) All who can write the memory are trusted: one that scribbles over it breaks the others'
//! data, though never the memory safety of this module, which takes nothing from it but numbers.
//!
//! Not modelled under loom: check the same protocol with the fences of one process, whose contract is
//! the same.
//!
//! # Source
//!
//! membarrier(2); `membarrier_register_global_expedited` and `membarrier_global_expedited` in
//! kernel/sched/membarrier.c@v6.9; measured, with processes on real cores: tests/it/cross_process.

mod error;
mod header;
mod participant;

use core::sync::atomic::AtomicU32;

pub use error::Error;
pub use header::{Mode, PARTICIPANTS, WORDS};
pub use participant::{Asymmetric, Attached, Fences, Participant, Symmetric};

use header::Header;

/// Makes a segment of memory whose first [`WORDS`] words are zero, and fixes how the fences work there.
///
/// `words` is the beginning of the shared memory, at least [`WORDS`] long. To have a slice of atomics over
/// a mapping, it must be mapped shared, readable and writable, aligned to 4 bytes, and stay so for as long
/// as the slice is used; seal a memfd against shrinking.
///
/// [`Mode::Asymmetric`] registers this process with the kernel, for the sake of the answer. It does not
/// attach it.
///
/// # Errors
///
/// [`Error::Refused`] and [`Error::NoBootId`] if the segment cannot be asymmetric here: then create it
/// with [`Mode::Symmetric`], which always works, and in which every fence is `fence(SeqCst)`.
/// [`Error::TooShort`], [`Error::NotEmpty`] say what they mean. Nothing is written unless it succeeds.
pub fn create(words: &[AtomicU32], mode: Mode) -> Result<(), Error> {
    let boot_id = match mode {
        Mode::Asymmetric => participant::register()?,
        Mode::Symmetric => [0; 4],
    };
    Header::create(words, mode, boot_id)
}

/// Takes part: registers this process if the segment is asymmetric, and takes a place in its table.
///
/// Call it after exec and before the process starts threads: registering takes half a microsecond in a
/// process of one thread, and milliseconds once there are more. Every thread of the process may use the
/// participant.
///
/// # Errors
///
/// See [`Error`]. A process that cannot be asymmetric is refused by an asymmetric segment; what it can do is
/// in the error's words.
pub fn attach(words: &[AtomicU32]) -> Result<Attached<'_>, Error> {
    let header = Header::over(words)?;
    Ok(match header.mode()? {
        Mode::Asymmetric => Attached::Asymmetric(Participant::new(header)?),
        Mode::Symmetric => Attached::Symmetric(Participant::new(header)?),
    })
}
