//! Under ThreadSanitizer, with `--cfg asymfence_tsan`. It reports what happens, and not what might: so the
//! stores of these twins are late whenever no fence forbids it.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

const MARK: &str = "ADOPTER_TEST_CHILD";

/// Closes the gate while a visitor is inside. `$may_leave` says when the visitor leaves: at once, or only after the
/// value was taken.
macro_rules! close_during_a_visit {
    ($twin:ident, $may_leave:expr) => {{
        let gate = crate::$twin::gate::Gate::<_, 1>::new(7);
        let [inside, taken] = [const { AtomicBool::new(false) }; 2];
        // Relaxed: these hand nothing over, or the sanitizer would see an order where there is none.
        let wait = |flag: &AtomicBool| {
            while !flag.load(Relaxed) {
                thread::yield_now();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut visitor = gate.visitor().expect("the only visitor");
                let visit = visitor.enter().expect("an open gate");
                assert_eq!(*visit, 7);
                inside.store(true, Relaxed);
                if $may_leave == MayLeave::OnceItIsTaken {
                    wait(&taken);
                }
            });
            wait(&inside);
            assert_eq!(gate.close(), Some(7));
            taken.store(true, Relaxed);
        });
    }};
}

#[derive(PartialEq)]
enum MayLeave {
    AtOnce,
    OnceItIsTaken,
}

#[test]
fn the_gate_is_followed() {
    close_during_a_visit!(original, MayLeave::AtOnce);
    close_during_a_visit!(buffered_stores, MayLeave::AtOnce);
}

#[test]
fn a_missing_light_fence_is_reported() {
    if std::env::var_os(MARK).is_some() {
        // It would wait for ever with the fence.
        return close_during_a_visit!(buffered_stores_and_no_light_fence, MayLeave::OnceItIsTaken);
    }
    let this = std::env::current_exe().expect("the test's binary");
    let test = "sanitizer::a_missing_light_fence_is_reported";
    let child = Command::new(this).args(["--exact", test]).env(MARK, "").output();
    let child = child.expect("the child runs");
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("ThreadSanitizer: data race"), "{child:?}");
}
