//! Pauses, and when something happened last, by the clocks of callers. In microseconds, a count that wraps on 32 bits.
//!
//! A caller reads its clock, and may be delayed before its call. So an earlier time may arrive after a later one. It
//! counts as equal to the later one: otherwise the difference would wrap, and look like a very long pause.

use core::time::Duration;

use crate::sync::AtomicUsize;
use crate::sync::Ordering::Relaxed;

/// The longest pause. More might not fit into 32 bits.
const LONGEST: Duration = Duration::from_secs(30);

/// How late a caller may be. On 32 bits a minute. (The count of microseconds wraps every 71.6 minutes. So if the event
/// is long ago, a caller that is not late is taken for a late one during one minute of each 71.6. Then the time since
/// the event grows from 0 again.) On 64 bits half of the range.
const LATE: usize = if usize::BITS == 32 { 60_000_000 } else { usize::MAX / 2 };

/// A pause in microseconds.
pub(crate) const fn microseconds(pause: Duration) -> usize {
    assert!(
        pause.as_micros() > 0 && pause.as_nanos() <= LONGEST.as_nanos(),
        "a pause from 1 µs to 30 s"
    );
    pause.as_micros() as usize
}

/// How long after `then` it is, in microseconds: 0 for a caller that is late.
pub(crate) fn since(now: usize, then: usize) -> usize {
    let passed = now.wrapping_sub(then);
    if passed > usize::MAX - LATE { 0 } else { passed }
}

/// Puts `last` forward to `now`, and never back. Returns by how much: 0 for a caller that is late.
pub(crate) fn put_forward(last: &AtomicUsize, now: usize) -> usize {
    // Relaxed: advice. The exchange ensures that a late caller does not put it back.
    let mut then = last.load(Relaxed);
    loop {
        let passed = since(now, then);
        if passed == 0 {
            return 0;
        }
        // Relaxed: as above.
        match last.compare_exchange(then, now, Relaxed, Relaxed) {
            Ok(_) => return passed,
            Err(newer) => then = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_caller_counts_as_the_last_one() {
        assert_eq!(since(5, 3), 2);
        assert_eq!(since(3, 5), 0);
        let come_round = 3usize.wrapping_sub(5);
        assert_eq!(since(3, come_round), 5);
        assert_eq!(since(come_round, 3), 0);
        assert_eq!(since(usize::MAX / 4, 0), usize::MAX / 4);
        // As late as a caller may be, and more.
        assert_eq!(since(0, LATE), 0);
        assert_eq!(since(0, LATE + 1), usize::MAX - LATE);
    }

    #[test]
    fn nothing_is_put_back() {
        let last = AtomicUsize::new(100);
        assert_eq!(put_forward(&last, 99), 0);
        // Relaxed: this thread alone uses it.
        assert_eq!(last.load(Relaxed), 100);
        assert_eq!(put_forward(&last, 130), 30);
        assert_eq!(put_forward(&last, 130), 0);
    }
}
