//! On this processor: a program without std, and the tests under ThreadSanitizer. The libraries are also built for two
//! targets without an operating system.

use xshell::{Shell, cmd};

use super::debian::{self, RUST, install, unavailable};
use super::{TARGET, folder};
use crate::Result;
use crate::show::run;

/// Neither has an operating system; thumbv7m has no 64-bit atomics either.
const BARE: [&str; 2] = ["x86_64-unknown-none", "thumbv7m-none-eabi"];

pub(super) fn no_std(sh: &Shell) -> Result {
    install(sh, &RUST)?;
    let _rust = debian::rust(sh);
    for target in BARE {
        let options = ["--target", target, "--target-dir", TARGET, "--no-default-features"];
        run(sh, cmd!(sh, "cargo build --quiet --lib -Zbuild-std=core {options...}"))?;
        run(
            sh,
            cmd!(
                sh,
                "cargo build --quiet --lib -Zbuild-std=core,alloc {options...} --package asymfence-hazard"
            ),
        )?;
    }
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return unavailable("the program without std has an entry point for x86_64 Linux only");
    }
    let _flags = sh.push_env(
        "RUSTFLAGS",
        "-Clink-arg=-nostartfiles -Clink-arg=-nostdlib -Clink-arg=-static -Crelocation-model=static",
    );
    let target = "x86_64-unknown-linux-gnu";
    // Without a C library the compiler's own memcpy is needed.
    let core = ["-Zbuild-std=core", "-Zbuild-std-features=compiler-builtins-mem"];
    let build = ["--manifest-path", "no-std-tests/Cargo.toml", "--target", target];
    run(
        sh,
        cmd!(
            sh,
            "cargo build --quiet --locked {build...} {core...} --target-dir target/platforms/no-std"
        ),
    )?;
    let said = cmd!(sh, "target/platforms/no-std/{target}/debug/no-std-tests").read()?;
    println!("{said}");
    if !said.ends_with("strategy: private-expedited") {
        return Err("the program without std did not take membarrier".into());
    }
    Ok(())
}

pub(super) fn tsan(sh: &Shell) -> Result {
    install(sh, &RUST)?;
    let target = "x86_64-unknown-linux-gnu";
    // Debian's compiler can build an instrumented std, rustup's has the sanitizer's runtime.
    let runtime = "librustc-stable_rt.tsan.a";
    let theirs = cmd!(sh, "rustc --print target-libdir").read()?;
    let sysroot = folder(sh, "tsan-sysroot")?;
    let ours = sh.create_dir(sysroot.join("lib/rustlib").join(target).join("lib"))?.join(runtime);
    if sh.copy_file(format!("{theirs}/{runtime}"), ours).is_err() {
        return unavailable("this toolchain has no runtime of ThreadSanitizer; rustup's has");
    }
    let _rust = debian::rust(sh);
    let flags = "--cfg asymfence_symmetric --cfg asymfence_tsan -Zsanitizer=thread";
    let _flags = sh.push_env("RUSTFLAGS", format!("{flags} --sysroot={}", sysroot.display()));
    let build = ["-Zbuild-std", "--target", target, "--target-dir", "target/platforms/tsan"];
    run(
        sh,
        cmd!(sh, "cargo test {build...} --package asymfence --package asymfence-hazard --test it"),
    )?;
    run(sh, cmd!(sh, "cargo test {build...} --package asymfence-cookbook --test it"))?;
    // A crate that takes the fences as an option, and its twin without a light fence, whose race is reported.
    run(sh, cmd!(sh, "cargo test {build...} --package adopter --features asymmetric --test it"))
}
