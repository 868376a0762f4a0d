//! A system that does not tell the time, as a filter on clock_gettime(2) where no vdso serves it: std panics. Nothing
//! here may become unsound by that.
#![cfg(all(target_os = "linux", target_pointer_width = "64", not(feature = "loom"), not(miri)))]

use std::cell::Cell;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

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
// SAFETY: as the C library's, whose time is as good as any other.
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
fn a_writer_that_cannot_tell_the_time_leaves_the_bias_on() {
    asymfence::init();
    let lock = BiasedRwLock::new(0);
    let mut reader = lock.reader();
    let section = reader.read();
    // The twin: it is in by its slot, which only a writer that finds the bias on looks at.
    assert!(lock.is_biased());

    REFUSES.set(true);
    let written = catch_unwind(AssertUnwindSafe(|| drop(lock.write())));
    REFUSES.set(false);
    written.expect_err("std panics");

    assert!(lock.is_biased());
    assert!(lock.try_write().is_none(), "beside a reader");
    drop(section);
    assert!(lock.try_write().is_some());
}
