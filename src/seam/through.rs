//! Value: probes that go through a VIP, and what the two who take part in one know of it.
//!
//! ```text
//! probe ── a socket with our mark ──▶ kernel ──▶ device of ours ──▶ packet engine ──▶ the frame of its endpoint
//!   └──── its addresses and its endpoint ──▶ Register ──▶ whose packet is this? ──┘
//! ```
//!
//! The kernel speaks TCP for us, as for any client; only the way out is another. The endpoint answers as it answers clients:
//! straight, and to an address that is the kernel's. So a probe fails where a client would, and no slot has a say in it.
//! Not here: sockets (`probe`), the device and frames (`mode::packet`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::probe::{Failure, goes_through};
use crate::base::units::show_duration;
use crate::base::{Moment, PoolId, Reason, ServiceId, clock, limits};
use crate::flow::decide::Goal;
use crate::state::{Pool, Snapshot, Traffic};

/// A way to a pool's endpoints through a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub vip: IpAddr,
    pub service: ServiceId,
    pub tunnel: bool,
}

impl Path {
    /// Every address that clients reach the pool by without coming back through us, services in the order of the file.
    pub fn all_to(snapshot: &Snapshot, pool: PoolId) -> Vec<Path> {
        let mut paths = Vec::new();
        for service in snapshot.services() {
            let Traffic::Packet(spec) = &service.traffic else { continue };
            let Some(vip) = snapshot.vip(spec.vip).filter(|_| spec.pool == pool && spec.forward.is_direct()) else {
                continue;
            };
            let path = |vip: &IpAddr| Path { vip: *vip, service: service.id, tunnel: spec.forward.is_tunnel() };
            paths.extend(vip.spec.addresses.iter().map(path));
        }
        paths
    }

    /// Whether packets to the VIP reach an endpoint with this address: a frame keeps the family, a tunnel need not.
    pub fn leads_to(&self, endpoint: IpAddr) -> bool {
        self.tunnel || self.vip.is_ipv4() == endpoint.is_ipv4()
    }
}

/// Whether any probe goes through a VIP.
pub fn is_wanted(snapshot: &Snapshot) -> bool {
    let goes = |pool: &Pool| pool.spec.probe.as_ref().is_some_and(goes_through);
    snapshot.pools().any(|pool| goes(pool) && !Path::all_to(snapshot, pool.id).is_empty())
}

/// One probe's way through a VIP.
#[derive(Clone, Debug)]
pub struct Passage {
    pub path: Path,
    register: Arc<Register>,
    fate: Arc<Mutex<Fate>>,
}

/// What has become of a probe's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// None came yet, or none could be sent for a reason of ours.
    Unsent,
    Sent,
    Lost(Reason),
}

impl Passage {
    pub fn new(path: Path, register: &Arc<Register>) -> Passage {
        Passage { path, register: register.clone(), fate: Arc::new(Mutex::new(Fate::Unsent)) }
    }

    /// What marks packets for our device. `None`: there is no device, or it does not carry this family.
    pub fn mark(&self) -> Option<u32> {
        self.register.mark(self.path.vip)
    }

    /// From now on, packets from `own` to `vip` go to `endpoint`.
    #[must_use]
    pub fn enter(&self, own: SocketAddr, vip: SocketAddr, endpoint: IpAddr) -> Entered {
        let ends = Ends::new(own, vip);
        let goal = Goal { service: self.path.service, endpoint };
        self.register.enter(ends, Entry { goal, fate: self.fate.clone(), over: None });
        Entered { register: self.register.clone(), ends }
    }

    /// What an endpoint was found to do wrong, and by which way.
    pub fn through(&self, failure: Failure) -> Failure {
        match failure {
            there @ (Failure::Endpoint(_) | Failure::NoRoute(_) | Failure::Silent(_)) => {
                there.map(|why| format!("through {}: {why}", self.path.vip).into())
            }
            ours @ Failure::Ours(_) => ours,
        }
    }

    /// What it means that nothing came within `patience`.
    pub fn silence(&self, patience: Duration) -> Failure {
        let (vip, patience) = (self.path.vip, show_duration(patience));
        match *self.fate.lock() {
            Fate::Unsent => Failure::Ours(format!("no packet to {vip} was sent within {patience}").into()),
            Fate::Sent => {
                let tunnels = if self.path.tunnel { ", and are tunnels taken there" } else { "" };
                let words = format!("no answer through {vip} within {patience}: is {vip} on its lo{tunnels}?");
                Failure::Endpoint(words.into())
            }
            Fate::Lost(Reason::NoNeighbor) => {
                Failure::Endpoint(format!("no way to it for {vip}: nobody answers for it on the link").into())
            }
            Fate::Lost(reason) => Failure::Endpoint(format!("no way to it for {vip}: {}", reason.word()).into()),
        }
    }
}

/// While it lives, and a little longer, packets of one probe are known.
#[derive(Debug)]
pub struct Entered {
    register: Arc<Register>,
    ends: Ends,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.register.leave(&self.ends);
    }
}

/// Both ends of a probe's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    own: SocketAddr,
    vip: SocketAddr,
}

impl Ends {
    /// Addresses and ports alone name it.
    pub fn new(own: SocketAddr, vip: SocketAddr) -> Ends {
        let plain = |at: SocketAddr| SocketAddr::new(at.ip(), at.port());
        Ends { own: plain(own), vip: plain(vip) }
    }
}

/// Whose packets are on their way through a VIP. One for a process.
#[derive(Debug, Default)]
pub struct Register {
    /// IPv4's and IPv6's. 0: none.
    marks: [AtomicU32; 2],
    entries: Mutex<HashMap<Ends, Entry>>,
}

#[derive(Debug)]
struct Entry {
    goal: Goal,
    fate: Arc<Mutex<Fate>>,
    /// Its probe is over; what it sent last is on its way for this long.
    over: Option<Moment>,
}

impl Register {
    /// There is a device, and packets with these marks come to it; 0: none of that family.
    pub fn open(&self, v4: u32, v6: u32) {
        self.marks[0].store(v4, Relaxed);
        self.marks[1].store(v6, Relaxed);
    }

    /// There is none any more.
    pub fn close(&self) {
        self.open(0, 0);
    }

    fn mark(&self, vip: IpAddr) -> Option<u32> {
        let mark = self.marks[usize::from(vip.is_ipv6())].load(Relaxed);
        (mark != 0).then_some(mark)
    }

    fn enter(&self, ends: Ends, entry: Entry) {
        let mut entries = self.entries.lock();
        if entries.len() >= limits::PROBE_PASSAGES {
            let now = clock::now();
            entries.retain(|_, entry| entry.over.is_none_or(|over| over > now));
        }
        if entries.len() >= limits::PROBE_PASSAGES {
            // Only so many probes run at once.
            entries.retain(|_, entry| entry.over.is_none());
        }
        entries.insert(ends, entry);
    }

    fn leave(&self, ends: &Ends) {
        if let Some(entry) = self.entries.lock().get_mut(ends) {
            entry.over = Some(clock::now() + AFTERWARDS);
        }
    }

    /// Where a packet goes, and where to note what becomes of it. `None`: it is no probe's.
    pub fn find(&self, ends: &Ends) -> Option<(Goal, Arc<Mutex<Fate>>)> {
        self.entries.lock().get(ends).map(|entry| (entry.goal, entry.fate.clone()))
    }
}

/// The reset that ends a probe's connection is read within this.
const AFTERWARDS: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(register: &Arc<Register>, vip: &str, tunnel: bool) -> Passage {
        Passage::new(Path { vip: vip.parse().unwrap(), service: ServiceId(7), tunnel }, register)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn packets_are_found_by_both_ends_while_their_probe_runs() {
        let register = Arc::new(Register::default());
        let probe = passage(&register, "10.0.0.100", false);
        let (own, vip, endpoint) = (at("10.0.0.2:40000"), at("10.0.0.100:80"), "10.0.0.41".parse().unwrap());
        let entered = probe.enter(own, vip, endpoint);
        let (goal, fate) = register.find(&Ends::new(own, vip)).unwrap();
        assert_eq!((goal.service, goal.endpoint), (ServiceId(7), endpoint));
        for (own, vip) in [(at("10.0.0.2:40001"), vip), (own, at("10.0.0.100:81")), (vip, own)] {
            assert!(register.find(&Ends::new(own, vip)).is_none(), "{own} {vip}");
        }
        *fate.lock() = Fate::Sent;
        assert_eq!(*probe.fate.lock(), Fate::Sent, "its own probe learns of it");
        drop(entered);
        assert!(register.find(&Ends::new(own, vip)).is_some(), "its last packet is on its way");
    }

    #[test]
    fn what_is_over_makes_room_and_what_runs_stays() {
        let register = Arc::new(Register::default());
        let probe = passage(&register, "10.0.0.100", false);
        let (vip, endpoint) = (at("10.0.0.100:80"), IpAddr::from([10, 0, 0, 41]));
        let own = |port: usize| SocketAddr::from(([10, 0, 0, 2], u16::try_from(port).unwrap()));
        let runs = probe.enter(own(1), vip, endpoint);
        for port in 2..=limits::PROBE_PASSAGES * 2 {
            drop(probe.enter(own(port), vip, endpoint));
        }
        assert!(register.entries.lock().len() <= limits::PROBE_PASSAGES);
        assert!(register.find(&runs.ends).is_some());
    }

    #[test]
    fn silence_means_what_became_of_the_packet() {
        let register = Arc::new(Register::default());
        let patience = Duration::from_millis(500);
        for (fate, tunnel, wanted) in [
            (Fate::Sent, false, "no answer through 10.0.0.100 within 500ms: is 10.0.0.100 on its lo?"),
            (Fate::Sent, true, "is 10.0.0.100 on its lo, and are tunnels taken there?"),
            (Fate::Lost(Reason::NoNeighbor), false, "nobody answers for it on the link"),
            (Fate::Lost(Reason::Unroutable), false, "no way to it for 10.0.0.100: unroutable"),
        ] {
            let probe = passage(&register, "10.0.0.100", tunnel);
            *probe.fate.lock() = fate;
            let Failure::Endpoint(why) = probe.silence(patience) else { panic!("{fate:?}") };
            assert!(why.contains(wanted), "{why}");
        }
        // A packet that was never sent says nothing of the endpoint.
        assert!(matches!(passage(&register, "10.0.0.100", false).silence(patience), Failure::Ours(_)));
    }

    #[test]
    fn marks_are_of_one_family_each_and_end_with_the_device() {
        let register = Arc::new(Register::default());
        let (v4, v6) = (passage(&register, "10.0.0.100", false), passage(&register, "fd00::100", false));
        assert_eq!((v4.mark(), v6.mark()), (None, None));
        register.open(5, 0);
        assert_eq!((v4.mark(), v6.mark()), (Some(5), None));
        register.open(5, 5);
        assert_eq!((v4.mark(), v6.mark()), (Some(5), Some(5)));
        register.close();
        assert_eq!((v4.mark(), v6.mark()), (None, None));
    }
}
