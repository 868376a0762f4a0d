//! The time, where there is a clock.

#[cfg(feature = "std")]
mod chosen {
    use std::boxed::Box;
    use std::time::Duration;

    use once_cell::race::OnceBox;

    /// The moment of the first call. Not a `OnceLock`: a child that is forked during its initialisation would wait for
    /// ever.
    static FIRST: OnceBox<Moment> = OnceBox::new();

    #[cfg(any(target_os = "linux", target_os = "android"))]
    type Moment = Duration;

    /// Not `Instant::now`, which panics if a sandbox refuses clock_gettime(2) where no vdso serves it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn since_first() -> Option<Duration> {
        use rustix::time::{ClockId, DynamicClockId, clock_gettime_dynamic};

        // guard survives: the vdso answers, so no sandbox of a test can refuse.
        let now = clock_gettime_dynamic(DynamicClockId::Known(ClockId::Monotonic)).ok()?;
        let now = Duration::from_secs(now.tv_sec as u64)
            .saturating_add(Duration::from_nanos(now.tv_nsec as u64));
        Some(now.saturating_sub(*FIRST.get_or_init(|| Box::new(now))))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    type Moment = std::time::Instant;

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn since_first() -> Option<Duration> {
        Some(FIRST.get_or_init(|| Box::new(Moment::now())).elapsed())
    }

    /// Microseconds since the first call. They wrap. None in a model, and if the system does not tell the time.
    pub(crate) fn now() -> Option<usize> {
        if crate::sync::LOOM {
            return None;
        }
        // guard survives: as above.
        let passed = since_first()?;
        Some(
            (passed.as_secs() as usize)
                .wrapping_mul(1_000_000)
                .wrapping_add(passed.subsec_micros() as usize),
        )
    }
}

#[cfg(not(feature = "std"))]
mod chosen {
    pub(crate) fn now() -> Option<usize> {
        None
    }
}

pub(crate) use chosen::now;

/// How late a caller may be that read its clock and was delayed: a minute.
pub(crate) const LATE: usize = 60_000_000;

/// How long after `then` it is, in microseconds: 0 for a caller that is late. On 32 bits the microseconds wrap every
/// 71.6 minutes. So if the moment is long ago, a caller that is not late is taken for a late one during one minute of
/// each 71.6. Then the result grows from 0 again.
pub(crate) fn since(now: usize, then: usize) -> usize {
    let passed = now.wrapping_sub(then);
    if passed > usize::MAX - LATE { 0 } else { passed }
}

/// A wait that has an end where there is a clock.
#[derive(Default)]
pub(crate) struct Wait {
    begun: Option<usize>,
}

impl Wait {
    /// Whether the first call with a time was more than so many microseconds before `now`. Never, without a time.
    pub(crate) fn is_longer_than(&mut self, longest: usize, now: Option<usize>) -> bool {
        let Some(now) = now else { return false };
        since(now, *self.begun.get_or_insert(now)) > longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On 32 bits half of the range is 36 minutes.
    #[test]
    fn a_moment_that_is_long_ago_is_not_mistaken_for_a_later_one() {
        assert_eq!(since(5, 3), 2);
        assert_eq!(since(3, 3_usize.wrapping_sub(5)), 5);
        for passed in [1, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX - LATE] {
            assert_eq!(since(passed.wrapping_add(7), 7), passed);
        }
        // The twin: a caller that is late.
        for late in [1, LATE / 2, LATE] {
            assert_eq!(since(7, late + 7), 0);
        }
    }
}
