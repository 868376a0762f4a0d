#![cfg(lock_loom)]

use loom::model::Builder;
use loom::sync::Arc;
use own_cfg::Slot;

#[test]
fn one_of_two_at_most_has_the_slot() {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let slot = Arc::new(Slot::new());
        let theirs = slot.clone();
        let owner = loom::thread::spawn(move || theirs.take_as_owner());
        let other = slot.take();
        assert!(!(owner.join().unwrap() && other), "both have it");
    });
}
