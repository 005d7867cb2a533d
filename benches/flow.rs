//! Wiring: what one decision costs in a slot that is not marked, and in one that is, with 1, 1000 and 100 000 flows.
//!
//! What to hold: an unmarked decision, hash included, takes as long with 100 000 flows as with one. A marked one may not: each
//! flow's record is a cache line of its own, and that memory is what transitions cost.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use strata::base::{HashKey, Moment, ServiceId, limits};
use strata::flow::{Endpoints, FlowKey, Kind, Packet, Policy, Records, Slots, key, steer};

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
    let kind = Kind::TcpData { seq: 1 };
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

criterion_group!(benches, decisions, changes);
criterion_main!(benches);
