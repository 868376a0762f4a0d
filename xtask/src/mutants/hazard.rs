//! Of the hazard pointers.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant(
        "no light fence",
        "hazard/src/pointer.rs",
        "        light_fence();\n",
        "        let _ = light_fence;\n",
    ),
    Mutant(
        "the light fence before the publication",
        "hazard/src/pointer.rs",
        "        self.slot.protect(object);\n",
        "        light_fence();\n        self.slot.protect(object);\n        let light_fence = || ();\n",
    ),
    Mutant(
        "no heavy fence",
        "hazard/src/domain.rs",
        "= try_heavy_fence() {",
        "= Ok::<(), HeavyFenceError>(drop(try_heavy_fence as fn() -> _)) {",
    ),
    Mutant(
        "a light fence for the heavy one",
        "hazard/src/domain.rs",
        "= try_heavy_fence() {",
        "= Ok::<_, HeavyFenceError>(drop(try_heavy_fence as fn() -> _)).map(|()| asymfence::light_fence()) {",
    ),
    Mutant(
        "fence(SeqCst) for the heavy one",
        "hazard/src/domain.rs",
        "= try_heavy_fence() {",
        "= Ok::<_, HeavyFenceError>(drop(try_heavy_fence as fn() -> _))\n            .map(|()| asymfence::model::fence(crate::sync::Ordering::SeqCst)) {",
    ),
    Mutant(
        "a publication that does not release",
        "hazard/src/slots.rs",
        "self.protected.store(object.cast(), Release)",
        "self.protected.store(object.cast(), Relaxed)",
    ),
    Mutant(
        "a scan that does not acquire",
        "hazard/src/slots.rs",
        "slot.protected.load(Acquire)",
        "slot.protected.load(Relaxed)",
    ),
    Mutant(
        "a slot given back without a release",
        "hazard/src/slots.rs",
        "self.taken.store(false, Release)",
        "self.taken.store(false, Relaxed)",
    ),
    Mutant(
        "a slot taken without an acquire",
        "hazard/src/slots.rs",
        "self.taken.swap(true, Acquire)",
        "self.taken.swap(true, Relaxed)",
    ),
    Mutant(
        "a look again that does not acquire",
        "hazard/src/pointer.rs",
        "let found = source.pointer.load(Acquire);",
        "let found = source.pointer.load(Relaxed);",
    ),
    Mutant(
        "retired without a release",
        "hazard/src/retired.rs",
        "chain.first, Release, Relaxed",
        "chain.first, Relaxed, Relaxed",
    ),
    Mutant(
        "an object linked by a swap that does not release",
        "hazard/src/pointer.rs",
        "self.pointer.swap(new, AcqRel)",
        "self.pointer.swap(new, Acquire)",
    ),
    Mutant(
        "an object linked by an exchange that does not release",
        "hazard/src/pointer.rs",
        "compare_exchange(current, new, AcqRel, Acquire)",
        "compare_exchange(current, new, Acquire, Acquire)",
    ),
];
