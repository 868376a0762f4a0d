//! Runs tests on a mutant, each in a process of its own, the short ones first, until one fails.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::judges::{Binary, Judge, is_model};
use super::rewrite::{Kind, Mutant};
use crate::Result;
use crate::processes::names;

/// The environment variable with the numbers of the mutants, separated by commas. `CHOOSER` reads it.
const VARIABLE: &str = "ASYMFENCE_MUTANT";

/// A file with a byte for each mutant. A mutant sets its byte when its place is executed.
const REACHED: &str = "ASYMFENCE_MUTANTS_REACHED";

/// The test binaries, by the name of their build and their source.
pub(super) type Binaries = BTreeMap<(&'static str, String), PathBuf>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate<'t> {
    /// This test failed.
    Caught(&'t str),
    /// Tests of its area execute its place, and pass.
    Survives,
    /// No test of its area executes its place.
    Unreached,
}

impl Fate<'_> {
    pub(super) fn word(self) -> &'static str {
        match self {
            Fate::Caught(_) => "caught",
            Fate::Survives => "SURVIVES",
            Fate::Unreached => "UNREACHED",
        }
    }
}

/// One test.
struct Trial {
    binary: Binary,
    test: String,
    /// The judges that name it.
    judges: Vec<&'static Judge>,
    /// Set when it has passed without a mutant.
    known: OnceLock<Known>,
    /// Held by the worker that runs the test without a mutant. If `known` stays empty, this says why.
    why_not: Mutex<Option<WhyNot>>,
    /// For each mutant that the test caught, the file of the mutant.
    caught: Mutex<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WhyNot {
    TakesLong,
    /// Without a mutant. It judges none.
    Fails,
}

/// How long a test takes, and which mutants it reaches.
struct Known {
    took: Time,
    reached: Vec<u8>,
}

/// What a test used of the processors, and what the clock said.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Time {
    busy: Duration,
    wall: Duration,
}

/// How long a test may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) busy: Duration,
    pub(super) wall: Duration,
    /// How long it may stand still, using no processor time, before it is ended.
    still: Duration,
}

const HOUR: Duration = Duration::from_secs(3600);

/// Of a test that is tried first. A clock says little on a busy machine.
pub(super) const SHORT: Limit = Limit { busy: Duration::from_secs(3), wall: HOUR, still: HOUR };

/// Of any.
pub(super) const LONG: Limit = Limit { busy: Duration::from_secs(1200), wall: HOUR, still: HOUR };

/// What is added to the limit of a test that tries a mutant. For `busy` and `wall` it is added to ten times what the
/// test took without a mutant. For `still` it is added to the time by the clock that the test took without a mutant. A
/// test may wait for what a mutant never does. Also a model may stand still: a mutant that frees twice may leave the
/// allocator locked, and the report of the fault waits for that lock.
const GRACE: Limit = Limit {
    busy: Duration::from_secs(30),
    wall: Duration::from_secs(1800),
    still: Duration::from_secs(10),
};

/// In place of `GRACE.busy` for tests with real threads: a mutant may make a model explore more, but not a test do
/// more.
const GRACE_OF_THREADS: Duration = Duration::from_secs(5);

/// What keeps a mutant from harming the machine: prlimit(1) bounds the memory, the size of a file, and the core dump.
const BOUNDS: [&str; 3] = ["--as=8589934592", "--fsize=1073741824", "--core=0"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// Did not end in its time.
    Hung,
}

/// The tests that judge.
pub(super) struct Court<'b> {
    binaries: &'b Binaries,
    tree: &'b Path,
    trials: Vec<Trial>,
    /// Real threads that run long want the cores for themselves.
    threads: Mutex<()>,
}

impl<'b> Court<'b> {
    pub(super) fn open<'j>(
        tree: &'b Path,
        binaries: &'b Binaries,
        judges: impl Iterator<Item = &'j &'static Judge>,
    ) -> Result<Self> {
        let mut court = Court { binaries, tree, trials: Vec::new(), threads: Mutex::new(()) };
        let mut known: Vec<&Judge> = Vec::new();
        for &judge in judges {
            if known.contains(&judge) {
                continue;
            }
            known.push(judge);
            let tests = court.names(judge)?;
            if tests.is_empty() {
                return Err(format!("{judge:?} has no test").into());
            }
            for test in tests {
                let is_it = |trial: &&mut Trial| trial.binary == judge.binary && trial.test == test;
                match court.trials.iter_mut().find(is_it) {
                    Some(trial) => trial.judges.push(judge),
                    None => court.trials.push(Trial {
                        binary: judge.binary,
                        test,
                        judges: vec![judge],
                        known: OnceLock::new(),
                        why_not: Mutex::new(None),
                        caught: Mutex::new(Vec::new()),
                    }),
                }
            }
        }
        Ok(court)
    }

    fn path(&self, (build, source): Binary) -> Result<&Path> {
        let path = self.binaries.get(&(build, source.to_owned()));
        Ok(path.ok_or_else(|| format!("{source} of the {build} was not built"))?)
    }

    /// The tests of a judge, by the harness's own list.
    fn names(&self, judge: &Judge) -> Result<Vec<String>> {
        names(self.path(judge.binary)?, self.tree, judge.filter)
    }

    /// Runs the test once without a mutant, unless that was done before. `None` if it then takes longer than `limit`,
    /// or fails. A result that is known already is returned whatever `limit` is.
    fn known<'t>(
        &self,
        trial: &'t Trial,
        limit: Limit,
        worker: usize,
    ) -> Result<Option<&'t Known>> {
        let mut why_not = trial.why_not.lock().expect("no worker panics");
        if let Some(known) = trial.known.get() {
            return Ok(Some(known));
        }
        if *why_not == Some(WhyNot::Fails) || why_not.is_some() && limit == SHORT {
            return Ok(None);
        }
        let reached = self.none_reached(worker)?;
        let (outcome, took) = self.run(trial, &[], Some(&reached), limit)?;
        if outcome == Outcome::Passed {
            let reached = std::fs::read(&reached)?;
            return Ok(Some(trial.known.get_or_init(|| Known { took, reached })));
        }
        let is_only_long = outcome == Outcome::Hung && limit == SHORT;
        *why_not = Some(if is_only_long { WhyNot::TakesLong } else { WhyNot::Fails });
        if !is_only_long {
            println!("FAILS WITHOUT A MUTANT: {}", trial.test);
        }
        Ok(None)
    }

    /// A file of the worker for `REACHED`.
    fn none_reached(&self, worker: usize) -> Result<PathBuf> {
        let reached = self.tree.with_file_name(format!("reached-{worker}"));
        std::fs::write(&reached, vec![0; 1 << 16])?;
        Ok(reached)
    }

    /// The tests that failed without a mutant.
    pub(super) fn failed(&self) -> impl Iterator<Item = &str> {
        let has_failed = |trial: &&Trial| {
            *trial.why_not.lock().expect("no worker panics") == Some(WhyNot::Fails)
        };
        self.trials.iter().filter(has_failed).map(|trial| &*trial.test)
    }

    /// Runs the judges' tests that reach the mutant's place, one by one until one fails: first the test that is said to
    /// have caught it before.
    pub(super) fn judge(
        &self,
        number: usize,
        mutant: &Mutant,
        judges: &[&'static Judge],
        limit: Limit,
        hint: Option<&str>,
        worker: usize,
    ) -> Result<(Fate<'_>, String)> {
        let is_of = |trial: &&Trial| trial.judges.iter().any(|judge| judges.contains(judge));
        let hinted = self.trials.iter().filter(is_of).find(|trial| Some(&*trial.test) == hint);
        if let Some(trial) = hinted
            && let Some(caught) = self.try_on(number, mutant, trial, worker)?
        {
            return Ok(caught);
        }
        let (models, tests) = self.trials.iter().filter(is_of).partition(|t| is_model(t.binary));
        // A guard is often seen by a test, which is quick; an ordering only by a model.
        let groups: [Vec<&Trial>; 2] =
            if mutant.kind == Kind::Guard { [tests, models] } else { [models, tests] };
        let mut tried = 0;
        for group in groups {
            let mut trials = Vec::new();
            for trial in group {
                let known = self.known(trial, SHORT, worker)?;
                let caught = trial.caught.lock().expect("no worker panics");
                let near = caught.iter().filter(|&file| *file == mutant.file).count();
                // Short tests come first, and tests that caught other mutants of this file.
                let busy = known.map_or(LONG.busy, |known| known.took.busy);
                trials.push((busy / (1 + u32::try_from(near)?), trial));
            }
            trials.sort_by_key(|&(weight, _)| weight);
            for (_, trial) in trials {
                let Some(known) = self.known(trial, limit, worker)? else { continue };
                if known.reached[number] == 0 {
                    continue;
                }
                tried += 1;
                // The short tests have passed already when the long ones run.
                let has_passed = limit == LONG && known.took.busy <= SHORT.busy;
                if !has_passed && let Some(caught) = self.try_on(number, mutant, trial, worker)? {
                    return Ok(caught);
                }
            }
        }
        let fate = if tried == 0 { Fate::Unreached } else { Fate::Survives };
        Ok((fate, format!("{tried} tests")))
    }

    /// All tests of the judges on several mutants at once. `None` if one fails. Otherwise the fate of each mutant, or
    /// `None` if the others kept a test away from its place.
    pub(super) fn judge_together(
        &self,
        numbers: &[usize],
        judges: &[&'static Judge],
        worker: usize,
    ) -> Result<Option<Vec<Option<Fate<'_>>>>> {
        let mut trials = Vec::new();
        for trial in &self.trials {
            if trial.judges.iter().any(|judge| judges.contains(judge))
                && let Some(known) = self.known(trial, LONG, worker)?
            {
                trials.push((known, trial));
            }
        }
        trials.sort_by_key(|(known, _)| known.took.busy);
        let mut fates = vec![Some(Fate::Unreached); numbers.len()];
        for (known, trial) in trials {
            if numbers.iter().all(|&number| known.reached[number] == 0) {
                continue;
            }
            let file = self.none_reached(worker)?;
            if self.outcome(numbers, trial, known, Some(&file))? != Outcome::Passed {
                return Ok(None);
            }
            let reached = std::fs::read(&file)?;
            for (&number, fate) in numbers.iter().zip(&mut fates) {
                if reached[number] < known.reached[number] {
                    *fate = None;
                } else if known.reached[number] != 0 && fate.is_some() {
                    *fate = Some(Fate::Survives);
                }
            }
        }
        Ok(Some(fates))
    }

    /// Whether the test catches the mutant.
    fn try_on<'t>(
        &'t self,
        number: usize,
        mutant: &Mutant,
        trial: &'t Trial,
        worker: usize,
    ) -> Result<Option<(Fate<'t>, String)>> {
        let Some(known) = self.known(trial, LONG, worker)? else { return Ok(None) };
        let outcome = match self.outcome(&[number], trial, known, None)? {
            Outcome::Passed => return Ok(None),
            Outcome::Hung => ", which does not end",
            Outcome::Failed => "",
        };
        trial.caught.lock().expect("no worker panics").push(mutant.file.clone());
        Ok(Some((Fate::Caught(&trial.test), format!("by {}{outcome}", trial.test))))
    }

    /// The test with these mutants.
    fn outcome(
        &self,
        numbers: &[usize],
        trial: &Trial,
        known: &Known,
        reached: Option<&Path>,
    ) -> Result<Outcome> {
        let Time { busy, wall } = known.took;
        let has_threads = !is_model(trial.binary);
        let _alone = (has_threads && busy > SHORT.busy).then(|| self.threads.lock());
        // By the processor's time: on a busy machine the clock says little.
        let patience = Limit {
            busy: busy * 10 + if has_threads { GRACE_OF_THREADS } else { GRACE.busy },
            wall: wall * 10 + GRACE.wall,
            still: wall + GRACE.still,
        };
        Ok(self.run(trial, numbers, reached, patience)?.0)
    }

    /// One test, in a process of its own.
    fn run(
        &self,
        trial: &Trial,
        numbers: &[usize],
        reached: Option<&Path>,
        patience: Limit,
    ) -> Result<(Outcome, Time)> {
        let mut command = Command::new("prlimit");
        command.args(BOUNDS).arg(self.path(trial.binary)?);
        command.args(["--exact", &trial.test, "--test-threads=1"]);
        let numbers: Vec<_> = numbers.iter().map(usize::to_string).collect();
        command.env(VARIABLE, numbers.join(",")).current_dir(self.tree);
        if let Some(reached) = reached {
            command.env(REACHED, reached);
        }
        watch(&mut command, patience)
    }
}

/// Runs the command and its children in a process group of their own. Unless it passes, ends what is left of the group.
fn watch(command: &mut Command, patience: Limit) -> Result<(Outcome, Time)> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.process_group(0).spawn()?;
    let end = |child: u32| {
        let group = format!("-{child}");
        Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status()
    };
    let start = Instant::now();
    let mut moved = start;
    let mut took = Time::default();
    let mut pause = Duration::from_millis(1);
    loop {
        let busy = busy(child.id());
        if busy > took.busy {
            (took.busy, moved) = (busy, Instant::now());
        }
        let status = child.try_wait()?;
        took.wall = start.elapsed();
        if let Some(status) = status {
            // A process that has ended between two looks has shown no processor time: count a millisecond.
            took.busy = took.busy.max(Duration::from_millis(1));
            if status.success() {
                return Ok((Outcome::Passed, took));
            }
            end(child.id())?;
            return Ok((Outcome::Failed, took));
        }
        let is_still = moved.elapsed() > patience.still;
        if is_still || took.busy > patience.busy || took.wall > patience.wall {
            end(child.id())?;
            child.wait()?;
            return Ok((Outcome::Hung, took));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// The processor's time of a process group, by proc_pid_stat(5): `pgrp`; and `utime`, `stime`, `cutime` and `cstime`,
/// in hundredths of a second.
fn busy(group: u32) -> Duration {
    let of_process = |stat: String| {
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let is_of_group = fields.get(2)?.parse() == Ok(group);
        let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok());
        is_of_group.then(|| Duration::from_millis(ticks.sum::<u64>() * 10))
    };
    let Ok(processes) = std::fs::read_dir("/proc") else { return Duration::ZERO };
    let stats = processes.filter_map(|entry| {
        let path = entry.ok()?.path();
        let is_process = path.file_name()?.to_str()?.parse::<u32>().is_ok();
        is_process.then(|| std::fs::read_to_string(path.join("stat")).ok())?
    });
    stats.filter_map(of_process).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(script: &str, patience: Limit) -> Outcome {
        watch(Command::new("sh").args(["-c", script]), patience).expect("sh").0
    }

    #[test]
    fn a_test_ends_by_itself_or_is_ended() {
        assert_eq!(outcome("exit 0", LONG), Outcome::Passed);
        assert_eq!(outcome("exit 1", LONG), Outcome::Failed);
        assert_eq!(outcome("kill -ABRT $$", LONG), Outcome::Failed);
    }

    #[test]
    fn who_stands_still_is_ended_with_its_children() {
        let still = Limit { still: Duration::from_millis(50), ..LONG };
        let file = std::env::temp_dir().join(format!("asymfence-court-{}", std::process::id()));
        let script = format!("sleep 3600 & echo $! > {}; wait", file.display());
        assert_eq!(outcome(&script, still), Outcome::Hung);
        let sleeper = std::fs::read_to_string(&file).expect("written before the wait");
        std::fs::remove_file(&file).expect("ours");
        // It has its signal, and ends soon.
        let stat = Path::new("/proc").join(sleeper.trim()).join("stat");
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            thread::yield_now();
        }
    }

    #[test]
    fn who_is_busy_for_too_long_is_ended_also_if_its_child_is() {
        let busy = Limit { busy: Duration::from_millis(50), ..LONG };
        assert_eq!(outcome("while :; do :; done", busy), Outcome::Hung);
        assert_eq!(outcome("while :; do :; done & wait", busy), Outcome::Hung);
    }

    #[test]
    fn the_clock_ends_it_too() {
        let wall = Limit { wall: Duration::ZERO, ..LONG };
        assert_eq!(outcome("sleep 3600", wall), Outcome::Hung);
    }
}
