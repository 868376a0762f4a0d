//! The fences on a real kernel, in the places where they must work or refuse.
#![cfg(target_os = "linux")]

mod child;
mod filter;
#[allow(dead_code, reason = "the whole table is tests/litmus.rs and the doctor's")]
#[path = "../../examples/doctor/litmus.rs"]
mod litmus;

mod deciding;
mod forking;
mod sandboxes;
mod signals;
mod switches;

use asymfence::{Rung, Strategy, Verdict, ladder};
use litmus::{Fence, Litmus};

/// The rung of this name on this target's ladder.
fn rung(name: &str) -> Rung {
    let rungs = ladder().filter_map(|report| match report.strategy {
        Strategy::Asymmetric(rung) => Some(rung),
        Strategy::Symmetric => None,
    });
    { rungs }.find(|rung| rung.name() == name).expect("a rung of this target")
}

/// What became of the rung of this name.
fn verdict(name: &str) -> Verdict {
    let mut reports = ladder();
    reports.find(|report| report.strategy.name() == name).expect("a rung of this target").verdict
}

/// The heavy fences of this process order, and the test could have seen it if they did not.
#[track_caller]
fn fences_hold() {
    let strategy = asymfence::strategy().expect("a decided process");
    let Some(mut litmus) = Litmus::new() else { return };
    if strategy != Strategy::Symmetric {
        let control = litmus
            .run_while(Fence::Light, Fence::Full, |seen| seen.weak == 0 && seen.rounds < 5_000_000);
        assert_ne!(control.weak, 0, "the test has no teeth: {control:?}");
    }
    for (left, right) in [(Fence::Light, Fence::Heavy), (Fence::Heavy, Fence::Light)] {
        let seen = litmus.run_while(left, right, |seen| seen.rounds < 10_000);
        assert_eq!(seen.weak, 0, "{left:?} against {right:?} on {strategy}: {seen:?}");
    }
}
