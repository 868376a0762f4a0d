//! The models.
#![cfg(loom)]

mod battery;
mod coalesce;
mod deciding;
mod hazard;
mod lazily;
mod misuse;
mod mutants;
mod pairing;
