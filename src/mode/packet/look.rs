//! Io: a look at the machine: links, addresses, routes and neighbours, as the kernel tells them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::inputs::Machine;
use crate::base::Network;
use crate::flow::tables::{Link, LinkId, Neighbor, Route};
use crate::sys::{link, neighbour};

/// The machine as it is now, with the interfaces of these indices and names.
///
/// # Errors
/// What the kernel said.
pub(super) fn machine(interfaces: &[(Arc<str>, u32)]) -> io::Result<Machine> {
    let addresses = link::addresses()?;
    let (mut known, mut running) = (Vec::new(), Vec::new());
    for (name, index) in interfaces {
        let found = link::by_index(*index)?;
        let own: Vec<IpAddr> = addresses.iter().filter(|a| a.interface == *index).map(|a| a.address).collect();
        running.extend((found.state == link::State::Running).then_some((*index, found.carrier_changes)));
        let mac = found.mac.ok_or_else(|| io::Error::other(format!("{name} has no MAC address")))?;
        known.push((name.clone(), Link { id: LinkId::plain(*index), mac, mtu: found.mtu, addresses: own }));
    }
    let ours = |interface: u32| interfaces.iter().any(|(_, index)| *index == interface);
    let mut routes: Vec<Route> = neighbour::routes()?
        .into_iter()
        .filter(|route| ours(route.interface))
        .filter_map(|route| {
            let network = Network::parse(&format!("{}/{}", route.destination, route.prefix)).ok()?;
            Some(Route { network, link: LinkId::plain(route.interface), gateway: route.gateway })
        })
        .collect();
    // In an order that only a change changes.
    routes.sort_by_key(|route| (route.link, route.network.to_string(), route.gateway));
    let mut neighbors: Vec<Neighbor> = neighbour::neighbours()?
        .into_iter()
        .filter(|known| ours(known.interface))
        .filter_map(|known| {
            let link = LinkId::plain(known.interface);
            Some(Neighbor { link, address: known.address, mac: known.standing.mac()? })
        })
        .collect();
    neighbors.sort_by_key(|neighbor| (neighbor.link, neighbor.address));
    Ok(Machine { interfaces: known, routes, neighbors, running })
}
