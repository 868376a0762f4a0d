//! Litmus shapes: small programs of relaxed accesses with places for fences, read from a table, and run under loom with
//! every fence filled in.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use asymfence::model::{Start, Visit, begin_with, fence, init_from};
use asymfence::{heavy_fence, light_fence};
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::thread;

/// What a letter in the table's fence column stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// `L`
    Light,
    /// `F`: `fence(SeqCst)`.
    Full,
    /// `H`
    Heavy,
}

/// One step of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A relaxed store of a value to a location.
    Write(usize, usize),
    /// A relaxed load of a location into a register.
    Read(usize, usize),
    /// A relaxed `fetch_add`: a register takes what the location held, a value is added.
    Add(usize, usize, usize),
    /// The fence of this thread.
    Fence(Fence),
}

/// A program with its fences filled in.
#[derive(Clone, Debug)]
pub struct Program {
    /// The steps of each thread.
    pub threads: Vec<Vec<Step>>,
    /// How many registers the threads load into.
    pub registers: usize,
    /// How many locations they share.
    pub locations: usize,
}

/// The registers, and then the locations' last values.
pub type Outcome = Vec<usize>;

/// A row of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The shape's name in the literature, and the fences in the order of the threads.
    pub name: String,
    /// The shape, with its fences.
    pub program: Program,
    /// The outcome in question: places in an [`Outcome`], and values there.
    weak: Vec<(usize, usize)>,
    /// Whether the contract allows it.
    pub allowed: bool,
    /// Whether loom can show it. Differs from `allowed` where loom executes too much in order.
    pub shown: bool,
}

impl Row {
    /// Whether one of `outcomes` is the outcome in question.
    pub fn is_weak_in(&self, outcomes: &BTreeSet<Outcome>) -> bool {
        outcomes
            .iter()
            .any(|outcome| self.weak.iter().all(|&(place, value)| outcome[place] == value))
    }
}

/// The rows of both tables of `data`.
pub fn tables() -> Vec<Row> {
    let pairs = table(include_str!("../data/pairs.csv"));
    let shapes = table(include_str!("../data/shapes.csv"));
    assert_eq!((pairs.len(), shapes.len()), (72, 144));
    [pairs, shapes].concat()
}

/// Reads a table. Columns: shape, threads, weak outcome, fences, verdict, and, if it differs, what
/// loom can show.
pub fn table(text: &str) -> Vec<Row> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let rows = reader.records().map(|record| {
        let record = record.expect("a row of the table");
        row(&record[0], &record[1], &record[2], &record[3], &record[4], record.get(5))
    });
    rows.collect()
}

/// Reads one row of a table, from its columns.
pub fn row(
    shape: &str,
    threads: &str,
    weak: &str,
    fences: &str,
    verdict: &str,
    shown: Option<&str>,
) -> Row {
    let allowed = |word| match word {
        "allowed" => true,
        "forbidden" => false,
        other => panic!("{shape} {fences}: {other} is no verdict"),
    };
    let program = program(threads, fences);
    // Either `r0=0`, `x=2 at the end`, or `r0=r1=0`, joined by `and`.
    let mut places = Vec::new();
    for condition in weak.split(" and ") {
        let parts: Vec<&str> = condition.trim_end_matches(" at the end").split('=').collect();
        let (value, names) = parts.split_last().expect("a condition");
        let value = value.parse().expect("a value");
        places.extend(names.iter().map(|name| match register(name) {
            Some(register) => (register, value),
            None => (program.registers + location(name), value),
        }));
    }
    Row {
        name: format!("{shape} {fences}"),
        program,
        weak: places,
        allowed: allowed(verdict),
        shown: allowed(shown.filter(|word| !word.is_empty()).unwrap_or(verdict)),
    }
}

/// Reads threads like `x=1;F0;r0=y` and `r1=x+1`, which adds, with `LH` for the fences `F0` and `F1`.
pub fn program(threads: &str, fences: &str) -> Program {
    let fences: Vec<Fence> = fences
        .chars()
        .map(|letter| match letter {
            'L' => Fence::Light,
            'F' => Fence::Full,
            'H' => Fence::Heavy,
            other => panic!("{other} is no fence"),
        })
        .collect();
    let step = |text: &str| {
        if let Some(number) = text.strip_prefix('F') {
            return Step::Fence(fences[number.parse::<usize>().expect("a fence's number")]);
        }
        let (left, right) = text.split_once('=').expect("a store or a load");
        match (register(left), right.split_once('+')) {
            (Some(register), Some((name, value))) => {
                Step::Add(register, location(name), value.parse().expect("a value"))
            }
            (Some(register), None) => Step::Read(register, location(right)),
            (None, _) => Step::Write(location(left), right.parse().expect("a value")),
        }
    };
    let threads: Vec<Vec<Step>> =
        threads.split('|').map(|thread| thread.trim().split(';').map(step).collect()).collect();
    let (mut registers, mut locations) = (0, 0);
    for step in threads.iter().flatten() {
        match *step {
            Step::Write(location, _) => locations = locations.max(location + 1),
            Step::Read(register, location) | Step::Add(register, location, _) => {
                registers = registers.max(register + 1);
                locations = locations.max(location + 1);
            }
            Step::Fence(_) => {}
        }
    }
    Program { threads, registers, locations }
}

fn register(name: &str) -> Option<usize> {
    name.strip_prefix('r')?.parse().ok()
}

fn location(name: &str) -> usize {
    ["x", "y", "z", "w"].iter().position(|known| *known == name).expect("a location")
}

/// What a run of loom found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Every outcome.
    pub outcomes: BTreeSet<Outcome>,
    /// In how many executions.
    pub executions: usize,
}

/// Every outcome that loom finds in a process that begins as `start` says, in both orders of
/// visiting, with at most so many preemptions.
pub fn explore(program: &Program, start: Start, preemptions: Option<usize>) -> Found {
    explore_by(program, preemptions, move |visit| init_from(start, visit), |_| ())
}

/// The same in a bare `loom::model`, in which the first fence of any thread creates the modelled process.
pub fn explore_bare(program: &Program, start: Start, preemptions: Option<usize>) -> Found {
    explore_by(program, preemptions, |_| (), move |visit| begin_with(start, visit))
}

fn explore_by(
    program: &Program,
    preemptions: Option<usize>,
    init: impl Fn(Visit) + Copy + Send + Sync + 'static,
    before: impl Fn(Visit),
) -> Found {
    // Of std, not of loom: the outcomes outlive the executions.
    let found = Arc::new(Mutex::new(Found::default()));
    let program = Arc::new(program.clone());
    for visit in [Visit::Upward, Visit::Downward] {
        let (found, program) = (Arc::clone(&found), Arc::clone(&program));
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = preemptions;
        before(visit);
        builder.check(move || {
            init(visit);
            let outcome = run(&program);
            let mut found = found.lock().expect("no panic in a litmus test");
            found.outcomes.insert(outcome);
            found.executions += 1;
        });
    }
    let found = found.lock().expect("no panic in a litmus test");
    found.clone()
}

/// Scenario A (store buffering), with any fences: what the first thread and another one see of each other's store.
pub fn scenario_a(first: impl Fn(), other: impl Fn() + Send + 'static) -> [usize; 2] {
    let [x, y] = [0, 0].map(|zero| loom::sync::Arc::new(AtomicUsize::new(zero)));
    let (x2, y2) = (x.clone(), y.clone());
    let thread = thread::spawn(move || {
        x2.store(1, Relaxed);
        other();
        y2.load(Relaxed)
    });
    y.store(1, Relaxed);
    first();
    let seen = x.load(Relaxed);
    [seen, thread.join().expect("no panic in a fence")]
}

/// Runs a program once.
fn run(program: &Arc<Program>) -> Outcome {
    let memory: Arc<Vec<AtomicUsize>> =
        Arc::new((0..program.locations).map(|_| AtomicUsize::new(0)).collect());
    let threads: Vec<_> = (0..program.threads.len())
        .map(|index| {
            let (memory, program) = (Arc::clone(&memory), Arc::clone(program));
            thread::spawn(move || run_thread(&program.threads[index], &memory))
        })
        .collect();
    let mut outcome = vec![0; program.registers];
    for thread in threads {
        for (register, value) in thread.join().expect("a thread of a litmus test") {
            outcome[register] = value;
        }
    }
    outcome.extend(memory.iter().map(|location| location.load(Relaxed)));
    outcome
}

/// Runs one thread; returns what its loads saw.
fn run_thread(steps: &[Step], memory: &[AtomicUsize]) -> Vec<(usize, usize)> {
    let mut seen = Vec::new();
    for step in steps {
        match *step {
            Step::Write(location, value) => memory[location].store(value, Relaxed),
            Step::Read(register, location) => {
                seen.push((register, memory[location].load(Relaxed)));
            }
            Step::Add(register, location, value) => {
                seen.push((register, memory[location].fetch_add(value, Relaxed)));
            }
            Step::Fence(Fence::Light) => light_fence(),
            Step::Fence(Fence::Full) => fence(SeqCst),
            Step::Fence(Fence::Heavy) => heavy_fence(),
        }
    }
    seen
}
