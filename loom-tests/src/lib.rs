//! Models of the fences, and what holds them against the contract.
//!
//! Built and run with `RUSTFLAGS="--cfg loom"`; `cargo xtask loom` does it.
#![cfg(loom)]

pub mod check;
pub mod litmus;
pub mod oracle;

/// Whether to spend the time for models without a bound on preemptions (`cargo xtask loom --deep`).
pub fn deep() -> bool {
    std::env::var_os("ASYMFENCE_LOOM_DEEP").is_some()
}

/// Whether to keep within the minutes that `cargo xtask test` may take.
pub fn quick() -> bool {
    std::env::var_os("ASYMFENCE_LOOM_QUICK").is_some()
}
