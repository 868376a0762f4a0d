//! Promela models of the protocols on an x86-TSO machine, which spin explores to the end. spin shares no code with loom, so
//! a fault of loom cannot hide a fault of a protocol.

use xshell::{Shell, cmd};

use crate::{Result, ledger};

/// A model and its twins. Each twin defines a name, and must fail.
const MODELS: [(&str, &[&str]); 2] = [
    ("started_after", &["IN_FLIGHT", "LATE", "UNOPENED", "UNLED", "NOBODY", "MOVED"]),
    ("hazard", &["NOBODY", "UNLOOKED", "MOVED", "EARLY", "LEFT_EARLY"]),
];

pub(crate) fn models(sh: &Shell) -> Result {
    for tool in ["spin", "cc"] {
        if cmd!(sh, "which {tool}").quiet().ignore_stdout().ignore_stderr().run().is_err() {
            return ledger::skipped(sh, "spin", format!("no {tool} (on Debian: spin, gcc)"));
        }
    }
    for (model, twins) in MODELS {
        let verdict = explore(sh, model, None)?;
        if verdict.errors != 0 || !verdict.is_complete {
            return Err(format!("spin/{model}.pml does not hold: {}", verdict.words).into());
        }
        println!("{model}: holds; {} states", verdict.states);
        for twin in twins {
            let verdict = explore(sh, model, Some(twin))?;
            // It must fail by an assertion of the model. Another error does not count.
            if verdict.errors == 0 || !verdict.words.contains("assertion violated") {
                return Err(format!("spin/{model}.pml: {twin} must fail: {}", verdict.words).into());
            }
            println!("{model}: {twin} fails, as it must");
        }
    }
    ledger::ran(sh, "spin")
}

struct Verdict {
    errors: u64,
    states: String,
    /// Whether every state was visited.
    is_complete: bool,
    words: String,
}

fn explore(sh: &Shell, model: &str, twin: Option<&str>) -> Result<Verdict> {
    let file = sh.current_dir().join("spin").join(model).with_extension("pml");
    let _there = sh.push_dir(sh.create_dir(crate::target(sh, "spin"))?);
    let define = twin.map(|twin| format!("-D{twin}"));
    cmd!(sh, "spin -a {define...} {file}").quiet().ignore_stdout().run()?;
    cmd!(sh, "cc -O2 -w -DSAFETY -DMEMLIM=4000 -o pan pan.c").quiet().run()?;
    let words = cmd!(sh, "./pan -m1000000").quiet().ignore_status().read()?;
    let before = |mark: &str| {
        words.split_once(mark).and_then(|(before, _)| before.split_whitespace().last())
    };
    let errors = words
        .split_once("errors: ")
        .and_then(|(_, after)| after.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| format!("spin says no number of errors: {words}"))?;
    let states = before(" states, stored").unwrap_or("?").to_owned();
    let cut = ["Search not completed", "max search depth too small", "reached -DMEMLIM"];
    let is_complete = !cut.iter().any(|cut| words.contains(cut));
    Ok(Verdict { errors, states, is_complete, words })
}
