//! The mprotect rung is refused where the kernel is not known to be a plain Linux kernel on x86: on Xen, on systems
//! that imitate Linux, and under binary translation.

use std::fs;

use asymfence::{ForceError, Strategy, force};

use crate::child::{Child, ledger, needs_procfs};
use crate::mount::{mount, mounts_of_its_own};
use crate::rung;

/// The reason against mprotect in a process whose /sys has these files alone: `Some(None)` if there is none, `None` if
/// that cannot be tried here.
fn with_files_in_sys(files: &[&str]) -> Option<Option<String>> {
    needs_procfs();
    let mprotect = rung("mprotect")?;
    if !(mounts_of_its_own() && mount("tmpfs", "/sys", "tmpfs", 0, "")) {
        ledger::skipped("a /sys of its own", std::io::Error::last_os_error());
        return None;
    }
    ledger::ran("a /sys of its own");
    for file in files {
        let folder = &file[..file.rfind('/').expect("a path")];
        fs::create_dir_all(folder).expect("a folder");
        fs::write(file, "").expect("a file");
    }
    match force(Strategy::Asymmetric(mprotect)) {
        Ok(()) => Some(None),
        Err(ForceError::Refused(_, refusal)) => Some(Some(refusal.to_string())),
        Err(error) => panic!("{error}"),
    }
}

fn is_unknown(reason: Option<String>) -> bool {
    reason.is_some_and(|reason| reason.contains("plain Linux kernel"))
}

const X86_LINUX: &str = "/sys/kernel/boot_params/version";

/// The twin of the next two: with the files of x86 Linux there is no such reason.
#[test]
fn what_has_the_boot_parameters_of_x86_is_taken_for_linux() {
    Child::default().run(|| {
        let Some(reason) = with_files_in_sys(&[X86_LINUX]) else { return };
        assert!(!is_unknown(reason));
    });
}

/// FEX and box64 run x86 programs on a kernel of another processor, which has no such parameters.
#[test]
fn a_translated_binary_is_refused() {
    Child::default().run(|| {
        let Some(reason) = with_files_in_sys(&[]) else { return };
        assert!(is_unknown(reason));
    });
}

#[test]
fn a_guest_of_xen_is_refused() {
    Child::default().run(|| {
        let Some(reason) = with_files_in_sys(&[X86_LINUX, "/sys/hypervisor/type"]) else { return };
        assert!(is_unknown(reason));
    });
}
