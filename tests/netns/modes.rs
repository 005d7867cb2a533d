//! Every packet mode, between real hosts: TCP of many sizes, UDP with fragments, ping, and who sees whom.

use super::common::{Metrics, await_that, ensure};
use super::load::shares;
use super::node::Node;
use super::rig::{AF_XDP, Extra, NOTHING, Rig, Way};
use super::talk::{ask, datagram, once, ping, udp};
use super::world::{Family, Place, World};

#[test]
fn l2_carries_everything() {
    carries(Way::L2, &[Place::Lan]);
}

#[test]
fn l3_ipip_carries_everything() {
    carries(Way::Ipip, &[Place::Lan, Place::BehindRouter, Place::BehindBalancer]);
}

#[test]
fn l3_gue_carries_everything() {
    carries(Way::Gue, &[Place::Lan, Place::BehindRouter, Place::BehindBalancer]);
}

#[test]
fn l3_nat_carries_everything() {
    carries(Way::Nat, &[Place::Lan, Place::BehindBalancer]);
}

#[test]
fn l3_full_nat_carries_everything() {
    carries(Way::FullNat, &[Place::Lan, Place::BehindBalancer]);
}

#[test]
fn l4_nat_carries_everything() {
    carries(Way::L4Nat, &[Place::Lan, Place::BehindBalancer]);
}

#[test]
fn l4_full_nat_carries_everything() {
    carries(Way::L4FullNat, &[Place::Lan, Place::BehindBalancer]);
}

fn carries(way: Way, places: &[Place]) {
    // What is behind the router comes and goes by the same interface as what is on the network.
    let by_af_xdp = places.iter().filter(|place| **place != Place::BehindRouter).map(|place| (*place, AF_XDP));
    for (place, extra) in places.iter().map(|place| (*place, NOTHING)).chain(by_af_xdp) {
        let by = if extra.is_af_xdp() { "AF_XDP" } else { "a ring" };
        if !extra.can(&format!("{way:?} between real hosts, by {by}")) {
            continue;
        }
        let rig = Rig::new(way, place, 3, 3, extra);
        let mut failures = Vec::new();
        for family in Family::BOTH {
            for (who, host, address) in
                [("client", &rig.world.client, family.client()), ("near", &rig.world.near, family.near())]
            {
                // With NAT on one network the endpoint answers its neighbour directly, who knows only the VIP.
                if who == "near" && matches!(way, Way::Nat | Way::L4Nat) && place == Place::Lan {
                    continue;
                }
                let mut check = |what: String, outcome: Result<(), String>| {
                    let case = format!("{way:?} {place:?} by {by} {} {who} {what}", family.word());
                    failures.extend(outcome.err().map(|why| format!("{case}: {why}")));
                };
                for length in [0, 1, 56, 1400] {
                    let answered = ping(host, family.vip(), length);
                    check(format!("ping {length}"), answered.map(drop).map_err(|error| error.to_string()));
                }
                for (up, down) in SIZES {
                    check(format!("TCP {up}/{down}"), tcp(&rig, host, family, address, *up, *down));
                }
                // The last two are fragmented; the last but two is too much for a tunnel.
                for length in [0, 1, 512, 1472, 4000, 9000] {
                    let answered = datagram(host, family.vip(), length).map_err(|error| error.to_string());
                    let known = answered.and_then(|answer| {
                        ensure(answer.peer.ip() == rig.seen(address), || format!("the server sees {}", answer.peer))
                    });
                    check(format!("UDP {length}"), known);
                }
                check("each endpoint has its share".into(), everyone(host, family));
                check("every datagram comes once".into(), once_each(&rig, host, family));
            }
        }
        failures.extend(merged(&rig, extra).err());
        // A megabyte each way alone, and acknowledgements: what a ring carried would be missing.
        let taken = rig.taken();
        let right = if extra.is_af_xdp() { taken > 2000 } else { taken == 0 };
        failures.extend(ensure(right, || format!("by {by}, and AF_XDP took {taken} frames")).err());
        assert!(failures.is_empty(), "{} failed:\n{}\n{}", failures.len(), failures.join("\n"), rig.strata.log_tail());
    }
}

/// Clients leave segmentation to their cards: what comes in one frame goes into a tunnel in many and elsewhere in one, and is not
/// lost. A veth with an XDP program takes no such frames: the last port before it divides them.
fn merged(rig: &Rig, extra: Extra) -> Result<(), String> {
    let tunnel = matches!(rig.way, Way::Ipip | Way::Gue) && !extra.is_af_xdp();
    let count = |metrics: &Metrics, name| metrics.sum(name, &[]);
    let divided = |metrics: &Metrics| count(metrics, "strata_interface_frames_divided_total") > 0.0;
    if tunnel {
        await_that("merged frames are counted", || divided(&rig.scrape()));
    }
    let metrics = rig.scrape();
    let lost = metrics.sum("strata_drops_total", &[("reason", "oversized-frame")]);
    ensure(divided(&metrics) == tunnel && lost == 0.0, || {
        format!("{:?}: {lost} frames were too long to be sent; taken apart: {}", rig.way, divided(&metrics))
    })
}

fn tcp(rig: &Rig, host: &Node, family: Family, address: std::net::IpAddr, up: u64, down: u64) -> Result<(), String> {
    let answer = ask(host, family.vip(), up, down).map_err(|error| error.to_string())?;
    ensure(answer.peer.ip() == rig.seen(address), || format!("the server sees {}", answer.peer))
}

fn everyone(host: &Node, family: Family) -> Result<(), String> {
    let names: Result<Vec<String>, _> =
        (0..60).map(|_| ask(host, family.vip(), 0, 0).map(|answer| answer.name)).collect();
    let names = names.map_err(|error| error.to_string())?;
    let shares = shares(names.iter().map(String::as_str));
    // 60 fair throws of three leave one out once in ten thousand million times.
    let all = (0..3).all(|index| shares.contains_key(&World::name(index)));
    ensure(all, || format!("{shares:?}"))
}

/// Neither lost nor doubled: the balancer's kernel keeps its hands off.
fn once_each(rig: &Rig, host: &Node, family: Family) -> Result<(), String> {
    let sum = || rig.servers.iter().map(|server| server.datagrams()).sum::<u64>();
    let before = sum();
    let socket = udp(host, family.vip()).map_err(|error| error.to_string())?;
    for index in 0..50_u32 {
        once(&socket, &index.to_be_bytes()).map_err(|error| format!("datagram {index}: {error}"))?;
    }
    let came = sum() - before;
    ensure(came == 50, || format!("{came} of 50 came"))?;
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    ensure(socket.recv(&mut [0; 64]).is_err(), || "an answer came twice".into())
}

/// Bytes up and down: nothing, one, around a segment, more than a window.
const SIZES: &[(u64, u64)] =
    &[(0, 0), (1, 1), (1447, 1449), (1460, 1461), (65_535, 65_537), (1, 1_000_000), (1_000_000, 1), (300_000, 300_000)];
