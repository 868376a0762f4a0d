//! A bias that is revoked and restored: on real cores, by the clock, and where heavy fences fail.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use asymfence::{Bias, Strategy, force, stats};
use seccompiler::SeccompAction::Errno;
use seccompiler::apply_filter_all_threads;

use crate::child::{Child, ledger};
use crate::filter::{on_every_rung, on_protection_too};
use crate::is_asymmetric;
use crate::litmus::{Shared, longest_pause, scatter, two_cores};

const PAUSE: Duration = Duration::from_millis(1);

fn biased() -> Bias {
    let bias = Bias::new(PAUSE);
    assert!(bias.restore());
    bias
}

fn heavy_fences() -> usize {
    stats().heavy.asked
}

/// Scenario A, while a third thread revokes and restores the bias. Returns the weak rounds, and whether the frequent
/// side saw both states.
fn weak_rounds(rare: impl Fn(&Bias) + Sync) -> Option<(usize, [bool; 2])> {
    const ROUNDS: u64 = 20_000;
    let cores = ledger::on_two_cores(two_cores())?;
    let (mut scatter, shared, bias) = (scatter(), &Shared::default(), &biased());
    let (stop, seen) = (&AtomicBool::new(false), [const { AtomicBool::new(false) }; 2]);
    let (rare, seen) = (&rare, &seen);
    let weak = thread::scope(|scope| {
        scope.spawn(move || {
            while !stop.load(Relaxed) {
                bias.revoke();
                bias.restore();
                bias.restore();
                thread::yield_now();
            }
        });
        let scatter = &mut scatter;
        let frequent = scope.spawn(move || {
            let light = || seen[usize::from(bias.light_fence())].store(true, Relaxed);
            shared.rounds(0, cores[0], light, Some(scatter), longest_pause(true), 1..ROUNDS)
        });
        let rare = scope.spawn(move || {
            shared.rounds(1, cores[1], || rare(bias), None, longest_pause(false), 1..ROUNDS)
        });
        let missed = [frequent, rare].map(|side| side.join().expect("no panic"));
        stop.store(true, Relaxed);
        missed[0].iter().zip(&missed[1]).filter(|(left, right)| **left && **right).count()
    });
    Some((weak, seen.each_ref().map(|seen| seen.load(Relaxed))))
}

#[test]
fn a_pause_out_of_range_is_refused() {
    for pause in [Duration::ZERO, Duration::from_nanos(999), Duration::from_secs(31)] {
        assert!(std::panic::catch_unwind(|| Bias::new(pause)).is_err(), "{pause:?}");
    }
    for pause in [Duration::from_micros(1), Duration::from_secs(30)] {
        assert!(!Bias::new(pause).is_biased());
    }
}

#[test]
fn the_two_sides_do_not_miss_each_other_while_the_bias_goes_to_and_fro() {
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        if let Some((weak, seen)) = weak_rounds(|bias| bias.heavy_fence(|| Duration::ZERO)) {
            assert_eq!(weak, 0);
            assert_eq!(seen, [true; 2], "the bias did not go to and fro");
        }
    });
}

#[test]
fn a_full_fence_on_the_rare_side_is_not_enough() {
    Child::default().run(|| {
        if !is_asymmetric() || ledger::on_two_cores(two_cores()).is_none() {
            return;
        }
        let full = |_: &Bias| std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let weak = |_| weak_rounds(full).is_some_and(|(weak, _)| weak > 0);
        assert!((0..100).any(weak), "the test above has no teeth");
    });
}

#[test]
fn a_rare_side_that_is_rare_keeps_the_bias() {
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        let bias = biased();
        let before = heavy_fences();
        for pauses in 1..100 {
            bias.heavy_fence(|| PAUSE * pauses);
            assert!(bias.is_biased() && bias.light_fence());
        }
        assert_eq!(heavy_fences() - before, 99);
    });
}

/// Also at the time 0: a clock may begin when its program does.
#[test]
fn the_first_rare_side_keeps_the_bias_at_whatever_time() {
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        let bias = Bias::new(Duration::from_millis(10));
        bias.restore();
        bias.heavy_fence(|| Duration::ZERO);
        assert!(bias.is_biased());
        bias.heavy_fence(|| Duration::ZERO);
        assert!(!bias.is_biased(), "the second in a pause");
    });
}

/// However often the rare side comes and the bias is asked back. Time is simulated.
#[test]
fn no_more_than_two_heavy_fences_come_in_a_pause() {
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        for between in [1, 10, 100, 300, 700, 999, 1_000, 1_500, 3_000] {
            let bias = biased();
            let before = heavy_fences();
            let (mut now, pauses) = (Duration::from_secs(1), 200);
            let end = now + PAUSE * pauses;
            while now < end {
                now += Duration::from_micros(between);
                bias.heavy_fence(|| now);
                bias.restore_at(now);
                bias.restore_at(now + Duration::from_micros(between / 2));
            }
            let fences = heavy_fences() - before;
            assert!(fences <= 2 * pauses as usize + 2, "every {between} µs: {fences}");
            assert!(between < 1_000 || bias.is_biased(), "every {between} µs");
        }
    });
}

/// The caller stood still after it read the clock.
#[test]
fn a_time_that_has_passed_already_is_no_pause() {
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        let at = Duration::from_micros;
        let (bias, pause) = (biased(), PAUSE.as_micros() as u64);
        bias.revoke();
        bias.heavy_fence(|| at(5 * pause));
        assert!(!bias.restore_at(at(5 * pause + 1)));
        assert!(!bias.restore_at(at(5 * pause)));
        assert!(!bias.restore_at(at(6 * pause)));
        assert!(bias.restore_at(at(6 * pause + 1)), "the twin: a pause has passed");
        // The same of heavy fences: the last was a moment ago, so this one revokes.
        bias.heavy_fence(|| at(6 * pause));
        assert!(!bias.is_biased());
    });
}

#[test]
fn the_bias_returns_a_pause_after_the_last_rare_side_and_no_sooner() {
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        let bias = biased();
        bias.revoke();
        assert!(!bias.is_biased() && !bias.light_fence());
        let before = heavy_fences();
        bias.heavy_fence(|| unreachable!("nothing to tell the time for"));
        assert_eq!(heavy_fences(), before, "full fences on both sides");
        let start = Duration::from_secs(1);
        assert!(!bias.restore_at(start), "a rare side has come");
        assert!(!bias.restore_at(start + PAUSE - Duration::from_micros(1)));
        bias.heavy_fence(|| unreachable!("as above"));
        assert!(!bias.restore_at(start + PAUSE), "another has come");
        assert!(!bias.restore_at(start + PAUSE * 2 - Duration::from_micros(1)));
        assert!(bias.restore_at(start + PAUSE * 2));
        assert!(bias.light_fence());
        bias.heavy_fence(|| start + PAUSE * 3 - Duration::from_micros(1));
        assert!(!bias.is_biased(), "restoring was the first heavy fence of this pause");
    });
}

#[test]
fn a_symmetric_process_has_no_bias() {
    Child::default().run(|| {
        force(Strategy::Symmetric).expect("nothing was decided before");
        let bias = Bias::new(PAUSE);
        assert!(!bias.restore() && !bias.restore() && !bias.restore_at(PAUSE * 100));
        assert!(!bias.light_fence());
        bias.heavy_fence(|| unreachable!("nothing to tell the time for"));
        bias.revoke();
    });
}

#[test]
fn a_heavy_fence_that_fails_leaves_both_sides_right() {
    Child::default().run(|| {
        if !is_asymmetric() {
            return;
        }
        let (bias, other) = (biased(), Bias::new(PAUSE));
        let errno = Errno(nix::libc::EPERM as u32);
        apply_filter_all_threads(&on_every_rung(errno.clone())).expect("seccomp");
        apply_filter_all_threads(&on_protection_too(errno)).expect("seccomp");
        // One side is light, so the other side needs a heavy fence.
        assert!(bias.try_heavy_fence(|| PAUSE * 10).is_err() && bias.is_biased());
        assert!(bias.try_revoke().is_err() && !bias.is_biased());
        assert!(bias.try_heavy_fence(|| PAUSE * 20).is_err(), "light fences of before count");
        assert_eq!(bias.try_restore(), Ok(false));
        // Never biased: full fences, which do not fail.
        assert!(other.try_restore().is_err() && !other.is_biased());
        assert_eq!(other.try_heavy_fence(|| PAUSE), Ok(()));
    });
}
