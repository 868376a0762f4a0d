//! Runs a command, and prints it first as a line that can be pasted into a shell.

use std::path::Path;

use xshell::{Cmd, Shell};

use crate::Result;

/// The environment variables with which a line begins, if xtask has set them. (The jobs of `platforms` set more. So their
/// lines are not complete.)
const VARIABLES: [&str; 11] = [
    "ASYMFENCE_LOOM_DEEP",
    "ASYMFENCE_LOOM_QUICK",
    "CARGO_PROFILE_DEV_DEBUG",
    "CARGO_PROFILE_DEV_OPT_LEVEL",
    "LD_LIBRARY_PATH",
    "LOOM_MAX_PREEMPTIONS",
    "MIRIFLAGS",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];

pub(crate) fn run(sh: &Shell, command: Cmd<'_>) -> Result {
    println!("$ {}", line(sh, &command));
    Ok(command.quiet().run()?)
}

/// The command as a line, with its folder and its variables as far as they differ from those of the caller's shell.
pub(crate) fn line(sh: &Shell, command: &Cmd<'_>) -> String {
    let mut line = String::new();
    let here = sh.current_dir();
    let folder = root().and_then(|root| here.strip_prefix(root).ok());
    match folder {
        Some(folder) if folder.as_os_str().is_empty() => {}
        Some(folder) => line += &format!("cd {} && ", folder.display()),
        None => line += &format!("cd {} && ", here.display()),
    }
    for name in VARIABLES {
        let Some(value) = sh.var_os(name) else { continue };
        if std::env::var_os(name).is_none_or(|outside| outside != value) {
            let value = value.to_string_lossy();
            let quote = if value.contains(char::is_whitespace) { "\"" } else { "" };
            line += &format!("{name}={quote}{value}{quote} ");
        }
    }
    // Paths below the root are written relative to it, as one would type them.
    let command = command.to_string();
    let below = root().map(|root| format!("{}/", root.display()));
    line + &match below {
        Some(below) if folder.is_some_and(|folder| folder.as_os_str().is_empty()) => {
            command.replace(&below, "")
        }
        _ => command,
    }
}

/// The root of the repository.
fn root() -> Option<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent()
}

#[cfg(test)]
mod tests {
    use xshell::cmd;

    use super::*;

    #[test]
    fn a_line_has_the_folder_and_what_was_set() {
        let sh = Shell::new().expect("a shell");
        let root = root().expect("a parent");
        sh.change_dir(root);
        assert_eq!(line(&sh, &cmd!(sh, "cargo test")), "cargo test");
        let folder = root.join("target/loom");
        let command = cmd!(sh, "cargo test --target-dir {folder}");
        assert_eq!(line(&sh, &command), "cargo test --target-dir target/loom");
        sh.set_var("RUSTFLAGS", "--cfg loom");
        sh.change_dir("modelled/plain");
        let expected = "cd modelled/plain && RUSTFLAGS=\"--cfg loom\" cargo test";
        assert_eq!(line(&sh, &cmd!(sh, "cargo test")), expected);
    }
}
