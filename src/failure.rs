//! A system call that failed, in words: which call, which errno, what to do.
//!
//! Everything here is `Copy` and needs no allocator, since a heavy fence may fail in a signal
//! handler of a `no_std` program.

use core::fmt;

/// The calls and their words, from one list: a call that is missing in any place does not compile.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident: $words:literal,)*) => {
        /// A call that a fence depends on: a system call, or one of the C library. Its `Display` names it.
        ///
        /// ```
        /// assert_eq!(asymfence::Call::Query.to_string(), "membarrier(MEMBARRIER_CMD_QUERY)");
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Call {
            $($(#[$doc])* $name,)*
        }

        impl Call {
            /// Every call, each at the index `self as u8`.
            pub(crate) const ALL: &[Call] = &[$(Call::$name,)*];

            const fn words(self) -> &'static str {
                match self {
                    $(Call::$name => $words,)*
                }
            }
        }
    };
}

calls! {
    /// `membarrier(MEMBARRIER_CMD_QUERY)`
    Query: "membarrier(MEMBARRIER_CMD_QUERY)",
    /// `membarrier(MEMBARRIER_CMD_GLOBAL)`
    Global: "membarrier(MEMBARRIER_CMD_GLOBAL)",
    /// `membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)`
    RegisterGlobalExpedited: "membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)",
    /// `membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED)`
    GlobalExpedited: "membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED)",
    /// `membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)`
    RegisterPrivateExpedited: "membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)",
    /// `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)`
    PrivateExpedited: "membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)",
    /// `membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)`
    RegisterPrivateExpeditedSyncCore: "membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)",
    /// `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE)`
    PrivateExpeditedSyncCore: "membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE)",
    /// `membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ)`
    RegisterPrivateExpeditedRseq: "membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ)",
    /// `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ)`
    PrivateExpeditedRseq: "membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ)",
    /// `membarrier(MEMBARRIER_CMD_GET_REGISTRATIONS)`
    GetRegistrations: "membarrier(MEMBARRIER_CMD_GET_REGISTRATIONS)",
    /// `pthread_atfork`, which takes a lock that fork(2) holds: by it a registration waits for forks that have begun
    Atfork: "pthread_atfork",
    /// `pthread_key_create`, which does the same on musl
    KeyCreate: "pthread_key_create",
    /// `mmap` of the page whose protection is dropped
    Mmap: "mmap of one anonymous page",
    /// `mlock` of that page
    Mlock: "mlock of one page",
    /// `madvise(MADV_DONTNEED)` of that page, which the kernel refuses if the page is locked
    Madvise: "madvise(MADV_DONTNEED) of one page",
    /// `mprotect` of that page
    Mprotect: "mprotect of one page",
    /// `futex(FUTEX_WAKE_OP)` on that page, by which the kernel tries to write to it
    Futex: "futex(FUTEX_WAKE_OP) on one page",
    /// The modelled call of a loom model
    Modelled: "the modelled call",
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// The errno, or 0 if it is outside of 1..=4095: an answer that is neither success nor an errno.
#[allow(dead_code, reason = "not every target has a call that can fail")]
pub(crate) const fn known(errno: i32) -> i32 {
    if 0 < errno && errno < 4096 { errno } else { 0 }
}

/// A call that failed, or that something answered in the kernel's place. `Display` says which call, which errno, and
/// what to do.
///
/// ```
/// if let Err(error) = asymfence::try_heavy_fence() {
///     let failure = error.failure();
///     println!("{failure} ({} returned errno {})", failure.call(), failure.errno());
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    call: Call,
    errno: u16,
}

impl Failure {
    /// Errnos of Linux. (FreeBSD, mips and sparc have another ENOSYS, FreeBSD another EAGAIN, which are then shown by
    /// their numbers.)
    pub(crate) const EPERM: u16 = 1;
    pub(crate) const EINTR: u16 = 4;
    pub(crate) const EAGAIN: u16 = 11;
    pub(crate) const ENOMEM: u16 = 12;
    pub(crate) const EACCES: u16 = 13;
    pub(crate) const EINVAL: u16 = 22;
    pub(crate) const ENOSYS: u16 = 38;

    /// Keeps the [`known`] errno.
    #[allow(dead_code, reason = "not every target has a call that can fail")]
    pub(crate) const fn new(call: Call, errno: i32) -> Self {
        Failure { call, errno: known(errno) as u16 }
    }

    /// The call that failed.
    #[must_use]
    pub const fn call(self) -> Call {
        self.call
    }

    /// The errno, a positive number as in errno(3). It is 0 if the answer was not the kernel's: it was neither success
    /// nor an errno, or it was success although the kernel had not executed the call. (As far as can be told: rustix
    /// looks only at the low 16 bits of an answer that is an error.)
    #[must_use]
    pub const fn errno(self) -> i32 {
        self.errno as i32
    }

    /// Whether the same call may succeed a moment later.
    pub(crate) const fn is_transient(self) -> bool {
        matches!(self.errno, Self::EINTR | Self::ENOMEM | Self::EAGAIN)
    }

    /// Whether the errno may mean "not registered".
    pub(crate) const fn is_unregistered(self) -> bool {
        self.errno == Self::EPERM
    }

    const fn errno_name(self) -> &'static str {
        match self.errno {
            Self::EPERM => "EPERM",
            Self::EINTR => "EINTR",
            Self::EAGAIN => "EAGAIN",
            Self::ENOMEM => "ENOMEM",
            Self::EACCES => "EACCES",
            Self::EINVAL => "EINVAL",
            Self::ENOSYS => "ENOSYS",
            0 => "an answer that no kernel gives",
            _ => "errno",
        }
    }

    /// What it means, in the words of membarrier(2) where it has them, and what to do.
    const fn advice(self) -> &'static str {
        match (self.call, self.errno) {
            (Call::Mlock, Self::EPERM | Self::ENOMEM | Self::EAGAIN) => {
                "RLIMIT_MEMLOCK leaves no room for one page, or a sandbox refuses the call; raise it, or allow \
                 the call"
            }
            (Call::Mmap | Call::Mlock | Call::Mprotect | Call::Futex, 0) => {
                "a sandbox answers in the kernel's place, perhaps as if the call had succeeded; allow the call there"
            }
            (Call::Mmap, Self::EAGAIN) => {
                "mlockall(MCL_FUTURE) locks new mappings too, and RLIMIT_MEMLOCK has no room; raise it"
            }
            (Call::Mmap | Call::Mprotect, Self::ENOMEM) => {
                "there is no memory, no address space (RLIMIT_AS), no data segment (RLIMIT_DATA) or no mapping \
                 (vm.max_map_count) left; free some, or raise the limit"
            }
            (Call::Mprotect, Self::EACCES) => {
                "the page would become writable and executable at once (personality READ_IMPLIES_EXEC), which \
                 PR_SET_MDWE or SELinux forbids; clear one of the two"
            }
            (Call::Mprotect, Self::EPERM) => {
                "the page has been sealed (mseal(2)), or a sandbox or a security module refuses the call, or answers in \
                 the kernel's place; seal other pages only, or allow the call there"
            }
            (
                Call::Mmap | Call::Mlock | Call::Madvise | Call::Mprotect | Call::Futex,
                Self::EPERM | Self::EINVAL | Self::ENOSYS,
            ) => {
                "a sandbox or a security module refuses the call, or answers in the kernel's place; allow the call \
                 there"
            }
            (Call::Atfork | Call::KeyCreate, _) => {
                "the C library is short of memory; free some, and call again"
            }
            (
                Call::PrivateExpedited
                | Call::PrivateExpeditedSyncCore
                | Call::PrivateExpeditedRseq,
                Self::EPERM,
            ) => {
                "the current process was not registered prior to using private expedited commands, or \
                 a seccomp filter refuses the call, as Docker's did before 20.10 and containerd's \
                 before 1.5; allow it (if the filter refuses the registration alone, it is enough to \
                 call `init` or `membarrier::register` before the filter is installed)"
            }
            (_, Self::EPERM) => {
                "a seccomp filter refuses the call, as Docker's did before 20.10 and containerd's \
                 before 1.5; allow it (if the filter refuses the registration alone, it is enough to \
                 call `init` or `membarrier::register` before the filter is installed)"
            }
            (_, Self::ENOSYS) => {
                "the call is not implemented by this kernel (membarrier came with Linux 4.3), or a \
                 sandbox hides it; allow it there"
            }
            (Call::Query, Self::EINVAL) => {
                "every kernel that has membarrier has this command: a sandbox answers in its place; allow it there"
            }
            (_, Self::EINTR) => "signals interrupted every try of the call; send fewer",
            (Call::Global, Self::EINVAL) => {
                "the command is disabled because the nohz_full CPU parameter has been set; boot without it, or do without \
                 the command"
            }
            (
                Call::PrivateExpeditedSyncCore | Call::RegisterPrivateExpeditedSyncCore,
                Self::EINVAL,
            ) => {
                "the command is not implemented by the architecture, or the kernel is older than 4.16; \
                 ask QUERY for it first"
            }
            (Call::PrivateExpeditedRseq | Call::RegisterPrivateExpeditedRseq, Self::EINVAL) => {
                "the kernel is older than 5.10 or built without rseq(2); to find out, try to register: \
                 QUERY lists the command only since 5.17"
            }
            (Call::GetRegistrations, Self::EINVAL) => {
                "the kernel is older than 6.3 and does not list registrations; remember those that you made"
            }
            (_, Self::EINVAL) => {
                "the kernel does not know this command (PRIVATE_EXPEDITED came with 4.14, \
                 GLOBAL_EXPEDITED with 4.16); ask QUERY for it first"
            }
            (_, Self::ENOMEM | Self::EAGAIN) => {
                "the kernel is short of memory; free some, and call again"
            }
            _ => {
                "the manual does not document this answer; perhaps a sandbox gives it in the kernel's place"
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} failed with {} ({}): {}",
            self.call,
            self.errno_name(),
            self.errno,
            self.advice()
        )
    }
}

impl core::error::Error for Failure {}
