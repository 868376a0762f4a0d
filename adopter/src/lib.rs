//! A crate that takes asymmetric fences as an option, as `docs/adopting.md` of asymfence tells: one
//! structure, [`Gate`], and the two files that every such crate has, `fences.rs` and `sync.rs`.
#![no_std]

#[cfg(feature = "std")]
extern crate std;

mod fences;
mod gate;
mod sync;

pub use gate::{Gate, Inside, Visitor};
