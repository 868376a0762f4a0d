//! The strategy of the process: decided once, by a climb of the ladder or by the program.
//!
//! COMMIT-ONCE: the mode is written once. Every thread acts on that mode for ever, or still reads "undecided", which is
//! safe on both sides: a light fence that finds no strategy is a full one, and a heavy fence that finds none decides
//! first. So a heavy fence that is only a `fence(SeqCst)` is never paired with a light fence that is only a compiler
//! barrier.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32};

use crate::refusal::{Reason, Refusal};
use crate::sync::Ordering::{Relaxed, Release};
use crate::sync::{AtomicU8, global};
#[cfg(feature = "std")]
use crate::sys::environment::Switch;
use crate::sys::{self, LADDER, Mechanism};

/// How the fences of this process work. Decided once and never changed.
///
/// ```
/// use asymfence::{Strategy, init};
///
/// match init() {
///     Strategy::Asymmetric(rung) => println!("asymmetric by {rung}"),
///     Strategy::Symmetric => println!("symmetric: both fences are fence(SeqCst)"),
/// }
/// ```
///
/// Each copy of this crate decides for itself: a plugin, or another version in the same process. The light fence of a
/// copy that is asymmetric does not pair with the heavy fence of a copy that is symmetric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The light fence is a compiler barrier. The heavy fence makes every other thread execute a full fence, by this
    /// rung of the ladder.
    Asymmetric(Rung),
    /// Both fences are `fence(SeqCst)`.
    Symmetric,
}

impl Strategy {
    /// The rung's name, or `symmetric`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Asymmetric(rung) => rung.name(),
            Strategy::Symmetric => "symmetric",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A rung of this target's ladder: a mechanism that makes every other thread of the process execute a full fence.
/// [`ladder`] lists the rungs.
///
/// ```
/// use asymfence::{Strategy, ladder};
///
/// for report in ladder() {
///     if let Strategy::Asymmetric(rung) = report.strategy {
///         println!("{}", rung.name());
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rung(u8);

impl Rung {
    /// The name in reports: `private-expedited`, `mprotect`, `flush-process-write-buffers`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.mechanism().name
    }

    pub(crate) fn mechanism(self) -> &'static Mechanism {
        &LADDER[usize::from(self.0)]
    }

    /// Whether it is the ladder's best.
    #[inline]
    pub(crate) fn is_first(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn all() -> impl Iterator<Item = Rung> + Clone {
        (0..LADDER.len() as u8).map(Rung)
    }
}

impl fmt::Debug for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rung({})", self.name())
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

struct Decision {
    /// `UNDECIDED`, `SYMMETRIC`, or `FIRST_RUNG` plus the index of a rung.
    mode: AtomicU8,
    /// For each rung its refusal as a word, 0 for none. A plain atomic under loom too: no order depends on a report.
    refusals: [AtomicU32; LADDER.len()],
    /// For each rung what `admit` said at the decision, in the same form.
    admissions: [AtomicU32; LADDER.len()],
}

const UNDECIDED: u8 = 0;
const SYMMETRIC: u8 = 1;
const FIRST_RUNG: u8 = 2;

global! {
    /// The one decision of the process.
    static DECISION: Decision = Decision {
        mode: AtomicU8::new(sys::begins_as(UNDECIDED, SYMMETRIC, FIRST_RUNG)),
        refusals: [const { AtomicU32::new(0) }; LADDER.len()],
        admissions: [const { AtomicU32::new(0) }; LADDER.len()],
    };
}

/// Whether a light fence may be a compiler barrier.
#[inline(always)]
pub(crate) fn is_asymmetric() -> bool {
    // Relaxed: COMMIT-ONCE. A stale "undecided" makes the light fence stronger than necessary.
    DECISION.mode.load(Relaxed) >= FIRST_RUNG
}

/// The strategy that the process is committed to, or `None` if nothing has decided yet.
///
/// Never decides. Wait-free and async-signal-safe.
///
/// ```
/// assert_eq!(asymfence::strategy(), None);
/// let decided = asymfence::init();
/// assert_eq!(asymfence::strategy(), Some(decided));
/// ```
#[must_use]
#[inline]
pub fn strategy() -> Option<Strategy> {
    // Relaxed: only the value matters here. A heavy fence also needs that the rung was made ready before the mode was
    // written. Its opening fence stands between this load and the rung's call, and pairs with the Release in `commit`.
    match DECISION.mode.load(Relaxed) {
        UNDECIDED => None,
        SYMMETRIC => Some(Strategy::Symmetric),
        mode => Some(Strategy::Asymmetric(Rung(mode - FIRST_RUNG))),
    }
}

/// Decides how the fences of this process work, if nothing has decided yet, and returns the decision.
///
/// `init` climbs the ladder: it tries each rung, best first, and commits the process to the first that works here. If
/// none works, it commits to the symmetric strategy. [`ladder`] then says which rungs were refused and why. The first
/// [`heavy_fence`](crate::heavy_fence) calls `init` by itself.
///
/// ```
/// asymfence::init(); // first thing in `main`
/// std::thread::spawn(asymfence::light_fence).join().unwrap();
/// ```
///
/// # When to call it
///
/// **Before the program starts threads, and before it enters a sandbox.** Registering with membarrier(2) takes half a
/// microsecond in a process of one thread, and milliseconds if there are more threads (the kernel waits for an RCU
/// grace period). If a seccomp filter *kills* the process for calling membarrier, the process cannot find that out from
/// inside.
///
/// If the process committed to membarrier before it entered the sandbox, heavy fences make only one kind of call there,
/// `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)`, as long as it succeeds. (On FreeBSD each heavy fence makes its own
/// call. The rest of this paragraph is about Linux and Android.) Waiting makes no call either. If several threads
/// execute heavy fences at once, one of them makes the call, and the others wait for it: they spin. Usually such a wait
/// takes at most the time of two calls. At worst a thread waits for four calls in a row, for each at most about 0.1 ms,
/// and then makes a call of its own. (A call that ends before the thread sees it is not counted.) All this holds in a
/// child of fork(2) too.
///
/// On the mprotect rung a heavy fence makes two calls of mprotect(2), and may call futex(2) while it waits for another
/// thread's heavy fence: it does if heavy fences usually take more than 50 µs. If more than four are under way at once,
/// it also maps a page for itself, by mmap(2), madvise(2) and munmap(2). (A heavy fence that is never ended counts as
/// under way for ever. Four kinds are never ended: in a forked child, one that another thread of the parent had begun;
/// one whose thread a filter has killed; one out of which a signal handler has jumped; and one in which a child of
/// vfork(2) was killed.) On every rung a heavy fence repeats a call that fails for a temporary reason. Before that it
/// calls sched_yield(2), on membarrier from the second failure on.
///
/// The decision itself makes more calls: membarrier(2); the calls that read the files below; prctl(PR_GET_TSC) and, on
/// x86, arch_prctl(ARCH_GET_CPUID), which tell whether this thread may read the time stamp counter and execute CPUID;
/// and on the mprotect rung mmap(2), madvise(2), mlock(2) (after mlockall(MCL_FUTURE) also munlock(2)), mprotect(2),
/// futex(2) and munmap(2).
///
/// A sandbox or an emulator may answer success without calling the kernel. So the decision refuses the membarrier rung
/// in each of these cases:
///
/// - a command that does not exist is not answered with EINVAL (checked on Linux and Android with the feature `std`, on
///   FreeBSD always);
/// - a call with a flag that it does not take succeeds (checked on Linux and Android);
/// - `MEMBARRIER_CMD_QUERY`, which lists the commands of the kernel, does not list those that are needed.
///
/// It refuses the mprotect rung if mlock(2) or mprotect(2) answers success for one of the pages that the rung keeps,
/// and the kernel has not done it. It does not detect a sandbox that knows the commands and their flags, one that
/// starts after the decision, or one that applies only to another thread. If a sandbox answers to open(2) with a number
/// and opens no file, `init` closes the descriptor of that number.
///
/// # Panics, errors, aborts
///
/// None: if no rung works, `init` commits to [`Strategy::Symmetric`], which works everywhere. Two things outside of it
/// abort the process: a pending pthread_cancel(3), since closing a file is a cancellation point (musl ends the thread
/// alone: see [`limits`](crate::guide::limits)); and what rustix or the standard library takes for impossible, if they
/// notice: an answer that no kernel gives, or a descriptor that the program has closed while the decision read a file
/// by it. (They notice if they are built with debug assertions, and in every build if the low 32 bits of an answer to
/// open(2) are all ones. Without `std` rustix takes any error of sched_yield(2) and close(2) for impossible.)
///
/// # Files and allocations
///
/// On Linux and Android `init` reads /proc/thread-self/environ (feature `std`). On Linux on x86, and on RISC-V, it also
/// reads /proc/sys/kernel/osrelease and checks for one or two files below /sys, which identify the kernel, so that no
/// heavy fence has to do so later. If these files do not show that a rung is sound, the rung is refused.
///
/// On Linux and Android `init` allocates nothing, so an allocator may fence, with these exceptions:
///
/// - It allocates if `ASYMFENCE` is set and /proc/thread-self/environ does not show it: the program has set it for
///   itself, or has overwritten its initial environment, or there is no /proc. In such a program the allocator must
///   call [`force`]`(Strategy::Symmetric)` first.
/// - With the feature `std` an allocator must decide, by `init` or [`force`], before any thread reads or changes the
///   environment through `std::env`. The standard library allocates while it holds its lock on the environment. The
///   decision takes that lock, unless /proc/thread-self/environ shows a value of `ASYMFENCE`.
/// - An allocator that replaces glibc's malloc(3) must decide before the program registers its 48th pthread_atfork(3)
///   handler. The decision adds an entry to the same list, and for the 49th entry glibc allocates while it holds the
///   lock of the list. Each type that the program has registered by `membarrier::register` before that counts as one
///   handler.
///
/// On other systems it allocates if `ASYMFENCE` is set, and on Windows always.
///
/// `ASYMFENCE` is read once, by the first function that needs it, which may be one of `cross_process`. On Linux and
/// Android the value at the start of the process takes precedence, even if the program has removed the variable since.
/// This needs a readable /proc/thread-self/environ, and a program that has not overwritten its initial environment in
/// memory, as setproctitle(3) does. Otherwise the value at that moment counts. An empty value switches nothing. If the
/// environment has the variable twice, the first one counts.
///
/// # Signal safety
///
/// Without the feature `std`, async-signal-safe. With `std` the first call is not async-signal-safe: it reads the
/// environment and takes a lock of the C library. So call `init` early. The first call must not be made
///
/// - in a pthread_atfork(3) handler, or by a thread that holds a lock which such a handler takes: glibc 2.28 to 2.35
///   runs the handlers under a lock of its own, so that either could deadlock. Nor by a thread that holds a lock of the
///   C library which fork(2) itself takes: for example in the write function of a fopencookie(3) stream, which
///   fflush(3) may call under such a lock;
/// - in a forked child, if another thread of the parent was changing the environment during the fork: the child may
///   wait for ever;
/// - in a child of a bare clone(2) or of _Fork(3), if another thread of the parent was in fork(2) at that moment: the
///   child may wait for ever for a lock that fork(2) holds (pthread_atfork(3)), and that only fork(2) resets.
///
/// # Threads, fork, exec
///
/// Any number of threads may call `init` concurrently. Each climbs the ladder, and the first to finish decides for all;
/// no thread waits for another to decide. With the feature `std`, a first call that registers the process with
/// membarrier(2) waits for forks that other threads have begun (and may wait for later ones, if they come without a
/// pause). So a child of fork(2) does not inherit the decision without the kernel's registration, except in the cases
/// below. exec(2) clears both.
///
/// A child of a bare clone(2) or of _Fork(3), a child of fork(2) without `std`, and a child of fork(2) under glibc
/// before 2.28 or musl before 1.2.2 may inherit the decision without the registration, if another thread was deciding
/// during the fork. So may a child of any fork by another copy of the C library, if dlmopen(3) loaded the code that was
/// deciding: that code waits only for forks by its own copy. The fences of such a child are still right: its first
/// heavy fence registers again, which takes three more calls.
#[inline]
pub fn init() -> Strategy {
    strategy().unwrap_or_else(first)
}

/// Decides.
#[cold]
fn first() -> Strategy {
    commit(climb())
}

/// Commits the process to `wanted`, without a climb.
///
/// [`Strategy::Symmetric`] switches the asymmetry of this process's fences off. Switching it off works on every
/// platform and in every sandbox, and makes no system call. It changes nothing in `cross_process`. (ThreadSanitizer
/// does not understand `fence(SeqCst)`: build with `--cfg asymfence_tsan` under it.) A rung (from [`ladder`]) is
/// probed, and taken if it works here. If the process is committed to `wanted` already, `force` does nothing.
///
/// Two other switches need no line of code, and forbid asymmetric segments too: the environment variable
/// `ASYMFENCE=symmetric` (feature `std`), and `RUSTFLAGS="--cfg asymfence_symmetric"`.
///
/// # Errors
///
/// [`ForceError::AlreadyCommitted`] if the process is committed to another strategy, which cannot be changed.
/// [`ForceError::Refused`] if the rung does not work here, or is switched off; then nothing has been decided.
///
/// ```
/// use asymfence::{Strategy, force, heavy_fence, strategy};
///
/// force(Strategy::Symmetric)?;
/// heavy_fence(); // `fence(SeqCst)`
/// assert_eq!(strategy(), Some(Strategy::Symmetric));
/// # Ok::<(), asymfence::ForceError>(())
/// ```
pub fn force(wanted: Strategy) -> Result<(), ForceError> {
    let committed = match (strategy(), wanted) {
        (Some(committed), _) => committed,
        (None, Strategy::Symmetric) => commit(wanted),
        (None, Strategy::Asymmetric(rung)) => {
            take_rung(rung, switched_off())
                .map_err(|refusal| ForceError::Refused(rung, refusal))?;
            commit(wanted)
        }
    };
    if committed == wanted { Ok(()) } else { Err(AlreadyCommitted(committed).into()) }
}

/// COMMIT-ONCE. Returns the decision of the first thread that commits.
fn commit(found: Strategy) -> Strategy {
    let (mode, by_the_clock) = match found {
        Strategy::Symmetric => (SYMMETRIC, false),
        Strategy::Asymmetric(Rung(index)) => {
            // Later there may be no /proc, and no free descriptor to read it.
            for rung in Rung::all().filter(|rung| rung.0 != index) {
                let _ = admit(rung); // recorded
            }
            let waits = LADDER[usize::from(index)].waiting.is_some();
            (FIRST_RUNG + index, waits && sys::may_read_the_clock())
        }
    };
    // Release: the rung was made ready before the mode is written. Pairs with the opening fence of a heavy fence that
    // reads the mode. Relaxed on failure, as the load in `strategy`.
    match DECISION.mode.compare_exchange(UNDECIDED, mode, Release, Relaxed) {
        Ok(_) => {
            if by_the_clock {
                sys::read_the_clock();
            }
            found
        }
        Err(_) => strategy().expect("a mode that was decided stays decided"),
    }
}

/// The first rung that works here.
fn climb() -> Strategy {
    let off = switched_off();
    let works = |&rung: &Rung| take_rung(rung, off).is_ok();
    Rung::all().find(works).map_or(Strategy::Symmetric, Strategy::Asymmetric)
}

/// Prepares `rung` for a commit, or records why it is refused: it does not work here, or the switch `off` forbids it.
fn take_rung(rung: Rung, off: Option<Reason>) -> Result<(), Refusal> {
    // FORKED-TOGETHER: a child of fork that has the decision has the registration.
    static NO_FORK_IS_OLDER: AtomicBool = AtomicBool::new(false);
    let forks_end = |()| match rung.mechanism().register {
        Some(_) => Ok(sys::let_forks_end(&NO_FORK_IS_OLDER)?),
        None => Ok(()),
    };
    let verdict = match off {
        Some(switch) => Err(Refusal::new(switch)),
        None => {
            let admitted = admit(rung);
            admitted.and_then(|()| sys::no_unwind(rung.mechanism().probe)).and_then(forks_end)
        }
    };
    // Relaxed: one word, read only for reports. If several threads climb, the last one to record wins. A success is not
    // recorded: another thread, for which the rung was refused, may be the one that commits.
    if let Err(refusal) = verdict {
        DECISION.refusals[usize::from(rung.0)].store(refusal.to_word().get(), Relaxed);
    }
    verdict
}

/// Whether the files and the processor of this machine show that `rung` is sound here. The answer is recorded.
fn admit(rung: Rung) -> Result<(), Refusal> {
    let verdict = sys::no_unwind(rung.mechanism().admit);
    // Relaxed: one word. A thread that reads it has read the decision before, or has written the word itself. In the
    // first case the Release in `commit` and the opening fence of the reader's heavy fence order this store before that
    // load. If several threads climb, the last one wins.
    DECISION.admissions[usize::from(rung.0)].store(word(verdict), Relaxed);
    verdict
}

fn word(verdict: Result<(), Refusal>) -> u32 {
    verdict.err().map_or(0, |refusal| refusal.to_word().get())
}

/// Prepares `rung` to take the place of the committed rung, whose call failed. Uses what was recorded at the decision,
/// and system calls that need no file.
pub(crate) fn stand_in(rung: Rung) -> Result<(), Refusal> {
    // Relaxed: as where it is stored.
    let admitted = DECISION.admissions[usize::from(rung.0)].load(Relaxed);
    Refusal::from_word(admitted).map_or(Ok(()), Err)?;
    sys::no_unwind(rung.mechanism().probe)
}

/// Which switch, if any, forbids every rung.
pub(crate) fn switched_off() -> Option<Reason> {
    if sys::SWITCHED_OFF {
        return Some(Reason::SwitchedOffByCfg);
    }
    #[cfg(feature = "std")]
    return sys::environment::switch().map(|word| match word {
        Switch::Symmetric => Reason::SwitchedOffByEnvironment,
        Switch::NotUnderstood => Reason::SwitchNotUnderstood,
    });
    #[cfg(not(feature = "std"))]
    None
}

/// Every rung of this target, best first, and then the symmetric strategy, each with its verdict. Never decides: before
/// [`init`] only the rungs that were passed to [`force`] have been tried.
///
/// ```
/// asymfence::init();
/// for rung in asymfence::ladder() {
///     println!("{}: {}", rung.strategy, rung.verdict);
/// }
/// ```
pub fn ladder() -> impl Iterator<Item = RungReport> + Clone {
    let committed = strategy();
    let rungs = Rung::all().map(Strategy::Asymmetric);
    rungs.chain([Strategy::Symmetric]).map(move |strategy| RungReport {
        strategy,
        verdict: match strategy {
            taken if committed == Some(taken) => Verdict::Taken,
            // Relaxed: as where it is stored.
            Strategy::Asymmetric(Rung(index)) => {
                let word = DECISION.refusals[usize::from(index)].load(Relaxed);
                Refusal::from_word(word).map_or(Verdict::NotTried, Verdict::Refused)
            }
            Strategy::Symmetric => Verdict::NotTried,
        },
    })
}

/// One line of [`ladder`].
///
/// ```
/// use asymfence::{Verdict, init, ladder};
///
/// let decided = init();
/// let taken = ladder().find(|report| report.verdict == Verdict::Taken).expect("one is");
/// assert_eq!(taken.strategy, decided);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RungReport {
    /// The rung, or the symmetric strategy.
    pub strategy: Strategy,
    /// Whether it was taken, refused, or not tried.
    pub verdict: Verdict,
}

/// Whether a rung was taken, refused, or not tried. The `Display` form gives the reason in words.
///
/// ```
/// use asymfence::{Verdict, ladder};
///
/// assert!(ladder().all(|report| report.verdict == Verdict::NotTried)); // nothing has decided
/// assert_eq!(Verdict::Taken.to_string(), "taken");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The process is committed to it.
    Taken,
    /// A better rung was taken, the program chose another by [`force`], or nothing has decided yet.
    NotTried,
    /// It does not work here, or it is switched off.
    Refused(Refusal),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Taken => f.write_str("taken"),
            Verdict::NotTried => f.write_str("not tried"),
            Verdict::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

/// The process is already committed to another strategy than the one asked for.
///
/// ```
/// use asymfence::{ForceError, Strategy, force, init};
///
/// let decided = init();
/// if let Err(ForceError::AlreadyCommitted(error)) = force(Strategy::Symmetric) {
///     assert_eq!(error.committed(), decided);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyCommitted(Strategy);

impl AlreadyCommitted {
    /// What the process is committed to.
    #[must_use]
    pub fn committed(self) -> Strategy {
        self.0
    }
}

impl fmt::Display for AlreadyCommitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the fences are committed to the strategy {} for the life of the process; choose \
             before the first heavy fence",
            self.0
        )
    }
}

impl core::error::Error for AlreadyCommitted {}

/// Why [`force`] did nothing.
///
/// ```
/// use asymfence::{ForceError, Strategy, force};
///
/// match force(Strategy::Symmetric) {
///     Ok(()) => {}
///     Err(ForceError::AlreadyCommitted(error)) => println!("{error}"),
///     Err(ForceError::Refused(rung, why)) => println!("{rung}: {why}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForceError {
    /// Another strategy was decided before.
    AlreadyCommitted(AlreadyCommitted),
    /// The rung does not work here, or it is switched off.
    Refused(Rung, Refusal),
}

impl From<AlreadyCommitted> for ForceError {
    fn from(error: AlreadyCommitted) -> Self {
        ForceError::AlreadyCommitted(error)
    }
}

impl fmt::Display for ForceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForceError::AlreadyCommitted(error) => error.fmt(f),
            ForceError::Refused(rung, refusal) => write!(f, "{rung} is refused: {refusal}"),
        }
    }
}

impl core::error::Error for ForceError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ForceError::AlreadyCommitted(error) => Some(error),
            ForceError::Refused(_, refusal) => Some(refusal),
        }
    }
}
