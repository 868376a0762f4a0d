//! What is asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt};

pub(crate) const HELP: &str = "\
Shows which mechanism the asymmetric fences use on this machine, and what they
cost.

Usage: asymfence-doctor [OPTIONS]
       asymfence-doctor --decode COMMAND [FLAGS]

  --json            print one JSON object; --schema prints its JSON Schema
  --seconds N       spend N seconds on the pairing table (default: 4; 0: none)
  --strategy NAME   use this mechanism of those that the report lists, or
                    `symmetric`
  --compare FILE    print the costs beside those of an earlier run, which
                    `--json` wrote to FILE
  --decode COMMAND [FLAGS]
                    say what the call membarrier(COMMAND, FLAGS, ..) in a trace
                    does, or which commands a mask that it returned names, and
                    exit; numbers are decimal, or hexadecimal with 0x
  --version

ASYMFENCE=symmetric in the environment: no call of membarrier(2) is made.

Exit code: 0 if all is well, 1 if an ordered pair was seen unordered, 2 if the
arguments are wrong, the strategy asked for is refused, too few threads can be
created, or the report cannot be written (but not if its reader has ended, so
that write fails with EPIPE, or standard output is closed, or is not open for
writing). A signal may end the program instead: if memory runs out, if a file
reaches the limit of its size, or if one of the descriptors 0 to 2 is closed and
/dev/null cannot be opened. If memory runs out and RUST_BACKTRACE is set, the
program may hang: Rust's standard library then waits for a lock that its own
thread holds.
";

pub(crate) enum Task {
    Examine(Arguments),
    /// A command of membarrier(2), and its flags.
    Decode(u32, u32),
    Help,
    Schema,
    Version,
}

pub(crate) struct Arguments {
    pub(crate) json: bool,
    /// For the pairing table.
    pub(crate) seconds: Duration,
    pub(crate) strategy: Option<String>,
    pub(crate) compare: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn parse() -> Result<Task, String> {
        Self::parse_words(lexopt::Parser::from_env())
            .map_err(|error| format!("{error}; try --help"))
    }

    fn parse_words(mut parser: lexopt::Parser) -> Result<Task, lexopt::Error> {
        let seconds = Duration::from_secs(4);
        let mut arguments = Arguments { json: false, seconds, strategy: None, compare: None };
        let (mut decode, mut tells) = (None, None);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("json") => arguments.json = true,
                Long("seconds") => {
                    arguments.seconds = parser.value()?.parse_with(|seconds| {
                        let seconds = seconds.parse::<f64>().map_err(|error| error.to_string())?;
                        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
                    })?;
                }
                Long("strategy") => arguments.strategy = Some(parser.value()?.string()?),
                Long("compare") => arguments.compare = Some(parser.value()?.into()),
                Long("decode") => decode = Some((parser.value()?.parse_with(number)?, None)),
                Long("schema") => tells = Some(Task::Schema),
                Long("version") | Short('V') => tells = Some(Task::Version),
                Long("help") | Short('h') => tells = Some(Task::Help),
                Value(flags) if matches!(decode, Some((_, None))) => {
                    let flags = flags.parse_with(number)?;
                    decode = decode.map(|(command, _)| (command, Some(flags)));
                }
                other => return Err(other.unexpected()),
            }
        }
        if arguments.json && arguments.compare.is_some() {
            return Err("--compare prints a table, and --json no table: leave one out".into());
        }
        Ok(match (tells, decode) {
            (Some(tells), _) => tells,
            (None, Some((command, flags))) => Task::Decode(command, flags.unwrap_or(0)),
            (None, None) => Task::Examine(arguments),
        })
    }
}

/// Decimal, or hexadecimal with 0x.
fn number(word: &str) -> Result<u32, std::num::ParseIntError> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => word.parse(),
    }
}
