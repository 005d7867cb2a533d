//! Io: what the kernel grants this process, and what it must not do: descriptors, core dumps.

use std::fs;
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

/// Descriptors that are open now.
///
/// # Errors
/// `/proc` cannot be read, or no descriptor is left to do so.
pub fn open_descriptors() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    // Since Linux 6.2 the folder's size is their number; before, it is 0 and they are counted one by one.
    match fs::metadata("/proc/self/fd")?.size() {
        0 => Ok(fs::read_dir("/proc/self/fd")?.count().saturating_sub(1) as u64),
        count => Ok(count),
    }
}

/// From now on nothing writes the memory of this process to a disk, nor reads it from another process of the same user: it holds
/// keys. Children inherit the first (hardening J16).
///
/// # Errors
/// What the kernel said.
pub fn hide_memory() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a live, initialised `rlimit`, only read by this call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) })?;
    // A pipe in `core_pattern` is asked whatever the limit says; what cannot be dumped it never gets.
    // SAFETY: this operation takes a number and no pointer.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
}

/// This thread goes before ordinary ones (a niceness of -10), as a kernel's own forwarding does. It sleeps while it has nothing to do.
///
/// # Errors
/// What the kernel said: it takes `CAP_SYS_NICE`.
pub fn go_first() -> io::Result<()> {
    // SAFETY: this call takes numbers and no pointer. Of threads, 0 is the calling one.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) })
}

/// This thread stays on the `nth` (from 0) of the cores that it may run on, counted round. Two threads that are woken by what one core
/// receives may else share that core while another one idles.
///
/// # Errors
/// What the kernel said; the thread runs where it may.
pub fn stay_on(nth: usize) -> io::Result<()> {
    const SIZE: usize = size_of::<libc::cpu_set_t>();
    // SAFETY: a `cpu_set_t` is an array of integers, for which zeros are a valid value.
    let (mut may, mut one): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: `may` is live and writable for the `SIZE` bytes that this call may write. Of threads, 0 is the calling one.
    check(unsafe { libc::sched_getaffinity(0, SIZE, &raw mut may) })?;
    // SAFETY: these read and write bits of the sets by numbers below `CPU_SETSIZE`, which are all in them.
    unsafe {
        let cores = || (0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &may));
        let Some(core) = cores().nth(nth % cores().count().max(1)) else { return Ok(()) };
        libc::CPU_SET(core, &mut one);
    }
    // SAFETY: `one` is live and initialised, and only read by this call.
    check(unsafe { libc::sched_setaffinity(0, SIZE, &raw const one) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_go_round_the_cores_that_they_may_run_on() {
        let core_of = |nth| {
            let thread = std::thread::spawn(move || {
                stay_on(nth).unwrap();
                let status = fs::read_to_string("/proc/thread-self/status").unwrap();
                status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
            });
            thread.join().unwrap()
        };
        let cores = std::thread::available_parallelism().unwrap().get();
        let all: std::collections::BTreeSet<String> = (0..cores).map(core_of).collect();
        assert_eq!(all.len(), cores, "{all:?}");
        assert!(all.iter().all(|core| core.parse::<u32>().is_ok()), "{all:?}");
        assert_eq!(core_of(cores), core_of(0));
    }

    #[test]
    fn open_descriptors_are_counted() {
        let before = open_descriptors().unwrap();
        let held: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close theirs meanwhile.
        let after = open_descriptors().unwrap();
        assert!(after >= before.saturating_sub(50) + held.len() as u64 / 2, "{before} then {after}");
    }

    #[test]
    fn the_soft_limit_of_descriptors_becomes_the_hard_one() {
        let now = raise_descriptors().unwrap();
        assert!(now >= 256, "{now}");
        assert_eq!(raise_descriptors().unwrap(), now, "raising twice changes nothing");
    }
}
