//! Simulates what heavy fences cost a machine of many processors, all of which retire objects. The pacer is the library's.
//! `docs/large-machines.md` shows the output and the conclusions.
//!
//! `cargo run --release --example processors`, or with the nanoseconds that an interrupt costs:
//! `cargo run --release --example processors -- 2000`

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use asymfence::Pacer;

/// Nanoseconds. The time that a running thread loses by an interrupt was measured (the doctor, under KVM). A call takes
/// that time once, and the time to scan the processors, which is an assumption.
const INTERRUPT: u64 = 5_400;
const SCAN_OF_A_PROCESSOR: u64 = 20;

/// Objects that a thread adds up before it tells the pacer.
const AT_A_TIME: u64 = 64;

/// Nanoseconds of simulated time.
const LONG: u64 = 200_000_000;

struct Outcome {
    fences_each_second: f64,
    /// The share of all processors' time that interrupts take.
    interrupted: f64,
    /// The share of all processors' time that callers spend in their calls.
    calling: f64,
}

/// Simulates `processors` that retire that many objects a second each, and share one heavy fence for `batch` objects.
fn simulate(processors: u64, retired_each_second: u64, batch: usize, interrupt: u64) -> Outcome {
    let pacer = Pacer::new(batch);
    let work = AT_A_TIME * 1_000_000_000 / retired_each_second;
    let call = interrupt + SCAN_OF_A_PROCESSOR * processors;
    // When each processor has its next `AT_A_TIME` objects. They start one after another.
    let mut ready: BinaryHeap<_> =
        (0..processors).map(|which| Reverse(work * which / processors + work)).collect();
    // When the last requested call begins. The whole system makes one call at a time.
    let (mut begins, mut calls, mut called) = (0, 0, 0);
    // The delay of every processor by the interrupts so far. Each call interrupts all of them.
    let mut late = 0;
    while let Some(Reverse(planned)) = ready.pop() {
        let now = planned + late;
        if now > LONG {
            break;
        }
        pacer.add(AT_A_TIME as usize);
        let mut next = planned + work;
        if let Some(due) = pacer.due(1) {
            if begins <= now || calls == 0 {
                // All requested calls have begun. So the caller requests another one, which begins after the call that
                // runs now. Otherwise the caller shares the call that is about to begin.
                begins = now.max(begins + call);
                calls += 1;
                late += interrupt;
            }
            let ends = begins + call;
            called += ends - now;
            // The caller works again when its call has ended. Its own call does not interrupt it.
            next = (ends + work).saturating_sub(late);
            due.paid();
        }
        ready.push(Reverse(next));
    }
    let time = (processors * LONG) as f64;
    Outcome {
        fences_each_second: calls as f64 / (LONG as f64 / 1e9),
        interrupted: (calls * interrupt * (processors - 1)) as f64 / time,
        calling: called as f64 / time,
    }
}

/// A batch in words, and by the number of processors.
type Batch = (&'static str, fn(u64) -> usize);

const BATCHES: [Batch; 4] = [
    ("64", |_| 64),
    ("1,024", |_| 1_024),
    // The default of a domain of hazard pointers, for each thread that retires.
    ("1,024 for each processor", |processors| 1_024 * processors as usize),
    ("8,192 for each processor", |processors| 8_192 * processors as usize),
];

/// A table of Markdown, as the page shows it.
fn table((name, batch): Batch, interrupt: u64) -> String {
    let mut lines = format!("| a batch of {name} | 100,000 | 1,000,000 | 10,000,000 |\n");
    lines += "| ---: | ---: | ---: | ---: |\n";
    for processors in [2, 16, 64, 256] {
        lines += &format!("| {processors} processors |");
        for rate in [100_000, 1_000_000, 10_000_000] {
            let outcome = simulate(processors, rate, batch(processors), interrupt);
            let [interrupted, calling] =
                [outcome.interrupted, outcome.calling].map(|share| share * 100.0);
            let fences = outcome.fences_each_second;
            lines += &format!(" {fences:.0}: {interrupted:.1} %, {calling:.1} % |");
        }
        lines += "\n";
    }
    lines
}

fn main() {
    let interrupt = std::env::args()
        .nth(1)
        .map_or(INTERRUPT, |ns| ns.parse().expect("the nanoseconds that an interrupt costs"));
    println!(
        "An interrupt costs {interrupt} ns. A column for each number of objects that a processor retires a second."
    );
    println!(
        "In each cell: calls a second (heavy fences may share one), the share of all processors' time in interrupts, \
         and that in heavy fences."
    );
    BATCHES.iter().for_each(|&batch| println!("\n{}", table(batch, interrupt).trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the page says, whatever the machine.
    #[test]
    fn a_batch_that_grows_with_the_machine_keeps_interrupts_below_one_per_cent() {
        for processors in [2, 16, 64, 256] {
            let batch = 1_024 * processors as usize;
            let outcome = simulate(processors, 1_000_000, batch, INTERRUPT);
            assert!(outcome.interrupted < 0.01, "{processors}: {}", outcome.interrupted);
            // The twin: a batch that does not grow.
            let fixed = simulate(processors, 1_000_000, 1_024, INTERRUPT);
            assert!(processors <= 2 || fixed.interrupted > 0.01, "{}", fixed.interrupted);
            // Ten times as many objects, and a batch that is eight times as large.
            let outcome = simulate(processors, 10_000_000, 8 * batch, INTERRUPT);
            assert!(outcome.interrupted < 0.01, "{processors}: {}", outcome.interrupted);
        }
    }

    #[test]
    fn the_page_shows_what_the_simulation_prints() {
        let page = include_str!("../docs/large-machines.md");
        for batch in BATCHES {
            let table = table(batch, INTERRUPT);
            assert!(page.contains(&table), "docs/large-machines.md is to show:\n{table}");
            // The twin: interrupts of another cost.
            assert!(!page.contains(&super::table(batch, 2 * INTERRUPT)));
        }
    }
}
