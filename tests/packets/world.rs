//! What a file of the corpus decides by: links, routes, neighbours, VIPs and services as text, and how they change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use strata::base::{HashKey, MacAddr, Moment, Network, ServiceId};
use strata::flow::tables::{Endpoint, Forward, Inputs, Link, LinkId, Neighbor, Ports, Route, Service, Sticky, Vip};
use strata::flow::{Affinity, Endpoints, Fragments, NOBODY, Nat, OnDown, Policy, Records, Shared, Slots, Tables};
use strata::wire::gue::Variant;
use strata::wire::ip::Protocol;

pub const KEY: HashKey = HashKey::new(*b"an example key..");
/// Slots are dealt out in turns: slot n is the endpoint's that stands at n modulo how many are up.
const SLOTS: usize = 64;

/// The tables of a file.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    links: Vec<LinkText>,
    /// Addresses of ours on none of them.
    #[serde(default)]
    own: Vec<IpAddr>,
    routes: Vec<RouteText>,
    #[serde(default)]
    neighbors: Vec<NeighborText>,
    vips: Vec<VipText>,
    #[serde(default)]
    service: BTreeMap<String, ServiceText>,
    /// Ports that full NAT lends.
    #[serde(default = "one_port")]
    nat_ports: [u16; 2],
    #[serde(default = "room")]
    nat_flows: usize,
    #[serde(default = "room")]
    fragments: usize,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkText {
    name: String,
    interface: u32,
    #[serde(default)]
    vlan: u16,
    mac: String,
    #[serde(default = "ethernet")]
    mtu: u32,
    #[serde(default)]
    addresses: Vec<IpAddr>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteText {
    to: String,
    link: String,
    gateway: Option<IpAddr>,
    #[serde(default)]
    metric: u32,
    mtu: Option<u32>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct NeighborText {
    address: IpAddr,
    link: String,
    mac: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct VipText {
    address: IpAddr,
    link: String,
    mac: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceText {
    id: u16,
    vips: Vec<IpAddr>,
    #[serde(default)]
    ports: Vec<String>,
    forward: String,
    #[serde(default)]
    sources: Vec<IpAddr>,
    #[serde(default)]
    sticky: String,
    #[serde(default)]
    on_down: String,
    #[serde(default)]
    affinity: String,
    endpoints: Vec<EndpointText>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointText {
    address: IpAddr,
    port: Option<u16>,
    mac: Option<String>,
    mtu: Option<u32>,
}

/// What becomes of endpoints between two packets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    service: String,
    /// These die.
    #[serde(default)]
    down: Vec<IpAddr>,
    /// These come back.
    #[serde(default)]
    up: Vec<IpAddr>,
    /// These get no new flows, and keep those they have.
    #[serde(default)]
    drain: Vec<IpAddr>,
    /// Full NAT shows these from now on.
    sources: Option<Vec<IpAddr>>,
}

/// The tables as they are now, and what packets have changed.
pub struct Live {
    world: World,
    services: BTreeMap<String, Served>,
    pub tables: Tables,
    pub shared: Shared,
}

struct Served {
    endpoints: Endpoints,
    /// By index: whether it gets new flows.
    takes: Vec<bool>,
    slots: Slots,
}

impl Live {
    pub fn start(world: &World) -> Live {
        let services = world.service.iter().map(|(name, text)| (name.clone(), Served::start(text))).collect();
        let sources: Vec<IpAddr> = world.service.values().flat_map(|service| service.sources.clone()).collect();
        let nat = Nat::new(world.nat_flows, &sources, &(world.nat_ports[0]..=world.nat_ports[1]), KEY);
        let shared = Shared::with(Records::new(1024, KEY), nat, Fragments::new(world.fragments, KEY), KEY);
        let tables = world.tables(&services);
        Live { world: world.clone(), services, tables, shared }
    }

    pub fn change(&mut self, change: &Change, now: Moment) {
        if let Some(sources) = &change.sources {
            self.world.service.get_mut(&change.service).unwrap().sources = sources.clone();
            assert!(self.shared.nat.add_sources(sources));
        }
        let text = &self.world.service[&change.service];
        let served = self.services.get_mut(&change.service).unwrap();
        let index =
            |address: &IpAddr| text.endpoints.iter().position(|end| end.address == *address).expect("an endpoint");
        for address in &change.down {
            served.endpoints.died(index(address) as u16);
            served.takes[index(address)] = false;
        }
        for address in &change.drain {
            served.takes[index(address)] = false;
        }
        for address in &change.up {
            served.endpoints.returned(index(address) as u16);
            served.takes[index(address)] = true;
        }
        let dealt = served.deal();
        served.slots.change(&dealt, &served.endpoints, now);
        self.tables = self.world.tables(&self.services);
    }

    pub fn interface(&self, link: &str) -> u32 {
        self.world.link(link).id.interface
    }

    pub fn vips(&self) -> Vec<IpAddr> {
        self.world.vips.iter().map(|vip| vip.address).collect()
    }

    pub fn name(&self, interface: u32) -> &str {
        &self.world.links.iter().find(|link| link.interface == interface).expect("a link").name
    }

    pub fn endpoint(&self, service: ServiceId, index: u16) -> IpAddr {
        let text = self.world.service.values().find(|text| text.id == service.0).expect("a service");
        text.endpoints[usize::from(index)].address
    }
}

impl Served {
    fn start(text: &ServiceText) -> Served {
        let on_down = match text.on_down.as_str() {
            "" | "rehash" => OnDown::Rehash,
            "keep" => OnDown::Keep,
            "reset" => OnDown::Reset,
            other => panic!("no on_down: {other}"),
        };
        let affinity = match text.affinity.as_str() {
            "" | "flow" => Affinity::Flow,
            "packet" => Affinity::Packet,
            other => panic!("no affinity: {other}"),
        };
        let mut endpoints = Endpoints::new(Policy { on_down, affinity, ..Policy::default() });
        for identity in 0..text.endpoints.len() as u64 {
            endpoints.join(identity);
        }
        let takes = vec![true; text.endpoints.len()];
        let mut served = Served { slots: Slots::new(&[], &endpoints), endpoints, takes };
        served.slots = Slots::new(&served.deal(), &served.endpoints);
        served
    }

    fn deal(&self) -> Vec<u16> {
        let up: Vec<u16> = (0..).zip(&self.takes).filter(|(_, takes)| **takes).map(|(index, _)| index).collect();
        if up.is_empty() { vec![NOBODY; SLOTS] } else { up.iter().copied().cycle().take(SLOTS).collect() }
    }
}

impl World {
    fn tables(&self, services: &BTreeMap<String, Served>) -> Tables {
        let service = |(name, text): (&String, &ServiceText)| Service {
            id: ServiceId(text.id),
            addresses: text.vips.clone(),
            ports: text.ports.iter().map(|ports| self::ports(ports)).collect(),
            forward: match text.forward.as_str() {
                "l2" => Forward::Direct,
                "nat" => Forward::Nat,
                "full-nat" => Forward::FullNat { sources: text.sources.clone() },
                "ipip" => Forward::Ipip,
                "gue" => Forward::Gue(Variant::Header),
                "gue-direct" => Forward::Gue(Variant::Direct),
                other => panic!("no forward: {other}"),
            },
            sticky: match text.sticky.as_str() {
                "" | "flow" => Sticky::Flow,
                "source" => Sticky::Source,
                other => panic!("no sticky: {other}"),
            },
            slots: Arc::new(services[name].slots.clone()),
            endpoints: text.endpoints.iter().map(|text| Some(text.endpoint())).collect(),
        };
        Tables::build(Inputs {
            key: KEY,
            links: self.links.iter().map(|text| self.link(&text.name)).collect(),
            own: self.own.clone(),
            routes: self.routes.iter().map(|text| self.route(text)).collect(),
            neighbors: self
                .neighbors
                .iter()
                .map(|text| Neighbor { link: self.link(&text.link).id, address: text.address, mac: mac(&text.mac) })
                .collect(),
            vips: self.vips.iter().map(|text| self.vip(text)).collect(),
            services: self.service.iter().map(service).collect(),
        })
    }

    fn link(&self, name: &str) -> Link {
        let text = self.links.iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no link: {name}"));
        let id = LinkId { interface: text.interface, vlan: text.vlan };
        Link { id, mac: mac(&text.mac), mtu: text.mtu, addresses: text.addresses.clone() }
    }

    fn route(&self, text: &RouteText) -> Route {
        let network = Network::parse(&text.to).unwrap_or_else(|why| panic!("{}: {why}", text.to));
        let link = self.link(&text.link).id;
        Route { metric: text.metric, mtu: text.mtu, ..Route::new(network, link, text.gateway) }
    }

    fn vip(&self, text: &VipText) -> Vip {
        let link = self.link(&text.link);
        Vip { address: text.address, link: link.id, mac: text.mac.as_ref().map_or(link.mac, |text| mac(text)) }
    }
}

impl EndpointText {
    fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, port: self.port, mac: self.mac.as_ref().map(|text| mac(text)), mtu: self.mtu }
    }
}

/// `80/tcp`, `7000-7999/udp`.
fn ports(text: &str) -> Ports {
    let (range, protocol) = text.split_once('/').unwrap_or_else(|| panic!("no ports: {text}"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("no port: {text}"));
    Ports { protocol: Protocol::parse(protocol).expect("a protocol"), first: number(first), last: number(last) }
}

fn mac(text: &str) -> MacAddr {
    MacAddr::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn ethernet() -> u32 {
    1500
}

fn one_port() -> [u16; 2] {
    [20000, 20000]
}

fn room() -> usize {
    1024
}
