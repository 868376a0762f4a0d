//! Of the hazard pointers.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant(
        "no light fence",
        "src/hazard/pointer.rs",
        "        light_fence();\n",
        "        let _ = light_fence;\n",
    ),
    Mutant(
        "the light fence before the publication",
        "src/hazard/pointer.rs",
        "        self.slot.protect(object);\n",
        "        light_fence();\n        self.slot.protect(object);\n        let light_fence = || ();\n",
    ),
    Mutant(
        "no heavy fence",
        "src/hazard/domain.rs",
        "= try_heavy_fence() {",
        "= Ok::<(), HeavyFenceError>(drop(try_heavy_fence as fn() -> _)) {",
    ),
    Mutant(
        "a light fence for the heavy one",
        "src/hazard/domain.rs",
        "= try_heavy_fence() {",
        "= Ok::<_, HeavyFenceError>(drop(try_heavy_fence as fn() -> _)).map(|()| crate::light_fence()) {",
    ),
    Mutant(
        "fence(SeqCst) for the heavy one",
        "src/hazard/domain.rs",
        "= try_heavy_fence() {",
        "= Ok::<_, HeavyFenceError>(drop(try_heavy_fence as fn() -> _))\n            .map(|()| crate::model::fence(crate::sync::Ordering::SeqCst)) {",
    ),
    Mutant(
        "a publication that does not release",
        "src/hazard/slots.rs",
        "self.protected.store(object.cast(), Release)",
        "self.protected.store(object.cast(), Relaxed)",
    ),
    Mutant(
        "a scan that does not acquire",
        "src/hazard/slots.rs",
        "slot.protected.load(Acquire)",
        "slot.protected.load(Relaxed)",
    ),
    Mutant(
        "a slot given back without a release",
        "src/hazard/slots.rs",
        "self.taken.store(false, Release)",
        "self.taken.store(false, Relaxed)",
    ),
    Mutant(
        "a slot taken without an acquire",
        "src/hazard/slots.rs",
        "self.taken.swap(true, Acquire)",
        "self.taken.swap(true, Relaxed)",
    ),
    Mutant(
        "a look again that does not acquire",
        "src/hazard/pointer.rs",
        "let found = source.pointer.load(Acquire);",
        "let found = source.pointer.load(Relaxed);",
    ),
    Mutant(
        "retired without a release",
        "src/hazard/retired.rs",
        "chain.first, Release, Relaxed",
        "chain.first, Relaxed, Relaxed",
    ),
    Mutant(
        "an object linked by a swap that does not release",
        "src/hazard/pointer.rs",
        "self.pointer.swap(new, AcqRel)",
        "self.pointer.swap(new, Acquire)",
    ),
    Mutant(
        "an object linked by an exchange that does not release",
        "src/hazard/pointer.rs",
        "compare_exchange(current, new, AcqRel, Acquire)",
        "compare_exchange(current, new, Acquire, Acquire)",
    ),
];
