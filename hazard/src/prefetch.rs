//! A hint to the processor. Only this file of the package asks which processor it is, and no result depends on it.

/// Fetches, for writing, the cache line of an object that is about to be freed. The allocator writes into that line,
/// and it is often in another processor's cache, because another thread was the last that wrote to it.
#[inline(always)]
pub(crate) fn for_writing(object: *const ()) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint, which no address makes fail. A processor that does not have it ignores it, except the first
    // 64-bit Pentium 4 and Xeon (2004 and 2005), which stop the process: the crate's documentation says so.
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
