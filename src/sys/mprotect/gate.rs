//! Where dropping write permission from a page interrupts every processor that runs the process.
//!
//! That it does is a consequence of how x86 Linux flushes TLBs, and no contract. So the gate admits
//! what is known to be sound and refuses the rest, each refusal with its reason. It looks at facts
//! and makes no call of its own.

use crate::refusal::{Failure, Reason, Refusal};
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

/// Judges the facts, and then whether the page can be locked, which is not tried before.
pub(super) fn admit(
    facts: &Facts,
    lock: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Refusal> {
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
    // A page that is not locked may be gone at the wrong moment. RLIMIT_MEMLOCK of an unprivileged user
    // may leave no room for one: no reason to stop the process.
    lock().map_err(Refusal::from)
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
    use crate::refusal::Call;

    const KVM: [u8; 12] = *b"KVMKVMKVM\0\0\0";
    const INTEL: ([u8; 12], &str) = (*b"GenuineIntel", "Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz");
    const AMD: ([u8; 12], &str) = (*b"AuthenticAMD", "AMD EPYC 7763 64-Core Processor");

    /// A machine of our making.
    #[derive(Clone, Copy, Debug)]
    struct Machine {
        /// The vendor and the brand.
        cpu: ([u8; 12], &'static str),
        hypervisor: Option<[u8; 12]>,
        invlpgb: bool,
        kernel: Option<Version>,
        plain_linux: bool,
        /// The errno with which mlock(2) meets the limit.
        lock: Option<i32>,
    }

    /// The trick is sound here; each row below changes something.
    const SOUND: Machine = Machine {
        cpu: INTEL,
        hypervisor: None,
        invlpgb: false,
        kernel: Some((5, 4)),
        plain_linux: true,
        lock: None,
    };

    fn verdict(machine: Machine) -> Result<(), Reason> {
        let (vendor, words) = machine.cpu;
        let mut brand = [0; 48];
        brand[..words.len()].copy_from_slice(words.as_bytes());
        let Machine { hypervisor, invlpgb, kernel: version, plain_linux, lock, .. } = machine;
        let facts = Facts {
            cpu: Cpu { vendor, brand, hypervisor, invlpgb },
            kernel: Kernel { version, plain_x86_linux: plain_linux },
        };
        let lock = || lock.map_or(Ok(()), |errno| Err(Failure::new(Call::Mlock, errno)));
        admit(&facts, lock).map_err(Refusal::reason)
    }

    const NO_LOCK: Reason = Reason::Failed(Call::Mlock);

    #[test]
    fn each_sentence_of_what_is_known_has_its_rows() {
        use Reason::{
            Hypervisor, Invlpgb, KernelTooNew, KernelTooOld, KernelUnknown, ProcessorUnknown,
        };
        let (major, minor) = NEWEST_KNOWN;
        let on = |cpu| Machine { cpu, ..SOUND };
        let under = |name: &[u8; 12]| Machine { hypervisor: Some(*name), ..SOUND };
        let linux = |major, minor| Machine { kernel: Some((major, minor)), ..SOUND };
        let invlpgb = |kernel| Machine { invlpgb: true, cpu: AMD, kernel, ..SOUND };
        let limited = |errno| Machine { lock: Some(errno), ..SOUND };
        let rows: &[(&str, &[Machine], Result<(), Reason>)] = &[
            ("x86 Linux interrupts, on bare metal", &[SOUND, on(AMD)], Ok(())),
            ("and as a guest of KVM", &[under(&KVM), Machine { cpu: AMD, ..under(&KVM) }], Ok(())),
            (
                "INVLPGB flushes without an interrupt, since 6.15, 6.14 in part, or a backport",
                &[
                    invlpgb(Some((5, 4))),
                    invlpgb(Some((6, 13))),
                    invlpgb(Some((6, 14))),
                    invlpgb(Some((6, 15))),
                    invlpgb(Some(NEWEST_KNOWN)),
                    Machine { hypervisor: Some(KVM), ..invlpgb(Some((6, 1))) },
                ],
                Err(Invlpgb),
            ),
            (
                "a processor without the bit cannot, on any kernel that was read",
                &[linux(6, 14), linux(6, 15), Machine { cpu: AMD, ..linux(6, 15) }],
                Ok(()),
            ),
            (
                "Remote Action Requests, and what else a newer kernel may bring, are not known",
                &[linux(major, minor + 1), linux(major + 1, 0)],
                Err(KernelTooNew),
            ),
            ("the newest kernel that was read is the last", &[linux(major, minor)], Ok(())),
            ("Hyper-V's flush is a hypercall", &[under(b"Microsoft Hv")], Err(Hypervisor)),
            ("Xen's too", &[under(b"XenVMMXenVMM")], Err(Hypervisor)),
            (
                "of other hypervisors and emulators nothing is known",
                &[under(b"VMwareVMware"), under(b"TCGTCGTCGTCG"), under(&[0; 12])],
                Err(Hypervisor),
            ),
            (
                "a binary translated on Arm: the architecture it is built for lies",
                &[
                    on((INTEL.0, "VirtualApple @ 2.50GHz")),
                    on((INTEL.0, "Box64 on Cortex-A76 @ 2.40GHz")),
                    on((AMD.0, "Cortex-X1")),
                    on((AMD.0, "")),
                    on((*b"VirtualApple", "VirtualApple @ 2.50GHz")),
                ],
                Err(ProcessorUnknown),
            ),
            (
                "a maker that is not known",
                &[on((*b"CentaurHauls", "VIA Nano")), on(([0; 12], "AMD")), on((AMD.0, INTEL.1))],
                Err(ProcessorUnknown),
            ),
            (
                "what only looks like Linux",
                &[Machine { plain_linux: false, ..SOUND }, Machine { kernel: None, ..SOUND }],
                Err(KernelUnknown),
            ),
            (
                "a page that reclaim unmapped could go without a flush from 4.3 to 4.12",
                &[linux(4, 3), linux(4, 12)],
                Err(KernelTooOld),
            ),
            (
                "kernels that are too old for membarrier are why the rung is there",
                &[linux(3, 10), linux(4, 2), linux(4, 13)],
                Ok(()),
            ),
            (
                "a lock that RLIMIT_MEMLOCK refuses (0: EPERM, too low: ENOMEM) is a refusal",
                &[limited(1), limited(12), limited(11), Machine { cpu: AMD, ..limited(12) }],
                Err(NO_LOCK),
            ),
        ];
        for &(sentence, machines, expected) in rows {
            for &machine in machines {
                assert_eq!(verdict(machine), expected, "{sentence}: {machine:?}");
            }
        }
    }

    /// One fact that is not known to be sound is enough, whatever the others are.
    #[test]
    fn of_all_combinations_only_those_of_sound_facts_are_admitted() {
        let cpus = [(INTEL, true), (AMD, true), ((INTEL.0, "VirtualApple"), false)];
        let hypervisors = [(None, true), (Some(KVM), true), (Some(*b"Microsoft Hv"), false)];
        let kernels = [
            (Some((4, 2)), true),
            (Some((4, 3)), false),
            (Some((4, 13)), true),
            (Some(NEWEST_KNOWN), true),
            (Some((NEWEST_KNOWN.0 + 1, 0)), false),
            (None, false),
        ];
        let locks = [(None, true), (Some(1), false), (Some(12), false)];
        let mut admitted = 0;
        for (cpu, a) in cpus {
            for (hypervisor, b) in hypervisors {
                for (kernel, c) in kernels {
                    for (lock, d) in locks {
                        for (invlpgb, plain_linux) in
                            [(false, true), (false, false), (true, true), (true, false)]
                        {
                            let machine =
                                Machine { cpu, hypervisor, invlpgb, kernel, plain_linux, lock };
                            let sound = a && b && c && d && !invlpgb && plain_linux;
                            assert_eq!(verdict(machine).is_ok(), sound, "{machine:?}");
                            admitted += usize::from(sound);
                        }
                    }
                }
            }
        }
        assert_eq!(admitted, 2 * 2 * 3);
    }

    #[test]
    fn no_page_is_locked_for_a_machine_that_is_refused() {
        let facts = Facts { cpu: Cpu::of_this_machine(), kernel: Kernel::running() };
        let refused = Facts { cpu: Cpu { invlpgb: true, ..facts.cpu }, ..facts };
        assert!(admit(&refused, || panic!("locked")).is_err());
    }

    #[test]
    fn this_machine_has_a_processor_with_a_name() {
        let cpu = Cpu::of_this_machine();
        assert!(cpu.vendor.iter().all(u8::is_ascii), "{cpu:?}");
        assert_ne!(cpu.brand, [0; 48]);
    }
}
