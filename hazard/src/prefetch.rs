//! A hint to the processor. Only this file of the package asks which processor it is, and no result depends on it.

/// Fetches the cache line of an object that is about to be freed, to be written. The last thread that wrote to it is
/// often another one, so the line is in another processor's cache, and the allocator writes into it.
#[inline(always)]
pub(crate) fn for_writing(object: *const ()) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint, which no address makes fail. A processor that does not know the instruction ignores it.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) object, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a hint, which no address makes fail.
    unsafe {
        core::arch::asm!("prfm pstl1keep, [{}]", in(reg) object, options(nostack, preserves_flags, readonly));
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = object;
}
