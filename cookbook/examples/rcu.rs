//! A routing table that workers look up and a control thread replaces.
//!
//! `cargo run --release --package asymfence-cookbook --example rcu`

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use asymfence_cookbook::rcu::Rcu;

const WORKERS: usize = 2;
const VERSIONS: usize = 200;

/// Where packets go, the longest prefix first.
struct Table {
    version: usize,
    routes: Vec<Route>,
}

struct Route {
    network: u32,
    mask: u32,
    /// The version of the table, and the number of the line.
    next_hop: (usize, usize),
}

impl Table {
    fn new() -> Self {
        Table { version: 0, routes: Vec::new() }
    }

    /// Every table has a default line, lines `10.x.0.0/16` for some x, and `10.0.0.0/8`.
    fn fill(&mut self, version: usize) {
        self.version = version;
        self.routes.clear();
        let sixteens =
            (0..30).map(|i| (u32::from(Ipv4Addr::new(10, (version % 200) as u8 + i, 0, 0)), 16));
        let others = [(u32::from(Ipv4Addr::new(10, 0, 0, 0)), 8), (0, 0)];
        for (network, bits) in sixteens.chain(others) {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            self.routes.push(Route { network, mask, next_hop: (version, self.routes.len()) });
        }
    }

    fn next_hop(&self, to: u32) -> (usize, usize) {
        let matches = |route: &&Route| to & route.mask == route.network;
        self.routes.iter().find(matches).expect("a line for everything").next_hop
    }
}

fn main() {
    println!("fences: {}", asymfence::init());
    let mut first = Table::new();
    first.fill(0);
    let table = Rcu::new(first);
    let stop = AtomicBool::new(false);

    let (lookups, seen) = thread::scope(|scope| {
        let worker = || {
            let reader = table.reader();
            let (mut lookups, mut seen, mut last) = (0_u64, 0_u64, None);
            while !stop.load(Relaxed) {
                let table = reader.read();
                let (version, line) = table.next_hop(fastrand::u32(..));
                assert_eq!(version, table.version, "a table is seen as a whole");
                assert!(line < table.routes.len());
                assert!(last <= Some(version), "and never an older one after it");
                seen += u64::from(last.replace(version) != Some(version));
                lookups += 1;
            }
            (lookups, seen)
        };
        let workers: [_; WORKERS] = std::array::from_fn(|_| scope.spawn(worker));

        // No reader has the replaced table any more: the control thread fills it again.
        let mut spare = Box::new(Table::new());
        for version in 1..=VERSIONS {
            spare.fill(version);
            spare = table.replace(spare);
            assert_eq!(spare.version, version - 1);
            thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Relaxed);
        let counts = workers.map(|worker| worker.join().expect("no panic"));
        counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    });
    println!("{VERSIONS} tables in two boxes, {lookups} lookups by {WORKERS} workers");
    println!("{seen} times a worker met a table that was new to it");
    println!("heavy fences: {}", asymfence::stats().heavy.asked);
    assert!(lookups > 0 && seen > 0);
    assert_eq!(table.reader().read().version, VERSIONS);
}
