//! The nine cells of the pairing table on real threads, on every rung that works here: what is
//! forbidden is never seen, and what is allowed is.
#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "sandboxes are tests/it's")]
#[path = "it/child.rs"]
mod child;
#[path = "../doctor/src/litmus.rs"]
mod litmus;

use asymfence::{ForceError, Strategy, force, ladder};

use child::{Child, ledger};
use litmus::{Fence, Litmus};

/// Rounds after which an allowed outcome that never came is a fault of the test.
const AT_MOST: u64 = 5_000_000;

#[track_caller]
fn the_table_holds_on(name: &str) {
    let strategy = ladder().map(|report| report.strategy).find(|strategy| strategy.name() == name);
    let Some(strategy) = strategy else {
        ledger::skipped(&format!("{name} rung"), "this target has none");
        return;
    };
    match force(strategy) {
        Ok(()) => ledger::ran(&format!("{name} rung")),
        Err(ForceError::Refused(rung, refusal)) => {
            ledger::skipped(&format!("{rung} rung"), refusal);
            return;
        }
        Err(error) => panic!("{error}"),
    }
    let Some(mut litmus) = ledger::on_two_cores(Litmus::new()) else { return };
    for left in Fence::ALL {
        for right in Fence::ALL {
            let ordered = left.is_ordered_with(right, strategy);
            let rounds = match (left, right) {
                (Fence::Light, Fence::Heavy) | (Fence::Heavy, Fence::Light) => 40_000,
                (Fence::Heavy, _) | (_, Fence::Heavy) => 10_000,
                _ => 200_000,
            };
            let seen = litmus.run_while(left, right, |seen| {
                if ordered { seen.rounds < rounds } else { seen.weak == 0 && seen.rounds < AT_MOST }
            });
            println!("{name}: {} against {}: {seen:?}", left.name(), right.name());
            assert_eq!(seen.weak == 0, ordered, "{left:?} against {right:?}: {seen:?}");
        }
    }
}

#[test]
fn the_table_holds_on_private_expedited() {
    Child::default().run(|| the_table_holds_on("private-expedited"));
}

#[test]
fn the_table_holds_on_mprotect() {
    Child::default().run(|| the_table_holds_on("mprotect"));
}

#[test]
fn a_symmetric_process_orders_all_nine() {
    Child::default().run(|| the_table_holds_on("symmetric"));
}

/// The twins of what the table forbids: the writer uses `fence(SeqCst)`, or a call that takes as long as a short system
/// call and reaches no other thread.
#[test]
fn neither_a_full_fence_nor_a_slow_one_replaces_the_heavy_fence() {
    Child::default().run(|| {
        if asymfence::init() == Strategy::Symmetric {
            return ledger::skipped("an asymmetric strategy", "the process is symmetric");
        }
        let Some(mut litmus) = ledger::on_two_cores(Litmus::new()) else { return };
        for weaker in [Fence::Full, Fence::Decoy] {
            let seen = litmus
                .run_while(Fence::Light, weaker, |seen| seen.weak == 0 && seen.rounds < AT_MOST);
            println!("light against {}: {seen:?}", weaker.name());
            assert_ne!(seen.weak, 0, "{weaker:?}: {seen:?}");
        }
    });
}
