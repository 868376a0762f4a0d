//! The rules of the house that a search can check.

use xshell::{Shell, cmd};

use crate::Result;

/// A pattern, the files in which it is looked for, where it may stand, and why nowhere else.
const RULES: [(&str, &str, &[&str], &str); 6] = [
    (
        r"cfg(_attr)?!?\(.*\b(target_(os|arch|env|pointer_width)|windows|miri)\b",
        "src",
        &["src/sys/mod.rs"],
        "which target it is, is asked in sys/mod.rs alone",
    ),
    (
        r"cfg(_attr)?!?\(.*\bloom\b",
        "src",
        &["src/sync.rs", "src/sys/mod.rs", "src/lib.rs"],
        "loom is chosen in sync.rs and sys/mod.rs, and declared in lib.rs",
    ),
    (
        r"cfg(_attr)?!?\(.*\basymfence_",
        "src",
        &["src/sync.rs", "src/sys/mod.rs"],
        "switches of the build are asked in sync.rs and sys/mod.rs alone",
    ),
    (
        r"TODO|FIXME|todo!|unimplemented!",
        "src",
        &[],
        "nothing is left for later in the published crate",
    ),
    (
        r"^[^/]*crate::(asymmetric|fence|model|strategy|hazard|cross_process|membarrier)\b",
        "src",
        &[
            "src/lib.rs",
            "src/asymmetric.rs",
            "src/cross_process/",
            "src/fence.rs",
            "src/strategy.rs",
            "src/model.rs",
            "src/hazard/",
        ],
        "imports run downward",
    ),
    (
        r"^use crate::\{?(strategy|asymmetric)|\b(Strategy|Rung|rustix|membarrier)\b",
        "src/hazard",
        &[],
        "hazard names no strategy and no system",
    ),
];

pub(crate) fn check(sh: &Shell) -> Result {
    let mut faults = String::new();
    for (pattern, files, exempt, why) in RULES {
        // git grep answers 1 where nothing is found.
        let found = cmd!(sh, "git grep -nE {pattern} -- {files}").quiet().ignore_status().read()?;
        let is_fault = |line: &&str| !exempt.iter().any(|file| line.starts_with(file));
        for line in found.lines().filter(is_fault) {
            faults += &format!("\n{why}:\n  {line}");
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.into()) }
}
