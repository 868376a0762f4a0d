//! Runs the Windows binary under Wine.

use std::path::{Path, PathBuf};

use xshell::{Shell, cmd};

use super::debian::{self, RUST, install};
use super::{TARGET, folder};
use crate::Result;

/// Without it std finds no random numbers: it asks a library that Wine 8 does not have.
const BCRYPTPRIMITIVES: &str = "\
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG); /* RtlGenRandom */
BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T length) { return SystemFunction036(bytes, length); }
";

pub(super) fn table(sh: &Shell) -> Result {
    install(sh, &RUST)?;
    install(sh, &["gcc-mingw-w64-x86-64-posix", "wine64"])?;
    let _rust = debian::rust(sh);
    let target = "x86_64-pc-windows-gnu";
    let options = ["-Zbuild-std", "--target", target, "--target-dir", TARGET];
    let tests = ["--test", "everywhere", "--test", "windows"];
    let build = cmd!(sh, "cargo test {options...} {tests...} --no-run").output()?;
    let build = String::from_utf8(build.stderr)?;
    // Cargo names them: `  Executable tests/everywhere.rs (target/…/everywhere-….exe)`
    let tests: Vec<PathBuf> = build
        .lines()
        .filter_map(|line| line.rsplit_once('(')?.1.strip_suffix(".exe)"))
        .map(|test| Path::new(test).with_extension("exe"))
        .collect();
    let [first, _] = &tests[..] else {
        return Err(format!("no two tests were built for Windows: {build}").into());
    };

    let source = folder(sh, "wine")?.join("bcryptprimitives.c");
    sh.write_file(&source, BCRYPTPRIMITIVES)?;
    let library = first.with_file_name("bcryptprimitives.dll");
    cmd!(sh, "x86_64-w64-mingw32-gcc -shared -o {library} {source} -ladvapi32").quiet().run()?;

    let _expected = sh.push_env("ASYMFENCE_TEST_EXPECTS", "symmetric");
    let _why = sh.push_env("ASYMFENCE_TEST_EXPECTS_REFUSAL", "this is Wine or Proton");
    let _home = sh.push_env("WINEPREFIX", folder(sh, "wine")?.join("prefix"));
    let _quiet = sh.push_env("WINEDEBUG", "-all");
    for test in &tests {
        cmd!(sh, "/usr/lib/wine/wine64 {test} --nocapture").run()?;
    }
    Ok(())
}
