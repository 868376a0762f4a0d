//! Of the cookbook's RCU.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant(
        "no light fence",
        "cookbook/src/rcu.rs",
        "            light_fence();\n",
        "            let _ = light_fence;\n",
    ),
    Mutant(
        "the light fence before the slot",
        "cookbook/src/rcu.rs",
        "        if nesting == 0 {\n            // Relaxed",
        "        if nesting == 0 {\n            light_fence();\n            let light_fence = || ();\n            // Relaxed",
    ),
    Mutant(
        "no heavy fence",
        "cookbook/src/rcu.rs",
        "        heavy_fence();\n",
        "        let _ = heavy_fence;\n",
    ),
    Mutant(
        "a light fence for the heavy one",
        "cookbook/src/rcu.rs",
        "        heavy_fence();\n",
        "        let _ = heavy_fence;\n        light_fence();\n",
    ),
    Mutant(
        "fence(SeqCst) for the heavy one",
        "cookbook/src/rcu.rs",
        "        heavy_fence();\n",
        "        let _ = heavy_fence;\n        asymfence::model::fence(crate::sync::atomic::Ordering::SeqCst);\n",
    ),
    Mutant(
        "the period before the heavy fence",
        "cookbook/src/rcu.rs",
        "        heavy_fence();\n",
        "        let early = self.period.fetch_add(1, Relaxed);\n        heavy_fence();\n        self.period.fetch_sub(1, Relaxed);\n        let _ = early;\n",
    ),
    Mutant(
        "the heavy fence after the look at the slots",
        "cookbook/src/rcu.rs",
        "        GracePeriod { number, held_back_by }",
        "        asymfence::heavy_fence();\n        GracePeriod { number, held_back_by }",
    ),
];
