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
        "let found = source.load(Acquire);",
        "let found = source.load(Relaxed);",
    ),
    Mutant(
        "retired without a release",
        "hazard/src/retired.rs",
        "garbage.first, Release, Relaxed",
        "garbage.first, Relaxed, Relaxed",
    ),
    Mutant(
        "an object put into a place by a swap that does not release",
        "hazard/src/atomic_box.rs",
        "self.pointer.swap(new, AcqRel)",
        "self.pointer.swap(new, Acquire)",
    ),
    Mutant(
        "a value put into a cell by an exchange that does not release",
        "hazard/src/cell.rs",
        "compare_exchange(current, value, AcqRel, Acquire)",
        "compare_exchange(current, value, Acquire, Acquire)",
    ),
    Mutant(
        "an object linked by an exchange that does not release",
        "hazard/src/link.rs",
        "self.word.compare_exchange(current.word, new.word, AcqRel, Acquire)",
        "self.word.compare_exchange(current.word, new.word, Acquire, Acquire)",
    ),
    Mutant(
        "a removal that does not release",
        "hazard/src/link.rs",
        "compare_exchange_weak(word, new.word, AcqRel, Acquire)",
        "compare_exchange_weak(word, new.word, Acquire, Acquire)",
    ),
    Mutant(
        "a search that follows frozen links",
        "hazard/src/chain.rs",
        "if Tagged::from_word(node).is_frozen() {\n                    continue 'again;\n                }",
        "node = Tagged::from_word(node).with_tag(0).word();",
    ),
    Mutant(
        "a node retired by whoever finds it frozen",
        "hazard/src/chain.rs",
        "        Err(_) => false,\n",
        "        Err(_) => {\n            // SAFETY: none.\n            unsafe { F::domain().retire(node.as_ptr()) };\n            true\n        }\n",
    ),
    Mutant(
        "an unlink that does not look whether the link has changed",
        "hazard/src/chain.rs",
        "match unsafe { link.compare_exchange(Tagged::from_word(node.as_ptr()), next.with_tag(0)) } {",
        "match Ok::<_, ()>(unsafe { link.swap(next.with_tag(0)) }) {",
    ),
    Mutant(
        "a cohort without a heavy fence",
        "hazard/src/cohort.rs",
        "        try_heavy_fence()?;\n",
        "        drop(try_heavy_fence as fn() -> _);\n",
    ),
];
