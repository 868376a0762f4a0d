//! The time, where there is a clock.

#[cfg(feature = "std")]
mod chosen {
    use core::ptr;
    use core::sync::atomic::AtomicPtr;
    use core::sync::atomic::Ordering::{Acquire, Release};
    use std::boxed::Box;
    use std::time::Instant;

    /// The time of the first call. Not a `OnceLock`: a child that is forked during its initialisation would wait for
    /// ever.
    fn first() -> &'static Instant {
        static FIRST: AtomicPtr<Instant> = AtomicPtr::new(ptr::null_mut());
        // Acquire: it was written before. Pairs with: the Release below.
        let mut first = FIRST.load(Acquire);
        if first.is_null() {
            let ours = Box::into_raw(Box::new(Instant::now()));
            // Release and Acquire: as above.
            first = match FIRST.compare_exchange(ptr::null_mut(), ours, Release, Acquire) {
                Ok(_) => ours,
                Err(theirs) => {
                    // SAFETY: from a box, and no other thread has seen it.
                    drop(unsafe { Box::from_raw(ours) });
                    theirs
                }
            };
        }
        // SAFETY: never freed once it stands there.
        unsafe { &*first }
    }

    /// Microseconds since the first call. They wrap. None in a model.
    pub(crate) fn now() -> Option<usize> {
        if crate::sync::LOOM {
            return None;
        }
        let passed = first().elapsed();
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
