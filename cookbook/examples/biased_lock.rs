//! A table of routes. Workers look routes up all the time, and an operator sometimes changes the table in place.
//!
//! `cargo run --release -p asymfence-cookbook --example biased_lock`

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use asymfence_cookbook::biased_lock::{BiasedRwLock, ReadGuard};

const WORKERS: usize = 3;
const CHANGES: u64 = 40;
const HOSTS: u64 = 64;

/// The server of each host. At any time all hosts have servers of the same generation.
struct Routes {
    generation: u64,
    servers: BTreeMap<u64, u64>,
}

fn main() {
    println!("fences: {}", asymfence::init());

    let servers = (0..HOSTS).map(|host| (host, 0)).collect();
    let routes = BiasedRwLock::new(Routes { generation: 0, servers });
    let closing = AtomicBool::new(false);
    let work = || {
        let (mut routes, mut lookups, mut by_slot) = (routes.reader(), 0_u64, 0_u64);
        while !closing.load(Relaxed) {
            let routes = routes.read();
            let server = routes.servers[&(lookups % HOSTS)];
            assert_eq!(server, routes.generation, "a change is seen as a whole");
            lookups += 1;
            by_slot += u64::from(ReadGuard::is_biased(&routes));
        }
        (lookups, by_slot)
    };
    let done = thread::scope(|scope| {
        let workers = [(); WORKERS].map(|()| scope.spawn(work));
        for _ in 0..CHANGES {
            thread::sleep(Duration::from_millis(20));
            let mut routes = routes.write();
            routes.generation += 1;
            let generation = routes.generation;
            routes.servers.values_mut().for_each(|server| *server = generation);
        }
        closing.store(true, Relaxed);
        workers.map(|worker| worker.join().expect("no panic"))
    });

    for (worker, (lookups, by_slot)) in done.iter().enumerate() {
        println!("worker {worker}: {lookups} lookups, {by_slot} of them by its slot");
    }
    let heavy = asymfence::stats().heavy.asked;
    println!("{CHANGES} changes, {heavy} heavy fences");
    assert_eq!(routes.reader().read().generation, CHANGES);
}
