//! Where a filter refuses clock_gettime(2), and no vdso serves it, the clock of std panics. So nothing asks that clock,
//! but for a sleep with a deadline, whose panic must not make anything unsound.
#![cfg(all(target_os = "linux", target_pointer_width = "64", not(feature = "loom"), not(miri)))]

use std::cell::Cell;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use asymfence_cookbook::biased_lock::BiasedRwLock;

// Of a thread: the test's harness asks too.
thread_local!(static REFUSES: Cell<bool> = const { Cell::new(false) });

#[repr(C)]
struct Timespec([i64; 2]);

/// In place of the C library's, which std calls.
///
/// # Safety
///
/// `time` may be written.
// SAFETY: it has the contract of the C library's function. No caller may rely on which time it is.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(_clock: c_int, time: *mut Timespec) -> c_int {
    static CALLS: AtomicI64 = AtomicI64::new(0);
    if REFUSES.get() {
        return -1;
    }
    // SAFETY: the contract of this function.
    unsafe { time.write(Timespec([0, CALLS.fetch_add(1, Relaxed)])) };
    0
}

#[test]
fn a_lock_does_not_ask_the_clock_of_std_and_is_biased_after_a_panic_of_a_writer() {
    asymfence::init();
    let lock = BiasedRwLock::new(0);
    let mut reader = lock.reader();
    let section = reader.read();
    assert!(lock.is_biased());

    // The twin: to sleep, std asks its clock.
    let writes = || drop(lock.write_timeout(Duration::from_secs(10)));
    REFUSES.set(true);
    catch_unwind(AssertUnwindSafe(writes)).expect_err("std panics");

    // The reader is in by its slot. Only a writer that finds the lock biased looks at the slots.
    assert!(lock.is_biased());
    assert!(lock.try_write().is_none(), "beside a reader");
    drop(section);
    drop(lock.write());
}
