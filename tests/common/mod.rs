//! What tests over real sockets share: the real binary on a configuration of its own, scripted origins, raw clients.
//!
//! No port is fixed and nothing sleeps where it can wait for a condition. Every process started here is stopped here, by its
//! own id; when a test fails, what Strata wrote is printed.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]
#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

pub mod asker;
pub mod metrics;
pub mod origin;
pub mod strata;
pub mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub use asker::Asker;
pub use metrics::Metrics;
pub use origin::Origin;
pub use strata::{Strata, Successor};
pub use wire::{End, Message, Wire};

/// Longer than anything here takes, so that a failure says what it waited for instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A free port of a loopback address that no other test in any process uses at this time: a port that is free now stays
/// free, for outgoing connections come from 127.0.0.1.
pub fn free_address() -> SocketAddr {
    free_listener().local_addr().expect("a bound socket has an address")
}

/// The same, held: nobody can take it in between.
pub fn free_listener() -> TcpListener {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let unique = (std::process::id() << 8 | NEXT.fetch_add(1, Relaxed) & 0xff) & 0x00ff_ffff;
    let ip = IpAddr::V4(Ipv4Addr::from(0x7f00_0000 | unique.max(2)));
    TcpListener::bind((ip, 0)).expect("a free loopback port")
}

/// Waits until `condition` holds; fails with `what` when it does not within [`PATIENCE`].
#[track_caller]
pub fn await_that(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, condition), "waited {PATIENCE:?} for: {what}");
}

/// A try that began in time and took longer is not the last: it may have asked too early.
pub fn holds_within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let last = Instant::now() > deadline;
        if condition() {
            return true;
        }
        if last {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long things took, each time that they were done. Of each the median is judged: what else the machine does meanwhile delays one
/// or the other, and only where the product needs longer are most of them late.
#[derive(Debug, Default)]
pub struct Rounds(BTreeMap<String, Vec<Duration>>);

impl Rounds {
    pub fn add(&mut self, what: &str, took: Duration) {
        println!("{what}: {took:?}");
        self.0.entry(what.to_owned()).or_default().push(took);
    }

    #[track_caller]
    pub fn assert_within(mut self, bound: Duration) {
        assert!(!self.0.is_empty(), "nothing was done");
        for (what, took) in &mut self.0 {
            took.sort_unstable();
            assert!(took[(took.len() - 1) / 2] < bound, "{what}: most took longer than {bound:?}: {took:?}");
        }
    }
}

/// Says loudly that a test is skipped, or fails it where nothing may be skipped (`STRATA_TEST_ALL=1`).
#[track_caller]
pub fn skip(what: &str, why: &str) {
    assert!(std::env::var_os("STRATA_TEST_ALL").is_none_or(|all| all != "1"), "{what} may not be skipped: {why}");
    eprintln!("SKIPPED: {what}: {why}");
}

/// Runs named checks and fails once, with every one that does not hold.
#[derive(Default)]
pub struct Report {
    ran: usize,
    failures: Vec<String>,
}

impl Report {
    pub fn check(&mut self, name: &str, outcome: Result<(), String>) {
        self.ran += 1;
        if let Err(why) = outcome {
            self.failures.push(format!("{name}: {why}"));
        }
    }

    #[track_caller]
    pub fn finish(self, strata: &Strata) {
        let count = self.failures.len();
        assert!(self.ran > 0, "nothing was checked");
        if count > 0 {
            panic!("{count} of {} failed:\n{}\n{}", self.ran, self.failures.join("\n"), strata.log_tail());
        }
    }
}

/// `Err(message)` unless `holds`.
pub fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}
