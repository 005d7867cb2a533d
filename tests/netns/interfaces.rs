//! The machine changes under a Strata that serves: interfaces go and come back, addresses are added, others meddle.

use std::net::{IpAddr, UdpSocket};

use super::common::metrics::get;
use super::common::{Metrics, await_that};
use super::node::can;
use super::rig::{AF_XDP, Extra, Member, NOTHING, Rig, Way, body, pool, taken_by};
use super::talk::{ask, ping};
use super::world::{Family, Place, World};

/// A VIP on an interface of its own. Pings are answered for it, whatever is behind.
const OTHER: &str = "[vip.other]\naddress = \"10.2.0.100\"\ninterface = \"eth1\"\n[service.other]\nmode = \"l2\"\nvip = \"other\"\n\
    ports = [\"8080/tcp\", \"8080/udp\"]\npool = \"other\"\n[pool.other]\nendpoints = [\"10.2.0.41\"]\n";

/// A wire from the balancer to a client on the same network, of which Strata knows by name only.
fn wire(world: &World) {
    world.balancer.ip(&format!("link add eth1 type veth peer name spare netns {}", world.near.name));
    world.balancer.batch("address add 10.2.0.1/24 dev eth1\nlink set eth1 up\n");
    world.near.batch("address add 10.2.0.7/24 dev spare\nlink set spare up\n");
}

#[test]
fn an_interface_that_goes_takes_no_other_with_it_and_serves_again_when_it_is_back() {
    goes_and_is_back(NOTHING);
}

#[test]
fn an_interface_with_an_xdp_program_goes_and_has_one_again_when_it_is_back() {
    goes_and_is_back(AF_XDP);
}

fn goes_and_is_back(extra: Extra) {
    if !extra.can("an interface that goes and comes back") {
        return;
    }
    let rig = Rig::prepared(Way::L2, Place::Lan, 1, 1, extra, wire);
    rig.strata.rewrite(&(body(Way::L2, Place::Lan, &[Member(0, 1)], extra) + OTHER));
    rig.command(&["reload"]);
    let vip: IpAddr = "10.2.0.100".parse().expect("an address");
    let answers = || ping(&rig.world.near, vip, 8).is_ok();
    await_that("the VIP on the second interface answers", answers);

    rig.world.balancer.ip("link del eth1");
    let other = [("vip", "other")];
    let is_gone = |metrics: Metrics| {
        metrics.sum("strata_vip_owner", &other) == 0.0
            && metrics.sum("strata_interface_workers", &[("interface", "eth1")]) == 0.0
    };
    await_that("it is seen that the interface is gone", || is_gone(rig.scrape()));
    let said = [ready(&rig, ""), ready(&rig, "?all")];
    assert_eq!(said, [200, 503], "what else is served stays in rotation: {}", rig.strata.log_tail());
    // The other one serves on, and what happens there is noticed.
    let endpoint = &rig.world.endpoints[0];
    endpoint.ip("link set eth0 address 02:00:00:00:99:01");
    endpoint.ip("neigh flush all");
    for family in Family::BOTH {
        ping(endpoint, family.balancer(), 8).expect("the balancer answers the new card");
        let answers = || ask(&rig.world.client, family.vip(), 1000, 1000).is_ok();
        await_that(&format!("{} goes to the new card", family.word()), answers);
    }
    assert_eq!(rig.strata.log().matches("interface eth1: No such device").count(), 1, "it is said once");

    wire(&rig.world);
    await_that("the VIP on the interface that was made again answers", answers);
    let owns = || rig.scrape().sum("strata_vip_owner", &other) == 1.0;
    await_that("Strata owns it", owns);
    if extra.is_af_xdp() {
        // A datagram to a service whose endpoint nobody is: it is taken all the same.
        let socket = rig.world.near.enter(|| UdpSocket::bind("10.2.0.7:0")).expect("a socket");
        let taken = || taken_by(&rig.world.balancer, "eth1").iter().sum::<u64>();
        await_that("frames of the new interface come by AF_XDP", || {
            let _ = socket.send_to(b"anybody?", (vip, 8080));
            taken() > 0
        });
    }
    assert_eq!([ready(&rig, ""), ready(&rig, "?all")], [200; 2], "{}", rig.strata.log_tail());
}

fn ready(rig: &Rig, of: &str) -> u16 {
    rig.world.balancer.enter(|| get(rig.strata.metrics, &format!("/readyz{of}")).status())
}

/// What NAT's endpoints send to addresses of the balancer is the kernel's: answers to probes, for one.
#[test]
fn probes_from_an_address_that_is_added_later_hear_their_answers() {
    if !can("an address that is added later") {
        return;
    }
    let rig = Rig::new(Way::Nat, Place::Lan, 1, 1, Extra::default());
    rig.world.balancer.batch(
        "address add 10.0.0.9/24 dev eth0\nroute replace 10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.9\n",
    );
    let heard = || rig.scrape().sum("strata_probes_total", &[("pool", pool(Family::V4)), ("result", "passed")]);
    let before = heard();
    await_that("probes from the new address succeed", || heard() >= before + 3.0);
}

/// A router's address stands on `lo`, where no frame comes in: it is the balancer's as much as one of a card.
#[test]
fn probes_from_an_address_on_lo_hear_their_answers() {
    if !can("an address of the balancer on lo") {
        return;
    }
    let commands = [
        "address add 192.0.2.9/32 dev lo\nroute replace 10.0.0.0/24 dev eth0 proto kernel src 192.0.2.9\n",
        "address add 2001:db8:9::9/128 dev lo nodad\n\
         route replace fd00::/64 dev eth0 proto kernel metric 256 src 2001:db8:9::9\n",
    ];
    for way in [Way::Nat, Way::L4Nat] {
        // Endpoints' answers to it come by their gateway, which is the balancer.
        let rig = Rig::prepared(way, Place::Lan, 1, 1, Extra::default(), |world| {
            commands.iter().for_each(|lines| world.balancer.batch(lines));
        });
        let sum = |name, labels: &[(&str, &str)]| rig.scrape().sum(name, labels);
        for family in Family::BOTH {
            let passed = || sum("strata_probes_total", &[("pool", pool(family)), ("result", "passed")]);
            let before = passed();
            await_that(&format!("{way:?} {}: probes from lo succeed", family.word()), || passed() >= before + 3.0);
        }
        // Nobody else has spoken: no answer to a probe was taken for a client's, nor for one that is nobody's.
        let strays = rig.scrape().sum_if_any("strata_stray_packets_dropped_total", &[("reason", "no-reply")]);
        let to_clients = sum("strata_endpoint_packets_received_total", &[]);
        assert_eq!((strays, to_clients), (0.0, 0.0), "{way:?}: {}", rig.strata.log_tail());
    }
}

#[test]
fn a_reload_whose_packets_are_not_kept_from_the_kernel_says_so() {
    if !can("a classifier that somebody else removed") {
        return;
    }
    let rig = Rig::new(Way::L2, Place::Lan, 1, 1, Extra::default());
    let tc = |words: &str| rig.world.balancer.run("tc", &words.split_whitespace().collect::<Vec<_>>()).status.success();
    // Filters of a block that interfaces share are nobody's to set for one of them. Between the two it may be put back.
    await_that("another qdisc is in its place", || {
        tc("qdisc del dev eth0 clsact");
        tc("qdisc add dev eth0 ingress_block 22 clsact")
    });
    let more = "[vip.more]\naddress = \"10.0.0.101\"\ninterface = \"eth0\"\n";
    rig.strata.rewrite(&(body(Way::L2, Place::Lan, &[Member(0, 1)], Extra::default()) + more));
    let admin = rig.strata.admin.to_string();
    let reload = || rig.world.balancer.strata(&["reload", "--admin", &admin]);
    let said = reload();
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success() && error.contains("eth0") && error.contains("not all of it is served"), "{error}");
    let succeeded = || rig.scrape().sum("strata_config_last_reload_successful", &[]);
    assert_eq!(succeeded(), 0.0);
    // Once that is mended, nobody has to ask.
    assert!(tc("qdisc del dev eth0 clsact"));
    await_that("packets are kept from the kernel again", || is_kept_out(&rig));
    assert!(reload().status.success(), "{}", rig.strata.log_tail());
    assert_eq!(succeeded(), 1.0);
}

fn is_kept_out(rig: &Rig) -> bool {
    let shown = rig.world.balancer.run("tc", &["filter", "show", "dev", "eth0", "ingress"]);
    String::from_utf8_lossy(&shown.stdout).contains("bpf")
}

/// Other programs use an interface's `clsact` too, and some of them clear it away.
#[test]
fn what_keeps_the_kernel_out_is_put_back_when_somebody_takes_it_away() {
    if !can("a classifier that somebody else removes") {
        return;
    }
    let rig = Rig::new(Way::L2, Place::Lan, 1, 1, Extra::default());
    for (turn, taken) in [(1, "qdisc del dev eth0 clsact"), (2, "filter del dev eth0 ingress")] {
        assert!(is_kept_out(&rig));
        assert!(rig.world.balancer.run("tc", &taken.split(' ').collect::<Vec<_>>()).status.success(), "{taken}");
        await_that(taken, || is_kept_out(&rig));
        await_that("it is said", || rig.strata.log().matches("somebody took away").count() == turn);
    }
    assert_eq!(ready(&rig, "?all"), 200, "{}", rig.strata.log_tail());
}

#[test]
fn an_endpoint_under_nat_that_no_way_leads_to_costs_nobody_else_anything() {
    if !can("an endpoint that no way leads to") {
        return;
    }
    for way in [Way::FullNat, Way::L4Nat] {
        let mut rig = Rig::new(way, Place::Lan, 3, 2, Extra::default());
        let routes = |rig: &Rig, word: &str| {
            for (family, option) in Family::BOTH.iter().zip(["-4", "-6"]) {
                let endpoint = family.endpoint(Place::Lan, 2);
                rig.world.balancer.ip(&format!("{option} route {word} unreachable {endpoint}"));
            }
        };
        let said = |rig: &Rig| {
            let text = rig.world.balancer.enter(|| get(rig.strata.admin, "/api/diagnostics").text());
            text.matches("warning[W020]").count()
        };
        let name = |rig: &Rig, family: &Family| ask(&rig.world.client, family.vip(), 1, 1).expect("an answer").name;
        routes(&rig, "add");
        rig.reload(&[Member(0, 1), Member(1, 1), Member(2, 1)]);
        assert_eq!(said(&rig), 2, "{way:?}: one of each family");
        rig.restart_after("TERM");
        rig.await_up(2);
        assert_eq!(said(&rig), 2, "{way:?}: and a start is none the worse");
        for family in &Family::BOTH {
            assert!((0..20).all(|_| name(&rig, family) != World::name(2)), "{way:?}");
        }
        routes(&rig, "del");
        await_that("nothing is said of it any more", || said(&rig) == 0);
        rig.await_up(3);
        for family in &Family::BOTH {
            await_that("it serves", || name(&rig, family) == World::name(2));
        }
    }
}
