//! The ladder: the mechanisms of this target, best first, and the barrier of the light side.
//!
//! A rung is one file with a `RUNG` in it and one line in `ladder!` below. This is the one file
//! that asks which system, processor or interpreter it is built for.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering, Ordering::Relaxed};

use crate::refusal::{Failure, Refusal};

/// One way to make every other thread of the process pass a full barrier.
pub(crate) struct Mechanism {
    pub(crate) name: &'static str,

    /// Judges the files and the processor, which a later `probe` may be unable to read. Called before `probe`. If the
    /// process commits to a rung, it is called for every rung, also for those that are not taken.
    pub(crate) admit: fn() -> Result<(), Refusal>,

    /// Finds out whether `call` is a barrier on this machine, by what the system promises and by trial calls (of `call`
    /// itself, or of others that show that the kernel answers), and gets it ready. May run more than once, and in
    /// several threads at a time. On targets with more than one rung it opens no file, since `stand_in` calls it after
    /// the decision: what must be read is for `admit`.
    pub(crate) probe: fn() -> Result<(), Refusal>,

    /// Every other thread of the process executes a full barrier between the call and the return.
    /// Only after a `probe` that succeeded. Orders nothing for the caller itself.
    pub(crate) call: fn() -> Result<(), Failure>,

    /// How a caller waits for the call of another. `None` if calls are not shared. A model does not share them, since
    /// `Coalesce` has models of its own. Callers of GLOBAL share a grace period in the kernel anyway. On FreeBSD and
    /// Windows nobody has measured whether sharing pays.
    pub(crate) waiting: Option<Waiting>,

    /// Registers again for `call`, after the kernel answered that the process is not registered. `None` if the rung
    /// needs no registration. Then the decision does not wait for forks (FORKED-TOGETHER).
    pub(crate) register: Option<fn() -> Result<(), Failure>>,
}

/// What a caller may do while it waits for the call of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It spins, and makes no system call: for calls that are short.
    #[allow(dead_code, reason = "no rung of some targets")]
    Awake,
    /// It sleeps for a part of the time, if calls are long.
    Asleep,
}

macro_rules! ladder {
    ($($(#[$on:meta])* mod $rung:ident;)*) => {
        $($(#[$on])* pub(crate) mod $rung;)*
        /// The rungs of this target. Their order is the order of the climb.
        pub(crate) const LADDER: &[Mechanism] = &[$($(#[$on])* $rung::RUNG,)*];
    };
}

ladder! {
    #[cfg(all(any(target_os = "linux", target_os = "android"), not(any(miri, feature = "loom"))))]
    mod private_expedited;
    // On x86_64 alone: its head says why.
    #[cfg(all(target_os = "freebsd", target_arch = "x86_64", not(any(miri, feature = "loom"))))]
    mod private_expedited_freebsd;
    #[cfg(all(windows, not(any(miri, feature = "loom"))))]
    mod flush_process_write_buffers;
    #[cfg(all(target_os = "linux", any(target_arch = "x86", target_arch = "x86_64"), not(any(miri, feature = "loom"))))]
    mod mprotect;
    #[cfg(feature = "loom")]
    mod modelled;
}

/// Declares what there is on Linux alone.
macro_rules! on_linux {
    ($($item:item)*) => {
        $(#[cfg(target_os = "linux")] $item)*
    };
}
pub(crate) use on_linux;

#[cfg(any(target_os = "linux", target_os = "android"))]
#[cfg_attr(
    any(miri, feature = "loom"),
    allow(dead_code, reason = "the ladder's rungs are not built")
)]
pub(crate) mod kernel;
#[cfg(any(target_os = "linux", target_os = "android"))]
#[cfg_attr(
    any(miri, feature = "loom"),
    allow(dead_code, reason = "the ladder's rungs are not built")
)]
pub(crate) mod membarrier;

on_linux! {
    #[cfg(all(feature = "std", not(feature = "loom")))]
    pub(crate) mod global;
    /// In a model all participants are of one process.
    #[cfg(all(feature = "std", feature = "loom"))]
    pub(crate) mod global {
        pub(crate) const BETWEEN_PROCESSES: super::Mechanism = super::modelled::RUNG;
    }
    #[cfg(feature = "std")]
    pub(crate) mod byte_lock;
    #[cfg(all(feature = "std", not(miri)))]
    pub(crate) mod ofd_lock;
    #[cfg(all(feature = "std", miri))]
    #[path = "one_process.rs"]
    pub(crate) mod ofd_lock;
}

/// The call that takes a `struct flock64`.
#[cfg(all(
    target_os = "linux",
    feature = "std",
    not(miri),
    any(target_pointer_width = "64", target_arch = "x86_64")
))]
const SYS_FCNTL64: core::ffi::c_long = libc::SYS_fcntl;
#[cfg(all(
    target_os = "linux",
    feature = "std",
    not(miri),
    not(any(target_pointer_width = "64", target_arch = "x86_64"))
))]
const SYS_FCNTL64: core::ffi::c_long = libc::SYS_fcntl64 as core::ffi::c_long;

#[cfg(feature = "std")]
pub(crate) mod environment;

/// What the variable said when the process was started, if it was there, and the system can tell without an allocation.
#[cfg(feature = "std")]
fn switch_at_start() -> Option<Option<environment::Switch>> {
    #[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
    return kernel::search_environment();
    #[cfg(any(not(any(target_os = "linux", target_os = "android")), miri))]
    None
}

pub(crate) mod patience;

#[cfg(all(any(target_os = "linux", target_os = "android"), feature = "std"))]
#[cfg_attr(any(miri, feature = "loom"), allow(dead_code, reason = "nobody registers"))]
mod forks;

/// FORKED-TOGETHER (`forks`): waits until the forks that other threads have begun have ended. Call it after a
/// registration, and before anything is published because of that. It waits only once, as `done` records.
///
/// Needed for a registration for GLOBAL_EXPEDITED, which passes over a process that is not registered, without an
/// error. Where PRIVATE_EXPEDITED finds no registration it fails, and the heavy fence registers again. There the wait
/// saves the child three calls, and one of them, the registration, may be refused by a filter by then. On FreeBSD each
/// command reports that its caller is not registered, so only Linux and Android wait. And only where there is a C
/// library to wait by.
pub(crate) fn let_forks_end(done: &AtomicBool) -> Result<(), Failure> {
    let _ = done;
    #[cfg(all(
        any(target_os = "linux", target_os = "android"),
        feature = "std",
        not(any(miri, feature = "loom"))
    ))]
    {
        // OpenHarmony's C library is made of musl.
        let musl = cfg!(any(target_env = "musl", target_env = "ohos"));
        forks::let_end(if musl { forks::Lock::Keys } else { forks::Lock::Handlers }, done)?;
    }
    Ok(())
}

#[cfg(any(target_os = "android", test))]
mod android;

/// Whether membarrier(2) may be called at all, even to ask, and whether its commands are full barriers where they
/// exist.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn may_ask_for_membarrier() -> Result<(), Refusal> {
    #[cfg(target_os = "android")]
    android::admit(android_sdk(&mut [0; libc::PROP_VALUE_MAX as usize]))?;
    architecture::admit(MEMBARRIER_SOUND_SINCE, || kernel::Kernel::running().version)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod architecture;

/// The system property that `android_get_device_api_level` reads. Older systems do not export that function, but they
/// have the property.
#[cfg(target_os = "android")]
fn android_sdk(buffer: &mut [u8; libc::PROP_VALUE_MAX as usize]) -> &[u8] {
    // SAFETY: the name is terminated, and the buffer as long as the longest value with its terminator.
    let length = unsafe {
        libc::__system_property_get(c"ro.build.version.sdk".as_ptr(), buffer.as_mut_ptr().cast())
    };
    usize::try_from(length).ok().and_then(|length| buffer.get(..length)).unwrap_or_default()
}

#[cfg(all(asymfence_tsan, not(feature = "loom")))]
pub(crate) mod sanitized;

/// What the module `model` shows. The documentation shows it where loom is not built, too.
#[cfg(any(feature = "loom", doc))]
pub(crate) mod world;

#[cfg(any(feature = "loom", doc))]
pub mod witness;

#[allow(unused_imports, reason = "only the mprotect rung asks for CPUID")]
#[cfg(target_arch = "x86")]
pub(crate) use core::arch::x86;
#[allow(unused_imports, reason = "only the mprotect rung asks for CPUID")]
#[cfg(target_arch = "x86_64")]
pub(crate) use core::arch::x86_64 as x86;

/// arch_prctl(2) ARCH_GET_CPUID: 1 if this thread may execute CPUID, 0 if that is SIGSEGV; or a negative errno. rustix has
/// no name for it.
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86", target_arch = "x86_64"),
    not(any(miri, feature = "loom"))
))]
fn cpuid_mode() -> isize {
    const INTERRUPTED: isize = -4;
    let outcome = patience::despite(
        |&()| true,
        || match asked_for_cpuid() {
            INTERRUPTED => Err(()),
            answer => Ok(answer),
        },
    );
    outcome.unwrap_or(INTERRUPTED)
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86", target_arch = "x86_64"),
    not(any(miri, feature = "loom"))
))]
fn asked_for_cpuid() -> isize {
    const ARCH_GET_CPUID: usize = 0x1011;
    let answer;
    // SAFETY: the call reads and writes no memory.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") 158_isize => answer, in("rdi") ARCH_GET_CPUID, in("rsi") 0,
            lateout("rcx") _, lateout("r11") _, options(nostack))
    }
    // SAFETY: as above. LLVM keeps EBX for itself, and gets it back.
    #[cfg(target_arch = "x86")]
    unsafe {
        core::arch::asm!("xchg ebx, {0}", "int 0x80", "xchg ebx, {0}", inout(reg) ARCH_GET_CPUID => _,
            inlateout("eax") 384_isize => answer, in("ecx") 0, options(nostack))
    }
    answer
}

/// Since when the expedited commands of membarrier(2) are full barriers on this architecture; `None` if the kernel's
/// documentation does not list it. They rely on a full barrier between the update of `rq->curr` and the return to user
/// space, which each architecture has at another place.
///
/// Documentation/scheduler/membarrier.rst@v6.9. (Before, a comment in `__schedule`, kernel/sched/core.c, has the same
/// schemes. It does not name the architectures whose spin_unlock() is a full barrier.)
///
/// - x86, s390, sparc: switch_mm();
/// - arm64: switch_to();
/// - arm, hexagon, mips (and alpha and arc, for which there is no Rust): spin_unlock() in finish_lock_switch();
/// - powerpc: switch_mm(), by membarrier_arch_switch_mm();
/// - riscv: the same, since 6.9 (commit d6cfd1770f20); before, there was no barrier. The stable tree 6.6 has it from
///   6.6.51 on, but a [`Version`](kernel::Version) does not tell these releases apart.
///
/// loongarch, csky, m68k, openrisc, parisc and xtensa are not listed.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MEMBARRIER_SOUND_SINCE: Option<kernel::Version> = {
    if cfg!(any(target_arch = "riscv32", target_arch = "riscv64")) {
        Some((6, 9))
    } else if cfg!(any(
        target_arch = "x86",
        target_arch = "x86_64",
        target_arch = "s390x",
        target_arch = "sparc",
        target_arch = "sparc64",
        target_arch = "arm",
        target_arch = "aarch64",
        target_arch = "hexagon",
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "mips32r6",
        target_arch = "mips64r6",
        target_arch = "powerpc",
        target_arch = "powerpc64",
    )) {
        Some(architecture::ALWAYS)
    } else {
        None
    }
};

/// Whether Miri runs this, which knows few system calls.
#[cfg(any(target_os = "linux", target_os = "android"))]
const INTERPRETED: bool = cfg!(miri);

/// Built with `--cfg asymfence_symmetric`, or with `--cfg asymfence_tsan`, which implies it.
pub(crate) const SWITCHED_OFF: bool = cfg!(any(asymfence_symmetric, asymfence_tsan));

/// The mode that a process begins with: a model may begin decided.
#[cfg(not(feature = "loom"))]
pub(crate) const fn begins_as(undecided: u8, _symmetric: u8, _first_rung: u8) -> u8 {
    undecided
}
#[cfg(feature = "loom")]
pub(crate) use modelled::begins_as;

/// Whether heavy fences are counted, for tickets. In a model on request, since the count is one more thing that
/// threads have in common.
#[cfg(not(feature = "loom"))]
pub(crate) const fn counts_calls() -> bool {
    true
}
#[cfg(feature = "loom")]
pub(crate) use modelled::counts_calls;

/// Called when a ticket is asked for. Panics in a model that does not count heavy fences.
#[inline(always)]
#[track_caller]
pub(crate) fn assert_counts() {
    #[cfg(feature = "loom")]
    modelled::assert_counts();
}

/// A heavy fence begins: for the trace of a model.
#[inline(always)]
#[track_caller]
pub(crate) fn heavy_fence_begins() {
    #[cfg(feature = "loom")]
    modelled::heavy_fence_begins();
}

/// A compiler barrier of no instruction: neither the compiler nor the linker moves a memory access
/// across it.
#[inline(always)]
#[track_caller]
pub(crate) fn compiler_barrier() {
    #[cfg(feature = "loom")]
    modelled::light_fence();

    // Architectures whose inline assembly is stable in Rust 1.85: all but arm64ec. Miri runs none.
    #[cfg(all(
        any(
            target_arch = "x86",
            target_arch = "x86_64",
            target_arch = "arm",
            target_arch = "aarch64",
            target_arch = "riscv32",
            target_arch = "riscv64",
            target_arch = "loongarch64",
            target_arch = "s390x",
        ),
        not(any(miri, feature = "loom"))
    ))]
    {
        // No `nomem`: that the block may touch memory is what makes it a barrier.
        // SAFETY: an empty template executes nothing.
        unsafe { core::arch::asm!("", options(nostack, preserves_flags)) };
        return;
    }

    // A signal fence by its specification, a compiler barrier in practice (rust-lang/rust#62256).
    // survives: compiled for architectures without stable inline assembly, and for Miri; under loom it does nothing.
    #[allow(unreachable_code, reason = "reached where there is no inline assembly")]
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst)
}

/// A fence beside an exchange of this thread, with nothing between the two that the fence is to order.
///
/// On x86 the exchange itself is a full fence: loads and stores are not reordered with locked instructions (Intel 64
/// and IA-32 Architectures SDM, volume 3A, section 9.2.3.9; AMD64 APM, volume 2, chapter 7). What is left is to hold
/// the compiler back. Why it matters: a system call of 130 ns took a tenth longer with the two full fences and three
/// exchanges around it than with the two fences alone.
#[inline(always)]
#[track_caller]
pub(crate) fn fence_at_exchange(ordering: Ordering) {
    // survives: the compiler moves nothing here today; only the code that comes out could show it.
    #[cfg(all(
        any(target_arch = "x86", target_arch = "x86_64"),
        not(any(miri, asymfence_tsan, feature = "loom"))
    ))]
    core::sync::atomic::compiler_fence(ordering);
    #[cfg(any(
        not(any(target_arch = "x86", target_arch = "x86_64")),
        miri,
        asymfence_tsan,
        feature = "loom"
    ))]
    crate::sync::fence(ordering);
}

/// How often a model's caller looks at the call of another before it makes its own: loom has no clock.
pub(crate) const LOOKS: Option<u32> = if cfg!(feature = "loom") { Some(2) } else { None };

/// Nanoseconds since some moment, by a clock that is read without a system call; `None` where there is
/// no such clock.
///
/// On x86 the time stamp counter, at a guessed 3 ticks a nanosecond: right within a factor of 3, which is enough to say
/// how much longer one wait is than another. (If the kernel's clock is not that counter, clock_gettime(2) of the C
/// library is a system call.) The guess may be inexact, and the counters of two processors may differ. Then a caller
/// may make a call that was not needed, or wait longer than it should. Neither breaks an order.
///
/// A thread may forbid itself the counter by prctl(PR_SET_TSC). A read of it is then SIGSEGV. So it is read
/// only after [`may_read_the_clock`] found that the thread which decides may read it.
#[inline]
pub(crate) fn clock() -> Option<u64> {
    // Relaxed: the flag says only that the counter may be read, and reading it needs nothing that another thread wrote.
    if !MAY_READ_THE_CLOCK.load(Relaxed) {
        return None;
    }
    #[cfg(all(any(target_arch = "x86", target_arch = "x86_64"), not(any(miri, feature = "loom"))))]
    {
        // SAFETY: every processor with the instructions of this target has it, and it may be read.
        Some(unsafe { x86::_rdtsc() } / 3)
    }
    #[cfg(all(target_arch = "aarch64", not(any(miri, feature = "loom"))))]
    {
        let (ticks, each_second): (u64, u64);
        // SAFETY: it reads a register that every system lets programs read, and this one has not forbidden.
        unsafe {
            core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack));
        }
        // SAFETY: the same.
        unsafe {
            core::arch::asm!("mrs {}, cntfrq_el0", out(reg) each_second, options(nomem, nostack));
        }
        const NANOSECONDS: u128 = 1_000_000_000;
        Some((u128::from(ticks) * NANOSECONDS / u128::from(each_second.max(1))) as u64)
    }
    #[cfg(any(
        not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")),
        miri,
        feature = "loom"
    ))]
    None
}

static MAY_READ_THE_CLOCK: AtomicBool = AtomicBool::new(false);

/// From now on the clock is read. Only the thread that has decided calls this: the others that climbed may have had
/// another answer.
pub(crate) fn read_the_clock() {
    // Relaxed: as where it is read.
    MAY_READ_THE_CLOCK.store(true, Relaxed);
}

/// Whether this thread may read the clock: asked before the decision, since a sandbox may allow no such question later.
/// It is not noticed if this thread forbids itself the clock later, or another thread does at any time.
#[cold]
pub(crate) fn may_read_the_clock() -> bool {
    #[cfg(all(any(target_os = "linux", target_os = "android"), not(any(miri, feature = "loom"))))]
    {
        use rustix::process::TimeStampCounterReadability::Readable;
        let answer = rustix::process::time_stamp_counter_readability();
        // Linux cannot forbid it on Arm before 6.12, and does not know the question there.
        answer == Ok(Readable)
            || cfg!(target_arch = "aarch64") && answer == Err(rustix::io::Errno::INVAL)
    }
    // No other system can forbid it.
    #[cfg(not(all(
        any(target_os = "linux", target_os = "android"),
        not(any(miri, feature = "loom"))
    )))]
    true
}

/// Sleeps for about so many nanoseconds, or lets another thread run.
///
/// By futex(2), on a word that nobody wakes. nanosleep(2) also answers how much of the time is left, and rustix reads that
/// answer after EINTR, though a sandbox may have written none.
pub(crate) fn sleep(nanoseconds: u32) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use core::sync::atomic::AtomicU32;
        use rustix::thread::{Timespec, futex};
        let time = Timespec { tv_sec: 0, tv_nsec: nanoseconds.into() };
        // A signal may end it early, which does no harm.
        let _ =
            no_unwind(|| futex::wait(&AtomicU32::new(0), futex::Flags::PRIVATE, 0, Some(&time)));
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = nanoseconds;
        yield_now();
    }
}

/// Lets another thread run, between two tries of a call that may succeed later.
pub(crate) fn yield_now() {
    // A sandbox may refuse it: rustix, which takes it for infallible, asserts that it succeeds.
    #[cfg(all(any(target_os = "linux", target_os = "android"), not(feature = "std")))]
    rustix::thread::sched_yield();
    #[cfg(any(
        all(any(target_os = "linux", target_os = "android"), feature = "std"),
        target_os = "freebsd"
    ))]
    // SAFETY: no precondition. Where it fails, nobody else runs.
    let _ = unsafe { libc::sched_yield() };
    // SAFETY: as above.
    #[cfg(windows)]
    let _ = unsafe { windows_sys::Win32::System::Threading::SwitchToThread() };
    #[cfg(feature = "loom")]
    loom::thread::yield_now();
}

/// Stops the process. Where a rung can fail, first prints `message` to the standard error, if that can be done at once.
#[cold]
pub(crate) fn abort(message: fmt::Arguments<'_>) -> ! {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    stop::stop(format_args!("asymfence: {message}"));

    #[cfg(all(target_os = "freebsd", target_arch = "x86_64", not(any(miri, feature = "loom"))))]
    private_expedited_freebsd::stop(format_args!("asymfence: {message}\n"));
    // No rung of another target can fail.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[allow(unreachable_code, reason = "reached on the targets that are not named above")]
    {
        #[cfg(feature = "std")]
        {
            let _ = message;
            std::process::abort();
        }
        #[cfg(not(feature = "std"))]
        panic!("asymfence: {message}")
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod stop;

/// pwritev2(2) RWF_NOWAIT at the current position. rustix does not have it on Android, whose C library has it since API
/// level 33.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn write_without_waiting(file: impl rustix::fd::AsFd, text: &[u8]) -> rustix::io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::io::{IoSlice, ReadWriteFlags, pwritev2};
        // An offset of -1 means the current one, as for write(2). A pipe allows no other.
        pwritev2(file, &[IoSlice::new(text)], u64::MAX, ReadWriteFlags::NOWAIT)
    }
    #[cfg(target_os = "android")]
    {
        let _ = (file, text);
        Err(rustix::io::Errno::NOSYS)
    }
}

/// In bytes, as the kernel counts them.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LENGTH_OF_A_SIGNAL_SET: usize = if cfg!(any(
    target_arch = "mips",
    target_arch = "mips32r6",
    target_arch = "mips64",
    target_arch = "mips64r6"
)) {
    16
} else {
    8
};

/// Ends the process by exit_group(2), and by a trap where a filter refuses that.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn exit_group(status: i32) -> ! {
    // Numbers: include/uapi/asm-generic/unistd.h, arch/*/entry/syscalls/*.tbl, arch/arm/tools/syscall.tbl@v6.18.
    // SAFETY: the call ends the process; if it does not, the trap does, again and again.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("syscall", "2:", "ud2", "jmp 2b",
            in("eax") 231, in("edi") status, options(noreturn))
    }
    // SAFETY: as above. EBX, which LLVM keeps for itself, is lost; nothing comes after.
    #[cfg(target_arch = "x86")]
    unsafe {
        core::arch::asm!("mov ebx, ecx", "int 0x80", "2:", "ud2", "jmp 2b",
            in("eax") 252, in("ecx") status, options(noreturn))
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("svc #0", "2:", "brk #1", "b 2b",
            in("x8") 94, in("w0") status, options(noreturn))
    }
    // SAFETY: as above. R7, which may be the frame pointer, is lost; nothing comes after.
    #[cfg(target_arch = "arm")]
    unsafe {
        core::arch::asm!("movs r7, #248", "svc #0", "2:", "udf #0", "b 2b",
            in("r0") status, options(noreturn))
    }
    // SAFETY: as above.
    #[cfg(target_arch = "riscv64")]
    unsafe {
        core::arch::asm!("ecall", "2:", "unimp", "j 2b",
            in("a7") 94, in("a0") status, options(noreturn))
    }
    // On the other architectures rustix links the C library, so it is there even without `std`. glibc's `_exit` traps
    // as well. (musl's repeats exit(2).)
    // SAFETY: no precondition.
    #[cfg(not(any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64",
    )))]
    unsafe {
        libc::_exit(status)
    }
}

/// glibc and musl keep some signals for themselves, from 32 on. This is the last of them: 33 of glibc, 34 of musl. With
/// one of them a thread that calls setuid(2) makes every other thread change its ids too, and waits for them. A program
/// may use the next signal. (Android's C library keeps more. Those from 35 on are blocked in an abort.)
#[cfg(any(target_os = "linux", target_os = "android"))]
const LAST_SIGNAL_OF_THE_C_LIBRARY: usize = if cfg!(target_env = "gnu") { 33 } else { 34 };

/// The calls by which a process stops. Not by rustix: its sigaction and sigprocmask are not for programs (a hidden
/// module, whose name changes), and it takes getpid(2) and gettid(2) for infallible. This module is for the
/// architectures that the one below does not support. Here the C library makes the calls: rustix links it there, also
/// without `std`.
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64",
    ))
))]
mod call {
    pub(super) const GETPID: usize = libc::SYS_getpid as usize;
    pub(super) const GETTID: usize = libc::SYS_gettid as usize;
    pub(super) const RT_SIGACTION: usize = libc::SYS_rt_sigaction as usize;
    pub(super) const RT_SIGPROCMASK: usize = libc::SYS_rt_sigprocmask as usize;
    pub(super) const TGKILL: usize = libc::SYS_tgkill as usize;

    pub(super) const SIG_SETMASK: usize = libc::SIG_SETMASK as usize;
    pub(super) const SIGABRT: usize = libc::SIGABRT as usize;
    pub(super) const SIGSYS: usize = libc::SIGSYS as usize;

    /// Makes the call of this number. The answer is negative if it failed.
    ///
    /// # Safety
    ///
    /// What the call demands.
    pub(super) unsafe fn call(number: usize, [first, second, third, fourth]: [usize; 4]) -> isize {
        // SAFETY: the contract of this function.
        unsafe { libc::syscall(number as _, first, second, third, fourth) as isize }
    }
}

/// The same by hand, since without `std` there may be no C library.
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64",
    )
))]
mod call {
    /// Sources: as in `exit_group`.
    const fn number(x86_64: usize, x86: usize, arm: usize, others: usize) -> usize {
        if cfg!(target_arch = "x86_64") {
            x86_64
        } else if cfg!(target_arch = "x86") {
            x86
        } else if cfg!(target_arch = "arm") {
            arm
        } else {
            others
        }
    }

    pub(super) const GETPID: usize = number(39, 20, 20, 172);
    pub(super) const GETTID: usize = number(186, 224, 224, 178);
    pub(super) const RT_SIGACTION: usize = number(13, 174, 174, 134);
    pub(super) const RT_SIGPROCMASK: usize = number(14, 175, 175, 135);
    pub(super) const TGKILL: usize = number(234, 270, 268, 131);

    pub(super) const SIG_SETMASK: usize = 2;
    pub(super) const SIGABRT: usize = 6;
    pub(super) const SIGSYS: usize = 31;

    /// As above.
    ///
    /// # Safety
    ///
    /// What the call demands.
    pub(super) unsafe fn call(number: usize, [first, second, third, fourth]: [usize; 4]) -> isize {
        let answer: isize;
        // SAFETY: the contract of this function.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            core::arch::asm!("syscall", inlateout("rax") number => answer, in("rdi") first,
                in("rsi") second, in("rdx") third, in("r10") fourth, out("rcx") _, out("r11") _)
        }
        // SAFETY: as above. LLVM keeps EBX and ESI for itself, and gets them back. The code does not change the stack:
        // during the call a signal may come, or a debugger may look at the stack.
        #[cfg(target_arch = "x86")]
        unsafe {
            let mut outer = [first, fourth];
            core::arch::asm!("xchg ebx, [edi]", "xchg esi, [edi + 4]", "int 0x80", "xchg ebx, [edi]",
                "xchg esi, [edi + 4]", inlateout("eax") number => answer, in("ecx") second,
                in("edx") third, in("edi") &raw mut outer)
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            core::arch::asm!("svc #0", in("x8") number, inlateout("x0") first => answer,
                in("x1") second, in("x2") third, in("x3") fourth)
        }
        // SAFETY: as above. R7 may be the frame pointer, so it is saved.
        #[cfg(target_arch = "arm")]
        unsafe {
            core::arch::asm!("mov {saved}, r7", "mov r7, {number}", "svc #0", "mov r7, {saved}",
                saved = out(reg) _, number = in(reg) number, inlateout("r0") first => answer,
                in("r1") second, in("r2") third, in("r3") fourth)
        }
        // SAFETY: as above.
        #[cfg(target_arch = "riscv64")]
        unsafe {
            core::arch::asm!("ecall", in("a7") number, inlateout("a0") first => answer,
                in("a1") second, in("a2") third, in("a3") fourth)
        }
        answer
    }
}

/// Runs what makes system calls for a fence. A panic in there stops the process, since no panic may
/// cross a fence. rustix may panic: in builds with debug assertions it asserts that a kernel answers
/// as kernels do, and a sandbox may not.
pub(crate) fn no_unwind<T>(work: impl FnOnce() -> T) -> T {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            abort(format_args!("a system call's answer made no sense"));
        }
    }
    if cfg!(feature = "loom") {
        return work(); // a model fails by a panic
    }
    let bomb = Bomb;
    let result = work();
    core::mem::forget(bomb);
    result
}

#[cfg(all(test, feature = "std", not(any(miri, feature = "loom"))))]
mod tests {
    use super::no_unwind;

    const UNWOUND: i32 = 17;

    #[test]
    #[ignore = "a_panic_in_a_call_stops_the_process runs it as a child"]
    fn child_that_panics_in_a_call() {
        let caught = std::panic::catch_unwind(|| no_unwind(|| panic!("in a call")));
        std::process::exit(if caught.is_err() { UNWOUND } else { 0 });
    }

    /// Runs an ignored test of this binary in a process of its own.
    pub(super) fn child(test: &str) -> std::process::Output {
        // Without procfs, by the name with which it was started.
        let this = std::env::current_exe().ok().map(std::path::PathBuf::into_os_string);
        let this = this.or_else(|| std::env::args_os().next()).expect("this binary");
        // An emulator, where the kernel does not start binaries like this one.
        let runner = std::env::var("ASYMFENCE_TEST_RUNNER").unwrap_or_default();
        let mut words = runner.split_whitespace().map(Into::into).chain([this]);
        let mut command = std::process::Command::new(words.next().expect("this binary at least"));
        let arguments = ["--ignored", "--exact", "--nocapture", test];
        command.args(words).args(arguments).output().expect("a child")
    }

    #[test]
    fn a_panic_in_a_call_stops_the_process() {
        let output = child("sys::tests::child_that_panics_in_a_call");
        assert!(![Some(0), Some(UNWOUND)].contains(&output.status.code()), "{output:?}");
        let words = std::string::String::from_utf8_lossy(&output.stderr);
        assert!(words.contains("in a call") && words.contains("made no sense"), "{words}");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn the_calls_of_an_abort_are_those_of_the_c_library() {
        use super::call::*;
        let numbers = [GETPID, GETTID, RT_SIGACTION, RT_SIGPROCMASK, TGKILL];
        let theirs = [
            libc::SYS_getpid,
            libc::SYS_gettid,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_tgkill,
        ];
        assert_eq!(numbers, theirs.map(|number| number as usize));
        let signals =
            [libc::SIG_SETMASK, libc::SIGABRT, libc::SIGSYS].map(|number| number as usize);
        assert_eq!([SIG_SETMASK, SIGABRT, SIGSYS], signals);
        // SAFETY: these calls have no argument, and only answer.
        let [process, thread] = [GETPID, GETTID].map(|number| unsafe { call(number, [0; 4]) });
        assert_eq!(process, std::process::id() as isize);
        assert_eq!(thread, rustix::thread::gettid().as_raw_nonzero().get() as isize);
        // SAFETY: signal 0 is only looked for.
        let found = unsafe { call(TGKILL, [process as usize, thread as usize, 0, 0]) };
        // SAFETY: as above; this is no process.
        let missing = unsafe { call(TGKILL, [usize::MAX, thread as usize, 0, 0]) };
        assert!(found == 0 && missing < 0, "{found} {missing}");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn the_lock_of_the_keys_takes_no_key() {
        let output = child("sys::forks::tests::child_that_takes_all_keys");
        let words = std::string::String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && words.contains("1 passed"), "{output:?}");
    }
}
