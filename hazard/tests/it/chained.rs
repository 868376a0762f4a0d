//! A list whose destructors retire the rest of it, and reclaim.

use std::thread;

use asymfence_hazard::Reclaimed;

/// The call that retires the list, and the call that reclaims what was retired by it.
pub(crate) type Calls = (fn(Box<Chain>), fn() -> Reclaimed);

pub(crate) struct Chain(Option<Box<Chain>>, Calls);

pub(crate) const LENGTH: usize = 10_001;

impl Drop for Chain {
    fn drop(&mut self) {
        if let (Some(next), (retire, reclaim)) = (self.0.take(), self.1) {
            retire(next);
            let done = reclaim();
            if cfg!(feature = "std") {
                assert_eq!(done.freed, 0, "left to the reclaim around");
            }
        }
    }
}

/// Retires a list and reclaims it. Without `std` a part may be left.
pub(crate) fn retire_and_reclaim((retire, reclaim): Calls) {
    let mut first = Box::new(Chain(None, (retire, reclaim)));
    for _ in 1..LENGTH {
        first = Box::new(Chain(Some(first), (retire, reclaim)));
    }
    retire(first);
    let done = reclaim();
    if cfg!(feature = "std") {
        assert_eq!((done.freed, done.kept), (LENGTH, 0), "what the destructors asked for, too");
    }
}

/// Calls that nest do not fit on the stack of this thread.
pub(crate) fn on_a_small_stack(work: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let small = thread::Builder::new().stack_size(64 * 1024);
        small.spawn_scoped(scope, work).expect("a thread").join().expect("no panic");
    });
}
