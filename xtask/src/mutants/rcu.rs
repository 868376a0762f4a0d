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
        "            self.unlinked.wait();\n",
        "            let _ = self.unlinked;\n",
    ),
    Mutant(
        "a light fence for the heavy one",
        "cookbook/src/rcu.rs",
        "            self.unlinked.wait();\n",
        "            let _ = self.unlinked;\n            light_fence();\n",
    ),
    Mutant(
        "fence(SeqCst) for the heavy one",
        "cookbook/src/rcu.rs",
        "            self.unlinked.wait();\n",
        "            let _ = self.unlinked;\n            asymfence::model::fence(crate::sync::atomic::Ordering::SeqCst);\n",
    ),
    Mutant(
        "the period before the heavy fence",
        "cookbook/src/rcu.rs",
        "            self.unlinked.wait();\n            self.begun = Some(self.readers.begin());\n",
        "            self.begun = Some(self.readers.begin());\n            self.unlinked.wait();\n",
    ),
    Mutant(
        "a reader of the period before is not waited for",
        "cookbook/src/rcu.rs",
        "since != OUTSIDE && since < period",
        "since != OUTSIDE && since + 1 < period",
    ),
    Mutant(
        "a nested guard shows the period of now",
        "cookbook/src/rcu.rs",
        "        if nesting == 0 {\n            // Relaxed",
        "        if true {\n            // Relaxed",
    ),
    Mutant(
        "the first guard that goes leaves",
        "cookbook/src/rcu.rs",
        "        if nesting == 0 {\n            self.reader.slot.leave();",
        "        if true {\n            self.reader.slot.leave();",
    ),
    Mutant(
        "a slot entered without a release",
        "cookbook/src/rcu.rs",
        "self.0.store(period, Release)",
        "self.0.store(period, Relaxed)",
    ),
    Mutant(
        "a slot left without a release",
        "cookbook/src/rcu.rs",
        "self.0.store(OUTSIDE, Release)",
        "self.0.store(OUTSIDE, Relaxed)",
    ),
    Mutant(
        "a look that does not acquire",
        "cookbook/src/rcu.rs",
        "self.0.load(Acquire)",
        "self.0.load(Relaxed)",
    ),
    Mutant(
        "a value read without an acquire",
        "cookbook/src/rcu.rs",
        "self.rcu.current.load(Acquire)",
        "self.rcu.current.load(Relaxed)",
    ),
    Mutant(
        "a value published without a release",
        "cookbook/src/rcu.rs",
        "self.current.swap(Box::into_raw(new), AcqRel)",
        "self.current.swap(Box::into_raw(new), Acquire)",
    ),
    Mutant(
        "the ticket before the value is unlinked",
        "cookbook/src/rcu.rs",
        "        let old = self.swap(new);\n        Replaced { value: Some(old), period: self.grace_period() }\n",
        "        let period = self.grace_period();\n        let old = self.swap(new);\n        Replaced { value: Some(old), period }\n",
    ),
    Mutant(
        "nothing is paid where one reader is registered",
        "cookbook/src/rcu.rs",
        "if self.readers.slots().is_empty() {",
        "if self.readers.slots().len() <= 1 {",
    ),
    Mutant(
        "what is deferred does not wait",
        "cookbook/src/rcu.rs",
        "oldest.is_some_and(|batch| batch.period.is_over())",
        "oldest.is_some_and(|batch| batch.period.is_over() || true)",
    ),
    Mutant(
        "a heavy fence begins what was deferred after it",
        "cookbook/src/rcu.rs",
        "batches.skip_while(|batch| batch.number > last)",
        "batches.skip_while(|batch| false && batch.number > last)",
    ),
];
