//! Of the cookbook's event count.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[];
