//! One build of every mutant, and a run of the judges for each.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use xshell::{Shell, cmd};

use super::judges::{AREAS, BUILDS, Judge, LEFT_OUT};
use super::rewrite::{Kind, Mutant, rewrite};
use crate::{Result, ledger};

/// How long CI tries mutants. What is left then is said.
const TIME_BOX: Duration = Duration::from_secs(600);

/// The packages with mutants.
const PACKAGES: [&str; 3] = ["src", "hazard/src", "cookbook/src"];

/// The functions that choose. By this name everywhere: models include files of the library.
const MODULE: &str = "::asymfence::mutant";

/// The number of the mutant; what else reads it is in `CHOOSER`.
const VARIABLE: &str = "ASYMFENCE_MUTANT";

/// A file with a byte for each mutant, which one that is reached sets.
const REACHED: &str = "ASYMFENCE_MUTANTS_REACHED";

/// Appended to the copy of src/lib.rs. Reads the variable before `main`: the code under test may run where
/// nothing may be read, or allocated.
const CHOOSER: &str = r#"
extern crate self as asymfence;
#[doc(hidden)]
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "of a copy that nobody reads")]
pub mod mutant {
    extern crate std;
    use core::ffi::{c_char, c_int, c_long, c_void, CStr};
    use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering::Relaxed};

    static CHOSEN: AtomicUsize = AtomicUsize::new(0);
    static REACHED: AtomicPtr<AtomicU8> = AtomicPtr::new(core::ptr::null_mut());
    const LENGTH: usize = 1 << 16;

    unsafe extern "C" {
        fn getenv(name: *const c_char) -> *const c_char;
        fn atol(text: *const c_char) -> c_long;
        fn open(path: *const c_char, flags: c_int, ...) -> c_int;
        fn mmap(at: *mut c_void, length: usize, protection: c_int, flags: c_int, file: c_int, offset: c_long) -> *mut c_void;
    }

    extern "C" fn read() {
        unsafe {
            let value = getenv(c"ASYMFENCE_MUTANT".as_ptr());
            if !value.is_null() {
                CHOSEN.store(atol(value) as usize, Relaxed);
            }
            let path = getenv(c"ASYMFENCE_MUTANTS_REACHED".as_ptr());
            if !path.is_null() {
                let file = open(path, 2);
                let map = mmap(core::ptr::null_mut(), LENGTH, 3, 1, file, 0);
                if map as isize != -1 {
                    REACHED.store(map.cast(), Relaxed);
                }
            }
            let _ = CStr::from_ptr(c"".as_ptr());
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
        CHOSEN.load(Relaxed) == number
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

/// A mutant's number, itself, and its judges.
type Case<'m> = (usize, &'m Mutant, &'static [Judge]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Caught,
    /// A test of its area runs there, and passes.
    Survives,
    /// No test of its area comes there.
    Unreached,
}

pub(crate) fn run(sh: &Shell, all: bool, word: &str) -> Result {
    let root = sh.current_dir();
    let tree = root.join("target/mutants/tree");
    let mutants = copy(sh, &tree)?;
    let cases: Vec<Case> = mutants
        .iter()
        .enumerate()
        .filter(|(_, mutant)| mutant.to_string().contains(word))
        .filter_map(|(index, mutant)| {
            let (_, judges) = AREAS
                .iter()
                .find(|(area, _)| mutant.file.starts_with(area))
                .unwrap_or_else(|| panic!("{} has no judge in `AREAS`", mutant.file));
            // What no model judges takes processes, and long.
            let is_quick = mutant.kind == Kind::Order && judges[0].binary.0 == "models";
            (all || is_quick).then_some((index + 1, mutant, *judges))
        })
        .collect();
    if cases.is_empty() {
        println!("no generated mutant has `{word}` in its description");
        return Ok(());
    }
    println!("{} mutants, of which {} are tried", mutants.len(), cases.len());
    let binaries = build(sh, &root, &tree, &cases, all)?;
    let court = Court::open(&tree, &binaries, &cases, all)?;

    let start = Instant::now();
    let (next, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let fates = Mutex::new(Vec::new());
    // Relaxed: a number for each worker to take.
    let take = || cases.get(next.fetch_add(1, Relaxed));
    thread::scope(|scope| {
        let (take, court, left, fates) = (&take, &court, &left, &fates);
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(move || {
                while let Some(&(number, mutant, judges)) = take() {
                    if !all && start.elapsed() > TIME_BOX {
                        left.fetch_add(1, Relaxed);
                        continue;
                    }
                    let fate = court.judge(number, judges);
                    println!("{fate:?}: {mutant}");
                    fates.lock().expect("no worker panics").push((fate, mutant));
                }
            });
        }
    });
    let left = left.into_inner();
    if left > 0 {
        ledger::skipped(
            sh,
            "mutants",
            format!("{left} did not fit into {TIME_BOX:?}: `cargo xtask mutants --all`"),
        )?;
    }
    report(&fates.into_inner().expect("no worker panics"))
}

/// New survivors are a fault, and so is an excuse on a line where every mutant was caught.
fn report(fates: &[(Fate, &Mutant)]) -> Result {
    let count = |fate: Fate| fates.iter().filter(|(other, _)| *other == fate).count();
    let excused =
        fates.iter().filter(|(fate, mutant)| *fate != Fate::Caught && mutant.excuse.is_some());
    println!(
        "mutants: {} caught, {} survive, {} are not reached; {} of these have a reason",
        count(Fate::Caught),
        count(Fate::Survives),
        count(Fate::Unreached),
        excused.count()
    );
    let mut unexcused: Vec<String> = fates
        .iter()
        .filter(|(fate, mutant)| *fate != Fate::Caught && mutant.excuse.is_none())
        .map(|(fate, mutant)| format!("{fate:?}: {mutant}"))
        .collect();
    if unexcused.is_empty() {
        return Ok(());
    }
    unexcused.sort();
    Err(format!(
        "no test catches, and no comment `survives: …` says why:\n  {}",
        unexcused.join("\n  ")
    )
    .into())
}

/// Copies the tree, with every mutant in its sources.
fn copy(sh: &Shell, tree: &Path) -> Result<Vec<Mutant>> {
    sh.remove_path(tree)?;
    let files = cmd!(sh, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    for file in files.lines().filter(|file| sh.path_exists(file)) {
        let copy = tree.join(file);
        sh.create_dir(copy.parent().ok_or("a file below the tree")?)?;
        sh.copy_file(file, copy)?;
    }
    let mut mutants = Vec::new();
    for package in PACKAGES {
        let sources = files.lines().filter(|file| {
            Path::new(file).starts_with(package) && file.ends_with(".rs") && sh.path_exists(file)
        });
        for file in sources.filter(|file| !LEFT_OUT.iter().any(|(left, _)| left == file)) {
            let text = sh.read_file(file)?;
            sh.write_file(tree.join(file), rewrite(file, &text, MODULE, &mut mutants)?)?;
        }
    }
    let lib = sh.read_file(tree.join("src/lib.rs"))?;
    sh.write_file(tree.join("src/lib.rs"), lib + CHOOSER)?;
    Ok(mutants)
}

/// The test binaries, by the name of their build and their source.
type Binaries = BTreeMap<(&'static str, String), PathBuf>;

fn build(sh: &Shell, root: &Path, tree: &Path, cases: &[Case], all: bool) -> Result<Binaries> {
    let mut binaries = Binaries::new();
    let _there = sh.push_dir(tree);
    let needed = |name: &str| {
        let needs = |judge: &Judge| judge.binary.0 == name && (all || name == "models");
        cases.iter().any(|(_, _, judges)| judges.iter().any(needs))
    };
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
        // Cargo names them: `  Executable tests/it/main.rs (/…/deps/it-…)`, a library's `unittests src/lib.rs`.
        for line in words.lines().filter_map(|line| line.trim().strip_prefix("Executable ")) {
            let Some((source, path)) = line.split_once(" (") else { continue };
            let source = source.trim_start_matches("unittests ").to_owned();
            let path = tree.join(path.trim_end_matches(')'));
            binaries.insert((build.name, source), path);
        }
    }
    Ok(binaries)
}

/// The judges, how long each takes, and which mutants each comes to.
struct Court<'b> {
    binaries: &'b Binaries,
    tree: &'b Path,
    known: Vec<(&'static Judge, Duration, Vec<u8>)>,
    /// Real threads want the cores for themselves.
    threads: Mutex<()>,
}

impl<'b> Court<'b> {
    /// Every judge must pass what is not mutated.
    fn open(tree: &'b Path, binaries: &'b Binaries, cases: &[Case], all: bool) -> Result<Self> {
        let mut court = Court { binaries, tree, known: Vec::new(), threads: Mutex::new(()) };
        let judges = cases.iter().flat_map(|(_, _, judges)| judges.iter());
        for judge in judges.filter(|judge| all || judge.binary.0 == "models") {
            if court.known.iter().any(|(known, ..)| *known == judge) {
                continue;
            }
            let reached = tree.with_file_name("reached");
            std::fs::write(&reached, vec![0; 1 << 16])?;
            let start = Instant::now();
            // Nothing is known yet of how long it takes.
            let patience = Duration::from_secs(900);
            if !court.passes(judge, 0, Some(&reached), patience)? {
                return Err(format!("without a mutant, {judge:?} fails").into());
            }
            court.known.push((judge, start.elapsed(), std::fs::read(&reached)?));
        }
        Ok(court)
    }

    fn judge(&self, number: usize, judges: &'static [Judge]) -> Fate {
        let mut fate = Fate::Unreached;
        for (judge, took, reached) in &self.known {
            if !judges.contains(judge) || reached[number] == 0 {
                continue;
            }
            // What hangs is caught.
            let patience = *took * 4 + Duration::from_secs(10);
            let is_model = judge.binary.0 == "models";
            let _alone = (!is_model).then(|| self.threads.lock());
            if !self.passes(judge, number, None, patience).unwrap_or(false) {
                return Fate::Caught;
            }
            fate = Fate::Survives;
        }
        fate
    }

    fn passes(
        &self,
        judge: &Judge,
        number: usize,
        reached: Option<&Path>,
        patience: Duration,
    ) -> Result<bool> {
        let (build, source) = judge.binary;
        let path = self
            .binaries
            .get(&(build, source.to_owned()))
            .ok_or_else(|| format!("{source} of the {build} was not built"))?;
        let mut command = Command::new(path);
        command.args(judge.filter).env(VARIABLE, number.to_string()).current_dir(self.tree);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(reached) = reached {
            command.env(REACHED, reached);
        }
        // A group of its own: its children end with it.
        let mut child = command.process_group(0).spawn()?;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            if start.elapsed() > patience {
                let group = format!("-{}", child.id());
                Command::new("kill").args(["-KILL", "--", &group]).status()?;
                child.wait()?;
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl std::fmt::Display for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}
