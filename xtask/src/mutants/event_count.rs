//! Of the cookbook's event count.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant(
        "no light fence",
        "cookbook/src/event_count.rs",
        "        light_fence();\n",
        "        let _ = light_fence;\n",
    ),
    Mutant(
        "the light fence after the look for waiters",
        "cookbook/src/event_count.rs",
        "        light_fence();\n",
        "        let awaited = self.waiters.load(Relaxed) != 0;\n        light_fence();\n        if true {\n            return awaited;\n        }\n",
    ),
    Mutant(
        "no heavy fence",
        "cookbook/src/event_count.rs",
        "        announced.wait();\n",
        "        let _ = announced;\n",
    ),
    Mutant(
        "a light fence for the heavy one",
        "cookbook/src/event_count.rs",
        "        announced.wait();\n",
        "        let _ = announced;\n        light_fence();\n",
    ),
    Mutant(
        "fence(SeqCst) for the heavy one",
        "cookbook/src/event_count.rs",
        "        announced.wait();\n",
        "        let _ = announced;\n        asymfence::model::fence(crate::sync::atomic::Ordering::SeqCst);\n",
    ),
    Mutant(
        "the ticket before the announcement",
        "cookbook/src/event_count.rs",
        "        let others = self.waiters.load(Relaxed);\n        self.waiters.store(others.checked_add(1).expect(\"fewer are forgotten\"), Relaxed);\n",
        "        let others = self.waiters.load(Relaxed);\n        Ticket::now().wait();\n        let early = Ticket::now();\n        self.waiters.store(others.checked_add(1).expect(\"fewer are forgotten\"), Relaxed);\n        sleepers.announced = Some(early);\n        let others = 1;\n",
    ),
    Mutant(
        "an old ticket for who is the first to listen",
        "cookbook/src/event_count.rs",
        "            Some(announced) if others != 0 => announced,",
        "            Some(announced) => announced,",
    ),
    Mutant(
        "who leaves by a notification for one leaves it to the next",
        "cookbook/src/event_count.rs",
        "                sleepers.woken -= 1;\n",
        "",
    ),
    Mutant(
        "no look after the heavy fence",
        "cookbook/src/event_count.rs",
        "            let listener = self.listen();\n            if let Some(found) = condition() {\n                return found;\n            }\n",
        "            let listener = self.listen();\n",
    ),
    Mutant(
        "a notification that does not move the epoch",
        "cookbook/src/event_count.rs",
        "        sleepers.epoch += 1;\n",
        "",
    ),
    Mutant(
        "parks without a look at the epoch",
        "cookbook/src/event_count.rs",
        "        if sleepers.epoch != epoch {\n            return;\n        }\n",
        "",
    ),
    Mutant(
        "who parks later leaves in place of who was woken",
        "cookbook/src/event_count.rs",
        "if epoch < sleepers.epoch && sleepers.woken > 0 {",
        "if sleepers.woken > 0 {",
    ),
    Mutant(
        "wakes whoever is parked, and takes one off the count",
        "cookbook/src/event_count.rs",
        "        self.waiters.store(sleepers.parked, Relaxed);\n",
        "        self.waiters.store(0, Relaxed);\n",
    ),
    Mutant(
        "one that was notified takes another off the count",
        "cookbook/src/event_count.rs",
        "        if sleepers.epoch == self.epoch {\n",
        "        {\n",
    ),
    Mutant(
        "who was notified with all others leaves by a wake-up that counts",
        "cookbook/src/event_count.rs",
        "            sleepers.all_before = sleepers.epoch;\n            sleepers.woken = 0;\n            sleepers.parked = 0;\n",
        "            sleepers.woken += sleepers.parked;\n            sleepers.parked = 0;\n",
    ),
    Mutant(
        "leaves whenever the condition variable wakes it",
        "cookbook/src/event_count.rs",
        "            if epoch < sleepers.all_before {\n                return;\n            }\n",
        "            if sleepers.all_before < u64::MAX {\n                return;\n            }\n",
    ),
];
