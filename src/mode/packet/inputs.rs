//! Engine: from a snapshot, its books and a view of the machine to what the tables are built from.
//!
//! Not here: how the machine is looked at.

use std::net::IpAddr;
use std::sync::Arc;

use super::books::Book;
use crate::balance::HashBy;
use crate::base::{MacAddr, Ports, ServiceId};
use crate::flow::tables::{self, Endpoint, Forward, Inputs, Link, LinkId, Neighbor, Route, Service, Sticky, Vip};
use crate::flow::{Endpoints, NOBODY, Slots};
use crate::state::{self, EndpointSpec, PacketSpec, Snapshot, Traffic, VipSpec};
use crate::wire::gue::Variant;
use crate::wire::ip::Protocol;

/// What tables need to know of the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// The names of interfaces that frames come in by, and what is theirs.
    pub interfaces: Vec<(Arc<str>, Link)>,
    /// Others that routes lead out by.
    pub beyond: Vec<Link>,
    /// Every address that others reach it by, in order, on whichever interface: what the kernel is left (`replies::own`).
    pub own: Vec<IpAddr>,
    /// Of those to one network, the one that is taken is first. One whose link is not known leads nowhere, and not elsewhere.
    pub routes: Vec<Route>,
    pub neighbors: Vec<Neighbor>,
    /// The interfaces that carry frames, and how often each's carrier has changed.
    pub running: Vec<(u32, u32)>,
    /// What fits on the way to a tunnel's other end where that was learned, in the order of addresses.
    pub paths: Vec<(IpAddr, u32)>,
}

impl Machine {
    fn link(&self, name: &str) -> Option<&Link> {
        self.interfaces.iter().find(|(known, _)| &**known == name).map(|(_, link)| link)
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        self.interfaces.iter().map(|(_, link)| link).chain(&self.beyond)
    }

    /// The route to an address that is on a link of ours.
    fn on_link(&self, address: IpAddr) -> Option<&Route> {
        Route::on_link(&self.routes, address)
    }

    fn path(&self, to: IpAddr) -> Option<u32> {
        let at = self.paths.binary_search_by_key(&to, |(known, _)| *known).ok()?;
        self.paths.get(at).map(|(_, mtu)| *mtu)
    }
}

/// Everything that the tables of `snapshot` are built from.
pub fn inputs<'b>(snapshot: &Snapshot, books: impl IntoIterator<Item = &'b Book>, machine: &Machine) -> Inputs {
    Inputs {
        key: snapshot.settings.hash_key,
        links: machine.links().cloned().chain(tagged(snapshot, machine)).collect(),
        own: machine.own.clone(),
        routes: machine.routes.clone(),
        neighbors: machine.neighbors.clone(),
        vips: vips(snapshot, machine),
        services: books.into_iter().filter_map(|book| service(snapshot, book, machine)).collect(),
    }
}

/// The link that a VIP is on, of its interface.
fn on(vip: &VipSpec, interface: &Link) -> LinkId {
    LinkId { vlan: vip.vlan.unwrap_or(interface.id.vlan), ..interface.id }
}

/// The VLANs of VIPs. The kernel does not know them: they have its interface's MAC and MTU, and no address of ours.
fn tagged(snapshot: &Snapshot, machine: &Machine) -> Vec<Link> {
    let vips = snapshot.vips().filter(|vip| vip.spec.vlan.is_some());
    let links = vips.filter_map(|vip| {
        let interface = machine.link(&vip.spec.interface)?;
        Some(Link { id: on(&vip.spec, interface), addresses: Vec::new(), ..interface.clone() })
    });
    links.collect()
}

/// What the tables of probes through VIPs are built from: every endpoint of the file, and slots that lead to none.
pub fn of_probes(snapshot: &Snapshot, machine: &Machine) -> Inputs {
    let direct = snapshot.services().filter_map(|service| match &service.traffic {
        Traffic::Packet(spec) if spec.forward.is_direct() => probed(snapshot, service.id, spec),
        _ => None,
    });
    Inputs { services: direct.collect(), ..inputs(snapshot, [], machine) }
}

fn probed(snapshot: &Snapshot, id: ServiceId, spec: &PacketSpec) -> Option<Service> {
    let endpoint =
        |said: &EndpointSpec| Some(Endpoint { address: said.address.ip(), port: None, mac: said.mac, mtu: None });
    Some(Service {
        id,
        addresses: snapshot.vip(spec.vip)?.spec.addresses.clone(),
        ports: Vec::new(),
        forward: forward(spec),
        sticky: Sticky::Flow,
        slots: Arc::new(Slots::new(&[NOBODY], &Endpoints::new(spec.policy))),
        endpoints: snapshot.pool(spec.pool)?.spec.endpoints.iter().map(endpoint).collect(),
    })
}

/// Every address of every VIP whose interface is there.
fn vips(snapshot: &Snapshot, machine: &Machine) -> Vec<Vip> {
    let mut vips = Vec::new();
    for vip in snapshot.vips() {
        let Some(link) = machine.link(&vip.spec.interface) else { continue };
        let id = on(&vip.spec, link);
        let at = |address: &IpAddr| Vip { address: *address, link: id, mac: vip.spec.mac.of(*address, link.mac) };
        vips.extend(vip.spec.addresses.iter().map(at));
    }
    // Full NAT's sources are Strata's alone, so they are answered for where endpoints are.
    for service in snapshot.services() {
        let Traffic::Packet(spec) = &service.traffic else { continue };
        for source in &spec.sources {
            let Some(route) = machine.on_link(*source) else { continue };
            let link = machine.interfaces.iter().find(|(_, link)| link.id == route.link);
            vips.extend(link.map(|(_, link)| Vip { address: *source, link: link.id, mac: link.mac }));
        }
    }
    vips
}

fn service(snapshot: &Snapshot, book: &Book, machine: &Machine) -> Option<Service> {
    let spec = book.spec();
    let vip = snapshot.vip(spec.vip)?;
    let said = &snapshot.pool(spec.pool)?.spec.endpoints;
    let mac = |of: &state::Endpoint| -> Option<MacAddr> {
        said.iter().find(|endpoint| endpoint.address == of.address).and_then(|endpoint| endpoint.mac)
    };
    let endpoint = |endpoint: &Arc<state::Endpoint>| Endpoint {
        address: endpoint.address.ip(),
        port: endpoint.address.port(),
        mac: mac(endpoint),
        mtu: machine.path(endpoint.address.ip()),
    };
    Some(Service {
        id: book.service(),
        addresses: vip.spec.addresses.iter().copied().filter(|address| book.family().holds(*address)).collect(),
        ports: spec.ports.as_ref().map(ports).unwrap_or_default(),
        forward: forward(spec),
        sticky: if spec.hash_by == HashBy::SourceAddress { Sticky::Source } else { Sticky::Flow },
        slots: book.slots().clone(),
        endpoints: book.members().iter().map(|member| member.as_ref().map(endpoint)).collect(),
    })
}

fn ports(ports: &Ports) -> Vec<tables::Ports> {
    ports
        .iter()
        .map(|range| tables::Ports {
            protocol: Protocol(range.transport.protocol()),
            first: range.first,
            last: range.last,
        })
        .collect()
}

fn forward(spec: &PacketSpec) -> Forward {
    match spec.forward {
        state::Forward::Mac => Forward::Direct,
        state::Forward::Nat => Forward::Nat,
        state::Forward::FullNat => Forward::FullNat { sources: spec.sources.clone() },
        state::Forward::Ipip => Forward::Ipip,
        state::Forward::Gue => Forward::Gue(Variant::Header),
    }
}

/// An interface that has nothing but its name: where no machine is looked at.
pub fn imagined(index: u32, mac: MacAddr) -> Link {
    Link { id: LinkId::plain(index), mac, mtu: 1500, addresses: Vec::new() }
}
