//! Of the cookbook's biased lock.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[];
