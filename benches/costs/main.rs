//! Measures the total cost of symmetric and asymmetric fences by how often the heavy side runs, and the cost of a heavy
//! fence by the number of other threads. Draws both.

#[path = "../../doctor/src/break_even.rs"]
mod break_even;
#[path = "../../doctor/src/heavy.rs"]
mod heavy;
mod measure;
mod picture;
#[path = "../../doctor/src/round.rs"]
mod round;
#[path = "../../doctor/src/sibling.rs"]
mod sibling;
#[allow(dead_code, reason = "the doctor wraps lines too")]
#[path = "../../doctor/src/text.rs"]
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
Draws what the fences of asymfence cost on this machine.

Usage: costs [--quick] [--out FILE] [--note TEXT] [--other NAME:LIGHT,FULL,HEAVY]

  --quick       a tenth of the samples: for a look, not for a number
  --out FILE    where the SVG goes (default: costs.svg)
  --note TEXT   stands below the picture: the machine and the date
  --other ...   another machine in grey, as it was measured there, in nanoseconds:
                a round with light_fence, one with a full fence, and a heavy
                fence with what it takes from others; as often as you like

Exit code: 0 if the picture was drawn, 1 if there is nothing to draw (one core
alone, a symmetric process) or the file cannot be written, 2 if the arguments
are wrong or a thread cannot be created.
";

struct Arguments {
    quick: bool,
    out: PathBuf,
    note: String,
    others: Vec<picture::Other>,
}

fn main() -> ExitCode {
    match parse() {
        Ok(Some(arguments)) => match draw(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("costs: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("costs: {error}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// `None` asks for the help.
fn parse() -> Result<Option<Arguments>, lexopt::Error> {
    use lexopt::prelude::{Long, Short, ValueExt};

    let mut arguments = Arguments {
        quick: false,
        out: "costs.svg".into(),
        note: String::new(),
        others: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("quick") => arguments.quick = true,
            Long("out") => arguments.out = parser.value()?.into(),
            Long("note") => arguments.note = parser.value()?.string()?,
            Long("other") => {
                let text = parser.value()?.string()?;
                let other = picture::Other::parse(&text);
                arguments.others.push(other.ok_or("--other takes NAME:LIGHT,FULL,HEAVY")?);
            }
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(arguments))
}

fn draw(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let measured = measure::everything(if arguments.quick { 4 } else { 40 })?;
    let model = measured.model;
    println!("a round with Asymmetric:    {:.2} ns", model.light);
    println!("a round with light_fence:   {:.2} ns", measured.dynamic);
    println!("a round with a full fence:  {:.2} ns", model.full);
    println!("a heavy fence, one sibling: {:.0} ns", measured.heavy.caller);
    println!("what the sibling loses:     {:.0} ns", measured.heavy.sibling);
    match model.crossing() {
        Some(rounds) => {
            println!("break-even:                 {rounds:.0} light fences for each heavy one")
        }
        None => println!("no break-even: the light fence is no cheaper than a full one here"),
    }
    for scale in &measured.scale {
        println!(
            "{:2} threads beside it {}: heavy {:.0} ns, a round with a light fence {:.2} ns",
            scale.threads,
            if scale.run { "run  " } else { "sleep" },
            scale.heavy,
            scale.light
        );
    }
    picture::draw(&measured, &arguments.others, &arguments.note, &arguments.out)
        .map_err(|error| format!("{} cannot be drawn: {error}", arguments.out.display()))?;
    println!("drawn: {}", arguments.out.display());
    Ok(())
}
