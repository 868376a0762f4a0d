//! The litmus tables.
use loom_tests::litmus::{outcomes, table};
use loom_tests::oracle::{self, Loads};

#[test]
fn probe() {
    for row in table(include_str!("../../data/pairs.csv")) {
        let t = std::time::Instant::now();
        let (found, n) = outcomes(&row.program);
        let d = t.elapsed();
        let t = std::time::Instant::now();
        let judged = oracle::outcomes(&row.program, Loads::InOrder);
        let delayed = oracle::outcomes(&row.program, Loads::Delayed);
        println!("{} loom {} oracle {}/{} csv {} same {} n {n} {d:?} {:?}", row.name, row.is_weak_in(&found), row.is_weak_in(&judged), row.is_weak_in(&delayed), row.allowed, found == judged, t.elapsed());
    }
}
