//! The models.
#![cfg(loom)]

mod battery;
mod coalesce;
mod deciding;
mod lazily;
mod misuse;
mod mutants;
mod pairing;
