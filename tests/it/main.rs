//! The fences on a real kernel, in the places where they must work or refuse.
#![cfg(target_os = "linux")]
#![cfg_attr(
    any(asymfence_symmetric, not(feature = "std")),
    allow(dead_code, unused_imports, reason = "modules are left out")
)]

mod child;
mod filter;
#[cfg(not(asymfence_symmetric))]
mod fork;
#[allow(dead_code, reason = "the whole table is tests/litmus.rs and the doctor's")]
#[path = "../../doctor/src/litmus.rs"]
mod litmus;
#[cfg(feature = "std")]
#[allow(dead_code, reason = "its path is for the example's child")]
#[path = "../../examples/snapshots/memory.rs"]
mod memory;
#[cfg(not(asymfence_symmetric))]
mod mount;
#[cfg(feature = "std")]
#[allow(dead_code, reason = "the example measures")]
#[path = "../../examples/snapshots/snapshots.rs"]
mod snapshots;

#[cfg(not(asymfence_symmetric))]
mod bias;
#[cfg(not(asymfence_symmetric))]
mod calls;
#[cfg(not(asymfence_symmetric))]
mod coalescing;
#[cfg(all(feature = "std", not(asymfence_symmetric)))]
mod conformance;
#[cfg(all(feature = "std", not(asymfence_symmetric)))]
mod cross_process;
#[cfg(not(asymfence_symmetric))]
mod deciding;
#[cfg(not(asymfence_symmetric))]
mod forking;
#[cfg(not(asymfence_symmetric))]
mod interrupts;
#[cfg(all(feature = "std", not(asymfence_symmetric)))]
mod observing;
#[cfg(all(feature = "std", not(asymfence_symmetric)))]
mod registering;
#[cfg(not(asymfence_symmetric))]
mod sandboxes;
#[cfg(asymfence_tsan)]
mod sanitizer;
#[cfg(not(asymfence_symmetric))]
mod signals;
#[cfg(not(asymfence_symmetric))]
mod standing_in;
#[cfg(not(asymfence_symmetric))]
mod stopping;
#[cfg(not(asymfence_symmetric))]
mod supervised;
#[cfg(any(feature = "std", asymfence_symmetric))]
mod switches;
#[cfg(not(asymfence_symmetric))]
mod tickets;

use asymfence::{ForceError, Rung, Strategy, Verdict, force, init, ladder};
use child::ledger;
use litmus::{Fence, Litmus};

/// The rung of this name, if this target's ladder has it.
fn rung(name: &str) -> Option<Rung> {
    let mut rungs = ladder().filter_map(|report| match report.strategy {
        Strategy::Asymmetric(rung) => Some(rung),
        Strategy::Symmetric => None,
    });
    rungs.find(|rung| rung.name() == name)
}

/// Decides. False, with a line in the ledger, where no rung works.
fn is_asymmetric() -> bool {
    let is = init() != Strategy::Symmetric;
    if is {
        ledger::ran("a rung");
    } else {
        ledger::skipped("a rung", "the process is symmetric");
    }
    is
}

/// Commits to mprotect. False, with a line in the ledger, where it is not admitted.
fn force_mprotect() -> bool {
    let Some(mprotect) = rung("mprotect") else {
        ledger::skipped("mprotect rung", "this target has none");
        return false;
    };
    match force(Strategy::Asymmetric(mprotect)) {
        Ok(()) => {
            ledger::ran("mprotect rung");
            true
        }
        Err(ForceError::Refused(_, refusal)) => {
            ledger::skipped("mprotect rung", refusal);
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// The verdict on the rung of this name, if this target's ladder has it.
fn verdict(name: &str) -> Option<Verdict> {
    ladder().find(|report| report.strategy.name() == name).map(|report| report.verdict)
}

/// Whether mprotect was refused, or is not on this target's ladder.
fn mprotect_is_refused() -> bool {
    !matches!(verdict("mprotect"), Some(Verdict::Taken | Verdict::NotTried))
}

/// Checks that the heavy fences of this process order, and that the test would see it if they did not.
#[track_caller]
fn fences_hold() {
    let strategy = asymfence::strategy().expect("a decided process");
    let Some(mut litmus) = ledger::on_two_cores(Litmus::new()) else { return };
    if strategy != Strategy::Symmetric {
        let control = litmus
            .run_while(Fence::Light, Fence::Full, |seen| seen.weak == 0 && seen.rounds < 5_000_000);
        if control.weak == 0 && child::is_emulated() {
            return ledger::skipped("a weak outcome", "none was seen under the emulator");
        }
        assert_ne!(control.weak, 0, "the test has no teeth: {control:?}");
    }
    // A call of membarrier(2) that reaches nobody shows the weak outcome in one of a hundred rounds:
    // tests/it/cross_process/ordering.rs has measured it. A slow call may show none: interrupts.rs is for that.
    for (left, right) in [(Fence::Light, Fence::Heavy), (Fence::Heavy, Fence::Light)] {
        let seen = litmus.run_while(left, right, |seen| seen.rounds < 5_000);
        assert_eq!(seen.weak, 0, "{left:?} against {right:?} on {strategy}: {seen:?}");
    }
}
