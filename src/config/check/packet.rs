//! Engine: what only the whole file can tell of packet services: VIPs that clash, pools they cannot use, addresses that do not
//! go together, tables that are too small or too large.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::super::packet::next_prime;
use super::super::root::{Reference, Survey, User};
use super::super::value::{Config, Endpoint, Packet, Pool, Service, Traffic, Vip};
use super::unknown;
use crate::balance::{self, Counts};
use crate::base::{Listen, PortRange, Transport, limits};
use crate::doc::{Diagnostic, Span, Spanned, Table, codes, quote};
use crate::state::{Forward, Io, ModeKind};

pub(super) fn check(root: &Table<'_>, config: &Config, survey: &Survey) {
    vip_names(root, survey);
    let owners = vip_addresses(root, config);
    listeners(root, survey, &owners);
    mixed_pools(root, survey);
    let flows = flows(config);
    shared_ports(root, &flows);
    let mut users: HashMap<&str, Vec<&Reference>> = HashMap::new();
    for reference in &survey.references {
        users.entry(&*reference.pool.value).or_default().push(reference);
    }
    for pool in &config.pools {
        let users = users.get(&*pool.name.value).map_or(&[][..], Vec::as_slice);
        // With proxies as well it is mixed, and the rest would follow from that.
        if let Some(first) = users.first().filter(|_| users.iter().all(|reference| reference.user.is_packets())) {
            needs_counts(root, pool, first);
            kept_ports(root, pool, users);
            loops(root, pool, &owners);
        }
    }
    let mut reported = HashSet::new();
    for flow in &flows {
        families(root, flow, &mut reported);
        sources(root, flow, &owners);
        tagged(root, flow);
        several_ports(root, flow);
        shut_in(root, flow);
        few_slots(root, flow);
    }
    no_tags(root, config);
    large_tables(root, &flows);
    many_sources(root, &flows);
}

/// A packet service with what it refers to.
struct Flow<'c> {
    service: &'c Service,
    packet: &'c Packet,
    /// `None` when there is none of that name, which is reported.
    vip: Option<&'c Vip>,
    pool: Option<&'c Pool>,
}

fn flows(config: &Config) -> Vec<Flow<'_>> {
    let vips: HashMap<&str, &Vip> = config.vips.iter().map(|vip| (&*vip.name.value, vip)).collect();
    let pools: HashMap<&str, &Pool> = config.pools.iter().map(|pool| (&*pool.name.value, pool)).collect();
    let mut flows = Vec::new();
    for service in &config.services {
        if let Traffic::Packet(packet) = &service.traffic {
            let (vip, pool) = (vips.get(&*packet.vip.value).copied(), pools.get(&*packet.pool.value).copied());
            flows.push(Flow { service, packet, vip, pool });
        }
    }
    flows
}

impl Flow<'_> {
    fn uses_slots(&self) -> bool {
        self.pool.is_some_and(|pool| pool.balance.name == "maglev")
    }

    /// Where its slots are written, or its name where they are not.
    fn slots_span(&self) -> Span {
        let span = self.packet.slots.span;
        if span.is_empty() { self.service.name.span } else { span }
    }
}

/// Whose an address is, and where that is written.
type Owners<'c> = HashMap<IpAddr, (&'c Spanned<Arc<str>>, Span)>;

fn vip_names(root: &Table<'_>, survey: &Survey) {
    let names = survey.vip_references.iter().map(|(vip, _)| vip);
    let meant = unknown(root, (&codes::UNKNOWN_VIP, "vip"), names, &survey.vips);
    let used: HashSet<&str> = survey.vip_references.iter().map(|(vip, _)| &*vip.value).collect();
    for vip in &survey.vips {
        if !used.contains(&*vip.value) && !meant.contains(&&*vip.value) {
            let mistake = Diagnostic::new(&codes::UNUSED_VIP, vip.span, format!("no service uses vip {}", quote(vip)));
            root.report(mistake.help("it would be announced for nobody"));
        }
    }
}

fn vip_addresses<'c>(root: &Table<'_>, config: &'c Config) -> Owners<'c> {
    let mut owners: Owners<'c> = HashMap::new();
    for vip in &config.vips {
        for address in &vip.addresses {
            let Some((owner, first)) = owners.get(&address.value) else {
                owners.insert(address.value, (&vip.name, address.span));
                continue;
            };
            let message = format!("`{}` is given to a vip twice", address.value);
            root.report(
                Diagnostic::new(&codes::SAME_VIP, address.span, message)
                    .also(*first, format!("vip {} has it", quote(owner)))
                    .help("services can share a vip: leave one of the two out"),
            );
        }
    }
    owners
}

/// A listener on the very address of a VIP never sees a client. One on every address serves the others.
fn listeners(root: &Table<'_>, survey: &Survey, owners: &Owners<'_>) {
    for listener in &survey.listeners {
        let Listen::At(at) = listener.address.value else { continue };
        if let Some((vip, span)) = owners.get(&at.ip().to_canonical()) {
            let message = format!("`{at}` is on an address of vip {}", quote(vip));
            root.report(
                Diagnostic::new(&codes::VIP_LISTEN, listener.address.span, message)
                    .label(format!("{} would hear nothing", listener.owner))
                    .also(*span, "packet services take all that comes here")
                    .help("listen on an address of this machine that is no vip"),
            );
        }
    }
}

fn mixed_pools(root: &Table<'_>, survey: &Survey) {
    let mut first: HashMap<&str, &Reference> = HashMap::new();
    let mut reported = HashSet::new();
    for reference in &survey.references {
        let other = *first.entry(&*reference.pool.value).or_insert(reference);
        if other.user.is_packets() == reference.user.is_packets() || !reported.insert(&*reference.pool.value) {
            continue;
        }
        let message = format!("pool {} is used by packet services and by proxies", quote(&reference.pool));
        let user = |reference: &Reference| format!("{} service {}", reference.user.mode(), quote(&reference.service));
        root.report(
            Diagnostic::new(&codes::MIXED_POOL, reference.pool.span, message)
                .label(format!("here by {}", user(reference)))
                .also(other.pool.span, format!("here by {}", user(other)))
                .help("give each a pool of its own; both may have the same servers"),
        );
    }
}

/// Ports of one VIP that two services take. A service without ports takes all.
fn shared_ports(root: &Table<'_>, flows: &[Flow<'_>]) {
    let mut by_vip: HashMap<&str, Vec<(PortRange, Span, usize)>> = HashMap::new();
    for (index, flow) in flows.iter().enumerate() {
        let taken = by_vip.entry(&*flow.packet.vip.value).or_default();
        match &flow.packet.ports {
            Some(ports) => taken.extend(ports.iter().map(|range| (range.value, range.span, index))),
            // Missing, which is reported.
            None if flow.packet.mode == ModeKind::L4 => {}
            None => taken.extend(Transport::ALL.map(|transport| {
                let all = PortRange { transport, first: 0, last: u16::MAX };
                (all, flow.service.name.span, index)
            })),
        }
    }
    let mut reported = HashSet::new();
    for taken in by_vip.values_mut() {
        taken.sort_by_key(|(range, span, _)| (*range, *span));
        let mut widest: Option<(PortRange, Span, usize)> = None;
        for &entry in taken.iter() {
            if let Some(before) = widest.filter(|before| before.0.overlaps(entry.0) && before.2 != entry.2) {
                // The later one of the file is the mistake.
                let (first, second) = if before.1 < entry.1 { (before, entry) } else { (entry, before) };
                if reported.insert((first.2, second.2)) {
                    clash(root, flows, first, second);
                }
            }
            let further = |before: (PortRange, Span, usize)| {
                before.0.transport != entry.0.transport || before.0.last < entry.0.last
            };
            if widest.is_none_or(further) {
                widest = Some(entry);
            }
        }
    }
}

fn clash(root: &Table<'_>, flows: &[Flow<'_>], first: (PortRange, Span, usize), second: (PortRange, Span, usize)) {
    let (Some(one), Some(other)) = (flows.get(first.2), flows.get(second.2)) else { return };
    let takes = |flow: &Flow<'_>, range: PortRange| match flow.packet.ports {
        Some(_) => format!("service {} takes `{range}`", quote(&flow.service.name)),
        None => format!("service {} takes every port", quote(&flow.service.name)),
    };
    let message = format!("{} of vip {}, and so does another", takes(other, second.0), quote(&other.packet.vip));
    root.report(
        Diagnostic::new(&codes::PORTS_TAKEN, second.1, message)
            .also(first.1, takes(one, first.0))
            .help("name `ports` that do not overlap, or give one of the two a vip of its own"),
    );
}

fn needs_counts(root: &Table<'_>, pool: &Pool, user: &Reference) {
    let name = pool.balance.name;
    let Some(spec) = balance::find(name).filter(|spec| spec.counts(&pool.balance)) else { return };
    let (what, help) = match spec.uses.load {
        Counts::With(setting) => (format!("`{name}` with `{setting}`"), format!("leave `{setting}` out")),
        Counts::Always | Counts::Never => {
            (format!("`{name}`"), "leave `balance` out: the default is `maglev`".to_owned())
        }
    };
    let message = format!("{what} goes by what is in flight, which nobody counts for packets");
    root.report(
        Diagnostic::new(&codes::NEEDS_COUNTS, pool.balance.span, message)
            .also(user.pool.span, format!("used by {} service {}", user.user.mode(), quote(&user.service)))
            .help(help),
    );
}

fn kept_ports(root: &Table<'_>, pool: &Pool, users: &[&Reference]) {
    let keeps = |user: User| matches!(user, User::Packets(ModeKind::L2 | ModeKind::L3));
    let Some(user) = users.iter().find(|reference| keeps(reference.user)) else { return };
    for endpoint in &pool.endpoints {
        if endpoint.address.port().is_some() {
            let mode = user.user.mode();
            let message = format!("endpoint `{}` has a port, and {mode} keeps the client's", endpoint.address.value);
            root.report(
                Diagnostic::new(&codes::KEPT_PORT, endpoint.address.span, message)
                    .also(user.pool.span, format!("used by {mode} service {}", quote(&user.service)))
                    .help(format!("write \"{}\", or use `mode = \"l4\"`", endpoint.address.ip())),
            );
        }
    }
}

fn loops(root: &Table<'_>, pool: &Pool, owners: &Owners<'_>) {
    for endpoint in &pool.endpoints {
        if let Some((vip, span)) = owners.get(&endpoint.address.ip()) {
            let message = format!("endpoint `{}` is vip {} itself", endpoint.address.value, quote(vip));
            root.report(
                Diagnostic::new(&codes::LOOP, endpoint.address.span, message)
                    .also(*span, "the vip's address")
                    .help("name an address that only the server has: packets would go round in a circle"),
            );
        }
    }
}

/// What is not wrapped into another header keeps its family. `reported`: endpoints of pools that several services share.
fn families(root: &Table<'_>, flow: &Flow<'_>, reported: &mut HashSet<Span>) {
    let (Some(vip), Some(pool)) = (flow.vip, flow.pool) else { return };
    let Packet { forward, sources, .. } = flow.packet;
    if forward.is_tunnel() {
        return;
    }
    let of_family = |ipv4: bool| vip.addresses.iter().find(|address| address.is_ipv4() == ipv4);
    let (v4, v6) = (of_family(true), of_family(false));
    let at = |ipv4: bool| if ipv4 { v4 } else { v6 };
    let is_v4 = |endpoint: &Endpoint| endpoint.address.ip().is_ipv4();
    let stranger = |endpoint: &&Endpoint| at(is_v4(endpoint)).is_none();
    let way = if *forward == Forward::Mac { "l2" } else { forward.word() };
    if !vip.addresses.is_empty() {
        for endpoint in pool.endpoints.iter().filter(stranger) {
            if !reported.insert(endpoint.address.span) {
                continue;
            }
            let family = family(is_v4(endpoint));
            let message = format!("endpoint `{}` is {family}, vip {} is not", endpoint.address.value, quote(&vip.name));
            root.report(
                Diagnostic::new(&codes::FAMILY, endpoint.address.span, message)
                    .also(flow.packet.pool.span, format!("used by service {}", quote(&flow.service.name)))
                    .help(format!(
                        "{way} keeps the family: give the vip an {family} address, or use `ipip` or `gue` of l3"
                    )),
            );
        }
    }
    let any = |ipv4| pool.endpoints.iter().any(|endpoint| is_v4(endpoint) == ipv4);
    for ipv4 in [true, false] {
        let family = family(ipv4);
        // Where all endpoints are of the wrong family, one side of it is enough.
        // A source may have endpoints of it.
        let lacks = pool.source.is_none() && !any(ipv4) && !pool.endpoints.iter().all(|e| stranger(&e));
        let Some(address) = at(ipv4).filter(|_| lacks) else { continue };
        let message =
            format!("vip {} is {family} too, but no endpoint of pool {}", quote(&vip.name), quote(&pool.name));
        root.report(
            Diagnostic::new(&codes::FAMILY, flow.packet.vip.span, message)
                .label(format!("{way} keeps the family"))
                .also(address.span, format!("packets to `{}` would be dropped", address.value))
                .help(format!("add the endpoints' {family} addresses, or use `ipip` or `gue` of l3")),
        );
    }
    if *forward != Forward::FullNat || sources.is_empty() {
        return;
    }
    for ipv4 in [true, false] {
        let given = sources.iter().find(|source| source.is_ipv4() == ipv4);
        let family = family(ipv4);
        let mistake = match given {
            Some(source) if !any(ipv4) && !pool.endpoints.is_empty() && pool.source.is_none() => {
                let message =
                    format!("source `{}` is {family}, but no endpoint of pool {}", source.value, quote(&pool.name));
                Diagnostic::new(&codes::FAMILY, source.span, message).help("leave it out: nobody would see it")
            }
            None if any(ipv4) => {
                let message = format!("service {} has no {family} source", quote(&flow.service.name));
                let endpoint = pool.endpoints.iter().find(|endpoint| is_v4(endpoint) == ipv4);
                let span = sources.first().map(|source| source.span).unwrap_or_default();
                Diagnostic::new(&codes::FAMILY, span, message)
                    .also(endpoint.map(|e| e.address.span).unwrap_or_default(), "this endpoint needs one")
                    .help(format!(
                        "add an {family} address to `source`, of the endpoints' network, that no machine has"
                    ))
            }
            _ => continue,
        };
        root.report(mistake);
    }
}

fn family(ipv4: bool) -> &'static str {
    if ipv4 { "IPv4" } else { "IPv6" }
}

fn sources(root: &Table<'_>, flow: &Flow<'_>, owners: &Owners<'_>) {
    if flow.packet.sources.is_empty() {
        return;
    }
    let endpoints = flow.pool.iter().flat_map(|pool| &pool.endpoints);
    let servers: HashMap<IpAddr, Span> = endpoints.map(|e| (e.address.ip(), e.address.span)).collect();
    for source in &flow.packet.sources {
        let (what, span) = match (owners.get(&source.value), servers.get(&source.value)) {
            (Some((vip, span)), _) => (format!("vip {}", quote(vip)), *span),
            (None, Some(span)) => ("an endpoint".to_owned(), *span),
            (None, None) => continue,
        };
        root.report(
            Diagnostic::new(&codes::BAD_SOURCE, source.span, format!("source `{}` is {what}", source.value))
                .also(span, "given here")
                .help("name an address of the endpoints' network that no machine has: Strata answers for it, and replies come there"),
        );
    }
}

/// A VIP on a VLAN that the kernel does not know: it has no route there, and asks nobody for a MAC.
fn tagged(root: &Table<'_>, flow: &Flow<'_>) {
    let Some((vip, vlan)) = flow.vip.and_then(|vip| Some((vip, vip.vlan?))) else { return };
    let device = format!("{}.{}", vip.interface.value, vlan.value);
    let instead = format!("make the device {} and name it as the vip's `interface`, without `vlan`", quote(&device));
    if flow.packet.forward != Forward::Mac {
        let message =
            format!("`{}` needs routes, and the kernel has none on VLAN {}", flow.packet.forward.word(), vlan.value);
        root.report(
            Diagnostic::new(&codes::TAGGED, flow.packet.vip.span, message)
                .also(vlan.span, format!("vip {} is there", quote(&vip.name)))
                .help(format!("{instead}, or use l2")),
        );
        return;
    }
    if let Some(source) = flow.pool.and_then(|pool| pool.source.as_ref()) {
        let message = format!("a source finds no MAC addresses, and the kernel asks nobody on VLAN {}", vlan.value);
        root.report(
            Diagnostic::new(&codes::TAGGED, source.span, message)
                .also(vlan.span, format!("vip {} is there", quote(&vip.name)))
                .help(instead.clone()),
        );
    }
    let unknown = |endpoint: &&Endpoint| endpoint.mac.is_none();
    if let Some(endpoint) = flow.pool.and_then(|pool| pool.endpoints.iter().find(unknown)) {
        let at = endpoint.address.value;
        let message = format!("endpoint `{at}` has no `mac`, and the kernel asks nobody on VLAN {}", vlan.value);
        root.report(
            Diagnostic::new(&codes::TAGGED, endpoint.address.span, message)
                .also(vlan.span, format!("vip {} is there", quote(&vip.name)))
                .help(format!("write {{ address = \"{at}\", mac = \"02:00:00:00:00:41\" }}, or {instead}")),
        );
    }
}

/// The engine that the file asks for, where it sees no tag: every frame of the VIP would be lost.
fn no_tags(root: &Table<'_>, config: &Config) {
    let io = &config.packets.io;
    let tagged = |vip: &Vip| Some((vip.name.clone(), vip.vlan?));
    let Some((vip, vlan)) = config.vips.iter().find_map(tagged).filter(|_| io.value == Some(Io::Pnet)) else { return };
    root.report(
        Diagnostic::new(&codes::TAGGED, io.span, "`pnet` sees no VLAN tags: every tagged frame is lost")
            .also(vlan.span, format!("vip {} is on VLAN {}", quote(&vip), vlan.value))
            .help("leave `io` out, or write \"ring\""),
    );
}

/// Sources of all services: each has a table of ports of its own.
fn many_sources(root: &Table<'_>, flows: &[Flow<'_>]) {
    let mut seen = HashSet::new();
    let sources = flows.iter().flat_map(|flow| &flow.packet.sources);
    if let Some(source) = sources.filter(|source| seen.insert(source.value)).nth(limits::NAT_SOURCES) {
        let message = format!("more than the {} sources that fit, of all services", limits::NAT_SOURCES);
        let mistake = Diagnostic::new(&codes::TOO_MANY_NAMES, source.span, message);
        root.report(mistake.help("services may share their sources"));
    }
}

/// Several ports of a service that would become an endpoint's one. What is translated by the endpoint's port alone, without a
/// record of the flow, has one way back.
fn several_ports(root: &Table<'_>, flow: &Flow<'_>) {
    if flow.packet.forward != Forward::Nat {
        return;
    }
    let changes = |endpoint: &&Endpoint| endpoint.address.port().is_some();
    let Some(endpoint) = flow.pool.and_then(|pool| pool.endpoints.iter().find(changes)) else { return };
    let mut taken: [Option<PortRange>; 2] = [None; 2];
    for ports in flow.packet.ports.iter().flatten() {
        let before = &mut taken[usize::from(ports.transport == Transport::Udp)];
        if before.is_some() || !ports.is_single() {
            let (at, service) = (endpoint.address.value, quote(&flow.service.name));
            let which = match before {
                Some(before) => format!("whether a reply of `{at}` is for `{before}` or `{}`", ports.value),
                None => format!("which of `{}` a reply of `{at}` is for", ports.value),
            };
            let help = format!("leave ports out of the endpoints, or give service {service} `forward = \"full-nat\"`");
            root.report(
                Diagnostic::new(&codes::NAT_REPLIES, ports.span, format!("nat could not tell {which}"))
                    .also(endpoint.address.span, "they all become this endpoint's port")
                    .help(help),
            );
        }
        *before = before.or(Some(ports.value));
    }
}

/// Any packet of an endpoint may be a reply, so the kernel forwards none of them.
fn shut_in(root: &Table<'_>, flow: &Flow<'_>) {
    // At l4 ports are missed elsewhere.
    if flow.packet.mode == ModeKind::L3 && flow.packet.forward == Forward::Nat && flow.packet.ports.is_none() {
        let (service, pool) = (quote(&flow.service.name), &flow.packet.pool);
        let message =
            format!("endpoints of service {service} can send nothing but replies and pings through this machine");
        let help =
            "name the `ports` of the service: what endpoints send from others is forwarded then; or use `full-nat`";
        root.report(Diagnostic::new(&codes::SHUT_IN, pool.span, message).help(help));
    }
}

fn few_slots(root: &Table<'_>, flow: &Flow<'_>) {
    let endpoints = flow.pool.map_or(0, |pool| pool.endpoints.len());
    let wanted = endpoints * SLOTS_PER_ENDPOINT;
    let slots = flow.packet.slots.value;
    if slots < wanted && flow.uses_slots() {
        let message = format!("{slots} slots for {endpoints} endpoints: their shares differ by more than 1 %");
        let help = format!("set `slots = {}`", next_prime(wanted as u64));
        root.report(Diagnostic::new(&codes::FEW_SLOTS, flow.slots_span(), message).help(help));
    }
}

fn large_tables(root: &Table<'_>, flows: &[Flow<'_>]) {
    let bytes = |flow: &Flow<'_>| 2 * flow.packet.slots.value as u64;
    let tables = || flows.iter().filter(|flow| flow.uses_slots());
    let sum: u64 = tables().map(bytes).sum();
    let Some(largest) = tables().max_by_key(|flow| bytes(flow)).filter(|_| sum > limits::TABLE_BYTES) else { return };
    let message = format!(
        "the tables of {} services are {} KiB, more than the {} KiB that a core keeps near",
        tables().count(),
        sum / 1024,
        limits::TABLE_BYTES / 1024
    );
    root.report(
        Diagnostic::new(&codes::LARGE_TABLES, largest.slots_span(), message)
            .label("the largest, 2 bytes a slot")
            .help("give services fewer `slots`: 100 for each endpoint are enough"),
    );
}

/// Maglev (NSDI 2016, §3.4): then shares differ by at most 1 %.
const SLOTS_PER_ENDPOINT: usize = 100;
