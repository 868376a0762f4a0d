//! Tests as judges of mutants: each in a process of its own, the short ones first, until one fails.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::judges::{Binary, Judge, is_model};
use super::rewrite::Mutant;
use crate::Result;

/// The number of the mutant; what else reads it is in `CHOOSER`.
const VARIABLE: &str = "ASYMFENCE_MUTANT";

/// A file with a byte for each mutant, which one that is reached sets.
const REACHED: &str = "ASYMFENCE_MUTANTS_REACHED";

/// The test binaries, by the name of their build and their source.
pub(super) type Binaries = BTreeMap<(&'static str, String), PathBuf>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate<'t> {
    /// By this test.
    Caught(&'t str),
    /// Tests of its area run there, and pass.
    Survives,
    /// No test of its area comes there.
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
    /// Those that name it.
    judges: Vec<&'static Judge>,
    /// Once it has passed what is not mutated.
    known: OnceLock<Known>,
    /// Held by the worker that finds that out. Says whether it takes long.
    is_long: Mutex<bool>,
    /// The files whose mutants it caught, one entry a mutant.
    caught: Mutex<Vec<String>>,
}

/// How long a test takes, and which mutants it comes to.
struct Known {
    took: Time,
    reached: Vec<u8>,
}

/// What a process used of the processors, and what the clock said.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Time {
    busy: Duration,
    wall: Duration,
}

/// How long a test may take that is tried first. A clock says little on a busy machine.
pub(super) const SHORT: Time =
    Time { busy: Duration::from_secs(3), wall: Duration::from_secs(3600) };

/// How long any may take.
pub(super) const LONG: Time =
    Time { busy: Duration::from_secs(1200), wall: Duration::from_secs(7200) };

/// How long a model may use no processor. It does not sleep, but a mutant that frees twice may leave the allocator locked,
/// and the report of the fault then waits for that lock for ever.
const STILL: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq)]
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
    /// Real threads want the cores for themselves.
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
                        is_long: Mutex::new(false),
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
        let mut command = Command::new(self.path(judge.binary)?);
        let list = command.arg("--list").args(judge.filter).current_dir(self.tree).output()?;
        let list = String::from_utf8(list.stdout)?;
        Ok(list.lines().filter_map(|line| Some(line.strip_suffix(": test")?.to_owned())).collect())
    }

    /// Runs the short tests once, and says how many these are. The others are run when no short one catches.
    pub(super) fn learn(&self) -> Result<usize> {
        let next = AtomicUsize::new(0);
        // Relaxed: a number for each worker to take.
        let take = || self.trials.get(next.fetch_add(1, Relaxed));
        workers(|worker| {
            while let Some(trial) = take() {
                self.known(trial, SHORT, worker)?;
            }
            Ok(())
        })?;
        Ok(self.trials.iter().filter(|trial| trial.known.get().is_some()).count())
    }

    /// `None` if the test takes longer than `limit`. It must pass what is not mutated.
    fn known<'t>(&self, trial: &'t Trial, limit: Time, worker: usize) -> Result<Option<&'t Known>> {
        let mut is_long = trial.is_long.lock().expect("no worker panics");
        if let Some(known) = trial.known.get() {
            return Ok(Some(known));
        }
        if *is_long && limit == SHORT {
            return Ok(None);
        }
        let reached = self.tree.with_file_name(format!("reached-{worker}"));
        std::fs::write(&reached, vec![0; 1 << 16])?;
        let (outcome, took) = self.run(trial, 0, Some(&reached), limit)?;
        match outcome {
            Outcome::Hung if limit == SHORT => {
                *is_long = true;
                return Ok(None);
            }
            Outcome::Passed => {}
            _ => return Err(format!("without a mutant, {} fails", trial.test).into()),
        }
        let reached = std::fs::read(&reached)?;
        Ok(Some(trial.known.get_or_init(|| Known { took, reached })))
    }

    /// The tests of the judges that come to the mutant, one by one until one fails: first that which is said to
    /// have caught it before.
    pub(super) fn judge(
        &self,
        number: usize,
        mutant: &Mutant,
        judges: &[&'static Judge],
        limit: Time,
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
        let mut trials = Vec::new();
        for trial in self.trials.iter().filter(is_of) {
            let known = self.known(trial, SHORT, worker)?;
            let caught = trial.caught.lock().expect("no worker panics");
            let near = caught.iter().filter(|&file| *file == mutant.file).count();
            // The short ones first, and those that caught others of this file.
            let weight = known.map_or(LONG, |known| known.took).busy / (1 + u32::try_from(near)?);
            trials.push((weight, trial));
        }
        trials.sort_by_key(|&(weight, _)| weight);
        let mut tried = 0;
        for (_, trial) in trials {
            let Some(known) = self.known(trial, limit, worker)? else { continue };
            if known.reached[number] != 0 {
                tried += 1;
                // A short one has passed already, when the long ones are asked.
                if limit == LONG && known.took.busy <= SHORT.busy {
                    continue;
                }
                if let Some(caught) = self.try_on(number, mutant, trial, worker)? {
                    return Ok(caught);
                }
            }
        }
        let fate = if tried == 0 { Fate::Unreached } else { Fate::Survives };
        Ok((fate, format!("{tried} tests")))
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
        let is_model = is_model(trial.binary);
        let _alone = (!is_model).then(|| self.threads.lock());
        // By the processor's time: on a busy machine the clock says little.
        let patience = Time {
            busy: known.took.busy * 10 + Duration::from_secs(60),
            wall: known.took.wall * 10 + Duration::from_secs(if is_model { 3600 } else { 120 }),
        };
        let outcome = match self.run(trial, number, None, patience)? {
            (Outcome::Passed, _) => return Ok(None),
            (Outcome::Hung, _) => ", which does not end",
            (Outcome::Failed, _) => "",
        };
        trial.caught.lock().expect("no worker panics").push(mutant.file.clone());
        Ok(Some((Fate::Caught(&trial.test), format!("by {}{outcome}", trial.test))))
    }

    /// One test, in a process of its own.
    fn run(
        &self,
        trial: &Trial,
        number: usize,
        reached: Option<&Path>,
        patience: Time,
    ) -> Result<(Outcome, Time)> {
        let mut command = Command::new(self.path(trial.binary)?);
        command.args(["--exact", &trial.test, "--test-threads=1"]);
        command.env(VARIABLE, number.to_string()).current_dir(self.tree);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(reached) = reached {
            command.env(REACHED, reached);
        }
        // A group of its own: its children end with it.
        let mut child = command.process_group(0).spawn()?;
        let start = Instant::now();
        let mut moved = start;
        let mut took = Time::default();
        let mut pause = Duration::from_millis(1);
        loop {
            let busy = busy(child.id()).unwrap_or_default();
            if busy > took.busy {
                (took.busy, moved) = (busy, Instant::now());
            }
            let status = child.try_wait()?;
            took.wall = start.elapsed();
            if let Some(status) = status {
                // What ends between two looks.
                took.busy = took.busy.max(Duration::from_millis(1));
                let outcome = if status.success() { Outcome::Passed } else { Outcome::Failed };
                return Ok((outcome, took));
            }
            let is_still = is_model(trial.binary) && moved.elapsed() > STILL;
            if is_still || took.busy > patience.busy || took.wall > patience.wall {
                let group = format!("-{}", child.id());
                Command::new("kill").args(["-KILL", "--", &group]).status()?;
                child.wait()?;
                return Ok((Outcome::Hung, took));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// The processor's time of a process, by proc_pid_stat(5): `utime` and `stime`, in hundredths of a second.
fn busy(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = |field: &str| field.parse::<u64>().ok();
    let mut times = fields.split(' ').skip(11);
    let (user, system) = (ticks(times.next()?)?, ticks(times.next()?)?);
    Some(Duration::from_millis((user + system) * 10))
}

/// Does the work once for each processor, at the same time. Each is told its number.
pub(super) fn workers(work: impl Fn(usize) -> Result + Sync) -> Result {
    let count = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let work = &work;
        let start = |worker| scope.spawn(move || work(worker).map_err(|error| error.to_string()));
        let workers: Vec<_> = (0..count).map(start).collect();
        for worker in workers {
            worker.join().expect("no worker panics")?;
        }
        Ok(())
    })
}
