//! Io: what the kernel grants this process, and what it must not do: descriptors, locked memory, core dumps.

use std::fs;
use std::io;

use super::check;

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

/// Lets this process lock as much memory as anybody allows it to: all there is where it may say so itself, else up to the hard limit.
/// What it locks has bounds of its own (`limits`).
///
/// # Errors
/// What the kernel said; the limit is as it was.
pub fn lock_more() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `none` is a live, initialised `rlimit`, only read by this call.
    if check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const none) }).is_ok() {
        return Ok(());
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live, writable `rlimit`, the type that this call fills.
    check(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a live, initialised `rlimit`, only read by this call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }).map(drop)
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

/// Sends `SIGHUP` to a process whose number is nobody else's: a child that was not waited for yet, or one that its manager names.
///
/// # Errors
/// What the kernel said.
pub fn hang_up(pid: u32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: this call takes numbers and no pointer.
    check(unsafe { libc::kill(pid, libc::SIGHUP) }).map(drop)
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
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// This thread goes before those that are as it was (a niceness of 10 less), as a kernel's own forwarding does, and before a thread of the
/// kernel's that receives: what that takes in while nobody sends it on is lost after all the work (Mogul and Ramakrishnan, "Eliminating
/// receive livelock", 1997). It sleeps while it has nothing to do.
///
/// # Errors
/// What the kernel said: it takes `CAP_SYS_NICE`.
pub fn go_first() -> io::Result<()> {
    // SAFETY: this call takes numbers and no pointer. Of threads, 0 is the calling one, whose niceness can be read: it does not fail.
    let now = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // SAFETY: as above.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, (now - 10).max(-20)) }).map(drop)
}

/// Where there are no more cores than `threads`, this thread, the `nth` (from 0) of them, stays on one of its own. Those that are woken
/// by what one core receives may else share that core while another one idles. Where there are more cores than threads the kernel
/// has room to choose, and other processes may have chosen the first ones.
///
/// # Errors
/// What the kernel said; the thread runs where it may.
pub fn stay_apart(nth: usize, threads: usize) -> io::Result<()> {
    let may = cores()?;
    if may.len() > threads {
        return Ok(());
    }
    let Some(core) = may.get(nth % may.len().max(1)) else { return Ok(()) };
    let mut one = no_cores();
    // SAFETY: this writes a bit of the set by a number that a set has.
    unsafe { libc::CPU_SET(*core, &mut one) };
    // SAFETY: `one` is live and initialised, and only read by this call. Of threads, 0 is the calling one.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&one), &raw const one) }).map(drop)
}

/// Those that this thread may run on.
fn cores() -> io::Result<Vec<usize>> {
    let mut may = no_cores();
    // SAFETY: `may` is live and writable for as many bytes as this call is told.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&may), &raw mut may) })?;
    // SAFETY: this reads bits of the set by numbers below `CPU_SETSIZE`, which it has.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &may) }).collect())
}

fn no_cores() -> libc::cpu_set_t {
    // SAFETY: a `cpu_set_t` is an array of integers, for which zeros are a valid value.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_threads_as_cores_have_one_each_and_fewer_are_let_go() {
        let may = cores().unwrap();
        let of = |nth, threads| {
            let thread = std::thread::spawn(move || stay_apart(nth, threads).and_then(|()| cores()).unwrap());
            thread.join().unwrap()
        };
        for nth in 0..may.len() + 1 {
            assert_eq!(of(nth, may.len()), [may[nth % may.len()]]);
        }
        assert_eq!(of(0, may.len() - 1), may);
    }

    #[test]
    fn open_descriptors_are_counted() {
        let more = || {
            let before = open_descriptors().unwrap();
            let held: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
            open_descriptors().unwrap() >= before + held.len() as u64 / 2
        };
        // Other tests open and close theirs meanwhile, some a great many.
        assert!((0..20).any(|_| more()), "what is held is not counted");
    }

    #[test]
    fn the_soft_limit_of_descriptors_becomes_the_hard_one() {
        let now = raise_descriptors().unwrap();
        assert!(now >= 256, "{now}");
        assert_eq!(raise_descriptors().unwrap(), now, "raising twice changes nothing");
    }
}
