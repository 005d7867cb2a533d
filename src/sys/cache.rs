//! Io: asks for memory before it is needed, so that it comes from a far cache, or another core's, while something else is done.

/// Has the cache line of this address fetched. Any address will do: nothing is read, and nothing happens where there is nothing.
#[inline]
pub(crate) fn fetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is a hint: it reads no memory as far as the program can tell, and does not fault on any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
