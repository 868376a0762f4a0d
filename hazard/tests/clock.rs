//! Where a filter refuses clock_gettime(2), and no vdso serves it, the clock of std panics. So nothing asks that clock.
#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    feature = "std",
    not(any(feature = "loom", miri))
))]

use std::ffi::c_int;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use asymfence_hazard::{AtomicBox, Family, Thresholds, domain};

domain! { enum Timed {} }
domain! { enum ByNumbers {} = Thresholds { pause: None, ..Thresholds::DEFAULT }; }

#[repr(C)]
struct Timespec([i64; 2]);

/// In place of the C library's, which std calls. It refuses every thread that has a name, except `main`, which is the
/// thread of the test's harness.
///
/// # Safety
///
/// `time` may be written.
// SAFETY: it has the contract of the C library's function. No caller may rely on which time it is.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(_clock: c_int, time: *mut Timespec) -> c_int {
    static CALLS: AtomicI64 = AtomicI64::new(0);
    let name = thread::current().name().map(|name| name == "main");
    if !name.unwrap_or(true) {
        return -1;
    }
    // SAFETY: the contract of this function.
    unsafe { time.write(Timespec([0, CALLS.fetch_add(1, Relaxed)])) };
    0
}

fn is_freed_in_background<F: Family>() {
    static DROPPED: AtomicI64 = AtomicI64::new(0);
    struct Dies;
    impl Drop for Dies {
        fn drop(&mut self) {
            assert_eq!(thread::current().name(), Some("asymfence-hazard"));
            DROPPED.fetch_add(1, Relaxed);
        }
    }
    F::domain().reclaim_in_background().expect("a thread");
    let place = AtomicBox::<Dies, F>::null();
    // Between two rounds the reclaimer sleeps, sooner or later.
    for round in 1..=100 {
        place.store(Box::new(Dies));
        drop(place.take());
        while F::domain().stats().waiting() != 0 {
            thread::yield_now();
        }
        assert_eq!(DROPPED.load(Relaxed) % 100, round % 100);
    }
}

#[test]
fn a_background_reclaimer_does_not_ask_the_clock_of_std() {
    let test = || {
        asymfence::init();
        is_freed_in_background::<ByNumbers>();
        is_freed_in_background::<Timed>();
        // The twin. (In `park_timeout` of std this panic ends the process.)
        catch_unwind(Instant::now).expect_err("std panics");
    };
    thread::Builder::new()
        .name("test".to_owned())
        .spawn(test)
        .expect("a thread")
        .join()
        .expect("no panic");
}
