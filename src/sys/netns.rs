//! Io: network namespaces for tests of this module and of those above. Each lives as long as its value, whatever becomes of the test.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::link;
use crate::base::MacAddr;

/// A network of its own, with nothing in it but `lo`.
pub(crate) struct Namespace {
    fd: OwnedFd,
}

/// Namespaces, or `None` and a loud word where this machine does not let us make any.
pub(crate) fn namespaces<const N: usize>() -> Option<[Namespace; N]> {
    // SAFETY: the call takes no pointer; the thread that it moves is our own and ends with the closure.
    let fresh = || match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())),
        _ => Err(std::io::Error::last_os_error()),
    };
    let made: Vec<_> = (0..N).map(|_| thread::spawn(fresh).join().unwrap()).collect();
    let made: Result<Vec<_>, _> = made.into_iter().collect();
    match made {
        Ok(made) => {
            let made = made.into_iter().map(|fd| Namespace { fd }).collect::<Vec<_>>();
            for namespace in &made {
                // Addresses are there at once, and the kernel says little that nobody asked for.
                namespace.sh("ip link set lo up; cd /proc/sys/net/ipv6/conf; echo 0 >default/accept_dad; \
                    echo 0 >default/router_solicitations; echo 1 >default/disable_ipv6");
            }
            made.try_into().ok()
        }
        Err(why) => {
            let all = std::env::var_os("STRATA_TEST_ALL").is_some_and(|all| all == "1");
            assert!(!all, "network namespaces may not be skipped: {why}");
            eprintln!("SKIPPED: needs network namespaces: {why}");
            None
        }
    }
}

impl Namespace {
    /// Runs `work` on a thread that is in the namespace; what it opens stays there.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                // SAFETY: the descriptor is open, and the call moves this thread only, which ends with the closure.
                assert_eq!(unsafe { libc::setns(self.fd.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a shell command in the namespace and gives what it printed.
    #[track_caller]
    pub(crate) fn sh(&self, command: &str) -> String {
        let output = self.run(|| Command::new("sh").arg("-ec").arg(command).output().unwrap());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Joins two namespaces by a cable, its ends named and given MACs.
    pub(crate) fn cable(&self, (name, mac): (&str, MacAddr), other: &Namespace, (there, its_mac): (&str, MacAddr)) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.fd.as_raw_fd());
        self.sh(&format!(
            "ip link add {name} address {mac} type veth peer name {there} address {its_mac} netns {path}; \
             ip link set {name} up"
        ));
        other.sh(&format!("ip link set {there} up"));
    }

    /// The index of an interface.
    pub(crate) fn index(&self, name: &str) -> u32 {
        self.run(|| link::index(name).unwrap())
    }
}

/// Waits until `condition` holds; fails with `what` when it does not in time.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "a test waits in real time")]
pub(crate) fn await_that(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
