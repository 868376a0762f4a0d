//! Of the cookbook's event count.

use super::Mutant;

const FILE: &str = "cookbook/src/event_count.rs";

/// The fences of the two sides.
const LIGHT: &str = "        if !self.bias.light_fence() && now_and_then() {\n            self.restore();\n        }\n";
const HEAVY: &str = "            Some(announced) => self.bias.wait(announced),\n            None => self.bias.heavy_fence(now),\n";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant("no light fence", FILE, LIGHT, ""),
    Mutant(
        "the light fence after the look for waiters",
        FILE,
        LIGHT,
        "        let awaited = self.waiters.load(Relaxed) != 0;\n        self.bias.light_fence();\n        if true {\n            return awaited;\n        }\n",
    ),
    Mutant(
        "a light fence that knows of no bias",
        FILE,
        LIGHT,
        "        asymfence::light_fence();\n",
    ),
    Mutant("no heavy fence", FILE, HEAVY, "            _ => {}\n"),
    Mutant(
        "a light fence for the heavy one",
        FILE,
        HEAVY,
        "            _ => asymfence::light_fence(),\n",
    ),
    Mutant(
        "fence(SeqCst) for the heavy one",
        FILE,
        HEAVY,
        "            _ => asymfence::model::fence(crate::sync::atomic::Ordering::SeqCst),\n",
    ),
    Mutant(
        "the ticket before the announcement",
        FILE,
        "        let others = self.waiters.load(Relaxed);\n        self.waiters.store(others.checked_add(1).expect(\"fewer are forgotten\"), Relaxed);\n",
        "        let others = self.waiters.load(Relaxed);\n        Ticket::now().wait();\n        let early = Ticket::now();\n        self.waiters.store(others.checked_add(1).expect(\"fewer are forgotten\"), Relaxed);\n        sleepers.announced = Some(early);\n        let others = 1;\n",
    ),
    Mutant(
        "an old ticket for who is the first to listen",
        FILE,
        "        if others == 0 {\n            sleepers.announced = self.bias.is_biased().then(Ticket::now);\n        }\n        let shared = sleepers.announced.filter(|_| others != 0);\n",
        "        if sleepers.announced.is_none() {\n            sleepers.announced = self.bias.is_biased().then(Ticket::now);\n        }\n        let shared = sleepers.announced;\n",
    ),
    Mutant(
        "who leaves by a notification for one does not use it up",
        FILE,
        "                sleepers.woken -= 1;\n",
        "",
    ),
    Mutant(
        "no look after the heavy fence",
        FILE,
        "            let found = condition();\n            if found.is_some() {\n                return found;\n            }\n            // The deadline",
        "            // The deadline",
    ),
    Mutant(
        "a task that does not look after the heavy fence",
        FILE,
        "            let listener = self.listen();\n            if let Some(found) = condition() {\n                return found;\n            }\n",
        "            let listener = self.listen();\n",
    ),
    Mutant(
        "a notification that does not move the epoch",
        FILE,
        "        sleepers.epoch += 1;\n",
        "",
    ),
    Mutant(
        "parks without a look at the epoch",
        FILE,
        "        if sleepers.epoch != epoch {\n",
        "        if false {\n",
    ),
    Mutant(
        "a task parks without a look at the epoch",
        FILE,
        "Place::Announced if sleepers.epoch == self.epoch => {",
        "Place::Announced => {",
    ),
    Mutant(
        "who parks later leaves in place of who was woken",
        FILE,
        "if epoch < sleepers.epoch && sleepers.woken > 0 {",
        "if sleepers.woken > 0 {",
    ),
    Mutant(
        "wakes as many as it is asked to, and takes all off the count",
        FILE,
        "self.waiters.store(sleepers.parked + sleepers.tasks.len(), Relaxed);",
        "self.waiters.store(0, Relaxed);",
    ),
    Mutant(
        "wakes tasks that are parked, and takes the others off the count",
        FILE,
        "self.waiters.store(sleepers.parked + sleepers.tasks.len(), Relaxed);",
        "self.waiters.store(sleepers.parked, Relaxed);",
    ),
    Mutant(
        "one that was notified takes another off the count",
        FILE,
        "        if sleepers.epoch == epoch {\n            // Relaxed",
        "        {\n            // Relaxed",
    ),
    Mutant(
        "a notification of all counts as many notifications for one",
        FILE,
        "            sleepers.all_before = sleepers.epoch;\n            sleepers.woken = 0;\n",
        "            sleepers.woken += sleepers.parked;\n",
    ),
    Mutant(
        "leaves whenever the condition variable wakes it",
        FILE,
        "            if epoch < sleepers.all_before {\n",
        "            if sleepers.all_before < u64::MAX {\n",
    ),
    Mutant(
        "a task that was woken and is dropped keeps the notification",
        FILE,
        "                if passes_on {\n",
        "                if passes_on && false {\n",
    ),
    Mutant(
        "whose time is over stays among those that are parked",
        FILE,
        "                sleepers.parked -= 1;\n                // Relaxed",
        "                // Relaxed",
    ),
    Mutant(
        "whose time is over leaves its notification to nobody",
        FILE,
        "            // A sleeper that parked in this very epoch stays",
        "            if is_over {\n                return false;\n            }\n            // A sleeper that parked in this very epoch stays",
    ),
    Mutant(
        "of two that are notified one wakes",
        FILE,
        "            (first..most).for_each(|_| self.condvar.notify_one());\n",
        "            (first..most).take(1).for_each(|_| self.condvar.notify_one());\n",
    ),
];
