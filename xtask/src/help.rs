//! What `--help` prints, and which commands there are.

use crate::steps::{self, Step};

/// Every command, each in a line that begins with two spaces.
pub(crate) const HELP: &str = "\
Usage: cargo xtask COMMAND

  test [--quick] [WORD]
                  all tests, in steps, the models with two preemptions; with
                  WORD the step of that name, or those whose names contain it;
                  --quick some of them, in about two minutes; `cargo xtask test
                  --help` lists them
  adopter         a crate that takes the fences as an option: without them,
                  with them, modelled, in Miri
  adopt [WORD]    published crates with these fences: their own tests, their
                  own cost; with WORD the tests alone of those whose names
                  contain it
  compat          the packages that have the names of other crates:
                  membarrier, membarrier2, swmr-barrier
  cookbook [--quick]
                  the table of docs/cookbook.md, from one run of the cookbook's
                  benches; --quick a rough one
  elsewhere [WORD]
                  what any system can run, in steps: the fences, the hazard
                  pointers, the doctor
  codegen         what the light fence compiles to, on three architectures
  loom [--deep]   the loom models alone, with three preemptions; --deep with
                  five, or without a bound; some have a bound of their own
  modelled        crates that depend on this one as others do, checked by the
                  lines of the guide alone
  mutants [--all] [--quick|--new|--list] [WORDS]
                  orderings weakened, fences removed, changes with a name: a
                  model must fail. --all inverts guards too, and has tests judge
                  as well (an hour). --quick: guards too, which tests judge as
                  well; each mutant first by what caught it last. --new: those
                  alone that nothing has caught yet. Both leave out those that
                  have a reason to survive and that nothing has caught. --list
                  tries none: it counts by file those that would be tried, and
                  names those that are not caught and have no reason. With WORDS
                  (a,b): those that have one in their description
  spin            the protocols on an x86-TSO machine, explored by spin
  asan            the tests of the hazard pointers and the cookbook under the
                  address sanitizer
  miri [WORD]     the library, the hazard pointers, the cookbook, the adopter and
                  the examples of their documentation in Miri (of this toolchain,
                  or of nightly), in steps
  platforms [--quick] [WORD]
                  other systems, processors and builds: run, emulated, linked,
                  type-checked
                  (on Debian, as root, it installs what they need); --quick
                  those of a few minutes, which deep runs too
  ci              formatting, lints, docs, the house rules, test, loom, spin,
                  mutants --quick, the oldest Rust (for four other systems too),
                  code for other processors, the sanitizer, the doctor, the costs
  deep            what takes longer: the crates that adopt, the quick
                  platforms, Miri, loom --deep, the mutants
  fmt             formats every file, those below macros too
  house           the rules of CONTRIBUTING.md that a parser can check

Exit status: 0 all passed; 1 something failed, or the command was not
understood.
";

/// What the steps of a command are for, and how it ends.
const OF_STEPS: &str = "\
Runs the steps below in turn, up to the first that fails. With WORD only the
step of that name, or else those whose names contain it.

Exit status: 0 all passed; 1 a step failed, or the command was not understood.
With CI=true in the environment also 1 if a test could not run here, and, if
all of `test` runs, 1 if an expected test is not recorded as run. Excused are
tests that need Miri or cannot run in it; on x86_64 those that need a
processor that can forbid CPUID; on other processors those that need the
mprotect rung.
";

/// Whether there is such a command.
pub(crate) fn has(command: &str) -> bool {
    let mut names = HELP.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    !command.is_empty() && names.any(|name| name == command)
}

/// The help of a command that has steps: how to call it, and its lists of steps, each below a title.
pub(crate) fn of(usage: &str, lists: &[(&str, &[Step])]) -> String {
    let list = |(title, steps): &(&str, &[Step])| format!("\n{title}:\n{}", steps::list(steps));
    let lists: String = lists.iter().map(list).collect();
    format!("Usage: {usage}\n\n{OF_STEPS}{lists}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_what_the_help_names() {
        for command in ["test", "adopt", "mutants", "house"] {
            assert!(has(command), "{command}");
        }
        for word in ["", "tset", "with", "[--quick]", "Usage:", "COMMAND"] {
            assert!(!has(word), "{word}");
        }
    }

    #[test]
    fn the_help_of_steps_names_each_and_says_what_it_runs() {
        let steps: [Step; 2] = [("one", "the first", |_| Ok(())), ("second", "more", |_| Ok(()))];
        let help = of("cargo xtask test [WORD]", &[("Steps", &steps)]);
        assert!(help.starts_with("Usage: cargo xtask test [WORD]\n"), "{help}");
        assert!(help.ends_with("\nSteps:\n  one     the first\n  second  more\n"), "{help}");
        assert!(help.contains("Exit status: 0 all passed; 1 a step failed"), "{help}");
    }
}
