//! Why a mechanism cannot be used here: as text, and packed into a 32-bit word for a lock-free record.

use core::fmt;
use core::num::NonZeroU32;

pub use crate::failure::{Call, Failure};

/// The reasons, their words and their codes, from one list: a reason that is missing in any place does not compile.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $words:literal,)*) => {
        /// The kind of a [`Refusal`].
        ///
        /// ```
        /// use asymfence::{Reason, Verdict, init, ladder};
        ///
        /// init();
        /// let is_off = ladder().any(|report| match report.verdict {
        ///     Verdict::Refused(refusal) => refusal.reason() == Reason::SwitchedOffByEnvironment,
        ///     _ => false,
        /// });
        /// # assert_eq!(is_off, std::env::var("ASYMFENCE").is_ok_and(|word| word == "symmetric"));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            /// This call of the trial run failed; [`Refusal::failure`] has the errno.
            Failed(Call),
            $($(#[$doc])* $name,)*
        }

        /// The code of each reason other than a failed call.
        #[repr(u16)]
        enum Code {
            $($name,)*
        }

        impl Reason {
            #[cfg(test)]
            const WITHOUT_A_CALL: &[Reason] = &[$(Reason::$name,)*];

            /// Calls first, then the other reasons.
            const fn code(self) -> u16 {
                match self {
                    Reason::Failed(call) => call as u16,
                    $(Reason::$name => CALLS + Code::$name as u16,)*
                }
            }

            /// The inverse of [`code`](Self::code).
            fn from_code(code: u16) -> Option<Self> {
                if let Some(&call) = Call::ALL.get(usize::from(code)) {
                    return Some(Reason::Failed(call));
                }
                match code.checked_sub(CALLS)? {
                    $(code if code == Code::$name as u16 => Some(Reason::$name),)*
                    _ => None,
                }
            }

            /// What it means and what to do. A failed call has the words of its [`Failure`] instead.
            const fn words(self) -> &'static str {
                match self {
                    Reason::Failed(_) => "",
                    $(Reason::$name => $words,)*
                }
            }
        }
    };
}

/// The codes of the calls come first.
const CALLS: u16 = Call::ALL.len() as u16;

reasons! {
    /// QUERY did not list the commands: an old kernel; between processes, one that was booted with `nohz_full`; or a
    /// sandbox that answers in its place.
    CommandsNotOffered:
        "QUERY does not list PRIVATE_EXPEDITED (0x8) and its registration (0x10), or, for fences between \
         processes, GLOBAL (0x1): the kernel is older than 4.14, or (between processes) it was booted with \
         nohz_full, or a sandbox answers in its place",
    /// A membarrier command that does not exist was not answered with EINVAL, or a call with a flag that it does not take
    /// succeeded.
    AcceptsNonsense:
        "a membarrier command that does not exist was not answered with EINVAL, or a call with a flag that it does \
         not take succeeded: a sandbox or an emulator answers in the kernel's place; let the kernel answer",
    /// The kernel has the call, but in this version it may not always be a barrier (membarrier on riscv before Linux
    /// 6.9; mprotect from 4.3 to candidates of 4.13). The level of a stable kernel is not compared, so a kernel with a
    /// backport of the fix is refused too, such as 6.6.51 on riscv.
    KernelTooOld:
        "in kernels of this version the call is not always a full barrier (membarrier on riscv before 6.9; mprotect \
         from 4.3 to candidates of 4.13); update the kernel",
    /// The kernel's documentation does not say that its switch between processes is the barrier that
    /// membarrier(2) relies on, for this architecture.
    ArchitectureNotListed:
        "the kernel's documentation (Documentation/scheduler/membarrier.rst) does not list this architecture \
         among those whose context switch gives membarrier its barrier; nothing can be done until it does",
    /// The kernel's TLB flush may pass over a processor that is just switching to the process (CVE-2025-37964,
    /// CVE-2025-40174), or its release does not tell whether it does.
    KernelMaySkip:
        "this kernel's TLB flush may skip a processor (CVE-2025-37964, CVE-2025-40174), or its release \
         number does not say whether that is fixed, as with a distribution's kernel; allow membarrier, or run \
         Linux 6.18",
    /// Android below API level 29, whose sandbox ends a process that calls membarrier; FreeBSD before
    /// 14.1, which has none and may send SIGSYS. The call was not made.
    SystemTooOld:
        "membarrier cannot be tried safely here: the system is too old (Android below API level 29, FreeBSD \
         before 14.1), or does not say how old it is; update it",
    /// Wine or Proton in the place of Windows: their `FlushProcessWriteBuffers` may do nothing.
    Wine:
        "this is Wine or Proton, whose FlushProcessWriteBuffers may return without interrupting any thread; \
         run the program on Windows, or build it for the host system",
    /// A kernel whose TLB shoot-down the authors of this crate have not read (6.19 to 7.1, and newer than 7.2): it may need
    /// no interrupt.
    KernelTooNew:
        "this crate does not know this version of the kernel, whose TLB shoot-down might not interrupt every \
         processor; allow membarrier, or update asymfence",
    /// Not a Linux kernel, or one that hides what it is.
    KernelUnknown:
        "this is not known to be a plain Linux kernel (it may be gVisor, WSL1, Xen or run translated binaries; or \
         there is no /proc, /sys or free file descriptor to find out), and another kernel's mprotect may interrupt \
         no processor; mount /proc and /sys, or allow membarrier",
    /// The call is a full barrier only since some version of the kernel (membarrier on riscv: 6.9), and the version of this
    /// one cannot be read.
    KernelVersionUnknown:
        "the call is a full barrier only since some version of the kernel (membarrier on riscv: 6.9), and the \
         version of this one cannot be read; mount /proc, and leave a file descriptor free",
    /// A processor that can invalidate other processors' TLBs without an interrupt.
    Invlpgb:
        "the processor has INVLPGB, by which Linux flushes other processors' TLBs without \
         interrupting them; allow membarrier",
    /// Not an x86 processor of a known maker: perhaps a translated binary. Or CPUID is forbidden to the thread that
    /// asks.
    ProcessorUnknown:
        "the maker of the processor is not known, so the binary may be a translated one; or this thread may not \
         execute CPUID (arch_prctl(2) ARCH_SET_CPUID); allow membarrier",
    /// A hypervisor other than KVM, whose TLB flush makes no promise of an interrupt.
    Hypervisor:
        "the hypervisor is not KVM, and its TLB flush may interrupt no processor; allow membarrier",
    /// Switched off by `ASYMFENCE=symmetric`.
    SwitchedOffByEnvironment:
        "switched off by ASYMFENCE=symmetric; start the program without it to use this rung",
    /// `ASYMFENCE` holds a word that is not known; it is taken for `symmetric`, the safe reading.
    SwitchNotUnderstood:
        "the value of ASYMFENCE is not known, and was read as `symmetric`; set it to `symmetric`, or \
         unset it",
    /// Switched off at compile time by `--cfg asymfence_symmetric` or `--cfg asymfence_tsan`.
    SwitchedOffByCfg:
        "switched off at compile time by --cfg asymfence_symmetric or asymfence_tsan; build without it",
}

/// Why a rung cannot be used here. `Display` says what to do about it.
///
/// ```
/// use asymfence::{Verdict, init, ladder};
///
/// init();
/// for report in ladder() {
///     if let Verdict::Refused(refusal) = report.verdict {
///         println!("{} cannot be used: {refusal}", report.strategy);
///     }
/// }
/// ```
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
            Reason::Failed(call) => Some(Failure::new(call, self.detail as i32)),
            _ => None,
        }
    }

    /// Packed into one word, so that a lock-free record can hold it; 0 is left for "none".
    pub(crate) const fn to_word(self) -> NonZeroU32 {
        let code = self.reason.code() as u32 + 1;
        NonZeroU32::new(code << 16 | self.detail as u32).expect("the code is not 0")
    }

    /// The inverse of [`to_word`](Self::to_word); `None` for 0.
    pub(crate) fn from_word(word: u32) -> Option<Self> {
        let code = ((word >> 16) as u16).checked_sub(1)?;
        Some(Refusal { reason: Reason::from_code(code)?, detail: word as u16 })
    }
}

impl Failure {
    /// Packed into one word, as [`Coalesce`](crate::Coalesce) takes the failure of any call.
    pub(crate) fn to_word(self) -> NonZeroU32 {
        Refusal::from(self).to_word()
    }

    /// The inverse of [`to_word`](Self::to_word).
    pub(crate) fn from_word(word: NonZeroU32) -> Self {
        let refusal = Refusal::from_word(word.get());
        refusal.and_then(Refusal::failure).expect("the word was a failure's")
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal { reason: Reason::Failed(failure.call()), detail: failure.errno() as u16 }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refusal").field(&self.reason).field(&self.detail).finish()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(failure) = self.failure() {
            return failure.fmt(f);
        }
        f.write_str(self.reason.words())?;
        match self.reason {
            Reason::CommandsNotOffered => write!(f, " (it answers {:#x})", self.detail),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_refusal_survives_its_record() {
        let failed = Call::ALL.iter().map(|&call| Reason::Failed(call));
        let mut words = std::collections::BTreeSet::new();
        for reason in failed.chain(Reason::WITHOUT_A_CALL.iter().copied()) {
            for detail in [0, 1, 38, u16::MAX] {
                let refusal = Refusal { reason, detail };
                assert_eq!(Refusal::from_word(refusal.to_word().get()), Some(refusal));
            }
            assert!(
                words.insert(Refusal::new(reason).to_string()),
                "{reason:?} has another's words"
            );
        }
        assert_eq!(Refusal::from_word(0), None);
        assert_eq!(Refusal::from_word(u32::MAX), None);
    }
}
