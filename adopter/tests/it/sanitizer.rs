//! Under ThreadSanitizer, with `--cfg asymfence_tsan`. It reports what happens, and not what might: so
//! both sides meet until it has happened.

use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

const MARK: &str = "ADOPTER_TEST_CHILD";
const GATES: usize = 20_000;

/// A visitor and one that closes come to each of the gates at the same time.
macro_rules! meet {
    ($twin:ident) => {{
        let gates: Vec<_> = (0..GATES).map(|_| crate::$twin::gate::Gate::<_, 1>::new(7)).collect();
        let arrived = [const { AtomicUsize::new(0) }; 2];
        // Relaxed: nothing is handed over here, or the sanitizer would see an order where there is none.
        let meet = |side: usize, round| {
            arrived[side].store(round, Relaxed);
            while arrived[1 - side].load(Relaxed) < round {
                thread::yield_now();
            }
        };
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let stay = |side: usize| cores.get(side).is_none_or(|&core| core_affinity::set_for_current(core));
        let visits = thread::scope(|scope| {
            let visits = scope.spawn(|| {
                stay(0);
                let mut visits = 0;
                for (round, gate) in gates.iter().enumerate() {
                    let mut visitor = gate.visitor().expect("the only visitor");
                    meet(0, round + 1);
                    visits += usize::from(visitor.enter().is_some_and(|inside| *inside == 7));
                }
                visits
            });
            scope.spawn(|| {
                stay(1);
                for (round, gate) in gates.iter().enumerate() {
                    meet(1, round + 1);
                    assert_eq!(gate.close(), Some(7));
                }
            });
            visits.join().expect("no panic")
        });
        println!("{visits} of {GATES} got in");
    }};
}

#[test]
fn the_gate_is_followed() {
    meet!(original);
}

#[test]
fn a_missing_light_fence_is_reported() {
    if std::env::var_os(MARK).is_some() {
        return meet!(no_light_fence);
    }
    let this = std::env::current_exe().expect("the test's binary");
    let test = "sanitizer::a_missing_light_fence_is_reported";
    let child = Command::new(this).args(["--exact", test]).env(MARK, "").env("TSAN_OPTIONS", "halt_on_error=1").output();
    let child = child.expect("the child runs");
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("ThreadSanitizer: data race"), "{child:?}");
}
