//! What heavy fences cost a machine of many processors, all of which retire objects: a simulation, with the
//! pacer as it is. `docs/large-machines.md` has what it prints, and what follows.
//!
//! `cargo run --release --example processors`, or with the nanoseconds that an interrupt costs:
//! `cargo run --release --example processors -- 2000`

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use asymfence::Pacer;

/// Nanoseconds. What a running thread loses by an interrupt was measured (the doctor, under KVM); what a call
/// takes is that, once, and a scan of the processors, which is an assumption.
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
    /// And that callers spend in their calls.
    calling: f64,
}

/// `processors` that retire so many objects a second each, and share heavy fences for `batch` of them.
fn simulate(processors: u64, retired_each_second: u64, batch: usize, interrupt: u64) -> Outcome {
    let pacer = Pacer::new(batch);
    let work = AT_A_TIME * 1_000_000_000 / retired_each_second;
    let call = interrupt + SCAN_OF_A_PROCESSOR * processors;
    // When each has its objects together; they begin one after another.
    let mut ready: BinaryHeap<_> =
        (0..processors).map(|which| Reverse(work * which / processors + work)).collect();
    // The last call that was asked for: when it begins. One is made at a time in the whole system.
    let (mut begins, mut calls, mut called) = (0, 0, 0);
    // How much later everybody is by the interrupts so far, all of which strike all.
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
                // A call of its own, behind the one that goes on. Otherwise one is about to begin: it is shared.
                begins = now.max(begins + call);
                calls += 1;
                late += interrupt;
            }
            let ends = begins + call;
            called += ends - now;
            // The caller works behind its call; it was not interrupted by that one.
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

fn main() {
    let interrupt = std::env::args()
        .nth(1)
        .map_or(INTERRUPT, |ns| ns.parse().expect("the nanoseconds that an interrupt costs"));
    println!(
        "an interrupt costs {interrupt} ns; heavy fences a second, time lost to interrupts, in calls\n"
    );
    for (name, fixed, for_each_processor) in
        [("64", 64, 0), ("1,024", 1_024, 0), ("1,024 a processor", 0, 1_024)]
    {
        let batch = |processors: u64| fixed + for_each_processor * processors as usize;
        println!("| batch {name} | 100,000 retired a second each | 1,000,000 | 10,000,000 |");
        println!("| ---: | ---: | ---: | ---: |");
        for processors in [2, 16, 64, 256] {
            print!("| {processors} processors |");
            for rate in [100_000, 1_000_000, 10_000_000] {
                let Outcome { fences_each_second, interrupted, calling } =
                    simulate(processors, rate, batch(processors), interrupt);
                let [interrupted, calling] = [interrupted, calling].map(|share| share * 100.0);
                print!(" {fences_each_second:.0}: {interrupted:.2} %, {calling:.2} % |");
            }
            println!();
        }
        println!();
    }
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
        }
    }
}
