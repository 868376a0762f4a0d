//! What can go wrong on the ladder, in words: which call, which errno, what to do.
//!
//! Everything here is `Copy` and needs no allocator, since a heavy fence may fail in a signal
//! handler of a `no_std` program.

use core::fmt;
use core::num::NonZeroU32;

/// A system call that a rung depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Call {
    /// `membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)`
    RegisterPrivateExpedited,
    /// `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)`
    PrivateExpedited,
    /// `mmap` of the page whose protection is dropped
    Mmap,
    /// `mlock` of that page
    Mlock,
    /// `mprotect` of that page
    Mprotect,
    /// The modelled call of a loom model
    Modelled,
}

impl Call {
    const fn words(self) -> &'static str {
        match self {
            Call::RegisterPrivateExpedited => {
                "membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)"
            }
            Call::PrivateExpedited => "membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)",
            Call::Mmap => "mmap of one anonymous page",
            Call::Mlock => "mlock of one page",
            Call::Mprotect => "mprotect of one page",
            Call::Modelled => "the modelled call",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// A system call that did not answer success, which is exactly 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    call: Call,
    errno: u16,
}

impl Failure {
    /// Errnos of Linux. (FreeBSD and mips have another ENOSYS, FreeBSD another EAGAIN, which are then
    /// shown by their numbers.)
    pub(crate) const EPERM: u16 = 1;
    pub(crate) const EINTR: u16 = 4;
    pub(crate) const EAGAIN: u16 = 11;
    pub(crate) const ENOMEM: u16 = 12;
    pub(crate) const EINVAL: u16 = 22;
    pub(crate) const ENOSYS: u16 = 38;

    /// An `errno` outside of 1..=4095 is kept as 0: an answer that is neither success nor an errno.
    #[allow(dead_code, reason = "not every target has a call that can fail")]
    pub(crate) const fn new(call: Call, errno: i32) -> Self {
        Failure { call, errno: if 0 < errno && errno < 4096 { errno as u16 } else { 0 } }
    }

    /// The call that failed.
    #[must_use]
    pub const fn call(self) -> Call {
        self.call
    }

    /// The errno it failed with, a positive number as in errno(3); 0 if it answered with something
    /// that is neither success nor an errno, as a sandbox may.
    #[must_use]
    pub const fn errno(self) -> i32 {
        self.errno as i32
    }

    /// Packed into one word, so that the callers who share a call can share its failure.
    pub(crate) fn to_word(self) -> NonZeroU32 {
        Refusal::from(self).to_word()
    }

    /// The inverse of [`to_word`](Self::to_word).
    pub(crate) fn from_word(word: NonZeroU32) -> Self {
        let refusal = Refusal::from_word(word.get());
        refusal.and_then(Refusal::failure).expect("the word was a failure's")
    }

    /// Whether the same call may succeed a moment later.
    pub(crate) const fn is_transient(self) -> bool {
        matches!(self.errno, Self::EINTR | Self::ENOMEM | Self::EAGAIN)
    }

    /// Whether the kernel may be saying "not registered".
    pub(crate) const fn is_unregistered(self) -> bool {
        self.errno == Self::EPERM
    }

    const fn errno_name(self) -> &'static str {
        match self.errno {
            Self::EPERM => "EPERM",
            Self::EINTR => "EINTR",
            Self::EAGAIN => "EAGAIN",
            Self::ENOMEM => "ENOMEM",
            Self::EINVAL => "EINVAL",
            Self::ENOSYS => "ENOSYS",
            0 => "an answer that is neither success nor an errno",
            _ => "errno",
        }
    }

    const fn advice(self) -> &'static str {
        match (self.call, self.errno) {
            (Call::Mlock, Self::EPERM | Self::ENOMEM | Self::EAGAIN) => {
                "RLIMIT_MEMLOCK leaves no room for one page; raise it"
            }
            (_, Self::EPERM) => {
                "a seccomp filter refuses the call, as Docker's did before 20.10 and containerd's \
                 before 1.5; allow it, or call `init` before the filter is installed"
            }
            (_, Self::ENOSYS) => {
                "the kernel has no such call (membarrier came with Linux 4.3, this command with \
                 4.14) or a sandbox hides it"
            }
            (_, Self::EINTR) => "signals kept interrupting the call; let fewer come",
            (_, Self::EINVAL) => "the kernel does not know this command",
            (_, Self::ENOMEM | Self::EAGAIN) => "the kernel is short of memory; free some",
            _ => "the kernel gave no documented answer; a sandbox may be inventing it",
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

/// The kind of a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// This call of the trial run failed; [`Refusal::failure`] has the errno.
    Failed(Call),
    /// QUERY did not list the commands: an old kernel, or a sandbox that answers 0 to everything.
    CommandsNotOffered,
    /// The kernel has the call, but it is not always a barrier there (membarrier on riscv before
    /// Linux 6.9, mprotect from 4.3 to 4.12).
    KernelTooOld,
    /// Android below API level 29, whose sandbox ends a process that calls membarrier; FreeBSD before
    /// 14.1, which has none and may send SIGSYS. The call was not made.
    SystemTooOld,
    /// Wine or Proton in the place of Windows: their `FlushProcessWriteBuffers` may do nothing.
    Wine,
    /// A kernel newer than this crate knows: its TLB shoot-down may need no interrupt.
    KernelTooNew,
    /// Not a Linux kernel, or one that hides what it is.
    KernelUnknown,
    /// A processor that can invalidate other processors' TLBs without an interrupt.
    Invlpgb,
    /// Not an x86 processor of a known maker: perhaps a translated binary.
    ProcessorUnknown,
    /// A hypervisor other than KVM, whose TLB flush makes no promise of an interrupt.
    Hypervisor,
    /// Switched off by `ASYMFENCE=symmetric`.
    SwitchedOffByEnvironment,
    /// `ASYMFENCE` holds a word that is not known; it is taken for `symmetric`, the safe reading.
    SwitchNotUnderstood,
    /// Switched off at compile time by `--cfg asymfence_symmetric` or `--cfg asymfence_tsan`.
    SwitchedOffByCfg,
}

/// Every reason once; its index here is its code in a record.
const REASONS: [Reason; 18] = [
    Reason::Failed(Call::RegisterPrivateExpedited),
    Reason::Failed(Call::PrivateExpedited),
    Reason::Failed(Call::Mmap),
    Reason::Failed(Call::Mlock),
    Reason::Failed(Call::Mprotect),
    Reason::Failed(Call::Modelled),
    Reason::CommandsNotOffered,
    Reason::KernelTooOld,
    Reason::SystemTooOld,
    Reason::Wine,
    Reason::KernelTooNew,
    Reason::KernelUnknown,
    Reason::Invlpgb,
    Reason::ProcessorUnknown,
    Reason::Hypervisor,
    Reason::SwitchedOffByEnvironment,
    Reason::SwitchNotUnderstood,
    Reason::SwitchedOffByCfg,
];

/// Why a rung cannot be used here. Its `Display` says what to do about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    /// The errno of a failed call, the mask of QUERY; else 0.
    detail: u16,
}

impl Refusal {
    pub(crate) const fn new(reason: Reason) -> Self {
        Refusal { reason, detail: 0 }
    }

    #[allow(dead_code, reason = "not every target has membarrier")]
    pub(crate) const fn not_offered(mask: u16) -> Self {
        Refusal { reason: Reason::CommandsNotOffered, detail: mask }
    }

    /// The kind of refusal.
    #[must_use]
    pub const fn reason(self) -> Reason {
        self.reason
    }

    /// The system call that failed and its errno, if that was the reason.
    #[must_use]
    pub const fn failure(self) -> Option<Failure> {
        match self.reason {
            Reason::Failed(call) => Some(Failure { call, errno: self.detail }),
            _ => None,
        }
    }

    /// Packed into one word, so that a lock-free record can hold it; 0 is left for "none".
    pub(crate) fn to_word(self) -> NonZeroU32 {
        let code = REASONS.iter().position(|&reason| reason == self.reason);
        let code = code.expect("every reason stands in the table") as u32 + 1;
        NonZeroU32::new(code << 16 | u32::from(self.detail)).expect("the code is not 0")
    }

    /// The inverse of [`to_word`](Self::to_word); `None` for 0.
    pub(crate) fn from_word(word: u32) -> Option<Self> {
        let code = (word >> 16).checked_sub(1)?;
        let reason = *REASONS.get(code as usize)?;
        Some(Refusal { reason, detail: word as u16 })
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal { reason: Reason::Failed(failure.call), detail: failure.errno }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refusal").field(&self.reason).field(&self.detail).finish()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.reason {
            Reason::Failed(call) => return Failure { call, errno: self.detail }.fmt(f),
            Reason::CommandsNotOffered => {
                return write!(
                    f,
                    "QUERY offers only {:#x}, without PRIVATE_EXPEDITED (0x8) and its registration \
                     (0x10): the kernel is older than 4.14, or a sandbox answers in its place",
                    self.detail
                );
            }
            Reason::KernelTooOld => {
                "in this kernel the call is not always a full barrier (membarrier on riscv before \
                 6.9, mprotect from 4.3 to 4.12); update the kernel"
            }
            Reason::SystemTooOld => {
                "this system is too old to be asked for membarrier without harm (Android below API \
                 level 29, FreeBSD before 14.1), or does not say how old it is; update it"
            }
            Reason::Wine => {
                "this is Wine or Proton, whose FlushProcessWriteBuffers may return without having \
                 interrupted anybody; run on Windows, or as a program of the host"
            }
            Reason::KernelTooNew => {
                "the kernel is newer than this crate knows, and its TLB shoot-down might no longer \
                 interrupt every processor; allow membarrier, or update asymfence"
            }
            Reason::KernelUnknown => {
                "this cannot be told for a plain Linux kernel (gVisor, WSL1, Xen, a translated \
                 binary, or no /proc or /sys), and of no other is it known what it does here; allow \
                 membarrier"
            }
            Reason::Invlpgb => {
                "the processor has INVLPGB, with which Linux flushes other processors' TLBs without \
                 interrupting them; allow membarrier"
            }
            Reason::ProcessorUnknown => {
                "the processor is not a known x86 maker's, so the binary may be a translated one; \
                 allow membarrier"
            }
            Reason::Hypervisor => {
                "the hypervisor is not KVM, and its TLB flush may interrupt nobody; allow membarrier"
            }
            Reason::SwitchedOffByEnvironment => {
                "switched off by ASYMFENCE=symmetric; unset it to use this rung"
            }
            Reason::SwitchNotUnderstood => {
                "the value of ASYMFENCE is not known and was taken for `symmetric`; set it to \
                 `symmetric`, or unset it"
            }
            Reason::SwitchedOffByCfg => {
                "switched off at compile time by --cfg asymfence_symmetric or asymfence_tsan; build \
                 without it"
            }
        };
        f.write_str(words)
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_its_record() {
        for reason in REASONS {
            for detail in [0, 1, 38, u16::MAX] {
                let refusal = Refusal { reason, detail };
                assert_eq!(Refusal::from_word(refusal.to_word().get()), Some(refusal));
            }
        }
        assert_eq!(Refusal::from_word(0), None);
        assert_eq!(Refusal::from_word(u32::MAX), None);
    }
}
