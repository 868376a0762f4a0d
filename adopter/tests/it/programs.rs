//! What is run on the gate beside this file: by loom, within the bound of models.rs, or by threads.

#[cfg(loom)]
use loom::{sync::Arc, thread};
#[cfg(not(loom))]
use std::{sync::Arc, thread};

use super::gate::Gate;

/// A visitor that comes twice, and one that closes. How often the visitor got in.
pub(crate) fn visit_twice_and_close() -> usize {
    let gate = Arc::new(Gate::<_, 1>::new(7));
    let visits = {
        let gate = Arc::clone(&gate);
        thread::spawn(move || {
            let mut visitor = gate.visitor().expect("the only visitor");
            (0..2).filter(|_| visitor.enter().is_some_and(|inside| *inside == 7)).count()
        })
    };
    assert_eq!(gate.close(), Some(7));
    visits.join().expect("no panic")
}

/// Two visitors of whom the second may take the place of the first, and one that closes.
pub(crate) fn visit_in_turn_and_close() -> usize {
    let gate = Arc::new(Gate::<_, 1>::new(7));
    let visitors = [0, 1].map(|_| {
        let gate = Arc::clone(&gate);
        thread::spawn(move || {
            let visitor = gate.visitor();
            visitor.is_some_and(|mut visitor| visitor.enter().is_some_and(|inside| *inside == 7))
        })
    });
    assert_eq!(gate.close(), Some(7));
    let got_in = visitors.map(|visitor| visitor.join().expect("no panic"));
    got_in.into_iter().filter(|&got_in| got_in).count()
}

/// Two that close, of whom one takes the value, and a visitor. Whether the visitor got in.
pub(crate) fn close_twice() -> bool {
    let gate = Arc::new(Gate::<_, 1>::new(7));
    let visitor = {
        let gate = Arc::clone(&gate);
        thread::spawn(move || {
            let mut visitor = gate.visitor().expect("the only visitor");
            visitor.enter().is_some_and(|inside| *inside == 7)
        })
    };
    let other = {
        let gate = Arc::clone(&gate);
        thread::spawn(move || gate.close())
    };
    let taken = [gate.close(), other.join().expect("no panic")];
    assert!(matches!(taken, [Some(7), None] | [None, Some(7)]), "{taken:?}");
    visitor.join().expect("no panic")
}
