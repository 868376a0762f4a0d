//! Installs what the jobs need from Debian: compilers, emulators, kernels.

use std::fmt;
use std::path::PathBuf;

use xshell::{PushEnv, Shell, cmd};

use super::folder;
use crate::Result;

/// The reason why a job cannot run here. It is not a fault of the library.
#[derive(Debug)]
pub(super) struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

pub(super) fn unavailable<T>(why: impl Into<String>) -> Result<T> {
    Err(Unavailable(why.into()).into())
}

/// A compiler with the sources of std, so that it can be built for any target; and clippy.
pub(super) const RUST: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];

/// Installs the packages that are missing.
pub(super) fn install(sh: &Shell, packages: &[&str]) -> Result {
    let status = "--showformat=${db:Status-Status}\\n";
    let known = cmd!(sh, "dpkg-query --show {status} {packages...}").quiet().ignore_stderr();
    let installed = match known.ignore_status().read() {
        Ok(lines) => lines.lines().filter(|&line| line == "installed").count(),
        Err(_) => return unavailable("this is not Debian"),
    };
    if installed == packages.len() {
        return Ok(());
    }
    if cmd!(sh, "id -u").quiet().read()? != "0" {
        return unavailable(format!("needs to be root to install {}", packages.join(", ")));
    }
    apt_get(sh, &["update", "-qq"])?;
    apt_get(sh, &[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

fn apt_get(sh: &Shell, arguments: &[&str]) -> Result {
    let wait = ["-o", "DPkg::Lock::Timeout=300"];
    let output = cmd!(sh, "apt-get {wait...} {arguments...}").quiet().ignore_status().output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    unavailable(format!("apt-get {}: {}", arguments.join(" "), words.lines().last().unwrap_or("")))
}

/// Unpacks packages below `target` without installing them, for packages that would remove others.
pub(super) fn unpack(sh: &Shell, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let root = folder(sh, name)?;
    let complete = root.join("complete");
    if !sh.path_exists(&complete) {
        let downloads = sh.create_dir(root.with_extension("packages"))?;
        {
            let _there = sh.push_dir(&downloads);
            apt_get(sh, &[&["download", "-qq"], packages].concat())?;
        }
        for package in sh.read_dir(&downloads)? {
            cmd!(sh, "dpkg-deb -x {package} {root}").quiet().run()?;
        }
        sh.remove_path(&downloads)?;
        sh.write_file(&complete, "")?;
    }
    Ok(root)
}

/// Uses Debian's compiler, and allows it to build std. rustup's compiler comes without the sources of std.
pub(super) fn rust(sh: &Shell) -> [PushEnv<'_>; 5] {
    [
        sh.push_env("RUSTC", "/usr/bin/rustc"),
        sh.push_env("RUSTDOC", "/usr/bin/rustdoc"),
        sh.push_env("RUSTC_BOOTSTRAP", "1"),
        sh.push_env("CARGO_PROFILE_DEV_DEBUG", "0"),
        sh.push_env("CARGO_PROFILE_RELEASE_STRIP", "none"),
    ]
}
