//! Of the cookbook's deque.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[];
