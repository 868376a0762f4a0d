//! A build that contains every mutant, and a run of the judges for each mutant.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use xshell::{Shell, cmd};

use super::court::{Binaries, Court, Fate, LONG, SHORT};
use super::judges::{AREAS, BUILDS, Judge, LEFT_OUT, is_model};
use super::rewrite::{Change, Kind, Mutant, rewrite};
use super::{Mutant as Named, SUITES, Suite};
use crate::Result;
use crate::processes::{binaries as built, workers};

/// The packages with mutants.
const PACKAGES: [&str; 4] = ["src", "hazard/src", "cookbook/src", "examples/first"];

/// The path of the functions that choose. It does not begin with `crate`, because models include some files of the
/// library in crates of their own, where the same path must be right.
const MODULE: &str = "::asymfence::mutant";

/// Which test caught a mutant last, a line for each.
const CAUGHT_BY: &str = "xtask/src/mutants/caught-by.tsv";

/// Appended to the copy of src/lib.rs. Reads the variable before `main`: the code under test may run where
/// nothing may be read, or allocated.
const CHOOSER: &str = r#"
extern crate self as asymfence;
#[cfg(not(any(feature = "loom", doc)))]
#[doc(hidden)]
#[allow(missing_docs, reason = "named mutants call its `fence`, also in builds without the model")]
pub mod model {
    pub use core::sync::atomic::fence;
}
#[doc(hidden)]
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "of a copy that nobody reads")]
pub mod mutant {
    extern crate std;
    use core::ffi::{c_char, c_int, c_long, c_void};
    use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering::Relaxed};

    const LENGTH: usize = 1 << 16;
    static CHOSEN: [AtomicBool; LENGTH] = [const { AtomicBool::new(false) }; LENGTH];
    static REACHED: AtomicPtr<AtomicU8> = AtomicPtr::new(core::ptr::null_mut());

    unsafe extern "C" {
        fn getenv(name: *const c_char) -> *const c_char;
        fn strtol(text: *const c_char, end: *mut *const c_char, base: c_int) -> c_long;
        fn open(path: *const c_char, flags: c_int, ...) -> c_int;
        fn mmap(at: *mut c_void, length: usize, protection: c_int, flags: c_int, file: c_int, offset: c_long) -> *mut c_void;
    }

    extern "C" fn read() {
        unsafe {
            let mut next = getenv(c"ASYMFENCE_MUTANT".as_ptr());
            while !next.is_null() && *next != 0 {
                CHOSEN[strtol(next, &mut next, 10) as usize].store(true, Relaxed);
                next = next.add(usize::from(*next != 0)); // the comma
            }
            let path = getenv(c"ASYMFENCE_MUTANTS_REACHED".as_ptr());
            if !path.is_null() {
                let file = open(path, 2);
                let map = mmap(core::ptr::null_mut(), LENGTH, 3, 1, file, 0);
                if map as isize != -1 {
                    REACHED.store(map.cast(), Relaxed);
                }
            }
        }
    }

    #[used]
    #[unsafe(link_section = ".init_array")]
    static READ: extern "C" fn() = read;

    #[inline]
    pub fn chosen(number: usize) -> bool {
        let reached = REACHED.load(Relaxed);
        if !reached.is_null() {
            unsafe { (*reached.add(number)).store(1, Relaxed) };
        }
        CHOSEN[number].load(Relaxed)
    }

    pub trait Outcome {
        fn is_error(&self) -> bool;
    }
    impl<T, E> Outcome for Result<T, E> {
        fn is_error(&self) -> bool {
            self.is_err()
        }
    }
    impl<T> Outcome for Option<T> {
        fn is_error(&self) -> bool {
            self.is_none()
        }
    }
    pub fn tried<T: Outcome>(number: usize, outcome: T) -> T {
        if chosen(number) && outcome.is_error() {
            core::panic!()
        }
        outcome
    }

    pub fn lt<T: PartialOrd + ?Sized>(number: usize, a: &T, b: &T) -> bool {
        if chosen(number) { a <= b } else { a < b }
    }
    pub fn le<T: PartialOrd + ?Sized>(number: usize, a: &T, b: &T) -> bool {
        if chosen(number) { a < b } else { a <= b }
    }
    pub fn gt<T: PartialOrd + ?Sized>(number: usize, a: &T, b: &T) -> bool {
        if chosen(number) { a >= b } else { a > b }
    }
    pub fn ge<T: PartialOrd + ?Sized>(number: usize, a: &T, b: &T) -> bool {
        if chosen(number) { a > b } else { a >= b }
    }
}
"#;

/// Which mutants are tried, and who judges them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Which {
    /// Guards are tried too, and models and tests judge every mutant but those with a name, which models judge.
    /// Otherwise guards are not tried (but by `Part::Quick`), and models alone judge the others.
    pub(crate) all: bool,
    pub(crate) part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Every,
    /// Those that a test has caught before, each by that test first, and those that are new. Also guards.
    Quick,
    /// Those that no test has caught before and that have no reason to survive.
    New,
    /// None: they are counted.
    List,
}

/// A mutant's number, itself, its key in the list, and its judges.
struct Case<'m> {
    number: usize,
    mutant: &'m Mutant,
    key: String,
    judges: Vec<&'static Judge>,
}

pub(crate) fn run(sh: &Shell, which: Which, word: &str) -> Result {
    let root = sh.current_dir();
    let tree = root.join("target/mutants/tree");
    let mutants = copy(sh, &tree)?;
    let before = caught_by(sh)?;
    let mut cases = choose(&mutants, which, word);
    let is_known = |case: &Case| before.contains_key(&case.key);
    match which.part {
        Part::Quick => cases.retain(|case| is_known(case) || case.mutant.excuse.is_none()),
        Part::New => cases.retain(|case| !is_known(case) && case.mutant.excuse.is_none()),
        Part::Every => {}
        Part::List => {
            list(&cases, &before);
            return Ok(());
        }
    }
    if cases.is_empty() && which.part == Part::New {
        println!("no mutant is new");
        return Ok(());
    }
    if cases.is_empty() {
        return Err(format!(
            "no mutant that would be tried has `{word}` in its description (guards are tried only with --all or \
             --quick; --quick leaves out those that have a reason and that nothing has caught)"
        )
        .into());
    }
    println!("{} mutants, of which {} are tried", mutants.len(), cases.len());
    let binaries = build(sh, &root, &tree, &cases)?;
    let court = Court::open(&tree, &binaries, cases.iter().flat_map(|case| &case.judges))?;
    let (caught_by, mut fates) = (Mutex::new(before.clone()), Vec::new());
    // At once: a run of hours may be stopped.
    let note = |case: &Case, fate: &Fate| -> Result {
        let mut caught_by = caught_by.lock().expect("no worker panics");
        match fate {
            Fate::Caught(test) => caught_by.insert(case.key.clone(), (*test).to_owned()),
            _ => caught_by.remove(&case.key),
        };
        write(&root, &caught_by, &mutants)
    };
    // A mutant with a reason is expected to pass every test, so several are tried together.
    let (excused, mut open): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| {
        which.part == Part::Every && case.mutant.excuse.is_some() && !is_known(case)
    });
    // Most are caught by a short test.
    for limit in [SHORT, LONG] {
        let (next, judged) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        // Relaxed: a number for each worker to take.
        let take = || open.get(next.fetch_add(1, Relaxed)).copied();
        workers(|worker| {
            while let Some(case) = take() {
                let Case { number, mutant, ref key, ref judges } = *case;
                let hint = before.get(key).filter(|_| limit == SHORT).map(String::as_str);
                let (fate, how) = court.judge(number, mutant, judges, limit, hint, worker)?;
                if limit == LONG || matches!(fate, Fate::Caught(_)) {
                    println!("{}: {mutant} ({how})", fate.word());
                    if which.part != Part::Quick {
                        note(case, &fate)?;
                    }
                } else {
                    println!("not by a short test: {mutant} ({how})");
                }
                judged.lock().expect("no worker panics").push((fate, case));
            }
            Ok(())
        })?;
        let judged = judged.into_inner().expect("no worker panics");
        let (caught, others): (Vec<_>, Vec<_>) =
            judged.into_iter().partition(|(fate, _)| matches!(fate, Fate::Caught(_)));
        fates.extend(caught);
        if limit == LONG {
            fates.extend(others);
        } else {
            open = others.into_iter().map(|(_, case)| case).collect();
        }
    }
    let (groups, next, judged) = (groups(&excused), AtomicUsize::new(0), Mutex::new(Vec::new()));
    workers(|worker| {
        while let Some(group) = groups.get(next.fetch_add(1, Relaxed)) {
            for (fate, case) in together(&court, group, worker)? {
                println!("{}: {}", fate.word(), case.mutant);
                note(case, &fate)?;
                judged.lock().expect("no worker panics").push((fate, case));
            }
        }
        Ok(())
    })?;
    fates.extend(judged.into_inner().expect("no worker panics"));
    report(&fates, which, word, court.failed())
}

/// Groups of mutants that the same tests judge. Two of one line may hide each other, so they are not in one group.
fn groups<'c, 'm>(cases: &[&'c Case<'m>]) -> Vec<Vec<&'c Case<'m>>> {
    const MOST: usize = 8;
    let mut groups: Vec<Vec<&Case>> = Vec::new();
    for &case in cases {
        let place = |case: &Case<'m>| (&case.mutant.file, case.mutant.line);
        let has_room = |group: &&mut Vec<&Case<'m>>| {
            group.len() < MOST
                && group[0].judges == case.judges
                && group.iter().all(|other| place(other) != place(case))
        };
        match groups.iter_mut().find(has_room) {
            Some(group) => group.push(case),
            None => groups.push(vec![case]),
        }
    }
    groups
}

/// Their fates, where all are expected to survive. If a test fails on all at once, each half is judged by itself.
fn together<'t, 'c, 'm>(
    court: &'t Court,
    cases: &[&'c Case<'m>],
    worker: usize,
) -> Result<Vec<(Fate<'t>, &'c Case<'m>)>> {
    let alone = |case: &'c Case<'m>| -> Result<_> {
        let Case { number, mutant, ref judges, .. } = *case;
        let (fate, _) = court.judge(number, mutant, judges, SHORT, None, worker)?;
        let fate = match fate {
            Fate::Caught(_) => fate,
            _ => court.judge(number, mutant, judges, LONG, None, worker)?.0,
        };
        Ok((fate, case))
    };
    if let [case] = *cases {
        return Ok(vec![alone(case)?]);
    }
    let numbers: Vec<_> = cases.iter().map(|case| case.number).collect();
    let Some(fates) = court.judge_together(&numbers, &cases[0].judges, worker)? else {
        let (left, right) = cases.split_at(cases.len() / 2);
        return Ok([together(court, left, worker)?, together(court, right, worker)?].concat());
    };
    let each = cases.iter().zip(fates).map(|(&case, fate)| match fate {
        Some(fate) => Ok((fate, case)),
        None => alone(case),
    });
    each.collect()
}

fn choose<'m>(mutants: &'m [Mutant], which: Which, word: &str) -> Vec<Case<'m>> {
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    let mut cases = Vec::new();
    for (index, mutant) in mutants.iter().enumerate() {
        let what = format!("{}\t{}", mutant.file, mutant.what);
        let count = alike.entry(what.clone()).or_default();
        *count += 1;
        let key = format!("{what}\t{count}");
        let is_guard = mutant.kind == Kind::Guard;
        let has_tests = which.all || is_guard && which.part == Part::Quick;
        let judges: Vec<_> =
            judges(mutant).iter().filter(|judge| has_tests || is_model(judge.binary)).collect();
        // A mutant that no model judges is judged only by tests with real threads and child processes, which take long:
        // `--all` tries it.
        let is_tried = has_tests || !is_guard && !judges.is_empty();
        let shown = mutant.to_string();
        if is_tried && word.split(',').any(|word| shown.contains(word)) {
            cases.push(Case { number: index + 1, mutant, key, judges });
        }
    }
    // What no rule makes is last.
    cases.sort_by_key(|case| case.mutant.kind == Kind::Named);
    cases
}

/// The tests that caught them last, by their keys.
fn caught_by(sh: &Shell) -> Result<BTreeMap<String, String>> {
    let text = if sh.path_exists(CAUGHT_BY) { sh.read_file(CAUGHT_BY)? } else { String::new() };
    let lines = text.lines().filter_map(|line| line.rsplit_once('\t'));
    Ok(lines.map(|(key, test)| (key.to_owned(), test.to_owned())).collect())
}

/// Without the mutants that are gone.
fn write(root: &Path, caught_by: &BTreeMap<String, String>, mutants: &[Mutant]) -> Result {
    let every = choose(mutants, Which { all: true, part: Part::Every }, "");
    let tests = every.iter().filter_map(|case| caught_by.get_key_value(&case.key));
    let mut lines: Vec<String> = tests.map(|(key, test)| format!("{key}\t{test}\n")).collect();
    lines.sort();
    Ok(std::fs::write(root.join(CAUGHT_BY), lines.concat())?)
}

/// What is known of each file's mutants.
fn list(cases: &[Case], before: &BTreeMap<String, String>) {
    let mut files: BTreeMap<(&str, &str), [usize; 3]> = BTreeMap::new();
    for Case { mutant, key, .. } in cases {
        let kind = if mutant.kind == Kind::Guard { "guards" } else { "orderings, named" };
        let counts = files.entry((kind, &mutant.file)).or_default();
        let is_caught = before.contains_key(key);
        if !is_caught && mutant.excuse.is_none() {
            println!("not caught yet: {mutant}");
        }
        counts[if is_caught { 0 } else { 1 + usize::from(mutant.excuse.is_none()) }] += 1;
    }
    for ((kind, file), [caught, excused, open]) in files {
        println!("{kind}, {file}: {caught} caught, {excused} with a reason, {open} not caught yet");
    }
}

/// Who judges it: its suite, or its area.
fn judges(mutant: &Mutant) -> &'static [Judge] {
    if mutant.kind == Kind::Named {
        let suite = SUITES.iter().find(|suite| mutant.what.starts_with(suite.name));
        return suite.expect("named after its suite").judges;
    }
    let area = AREAS.iter().find(|(area, _)| mutant.file.starts_with(area));
    area.unwrap_or_else(|| panic!("{} has no judge in `AREAS`", mutant.file)).1
}

/// A survivor without an excuse is a fault. In a run without `--quick`, `--new` and WORDS an excuse that no survivor of
/// its file needs is a fault too, unless its words name the schedule. Without `--all` the excuses of orderings are
/// checked, with `--all` the excuses of guards.
fn report<'t>(
    fates: &[(Fate, &Case)],
    which: Which,
    word: &str,
    failed: impl Iterator<Item = &'t str>,
) -> Result {
    let count = |is: fn(&Fate) -> bool| fates.iter().filter(|(fate, _)| is(fate)).count();
    let not_caught = || fates.iter().filter(|(fate, _)| !matches!(fate, Fate::Caught(_)));
    println!(
        "mutants: {} caught, {} survive, {} are not reached; {} that no test catches have a reason",
        count(|fate| matches!(fate, Fate::Caught(_))),
        count(|fate| *fate == Fate::Survives),
        count(|fate| *fate == Fate::Unreached),
        not_caught().filter(|(_, case)| case.mutant.excuse.is_some()).count()
    );
    let mut faults: Vec<String> = not_caught()
        .filter(|(_, case)| case.mutant.excuse.is_none())
        .map(|(fate, case)| format!("{}: {}", fate.word(), case.mutant))
        .collect();
    if !faults.is_empty() {
        faults.sort();
        let why = "no test catches these, and no comment says why (`survives: …`, of a guard `guard survives: …`):";
        faults.insert(0, why.to_owned());
    }
    faults.extend(failed.map(|test| format!("without a mutant, {test} fails")));
    if which.part == Part::Every && word.is_empty() {
        // An excuse that no mutant needs is a fault. With `--all` only excuses of guards are checked. An excuse of an
        // ordering says that no model catches the mutant, so it is needed even if a test catches it.
        let is_judged = |case: &Case| which.all == (case.mutant.kind == Kind::Guard);
        let excuses = fates
            .iter()
            .filter(|(_, case)| is_judged(case))
            .filter_map(|(_, case)| Some((&case.mutant.file, case.mutant.excuse.as_ref()?)));
        let needed: Vec<_> = not_caught()
            .filter_map(|(_, case)| Some((&case.mutant.file, case.mutant.excuse.as_ref()?)))
            .collect();
        // What the schedule decides is caught in some runs.
        let by_chance = |why: &str| why.contains("depends on the schedule");
        let is_idle =
            |(file, why): &(_, &String)| !needed.contains(&(*file, *why)) && !by_chance(why);
        let mut idle: Vec<_> = excuses.filter(is_idle).collect();
        idle.dedup();
        faults.extend(
            idle.iter().map(|(file, why)| format!("{file}: nothing survives by `survives: {why}`")),
        );
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n  ").into()) }
}

/// Copies the tree, with every mutant in its sources.
fn copy(sh: &Shell, tree: &Path) -> Result<Vec<Mutant>> {
    let files = cmd!(sh, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    let mut copies: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for file in files.lines().filter(|file| sh.path_exists(file)) {
        copies.insert(file, sh.read_binary_file(file)?);
    }
    let mut mutants = Vec::new();
    for package in PACKAGES {
        let sources = files.lines().filter(|file| {
            Path::new(file).starts_with(package) && file.ends_with(".rs") && sh.path_exists(file)
        });
        for file in sources.filter(|file| !LEFT_OUT.iter().any(|(left, _)| left == file)) {
            let text = sh.read_file(file)?;
            let new = rewrite(file, &text, MODULE, &changes(file), &mut mutants)?;
            copies.insert(file, new.into());
        }
    }
    let named = mutants.iter().filter(|mutant| mutant.kind == Kind::Named).count();
    if named != SUITES.iter().map(|suite| suite.mutants.len()).sum::<usize>() {
        return Err("a mutant with a name is of a file that has no mutants".into());
    }
    copies.entry("src/lib.rs").or_default().extend_from_slice(CHOOSER.as_bytes());
    // What has not changed is not built again, and what is gone goes.
    let list = tree.with_file_name("files");
    if !sh.path_exists(&list) || sh.read_file(&list)? != files {
        sh.remove_path(tree)?;
        sh.write_file(list, &files)?;
    }
    for (file, text) in copies {
        let copy = tree.join(file);
        if !sh.path_exists(&copy) || sh.read_binary_file(&copy)? != text {
            sh.write_file(copy, text)?;
        }
    }
    Ok(mutants)
}

/// Those with a name, of one file.
fn changes(file: &str) -> Vec<Change<'static>> {
    let named = |suite: &'static Suite| {
        suite.mutants.iter().map(move |Named(what, file, text, replacement)| {
            (*file, Change { what: format!("{}: {what}", suite.name), text, replacement })
        })
    };
    let all = SUITES.iter().flat_map(named);
    all.filter(|(its, _)| *its == file).map(|(_, change)| change).collect()
}

fn build(sh: &Shell, root: &Path, tree: &Path, cases: &[Case]) -> Result<Binaries> {
    let mut binaries = Binaries::new();
    let _there = sh.push_dir(tree);
    let needed =
        |name| cases.iter().any(|case| case.judges.iter().any(|judge| judge.binary.0 == name));
    for build in BUILDS.iter().filter(|build| needed(build.name)) {
        let target = root.join(build.target);
        let _flags = (!build.flags.is_empty()).then(|| sh.push_env("RUSTFLAGS", build.flags));
        let arguments = build.arguments;
        let output = cmd!(sh, "cargo test --no-run --target-dir {target} {arguments...}")
            .quiet()
            .ignore_status()
            .output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("the mutants of the {} do not build:\n{words}", build.name).into());
        }
        for (source, path) in built(&words) {
            binaries.insert((build.name, source), tree.join(path));
        }
    }
    Ok(binaries)
}

impl std::fmt::Display for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_chooses_every_mutant_of_the_variable_and_no_other() {
        let main = "\nfn main() {\n    for number in 0..100 {\n        if mutant::chosen(number) {\n            print!(\"{number} \");\n        }\n    }\n}\n";
        let sh = Shell::new().expect("a current folder");
        let folder = sh.create_temp_dir().expect("a folder");
        let _there = sh.push_dir(folder.path());
        sh.write_file("chooser.rs", format!("{CHOOSER}{main}")).expect("ours");
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        cmd!(sh, "{rustc} --edition 2024 --cap-lints allow chooser.rs").run().expect("it compiles");
        let chosen = |value| {
            let _value = sh.push_env("ASYMFENCE_MUTANT", value);
            cmd!(sh, "./chooser").read().expect("it runs").trim().to_owned()
        };
        assert_eq!(chosen("3,70,12"), "3 12 70");
        assert_eq!(chosen("7"), "7");
        assert_eq!(chosen(""), "");
    }

    #[test]
    fn a_group_has_the_same_judges_and_no_two_mutants_of_a_line() {
        let of = |file: &str, line| Mutant {
            file: file.to_owned(),
            line,
            what: String::new(),
            kind: Kind::Guard,
            excuse: None,
        };
        let places = [("src/fence.rs", 1), ("src/fence.rs", 1), ("src/coalesce.rs", 1)];
        let mut mutants: Vec<_> = places.iter().map(|&(file, line)| of(file, line)).collect();
        mutants.extend((2..10).map(|line| of("src/fence.rs", line)));
        let cases = choose(&mutants, Which { all: true, part: Part::Every }, "");
        let cases: Vec<&Case> = cases.iter().collect();
        let numbers = |group: Vec<&Case>| group.iter().map(|case| case.number).collect::<Vec<_>>();
        let groups: Vec<_> = groups(&cases).into_iter().map(numbers).collect();
        assert_eq!(groups, [vec![1, 4, 5, 6, 7, 8, 9, 10], vec![2, 11], vec![3]]);
    }
}
