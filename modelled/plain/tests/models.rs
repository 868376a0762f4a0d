#![cfg(loom)]
//! As its author wrote it: no word of asymfence.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use plain::Flag;

struct Shared {
    flag: Flag,
    value: UnsafeCell<u32>,
}

unsafe impl Sync for Shared {}

#[test]
fn nobody_is_inside_when_the_flag_says_so() {
    loom::model(|| {
        let shared = Arc::new(Shared { flag: Flag::new(), value: UnsafeCell::new(0) });
        let other = shared.clone();
        let reader = thread::spawn(move || {
            other.flag.unless_raised(|| other.value.with(|value| assert_eq!(unsafe { *value }, 0)));
        });
        if shared.flag.raise() {
            shared.value.with_mut(|value| unsafe { *value = 1 });
        }
        reader.join().unwrap();
    });
}
