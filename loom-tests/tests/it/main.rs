//! The models.
#![cfg(loom)]

mod battery;
mod between_processes;
mod bias;
mod coalesce;
mod deciding;
mod ends;
mod entrance;
mod epochs;
mod lazily;
mod messages;
mod misuse;
mod mutants;
mod pacer;
mod pairing;
mod ticket;
mod witness;
