//! Value: whose packets are replies of a NAT service, and how they are known.
//!
//! *By their port alone*, which needs no state: a service with ports, one address, and endpoints that no other NAT service uses
//! on the same port. *By a record of the flow* where that would be a guess: a service without ports (or an endpoint's own
//! connections would be rewritten), with several addresses, or with an endpoint that two services share.

use std::net::IpAddr;

use super::addresses::Addresses;
use super::{Forward, Served};
use crate::wire::ip::Protocol;

/// A declared (endpoint, protocol, port): what comes from there is a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flow) struct Back {
    pub endpoint: IpAddr,
    pub protocol: Protocol,
    first: u16,
    last: u16,
    /// The place of the service, and the endpoint's index in it.
    pub service: usize,
    pub index: u16,
    /// The VIP's address, and its port where that is another than the endpoint's.
    pub address: IpAddr,
    pub port: Option<u16>,
}

/// Ports of an endpoint: the address, the protocol, the first and the last.
type Kept = (IpAddr, Protocol, u16, u16);

#[derive(Debug, Default)]
pub(in crate::flow) struct Ways {
    /// In order of endpoint, protocol and port; disjoint.
    declared: Vec<Back>,
    /// Endpoints of services that record their flows.
    recorded: Addresses,
    /// Endpoints of services without ports: whatever they send is kept from the kernel.
    whole: Addresses,
    /// Where replies of services with ports come from, recorded or not, in order and disjoint: kept from the kernel too.
    kept: Vec<Kept>,
    /// Addresses that endpoints see in full NAT.
    sources: Addresses,
}

impl Ways {
    /// Decides for every NAT service which it is.
    pub(super) fn build(services: &mut [Served]) -> Ways {
        let mut ways = Ways::default();
        let mut declared: Vec<Back> = Vec::new();
        let mut whole: Vec<IpAddr> = Vec::new();
        let mut shown: Vec<IpAddr> = Vec::new();
        for (place, served) in services.iter_mut().enumerate() {
            let service = &served.service;
            if let Forward::FullNat { sources } = &service.forward {
                shown.extend(sources);
            }
            if service.forward != Forward::Nat {
                continue;
            }
            served.stateless = !service.ports.is_empty() && service.addresses.len() == 1;
            if service.ports.is_empty() {
                whole.extend(endpoints(served));
            }
            declared.extend(backs(place, served));
        }
        declared.sort_unstable_by_key(order);
        for place in ambiguous(&declared) {
            if let Some(served) = services.get_mut(place) {
                served.stateless = false;
            }
        }
        for back in declared.iter().filter(|back| whole.contains(&back.endpoint)) {
            if let Some(served) = services.get_mut(back.service) {
                served.stateless = false;
            }
        }
        for &Back { endpoint, protocol, first, last, .. } in &declared {
            match ways.kept.last_mut() {
                Some(before) if (before.0, before.1) == (endpoint, protocol) && first <= before.3 => {
                    before.3 = before.3.max(last);
                }
                _ => ways.kept.push((endpoint, protocol, first, last)),
            }
        }
        ways.whole = Addresses::new(whole);
        declared.retain(|back| services.get(back.service).is_some_and(|served| served.stateless));
        ways.declared = declared;
        let recorded = services.iter().filter(|served| served.service.forward == Forward::Nat && !served.stateless);
        ways.recorded = Addresses::new(recorded.flat_map(endpoints));
        ways.sources = Addresses::new(shown);
        ways
    }

    /// Whether nothing is translated, so that nothing comes back.
    pub fn is_empty(&self) -> bool {
        self.declared.is_empty() && self.recorded.is_empty() && self.sources.is_empty()
    }

    /// Whose reply a packet from this endpoint's port is.
    pub fn declared(&self, endpoint: IpAddr, protocol: Protocol, port: u16) -> Option<&Back> {
        let after = self.declared.partition_point(|back| order(back) <= (endpoint, protocol, port));
        let back = self.declared.get(after.checked_sub(1)?)?;
        (back.endpoint == endpoint && back.protocol == protocol && port <= back.last).then_some(back)
    }

    /// Whether any port of this endpoint is declared for this protocol.
    pub fn declares(&self, endpoint: IpAddr, protocol: Protocol) -> bool {
        let at = self.declared.partition_point(|back| order(back) < (endpoint, protocol, 0));
        self.declared.get(at).is_some_and(|back| back.endpoint == endpoint && back.protocol == protocol)
    }

    /// Whether flows to this endpoint are recorded.
    pub fn records(&self, endpoint: IpAddr) -> bool {
        self.recorded.contains(endpoint)
    }

    /// Whether the kernel does not get what the endpoint sends from this port, or from none that is known (`sys::classify`). What
    /// is no reply then goes nowhere.
    pub fn keeps(&self, endpoint: IpAddr, protocol: Protocol, port: Option<u16>) -> bool {
        let among = |port: u16| {
            let after = self.kept.partition_point(|(e, p, first, _)| (*e, *p, *first) <= (endpoint, protocol, port));
            let before = after.checked_sub(1).and_then(|at| self.kept.get(at));
            before.is_some_and(|(e, p, _, last)| (*e, *p) == (endpoint, protocol) && port <= *last)
        };
        self.whole.contains(endpoint) || port.is_some_and(among)
    }

    /// Whether endpoints see this address in full NAT.
    pub fn is_source(&self, address: IpAddr) -> bool {
        self.sources.contains(address)
    }
}

fn order(back: &Back) -> (IpAddr, Protocol, u16) {
    (back.endpoint, back.protocol, back.first)
}

fn endpoints(served: &Served) -> impl Iterator<Item = IpAddr> {
    served.targets.iter().flatten().map(|target| target.endpoint.address)
}

/// What a service with ports declares.
fn backs(place: usize, served: &Served) -> impl Iterator<Item = Back> {
    let service = &served.service;
    let address = service.addresses.first();
    let targets = (0_u16..).zip(&served.targets).filter_map(|(index, target)| Some((index, target.as_ref()?.endpoint)));
    targets.flat_map(move |(index, endpoint)| {
        service.ports.iter().filter_map(move |ports| {
            let (first, last, port) = match endpoint.port {
                None => (ports.first, ports.last, None),
                Some(port) => (port, port, Some(ports.first)),
            };
            let (protocol, address) = (ports.protocol, *address?);
            Some(Back { endpoint: endpoint.address, protocol, first, last, service: place, index, address, port })
        })
    })
}

/// Services that share a port of an endpoint, or that map several of their own to one.
fn ambiguous(declared: &[Back]) -> Vec<usize> {
    let same = |a: &Back, b: &Back| (a.endpoint, a.protocol) == (b.endpoint, b.protocol);
    let mut found = Vec::new();
    let mut before: Option<&Back> = None;
    for (at, back) in declared.iter().enumerate() {
        let follows = declared.get(at.wrapping_add(1)).is_some_and(|next| same(next, back) && next.first <= back.last);
        let reaches = before.is_some_and(|before| same(before, back) && before.last >= back.first);
        if follows || reaches {
            found.push(back.service);
        }
        if before.is_none_or(|before| !same(before, back) || before.last < back.last) {
            before = Some(back);
        }
    }
    found
}
