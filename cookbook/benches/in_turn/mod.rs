//! Contenders sample by sample in turn, so that what else the machine does strikes all alike.

use crate::sibling::median;

/// Whether a rough answer will do.
pub(crate) fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick" || argument == "--test")
}

/// Whether this table was asked for, by the beginning of its title, or all are.
#[allow(dead_code, reason = "some benches have one table")]
pub(crate) fn is_wanted(title: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--")).peekable();
    words.peek().is_none() || words.any(|word| title.starts_with(&word))
}

/// So many samples of each contender, by its number; another goes first each time.
pub(crate) fn samples<T>(
    contenders: usize,
    samples: usize,
    mut sample: impl FnMut(usize) -> T,
) -> Vec<Vec<T>> {
    let mut taken: Vec<_> = (0..contenders).map(|_| Vec::new()).collect();
    for first in 0..samples {
        for i in (0..contenders).map(|i| (first + i) % contenders) {
            taken[i].push(sample(i));
        }
    }
    taken
}

/// Prints the medians, and their ratios to the first.
#[allow(dead_code, reason = "one bench prints more")]
pub(crate) fn print<'n>(names: impl Iterator<Item = &'n str>, samples: Vec<Vec<f64>>) {
    let medians: Vec<f64> = samples.into_iter().map(median).collect();
    for (name, median) in names.zip(&medians) {
        println!("  {name:30} {median:10.2} ns {:9.3} x", median / medians[0]);
    }
}
