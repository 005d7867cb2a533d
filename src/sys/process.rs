//! Io: what the kernel grants this process: descriptors.

use std::io;

/// Raises the soft limit of open files to the hard one, and returns what it is now. Every connection costs two.
///
/// # Errors
/// What the kernel said; the limit is as it was.
pub fn raise_descriptors() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live, writable `rlimit`, the type that this call fills.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a live, initialised `rlimit`, only read by this call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    }
    Ok(limit.rlim_cur)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_descriptors_becomes_the_hard_one() {
        let now = raise_descriptors().unwrap();
        assert!(now >= 256, "{now}");
        assert_eq!(raise_descriptors().unwrap(), now, "raising twice changes nothing");
    }
}
