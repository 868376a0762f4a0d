//! The README's first example. One thread counts what it has done, another sleeps until it is enough.

include!("progress.rs");
