//! Engine: bindings, their ways back and their ports.

use super::super::key::UDP;
use super::*;

const S: ServiceId = ServiceId(1);
const KEY: HashKey = HashKey::new([8; 16]);

fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

fn nat(capacity: usize, ports: u16) -> Nat {
    Nat::new(capacity, &ours(), &(2000..=1999 + ports), KEY)
}

fn ours() -> [IpAddr; 2] {
    [[10, 0, 0, 2].into(), [0xfd; 16].into()]
}

fn client(protocol: u8, port: u16) -> FlowKey {
    FlowKey::new(protocol, ([198, 51, 100, 7], port).into(), ([10, 0, 0, 100], 80).into())
}

fn target(last: u8) -> Target {
    let address = ([10, 0, 1, last], 8080).into();
    Target { endpoint: u16::from(last), generation: 0, address, idle: limits::TCP_IDLE }
}

const fn syn(seq: u32) -> Kind {
    Kind::Syn { seq }
}

/// A segment of either side, and as the client's an answer to one of the endpoint's at 5 or not much before.
const fn data(seq: u32) -> Kind {
    Kind::TcpData { seq, ack: 6 }
}

const fn fin(seq: u32) -> Kind {
    Kind::Fin { seq, ack: 6 }
}

/// What who forges packets makes up, for it sees no answer.
const fn blind(seq: u32) -> Kind {
    Kind::TcpData { seq, ack: 1 << 20 }
}

const RST: Kind = Kind::Rst { seq: 0, bare: false };

/// A client of TCP whose SYN was 1, and its endpoint, until both have proven that they are there.
fn establish(nat: &Nat, inside: &FlowKey, seconds: u64) -> Result<Binding, Refused> {
    let binding = nat.bind_full(S, inside, syn(1), &target(1), &ours(), at(seconds))?;
    nat.reply(&binding.outside.reversed(), data(5), at(seconds));
    nat.forward(S, inside, data(2), at(seconds));
    Ok(binding)
}

fn sweep(nat: &Nat, seconds: u64) {
    let mut cursor = Cursor::default();
    while !nat.sweep(&mut cursor, at(seconds)) {}
}

#[test]
fn both_directions_find_the_flow_and_nobody_else_does() {
    let nat = nat(64, 10);
    for protocol in [TCP, UDP] {
        let (inside, kind) = (client(protocol, 4242), if protocol == TCP { syn(1) } else { Kind::Other });
        assert_eq!(nat.forward(S, &inside, kind, at(0)), None);
        let binding = nat.bind_full(S, &inside, kind, &target(1), &ours(), at(0)).unwrap();
        assert_eq!(binding.outside.source().ip(), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(binding.outside.destination(), target(1).address);
        assert_eq!(nat.forward(S, &inside, Kind::About, at(0)), Some(binding));
        assert_eq!(nat.forward(ServiceId(2), &inside, Kind::About, at(0)), None, "another service's");
        assert_eq!(nat.reply(&binding.outside.reversed(), Kind::About, at(0)), Some(binding));
        assert_eq!(nat.reply(&binding.outside, Kind::About, at(0)), None, "not from there");
        let stranger = FlowKey::new(protocol, ([10, 0, 1, 2], 8080).into(), binding.outside.source());
        assert_eq!(nat.reply(&stranger, Kind::About, at(0)), None, "an endpoint that was not asked");
    }
}

#[test]
fn a_flow_under_the_clients_own_address_keeps_its_ports_and_none_looks_like_another() {
    let nat = nat(64, 10);
    let inside = client(TCP, 4242);
    let binding = nat.bind_plain(S, &inside, data(1), &target(1), at(0)).unwrap();
    assert_eq!((binding.outside.source(), nat.fill().ports_left), (inside.source(), 40));
    assert_eq!(nat.reply(&binding.outside.reversed(), data(9), at(1)), Some(binding));
    let other_vip = FlowKey::new(TCP, inside.source(), ([10, 0, 0, 101], 80).into());
    assert_eq!(nat.bind_plain(S, &other_vip, syn(1), &target(1), at(1)), Err(Refused::Collision));
    assert_eq!(nat.fill().flows, 1, "what was refused leaves nothing");
    assert!(nat.bind_plain(S, &other_vip, syn(1), &target(2), at(1)).is_ok());
}

#[test]
fn ports_come_back_with_their_flows_and_are_named_when_there_is_none() {
    let nat = nat(256, 4);
    let bind = |port, seconds| nat.bind_full(S, &client(TCP, port), syn(1), &target(1), &ours(), at(seconds));
    let lent = |port| establish(&nat, &client(TCP, port), 0).unwrap().outside.source().port();
    let mut lent: Vec<u16> = (1..=4).map(lent).collect();
    lent.sort_unstable();
    assert_eq!(lent, [2000, 2001, 2002, 2003]);
    assert_eq!(bind(5, 0), Err(Refused::PortsExhausted));
    assert_eq!(bind(1, 0).map(|binding| binding.inside), Ok(client(TCP, 1)), "who has one keeps it");
    let idle = limits::TCP_IDLE.as_secs();
    sweep(&nat, idle);
    assert_eq!(nat.fill().flows, 4);
    sweep(&nat, idle + 1);
    assert_eq!(nat.fill().flows, 0);
    let late = at(idle + 2);
    let rest = |seconds| nat.ports_of(ours()[0], at(seconds)).unwrap()[0];
    assert_eq!([rest(idle + 2), rest(idle + 61)].map(|ports| (ports.lent, ports.free)), [(0, 0), (0, 4)], "they rest");
    assert!(bind(5, idle + 2).is_ok(), "and not if there is no other");
    assert_eq!(nat.bind_full(S, &client(TCP, 9), data(1), &target(1), &ours(), late), Err(Refused::NoFlow));
    let gre = nat.bind_full(S, &client(47, 0), Kind::Other, &target(1), &ours(), late);
    assert_eq!(gre, Err(Refused::PortsExhausted));
}

/// Who sends what when, and whether the flow is still known then.
type Story = &'static [(u64, Side, Kind, bool)];

const STORIES: &[(&str, Story)] = &[
    ("nobody answers", &[(20, Side::Client, syn(9), true), (41, Side::Client, syn(9), false)]),
    (
        "a handshake, and then long silences",
        &[
            (1, Side::Endpoint, data(5), true),
            (2, Side::Client, data(10), true),
            (902, Side::Client, data(11), true),
            (1802, Side::Endpoint, data(6), true),
            (2702, Side::Client, data(12), true),
            (3603, Side::Client, data(13), false),
        ],
    ),
    (
        "data that does not follow the SYN proves nothing",
        &[
            (1, Side::Endpoint, data(5), true),
            (2, Side::Client, data(90_000), true),
            (22, Side::Client, data(10), false),
        ],
    ),
    (
        "nor does data that answers nothing the endpoint said, whatever that was and however often",
        &[
            (1, Side::Client, blind(10), true),
            (1, Side::Endpoint, data(5), true),
            (2, Side::Client, blind(10), true),
            (3, Side::Client, Kind::Fin { seq: 10, ack: 1 << 20 }, true),
            (3, Side::Client, Kind::Rst { seq: 10, bare: true }, true),
            (3, Side::Endpoint, RST, true),
            (4, Side::Client, Kind::TcpData { seq: 10, ack: 1 }, true),
            (8, Side::Endpoint, data(5), true),
            (16, Side::Endpoint, data(5), true),
            (21, Side::Client, Kind::About, true),
            (22, Side::Client, data(10), false),
        ],
    ),
    (
        "an endpoint that challenges a SYN and answers the next one",
        &[
            (0, Side::Endpoint, data(70_000_000), true),
            (0, Side::Client, Kind::Rst { seq: 6, bare: true }, true),
            (1, Side::Client, syn(9), true),
            (1, Side::Endpoint, data(5), true),
            (1, Side::Client, data(10), true),
            (900, Side::Client, data(11), true),
        ],
    ),
    (
        "a download that begins before the client's first ACK (RFC 7413), and comes in another order",
        &[
            (1, Side::Endpoint, data(1466), true),
            (1, Side::Endpoint, data(5), true),
            (1, Side::Endpoint, data(30_000), true),
            (1, Side::Endpoint, data(60_000), true),
            (2, Side::Client, data(10), true),
            (3, Side::Endpoint, data(120_000), true),
            (900, Side::Client, Kind::TcpData { seq: 10, ack: 120_000 }, true),
        ],
    ),
    ("nor does data before the answer", &[(2, Side::Client, data(10), true), (21, Side::Client, data(10), false)]),
    (
        "closed, it is soon forgotten",
        &[
            (1, Side::Endpoint, data(5), true),
            (2, Side::Client, data(10), true),
            (3, Side::Endpoint, fin(6), true),
            (4, Side::Client, fin(10), true),
            (125, Side::Client, data(11), false),
        ],
    ),
    (
        "a blind RST or FIN closes nothing",
        &[
            (1, Side::Endpoint, data(5), true),
            (2, Side::Client, data(10), true),
            (3, Side::Client, Kind::Rst { seq: 100_000, bare: false }, true),
            (3, Side::Client, fin(9), true),
            (900, Side::Client, data(11), true),
        ],
    ),
    (
        "the same ports again, after the end",
        &[
            (1, Side::Endpoint, data(5), true),
            (2, Side::Client, fin(10), true),
            (122, Side::Client, syn(500_000), true),
            (123, Side::Endpoint, data(1), true),
            (124, Side::Client, data(500_001), true),
            (1000, Side::Client, data(500_002), true),
        ],
    ),
];

#[test]
fn a_flow_lives_as_long_as_its_packets_say() {
    for (name, story) in STORIES {
        let nat = nat(64, 10);
        let inside = client(TCP, 1);
        let binding = nat.bind_full(S, &inside, syn(9), &target(1), &ours(), at(0)).unwrap();
        for &(seconds, side, kind, known) in *story {
            let found = match side {
                Side::Client => nat.forward(S, &inside, kind, at(seconds)),
                Side::Endpoint => nat.reply(&binding.outside.reversed(), kind, at(seconds)),
            };
            assert_eq!(found.is_some(), known, "{name}: {kind:?} at {seconds} s");
        }
    }
}

/// Where the balancer starts anew amid connections that it records.
#[test]
fn a_connection_that_began_without_us_lives_once_its_endpoint_does_not_refuse_it() {
    for (name, answers, lives) in [
        ("it is refused", &[RST][..], false),
        ("nobody answers", &[], false),
        ("it takes data and has none", &[data(5)], true),
        ("it sends more than a window of what is not acknowledged yet", &[data(5), data(500_000), data(900_000)], true),
    ] {
        let nat = nat(64, 10);
        let inside = client(TCP, 1);
        let binding = nat.bind_plain(S, &inside, data(77), &target(1), at(0)).unwrap();
        for answer in answers {
            assert_eq!(nat.reply(&binding.outside.reversed(), *answer, at(1)), Some(binding), "{name}");
        }
        // It has nothing to say but that it hears.
        nat.forward(S, &inside, data(77), at(2));
        assert_eq!(nat.forward(S, &inside, data(77), at(600)).is_some(), lives, "{name}");
    }
}

#[test]
fn a_datagram_flow_is_proven_by_an_answer_and_an_answer_to_it() {
    let nat = nat(64, 64);
    let inside = client(UDP, 1);
    let short = Target { idle: Duration::from_secs(30), ..target(1) };
    let binding = nat.bind_full(S, &inside, Kind::Other, &short, &ours(), at(0)).unwrap();
    assert_eq!(nat.fill().unproven, 1);
    assert!(nat.reply(&binding.outside.reversed(), Kind::Other, at(1)).is_some());
    assert!(nat.forward(S, &inside, Kind::Other, at(2)).is_some());
    assert_eq!(nat.fill().unproven, 0);
    assert!(nat.forward(S, &inside, Kind::Other, at(32)).is_some());
    assert_eq!(nat.forward(S, &inside, Kind::Other, at(63)), None);
}

/// A flow of UDP whose client and endpoint have both spoken: two datagrams around an answer, forged or not.
fn exchange(nat: &Nat, port: u16, to: u8, now: Moment) -> Result<Binding, Refused> {
    let binding = nat.bind_full(S, &client(UDP, port), Kind::Other, &datagrams(to), &ours(), now)?;
    nat.reply(&binding.outside.reversed(), Kind::Other, now);
    nat.forward(S, &client(UDP, port), Kind::Other, now);
    Ok(binding)
}

fn datagrams(to: u8) -> Target {
    Target { idle: limits::FLOW_IDLE, ..target(to) }
}

#[test]
fn who_is_there_comes_through_a_flood_of_datagrams_that_are_answered() {
    // One address has ports for half of the flows that fit. Here those are 40 of each of 64 shards, which go round in 5 s.
    let nat = nat(4096, 2600);
    let mut millis = 0;
    let mut forged = |count| {
        for _ in 0..count {
            millis += 2;
            let (port, to) = (2000 + u16::try_from(millis % 60_000).unwrap(), u8::from(millis % 4 == 0));
            assert!(exchange(&nat, port, to, Moment::from_millis(millis)).is_ok(), "at {millis} ms");
        }
        Moment::from_millis(millis)
    };
    forged(5000);
    assert_eq!(nat.fill().flows, 2600);
    for port in 1..=100 {
        let bound = nat.bind_full(S, &client(UDP, port), Kind::Other, &datagrams(1), &ours(), forged(0));
        let binding = bound.unwrap_or_else(|why| panic!("client {port}: {why:?}"));
        // A round trip of the flood.
        assert_eq!(nat.reply(&binding.outside.reversed(), Kind::Other, forged(30)), Some(binding), "client {port}");
        assert_eq!(nat.forward(S, &binding.inside, Kind::Other, forged(30)), Some(binding), "client {port}");
        assert_eq!(nat.forward(S, &binding.inside, Kind::Other, forged(30)), Some(binding), "client {port}");
    }
    let over = forged(0) + limits::FLOW_IDLE;
    nat.shards.iter().for_each(|shard| shard.lock().check());
    let mut cursor = Cursor::default();
    while !nat.sweep(&mut cursor, over + Duration::from_secs(1)) {}
    let later = over + Duration::from_secs(2);
    assert!((1..=2600).all(|port| exchange(&nat, port, 1, later).is_ok()), "no port of a flood's rests for long");
}

#[test]
fn datagrams_that_are_answered_fill_the_table_for_nobody_else() {
    let nat = nat(64, 1000);
    let live = establish(&nat, &client(TCP, 1), 0).unwrap();
    for n in 0..2000_u16 {
        let now = Moment::from_millis(u64::from(n));
        let inside = client(UDP, 1000 + n);
        let binding = nat.bind_plain(S, &inside, Kind::Other, &datagrams(1), now).unwrap();
        nat.reply(&binding.outside.reversed(), Kind::Other, now);
        nat.forward(S, &inside, Kind::Other, now);
        if n % 100 == 99 {
            let inside = client(TCP, n);
            let binding = nat.bind_full(S, &inside, syn(1), &target(1), &ours(), now).unwrap();
            nat.reply(&binding.outside.reversed(), data(5), now);
        }
        if n >= 100 && n % 100 == 19 {
            assert!(nat.forward(S, &client(TCP, n - 20), data(2), now).is_some(), "twenty flows later");
        }
    }
    let fill = nat.fill();
    assert_eq!((fill.flows, fill.capacity), (64, 64));
    assert!(fill.evicted > 1900, "they are counted: {}", fill.evicted);
    assert!((199..1900).step_by(100).all(|port| nat.forward(S, &client(TCP, port), data(3), at(600)).is_some()));
    assert_eq!(nat.forward(S, &client(TCP, 1), data(11), at(600)), Some(live));
    nat.shards.iter().for_each(|shard| shard.lock().check());
}

#[test]
fn datagram_flows_in_a_quarter_of_the_room_stay_while_connections_come_and_go() {
    let nat = nat(64, 1000);
    let live: Vec<Binding> = (1..=15).map(|port| exchange(&nat, port, 1, at(0)).unwrap()).collect();
    for n in 0..2000_u16 {
        let (inside, now) = (client(TCP, 1000 + n), at(1) + Duration::from_millis(u64::from(n)));
        let binding = nat.bind_full(S, &inside, syn(1), &target(1), &ours(), now).unwrap();
        if n % 2 == 0 {
            nat.reply(&binding.outside.reversed(), data(5), now);
            nat.forward(S, &inside, data(2), now);
            nat.forward(S, &inside, fin(3), now);
        }
    }
    assert_eq!(nat.fill().flows, 64);
    assert!(live.iter().all(|live| nat.forward(S, &live.inside, Kind::Other, at(20)) == Some(*live)));
}

/// The endpoint may still answer the client that had the port.
#[test]
fn a_port_of_datagrams_goes_to_another_endpoint_at_once_and_to_the_same_one_after_a_while() {
    let nat = nat(64, 2);
    assert!((1..=2).all(|port| exchange(&nat, port, 1, at(0)).is_ok()));
    assert_eq!(exchange(&nat, 3, 1, at(0)), Err(Refused::PortsExhausted));
    let other = exchange(&nat, 4, 2, at(0)).unwrap();
    assert_eq!(exchange(&nat, 3, 1, at(0)), Err(Refused::PortsExhausted), "nor by way of the other one");
    assert_eq!(nat.fill().flows, 2);
    assert!(exchange(&nat, 5, 1, at(1)).is_ok());
    nat.unbind(S, &other.inside, at(1));
    assert_eq!(nat.ports_of(ours()[0], at(1)).unwrap()[1], PortUse { lent: 1, free: 0 });
    assert_eq!(exchange(&nat, 6, 1, at(1)), Err(Refused::PortsExhausted));
    assert_eq!(nat.ports_of(ours()[0], at(2)).unwrap()[1], PortUse { lent: 1, free: 1 });
    assert!((7..=8).all(|port| exchange(&nat, port, 1, at(2)).is_ok()));
}

#[test]
fn a_port_is_found_behind_any_number_of_older_flows_that_have_none_to_give() {
    let nat = nat(64, 4);
    for port in 1..=25 {
        nat.bind_plain(S, &client(UDP, port), Kind::Other, &target(1), at(0)).unwrap();
    }
    let bind = |port, seconds| nat.bind_full(S, &client(TCP, port), syn(1), &target(1), &ours(), at(seconds));
    let lent: Vec<Binding> = (1..=4).map(|port| bind(port, 1).unwrap()).collect();
    assert_eq!(bind(5, 2).map(|binding| binding.outside), Ok(lent[0].outside), "of who has been silent for longest");
    assert!((6..100).all(|port| bind(port, 2).is_ok()));
    nat.shards.iter().for_each(|shard| shard.lock().check());
}

#[test]
fn a_flood_takes_nothing_from_flows_that_live_and_has_a_part_of_the_room() {
    let nat = nat(64, 1000);
    let live = establish(&nat, &client(TCP, 1), 0).unwrap();
    let flood = |from: u16, seconds| {
        for port in from..from + 500 {
            let bound = nat.bind_full(S, &client(TCP, port), syn(1), &target(1), &ours(), at(seconds));
            nat.reply(&bound.unwrap().outside.reversed(), data(5), at(seconds));
            nat.forward(S, &client(TCP, port), blind(2), at(seconds));
        }
    };
    flood(1000, 1);
    let fill = nat.fill();
    assert_eq!((fill.flows, fill.unproven, fill.capacity, fill.unproven_capacity), (33, 32, 64, 32));
    assert_eq!((fill.ports_left, fill.evicted), (2000 * 2 - 33, 500 - 32), "who goes gives back its port");
    flood(2000, 22);
    assert_eq!(nat.fill().evicted, 500 - 32 + 500 - 32, "what has expired is not pushed out");
    assert_eq!(nat.forward(S, &client(TCP, 1), data(11), at(600)), Some(live));
}

#[test]
fn who_is_there_comes_through_a_flood_that_has_every_port_and_at_once_when_it_is_over() {
    // Some 30 flows of each of 64 shards may prove nothing; ports run out at 20 of each.
    let nat = nat(4096, 1300);
    let forged = |port: u16| {
        let bound = nat.bind_full(S, &client(TCP, port), syn(1), &target(1), &ours(), at(1));
        if let Ok(binding) = bound {
            nat.reply(&binding.outside.reversed(), data(5), at(1));
        }
        bound.is_ok()
    };
    assert_eq!((2000..12_000).filter(|port| !forged(*port)).count(), 0);
    assert_eq!(nat.fill().flows, 1300);
    let mut in_the_way = 20_000..60_000_u16;
    for port in 1..=200 {
        let inside = client(TCP, port);
        let binding = nat.bind_full(S, &inside, syn(1), &target(1), &ours(), at(2)).unwrap();
        // A round trip of the flood.
        (&mut in_the_way).take(100).for_each(|port| assert!(forged(port)));
        assert_eq!(nat.reply(&binding.outside.reversed(), data(5), at(2)), Some(binding), "client {port}");
        (&mut in_the_way).take(100).for_each(|port| assert!(forged(port)));
        assert_eq!(nat.forward(S, &inside, data(2), at(2)), Some(binding), "client {port}");
    }
    sweep(&nat, 30);
    assert_eq!((nat.fill().flows, nat.fill().unproven), (200, 0));
    assert!((201..=1300).all(|port| establish(&nat, &client(TCP, port), 30).is_ok()), "no port of a flood's rests");
    assert_eq!(establish(&nat, &client(TCP, 1999), 30), Err(Refused::PortsExhausted));
    assert!((1..=200).all(|port| nat.forward(S, &client(TCP, port), data(3), at(600)).is_some()));
}

/// One address would have ports for 500 connections a second, and this table room for 8, if each kept them for two minutes after its
/// end.
#[test]
fn connections_that_are_over_make_room_and_those_that_go_on_do_not() {
    for (capacity, ports) in [(1 << 16, 1000), (1024, 60_000)] {
        let nat = nat(capacity, ports);
        let lives: Vec<Binding> = (1..=100).map(|port| establish(&nat, &client(TCP, port), 0).unwrap()).collect();
        let half = establish(&nat, &client(TCP, 101), 0).unwrap();
        nat.forward(S, &half.inside, fin(2), at(0));
        for n in 0..10_000_u16 {
            let (inside, now) = (client(TCP, 1000 + n), Moment::from_millis(u64::from(n)));
            let bound = nat.bind_full(S, &inside, syn(1), &target(1), &ours(), now);
            let binding = bound.unwrap_or_else(|why| panic!("{capacity}: {n}: {why:?}"));
            nat.reply(&binding.outside.reversed(), data(5), now);
            nat.forward(S, &inside, data(2), now);
            nat.reply(&binding.outside.reversed(), fin(6), now);
            nat.forward(S, &inside, fin(3), now);
            // It has said all that it has to say and hears on.
            assert_eq!(nat.reply(&half.outside.reversed(), data(6), now), Some(half), "{capacity}: {n}");
        }
        assert!(lives.iter().all(|live| nat.forward(S, &live.inside, data(3), at(11)) == Some(*live)));
        let fill = nat.fill();
        assert_eq!((fill.unproven, fill.evicted), (0, 0), "{capacity}: that is no flood");
        nat.shards.iter().for_each(|shard| shard.lock().check());
    }
}

/// Who is far away takes long for its handshake; where connections end all the time that is no reason to go.
#[test]
fn a_handshake_under_way_stays_before_what_ended_earlier() {
    let nat = nat(1 << 16, 8000);
    // A port goes round in eight seconds.
    let mut slow = Vec::new();
    for n in 0..30_000_u16 {
        let (inside, now) = (client(TCP, 1000 + n), Moment::from_millis(u64::from(n)));
        let binding = nat.bind_full(S, &inside, syn(1), &target(1), &ours(), now).unwrap();
        nat.reply(&binding.outside.reversed(), data(5), now);
        if n % 10 == 0 {
            slow.push((binding, now + Duration::from_secs(3)));
            continue;
        }
        nat.forward(S, &inside, data(2), now);
        nat.reply(&binding.outside.reversed(), Kind::Rst { seq: 6, bare: false }, now);
        if slow.first().is_some_and(|(_, due)| *due <= now) {
            let (binding, _) = slow.remove(0);
            assert_eq!(nat.forward(S, &binding.inside, data(2), now), Some(binding), "{n}");
            nat.forward(S, &binding.inside, fin(2), now);
        }
    }
    assert_eq!(nat.fill().evicted, 0);
}

#[test]
fn who_speaks_is_not_the_oldest() {
    let nat = nat(64, 1000);
    let bind = |port| nat.bind_full(S, &client(UDP, port), Kind::Other, &target(1), &ours(), at(0)).unwrap();
    let (silent, one_way) = (bind(1), bind(2));
    // It logs to a server that says nothing.
    for (port, second) in (3..300).zip(1..) {
        let now = Moment::from_millis(second);
        assert_eq!(nat.forward(S, &client(UDP, 2), Kind::Other, now), Some(one_way));
        nat.bind_full(S, &client(UDP, port), Kind::Other, &target(1), &ours(), now).unwrap();
        nat.reply(&silent.outside.reversed(), Kind::About, now);
    }
    assert_eq!(nat.forward(S, &client(UDP, 1), Kind::About, at(1)), None);
}

#[test]
fn a_flow_whose_endpoint_is_gone_gets_another_port_at_another() {
    let nat = nat(64, 10);
    let inside = client(TCP, 1);
    let old = nat.bind_full(S, &inside, syn(1), &target(1), &ours(), at(0)).unwrap();
    nat.unbind(S, &inside, at(1));
    assert_eq!(nat.reply(&old.outside.reversed(), data(1), at(1)), None);
    let new = nat.bind_full(S, &inside, syn(2), &target(2), &ours(), at(1)).unwrap();
    assert_eq!(new.endpoint, 2);
    assert_ne!(new.outside.source(), old.outside.source());
}

#[test]
fn the_way_back_always_agrees_with_the_flows() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let nat = nat(100, 60);
        let mut model: std::collections::HashMap<u16, Binding> = std::collections::HashMap::new();
        let mut seconds = 0;
        for _ in 0..3000 {
            let port = rng.u16(1..150);
            let is_udp = port.is_multiple_of(3);
            let inside = client(if is_udp { UDP } else { TCP }, port);
            let say = |kind| if is_udp { Kind::Other } else { kind };
            match rng.u8(..10) {
                0..5 => {
                    let bound = nat.bind_full(S, &inside, say(syn(1)), &target(rng.u8(1..9)), &ours(), at(seconds));
                    if let Ok(binding) = bound {
                        let before = model.insert(port, binding).filter(|before| *before != binding);
                        if let Some(before) = before {
                            let stale = nat.reply(&before.outside.reversed(), Kind::About, at(seconds));
                            assert_ne!(stale, Some(before), "seed {seed}: at most it is another client's by now");
                        }
                        let back = nat.reply(&binding.outside.reversed(), Kind::About, at(seconds));
                        assert_eq!(back, Some(binding), "seed {seed}");
                    }
                }
                5 if rng.bool() => {
                    nat.unbind(S, &inside, at(seconds));
                    model.remove(&port);
                }
                5 => {
                    let binding = model.get(&port).and_then(|binding| {
                        let kind = say(if rng.bool() { data(5) } else { fin(5) });
                        nat.reply(&binding.outside.reversed(), kind, at(seconds))
                    });
                    let sent = [syn(1), syn(9), data(2), blind(2), fin(3), RST][rng.usize(..6)];
                    if binding.is_some_and(|binding| binding.inside == inside) {
                        nat.forward(S, &inside, say(sent), at(seconds));
                    }
                }
                6 => sweep(&nat, seconds),
                7 => seconds += rng.u64(..5),
                _ => {
                    let found = nat.forward(S, &inside, Kind::About, at(seconds));
                    assert!(found.is_none() || found.as_ref() == model.get(&port), "seed {seed}");
                }
            }
            nat.shards.iter().for_each(|shard| shard.lock().check());
            let fill = nat.fill();
            assert_eq!(fill.flows + fill.ports_left, 4 * 60, "seed {seed}: every port is lent to one flow or waits");
        }
    }
}

#[test]
fn a_service_that_is_forgotten_leaves_no_flow_no_way_back_and_no_port() {
    let few = nat(2048, 400);
    // More than one hold of its lock goes over.
    let shards = Box::new([CachePadded::new(Mutex::new(Shard::new(4 * limits::FLOW_SWEEP)))]);
    let back = Box::new([CachePadded::new(Mutex::new(Table::new(8 * limits::FLOW_SWEEP)))]);
    let one = Nat { shards, back, ..nat(64, 400) };
    [few, one].iter().for_each(forgets_one_of_two);
}

fn forgets_one_of_two(nat: &Nat) {
    let other = ServiceId(2);
    let flows: Vec<(ServiceId, Binding)> = (1..=600)
        .map(|port| {
            let service = if port % 2 == 0 { S } else { other };
            (service, nat.bind_full(service, &client(UDP, port), Kind::Other, &target(1), &ours(), at(0)))
        })
        .filter_map(|(service, bound)| Some((service, bound.ok()?)))
        .collect();
    assert_eq!(flows.len(), 400, "as many as there are ports");
    nat.forget(|service| service == S, at(1));
    for (service, binding) in &flows {
        let left = (*service == other).then_some(*binding);
        assert_eq!(nat.forward(*service, &binding.inside, Kind::About, at(1)), left);
        assert_eq!(nat.reply(&binding.outside.reversed(), Kind::About, at(1)), left);
    }
    assert_eq!(nat.ports_of(ours()[0], at(1)).unwrap()[1].lent, nat.fill().flows);
    nat.shards.iter().for_each(|shard| shard.lock().check());
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let mut words: Vec<&str> = Refused::ALL.iter().map(|refused| refused.word()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Refused::ALL.len());
}
