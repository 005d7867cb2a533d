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
use strata::wire::ipv4;
use strata::wire::tcp::{self, Flags};

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

/// A frame with an ACK of a flow, there and as it must leave: written anew for each decision, which is part of the figure.
fn frames(c: &mut Criterion) {
    let lb = MacAddr([2, 0, 0, 0, 0, 9]);
    let modes = [
        ("l2", Forward::Direct),
        ("ipip", Forward::Ipip),
        ("gue", Forward::Gue(Variant::Header)),
        ("nat", Forward::Nat),
        ("full-nat", Forward::FullNat { sources: vec![[10, 0, 0, 2].into()] }),
    ];
    for (name, forward) in modes {
        let endpoint = |n| Endpoint { address: [10, 0, 1, n].into(), port: None, mac: Some(lb), mtu: None };
        let endpoints = (0..ENDPOINTS as u8).map(|n| Some(endpoint(n))).collect();
        let link = LinkId::plain(2);
        let tables = Tables::build(Inputs {
            key: KEY,
            links: vec![Link { id: link, mac: lb, mtu: 1500, addresses: vec![[10, 0, 0, 2].into()] }],
            routes: vec![
                Route::new(Network::parse("10.0.0.0/8").expect("a network"), link, None),
                Route::new(Network::parse("0.0.0.0/0").expect("a network"), link, Some([10, 0, 0, 1].into())),
            ],
            neighbors: Vec::new(),
            vips: vec![Vip { address: VIP.into(), link, mac: lb }],
            services: vec![Service {
                id: ServiceId(0),
                addresses: vec![VIP.into()],
                ports: vec![Ports { protocol: Protocol::TCP, first: 80, last: 80 }],
                forward,
                sticky: Sticky::Flow,
                slots: Arc::new(table(false)),
                endpoints,
            }],
        });
        let mut group = c.benchmark_group(name);
        for n in [1_u32, 1000, 50_000] {
            let shared = Shared::new(&[[10, 0, 0, 2].into()], KEY);
            let now = Moment::ZERO + Duration::from_secs(60);
            let mut buffer = vec![0; 256];
            let mut run = |frame: &[u8; 54]| {
                buffer[FrameBuf::HEADROOM..FrameBuf::HEADROOM + 54].copy_from_slice(frame);
                let mut frame = FrameBuf::new(&mut buffer, FrameBuf::HEADROOM, 54, 2).expect("room");
                decide(&tables, &shared, now, 0, black_box(&mut frame)).action
            };
            for n in 0..n {
                assert!(matches!(run(&frame(n, Flags::SYN)), Action::Send { .. }));
            }
            let frames: Vec<[u8; 54]> = (0..n).map(|n| frame(n, Flags::ACK)).collect();
            let mut next = frames.iter().cycle();
            group.bench_function(BenchmarkId::from_parameter(n), |b| b.iter(|| next.next().map(&mut run)));
        }
    }
}

/// A segment without options or payload.
fn frame(n: u32, flags: Flags) -> [u8; 54] {
    let [_, a, b, c] = n.to_be_bytes();
    let (source, destination) = ([198, a, b, c].into(), VIP.into());
    let ethernet = ethernet::Header {
        destination: MacAddr([2, 0, 0, 0, 0, 9]),
        source: MacAddr([2, 0, 0, 0, 0, 1]),
        ether_type: EtherType::IPV4,
    };
    let tcp = tcp::Header {
        source_port: 4242,
        destination_port: 80,
        sequence: 1,
        acknowledgment: 1,
        header_len: 20,
        flags,
        window: 0,
        checksum: 0,
        urgent: 0,
    };
    let mut frame = [0; 54];
    frame[..14].copy_from_slice(&ethernet.emit());
    frame[14..34].copy_from_slice(&ipv4::Header::new(source, destination, Protocol::TCP, 20).emit());
    frame[34..].copy_from_slice(&tcp.emit());
    frame
}

const VIP: [u8; 4] = [10, 0, 0, 100];

criterion_group!(benches, decisions, changes, frames);
criterion_main!(benches);
