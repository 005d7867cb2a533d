//! Engine: what an endpoint of each packet mode needs, and which of it is so already. Facts in, changes out.
//!
//! `notes/packet.md` 3.8 is the table behind it. Not here: reading the host, changing it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};

use super::Mode;
use crate::wire::gue;

/// One mode for one address: the VIP, or for `nat` the balancer.
#[derive(Debug)]
pub struct Wish {
    pub mode: Mode,
    pub address: IpAddr,
    pub interface: String,
    pub outer_ipv6: bool,
    pub userspace: bool,
    /// Bytes of a packet that fit on the way here, if less than the interface's.
    pub mtu: Option<u32>,
}

/// What the host is like now.
#[derive(Debug, Default)]
pub struct Facts {
    /// Of the interface, bytes.
    pub mtu: u32,
    pub addresses: Vec<Assigned>,
    /// Lines of the main table of the wish's family, as `ip route` shows them.
    pub routes: Vec<String>,
    pub devices: Vec<String>,
    /// Whether GUE is unpacked for IPv4, for IPv6.
    pub gue: [bool; 2],
    /// By key, with slashes. What the kernel does not have is absent.
    pub sysctls: BTreeMap<String, String>,
}

#[derive(Debug)]
pub struct Assigned {
    pub device: String,
    pub address: IpAddr,
    pub prefix: u8,
}

#[derive(Debug)]
pub struct Need {
    pub change: Change,
    pub why: &'static str,
    pub done: bool,
    pub owners: Vec<String>,
}

/// What stands in the way, and no setting mends, but perhaps a command.
#[derive(Debug)]
pub struct Obstacle {
    pub what: String,
    pub command: Option<String>,
}

impl Obstacle {
    fn address(what: String, at: &Assigned) -> Obstacle {
        let command = format!("ip address del {}/{} dev {}", at.address, at.prefix, at.device);
        Obstacle { what, command: Some(command) }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command {
            Some(command) => write!(f, "{}: `{command}` first", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Obstacle {}

/// One change, with what was there before. The record keeps it, so its shape is a file format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Change {
    /// Keys have slashes, since an interface's name may have dots.
    Sysctl { key: String, from: Option<String>, to: String },
    /// On `device`, as a single address.
    Address { address: IpAddr, device: String },
    /// A tunnel's end: `kind` is what `ip link add` is told.
    Device { name: String, kind: String, ipv6: bool },
    /// UDP packets to GUE's port are unpacked by the kernel.
    Gue { ipv6: bool },
    /// Routes as `ip route` shows and takes them.
    Route { ipv6: bool, from: Option<String>, to: String },
}

/// What must be so for `wish`, in the order in which it is safe to bring it about: the VIP comes after what keeps the host
/// from telling others of it.
///
/// # Errors
/// What no setting mends: the VIP on another interface, a VIP that is no unicast address, a balancer that is the host itself.
pub fn plan(wish: &Wish, facts: &Facts) -> anyhow::Result<Vec<Need>> {
    let address = wish.address;
    ensure!(
        !(address.is_unspecified() || address.is_loopback() || address.is_multicast()),
        "{address} is no address that clients could reach"
    );
    if wish.mode == Mode::Nat {
        let mut needs = vec![gateway(wish, facts)?];
        needs.extend(deaf_to_redirects(wish, facts));
        return Ok(needs);
    }
    let mut needs = Vec::new();
    if matches!(wish.mode, Mode::Ipip | Mode::Gue) && !wish.userspace {
        tunnel(wish, facts, &mut needs)?;
    }
    if address.is_ipv4() {
        for device in ["all", &wish.interface] {
            needs.push(sysctl(facts, format!("net/ipv4/conf/{device}/arp_ignore"), 1, QUIET));
            needs.push(sysctl(facts, format!("net/ipv4/conf/{device}/arp_announce"), 2, QUIET));
        }
    } else if facts.sysctls.get(IPV6_ON_LO).is_some_and(|off| off == "1") {
        let change = Change::Sysctl { key: IPV6_ON_LO.into(), from: Some("1".into()), to: "0".into() };
        needs.push(Need::new(change, "IPv6 is switched off on lo, as Docker does", false));
    }
    needs.push(vip(wish, facts)?);
    if wish.mode != Mode::L2 {
        advertise(wish, facts, &mut needs);
    }
    Ok(needs)
}

/// Raises a value to at least `least`: for these keys more is stricter, and the kernel takes the greater of `all` and the
/// interface's own.
fn sysctl(facts: &Facts, key: String, least: u8, why: &'static str) -> Need {
    let from = facts.sysctls.get(&key).cloned();
    let done = from.as_deref().and_then(|now| now.parse::<u8>().ok()).is_some_and(|now| now >= least);
    Need::new(Change::Sysctl { key, from, to: least.to_string() }, why, done)
}

fn vip(wish: &Wish, facts: &Facts) -> anyhow::Result<Need> {
    let address = wish.address;
    let whole = if address.is_ipv6() { 128 } else { 32 };
    let mut done = false;
    for at in facts.addresses.iter().filter(|assigned| assigned.address == address) {
        if at.device != "lo" {
            return Err(Obstacle::address(
                format!("{address} is on {}, where this host answers for it", at.device),
                at,
            )
            .into());
        }
        if at.prefix != whole {
            let what = format!("{address}/{} on lo makes the whole network local", at.prefix);
            return Err(Obstacle::address(what, at).into());
        }
        done = true;
    }
    Ok(Need::new(Change::Address { address, device: "lo".into() }, "packets for the VIP are for this host", done))
}

/// The end of the tunnel. It takes packets from any sender to the interface's own address.
fn tunnel(wish: &Wish, facts: &Facts, needs: &mut Vec<Need>) -> anyhow::Result<()> {
    let ipv6 = wish.outer_ipv6;
    let own = |assigned: &&Assigned| {
        assigned.device == wish.interface && assigned.address.is_ipv6() == ipv6 && !is_link_local(assigned.address)
    };
    let Some(local) = facts.addresses.iter().find(own) else {
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        bail!("{} has no {family} address that a tunnel could end at", wish.interface);
    };
    let (name, kind) = match (ipv6, wish.address.is_ipv6()) {
        (false, false) => ("strata-4in4", "ipip"),
        (false, true) => ("strata-6in4", "sit"),
        (true, _) => ("strata-in6", "ip6tnl mode any"),
    };
    let kind = format!("{kind} local {}", local.address);
    let done = facts.devices.iter().any(|device| device == name);
    let device = Change::Device { name: name.into(), kind, ipv6: wish.address.is_ipv6() };
    needs.push(Need::new(device, "takes the outer IP header off", done));
    if wish.address.is_ipv4() {
        let why = "packets of clients come out of the tunnel: the way back need not lead there";
        needs.push(sysctl(facts, format!("net/ipv4/conf/{name}/rp_filter"), 2, why));
    }
    if wish.mode == Mode::Gue {
        let done = facts.gue[usize::from(ipv6)];
        needs.push(Need::new(Change::Gue { ipv6 }, "takes the UDP and GUE headers off", done));
    }
    Ok(())
}

/// Clients are told of segments that fit with the outer headers: Strata never sees the SYN-ACK, so it cannot.
fn advertise(wish: &Wish, facts: &Facts, needs: &mut Vec<Need>) {
    let ipv6 = wish.address.is_ipv6();
    let outer = if wish.outer_ipv6 { 40 } else { 20 };
    let between = if wish.mode == Mode::Gue { gue::Variant::Header.overhead() } else { 0 };
    let headers = if ipv6 { 60 } else { 40 };
    let overhead = headers + outer + u32::try_from(between).unwrap_or(0);
    let mss = wish.mtu.map_or(facts.mtu, |mtu| mtu.min(facts.mtu)).saturating_sub(overhead);
    for line in facts.routes.iter().filter(|line| leads_to_clients(line, &wish.interface)) {
        let (bare, now) = split_advmss(line);
        let done = now.is_some_and(|now| now <= mss);
        let to = if done { line.clone() } else { format!("{bare} advmss {mss}") };
        let change = Change::Route { ipv6, from: Some(line.clone()), to };
        needs.push(Need::new(change, "clients send segments that fit with the tunnel's headers", done));
    }
}

/// Not what a router has announced: the next announcement would set it anew.
fn leads_to_clients(line: &str, interface: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let first = words.first().copied().unwrap_or_default();
    words.windows(2).any(|pair| pair == ["dev", interface])
        && !words.windows(2).any(|pair| pair == ["proto", "ra"])
        && (first == "default" || first.starts_with(|c: char| c.is_ascii_hexdigit()) && first.contains(['.', ':']))
        && !first.starts_with("fe80:")
        && !first.starts_with("ff")
}

/// The line without `advmss`, and its value.
fn split_advmss(line: &str) -> (String, Option<u32>) {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let Some(at) = words.iter().position(|word| *word == "advmss") else { return (words.join(" "), None) };
    let value = words.get(at + 1).and_then(|value| value.parse().ok());
    words.drain(at..words.len().min(at + 2));
    (words.join(" "), value)
}

fn gateway(wish: &Wish, facts: &Facts) -> anyhow::Result<Need> {
    let (balancer, device) = (wish.address, &wish.interface);
    ensure!(
        facts.addresses.iter().all(|assigned| assigned.address != balancer),
        "{balancer} is this host's own address: `--balancer` is the address of Strata's host"
    );
    let ipv6 = balancer.is_ipv6();
    // Of several default routes the kernel takes the one with the least metric: 0 for IPv4, 1 for IPv6.
    let to = format!("default via {balancer} dev {device}{}", if ipv6 { " metric 1" } else { "" });
    let wanted: Vec<&str> = to.split_whitespace().take(5).collect();
    let best = facts.routes.iter().find(|line| {
        let metric = split_value(line, "metric");
        line.starts_with("default") && if ipv6 { metric == Some(1) } else { metric.unwrap_or(0) == 0 }
    });
    let done = best.is_some_and(|line| line.split_whitespace().take(5).eq(wanted.iter().copied()));
    Ok(Need::new(
        Change::Route { ipv6, from: best.cloned(), to },
        "replies leave through the balancer, and all else: its kernel forwards what comes from no `ports` of a service",
        done,
    ))
}

/// Where the router is on the endpoint's own network, the balancer's kernel forwards what the endpoint sends to others, and tells it
/// of the shorter way: from then on replies to whomever it talked to would take that too.
fn deaf_to_redirects(wish: &Wish, facts: &Facts) -> impl Iterator<Item = Need> {
    let ipv6 = wish.address.is_ipv6();
    redirects(&wish.interface).into_iter().filter(move |key| key.contains("/ipv6/") == ipv6).filter_map(|key| {
        let now = facts.sysctls.get(&key)?;
        let (from, done) = (Some(now.clone()), now == "0");
        Some(Need::new(
            Change::Sysctl { key, from, to: "0".into() },
            "redirects would lead replies past the balancer",
            done,
        ))
    })
}

/// IPv4 takes redirects where either of the two allows it, and IPv6 looks at the interface's own.
fn redirects(interface: &str) -> [String; 3] {
    ["ipv4/conf/all", &format!("ipv4/conf/{interface}"), &format!("ipv6/conf/{interface}")]
        .map(|place| format!("net/{place}/accept_redirects"))
}

fn split_value(line: &str, name: &str) -> Option<u32> {
    let mut words = line.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

impl Need {
    fn new(change: Change, why: &'static str, done: bool) -> Need {
        Need { change, why, done, owners: Vec::new() }
    }
}

impl Change {
    /// What it changes: two changes of the same thing have the same key.
    pub fn key(&self) -> String {
        match self {
            Change::Sysctl { key, .. } => key.clone(),
            Change::Address { address, device } => format!("{address} on {device}"),
            Change::Device { name, .. } => format!("device {name}"),
            Change::Gue { ipv6 } => format!("gue{}", flag(*ipv6)),
            Change::Route { ipv6, to, .. } => {
                let gateway = if to.contains(" advmss ") { "" } else { " by nat" };
                format!("route{} {}{gateway}", flag(*ipv6), split_advmss(to).0)
            }
        }
    }

    /// Takes over what `newer` makes of the same thing; what was there first stays.
    pub fn now(&mut self, newer: &Change) {
        let first = self.clone();
        *self = newer.clone();
        match (self, first) {
            (Change::Sysctl { from, .. }, Change::Sysctl { from: was, .. })
            | (Change::Route { from, .. }, Change::Route { from: was, .. }) => *from = was,
            _ => {}
        }
    }

    /// For a shell, as root.
    pub fn commands(&self) -> Vec<String> {
        match self {
            Change::Sysctl { key, to, .. } => vec![format!("sysctl -w {key}={to}")],
            Change::Address { address: IpAddr::V4(v4), device } => vec![format!("ip address add {v4}/32 dev {device}")],
            // Without duplicate address detection, of which others would hear, and never the source of the host's own talk.
            Change::Address { address, device } => {
                vec![format!("ip -6 address add {address}/128 dev {device} nodad preferred_lft 0")]
            }
            Change::Device { name, kind, ipv6 } => {
                let mut lines = vec![format!("ip link add {name} type {kind}")];
                // Any address will do: without one the kernel drops what comes out where rp_filter is on.
                if !ipv6 {
                    lines.push(format!("ip address add 127.0.0.42/32 dev {name}"));
                }
                lines.push(format!("ip link set {name} up"));
                lines
            }
            Change::Gue { ipv6 } => vec![format!("ip{} fou add port {} gue", flag(*ipv6), gue::PORT)],
            Change::Route { ipv6, to, .. } => vec![format!("ip{} route replace {to}", flag(*ipv6))],
        }
    }
}

pub const fn flag(ipv6: bool) -> &'static str {
    if ipv6 { " -6" } else { "" }
}

/// Which values a wish may need to know.
pub fn sysctls(interface: &str) -> Vec<String> {
    let mut keys = vec![IPV6_ON_LO.to_owned(), "net/ipv4/conf/strata-4in4/rp_filter".to_owned()];
    keys.push("net/ipv4/conf/strata-in6/rp_filter".to_owned());
    for device in ["all", interface] {
        keys.extend(["arp_ignore", "arp_announce"].map(|name| format!("net/ipv4/conf/{device}/{name}")));
    }
    keys.extend(redirects(interface));
    keys
}

const QUIET: &str = "the balancer answers for the VIP by ARP; this host neither answers for it nor asks in its name";
const IPV6_ON_LO: &str = "net/ipv6/conf/lo/disable_ipv6";
