//! Where dropping write permission from a page interrupts every processor that runs the process.
//!
//! That it does is a consequence of how x86 Linux flushes TLBs, and no contract. So the gate admits
//! what is known to be sound and refuses the rest, each refusal with its reason. It looks at facts
//! and makes no call of its own.
//!
//! # Whom the flush passes over, and why that is sound
//!
//! `flush_tlb_mm_range` (arch/x86/mm/tlb.c@v6.18) increments `tlb_gen` by a locked instruction, which is a full
//! barrier. Then it interrupts the processors in `mm_cpumask` and waits for them. It passes over these (over the first
//! and the third by `should_flush_tlb`):
//!
//! - *Processors with another process.* A thread of ours that ran there has passed the full barrier of `__schedule`
//!   (`rq_lock`, `smp_mb__after_spinlock`; kernel/sched/core.c). One that is to run there will pass the write to CR3 of
//!   `switch_mm_irqs_off`, which serializes. The flush decides by `loaded_mm`. If it reads another process there, the
//!   processor has not written CR3 for ours yet, so whatever our thread does there comes after the flush began. (While
//!   the processor switches, `loaded_mm` must be `LOADED_MM_SWITCHING`, so that the flush does not exclude it: commit
//!   fea4e317f9e7.)
//! - *Processors that are not in `mm_cpumask`.* A processor sets its bit by a locked instruction, a full barrier, before
//!   it writes CR3 for our process. So if the flush does not find the bit, whatever our thread does there comes after the
//!   flush began. The bit is cleared only when the processor has another process loaded. A thread of ours that ran there
//!   has passed the full barrier of `__schedule`.
//! - *Lazy processors*, which run a kernel thread with our page tables. Our thread passed the full barrier of
//!   `__schedule` when the processor became lazy. Before our thread runs there again, the processor passes `__schedule`
//!   once more, and the `smp_mb()` that `switch_mm_irqs_off` executes if our process is still loaded. The flush and
//!   this return are ordered by `is_lazy` and `tlb_gen`: one of the two sees the other.
//! - *Preempted vCPUs of a guest of KVM.* `kvm_flush_tlb_multi` (arch/x86/kernel/kvm.c@v6.18) does not interrupt a vCPU
//!   that the host has marked preempted; it sets KVM_VCPU_FLUSH_TLB in the mark, by a locked exchange that fails if the
//!   vCPU has come back. The host writes the mark after VM exit, and x86 keeps stores in order: a processor that sees
//!   the mark sees what the vCPU stored before. The host takes it back by a locked exchange, a full barrier, before VM
//!   entry (`record_steal_time`, arch/x86/kvm/x86.c@v6.18): what the vCPU loads then is not older than the flush.
//!
//! # Kernels whose flush passes over one too many
//!
//! Since commit 6db2526c1d69 (6.14) the flush excludes processors whose `loaded_mm` is another process, also between
//! the write to CR3 and that of `loaded_mm` (CVE-2025-37964). Commit fea4e317f9e7 closed this window (6.15-rc6). Its
//! backports are at the wrong place: they mark `loaded_mm` after `tlb_gen` was read, so that a processor may go on with
//! a stale TLB entry (S. Dolan, linux-kernel, 2025-10-09). Mainline marks `loaded_mm` before it reads `tlb_gen`, but
//! had no barrier between this store and this load until commit 83b0177a6c48 (6.18-rc2, and 6.17.5; CVE-2025-40174). A
//! stale entry may be as bad here as a missing interrupt. If it still permits writing, the next write to the page goes
//! through it without a fault. If the mprotect(2) before that write left the page table entry read-only, because the
//! page is shared since a fork for example, it stays read-only. Then the next mprotect(2) may find nothing to flush,
//! and interrupt nobody. On which kernels that can happen was not worked out, so all of them are refused.
//!
//! The first releases that have the fault are from the record of CVE-2025-37964: 5.15.179, 6.1.129, 6.6.79, 6.12.16,
//! 6.13.4, 6.14. Of the older stable trees only 6.12 is known to have the repair, from 6.12.97 on (commit
//! 0650f1c8b6b0). A kernel whose release number does not tell what is in it, as a distribution's `6.1.0-44-amd64`, is
//! refused.

use core::num::NonZeroU32;

use crate::refusal::{Reason, Refusal};
use crate::sys::kernel::{Kernel, Version};
use crate::sys::x86::__cpuid;

/// The newest kernel whose x86 TLB flush was read: arch/x86/mm/tlb.c@v7.2 interrupts, unless the
/// processor has INVLPGB. (Intel's Remote Action Requests, which need no interrupt that fences,
/// were patches under discussion in 2025.)
pub(super) const NEWEST_KNOWN: Version = (7, 2);

/// Kernels between 6.18 and the newest that was read: the flush of none of them was read.
const NOT_READ: core::ops::Range<Version> = (6, 19)..NEWEST_KNOWN;

/// The kernels in which a page that reclaim unmapped behind our back could go without a flush.
const PENDING_FLUSH_LOST: core::ops::Range<Version> = (4, 3)..(4, 13);

/// The kernels that may have commit 6db2526c1d69 without its repairs: by a backport, or, from 6.14 on, as their own.
/// Before 4.13 there is nothing that it could change (`cpu_tlbstate.loaded_mm` came with commit 3d28ebceaffa). 4.13 was
/// given up long before that commit, and nobody is known to have backported it there.
const MAY_SKIP: core::ops::Range<Version> = (4, 14)..(6, 18);

/// The levels of stable trees in that range that are known to be sound.
const SOUND_LEVELS: [(Version, core::ops::Range<u32>); 10] = [
    ((4, 14), 1..u32::MAX),
    ((4, 19), 1..u32::MAX),
    ((5, 4), 1..u32::MAX),
    ((5, 10), 1..u32::MAX),
    ((5, 15), 1..179),
    ((6, 1), 1..129),
    ((6, 6), 1..79),
    ((6, 12), 1..16),
    ((6, 12), 97..u32::MAX),
    ((6, 17), 5..u32::MAX),
];

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

/// Judges the processor.
pub(super) fn admit_processor(cpu: &Cpu) -> Result<(), Refusal> {
    let refuse = |reason| Err(Refusal::new(reason));

    // An x86 program may be translated, and run on another architecture. Then its mprotect(2) is that architecture's,
    // which may broadcast TLB invalidations and interrupt nobody. Translators report a known vendor, for compatibility,
    // but their own name or that of the real processor in the brand string ("VirtualApple").
    let known_maker = match &cpu.vendor {
        b"GenuineIntel" => contains(&cpu.brand, b"Intel"),
        b"AuthenticAMD" => contains(&cpu.brand, b"AMD"),
        _ => false,
    };
    if !known_maker {
        return refuse(Reason::ProcessorUnknown);
    }
    // Hyper-V's flush is a hypercall, Xen's too; and an emulator (TCG) may run on any processor.
    if cpu.hypervisor.is_some_and(|name| name != *b"KVMKVMKVM\0\0\0") {
        return refuse(Reason::Hypervisor);
    }
    // Since Linux 6.15 (parts since 6.14, and distributions backport) a process may be given a
    // global ASID in the middle of its life, and from then on nobody is interrupted.
    if cpu.invlpgb {
        return refuse(Reason::Invlpgb);
    }
    Ok(())
}

/// Judges whether this thread may execute CPUID, by the answer to arch_prctl(2) ARCH_GET_CPUID: if not, CPUID is SIGSEGV.
/// Since Linux 4.12 it can be forbidden, and one can ask.
pub(super) fn admit_cpuid(answer: isize, version: Option<Version>) -> Result<(), Refusal> {
    let cannot_be_forbidden = version.is_some_and(|version| version < (4, 12));
    match answer {
        1 => Ok(()),
        ..=-1 if cannot_be_forbidden => Ok(()),
        _ => Err(Refusal::new(Reason::ProcessorUnknown)),
    }
}

/// Judges the kernel.
pub(super) fn admit_kernel(kernel: &Kernel) -> Result<(), Refusal> {
    let refuse = |reason| Err(Refusal::new(reason));

    let Kernel { version: Some(version), level, is_candidate, plain_x86_linux: true } = *kernel
    else {
        return refuse(Reason::KernelUnknown);
    };
    if version > NEWEST_KNOWN || NOT_READ.contains(&version) {
        return refuse(Reason::KernelTooNew);
    }
    // Reclaim unmaps pages now and flushes later since 4.3 (commit 72b252aed506); mprotect(2)
    // finishes what is pending since 4.13 (commit 3ea277194daa, which came between two of its candidates).
    let is_candidate_of = |repaired: Version| is_candidate && version == repaired;
    if PENDING_FLUSH_LOST.contains(&version) || is_candidate_of(PENDING_FLUSH_LOST.end) {
        return refuse(Reason::KernelTooOld);
    }
    let is_sound_level = |level: NonZeroU32| {
        let level = level.get();
        SOUND_LEVELS.iter().any(|(tree, sound)| *tree == version && sound.contains(&level))
    };
    // The last fix came between two candidates.
    let is_told = if MAY_SKIP.contains(&version) {
        !is_candidate && level.is_some_and(is_sound_level)
    } else {
        !is_candidate_of(MAY_SKIP.end)
    };
    if is_told { Ok(()) } else { refuse(Reason::KernelMaySkip) }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

impl Cpu {
    pub(super) fn of_this_machine() -> Self {
        let highest = cpuid(0x8000_0000)[0];
        // guard survives: by `<` a processor whose highest leaf is the last that is asked for counts as one without
        // INVLPGB. AMD alone has that, and its processors with it have more leaves.
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
        Cpu { vendor, brand, hypervisor, invlpgb: has_invlpgb(extended(0x8000_0008)) }
    }
}

/// Whether this answer to CPUID Fn8000_0008 lists INVLPGB: EBX bit 3 (AMD64 Architecture Programmer's Manual,
/// volume 3, appendix E; `X86_FEATURE_INVLPGB` in arch/x86/include/asm/cpufeatures.h@v6.18).
fn has_invlpgb([_, b, _, _]: [u32; 4]) -> bool {
    b >> 3 & 1 == 1
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
        level: u32,
        is_candidate: bool,
        plain_linux: bool,
    }

    /// The trick is sound here; each row below changes something.
    const SOUND: Machine = Machine {
        cpu: INTEL,
        hypervisor: None,
        invlpgb: false,
        kernel: Some((6, 18)),
        level: 0,
        is_candidate: false,
        plain_linux: true,
    };

    fn verdict(machine: Machine) -> Result<(), Reason> {
        let (vendor, words) = machine.cpu;
        let mut brand = [0; 48];
        brand[..words.len()].copy_from_slice(words.as_bytes());
        let Machine { hypervisor, invlpgb, kernel: version, level, is_candidate, .. } = machine;
        let level = NonZeroU32::new(level);
        let kernel = Kernel { version, level, is_candidate, plain_x86_linux: machine.plain_linux };
        let cpu = Cpu { vendor, brand, hypervisor, invlpgb };
        admit_kernel(&kernel).and_then(|()| admit_processor(&cpu)).map_err(Refusal::reason)
    }

    #[test]
    fn each_sentence_of_what_is_known_has_its_rows() {
        use Reason::{
            Hypervisor, Invlpgb, KernelMaySkip, KernelTooNew, KernelTooOld, KernelUnknown,
            ProcessorUnknown,
        };
        let (major, minor) = NEWEST_KNOWN;
        let on = |cpu| Machine { cpu, ..SOUND };
        let under = |name: &[u8; 12]| Machine { hypervisor: Some(*name), ..SOUND };
        let linux = |major, minor, level| Machine { kernel: Some((major, minor)), level, ..SOUND };
        let candidate = |major, minor| Machine { is_candidate: true, ..linux(major, minor, 0) };
        let invlpgb = |kernel| Machine { invlpgb: true, cpu: AMD, kernel, level: 100, ..SOUND };
        let rows: &[(&str, &[Machine], Result<(), Reason>)] = &[
            ("x86 Linux interrupts, on bare metal", &[SOUND, on(AMD)], Ok(())),
            ("and as a guest of KVM", &[under(&KVM), Machine { cpu: AMD, ..under(&KVM) }], Ok(())),
            (
                "INVLPGB flushes without an interrupt, since 6.15, 6.14 in part, or a backport",
                &[
                    invlpgb(Some((5, 4))),
                    invlpgb(Some((6, 12))),
                    invlpgb(Some((6, 17))),
                    invlpgb(Some(NEWEST_KNOWN)),
                    Machine { hypervisor: Some(KVM), ..invlpgb(Some((6, 1))) },
                ],
                Err(Invlpgb),
            ),
            (
                "Remote Action Requests, and what else a newer kernel may bring, are not known",
                &[linux(major, minor + 1, 0), linux(major + 1, 0, 0), linux(major, minor + 1, 7)],
                Err(KernelTooNew),
            ),
            (
                "what was not read between two that were",
                &[linux(6, 19, 0), linux(6, 19, 5), linux(7, 0, 0), linux(7, 1, 9)],
                Err(KernelTooNew),
            ),
            ("the newest kernel that was read is the last", &[linux(major, minor, 0)], Ok(())),
            // Numbers, not the constant: raise it only after reading the sources of what lies
            // between.
            ("nobody has read beyond 7.2", &[linux(7, 3, 0), linux(7, 9, 1)], Err(KernelTooNew)),
            ("7.2 was read", &[linux(7, 2, 0), linux(7, 2, 3)], Ok(())),
            ("Hyper-V's flush is a hypercall", &[under(b"Microsoft Hv")], Err(Hypervisor)),
            ("Xen's too", &[under(b"XenVMMXenVMM")], Err(Hypervisor)),
            (
                "of other hypervisors and emulators nothing is known",
                &[under(b"VMwareVMware"), under(b"TCGTCGTCGTCG"), under(&[0; 12])],
                Err(Hypervisor),
            ),
            (
                "a binary translated on Arm: what it was built for is not what it runs on",
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
                "a page that reclaim unmapped could go without a flush from 4.3 to 4.12, or a candidate of 4.13",
                &[linux(4, 3, 0), linux(4, 12, 14), candidate(4, 12), candidate(4, 13)],
                Err(KernelTooOld),
            ),
            (
                "kernels that are too old for membarrier are why the rung is there",
                &[linux(3, 10, 0), linux(4, 2, 0), linux(4, 13, 0), linux(2, 6, 32)],
                Ok(()),
            ),
            (
                "stable trees before commit 6db2526c1d69",
                &[
                    linux(4, 14, 336),
                    linux(4, 19, 325),
                    linux(5, 4, 290),
                    linux(5, 10, 240),
                    linux(5, 15, 178),
                    linux(6, 1, 128),
                    linux(6, 6, 78),
                    linux(6, 12, 15),
                ],
                Ok(()),
            ),
            (
                "and from it on, also with the first fix at the wrong place",
                &[
                    linux(5, 15, 179),
                    linux(5, 15, 183),
                    linux(5, 15, 200),
                    linux(6, 1, 129),
                    linux(6, 1, 139),
                    linux(6, 1, 172),
                    linux(6, 6, 79),
                    linux(6, 6, 91),
                    linux(6, 12, 16),
                    linux(6, 12, 29),
                    linux(6, 12, 96),
                    linux(6, 13, 4),
                ],
                Err(KernelMaySkip),
            ),
            ("until the second", &[linux(6, 12, 97), linux(6, 12, 200)], Ok(())),
            (
                "mainline had the fault from 6.14, and missed a barrier until 6.17.5 and 6.18-rc2",
                &[
                    linux(6, 14, 0),
                    linux(6, 14, 7),
                    linux(6, 15, 1),
                    linux(6, 16, 12),
                    linux(6, 17, 4),
                    candidate(6, 15),
                    candidate(6, 17),
                    candidate(6, 18),
                ],
                Err(KernelMaySkip),
            ),
            (
                "it has neither since",
                &[
                    linux(6, 17, 5),
                    linux(6, 17, 13),
                    linux(6, 18, 0),
                    linux(6, 18, 44),
                    candidate(7, 2),
                ],
                Ok(()),
            ),
            (
                "a distribution's number says nothing of what is in it",
                &[
                    linux(4, 18, 0),
                    linux(5, 14, 0),
                    linux(5, 14, 21),
                    linux(5, 15, 0),
                    linux(6, 1, 0),
                    linux(6, 8, 12),
                    linux(6, 11, 0),
                    linux(6, 12, 0),
                ],
                Err(KernelMaySkip),
            ),
        ];
        for &(sentence, machines, expected) in rows {
            for &machine in machines {
                assert_eq!(verdict(machine), expected, "{sentence}: {machine:?}");
            }
        }
    }

    #[test]
    fn where_cpuid_is_forbidden_or_nobody_says_that_it_is_not_the_processor_is_not_known() {
        for (answer, version, admitted) in [
            (1, (6, 18), true),
            (0, (6, 18), false),
            (0, (4, 2), false),
            (-1, (6, 18), false),
            (-38, (4, 12), false),
            (-22, (4, 11), true),
            (-38, (3, 10), true),
            (2, (4, 11), false),
        ] {
            assert_eq!(admit_cpuid(answer, Some(version)).is_ok(), admitted, "{answer}");
        }
        assert!(admit_cpuid(-1, None).is_err());
    }

    /// One fact that is not known to be sound is enough, whatever the others are.
    #[test]
    fn of_all_combinations_only_those_of_sound_facts_are_admitted() {
        let cpus = [(INTEL, true), (AMD, true), ((INTEL.0, "VirtualApple"), false)];
        let hypervisors = [(None, true), (Some(KVM), true), (Some(*b"Microsoft Hv"), false)];
        let kernels = [
            (Some((4, 2)), 0, true),
            (Some((4, 3)), 0, false),
            (Some((5, 4)), 200, true),
            (Some((5, 4)), 0, false),
            (Some((6, 14)), 3, false),
            (Some(NEWEST_KNOWN), 0, true),
            (Some((NEWEST_KNOWN.0 + 1, 0)), 0, false),
            (None, 0, false),
        ];
        let mut admitted = 0;
        for (cpu, a) in cpus {
            for (hypervisor, b) in hypervisors {
                for (kernel, level, c) in kernels {
                    for (invlpgb, plain_linux) in
                        [(false, true), (false, false), (true, true), (true, false)]
                    {
                        let is_candidate = false;
                        let machine = Machine {
                            cpu,
                            hypervisor,
                            invlpgb,
                            kernel,
                            level,
                            is_candidate,
                            plain_linux,
                        };
                        let sound = a && b && c && !invlpgb && plain_linux;
                        assert_eq!(verdict(machine).is_ok(), sound, "{machine:?}");
                        admitted += usize::from(sound);
                    }
                }
            }
        }
        assert_eq!(admitted, 2 * 2 * 3);
    }

    #[test]
    fn invlpgb_is_one_bit() {
        for bit in 0..32 {
            assert_eq!(has_invlpgb([0, 1 << bit, 0, 0]), bit == 3, "EBX bit {bit}");
            assert!(!has_invlpgb([1 << bit, 0, 1 << bit, 1 << bit]), "EBX alone");
        }
    }

    /// The kernel may hide a feature that the processor has. So a feature that the kernel lists must be found by CPUID,
    /// but not the other way round.
    #[cfg(feature = "std")]
    #[test]
    fn what_the_kernel_says_of_this_processor_is_seen() {
        if !crate::ledger::has_procfs() {
            return;
        }
        let cpu = Cpu::of_this_machine();
        let info = std::fs::read_to_string("/proc/cpuinfo").expect("a file of procfs");
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(": ").map(|(_, text)| text.trim()).unwrap_or_default()
        };
        let has = |flag: &str| field("flags").split(' ').any(|known| known == flag);
        assert_eq!(cpu.vendor, field("vendor_id").as_bytes());
        let brand = core::str::from_utf8(&cpu.brand).expect("ASCII");
        assert_eq!(brand.trim_matches(['\0', ' ']), field("model name"));
        assert_eq!(cpu.hypervisor.is_some(), has("hypervisor"));
        assert!(cpu.invlpgb || !has("invlpgb"));
    }
}
