//! Models of the fences, and the oracle that compares them with the contract.
//!
//! Built and run with `RUSTFLAGS="--cfg loom"`; `cargo xtask loom` does it.
#![cfg(loom)]

pub mod check;
pub mod litmus;
pub mod oracle;

/// Whether there is time for wider bounds on preemptions, or for no bound at all (`cargo xtask loom --deep`).
pub fn deep() -> bool {
    std::env::var_os("ASYMFENCE_LOOM_DEEP").is_some()
}

/// Whether models must be short, because `cargo xtask test` runs them.
pub fn quick() -> bool {
    std::env::var_os("ASYMFENCE_LOOM_QUICK").is_some()
}
