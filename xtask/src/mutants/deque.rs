//! Of the cookbook's deque.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant(
        "no light fence",
        "cookbook/src/deque.rs",
        "        light_fence();\n",
        "        let _ = light_fence;\n",
    ),
    Mutant(
        "the light fence before the announcement",
        "cookbook/src/deque.rs",
        "        shared.bottom.store(index, Release);\n",
        "        light_fence();\n        shared.bottom.store(index, Release);\n        let light_fence = || ();\n",
    ),
    Mutant(
        "the light fence behind the look at the top",
        "cookbook/src/deque.rs",
        "        light_fence();\n        // Relaxed: the fence orders it, and we read nothing that a thief has written.\n        let top = shared.top.load(Relaxed);\n",
        "        let top = shared.top.load(Relaxed);\n        light_fence();\n",
    ),
    Mutant(
        "no heavy fence",
        "cookbook/src/deque.rs",
        "        heavy_fence();\n",
        "        let _ = heavy_fence;\n",
    ),
    Mutant(
        "a light fence for the heavy one",
        "cookbook/src/deque.rs",
        "        heavy_fence();\n",
        "        let _ = heavy_fence;\n        light_fence();\n",
    ),
    Mutant(
        "fence(SeqCst) for the heavy one",
        "cookbook/src/deque.rs",
        "        heavy_fence();\n",
        "        let _ = heavy_fence;\n        asymfence::model::fence(Ordering::SeqCst);\n",
    ),
    Mutant(
        "the heavy fence before the look at the top",
        "cookbook/src/deque.rs",
        "        heavy_fence();\n",
        "        heavy_fence();\n        let top = shared.top.load(Relaxed);\n",
    ),
    Mutant(
        "the last item popped without an exchange",
        "cookbook/src/deque.rs",
        "let mut is_ours = top < index;",
        "let mut is_ours = top <= index;",
    ),
    Mutant(
        "a push that does not release",
        "cookbook/src/deque.rs",
        "shared.bottom.store(bottom + 1, Release)",
        "shared.bottom.store(bottom + 1, Relaxed)",
    ),
    Mutant(
        "a pop that does not release what is below",
        "cookbook/src/deque.rs",
        "shared.bottom.store(index, Release)",
        "shared.bottom.store(index, Relaxed)",
    ),
    Mutant(
        "a thief who does not acquire the bottom",
        "cookbook/src/deque.rs",
        "shared.bottom.load(Acquire)",
        "shared.bottom.load(Relaxed)",
    ),
    Mutant(
        "a larger buffer without a release",
        "cookbook/src/deque.rs",
        "shared.buffer.store(new, Release)",
        "shared.buffer.store(new, Relaxed)",
    ),
    Mutant(
        "a larger buffer without an acquire",
        "cookbook/src/deque.rs",
        "shared.buffer(Acquire)",
        "shared.buffer(Relaxed)",
    ),
    Mutant(
        "a push that does not acquire the slot",
        "cookbook/src/deque.rs",
        "shared.top.load(Acquire)",
        "shared.top.load(Relaxed)",
    ),
];
