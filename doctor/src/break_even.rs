//! From how many light fences for each heavy one the asymmetric fences are the cheaper pair.

/// Nanoseconds. A round is a reader's: publish, fence, look again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Model {
    /// A round with a light fence.
    pub(crate) light: f64,
    /// A round with a full fence.
    pub(crate) full: f64,
    /// The heavy fence, and what it takes from whom it interrupts.
    pub(crate) heavy: f64,
    /// The full fence that stands in its place where the pair is symmetric.
    pub(crate) instead: f64,
}

impl Model {
    /// What a round costs if both sides have a full fence, with its share of the other side's.
    #[allow(dead_code, reason = "the doctor draws no picture")]
    pub(crate) fn symmetric(&self, rounds: f64) -> f64 {
        self.full + self.instead / rounds
    }

    /// The same with a light and a heavy fence.
    #[allow(dead_code, reason = "the doctor draws no picture")]
    pub(crate) fn asymmetric(&self, rounds: f64) -> f64 {
        self.light + self.heavy / rounds
    }

    /// How many rounds for each heavy fence make both cost the same. `None` if a light fence is no
    /// cheaper than a full one: no number of them pays.
    pub(crate) fn crossing(&self) -> Option<f64> {
        let (saved, spent) = (self.full - self.light, self.heavy - self.instead);
        (saved > 0.0).then_some((spent / saved).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Model = Model { light: 0.5, full: 4.5, heavy: 10_004.0, instead: 4.0 };

    #[test]
    fn both_pairs_cost_the_same_at_the_crossing() {
        let rounds = HERE.crossing().unwrap();
        assert_eq!(rounds, 2_500.0);
        assert!((HERE.symmetric(rounds) - HERE.asymmetric(rounds)).abs() < 1e-9);
    }

    #[test]
    fn more_light_fences_favour_the_asymmetric_pair_and_fewer_the_symmetric() {
        assert!(HERE.asymmetric(2_501.0) < HERE.symmetric(2_501.0));
        assert!(HERE.asymmetric(2_499.0) > HERE.symmetric(2_499.0));
    }

    #[test]
    fn a_light_fence_that_saves_nothing_never_pays() {
        assert_eq!(Model { light: 4.5, ..HERE }.crossing(), None);
        assert_eq!(Model { light: 5.0, ..HERE }.crossing(), None);
    }

    #[test]
    fn a_heavy_fence_that_costs_nothing_more_pays_at_once() {
        assert_eq!(Model { heavy: 3.0, ..HERE }.crossing(), Some(0.0));
    }
}
