//! Of the cookbook's deque.

use super::Mutant;

const FILE: &str = "cookbook/src/deque.rs";

/// The fences of the two sides.
const LIGHT: &str = "        self.light_fence();\n";
const HEAVY: &str = "        self.shared.bias.heavy_fence(now);\n";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant("no light fence", FILE, LIGHT, ""),
    Mutant(
        "the light fence before the announcement",
        FILE,
        "        shared.bottom.store(index, Release);\n        // Light fence",
        "        self.light_fence();\n        shared.bottom.store(index, Release);\n        #[cfg(any())]\n        // Light fence",
    ),
    Mutant(
        "the light fence behind the look at the top",
        FILE,
        LIGHT,
        "        let early = shared.front.top.load(Relaxed);\n        self.light_fence();\n        if early < index {\n            let item = shared.buffer(Relaxed).slot(index).load(Relaxed);\n            return Some(unsafe { Box::from_raw(item) });\n        }\n",
    ),
    Mutant(
        "a light fence that knows of no bias",
        FILE,
        "        if !self.shared.bias.light_fence() && self.to_restore.is_now() {\n",
        "        asymfence::light_fence();\n        if self.to_restore.is_now() {\n",
    ),
    Mutant("no heavy fence", FILE, HEAVY, ""),
    Mutant("a light fence for the heavy one", FILE, HEAVY, "        asymfence::light_fence();\n"),
    Mutant(
        "fence(SeqCst) for the heavy one",
        FILE,
        HEAVY,
        "        asymfence::model::fence(Ordering::SeqCst);\n",
    ),
    Mutant(
        "the heavy fence before the look at the top",
        FILE,
        "        self.enter();\n        // Acquire: we see the item",
        "        self.enter();\n        let top = shared.front.top.load(Relaxed);\n        // Acquire: we see the item",
    ),
    Mutant(
        "the last item popped without an exchange",
        FILE,
        "let mut is_ours = top < index;",
        "let mut is_ours = top <= index;",
    ),
    Mutant(
        "a push that does not release",
        FILE,
        "shared.bottom.store(bottom + 1, Release)",
        "shared.bottom.store(bottom + 1, Relaxed)",
    ),
    Mutant(
        "a pop that does not release what is below",
        FILE,
        "shared.bottom.store(index, Release)",
        "shared.bottom.store(index, Relaxed)",
    ),
    Mutant(
        "a thief who does not acquire the bottom",
        FILE,
        "if shared.bottom.load(Acquire)",
        "if shared.bottom.load(Relaxed)",
    ),
    Mutant(
        "a thief of a batch who does not acquire the bottom",
        FILE,
        "let bottom = shared.bottom.load(Acquire);",
        "let bottom = shared.bottom.load(Relaxed);",
    ),
    Mutant(
        "another buffer without a release",
        FILE,
        "shared.buffer.store(new, Release)",
        "shared.buffer.store(new, Relaxed)",
    ),
    Mutant(
        "another buffer without an acquire",
        FILE,
        "        let buffer = shared.buffer(Acquire);\n        // Relaxed: the Acquire of the bottom",
        "        let buffer = shared.buffer(Relaxed);\n        // Relaxed: the Acquire of the bottom",
    ),
    Mutant(
        "a push that does not acquire the slot",
        FILE,
        "            let top = shared.front.top.load(Acquire);\n",
        "            let top = shared.front.top.load(Relaxed);\n",
    ),
    Mutant(
        "an owner who knows of no claim",
        FILE,
        "if claim / 2 > index && !shared.takes_back(claim, index) {",
        "if claim / 2 > index && false {",
    ),
    Mutant(
        "a claim without a heavy fence",
        FILE,
        "        self.enter();\n        // Acquire: as in",
        "        shared.reading.fetch_add(1, Relaxed);\n        // Acquire: as in",
    ),
    Mutant(
        "a claim of which the owner can take nothing back",
        FILE,
        "                Err(less) => claim = less,\n",
        "                Err(_) => {\n                    shared.front.claim.store(committed, Relaxed);\n                    break end;\n                }\n",
    ),
    Mutant(
        "a claim on what is not there",
        FILE,
        "let end = bottom.min(claim / 2);",
        "let end = claim / 2;",
    ),
    Mutant(
        "an owner who takes back what is committed",
        FILE,
        "            if claim & COMMITTED != 0 {\n",
        "            if claim & COMMITTED != 0 && false {\n",
    ),
    Mutant(
        "a claim seen without the top of the one before",
        FILE,
        "shared.front.claim.load(Acquire)",
        "shared.front.claim.load(Relaxed)",
    ),
    Mutant(
        "a claim that ends without a release",
        FILE,
        "shared.front.claim.store(0, Release)",
        "shared.front.claim.store(0, Relaxed)",
    ),
    Mutant(
        "a thief counted in behind the heavy fence",
        FILE,
        "        self.shared.reading.fetch_add(1, Relaxed);\n        self.shared.bias.heavy_fence(now);\n",
        "        self.shared.bias.heavy_fence(now);\n        self.shared.reading.fetch_add(1, Relaxed);\n",
    ),
    Mutant(
        "a buffer freed under a thief",
        FILE,
        "let nobody = shared.reading.load(Acquire) == 0;",
        "let nobody = shared.reading.load(Acquire) < 9;",
    ),
    Mutant(
        "a buffer freed without a light fence",
        FILE,
        "        shared.bias.light_fence();\n",
        "",
    ),
    Mutant(
        "a thief seen to leave without an acquire",
        FILE,
        "shared.reading.load(Acquire)",
        "shared.reading.load(Relaxed)",
    ),
    Mutant(
        "a thief who leaves without a release",
        FILE,
        "reading.fetch_sub(1, Release)",
        "reading.fetch_sub(1, Relaxed)",
    ),
];
