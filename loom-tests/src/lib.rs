//! Models of the fences, and what holds them against the contract.
//!
//! Built and run with `RUSTFLAGS="--cfg loom"`; `cargo xtask loom` does it.
#![cfg(loom)]

pub mod litmus;
pub mod oracle;
