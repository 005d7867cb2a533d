//! Value: what packets are decided by: links, routes, neighbours, VIPs, services. Immutable and swapped whole.
//!
//! The control side says what there is in [`Inputs`]; [`Tables::build`] works out what a packet would have to look for: each
//! endpoint's next hop, its MAC address and what fits on the way, and which (endpoint, protocol, port) is declared, so that
//! what it sends is translated back. A next hop whose MAC address is unknown stays in the table without one: its packets are
//! dropped with that reason, and say whom to ask for.
//!
//! Not here: what changes with packets (`decide::Shared`), and whether a configuration makes sense (`config` says so).

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use super::slots::Slots;
use crate::base::{HashKey, MacAddr, Network, ServiceId};
use crate::wire::gue;
use crate::wire::ip::Protocol;

mod addresses;
mod returns;
mod routes;

use addresses::Addresses;
use routes::Routes;

pub(super) use returns::Ways;

/// What frames come in by and go out by: an interface, and a VLAN on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    /// The kernel's index.
    pub interface: u32,
    /// 0: frames without a tag, or whose tag has a priority only. An interface that takes the tag off itself (`eth0.7`) is 0 too.
    pub vlan: u16,
}

impl LinkId {
    /// An interface without VLANs.
    pub const fn plain(interface: u32) -> LinkId {
        LinkId { interface, vlan: 0 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub id: LinkId,
    pub mac: MacAddr,
    /// Bytes of an IP datagram.
    pub mtu: u32,
    /// Strata's own addresses there, the one to be used as a source first. No VIPs.
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Route {
    pub network: Network,
    pub link: LinkId,
    /// `None`: its addresses are on the link.
    pub gateway: Option<IpAddr>,
    /// Of routes to the same network, the one with the least is taken, and of equals the first.
    pub metric: u32,
    /// Bytes of an IP datagram that fit, where that is said to be less than the link's.
    pub mtu: Option<u32>,
}

impl Route {
    /// One of which nothing more is said.
    pub const fn new(network: Network, link: LinkId, gateway: Option<IpAddr>) -> Route {
        Route { network, link, gateway, metric: 0, mtu: None }
    }

    /// The route to the network of `address` on a link of ours, of which there may be many.
    pub fn on_link(routes: &[Route], address: IpAddr) -> Option<&Route> {
        let on = routes.iter().filter(|route| route.gateway.is_none() && route.network.contains(address));
        on.min_by_key(|route| (Reverse(route.network.prefix()), route.metric))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    pub link: LinkId,
    pub address: IpAddr,
    pub mac: MacAddr,
}

/// One address of a VIP.
#[derive(Clone, Copy, Debug)]
pub struct Vip {
    pub address: IpAddr,
    /// Where it is answered for.
    pub link: LinkId,
    /// The link's, or a virtual one.
    pub mac: MacAddr,
}

/// Ports of one protocol, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub protocol: Protocol,
    pub first: u16,
    pub last: u16,
}

/// What is done to a packet, so that it reaches its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// `l2`: the frame gets another destination; replies do not come back here.
    Direct,
    /// The destination is translated; replies come back through here.
    Nat,
    /// Source and destination are translated; endpoints see these addresses, of which there is at least one in each family.
    FullNat { sources: Vec<IpAddr> },
    /// IP in IP; replies do not come back here.
    Ipip,
    /// IP in UDP; replies do not come back here.
    Gue(gue::Variant),
}

/// What picks a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sticky {
    /// All that names the flow.
    #[default]
    Flow,
    /// The client's address alone.
    Source,
}

#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    pub address: IpAddr,
    /// In NAT modes, what the service's port becomes; `None` keeps it. For services of one port only.
    pub port: Option<u16>,
    /// A fixed one; `None`: its next hop's, as the neighbours have it.
    pub mac: Option<MacAddr>,
    /// Of the path to it, where that is known to be less than the link's.
    pub mtu: Option<u32>,
}

/// One service, in one family where it translates: its endpoints are of its addresses' family then.
#[derive(Clone, Debug)]
pub struct Service {
    pub id: ServiceId,
    /// Addresses of VIPs.
    pub addresses: Vec<IpAddr>,
    /// None: every port, and every protocol.
    pub ports: Vec<Ports>,
    pub forward: Forward,
    pub sticky: Sticky,
    pub slots: Arc<Slots>,
    /// By the index that slots name them by.
    pub endpoints: Vec<Option<Endpoint>>,
}

/// All that tables are built from.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// `[cluster] hash_key`.
    pub key: HashKey,
    pub links: Vec<Link>,
    /// Addresses of this machine that are on none of the links: a router's on `lo`, one of an interface that no route leads out by.
    pub own: Vec<IpAddr>,
    pub routes: Vec<Route>,
    pub neighbors: Vec<Neighbor>,
    pub vips: Vec<Vip>,
    pub services: Vec<Service>,
}

/// See the file's head.
#[derive(Debug)]
pub struct Tables {
    pub(super) key: HashKey,
    links: Vec<Link>,
    routes: Routes,
    /// MAC addresses of gateways, those of routes that are not taken too, and the places of their links. In order.
    gateways: Vec<(usize, MacAddr)>,
    /// In order.
    neighbors: Vec<((LinkId, IpAddr), MacAddr)>,
    /// In the order of their addresses, which are `vip_addresses`.
    vips: Vec<Entry>,
    vip_addresses: Addresses,
    /// Addresses of this machine, wherever they are, and NAT's sources.
    own: Addresses,
    /// MAC addresses that frames for us have, in order.
    stations: Vec<u128>,
    services: Vec<Served>,
    ways: Ways,
}

/// A route as packets need it.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// `None`: by an interface that frames cannot leave by. It leads nowhere, and not where a shorter prefix does.
    link: Option<usize>,
    gateway: Option<(IpAddr, Option<MacAddr>)>,
    mtu: u32,
}

/// A VIP's address and what is served there.
#[derive(Debug)]
pub(super) struct Entry {
    pub vip: Vip,
    /// Disjoint, in order, with the place of their service.
    ports: Vec<(Protocol, u16, u16, usize)>,
    /// Serves what no port does.
    rest: Option<usize>,
}

/// A service and its endpoints as packets need them.
#[derive(Debug)]
pub(super) struct Served {
    pub service: Service,
    pub targets: Vec<Option<Target>>,
    /// Whether what endpoints send is known to be a reply by its port alone; otherwise flows are recorded.
    pub stateless: bool,
}

/// An endpoint and the way to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub endpoint: Endpoint,
    /// `None`: no route leads there.
    pub hop: Option<Hop>,
    /// Of a tunnel: an address of ours in the endpoint's family.
    pub source: Option<IpAddr>,
    /// It is ourselves.
    pub looped: bool,
}

/// Where a datagram goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    /// The place of the link.
    pub link: usize,
    /// The endpoint or client itself, or a gateway.
    pub next: IpAddr,
    /// Whether `next` is where the datagram is bound for.
    pub on_link: bool,
    pub mac: Option<MacAddr>,
    /// Bytes of an IP datagram that fit.
    pub mtu: u32,
}

impl Tables {
    /// Works everything out. What refers to a link or VIP that is not there is left out.
    pub fn build(inputs: Inputs) -> Tables {
        let Inputs { key, mut links, own, routes, neighbors, mut vips, services } = inputs;
        links.sort_by_key(|link| link.id);
        links.dedup_by_key(|link| link.id);
        let mut neighbors: Vec<_> =
            neighbors.into_iter().map(|neighbor| ((neighbor.link, neighbor.address), neighbor.mac)).collect();
        neighbors.sort_unstable();
        let shown = services.iter().filter_map(|service| match &service.forward {
            Forward::FullNat { sources } => Some(sources),
            _ => None,
        });
        let of_links = links.iter().flat_map(|link| &link.addresses);
        let own = Addresses::new(of_links.chain(&own).chain(shown.flatten()).copied());
        let at = |vip: &Vip| station(vip.link.interface, vip.mac);
        let mut stations: Vec<_> =
            links.iter().map(|link| station(link.id.interface, link.mac)).chain(vips.iter().map(at)).collect();
        stations.sort_unstable();
        stations.dedup();
        vips.sort_by_key(|vip| vip.address);
        vips.dedup_by_key(|vip| vip.address);
        let vip_addresses = Addresses::new(vips.iter().map(|vip| vip.address));
        let vips = vips.into_iter().map(|vip| Entry { vip, ports: Vec::new(), rest: None }).collect();
        let (routes, ways) = (routes.as_slice(), Ways::default());
        let mut tables = Tables {
            key,
            links,
            routes: Routes::default(),
            gateways: Vec::new(),
            neighbors,
            vips,
            vip_addresses,
            own,
            stations,
            services: Vec::new(),
            ways,
        };
        tables.gateways = tables.gateways_of(routes);
        tables.routes = tables.ways_of(routes);
        for service in services {
            tables.serve(service);
        }
        tables.ways = Ways::build(&mut tables.services);
        tables
    }

    fn gateways_of(&self, routes: &[Route]) -> Vec<(usize, MacAddr)> {
        let known = |route: &Route| Some((self.place(route.link)?, self.neighbor(route.link, route.gateway?)?));
        let mut gateways: Vec<_> = routes.iter().filter_map(known).collect();
        gateways.sort_unstable();
        gateways.dedup();
        gateways
    }

    fn ways_of(&self, routes: &[Route]) -> Routes {
        let mut known: Vec<(Network, u32, Way)> = routes
            .iter()
            .map(|route| {
                let gateway = route.gateway.map(|address| (address, self.neighbor(route.link, address)));
                let link = self.place(route.link);
                let mtu = link.and_then(|link| self.link(link)).map_or(0, |link| link.mtu);
                let way = Way { link, gateway, mtu: route.mtu.map_or(mtu, |said| said.min(mtu)) };
                (route.network, route.metric, way)
            })
            .collect();
        known.sort_by_key(|(network, metric, _)| (*network, *metric));
        known.dedup_by_key(|(network, ..)| *network);
        Routes::build(known.into_iter().map(|(network, _, way)| (network, way)))
    }

    /// Enters a service with its ports and endpoints.
    fn serve(&mut self, service: Service) {
        let place = self.services.len();
        for address in &service.addresses {
            let at = self.vip_addresses.place(*address);
            let Some(entry) = at.and_then(|at| self.vips.get_mut(at)) else { continue };
            for ports in &service.ports {
                entry.ports.push((ports.protocol, ports.first, ports.last, place));
            }
            entry.ports.sort_unstable();
            if service.ports.is_empty() {
                entry.rest = Some(place);
            }
        }
        let link = service.addresses.first().and_then(|address| Some(self.vip(*address)?.vip.link));
        let targets = service
            .endpoints
            .iter()
            .map(|endpoint| endpoint.map(|endpoint| self.target(endpoint, &service.forward, link)))
            .collect();
        self.services.push(Served { service, targets, stateless: false });
    }

    fn target(&self, endpoint: Endpoint, forward: &Forward, vip: Option<LinkId>) -> Target {
        let direct = *forward == Forward::Direct;
        let mut hop = self.hop(endpoint.address);
        if direct {
            // A frame reaches its own link only. Where its MAC is fixed, the endpoint may have any address.
            hop = match (endpoint.mac, vip.and_then(|id| self.place(id))) {
                (Some(_), Some(link)) => Some(Hop {
                    link,
                    next: endpoint.address,
                    on_link: true,
                    mac: None,
                    mtu: self.link(link).map_or(0, |link| link.mtu),
                }),
                _ => hop.filter(|hop| hop.on_link),
            };
        }
        if let Some(hop) = &mut hop {
            hop.mac = endpoint.mac.or(hop.mac);
            hop.mtu = endpoint.mtu.unwrap_or(hop.mtu).min(hop.mtu);
        }
        let family = |address: &&IpAddr| address.is_ipv6() == endpoint.address.is_ipv6() && !is_link_local(address);
        let near = hop.and_then(|hop| self.link(hop.link)?.addresses.iter().find(family));
        let source = near.or_else(|| self.links.iter().flat_map(|link| &link.addresses).find(family));
        let looped = self.is_own(endpoint.address) || !direct && self.vip(endpoint.address).is_some();
        Target { endpoint, hop, source: source.copied(), looped }
    }

    /// The way to an address. `None` where no route leads.
    pub(super) fn hop(&self, address: IpAddr) -> Option<Hop> {
        let way = self.routes.find(address)?;
        let place = way.link?;
        let link = self.links.get(place)?;
        let (next, mac) = match way.gateway {
            Some(gateway) => gateway,
            None => (address, self.neighbor(link.id, address)),
        };
        Some(Hop { link: place, next, on_link: way.gateway.is_none(), mac, mtu: way.mtu })
    }

    /// Whether it is a router's on this link, of those that routes lead to.
    pub(super) fn is_gateway(&self, link: usize, mac: MacAddr) -> bool {
        self.gateways.binary_search(&(link, mac)).is_ok()
    }

    fn neighbor(&self, link: LinkId, address: IpAddr) -> Option<MacAddr> {
        let at = self.neighbors.binary_search_by_key(&(link, address), |(key, _)| *key).ok()?;
        self.neighbors.get(at).map(|(_, mac)| *mac)
    }

    pub(super) fn link(&self, place: usize) -> Option<&Link> {
        self.links.get(place)
    }

    /// Where a link stands.
    pub(super) fn place(&self, id: LinkId) -> Option<usize> {
        self.links.iter().position(|link| link.id == id)
    }

    /// Whether frames to this MAC address are for us, on any VLAN of the interface.
    pub(super) fn is_station(&self, interface: u32, mac: MacAddr) -> bool {
        self.stations.binary_search(&station(interface, mac)).is_ok()
    }

    pub(super) fn vip(&self, address: IpAddr) -> Option<&Entry> {
        self.vips.get(self.vip_addresses.place(address)?)
    }

    /// Whether it is one of Strata's own addresses, VIPs not among them.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(address)
    }

    pub(super) fn served(&self, place: usize) -> Option<&Served> {
        self.services.get(place)
    }

    /// The endpoint of a service with this address, and its index. For what is not done for each packet.
    pub(super) fn find_endpoint(&self, service: ServiceId, address: IpAddr) -> Option<(&Served, u16)> {
        let of = self.services.iter().filter(|served| served.service.id == service);
        let at = |target: &Option<Target>| target.is_some_and(|target| target.endpoint.address == address);
        of.filter_map(|served| Some((served, u16::try_from(served.targets.iter().position(at)?).ok()?))).next()
    }

    pub(super) fn ways(&self) -> &Ways {
        &self.ways
    }
}

impl Entry {
    /// The place of the service for a packet.
    pub(super) fn service(&self, protocol: Protocol, port: Option<u16>) -> Option<usize> {
        self.declared(protocol, port).map(|(_, place)| place).or(self.rest)
    }

    /// The ports that a packet's is among, and the place of the service that declares them.
    pub(super) fn declared(&self, protocol: Protocol, port: Option<u16>) -> Option<(Ports, usize)> {
        let port = port?;
        let after = self.ports.partition_point(|(p, first, ..)| (*p, *first) <= (protocol, port));
        let (p, first, last, place) = *self.ports.get(after.checked_sub(1)?)?;
        (p == protocol && port <= last).then_some((Ports { protocol, first, last }, place))
    }
}

impl Served {
    /// Whether its flows are recorded, each with both its sides.
    pub(super) fn is_bound(&self) -> bool {
        match self.service.forward {
            Forward::Nat => !self.stateless,
            Forward::FullNat { .. } => true,
            Forward::Direct | Forward::Ipip | Forward::Gue(_) => false,
        }
    }

    pub(super) fn target(&self, endpoint: u16) -> Option<&Target> {
        self.targets.get(usize::from(endpoint))?.as_ref()
    }
}

/// A MAC address of an interface as one number.
fn station(interface: u32, MacAddr([a, b, c, d, e, f]): MacAddr) -> u128 {
    u128::from(interface) << 64 | u128::from(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

/// An IPv6 address that means nothing beyond its link: no source for a tunnel.
fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_routes_to_one_network_the_first_is_taken_and_one_without_a_link_leads_nowhere() {
        let link = |interface| Link {
            id: LinkId::plain(interface),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            addresses: Vec::new(),
        };
        let route =
            |network: &str, interface| Route::new(Network::parse(network).unwrap(), LinkId::plain(interface), None);
        let tables = Tables::build(Inputs {
            key: HashKey::new([1; 16]),
            links: vec![link(2), link(3)],
            own: Vec::new(),
            routes: vec![
                route("0.0.0.0/0", 3),
                route("0.0.0.0/0", 2),
                route("10.9.0.0/16", 7),
                route("10.0.0.0/24", 2),
            ],
            neighbors: Vec::new(),
            vips: Vec::new(),
            services: Vec::new(),
        });
        for (address, interface) in [("192.0.2.1", Some(3)), ("10.0.0.1", Some(2)), ("10.9.0.1", None)] {
            let hop = tables.hop(address.parse().unwrap());
            let found = hop.and_then(|hop| tables.link(hop.link)).map(|link| link.id.interface);
            assert_eq!(found, interface, "{address}");
        }
    }

    #[test]
    fn the_gateway_of_a_route_that_is_not_taken_is_a_gateway_too() {
        let (id, network) = (LinkId::plain(2), Network::parse("0.0.0.0/0").unwrap());
        let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
        let gateway = |last: u8| IpAddr::from([10, 0, 0, last]);
        let tables = Tables::build(Inputs {
            key: HashKey::new([1; 16]),
            links: vec![Link { id, mac: mac(9), mtu: 1500, addresses: Vec::new() }],
            own: Vec::new(),
            routes: [(1, 600), (2, 100)]
                .map(|(last, metric)| Route { metric, ..Route::new(network, id, Some(gateway(last))) })
                .to_vec(),
            neighbors: [1, 2, 3].map(|last| Neighbor { link: id, address: gateway(last), mac: mac(last) }).to_vec(),
            vips: Vec::new(),
            services: Vec::new(),
        });
        assert_eq!(tables.hop([192, 0, 2, 1].into()).map(|hop| hop.next), Some(gateway(2)));
        assert_eq!([1, 2, 3].map(|last| tables.is_gateway(0, mac(last))), [true, true, false]);
    }
}
