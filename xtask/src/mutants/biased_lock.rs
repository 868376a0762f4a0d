//! Of the cookbook's biased lock.

use super::Mutant;

const FILE: &str = "cookbook/src/biased_lock.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant(
        "no light fence",
        FILE,
        "            light_fence();\n",
        "            let _ = light_fence;\n",
    ),
    Mutant(
        "the light fence before the publication",
        FILE,
        "            self.slot.store(true, Relaxed);\n",
        "            light_fence();\n            self.slot.store(true, Relaxed);\n            let light_fence = || ();\n",
    ),
    Mutant(
        "the light fence after the second look",
        FILE,
        "            light_fence();\n            // Acquire",
        "            let second = self.lock.biased.load(Acquire);\n            light_fence();\n            if second {\n                return true;\n            }\n            self.leave();\n            return false;\n            #[expect(unreachable_code)]\n            // Acquire",
    ),
    Mutant("no heavy fence", FILE, "        heavy_fence();\n", "        let _ = heavy_fence;\n"),
    Mutant(
        "a light fence for the heavy one",
        FILE,
        "        heavy_fence();\n",
        "        let _ = heavy_fence;\n        light_fence();\n",
    ),
    Mutant(
        "fence(SeqCst) for the heavy one",
        FILE,
        "        heavy_fence();\n",
        "        let _ = heavy_fence;\n        asymfence::model::fence(crate::sync::atomic::Ordering::SeqCst);\n",
    ),
    Mutant(
        "the heavy fence before the bias is turned off",
        FILE,
        "        self.biased.store(false, Relaxed);\n",
        "        heavy_fence();\n        self.biased.store(false, Relaxed);\n        let heavy_fence = || ();\n",
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
        "self.biased.store(true, Release)",
        "self.biased.store(true, Relaxed)",
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
        "        light_fence();\n        // Relaxed: a writer",
        "        // Relaxed: a writer",
    ),
    Mutant(
        "the light fence before the slot is empty",
        FILE,
        "        self.slot.store(false, Release);\n",
        "        light_fence();\n        self.slot.store(false, Release);\n        let light_fence = || ();\n",
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
];
