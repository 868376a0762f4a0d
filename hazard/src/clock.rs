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
