//! Four ways to fence the two sides of a structure, at several ratios of frequent to rare operations: full fences on both
//! sides, light and heavy ones, the same with a pacer, and a bias, with a pause of a millisecond and of a tenth of that.
//!
//! The target: at any ratio a bias with a pause of a millisecond costs at most a few per cent more than full fences. With
//! a shorter pause the bias holds from a lower ratio on, and costs more below that.
//!
//! `cargo bench -p fence-benches --bench bias`, and with `-- --quick` for a rough answer
#![allow(missing_docs, reason = "nobody calls it")]

#[allow(dead_code, unused_macros, reason = "another bench's")]
#[path = "../doctor/src/round.rs"]
mod round;
#[allow(dead_code, reason = "another bench's")]
#[path = "../doctor/src/sibling.rs"]
mod sibling;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::LazyLock;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::time::{Duration, Instant};

use asymfence::{Bias, Pacer, Strategy, heavy_fence, light_fence};
use round::{SLOT, SOURCE, stand_at};
use sibling::beside;

fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// True at each 1,021st call.
fn now_and_then() -> bool {
    thread_local! {
        static LEFT: Cell<u32> = const { Cell::new(0) };
    }
    LEFT.with(|cell| {
        let left = cell.get();
        cell.set(left.checked_sub(1).unwrap_or(1_020));
        left == 0
    })
}

/// Runs `times` rounds. In each the frequent side runs `ratio` times, and then the rare side once.
#[inline(never)]
fn rounds<const PLACE: usize>(
    ratio: u64,
    times: u64,
    frequent: impl Fn(),
    rare: impl Fn(),
) -> Duration {
    let (slot, source) = (black_box(&*SLOT), black_box(&*SOURCE));
    let begin = Instant::now();
    for _ in 0..times {
        stand_at::<PLACE>();
        for _ in 0..ratio {
            // Relaxed, all: the fence between a store and a load is measured.
            slot.store(1, Relaxed);
            frequent();
            black_box(source.load(Relaxed));
        }
        source.store(1, Relaxed);
        rare();
        black_box(slot.load(Relaxed));
    }
    begin.elapsed()
}

/// The fences of the two sides, at one of four places of a cache line in turn.
struct Contender(&'static str, fn(u64, u64, usize) -> Duration);

macro_rules! contender {
    ($name:literal, $frequent:expr, $rare:expr) => {
        Contender($name, |ratio, times, place| match place % 4 {
            0 => rounds::<0>(ratio, times, $frequent, $rare),
            1 => rounds::<1>(ratio, times, $frequent, $rare),
            2 => rounds::<2>(ratio, times, $frequent, $rare),
            _ => rounds::<3>(ratio, times, $frequent, $rare),
        })
    };
}

static PACER: Pacer = Pacer::new(64);
static BIAS: Bias = Bias::new(Duration::from_millis(1));
static SHORT: Bias = Bias::new(Duration::from_micros(100));

/// The frequent side's fence. It asks for the bias now and then if that is gone.
#[inline(always)]
fn frequent(bias: &Bias) {
    if !bias.light_fence() && now_and_then() {
        bias.restore_at(now());
    }
}

const CONTENDERS: [Contender; 5] = [
    contender!("symmetric", || fence(SeqCst), || fence(SeqCst)),
    contender!("straight", || light_fence(), heavy_fence),
    contender!("paced", || light_fence(), || {
        PACER.add(1);
        if let Some(due) = PACER.due(1) {
            heavy_fence();
            due.paid();
        }
    }),
    contender!("biased", || frequent(&BIAS), || BIAS.heavy_fence(now)),
    contender!("100 us", || frequent(&SHORT), || SHORT.heavy_fence(now)),
];

/// The index of the bias that the target is for: at most 1.05 of the cost of full fences.
const BIASED: usize = 3;

/// Takes `samples` samples of each contender, in turn. Returns for each contender its least nanoseconds for a round of
/// the frequent side (its share of the rare side included), and how many heavy fences the bias makes in a second.
fn in_turn(ratio: u64, samples: usize, long: Duration) -> ([f64; 5], f64) {
    let times = CONTENDERS.each_ref().map(|Contender(_, run)| {
        let (mut times, mut took) = (1, Duration::ZERO);
        while took < long / 4 {
            times *= 2;
            took = run(ratio, times, 0);
        }
        (times as f64 * long.div_duration_f64(took)).ceil() as u64
    });
    let (mut least, mut fences, mut seconds) = ([f64::INFINITY; 5], 0, 0.0);
    for sample in 0..samples {
        for i in (0..5).map(|i| (sample + i) % 5) {
            let before = asymfence::stats().heavy.asked;
            let took = CONTENDERS[i].1(ratio, times[i], sample);
            if i == BIASED {
                fences += asymfence::stats().heavy.asked - before;
                seconds += took.as_secs_f64();
            }
            least[i] = least[i].min(took.as_nanos() as f64 / (times[i] * ratio) as f64);
        }
    }
    (least, fences as f64 / seconds)
}

fn main() {
    let is_asked = |word: &str| std::env::args().any(|argument| argument == word);
    let (samples, long) = match (is_asked("--bench"), is_asked("--quick")) {
        (true, false) => (16, Duration::from_millis(12)),
        (true, true) => (4, Duration::from_millis(6)),
        // `cargo test --benches`
        (false, _) => (1, Duration::from_micros(10)),
    };
    if asymfence::init() == Strategy::Symmetric {
        return println!("this process is symmetric: there is nothing to compare");
    }
    BIAS.restore();
    SHORT.restore();
    println!("ns per round of the frequent side, with its share of the rare side; a sibling runs");
    print!("{:>10}", "ratio");
    CONTENDERS.iter().for_each(|Contender(name, _)| print!(" {name:>10}"));
    println!("  biased of symmetric, and heavy fences a second");
    let work = || {
        let mut worst: f64 = 0.0;
        for ratio in (0..8).map(|power| 10_u64.pow(power)) {
            let (least, fences) = in_turn(ratio, samples, long);
            let of_symmetric = least[BIASED] / least[0];
            print!("{ratio:>10}");
            least.iter().for_each(|least| print!(" {least:>10.2}"));
            println!("  {of_symmetric:.3} {fences:8.0}");
            worst = worst.max(of_symmetric);
        }
        worst
    };
    let Some(worst) = beside(1, 0, std::hint::spin_loop, work) else {
        return println!("one core: a heavy fence interrupts nobody");
    };
    let verdict = if worst <= 1.05 { "pass" } else { "MISS" };
    println!("{verdict}: biased is at most {worst:.3} of symmetric, to be at most 1.05");
}
