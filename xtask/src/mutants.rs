//! The mutants that models and tests must catch. One copy of the tree contains all of them, and an environment variable
//! selects those that are tried.
//! Most mutants are generated. A mutant with a name is a change that no rule generates.

mod biased_lock;
mod court;
mod deque;
mod epoch;
mod event_count;
mod fences;
mod first;
mod generated;
mod hazard;
mod judges;
mod rcu;
mod rewrite;
mod segments;

use judges::{IT, Judge, models};

pub(crate) use generated::{Part, Which, run};

/// A mutant with a name: the name, the file, the old text, and the new text.
struct Mutant(&'static str, &'static str, &'static str, &'static str);

/// Mutants of one area, and the models that may catch them. `court.rs` decides in which order they run: the short ones
/// first.
struct Suite {
    name: &'static str,
    judges: &'static [Judge],
    mutants: &'static [Mutant],
}

const COOKBOOK: &str = "tests/cookbook/main.rs";

const SUITES: &[Suite] = &[
    Suite {
        name: "fences",
        // Not the longest of the litmus tables.
        judges: &[
            models(IT, &["--skip", "exact"]),
            models(IT, &["exact", "--skip", "iriw", "--skip", "z6"]),
        ],
        mutants: fences::MUTANTS,
    },
    Suite {
        name: "first example",
        judges: &[models("tests/first.rs", &[])],
        mutants: first::MUTANTS,
    },
    Suite { name: "hazard", judges: &[models("tests/hazard.rs", &[])], mutants: hazard::MUTANTS },
    Suite {
        name: "segments",
        judges: &[models("tests/segments.rs", &[])],
        mutants: segments::MUTANTS,
    },
    Suite {
        name: "cookbook event count",
        judges: &[models(COOKBOOK, &["event_count::"])],
        mutants: event_count::MUTANTS,
    },
    Suite { name: "cookbook rcu", judges: &[models(COOKBOOK, &["rcu::"])], mutants: rcu::MUTANTS },
    Suite {
        name: "cookbook biased lock",
        judges: &[models(COOKBOOK, &["biased_lock::"])],
        mutants: biased_lock::MUTANTS,
    },
    Suite {
        name: "cookbook deque",
        judges: &[models(COOKBOOK, &["deque::"])],
        mutants: deque::MUTANTS,
    },
    Suite {
        name: "cookbook epoch",
        judges: &[models(COOKBOOK, &["epoch::"])],
        mutants: epoch::MUTANTS,
    },
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_text_of_every_named_mutant_stands_once_in_its_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root");
        let mut lost = Vec::new();
        for suite in SUITES {
            for Mutant(name, file, text, replacement) in suite.mutants {
                let source = std::fs::read_to_string(root.join(file)).expect(file);
                if source.matches(text).count() != 1 || text == replacement {
                    lost.push(format!("{}: {name}", suite.name));
                }
            }
        }
        assert!(lost.is_empty(), "{lost:#?}");
    }
}
