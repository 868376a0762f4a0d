//! Checks the library with the oldest Rust that it promises to work with, for other systems too.

use std::path::PathBuf;

use xshell::{PushEnv, Shell, cmd};

use crate::show::run;
use crate::{Result, ledger, target};

/// Debian's packages of that compiler, and of the libraries that it is linked to.
const VERSION: &str = "1.85.0+dfsg3-1~deb12u3";
const PACKAGES: [&str; 5] = [
    "rustc-web=1.85.0+dfsg3-1~deb12u3",
    "rust-web-src=1.85.0+dfsg3-1~deb12u3",
    "libstd-rust-web-dev=1.85.0+dfsg3-1~deb12u3",
    "libstd-rust-web-1.85=1.85.0+dfsg3-1~deb12u3",
    "libllvm19",
];

pub(crate) fn check(sh: &Shell) -> Result {
    let Some(_compiler) = compiler(sh)? else { return Ok(()) };
    for features in [&["--no-default-features"][..], &[]] {
        let target = target(sh, "msrv");
        run(sh, cmd!(sh, "cargo check --locked --target-dir {target} {features...}"))?;
    }
    let (target, packages) =
        (target(sh, "msrv"), ["asymfence-hazard", "asymfence-cookbook", "asymfence-doctor"]);
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    run(sh, cmd!(sh, "cargo check --locked --target-dir {target} {packages...}"))?;
    elsewhere(sh)?;
    ledger::ran(sh, WHAT)
}

/// The systems for which this crate has a mechanism, beside Linux, and one without any. Their std is built from its sources.
const ELSEWHERE: [&str; 4] = [
    "aarch64-linux-android",
    "x86_64-unknown-freebsd",
    "x86_64-pc-windows-msvc",
    "aarch64-apple-darwin",
];

fn elsewhere(sh: &Shell) -> Result {
    let _unstable = sh.push_env("RUSTC_BOOTSTRAP", "1");
    let _strict = sh.push_env("RUSTFLAGS", "-D warnings");
    let target = target(sh, "msrv");
    let packages = ["--package", "asymfence", "--package", "asymfence-hazard"];
    let targets: &Vec<&str> = &ELSEWHERE.iter().flat_map(|target| ["--target", target]).collect();
    for (std, features) in [
        ("-Zbuild-std=core,alloc", &["--no-default-features"][..]),
        ("-Zbuild-std=std,panic_abort", &[]),
    ] {
        let check = ["check", "--locked", std, "--target-dir"];
        run(sh, cmd!(sh, "cargo {check...} {target} {packages...} {targets...} {features...}"))?;
    }
    Ok(())
}

/// Its name in the ledger.
const WHAT: &str = "the oldest Rust";

/// cargo uses that compiler as long as the returned value lives. If it cannot be had, records that in the ledger and
/// returns `None`.
pub(crate) fn compiler(sh: &Shell) -> Result<Option<[PushEnv<'_>; 2]>> {
    let root = match fetch(sh) {
        Ok(root) => root,
        Err(error) => {
            let why = format!("Debian's rustc-web {VERSION} cannot be had ({error})");
            return ledger::skipped(sh, WHAT, why).map(|()| None);
        }
    };
    let compiler = root.join("usr/bin/rustc");
    let libraries = sh.push_env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"));
    if cmd!(sh, "{compiler} --version").quiet().run().is_err() {
        let why = format!("Debian's rustc-web {VERSION} does not start here");
        return ledger::skipped(sh, WHAT, why).map(|()| None);
    }
    Ok(Some([libraries, sh.push_env("RUSTC", &compiler)]))
}

/// Unpacks the packages below `target`, and installs nothing.
fn fetch(sh: &Shell) -> Result<PathBuf> {
    let root = target(sh, "rustc-1.85");
    if !sh.path_exists(root.join("usr/lib/rustlib/src/rust/library")) {
        let packages = sh.create_dir(target(sh, "packages"))?;
        let _there = sh.push_dir(&packages);
        cmd!(sh, "apt-get download {PACKAGES...}").quiet().ignore_stderr().run()?;
        for package in sh.read_dir(&packages)? {
            cmd!(sh, "dpkg-deb -x {package} {root}").quiet().run()?;
        }
    }
    Ok(root)
}
