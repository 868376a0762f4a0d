//! The README's first example is a file that is run, and that the loom models include.

#[test]
fn the_readme_shows_the_example_that_is_run_and_modelled() {
    let readme = include_str!("../README.md");
    let first = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(first, Some(include_str!("../examples/first/progress.rs")));
}
