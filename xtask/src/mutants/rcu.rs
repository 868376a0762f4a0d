//! Of the cookbook's RCU.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[];
