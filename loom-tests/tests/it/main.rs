//! The models.
#![cfg(loom)]

mod battery;
