//! The structures of the cookbook. Their mutants: `cargo xtask mutants cookbook`.

mod biased_lock;
mod deque;
mod event_count;
mod rcu;
