//! Where dropping write permission from a page interrupts every processor that runs the process.
//!
//! That it does is a consequence of how x86 Linux flushes TLBs, and no contract. So the gate admits
//! what is known to be sound and refuses the rest, each refusal with its reason. It looks at facts
//! and makes no call of its own.

use crate::refusal::{Reason, Refusal};
use crate::sys::kernel::{Kernel, Version};
use crate::sys::x86::__cpuid;

/// The newest kernel whose x86 TLB flush was read: `arch/x86/mm/tlb.c@v6.18` interrupts, unless the
/// processor has INVLPGB. (Intel's Remote Action Requests, which need no interrupt that fences,
/// were patches under discussion in 2025.)
pub(super) const NEWEST_KNOWN: Version = (6, 18);

/// The kernels in which a page that reclaim unmapped behind our back could go without a flush.
const PENDING_FLUSH_LOST: core::ops::Range<Version> = (4, 3)..(4, 13);

/// What the gate wants to know of a machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) cpu: Cpu,
    pub(super) kernel: Kernel,
}

/// What CPUID says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    /// Leaf 0.
    pub(super) vendor: [u8; 12],
    /// Leaves 8000_0002h to 8000_0004h: the model in words.
    pub(super) brand: [u8; 48],
    /// Leaf 1, bit 31 of ECX, and then leaf 4000_0000h: the hypervisor's signature.
    pub(super) hypervisor: Option<[u8; 12]>,
    /// Leaf 8000_0008h, bit 3 of EBX.
    pub(super) invlpgb: bool,
}

pub(super) fn admit(facts: &Facts) -> Result<(), Refusal> {
    let refuse = |reason| Err(Refusal::new(reason));

    // An x86 program translated on another processor: its mprotect is the other architecture's,
    // which broadcasts invalidations and interrupts nobody. Translators say the maker's name for
    // compatibility and their own, or the true processor's, in the brand ("VirtualApple").
    let known_maker = match &facts.cpu.vendor {
        b"GenuineIntel" => contains(&facts.cpu.brand, b"Intel"),
        b"AuthenticAMD" => contains(&facts.cpu.brand, b"AMD"),
        _ => false,
    };
    if !known_maker {
        return refuse(Reason::ProcessorUnknown);
    }
    // Hyper-V's flush is a hypercall, Xen's too; an emulator (TCG) may be anything below.
    if facts.cpu.hypervisor.is_some_and(|name| name != *b"KVMKVMKVM\0\0\0") {
        return refuse(Reason::Hypervisor);
    }
    // Since Linux 6.15 (parts since 6.14, and distributions backport) a process may be given a
    // global ASID in the middle of its life, and from then on nobody is interrupted.
    if facts.cpu.invlpgb {
        return refuse(Reason::Invlpgb);
    }
    let Kernel { version: Some(version), plain_x86_linux: true } = facts.kernel else {
        return refuse(Reason::KernelUnknown);
    };
    if version > NEWEST_KNOWN {
        return refuse(Reason::KernelTooNew);
    }
    // Reclaim unmaps pages now and flushes later since 4.3 (commit 72b252aed506); mprotect(2)
    // finishes what is pending since 4.13 (commit 3ea277194daa).
    if PENDING_FLUSH_LOST.contains(&version) {
        return refuse(Reason::KernelTooOld);
    }
    Ok(())
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

impl Facts {
    pub(super) fn of_this_machine() -> Self {
        Facts { cpu: Cpu::of_this_machine(), kernel: Kernel::running() }
    }
}

impl Cpu {
    fn of_this_machine() -> Self {
        let highest = cpuid(0x8000_0000)[0];
        let extended = |leaf| if leaf <= highest { cpuid(leaf) } else { [0; 4] };

        let [_, b, c, d] = cpuid(0);
        let vendor = bytes([b, d, c]);
        let [[a0, b0, c0, d0], [a1, b1, c1, d1], [a2, b2, c2, d2]] =
            [0x8000_0002, 0x8000_0003, 0x8000_0004].map(extended);
        let brand = bytes([a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2]);
        let hypervisor = (cpuid(1)[2] >> 31 == 1).then(|| {
            let [_, b, c, d] = cpuid(0x4000_0000);
            bytes([b, c, d])
        });
        let invlpgb = extended(0x8000_0008)[1] >> 3 & 1 == 1;
        Cpu { vendor, brand, hypervisor, invlpgb }
    }
}

/// EAX, EBX, ECX and EDX of a CPUID leaf.
fn cpuid(leaf: u32) -> [u32; 4] {
    #[allow(unused_unsafe, reason = "safe since Rust 1.94, unsafe before")]
    // SAFETY: every x86 processor that runs this library's atomics has the instruction, except a
    // few 486s; Rust's x86 targets need a Pentium at least.
    let registers = unsafe { __cpuid(leaf) };
    [registers.eax, registers.ebx, registers.ecx, registers.edx]
}

fn bytes<const WORDS: usize, const BYTES: usize>(words: [u32; WORDS]) -> [u8; BYTES] {
    const { assert!(BYTES == 4 * WORDS) };
    let mut bytes = [0; BYTES];
    for (four, word) in bytes.chunks_exact_mut(4).zip(words) {
        four.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const KVM: [u8; 12] = *b"KVMKVMKVM\0\0\0";

    fn brand(words: &str) -> [u8; 48] {
        let mut brand = [0; 48];
        brand[..words.len()].copy_from_slice(words.as_bytes());
        brand
    }

    /// A machine on which the trick is sound; each row below changes one thing.
    fn sound() -> Facts {
        Facts {
            cpu: Cpu {
                vendor: *b"GenuineIntel",
                brand: brand("Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz"),
                hypervisor: None,
                invlpgb: false,
            },
            kernel: Kernel { version: Some((5, 4)), plain_x86_linux: true },
        }
    }

    #[track_caller]
    fn verdict(change: impl FnOnce(&mut Facts)) -> Result<(), Reason> {
        let mut facts = sound();
        change(&mut facts);
        admit(&facts).map_err(Refusal::reason)
    }

    #[test]
    fn bare_metal_and_kvm_are_admitted() {
        assert_eq!(verdict(|_| {}), Ok(()));
        assert_eq!(verdict(|f| f.cpu.hypervisor = Some(KVM)), Ok(()));
        assert_eq!(
            verdict(|f| {
                f.cpu.vendor = *b"AuthenticAMD";
                f.cpu.brand = brand("AMD EPYC 7763 64-Core Processor");
            }),
            Ok(())
        );
    }

    #[test]
    fn kernels_too_old_for_membarrier_are_admitted() {
        assert_eq!(verdict(|f| f.kernel.version = Some((3, 10))), Ok(()));
        assert_eq!(verdict(|f| f.kernel.version = Some((4, 2))), Ok(()));
    }

    #[test]
    fn kernels_that_lose_a_pending_flush_are_refused() {
        for (version, verdict_on_it) in [
            ((4, 2), Ok(())),
            ((4, 3), Err(Reason::KernelTooOld)),
            ((4, 12), Err(Reason::KernelTooOld)),
            ((4, 13), Ok(())),
        ] {
            assert_eq!(verdict(|f| f.kernel.version = Some(version)), verdict_on_it, "{version:?}");
        }
    }

    #[test]
    fn the_newest_known_kernel_is_the_last_one_admitted() {
        let (major, minor) = NEWEST_KNOWN;
        assert_eq!(verdict(|f| f.kernel.version = Some((major, minor))), Ok(()));
        for newer in [(major, minor + 1), (major + 1, 0)] {
            assert_eq!(verdict(|f| f.kernel.version = Some(newer)), Err(Reason::KernelTooNew));
        }
    }

    #[test]
    fn invlpgb_is_refused_on_every_kernel() {
        for kernel in [(5, 4), (6, 13), (6, 15), NEWEST_KNOWN] {
            let verdict = verdict(|f| {
                f.cpu.invlpgb = true;
                f.kernel.version = Some(kernel);
            });
            assert_eq!(verdict, Err(Reason::Invlpgb), "{kernel:?}");
        }
    }

    #[test]
    fn every_other_hypervisor_is_refused() {
        for name in [b"Microsoft Hv", b"XenVMMXenVMM", b"TCGTCGTCGTCG", b"VMwareVMware", &[0; 12]] {
            let verdict = verdict(|f| f.cpu.hypervisor = Some(*name));
            assert_eq!(verdict, Err(Reason::Hypervisor), "{name:?}");
        }
    }

    #[test]
    fn translated_binaries_are_refused() {
        for (vendor, model) in [
            (b"GenuineIntel", "VirtualApple @ 2.50GHz"),
            (b"GenuineIntel", "Box64 on Cortex-A76 @ 2.40GHz"),
            (b"AuthenticAMD", "Cortex-X1"),
            (b"AuthenticAMD", ""),
            (b"VirtualApple", "VirtualApple @ 2.50GHz"),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", "AMD"),
        ] {
            let verdict = verdict(|f| {
                f.cpu.vendor = *vendor;
                f.cpu.brand = brand(model);
            });
            assert_eq!(verdict, Err(Reason::ProcessorUnknown), "{model}");
        }
    }

    #[test]
    fn what_does_not_look_like_linux_is_refused() {
        assert_eq!(verdict(|f| f.kernel.plain_x86_linux = false), Err(Reason::KernelUnknown));
        assert_eq!(verdict(|f| f.kernel.version = None), Err(Reason::KernelUnknown));
    }

    #[test]
    fn this_machine_has_a_processor_with_a_name() {
        let cpu = Cpu::of_this_machine();
        assert!(cpu.vendor.iter().all(u8::is_ascii), "{cpu:?}");
        assert_ne!(cpu.brand, [0; 48]);
    }
}
