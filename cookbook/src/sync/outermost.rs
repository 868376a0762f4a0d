//! Calls that run code of others, which may lead to the same call again. Two files include this one, as they do
//! `waiting.rs`.

use std::cell::Cell;
use std::ptr;

use super::{is_cut_short, thread_local};

/// How many calls of [`outermost`] nest, each for another structure.
const DEPTH: usize = 16;

thread_local! {
    /// The structures of the calls that are under way in this thread. No pointer leads to a call's stack: the stack of
    /// a coroutine may be freed before an outer call has ended, so calls end in any order.
    #[allow(clippy::missing_const_for_thread_local, reason = "loom's macro takes no const block")]
    static INSIDE: [Cell<*const ()>; DEPTH] = std::array::from_fn(|_| Cell::new(ptr::null()));
}

struct Leave(usize);

impl Drop for Leave {
    fn drop(&mut self) {
        // True only while a model fails.
        if is_cut_short() {
            return;
        }
        INSIDE.with(|inside| inside[self.0].set(ptr::null()));
    }
}

/// Does `work`, unless this thread is doing such work for the same structure already: then the code of others led here,
/// and the stack must not grow with what it does. It does not do `work` either if [`DEPTH`] calls are under way in this
/// thread.
pub(crate) fn outermost<T>(structure: &T, work: impl FnOnce()) {
    let structure = ptr::from_ref(structure).cast();
    let enter = |inside: &[Cell<*const ()>; DEPTH]| {
        if inside.iter().any(|of| ptr::eq(of.get(), structure)) {
            return None;
        }
        let at = inside.iter().position(|of| of.get().is_null())?;
        inside[at].set(structure);
        Some(at)
    };
    let Some(at) = INSIDE.with(enter) else { return };
    let _leave = Leave(at);
    work();
}
