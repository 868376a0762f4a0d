//! Each crate before and after our edits, in turn: its hot side, and its rare side alone and beside a thread that runs
//! the hot one. For `cargo xtask adopt`: a line each, name, and before and after of the three in nanoseconds.

mod crates;
mod in_turn;

fn main() {
    // Decides first, as a program that adopts the fences would. Where it is symmetric there is nothing to compare.
    if let Err(unsupported) = asymfence::Asymmetric::new() {
        eprintln!("{unsupported}");
        std::process::exit(1);
    }
    for (name, before, after) in crates::ALL {
        let medians = in_turn::medians(before, after);
        let columns = medians.as_flattened().iter().map(|time| format!("\t{time:.2}"));
        println!("{name}{}", columns.collect::<String>());
    }
}
