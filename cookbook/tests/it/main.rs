//! The structures under real threads, on whatever strategy the process takes.
#![cfg(not(feature = "loom"))]

mod biased_lock;
mod canary;
mod deque;
mod epoch;
mod event_count;
mod rcu;

/// Lets so much time pass.
fn pass(time: std::time::Duration) {
    let begin = std::time::Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}
