//! Five structures whose one side runs often and whose other side seldom, to depend on and to copy from: each a file
//! that takes its atomics and fences from `sync.rs` and imports nothing else of this package.
//!
//! - [`event_count`]: to sleep until something happens, where what happens is announced on every push
//! - [`rcu`]: to read what is replaced as a whole
//! - [`biased_lock`]: a reader-writer lock for readers
//! - [`deque`]: a work-stealing deque for its owner
//! - [`epoch`]: to read linked structures while others unlink from them, with heavy fences that are paced
//!
//! Where the seldom side may come often, in the event count, the lock and the deque, the fences give way: at most two heavy
//! fences in a millisecond, and full fences on both sides meanwhile ([`asymfence::Bias`]).
//!
//! Each has models and mutants in `loom-tests/tests/cookbook`, a stress test in `tests/it`, a bench
//! against its symmetric twin and against what one would take otherwise, and a program in `examples`.

pub mod biased_lock;
pub mod deque;
pub mod epoch;
pub mod event_count;
pub mod rcu;
mod sync;
