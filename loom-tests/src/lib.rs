//! What the models in `tests/` share: how they are run, the litmus programs, and the oracle, which computes what the
//! contract allows.
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
