//! Of the cookbook's biased lock.

use super::Mutant;

const FILE: &str = "cookbook/src/biased_lock.rs";

const HEAVY: &str = "        self.fences.heavy_fence(now);\n";

/// What a writer does that revokes the bias.
const REVOKES: &str = "        self.biased.store(false, Relaxed);
        // Heavy fence: the bias is off before we look at the slots.
        // Pairs with: the light fence in `Reader::enter` (scenario A).
        //  - a reader's publication came first: we see it, and wait;
        //  - the heavy fence came first: the reader sees that the bias is off.
        // Pairs with: the light fence in `Reader::leave` (scenario A).
        //  - the reader emptied its slot first: we see it;
        //  - the heavy fence came first: the reader sees that the bias is off, and wakes us.
        self.fences.heavy_fence(now);
";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant("no light fence", FILE, "            self.light_fence();\n", ""),
    Mutant(
        "the light fence before the publication",
        FILE,
        "            self.slot.store(true, Relaxed);\n            // Light fence: our publication comes before the second look.\n            // Pairs with: the heavy fence in `BiasedRwLock::revoke` (scenario A).\n            self.light_fence();\n",
        "            self.light_fence();\n            self.slot.store(true, Relaxed);\n",
    ),
    Mutant(
        "the light fence after the second look",
        FILE,
        "            self.light_fence();\n            // Acquire",
        "            let second = self.lock.biased.load(Acquire);\n            self.light_fence();\n            if second {\n                return true;\n            }\n            self.leave();\n            return false;\n            #[expect(unreachable_code)]\n            // Acquire",
    ),
    Mutant(
        "a light fence that knows of no bias",
        FILE,
        "        if !self.lock.fences.light_fence() && now_and_then() {\n",
        "        asymfence::light_fence();\n        if now_and_then() {\n",
    ),
    Mutant("no heavy fence", FILE, HEAVY, ""),
    Mutant("a light fence for the heavy one", FILE, HEAVY, "        asymfence::light_fence();\n"),
    Mutant(
        "fence(SeqCst) for the heavy one",
        FILE,
        HEAVY,
        "        asymfence::model::fence(crate::sync::atomic::Ordering::SeqCst);\n",
    ),
    Mutant(
        "the heavy fence before the bias is turned off",
        FILE,
        REVOKES,
        "        self.fences.heavy_fence(now);\n        self.biased.store(false, Relaxed);\n",
    ),
    Mutant(
        "no second look",
        FILE,
        "            if self.lock.biased.load(Acquire) {\n",
        "            if self.lock.biased.load(Acquire) || true {\n",
    ),
    Mutant(
        "a second look that does not acquire",
        FILE,
        "            if self.lock.biased.load(Acquire) {\n",
        "            if self.lock.biased.load(Relaxed) {\n",
    ),
    Mutant(
        "a bias turned on without a release",
        FILE,
        "            self.biased.store(true, Release);\n        }\n",
        "            self.biased.store(true, Relaxed);\n        }\n",
    ),
    Mutant(
        "a bias turned on before the underlying lock is held",
        FILE,
        "        let underlying = self.lock.underlying.read().unwrap_or_else",
        "        self.lock.biased.store(true, Release);\n        let underlying = self.lock.underlying.read().unwrap_or_else",
    ),
    Mutant(
        "a writer that does not wait",
        FILE,
        "while slots.iter().any(|slot| slot.load(Acquire)) {",
        "while slots.iter().any(|slot| slot.load(Acquire) && false) {",
    ),
    Mutant(
        "a writer that looks without an acquire",
        FILE,
        "slot.load(Acquire)",
        "slot.load(Relaxed)",
    ),
    Mutant(
        "a slot that is left without a release",
        FILE,
        "self.slot.store(false, Release)",
        "self.slot.store(false, Relaxed)",
    ),
    Mutant(
        "a publication that is not taken back",
        FILE,
        "            self.leave();\n        }\n        false",
        "        }\n        false",
    ),
    Mutant(
        "no light fence when a reader leaves",
        FILE,
        "        self.light_fence();\n        // Relaxed: a writer",
        "        // Relaxed: a writer",
    ),
    Mutant(
        "the light fence before the slot is empty",
        FILE,
        "        self.slot.store(false, Release);\n        // Light fence: the slot is empty before we look whether somebody waits for that.\n        // Pairs with: the heavy fence in `BiasedRwLock::revoke` (scenario A).\n        self.light_fence();\n",
        "        self.light_fence();\n        self.slot.store(false, Release);\n",
    ),
    Mutant(
        "a waker that does not wait until the writer sleeps",
        FILE,
        "        drop(self.slots());\n",
        "",
    ),
    Mutant(
        "a reader that goes away and wakes nobody",
        FILE,
        "        self.lock.emptied.notify_one();\n",
        "",
    ),
    Mutant(
        "a writer that gives up and leaves the bias off",
        FILE,
        "        self.0.store(true, Release);\n",
        "",
    ),
    Mutant(
        "a writer whose time is over goes in",
        FILE,
        "                return false;\n            }\n            // The slots are unlocked",
        "                break;\n            }\n            // The slots are unlocked",
    ),
];
