//! The README shows what the library depends on.

use xshell::{Shell, cmd};

use crate::Result;

const PAGE: &str = "README.md";

pub(super) fn check(sh: &Shell) -> Result {
    let page = sh.read_file(PAGE)?;
    if page.contains(&tree(sh)?) {
        return Ok(());
    }
    Err(format!("{PAGE} does not show this tree:\n{}", tree(sh)?).into())
}

/// What `cargo tree --edges normal` says, without versions: they depend on the lock file of the build.
fn tree(sh: &Shell) -> Result<String> {
    // One target, wherever this runs.
    let of = ["--package", "asymfence", "--target", "x86_64-unknown-linux-gnu"];
    let tree = cmd!(sh, "cargo tree --quiet --edges normal {of...}").quiet().read()?;
    Ok(tree.lines().map(|line| without_version(line) + "\n").collect())
}

fn without_version(line: &str) -> String {
    line.split(" v").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_places_are_left_out() {
        assert_eq!(without_version("asymfence v0.1.0 (/a/path)"), "asymfence");
        assert_eq!(without_version("│   └── linux-raw-sys v0.12.1"), "│   └── linux-raw-sys");
    }
}
