//! Of the cookbook's epochs.

use super::Mutant;

const FILE: &str = "cookbook/src/epoch.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant(
        "no light fence",
        FILE,
        "            light_fence();\n",
        "            let _ = light_fence;\n",
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
        "        let _ = heavy_fence;\n        full_fence();\n",
    ),
    Mutant("no scan", FILE, "        if !self.all_are_at(epoch) {\n", "        if false {\n"),
    Mutant("two advances", FILE, "epoch >= sealed.tag + GRACE", "epoch >= sealed.tag + GRACE - 1"),
    Mutant(
        "no full fence before the tag",
        FILE,
        "        full_fence();\n",
        "        let _ = full_fence;\n",
    ),
    Mutant(
        "a slot pinned without a release",
        FILE,
        "self.slot.store(epoch, Release)",
        "self.slot.store(epoch, Relaxed)",
    ),
    Mutant(
        "a slot left without a release",
        FILE,
        "self.handle.slot.store(FREE, Release)",
        "self.handle.slot.store(FREE, Relaxed)",
    ),
];
