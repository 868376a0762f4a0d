//! A reader and a writer of one place.

use std::thread;

use asymfence_hazard::{AtomicBox, Domain, HazardPointer};

fn main() {
    asymfence::init(); // before there are threads
    let routes: AtomicBox<Vec<&str>> = AtomicBox::from(Box::new(vec!["first"]));

    thread::scope(|scope| {
        scope.spawn(|| {
            let mut hazard = HazardPointer::new(); // once: to take one costs more than to protect
            for _ in 0..1_000_000 {
                let routes = hazard.protect(&routes).expect("there is always a table");
                assert!(!routes.is_empty()); // what is protected is not freed
            }
        });
        for _ in 0..100_000 {
            // Replaces the table and retires the old one. A later `store` frees it, after a heavy fence that serves
            // many, unless a hazard pointer protects it.
            routes.store(Box::new(vec!["second", "third"]));
        }
    });

    let stats = Domain::global().stats();
    println!("{} retired, {} of them freed", stats.retired, stats.freed);
    let rest = Domain::global().reclaim_all().expect("a heavy fence");
    println!("{} freed now, {} kept", rest.freed, rest.kept);
}
