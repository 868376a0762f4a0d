//! The system call membarrier(2), each command by its name. Linux only.
//!
//! For those who need one command. Whoever wants fences takes [`light_fence`](crate::light_fence) and
//! [`heavy_fence`](crate::heavy_fence), or [`cross_process`](crate::cross_process).
//!
//! A command that needs a registration is a method of the [`Registration`] for it, so it cannot be
//! called without:
//!
//! ```
//! use asymfence::membarrier::{PrivateExpedited, register};
//!
//! # fn main() -> Result<(), asymfence::Failure> {
//! # if std::env::var_os("ASYMFENCE").is_some() { return Ok(()) }
//! let private = register::<PrivateExpedited>()?; // before the program starts threads
//! private.barrier()?;
//! # Ok(())
//! # }
//! ```
//!
//! ```compile_fail,E0599
//! use asymfence::membarrier::{GlobalExpedited, register};
//!
//! let global = register::<GlobalExpedited>()?;
//! global.barrier()?; // PRIVATE_EXPEDITED, for which nobody registered
//! # Ok::<(), asymfence::Failure>(())
//! ```
//!
//! # What a command orders
//!
//! Each makes its targets pass a full barrier between its entry and its return; the table is that of
//! membarrier(2). For the *caller* it is not a fence: the kernel returns before any barrier when the
//! process has one thread, or the machine one processor online (kernel/sched/membarrier.c@v6.9). Put
//! `fence(SeqCst)` on both sides of it, as the fences of this crate do. On riscv before Linux 6.9 a
//! target that is just being switched in may pass no barrier (commit d6cfd1770f20).
//!
//! # Errors
//!
//! A [`Failure`], which says the command, the errno, what membarrier(2) means by it, and what to do.
//! Success is exactly 0. The man page's promise that later calls answer as the first did is not kept:
//! ENOMEM is possible at every expedited command and registration, and a seccomp filter may be
//! installed at any time. Where debug assertions are on in rustix, an answer that no kernel gives, as
//! a sandbox might, is a panic.
//!
//! # Signal safety
//!
//! Each function here is one system call, and async-signal-safe; [`registrations`] may change the thread's
//! `errno`.
//!
//! # How it is called
//!
//! By rustix, in the place that [`heavy_fence`](crate::heavy_fence) calls too. GET_REGISTRATIONS, for
//! which rustix has no name, goes through `syscall` of the C library.

use core::fmt;
use core::marker::PhantomData;

use rustix::thread::MembarrierCommand;

use crate::failure::{Call, Failure};
use crate::sys::membarrier::{self as system, Command};

bitflags::bitflags! {
    /// A set of commands: what the kernel offers, or what a process is registered for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Commands: u32 {
        /// `MEMBARRIER_CMD_GLOBAL`, once `MEMBARRIER_CMD_SHARED`. Since 4.3; not under `nohz_full`.
        const GLOBAL = 1 << 0;
        /// `MEMBARRIER_CMD_GLOBAL_EXPEDITED`. Since 4.16.
        const GLOBAL_EXPEDITED = 1 << 1;
        /// `MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED`. Since 4.16.
        const REGISTER_GLOBAL_EXPEDITED = 1 << 2;
        /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED`. Since 4.14.
        const PRIVATE_EXPEDITED = 1 << 3;
        /// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED`. Since 4.14.
        const REGISTER_PRIVATE_EXPEDITED = 1 << 4;
        /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE`. Since 4.16, on some architectures.
        const PRIVATE_EXPEDITED_SYNC_CORE = 1 << 5;
        /// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE`. Since 4.16, on the same.
        const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 1 << 6;
        /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ`. Since 5.10, with rseq(2).
        const PRIVATE_EXPEDITED_RSEQ = 1 << 7;
        /// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ`. Since 5.10, with rseq(2).
        const REGISTER_PRIVATE_EXPEDITED_RSEQ = 1 << 8;
        /// `MEMBARRIER_CMD_GET_REGISTRATIONS`. Since 6.3.
        const GET_REGISTRATIONS = 1 << 9;

        /// Commands of later kernels are kept.
        const _ = !0;
    }
}

/// QUERY: the commands that the kernel offers. Since Linux 4.3.
///
/// # Errors
///
/// Where nothing is offered, the failure of PRIVATE_EXPEDITED, which changes nothing and knows the
/// errno: ENOSYS if the kernel or the sandbox has no membarrier, EPERM if a sandbox refuses it. (A
/// kernel before 4.14 under `nohz_full` really offers nothing; that is an empty set.)
pub fn query() -> Result<Commands, Failure> {
    let offered = Commands::from_bits_retain(system::query().bits());
    if offered.is_empty() {
        match system::issue((MembarrierCommand::PrivateExpedited, Call::PrivateExpedited)) {
            Err(failure) if failure.errno() != i32::from(Failure::EINVAL) => return Err(failure),
            _ => {}
        }
    }
    Ok(offered)
}

/// GET_REGISTRATIONS: what this process is registered for, as a set of the REGISTER commands. Since
/// Linux 6.3.
///
/// Counts a registration that another thread is in the middle of. With the feature `std` only: it is called
/// through the C library.
///
/// # Errors
///
/// EINVAL before 6.3; ENOSYS, and EPERM of a sandbox.
#[cfg(feature = "std")]
pub fn registrations() -> Result<Commands, Failure> {
    system::registrations().map(Commands::from_bits_retain)
}

/// GLOBAL, also known as SHARED: every thread of every process of the system passes a full barrier.
/// Since Linux 4.3.
///
/// Needs no registration, and blocks for milliseconds (an RCU grace period). For a process that is
/// rarely in a hurry and cannot have the others register.
///
/// # Errors
///
/// EINVAL where `nohz_full` is set; ENOSYS, and EPERM of a sandbox.
#[doc(alias = "SHARED")]
#[doc(alias = "MEMBARRIER_CMD_SHARED")]
#[doc(alias = "shared")]
pub fn global() -> Result<(), Failure> {
    system::issue((MembarrierCommand::Global, Call::Global))
}

/// GLOBAL_EXPEDITED: every running thread of every process that registered for it
/// (`register::<GlobalExpedited>()`) passes a full barrier. Since Linux 4.16.
///
/// The *caller* needs no registration: registering is to be reached. A process that is not registered is
/// passed over, and the answer is success all the same;
/// [`cross_process`](crate::cross_process) guards that.
///
/// # Errors
///
/// EINVAL before 4.16; ENOMEM for want of a cpumask; ENOSYS, and EPERM of a sandbox.
pub fn global_expedited() -> Result<(), Failure> {
    system::issue((MembarrierCommand::GlobalExpedited, Call::GlobalExpedited))
}

/// What a process can register for.
pub trait Registrable: sealed::Registrable {}

mod sealed {
    use super::{Command, fmt};

    pub trait Registrable: fmt::Debug + Copy {
        const REGISTER: Command;
    }
}

macro_rules! registrable {
    ($($(#[$doc:meta])* $name:ident, $register:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {}
        impl Registrable for $name {}
        impl sealed::Registrable for $name {
            const REGISTER: Command = (MembarrierCommand::$register, Call::$register);
        }
    )*};
}

registrable! {
    /// To be reached by [`global_expedited`], whichever process calls it.
    GlobalExpedited, RegisterGlobalExpedited;
    /// To call [`Registration::barrier`].
    PrivateExpedited, RegisterPrivateExpedited;
    /// To call [`Registration::sync_core`].
    PrivateExpeditedSyncCore, RegisterPrivateExpeditedSyncCore;
    /// To call [`Registration::restart`] and [`Registration::restart_on`].
    PrivateExpeditedRseq, RegisterPrivateExpeditedRseq;
}

/// Registers this process for `C`. Registering again is cheap, and no error.
///
/// Half a microsecond in a process of one thread and milliseconds once there are more (the kernel waits
/// for an RCU grace period): call it before the program starts threads.
///
/// # Errors
///
/// EINVAL if the kernel does not have the command, or not on this architecture; ENOMEM for want of a
/// cpumask; ENOSYS, and EPERM of a sandbox.
pub fn register<C: Registrable>() -> Result<Registration<C>, Failure> {
    system::issue(C::REGISTER)?;
    Ok(Registration { registered: PhantomData })
}

/// Proof, of no size, that this process registered for the command `C`. Only [`register`] makes one:
///
/// ```compile_fail
/// use asymfence::membarrier::{PrivateExpedited, Registration};
/// let proof: Registration<PrivateExpedited> = Registration { registered: std::marker::PhantomData };
/// ```
///
/// It stays true as long as the value lives. Any thread may use it; a child of fork(2) inherits it
/// together with the registration, one of vfork(2) or `CLONE_VM` shares both; exec(2) clears both. A
/// process that is restored from a checkpoint may have lost the registration: then the private commands
/// answer EPERM, and whoever is to be reached by [`global_expedited`] has to register again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Registration<C: Registrable> {
    registered: PhantomData<C>,
}

impl<C: Registrable> fmt::Debug for Registration<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registration").field(&C::REGISTER.0).finish()
    }
}

impl Registration<PrivateExpedited> {
    /// PRIVATE_EXPEDITED: every running thread of this process passes a full barrier. Since Linux 4.14.
    ///
    /// # Errors
    ///
    /// ENOMEM for want of a cpumask; EPERM, or what else a sandbox answers.
    pub fn barrier(self) -> Result<(), Failure> {
        system::issue((MembarrierCommand::PrivateExpedited, Call::PrivateExpedited))
    }
}

impl Registration<PrivateExpeditedSyncCore> {
    /// PRIVATE_EXPEDITED_SYNC_CORE: besides the barrier, every running thread of this process executes
    /// a core-serializing instruction before it goes on in user space. Since Linux 4.16.
    ///
    /// For a JIT that has changed code: other threads see the new instructions. Where instruction caches
    /// are not coherent with data, clean them before.
    ///
    /// # Errors
    ///
    /// ENOMEM for want of a cpumask; EPERM, or what else a sandbox answers.
    pub fn sync_core(self) -> Result<(), Failure> {
        let command = MembarrierCommand::PrivateExpeditedSyncCore;
        system::issue((command, Call::PrivateExpeditedSyncCore))
    }
}

impl Registration<PrivateExpeditedRseq> {
    /// PRIVATE_EXPEDITED_RSEQ: every running thread of this process that is in a restartable sequence
    /// (rseq(2)) starts it again. Since Linux 5.10.
    ///
    /// # Errors
    ///
    /// ENOMEM for want of a cpumask; EPERM, or what else a sandbox answers.
    pub fn restart(self) -> Result<(), Failure> {
        system::issue((MembarrierCommand::PrivateExpeditedRseq, Call::PrivateExpeditedRseq))
    }

    /// The same with FLAG_CPU: only the thread that runs on `cpu`. Since Linux 5.10.
    ///
    /// A processor that is offline, or that there is not, runs none: the kernel answers success. A number
    /// that is negative as an `i32` means every processor.
    ///
    /// # Errors
    ///
    /// EPERM, or what else a sandbox answers.
    pub fn restart_on(self, cpu: u32) -> Result<(), Failure> {
        let command = MembarrierCommand::PrivateExpeditedRseq;
        system::issue_on((command, Call::PrivateExpeditedRseq), cpu)
    }
}
