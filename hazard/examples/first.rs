//! A reader and a writer of one place.

use std::thread;

use asymfence_hazard::{AtomicBox, HazardPointer};

static ROUTES: AtomicBox<Vec<&'static str>> = AtomicBox::null();

fn main() {
    asymfence::init(); // before there are threads
    ROUTES.store(Box::new(vec!["first"]));

    let reader = thread::spawn(|| {
        let mut hazard = HazardPointer::new(); // once: to take one costs more than to protect
        for _ in 0..100_000 {
            let routes = hazard.protect(&ROUTES).expect("there is always a table");
            assert!(!routes.is_empty()); // what is protected is not freed
        }
    });
    for _ in 0..1_000 {
        // Replaces the table and retires the old one. It is freed when no hazard pointer protects it.
        ROUTES.store(Box::new(vec!["second", "third"]));
    }
    reader.join().unwrap();
}
