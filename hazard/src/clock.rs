//! The time, where there is a clock.

#[cfg(feature = "std")]
mod chosen {
    use std::boxed::Box;
    use std::time::Instant;

    use once_cell::race::OnceBox;

    /// The time of the first call. Not a `OnceLock`: a child that is forked during its initialisation would wait for
    /// ever.
    static FIRST: OnceBox<Instant> = OnceBox::new();

    /// Microseconds since the first call. They wrap. None in a model.
    pub(crate) fn now() -> Option<usize> {
        if crate::sync::LOOM {
            return None;
        }
        let passed = FIRST.get_or_init(|| Box::new(Instant::now())).elapsed();
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
