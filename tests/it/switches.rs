//! The switches that turn the asymmetry off without a change of code.

use asymfence::{Asymmetric, Reason, Strategy, Verdict, init};

use crate::child::Child;
use crate::{fences_hold, verdict};

#[track_caller]
fn refused(name: &str, reason: Reason) {
    match verdict(name) {
        Some(Verdict::Refused(refusal)) => assert_eq!(refusal.reason(), reason),
        None => crate::ledger::skipped(&format!("{name} rung"), "this target has none"),
        verdict => panic!("{name}: {verdict:?}"),
    }
}

/// Between processes: with the switch set, an asymmetric segment is not created. A symmetric one is.
#[cfg(feature = "std")]
#[track_caller]
fn refused_between_processes(reason: Reason) {
    use asymfence::cross_process::{Mode, SegmentError, WORDS, create};
    use std::os::fd::AsFd;

    let file = std::fs::File::open("/dev/null").expect("a file");
    let memory: Vec<_> = (0..WORDS).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
    match create(&memory, file.as_fd(), Mode::Asymmetric) {
        Err(SegmentError::Refused(refusal)) => assert_eq!(refusal.reason(), reason),
        other => panic!("{other:?}"),
    }
    assert_eq!(create(&memory, file.as_fd(), Mode::Symmetric), Ok(()));
}

#[cfg(asymfence_symmetric)]
#[test]
fn a_cfg_switches_the_asymmetry_off() {
    Child::default().run(|| {
        assert_eq!(init(), Strategy::Symmetric);
        refused("private-expedited", Reason::SwitchedOffByCfg);
        refused("mprotect", Reason::SwitchedOffByCfg);
        #[cfg(feature = "std")]
        refused_between_processes(Reason::SwitchedOffByCfg);
        let words = Asymmetric::new().expect_err("symmetric").to_string();
        assert!(words.contains("--cfg asymfence_symmetric"), "{words}");
        fences_hold();
    });
}

#[cfg(all(feature = "std", not(asymfence_symmetric)))]
mod environment {
    use super::*;
    use crate::child::{cannot_run, ledger, needs_procfs};
    use crate::mount::{mount, mounts_of_its_own};

    #[test]
    fn the_environment_switches_the_asymmetry_off() {
        Child::with("ASYMFENCE", "symmetric").run(|| {
            assert_eq!(init(), Strategy::Symmetric);
            refused("private-expedited", Reason::SwitchedOffByEnvironment);
            refused("mprotect", Reason::SwitchedOffByEnvironment);
            let words = Asymmetric::new().expect_err("symmetric").to_string();
            assert!(words.contains("ASYMFENCE=symmetric"), "{words}");
            fences_hold();
            needs_procfs();
            refused_between_processes(Reason::SwitchedOffByEnvironment);
        });
    }

    #[test]
    fn the_environment_also_forbids_a_rung_that_is_forced() {
        Child::with("ASYMFENCE", "symmetric").run(|| {
            let membarrier = crate::rung("private-expedited").expect("Linux has membarrier");
            let forced = asymfence::force(Strategy::Asymmetric(membarrier));
            assert!(matches!(forced, Err(asymfence::ForceError::Refused(..))), "{forced:?}");
            assert_eq!(init(), Strategy::Symmetric);
        });
    }

    #[test]
    fn a_word_that_is_not_understood_is_taken_for_the_safe_one() {
        Child::with("ASYMFENCE", "symetric").run(|| {
            assert_eq!(init(), Strategy::Symmetric);
            refused("private-expedited", Reason::SwitchNotUnderstood);
        });
    }

    /// A forked child may have inherited the standard library's lock on the environment, which no thread will release.
    #[test]
    fn the_environment_is_looked_up_once() {
        Child::default().run(|| {
            crate::cross_process::a_fresh_segment_is_made();
            // SAFETY: no other thread of this process reads the environment.
            unsafe { std::env::set_var("ASYMFENCE", "symmetric") };
            crate::cross_process::a_fresh_segment_is_made();
            assert!(matches!(init(), Strategy::Asymmetric(_)));
        });
    }

    #[test]
    fn what_the_program_sets_before_that_counts() {
        Child::default().run(|| {
            // SAFETY: as above.
            unsafe { std::env::set_var("ASYMFENCE", "symmetric") };
            crate::cross_process::a_fresh_segment_is_refused();
            assert_eq!(init(), Strategy::Symmetric);
        });
    }

    #[test]
    fn what_the_process_was_started_with_counts_though_it_was_removed() {
        Child::with("ASYMFENCE", "symmetric").run(|| {
            needs_procfs();
            // SAFETY: as above.
            unsafe { std::env::remove_var("ASYMFENCE") };
            assert_eq!(init(), Strategy::Symmetric);
        });
    }

    /// Its twin.
    #[test]
    fn without_procfs_the_value_at_the_decision_counts() {
        Child::with("ASYMFENCE", "symmetric").run(|| {
            if !(mounts_of_its_own() && mount("tmpfs", "/proc", "tmpfs", 0, "")) {
                cannot_run("a /proc of its own", std::io::Error::last_os_error());
            }
            ledger::ran("a /proc of its own");
            // SAFETY: as above.
            unsafe { std::env::remove_var("ASYMFENCE") };
            assert!(matches!(init(), Strategy::Asymmetric(_)));
        });
    }

    /// A child in which open(2) of the file of the environment fails with EINTR at the calls that `interrupted`
    /// selects, in the syntax of strace(1).
    #[cfg(target_os = "linux")]
    fn opening_it_is(interrupted: &str) -> Option<Child> {
        let child = Child::injected_into("?open,openat", &format!("error=EINTR:{interrupted}"))?;
        Some(child.on_path("/proc/thread-self/environ").and_with("ASYMFENCE", "symmetric"))
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_process_was_started_with_counts_though_a_signal_interrupts_its_reading() {
        let Some(child) = opening_it_is("when=1..5") else { return };
        child.run(|| {
            needs_procfs();
            // SAFETY: as above.
            unsafe { std::env::remove_var("ASYMFENCE") };
            assert_eq!(init(), Strategy::Symmetric);
        });
    }

    /// Its twin: the tries are bounded.
    #[cfg(target_os = "linux")]
    #[test]
    fn where_signals_always_interrupt_its_reading_the_value_at_the_decision_counts() {
        let Some(child) = opening_it_is("when=1+") else { return };
        child.run(|| {
            // SAFETY: as above.
            unsafe { std::env::remove_var("ASYMFENCE") };
            assert!(matches!(init(), Strategy::Asymmetric(_)));
        });
    }

    /// setproctitle(3) moves the variables elsewhere, and writes its title over their old place.
    #[test]
    fn where_the_environment_began_is_overwritten_the_value_at_the_decision_counts() {
        Child::with("ASYMFENCE", "symmetric").run(|| {
            // SAFETY: as above.
            let value = unsafe { nix::libc::getenv(c"ASYMFENCE".as_ptr()) };
            // SAFETY: as above.
            unsafe { std::env::set_var("ASYMFENCE", "") };
            let before = "ASYMFENCE=".len();
            let start = value.wrapping_sub(before);
            // SAFETY: the name stands before the value, where nothing refers to it any more.
            unsafe { start.write_bytes(b'x', before + "symmetric".len()) };
            assert!(matches!(init(), Strategy::Asymmetric(_)));
        });
    }

    /// Its twin.
    #[test]
    fn what_the_process_was_started_with_counts_though_it_was_set_anew() {
        Child::with("ASYMFENCE", "symmetric").run(|| {
            needs_procfs();
            // SAFETY: as above.
            unsafe { std::env::set_var("ASYMFENCE", "") };
            assert_eq!(init(), Strategy::Symmetric);
        });
    }

    #[test]
    fn an_empty_word_switches_nothing() {
        Child::with("ASYMFENCE", "").run(|| {
            assert!(matches!(init(), Strategy::Asymmetric(_)));
        });
    }
}
