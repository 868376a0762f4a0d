//! The names of domains.

/// Tells domains apart: a type of your own for each, so that a pointer into one cannot be protected by a
/// hazard pointer of another. See [`Domain`](crate::Domain).
pub trait Family {}

/// The family of [`Domain::global`](crate::Domain::global), which has no other domain.
#[derive(Clone, Copy, Debug)]
pub enum Global {}
