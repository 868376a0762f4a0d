//! Type-checks, lints and links for systems that cannot be started here.

use xshell::{Shell, cmd};

use super::debian::{self, RUST, install, unavailable};
use super::{TARGET, folder};
use crate::Result;

const LINTED: [&str; 10] = [
    "x86_64-pc-windows-msvc",
    "aarch64-pc-windows-msvc",
    "aarch64-apple-darwin",
    "aarch64-apple-ios",
    "x86_64-unknown-freebsd",
    "aarch64-unknown-freebsd",
    "aarch64-linux-android",
    "aarch64-unknown-linux-gnu",
    "riscv64gc-unknown-linux-gnu",
    "wasm32-unknown-unknown",
];

/// The targets of other systems for which docs.rs builds the documentation. Cargo.toml names them.
const DOCUMENTED: [&str; 2] = ["x86_64-pc-windows-msvc", "x86_64-apple-darwin"];

const STD: &str = "-Zbuild-std=std,panic_abort";

pub(super) fn lint(sh: &Shell) -> Result {
    clippy(sh, &["-Zbuild-std=core,alloc", "--no-default-features"])
}

pub(super) fn lint_with_std(sh: &Shell) -> Result {
    clippy(sh, &[STD])?;
    // A module that another system has must not be a link here.
    let _links = sh.push_env("RUSTDOCFLAGS", "-D rustdoc::broken-intra-doc-links");
    cargo(sh, &["doc", "--no-deps", STD], &DOCUMENTED, &[])
}

fn clippy(sh: &Shell, build: &[&str]) -> Result {
    // On some targets clippy warns about a part of the expansion of `thread_local!` that is not `const` there.
    let lints = ["--", "-D", "warnings", "-A", "clippy::missing-const-for-thread-local"];
    cargo(sh, &[&["clippy", "--lib"], build].concat(), &LINTED, &lints)
}

/// Runs a command of Debian's cargo on the libraries, for each of the targets.
fn cargo(sh: &Shell, command: &[&str], targets: &[&str], rest: &[&str]) -> Result {
    install(sh, &RUST)?;
    let _rust = debian::rust(sh);
    // Debian's cargo finds Debian's clippy where that comes before rustup's.
    let _path = sh.push_env("PATH", format!("/usr/bin:{}", std::env::var("PATH")?));
    let targets: &Vec<&str> = &targets.iter().flat_map(|target| ["--target", target]).collect();
    let packages = ["--package", "asymfence", "--package", "asymfence-hazard"];
    cmd!(
        sh,
        "/usr/bin/cargo {command...} --quiet {packages...} {targets...} --target-dir {TARGET} {rest...}"
    )
    .run()?;
    Ok(())
}

/// Links by zig, which has stubs of the libraries of both systems.
pub(super) fn link(sh: &Shell) -> Result {
    install(sh, &RUST)?;
    let zig = folder(sh, "zig")?;
    let (python, build) = (zig.join("bin/python"), zig.join("bin/cargo-zigbuild"));
    if !sh.path_exists(&build) {
        let made = cmd!(sh, "python3 -m venv {zig}").quiet().ignore_stderr().run();
        let packages = ["ziglang", "cargo-zigbuild"];
        let fetched = cmd!(sh, "{python} -m pip install --quiet {packages...}").quiet();
        if made.is_err() || fetched.ignore_stderr().run().is_err() {
            return unavailable(
                "zig cannot be had: it takes python3 -m venv, and pip with a network",
            );
        }
    }
    let _rust = debian::rust(sh);
    let path = std::env::var("PATH")?;
    let _path = sh.push_env("PATH", format!("{}:{path}", zig.join("bin").display()));
    for target in ["aarch64-apple-darwin", "x86_64-apple-darwin", "x86_64-unknown-freebsd"] {
        let options = ["--release", "-Zbuild-std", "--target", target, "--target-dir", TARGET];
        cmd!(sh, "{build} zigbuild --quiet {options...} --package asymfence-doctor").run()?;
    }
    Ok(())
}
