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
        "lock(locks, description, Byte::Held(index))?;",
        "",
    ),
    Mutant(
        "two clean one place",
        HEADER,
        "let _change = Change::lock(locks, description, index)?;\n        let found = self.word(index);\n        if !description",
        "let _change = Change(description, index);\n        let found = self.word(index);\n        if !description",
    ),
    Mutant(
        "the byte of a holder is tried though the place is taken",
        HEADER,
        "        // Only who finds the word free under this lock locks the holder's byte.\n        if found.is_taken() {",
        "        if false {",
    ),
    Mutant(
        "a place is taken by a store",
        HEADER,
        "if !self.exchange(index, found, found.next()) {",
        "self.places[index].store(found.next().0, Relaxed);\n        if false {",
    ),
    Mutant(
        "a child cleans under a lock that its parent releases",
        HEADER,
        "if !self.exchange(index, found, ours) || !description.is_of_this_process() {",
        "if !self.exchange(index, found, ours) {",
    ),
    Mutant(
        "a place is reaped while it has a holder",
        HEADER,
        "if !found.is_taken() || description.is_locked_by_another(Byte::Held(index))? {",
        "if !found.is_taken() {",
    ),
    Mutant(
        "a place is reaped without a second look",
        HEADER,
        "if !found.is_taken() || description",
        "if description",
    ),
    Mutant("a place is reaped under its old word", HEADER, "Taken(self.0.wrapping_add(2))", "self"),
    Mutant(
        "a place that its holder has just freed is reaped",
        HEADER,
        "if !self.exchange(index, found, ours) ||",
        "if !self.exchange(index, found, ours) && false ||",
    ),
    Mutant(
        "a holder looks at its word alone",
        HEADER,
        "Ok(is_locked && self.header.word(self.index) == self.mine)",
        "Ok((is_locked || true) && self.header.word(self.index) == self.mine)",
    ),
    Mutant(
        "a holder looks at its word first",
        HEADER,
        "let is_locked = self.locks.is_locked(Byte::Held(self.index))?;",
        "let is_mine = self.header.word(self.index) == self.mine;\n        let is_locked = self.locks.is_locked(Byte::Held(self.index))?;\n        if is_mine {\n            return Ok(is_locked);\n        }",
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
        "if let Ok(false) = self.locks.is_locked(Byte::Held(self.index)) {",
        "if let Ok(_) = self.locks.is_locked(Byte::Held(self.index)) {",
    ),
    Mutant(
        "a place is given back before its lock",
        HEADER,
        "        drop(self.hold.take());\n",
        "",
    ),
];
