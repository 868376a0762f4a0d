//! Boots Debian's kernel under qemu's TCG, with the doctor as the first process.

use xshell::{Shell, cmd};

use super::debian::{install, unavailable, unpack};
use super::folder;
use crate::Result;

/// qemu, and the libraries of it that a machine may not have. Installing them would remove other packages.
const QEMU: [&str; 15] = [
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
    "libcapstone4",
    "libfdt1",
    "libslirp0",
    "libvdeplug2",
    "libpmem1",
    "librdmacm1",
    "libibverbs1",
    "libndctl6",
    "libdaxctl1",
    "libnl-3-200",
    "libnl-route-3-200",
];

pub(super) fn doctor_as_init(sh: &Shell) -> Result {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return unavailable("the kernel that is booted is one of x86_64");
    }
    install(sh, &["cpio"])?;
    let latest = cmd!(sh, "apt-cache depends linux-image-cloud-amd64").quiet().read()?;
    let Some((_, package)) = latest.lines().find_map(|line| line.split_once("Depends: ")) else {
        return unavailable("Debian's linux-image-cloud-amd64 is not known here");
    };
    let kernel = unpack(sh, package, &[package])?.join("boot");
    let kernel = kernel.join(package.replace("linux-image", "vmlinuz"));
    let qemu = unpack(sh, "qemu", &QEMU)?;

    let target = "x86_64-unknown-linux-gnu";
    let folder = folder(sh, "initrd")?;
    {
        let _static = sh.push_env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
        let options = ["--release", "--target", target, "--target-dir", "target/platforms/static"];
        cmd!(sh, "cargo build --quiet {options...} --package asymfence-doctor").run()?;
    }
    let doctor = format!("target/platforms/static/{target}/release/asymfence-doctor");
    sh.copy_file(doctor, folder.join("init"))?;
    let initrd = {
        let _there = sh.push_dir(&folder);
        cmd!(sh, "cpio --create --format=newc --quiet --file=../initrd.cpio")
            .stdin("init")
            .run()?;
        folder.with_extension("cpio")
    };

    let libraries = ["usr/lib", "lib"].map(|lib| qemu.join(lib).join("x86_64-linux-gnu"));
    let libraries = libraries.map(|path| path.display().to_string()).join(":");
    let firmware = ["qemu", "seabios"].map(|part| qemu.join("usr/share").join(part));
    let [data, bios] = firmware;
    let machine = ["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"];
    let bare = ["-nic", "none", "-vga", "none", "-nographic", "-no-reboot"];
    let start = "console=ttyS0 quiet panic=-1 nohz_full=1 -- --json --seconds 5";
    let said = cmd!(
        sh,
        "timeout 300 {qemu}/usr/bin/qemu-system-x86_64 -L {data} -L {bios} {machine...} {bare...} -kernel {kernel} -initrd {initrd} -append {start}"
    )
    .env("LD_LIBRARY_PATH", libraries)
    .stdin("")
    .ignore_stderr()
    .read()?;

    // The doctor is the first process. When the first process ends the kernel panics, and prints the exit code: that is
    // how we learn it.
    for words in ["\"strategy\": \"private-expedited\"", "exitcode=0x00000000"] {
        if !said.contains(words) {
            return Err(format!("no {words} in:\n{said}").into());
        }
    }
    if said.contains("\"GLOBAL\"") {
        return Err(
            "a kernel under nohz_full offers GLOBAL: it is another kernel than meant".into()
        );
    }
    let seen: Vec<&str> = said.lines().filter(|line| line.contains("\"kernel\"")).collect();
    println!("{}: private-expedited, and no GLOBAL", seen.concat().trim());
    Ok(())
}
