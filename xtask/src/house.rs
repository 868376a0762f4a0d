//! The rules of the house that a search can check.

use xshell::{Shell, cmd};

use crate::Result;

/// A pattern, where it may stand, and why nowhere else.
const RULES: [(&str, &[&str], &str); 4] = [
    (
        r"cfg(_attr)?!?\(.*\b(target_(os|arch|env|pointer_width)|miri)\b",
        &["src/sys/mod.rs"],
        "which target it is, is asked in sys/mod.rs alone",
    ),
    (
        r"cfg(_attr)?!?\(.*\bloom\b",
        &["src/sync.rs", "src/sys/mod.rs", "src/lib.rs"],
        "loom is chosen in sync.rs and sys/mod.rs, and declared in lib.rs",
    ),
    (r"TODO|FIXME|todo!|unimplemented!", &[], "nothing is left for later in the published crate"),
    (
        r"crate::(asymmetric|fence|model|strategy|hazard|cross_process)\b",
        &["src/lib.rs", "src/asymmetric.rs", "src/fence.rs", "src/strategy.rs", "src/model.rs"],
        "imports run downward",
    ),
];

pub(crate) fn check(sh: &Shell) -> Result {
    let mut faults = String::new();
    for (pattern, exempt, why) in RULES {
        // git grep answers 1 where nothing is found.
        let found = cmd!(sh, "git grep -nE {pattern} -- src").quiet().ignore_status().read()?;
        let is_fault = |line: &&str| !exempt.iter().any(|file| line.starts_with(file));
        for line in found.lines().filter(is_fault) {
            faults += &format!("\n{why}:\n  {line}");
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.into()) }
}
