//! Store buffering (scenario A) on two real cores, as often as it takes.
//!
//! ```text
//! left                right
//! x = k               y = k
//! left fence          right fence
//! r1 = y              r2 = x
//! weak: r1 < k && r2 < k
//! ```
//!
//! Each round `k` has a value of its own, so nothing is reset between rounds. A test that never sees the weak outcome
//! where it is allowed has no teeth. Therefore the side whose fence does not drain the store buffer fills it first,
//! with stores that mostly miss the core's own caches, so that its `x = k` waits behind them.

use std::hint::black_box;
use std::io::{Write, stderr};
use std::ops::Range;
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, compiler_fence, fence};
use std::thread;
use std::time::{Duration, Instant};

use asymfence::{Strategy, heavy_fence, light_fence};
use core_affinity::CoreId;
use crossbeam_utils::CachePadded;

/// What stands between a side's store and its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    Light,
    Full,
    Heavy,
    /// Takes as long as a short system call, and is a full fence of its caller alone: what a rung would be that reaches
    /// nobody. (A fence that reaches nobody, but takes longer than a store stays in the store buffer, cannot be told
    /// from a heavy fence by the outcomes of the test. So tests/it counts the interrupts.)
    #[allow(dead_code, reason = "only tests/litmus.rs needs to know that its test has teeth")]
    Decoy,
}

impl Fence {
    pub(crate) const ALL: [Fence; 3] = [Fence::Light, Fence::Full, Fence::Heavy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Fence::Light => "light",
            Fence::Full => "full",
            Fence::Heavy => "heavy",
            Fence::Decoy => "decoy",
        }
    }

    /// As it is written in code, where it has another name there.
    #[allow(dead_code, reason = "only the doctor's report shows it")]
    pub(crate) fn words(self) -> &'static str {
        if self == Fence::Full { "fence(SeqCst)" } else { self.name() }
    }

    /// The contract: whether the pair forbids the weak outcome. A symmetric process keeps more than
    /// the contract: its light fence is a full one.
    pub(crate) fn is_ordered_with(self, other: Fence, strategy: Strategy) -> bool {
        use Fence::{Decoy, Full, Light};
        strategy == Strategy::Symmetric
            || !matches!((self, other), (Light, Light | Full | Decoy) | (Full | Decoy, Light))
    }
}

/// Rounds run, and how many of them ended in the weak outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Observed {
    pub(crate) rounds: u64,
    pub(crate) weak: u64,
}

/// The bytes over which a side scatters the stores that fill its store buffer: more than a core's own caches hold, and
/// less where memory or address space is short. Not much more: a store enters the buffer only when its address is
/// translated, and 128 MiB showed a seventh of the weak outcomes (Intel Xeon with AMX, 2026-11-26).
const SCATTER: usize = 32 << 20;

/// How many of them: about as many as a store buffer has entries.
const STUFFING: usize = 48;

/// Rounds in one go.
pub(crate) const PORTION: u64 = 2_000;

/// Where a side's stores go that fill its store buffer.
pub(crate) fn scatter() -> Vec<u8> {
    // Twice as much must be free, because the threads' stacks are allocated later.
    let fits = |length: &usize| Vec::<u8>::new().try_reserve_exact(2 * length).is_ok();
    let mut lengths = (0..12).map(|halvings| SCATTER >> halvings);
    let length = lengths.find(fits).expect("a few pages of memory");
    // Not zero: a page of zeros is not mapped before its first write, and a page fault drains the store
    // buffer.
    vec![1; length]
}

/// `None` where there are no two cores to run on: one core alone shows no reordering.
pub(crate) fn two_cores() -> Option<[CoreId; 2]> {
    let cores = core_affinity::get_core_ids()?;
    Some([*cores.first()?, *cores.get(1)?])
}

/// In turns of [`pause`]. A heavy fence takes microseconds; its peer arrives anywhere in it, not only at its beginning.
pub(crate) fn longest_pause(other_takes_long: bool) -> u32 {
    if other_takes_long { 1 << 16 } else { 1 << 11 }
}

/// A turn takes a clock cycle or two. Not `spin_loop`: its instruction takes ten times as long on one processor as on
/// another.
fn pause(turns: u32) {
    for turn in 0..turns {
        black_box(turn);
    }
}

pub(crate) struct Litmus {
    /// Each is allocated when a side first needs it, since that takes tens of milliseconds. Two are needed only if both
    /// fences are light.
    scatter: [Vec<u8>; 2],
    cores: [CoreId; 2],
    shared: Shared,
    /// The rounds run so far by all calls: the values of x and y only grow.
    base: u64,
}

/// What both sides see. The sides may be two processes, and this in memory that they share: all zero is
/// how it begins.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Shared {
    x: CachePadded<AtomicU64>,
    y: CachePadded<AtomicU64>,
    /// The last round to which each side has come, modulo 2^32.
    arrived: [CachePadded<AtomicU32>; 2],
    /// Whether a side sleeps until the other arrives.
    sleeps: [CachePadded<AtomicBool>; 2],
}

impl Litmus {
    /// `None` where there are no two cores to run on: one core alone shows no reordering.
    pub(crate) fn new() -> Option<Self> {
        let cores = two_cores()?;
        let scatter = [Vec::new(), Vec::new()];
        Some(Litmus { scatter, cores, shared: Shared::default(), base: 0 })
    }

    fn run(&mut self, left: Fence, right: Fence, rounds: u64) -> u64 {
        let first = self.base + 1;
        self.base += rounds;
        let (shared, cores) = (&self.shared, self.cores);
        let mut scatters = self.scatter.iter_mut();
        let mut for_fence = |fence| {
            (fence == Fence::Light).then(|| {
                let mine = scatters.next().expect("one for each side");
                if mine.is_empty() {
                    *mine = scatter();
                }
                &mut mine[..]
            })
        };
        let (left_scatter, right_scatter) = (for_fence(left), for_fence(right));
        let missed = thread::scope(|scope| {
            [(0, left, right, left_scatter), (1, right, left, right_scatter)]
                .map(|(me, mine, other, scatter)| {
                    let rounds = first..first + rounds;
                    let side = move || shared.side(me, cores[me], mine, other, scatter, rounds);
                    thread::Builder::new().spawn_scoped(scope, side).unwrap_or_else(|error| {
                        // A panic would wait for the other side, which waits for this one.
                        _ = writeln!(stderr(), "a thread cannot be created: {error}");
                        exit(2)
                    })
                })
                .map(|side| side.join().expect("a side of the litmus test does not panic"))
        });
        let weak =
            missed[0].iter().zip(&missed[1]).filter(|(left, right)| **left && **right).count();
        weak as u64
    }

    /// Runs in small portions for as long as `go_on` says, and counts the weak rounds.
    pub(crate) fn run_while(
        &mut self,
        left: Fence,
        right: Fence,
        go_on: impl Fn(Observed) -> bool,
    ) -> Observed {
        let mut seen = Observed::default();
        while go_on(seen) {
            seen.weak += self.run(left, right, PORTION);
            seen.rounds += PORTION;
        }
        seen
    }
}

impl Shared {
    /// One side's rounds: for each, whether its load missed the other side's store.
    fn side(
        &self,
        me: usize,
        core: CoreId,
        mine: Fence,
        other: Fence,
        scatter: Option<&mut [u8]>,
        rounds: Range<u64>,
    ) -> Vec<bool> {
        let longest_pause = longest_pause(matches!(other, Fence::Heavy | Fence::Decoy));
        let full_fence = || fence(Ordering::SeqCst);
        match mine {
            Fence::Light => self.rounds(me, core, light_fence, scatter, longest_pause, rounds),
            Fence::Full => self.rounds(me, core, full_fence, scatter, longest_pause, rounds),
            Fence::Heavy => self.rounds(me, core, heavy_fence, scatter, longest_pause, rounds),
            Fence::Decoy => self.rounds(me, core, decoy, scatter, longest_pause, rounds),
        }
    }

    /// The same with a fence of the caller's, on this core. `scatter` is given if the fence does not drain
    /// the store buffer.
    #[inline(always)]
    pub(crate) fn rounds(
        &self,
        me: usize,
        core: CoreId,
        fence: impl Fn(),
        mut scatter: Option<&mut [u8]>,
        longest_pause: u32,
        rounds: Range<u64>,
    ) -> Vec<bool> {
        core_affinity::set_for_current(core);
        let (store, load) = if me == 0 { (&self.x, &self.y) } else { (&self.y, &self.x) };
        let mut random = fastrand::Rng::with_seed(rounds.start + me as u64);
        let mut missed = Vec::with_capacity(PORTION as usize);
        for k in rounds {
            // Short ones are as frequent as long ones: a fence that reaches nobody shows itself only to a peer that
            // arrives near its beginning.
            let turns = random.u32(..longest_pause) >> random.u32(..8);
            let start = random.usize(..);
            self.meet(me, k);
            pause(turns);
            if let Some(scatter) = &mut scatter {
                for i in 0..STUFFING {
                    // A large odd stride: each store to a page of its own.
                    scatter[start.wrapping_add(i.wrapping_mul(0x9E37_79B1)) % scatter.len()] =
                        k as u8;
                }
                // The compiler keeps these stores before the one that is to wait behind them.
                compiler_fence(Ordering::SeqCst);
            }
            store.store(k, Ordering::Relaxed);
            fence();
            missed.push(load.load(Ordering::Relaxed) < k);
        }
        missed
    }

    /// Both sides leave round `k`'s meeting within a few nanoseconds of each other, if both run. A side sleeps if the
    /// other one does not run: if it spun, it could keep the processor from the other.
    fn meet(&self, me: usize, k: u64) {
        const SPINS: u32 = 10_000;
        let (mine, other) = (&self.arrived[me], &self.arrived[1 - me]);
        let has_come = |last: u32| last.wrapping_sub(k as u32) as i32 >= 0;
        // SeqCst, both exchanges, and the loads after them: either we see that the other sleeps, or it sees that we
        // have come.
        mine.swap(k as u32, Ordering::SeqCst);
        if self.sleeps[1 - me].load(Ordering::SeqCst) {
            wake(mine);
        }
        for _ in 0..SPINS {
            // Acquire: no more is needed to learn that the other has come.
            if has_come(other.load(Ordering::Acquire)) {
                return;
            }
            std::hint::spin_loop();
        }
        self.sleeps[me].swap(true, Ordering::SeqCst);
        loop {
            let last = other.load(Ordering::SeqCst);
            if has_come(last) {
                break;
            }
            wait_while(other, last);
        }
        // Relaxed: a waker that sees this late wakes for nothing.
        self.sleeps[me].store(false, Ordering::Relaxed);
    }
}

/// Returns when it is woken, or the value is another; or for nothing.
#[cfg(target_os = "linux")]
fn wait_while(word: &AtomicU32, value: u32) {
    use rustix::thread::futex::{Flags, wait};
    // Not private: the sides may be two processes. An error is a return for nothing.
    let _ = wait(word, Flags::empty(), value, None);
}

#[cfg(target_os = "linux")]
fn wake(word: &AtomicU32) {
    use rustix::thread::futex::{Flags, wake};
    let _ = wake(word, Flags::empty(), 1);
}

#[cfg(not(target_os = "linux"))]
fn wait_while(_word: &AtomicU32, _value: u32) {
    thread::yield_now();
}

#[cfg(not(target_os = "linux"))]
fn wake(_word: &AtomicU32) {}

fn decoy() {
    fence(Ordering::SeqCst);
    let start = Instant::now();
    while start.elapsed() < Duration::from_nanos(500) {
        std::hint::spin_loop();
    }
    fence(Ordering::SeqCst);
}
