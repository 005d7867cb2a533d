//! The records shared by threads that run as they please: what one worker has recorded, every other finds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use strata::base::{HashKey, Moment, ServiceId};
use strata::flow::records::Cursor;
use strata::flow::{Decision, Endpoints, FlowKey, Kind, Packet, Policy, Records, Slots, key, steer};

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
                    let kind =
                        if n.is_multiple_of(2) { Kind::TcpData { seq: 9 } } else { Kind::Syn { seq: u32::from(n) } };
                    assert_eq!(send(n, kind), home(n));
                }
                ready.fetch_add(1, Ordering::SeqCst);
                while ready.load(Ordering::SeqCst) < 4 {
                    std::thread::yield_now();
                }
                for n in 0..FLOWS {
                    assert_eq!(send(n, Kind::TcpData { seq: u32::from(n) + 1 }), home(n), "flow {n}, worker {worker}");
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
