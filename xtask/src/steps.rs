//! Runs a command in steps. It prints how many steps there are, which one runs, how long it took last time and now, and
//! after a failure what to do next.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use xshell::Shell;

use crate::{Result, target};

type Run = fn(&Shell) -> Result;

/// A step: its name, by which the command chooses it; what it runs, in half a line; and the function that runs it.
pub(crate) type Step = (&'static str, &'static str, Run);

/// The steps, each in a line, with what they run.
pub(crate) fn list(steps: &[Step]) -> String {
    let width = steps.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
    steps.iter().map(|(name, what, _)| format!("  {name:width$}  {what}\n")).collect()
}

/// Runs the step of `command` that `word` names, or else those whose names contain it, in turn until one fails.
pub(crate) fn run(sh: &Shell, command: &str, steps: &[Step], word: &str) -> Result {
    let is_name = steps.iter().any(|&(name, ..)| name == word);
    let is_chosen = |name: &str| if is_name { name == word } else { name.contains(word) };
    let chosen: Vec<&Step> = steps.iter().filter(|&&(name, ..)| is_chosen(name)).collect();
    if chosen.is_empty() {
        let list = list(steps);
        return Err(format!(
            "no step of `{command}` has `{word}` in its name; there are:\n{}",
            list.trim_end()
        )
        .into());
    }
    let file = target(sh, "xtask-times");
    let mut times = Times::read(&file);
    // Steps of different commands may have the same name.
    let key = |name: &str| format!("{command}: {name}");
    let times_of_all = times.of_all(chosen.iter().map(|(name, ..)| key(name)));
    println!("{command} runs {times_of_all}");
    let all = Instant::now();
    for (number, (name, _, run)) in (1..).zip(&chosen) {
        let place = format!("[{number}/{}] {name}", chosen.len());
        println!("{place}{}", times.last(&key(name)));
        let begin = Instant::now();
        let later: Vec<&str> = chosen[number..].iter().map(|(name, ..)| *name).collect();
        run(sh).map_err(|error| unlike(&place, command, name, &error.to_string(), &later))?;
        println!("{place}: took {}", words(begin.elapsed()));
        times.0.insert(key(name), begin.elapsed());
        times.write(&file)?;
    }
    let part = part(command, chosen.len(), steps.len());
    let names: Vec<&str> = chosen.iter().map(|(name, ..)| *name).collect();
    println!("all passed, in {}{part}: {}", words(all.elapsed()), names.join("; "));
    Ok(())
}

/// What was run if that was not every step, and how to run all.
fn part(command: &str, chosen: usize, of: usize) -> String {
    if chosen == of { String::new() } else { format!(" ({chosen} of {of} steps; all: {command})") }
}

/// What failed, which steps were to come, and what to do next.
fn unlike(place: &str, command: &str, name: &str, error: &str, later: &[&str]) -> String {
    let later = match later {
        [] => String::new(),
        later => format!("Not run after this step: {}\n", later.join("; ")),
    };
    format!(
        "{place} failed: {error}\n{later}\
         The output above says why: search it for `FAILED`, or for `error` if something did not compile. Next:\n  \
         that test alone      the last line above that begins with `$`, with `-- NAME_OF_THE_TEST` at its end\n  \
         \u{20}                    (in place of what it has behind `--`)\n  \
         this step alone      {command} '{name}'\n\
         If you have changed nothing, please report it with the output of `cargo doctor`."
    )
}

/// How long each step of each command took when it ran last.
struct Times(BTreeMap<String, Duration>);

impl Times {
    /// Lines of a name and seconds, with a tab between. Other lines are ignored.
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = |line: &str| {
            let (name, seconds) = line.split_once('\t')?;
            Some((name.to_owned(), Duration::from_secs(seconds.parse().ok()?)))
        };
        Times(text.lines().filter_map(line).collect())
    }

    fn write(&self, file: &Path) -> Result {
        let line = |(name, time): (&String, &Duration)| format!("{name}\t{}\n", time.as_secs());
        Ok(std::fs::write(file, self.0.iter().map(line).collect::<String>())?)
    }

    fn last(&self, key: &str) -> String {
        self.0.get(key).map_or(String::new(), |time| format!(": {} last time", words(*time)))
    }

    fn of_all(&self, keys: impl ExactSizeIterator<Item = String>) -> String {
        let steps = match keys.len() {
            1 => "1 step".to_owned(),
            steps => format!("{steps} steps"),
        };
        let times: Option<Vec<Duration>> = keys.map(|key| self.0.get(&key).copied()).collect();
        match times {
            Some(times) => format!("{steps}, {} last time", words(times.iter().sum())),
            None => steps,
        }
    }
}

fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{seconds} s")
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use xshell::TempDir;

    use super::*;

    /// A shell with a target folder of its own, which is removed with the second part.
    fn shell() -> (Shell, TempDir) {
        let sh = Shell::new().expect("a shell");
        let folder = sh.create_temp_dir().expect("a folder");
        sh.set_var("CARGO_TARGET_DIR", folder.path());
        (sh, folder)
    }

    fn passes(_: &Shell) -> Result {
        Ok(())
    }

    fn fails(_: &Shell) -> Result {
        Err("the command `cargo test` failed".into())
    }

    #[test]
    fn what_took_time_is_known_next_time_in_the_folder_that_cargo_builds_in() {
        let (sh, _folder) = shell();
        let file = target(&sh, "xtask-times");
        let steps: [Step; 2] = [("one", "the first", passes), ("two", "more", passes)];
        let of_all = |command: &str| {
            let keys = ["one", "two"].map(|name| format!("{command}: {name}"));
            Times::read(&file).of_all(keys.into_iter())
        };
        assert_eq!(of_all("cargo xtask test"), "2 steps");
        run(&sh, "cargo xtask test", &steps, "").expect("both pass");
        assert_eq!(of_all("cargo xtask test"), "2 steps, 0 s last time");
        assert_eq!(of_all("cargo xtask ci"), "2 steps", "another command's");
        assert_eq!(Times::read(&file).last("cargo xtask test: two"), ": 0 s last time");
        assert_eq!(Times::read(&file).last("cargo xtask test: three"), "");
        assert_eq!(words(Duration::from_secs(432)), "7 min 12 s");
    }

    #[test]
    fn a_failure_says_which_step_and_how_to_run_it_alone() {
        let steps: [Step; 3] =
            [("one", "the first", passes), ("two", "more", fails), ("three", "the rest", passes)];
        let (sh, _folder) = shell();
        let error =
            run(&sh, "cargo xtask test", &steps, "").expect_err("the second fails").to_string();
        assert!(error.starts_with("[2/3] two failed: the command `cargo test` failed"), "{error}");
        assert!(error.contains("cargo xtask test 'two'"), "{error}");
        assert!(error.contains("\nNot run after this step: three\n"), "{error}");
    }

    #[test]
    fn a_part_says_so_and_how_to_run_all() {
        assert_eq!(part("cargo xtask test", 1, 9), " (1 of 9 steps; all: cargo xtask test)");
        assert_eq!(part("cargo xtask test", 9, 9), "");
    }

    #[test]
    fn the_name_of_a_step_chooses_that_step_alone() {
        let steps: [Step; 2] = [("one", "the first", passes), ("one more", "the next", fails)];
        let (sh, _folder) = shell();
        run(&sh, "cargo xtask test", &steps, "one").expect("the first alone");
        run(&sh, "cargo xtask test", &steps, "on").expect_err("both");
    }

    #[test]
    fn a_word_chooses_steps_and_one_that_chooses_none_names_them() {
        let steps: [Step; 2] = [("one", "the first", passes), ("two", "more", fails)];
        let (sh, _folder) = shell();
        run(&sh, "cargo xtask test", &steps, "on").expect("the first passes");
        let error =
            run(&sh, "cargo xtask test", &steps, "x").expect_err("there is none").to_string();
        assert!(error.contains("`x`"), "{error}");
        assert!(error.ends_with("there are:\n  one  the first\n  two  more"), "{error}");
    }
}
