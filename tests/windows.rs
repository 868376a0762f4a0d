//! The system call of Windows alone, without the library's checks. On Windows it is a barrier. On Wine it may be
//! none, depending on the version, so the library refuses it there. This test expects a Wine where it is none, as in
//! Debian's Wine 8.
#![cfg(windows)]

#[allow(dead_code, reason = "what ran is not told here")]
#[path = "it/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "the table is tests/everywhere.rs's")]
#[path = "../doctor/src/litmus.rs"]
mod litmus;

use std::sync::atomic::{Ordering::SeqCst, compiler_fence, fence};
use std::thread;

use litmus::{PORTION, Shared, longest_pause, scatter, two_cores};
use windows_sys::Win32::System::Threading::FlushProcessWriteBuffers;

fn flush() {
    fence(SeqCst);
    // SAFETY: no precondition.
    unsafe { FlushProcessWriteBuffers() };
    fence(SeqCst);
}

#[test]
fn the_call_is_a_barrier_on_windows_and_none_under_wine() {
    let under_wine = std::env::var_os("ASYMFENCE_TEST_EXPECTS_REFUSAL").is_some();
    let enough = if under_wine { 2_000_000 } else { 20_000 };
    let Some(cores) = two_cores() else {
        return ledger::skipped("two cores", "one core shows no reordering");
    };
    let (shared, mut scatter) = (Shared::default(), scatter());
    let (mut rounds, mut weak) = (0, 0);
    while rounds < enough && weak == 0 {
        let these = rounds + 1..rounds + 1 + PORTION;
        let missed = thread::scope(|scope| {
            let (shared, scatter, theirs) = (&shared, &mut scatter, these.clone());
            let light = scope.spawn(move || {
                let light = || compiler_fence(SeqCst);
                shared.rounds(0, cores[0], light, Some(scatter), longest_pause(true), theirs)
            });
            let heavy = scope.spawn(move || {
                shared.rounds(1, cores[1], flush, None, longest_pause(false), these)
            });
            [light, heavy].map(|side| side.join().expect("no panic"))
        });
        weak += missed[0].iter().zip(&missed[1]).filter(|(left, right)| **left && **right).count();
        rounds += PORTION;
    }
    println!("light against FlushProcessWriteBuffers: {weak} weak of {rounds}");
    assert_eq!(weak != 0, under_wine, "this Wine's call orders nothing, that of Windows does");
}
