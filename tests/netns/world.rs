//! The hosts and wires of a test, of both families:
//!
//! ```text
//! client ── router ── switch ─┬─ near      a client on the same network
//!  198.51.100.7   10.0.0.1    ├─ balancer  10.0.0.2, and a second arm where endpoints are behind it
//!                             └─ endpoints 10.0.0.41 …, or 10.1.0.41 … behind the balancer or the router
//! ```
//!
//! Nobody has the VIP: who does is what is tested. Everything is gone when the world is dropped.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Command;

use super::common::await_that;
use super::node::{Node, prefix};

pub struct World {
    pub client: Node,
    pub router: Node,
    pub switch: Node,
    pub near: Node,
    pub balancer: Node,
    pub endpoints: Vec<Node>,
    pub place: Place,
}

/// Where the endpoints are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With the balancer on one network; the router is their gateway.
    Lan,
    /// On a network of their own, with the balancer as its gateway.
    BehindBalancer,
    /// On a network of their own, with the router as its gateway.
    BehindRouter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub fn vip(self) -> IpAddr {
        self.address("10.0.0.100", "fd00::100")
    }

    pub fn client(self) -> IpAddr {
        self.address("198.51.100.7", "2001:db8:51::7")
    }

    pub fn near(self) -> IpAddr {
        self.address("10.0.0.7", "fd00::7")
    }

    pub fn balancer(self) -> IpAddr {
        self.address("10.0.0.2", "fd00::2")
    }

    /// The address of endpoint `index`.
    pub fn endpoint(self, place: Place, index: usize) -> IpAddr {
        let (network, last) = (usize::from(place != Place::Lan), 41 + index);
        let v6 = if network == 0 { format!("fd00::{last}") } else { format!("fd00:1::{last}") };
        self.address(&format!("10.{network}.0.{last}"), &v6)
    }

    pub fn word(self) -> &'static str {
        if self == Family::V6 { "IPv6" } else { "IPv4" }
    }

    fn address(self, v4: &str, v6: &str) -> IpAddr {
        if self == Family::V6 { v6 } else { v4 }.parse().expect("an address")
    }
}

impl World {
    pub fn new(place: Place, endpoints: usize) -> World {
        let prefix = prefix();
        let node = |role: &str| Node::new(format!("{prefix}-{role}"));
        let world = World {
            client: node("client"),
            router: node("router"),
            switch: node("switch"),
            near: node("near"),
            balancer: node("balancer"),
            endpoints: (0..endpoints).map(|index| node(&format!("endpoint{index}"))).collect(),
            place,
        };
        world.wire();
        let arms = world.arms();
        for arm in &arms {
            arm.host.batch(&arm.addresses());
        }
        // Once every wire has both its ends up: IPv6 takes no gateway on one that has not.
        for arm in &arms {
            arm.host.batch(&arm.routes());
        }
        // The kernel says that a link is up, and gives it the address that it makes itself, when it comes to that.
        for arm in &arms {
            arm.await_settled();
        }
        drop(arms);
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            world.router.set(key, "1");
        }
        world
    }

    /// The name that a server on endpoint `index` goes by.
    pub fn name(index: usize) -> String {
        format!("endpoint{index}")
    }

    /// What fits on the way to the far client; the hosts on the other wires do not know.
    pub fn narrow(&self, mtu: u32) {
        self.router.ip(&format!("link set far mtu {mtu}"));
        self.client.ip(&format!("link set eth0 mtu {mtu}"));
    }

    /// Gives the balancer's first interface so many queues each way, and a wire's other end that spreads flows over them.
    pub fn rewire(&self, queues: usize) {
        let (balancer, many) = (&self.balancer, format!("numrxqueues {queues} numtxqueues {queues}"));
        let peer = format!("name eth0 {many} netns {}", balancer.name);
        balancer.ip("link del eth0");
        self.switch
            .batch(&format!("link add balancer {many} type veth peer {peer}\nlink set balancer master lan up\n"));
        for arm in self.arms().iter().filter(|arm| arm.host.name == balancer.name && arm.device == "eth0") {
            balancer.batch(&(arm.addresses() + &arm.routes()));
            arm.await_settled();
        }
    }

    /// The hardware address of a host's first interface.
    pub fn mac(host: &Node) -> String {
        let shown = host.ip("-o link show dev eth0");
        shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a MAC").to_owned()
    }

    /// Puts the endpoints' wires into the bridge that their place says, and all others into the first.
    fn wire(&self) {
        let mut lines = String::new();
        for bridge in ["lan", "second"] {
            let _ = writeln!(lines, "link add {bridge} type bridge forward_delay 0 mcast_snooping 0");
            let _ = writeln!(lines, "link set {bridge} up");
        }
        let mut plug = |port: &str, host: &Node, device: &str, bridge: &str| {
            let _ = writeln!(lines, "link add {port} type veth peer name {device} netns {}", host.name);
            let _ = writeln!(lines, "link set {port} master {bridge} up");
        };
        plug("router", &self.router, "eth0", "lan");
        plug("near", &self.near, "eth0", "lan");
        plug("balancer", &self.balancer, "eth0", "lan");
        match self.place {
            Place::Lan => {}
            Place::BehindBalancer => plug("balancer2", &self.balancer, "eth1", "second"),
            Place::BehindRouter => plug("router2", &self.router, "eth1", "second"),
        }
        let bridge = if self.place == Place::Lan { "lan" } else { "second" };
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            plug(&format!("endpoint{index}"), endpoint, "eth0", bridge);
        }
        self.switch.batch(&lines);
        // A switch filters nothing; where the kernel has this, its calls are a quarter of what a frame costs here.
        self.switch.set_if_known("net/bridge/bridge-nf-call-iptables", "0");
        self.router.batch(&format!("link add far type veth peer name eth0 netns {}\n", self.client.name));
    }

    /// Every interface that has addresses.
    fn arms(&self) -> Vec<Arm<'_>> {
        let arm = |host, device, network: Network, last: usize, gateway| Arm { host, device, network, last, gateway };
        let mut arms = vec![
            arm(&self.client, "eth0", FAR, 7, true),
            arm(&self.router, "far", FAR, 1, false),
            arm(&self.router, "eth0", LAN, 1, false),
            arm(&self.near, "eth0", LAN, 7, true),
            arm(&self.balancer, "eth0", LAN, 2, true),
        ];
        match self.place {
            Place::Lan => {}
            Place::BehindBalancer => arms.push(arm(&self.balancer, "eth1", SECOND, 1, false)),
            Place::BehindRouter => arms.push(arm(&self.router, "eth1", SECOND, 1, false)),
        }
        let network = if self.place == Place::Lan { LAN } else { SECOND };
        arms.extend(
            self.endpoints.iter().enumerate().map(|(index, host)| arm(host, "eth0", network, 41 + index, true)),
        );
        arms
    }
}

/// A host's interface on a network.
struct Arm<'a> {
    host: &'a Node,
    device: &'static str,
    network: Network,
    /// The last number of its addresses.
    last: usize,
    /// Whether its default route leads to number 1 of this network.
    gateway: bool,
}

#[derive(Clone, Copy)]
struct Network {
    v4: &'static str,
    v6: &'static str,
}

const FAR: Network = Network { v4: "198.51.100.", v6: "2001:db8:51::" };
const LAN: Network = Network { v4: "10.0.0.", v6: "fd00::" };
const SECOND: Network = Network { v4: "10.1.0.", v6: "fd00:1::" };

impl Arm<'_> {
    fn addresses(&self) -> String {
        let Arm { device, network: Network { v4, v6 }, last, .. } = self;
        format!(
            "address add {v4}{last}/24 dev {device}\naddress add {v6}{last}/64 dev {device} nodad\nlink set {device} up\n"
        )
    }

    fn await_settled(&self) {
        let Arm { host, device, .. } = self;
        await_that(&format!("{device} of {} is up", host.name), || {
            let own = host.ip(&format!("-o -6 address show dev {device} scope link"));
            let is_settled = own.contains("fe80::") && !own.contains("tentative");
            is_settled && host.ip(&format!("-o link show dev {device}")).contains(" state UP ")
        });
    }

    fn routes(&self) -> String {
        let Network { v4, v6 } = self.network;
        if !self.gateway {
            return String::new();
        }
        format!("route add default via {v4}1\nroute add default via {v6}1\n")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let own = [&self.client, &self.router, &self.switch, &self.near, &self.balancer];
        for node in own.into_iter().chain(&self.endpoints) {
            let _ = Command::new("ip").args(["netns", "del", &node.name]).status();
        }
    }
}
