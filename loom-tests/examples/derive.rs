//! Prints `data/shapes.csv`: further shapes with every placement of fences, and the oracle's verdicts.
//!
//! `RUSTFLAGS="--cfg loom" cargo run -p loom-tests --release --example derive`

#[cfg(loom)]
fn main() {
    use loom_tests::litmus::row;
    use loom_tests::oracle::{Threads, outcomes};

    println!("shape,threads,weak outcome,fences,verdict,shown by loom");
    for (shape, threads, weak) in SHAPES {
        for fences in placements(threads.matches('F').count()) {
            let row = row(shape, threads, weak, &fences, "allowed", None);
            let verdict = |executed| match row.is_weak_in(&outcomes(&row.program, executed)) {
                true => "allowed",
                false => "forbidden",
            };
            let (contract, loom) = (verdict(Threads::OutOfOrder), verdict(Threads::InOrder));
            let loom = if loom == contract { "" } else { loom };
            println!("{shape},{threads},{weak},{fences},{contract},{loom}");
        }
    }
}

#[cfg(not(loom))]
fn main() {}

/// Names as in Alglave, Maranget and Tautschnig, "Herding Cats", TOPLAS 2014.
#[cfg(loom)]
const SHAPES: [(&str, &str, &str); 8] = [
    ("LB", "r0=x;F0;y=1 | r1=y;F1;x=1", "r0=1 and r1=1"),
    ("WRC", "x=1 | r0=x;F0;y=1 | r1=y;F1;r2=x", "r0=1 and r1=1 and r2=0"),
    ("RWC", "x=1 | r0=x;F0;r1=y | y=1;F1;r2=x", "r0=1 and r1=0 and r2=0"),
    ("IRIW", "x=1 | y=1 | r0=x;F0;r1=y | r2=y;F1;r3=x", "r0=1 and r1=0 and r2=1 and r3=0"),
    ("ISA2", "x=1;F0;y=1 | r0=y;F1;z=1 | r1=z;F2;r2=x", "r0=1 and r1=1 and r2=0"),
    ("W+RWC", "x=1;F0;y=1 | r0=y;F1;r1=z | z=1;F2;r2=x", "r0=1 and r1=0 and r2=0"),
    ("Z6.2", "x=2;F0;y=1 | r0=y;F1;z=1 | r1=z;F2;x=1", "r0=1 and r1=1 and x=2 at the end"),
    ("Z6.3", "x=1;F0;y=1 | y=2;F1;z=1 | r0=z;F2;r1=x", "r0=1 and r1=0 and y=2 at the end"),
];

/// `LL`, `FL`, `HL`, `LF`, …
#[cfg(loom)]
fn placements(places: usize) -> Vec<String> {
    (0..places).fold(vec![String::new()], |shorter, _| {
        let longer = "LFH".chars().map(|letter| {
            shorter.iter().map(move |fences| format!("{fences}{letter}")).collect::<Vec<_>>()
        });
        longer.flatten().collect()
    })
}
