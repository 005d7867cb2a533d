//! Io: giving up what this process does not need (capabilities(7)), and becoming another user.
//!
//! Once, at start, before there is a second thread: capabilities belong to threads, and those that are made later have what their
//! maker had. `no_new_privs` and the bounding set see to it that no program which this process becomes or starts has more, so an
//! upgraded Strata may what this one may. Not here: which capabilities are needed (`app`).

use std::fmt;
use std::fs;
use std::io;
use std::sync::OnceLock;

use super::capability::Capability;

/// Whom the process becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Further groups that the user is in.
    pub groups: Vec<u32>,
}

/// Why a user cannot be found.
#[derive(Debug)]
pub enum UserError {
    Unknown,
    Unreadable(io::Error),
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserError::Unknown => f.write_str("/etc/passwd has no such user"),
            UserError::Unreadable(error) => write!(f, "/etc/passwd cannot be read: {error}"),
        }
    }
}

impl std::error::Error for UserError {}

impl User {
    /// A name of `/etc/passwd`, or `UID:GID`. Directories of users elsewhere are not asked: a static binary cannot.
    ///
    /// # Errors
    /// There is none.
    pub fn find(name: &str) -> Result<User, UserError> {
        if let Some((uid, gid)) = name.split_once(':') {
            let (uid, gid) = (uid.parse(), gid.parse());
            return match (uid, gid) {
                (Ok(uid), Ok(gid)) => Ok(User { uid, gid, groups: Vec::new() }),
                _ => Err(UserError::Unknown),
            };
        }
        let users = fs::read_to_string("/etc/passwd").map_err(UserError::Unreadable)?;
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        User::read(name, &users, &groups).ok_or(UserError::Unknown)
    }

    fn read(name: &str, users: &str, groups: &str) -> Option<User> {
        let fields =
            users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|line| line.first() == Some(&name))?;
        let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        let is_in = |line: &&str| line.rsplit(':').next().is_some_and(|names| names.split(',').any(|one| one == name));
        let number = |line: &str| line.split(':').nth(2)?.parse().ok();
        Some(User { uid, gid, groups: groups.lines().filter(is_in).filter_map(number).collect() })
    }

    /// Whether this process is that user already.
    pub fn is_own(&self) -> bool {
        // SAFETY: the call takes nothing and cannot fail.
        unsafe { libc::geteuid() == self.uid }
    }
}

/// What was given up, by the kernel's bits.
static GIVEN_UP: OnceLock<u64> = OnceLock::new();

/// Keeps `keep`, as far as it is there, and nothing else, becomes `user`, and can never have more again.
///
/// # Errors
/// The step that failed and what the kernel said; what was done by then stays so.
pub fn restrict(keep: &[Capability], user: Option<&User>) -> Result<(), (&'static str, io::Error)> {
    let step = |what, done: libc::c_int| match done {
        -1 => Err((what, io::Error::last_os_error())),
        _ => Ok(()),
    };
    // SAFETY: this operation takes numbers and no pointer; so do all that follow.
    step("no new privileges", unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    let held = permitted().map_err(|error| ("capabilities", error))?;
    let wanted = keep.iter().fold(0, |set, capability| set | capability.mask()) & held;
    for number in 0..64 {
        if wanted & 1 << number == 0 {
            // Who may not has none to lose: the kernel bounds what it gains by what it has (`no_new_privs`).
            // SAFETY: as above. A capability that the kernel does not know is an error that means nothing.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number as libc::c_ulong, 0, 0, 0) };
        }
    }
    if let Some(User { uid, gid, groups }) = user.filter(|user| !user.is_own()) {
        // Becoming an ordinary user would take all of them, those that are wanted as well.
        // SAFETY: as above.
        step("keep capabilities", unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
        // SAFETY: `groups` is live, and so many numbers long; the call reads it.
        step("groups", unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
        // SAFETY: these take numbers.
        step("group", unsafe { libc::setresgid(*gid, *gid, *gid) })?;
        // SAFETY: as above.
        step("user", unsafe { libc::setresuid(*uid, *uid, *uid) })?;
    }
    // SAFETY: the call takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    // What root executes has them anyway; what others execute needs them to be inherited.
    set(wanted, if is_root { 0 } else { wanted }).map_err(|error| ("capabilities", error))?;
    if !is_root {
        for number in (0..64).filter(|number| wanted & 1 << number != 0) {
            let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
            // SAFETY: as above.
            let done = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number as libc::c_ulong, 0, 0) };
            step("capabilities of an upgrade", done)?;
        }
    }
    let _ = GIVEN_UP.set(held & !wanted);
    Ok(())
}

/// Gives up every capability of the calling thread: it serves connections that others have opened the doors for.
///
/// # Errors
/// What the kernel said.
pub fn have_none() -> io::Result<()> {
    set(0, 0)
}

/// Of those that Strata may need, which this process had and gave up.
pub fn given_up() -> Vec<Capability> {
    let gone = GIVEN_UP.get().copied().unwrap_or(0);
    Capability::ALL.into_iter().filter(|capability| gone & capability.mask() != 0).collect()
}

/// linux/capability.h
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// The lower or upper 32 of a thread's capabilities.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn permitted() -> io::Result<u64> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: `header` is live, and `data` has room for the two that this version writes; pid 0 is the calling thread.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let [low, high] = data;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

fn set(all: u64, inheritable: u64) -> io::Result<()> {
    change(all, all, inheritable)
}

#[allow(clippy::cast_possible_truncation, reason = "two halves of 32 bits")]
fn change(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: `header` and the two of `data` that this version reads are live; pid 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Does something on the calling thread without these capabilities, which it has again afterwards.
#[cfg(test)]
pub(crate) fn without<T>(gone: &[Capability], work: impl FnOnce() -> T) -> T {
    let held = permitted().unwrap();
    let effective = gone.iter().fold(held, |set, capability| set & !capability.mask());
    change(effective, held, 0).unwrap();
    let outcome = work();
    set(held, 0).unwrap();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_with_all_its_groups() {
        let users = "root:x:0:0:root:/root:/bin/sh\nstrata:x:990:991::/:/sbin/nologin\nbad:x:y:1::/:\n";
        let groups = "root:x:0:\nstrata:x:991:\nssl-cert:x:114:www,strata\nadm:x:4:stratagem\n";
        let strata = User { uid: 990, gid: 991, groups: vec![114] };
        assert_eq!(User::read("strata", users, groups), Some(strata));
        for nobody in ["strat", "bad", ""] {
            assert_eq!(User::read(nobody, users, groups), None, "{nobody}");
        }
        assert_eq!(User::find("65534:7").unwrap(), User { uid: 65534, gid: 7, groups: Vec::new() });
        assert!(User::find("65534:x").is_err() && User::find("nobody-of-that-name").is_err());
    }

    #[test]
    fn a_thread_gives_up_what_it_has_and_no_other_thread_does() {
        let held = permitted().unwrap();
        let left = std::thread::spawn(|| {
            have_none().unwrap();
            permitted().unwrap()
        });
        assert_eq!((left.join().unwrap(), permitted().unwrap()), (0, held));
    }
}
