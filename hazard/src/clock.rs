//! What time it is, where there is a clock.

#[cfg(feature = "std")]
mod chosen {
    use std::sync::OnceLock;
    use std::time::Instant;

    /// Microseconds since the first call. They wrap. None in a model.
    pub(crate) fn now() -> Option<usize> {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        if crate::sync::LOOM {
            return None;
        }
        let passed = FIRST.get_or_init(Instant::now).elapsed();
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
