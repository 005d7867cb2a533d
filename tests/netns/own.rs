//! What endpoints do of their own where the balancer is their gateway, as NAT has it: their questions, updates and pings.

use std::net::{SocketAddr, UdpSocket};

use super::common::await_that;
use super::node::can;
use super::rig::{Extra, Rig, Way};
use super::server::{PORT, Server};
use super::talk::{ask, datagram, once, ping, udp};
use super::watch::Watch;
use super::world::{Family, Place, World};

/// Routes to the endpoints' network, which in NAT nobody needs but who is asked by them.
fn let_answers_come(world: &World) {
    world.router.batch("route add 10.1.0.0/24 via 10.0.0.2\nroute add fd00:1::/64 via fd00::2\n");
}

/// The kernel forwards what endpoints send to others; what is a reply it never gets.
#[test]
fn a_nat_endpoint_talks_to_others_through_the_balancer() {
    if !can("what NAT endpoints send of their own") {
        return;
    }
    let ports = Extra { service: "ports = [\"8080/tcp\", \"8080/udp\"]", ..Extra::default() };
    for (way, place, extra) in [
        (Way::L4Nat, Place::BehindBalancer, Extra::default()),
        (Way::Nat, Place::BehindBalancer, ports),
        // Here the kernel forwards to the router on the same wire, and would have the endpoint go there by itself.
        (Way::L4Nat, Place::Lan, Extra::default()),
    ] {
        let rig = Rig::prepared(way, place, 2, 2, extra, |world| {
            if place == Place::BehindBalancer {
                let_answers_come(world);
            }
        });
        let (client, endpoint) = (&rig.world.client, &rig.world.endpoints[0]);
        let _server = Server::start(client, &Family::BOTH.map(Family::client), "far");
        let watch = Watch::on(client, "eth0");
        for family in Family::BOTH {
            let case = format!("{way:?} {place:?} {}", family.word());
            ping(endpoint, family.client(), 56).unwrap_or_else(|error| panic!("{case}: ping: {error}"));
            let answer = ask(endpoint, family.client(), 100_000, 100_000);
            assert_eq!(answer.map(|answer| answer.name).ok().as_deref(), Some("far"), "{case}: TCP");
            // The last is fragmented both ways.
            for length in [64, 4000] {
                let answer = datagram(endpoint, family.client(), length);
                assert_eq!(answer.map(|answer| answer.name).ok().as_deref(), Some("far"), "{case}: UDP {length}");
            }
            assert!(ping(endpoint, family.vip(), 8).is_ok(), "{case}: the VIP answers an endpoint");
            // Both endpoints serve whom they have talked to.
            for _ in 0..8 {
                let answer = ask(client, family.vip(), 1000, 1000).map(|answer| answer.name);
                assert!(
                    answer.as_ref().is_ok_and(|name| name.starts_with("endpoint")),
                    "{case}: the service: {answer:?}"
                );
            }
            datagram(client, family.vip(), 64).unwrap_or_else(|error| panic!("{case}: the service, UDP: {error}"));
            // Replies come as the VIP's and not a second time as the endpoint's.
            let twice: Vec<String> = (0..2)
                .map(|index| SocketAddr::new(family.endpoint(place, index), PORT))
                .flat_map(|from| {
                    let from = format!("{from} >");
                    watch.shown().into_iter().filter(move |frame| frame.contains(&from))
                })
                .collect();
            assert!(twice.is_empty(), "{case}: {twice:?}");
        }
        let lost = rig.scrape().sum("strata_stray_packets_dropped_total", &[("reason", "no-reply")]);
        assert_eq!(lost, 0.0, "{way:?}\n{}", rig.strata.log_tail());
    }
}

/// Without ports any packet may be a reply: what is none goes nowhere, and is counted.
#[test]
fn what_a_recorded_endpoint_sends_to_others_is_counted() {
    if !can("what endpoints of recorded NAT send of their own") {
        return;
    }
    let rig = Rig::prepared(Way::Nat, Place::BehindBalancer, 1, 1, Extra::default(), let_answers_come);
    let endpoint = &rig.world.endpoints[0];
    for family in Family::BOTH {
        ping(endpoint, family.client(), 56).expect("pings are the endpoint's own");
        let lost = || rig.scrape().sum("strata_stray_packets_dropped_total", &[("reason", "no-reply")]);
        let before = lost();
        let socket: UdpSocket = udp(endpoint, family.client()).expect("a socket");
        assert!(once(&socket, b"a question").is_err(), "nobody answers");
        await_that("it is counted", || lost() == before + 1.0);
    }
}

/// IPv6 asks a group for its gateway's MAC address, from the endpoint's own address: the kernel answers, whoever probes or not.
#[test]
fn a_nat_endpoint_finds_its_gateway() {
    if !can("neighbour discovery of NAT endpoints") {
        return;
    }
    for way in [Way::L4Nat, Way::Nat] {
        for place in [Place::BehindBalancer, Place::Lan] {
            // No probe: it would tell the endpoint where the balancer is.
            let rig = Rig::new(way, place, 1, 1, Extra { unprobed: true, ..Extra::default() });
            let endpoint = &rig.world.endpoints[0];
            for family in Family::BOTH {
                for _ in 0..2 {
                    endpoint.ip("neigh flush all");
                    let answer = ask(&rig.world.client, family.vip(), 1000, 1000);
                    assert!(answer.is_ok(), "{way:?} {place:?} {}: {answer:?}", family.word());
                }
            }
        }
    }
}
