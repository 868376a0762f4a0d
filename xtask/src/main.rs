//! Every check of the project, one command each.
fn main() {}
