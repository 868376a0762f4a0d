//! Of the README's first example.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant(
        "no light fence",
        "examples/first/progress.rs",
        "        light_fence(); // no fence instruction\n",
        "        let _ = light_fence;\n",
    ),
    Mutant(
        "the light fence before the publication",
        "examples/first/progress.rs",
        "        self.done.store(done, Release);\n        light_fence(); // no fence instruction\n",
        "        light_fence();\n        self.done.store(done, Release);\n",
    ),
    Mutant(
        "no heavy fence",
        "examples/first/progress.rs",
        "        heavy_fence();",
        "        let _ = heavy_fence;",
    ),
    Mutant(
        "a light fence for the heavy one",
        "examples/first/progress.rs",
        "        heavy_fence();",
        "        let _ = heavy_fence;\n        light_fence();",
    ),
    Mutant(
        "fence(SeqCst) for the heavy one",
        "examples/first/progress.rs",
        "        heavy_fence();",
        "        let _ = heavy_fence;\n        asymfence::model::fence(std::sync::atomic::Ordering::SeqCst);",
    ),
    Mutant(
        "the heavy fence before the waiter shows itself",
        "examples/first/progress.rs",
        "        self.waits.store(true, Relaxed);\n        heavy_fence();",
        "        heavy_fence();\n        self.waits.store(true, Relaxed);",
    ),
    Mutant(
        "published without a release",
        "examples/first/progress.rs",
        "self.done.store(done, Release)",
        "self.done.store(done, { let _ = Release; Relaxed })",
    ),
    Mutant(
        "a look that does not acquire",
        "examples/first/progress.rs",
        "self.done.load(Acquire)",
        "self.done.load({ let _ = Acquire; Relaxed })",
    ),
    Mutant(
        "one look after it was woken is enough",
        "examples/first/progress.rs",
        "        while self.done",
        "        if self.done",
    ),
];
