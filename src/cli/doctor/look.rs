//! Shell: looks at this host through the kernel's tables, and asks its links (`ask`) what no table says. Changes nothing.
//!
//! Two rounds: who is where, and then, by the MAC addresses that the first has found, what they do with packets for the VIP. What
//! cannot be looked at stays unknown: doctor is for hosts on which something is wrong.
//!
//! Not here: what follows from it (`checks`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ask::{self, Ear, Heard, Kind, Path, Question};
use super::facts::{Endpoint, Facts, Interface, Own, Passages, Role, Seen, Source, Tcp, Vip, Way};
use crate::base::ports::Transport;
use crate::base::{MacAddr, limits};
use crate::flow::tables::LinkId;
use crate::mode::packet::deaf;
use crate::probe;
use crate::seam::probe::goes_through;
use crate::seam::through;
use crate::state::{self, Forward, Io, PacketSpec, Pool, Snapshot, Traffic, VipMac};
use crate::sys::capability::Capability;
use crate::sys::ingress::{self, Guard};
use crate::sys::link::{self, Link, State};
use crate::sys::{neighbour, tun};
use crate::wire::arp::Arp;
use crate::wire::compose::{self, Head, datagram};
use crate::wire::gue::Variant;
use crate::wire::ipip::Outer;
use crate::wire::ndp::{self, Neighbor, Peer};
use crate::wire::tcp::Flags;

/// Without a file: this host alone, each of its interfaces.
pub fn host() -> Facts {
    let devices = devices();
    let interfaces = devices.iter().filter(|name| *name != "lo").map(|name| interface(name, CLIENTS)).collect();
    // One that is down or cannot have a VIP, and that no VIP is on, is none of ours.
    let mut facts =
        Facts { capabilities: capabilities(None), devices, interfaces, forwards: forwards(), ..Facts::default() };
    let runs = |interface: &Interface| {
        let hears = |link: &Link| deaf::why(link, interface.master.as_deref(), false).is_none();
        interface.link.as_ref().is_some_and(|link| link.state == State::Running && hears(link))
    };
    facts.interfaces.retain(runs);
    facts
}

/// Everything that the packet services of a file depend on.
pub fn balancer(snapshot: &Snapshot) -> Facts {
    let own = own();
    let mut facts = Facts { devices: devices(), forwards: forwards(), ..Facts::default() };
    if snapshot.vips().next().is_some() {
        facts.capabilities = capabilities(snapshot.settings.packet_io);
        facts.af_xdp = snapshot.settings.packet_io == Some(Io::AfXdp);
    }
    let mut names: BTreeMap<String, Role> = BTreeMap::new();
    for vip in snapshot.vips() {
        let is_virtual = matches!(vip.spec.mac, VipMac::Virtual { .. });
        let role = names.entry(vip.spec.interface.to_string()).or_insert(CLIENTS);
        if is_virtual {
            *role = Role::Clients { has_virtual: true };
        }
        facts.vips.extend(vip.spec.addresses.iter().map(|address| Vip {
            address: *address,
            interface: vip.spec.interface.to_string(),
            vlan: vip.spec.vlan.unwrap_or(0),
            claimed: None,
        }));
    }
    for service in snapshot.services() {
        let Traffic::Packet(spec) = &service.traffic else { continue };
        let (name, Some(vip), Some(pool)) =
            (service.spec.name.to_string(), snapshot.vip(spec.vip), snapshot.pool(spec.pool))
        else {
            continue;
        };
        let source = |address: &IpAddr| Source { service: name.clone(), address: *address, claimed: None };
        facts.sources.extend(spec.sources.iter().map(source));
        facts.endpoints.extend(pool.endpoints.iter().map(|found| endpoint(&name, spec, vip, pool, found)));
    }
    // Whose every packet may be a reply, of one service at least.
    let recorded: BTreeSet<IpAddr> = recorded(snapshot).collect();
    for endpoint in &mut facts.endpoints {
        if let (Forward::Nat, Way::Out { interface, .. }) = (endpoint.forward, &endpoint.way)
            && !recorded.contains(&endpoint.address)
        {
            endpoint.unforwarded = unforwarded(endpoint.address, interface);
        }
    }
    for endpoint in &facts.endpoints {
        // What NAT's endpoints answer comes in by the way to them, wherever clients come in.
        if let (Forward::Nat | Forward::FullNat, Way::Out { interface, .. }) = (endpoint.forward, &endpoint.way) {
            names.entry(interface.clone()).or_insert(Role::Replies);
        }
    }
    facts.interfaces = names.iter().map(|(name, role)| interface(name, *role)).collect();
    facts.own = own;
    facts.passages = through::is_wanted(snapshot).then(|| passages(snapshot));
    if Capability::NetRaw.is_held() {
        let places = Places::look(&facts);
        neighbours(&mut facts, &places);
        behaviour(&mut facts, &places);
    }
    facts
}

fn passages(snapshot: &Snapshot) -> Passages {
    let mut strict = BTreeSet::new();
    for pool in snapshot.pools().filter(|pool| pool.spec.probe.as_ref().is_some_and(goes_through)) {
        for (path, endpoint) in through::Path::all_to(snapshot, pool.id)
            .iter()
            .flat_map(|path| pool.endpoints.iter().map(move |e| (path, e)))
        {
            let (vip, address) = (path.vip, endpoint.address.ip());
            // To one of the other family, the way is the VIP's own.
            let Some(way) = neighbour::route(address).ok().filter(|_| vip.is_ipv4() == address.is_ipv4()) else {
                continue;
            };
            let name = probe::through::dropped_by(vip, &way, neighbour::route(vip).ok()).ok().flatten();
            strict.extend(name.map(|name| (vip, name)));
        }
    }
    Passages { device: tun::look(), strict }
}

fn capabilities(io: Option<Io>) -> Vec<(Capability, bool)> {
    let mut needed = vec![Capability::NetRaw, Capability::NetAdmin];
    if io == Some(Io::AfXdp) {
        needed.extend([Capability::Bpf, Capability::IpcLock]);
    }
    let is_held = |capability: Capability| {
        capability.is_held() || (capability == Capability::Bpf && Capability::SysAdmin.is_held())
    };
    needed.into_iter().map(|capability| (capability, is_held(capability))).collect()
}

/// Names of all interfaces. `/sys` may show another namespace's.
fn devices() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

fn forwards() -> [bool; 2] {
    [IPV4_FORWARDING, IPV6_FORWARDING]
        .map(|key| std::fs::read_to_string(format!("/proc/sys/{key}")).is_ok_and(|value| value.trim() == "1"))
}

/// What has the kernel not forward packets of this address, which come in by `interface`: IPv4 goes by the interface's own setting,
/// IPv6 by that of all (`ip_route_input_slow`, `ip6_forward`).
fn unforwarded(address: IpAddr, interface: &str) -> Option<String> {
    let is_off = |key: &str| std::fs::read_to_string(format!("/proc/sys/{key}")).is_ok_and(|value| value.trim() == "0");
    let (all, own) = if address.is_ipv6() {
        (IPV6_FORWARDING, IPV6_FORWARDING.to_owned())
    } else {
        (IPV4_FORWARDING, format!("net/ipv4/conf/{interface}/forwarding"))
    };
    is_off(&own).then(|| if is_off(all) { all.to_owned() } else { own })
}

/// Endpoints of NAT without `ports`.
fn recorded(snapshot: &Snapshot) -> impl Iterator<Item = IpAddr> {
    let pools = snapshot.services().filter_map(|service| match &service.traffic {
        Traffic::Packet(spec) if spec.forward == Forward::Nat && spec.ports.is_none() => snapshot.pool(spec.pool),
        _ => None,
    });
    pools.flat_map(|pool| pool.endpoints.iter().map(|endpoint| endpoint.address.ip()))
}

fn own() -> Vec<Own> {
    let mut names = HashMap::new();
    let of = |at: link::Address| {
        let name = names.entry(at.interface).or_insert_with(|| link::by_index(at.interface).map(|link| link.name));
        Some(Own { address: at.address, prefix: at.prefix, device: name.as_ref().ok()?.clone() })
    };
    link::addresses().unwrap_or_default().into_iter().filter_map(of).collect()
}

fn interface(name: &str, role: Role) -> Interface {
    let found = link::by_name(name).ok();
    let offloads = link::offloads(name).unwrap_or_default();
    let guard = found.as_ref().and_then(|link| ingress::guard(link.index).ok());
    Interface {
        name: name.to_owned(),
        master: found.as_ref().and_then(Link::whole),
        role,
        lro: offloads.lro,
        // Of a veth it says nothing: its other end decides.
        rx_vlan: offloads.rx_vlan && found.as_ref().is_some_and(|link| link.kind != link::Kind::Veth),
        guard: guard.unwrap_or(Guard::Nobody),
        link: found,
    }
}

fn endpoint(service: &str, spec: &PacketSpec, vip: &state::Vip, pool: &Pool, found: &state::Endpoint) -> Endpoint {
    let address = found.address.ip();
    let said = pool.spec.endpoints.iter().find(|endpoint| endpoint.address == found.address);
    let route = neighbour::route(address);
    let balancer = route.as_ref().ok().and_then(|route| route.source);
    let fixed = said.and_then(|endpoint| endpoint.mac);
    let way = match route {
        Ok(route) if route.way == neighbour::Way::Local => Way::Here,
        // Frames to a MAC address of the file ask no route: they leave by the VIP's link, whatever the endpoint's address is.
        _ if spec.forward == Forward::Mac && fixed.is_some() => {
            out(link::by_name(&vip.spec.interface), vip.spec.vlan.unwrap_or(0), None, None)
        }
        Ok(route) => {
            let router = (route.next_hop != address).then_some(route.next_hop);
            out(link::by_index(route.interface), 0, router, route.mtu)
        }
        Err(error) => Way::Nowhere(error.to_string()),
    };
    let direct = matches!(spec.forward, Forward::Mac | Forward::Ipip | Forward::Gue);
    let served = |vip: &&IpAddr| direct && (spec.forward.is_tunnel() || vip.is_ipv6() == address.is_ipv6());
    let tcp = tcp(spec, pool);
    let seen = |vip: &IpAddr| Seen { vip: *vip, tcp, answered: None, mss: None };
    Endpoint {
        service: service.to_owned(),
        name: found.name.to_string(),
        address,
        forward: spec.forward,
        fixed,
        way,
        mac: None,
        pinged: None,
        returned: None,
        unforwarded: None,
        vips: vip.spec.addresses.iter().filter(served).map(seen).collect(),
        balancer,
    }
}

fn out(link: io::Result<Link>, vlan: u16, router: Option<IpAddr>, path: Option<u32>) -> Way {
    match link {
        Ok(link) if !deaf::is_ethernet(&link) => Way::Frameless { interface: link.name },
        Ok(link) => {
            let at = LinkId { interface: link.index, vlan };
            Way::Out {
                interface: link.name,
                link: at,
                mtu: link.mtu,
                path: path.filter(|path| *path < link.mtu),
                router,
            }
        }
        Err(error) => Way::Nowhere(error.to_string()),
    }
}

/// A server should answer at the service's port, or else at the probe's.
fn tcp(spec: &PacketSpec, pool: &Pool) -> Tcp {
    if let Some(ports) = &spec.ports {
        return ports.of(Transport::Tcp).first().map_or(Tcp::Never, |range| Tcp::Port(range.first));
    }
    let probe = pool.spec.probe.as_ref().filter(|probe| ["tcp", "http"].contains(&probe.name));
    let port = probe.and_then(|probe| u16::try_from(probe.integer("port")).ok()).filter(|port| *port > 0);
    port.map_or(Tcp::Somewhere, Tcp::Port)
}

/// A link that can be asked on.
struct Place {
    link: LinkId,
    mac: MacAddr,
    /// None on a VLAN that the kernel does not know.
    addresses: Vec<IpAddr>,
}

impl Place {
    fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| if let IpAddr::V4(v4) = address { Some(*v4) } else { None })
    }

    fn v6(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|address| if let IpAddr::V6(v6) = address { Some(*v6) } else { None })
    }

    /// One that hosts beyond the link know.
    fn source(&self, like: IpAddr) -> Option<IpAddr> {
        let fits = |address: &&IpAddr| match address {
            IpAddr::V4(_) => like.is_ipv4(),
            IpAddr::V6(v6) => like.is_ipv6() && !v6.is_unicast_link_local(),
        };
        self.addresses.iter().find(fits).copied()
    }

    /// Who has `target`? Without a word about us where nobody should have it (RFC 5227 §2.1.1).
    fn who_has(&self, target: IpAddr, probe: bool) -> Question {
        let frame = match target {
            IpAddr::V4(target) => match self.v4().filter(|_| !probe) {
                Some(own) => Arp::request(self.mac, own, target).frame().to_vec(),
                None => Arp::probe(self.mac, target).frame().to_vec(),
            },
            IpAddr::V6(target) => {
                let own = self.v6();
                let from = Peer { mac: self.mac, address: own.unwrap_or(Ipv6Addr::UNSPECIFIED) };
                let message = Neighbor::Solicitation { target, source_mac: own.map(|_| self.mac) };
                let mut out = [0; ndp::FRAME_LEN];
                let len = message.frame(from, Neighbor::group(target), &mut out).unwrap_or(0);
                out.get(..len).unwrap_or_default().to_vec()
            }
        };
        Question { link: self.link, frame, syn: None }
    }
}

#[derive(Default)]
struct Places(Vec<Place>);

impl Places {
    /// The links of VIPs and those that lead to endpoints, as far as they run.
    fn look(facts: &Facts) -> Places {
        let ways = facts.endpoints.iter().filter_map(|endpoint| match &endpoint.way {
            Way::Out { link: at, .. } => Some((link::by_index(at.interface).ok()?, at.vlan)),
            Way::Here | Way::Nowhere(_) | Way::Frameless { .. } => None,
        });
        let vips = facts.vips.iter().filter_map(|vip| Some((facts.link(&vip.interface)?.clone(), vip.vlan)));
        let mut places = Places::default();
        for (link, vlan) in vips.chain(ways) {
            let Some(mac) = link.mac.filter(|_| link.state == State::Running) else { continue };
            let at = LinkId { interface: link.index, vlan };
            if places.at(at).is_none() {
                let here = facts.own.iter().filter(|own| vlan == 0 && own.device == link.name);
                // An address of a VIP here is a finding, and no address to ask from.
                let addresses =
                    here.map(|own| own.address).filter(|own| facts.vips.iter().all(|vip| vip.address != *own));
                places.0.push(Place { link: at, mac, addresses: addresses.collect() });
            }
        }
        places
    }

    fn at(&self, link: LinkId) -> Option<&Place> {
        self.0.iter().find(|place| place.link == link)
    }

    fn of(&self, facts: &Facts, vip: &Vip) -> Option<&Place> {
        self.at(LinkId { interface: facts.link(&vip.interface)?.index, vlan: vip.vlan })
    }
}

/// Questions in the making, and from whom answers are expected where.
#[derive(Default)]
struct Round {
    questions: Vec<Question>,
    ears: BTreeMap<LinkId, BTreeSet<IpAddr>>,
    left_out: usize,
}

impl Round {
    /// `false`: there are too many already.
    fn add(&mut self, question: Question, from: IpAddr) -> bool {
        if self.questions.len() >= limits::DOCTOR_QUESTIONS {
            self.left_out += 1;
            return false;
        }
        self.ears.entry(question.link).or_default().insert(from);
        self.questions.push(question);
        true
    }

    /// `None`: nothing could be asked.
    fn ask(&self, enough: impl Fn(&[Heard]) -> bool) -> Option<Vec<Heard>> {
        let ear = |(link, addresses): (&LinkId, &BTreeSet<IpAddr>)| Ear {
            link: *link,
            addresses: addresses.iter().copied().collect(),
        };
        let ears: Vec<Ear> = self.ears.iter().map(ear).collect();
        ask::ask(&ears, &self.questions, enough).ok()
    }
}

/// The first round: who is where.
fn neighbours(facts: &mut Facts, places: &Places) {
    let mut round = Round::default();
    let vips: Vec<Option<LinkId>> = facts
        .vips
        .iter()
        .map(|vip| {
            let place = places.of(facts, vip)?;
            round.add(place.who_has(vip.address, true), vip.address).then_some(place.link)
        })
        .collect();
    let sources: Vec<Option<LinkId>> = facts
        .sources
        .iter()
        .map(|source| {
            let place = places.at(LinkId::plain(neighbour::route(source.address).ok()?.interface))?;
            round.add(place.who_has(source.address, true), source.address).then_some(place.link)
        })
        .collect();
    let hops: Vec<Option<(LinkId, IpAddr)>> = facts
        .endpoints
        .iter()
        .map(|endpoint| {
            let Way::Out { link, router, .. } = &endpoint.way else { return None };
            let (place, hop) = (places.at(*link)?, router.unwrap_or(endpoint.address));
            round.add(place.who_has(hop, false), hop).then_some((place.link, hop))
        })
        .collect();
    facts.left_out += round.left_out;
    let Some(heard) = round.ask(|_| false) else { return };
    let ours: Vec<MacAddr> = places.0.iter().map(|place| place.mac).collect();
    let at = |wanted: LinkId, who: IpAddr| {
        let mut macs = Vec::new();
        for word in &heard {
            if let Heard::IsAt { link, address, mac } = word
                && (*link, *address) == (wanted, who)
                && !ours.contains(mac)
                && !macs.contains(mac)
            {
                macs.push(*mac);
            }
        }
        macs
    };
    for (vip, asked) in facts.vips.iter_mut().zip(vips) {
        vip.claimed = asked.map(|link| at(link, vip.address));
    }
    for (source, asked) in facts.sources.iter_mut().zip(sources) {
        source.claimed = asked.map(|link| at(link, source.address));
    }
    for (endpoint, asked) in facts.endpoints.iter_mut().zip(hops) {
        endpoint.mac = asked.map(|(link, hop)| at(link, hop).first().copied());
    }
}

/// What a question of the second round is about: an endpoint, and what of it.
#[derive(Clone, Copy)]
enum What {
    Ping(usize),
    /// An echo from an address that is not on the link: where does its answer go?
    Return(usize),
    Echo(usize, usize),
    Syn(usize, usize),
}

/// The second round: what endpoints do with packets.
fn behaviour(facts: &mut Facts, places: &Places) {
    let (mut round, mut asked) = (Round::default(), Vec::new());
    for (at, endpoint) in facts.endpoints.iter().enumerate() {
        let (Way::Out { link, .. }, Some(to)) = (&endpoint.way, endpoint.next_mac()) else { continue };
        // On a VLAN this host has no address that it could be answered at.
        let Some(place) = places.at(*link).filter(|_| link.vlan == 0) else { continue };
        let path = Path { link: place.link, from: place.mac, to, tunnel: None };
        let own = endpoint.balancer.or_else(|| place.source(endpoint.address));
        let mut put = |what: What, path: &Path, from: IpAddr, to: IpAddr| {
            if let Some(question) = question(what, asked.len(), path, (from, to), facts)
                && round.add(question, to)
            {
                asked.push((what, to));
            }
        };
        if let Some(own) = own {
            put(What::Ping(at), &path, own, endpoint.address);
        }
        if endpoint.forward == Forward::Nat {
            put(
                What::Return(at),
                &path,
                if endpoint.address.is_ipv6() { FOREIGN_V6 } else { FOREIGN_V4 },
                endpoint.address,
            );
        }
        for (index, seen) in endpoint.vips.iter().enumerate() {
            let Some(client) =
                place.source(seen.vip).or_else(|| places.0.iter().find_map(|place| place.source(seen.vip)))
            else {
                continue;
            };
            let tunnel = match (endpoint.forward, own) {
                (Forward::Mac, _) => None,
                (Forward::Ipip, Some(own)) => Some((Outer::new(own, endpoint.address), None)),
                (_, Some(own)) => Some((Outer::new(own, endpoint.address), Some(Variant::Header))),
                (_, None) => continue,
            };
            let path = Path { tunnel, ..path.clone() };
            put(What::Echo(at, index), &path, client, seen.vip);
            if seen.tcp.port().is_some() {
                put(What::Syn(at, index), &path, client, seen.vip);
            }
        }
    }
    // Answers may come in by another interface than the question went out by.
    let all: BTreeSet<IpAddr> = round.ears.values().flatten().copied().collect();
    round.ears = places.0.iter().filter(|place| place.link.vlan == 0).map(|place| (place.link, all.clone())).collect();
    facts.left_out += round.left_out;
    let answers = |heard: &[Heard], number: usize, (what, from): (What, IpAddr), facts: &Facts| {
        heard.iter().find_map(|word| answer(word, number, what, from, facts))
    };
    let enough =
        |heard: &[Heard]| asked.iter().enumerate().all(|(n, asked)| answers(heard, n, *asked, facts).is_some());
    if asked.is_empty() {
        return;
    }
    let Some(heard) = round.ask(enough) else { return };
    let found: Vec<(What, Option<Kind>)> =
        asked.iter().enumerate().map(|(number, asked)| (asked.0, answers(&heard, number, *asked, facts))).collect();
    for (what, answer) in found {
        note(facts, what, answer);
    }
}

/// The question's number is what its answer is known by: an echo's sequence, a SYN's port.
fn question(what: What, number: usize, path: &Path, (from, to): (IpAddr, IpAddr), facts: &Facts) -> Option<Question> {
    let number = u16::try_from(number).ok()?;
    let (head, ports) = match what {
        What::Ping(_) | What::Return(_) | What::Echo(..) => {
            (Head::Echo { reply: false, identifier: identifier(), sequence: number }, (0, 0))
        }
        What::Syn(endpoint, vip) => {
            let port = facts.endpoints.get(endpoint)?.vips.get(vip)?.tcp.port()?;
            let head = Head::Tcp { flags: Flags::SYN, sequence: 1, acknowledgment: 0, mss: Some(1460) };
            (head, (FIRST_PORT.checked_add(number)?, port))
        }
    };
    let way = compose::Way::new(SocketAddr::new(from, ports.0), SocketAddr::new(to, ports.1));
    let frame =
        path.frame(&datagram(&way, head, PAYLOAD.get(..if ports.0 == 0 { PAYLOAD.len() } else { 0 })?).ok()?)?;
    let syn = matches!(what, What::Syn(..)).then(|| (ports.0, path.clone()));
    Some(Question { link: path.link, frame, syn })
}

/// What is said to a question, if `word` is the answer: of the address that was asked, from the card that was.
fn answer(word: &Heard, number: usize, what: What, from: IpAddr, facts: &Facts) -> Option<Kind> {
    let Heard::Packet { mac, source, kind, .. } = word else { return None };
    let (What::Ping(at) | What::Return(at) | What::Echo(at, _) | What::Syn(at, _)) = what;
    let endpoint = facts.endpoints.get(at)?;
    let near = matches!(endpoint.way, Way::Out { router: None, .. });
    if *source != from || near && endpoint.next_mac() != Some(*mac) {
        return None;
    }
    let number = u16::try_from(number).ok()?;
    let fits = match (what, kind) {
        (What::Syn(..), Kind::SynAck { port, .. } | Kind::Reset { port }) => *port == FIRST_PORT.checked_add(number)?,
        (What::Ping(_) | What::Return(_) | What::Echo(..), Kind::Echo { identifier: id, sequence }) => {
            (*id, *sequence) == (identifier(), number)
        }
        _ => false,
    };
    fits.then_some(*kind)
}

fn note(facts: &mut Facts, what: What, answer: Option<Kind>) {
    let (What::Ping(at) | What::Return(at) | What::Echo(at, _) | What::Syn(at, _)) = what;
    let Some(endpoint) = facts.endpoints.get_mut(at) else { return };
    match what {
        What::Ping(_) => endpoint.pinged = Some(answer.is_some()),
        What::Return(_) => endpoint.returned = Some(answer.is_some()),
        What::Echo(_, vip) | What::Syn(_, vip) => {
            let Some(seen) = endpoint.vips.get_mut(vip) else { return };
            seen.answered = Some(seen.answered == Some(true) || answer.is_some());
            if let Some(Kind::SynAck { mss, .. }) = answer {
                // Without the option it is what every host takes (RFC 9293 §3.7.1).
                seen.mss = Some(mss.unwrap_or(if seen.vip.is_ipv6() { 1220 } else { 536 }));
            }
        }
    }
}

/// Sets this run's echoes apart from others'.
fn identifier() -> u16 {
    #[allow(clippy::cast_possible_truncation)] // any 16 bits of it
    let id = std::process::id() as u16;
    id
}

const CLIENTS: Role = Role::Clients { has_virtual: false };
const IPV4_FORWARDING: &str = "net/ipv4/ip_forward";
const IPV6_FORWARDING: &str = "net/ipv6/conf/all/forwarding";
const PAYLOAD: &[u8] = b"strata doctor";
/// A SYN's source port is this and its question's number.
const FIRST_PORT: u16 = 61_000;
/// Clients that are nobody: addresses for documentation (RFC 5737, RFC 3849). What is sent to them ends at the first router.
const FOREIGN_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const FOREIGN_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn af_xdp_is_asked_for_what_it_needs_beside_the_ring() {
        use Capability::{Bpf, IpcLock, NetAdmin, NetRaw};
        for (io, needed) in [
            (None, &[NetRaw, NetAdmin][..]),
            (Some(Io::Ring), &[NetRaw, NetAdmin]),
            (Some(Io::AfXdp), &[NetRaw, NetAdmin, Bpf, IpcLock]),
        ] {
            let looked: Vec<Capability> = capabilities(io).into_iter().map(|(capability, _)| capability).collect();
            assert_eq!(looked, needed, "{io:?}");
        }
    }
}
