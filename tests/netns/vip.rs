//! Who has the VIP: what neighbours are told, what the switch learns, who else claims it, and that the kernel keeps out of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use strata::base::MacAddr;
use strata::wire::arp::Arp;
use strata::wire::ip::ALL_NODES;
use strata::wire::ndp::{FRAME_LEN, Neighbor, Peer};

use super::common::{await_that, holds_within};
use super::node::{Node, can};
use super::rig::{Extra, Member, Rig, Way, body, pool};
use super::server::PORT;
use super::talk::{ask, datagram, ping};
use super::watch::Watch;
use super::world::{Family, Place, World};

/// What `host` believes the VIP's hardware address to be.
fn believed(host: &Node, family: Family) -> String {
    let shown = host.ip(&format!("neigh show {}", family.vip()));
    shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
}

#[test]
fn neighbours_are_told_the_interfaces_address() {
    if !can("the VIP's neighbours") {
        return;
    }
    let rig = Rig::new(Way::L2, Place::Lan, 2, 2, Extra::default());
    for family in Family::BOTH {
        ping(&rig.world.near, family.vip(), 8).expect("an answer");
        assert_eq!(believed(&rig.world.near, family), World::mac(&rig.world.balancer), "{}", family.word());
        ask(&rig.world.near, family.vip(), 10, 10).expect("an answer");
    }
}

/// The VRRP addresses (RFC 9568 7.3), which the card has to be told to take, and the switch to expect there.
#[test]
fn neighbours_are_told_the_virtual_address() {
    if !can("the VIP's virtual MAC") {
        return;
    }
    let extra = Extra { vip: "mac = { type = \"virtual\", id = 51 }", ..Extra::default() };
    let rig = Rig::new(Way::L2, Place::Lan, 2, 2, extra);
    for (family, mac) in [(Family::V4, "00:00:5e:00:01:33"), (Family::V6, "00:00:5e:00:02:33")] {
        ping(&rig.world.near, family.vip(), 8).expect("an answer");
        assert_eq!(believed(&rig.world.near, family), mac);
        ask(&rig.world.client, family.vip(), 10, 100_000).expect("an answer");
        let table = rig.world.switch.run("bridge", &["fdb", "show", "br", "lan"]);
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        let learnt = table.lines().any(|line| line.starts_with(mac) && line.contains("dev balancer "));
        assert!(learnt, "the switch does not know where {mac} is:\n{table}");
    }
}

/// What `host` believes before anybody tells it: an address that nobody has. A Strata that runs may tell it at this very moment.
#[track_caller]
fn mislead(host: &Node, family: Family) {
    await_that(&format!("{} is misled", family.word()), || {
        host.ip(&format!("neigh replace {} lladdr {NOBODY} dev eth0 nud reachable", family.vip()));
        believed(host, family) == NOBODY
    });
}

#[test]
fn a_stale_neighbour_is_corrected_at_start_and_by_a_reload_without_asking() {
    if !can("the VIP's announcements") {
        return;
    }
    let extra = Extra::default();
    let rig = Rig::prepared(Way::L2, Place::Lan, 1, 1, extra, |world| {
        Family::BOTH.into_iter().for_each(|family| mislead(&world.near, family));
    });
    let own = World::mac(&rig.world.balancer);
    for family in Family::BOTH {
        await_that(&format!("{} is corrected", family.word()), || believed(&rig.world.near, family) == own);
    }
    // The VIP gets another MAC.
    Family::BOTH.into_iter().for_each(|family| mislead(&rig.world.near, family));
    let extra = Extra { vip: "mac = { type = \"virtual\", id = 51 }", ..extra };
    rig.strata.rewrite(&body(Way::L2, Place::Lan, &[Member(0, 1)], extra));
    rig.strata.signal("HUP");
    for (family, mac) in [(Family::V4, "00:00:5e:00:01:33"), (Family::V6, "00:00:5e:00:02:33")] {
        await_that(&format!("{mac} is announced"), || believed(&rig.world.near, family) == mac);
        ping(&rig.world.near, family.vip(), 8).expect("an answer");
    }
}

/// What keepalived does for a pair of machines, by hand.
#[test]
fn a_vip_that_another_host_had_is_taken_over() {
    if !can("taking a VIP over") {
        return;
    }
    let mut rig = Rig::new(Way::L4FullNat, Place::Lan, 2, 1, Extra::default());
    let [own, other] = [&rig.world.balancer, &rig.world.endpoints[1]].map(World::mac);
    for family in Family::BOTH {
        ping(&rig.world.near, family.vip(), 8).expect("an answer of Strata's");
    }
    rig.strata.stop();
    let peer = &rig.world.endpoints[1];
    let [v4, v6] = Family::BOTH.map(Family::vip);
    peer.batch(&format!("address add {v4}/32 dev eth0\naddress add {v6}/128 dev eth0 nodad\n"));
    announce(peer);
    for family in Family::BOTH {
        await_that("the other host is believed", || believed(&rig.world.near, family) == other);
        ping(&rig.world.near, family.vip(), 8).expect("an answer of the other's");
    }
    peer.batch(&format!("address del {v4}/32 dev eth0\naddress del {v6}/128 dev eth0\n"));
    rig.world.balancer.enter(|| rig.strata.start_again());
    for family in Family::BOTH {
        await_that(&format!("{} is taken over", family.word()), || believed(&rig.world.near, family) == own);
        await_that("the VIP serves", || ask(&rig.world.near, family.vip(), 10, 10).is_ok());
    }
}

#[test]
fn a_link_that_comes_back_up_is_told_again() {
    if !can("a VIP's link that comes up") {
        return;
    }
    let mut watch = None;
    let rig = Rig::prepared(Way::L2, Place::Lan, 1, 1, Extra::default(), |world| {
        watch = Some(Watch::on(&world.switch, "balancer"));
    });
    let watch = watch.expect("the watch");
    let own = World::mac(&rig.world.balancer);
    // Once the first announcements are over, nothing but the link can be the cause of more.
    let told = || watch.count(&[&own, "fd00::100 > ff02::1", "is-at"]);
    assert!(holds_within(Duration::from_secs(30), || told() == 5), "{:#?}", watch.shown());
    let claims = ["arp who-has 10.0.0.100 tell 10.0.0.100", "ff:ff:ff:ff:ff:ff arp 10.0.0.100 is-at"];
    assert!(claims.iter().all(|claim| watch.count(&[&own, claim]) == 5), "{:#?}", watch.shown());
    // And Strata's workers do not hear Strata.
    assert_eq!(rig.scrape().sum("strata_stray_packets_dropped_total", &[]), 0.0);
    rig.world.switch.ip("link set balancer down");
    await_that("Strata sees it", || Family::BOTH.iter().all(|family| owner(&rig, *family) == 0.0));
    Family::BOTH.into_iter().for_each(|family| mislead(&rig.world.near, family));
    rig.world.switch.ip("link set balancer up");
    for family in Family::BOTH {
        await_that(&format!("{} is corrected", family.word()), || believed(&rig.world.near, family) == own);
        await_that("Strata owns it", || owner(&rig, family) == 1.0);
    }
}

/// Its frames are all that switches know it by: a switch that forgets it would flood every client's frame to all its ports.
#[test]
fn a_virtual_mac_sends_frames_when_nothing_else_does() {
    if !can("a virtual MAC's reminders") {
        return;
    }
    let extra = Extra { vip: "mac = { type = \"virtual\", id = 51 }", ..Extra::default() };
    let rig = Rig::new(Way::L2, Place::Lan, 1, 1, extra);
    let macs = ["00:00:5e:00:01:33", "00:00:5e:00:02:33"];
    let switch = &rig.world.switch;
    let table = || String::from_utf8_lossy(&switch.run("bridge", &["fdb", "show", "br", "lan"]).stdout).into_owned();
    let knows = || macs.iter().all(|mac| table().lines().any(|line| line.starts_with(mac)));
    // Of the five announcements of the start, the first was before Strata answered: the fifth time is a reminder's.
    for time in 1..=5 {
        assert!(holds_within(Duration::from_secs(30), knows), "not learnt for the {time}th time:\n{}", table());
        for mac in macs {
            let words = ["fdb", "del", mac, "dev", "balancer", "master"];
            assert!(switch.run("bridge", &words).status.success(), "{words:?}");
        }
    }
    assert!(holds_within(Duration::from_secs(30), knows), "not heard any more:\n{}", table());
}

/// A host that has the VIP too, as a second balancer or an endpoint that is set up wrongly does.
#[test]
fn a_stranger_that_claims_the_vip_is_reported_and_not_believed() {
    if !can("a stranger with the VIP") {
        return;
    }
    let rig = Rig::new(Way::L4FullNat, Place::Lan, 2, 1, Extra::default());
    let [own, other] = [&rig.world.balancer, &rig.world.endpoints[1]].map(World::mac);
    for family in Family::BOTH {
        ping(&rig.world.near, family.vip(), 8).expect("an answer");
        await_that("Strata owns the VIP", || owner(&rig, family) == 1.0);
        assert_eq!(conflicts(&rig, family), 0.0);
    }
    let stranger = &rig.world.endpoints[1];
    let [v4, v6] = Family::BOTH.map(Family::vip);
    stranger.batch(&format!("address add {v4}/32 dev eth0\naddress add {v6}/128 dev eth0 nodad\n"));
    announce(stranger);
    for family in Family::BOTH {
        await_that("the claim is counted", || conflicts(&rig, family) > 0.0 && owner(&rig, family) == 0.0);
        let said = format!("another machine claims the VIP vip={} mac={other}", family.vip());
        await_that("the claim is logged", || rig.strata.log().contains(&said));
        await_that("Strata is believed", || believed(&rig.world.near, family) == own);
        ask(&rig.world.near, family.vip(), 10, 10).expect("Strata serves on");
    }
    let said = rig.world.balancer.strata(&["status", "--admin", &rig.strata.admin.to_string()]);
    let status = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(status.contains("VIP") && status.lines().any(|line| line.starts_with("four  no ")), "{status}");
    // It keeps silent from here on, but answers when it is asked for, and so the address stays contested.
    let counted = Family::BOTH.map(|family| conflicts(&rig, family));
    for (family, counted) in Family::BOTH.into_iter().zip(counted) {
        let asked = || conflicts(&rig, family) > counted;
        assert!(holds_within(Duration::from_secs(30), asked), "nobody asks for the stranger by {}", family.word());
    }
    stranger.batch(&format!("address del {v4}/32 dev eth0\naddress del {v6}/128 dev eth0\n"));
    for family in Family::BOTH {
        let patience = Duration::from_secs(60);
        assert!(holds_within(patience, || owner(&rig, family) == 1.0), "{} stays contested", family.word());
    }
}

/// It had the VIP before Strata came, and never says a word that is not an answer.
#[test]
fn a_stranger_that_keeps_silent_is_asked_for() {
    if !can("a silent stranger with the VIP") {
        return;
    }
    let virtual_mac = Extra { vip: "mac = { type = \"virtual\", id = 51 }", ..Extra::default() };
    for extra in [Extra::default(), virtual_mac] {
        let rig = Rig::prepared(Way::L4FullNat, Place::Lan, 2, 1, extra, |world| {
            let [v4, v6] = Family::BOTH.map(Family::vip);
            world.endpoints[1].batch(&format!("address add {v4}/32 dev eth0\naddress add {v6}/128 dev eth0 nodad\n"));
        });
        let other = World::mac(&rig.world.endpoints[1]);
        for family in Family::BOTH {
            let said = format!("another machine claims the VIP vip={} mac={other}", family.vip());
            // A question that is lost comes again within 75 s.
            let is_found = || rig.strata.log().contains(&said);
            assert!(holds_within(Duration::from_secs(120), is_found), "nobody asks for {}", family.vip());
            await_that("it is counted", || conflicts(&rig, family) > 0.0 && owner(&rig, family) == 0.0);
        }
    }
}

/// The worst that a kernel could do: it forwards IP, and knows very well where packets to the VIP and to clients go. That every
/// datagram comes once, `modes` shows; this is about what nobody counts.
#[test]
fn the_kernel_says_and_forwards_nothing_of_the_vip() {
    if !can("the balancer's kernel and the VIP") {
        return;
    }
    for (way, place) in [(Way::L2, Place::Lan), (Way::Nat, Place::BehindBalancer), (Way::Ipip, Place::Lan)] {
        let rig = Rig::new(way, place, 1, 1, Extra::default());
        let balancer = &rig.world.balancer;
        let own = World::mac(balancer);
        for family in Family::BOTH {
            // As it would learn by asking, if it ever saw the packet.
            let to = World::mac(&rig.world.router);
            balancer.ip(&format!("neigh replace {} lladdr {to} dev eth0 nud permanent", family.vip()));
        }
        let watch = Watch::on(&rig.world.switch, "balancer");
        for family in Family::BOTH {
            for _ in 0..10 {
                ask(&rig.world.client, family.vip(), 1, 1000).expect("an answer");
                datagram(&rig.world.client, family.vip(), 100).expect("an answer");
                ping(&rig.world.client, family.vip(), 8).expect("an answer");
            }
            let (vip, endpoint) = (family.vip().to_string(), family.endpoint(place, 0).to_string());
            let from_us = format!("{own} > ");
            // What it forwards is seen: else nothing would be wrong because nothing is seen.
            let service = SocketAddr::new(family.vip(), PORT).to_string();
            let outside = if way == Way::Ipip { &endpoint } else { &service };
            let forwarded = || watch.count(&[&from_us, outside, &service]) > 0;
            await_that(&format!("{way:?} {}: its frames are seen", family.word()), forwarded);
            let datagrams: Vec<String> = watch.shown();
            let sent: Vec<&String> = datagrams.iter().filter(|frame| frame.starts_with(&from_us)).collect();
            let with = |words: &[&str]| sent.iter().filter(|f| words.iter().all(|word| f.contains(word))).count();
            for words in [
                &["redirect"][..],
                &["unreachable"],
                &["arp who-has", &vip, "tell 10.0.0.2"],
                &["who-has", &vip, "fd00::2"],
            ] {
                assert_eq!(with(words), 0, "{way:?} {words:?}: {sent:#?}");
            }
            // To the VIP, outside a tunnel: direct return's own, to the endpoint's MAC and to no other.
            let to_router = format!("{own} > {} ", World::mac(&rig.world.router));
            let second = sent.iter().filter(|frame| frame.starts_with(&to_router)).filter(|frame| {
                let rest = frame.trim_start_matches(&to_router);
                rest.contains(&format!("> {vip}"))
                    || rest.contains(&format!("> [{vip}]"))
                    || rest.starts_with(&endpoint)
            });
            assert_eq!(second.collect::<Vec<_>>(), Vec::<&&String>::new(), "{way:?} {}", family.word());
        }
    }
}

#[test]
fn a_virtual_mac_on_a_macvlan_is_refused_with_the_reason() {
    if !can("a macvlan") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    let made = world
        .balancer
        .run("ip", &"link add link eth0 name shared type macvlan mode bridge".split(' ').collect::<Vec<_>>());
    if !made.status.success() {
        super::common::skip("a macvlan", "the kernel has no macvlan");
        return;
    }
    world.balancer.ip("link set shared up");
    let extra = Extra { vip: "mac = { type = \"virtual\", id = 51 }", ..Extra::default() };
    let error = refusal(&world, "shared", extra);
    assert!(error.contains("interface shared is a macvlan"), "{error}");
}

#[test]
fn a_vip_on_a_port_of_a_bridge_is_refused_and_sent_to_the_bridge() {
    if !can("a VIP on a port of a bridge") {
        return;
    }
    let world = World::new(Place::Lan, 1);
    for command in ["link add br0 type bridge", "link set br0 up", "link set eth0 master br0"] {
        world.balancer.ip(command);
    }
    let error = refusal(&world, "eth0", Extra::default());
    assert!(error.contains("interface eth0 is a port of br0") && error.contains("name that"), "{error}");
}

/// What `run` says of a VIP on this interface and ends.
fn refusal(world: &World, interface: &str, extra: Extra) -> String {
    let text = body(Way::L2, Place::Lan, &[Member(0, 1)], extra).replace("eth0", interface);
    let file = std::env::temp_dir().join(format!("{}.toml", world.balancer.name));
    std::fs::write(&file, text).expect("the configuration");
    // One that is not refused would serve for ever.
    let said = world.balancer.run("timeout", &["20", env!("CARGO_BIN_EXE_strata"), "run", &file.to_string_lossy()]);
    std::fs::remove_file(&file).expect("the configuration");
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success(), "{error}");
    error
}

/// What a host that takes the VIP tells everyone.
fn announce(host: &Node) {
    let mac = MacAddr::parse(&World::mac(host)).expect("its MAC");
    let mut watch = Watch::on(host, "eth0");
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (Family::V4.vip(), Family::V6.vip()) else { unreachable!("one of each") };
    watch.send(&Arp::announcement(mac, v4).frame());
    let all = Peer { mac: MacAddr::multicast_v6(ALL_NODES), address: ALL_NODES };
    let mut frame = [0; FRAME_LEN];
    let length = Neighbor::announcement(mac, v6).frame(Peer { mac, address: v6 }, all, &mut frame).expect("it fits");
    watch.send(&frame[..length]);
}

fn owner(rig: &Rig, family: Family) -> f64 {
    rig.scrape().sum("strata_vip_owner", &[("vip", pool(family))])
}

fn conflicts(rig: &Rig, family: Family) -> f64 {
    rig.scrape().sum("strata_vip_conflicts_total", &[("vip", pool(family))])
}

const NOBODY: &str = "02:00:00:00:00:99";
