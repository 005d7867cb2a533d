//! The records shared by threads that run as they please: what one worker has recorded, every other finds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use strata::base::{HashKey, Moment, ServiceId};
use strata::flow::nat::{Nat, Target};
use strata::flow::{Cursor, Decision, Endpoints, FlowKey, Kind, Packet, Policy, Records, Slots, key, steer};

const KEY: HashKey = HashKey::new([9; 16]);

#[test]
fn workers_share_records_while_the_control_side_sweeps_them() {
    const FLOWS: u16 = 2000;
    let mut endpoints = Endpoints::new(Policy::default());
    let (old, new) = (endpoints.join(1).unwrap(), endpoints.join(2).unwrap());
    let mut slots = Slots::new(&[old; 251], &endpoints);
    let start = Moment::from_millis(1000);
    slots.change(&[new; 251], &endpoints, start);
    let records = Records::new(8192, KEY);
    let now = start + Duration::from_secs(20);
    let flow = |n| FlowKey::new(key::TCP, ([192, 0, 2, 1], n).into(), ([10, 0, 0, 100], 80).into());
    let send = |n: u16, kind| {
        let key = flow(n);
        match steer(&slots, &records, ServiceId(0), &Packet { hash: key.hash(&KEY), key: &key, kind }, now) {
            Decision::Forward { endpoint, .. } => endpoint,
            other => panic!("{other:?}"),
        }
    };
    // Even flows are old, odd ones open now; each is recorded by one thread and then found by all.
    let home = |n: u16| if n.is_multiple_of(2) { old } else { new };
    let ready = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..4_u16 {
            let (send, ready) = (&send, &ready);
            scope.spawn(move || {
                for n in (0..FLOWS).filter(|n| n % 4 == worker) {
                    let kind = if n.is_multiple_of(2) {
                        Kind::TcpData { seq: 9, ack: 0 }
                    } else {
                        Kind::Syn { seq: u32::from(n) }
                    };
                    assert_eq!(send(n, kind), home(n));
                }
                ready.fetch_add(1, Ordering::SeqCst);
                while ready.load(Ordering::SeqCst) < 4 {
                    std::thread::yield_now();
                }
                for n in 0..FLOWS {
                    assert_eq!(
                        send(n, Kind::TcpData { seq: u32::from(n) + 1, ack: 0 }),
                        home(n),
                        "flow {n}, worker {worker}"
                    );
                }
            });
        }
        scope.spawn(|| {
            let mut cursor = Cursor::default();
            for _ in 0..2000 {
                records.sweep(&mut cursor, now, |_| {});
            }
        });
    });
    let fill = records.fill();
    assert_eq!((fill.records, fill.unproven), (usize::from(FLOWS), 0));
}

#[test]
fn workers_that_bind_the_same_flows_agree_on_every_port() {
    const FLOWS: u16 = 500;
    const OURS: [u8; 4] = [10, 0, 0, 2];
    let nat = Nat::new(4096, &[OURS.into()], &(10_000..=10_999), KEY);
    let target =
        Target { endpoint: 1, generation: 0, address: ([10, 0, 1, 1], 8080).into(), idle: Duration::from_secs(900) };
    let flow = |n| FlowKey::new(key::UDP, ([192, 0, 2, 1], n).into(), ([10, 0, 0, 100], 53).into());
    let now = Moment::from_millis(1000);
    let bind = |n| nat.bind_full(ServiceId(0), &flow(n), Kind::Other, &target, &[OURS.into()], now).unwrap();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let bound: Vec<_> = (1..=FLOWS).map(&bind).collect();
                    for binding in &bound {
                        assert_eq!(nat.reply(&binding.outside.reversed(), Kind::Other, now), Some(*binding));
                    }
                    bound
                })
            })
            .collect();
        scope.spawn(|| {
            // Flows that come and go at the same ports' expense.
            let mut cursor = Cursor::default();
            for n in 0..2000 {
                let short = flow(20_000 + n % 100);
                let _ = nat.bind_full(ServiceId(0), &short, Kind::Other, &target, &[OURS.into()], now);
                nat.unbind(ServiceId(0), &short, now);
                nat.sweep(&mut cursor, now);
            }
        });
        let bound: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        assert!(bound.windows(2).all(|pair| pair[0] == pair[1]));
        let mut ports: Vec<u16> = bound[0].iter().map(|binding| binding.outside.source().port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), usize::from(FLOWS));
    });
    let fill = nat.fill();
    assert_eq!((fill.flows, fill.flows + fill.ports_left), (usize::from(FLOWS), 2 * 1000));
}
