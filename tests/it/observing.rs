//! strace shows the fences as docs/observing.md says, and the kernel's count of calls is that of `stats`.

use std::thread;

use asymfence::{heavy_fence, init, stats};

use crate::child::Child;

const PAGE: &str = include_str!("../../docs/observing.md");

/// The calls of membarrier in a log of strace, each from its command to the end of the line.
fn calls(log: &str) -> Vec<&str> {
    let begins = log.lines().filter_map(|line| line.split_once("membarrier("));
    // At most a thread's number precedes it. (The page also names membarrier(2).)
    let is_number = |text: &str| text.chars().all(|c| c.is_numeric() || c == ' ');
    let is_call = |&(thread, call): &(&str, &str)| is_number(thread) && !call.starts_with("2)");
    begins.filter(is_call).map(|(_, call)| call).collect()
}

/// A call without what it answered.
fn asked(call: &str) -> &str {
    call.split(") ").next().unwrap_or_default()
}

#[test]
fn strace_shows_the_decision_and_each_heavy_fence_as_the_page_says() {
    let Some((child, log)) = Child::traced() else { return };
    child.run(|| {
        init();
        heavy_fence();
    });
    let log = log.read();
    let seen: Vec<&str> = calls(&log).into_iter().map(asked).collect();
    // The decision's block, and the line of one heavy fence.
    let shown: Vec<&str> = calls(PAGE).into_iter().map(asked).take(7).collect();
    assert_eq!(shown.len(), seen.len(), "{log}");
    for (shown, seen) in shown.into_iter().zip(seen) {
        // How strace prints what it does not know differs between its versions.
        if !shown.contains("???") {
            assert_eq!(shown, seen, "{log}");
        }
    }
}

#[test]
fn the_kernel_counts_the_calls_that_stats_counts() {
    const HEAVY: usize = 100;
    let Some((child, log)) = Child::traced() else { return };
    let outcome = child.outcome(|| {
        init();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..HEAVY).for_each(|_| heavy_fence()));
            }
        });
        println!("stats: {} {} {}", stats().heavy.calls, stats().heavy.shared, stats().retries);
    });
    assert!(outcome.succeeded(), "{outcome:?}");
    let counts =
        outcome.output().lines().find_map(|line| line.split_once("stats: ")).expect("a line");
    let counts: Vec<usize> = counts.1.split(' ').map(|count| count.parse().unwrap()).collect();
    let [made, shared, retries] = counts[..] else { panic!("{counts:?}") };
    assert_eq!(made + shared, 3 * HEAVY);
    let log = log.read();
    assert_eq!(calls(&log).len(), made + retries + 6, "{log}");
    // One that another thread's line interrupts ends in ` <unfinished ...>`.
    let fences = ["MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0)", "MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0 <"];
    let is_fence = |call: &&str| fences.iter().any(|fence| call.starts_with(fence));
    assert_eq!(calls(&log).into_iter().filter(is_fence).count(), made + retries + 1);
}

/// The first repetition of a call counts too.
#[test]
fn a_call_that_is_made_again_is_counted_as_such() {
    let Some((child, log)) = Child::traced() else { return };
    child.injected_too("error=ENOMEM:when=7..8").run(|| {
        init();
        heavy_fence();
        assert_eq!((stats().heavy.calls, stats().retries), (1, 2));
    });
    let log = log.read();
    assert_eq!(calls(&log).len(), 1 + 2 + 6, "{log}");
}

/// The page's last lines. How the process ends depends on whether another rung can stand in.
#[test]
fn a_lost_registration_is_seen_as_the_page_says() {
    let Some((child, log)) = Child::traced() else { return };
    child.injected_too("error=EPERM:when=7+").outcome(|| {
        init();
        heavy_fence();
    });
    let log = log.read();
    let shown = calls(PAGE).into_iter().skip(7).map(asked);
    let seen = calls(&log).into_iter().skip(6).map(asked);
    assert_eq!(shown.collect::<Vec<_>>(), seen.collect::<Vec<_>>(), "{log}");
}
