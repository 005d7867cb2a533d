//! Engine: the book-keeping of marks; what they mean for packets is tested in `steer`.

use super::super::key::{FlowKey, UDP};
use super::*;
use crate::base::ServiceId;

fn endpoints(n: u64) -> Endpoints {
    let mut endpoints = Endpoints::new(Policy::default());
    (0..n).for_each(|identity| assert!(endpoints.join(identity).is_some()));
    endpoints
}

fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

#[test]
fn each_marked_slot_has_its_own_mark_wherever_it_stands() {
    let mut rng = fastrand::Rng::with_seed(1);
    for len in [1, 63, 64, 65, 1009] {
        let endpoints = endpoints(10);
        let mut tables: Vec<Vec<u16>> = vec![(0..len).map(|_| rng.u16(..10)).collect()];
        let mut slots = Slots::new(&tables[0], &endpoints);
        assert_eq!(slots.marked(), 0);
        // What each slot was first, when it moved first, and what it is.
        let mut firsts: Vec<Option<(u16, Moment)>> = vec![None; len];
        for step in 1..6 {
            let last = tables.last().unwrap();
            let next: Vec<u16> = last.iter().map(|&old| if rng.u8(..4) == 0 { rng.u16(..10) } else { old }).collect();
            let changed = slots.change(&next, &endpoints, at(step));
            assert_eq!(changed.moved, last.iter().zip(&next).filter(|(old, new)| old != new).count());
            for slot in 0..len {
                if next[slot] != last[slot] {
                    let (previous, since) = match firsts[slot] {
                        Some((previous, since)) if previous != NOBODY => (previous, since),
                        _ => (last[slot], at(step)),
                    };
                    let back = previous == next[slot];
                    firsts[slot] = Some(if back { (NOBODY, at(step)) } else { (previous, since) });
                }
                let half = slots.half(slot as u32, Class::Tcp).map(|half| (half.previous, half.since));
                assert_eq!(half, firsts[slot], "slot {slot} of {len}");
                assert_eq!(slots.at(slot as u32), next[slot]);
            }
            assert_eq!(changed.marked, firsts.iter().flatten().count());
            tables.push(next);
        }
        let survey = Survey::begin(&slots, at(2000));
        assert_eq!(slots.unmark(&survey), firsts.iter().flatten().count());
        assert!((0..len).all(|slot| slots.half(slot as u32, Class::Other).is_none()));
    }
}

#[test]
fn records_are_looked_at_where_a_policy_may_void_some_and_only_there() {
    let mut all = Vec::new();
    for on_down in [OnDown::Rehash, OnDown::Keep, OnDown::Reset] {
        for affinity in [Affinity::Flow, Affinity::Packet] {
            let idle = [10, 20].map(Duration::from_secs);
            all.extend(idle.map(|idle| Policy { on_down, affinity, tcp_idle: idle, other_idle: idle }));
        }
    }
    let seen = |protocol, generation| Seen {
        service: ServiceId(0),
        key: FlowKey::new(protocol, ([198, 51, 100, 7], 7).into(), ([10, 0, 0, 100], 80).into()),
        slot_hash: 0,
        endpoint: 0,
        generation,
        expires: at(9),
    };
    for (before, after) in all.iter().flat_map(|before| all.iter().map(move |after| (*before, *after))) {
        let mut endpoints = Endpoints::new(before);
        endpoints.join(0);
        let slots = Slots::new(&[0], &endpoints);
        let voided =
            [(TCP, 0), (TCP, 1), (UDP, 0), (UDP, 1)].map(|(of, generation)| slots.voids(&seen(of, generation), &after));
        assert_eq!(slots.voids_some(&after), voided.contains(&true), "{before:?} to {after:?}: {voided:?}");
    }
}

#[test]
fn a_hash_picks_the_slot_that_maglev_picks() {
    let slots = Slots::new(&[0; 65_537], &endpoints(1));
    for (hash, slot) in [(0, 0), (u64::MAX, 65_536), (1 << 63, 32_768), (u64::from(u32::MAX), 0)] {
        assert_eq!(slots.slot(FlowHash(hash)), slot);
    }
    assert_eq!(Slots::new(&[], &endpoints(0)).slot(FlowHash(u64::MAX)), 0);
}

#[test]
fn an_empty_table_names_nobody() {
    let slots = Slots::new(&[], &endpoints(0));
    assert_eq!((slots.at(0), slots.half(0, Class::Tcp)), (NOBODY, None));
}

#[test]
fn who_has_business_with_a_table_is_named_until_it_is_unmarked() {
    let endpoints = endpoints(2);
    let mut slots = Slots::new(&[0, 0], &endpoints);
    slots.change(&[0, 1], &endpoints, at(0));
    slots.change(&[1, 1], &endpoints, at(1));
    assert!(slots.names(0) && slots.names(1));
    let survey = Survey::begin(&slots, at(903));
    assert_eq!(slots.unmark(&survey), 1, "the second slot moved a second later");
    assert!(slots.names(0));
    let survey = Survey::begin(&slots, at(904));
    assert_eq!(slots.unmark(&survey), 1);
    assert!(!slots.names(0));
}
