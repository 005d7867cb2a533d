//! What does not fit: told by routers on the way, whose errors have to find the endpoint, and by Strata itself.

use std::net::IpAddr;

use super::common::ensure;
use super::node::{Node, can};
use super::rig::{AF_XDP, Extra, NOTHING, Rig, Way};
use super::talk::{Talk, ask, datagram};
use super::world::{Family, Place, World};

/// The far wire takes 1300 bytes, and only the router can say so: to the VIP, which the balancer has to make out to be about
/// a packet of that endpoint.
#[test]
fn errors_of_the_path_find_the_endpoint() {
    if !can("path-MTU discovery through Strata") {
        return;
    }
    let mut failures = Vec::new();
    for (way, place, extra) in [
        (Way::L2, Place::Lan, NOTHING),
        (Way::Ipip, Place::Lan, NOTHING),
        (Way::Ipip, Place::BehindRouter, NOTHING),
        (Way::Gue, Place::Lan, NOTHING),
        (Way::Gue, Place::BehindRouter, NOTHING),
        (Way::Nat, Place::Lan, NOTHING),
        (Way::Nat, Place::BehindBalancer, NOTHING),
        (Way::FullNat, Place::Lan, NOTHING),
        (Way::FullNat, Place::BehindBalancer, NOTHING),
        (Way::L4Nat, Place::Lan, NOTHING),
        (Way::L4Nat, Place::BehindBalancer, NOTHING),
        (Way::L4FullNat, Place::Lan, NOTHING),
        (Way::L4FullNat, Place::BehindBalancer, NOTHING),
        // The errors come by the ring, what they are about by AF_XDP.
        (Way::L2, Place::Lan, AF_XDP),
        (Way::Gue, Place::BehindRouter, AF_XDP),
        (Way::FullNat, Place::BehindBalancer, AF_XDP),
        (Way::L4Nat, Place::Lan, AF_XDP),
    ] {
        if !extra.can(&format!("path-MTU discovery through {way:?}")) {
            continue;
        }
        let rig = Rig::new(way, place, 3, 3, extra);
        rig.world.narrow(1300);
        for family in Family::BOTH {
            // Otherwise the client's SYN would tell the endpoint what fits on its own wire.
            announce(&rig.world.client, family, ("198.51.100.1", "2001:db8:51::1"));
            for turn in 0..6 {
                if let Err(error) = ask(&rig.world.client, family.vip(), 10, 200_000) {
                    failures.push(format!(
                        "{way:?} {place:?} {} {} turn {turn}: {error}",
                        extra.packets,
                        family.word()
                    ));
                    break;
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// An endpoint without `advmss` on its route invites segments that fill the wire. Only Strata knows that they do not fit its tunnel.
#[test]
fn what_does_not_fit_a_tunnel_is_told_of() {
    if !can("packets that do not fit a tunnel") {
        return;
    }
    for (way, extra) in [(Way::Ipip, NOTHING), (Way::Gue, NOTHING), (Way::Gue, AF_XDP)] {
        if !extra.can(&format!("packets that do not fit {way:?}")) {
            continue;
        }
        let rig = Rig::new(way, Place::Lan, 1, 1, extra);
        for family in Family::BOTH {
            announce(&rig.world.endpoints[0], family, ("10.0.0.1", "fd00::1"));
            let case = format!("{way:?} {} {}", extra.packets, family.word());
            let mut talk =
                Talk::open(&rig.world.client, family.vip()).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(talk.mss(), full(family), "{case}");
            talk.exchange(300_000, 300_000)
                .unwrap_or_else(|error| panic!("{case}: {error}\n{}", rig.strata.log_tail()));
            let room = 1500 - outer(way, family);
            learnt(&rig.world.client, family, room).unwrap_or_else(|why| panic!("{case}: {why}"));
            // And by who begins with a datagram that fills the wire.
            let alone = datagram(&rig.world.near, family.vip(), if family == Family::V6 { 1452 } else { 1472 });
            alone.unwrap_or_else(|error| panic!("{case}: UDP: {error}"));
            learnt(&rig.world.near, family, room).unwrap_or_else(|why| panic!("{case}: {why}"));
        }
    }
}

/// The endpoints' network takes less than the clients': TCP is told in its handshake, datagrams by errors.
#[test]
fn what_does_not_fit_the_endpoints_network_is_told_of() {
    if !can("packets that do not fit the endpoints' network") {
        return;
    }
    for (way, extra) in [
        (Way::Nat, NOTHING),
        (Way::FullNat, NOTHING),
        (Way::L4Nat, NOTHING),
        (Way::L4FullNat, NOTHING),
        (Way::L4FullNat, AF_XDP),
    ] {
        if !extra.can(&format!("packets that do not fit the network of {way:?}")) {
            continue;
        }
        // The endpoints announce what their wires do not take: nothing but the balancer tells the client.
        let narrow = |world: &World| {
            world.balancer.ip("link set eth1 mtu 1300");
            for endpoint in &world.endpoints {
                endpoint.ip("link set eth0 mtu 1300");
                Family::BOTH.iter().for_each(|family| announce(endpoint, *family, ("10.1.0.1", "fd00:1::1")));
            }
        };
        let rig = Rig::prepared(way, Place::BehindBalancer, 2, 2, extra, narrow);
        for family in Family::BOTH {
            let case = format!("{way:?} {} {}", extra.packets, family.word());
            let mut talk =
                Talk::open(&rig.world.client, family.vip()).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(talk.mss(), full(family) - 200, "{case}");
            talk.exchange(300_000, 10).unwrap_or_else(|error| panic!("{case}: {error}"));
            let alone = datagram(&rig.world.near, family.vip(), 1400);
            alone.unwrap_or_else(|error| panic!("{case}: UDP: {error}\n{}", rig.strata.log_tail()));
            learnt(&rig.world.near, family, 1300).unwrap_or_else(|why| panic!("{case}: {why}"));
        }
    }
}

/// A wire between a router and the endpoints takes less than the balancer's: the router says so to the balancer, whose packets the
/// tunnel's are, and the balancer to clients.
#[test]
fn what_does_not_fit_on_the_way_of_a_tunnel_is_told_of() {
    if !can("packets that do not fit on the way of a tunnel") {
        return;
    }
    let mut failures = Vec::new();
    for way in [Way::Ipip, Way::Gue] {
        let narrow = |world: &World| {
            world.router.ip("link set eth1 mtu 1400");
            for endpoint in &world.endpoints {
                endpoint.ip("link set eth0 mtu 1400");
                // The client is not to be told by the handshake.
                Family::BOTH.iter().for_each(|family| announce(endpoint, *family, ("10.1.0.1", "fd00:1::1")));
            }
        };
        let rig = Rig::prepared(way, Place::BehindRouter, 1, 1, Extra::default(), narrow);
        for family in Family::BOTH {
            let case = format!("{way:?} {}", family.word());
            let sent = ask(&rig.world.client, family.vip(), 300_000, 10);
            let told = learnt(&rig.world.client, family, 1400 - outer(way, family));
            failures.extend(sent.map(drop).err().map(|error| format!("{case}: {error}")));
            failures.extend(told.err().map(|why| format!("{case}: {why}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// An operator who knows what fits on the way says so on the route, and no packet has to be lost first.
#[test]
fn what_does_not_fit_the_route_to_an_endpoint_is_told_of() {
    if !can("packets that do not fit the route to an endpoint") {
        return;
    }
    let narrow = |world: &World| {
        world
            .balancer
            .batch("route add 10.1.0.0/24 via 10.0.0.1 mtu 1380\nroute add fd00:1::/64 via fd00::1 mtu 1380\n");
        let announce =
            |endpoint| Family::BOTH.iter().for_each(|family| announce(endpoint, *family, ("10.1.0.1", "fd00:1::1")));
        world.endpoints.iter().for_each(announce);
    };
    let rig = Rig::prepared(Way::Ipip, Place::BehindRouter, 1, 1, Extra::default(), narrow);
    for family in Family::BOTH {
        ask(&rig.world.client, family.vip(), 300_000, 10).unwrap_or_else(|error| panic!("{}: {error}", family.word()));
        learnt(&rig.world.client, family, 1380 - outer(Way::Ipip, family)).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Has `host` tell its peers to send segments that fill the wire.
fn announce(host: &Node, family: Family, (v4, v6): (&str, &str)) {
    let (flag, gateway) = if family == Family::V6 { ("-6 ", v6) } else { ("", v4) };
    host.ip(&format!("{flag}route replace default via {gateway} advmss {}", full(family)));
}

/// The segments that fill a wire.
fn full(family: Family) -> u32 {
    if family == Family::V6 { 1440 } else { 1460 }
}

/// Bytes that a tunnel adds: endpoints are of the VIP's family.
fn outer(way: Way, family: Family) -> u32 {
    let header = if family == Family::V6 { 40 } else { 20 };
    // UDP's header and GUE's.
    header + if way == Way::Gue { 8 + 4 } else { 0 }
}

/// Whether a host knows what fits on the way to the VIP.
fn learnt(host: &Node, family: Family, mtu: u32) -> Result<(), String> {
    let (flag, vip): (_, IpAddr) = (if family == Family::V6 { "-6 " } else { "" }, family.vip());
    let route = host.ip(&format!("{flag}route get {vip}"));
    ensure(route.contains(&format!("mtu {mtu} ")) || route.contains(&format!("mtu {mtu}\n")), || route.clone())
}
