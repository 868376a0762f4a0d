//! Crates that depend on this one as others do, and are checked by the model with the lines of the guide alone.

use std::time::{Duration, Instant};

use xshell::{Cmd, Shell, cmd};

use crate::show::line;
use crate::{Result, target};

pub(crate) fn check(sh: &Shell) -> Result {
    // Nobody debugs them here.
    let _lean = sh.push_env("CARGO_PROFILE_DEV_DEBUG", "0");
    // As the guide has it. These builds are shared with the models of `cargo xtask loom`.
    let release = target(sh, "loom").display().to_string();
    let plain = Dependent {
        folder: "modelled/plain",
        cfg: "loom",
        build: ["--release", "--target-dir", &release],
    };
    // Optimised the model would take longer to build than it saves.
    let dev = target(sh, "modelled").display().to_string();
    let own = Dependent {
        folder: "modelled/own-cfg",
        cfg: "lock_loom",
        build: ["--quiet", "--target-dir", &dev],
    };
    plain.check(sh)?;
    own.check(sh)?;
    resolvers(sh)?;
    lock_file(sh)
}

/// A crate with models: its folder, and the cfg that it has for them.
struct Dependent<'b> {
    folder: &'static str,
    cfg: &'static str,
    build: [&'b str; 3],
}

impl Dependent<'_> {
    fn check(&self, sh: &Shell) -> Result {
        let _there = sh.push_dir(self.folder);
        self.test(sh, "", &[])?;
        if self.cfg != "loom" {
            self.test(sh, "--cfg loom", &[])?; // somebody else's
        }
        let modelled = format!("--cfg {}", self.cfg);
        self.test(sh, &modelled, &[])?;
        let mutant = ["--features", "mutant"];
        self.test(sh, &modelled, &[&mutant[..], &["--no-run"]].concat())?;
        let begin = Instant::now();
        if self.test(sh, &modelled, &mutant).is_ok() {
            return Err(format!("{}: the mutant passes", self.folder).into());
        }
        println!("  failed as it must");
        if begin.elapsed() > Duration::from_secs(60) {
            return Err(
                format!("{}: the mutant took {:?} to fail", self.folder, begin.elapsed()).into()
            );
        }
        Ok(())
    }

    fn test(&self, sh: &Shell, flags: &str, options: &[&str]) -> Result {
        let _flags = sh.push_env("RUSTFLAGS", flags);
        let build = self.build;
        silently(sh, cmd!(sh, "cargo test {build...} {options...}")).map(drop)
    }
}

/// Prints the command, and what it says only if that is an error.
fn silently(sh: &Shell, command: Cmd<'_>) -> Result<std::process::Output> {
    println!("$ {}", line(sh, &command));
    let output = command.quiet().ignore_status().output()?;
    let said = || [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    if output.status.success() { Ok(output) } else { Err(said().into()) }
}

/// Resolver 1 turns the feature on where the cfg is not, and the first fence says so. Resolver 2 does not.
fn resolvers(sh: &Shell) -> Result {
    let target = target(sh, "modelled");
    // A cfg of nobody here: with it the builds of the dependent above are shared.
    let _flags = sh.push_env("RUSTFLAGS", "--cfg lock_loom");
    for (folder, is_modelled) in [("modelled/resolver-1", true), ("modelled/resolver-2", false)] {
        let _there = sh.push_dir(folder);
        let tree = cmd!(sh, "cargo tree --quiet --edges normal").quiet().read()?;
        if tree.contains("loom v") != is_modelled {
            return Err(format!("{folder}: `cargo tree` is not as the guide says").into());
        }
        let outcome = silently(sh, cmd!(sh, "cargo run --quiet --target-dir {target}"));
        let said = outcome.as_ref().err().map_or(String::new(), ToString::to_string);
        if outcome.is_ok() == is_modelled || said.contains("resolver = \"2\"") != is_modelled {
            return Err(format!("{folder}: {said}").into());
        }
        if is_modelled {
            println!("  failed as it must, and said how to mend it");
        }
    }
    Ok(())
}

/// A program without the feature has nothing of loom in its lock file.
fn lock_file(sh: &Shell) -> Result {
    if sh.read_file("no-std-tests/Cargo.lock")?.contains("name = \"loom\"") {
        return Err("loom is in the lock file of a program without the feature".into());
    }
    Ok(())
}
