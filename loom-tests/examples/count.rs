//! Executions, time and outcomes of one program or of a table's rows: for decisions about the model.
//!
//! `RUSTFLAGS="--cfg loom" cargo run -p loom-tests --release --example count -- SHAPE|'x=1;F0;r0=y | ...' [FENCES] [BOUND]`

#[cfg(loom)]
fn main() {
    use asymfence::model::Start;
    use loom_tests::litmus::{explore, program, tables};
    use loom_tests::oracle::{Threads, outcomes};

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let bound = arguments.get(2).and_then(|bound| bound.parse().ok());
    let fences = arguments.get(1).map_or("", String::as_str);
    let programs: Vec<_> = if arguments[0].contains('=') {
        vec![(arguments[0].clone(), program(&arguments[0], fences))]
    } else {
        let is_meant = |name: &str| {
            let (shape, of) = name.split_once(' ').expect("a shape and its fences");
            (arguments[0] == "all" || shape == arguments[0]) && (fences.is_empty() || of == fences)
        };
        tables()
            .into_iter()
            .filter(|row| is_meant(&row.name))
            .map(|row| (row.name, row.program))
            .collect()
    };
    for (name, program) in programs {
        let begin = std::time::Instant::now();
        let found = explore(&program, Start::Asymmetric, bound);
        let judged = outcomes(&program, Threads::InOrder);
        let hidden = judged.difference(&found.outcomes).count();
        let more = found.outcomes.difference(&judged).count();
        println!(
            "{name}: {} executions, {:?}, {hidden} outcomes of the oracle alone, {more} of loom alone",
            found.executions,
            begin.elapsed()
        );
    }
}

#[cfg(not(loom))]
fn main() {}
