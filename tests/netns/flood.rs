//! A SYN flood of forged sources, clients who want in all the same, and those who are in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use strata::base::limits;
use strata::wire::checksum::Sum;
use strata::wire::{ip, ipv4};

use super::node::{Node, can};
use super::rig::{Extra, Rig, Way};
use super::server::PORT;
use super::talk::{Talk, ask};
use super::world::{Family, Place};

/// A SYN from nobody, or what nobody sends after it, not having seen the answer.
fn forged(random: u64, vip: Ipv4Addr, answers: bool) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h] = random.to_be_bytes();
    // 100.64.0.0/10: addresses that no host here has.
    let source = Ipv4Addr::new(100, 64 | a & 63, b, c.max(1));
    let port = u16::from_be_bytes([d, e]).max(1024).to_be_bytes();
    let (next, flags) = if answers { (1, 0x10) } else { (0, 0x02) };
    let seq = u32::from_be_bytes([f, g, h, a]).wrapping_add(next).to_be_bytes();
    let ack = if answers { [a, b, c, d] } else { [0; 4] };
    let mut tcp = [port[0], port[1], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    tcp[4..8].copy_from_slice(&seq);
    tcp[8..12].copy_from_slice(&ack);
    tcp[2..4].copy_from_slice(&PORT.to_be_bytes());
    let sum = Sum::pseudo(IpAddr::V4(source), IpAddr::V4(vip), 6, tcp.len()).bytes(&tcp).checksum();
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let header = ipv4::Header::new(source, vip, ip::Protocol::TCP, 20).emit();
    [&header[..], &tcp].concat()
}

/// Sends until told to stop, and counts SYNs. An attacker has machines of his own: what he uses of this one is what its other
/// hosts leave. Where connections are recorded each of them is followed up, some ms later.
fn flood(host: &Node, followed: bool, stop: &AtomicBool, count: &AtomicU64) {
    let IpAddr::V4(vip) = Family::V4.vip() else { unreachable!("the VIP of IPv4") };
    let to = SocketAddr::new(IpAddr::V4(vip), 0).into();
    let socket = host.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))).expect("a raw socket");
    rustix::process::nice(19).expect("a low priority");
    let mut random = fastrand::Rng::new();
    let (mut sent, began, mut before) = (0, Instant::now(), [0; BURST]);
    while !stop.load(Relaxed) {
        for follows in &mut before {
            if followed && sent >= BURST as u64 {
                let _ = socket.send_to(&forged(*follows, vip, true), &to);
            }
            *follows = random.u64(..);
            // A full queue is the flood's own business.
            sent += u64::from(socket.send_to(&forged(*follows, vip, false), &to).is_ok());
        }
        count.store(sent, Relaxed);
        if let Some(rate) = MOST_PER_SECOND {
            let frames = if followed { 2 * sent } else { sent };
            let due = Duration::from_secs_f64(frames as f64 / rate);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
}

/// Of the process' first thread, and of those that forward packets of the one interface.
fn niceness(pid: u32) -> (i32, Vec<i32>) {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the threads");
    let stats =
        tasks.map(|task| std::fs::read_to_string(task.expect("a thread").path().join("stat")).expect("its state"));
    let niceness = |stat: &String| -> i32 {
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(16)?.parse().ok()).expect("a niceness")
    };
    let stats: Vec<String> = stats.collect();
    let first = stats.iter().find(|stat| stat.starts_with(&format!("{pid} "))).expect("the first thread");
    (niceness(first), stats.iter().filter(|stat| stat.contains("(packets-")).map(niceness).collect())
}

#[test]
fn a_flood_of_forged_syns_keeps_nobody_out() {
    if !can("a SYN flood") {
        return;
    }
    const PORTS: &str = "ports = \"8080/tcp\"";
    // With ports NAT needs no record to translate back.
    for (way, service) in [(Way::L2, PORTS), (Way::Gue, PORTS), (Way::Nat, PORTS), (Way::Nat, ""), (Way::FullNat, "")] {
        let recorded = way.is_full_nat() || way == Way::Nat && service.is_empty();
        let rig = Rig::new(way, Place::Lan, 3, 3, Extra { service, ..Extra::default() });
        let open = || Talk::open(&rig.world.client, Family::V4.vip()).expect("a connection before the flood");
        let mut talks: Vec<Talk> = (0..100).map(|_| open()).collect();
        let mut all_exchange = |when: &str| {
            for (index, talk) in talks.iter_mut().enumerate() {
                talk.exchange(1, 1000).unwrap_or_else(|error| panic!("{way:?}: connection {index} {when}: {error}"));
            }
        };
        all_exchange("before the flood");
        let (first, workers) = niceness(rig.strata.pid());
        assert_eq!(workers, [(first - 10).max(-20); 2], "{way:?}: they go before the flood");
        let calm = rig.scrape();
        let (before, stop, good, bad) =
            (rig.strata.resident_kib(), AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let (wanted, sent) = (1000 * LENGTH.as_secs(), AtomicU64::new(0));
        thread::scope(|scope| {
            // Stops them also when a connection breaks.
            let stopped = Stop(&stop);
            let flood = scope.spawn(|| flood(&rig.world.near, recorded, &stop, &sent));
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
            let began = Instant::now();
            // On a busy machine its low priority makes a flood of many seconds.
            while began.elapsed() < LENGTH || sent.load(Relaxed) <= wanted && began.elapsed() < LONGEST {
                all_exchange("during the flood");
                thread::sleep(Duration::from_millis(100));
            }
            drop(stopped);
            clients.into_iter().for_each(|client| client.join().expect("a client"));
            flood.join().expect("the flood");
        });
        let (sent, ended) = (sent.into_inner(), Instant::now());
        for turn in 0..100 {
            ask(&rig.world.client, Family::V4.vip(), 1, 1000)
                .unwrap_or_else(|error| panic!("{way:?}: turn {turn} after the flood: {error}"));
        }
        let again = ended.elapsed();
        all_exchange("after the flood");
        let (good, bad, after) = (good.into_inner(), bad.into_inner(), rig.strata.resident_kib());
        let metrics = rig.scrape();
        let of = |name: &str| metrics.sum(&format!("strata_{name}"), &[]);
        let (records, flows) = (of("flow_records"), of("nat_flows"));
        let (unproven, evicted) = (of("nat_flows_unproven"), of("nat_flows_evicted_total"));
        let lent = if way.is_full_nat() { of("nat_ports_lent") } else { 0.0 };
        let overrun = metrics.sum("strata_interface_frames_lost_total", &[("reason", "overrun")]);
        println!(
            "{way:?}, {service:?}: {sent} forged SYNs; {good} connections, {bad} failed; {overrun} frames lost; {before} KiB \
             before, {after} after; {flows} flows, {unproven} unproven, {lent} ports lent, {evicted} flows evicted; 100 connections \
             in {again:?} after it; {:?}",
            metrics.drops_since(&calm)
        );
        assert!(sent > wanted, "that was no flood");
        assert!(good > 200 && bad * 99 <= good, "{way:?}: {bad} of {} failed\n{}", good + bad, rig.strata.log_tail());
        assert_eq!(records, 0.0, "{way:?}: the flood left records");
        let mut room = 2048;
        if recorded {
            // What comes after the last port is taken takes another's place.
            assert!(evicted > 0.0 || lent < 64_000.0, "{way:?}: nothing was in the way");
            assert!(unproven <= of("nat_flows_limit") / 2.0 && lent <= flows, "{way:?}: {flows} flows, {lent} ports");
            assert!(flows > 1000.0, "{way:?}: {flows} flows of {sent} forged SYNs");
            // Where flows are kept is touched as it fills.
            room += limits::NAT_FLOWS as u64 / 4;
        } else {
            assert_eq!(flows, 0.0, "{way:?}: the flood left translated flows");
        }
        assert!(after <= before + room, "{way:?}: {before} KiB before, {after} KiB after");
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

const BURST: usize = 64;

/// A debug build is held to as much as it can do; a release build gets all that one core sends.
const MOST_PER_SECOND: Option<f64> = if cfg!(debug_assertions) { Some(20_000.0) } else { None };
/// Until there must have been as many as make a flood.
const LONGEST: Duration = Duration::from_secs(60);
/// Longer than a source of full NAT has ports.
const LENGTH: Duration = Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 30 });
