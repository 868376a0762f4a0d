//! Calls that run code of others, which may lead to the same call again. Two files include this one, as they do
//! `waiting.rs`.

use std::cell::Cell;
use std::ptr;

use super::{is_cut_short, thread_local};

/// A call of [`outermost`] that is under way in this thread, for `structure`, and the call around it. The frames lie on
/// the thread's stack.
struct Frame {
    structure: *const (),
    around: *const Frame,
}

thread_local! {
    #[allow(clippy::missing_const_for_thread_local, reason = "loom's macro takes no const block")]
    static INNERMOST: Cell<*const Frame> = Cell::new(ptr::null());
}

struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        // True only while a model fails.
        if is_cut_short() {
            return;
        }
        // SAFETY: the innermost frame belongs to the call that leaves, and still exists.
        INNERMOST.with(|innermost| innermost.set(unsafe { (*innermost.get()).around }));
    }
}

/// Does `work`, unless this thread is doing such work for the same structure already: then the code of others led here,
/// and the stack must not grow with what it does.
pub(crate) fn outermost<T>(structure: &T, work: impl FnOnce()) {
    let structure = ptr::from_ref(structure).cast();
    let around = INNERMOST.with(Cell::get);
    let mut next = around;
    // SAFETY: a frame is on the stack of this thread until its `Leave` has taken it out.
    while let Some(frame) = unsafe { next.as_ref() } {
        if ptr::eq(frame.structure, structure) {
            return;
        }
        next = frame.around;
    }
    let frame = Frame { structure, around };
    INNERMOST.with(|innermost| innermost.set(&raw const frame));
    let _leave = Leave;
    work();
}
