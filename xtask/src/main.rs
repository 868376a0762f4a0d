//! Every check of the project, one command each.

mod adopt;
mod adopter;
mod codegen;
mod compat;
mod cookbook;
mod help;
mod house;
mod ledger;
mod loom;
mod machine;
mod miri;
mod modelled;
mod msrv;
mod mutants;
mod platforms;
mod processes;
mod show;
mod spin;
mod steps;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use xshell::{Shell, cmd};

use help::HELP;
use loom::Bounds;
use show::run;
use steps::Step;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Every feature of the workspace but `loom`, with which the fences act on a model.
const EVERYTHING: [&str; 2] = ["--features", "adopter/asymmetric,codegen/std"];

fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result {
    let mut arguments = lexopt::Parser::from_env();
    let command = match arguments.next()? {
        Some(lexopt::Arg::Value(command)) => command.to_string_lossy().into_owned(),
        Some(lexopt::Arg::Long("help") | lexopt::Arg::Short('h')) => "help".to_owned(),
        Some(other) => return Err(not_understood(other.unexpected())),
        None => {
            eprint!("{HELP}");
            return Err("no command was given".into());
        }
    };
    if command == "help" {
        print!("{HELP}");
        return Ok(());
    }
    if !help::has(&command) {
        return Err(not_understood(format!("there is no command `{command}`")));
    }
    let (mut wide, mut quick) = (false, false);
    let mut which = mutants::Which { all: false, part: mutants::Part::Every };
    let mut word = String::new();
    while let Some(argument) = arguments.next().map_err(not_understood)? {
        match argument {
            lexopt::Arg::Long("deep") if command == "loom" => wide = true,
            lexopt::Arg::Long("all") if command == "mutants" => {
                which.all = true;
            }
            lexopt::Arg::Long("quick") if command == "mutants" => {
                which.part = mutants::Part::Quick;
            }
            lexopt::Arg::Long("new") if command == "mutants" => {
                which.part = mutants::Part::New;
            }
            lexopt::Arg::Long("list") if command == "mutants" => {
                which.part = mutants::Part::List;
            }
            lexopt::Arg::Long("help") | lexopt::Arg::Short('h') => {
                print!("{}", help_of(&command));
                return Ok(());
            }
            lexopt::Arg::Long("quick")
                if ["cookbook", "platforms", "test"].contains(&command.as_str()) =>
            {
                quick = true;
            }
            lexopt::Arg::Value(value)
                if word.is_empty()
                    && ["adopt", "elsewhere", "miri", "mutants", "platforms", "test"]
                        .contains(&command.as_str()) =>
            {
                word = value.to_string_lossy().into_owned();
            }
            other => {
                let why = format!("{}, after `{command}`", other.unexpected());
                return Err(not_understood(why));
            }
        }
    }
    let sh = Shell::new()?;
    // As in cargo, a relative path starts where the command was called.
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
        sh.set_var("CARGO_TARGET_DIR", sh.current_dir().join(target));
    }
    sh.change_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("xtask has no parent")?);
    let required = match command.as_str() {
        "test" if word.is_empty() && !quick => ledger::TEST,
        "ci" => ledger::CI,
        _ => &[],
    };
    let ledger = ledger::Ledger::open(&sh)?;
    let outcome = match command.as_str() {
        "test" if quick => steps::run(&sh, "cargo xtask test --quick", QUICK, &word).map(|()| {
            println!("These were some of the tests. All of them, in {} steps: {ALL}", all().len())
        }),
        "test" => steps::run(&sh, ALL, &all(), &word),
        "adopt" => adopt::check(&sh, &word),
        "adopter" => adopter::check(&sh),
        "compat" => compat::lint(&sh).and_then(|()| compat::check(&sh)),
        "cookbook" => cookbook::table(&sh, quick),
        "elsewhere" => steps::run(&sh, "cargo xtask elsewhere", ELSEWHERE, &word),
        "codegen" => {
            codegen::native(&sh)?;
            codegen::foreign(&sh)
        }
        "loom" => loom::models(&sh, if wide { Bounds::Deep } else { Bounds::Full }),
        "modelled" => modelled::check(&sh),
        "miri" => miri::check(&sh, &word),
        "mutants" => mutants::run(&sh, which, &word),
        "asan" => asan(&sh),
        "spin" => spin::models(&sh),
        "platforms" => platforms::run(&sh, &word, quick),
        "ci" => ci(&sh),
        "deep" => deep(&sh),
        "fmt" => format(&sh, &[]),
        "house" => house::check(&sh),
        _ => Err(not_understood(format!("`{command}` does nothing"))),
    };
    // The list comes last, also after a failure.
    let account = ledger.close(required);
    outcome.and(account)
}

/// What was typed is no command, or no option or argument of it.
fn not_understood(why: impl std::fmt::Display) -> Box<dyn std::error::Error> {
    format!("{why}; see `cargo xtask --help`").into()
}

/// What `--help` prints after a command.
fn help_of(command: &str) -> String {
    match command {
        "test" => help::of(
            "cargo xtask test [--quick] [WORD]",
            &[("Steps", &all()), ("Steps with --quick", QUICK)],
        ),
        "elsewhere" => help::of("cargo xtask elsewhere [WORD]", &[("Steps", ELSEWHERE)]),
        "miri" => help::of("cargo xtask miri [WORD]", &[("Steps", miri::STEPS)]),
        _ => HELP.to_owned(),
    }
}

/// The steps of `test`.
fn all() -> Vec<Step> {
    [ALL_STEPS, QUICK_MODELS].concat()
}

/// The path of `name` in cargo's target folder.
fn target(sh: &Shell, name: &str) -> PathBuf {
    sh.current_dir().join(sh.var_os("CARGO_TARGET_DIR").unwrap_or("target".into())).join(name)
}

/// The steps that show a newcomer that all is well here. The tests of the fences are left out, because they take
/// longer: the doctor checks the table of the fences instead.
const QUICK: &[Step] = &[
    ("fences on two processors", "the doctor checks the table of the fences", |sh| {
        run(sh, cmd!(sh, "cargo doctor"))
    }),
    ("hazard pointers", "their tests, hazard/tests/it", |sh| {
        run(sh, cmd!(sh, "cargo test --package asymfence-hazard --test it"))
    }),
    (
        "a model, and a mutant whose model must fail",
        "the first two of docs/hazard-pointers.md",
        |sh| {
            loom::named(sh, "reader_and_writer")?;
            println!(
                "In this step `should panic ... ok` is the mutant: its model failed, as it must."
            );
            Ok(())
        },
    ),
];

/// The steps that need nothing of Linux: for the jobs on other systems.
const ELSEWHERE: &[Step] = &[
    (
        "fences",
        "the unit tests, the table of the fences, the call of Windows, the README's example as it is in examples/",
        |sh| {
            let tests = ["--lib", "--test", "everywhere", "--test", "windows", "--test", "readme"];
            run(sh, cmd!(sh, "cargo test --no-fail-fast {tests...}"))
        },
    ),
    ("hazard pointers", "their unit tests, and an example", |sh| {
        run(sh, cmd!(sh, "cargo test --package asymfence-hazard --lib"))?;
        run(
            sh,
            cmd!(sh, "cargo run --quiet --package asymfence-hazard --example reader_and_writer"),
        )
    }),
    ("doctor", "what this machine offers", |sh| run(sh, cmd!(sh, "cargo doctor"))),
];

/// The command that runs `ALL_STEPS`.
const ALL: &str = "cargo xtask test";

/// What `test` builds at once. Each package by itself would have its dependencies built with other features.
const TESTED: [&str; 14] = [
    "--package",
    "asymfence",
    "--package",
    "asymfence-hazard",
    "--package",
    "asymfence-cookbook",
    "--package",
    "asymfence-doctor",
    "--package",
    "adopter",
    "--package",
    "xtask",
    "--features",
    "adopter/asymmetric",
];

/// The steps that need a Rust toolchain and nothing else. Tests that cannot run on a machine are listed at the end.
/// `--no-fail-fast`: a binary with a test that fails does not keep the later ones from running.
const ALL_STEPS: &[Step] = &[
    (
        "packages",
        "the tests of the libraries, the doctor and xtask, and of their documentation",
        |sh| run(sh, cmd!(sh, "cargo test --no-fail-fast {TESTED...}")),
    ),
    ("programs", "those of the cookbook, which `packages` has built", |sh| {
        for program in ["event_count", "rcu", "biased_lock", "deque"] {
            // The step above has built it.
            let program = target(sh, "debug/examples").join(program);
            run(sh, cmd!(sh, "{program}"))?;
        }
        Ok(())
    }),
    ("without std", "unit tests, tests/it and hazard/tests/it, without the feature std", |sh| {
        let packages = ["--package", "asymfence", "--package", "asymfence-hazard"];
        let build = ["--no-default-features", "--lib", "--test", "it"];
        run(sh, cmd!(sh, "cargo test --no-fail-fast {packages...} {build...}"))
    }),
    (
        "switched off",
        "tests/it of the libraries, and one test of the doctor, in a build whose fences are symmetric",
        switched_off,
    ),
    (
        "adopter",
        "the crate that takes the fences as an option: its tests without them",
        adopter::without,
    ),
    ("compat", "the packages that have the names of other crates", compat::check),
    ("dependents", "crates that depend on this one, and their models", modelled::check),
    ("codegen", "what the light fence compiles to, on this processor", codegen::native),
];

/// The last step of `test`. `ci` runs the models with wider bounds in its place.
const QUICK_MODELS: &[Step] =
    &[("models", "the loom models, with two preemptions", |sh| loom::models(sh, Bounds::Quick))];

/// Tests of a build whose process is symmetric. Without optimisation the build saves more time than the tests lose.
fn switched_off(sh: &Shell) -> Result {
    let _off = sh.push_env("RUSTFLAGS", "--cfg asymfence_symmetric");
    let _plain = sh.push_env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
    let target = target(sh, "symmetric");
    let packages = &TESTED[..8];
    run(sh, cmd!(sh, "cargo test --no-fail-fast {packages...} --target-dir {target} --test it"))?;
    let of_doctor = ["--test", "program", "the_switch_of_the_build"];
    run(sh, cmd!(sh, "cargo test {packages...} --target-dir {target} {of_doctor...}"))
}

/// The test of the cookbook that leaks on purpose.
const LEAKS: &str = "a_reader_that_was_forgotten_leaks_and_no_more";

/// The tests of the hazard pointers and of the cookbook under the address sanitizer, which sees an access of memory
/// that was freed a short time ago. The sanitizer comes with the stable toolchain; its flag does not.
fn asan(sh: &Shell) -> Result {
    let host = cmd!(sh, "rustc --print host-tuple").read()?;
    let runtime = cmd!(sh, "rustc --print target-libdir").read()?;
    if cmd!(sh, "ls {runtime}/librustc-stable_rt.asan.a").quiet().ignore_stderr().run().is_err() {
        return ledger::skipped(sh, "the address sanitizer", "this toolchain has no runtime of it");
    }
    let _bootstrap = sh.push_env("RUSTC_BOOTSTRAP", "1");
    let _flags = sh.push_env("RUSTFLAGS", "-Zsanitizer=address");
    let asan = target(sh, "asan").display().to_string();
    // With `--target`, cargo does not apply the flags to build scripts and macros.
    let build = ["--target", &host, "--target-dir", &asan, "--test", "it"];
    run(sh, cmd!(sh, "cargo test {build...} --package asymfence-hazard"))?;
    let but = ["--skip", LEAKS];
    run(sh, cmd!(sh, "cargo test {build...} --package asymfence-cookbook -- {but...}"))?;
    ledger::ran(sh, "the address sanitizer")
}

fn ci(sh: &Shell) -> Result {
    house::check(sh)?;
    format(sh, &["--check"])?;
    run(sh, cmd!(sh, "cargo clippy --workspace --all-targets {EVERYTHING...} -- -D warnings"))?;
    run(sh, cmd!(sh, "cargo clippy --no-default-features -- -D warnings"))?;
    run(
        sh,
        cmd!(sh, "cargo clippy --package asymfence-hazard --no-default-features -- -D warnings"),
    )?;
    loom::lint(sh)?;
    compat::lint(sh)?;
    {
        let _deny = sh.push_env("RUSTDOCFLAGS", "-D warnings");
        run(
            sh,
            cmd!(sh, "cargo doc --workspace --no-deps --document-private-items {EVERYTHING...}"),
        )?;
    }
    steps::run(sh, ALL, ALL_STEPS, "")?;
    loom::models(sh, Bounds::Full)?;
    spin::models(sh)?;
    mutants::run(sh, mutants::Which { all: false, part: mutants::Part::Quick }, "")?;
    msrv::check(sh)?;
    codegen::foreign(sh)?;
    asan(sh)?;
    doctor(sh)?;
    costs(sh)
}

/// The checks that take too long for `ci`.
fn deep(sh: &Shell) -> Result {
    adopt::check(sh, "")?;
    platforms::run(sh, "", true)?;
    miri::check(sh, "")?;
    loom::models(sh, Bounds::Deep)?;
    mutants::run(sh, mutants::Which { all: false, part: mutants::Part::Every }, "")
}

/// The picture of docs/costs.md, roughly.
fn costs(sh: &Shell) -> Result {
    if std::thread::available_parallelism()?.get() == 1 {
        return ledger::skipped(sh, "two cores", "the costs: one core has nobody to interrupt");
    }
    let picture = target(sh, "costs.svg");
    run(sh, cmd!(sh, "cargo test --release --package fence-benches --bin costs"))?;
    run(sh, cmd!(sh, "cargo run --release --package fence-benches -- --quick --out {picture}"))
}

/// The doctor, first without a sandbox, then without membarrier. There it must take another rung, or be symmetric and
/// say why; and the table must hold.
fn doctor(sh: &Shell) -> Result {
    run(sh, cmd!(sh, "cargo doctor"))?;
    let doctor = target(sh, "release/asymfence-doctor");
    if cmd!(sh, "strace -f -o /dev/null true").quiet().ignore_stderr().run().is_err() {
        return ledger::skipped(sh, "strace", "none that may trace: the doctor without membarrier");
    }
    run(
        sh,
        cmd!(
            sh,
            "strace -f -qq -o /dev/null -e trace=membarrier -e inject=membarrier:error=ENOSYS {doctor} --seconds 5"
        ),
    )?;
    ledger::ran(sh, "strace")
}

/// rustfmt does not follow the modules that the ladder's macro declares: hand it every file.
fn format(sh: &Shell, flags: &[&str]) -> Result {
    let files =
        cmd!(sh, "git ls-files --cached --others --exclude-standard *.rs").quiet().read()?;
    let files: Vec<&str> = files.lines().filter(|file| Path::new(file).exists()).collect();
    cmd!(sh, "rustfmt --edition 2024 {flags...} {files...}").quiet().run()?;
    Ok(())
}
