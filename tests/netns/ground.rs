//! The world itself, without Strata: if hosts cannot talk here, no failure elsewhere means anything.

use std::process::{Command, Stdio};

use super::node::{PREFIX, can, hosts, sweep};
use super::server::Server;
use super::talk::{ask, datagram, ping};
use super::world::{Family, Place, World};

#[test]
fn hosts_talk_over_every_wire() {
    if !can("the hosts of the lab") {
        return;
    }
    for place in [Place::Lan, Place::BehindBalancer, Place::BehindRouter] {
        let world = World::new(place, 2);
        if place == Place::BehindBalancer {
            // The balancer's kernel stands in for Strata.
            for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                world.balancer.set(key, "1");
            }
            world.router.ip("route add 10.1.0.0/24 via 10.0.0.2");
            world.router.ip("-6 route add fd00:1::/64 via fd00::2");
        }
        for family in Family::BOTH {
            for index in 0..2 {
                let to = family.endpoint(place, index);
                let server = Server::start(&world.endpoints[index], &[to], &World::name(index));
                for (host, from) in [(&world.client, family.client()), (&world.near, family.near())] {
                    let case = format!("{place:?}: {from} to {to}");
                    ping(host, to, 1400).unwrap_or_else(|error| panic!("{case}: ping: {error}"));
                    for (up, down) in [(0, 0), (1, 100_000), (100_000, 1)] {
                        let answer = ask(host, to, up, down).unwrap_or_else(|error| panic!("{case}: TCP: {error}"));
                        assert_eq!((answer.name, answer.peer.ip()), (World::name(index), from), "{case}");
                    }
                    for length in [0, 1, 1400, 9000] {
                        let answer = datagram(host, to, length).unwrap_or_else(|error| panic!("{case}: UDP: {error}"));
                        assert_eq!((answer.name, answer.peer.ip()), (World::name(index), from), "{case}");
                    }
                }
                assert_eq!(server.connections(), 6);
            }
        }
    }
}

/// The far wire takes less than the others, and only the router can say so.
#[test]
fn a_narrow_path_is_found_out() {
    if !can("path-MTU discovery in the lab") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    world.narrow(1300);
    for family in Family::BOTH {
        let to = family.endpoint(Place::Lan, 0);
        let _server = Server::start(&world.endpoints[0], &[to], "endpoint0");
        // The client's own wire is as narrow, so its SYN says so: the server must be told a greater segment.
        let flag = if family == Family::V6 { "-6 " } else { "" };
        world.client.ip(&format!("{flag}route change default via {} advmss 1440", gateway(family)));
        ask(&world.client, to, 10, 300_000).unwrap_or_else(|error| panic!("{}: {error}", family.word()));
        let learnt = world.endpoints[0].ip(&format!("{flag}route get {}", family.client()));
        assert!(learnt.contains("mtu 1300"), "{learnt}");
    }
}

fn gateway(family: Family) -> &'static str {
    if family == Family::V6 { "2001:db8:51::1" } else { "198.51.100.1" }
}

#[test]
fn what_a_killed_run_leaves_is_swept_and_nothing_else() {
    if !can("sweeping the lab") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    // Owned by this process's number at another time: by nobody who lives.
    let left = format!("{PREFIX}{}-1-0-left", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &left]).status();
    assert!(made.is_ok_and(|made| made.success()));
    let sleeper = Command::new("ip").args(["netns", "exec", &left, "sleep", "600"]).stdout(Stdio::null()).spawn();
    let mut sleeper = sleeper.expect("a process on the host that was left");
    let inside = || super::node::run("ip", &["netns", "pids", &left]).split_whitespace().count();
    super::common::await_that("it runs there", || inside() == 1);
    sweep();
    assert!(!hosts().contains(&left), "the host that was left is still there");
    let ended = sleeper.wait().expect("its end");
    assert!(!ended.success(), "{ended:?}");
    assert!(hosts().contains(&world.client.name), "a host in use was swept");
    let own = world.client.name.trim_end_matches("client").to_owned();
    drop(world);
    assert!(!hosts().iter().any(|name| name.starts_with(&own)), "hosts outlive their world");
}
