//! Of the segments that processes share.

use super::Mutant;

const HEADER: &str = "src/cross_process/header.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant(
        "the magic does not publish the header",
        HEADER,
        "self.magic.store(MAGIC, Release);",
        "self.magic.store(MAGIC, Relaxed);",
    ),
    Mutant(
        "the magic is read relaxed",
        HEADER,
        "match self.magic.load(Acquire) {",
        "match self.magic.load(Relaxed) {",
    ),
    Mutant(
        "two makers",
        HEADER,
        "self.magic.compare_exchange(0, IN_THE_MAKING, Relaxed, Relaxed).is_err()",
        "{ self.magic.store(IN_THE_MAKING, Relaxed); false }",
    ),
    Mutant(
        "a place is taken without its lock",
        HEADER,
        "            if !lock(&locks, &opened.0, index)? {\n                continue;\n            }\n            let mine",
        "            let mine",
    ),
    Mutant(
        "a place is taken by a store",
        HEADER,
        "if word.compare_exchange(found.0, mine.0, Relaxed, Relaxed).is_err() {",
        "word.store(mine.0, Relaxed);\n            if false {",
    ),
    Mutant(
        "a place is reaped without its lock",
        HEADER,
        "            if !lock(locks, &description, index)? {\n                continue;\n            }\n            let word",
        "            let word",
    ),
    Mutant(
        "a place is reaped without a second look",
        HEADER,
        "if !found.is_taken()\n                || word",
        "if word",
    ),
    Mutant("a place is reaped under its old word", HEADER, "Taken(self.0.wrapping_add(2))", "self"),
    Mutant(
        "a place that its holder has just freed is reaped",
        HEADER,
        "|| word.compare_exchange(found.0, ours.0, Relaxed, Relaxed).is_err()",
        "|| word.compare_exchange(found.0, ours.0, Relaxed, Relaxed).is_err() && false",
    ),
    Mutant(
        "a lock of one that reaps is taken for the holder's",
        HEADER,
        "let is_held = self.locks.lock_of(self.index)? == Lock::Shared;",
        "let is_held = self.locks.lock_of(self.index)? != Lock::Free;",
    ),
    Mutant(
        "a holder looks at its word first",
        HEADER,
        "Ok(is_held && self.header.places[self.index].load(Relaxed) == self.mine.0)",
        "Ok(self.header.places[self.index].load(Relaxed) == self.mine.0 && self.locks.lock_of(self.index)? == Lock::Shared)",
    ),
    Mutant(
        "words of a place come again",
        HEADER,
        "Taken(self.0.wrapping_add(1))",
        "Taken(self.0 ^ 1)",
    ),
    Mutant(
        "a place is given back though a copy is left",
        HEADER,
        "if let Ok(Lock::Free) = self.locks.lock_of(self.index) {",
        "if let Ok(_) = self.locks.lock_of(self.index) {",
    ),
    Mutant(
        "a place is given back before its lock",
        HEADER,
        "        drop(self.hold.take());\n",
        "",
    ),
];
