//! Which mechanism the asymmetric fences use on this machine, and what they cost: every mechanism of the target (a
//! *rung* of the *ladder*), with the reason why it was taken, refused or not tried; the costs; and the pairing table as
//! seen on two real processors. The costs are measured before the table and after it, to see whether they are steady.

mod arguments;
mod bar;
mod break_even;
mod busy;
mod compare;
mod costs;
mod decode;
mod heavy;
mod litmus;
mod machine;
mod pairing;
mod report;
mod round;
mod sibling;
mod text;

use std::io::{ErrorKind, Write, stderr, stdout};
use std::process::ExitCode;

use asymfence::{Strategy, force, init, ladder, stats};

use arguments::{Arguments, HELP, Task};
use bar::Bar;
use busy::Clock;
use compare::Earlier;
use costs::Costs;
use machine::Machine;
use report::Report;

/// The version of this program, and of the library in it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Two threads at a time measure beside the first. The kernel may still count the two before them, although they have
/// been joined.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let said = Arguments::parse().and_then(|task| match task {
        Task::Help => say(HELP).map(|()| ExitCode::SUCCESS),
        Task::Version => say(&format!("asymfence-doctor {VERSION}\n")).map(|()| ExitCode::SUCCESS),
        Task::Schema => say(report::SCHEMA).map(|()| ExitCode::SUCCESS),
        Task::Decode(command, flags) => {
            say(&decode::words(command, flags)).map(|()| ExitCode::SUCCESS)
        }
        Task::Examine(arguments) => examine(&arguments),
    });
    said.unwrap_or_else(|error| {
        warn(&text::wrap(&format!("asymfence-doctor: {error}"), ""));
        ExitCode::from(2)
    })
}

fn examine(arguments: &Arguments) -> Result<ExitCode, String> {
    // Before anything is measured: a file that cannot be read is known at once.
    let earlier = arguments.compare.as_deref().map(Earlier::read).transpose()?;
    let asks = machine::calls_membarrier(arguments.strategy.as_deref());
    sibling::can_start(THREADS).map_err(|error| {
        format!(
            "{THREADS} threads beside the first cannot be created ({error}): raise the limits on processes and \
             memory (`ulimit -u`, `ulimit -v`, and those of the container)"
        )
    })?;
    warn(&announcement(asks));
    let strategy = arguments.strategy.as_deref().map_or_else(|| Ok(init()), choose)?;
    let machine = Machine::this(asks);

    // The calls have passed: what was announced as perhaps the last line is not the last one now.
    warn("Measuring.\n");
    let bar = Bar::new(2 * Costs::TICKS + pairing::TICKS);
    let clock = Clock::now();
    let measure = || Costs::measure(|| bar.advance("costs"));
    let costs_before = measure();
    let cells = pairing::observe(strategy, arguments.seconds, &bar);
    let costs = measure();
    let busy = clock.and_then(Clock::others_since);
    let have_strayed = sibling::have_strayed();
    bar.clear();

    let (rungs, stats) = (ladder().collect(), stats());
    let asked_for = arguments.strategy.is_some();
    let report = Report {
        machine,
        busy,
        have_strayed,
        strategy,
        asked_for,
        rungs,
        costs,
        costs_before,
        stats,
        cells,
    };
    let mut words =
        if arguments.json { report.to_json().pretty(2) + "\n" } else { report.to_text() };
    words += &earlier.map_or_else(String::new, |earlier| earlier.against(&report));
    say(&words)?;
    Ok(if report.is_violated() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What comes next, said before the first call that a sandbox may kill for.
fn announcement(asks: bool) -> String {
    const KILLED: &str =
        "If this is the last line, a sandbox killed the process: set ASYMFENCE=symmetric.\n";
    let (next, killed) = if !asks {
        ("makes no call of membarrier(2): it is switched off.", "")
    } else if cfg!(all(target_os = "linux", any(target_arch = "x86", target_arch = "x86_64"))) {
        ("calls membarrier(2), and perhaps mprotect(2).", KILLED)
    } else if cfg!(any(
        target_os = "linux",
        target_os = "android",
        all(target_os = "freebsd", target_arch = "x86_64")
    )) {
        ("calls membarrier(2).", KILLED)
    } else {
        ("decides how the fences of this process work.", "")
    };
    format!("asymfence-doctor {VERSION} {next}\n{killed}")
}

fn choose(name: &str) -> Result<Strategy, String> {
    let mut known = ladder().map(|rung| rung.strategy);
    let Some(wanted) = known.find(|strategy| strategy.name() == name) else {
        let names: Vec<_> = ladder().map(|rung| rung.strategy.name()).collect();
        return Err(format!("no strategy `{name}` on this target; there is {}", names.join(", ")));
    };
    force(wanted).map_err(|error| error.to_string())?;
    Ok(wanted)
}

/// To the standard output. A reader that has gone has read enough.
fn say(words: &str) -> Result<(), String> {
    let mut out = stdout().lock();
    match out.write_all(words.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("the report cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}

/// To the standard error, which nothing depends on.
fn warn(words: &str) {
    let mut err = stderr().lock();
    _ = err.write_all(words.as_bytes()).and_then(|()| err.flush());
}
