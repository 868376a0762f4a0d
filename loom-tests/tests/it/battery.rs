//! The litmus tables, in the model and in the oracle.
//!
//! `data/pairs.csv`: the two-thread shapes SB, MP, R, S, 2+2W and the three-thread 3.SB. `data/shapes.csv`:
//! LB, WRC, RWC, IRIW, ISA2, W+RWC, Z6.2, Z6.3, as `examples/derive.rs` printed them. Each shape with
//! every placement of light, full and heavy fences.

use asymfence::model::Start;
use loom_tests::litmus::{Fence, Outcome, Program, Row, Step, explore, program, tables};
use loom_tests::oracle::{Threads, outcomes};
use loom_tests::{deep, quick};

/// The rows of the tables. In a quick run every fourth of those with three or four threads.
fn rows() -> impl Iterator<Item = Row> {
    let all = tables().into_iter().enumerate();
    all.filter(|(nth, row)| !quick() || row.program.threads.len() == 2 || nth % 4 == 0)
        .map(|(_, row)| row)
}

#[test]
fn every_verdict_of_the_tables_is_the_judges() {
    for row in rows() {
        let judged = |threads| row.is_weak_in(&outcomes(&row.program, threads));
        assert_eq!(judged(Threads::OutOfOrder), row.allowed, "{}", row.name);
        assert_eq!(judged(Threads::InOrder), row.shown, "{}", row.name);
    }
}

/// The model shows exactly the outcomes that the contract allows if each thread is executed in order, as loom does. All
/// outcomes are compared, not only the weak one.
#[track_caller]
fn the_model_is_exact_on(shape: &str) {
    let shape = format!("{shape} ");
    let rows: Vec<Row> = rows().filter(|row| row.name.starts_with(&shape)).collect();
    assert!(!rows.is_empty());
    let mut executions = 0;
    for row in rows {
        // Two preemptions were found to be enough for every outcome of these tables. Four threads
        // without a bound take hours.
        let preemptions = match row.program.threads.len() {
            _ if !deep() => Some(2),
            4 => Some(3),
            _ => None,
        };
        let found = explore(&row.program, Start::Asymmetric, preemptions);
        assert_eq!(row.is_weak_in(&found.outcomes), row.shown, "{}", row.name);
        assert_eq!(found.outcomes, outcomes(&row.program, Threads::InOrder), "{}", row.name);
        executions += found.executions;
    }
    println!("{shape}: {executions} executions");
}

macro_rules! the_model_is_exact_on {
    ($($test:ident $shape:literal,)*) => {$(
        #[test]
        fn $test() {
            the_model_is_exact_on($shape);
        }
    )*};
}

the_model_is_exact_on! {
    the_model_is_exact_on_store_buffering "SB",
    the_model_is_exact_on_message_passing "MP",
    the_model_is_exact_on_r "R",
    the_model_is_exact_on_s "S",
    the_model_is_exact_on_2_2w "2+2W",
    the_model_is_exact_on_three_store_buffers "3.SB",
    the_model_is_exact_on_load_buffering "LB",
    the_model_is_exact_on_wrc "WRC",
    the_model_is_exact_on_rwc "RWC",
    the_model_is_exact_on_iriw "IRIW",
    the_model_is_exact_on_isa2 "ISA2",
    the_model_is_exact_on_w_rwc "W+RWC",
    the_model_is_exact_on_z6_2 "Z6.2",
    the_model_is_exact_on_z6_3 "Z6.3",
}

/// The order of the threads makes no difference to a program, but it changes the order in which heavy fences visit
/// the threads. A model is easily too strong where one heavy fence reaches two light ones.
#[test]
fn the_model_is_exact_in_every_order_of_the_threads() {
    const ORDERS: [[usize; 3]; 5] = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let is_chosen = |row: &Row| {
        let (_, fences) = row.name.split_once(' ').expect("a shape and its fences");
        row.program.threads.len() == 3 && (deep() || ["LLH", "LHL", "HLL"].contains(&fences))
    };
    let mut executions = 0;
    for row in rows().filter(is_chosen) {
        for order in ORDERS {
            let mut program = row.program.clone();
            program.threads = order.map(|thread| row.program.threads[thread].clone()).into();
            let found = explore(&program, Start::Asymmetric, Some(2));
            let judged = outcomes(&program, Threads::InOrder);
            assert_eq!(found.outcomes, judged, "{} as {order:?}", row.name);
            executions += found.executions;
        }
    }
    println!("every order of the threads: {executions} executions");
}

/// All loads miss if the heavy fence reaches thread 1 after its light fence, and threads 0 and 2 before theirs, and
/// does not hand thread 1's store on to them. In either order of visiting it visits thread 0 or thread 2 after thread
/// 1.
#[test]
fn a_heavy_fence_does_not_hand_on_what_it_meets() {
    let program = program("z=1;F0;r3=x | x=1;F1;r0=y | w=1;F2;r4=x | y=1;F3;r1=z;r2=w", "LLLH");
    let is_weak = |outcome: &Outcome| outcome[..program.registers].iter().all(|&seen| seen == 0);
    assert!(outcomes(&program, Threads::InOrder).iter().any(is_weak));
    assert!(explore(&program, Start::Asymmetric, Some(2)).outcomes.iter().any(is_weak));
}

/// Other crates model both fences as `fence(SeqCst)`, which is a symmetric process. It shows none of the outcomes
/// that only the light fence allows.
#[test]
fn the_seqcst_mapping_orders_all_nine_pairs() {
    for row in tables().into_iter().filter(|row| row.name.starts_with("SB ")) {
        let found = explore(&row.program, Start::Symmetric, None);
        assert!(!row.is_weak_in(&found.outcomes), "{}", row.name);
    }
}

/// A thread without a light fence: the compiler may move its accesses across the full fence that the heavy one
/// makes it execute. The oracle executes that fence between two accesses, so it forbids what the model shows.
#[test]
fn a_heavy_fence_orders_nothing_in_a_thread_without_a_light_fence() {
    let program = program("x=1;r0=y | F0;y=1;F1;r1=x", "LH");
    let is_weak = |outcome: &Outcome| outcome[..program.registers].iter().all(|&seen| seen == 0);
    assert!(!outcomes(&program, Threads::InOrder).iter().any(is_weak));
    assert!(explore(&program, Start::Asymmetric, None).outcomes.iter().any(is_weak));
}

/// So a structure may have a fence in each operation: there is more to explore only where fences of two threads meet.
#[test]
fn a_fence_that_meets_nobody_adds_no_execution() {
    let executions =
        |text, fences| explore(&program(text, fences), Start::Asymmetric, None).executions;
    let without = executions("x=1;r0=y | y=1;r1=x", "");
    assert_eq!(executions("x=1;F0;r0=y | y=1;F1;r1=x", "LL"), without);
    assert_eq!(executions("x=1;F0;r0=y | y=1;F1;r1=x;F2", "LLL"), without);
    assert_eq!(executions("F0;x=1;r0=y | y=1;r1=x", "H"), without);
}

#[test]
fn the_judge_knows_read_modify_writes() {
    // Two that add see each other: one of them reads the other's sum.
    let both = program("r0=x+1 | r1=x+1", "");
    let found = outcomes(&both, Threads::OutOfOrder);
    assert_eq!(found, [vec![0, 1, 2], vec![1, 0, 2]].into());
    // Message passing through a chain: a thread without a fence passes the flag on.
    let chain = |fences| program("x=1;F0;y=1 | r0=y+1 | r1=y;F1;r2=x", fences);
    let is_weak = |outcome: &Outcome| outcome[..3] == [1, 2, 0];
    assert!(!outcomes(&chain("FF"), Threads::OutOfOrder).iter().any(is_weak));
    assert!(!outcomes(&chain("HL"), Threads::OutOfOrder).iter().any(is_weak));
    assert!(outcomes(&chain("LL"), Threads::OutOfOrder).iter().any(is_weak));
}

/// Programs of three threads with read-modify-writes, from a seed. They avoid what loom does not model exactly (the
/// limits in the guide): a location is written by stores or by updates, not by both, and a thread comes to a
/// location once.
#[test]
fn the_model_is_exact_on_programs_from_a_seed() {
    // xorshift64*
    let mut seed: u64 = 0x5eed_0fa5_f30c_e501;
    let mut below = move |bound: usize| {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    };
    let (mut executions, count) = (0, if deep() { 200 } else { 12 });
    for nth in 0..count {
        let is_updated = [0, 1, 2].map(|_| below(2) == 1);
        let mut register = 0;
        let threads = (0..3).map(|_| {
            let first = below(3);
            let second = (first + 1 + below(2)) % 3;
            let fence = [Fence::Light, Fence::Full, Fence::Heavy][below(3)];
            let mut step = |location: usize| {
                let reads = below(2) == 0;
                if !reads && !is_updated[location] {
                    return Step::Write(location, below(2) + 1);
                }
                register += 1;
                if reads {
                    Step::Read(register - 1, location)
                } else {
                    Step::Add(register - 1, location, below(2) + 1)
                }
            };
            vec![step(first), Step::Fence(fence), step(second)]
        });
        let threads = threads.collect();
        let program = Program { threads, registers: register, locations: 3 };
        let found = explore(&program, Start::Asymmetric, Some(2));
        let judged = outcomes(&program, Threads::InOrder);
        assert_eq!(found.outcomes, judged, "program {nth}: {program:?}");
        executions += found.executions;
    }
    println!("{count} programs from a seed: {executions} executions");
}

/// Four threads in a ring, with every placement of fences up to rotation. With three or four heavy fences the oracle has
/// too many places to try. There the weak outcome is forbidden because it is forbidden with fewer.
#[test]
fn the_model_shows_nothing_that_is_forbidden_on_four_store_buffers() {
    if !deep() {
        return;
    }
    let letters = ["L", "F", "H"];
    let all = (0..81_usize).map(|n| [n / 27, n / 9 % 3, n / 3 % 3, n % 3]);
    let is_first = |fences: &[usize; 4]| {
        (1..4).all(|turn| {
            let turned: [usize; 4] = std::array::from_fn(|place| fences[(place + turn) % 4]);
            *fences <= turned
        })
    };
    let mut executions = 0;
    for fences in all.filter(is_first) {
        let words: String = fences.iter().map(|&letter| letters[letter]).collect();
        let program = program("x=1;F0;r0=y | y=1;F1;r1=z | z=1;F2;r2=w | w=1;F3;r3=x", &words);
        let is_weak = |outcome: &Outcome| outcome[..4] == [0; 4];
        let found = explore(&program, Start::Asymmetric, Some(2));
        executions += found.executions;
        if fences.iter().filter(|&&fence| fence == 2).count() > 2 {
            assert!(!found.outcomes.iter().any(is_weak), "{words}");
        } else {
            let judged = outcomes(&program, Threads::InOrder);
            assert_eq!(found.outcomes.iter().any(is_weak), judged.iter().any(is_weak), "{words}");
            // With two preemptions not every outcome of this ring is found. None is found that the oracle forbids.
            assert!(found.outcomes.is_subset(&judged), "{words}");
        }
        println!("4.SB {words}: {executions} executions until now");
    }
}
