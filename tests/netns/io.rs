//! What moves packets: a ring, AF_XDP before it, and `pnet`'s loop carry the same, one after the other in one process; and what
//! becomes of AF_XDP where others have the interface, or it is another one.

use std::net::SocketAddr;
use std::{fs, io};

use strata::sys::xdp::Front;

use super::common::await_that;
use super::load::Crowd;
use super::node::Node;
use super::rig::{AF_XDP, Extra, Member, NOTHING, Rig, Way, body, has_program, taken_by};
use super::server::PORT;
use super::talk::{ask, datagram, ping};
use super::watch::Watch;
use super::world::{Family, Place, World};

/// By NAT with records, so that both directions pass and more than the configuration has to live on.
#[test]
fn every_loop_carries_packets_and_a_reload_changes_it_under_transfers() {
    if !AF_XDP.can("what moves packets") {
        return;
    }
    // With this first, for it takes a privilege that is given up where it is not needed.
    let rig = Rig::new(Way::Nat, Place::Lan, 2, 2, AF_XDP);
    let mut before = "af-xdp";
    let outcome = Crowd::during(&rig.world.client, 24, |crowd| {
        // The first is what it started with; each comes after each other one.
        for io in ["af-xdp", "ring", "pnet", "af-xdp", "pnet", "ring", "af-xdp"] {
            let file = rig.strata.folder().join("strata.toml");
            let text = fs::read_to_string(&file).expect("the configuration");
            let text = text.replace(&format!("io = \"{before}\""), &format!("io = \"{io}\""));
            fs::write(&file, text).expect("the configuration");
            before = io;
            rig.strata.signal("HUP");
            let engine = match io {
                "ring" => "userspace".to_owned(),
                _ => format!("userspace-{io}"),
            };
            let served = || rig.scrape().sum_if_any("strata_service_info", &[("mode", "l3"), ("engine", &engine)]);
            await_that(&format!("both services are served by {io}"), || served() == 2.0);
            let program = || has_program(&rig.world.balancer, "eth0");
            await_that(&format!("{io}: whether there is a program"), || program() == (io == "af-xdp"));
            crowd.await_transfers();
            carries(&rig, io);
        }
    });
    println!("every loop in turn: {}", outcome.summary());
    assert!(outcome.broken().is_empty() && outcome.turned_away().is_empty(), "{}", outcome.summary());
}

/// It has no ring to take frames from, nor to put them into with other headers before them.
#[test]
fn the_plain_loop_carries_what_has_an_outer_header_and_what_has_other_addresses() {
    const PNET: Extra = Extra { packets: "io = \"pnet\"", ..NOTHING };
    if !PNET.can("pnet's loop") {
        return;
    }
    for way in [Way::Gue, Way::FullNat] {
        let rig = Rig::new(way, Place::Lan, 1, 1, PNET);
        let served = rig.scrape().sum("strata_service_info", &[("mode", "l3"), ("engine", PNET.engine())]);
        assert_eq!(served, 2.0, "{way:?}");
        carries(&rig, "pnet");
    }
}

/// TCP of some sizes, UDP and ping, past the kernel's packet sockets or not.
fn carries(rig: &Rig, io: &str) {
    let taken = rig.taken();
    if io == "af-xdp" {
        await_that("frames come by AF_XDP", || rig.taken() > taken);
    }
    let watch = Watch::on(&rig.world.balancer, "eth0");
    for family in Family::BOTH {
        let (word, client, vip) = (family.word(), &rig.world.client, family.vip());
        ping(client, vip, 1400).unwrap_or_else(|error| panic!("{io} {word} ping: {error}"));
        for length in [1, 1400] {
            datagram(client, vip, length).unwrap_or_else(|error| panic!("{io} {word} UDP {length}: {error}"));
        }
        for (up, down) in [(1, 1), (100_000, 1), (1, 500_000)] {
            ask(client, vip, up, down).unwrap_or_else(|error| panic!("{io} {word} TCP {up}/{down}: {error}"));
        }
        let to_service = format!("> {}", SocketAddr::new(vip, PORT));
        let seen_as = SocketAddr::new(rig.seen(family.client()), 0).to_string();
        let back =
            format!("{} > {}", SocketAddr::new(family.endpoint(Place::Lan, 0), PORT), seen_as.trim_end_matches('0'));
        // Where endpoints answer clients themselves, answers do not come by.
        let ways = if rig.way.is_direct() { vec![to_service] } else { vec![to_service, back] };
        for words in ways {
            let seen = watch.count(&[&words]);
            assert_eq!(seen == 0, io == "af-xdp", "{io}: packet sockets have seen {seen} frames {words}");
        }
    }
    assert_eq!(rig.taken() > taken + 500, io == "af-xdp", "{io}: AF_XDP took {} frames", rig.taken() - taken);
}

/// Asks until so many more frames have come by AF_XDP.
#[track_caller]
fn await_taken(rig: &Rig, what: &str) {
    let before = rig.taken();
    await_that(what, || {
        serves(rig);
        rig.taken() > before + 10
    });
}

#[track_caller]
fn serves(rig: &Rig) {
    for family in Family::BOTH {
        let answer = ask(&rig.world.client, family.vip(), 1000, 1000);
        answer.unwrap_or_else(|error| panic!("{}: {error}\n{}", family.word(), rig.strata.log_tail()));
    }
}

#[test]
fn a_killed_strata_leaves_no_program_and_the_next_one_has_its_own() {
    if !AF_XDP.can("what a killed Strata leaves") {
        return;
    }
    let mut rig = Rig::new(Way::L4FullNat, Place::BehindBalancer, 2, 2, AF_XDP);
    let programs = |rig: &Rig| ["eth0", "eth1"].map(|device| has_program(&rig.world.balancer, device));
    for signal in ["KILL", "TERM"] {
        await_taken(&rig, "it takes frames");
        assert_eq!(programs(&rig), [true; 2]);
        rig.strata.signal(signal);
        await_that("it is gone", || !rig.strata.is_running());
        await_that("its programs are as well", || programs(&rig) == [false; 2]);
        rig.world.balancer.enter(|| rig.strata.start_again());
        rig.await_taking();
    }
    // And with no time in between.
    for _ in 0..3 {
        rig.restart_after("KILL");
        await_taken(&rig, "the next one takes frames");
    }
}

/// The program of somebody else, who keeps it as long as he likes.
#[track_caller]
fn other(host: &Node) -> Front {
    host.enter(|| {
        let interface = strata::sys::link::index("eth0").expect("eth0");
        Front::new(interface, &[], &[]).expect("a program that passes everything")
    })
}

#[test]
fn where_another_has_the_interface_the_ring_serves_until_he_leaves() {
    if !AF_XDP.can("somebody else's XDP program") {
        return;
    }
    let mut others = None;
    let before = |world: &World| others = Some(other(&world.balancer));
    let rig = Rig::prepared(Way::L4Nat, Place::Lan, 2, 2, AF_XDP, before);
    assert!(others.as_ref().is_some_and(Front::is_attached));
    for _ in 0..20 {
        serves(&rig);
    }
    assert_eq!(rig.taken(), 0);
    let log = rig.strata.log();
    let said = |line: &&str| line.contains("eth0") && line.contains("XDP");
    assert_eq!(log.lines().filter(said).count(), 1, "it is said once\n{log}");
    drop(others);
    await_taken(&rig, "Strata takes frames when the other has left");
    // Nobody gets it from Strata.
    assert!(!other(&rig.world.balancer).is_attached());
    await_taken(&rig, "it still does");
}

/// Workers have none, one, or more than one each.
#[test]
fn every_queue_of_an_interface_is_taken_from() {
    if !AF_XDP.can("interfaces of several queues") {
        return;
    }
    for count in [2, 3, 5] {
        let rig = Rig::prepared(Way::L4FullNat, Place::Lan, 2, 2, AF_XDP, |world| world.rewire(count));
        for _ in 0..40 {
            serves(&rig);
        }
        let taken = taken_by(&rig.world.balancer, "eth0");
        println!("{count} queues: {taken:?}");
        assert!(taken.len() == count && taken.iter().all(|taken| *taken > 10), "{count} queues: {taken:?}");
        let watch = Watch::on(&rig.world.balancer, "eth0");
        serves(&rig);
        let to_service = format!("> {}", SocketAddr::new(Family::V4.vip(), PORT));
        assert_eq!(watch.count(&[&to_service]), 0, "{count} queues: {:?}", watch.shown());
    }
}

#[test]
fn what_a_reload_adds_is_taken_and_what_it_removes_is_the_kernels_again() {
    if !AF_XDP.can("VIPs that come and go under AF_XDP") {
        return;
    }
    let rig = Rig::new(Way::L4FullNat, Place::Lan, 2, 2, AF_XDP);
    let (client, all) = (&rig.world.client, [Member(0, 1), Member(1, 1)]);
    let asked = || ask(client, MORE.parse().expect("an address"), 1000, 1000);
    // With a MAC that the card has to be told of as well.
    for mac in ["mac = { type = \"virtual\", id = 51 }\n", ""] {
        let more = format!("[vip.more]\naddress = \"{MORE}\"\ninterface = \"eth0\"\n{mac}{MORES_SERVICE}");
        rig.strata.rewrite(&(body(Way::L4FullNat, Place::Lan, &all, AF_XDP) + &more));
        rig.command(&["reload"]);
        await_that("the VIP that was added serves", || asked().is_ok());
        let watch = Watch::on(&rig.world.balancer, "eth0");
        let before = rig.taken();
        asked().unwrap_or_else(|error| panic!("{mac}{error}\n{}", rig.strata.log_tail()));
        assert!(rig.taken() > before + 4, "{mac}{} frames", rig.taken() - before);
        assert_eq!(watch.count(&[&format!("> {MORE}:{PORT}")]), 0, "{mac}{:?}", watch.shown());
    }
    rig.reload(&all);
    rig.world.balancer.ip(&format!("address add {MORE}/32 dev eth0"));
    // Nobody listens there, and who says so is the kernel.
    await_that("the kernel answers for it", || {
        asked().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
    await_taken(&rig, "the others are taken on");
}

const MORE: &str = "10.0.0.101";
const MORES_SERVICE: &str = "[service.more]\nmode = \"l4\"\nforward = \"full-nat\"\nvip = \"more\"\npool = \"four\"\n\
    ports = \"8080/tcp\"\nsource = \"10.0.0.4\"\n";

/// A veth hands no frames to XDP that do not fit into a page.
#[test]
fn where_frames_are_too_long_for_xdp_a_start_says_so() {
    if !AF_XDP.can("frames that are too long for XDP") {
        return;
    }
    let mut rig = Rig::new(Way::L2, Place::Lan, 2, 2, AF_XDP);
    let set = |rig: &Rig, mtu: u32| {
        for (host, device) in [(&rig.world.switch, "balancer"), (&rig.world.balancer, "eth0")] {
            host.ip(&format!("link set {device} mtu {mtu}"));
        }
    };
    rig.strata.stop();
    set(&rig, 9000);
    let file = rig.strata.folder().join("strata.toml");
    // One that does not say so would serve for ever.
    let words = ["20", env!("CARGO_BIN_EXE_strata"), "run", &file.display().to_string()];
    let said = rig.world.balancer.run("timeout", &words);
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && error.contains("eth0") && error.contains("smaller MTU"), "{error}");
    set(&rig, 1500);
    rig.world.balancer.enter(|| rig.strata.start_again());
    await_taken(&rig, "it takes frames that fit");
}

/// Frames are for the card's MAC address, and the program knows which that is.
#[test]
fn a_balancer_whose_card_has_another_address_takes_frames_for_that() {
    if !AF_XDP.can("a card with another MAC address, under AF_XDP") {
        return;
    }
    let rig = Rig::new(Way::L4FullNat, Place::Lan, 2, 2, AF_XDP);
    await_taken(&rig, "it takes frames");
    rig.world.balancer.ip("link set eth0 address 02:00:00:00:99:02");
    let before = rig.taken();
    await_that("frames for the new address are taken", || {
        let _ = ask(&rig.world.client, Family::V4.vip(), 1000, 1000);
        rig.taken() > before + 100
    });
    await_that("and both families serve", || {
        Family::BOTH.iter().all(|family| ask(&rig.world.client, family.vip(), 1000, 1000).is_ok())
    });
}
