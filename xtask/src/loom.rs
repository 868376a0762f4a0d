//! The loom models, and the mutants that they must catch.

use xshell::{Shell, cmd};

use crate::Result;

/// A target directory of its own: the flag would have the tests of the library built again.
const TARGET: [&str; 4] = ["--package", "loom-tests", "--target-dir", "target/loom"];

pub(crate) fn models(sh: &Shell, deep: bool) -> Result {
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let _doc_flags = sh.push_env("RUSTDOCFLAGS", "--cfg loom");
    let _deep = deep.then(|| sh.push_env("ASYMFENCE_LOOM_DEEP", "1"));
    cmd!(sh, "cargo test --release {TARGET...} -- --nocapture").run()?;
    Ok(())
}

pub(crate) fn lint(sh: &Shell) -> Result {
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    cmd!(sh, "cargo clippy --release {TARGET...} --all-targets -- -D warnings").run()?;
    Ok(())
}

/// One change to the library: what is done, the file, the text there, and what stands in its place.
struct Mutant(&'static str, &'static str, &'static str, &'static str);

const MUTANTS: &[Mutant] = &[
    Mutant(
        "heavy: no opening fence",
        "src/coalesce.rs",
        "    fence(SeqCst);\n    let outcome = call();",
        "    let outcome = call();",
    ),
    Mutant(
        "heavy: an opening fence that acquires and releases",
        "src/coalesce.rs",
        "    fence(SeqCst);\n    let outcome = call();",
        "    fence(crate::sync::Ordering::AcqRel);\n    let outcome = call();",
    ),
    Mutant(
        "heavy: an opening fence that releases",
        "src/coalesce.rs",
        "    fence(SeqCst);\n    let outcome = call();",
        "    fence(Release);\n    let outcome = call();",
    ),
    Mutant(
        "heavy: an opening fence that acquires",
        "src/coalesce.rs",
        "    fence(SeqCst);\n    let outcome = call();",
        "    fence(Acquire);\n    let outcome = call();",
    ),
    Mutant(
        "heavy: no closing fence",
        "src/coalesce.rs",
        "full fences.\n    fence(SeqCst);\n    outcome",
        "full fences.\n    outcome",
    ),
    Mutant(
        "heavy: a closing fence that acquires and releases",
        "src/coalesce.rs",
        "full fences.\n    fence(SeqCst);\n    outcome",
        "full fences.\n    fence(crate::sync::Ordering::AcqRel);\n    outcome",
    ),
    Mutant(
        "heavy: a closing fence that releases",
        "src/coalesce.rs",
        "full fences.\n    fence(SeqCst);\n    outcome",
        "full fences.\n    fence(Release);\n    outcome",
    ),
    Mutant(
        "heavy: a closing fence that acquires",
        "src/coalesce.rs",
        "full fences.\n    fence(SeqCst);\n    outcome",
        "full fences.\n    fence(Acquire);\n    outcome",
    ),
    Mutant(
        "heavy: the rung is not called",
        "src/fence.rs",
        "|| barrier_elsewhere(rung).map_err(Failure::to_word)",
        "|| Ok(rung).map(drop)",
    ),
    Mutant(
        "heavy: does not decide",
        "src/fence.rs",
        "strategy::init() else",
        "strategy::strategy().unwrap_or(Strategy::Symmetric) else",
    ),
    Mutant(
        "heavy: no fence while symmetric",
        "src/fence.rs",
        "        fence(SeqCst);\n        return Ok(());",
        "        return Ok(());",
    ),
    Mutant(
        "heavy: a weaker fence while symmetric",
        "src/fence.rs",
        "        fence(SeqCst);\n        return Ok(());",
        "        fence(crate::sync::Ordering::AcqRel);\n        return Ok(());",
    ),
    Mutant(
        "light: no fence while symmetric",
        "src/fence.rs",
        "symmetric or not.\n        fence(SeqCst);",
        "symmetric or not.",
    ),
    Mutant(
        "light: a weaker fence while symmetric",
        "src/fence.rs",
        "symmetric or not.\n        fence(SeqCst);",
        "symmetric or not.\n        fence(crate::sync::Ordering::AcqRel);",
    ),
    Mutant(
        "light: no barrier while asymmetric",
        "src/fence.rs",
        "        sys::compiler_barrier();\n    } else",
        "    } else",
    ),
    Mutant("Asymmetric: no barrier", "src/asymmetric.rs", "        sys::compiler_barrier();", ""),
    Mutant(
        "light: takes undecided for asymmetric",
        "src/strategy.rs",
        "DECISION.mode.load(Relaxed) >= FIRST_RUNG",
        "DECISION.mode.load(Relaxed) != SYMMETRIC",
    ),
    Mutant(
        "light: does not know symmetric",
        "src/strategy.rs",
        "DECISION.mode.load(Relaxed) >= FIRST_RUNG",
        "DECISION.mode.load(Relaxed) != UNDECIDED",
    ),
    Mutant(
        "commit: not a release",
        "src/strategy.rs",
        "(UNDECIDED, mode, Release, Relaxed)",
        "(UNDECIDED, mode, Relaxed, Relaxed)",
    ),
    Mutant(
        "commit: more than once",
        "src/strategy.rs",
        "        Err(_) => strategy().expect(\"a mode that was decided stays decided\"),",
        "        Err(_) => {\n            DECISION.mode.store(mode, Release);\n            found\n        }",
    ),
    Mutant(
        "climb: the rung is not made ready",
        "src/strategy.rs",
        "        None => sys::no_unwind(rung.mechanism().probe),",
        "        None => Ok(()),",
    ),
    Mutant(
        "share: the call that is in flight",
        "src/coalesce.rs",
        "let arrived = self.started.load(Relaxed);",
        "let arrived = self.ended.load(Relaxed);",
    ),
    Mutant(
        "share: no fence after started",
        "src/coalesce.rs",
        "            fence(SeqCst);\n            let outcome = call();",
        "            let outcome = call();",
    ),
    Mutant(
        "share: a fence after started that is not full",
        "src/coalesce.rs",
        "            fence(SeqCst);\n            let outcome = call();",
        "            fence(crate::sync::Ordering::AcqRel);\n            let outcome = call();",
    ),
    Mutant(
        "model: light does not acquire",
        "src/sys/modelled.rs",
        "fetch_add(1, AcqRel)",
        "fetch_add(1, Release)",
    ),
    Mutant(
        "model: light does not release",
        "src/sys/modelled.rs",
        "fetch_add(1, AcqRel)",
        "fetch_add(1, crate::sync::Ordering::Acquire)",
    ),
    Mutant(
        "model: heavy does not release",
        "src/sys/modelled.rs",
        "passages[light][me].fetch_add(1, Release)",
        "passages[light][me].fetch_add(1, Relaxed)",
    ),
    Mutant(
        "model: heavy acquires, which is too strong",
        "src/sys/modelled.rs",
        "passages[light][me].fetch_add(1, Release)",
        "passages[light][me].fetch_add(1, AcqRel)",
    ),
    Mutant(
        "model: light and heavy are both SeqCst, which is too strong",
        "src/sys/mod.rs",
        "    modelled::light_fence();",
        "    crate::model::fence(core::sync::atomic::Ordering::SeqCst);",
    ),
    Mutant(
        "share: started not counted",
        "src/coalesce.rs",
        "            self.started.store(n, Relaxed);\n",
        "",
    ),
    Mutant(
        "hazard: no light fence",
        "src/hazard/pointer.rs",
        "        light_fence();\n",
        "        let _ = light_fence;\n",
    ),
    Mutant(
        "hazard: the light fence before the publication",
        "src/hazard/pointer.rs",
        "        self.slot.protect(object);\n",
        "        light_fence();\n        self.slot.protect(object);\n        let light_fence = || ();\n",
    ),
    Mutant(
        "hazard: no heavy fence",
        "src/hazard/domain.rs",
        "= try_heavy_fence() {",
        "= Ok::<(), HeavyFenceError>(drop(try_heavy_fence as fn() -> _)) {",
    ),
    Mutant(
        "hazard: a light fence for the heavy one",
        "src/hazard/domain.rs",
        "= try_heavy_fence() {",
        "= Ok::<_, HeavyFenceError>(drop(try_heavy_fence as fn() -> _)).map(|()| crate::light_fence()) {",
    ),
    Mutant(
        "hazard: fence(SeqCst) for the heavy one",
        "src/hazard/domain.rs",
        "= try_heavy_fence() {",
        "= Ok::<_, HeavyFenceError>(drop(try_heavy_fence as fn() -> _))\n            .map(|()| crate::model::fence(crate::sync::Ordering::SeqCst)) {",
    ),
    Mutant(
        "hazard: a publication that does not release",
        "src/hazard/slots.rs",
        "self.protected.store(object.cast(), Release)",
        "self.protected.store(object.cast(), Relaxed)",
    ),
    Mutant(
        "hazard: a scan that does not acquire",
        "src/hazard/slots.rs",
        "slot.protected.load(Acquire)",
        "slot.protected.load(Relaxed)",
    ),
    Mutant(
        "hazard: a slot given back without a release",
        "src/hazard/slots.rs",
        "self.taken.store(false, Release)",
        "self.taken.store(false, Relaxed)",
    ),
    Mutant(
        "hazard: a slot taken without an acquire",
        "src/hazard/slots.rs",
        "self.taken.swap(true, Acquire)",
        "self.taken.swap(true, Relaxed)",
    ),
    Mutant(
        "hazard: a look again that does not acquire",
        "src/hazard/pointer.rs",
        "let found = source.pointer.load(Acquire);",
        "let found = source.pointer.load(Relaxed);",
    ),
    Mutant(
        "hazard: retired without a release",
        "src/hazard/retired.rs",
        "chain.first, Release, Relaxed",
        "chain.first, Relaxed, Relaxed",
    ),
    Mutant(
        "hazard: an object linked by a swap that does not release",
        "src/hazard/pointer.rs",
        "self.pointer.swap(new, AcqRel)",
        "self.pointer.swap(new, Acquire)",
    ),
    Mutant(
        "hazard: an object linked by an exchange that does not release",
        "src/hazard/pointer.rs",
        "compare_exchange(current, new, AcqRel, Acquire)",
        "compare_exchange(current, new, Acquire, Acquire)",
    ),
];

/// Changes a copy of the tree, and requires that the models fail on it: for each mutant whose name has
/// `word` in it.
pub(crate) fn mutants(sh: &Shell, word: &str) -> Result {
    let tree = sh.current_dir().join("target/mutants/tree");
    let target = sh.current_dir().join("target/mutants/target");
    let files = cmd!(sh, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    let _flags = sh.push_env("RUSTFLAGS", "--cfg loom");
    let chosen: Vec<&Mutant> = MUTANTS.iter().filter(|mutant| mutant.0.contains(word)).collect();
    let mut survivors = Vec::new();
    for &&Mutant(what, file, text, replacement) in &chosen {
        sh.remove_path(&tree)?;
        for file in files.lines().filter(|file| sh.path_exists(file)) {
            let copy = tree.join(file);
            sh.create_dir(copy.parent().ok_or("a file below the tree")?)?;
            sh.copy_file(file, copy)?;
        }
        let source = sh.read_file(file)?;
        if source.matches(text).count() != 1 {
            return Err(format!("{what}: its text does not stand once in {file}").into());
        }
        sh.write_file(tree.join(file), source.replace(text, replacement))?;

        let _there = sh.push_dir(&tree);
        let test = ["test", "--quiet", "--release", "--package", "loom-tests"];
        cmd!(sh, "cargo {test...} --target-dir {target} --no-run").quiet().ignore_stderr().run()?;
        // The quick models first; of the litmus tables not the longest.
        let fences: &[&[&str]] = &[
            &["pairing", "deciding", "hand_on"],
            &["--skip", "exact", "--skip", "pairing", "--skip", "deciding", "--skip", "hand_on"],
            &["exact", "--skip", "iriw", "--skip", "z6"],
        ];
        let stages = if what.starts_with("hazard") { &[&["hazard::"][..]][..] } else { fences };
        let fails = |filter: &[&str]| -> Result<bool> {
            let run = cmd!(sh, "cargo {test...} --target-dir {target} --test it -- {filter...}");
            let output = run.quiet().ignore_status().ignore_stderr().output()?;
            // A model that fails in a destructor may take the process with it.
            if String::from_utf8_lossy(&output.stdout).contains("running ") {
                return Ok(!output.status.success());
            }
            Err(format!("{what}: no model ran").into())
        };
        let mut survives = true;
        for &stage in stages {
            survives = survives && !fails(stage)?;
        }
        println!("{}: {what}", if survives { "SURVIVES" } else { "caught" });
        if survives {
            survivors.push(what);
        }
    }
    println!("{} passed, {} failed", chosen.len() - survivors.len(), survivors.len());
    if survivors.is_empty() {
        Ok(())
    } else {
        Err(format!("mutants survive: {survivors:?}").into())
    }
}
