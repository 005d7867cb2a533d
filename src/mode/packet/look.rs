//! Io: a look at the machine: links, addresses, routes and neighbours, as the kernel tells them.
//!
//! Frames come in by few interfaces, and may leave by any that a route leads out by: tunnels, translated replies, endpoints with a
//! network of their own. So every such interface is looked at. One that is gone is left out, and takes nothing else with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::inputs::Machine;
use super::replies;
use crate::base::Network;
use crate::flow::tables::{Link, LinkId, Neighbor, Route};
use crate::sys::link;
use crate::sys::neighbour::{self, Asker, TableRoute};

/// What taps are chosen by, to see whether it has changed.
#[derive(PartialEq, Eq)]
pub(super) struct Ground {
    /// Indices and names of interfaces.
    links: Vec<(u32, String)>,
    addresses: Vec<link::Address>,
    routes: Vec<TableRoute>,
}

impl Ground {
    pub fn has(&self, name: &str, index: u32) -> bool {
        self.links.iter().any(|(known, called)| *known == index && called == name)
    }
}

/// # Errors
/// What the kernel said.
pub(super) fn ground() -> io::Result<Ground> {
    let links = link::all()?.into_iter().map(|link| (link.index, link.name)).collect();
    Ok(Ground { links, addresses: link::addresses()?, routes: neighbour::routes()? })
}

/// The machine as it is now. Taps are open on the interfaces of these names and indices.
///
/// # Errors
/// What the kernel said.
pub(super) fn machine(interfaces: &[(Arc<str>, u32)]) -> io::Result<Machine> {
    let links: BTreeMap<u32, link::Link> = link::all()?.into_iter().map(|link| (link.index, link)).collect();
    let addresses = link::addresses()?;
    let as_seen = |index: u32| {
        // Without an Ethernet address it can carry no frame.
        let link = links.get(&index).filter(|link| link.kind != link::Kind::Loopback)?;
        let own: Vec<IpAddr> = addresses.iter().filter(|a| a.interface == index).map(|a| a.address).collect();
        Some(Link { id: LinkId::plain(index), mac: link.mac?, mtu: link.mtu, addresses: own })
    };
    let mut own: Vec<IpAddr> = replies::own(addresses.iter().map(|address| address.address)).collect();
    own.sort_unstable();
    let found = |(name, index): &(Arc<str>, u32)| Some((name.clone(), as_seen(*index)?));
    let interfaces: Vec<(Arc<str>, Link)> = interfaces.iter().filter_map(found).collect();

    let mut asker = Asker::open()?;
    let mut lines = asker.routes()?;
    // In an order that only a change changes; of routes to one network, the one that the kernel takes is first.
    lines.sort_by_key(|route| (route.metric, route.interface, route.destination, route.prefix, route.gateway));
    let out: BTreeSet<u32> = lines.iter().map(|route| route.interface).collect();
    let is_tapped = |index: &u32| interfaces.iter().any(|(_, link)| link.id.interface == *index);
    let beyond: Vec<Link> = out.into_iter().filter(|index| !is_tapped(index)).filter_map(as_seen).collect();
    let known: BTreeSet<u32> =
        interfaces.iter().map(|(_, link)| link).chain(&beyond).map(|link| link.id.interface).collect();
    let routes = lines.into_iter().filter_map(route).collect();
    let mut neighbors: Vec<Neighbor> = asker
        .neighbours()?
        .into_iter()
        .filter(|neighbor| known.contains(&neighbor.interface))
        .filter_map(|known| {
            let link = LinkId::plain(known.interface);
            Some(Neighbor { link, address: known.address, mac: known.standing.mac()? })
        })
        .collect();
    neighbors.sort_by_key(|neighbor| (neighbor.link, neighbor.address));
    let runs = |link: &&link::Link| link.state == link::State::Running && known.contains(&link.index);
    let running = links.values().filter(runs).map(|link| (link.index, link.carrier_changes)).collect();
    Ok(Machine { interfaces, beyond, own, routes, neighbors, running, paths: Vec::new() })
}

/// A route without carrier comes after every other to its network: it may work again, and leads nowhere now.
fn route(said: TableRoute) -> Option<Route> {
    let network = Network::of(said.destination, said.prefix)?;
    let metric = if said.down { u32::MAX } else { said.metric };
    Some(Route { metric, mtu: said.mtu, ..Route::new(network, LinkId::plain(said.interface), said.gateway) })
}

/// What fits on the way to each of these, where the kernel knows it to be less than their interface's MTU. In their order.
///
/// # Errors
/// No socket can be had. Where no way leads, nothing is known.
pub(super) fn paths(to: impl IntoIterator<Item = IpAddr>) -> io::Result<Vec<(IpAddr, u32)>> {
    let mut asker = Asker::open()?;
    let mtu = |to: IpAddr| Some((to, asker.route(to).ok()?.mtu?));
    Ok(to.into_iter().filter_map(mtu).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::MacAddr;
    use crate::sys::netns::namespaces;

    #[test]
    fn every_interface_that_a_route_leads_out_by_is_known_and_one_that_is_gone_is_left_out() {
        let Some([here, there]) = namespaces() else { return };
        let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
        for (name, number) in [("tapped", 1), ("beyond", 3), ("idle", 5)] {
            here.cable((name, mac(number)), &there, (name, mac(number + 1)));
        }
        here.sh("ip addr add 10.0.0.1/24 dev tapped; ip addr add 10.1.0.1/24 dev beyond; \
            ip tuntap add tunnel mode tun; ip link set tunnel up; ip route add 10.9.0.0/16 dev tunnel; \
            ip route add default via 10.1.0.7 metric 20; ip route add default via 10.0.0.7 metric 30");
        let (tapped, beyond) = (here.index("tapped"), here.index("beyond"));
        let seen = here.run(|| machine(&[("tapped".into(), tapped), ("gone".into(), 7_000)]).unwrap());
        let known = |links: &mut dyn Iterator<Item = &Link>| links.map(|link| link.id.interface).collect::<Vec<_>>();
        assert_eq!(known(&mut seen.interfaces.iter().map(|(_, link)| link)), [tapped]);
        assert_eq!(known(&mut seen.beyond.iter()), [beyond]);
        assert_eq!(seen.beyond[0].addresses, [IpAddr::from([10, 1, 0, 1])]);
        let of = |network: &str| {
            let network = Network::parse(network).unwrap();
            seen.routes
                .iter()
                .filter(|route| route.network == network)
                .map(|route| route.link.interface)
                .collect::<Vec<_>>()
        };
        // The kernel's choice first; and a route that no frame can take is not another's.
        assert_eq!(of("0.0.0.0/0"), [beyond, tapped]);
        assert_eq!(of("10.9.0.0/16"), [here.index("tunnel")]);
    }
}
