//! The strategy of the process: decided once, by a climb of the ladder or by the program.
//!
//! COMMIT-ONCE: the mode is written once. Every thread acts on that mode for ever, or still reads "undecided", which
//! is safe on both sides: a light fence that finds no strategy is a full one, and a heavy fence that finds none decides
//! first. So a heavy fence that makes no system call is never paired with a light fence that is only a compiler barrier.

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

/// A rung of this target's ladder: a mechanism that makes every other thread of the process execute a
/// full fence. [`ladder`] lists them.
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
    /// For each rung its refusal as a word, 0 for none. Never loom's: no order depends on a report.
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
    // Relaxed: COMMIT-ONCE. A stale "undecided" makes the light fence stronger than it need be.
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
    // Relaxed: the value is all there is to read here. A heavy fence needs that the rung was made
    // ready before the mode said so; its opening fence stands between this load and the rung's
    // call, and pairs with the Release in `commit`.
    match DECISION.mode.load(Relaxed) {
        UNDECIDED => None,
        SYMMETRIC => Some(Strategy::Symmetric),
        mode => Some(Strategy::Asymmetric(Rung(mode - FIRST_RUNG))),
    }
}

/// Decides how the fences of this process work, if nothing has decided yet, and returns the decision.
///
/// It climbs the ladder: it tries each rung, best first, and commits the process to the first that works here. If none
/// works, it commits to the symmetric strategy. [`ladder`] then says what was refused and why. The first
/// [`heavy_fence`](crate::heavy_fence) calls this by itself.
///
/// ```
/// asymfence::init(); // first thing in `main`
/// std::thread::spawn(asymfence::light_fence).join().unwrap();
/// ```
///
/// # When to call it
///
/// **Before the program starts threads, and before it enters a sandbox.** Registering with
/// membarrier(2) takes half a microsecond in a process of one thread and milliseconds once there is
/// a second (the kernel waits for an RCU grace period). A seccomp filter that *kills* on membarrier
/// cannot be probed safely from inside. A process that decided for membarrier before makes only one kind of call in the
/// sandbox, `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)`, as long as that succeeds. This holds also where many threads
/// fence at once: a caller that waits for another's call spins, usually for no longer than two
/// calls, and for at most 0.1 ms for each of up to four callers in a row. It holds in a child of fork(2), too.
///
/// On the mprotect rung a heavy fence makes two calls of mprotect(2), and while it waits for another, of
/// nanosleep(2). Where more than four are under way at once, or never came to their end (in a thread that a fork left
/// behind), it also maps a page for itself, by mmap(2), madvise(2) and munmap(2). A call that fails for a moment's
/// reason is followed by sched_yield(2), on every rung.
///
/// The decision itself makes more calls: membarrier(2), those for the files below, prctl(PR_GET_TSC), which asks whether
/// this thread may read the time stamp counter, and of the mprotect rung mmap(2), madvise(2), mlock(2), mprotect(2) and
/// munmap(2).
///
/// A sandbox or an emulator that answers success without calling the kernel is refused if it does so to
/// commands or flags that do not exist, or if QUERY does not list the commands. One that knows the commands
/// and their flags, one that starts after the decision, and one around another thread alone cannot be told from a
/// kernel.
///
/// # Panics, errors, aborts
///
/// None of its own: a climb that finds nothing ends at [`Strategy::Symmetric`], which works
/// everywhere. (A build with debug assertions in rustix aborts if a sandbox answers a system call with
/// a value that no kernel gives.)
///
/// # Files and allocations
///
/// On Linux it reads /proc/thread-self/environ (feature `std`), and on x86 also what says which kernel this is, so that a
/// heavy fence need not look later: /proc/sys/kernel/osrelease and the presence of two files below /sys. If these do not
/// say that a rung is sound, it is refused.
///
/// Allocates nothing, so an allocator may fence. Exceptions: a program that sets `ASYMFENCE` for itself, and one that
/// has it set without /proc/thread-self/environ (no /proc, another system). Such an allocator calls
/// [`force`]`(Strategy::Symmetric)` first. And one that replaces malloc(3) of glibc decides before the program has
/// 48 handlers of pthread_atfork(3): for the next one glibc allocates, under the lock that the first call takes.
///
/// `ASYMFENCE` is looked up once, by whatever asks first, also in [`cross_process`](crate::cross_process). On Linux the
/// value that the process was started with counts first, also if the program has removed it since: as long as
/// /proc/thread-self/environ can be read, and the program has not overwritten the memory in which its environment began,
/// as setproctitle(3) does. Otherwise the value at that moment counts.
///
/// # Signal safety
///
/// Async-signal-safe without the feature `std`. With it, the first call reads the environment and takes a
/// lock of the C library, which is not; so decide before. Nor may a handler of pthread_atfork(3) decide, nor a
/// thread that holds a lock which such a handler takes: glibc from 2.28 to 2.35 holds its own while handlers run. And
/// a forked child of a process that has not decided may wait for ever, if another thread of its parent was changing
/// the environment: decide before the fork.
///
/// # Threads, fork, exec
///
/// Any number of threads may call this at once: each climbs, the first to finish decides for all,
/// and no one waits for another to decide. With the feature `std`, the first call waits for forks that other
/// threads have begun: a child of fork(2) inherits the decision together with the kernel's registration, or
/// neither. exec(2) clears both.
///
/// A child of a bare clone(2) or of _Fork(3), a child of fork(2) without `std`, and one under glibc before
/// 2.28 or musl before 1.2.2 may have the decision alone, if another thread was deciding meanwhile. Its fences
/// hold all the same: its first heavy fence registers again, which is one more call.
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
/// [`Strategy::Symmetric`] switches the asymmetry off, which every platform, sanitizer and sandbox
/// understands, and makes no system call. A rung, from [`ladder`], is probed and taken if it works
/// here. Nothing is done if the process is committed to `wanted` already.
///
/// Two other switches need no line of code: the environment variable `ASYMFENCE=symmetric` (feature
/// `std`), and `RUSTFLAGS="--cfg asymfence_symmetric"`.
///
/// # Errors
///
/// [`ForceError::AlreadyCommitted`] if the process is committed to another strategy, which nothing
/// can change; [`ForceError::Refused`] if the rung does not work here. Then nothing has been decided.
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

/// COMMIT-ONCE. Returns the decision of whoever came first.
fn commit(found: Strategy) -> Strategy {
    let mode = match found {
        Strategy::Symmetric => SYMMETRIC,
        Strategy::Asymmetric(Rung(index)) => {
            // Later there may be no /proc and no descriptor to look with.
            for rung in Rung::all().filter(|rung| rung.0 != index) {
                let _ = admit(rung); // recorded
            }
            if LADDER[usize::from(index)].waiting.is_some() {
                sys::look_for_a_clock();
            }
            FIRST_RUNG + index
        }
    };
    // Release: the rung was made ready before the mode says so. Pairs with the opening fence of a
    // heavy fence that reads the mode. Relaxed on failure, as the load in `strategy`.
    match DECISION.mode.compare_exchange(UNDECIDED, mode, Release, Relaxed) {
        Ok(_) => found,
        Err(_) => strategy().expect("a mode that was decided stays decided"),
    }
}

/// The first rung that works here.
fn climb() -> Strategy {
    let off = switched_off();
    let works = |&rung: &Rung| take_rung(rung, off).is_ok();
    Rung::all().find(works).map_or(Strategy::Symmetric, Strategy::Asymmetric)
}

/// Makes `rung` ready to be committed to, or records why it cannot be: it does not work here, or the switch
/// `off` forbids it.
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
    // Relaxed: one word, read for reports alone. Of several climbs the last to record wins.
    DECISION.refusals[usize::from(rung.0)].store(word(verdict), Relaxed);
    verdict
}

/// Whether this machine is one for `rung`, as far as its files say; remembered.
fn admit(rung: Rung) -> Result<(), Refusal> {
    let verdict = sys::no_unwind(rung.mechanism().admit);
    // Relaxed: one word. Whoever reads it has read the decision, or has written it here itself; the opening fence of
    // its heavy fence and the Release in `commit` order the two. Of several climbs the last to look wins.
    DECISION.admissions[usize::from(rung.0)].store(word(verdict), Relaxed);
    verdict
}

fn word(verdict: Result<(), Refusal>) -> u32 {
    verdict.err().map_or(0, |refusal| refusal.to_word().get())
}

/// Makes `rung` ready to stand in for the one that the process is committed to, whose call fails: by what was seen at
/// the decision, and by system calls that need no file.
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

/// Every rung of this target, best first, and then the symmetric strategy, each with its verdict. Decides nothing:
/// before [`init`] no rung has been reached.
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
                Refusal::from_word(word).map_or(Verdict::NotReached, Verdict::Refused)
            }
            Strategy::Symmetric => Verdict::NotReached,
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
    /// Whether it was taken, refused, or not reached.
    pub verdict: Verdict,
}

/// Whether a rung was taken, refused, or not reached. The `Display` form gives the reason in words.
///
/// ```
/// use asymfence::{Verdict, ladder};
///
/// assert!(ladder().all(|report| report.verdict == Verdict::NotReached)); // nothing has decided
/// assert_eq!(Verdict::Taken.to_string(), "taken");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The process is committed to it.
    Taken,
    /// A better rung was taken, the program chose another by [`force`], or nothing has decided yet.
    NotReached,
    /// It does not work here.
    Refused(Refusal),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Taken => f.write_str("taken"),
            Verdict::NotReached => f.write_str("not reached"),
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
    /// The rung does not work here.
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
