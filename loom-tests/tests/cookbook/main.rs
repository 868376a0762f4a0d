//! The structures of the cookbook. Their mutants: `cargo xtask mutants cookbook`.
#![cfg(loom)]

mod biased_lock;
mod deque;
mod epoch;
mod event_count;
mod rcu;
mod sync;
