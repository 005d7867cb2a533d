//! Engine: bindings, their ways back and their ports.

use super::super::key::{ICMP, UDP};
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

const fn data(seq: u32) -> Kind {
    Kind::TcpData { seq }
}

fn sweep(nat: &Nat, seconds: u64) {
    let mut cursor = Cursor::default();
    while !nat.sweep(&mut cursor, at(seconds)) {}
}

#[test]
fn both_directions_find_the_flow_and_nobody_else_does() {
    let nat = nat(64, 10);
    for protocol in [TCP, UDP, ICMP] {
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
    assert_eq!((binding.outside.source(), nat.fill().ports_left), (inside.source(), 60));
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
    let mut lent: Vec<u16> = (1..=4).map(|port| bind(port, 0).unwrap().outside.source().port()).collect();
    lent.sort_unstable();
    assert_eq!(lent, [2000, 2001, 2002, 2003]);
    assert_eq!(bind(5, 0), Err(Refused::PortsExhausted));
    assert_eq!(bind(1, 0).map(|binding| binding.inside), Ok(client(TCP, 1)), "who has one keeps it");
    sweep(&nat, 20);
    assert_eq!(nat.fill().flows, 4);
    sweep(&nat, 21);
    assert_eq!(nat.fill().flows, 0);
    assert_eq!(bind(5, 22), Err(Refused::PortsExhausted), "they rest");
    assert!(bind(5, 81).is_ok());
    assert_eq!(nat.bind_full(S, &client(TCP, 9), data(1), &target(1), &ours(), at(81)), Err(Refused::NoFlow));
    assert_eq!(
        nat.bind_full(S, &client(47, 0), Kind::Other, &target(1), &ours(), at(81)),
        Err(Refused::PortsExhausted)
    );
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
    ("nor does data before the answer", &[(2, Side::Client, data(10), true), (21, Side::Client, data(10), false)]),
    (
        "closed, it is soon forgotten",
        &[
            (1, Side::Endpoint, data(5), true),
            (2, Side::Client, data(10), true),
            (3, Side::Endpoint, Kind::Fin { seq: 6 }, true),
            (4, Side::Client, Kind::Fin { seq: 10 }, true),
            (125, Side::Client, data(11), false),
        ],
    ),
    (
        "a blind RST or FIN closes nothing",
        &[
            (1, Side::Endpoint, data(5), true),
            (2, Side::Client, data(10), true),
            (3, Side::Client, Kind::Rst { seq: 100_000, bare: false }, true),
            (3, Side::Client, Kind::Fin { seq: 9 }, true),
            (900, Side::Client, data(11), true),
        ],
    ),
    (
        "the same ports again, after the end",
        &[
            (1, Side::Endpoint, data(5), true),
            (2, Side::Client, Kind::Fin { seq: 10 }, true),
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

#[test]
fn a_flood_leaves_room_and_takes_nothing_from_flows_that_live() {
    let nat = nat(64, 1000);
    let live = nat.bind_full(S, &client(TCP, 1), syn(9), &target(1), &ours(), at(0)).unwrap();
    nat.reply(&live.outside.reversed(), data(1), at(0));
    nat.forward(S, &client(TCP, 1), data(10), at(0));
    let flood = |from: u16, seconds| {
        (from..from + 500)
            .filter(|&port| nat.bind_full(S, &client(TCP, port), syn(1), &target(1), &ours(), at(seconds)).is_ok())
            .count()
    };
    assert_eq!(flood(1000, 1), 32);
    let fill = nat.fill();
    assert_eq!((fill.flows, fill.unproven, fill.capacity, fill.unproven_capacity), (33, 32, 64, 32));
    assert_eq!(fill.ports_left, 3000 * 2 - 33, "a refused flow keeps no port");
    assert_eq!(flood(2000, 22), 32, "and the flood's go when they are silent");
    assert_eq!(nat.forward(S, &client(TCP, 1), data(11), at(600)), Some(live));
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
            let inside = client(TCP, port);
            match rng.u8(..10) {
                0..5 => {
                    let bound = nat.bind_full(S, &inside, syn(1), &target(rng.u8(1..9)), &ours(), at(seconds));
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
                5 => {
                    nat.unbind(S, &inside, at(seconds));
                    model.remove(&port);
                }
                6 => sweep(&nat, seconds),
                7 => seconds += rng.u64(..5),
                _ => {
                    let found = nat.forward(S, &inside, Kind::About, at(seconds));
                    assert!(found.is_none() || found.as_ref() == model.get(&port), "seed {seed}");
                }
            }
            let fill = nat.fill();
            assert_eq!(fill.flows + fill.ports_left, 6 * 60, "seed {seed}: every port is lent to one flow or waits");
        }
    }
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let mut words: Vec<&str> = Refused::ALL.iter().map(|refused| refused.word()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Refused::ALL.len());
}
