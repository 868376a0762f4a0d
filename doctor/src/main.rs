//! What this machine offers, which rung of the ladder was taken and why, what the fences cost here,
//! and the pairing table as seen on its real cores.

mod break_even;
mod costs;
mod heavy;
mod litmus;
mod machine;
mod report;
mod round;
mod sibling;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use asymfence::{Strategy, force, init, ladder, stats};
use indicatif::{ProgressBar, ProgressStyle};

use costs::Costs;
use litmus::{Fence, Litmus};
use machine::Machine;
use report::{Cell, Report};

const HELP: &str = "\
What the fences of asymfence are and cost on this machine.

Usage: doctor [--json] [--seconds N] [--strategy NAME]

  --json            print one JSON object
  --seconds N       spend N seconds on the pairing table (default: 10)
  --strategy NAME   run on this rung of the ladder, or on `symmetric`

Exit code: 0 if all is well, 1 if an ordered pair was seen unordered, 2 if the
arguments are wrong or the strategy asked for is refused.
";

fn main() -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("doctor: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let strategy = match arguments.strategy.as_deref().map_or_else(|| Ok(init()), choose) {
        Ok(strategy) => strategy,
        Err(error) => {
            eprintln!("doctor: {error}");
            return ExitCode::from(2);
        }
    };

    let bar = ProgressBar::new(Costs::TICKS + 9);
    bar.set_style(
        ProgressStyle::with_template("{msg:22} {wide_bar} {percent:>3} %")
            .expect("a valid template"),
    );
    bar.set_message("costs");
    let machine = Machine::this();
    let costs = Costs::measure(|| bar.inc(1));
    let pairing = pairing(strategy, arguments.litmus, &bar);
    bar.finish_and_clear();

    let report =
        Report { machine, strategy, rungs: ladder().collect(), costs, stats: stats(), pairing };
    if arguments.json {
        println!("{:#}", report.to_json());
    } else {
        report.print();
    }
    if report.is_violated() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

struct Arguments {
    json: bool,
    litmus: Duration,
    strategy: Option<String>,
}

impl Arguments {
    /// `None` asks for the help.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::{Long, Short, ValueExt};

        let mut arguments =
            Arguments { json: false, litmus: Duration::from_secs(10), strategy: None };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("json") => arguments.json = true,
                Long("seconds") => {
                    arguments.litmus = parser.value()?.parse_with(|seconds| {
                        let seconds = seconds.parse::<f64>().map_err(|error| error.to_string())?;
                        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
                    })?;
                }
                Long("strategy") => arguments.strategy = Some(parser.value()?.string()?),
                Long("help") | Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(arguments))
    }
}

fn choose(name: &str) -> Result<Strategy, String> {
    let mut known = ladder().map(|rung| rung.strategy);
    let Some(wanted) = known.find(|strategy| strategy.name() == name) else {
        let names: Vec<_> = ladder().map(|rung| rung.strategy.name()).collect();
        return Err(format!("there is no strategy `{name}` here; there is {}", names.join(", ")));
    };
    force(wanted).map_err(|error| error.to_string())?;
    Ok(wanted)
}

/// The nine cells. Empty on a machine of one core.
fn pairing(strategy: Strategy, time: Duration, bar: &ProgressBar) -> Vec<Cell> {
    let Some(mut litmus) = Litmus::new() else { return Vec::new() };
    let pairs = Fence::ALL.into_iter().flat_map(|left| Fence::ALL.map(|right| (left, right)));
    pairs
        .map(|(left, right)| {
            bar.set_message(format!("{} against {}", left.name(), right.name()));
            let end = Instant::now() + time / 9;
            let observed =
                litmus.run_while(left, right, |seen| seen.rounds == 0 || Instant::now() < end);
            bar.inc(1);
            Cell { left, right, ordered: left.is_ordered_with(right, strategy), observed }
        })
        .collect()
}
