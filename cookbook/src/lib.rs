//! Five structures to depend on or to copy from. In each of them one side runs often and the other side rarely. Each is
//! one file, which takes its atomics and fences from `sync.rs` and imports nothing else of this package. To copy one,
//! copy its file, `sync.rs` and the folder `sync/` into your `src/`, declare the two modules in the root of your crate,
//! and take the dependencies and the feature `loom` from `Cargo.toml`, without the `path` of asymfence. (If your models
//! have a cfg in place of a feature: see docs/cookbook.md.)
//!
//! - [`event_count`]: threads sleep until something happens, and every push notifies them
//! - [`rcu`]: readers read a value that a writer replaces as a whole
//! - [`biased_lock`]: a reader-writer lock with cheap read sections
//! - [`deque`]: a work-stealing deque whose owner is cheap
//! - [`epoch`]: readers read linked structures while writers unlink objects from them, with paced heavy fences
//!
//! In the event count, the lock and the deque the rare side may be busy at times. While it is busy, both sides execute
//! full fences, with at most two heavy fences in a millisecond if callers come one at a time ([`asymfence::Bias`]).
//!
//! [The limits](https://docs.rs/asymfence/latest/asymfence/guide/limits/) of the fences say what every promise of these
//! pages assumes. Signal handlers and global allocators must use none of the structures, with one exception: a signal
//! handler may read an [`rcu`] through a reader of its own. A child of fork(2) must not use a structure that other
//! threads of its parent were using at the time of the fork: a lock may stay taken for ever. All but [`rcu`] read the
//! clock, by an instruction that prctl(PR_SET_TSC) can forbid to a thread: then it gets SIGSEGV. A heavy fence, also
//! that of an RCU writer, may read it while it waits for another thread's (see [`asymfence::heavy_fence`]). If a
//! sandbox refuses clock_gettime(2) where no vdso serves it, there is no clock. Then every deadline counts as passed,
//! so a call with a timeout gives up at once. And no *pause* ends. (A pause is the quiet time after which an
//! [`asymfence::Bias`] is restored, or epochs execute a heavy fence.) So fences that have become full stay full, and
//! epochs execute heavy fences only by the number of objects that wait. No pause ends either in a child of fork(2) that
//! enters a time namespace with an earlier clock, until that clock has caught up with the parent's. (If there is a vdso
//! and the C library does not use it, these structures have a clock. But in a wait with a deadline std reads the clock
//! too, by the call that is refused, and panics.)
//!
//! All but the deque wait for locks at times. A lock is held for a few instructions, an allocation, some wake-ups, or a
//! look at the slots of all readers. What these pages say of waiting ("at most", "waits for nobody", "does not wait")
//! does not count such a lock. If a thread is killed alone while it holds one (SECCOMP_RET_KILL_THREAD), others wait
//! for ever; if a signal handler holds it up, they wait as long as that. (Nobody waits for the deque's lock. If a
//! thread is killed alone in `steal_batch`, the items that it took are lost, and no thief gets a batch any more.) And a
//! wait that sleeps may end late, by the thread's timer slack (prctl(2), PR_SET_TIMERSLACK) or because other threads
//! run.
//!
//! Each structure has, in the repository, models in `loom-tests/tests/cookbook`, mutants in `xtask/src/mutants`, a
//! stress test in `cookbook/tests/it`, a bench against its symmetric twin and against other crates, and, but for the
//! epochs, a program in `cookbook/examples`.

// In all files: `survives:` says why no test fails if `cargo xtask mutants` weakens the ordering or the fence on the next
// line, and `guard survives:` why none fails if it changes the next condition, bound, `?` or `else` (CONTRIBUTING.md).

pub mod biased_lock;
pub mod deque;
pub mod epoch;
pub mod event_count;
pub mod rcu;
mod sync;
