//! The two fences.
//!
//! ```text
//!               light        full         heavy       full: fence(SeqCst)
//!     light     unordered    unordered    ordered
//!     full      unordered    ordered      ordered
//!     heavy     ordered      ordered      ordered
//! ```
//!
//! The operation, as the loom model implements it. A heavy fence is a full fence; then every other thread executes one
//! full fence, in no particular order among the threads; then a full fence. A light fence marks a position in its
//! thread: the full fence that the heavy fence causes in that thread comes before or after it. A thread without a fence
//! of its own is not ordered, because the compiler may move its accesses across the point where it is interrupted.
//!
//! The tests refer to these scenarios by their letters. In each, `heavy` on one side and `light` on the other forbid
//! the outcome. With `light` on both sides, or `full` against `light`, it is allowed, and the loom models show it.
//!
//! ```text
//! A (store buffering)   reader              writer
//!                       x = 1               y = 1
//!                       light_fence()       heavy_fence()
//!                       r1 = y              r2 = x
//!                       forbidden: r1 == 0 && r2 == 0
//!
//! B (message passing)   sender              receiver
//!                       x = 1               r1 = y
//!                       light_fence()       heavy_fence()
//!                       y = 1               r2 = x
//!                       forbidden: r1 == 1 && r2 == 0
//!
//! C (the same, turned)  sender              receiver
//!                       x = 1               r1 = y
//!                       heavy_fence()       light_fence()
//!                       y = 1               r2 = x
//!                       forbidden: r1 == 1 && r2 == 0
//! ```
//!
//! NO-WAY-BACK: after a commit to an asymmetric strategy a heavy fence succeeds, or the process stops, or the caller
//! gets an error and nothing has been ordered (`try_heavy_fence`). It never becomes a weaker fence: the light fences
//! that were executed already cannot be made stronger.

use core::cell::Cell;
use core::fmt;

use crate::coalesce::{Calls, Coalesce, between_full_fences};
use crate::refusal::{Failure, Refusal};
use crate::strategy::{self, Rung, Strategy};
use crate::sync::{Ordering::SeqCst, fence, global};
use crate::sys::patience::{count_a_retry, patiently, retries};
use crate::sys::{self, LOOKS, Mechanism};

/// Orders the memory accesses before it against those after it, as seen by a thread that executes a [`heavy_fence`],
/// and by no other thread.
///
/// For the side that runs millions of times a second. A process chooses once how its fences work: this is the
/// *decision* ([`init`](crate::init)). A process is *asymmetric* if the decision took a mechanism for heavy fences. It
/// is *symmetric* if none works there, or if the program or its user has switched them off ([`force`](crate::force)).
/// In an asymmetric process a light fence is a relaxed load, a compare, a well-predicted branch and a compiler barrier.
/// It executes no fence instruction. Before the decision, and in a symmetric process, it is `fence(SeqCst)`.
/// [`Asymmetric::light_fence`](crate::Asymmetric::light_fence) is a compiler barrier alone.
///
/// # What it pairs with
///
/// | | light | `fence(SeqCst)` | heavy |
/// | --- | --- | --- | --- |
/// | **light** | unordered | unordered | ordered |
///
/// The accesses must be atomic, relaxed or stronger, on both sides. A heavy fence of a third thread does not order two
/// light fences against each other.
///
/// # Panics, errors, aborts; signal safety
///
/// None. Wait-free and async-signal-safe: it never decides, allocates or makes a system call.
///
/// # Source
///
/// The column of membarrier(2)'s table for the compiler barrier; P1202R5 `asymmetric_thread_fence_light`.
///
/// ```
/// use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
///
/// static READING: AtomicBool = AtomicBool::new(false);
/// static VERSION: AtomicUsize = AtomicUsize::new(0);
///
/// READING.store(true, Relaxed);
/// asymfence::light_fence(); // pairs with the heavy fence of the writer
/// let version = VERSION.load(Relaxed);
/// # assert_eq!(version, 0);
/// ```
#[inline(always)]
#[track_caller] // for models; other builds do not use it
pub fn light_fence() {
    if strategy::is_asymmetric() {
        sys::compiler_barrier();
    } else {
        seldom();
        // The process has not decided yet, or is symmetric. Pairs with: the opening and the closing fence of every
        // heavy fence, symmetric or not.
        fence(SeqCst);
    }
}

/// Marks its branch as unlikely. The full fence in that branch stays in line: a call would cost the loop around a light
/// fence every register that a call does not preserve.
#[cold]
#[inline(always)]
pub(crate) fn seldom() {}

/// Orders the memory accesses before it against those after it, as seen by every thread of the
/// process that executes a [`light_fence`], a `fence(SeqCst)` or a heavy fence.
///
/// For the side that runs rarely. It has all the effects of `fence(SeqCst)` on its caller, and makes every other thread
/// of the process execute a full fence before it returns. While other threads run it takes microseconds, and interrupts
/// them. The first heavy fence decides the strategy if [`init`](crate::init) was not called. If no mechanism works
/// here, the process is symmetric (see [`Strategy`]), and this is `fence(SeqCst)`.
///
/// # What it pairs with
///
/// | | light | `fence(SeqCst)` | heavy |
/// | --- | --- | --- | --- |
/// | **heavy** | ordered | ordered | ordered |
///
/// On Linux and Android concurrent callers share one system call ([`Coalesce`]); elsewhere each makes its own. A caller
/// that will need a heavy fence, but not yet, can take a [`Ticket`](crate::Ticket) now. If another thread executes a
/// heavy fence in the meantime, the caller needs none of its own.
///
/// A heavy fence reaches every thread of this process, including threads that are created or end during the call. It
/// does not reach other processes that share memory with this one: see `cross_process`.
///
/// # Panics, errors, aborts
///
/// Never panics. **Aborts the process** if it cannot keep its guarantee: by SIGABRT, or by exiting with status 134
/// where that signal does not end the process (PID 1 of a PID namespace, a sandbox), or by a trap (SIGILL or SIGTRAP)
/// where a sandbox refuses even that.
///
/// A message on standard error names the mechanism (the [rung](crate::Rung)), the call and the errno. The message is
/// left out if there is no room for it until somebody reads (a full pipe, for example). On Linux and Android it is also
/// left out if standard error is open only for reading, or is one of these: a terminal or another character device
/// (such as /dev/kmsg) that the process cannot open again (another user's, no /proc, no free descriptor); the master
/// side of a pseudo-terminal; a block device; a file that is open with O_DIRECT; a sealed memfd; a UDP socket that is
/// not connected. If standard error is a file that cannot grow (the file system is full, a quota, RLIMIT_FSIZE), the
/// message is cut off or left out.
///
/// The message does wait for a lock of the kernel: if another process or thread is stuck in a system call on the same
/// pipe, file or socket, the process ends only after that call.
///
/// [The limits](crate::guide::limits) list what else may keep the process from ending, for example a handler of SIGABRT
/// that does not return or jumps away, or a filter that kills only this thread. This function does not return in any of
/// these cases.
///
/// Before `heavy_fence` aborts it tries what may help:
///
/// - If a call fails for lack of memory, or is interrupted, it makes the call again, a bounded number of times.
/// - If the kernel says that the process is not registered, it registers the process again and makes the call once
///   more.
/// - Then it tries every other rung that is sound here. It opens no file for that: what a rung needs to know about the
///   machine was read at the decision.
///
/// Known causes of an abort:
///
/// - a sandbox that was installed after the decision, on the process or on this thread;
/// - a sandbox that applies only to this thread, even if it was installed before the decision: another thread, outside
///   of it, decided;
/// - a sandbox that asks a supervisor (SECCOMP_RET_USER_NOTIF), even if it was there at the decision: the supervisor
///   ends, or is slow while signals interrupt this thread;
/// - a kernel that is out of memory;
/// - on the mprotect rung:
///   - a process that has reached RLIMIT_DATA;
///   - one that has reached vm.max_map_count, while its heavy fences overlap, or while the kernel has merged the
///     mappings of pages of the rung that lie side by side;
///   - one that has reached RLIMIT_AS (or RLIMIT_MEMLOCK after mlockall(MCL_FUTURE)), while more than four heavy fences
///     overlap;
///   - one whose personality is set to READ_IMPLIES_EXEC, under a policy that forbids memory to be writable and
///     executable at once;
///   - one that has sealed a page of the rung by mseal(2);
/// - another kernel, after a checkpoint was restored there.
///
/// Where that can happen, use [`try_heavy_fence`], or [`force`](crate::force) the symmetric strategy. A sandbox that
/// was installed after the decision, or only on this thread, may answer success without calling the kernel: that is not
/// detected. (On the mprotect rung the process may also end by SIGSEGV then.)
///
/// # Signal safety
///
/// Async-signal-safe once the strategy is decided; before, see [`init`](crate::init). A signal handler that interrupted
/// a heavy fence may call `heavy_fence`, and so may a forked child. (On the mprotect rung block the signal while its
/// handler runs: see [Limits](crate::guide::limits).) `heavy_fence` may change `errno` if it decides, or if a call of
/// the rung fails, even if the next try succeeds.
///
/// prctl(PR_SET_TSC) can forbid the time stamp counter to one thread and the threads that it starts. The decision
/// checks the deciding thread only. If that thread may not read the counter, no heavy fence reads it. If it may, every
/// thread to which the counter is forbidden later, and every other thread to which it was forbidden before, can get
/// SIGSEGV when it waits for another thread's heavy fence. So a program that forbids the counter to any thread should
/// forbid it to the deciding thread too, before the decision.
///
/// # Source
///
/// The bottom row of membarrier(2)'s table; P1202R5 `asymmetric_thread_fence_heavy`. The two `fence(SeqCst)` around the
/// call are needed: the kernel returns before any barrier if the `mm` has one user (one thread, and no other process
/// shares it) or if one processor is online (kernel/sched/membarrier.c@v6.8).
///
/// ```
/// use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
///
/// static READING: AtomicBool = AtomicBool::new(false);
/// static VERSION: AtomicUsize = AtomicUsize::new(0);
///
/// VERSION.store(1, Relaxed);
/// asymfence::heavy_fence(); // pairs with the light fence of each reader
/// if !READING.load(Relaxed) {
///     // A reader that starts from now on sees version 1.
/// }
/// ```
#[track_caller] // as above
pub fn heavy_fence() {
    or_abort(decided_or_first());
}

/// NO-WAY-BACK.
#[inline]
pub(crate) fn or_abort<T>(outcome: Result<T, HeavyFenceError>) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => abort(error),
    }
}

#[cold]
fn abort(error: HeavyFenceError) -> ! {
    sys::abort(format_args!(
        "{error}. The process stops: light fences that it has executed rely on this heavy fence."
    ))
}

/// The same as [`heavy_fence`], but returns an error where `heavy_fence` aborts.
///
/// # Errors
///
/// If the rung's call fails, and all that [`heavy_fence`] tries next fails too. Then **nothing has been ordered**, and
/// the caller must not continue as if it had been: a reclaimer keeps its garbage and tries again later.
///
/// What [`heavy_fence`] says of panics, signal safety and its source holds for this call too. It aborts in two cases,
/// of which [`init`](crate::init) says more: if a pthread_cancel(3) is pending when it decides; and if rustix or the
/// standard library notices what it takes for impossible, such as an answer that no kernel gives.
///
/// ```
/// # let mut garbage = vec![1];
/// # fn is_in_a_slot(_: &i32) -> bool { false }
/// match asymfence::try_heavy_fence() {
///     Ok(()) => garbage.retain(is_in_a_slot), // what no reader has published may be freed now
///     Err(error) => eprintln!("{error}: kept for the next time"),
/// }
/// ```
#[track_caller] // as above
pub fn try_heavy_fence() -> Result<(), HeavyFenceError> {
    decided_or_first()
}

/// Decides if the process has not decided yet, and executes a heavy fence. It is inlined into both functions above, so
/// that each of them is one frame around the system call.
#[inline(always)]
#[track_caller] // as above
fn decided_or_first() -> Result<(), HeavyFenceError> {
    sys::heavy_fence_begins();
    match strategy::init() {
        Strategy::Asymmetric(rung) => heavy(None, rung),
        Strategy::Symmetric => {
            // Pairs with: the light fences of this process, which are all full, and full fences.
            fence(SeqCst);
            Ok(())
        }
    }
}

/// A heavy fence on a rung. `since` is the count in a ticket. If it is given, and the rung's calls are shared
/// (`waiting`), a call that started after the ticket was taken serves instead of a new one. If the rung's calls are not
/// shared, this function always makes a new call. So a caller with a ticket asks `is_served` first.
#[inline(always)] // into each of its callers: see `barrier_elsewhere`
pub(crate) fn heavy(since: Option<usize>, rung: Rung) -> Result<(), HeavyFenceError> {
    let instead = Cell::new(None);
    let call = || barrier_elsewhere(rung, &instead).map_err(Failure::to_word);
    let outcome = match (rung.mechanism().waiting, since) {
        (Some(waiting), None) => HEAVY.run_within(LOOKS, waiting, call),
        (Some(waiting), Some(since)) => HEAVY.run_since(since, LOOKS, waiting, call),
        (None, _) if sys::counts_calls() => HEAVY.run_alone(call),
        (None, _) => between_full_fences(fence, call),
    };
    outcome.map_err(|word| HeavyFenceError {
        rung,
        failure: Failure::from_word(word),
        instead: instead.get(),
    })
}

global! {
    /// Threads that ask for a heavy call while another thread makes one may share the next call. Calls of rungs that
    /// are not shared are counted here too, for tickets.
    pub(crate) static HEAVY: Coalesce = Coalesce::new();
}

/// Makes every other thread pass a full barrier: by `rung`, or by another rung if the call of `rung` fails. If all
/// fail, `instead` is the last one that was tried, and why it was refused.
#[inline(always)]
fn barrier_elsewhere(rung: Rung, instead: &Cell<Option<(Rung, Refusal)>>) -> Result<(), Failure> {
    // The first rung's call is direct, and in line. Each frame around a system call costs, because the processor's
    // return predictor is lost in the kernel.
    let first = sys::LADDER.first().filter(|_| rung.is_first());
    match first.map(|first| sys::no_unwind(first.call)).transpose() {
        Ok(Some(())) => Ok(()),
        outcome => other_ways(rung, instead, outcome.err()),
    }
}

/// What is tried after the direct call of the first rung has `failed`: the call again, a new registration, and the
/// other rungs. For a rung that is not the first, its first call is made here too.
#[cold]
fn other_ways(
    rung: Rung,
    instead: &Cell<Option<(Rung, Refusal)>>,
    failed: Option<Failure>,
) -> Result<(), Failure> {
    if failed.is_some_and(Failure::is_transient) {
        count_a_retry();
    }
    let Err(failure) = insist(rung.mechanism()) else { return Ok(()) };
    // All rungs pair with the same light fence, so any rung that is sound here will do.
    for other in Rung::all().filter(|&other| other != rung) {
        let stands_in = strategy::stand_in(other);
        // guard survives: the probe makes the same calls a moment before (on the mprotect rung only the first time),
        // and no test makes a later one fail alone.
        let Err(refusal) = stands_in.and_then(|()| Ok(insist(other.mechanism())?)) else {
            return Ok(());
        };
        instead.set(Some((other, refusal)));
    }
    Err(failure)
}

/// Makes the rung's call, and makes it again where that may help. A lost registration is renewed once, without the C
/// library's locks, because this may be a signal handler.
pub(crate) fn insist(rung: &Mechanism) -> Result<(), Failure> {
    sys::no_unwind(|| match patiently(rung.call) {
        Err(failure) if failure.is_unregistered() => {
            patiently(rung.register.ok_or(failure)?).map_err(|_| failure)?;
            patiently(rung.call)
        }
        answer => answer,
    })
}

/// What the heavy fences of this process have cost so far, as counted by [`stats`].
///
/// ```
/// asymfence::heavy_fence();
/// let stats = asymfence::stats();
/// assert_eq!(stats.heavy.asked, stats.heavy.calls + stats.heavy.shared);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FenceStats {
    /// Heavy fences that were asked for, calls that were made, and heavy fences that shared another's call. All are 0
    /// in a symmetric process, which makes no call.
    pub heavy: Calls,
    /// Calls that were repeated after a failure that may be temporary (ENOMEM, EINTR, EAGAIN): of membarrier(2), with
    /// any command; of another rung's mechanism; and of pthread_atfork(3) and pthread_key_create(3), by whose locks a
    /// registration waits for forks that have begun. Calls that the decision, the module `membarrier` or a segment of
    /// `cross_process` repeated are counted too. Not counted are repetitions of calls that read files or ask for CPUID
    /// for the decision, that make and prepare the pages of the mprotect rung, or that take the locks of segments.
    /// Without the feature `std`, repetitions of QUERY are not counted either. After an errno other than these three a
    /// heavy fence adds calls that are not counted. On the membarrier rung it calls membarrier(2) a second time, and
    /// after EPERM it also registers, and makes one more call. On every rung the calls of another rung come then, if
    /// there is one.
    pub retries: usize,
}

/// The counters of heavy fences, for an operator. Light fences are not counted.
///
/// `docs/observing.md` says how they agree with what strace and perf count. In a forked child they include what the
/// parent had counted before the fork. Async-signal-safe; never decides.
///
/// ```
/// asymfence::heavy_fence();
/// println!("{:?}", asymfence::stats());
/// ```
#[must_use]
pub fn stats() -> FenceStats {
    let heavy = if sys::counts_calls() { HEAVY.stats() } else { Calls::default() };
    FenceStats { heavy, retries: retries() }
}

/// The error of a heavy fence that could not keep its guarantee. Nothing has been ordered.
///
/// `Display` names the rung, the call and the errno, and says what to do.
///
/// ```
/// if let Err(error) = asymfence::try_heavy_fence() {
///     eprintln!("{error}");
///     eprintln!("{} failed with errno {}", error.failure().call(), error.failure().errno());
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeavyFenceError {
    rung: Rung,
    failure: Failure,
    instead: Option<(Rung, Refusal)>,
}

impl HeavyFenceError {
    /// The rung that the process is committed to.
    #[must_use]
    pub fn rung(self) -> Rung {
        self.rung
    }

    /// The system call that failed, and its errno.
    #[must_use]
    pub fn failure(self) -> Failure {
        self.failure
    }

    /// The rung that was tried last in its place, and why it was refused. `None` if this target has no other rung.
    #[must_use]
    pub fn instead(self) -> Option<(Rung, Refusal)> {
        self.instead
    }
}

impl fmt::Display for HeavyFenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "heavy fence by {}: {}", self.rung, self.failure)?;
        match self.instead {
            Some((rung, refusal)) => write!(f, "; {rung} cannot take over: {refusal}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for HeavyFenceError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.failure)
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;
    use crate::refusal::Call;
    use crate::sys::patience::ATTEMPTS;

    /// A rung that fails with `$errno` for the first `$failing` calls, and the calls and
    /// registrations that `insist` makes on it.
    macro_rules! insist_on {
        (failing: $failing:expr, errno: $errno:expr, registers: $registers:expr) => {{
            static FAILURES_LEFT: AtomicU32 = AtomicU32::new($failing);
            static CALLS: AtomicU32 = AtomicU32::new(0);
            static REGISTRATIONS: AtomicU32 = AtomicU32::new(0);
            let rung = Mechanism {
                name: "failing",
                admit: || Ok(()),
                probe: || Ok(()),
                waiting: None,
                // Relaxed, all: one thread.
                call: || {
                    CALLS.fetch_add(1, Relaxed);
                    let fails =
                        FAILURES_LEFT.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
                    fails.map_or(Ok(()), |_| Err(Failure::new(Call::PrivateExpedited, $errno)))
                },
                register: Some(|| {
                    // Relaxed: as above.
                    REGISTRATIONS.fetch_add(1, Relaxed);
                    $registers
                }),
            };
            // Relaxed: as above.
            (insist(&rung), CALLS.load(Relaxed), REGISTRATIONS.load(Relaxed))
        }};
    }

    const EPERM: Failure = Failure::new(Call::PrivateExpedited, 1);
    const ENOMEM: Failure = Failure::new(Call::PrivateExpedited, 12);
    const ENOSYS: Failure = Failure::new(Call::PrivateExpedited, 38);

    #[test]
    fn a_call_that_works_is_made_once() {
        assert_eq!(insist_on!(failing: 0, errno: 1, registers: Ok(())), (Ok(()), 1, 0));
    }

    #[test]
    fn want_of_memory_and_an_interruption_are_tried_again_with_a_bound() {
        assert_eq!(insist_on!(failing: 5, errno: 4, registers: Ok(())), (Ok(()), 6, 0));
        assert_eq!(insist_on!(failing: 5, errno: 12, registers: Ok(())), (Ok(()), 6, 0));
        let for_ever = insist_on!(failing: u32::MAX, errno: 12, registers: Ok(()));
        assert_eq!(for_ever, (Err(ENOMEM), ATTEMPTS, 0));
    }

    #[test]
    fn a_lost_registration_is_renewed_once() {
        assert_eq!(insist_on!(failing: 1, errno: 1, registers: Ok(())), (Ok(()), 2, 1));
        assert_eq!(insist_on!(failing: 2, errno: 1, registers: Ok(())), (Err(EPERM), 2, 1));
        assert_eq!(insist_on!(failing: 1, errno: 1, registers: Err(ENOSYS)), (Err(EPERM), 1, 1));
    }

    #[test]
    fn a_rung_without_a_registration_has_none_to_renew() {
        let rung = Mechanism {
            name: "failing",
            admit: || Ok(()),
            probe: || Ok(()),
            waiting: None,
            call: || Err(EPERM),
            register: None,
        };
        assert_eq!(insist(&rung), Err(EPERM));
    }

    #[test]
    fn any_other_failure_is_final() {
        assert_eq!(insist_on!(failing: 1, errno: 38, registers: Ok(())), (Err(ENOSYS), 1, 0));
    }
}
