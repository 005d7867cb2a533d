//! Engine: one slot that moves from A to B, and what each packet then gets.

use super::super::endpoints::{Endpoints, Policy};
use super::super::key::UDP;
use super::super::slots::Survey;
use super::*;
use crate::base::HashKey;

const A: u16 = 0;
const B: u16 = 1;
const C: u16 = 2;
const SERVICE: ServiceId = ServiceId(3);
const ISN: u32 = u32::MAX - 10; // sequence numbers wrap where it hurts
/// A moment after the client's repeated SYNs, and one after `until`.
const LATER: u64 = 11;
const AFTER: u64 = 902;

fn at(seconds: u64) -> Moment {
    Moment::from_millis(1_000_000 + seconds * 1000)
}

const fn syn(seq: u32) -> Kind {
    Kind::Syn { seq }
}

const fn data(seq: u32) -> Kind {
    Kind::TcpData { seq, ack: 0 }
}

struct World {
    endpoints: Endpoints,
    slots: Slots,
    records: Records,
}

impl World {
    fn new(policy: Policy, records: usize) -> World {
        let mut endpoints = Endpoints::new(policy);
        (0..3).for_each(|identity| assert_eq!(endpoints.join(identity).map(u64::from), Some(identity)));
        let slots = Slots::new(&[A], &endpoints);
        World { endpoints, slots, records: Records::new(records, HashKey::new([1; 16])) }
    }

    fn with(on_down: OnDown) -> World {
        World::new(Policy { on_down, ..Policy::default() }, 64)
    }

    /// A has drained away: its slot is B's since second 0.
    fn moved() -> World {
        let mut world = World::with(OnDown::Rehash);
        world.change(B, 0);
        world
    }

    fn change(&mut self, endpoint: u16, seconds: u64) {
        self.slots.change(&[endpoint], &self.endpoints, at(seconds));
    }

    fn decide(&mut self, policy: Policy, seconds: u64) {
        self.records.forget(|seen| self.slots.voids(seen, &policy));
        self.endpoints.set_policy(policy);
        self.change(self.slots.at(0), seconds);
    }

    fn send(&self, protocol: u8, port: u16, kind: Kind, seconds: u64) -> Decision {
        let key = FlowKey::new(protocol, ([198, 51, 100, 7], port).into(), ([10, 0, 0, 100], 80).into());
        let packet = Packet { hash: FlowHash(u64::from(port) << 40), key: &key, kind };
        steer(&self.slots, &self.records, SERVICE, &packet, at(seconds))
    }

    fn tcp(&self, kind: Kind, seconds: u64) -> Decision {
        self.send(TCP, 4242, kind, seconds)
    }

    fn survey(&self, seconds: u64) -> Survey {
        let mut survey = Survey::begin(&self.slots, at(seconds));
        let mut cursor = super::super::Cursor::default();
        while !self.records.sweep(&mut cursor, at(seconds), |seen| survey.see(&self.slots, seen)) {}
        survey
    }
}

fn to(endpoint: u16, why: Why) -> Decision {
    Decision::Forward { endpoint, why }
}

#[test]
fn an_unmarked_slot_forwards_by_hash_and_leaves_nothing() {
    let world = World::with(OnDown::Rehash);
    for port in 0..1000 {
        assert_eq!(world.send(TCP, port, syn(u32::from(port)), 0), to(A, Why::Slot));
        assert_eq!(world.send(UDP, port, Kind::Other, 0), to(A, Why::Slot));
    }
    assert_eq!(world.records.fill().records, 0);
}

/// Packets of one flow, each with its second and what it gets.
type Story = &'static [(u64, Kind, u16, Why)];

const STORIES: &[(&str, Story)] = &[
    ("an established flow stays", &[(0, data(7), A, Why::Previous), (1, data(8), A, Why::Recorded)]),
    ("silent until the very end, too", &[(900, data(7), A, Why::Previous), (1799, data(8), A, Why::Recorded)]),
    ("silent beyond it, it follows the slot", &[(901, data(7), B, Why::Settled), (902, data(8), B, Why::Settled)]),
    (
        "a new flow opens on the new endpoint at once",
        &[(0, syn(ISN), B, Why::Opened), (0, data(ISN + 1), B, Why::Recorded), (13, data(9), B, Why::Recorded)],
    ),
    (
        "and later",
        &[(LATER, syn(ISN), B, Why::Opened), (12, data(ISN + 1), B, Why::Recorded), (13, data(9), B, Why::Recorded)],
    ),
    (
        "the first data may come before what was sent before it",
        &[(LATER, syn(ISN), B, Why::Opened), (12, data(ISN.wrapping_add(1 + 65_535)), B, Why::Recorded)],
    ),
    (
        "a forged SYN moves no flow",
        &[(LATER, syn(ISN), B, Why::Opened), (12, data(90_000), A, Why::Previous), (13, data(1), A, Why::Recorded)],
    ),
    ("nor just before the forged number", &[(LATER, syn(ISN), B, Why::Opened), (12, data(ISN), A, Why::Previous)]),
    (
        "nor once the flow has spoken",
        &[(1, data(5), A, Why::Previous), (LATER, syn(ISN), A, Why::Recorded), (12, data(ISN + 1), A, Why::Recorded)],
    ),
    (
        "a late one of its own goes where it goes",
        &[(1, data(5), A, Why::Previous), (LATER, syn(4), A, Why::Recorded), (12, data(6), A, Why::Recorded)],
    ),
    (
        "another SYN is another attempt: the newest counts",
        &[(LATER, syn(77), B, Why::Opened), (12, syn(ISN), B, Why::Opened), (12, data(ISN + 1), B, Why::Recorded)],
    ),
    (
        "an unproven flow is forgotten after a minute",
        &[(LATER, syn(ISN), B, Why::Opened), (72, data(ISN + 1), A, Why::Previous)],
    ),
    (
        "an answer to a challenge goes where the SYN went, and any other reset where older flows are",
        &[
            (LATER, syn(ISN), B, Why::Opened),
            (12, Kind::Rst { seq: 90_000, bare: true }, B, Why::Recorded),
            (12, Kind::Rst { seq: 90_000, bare: false }, A, Why::Previous),
            (12, syn(ISN), B, Why::Recorded),
            (13, data(ISN + 1), B, Why::Recorded),
        ],
    ),
    (
        "a reset leaves nothing",
        &[(1, Kind::Rst { seq: 5, bare: false }, A, Why::Previous), (901, data(6), B, Why::Settled)],
    ),
    (
        "errors go where the flow goes, and leave nothing",
        &[(LATER, Kind::About, A, Why::Previous), (12, syn(1), B, Why::Opened), (13, Kind::About, B, Why::Recorded)],
    ),
    (
        "a closed flow is forgotten sooner",
        &[
            (1, data(100), A, Why::Previous),
            (2, Kind::Fin { seq: 150, ack: 0 }, A, Why::Recorded),
            (3, data(151), A, Why::Recorded),
            (124, syn(ISN), B, Why::Opened),
        ],
    ),
    (
        "a blind FIN or RST closes none",
        &[
            (1, data(100), A, Why::Previous),
            (2, Kind::Fin { seq: 99, ack: 0 }, A, Why::Recorded),
            (2, Kind::Rst { seq: 70_000, bare: false }, A, Why::Recorded),
            (130, syn(ISN), A, Why::Recorded),
        ],
    ),
    (
        "one that hits the window is outlived",
        &[
            (1, data(100), A, Why::Previous),
            (2, Kind::Rst { seq: 200, bare: false }, A, Why::Recorded),
            (3, data(90_000), A, Why::Recorded),
            (902, data(90_001), A, Why::Recorded),
        ],
    ),
    (
        "ports are used again where the record is",
        &[
            (1, data(100), A, Why::Previous),
            (2, Kind::Fin { seq: 150, ack: 0 }, A, Why::Recorded),
            (121, syn(ISN), A, Why::Recorded),
            (123, data(ISN + 1), A, Why::Recorded),
            (900, data(ISN + 2), A, Why::Recorded),
        ],
    ),
    (
        "after until nobody new is recorded",
        &[(AFTER, syn(ISN), B, Why::Settled), (AFTER, data(ISN + 1), B, Why::Settled)],
    ),
    (
        "but for the second in which a worker's clock may be behind",
        &[(901, syn(ISN), B, Why::Opened), (900, data(ISN + 1), B, Why::Recorded)],
    ),
];

#[test]
fn packets_in_a_marked_slot_go_where_their_flow_is() {
    for (name, story) in STORIES {
        let world = World::moved();
        for &(seconds, kind, endpoint, why) in *story {
            assert_eq!(world.tcp(kind, seconds), to(endpoint, why), "{name}: {kind:?} at {seconds} s");
        }
    }
}

#[test]
fn a_handshake_begun_before_ends_where_it_began() {
    let mut world = World::with(OnDown::Rehash);
    assert_eq!(world.tcp(syn(ISN), 0), to(A, Why::Slot));
    world.change(B, 2);
    assert_eq!(world.tcp(syn(ISN + 1), 3), to(B, Why::Opened), "another attempt, or a forged one");
    for (seconds, kind, why) in
        [(3, syn(ISN), Why::Repeated), (7, syn(ISN), Why::Recorded), (8, data(ISN + 1), Why::Recorded)]
    {
        assert_eq!(world.tcp(kind, seconds), to(A, why), "{kind:?} at {seconds} s");
    }
    // In a slot whose flows are all on one endpoint it is remembered too.
    world.change(A, 20);
    assert_eq!(world.send(TCP, 1, syn(7), 21), to(A, Why::Settled));
    world.change(C, 22);
    assert_eq!(world.send(TCP, 1, syn(7), 24), to(A, Why::Repeated));
    assert_eq!(world.send(TCP, 2, syn(7), 24), to(C, Why::Opened));
}

#[test]
fn other_protocols_follow_for_half_a_minute_and_their_records_as_long_as_they_speak() {
    let world = World::moved();
    for seconds in [1, 30, 60, 90] {
        let why = if seconds == 1 { Why::Previous } else { Why::Recorded };
        assert_eq!(world.send(UDP, 1, Kind::Other, seconds), to(A, why));
    }
    assert_eq!(world.send(UDP, 1, Kind::Other, 121), to(B, Why::Settled), "silent for 31 s");
    assert_eq!(world.send(UDP, 2, Kind::Other, 31), to(B, Why::Settled));
}

#[test]
fn packets_that_stand_alone_never_follow() {
    let mut world = World::new(Policy { affinity: Affinity::Packet, ..Policy::default() }, 64);
    world.change(B, 0);
    assert_eq!(world.send(UDP, 1, Kind::Other, 0), to(B, Why::Slot));
    assert_eq!(world.tcp(data(1), 0), to(A, Why::Previous), "TCP has flows all the same");
}

#[test]
fn a_second_move_in_time_leaves_every_flow_where_it_is() {
    let mut world = World::moved();
    assert_eq!(world.send(TCP, 1, syn(1), 20), to(B, Why::Opened));
    assert_eq!(world.send(TCP, 2, syn(1), 20), to(B, Why::Opened));
    assert_eq!(world.send(TCP, 2, data(2), 20), to(B, Why::Recorded));
    world.change(C, 21);
    assert_eq!(world.send(TCP, 1, data(2), 22), to(B, Why::Recorded), "its handshake was under way");
    assert_eq!(world.send(TCP, 2, data(3), 22), to(B, Why::Recorded));
    assert_eq!(world.send(TCP, 3, data(3), 22), to(A, Why::Previous), "unrecorded flows are still on the first");
    assert_eq!(world.send(TCP, 4, syn(3), 22), to(C, Why::Opened));
    assert_eq!(world.send(TCP, 5, data(3), 901), to(C, Why::Settled), "the time runs from the first move");
}

#[test]
fn a_move_after_the_time_begins_anew() {
    let mut world = World::moved();
    assert_eq!(world.send(TCP, 1, data(1), 800), to(A, Why::Previous));
    assert_eq!(world.send(TCP, 2, syn(1), AFTER), to(B, Why::Settled), "unrecorded, on B");
    world.change(C, 910);
    assert_eq!(world.send(TCP, 2, data(2), 1800), to(B, Why::Previous));
    assert_eq!(world.send(TCP, 1, data(2), 1699), to(A, Why::Recorded), "an old record still wins");
    assert_eq!(world.send(UDP, 1, Kind::Other, 935), to(B, Why::Previous), "other protocols have their own time");
}

#[test]
fn other_protocols_begin_anew_while_tcp_still_waits() {
    let mut world = World::moved();
    world.change(C, 100);
    assert_eq!(world.send(UDP, 1, Kind::Other, 101), to(B, Why::Previous));
    assert_eq!(world.send(TCP, 1, data(1), 101), to(A, Why::Previous));
}

#[test]
fn a_slot_that_moved_back_and_on_keeps_who_came_in_between() {
    let mut world = World::moved();
    assert_eq!(world.send(TCP, 1, syn(1), 20), to(B, Why::Opened));
    assert_eq!(world.send(TCP, 1, data(2), 20), to(B, Why::Recorded));
    world.change(A, 30);
    assert_eq!(world.send(TCP, 1, data(3), 31), to(B, Why::Recorded));
    assert_eq!(world.send(TCP, 2, syn(1), 32), to(A, Why::Settled), "no flow without record is elsewhere");
    world.change(C, 800);
    assert_eq!(
        world.send(TCP, 2, data(2), 1000),
        to(A, Why::Previous),
        "idle for 968 s of the first mark, 200 of this"
    );
    assert_eq!(world.send(TCP, 1, data(4), 900), to(B, Why::Recorded));
}

#[test]
fn a_dead_endpoint_leaves_its_slots_and_others_marks_stay() {
    let mut world = World::moved();
    assert_eq!(world.send(TCP, 1, syn(1), 20), to(B, Why::Opened));
    assert_eq!(world.send(TCP, 1, data(2), 20), to(B, Why::Recorded));
    assert_eq!(world.send(TCP, 2, data(2), 20), to(A, Why::Previous));
    world.endpoints.died(B);
    world.change(C, 21);
    assert_eq!(world.send(TCP, 3, data(1), 22), to(A, Why::Previous), "A's flows are still on A");
    assert_eq!(world.send(TCP, 1, syn(9), 22), to(C, Why::Opened), "a record of the dead is none");
    world.endpoints.died(A);
    world.change(C, 23);
    assert_eq!(world.send(TCP, 2, data(3), 24), to(C, Why::Settled));
    assert_eq!(world.send(TCP, 4, data(3), 24), to(C, Why::Settled));
    world.endpoints.returned(A);
    world.change(A, 25);
    assert_eq!(world.send(TCP, 1, data(10), 26), to(C, Why::Recorded));
    assert_eq!(world.send(TCP, 4, data(4), 26), to(C, Why::Previous), "it came to C unrecorded");
}

#[test]
fn an_endpoint_that_returns_or_an_index_used_again_is_another_endpoint() {
    for removed in [false, true] {
        let mut world = World::moved();
        assert_eq!(world.tcp(data(1), 1), to(A, Why::Previous));
        if removed {
            world.endpoints.remove(0);
        } else {
            world.endpoints.died(A);
            world.endpoints.returned(A);
        }
        world.change(B, 2);
        assert_eq!(world.tcp(data(2), 3), to(B, Why::Settled), "removed: {removed}");
    }
}

#[test]
fn kept_flows_stay_on_an_endpoint_that_is_down_and_new_ones_leave_it_at_once() {
    let mut world = World::with(OnDown::Keep);
    world.endpoints.died(A);
    world.change(B, 0);
    assert_eq!(world.send(TCP, 1, data(1), 1), to(A, Why::Previous));
    assert_eq!(world.send(TCP, 1, data(2), 2), to(A, Why::Recorded));
    assert_eq!(world.send(TCP, 1, syn(9), 3), to(B, Why::Opened), "who connects again gets an endpoint that lives");
    assert_eq!(world.send(TCP, 2, syn(9), 0), to(B, Why::Opened));
    assert_eq!(world.send(UDP, 1, Kind::Other, 1), to(B, Why::Settled), "UDP is never kept");
    world.endpoints.returned(A);
    world.change(A, 60);
    assert_eq!(world.send(TCP, 3, data(5), 61), to(A, Why::Settled));
    assert_eq!(world.send(TCP, 2, data(10), 59), to(B, Why::Recorded));
}

#[test]
fn udp_leaves_a_kept_endpoint_that_dies_while_it_drains() {
    let mut world = World::with(OnDown::Keep);
    world.change(B, 0);
    assert_eq!(world.send(UDP, 1, Kind::Other, 1), to(A, Why::Previous));
    world.endpoints.died(A);
    world.change(B, 2);
    assert_eq!(world.send(UDP, 1, Kind::Other, 3), to(B, Why::Settled));
    assert_eq!(world.send(UDP, 2, Kind::Other, 3), to(B, Why::Settled));
}

#[test]
fn flows_of_the_dead_are_reset_where_the_operator_wants_it() {
    // Unrecorded: the whole slot was the dead one's.
    let mut world = World::with(OnDown::Reset);
    world.endpoints.died(A);
    world.change(B, 0);
    assert_eq!(world.send(TCP, 1, data(1), 1), Decision::Reset);
    assert_eq!(world.send(TCP, 1, Kind::Rst { seq: 2, bare: false }, 1), to(B, Why::Settled), "no RST for a RST");
    assert_eq!(world.send(TCP, 2, syn(1), 1), to(B, Why::Opened));
    assert_eq!(world.send(TCP, 2, data(2), 1), to(B, Why::Recorded));
    assert_eq!(world.send(TCP, 1, Kind::About, 1), to(B, Why::Settled));
    assert_eq!(world.send(TCP, 3, data(1), 901), to(B, Why::Settled));
    assert_eq!(world.send(UDP, 1, Kind::Other, 1), to(B, Why::Settled));
    // Recorded: the dead one drained before.
    let mut world = World::with(OnDown::Reset);
    world.change(B, 0);
    assert_eq!(world.send(TCP, 1, data(1), 1), to(A, Why::Previous));
    world.endpoints.died(A);
    world.change(B, 2);
    for _ in 0..2 {
        assert_eq!(world.send(TCP, 1, data(2), 3), Decision::Reset);
    }
    assert_eq!(world.send(TCP, 2, data(2), 3), Decision::Reset);
    assert_eq!(world.send(TCP, 1, syn(5), 4), to(B, Why::Opened));
    assert_eq!(world.send(TCP, 1, data(6), 4), to(B, Why::Recorded));
}

#[test]
fn without_an_endpoint_a_packet_has_nowhere_to_go_but_old_flows_do() {
    let mut world = World::moved();
    world.slots.change(&[], &world.endpoints, at(20));
    assert_eq!(world.send(TCP, 1, data(1), 21), to(A, Why::Previous));
    assert_eq!(world.send(TCP, 2, syn(1), 21), Decision::NoEndpoint);
    assert_eq!(world.send(TCP, 2, data(1), AFTER), Decision::NoEndpoint);
    world.change(C, 903);
    assert_eq!(world.send(TCP, 3, syn(1), 904), to(C, Why::Settled));
}

#[test]
fn a_flood_of_syns_leaves_room_for_what_is_proven() {
    let world = World::new(Policy::default(), 64);
    let mut world = World { records: Records::new(64, HashKey::new([2; 16])), ..world };
    world.change(B, 0);
    let full = (0..1000).filter(|&port| world.send(TCP, port, syn(1), 20) == to(A, Why::RecordsFull)).count();
    assert_eq!(full, 1000 - 32);
    assert_eq!(world.records.fill().unproven, 32);
    for port in 2000..2032 {
        assert_eq!(world.send(TCP, port, data(1), 21), to(A, Why::Previous));
    }
    assert_eq!(world.send(TCP, 3000, data(1), 21), to(A, Why::RecordsFull), "now it is full indeed");
    for port in 2000..2032 {
        assert_eq!(world.send(TCP, port, data(2), 22), to(A, Why::Recorded), "nothing is ever evicted");
    }
    assert_eq!(world.send(TCP, 3000, data(2), 81), to(A, Why::Previous), "unproven ones make room when they expire");
}

#[test]
fn a_slot_is_unmarked_when_the_last_flow_elsewhere_is_gone() {
    let mut world = World::moved();
    assert_eq!(world.send(TCP, 1, data(1), 890), to(A, Why::Previous));
    assert_eq!(world.send(TCP, 2, syn(1), 890), to(B, Why::Opened));
    assert_eq!(world.send(TCP, 2, data(2), 890), to(B, Why::Recorded));
    for (seconds, unmarked) in [(100, 0), (902, 0), (910, 0), (1790, 0), (1791, 1)] {
        let survey = world.survey(seconds);
        assert_eq!(world.slots.unmark(&survey), unmarked, "at {seconds} s");
    }
    assert_eq!(world.slots.marked(), 0);
    assert_eq!(world.send(TCP, 2, data(3), 1792), to(B, Why::Slot));
}

#[test]
fn a_round_that_began_before_a_change_decides_nothing_about_it() {
    let mut world = World::moved();
    let survey = world.survey(1000);
    world.change(C, 1001);
    assert_eq!(world.slots.unmark(&survey), 0);
    assert_eq!(world.send(TCP, 1, data(1), 1002), to(B, Why::Previous));
}

#[test]
fn records_of_services_do_not_meet() {
    let world = World::moved();
    let key = FlowKey::new(TCP, ([198, 51, 100, 7], 1).into(), ([10, 0, 0, 100], 80).into());
    let packet = |kind| Packet { hash: FlowHash(0), key: &key, kind };
    let send = |service, kind| steer(&world.slots, &world.records, ServiceId(service), &packet(kind), at(20));
    assert_eq!(send(1, syn(1)), to(B, Why::Opened));
    assert_eq!(send(2, data(2)), to(A, Why::Previous));
    assert_eq!(send(1, data(2)), to(B, Why::Recorded));
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let mut words: Vec<&str> = Why::ALL.iter().map(|why| why.word()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Why::ALL.len());
}

#[test]
fn a_forged_syn_whose_endpoint_dies_resets_no_flow() {
    let mut world = World::with(OnDown::Reset);
    world.change(B, 0);
    assert_eq!(world.send(TCP, 1, syn(ISN), 20), to(B, Why::Opened));
    assert_eq!(world.send(TCP, 2, syn(ISN), 20), to(B, Why::Opened));
    world.endpoints.died(B);
    world.change(C, 21);
    assert_eq!(world.send(TCP, 1, data(90_000), 22), to(A, Why::Previous));
    assert_eq!(world.send(TCP, 2, data(ISN + 1), 22), Decision::Reset, "while its own connection is dead indeed");
}

#[test]
fn an_index_used_again_is_another_endpoint() {
    let mut world = World::moved();
    assert_eq!(world.tcp(data(1), 1), to(A, Why::Previous));
    world.endpoints.remove(0);
    let reused = (10..).map(|identity| world.endpoints.join(identity)).find(|index| *index == Some(A));
    assert_eq!(reused, Some(Some(A)));
    world.change(A, 2);
    assert_eq!(world.tcp(data(2), 3), to(B, Why::Previous), "the old record is none");
    assert_eq!(world.send(TCP, 2, syn(5), LATER + 2), to(A, Why::Opened), "the newcomer has the slot");
}

#[test]
fn ports_used_again_after_a_death_are_not_the_dead_ones() {
    for on_down in [OnDown::Rehash, OnDown::Reset] {
        let mut world = World::with(on_down);
        world.change(B, 0);
        assert_eq!(world.tcp(data(1), 890), to(A, Why::Previous));
        world.endpoints.died(A);
        world.change(B, 891);
        // The mark ends, but for the record's sake.
        let survey = world.survey(910);
        assert_eq!(world.slots.unmark(&survey), usize::from(on_down == OnDown::Rehash));
        let why = if on_down == OnDown::Rehash { Why::Slot } else { Why::Settled };
        assert_eq!(world.tcp(syn(5), 911), to(B, why), "a new flow of the same ports");
        world.change(C, 920);
        assert_eq!(world.tcp(data(6), 921), to(B, Why::Previous), "{on_down:?}");
    }
}

#[test]
fn an_operator_may_set_how_long_a_flow_may_be_silent() {
    let (tcp_idle, other_idle) = (Duration::from_secs(60), Duration::from_secs(5));
    let mut world = World::new(Policy { tcp_idle, other_idle, ..Policy::default() }, 64);
    world.change(B, 0);
    assert_eq!(world.send(UDP, 1, Kind::Other, 5), to(A, Why::Previous));
    assert_eq!(world.send(UDP, 1, Kind::Other, 10), to(A, Why::Recorded));
    assert_eq!(world.send(UDP, 1, Kind::Other, 16), to(B, Why::Settled));
    assert_eq!(world.send(TCP, 1, data(1), 60), to(A, Why::Previous));
    assert_eq!(world.send(TCP, 1, Kind::Fin { seq: 2, ack: 0 }, 120), to(A, Why::Recorded));
    assert_eq!(world.send(TCP, 1, data(3), 181), to(B, Why::Settled));
    let survey = world.survey(190);
    assert_eq!(world.slots.unmark(&survey), 1);
}

fn idle(seconds: u64) -> Policy {
    Policy { tcp_idle: Duration::from_secs(seconds), ..Policy::default() }
}

#[test]
fn a_longer_idle_time_does_not_open_a_mark_again_that_newer_flows_have_seen_closed() {
    let mut world = World::new(idle(60), 64);
    world.change(B, 0);
    assert_eq!(world.tcp(data(5), 50), to(A, Why::Previous), "an older flow");
    assert_eq!(world.send(TCP, 7, syn(1), 100), to(B, Why::Settled), "one that begins when no older one is left");
    world.decide(idle(900), 101);
    assert_eq!(world.send(TCP, 7, data(2), 102), to(B, Why::Settled));
    // What is recorded has the longer time from its next packet on.
    assert_eq!(world.tcp(data(6), 105), to(A, Why::Recorded));
    assert_eq!(world.tcp(data(6), 1005), to(A, Why::Recorded));
}

#[test]
fn a_shorter_idle_time_neither_ends_a_mark_nor_what_is_recorded_beside_it() {
    let mut world = World::moved();
    assert_eq!(world.send(TCP, 7, syn(1), 20), to(B, Why::Opened));
    assert_eq!(world.send(TCP, 7, data(2), 21), to(B, Why::Recorded));
    world.decide(idle(60), 30);
    assert_eq!(world.send(TCP, 7, data(3), 40), to(B, Why::Recorded));
    assert_eq!(world.tcp(data(5), 200), to(A, Why::Previous), "the mark has the time that it began with");
    // Were its record over before the mark is, it would go to A.
    assert_eq!(world.send(TCP, 7, data(4), 850), to(B, Why::Recorded));
    world.change(C, 1900);
    assert_eq!(world.send(TCP, 9, data(3), 1959), to(B, Why::Previous), "a mark of now has the time of now");
    assert_eq!(world.send(TCP, 8, data(3), 1961), to(C, Why::Settled));
}

#[test]
fn flows_that_were_kept_for_an_endpoint_that_is_down_end_when_they_are_kept_no_more() {
    for (on_down, after) in
        [(OnDown::Keep, to(A, Why::Recorded)), (OnDown::Rehash, to(B, Why::Settled)), (OnDown::Reset, Decision::Reset)]
    {
        let mut world = World::with(OnDown::Keep);
        world.endpoints.died(A);
        world.change(B, 0);
        assert_eq!(world.tcp(data(5), 1), to(A, Why::Previous));
        world.decide(Policy { on_down, ..Policy::default() }, 2);
        assert_eq!(world.tcp(data(6), 3), after, "{on_down:?}");
    }
}

#[test]
fn whoever_died_before_is_not_told_of_by_a_reset_that_is_asked_for_later() {
    let mut world = World::moved();
    assert_eq!(world.tcp(data(5), 1), to(A, Why::Previous));
    world.endpoints.died(A);
    world.change(B, 2);
    // All older flows of the slot ended. The ports are B's now, and B's slot is left to it.
    assert_eq!(world.slots.unmark(&world.survey(10)), 1);
    assert_eq!(world.tcp(syn(900), 11), to(B, Why::Slot));
    world.decide(Policy { on_down: OnDown::Reset, ..Policy::default() }, 12);
    world.change(C, 13);
    assert_eq!(world.tcp(data(901), 14), to(B, Why::Previous));
}

#[test]
fn packets_that_stood_alone_are_flows_where_they_are_when_that_ends() {
    let alone = Policy { affinity: Affinity::Packet, ..Policy::default() };
    let mut world = World::moved();
    let say = |world: &World, seconds| world.send(UDP, 53, Kind::Other, seconds);
    assert_eq!(say(&world, 1), to(A, Why::Previous));
    world.decide(alone, 2);
    assert_eq!(say(&world, 3), to(B, Why::Slot));
    world.decide(Policy::default(), 4);
    assert_eq!(say(&world, 5), to(B, Why::Settled), "neither the record nor the mark is of what is there now");
    world.change(C, 6);
    assert_eq!(say(&world, 7), to(B, Why::Previous));
}
