//! A SYN flood of forged sources, and clients who want in all the same.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use strata::wire::checksum::Sum;
use strata::wire::{ip, ipv4};

use super::node::{Node, can};
use super::rig::{Extra, Rig, Way};
use super::server::PORT;
use super::talk::ask;
use super::world::{Family, Place};

/// A SYN from nobody.
fn syn(random: u64, vip: Ipv4Addr) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h] = random.to_be_bytes();
    // 100.64.0.0/10: addresses that no host here has.
    let source = Ipv4Addr::new(100, 64 | a & 63, b, c.max(1));
    let port = u16::from_be_bytes([d, e]).max(1024).to_be_bytes();
    let mut tcp = [port[0], port[1], 0, 0, f, g, h, a, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
    tcp[2..4].copy_from_slice(&PORT.to_be_bytes());
    let sum = Sum::pseudo(IpAddr::V4(source), IpAddr::V4(vip), 6, tcp.len()).bytes(&tcp).checksum();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let header = ipv4::Header::new(source, vip, ip::Protocol::TCP, 20).emit();
    [&header[..], &tcp].concat()
}

/// Sends until told to stop, and gives how many.
fn flood(host: &Node, stop: &AtomicBool) -> u64 {
    let IpAddr::V4(vip) = Family::V4.vip() else { unreachable!("the VIP of IPv4") };
    let to = SocketAddr::new(IpAddr::V4(vip), 0).into();
    let socket = host.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))).expect("a raw socket");
    let mut random = fastrand::Rng::new();
    let (mut sent, began) = (0, Instant::now());
    while !stop.load(Relaxed) {
        for _ in 0..BURST {
            // A full queue is the flood's own business.
            sent += u64::from(socket.send_to(&syn(random.u64(..), vip), &to).is_ok());
        }
        if let Some(rate) = MOST_PER_SECOND {
            let due = Duration::from_secs_f64(sent as f64 / rate);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    sent
}

#[test]
fn a_flood_of_forged_syns_keeps_nobody_out() {
    if !can("a SYN flood") {
        return;
    }
    for way in [Way::L2, Way::Nat] {
        // With ports, so that NAT needs no record to translate back.
        let extra = Extra { service: "ports = \"8080/tcp\"", ..Extra::default() };
        let rig = Rig::new(way, Place::Lan, 3, 3, extra);
        for _ in 0..100 {
            ask(&rig.world.client, Family::V4.vip(), 1, 1).expect("an answer before the flood");
        }
        let (before, stop, good, bad) =
            (rig.strata.resident_kib(), AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let sent = thread::scope(|scope| {
            let flood = scope.spawn(|| flood(&rig.world.near, &stop));
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        while !stop.load(Relaxed) {
                            let answered = ask(&rig.world.client, Family::V4.vip(), 1, 1000).is_ok();
                            if answered { &good } else { &bad }.fetch_add(1, Relaxed);
                            thread::sleep(Duration::from_millis(10));
                        }
                    })
                })
                .collect();
            thread::sleep(LENGTH);
            stop.store(true, Relaxed);
            clients.into_iter().for_each(|client| client.join().expect("a client"));
            flood.join().expect("the flood")
        });
        let (good, bad, after) = (good.into_inner(), bad.into_inner(), rig.strata.resident_kib());
        let metrics = rig.scrape();
        let [records, flows] = ["strata_flow_records", "strata_nat_flows"].map(|name| metrics.sum(name, &[]));
        let overrun = metrics.sum("strata_interface_frames_lost_total", &[("reason", "overrun")]);
        println!(
            "{way:?}: {sent} forged SYNs in {LENGTH:?}; {good} connections, {bad} failed; {overrun} frames lost; {before} KiB \
             before, {after} after"
        );
        assert!(sent as f64 > 1000.0 * LENGTH.as_secs_f64(), "that was no flood");
        assert!(good > 200 && bad * 99 <= good, "{way:?}: {bad} of {} failed\n{}", good + bad, rig.strata.log_tail());
        assert_eq!((records, flows), (0.0, 0.0), "{way:?}: the flood left records, or translated flows");
        assert!(after <= before + 2048, "{way:?}: {before} KiB before, {after} KiB after");
    }
}

const BURST: usize = 64;

/// A debug build is held to as much as it can do; a release build gets all that one core sends.
const MOST_PER_SECOND: Option<f64> = if cfg!(debug_assertions) { Some(20_000.0) } else { None };
const LENGTH: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 30 });
