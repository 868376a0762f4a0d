//! The system call membarrier(2), each command by its name. Linux only.
//!
//! For programs that need a particular command. For fences use [`light_fence`](crate::light_fence) and
//! [`heavy_fence`](crate::heavy_fence), or [`cross_process`](crate::cross_process).
//!
//! A command that needs a registration is a method of its [`Registration`], so it cannot be called without one:
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
//! global.barrier()?; // PRIVATE_EXPEDITED, which needs another registration
//! # Ok::<(), asymfence::Failure>(())
//! ```
//!
//! # What a command orders
//!
//! Each command makes its targets pass a full barrier between its entry and its return. What pairs with what is in the
//! table of membarrier(2), which is that of [the contract](crate#the-contract). For the *caller* it is not a fence:
//! PRIVATE_EXPEDITED and RSEQ return before any barrier if the `mm` has one user (one thread, and no other process
//! shares it). If one processor is online, these two return before any barrier too, and so do GLOBAL and
//! GLOBAL_EXPEDITED (kernel/sched/membarrier.c@v6.9). Put `fence(SeqCst)` before and after it, as the fences of this
//! crate do. On riscv a target that is being switched in at that moment may pass no barrier, if the kernel lacks commit
//! d6cfd1770f20 (which is in 6.9, and in the stable tree 6.6 from 6.6.51 on).
//!
//! # Errors
//!
//! A [`Failure`], which gives the command, the errno, its meaning by membarrier(2), and what to do. Only 0 is success.
//! The man page promises that later calls return the same as the first, but the kernel does not keep that: ENOMEM is
//! possible at every expedited command without FLAG_CPU and at every registration, and a seccomp filter may be
//! installed at any time. If rustix was built with debug assertions, a command that is called through rustix panics,
//! and [`register`] aborts the process, when a sandbox answers with a value that no kernel gives.
//!
//! # Signal safety
//!
//! The commands are one system call each, and async-signal-safe. [`query`], [`registrations`] and [`register`]
//! may make more than one call, and may change the thread's `errno`; the first two are async-signal-safe.
//!
//! # How it is called
//!
//! By rustix, through the same function as [`heavy_fence`](crate::heavy_fence). With `std` some calls go through
//! `syscall` of the C library: GET_REGISTRATIONS, which rustix does not have; QUERY, because rustix does not return its
//! errno; and calls with a command or a flag that does not exist.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::AtomicBool;

use rustix::thread::{MembarrierCommand, MembarrierQuery};

use crate::failure::{Call, Failure};
use crate::sys;
use crate::sys::membarrier::{self as system, Command};
use crate::sys::patience::patiently;

bitflags::bitflags! {
    /// A set of commands: what the kernel offers, or what a process is registered for.
    ///
    /// ```
    /// use asymfence::membarrier::Commands;
    ///
    /// let answer = Commands::from_bits_retain(0x18);
    /// assert!(answer.contains(Commands::PRIVATE_EXPEDITED | Commands::REGISTER_PRIVATE_EXPEDITED));
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Commands: u32 {
        /// `MEMBARRIER_CMD_GLOBAL`, formerly `MEMBARRIER_CMD_SHARED`. Since 4.3. Not under `nohz_full`, but before 4.10
        /// it is offered there, and misses processors: see [`global`].
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
        /// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ`. Since 5.10, with rseq(2); QUERY lists it since 5.17, and
        /// in stable kernels with commit 809232619f5b.
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
/// ```
/// use asymfence::membarrier::{Commands, query};
///
/// match query() {
///     Ok(offered) => println!("{}", offered.contains(Commands::PRIVATE_EXPEDITED)),
///     Err(failure) => println!("{failure}"),
/// }
/// ```
///
/// # Errors
///
/// ENOSYS if the kernel or the sandbox has no membarrier, EPERM if a sandbox refuses it. (Some kernels before 4.14
/// answer ENOSYS to every command under `nohz_full`.) Without the feature `std` the errno of QUERY is not known. So if
/// QUERY lists nothing, PRIVATE_EXPEDITED is tried. If that succeeds, or fails with EPERM or for a reason that may be
/// temporary, both are tried again, up to eight times in all. If PRIVATE_EXPEDITED fails with another errno than
/// EINVAL, the error has this errno. Otherwise the result is an empty set.
pub fn query() -> Result<Commands, Failure> {
    Ok(Commands::from_bits_retain(system::query()?.bits()))
}

/// GET_REGISTRATIONS: what this process is registered for, as a set of the REGISTER commands. Since Linux 6.3.
///
/// A registration that another thread is making at this moment may be listed already. After a registration for
/// SYNC_CORE or RSEQ alone the kernel lists PRIVATE_EXPEDITED too, although that command then fails with EPERM. So if
/// the kernel lists PRIVATE_EXPEDITED together with SYNC_CORE or RSEQ, this function calls PRIVATE_EXPEDITED (which
/// interrupts the running threads) and lists it only if the call succeeds. Needs the feature `std`, because it is
/// called through the C library.
///
/// ```
/// use asymfence::membarrier::{Commands, PrivateExpedited, register, registrations};
///
/// let registered = register::<PrivateExpedited>().is_ok();
/// if let Ok(listed) = registrations() {
///     assert_eq!(listed.contains(Commands::REGISTER_PRIVATE_EXPEDITED), registered);
/// }
/// ```
///
/// # Errors
///
/// EINVAL before 6.3; ENOSYS; EPERM of a sandbox; and the errors of PRIVATE_EXPEDITED.
#[cfg(feature = "std")]
pub fn registrations() -> Result<Commands, Failure> {
    Ok(Commands::from_bits_retain(system::registrations()?.bits()))
}

/// GLOBAL, also known as SHARED: every thread of every process of the system passes a full barrier.
/// Since Linux 4.3. **On Linux 4.3 to 4.9 with `nohz_full` it succeeds and misses processors**; 4.10 refuses it there
/// (commit 907565337ebf).
///
/// Needs no registration, and blocks for milliseconds (an RCU grace period). For a process that can wait that long, if
/// the other processes cannot register.
///
/// ```
/// use std::sync::atomic::{Ordering::SeqCst, fence};
///
/// fence(SeqCst); // the command is no fence for its caller
/// let outcome = asymfence::membarrier::global();
/// fence(SeqCst);
/// if let Err(failure) = outcome {
///     println!("{failure}"); // nothing was ordered
/// }
/// ```
///
/// # Errors
///
/// EINVAL where `nohz_full` is set (ENOSYS on some kernels before 4.14); ENOSYS, and EPERM of a sandbox.
#[doc(alias = "SHARED")]
#[doc(alias = "MEMBARRIER_CMD_SHARED")]
#[doc(alias = "shared")]
pub fn global() -> Result<(), Failure> {
    system::issue((MembarrierCommand::Global, Call::Global))
}

/// GLOBAL_EXPEDITED: every running thread of every process that registered for it
/// (`register::<GlobalExpedited>()`) passes a full barrier. Since Linux 4.16.
///
/// The *caller* needs no registration. A process registers in order to be reached. The kernel passes over a process
/// that is not registered, and still answers success. **Since Linux 5.4 it passes over some processes that are
/// registered**, for example on a processor on which a thread of the process has just ended, while another thread of
/// the process runs there ([the specification](crate::guide::specification) says why; seen on 6.18). So
/// [`cross_process`](crate::cross_process) uses [`global`].
///
/// ```
/// use asymfence::membarrier::{GlobalExpedited, global_expedited, register};
///
/// // In each process that is to be reached, before it starts threads:
/// let reached = register::<GlobalExpedited>();
/// // In any process:
/// let outcome = global_expedited();
/// # let _ = (reached, outcome);
/// ```
///
/// # Errors
///
/// EINVAL before 4.16; ENOMEM if the kernel has no memory for a cpumask; ENOSYS, and EPERM of a sandbox.
pub fn global_expedited() -> Result<(), Failure> {
    system::issue((MembarrierCommand::GlobalExpedited, Call::GlobalExpedited))
}

/// What a process can register for: the four types below implement it, and no other can.
///
/// ```
/// use asymfence::membarrier::{PrivateExpedited, PrivateExpeditedSyncCore, Registrable, register};
///
/// fn can<C: Registrable>() -> bool {
///     register::<C>().is_ok()
/// }
/// println!("{} {}", can::<PrivateExpedited>(), can::<PrivateExpeditedSyncCore>());
/// ```
pub trait Registrable: sealed::Registrable {}

mod sealed {
    use super::{AtomicBool, Command, MembarrierQuery, fmt};

    pub trait Registrable: fmt::Debug + Copy {
        const REGISTER: Command;
        /// What QUERY must list for it.
        const LISTED: MembarrierQuery;
        fn no_fork_is_older() -> &'static AtomicBool;
    }
}

macro_rules! registrable {
    ($($(#[$doc:meta])* $name:ident, $register:ident, $listed:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {}
        impl Registrable for $name {}
        impl sealed::Registrable for $name {
            const REGISTER: Command = (MembarrierCommand::$register, Call::$register);
            const LISTED: MembarrierQuery = $listed;
            fn no_fork_is_older() -> &'static AtomicBool {
                static NO_FORK_IS_OLDER: AtomicBool = AtomicBool::new(false);
                &NO_FORK_IS_OLDER
            }
        }
    )*};
}

registrable! {
    /// For processes that want to be reached by [`global_expedited`] of any process.
    ///
    /// ```
    /// use asymfence::membarrier::{GlobalExpedited, register};
    ///
    /// let registration = register::<GlobalExpedited>();
    /// # let _ = registration;
    /// ```
    GlobalExpedited, RegisterGlobalExpedited,
        MembarrierQuery::GLOBAL_EXPEDITED.union(MembarrierQuery::REGISTER_GLOBAL_EXPEDITED);
    /// To call [`Registration::barrier`].
    ///
    /// ```
    /// use asymfence::membarrier::{PrivateExpedited, register};
    ///
    /// let outcome = register::<PrivateExpedited>().and_then(|private| private.barrier());
    /// # let _ = outcome;
    /// ```
    PrivateExpedited, RegisterPrivateExpedited, PRIVATE;
    /// To call [`Registration::sync_core`].
    ///
    /// ```
    /// use asymfence::membarrier::{PrivateExpeditedSyncCore, register};
    ///
    /// let outcome = register::<PrivateExpeditedSyncCore>().and_then(|jit| jit.sync_core());
    /// # let _ = outcome;
    /// ```
    PrivateExpeditedSyncCore, RegisterPrivateExpeditedSyncCore,
        MembarrierQuery::PRIVATE_EXPEDITED_SYNC_CORE
            .union(MembarrierQuery::REGISTER_PRIVATE_EXPEDITED_SYNC_CORE);
    /// To call [`Registration::restart`] and [`Registration::restart_on`].
    ///
    /// ```
    /// use asymfence::membarrier::{PrivateExpeditedRseq, register};
    ///
    /// let outcome = register::<PrivateExpeditedRseq>().and_then(|rseq| rseq.restart_on(0));
    /// # let _ = outcome;
    /// ```
    PrivateExpeditedRseq, RegisterPrivateExpeditedRseq, PRIVATE;
}

/// Used for RSEQ too: kernels from 5.10 to 5.16 without commit 809232619f5b have RSEQ, but QUERY does not list it. A
/// kernel without RSEQ answers EINVAL.
const PRIVATE: MembarrierQuery =
    MembarrierQuery::PRIVATE_EXPEDITED.union(MembarrierQuery::REGISTER_PRIVATE_EXPEDITED);

/// Registers this process for `C`. Registering again is cheap, and no error.
///
/// Takes half a microsecond in a process of one thread, and milliseconds if there are more threads (the kernel waits
/// for an RCU grace period). So call it before the program starts threads. With the feature `std`, the first call waits
/// for forks that other threads have begun. So a child of fork(2) does not inherit the returned value, the proof,
/// without the registration, except in the cases that [`Registration`] names.
///
/// # Errors
///
/// EINVAL if QUERY does not list the command: the kernel does not have it, or not on this architecture. (RSEQ is tried
/// even if it is not listed, because most kernels from 5.10 to 5.16 have it and do not list it.) ENOMEM if the kernel
/// has no memory for a cpumask, after some tries. ENOSYS; EPERM of a sandbox. With `std` also ENOMEM of
/// pthread_atfork(3) or pthread_key_create(3), whose locks `register` uses to wait for forks.
///
/// `register` also makes calls that a kernel must refuse: a command and flags that do not exist (without the feature
/// `std`: the registration with FLAG_CPU). If the answer is not the kernel's, a sandbox or an emulator answers in its
/// place. Then the errno of the error is 0. A sandbox that knows the commands and their flags is not detected.
///
/// # Signal safety
///
/// Async-signal-safe only without `std`. With `std` the first call must also not be made in a pthread_atfork(3)
/// handler, or by a thread that holds a lock which such a handler takes: glibc 2.28 to 2.35 runs the handlers under a
/// lock of its own, so that either could deadlock. Nor must it be made by a thread that holds a lock of the C library
/// which fork(2) itself takes (see [`init`](crate::init)), or in a child of a bare clone(2) or of _Fork(3), if another
/// thread of the parent was in fork(2) at that moment: the child may wait for ever, even if the parent had decided the
/// strategy.
pub fn register<C: Registrable>() -> Result<Registration<C>, Failure> {
    sys::no_unwind(|| {
        // If QUERY does not list the command, the answer is that of a kernel that does not know it.
        let refused = |errno| Failure::new(C::REGISTER.1, errno);
        system::is_offered(C::LISTED, C::REGISTER)
            .map_err(|refusal| refusal.failure().unwrap_or(refused(Failure::EINVAL.into())))?;
        patiently(|| system::issue(C::REGISTER))?;
        system::refuses_nonsense(C::REGISTER).map_err(|_| refused(0))
    })?;
    // FORKED-TOGETHER: a child of fork that has the proof has the registration.
    sys::let_forks_end(C::no_fork_is_older())?;
    Ok(Registration { registered: PhantomData })
}

/// Zero-sized proof that this process registered for the command `C`. Only [`register`] makes one:
///
/// ```compile_fail
/// use asymfence::membarrier::{PrivateExpedited, Registration};
/// let proof: Registration<PrivateExpedited> = Registration { registered: std::marker::PhantomData };
/// ```
///
/// ```
/// use asymfence::membarrier::{PrivateExpedited, Registration, register};
///
/// let proof: Option<Registration<PrivateExpedited>> = register().ok(); // `None` in a sandbox
/// # let _ = proof;
/// ```
///
/// The registration outlives the value: it lasts until exec(2) or the end of the process. Any thread may use the value.
/// A child of fork(2) inherits it together with the registration, and a child of vfork(2) or `CLONE_VM` shares both.
///
/// In two cases a process may have the value without the registration, and must register again:
///
/// - It is a child of a bare clone(2) or of _Fork(3), of fork(2) without `std`, or of fork(2) under glibc before 2.28
///   or musl before 1.2.2, and another thread was registering during the fork. Or the code that registered was loaded
///   by dlmopen(3): it waits only for forks by its own copy of the C library, and the program forks by another one.
/// - It was restored from a checkpoint. Then the private commands answer EPERM, and [`global_expedited`] does not reach
///   it.
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
    /// ENOMEM if the kernel has no memory for a cpumask; EPERM, or any other errno that a sandbox answers.
    pub fn barrier(self) -> Result<(), Failure> {
        system::issue((MembarrierCommand::PrivateExpedited, Call::PrivateExpedited))
    }
}

impl Registration<PrivateExpeditedSyncCore> {
    /// PRIVATE_EXPEDITED_SYNC_CORE: besides the barrier, every running thread of this process executes a
    /// core-serializing instruction before it continues in user space, and so does the caller. Since Linux 5.10.
    ///
    /// The command exists since 4.16. Before 5.10 the kernel did not serialize the caller's processor (fixed by commit
    /// e45cdc71d1fa), and serialized the other processors only through the return from the interrupt, without an
    /// explicit instruction (fixed by commit 758c9373d841).
    ///
    /// For a JIT that has changed code: afterwards other threads execute the new instructions. If instruction caches
    /// are not coherent with data, clean them first.
    ///
    /// # Errors
    ///
    /// ENOMEM if the kernel has no memory for a cpumask; EPERM, or any other errno that a sandbox answers.
    pub fn sync_core(self) -> Result<(), Failure> {
        let command = MembarrierCommand::PrivateExpeditedSyncCore;
        system::issue((command, Call::PrivateExpeditedSyncCore))
    }
}

impl Registration<PrivateExpeditedRseq> {
    /// PRIVATE_EXPEDITED_RSEQ: every other running thread of this process that is in a restartable sequence (rseq(2))
    /// restarts it. The caller does not, since a restartable sequence must not make a system call. Since Linux 5.10.
    ///
    /// # Errors
    ///
    /// ENOMEM if the kernel has no memory for a cpumask; EPERM, or any other errno that a sandbox answers.
    pub fn restart(self) -> Result<(), Failure> {
        system::issue((MembarrierCommand::PrivateExpeditedRseq, Call::PrivateExpeditedRseq))
    }

    /// The same with FLAG_CPU: the kernel reaches only the thread that runs on `cpu`. That may be the caller, which is
    /// in no restartable sequence, so nothing restarts then. Since Linux 5.10. If the `mm` has one user, or one
    /// processor is online, the call does nothing and answers success.
    ///
    /// If the processor is offline or does not exist, the kernel does nothing and answers success. A number that is
    /// negative as an `i32` means all processors, as in [`restart`](Self::restart).
    ///
    /// # Errors
    ///
    /// EPERM, or any other errno that a sandbox answers; ENOMEM for a negative number, as in [`restart`](Self::restart).
    pub fn restart_on(self, cpu: u32) -> Result<(), Failure> {
        let command = MembarrierCommand::PrivateExpeditedRseq;
        system::issue_on((command, Call::PrivateExpeditedRseq), cpu)
    }
}
