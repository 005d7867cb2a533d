//! Engine: the records against a plain map, and their bounds.

use std::collections::HashMap;

use super::super::key::UDP;
use super::*;

const SERVICE: ServiceId = ServiceId(0);

fn key(n: u32) -> FlowKey {
    let address = [10, n.to_be_bytes()[1], n.to_be_bytes()[2], n.to_be_bytes()[3]];
    FlowKey::new(UDP, (address, 1).into(), ([192, 0, 2, 1], 53).into())
}

fn record(endpoint: u16, proof: Proof, expires: u64) -> Record {
    Record { endpoint, generation: 0, proof, seq: 7, expires: Moment(expires) }
}

#[test]
fn records_do_what_a_map_does() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let records = Records::new(128, HashKey::new([3; 16]));
        let mut model: HashMap<u32, Record> = HashMap::new();
        let (mut now, mut cursor) = (0_u64, Cursor::default());
        for _ in 0..4000 {
            let n = rng.u32(..200);
            let mut entry = records.entry(SERVICE, &key(n), n);
            let known = model.get(&n).copied().filter(|record| record.expires >= Moment(now));
            assert_eq!(entry.read(Moment(now)), known, "seed {seed}");
            match rng.u32(..10) {
                0..6 => {
                    let proof = if rng.bool() { Proof::Established } else { Proof::Loose };
                    let new = record(rng.u16(..9), proof, now + rng.u64(..300));
                    if entry.write(new, Moment(now)) {
                        model.insert(n, new);
                    } else {
                        model.remove(&n);
                    }
                }
                6 => {
                    entry.remove();
                    model.remove(&n);
                }
                7 => {
                    drop(entry);
                    let mut seen = 0;
                    while !records.sweep(&mut cursor, Moment(now), |_| seen += 1) {}
                    model.retain(|_, record| record.expires >= Moment(now));
                    assert_eq!((seen, records.fill().records), (model.len(), model.len()), "seed {seed}");
                    let soft = model.values().filter(|record| record.proof.is_soft()).count();
                    assert_eq!(records.fill().unproven, soft, "seed {seed}");
                }
                _ => now += rng.u64(..20),
            }
        }
    }
}

#[test]
fn no_more_is_kept_than_was_asked_for_and_nothing_is_pushed_out() {
    let records = Records::new(limits::FLOW_RECORDS / 64, HashKey::new([4; 16]));
    let capacity = records.fill().capacity;
    let kept: Vec<u32> = (0..20_000)
        .filter(|&n| records.entry(SERVICE, &key(n), n).write(record(1, Proof::Established, 100), Moment(0)))
        .collect();
    assert_eq!(kept.len(), capacity);
    assert_eq!(records.fill().records, capacity);
    for n in kept {
        assert!(records.entry(SERVICE, &key(n), n).read(Moment(100)).is_some());
        assert!(records.entry(SERVICE, &key(n), n).read(Moment(101)).is_none());
    }
}

#[test]
fn shards_fill_evenly_before_any_is_full() {
    let records = Records::new(1 << 15, HashKey::new([5; 16]));
    let refused = (0..31_000)
        .filter(|&n| !records.entry(SERVICE, &key(n), n).write(record(1, Proof::Established, 100), Moment(0)))
        .count();
    // 512 a shard: at 95 % of all, a shard in a hundred is full by chance.
    assert!(refused < 100, "{refused} refused at 95 %");
}

#[test]
fn a_full_shard_takes_the_place_of_what_has_expired() {
    let records = Records::new(64, HashKey::new([6; 16]));
    let write =
        |n: u32, proof, expires, now| records.entry(SERVICE, &key(n), n).write(record(1, proof, expires), Moment(now));
    (0..32).for_each(|n| assert!(write(n, Proof::Loose, 10, 0)));
    assert!(!write(99, Proof::Loose, 10, 10));
    assert!((0..32).all(|n| write(100 + n, Proof::Established, 1000, 10)));
    assert!(!write(200, Proof::Established, 1000, 10));
    // Each call looks at a few places only, so some are needed to come round to what has expired.
    let renewed = (0..100).filter(|&n| write(300 + n, Proof::Loose, 1000, 11)).count();
    assert_eq!(renewed, 32);
    assert_eq!(records.fill(), Fill { records: 64, unproven: 32, capacity: 64, unproven_capacity: 32 });
}

#[test]
fn a_service_is_forgotten_and_no_other() {
    let few = Records::new(4096, HashKey::new([7; 16]));
    // More than one hold of its lock goes over.
    let shards = Box::new([CachePadded::new(Mutex::new(Shard::new(10 * limits::FLOW_SWEEP)))]);
    let one = Records { shards, ..Records::new(64, HashKey::new([7; 16])) };
    [few, one].iter().for_each(forgets_one_of_three);
}

fn forgets_one_of_three(records: &Records) {
    for n in 0..2400 {
        let service = ServiceId((n % 3) as u16);
        assert!(records.entry(service, &key(n), n).write(record(1, Proof::Established, 10), Moment(0)));
    }
    let before = records.fill().records;
    records.forget(|seen| seen.service == ServiceId(1));
    let mut services = [0; 3];
    let mut cursor = Cursor::default();
    while !records.sweep(&mut cursor, Moment(0), |seen| services[seen.service.index()] += 1) {}
    assert_eq!((services[1], services[0] + services[2]), (0, records.fill().records));
    assert!(before > records.fill().records && services[0] > 500 && services[2] > 500);
}
