//! Probes between real hosts: what they see of an endpoint that goes and returns, and of one that cannot serve.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::common::{Strata, await_that};
use super::node::{Node, can};
use super::world::{Family, Place, World};

/// What a pool is asked by, and over which endpoints.
struct Asked<'a> {
    pool: &'a str,
    probe: &'a str,
    endpoints: &'a [IpAddr],
}

/// A configuration with a proxy for each pool: probes are what matters.
fn pools(asked: &[Asked<'_>]) -> String {
    let mut text = String::new();
    for (at, Asked { pool, probe, endpoints }) in asked.iter().enumerate() {
        let list: Vec<String> =
            endpoints.iter().map(|ip| format!("\"{}\"", std::net::SocketAddr::new(*ip, 9))).collect();
        let _ = writeln!(
            text,
            "[service.{pool}]\nmode = \"l4\"\nlisten = \"127.0.0.1:{}\"\npool = \"{pool}\"\n[pool.{pool}]\n\
             probe = {{ type = \"{probe}\", {PACE} }}\nendpoints = [{}]",
            20_000 + at,
            list.join(", ")
        );
    }
    text
}

/// Health by endpoint: waits until `pool` has so many up.
#[track_caller]
fn await_up(balancer: &Node, strata: &Strata, pool: &str, count: f64) {
    let up = || balancer.enter(|| strata.scrape().sum("strata_endpoint_up", &[("pool", pool)]));
    await_that(&format!("{count} endpoints of {pool} are up"), || up() == count);
}

/// What `strata status` says.
fn status(balancer: &Node, strata: &Strata) -> String {
    let said = balancer.strata(&["status", "--admin", &strata.admin.to_string()]);
    String::from_utf8_lossy(&said.stdout).into_owned()
}

#[test]
fn a_host_that_is_cut_off_is_seen_to_go_and_to_return() {
    if !can("icmp and arp probes between real hosts") {
        return;
    }
    let world = World::new(Place::Lan, 2);
    let endpoints = Family::BOTH.map(|family| [0, 1].map(|index| family.endpoint(Place::Lan, index)));
    let [four, six] = &endpoints;
    let asked = [("icmp4", "icmp", four), ("icmp6", "icmp", six), ("arp4", "arp", four), ("arp6", "arp", six)];
    let asked = asked.map(|(pool, probe, endpoints)| Asked { pool, probe, endpoints });
    let strata = world.balancer.enter(|| Strata::start(&pools(&asked)));
    for Asked { pool, .. } in &asked {
        await_up(&world.balancer, &strata, pool, 2.0);
    }
    world.switch.ip("link set endpoint1 down");
    for Asked { pool, .. } in &asked {
        await_up(&world.balancer, &strata, pool, 1.0);
    }
    let said = status(&world.balancer, &strata);
    assert_eq!(said.matches("probe failed: ").count(), 4, "{said}");
    world.switch.ip("link set endpoint1 up");
    for Asked { pool, .. } in &asked {
        await_up(&world.balancer, &strata, pool, 2.0);
    }
}

/// A host that answers no echo request and listens nowhere still has its address.
#[test]
fn a_silent_host_answers_on_its_link_only() {
    if !can("a host that drops echo requests") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    world.endpoints[0].set("net/ipv4/icmp_echo_ignore_all", "1");
    world.endpoints[0].set("net/ipv6/icmp/echo_ignore_all", "1");
    let endpoints = Family::BOTH.map(|family| family.endpoint(Place::Lan, 0));
    let asked = [("icmp", "icmp"), ("arp", "arp"), ("tcp", "tcp")];
    let asked = asked.map(|(pool, probe)| Asked { pool, probe, endpoints: &endpoints });
    let strata = world.balancer.enter(|| Strata::start(&pools(&asked)));
    await_up(&world.balancer, &strata, "arp", 2.0);
    let said = || status(&world.balancer, &strata);
    await_that("the others are found out", || said().matches("probe failed: ").count() == 4);
    let said = said();
    assert_eq!(said.matches("timeout after 250ms").count(), 2, "{said}");
    assert_eq!(said.matches("connect refused").count(), 2, "{said}");
}

#[test]
fn who_is_on_no_link_is_named_so_and_what_a_router_says_is_the_reason() {
    if !can("probes of endpoints behind a router") {
        return;
    }
    let world = World::new(Place::BehindRouter, 1);
    let endpoints = Family::BOTH.map(|family| family.endpoint(Place::BehindRouter, 0));
    // Addresses that the router refuses.
    world.router.ip("route add unreachable 203.0.113.7/32");
    world.router.ip("-6 route add unreachable 2001:db8:7::7/128");
    let refused: [IpAddr; 2] = ["203.0.113.7", "2001:db8:7::7"].map(|text| text.parse().expect("an address"));
    let asked = [
        Asked { pool: "far", probe: "icmp", endpoints: &endpoints },
        Asked { pool: "link", probe: "arp", endpoints: &endpoints },
        Asked { pool: "refused", probe: "icmp", endpoints: &refused },
    ];
    let strata = world.balancer.enter(|| Strata::start(&pools(&asked)));
    await_up(&world.balancer, &strata, "far", 2.0);
    let said = || status(&world.balancer, &strata);
    for gateway in ["10.0.0.1", "fd00::1"] {
        let words = format!("it is on no link of ours: the way to it is through {gateway}");
        await_that(&words, || said().contains(&words));
    }
    // Linux calls the one a host, the other a route that there is not.
    for word in ["host", "network"] {
        let words = format!("probe failed: {word} unreachable");
        await_that(&words, || said().contains(&words));
    }
}

#[test]
fn what_is_not_permitted_is_said_at_the_start() {
    if !can("probes without their capabilities") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    world.balancer.set("net/ipv4/ping_group_range", "1 0");
    let endpoints = [Family::V4.endpoint(Place::Lan, 0)];
    let folder = std::env::temp_dir().join(format!("{}-forbidden", world.balancer.name));
    std::fs::create_dir_all(&folder).expect("a folder");
    for (probe, wanted) in [("icmp", "ping_group_range"), ("arp", "CAP_NET_RAW")] {
        let file = folder.join(format!("{probe}.toml"));
        std::fs::write(&file, pools(&[Asked { pool: "p", probe, endpoints: &endpoints }])).expect("a file");
        let file = file.to_str().expect("a name");
        let binary = env!("CARGO_BIN_EXE_strata");
        let output = world.balancer.run("setpriv", &["--bounding-set", "-net_raw", binary, "run", file]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(wanted) && said.contains("pool p"), "{said}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder");
}

const PACE: &str = "interval = \"300ms\", timeout = \"250ms\", fall = 2";
