//! Many domains.

use std::cell::Cell;
use std::sync::LazyLock;

use asymfence_hazard::__private::Local;
use asymfence_hazard::{Domain, Family, HazardPointer};

use crate::BY_NUMBERS;
use crate::child::ledger;

const DOMAINS: usize = 1_000;

/// Stands for `DOMAINS` families, since each real family would have to be compiled.
enum Many {}

static ALL: LazyLock<Vec<Domain<Many>>> = LazyLock::new(|| {
    // SAFETY: see below.
    (0..DOMAINS).map(|_| unsafe { Domain::__new(BY_NUMBERS) }).collect()
});

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    // Not in place: glibc takes the thread-locals of a thread from its stack.
    static LOCALS: Vec<Local> = (0..DOMAINS).map(|_| Local::new()).collect();
}

// SAFETY: none in general. Here one thread uses one domain after the other, and keeps no hazard pointer when it goes on.
unsafe impl Family for Many {
    fn domain() -> &'static Domain<Self> {
        &ALL[NUMBER.get()]
    }

    fn with_local<R>(work: impl FnOnce(&Local) -> R) -> Option<R> {
        LOCALS.with(|locals| cfg!(feature = "std").then(|| work(&locals[NUMBER.get()])))
    }

    fn begin() -> bool {
        cfg!(feature = "std")
    }
}

/// For each domain.
fn each(mut work: impl FnMut(&Domain<Many>)) {
    for number in 0..DOMAINS {
        NUMBER.set(number);
        work(Many::domain());
    }
}

#[test]
fn each_of_a_thousand_domains_keeps_its_own_bound() {
    if ledger::is_too_long() {
        return;
    }
    const OBJECTS: usize = 6_000;
    let mut all = 0;
    each(|domain| {
        drop(HazardPointer::<Many>::new());
        for _ in 0..OBJECTS {
            domain.retire_box(Box::new(1_u64));
        }
        let stats = domain.stats();
        assert_eq!(stats.retired, OBJECTS);
        let waiting = stats.waiting();
        assert!(waiting <= 4 * 1_024 + stats.hazard_pointers, "{stats:?}");
        all += waiting;
    });
    // The twin: what one reclaims is its own.
    assert_ne!(all, 0);
    each(|domain| {
        let waiting = domain.stats().waiting();
        assert_eq!(domain.reclaim_all().expect("a heavy fence").freed, waiting);
        all -= waiting;
    });
    assert_eq!(all, 0);
    assert!(size_of::<Domain<Many>>() <= 1_024, "{}", size_of::<Domain<Many>>());
}
