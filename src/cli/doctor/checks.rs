//! Engine: what breaks the packet modes, from what is known of the hosts. Facts in, findings out.
//!
//! Every check is a line of [`CHECKS`], which `docs/doctor.md` repeats. What does not matter to the userspace engine is no
//! check: `rp_filter` where clients' packets come in (taps see them before it), unfinished checksums on veth (the engine carries their state), GRO
//! (merged frames are cut again), and netfilter (its hooks come after the taps).
//!
//! Not here: gathering (`look`), and an endpoint's own side (`endpoint`).

use std::fmt::Write as _;
use std::net::IpAddr;

use super::facts::{Endpoint, Facts, Interface, Passages, Role, Seen, Tcp, Way};
use super::finding::{Cure, Finding, Severity};
use crate::cli::setup_endpoint::{LEAST_MTU, Mode};
use crate::doc::suggest::nearest;
use crate::mode::packet::deaf;
use crate::state::Forward;
use crate::sys::capability::Capability;
use crate::sys::ingress::Guard;
use crate::sys::link::State;

/// One thing that is looked at.
pub struct Check {
    pub name: &'static str,
    /// The question, for people.
    pub asks: &'static str,
    pub judge: fn(&Facts, &mut Judged),
}

/// On the balancer, in the order in which one would mend.
pub static CHECKS: &[Check] = &[
    Check {
        name: "capabilities",
        asks: "may Strata open packet sockets and keep the kernel out?",
        judge: capabilities,
    },
    Check {
        name: "interface",
        asks: "is each interface of VIPs and of NAT's endpoints there, up and connected?",
        judge: interfaces,
    },
    Check {
        name: "offloads",
        asks: "does a card put segments together that nobody can take apart (LRO), or hide VLAN tags from AF_XDP?",
        judge: offloads,
    },
    Check { name: "vip-here", asks: "has this host a VIP itself, so that its kernel answers?", judge: vips_here },
    Check { name: "vip-owner", asks: "does somebody else answer for a VIP?", judge: owners },
    Check { name: "source", asks: "has somebody an address that full NAT uses as its own?", judge: sources },
    Check {
        name: "route",
        asks: "does a way by Ethernet lead to each endpoint, in l2 without a router?",
        judge: routes,
    },
    Check { name: "neighbor", asks: "does each endpoint, or the router before it, answer?", judge: neighbors },
    Check {
        name: "vip-on-endpoint",
        asks: "does each endpoint take packets for the VIP (l2, ipip, gue)?",
        judge: on_endpoints,
    },
    Check { name: "advmss", asks: "do endpoints behind tunnels tell clients of segments that fit?", judge: segments },
    Check {
        name: "gateway",
        asks: "do replies of endpoints come back through this host, and does it forward the rest (nat)?",
        judge: gateways,
    },
    Check { name: "kernel", asks: "is the kernel kept from forwarding what is Strata's?", judge: kernel },
    Check {
        name: "probe-through",
        asks: "can probes through a VIP leave (TUN, policy routing), and their answers come in (rp_filter)?",
        judge: passages,
    },
];

/// What a check found.
#[derive(Default)]
pub struct Judged {
    pub findings: Vec<Finding>,
    check: &'static str,
    /// Things that were fine, and things that could not be asked.
    fine: Vec<String>,
    unknown: usize,
}

/// Every finding about a balancer, in the order of [`CHECKS`].
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    for check in CHECKS {
        let mut judged = Judged { check: check.name, ..Judged::default() };
        (check.judge)(facts, &mut judged);
        all.extend(judged.finish());
    }
    if facts.left_out > 0 {
        let about = format!("{} left out: there are more than doctor asks at once", count(facts.left_out, "question"));
        all.push(Finding { check: "questions", severity: Severity::Unknown, about, why: String::new(), cure: None });
    }
    all
}

impl Judged {
    fn add(&mut self, severity: Severity, about: String, why: &'static str, cure: Option<Cure>) {
        let finding = Finding { check: self.check, severity, about, why: why.to_owned(), cure };
        // Two services may share an endpoint.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn error(&mut self, about: String, why: &'static str, cure: Option<Cure>) {
        self.add(Severity::Error, about, why, cure);
    }

    fn warning(&mut self, about: String, why: &'static str, cure: Option<Cure>) {
        self.add(Severity::Warning, about, why, cure);
    }

    fn fine(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.fine.contains(&what) {
            self.fine.push(what);
        }
    }

    fn finish(mut self) -> Vec<Finding> {
        if self.unknown > 0 {
            let about = format!("{} could not be asked: mend the others first", count(self.unknown, "question"));
            self.add(Severity::Unknown, about, "", None);
        }
        if self.findings.is_empty() && !self.fine.is_empty() {
            let more = self.fine.len().saturating_sub(SHOWN);
            self.fine.truncate(SHOWN);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            self.add(Severity::Ok, self.fine.join(", ") + &more, "", None);
        }
        self.findings
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn capabilities(facts: &Facts, judged: &mut Judged) {
    for (capability, held) in &facts.capabilities {
        let name = capability.name();
        if *held {
            judged.fine(name);
            continue;
        }
        let why = match capability {
            Capability::NetRaw => "packets come and go by packet sockets, and so do doctor's questions",
            Capability::Bpf => "AF_XDP takes an XDP program, which nobody else may load",
            Capability::IpcLock => "AF_XDP locks 8 MiB a queue, without it only as far as `ulimit -l` goes",
            _ => "without it the kernel answers and forwards what is Strata's as well",
        };
        let program = std::env::current_exe().map_or_else(|_| "strata".to_owned(), |path| path.display().to_string());
        let (set, note) = if facts.af_xdp {
            (
                "cap_bpf,cap_ipc_lock,cap_net_admin,cap_net_raw",
                "or run it as root; in a container with `cap_add: [NET_ADMIN, NET_RAW, BPF, IPC_LOCK]`",
            )
        } else {
            ("cap_net_admin,cap_net_raw", "or run it as root; in a container with `cap_add: [NET_ADMIN, NET_RAW]`")
        };
        let cure = Cure::here([format!("setcap {set}+ep {program}")]).note(note);
        let about = format!("{name} is not held");
        match capability {
            Capability::IpcLock => judged.warning(about, why, Some(cure)),
            _ => judged.error(about, why, Some(cure)),
        }
    }
}

fn interfaces(facts: &Facts, judged: &mut Judged) {
    for interface in &facts.interfaces {
        let Interface { name, link, master, role, .. } = interface;
        let Some(link) = link else {
            let near = nearest(name, facts.devices.iter().map(String::as_str));
            let mut about = format!("there is no interface {name}; there are {}", facts.devices.join(", "));
            if let Some(near) = near {
                let _ = write!(about, ": did you mean {near}?");
            }
            judged.error(about, "`interface` of the VIP names where clients' packets come in", None);
            continue;
        };
        match link.state {
            State::Down => {
                let cure = Cure::here([format!("ip link set {name} up")]);
                judged.error(format!("{name} is down"), "no packet comes in by it", Some(cure));
                continue;
            }
            State::NoCarrier => {
                let why = "the cable is not in, or its other end is down";
                judged.error(format!("{name} has no carrier"), why, None);
                continue;
            }
            State::Running => {}
        }
        let has_virtual = *role == Role::Clients { has_virtual: true };
        match (deaf::why(link, master.as_deref(), has_virtual), role) {
            (Some(deaf), Role::Clients { .. }) => judged.error(format!("{name} {}", deaf.what()), deaf.cure(), None),
            (Some(deaf), Role::Replies) => {
                let why = "replies of NAT's endpoints do not reach Strata by it: give them a way by another one";
                judged.error(format!("{name} {}", deaf.what()), why, None);
            }
            (None, _) => judged.fine(format!("{name} is up")),
        }
    }
}

fn offloads(facts: &Facts, judged: &mut Judged) {
    for interface in facts.interfaces.iter().filter(|interface| interface.link.is_some()) {
        let name = &interface.name;
        if interface.lro {
            let cure = Cure::here([format!("ethtool -K {name} lro off")]);
            let why = "frames that the card has put together cannot be taken apart: they are dropped (oversized-frame)";
            judged.error(format!("{name} has LRO on"), why, Some(cure));
        } else {
            judged.fine(format!("{name} has no LRO"));
        }
        if facts.af_xdp && interface.rx_vlan {
            let cure = Cure::here([format!("ethtool -K {name} rxvlan off")]);
            let why = "AF_XDP does not see which: frames of another VLAN for a VIP's address are served as if they had no tag";
            judged.warning(format!("{name} takes VLAN tags out of frames"), why, Some(cure));
        }
    }
}

fn vips_here(facts: &Facts, judged: &mut Judged) {
    for vip in &facts.vips {
        for own in facts.own.iter().filter(|own| own.address == vip.address) {
            let (address, prefix, device) = (own.address, own.prefix, &own.device);
            let cure = Cure::here([format!("ip address del {address}/{prefix} dev {device}")]);
            let why =
                "a packet mode's VIP is Strata's alone: this kernel would answer for it, and refuse its connections";
            judged.error(format!("{address} is on {device} of this host"), why, Some(cure));
        }
        judged.fine(format!("{} is not this host's", vip.address));
    }
}

fn owners(facts: &Facts, judged: &mut Judged) {
    for vip in &facts.vips {
        let Some(claimed) = &vip.claimed else {
            judged.unknown += 1;
            continue;
        };
        for mac in claimed {
            let endpoint = facts.endpoints.iter().find(|endpoint| endpoint.has(*mac) && is_near(endpoint));
            let (address, place) = (vip.address, vip.place());
            let Some(endpoint) = endpoint else {
                let why = "clients that ask get that host or Strata, whoever is faster; find it by its MAC address in the \
                           switch, or with `bridge fdb show`";
                judged.error(format!("{address} is answered for by {mac} on {place}, a stranger"), why, None);
                continue;
            };
            let why = "clients that ask get this endpoint, past Strata and all balancing";
            let name = &endpoint.name;
            let about = format!("{address} is answered for by {mac} on {place}: endpoint {name}");
            let cure = if endpoint.is_direct() {
                setup(endpoint, address)
            } else {
                Cure::on(name, [format!("ip address del {}", whole(address))])
                    .note("with `dev` and the interface that it is on; NAT endpoints do not have the VIP")
            };
            judged.error(about, why, Some(cure));
        }
        judged.fine(format!("nobody else answers for {}", vip.address));
    }
}

fn is_near(endpoint: &Endpoint) -> bool {
    matches!(endpoint.way, Way::Out { router: None, .. })
}

fn whole(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv6() { 128 } else { 32 })
}

/// What sets a direct-return endpoint up for a VIP.
fn setup(endpoint: &Endpoint, vip: IpAddr) -> Cure {
    let mode = match endpoint.forward {
        Forward::Ipip => Mode::Ipip,
        Forward::Gue => Mode::Gue,
        Forward::Mac | Forward::Nat | Forward::FullNat => Mode::L2,
    };
    let mut command = format!("strata setup-endpoint --mode {} --vip {vip}", mode.word());
    // The outer header's family is the balancer's address's.
    if let (true, Some(balancer)) = (mode != Mode::L2 && vip.is_ipv6() != endpoint.address.is_ipv6(), endpoint.balancer)
    {
        let _ = write!(command, " --balancer {balancer}");
    }
    if let (true, Way::Out { path: Some(path), .. }) = (mode != Mode::L2, &endpoint.way)
        && i64::from(*path) >= LEAST_MTU
    {
        let _ = write!(command, " --mtu {path}");
    }
    let cure = Cure::on(&endpoint.name, [command + " --apply"]);
    if mode == Mode::L2 { cure } else { cure.note("with --userspace where its kernel has no tunnels") }
}

fn sources(facts: &Facts, judged: &mut Judged) {
    for source in &facts.sources {
        let address = source.address;
        if let Some(own) = facts.own.iter().find(|own| own.address == address) {
            let cure = Cure::here([format!("ip address del {address}/{} dev {}", own.prefix, own.device)])
                .note("or name a `source` that nobody has");
            let why = "this kernel would answer endpoints itself, with resets";
            judged.error(
                format!("{address}, the source of service {}, is on {} of this host", source.service, own.device),
                why,
                Some(cure),
            );
            continue;
        }
        match source.claimed.as_deref() {
            None => judged.unknown += 1,
            Some([]) => judged.fine(format!("nobody has {address}")),
            Some([mac, ..]) => {
                let why = "endpoints answer that host instead of Strata: name a `source` that nobody has";
                judged.error(format!("{address}, the source of service {}, is {mac}'s", source.service), why, None);
            }
        }
    }
}

fn routes(facts: &Facts, judged: &mut Judged) {
    for endpoint in &facts.endpoints {
        let name = &endpoint.name;
        match &endpoint.way {
            Way::Here => {
                let why = "packets for it would come back to Strata without end: name another host";
                judged.error(format!("endpoint {name} is this host"), why, None);
            }
            Way::Nowhere(error) => {
                let why = "`ip route get` shows the same; add a route to its network";
                judged.error(format!("no route leads to endpoint {name}: {error}"), why, None);
            }
            Way::Out { router: Some(router), .. } if endpoint.forward == Forward::Mac && endpoint.fixed.is_none() => {
                let about = format!("endpoint {name} of l2 service {} is behind {router}", endpoint.service);
                let why = "l2 changes the frame alone, and frames do not pass routers: use l3 with `forward = \"ipip\"` or \
                           \"gue\", or name an endpoint on the VIP's own network";
                judged.error(about, why, None);
            }
            Way::Frameless { interface } => {
                let why = "the packet modes send Ethernet frames, and what goes there is dropped (unroutable): give it a way by \
                           Ethernet, or a proxy of l4 or l7";
                let about = format!("endpoint {name} is reached by {interface}, which is no Ethernet interface");
                judged.error(about, why, None);
            }
            Way::Out { .. } => judged.fine(format!("{name} is reached")),
        }
    }
}

fn neighbors(facts: &Facts, judged: &mut Judged) {
    for endpoint in &facts.endpoints {
        let Way::Out { interface, router, .. } = &endpoint.way else { continue };
        let name = &endpoint.name;
        match (endpoint.mac, endpoint.fixed) {
            (None, _) => judged.unknown += 1,
            (Some(None), None) => {
                let who = match router {
                    Some(router) => format!("{router}, the router to endpoint {name},"),
                    None => format!("endpoint {name}"),
                };
                let why = "it is down, on another network, or its address is wrong in the file";
                judged.error(format!("{who} does not answer on {interface}"), why, None);
            }
            (Some(Some(mac)), Some(fixed)) if mac != fixed && router.is_none() => {
                let why = "the file's MAC address is never asked for again: frames go to a card that is not there";
                judged.warning(format!("endpoint {name} is at {mac}, and the file says {fixed}"), why, None);
            }
            (Some(None), Some(fixed)) => {
                let about = format!("nobody answers for endpoint {name} on {interface}, and the file says {fixed}");
                let why = "frames go to that address all the same: whether a card is there could not be seen";
                judged.add(Severity::Unknown, about, why, None);
            }
            _ => judged.fine(format!("{name} answers")),
        }
    }
}

fn on_endpoints(facts: &Facts, judged: &mut Judged) {
    for endpoint in facts.endpoints.iter().filter(|endpoint| endpoint.is_direct()) {
        // Whoever does not answer at all was found by `neighbor`.
        if endpoint.next_mac().is_none() && endpoint.mac.is_some() {
            continue;
        }
        for Seen { vip, answered, .. } in &endpoint.vips {
            let name = &endpoint.name;
            match (answered, endpoint.pinged) {
                (None, _) if endpoint.vlan().is_some() => unasked(endpoint, *vip, judged),
                (None, _) => judged.unknown += 1,
                (Some(true), _) => judged.fine(format!("{name} takes {vip}")),
                (Some(false), Some(true)) => {
                    let about = format!("endpoint {name} answers, but not packets for {vip}");
                    let why = "it lacks the VIP, or the end of the tunnel: what Strata sends it is lost";
                    judged.error(about, why, Some(setup(endpoint, *vip)));
                }
                (Some(false), _) => {
                    let about = format!("endpoint {name} answers pings neither for {vip} nor for itself");
                    let why = "it may filter them: look there with doctor's other side";
                    let command = format!("strata doctor --endpoint --mode {} --vip {vip}", setup_mode(endpoint));
                    judged.warning(about, why, Some(Cure::on(name, [command])));
                }
            }
        }
    }
}

/// Its answers would go to an address of this host, and the kernel has none there.
fn unasked(endpoint: &Endpoint, vip: IpAddr, judged: &mut Judged) {
    let (name, vlan) = (&endpoint.name, endpoint.vlan().unwrap_or(0));
    let about =
        format!("endpoint {name} could not be asked whether it takes {vip}: this host has no address on VLAN {vlan}");
    let command = format!("strata doctor --endpoint --mode l2 --vip {vip}");
    let cure = Cure::on(name, [command]).note("with `--interface` where the VLAN is not its default route's");
    judged.add(Severity::Unknown, about, "look there with doctor's other side", Some(cure));
}

fn setup_mode(endpoint: &Endpoint) -> &'static str {
    match endpoint.forward {
        Forward::Mac => "l2",
        other => other.word(),
    }
}

/// Strata never sees the SYN-ACK of a tunnel's endpoint, so it cannot make it smaller.
fn segments(facts: &Facts, judged: &mut Judged) {
    for endpoint in &facts.endpoints {
        let (Way::Out { mtu, path, .. }, overhead @ 1..) = (&endpoint.way, endpoint.overhead()) else { continue };
        let fits = path.unwrap_or(*mtu).saturating_sub(overhead);
        for seen in endpoint.vips.iter().filter(|seen| seen.answered == Some(true)) {
            let headers = if seen.vip.is_ipv6() { 60 } else { 40 };
            let most = fits.saturating_sub(headers);
            let (name, vip) = (&endpoint.name, seen.vip);
            // The endpoint sees nothing of it.
            let told = path.map_or_else(String::new, |path| format!(" --mtu {path}"));
            match seen.mss.map(u32::from) {
                _ if seen.tcp == Tcp::Never => judged.fine(format!("{name} has no TCP of {vip}")),
                Some(mss) if mss > most => {
                    let about = format!(
                        "endpoint {name} tells clients of {vip} to send segments of {mss} bytes, and {most} fit"
                    );
                    let why =
                        "with the tunnel's headers they are too big: clients that ignore ICMP hang on long uploads";
                    judged.error(about, why, Some(setup(endpoint, vip)));
                }
                Some(_) => judged.fine(format!("{name} tells clients of segments that fit")),
                None if fits >= ETHERNET => judged.fine(format!("{name}: every packet fits")),
                None => {
                    let about =
                        format!("endpoint {name} was not asked for its segment size: no TCP port of {vip} answers");
                    let why = "its routes to clients need `advmss` for TCP to fit";
                    let command = format!("strata doctor --endpoint --mode {} --vip {vip}{told}", setup_mode(endpoint));
                    judged.warning(format!("{about}; {most} fit"), why, Some(Cure::on(name, [command])));
                }
            }
        }
    }
}

fn gateways(facts: &Facts, judged: &mut Judged) {
    for endpoint in facts.endpoints.iter().filter(|endpoint| endpoint.forward == Forward::Nat) {
        let name = &endpoint.name;
        match (endpoint.returned, endpoint.pinged) {
            (Some(true), _) => {
                judged.fine(format!("{name} answers through this host"));
                if let Some(key) = &endpoint.unforwarded {
                    stranded(key, endpoint.address.is_ipv6(), judged);
                }
            }
            (Some(false), Some(true)) => {
                let about = format!("replies of endpoint {name} to clients do not come back through this host");
                let why = "clients get answers from an address that they never asked, and reset the connection";
                let balancer = endpoint.balancer.map_or_else(|| "ADDRESS".to_owned(), |address| address.to_string());
                let command = format!("strata setup-endpoint --mode nat --balancer {balancer} --apply");
                judged.error(about, why, Some(Cure::on(name, [command]).note("or use `forward = \"full-nat\"`")));
            }
            // Whoever does not answer at all was found by `neighbor`.
            (Some(false), Some(false)) if endpoint.next_mac().is_some() => {
                let about = format!("endpoint {name} does not answer pings, so that its way back could not be seen");
                let why = "look there: its default route has to lead to this host";
                judged.warning(about, why, Some(Cure::on(name, ["ip route show default".to_owned()])));
            }
            (Some(false), _) => {}
            (None, _) => judged.unknown += 1,
        }
    }
}

/// Once for all of them: it is one setting.
fn stranded(key: &str, ipv6: bool, judged: &mut Judged) {
    let about = format!("what endpoints of nat send of their own ends here: {key} is 0");
    let why = "their default route is this host: clients are served, but questions for names, updates and all else of theirs, \
               which this kernel would forward, go nowhere";
    let cure = Cure::here([format!("sysctl -w {key}=1")]);
    // A host that forwards takes no routers' word (`accept_ra` of 1), and would lose a default route that it has from one.
    let note =
        "first with `accept_ra=2` on the interface whose router tells this host its default route, where one does";
    judged.warning(about, why, Some(if ipv6 { cure.note(note) } else { cure }));
}

fn kernel(facts: &Facts, judged: &mut Judged) {
    let forwards = facts.forwards.contains(&true);
    for Interface { name, guard, link, .. } in &facts.interfaces {
        match guard {
            _ if link.is_none() => {}
            Guard::Running => judged.fine(format!("a running Strata keeps it out of {name}")),
            Guard::Left => {
                let why = "a Strata that was killed left it there on purpose, so that clients see silence and no refusals; the next \
                           `strata run` replaces it";
                let cure =
                    Cure::here([format!("tc filter del dev {name} ingress pref {}", crate::sys::ingress::PREFERENCE)])
                        .note("if none is to run here again");
                judged.warning(format!("packets for VIPs are dropped on {name}, and no Strata runs"), why, Some(cure));
            }
            Guard::Nobody if forwards => {
                judged.fine(format!("it forwards; no Strata runs on {name} yet, and `strata run` keeps it out"));
            }
            Guard::Nobody => {
                judged.fine(format!("it does not forward; `strata run` keeps it out of {name} all the same"))
            }
        }
    }
}

/// Answers to these probes are the kernel's, which looks at them as at any packet.
fn passages(facts: &Facts, judged: &mut Judged) {
    let Some(Passages { device, strict }) = &facts.passages else { return };
    match device {
        Ok(()) => judged.fine("a device for probes through VIPs can be made"),
        Err(error) => {
            let node = matches!(error.cause.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENXIO));
            let cure = Cure::here(["modprobe tun".to_owned()]).note("in a container `--device /dev/net/tun`");
            let about = format!("probes through VIPs have no device: {error}");
            judged.error(about, "`strata run` refuses to start without it", node.then_some(cure));
        }
    }
    for (vip, name) in strict {
        let cure = Cure::here([format!("sysctl -w net/ipv4/conf/{name}/rp_filter=2")]);
        let about = format!("strict rp_filter drops answers of {vip} to probes, which come by {name}");
        judged.error(about, "the VIP is routed to another interface: no probe through it tells anything", Some(cure));
    }
    if strict.is_empty() {
        judged.fine("rp_filter lets answers to them in");
    }
}

/// Things that are fine and named, of one check.
const SHOWN: usize = 3;
/// Bytes of a packet that clients send: Ethernet's MTU.
const ETHERNET: u32 = 1500;

#[cfg(test)]
mod tests;
