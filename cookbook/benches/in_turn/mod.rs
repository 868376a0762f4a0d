//! Runs contenders sample by sample in turn, so that other work on the machine affects all alike.

use crate::sibling::median;

/// Whether a rough answer is enough.
pub(crate) fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick" || argument == "--test")
}

/// Whether the table with this title was asked for by the beginning of its title, or no table was named.
#[allow(dead_code, reason = "some benches have one table")]
pub(crate) fn is_wanted(title: &str) -> bool {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--")).peekable();
    words.peek().is_none() || words.any(|word| title.starts_with(&word))
}

/// Takes that many samples of each contender, by its number. Another contender goes first each time.
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
