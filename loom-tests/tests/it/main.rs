//! The models.
#![cfg(loom)]

mod battery;
mod between_processes;
mod coalesce;
mod deciding;
mod lazily;
mod misuse;
mod mutants;
mod pairing;
mod witness;
