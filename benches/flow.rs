//! Wiring: what one decision costs in a slot that is not marked, and in one that is, with 1, 1000 and 100 000 flows; and what a
//! whole frame costs in each mode.
//!
//! What to hold: an unmarked decision, hash included, takes as long with 100 000 flows as with one. A marked one may not: each
//! flow's record is a cache line of its own, and that memory is what transitions cost.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use strata::base::{HashKey, MacAddr, Moment, Network, ServiceId, limits};
use strata::flow::decide::Action;
use strata::flow::tables::{Endpoint, Forward, Inputs, Link, LinkId, Ports, Route, Service, Sticky, Vip};
use strata::flow::{Endpoints, FlowKey, Kind, Packet, Policy, Records, Slots, key, steer};
use strata::flow::{FrameBuf, Shared, Tables, decide};

use strata::wire::ethernet::{self, EtherType};
use strata::wire::gue::Variant;
use strata::wire::ip::Protocol;
use strata::wire::tcp::{self, Flags};
use strata::wire::{ipv4, udp};

const KEY: HashKey = HashKey::new(*b"an example key..");
const ENDPOINTS: u16 = 20;

/// A table in which every slot has moved by one endpoint, or none has.
fn table(marked: bool) -> Slots {
    let mut endpoints = Endpoints::new(Policy::default());
    let indices: Vec<u16> = (0..u64::from(ENDPOINTS)).filter_map(|identity| endpoints.join(identity)).collect();
    let at =
        |turn: usize| -> Vec<u16> { indices.iter().cycle().skip(turn).take(limits::MAGLEV_SLOTS).copied().collect() };
    let mut slots = Slots::new(&at(0), &endpoints);
    if marked {
        slots.change(&at(1), &endpoints, Moment::ZERO);
    }
    slots
}

fn flows(n: u32) -> Vec<FlowKey> {
    let key = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        FlowKey::new(key::TCP, ([198, a, b, c], 4242).into(), ([10, 0, 0, 100], 80).into())
    };
    (0..n).map(key).collect()
}

fn decisions(c: &mut Criterion) {
    let now = Moment::ZERO + Duration::from_secs(60);
    let kind = Kind::TcpData { seq: 1, ack: 0 };
    for (name, marked) in [("unmarked", false), ("recorded", true)] {
        let mut group = c.benchmark_group(name);
        for n in [1, 1000, 100_000] {
            let (slots, flows) = (table(marked), flows(n));
            let records = Records::new(limits::FLOW_RECORDS, KEY);
            let decide = |key: &FlowKey| {
                let packet = Packet { hash: key.hash(&KEY), key, kind };
                steer(&slots, &records, ServiceId(0), black_box(&packet), now)
            };
            for key in &flows {
                decide(key);
            }
            assert_eq!(records.fill().records, if marked { flows.len() } else { 0 });
            let mut next = flows.iter().cycle();
            group.bench_function(BenchmarkId::from_parameter(n), |b| b.iter(|| next.next().map(decide)));
        }
    }
}

fn changes(c: &mut Criterion) {
    let mut endpoints = Endpoints::new(Policy::default());
    let indices: Vec<u16> = (0..u64::from(ENDPOINTS)).filter_map(|identity| endpoints.join(identity)).collect();
    let tables: Vec<Vec<u16>> =
        (0..2).map(|turn| indices.iter().cycle().skip(turn).take(limits::MAGLEV_SLOTS).copied().collect()).collect();
    let mut slots = Slots::new(&tables[0], &endpoints);
    let mut turn = 0;
    c.bench_function("change-every-slot", |b| {
        b.iter(|| {
            turn += 1;
            slots.change(&tables[turn % 2], &endpoints, Moment::from_millis(turn as u64))
        });
    });
}

/// A frame of a flow, there and as it must leave: written anew for each decision, which is part of the figure. Flows take turns. Where
/// they are recorded, each has its answer behind it, and what its client answered to that.
fn frames(c: &mut Criterion) {
    let modes = [
        ("l2", Forward::Direct, Some(80), Protocol::TCP),
        ("ipip", Forward::Ipip, Some(80), Protocol::TCP),
        ("gue", Forward::Gue(Variant::Header), Some(80), Protocol::TCP),
        ("nat", Forward::Nat, Some(80), Protocol::TCP),
        ("nat-recorded", Forward::Nat, None, Protocol::TCP),
        ("nat-recorded-udp", Forward::Nat, None, Protocol::UDP),
        ("full-nat", Forward::FullNat { sources: vec![OURS.into()] }, Some(80), Protocol::TCP),
        ("full-nat-udp", Forward::FullNat { sources: vec![OURS.into()] }, Some(80), Protocol::UDP),
    ];
    for (name, forward, port, protocol) in modes {
        let recorded = name.contains("recorded") || name.contains("full");
        let tables = tables(forward, port.map(|port| Ports { protocol, first: port, last: port }), protocol);
        let mut group = c.benchmark_group(name);
        for n in [1_u32, 1000, 50_000] {
            // Made where it is used: most runs want few of these.
            group.bench_function(BenchmarkId::from_parameter(n), |b| {
                let shared = Shared::new(&[OURS.into()], KEY);
                let now = Moment::ZERO + Duration::from_secs(60);
                let mut buffer = vec![0; 256];
                let mut run = |frame: &[u8; FRAME]| {
                    buffer[FrameBuf::HEADROOM..FrameBuf::HEADROOM + FRAME].copy_from_slice(frame);
                    let mut frame = FrameBuf::new(&mut buffer, FrameBuf::HEADROOM, FRAME, 2).expect("room");
                    let action = decide(&tables, &shared, now, 0, black_box(&mut frame)).action;
                    (action, frame.bytes().first_chunk::<FRAME>().copied())
                };
                for n in 0..n {
                    let (action, sent) = run(&frame(n, protocol, Flags::SYN, 1));
                    assert!(matches!(action, Action::Send { .. }), "{name}: {action:?}");
                    if recorded {
                        run(&answer(&sent.expect("a whole frame"), protocol));
                        run(&frame(n, protocol, Flags::ACK, 2));
                    }
                }
                let fill = shared.nat.fill();
                assert_eq!((fill.flows, fill.unproven), (if recorded { n as usize } else { 0 }, 0), "{name}");
                let frames: Vec<[u8; FRAME]> = (0..n).map(|n| frame(n, protocol, Flags::ACK, 2)).collect();
                let mut next = frames.iter().cycle();
                b.iter(|| next.next().map(|frame| run(frame).0));
            });
        }
    }
}

/// A service on one link, its clients behind a router.
fn tables(forward: Forward, ports: Option<Ports>, protocol: Protocol) -> Tables {
    let endpoint = |n| Endpoint { address: [10, 0, 1, n].into(), port: None, mac: Some(LB), mtu: None };
    let link = LinkId::plain(2);
    Tables::build(Inputs {
        key: KEY,
        links: vec![Link { id: link, mac: LB, mtu: 1500, addresses: vec![OURS.into()] }],
        own: Vec::new(),
        routes: vec![
            Route::new(Network::parse("10.0.0.0/8").expect("a network"), link, None),
            Route::new(Network::parse("0.0.0.0/0").expect("a network"), link, Some([10, 0, 0, 1].into())),
        ],
        neighbors: Vec::new(),
        vips: vec![Vip { address: VIP.into(), link, mac: LB }],
        services: vec![Service {
            id: ServiceId(0),
            addresses: vec![VIP.into()],
            ports: ports.into_iter().map(|ports| Ports { protocol, ..ports }).collect(),
            forward,
            sticky: Sticky::Flow,
            slots: Arc::new(table(false)),
            endpoints: (0..ENDPOINTS as u8).map(|n| Some(endpoint(n))).collect(),
        }],
    })
}

/// A packet of a client, as short as Ethernet lets it be.
fn frame(n: u32, protocol: Protocol, flags: Flags, sequence: u32) -> [u8; FRAME] {
    let [_, a, b, c] = n.to_be_bytes();
    let ethernet =
        ethernet::Header { destination: LB, source: MacAddr([2, 0, 0, 0, 0, 1]), ether_type: EtherType::IPV4 };
    let mut frame = [0; FRAME];
    frame[..14].copy_from_slice(&ethernet.emit());
    let ip = ipv4::Header::new([198, a, b, c].into(), VIP.into(), protocol, (FRAME - TRANSPORT) as u16);
    frame[14..TRANSPORT].copy_from_slice(&ip.emit());
    let (source_port, destination_port) = (4242, 80);
    if protocol == Protocol::UDP {
        let length = (FRAME - TRANSPORT) as u16;
        let udp = udp::Header { source_port, destination_port, length, checksum: 0 };
        frame[TRANSPORT..TRANSPORT + 8].copy_from_slice(&udp.emit());
    } else {
        frame[TRANSPORT..TRANSPORT + 20].copy_from_slice(&segment(source_port, destination_port, flags, sequence));
    }
    frame
}

/// What the endpoint that got this frame answers.
fn answer(sent: &[u8; FRAME], protocol: Protocol) -> [u8; FRAME] {
    let mut back = *sent;
    back[..6].copy_from_slice(&LB.0);
    back[26..30].copy_from_slice(&sent[30..34]);
    back[30..34].copy_from_slice(&sent[26..30]);
    back[TRANSPORT..TRANSPORT + 2].copy_from_slice(&sent[TRANSPORT + 2..TRANSPORT + 4]);
    back[TRANSPORT + 2..TRANSPORT + 4].copy_from_slice(&sent[TRANSPORT..TRANSPORT + 2]);
    if protocol == Protocol::TCP {
        let port = |at: usize| u16::from_be_bytes([back[at], back[at + 1]]);
        let segment = segment(port(TRANSPORT), port(TRANSPORT + 2), Flags(Flags::SYN.0 | Flags::ACK.0), 0);
        back[TRANSPORT..TRANSPORT + 20].copy_from_slice(&segment);
    }
    back
}

/// A header without options, of a sender that has seen the other's first byte.
fn segment(source_port: u16, destination_port: u16, flags: Flags, sequence: u32) -> [u8; 20] {
    let (acknowledgment, header_len, window, checksum, urgent) = (1, 20, 0, 0, 0);
    let header = tcp::Header {
        source_port,
        destination_port,
        sequence,
        acknowledgment,
        header_len,
        flags,
        window,
        checksum,
        urgent,
    };
    header.emit()
}

const FRAME: usize = 60;
const TRANSPORT: usize = 34;
const LB: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const OURS: [u8; 4] = [10, 0, 0, 2];
const VIP: [u8; 4] = [10, 0, 0, 100];

criterion_group!(benches, decisions, changes, frames);
criterion_main!(benches);
