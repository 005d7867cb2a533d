//! Io: what the kernel grants this process: descriptors, and cores to run on.

use std::io;
use std::mem;

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

/// The cores that the calling thread may run on, in order.
///
/// # Errors
/// What the kernel said.
pub fn cores() -> io::Result<Vec<usize>> {
    // SAFETY: `cpu_set_t` is an array of integers, for which all zeros is a value: the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is a live, writable set of the size given; 0 names the calling thread.
    check(unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set) })?;
    // SAFETY: `core` is below `CPU_SETSIZE`, so the bit lies within the set.
    Ok((0..SET_SIZE).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect())
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// What the kernel said: the core does not exist or is not ours. The thread runs where it could before.
pub fn pin_to(core: usize) -> io::Result<()> {
    if core >= SET_SIZE {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `cpu_set_t` is an array of integers, for which all zeros is a value: the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `core` is below `CPU_SETSIZE`, so the bit lies within the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is a live, initialised set of the size given; 0 names the calling thread.
    check(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) })
}

const SET_SIZE: usize = libc::CPU_SETSIZE as usize;

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

    #[test]
    fn a_thread_stays_on_the_core_it_is_pinned_to() {
        let last = *cores().unwrap().last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_to(last).unwrap();
            cores().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
        assert!(pin_to(usize::MAX).is_err());
    }
}
