//! The fences as ThreadSanitizer follows them (`--cfg asymfence_tsan`).
//!
//! The sanitizer follows atomic accesses and knows no fences: what is ordered by a fence alone it takes
//! for a race. So each fence also modifies one location, and the second thread to come there knows what
//! the first one knew. That is a total order of all fences, more than the contract has: a program in
//! which one heavy fence is a light one by mistake passes, and is for loom to find. A program that
//! lacks a fence is reported.

use core::sync::atomic::{AtomicUsize, Ordering};

/// Modified by every fence. Wraps.
static PASSED: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn fence(order: Ordering) {
    // The program's own full fences pair with this one, in the processor if not for the sanitizer.
    core::sync::atomic::fence(order);
    // AcqRel: hands on what this thread knows, and learns what those knew that came before. Pairs with:
    // itself, in every other fence.
    PASSED.fetch_add(1, Ordering::AcqRel);
}
