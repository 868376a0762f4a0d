//! Checks that fit any target with threads: the process decides, says why, and keeps the table on real cores. There is
//! one test, because a process decides once.

#[path = "it/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "the twins are tests/litmus.rs's")]
#[path = "../doctor/src/litmus.rs"]
mod litmus;

use asymfence::{Asymmetric, Strategy, Verdict, init, ladder};

use litmus::{Fence, Litmus};

#[test]
fn the_table_holds_on_what_was_chosen() {
    let strategy = init();
    for rung in ladder() {
        println!("{}: {}", rung.strategy, rung.verdict);
    }
    // The caller, who knows the machine, may say the expected strategy and the words of a refusal.
    if let Ok(expected) = std::env::var("ASYMFENCE_TEST_EXPECTS") {
        assert_eq!(strategy.name(), expected);
    }
    if let Ok(words) = std::env::var("ASYMFENCE_TEST_EXPECTS_REFUSAL") {
        let refused = |verdict: Verdict| matches!(verdict, Verdict::Refused(refusal) if refusal.to_string().contains(&words));
        assert!(ladder().any(|rung| refused(rung.verdict)), "no refusal says {words}");
    }
    assert_eq!(Asymmetric::new().is_ok(), strategy != Strategy::Symmetric);

    let Some(mut litmus) = ledger::on_two_cores(Litmus::new()) else { return };
    for left in Fence::ALL {
        for right in Fence::ALL {
            if left.is_ordered_with(right, strategy) {
                let seen = litmus.run_while(left, right, |seen| seen.rounds < 10_000);
                println!("{} against {}: {seen:?}", left.name(), right.name());
                assert_eq!(seen.weak, 0, "{left:?} against {right:?}: {seen:?}");
            }
        }
    }
}
