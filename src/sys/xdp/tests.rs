//! Io: the program against the classifiers that it is made of, both run by the kernel, and before an interface of a namespace.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use super::*;
use crate::sys::assemble::Instruction as Classic;
use crate::sys::classify::tests::{arp, at, error_v4, fragment, framed, ndp, v4, v6};
use crate::sys::classify::{GO_ON, SHOT};
use crate::sys::netns::{Namespace, await_that, namespaces};
use crate::sys::packet::{Engine, Options, Tap};
use crate::wire::ethernet::{EtherType, Tag};

/// Where the frames of `classify`'s tests go to.
const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const VIRTUAL: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 7]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// Whether the kernel takes programs from us; a loud word where not.
fn may_load() -> bool {
    let plain = program::program(&[], &[], program::Taken::Dropped).unwrap();
    match bpf::load(&plain) {
        Ok(_) => true,
        Err(why) => {
            let all = std::env::var_os("STRATA_TEST_ALL").is_some_and(|all| all == "1");
            assert!(!all, "XDP programs may not be skipped: {why}");
            eprintln!("SKIPPED: needs bpf(2): {why}");
            false
        }
    }
}

/// An XDP program beside the classifiers that it was made of.
struct Both {
    /// Each a way through a classifier. A datagram is to us, and has no tag beside it.
    classifiers: Vec<(UnixDatagram, UnixDatagram)>,
    program: OwnedFd,
    stations: Vec<MacAddr>,
}

impl Both {
    fn new(classifiers: &[Vec<Classic>], stations: &[MacAddr]) -> Both {
        let made = program::program(classifiers, stations, program::Taken::Dropped).unwrap();
        let way = |classifier: &Vec<Classic>| {
            let (into, out) = UnixDatagram::pair().unwrap();
            let code: Vec<SockFilter> = classifier.iter().copied().map(Classic::into).collect();
            SockRef::from(&out).attach_filter(&code).unwrap();
            out.set_nonblocking(true).unwrap();
            (into, out)
        };
        Both {
            classifiers: classifiers.iter().map(way).collect(),
            program: bpf::load(&made).unwrap(),
            stations: stations.to_vec(),
        }
    }

    fn of(rules: &[Rule]) -> Both {
        Both::new(&classifiers(rules), &[OWN, VIRTUAL])
    }

    fn takes(&self, frame: &[u8]) -> bool {
        match bpf::run(self.program.as_fd(), frame).unwrap() {
            1 => true,
            2 => false,
            other => panic!("{other} is neither XDP_DROP nor XDP_PASS"),
        }
    }

    fn is_shot(&self, frame: &[u8]) -> bool {
        for (into, out) in &self.classifiers {
            // One that is filtered out, as by 0, is refused to the sender.
            let _ = into.send(frame);
            match out.recv(&mut [0; 2048]) {
                Ok(length) if length == frame.len() => {}
                Ok(length) => {
                    assert_eq!(length, SHOT as usize);
                    return true;
                }
                Err(_) => return false,
            }
        }
        false
    }

    /// What the program is there for.
    fn should_take(&self, frame: &[u8]) -> bool {
        let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let to = MacAddr(frame[..6].try_into().unwrap());
        let plain = match half(12) {
            0x0800 => frame.len() >= 38 && frame[14] == 0x45 && half(20) & 0x3fff == 0 && matches!(frame[23], 6 | 17),
            0x86dd => frame.len() >= 58 && matches!(frame[20], 6 | 17),
            _ => false,
        };
        plain && to.is_unicast() && self.stations.contains(&to) && self.is_shot(frame)
    }

    #[track_caller]
    fn agree(&self, frame: &[u8], what: impl Fn() -> String) -> bool {
        let wanted = self.should_take(frame);
        assert_eq!(self.takes(frame), wanted, "{}: {frame:02x?}", what());
        wanted
    }
}

const TCP: &[u8; 20] = b"\x00\x50\x10\x92................";
const ASKS: &[u8; 20] = b"\x10\x92\x00\x50................";

fn rule_sets() -> Vec<(&'static str, Vec<Rule>)> {
    let sides = |from: &str, to: &str| (Rule::from(at(from)), Rule::to(at(to)));
    let ((from, to), (from_6, to_6)) = (sides("10.0.0.41", "10.0.0.100"), sides("fd00::41", "fd00::100"));
    let kept = [Rule::keep(at("10.0.0.2")), Rule::keep(at("fd00::2"))];
    let whole = vec![from.clone(), to.clone(), from_6.clone(), to_6.clone()];
    let narrow = |protocol, ports: std::ops::RangeInclusive<u16>| {
        let narrow = |rule: &Rule| rule.clone().narrowed(protocol, Some(ports.clone()));
        whole.iter().map(narrow).collect::<Vec<_>>()
    };
    // Not those of the frames, but for the last ones.
    let many: Vec<Rule> = (0..700_u16)
        .map(|n| match n % 4 {
            0 => Rule::to(IpAddr::from([0xfd00, 0, 0, 7, 0, 0, 0, n])),
            1 => Rule::to(IpAddr::from([10, 1, (n >> 8) as u8, n as u8])).narrowed(17, Some(n..=n + 9)),
            2 => Rule::from(IpAddr::from([10, 2, (n >> 8) as u8, n as u8])),
            _ => Rule::from(IpAddr::from([0xfd00, 0, 0, 8, 0, 0, 0, n])).narrowed(6, Some(n..=n)),
        })
        .chain(whole.clone())
        .chain(kept.clone())
        .collect();
    assert!(classifiers(&many).len() > 2);
    vec![
        ("none", Vec::new()),
        ("whole", whole.clone()),
        ("with what is kept", [&whole[..], &kept].concat()),
        ("one family", vec![to.clone()]),
        ("the other", vec![to_6]),
        ("a port of TCP", narrow(6, 80..=80)),
        ("ports of UDP", [&narrow(17, 79..=4242)[..], &kept].concat()),
        ("all of TCP", vec![to.clone().narrowed(6, None), from.clone().narrowed(6, None)]),
        ("neither", vec![to.narrowed(1, None), from.narrowed(132, None)]),
        ("many", many),
    ]
}

fn frames() -> Vec<(String, Vec<u8>)> {
    let mut frames = Vec::new();
    let ends = ["10.0.0.41", "10.0.0.100", "10.0.0.2", "198.51.100.7"];
    for (from, to) in ends.into_iter().flat_map(|from| ends.map(|to| (from, to))) {
        for protocol in [6, 17, 1, 132] {
            for ports in [[80, 4242], [4242, 80], [4243, 79]] {
                frames.push((format!("{from} to {to}"), v4(from, to, protocol, 0, 0, ports)));
            }
        }
    }
    let (from, to) = ("10.0.0.41", "10.0.0.100");
    for (name, options, offset) in [("options", 3, 0), ("first fragment", 0, 0x2000), ("later one", 0, 185)] {
        frames.push((name.into(), v4(from, to, 17, options, offset, [80, 80])));
    }
    frames.push(("must not be cut".into(), v4(from, to, 17, 0, 0x4000, [80, 80])));
    frames.push(("error".into(), error_v4([from, "198.51.100.7"], 3, ["198.51.100.7", from], 0, 17, [4242, 80])));
    let ends = ["fd00::41", "fd00::100", "fd00::2", "2001:db8::7", "fe80::2"];
    for (from, to) in ends.into_iter().flat_map(|from| ends.map(|to| (from, to))) {
        for (next, transport) in [(6, TCP), (17, TCP), (6, ASKS), (17, ASKS), (58, TCP), (0, TCP), (44, TCP)] {
            frames.push((format!("{from} to {to}"), v6(from, to, next, transport)));
        }
    }
    frames.push(("IPv6 fragment".into(), v6("fd00::41", "fd00::100", 44, &fragment(17, 0))));
    frames.push(("who has the vip".into(), arp(1, "10.0.0.1", "10.0.0.100")));
    frames.push(("solicitation".into(), ndp(135, "fd00::100")));
    frames.push(("neither".into(), framed(0x88cc, &[&[0; 46]])));
    frames
}

#[test]
fn it_takes_what_the_classifiers_drop_of_plain_packets_and_nothing_else() {
    if !may_load() {
        return;
    }
    let frames = frames();
    for (rules, set) in rule_sets() {
        let both = Both::of(&set);
        let mut taken = 0;
        for (name, frame) in &frames {
            taken += usize::from(both.agree(frame, || format!("{rules}: {name}")));
            for protocol in [EtherType::VLAN, EtherType::SERVICE_VLAN] {
                let tag = Tag { protocol, control: 0x2007 }.emit();
                let tagged = [&frame[..12], &tag, &frame[12..]].concat();
                both.agree(&tagged, || format!("{rules}: {name}, tagged"));
            }
            for station in [VIRTUAL, PEER, MacAddr([2, 0, 0, 0, 0, 3]), MacAddr::BROADCAST, MacAddr([3, 0, 0, 0, 0, 2])]
            {
                let other = [&station.0[..], &frame[6..]].concat();
                both.agree(&other, || format!("{rules}: {name} to {station}"));
            }
        }
        assert_eq!(taken > 0, !["none", "neither"].contains(&rules), "{rules}: {taken} taken");
    }
}

#[test]
fn a_frame_that_is_cut_short_is_the_kernels() {
    if !may_load() {
        return;
    }
    for (rules, set) in rule_sets().into_iter().filter(|(rules, _)| *rules != "many") {
        let both = Both::of(&set);
        for (name, frame) in [
            ("v4", v4("10.0.0.41", "10.0.0.100", 6, 0, 0, [80, 80])),
            ("v6", v6("fd00::41", "fd00::100", 6, b"\x00\x50\x00\x50................")),
        ] {
            // The kernel runs no program on less than an Ethernet header.
            for length in 14..=frame.len() {
                both.agree(&frame[..length], || format!("{rules}: {length} of {name}"));
            }
        }
    }
}

#[test]
fn an_interface_with_no_mac_of_one_station_takes_nothing() {
    if !may_load() {
        return;
    }
    let frame = v4("10.0.0.1", "10.0.0.100", 6, 0, 0, [80, 80]);
    let rules = classifiers(&[Rule::to(at("10.0.0.100"))]);
    for stations in [&[][..], &[MacAddr::ZERO], &[MacAddr::BROADCAST]] {
        let both = Both::new(&rules, stations);
        for station in [OWN, MacAddr::ZERO, MacAddr::BROADCAST] {
            assert!(!both.takes(&[&station.0[..], &frame[6..]].concat()));
        }
    }
    assert!(Both::new(&rules, &[MacAddr::BROADCAST, VIRTUAL, OWN]).takes(&frame));
}

/// Rules and frames of so few addresses and ports that they often meet.
struct Chance(fastrand::Rng);

impl Chance {
    fn v4(&mut self) -> IpAddr {
        IpAddr::from([10, 0, 0, self.0.u8(0..6)])
    }

    fn v6(&mut self) -> IpAddr {
        // Each word of it matters.
        let mut words = [0xfd00, 0, 0, 0, 0, 0, 0, 1];
        words[self.0.usize(0..8)] ^= self.0.u16(0..3);
        IpAddr::from(words)
    }

    fn protocol(&mut self) -> u8 {
        [6, 17, 6, 17, 1, 58, 132][self.0.usize(0..7)]
    }

    fn port(&mut self) -> u16 {
        [0, 1, 79, 80, 81, 255, 256, 32_767, 32_768, 65_534, 65_535][self.0.usize(0..11)]
    }

    fn rule(&mut self) -> Rule {
        let address = if self.0.bool() { self.v4() } else { self.v6() };
        let rule = match self.0.u8(0..5) {
            0 => return Rule::keep(address),
            1 | 2 => Rule::from(address),
            _ => Rule::to(address),
        };
        match self.0.u8(0..4) {
            0 => rule,
            1 => rule.narrowed(self.protocol(), None),
            _ => {
                let (one, other) = (self.port(), self.port());
                rule.narrowed(self.protocol(), Some(one.min(other)..=one.max(other)))
            }
        }
    }

    fn rules(&mut self) -> Vec<Rule> {
        let count = [1, 3, 10, 10, 300][self.0.usize(0..5)];
        let rules = (0..count).map(|_| self.rule()).filter(|rule| !rule.is_kept()).collect::<Vec<_>>();
        let kept = (0..self.0.usize(0..3)).map(|_| Rule::keep(if self.0.bool() { self.v4() } else { self.v6() }));
        rules.into_iter().chain(kept.collect::<Vec<_>>()).collect()
    }

    fn frame(&mut self) -> Vec<u8> {
        let ports = [self.port(), self.port()];
        let mut frame = if self.0.bool() {
            let (from, to) = (self.v4().to_string(), self.v4().to_string());
            let options = if self.0.u8(0..8) == 0 { self.0.u8(0..11) } else { 0 };
            let offset = [0, 0, 0, 0x4000, 0x2000, 0x8000, 1, 185][self.0.usize(0..8)];
            v4(&from, &to, self.protocol(), options, offset, ports)
        } else {
            let (from, to) = (self.v6().to_string(), self.v6().to_string());
            let transport = [&ports[0].to_be_bytes()[..], &ports[1].to_be_bytes(), &[0; 16]].concat();
            v6(&from, &to, self.protocol(), &transport)
        };
        // Now and then anything.
        for _ in 0..self.0.u8(0..12).saturating_sub(9) {
            let at = self.0.usize(0..frame.len());
            frame[at] ^= 1 << self.0.u8(0..8);
        }
        if self.0.u8(0..12) == 0 {
            frame.truncate(self.0.usize(14..=frame.len()));
        }
        frame
    }
}

#[test]
fn by_chance_too_it_takes_what_the_classifiers_drop() {
    if !may_load() {
        return;
    }
    let seed = fastrand::u64(..);
    let mut chance = Chance(fastrand::Rng::with_seed(seed));
    let (mut taken, mut all) = (0, 0);
    for round in 0..60 {
        let rules = chance.rules();
        let both = Both::of(&rules);
        for _ in 0..300 {
            let frame = chance.frame();
            all += 1;
            taken += usize::from(both.agree(&frame, || {
                let shown = if rules.len() > 20 { &rules[..0] } else { &rules[..] };
                format!("seed {seed}, round {round}, {shown:?}")
            }));
        }
    }
    assert!(taken * 20 > all && taken * 10 < all * 9, "seed {seed}: {taken} of {all} say little");
}

/// A classic program of every instruction that ours have, in any order. It jumps forward, and ends in one of many ways.
fn any_program(chance: &mut Chance) -> Vec<Classic> {
    const ENDS: usize = 8;
    let make = |code: u32, operand: u32| Classic { code: code as u16, on_true: 0, on_false: 0, operand };
    // Every cell is written first, by what is not known beforehand.
    let mut program = vec![make(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 26)];
    program.extend((0..4).map(|cell| make(libc::BPF_ST, cell)));
    let length = chance.0.usize(4..40);
    for at in 0..length {
        let size = [libc::BPF_B, libc::BPF_H, libc::BPF_W][chance.0.usize(0..3)];
        let value = match chance.0.u8(0..8) {
            0 => chance.0.u32(..),
            1 => 1 << chance.0.u32(0..32),
            2 => [6, 17, 20, 0x45, 0x0800, 0xfd00][chance.0.usize(0..6)],
            3 => u32::from(chance.port()) | 6 << 16,
            4 => 0x0a00_0000 | u32::from(chance.0.u8(0..6)),
            5 => u32::from(chance.0.u8(0..6)),
            _ => u32::from(chance.port()),
        };
        let place = match chance.0.u8(0..12) {
            0 => 60,
            1 | 2 => chance.0.u32(0..26),
            _ => 26 + 2 * chance.0.u32(0..6),
        };
        let cell = chance.0.u32(0..4);
        let left = length - at - 1 + ENDS - 1;
        program.push(match chance.0.u8(0..26) {
            0 | 1 => make(libc::BPF_LD | libc::BPF_IMM, value),
            2..=5 => make(libc::BPF_LD | libc::BPF_ABS | size, place),
            6 | 7 => make(libc::BPF_LD | libc::BPF_IND | size, place.saturating_sub(20)),
            8 => make(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, extend::PACKET_TYPE),
            9 | 10 => make(libc::BPF_LD | libc::BPF_MEM, cell),
            11 => make(libc::BPF_LDX | libc::BPF_IMM, [0, 4, 20][chance.0.usize(0..3)]),
            12 => make(libc::BPF_ST, cell),
            13 => make(libc::BPF_STX, cell),
            14 => make(libc::BPF_ALU | libc::BPF_AND, value),
            15 => make(libc::BPF_ALU | libc::BPF_OR, value),
            16 => make(libc::BPF_ALU | libc::BPF_LSH, chance.0.u32(0..32)),
            17 => make(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0),
            18 => make(libc::BPF_JMP | libc::BPF_JA, chance.0.u32(0..left.min(4) as u32)),
            kind => {
                let test = [libc::BPF_JEQ, libc::BPF_JGT, libc::BPF_JGE, libc::BPF_JSET][usize::from(kind % 4)];
                let mut far = || if chance.0.bool() { 0 } else { chance.0.u8(0..left.min(12) as u8) };
                let (on_true, on_false) = (far(), far());
                Classic { on_true, on_false, ..make(libc::BPF_JMP | test, value) }
            }
        });
    }
    program.extend((0..ENDS).map(|_| make(libc::BPF_RET, [SHOT, SHOT, SHOT, GO_ON, GO_ON, 0][chance.0.usize(0..6)])));
    program
}

#[test]
fn whatever_a_classic_program_does_its_function_does() {
    if !may_load() {
        return;
    }
    let seed = fastrand::u64(..);
    let mut chance = Chance(fastrand::Rng::with_seed(seed));
    let (mut taken, mut all, mut unfit) = (0, 0, 0);
    for round in 0..4_000 {
        let programs: Vec<_> = (0..chance.0.usize(1..3)).map(|_| any_program(&mut chance)).collect();
        if program::program(&programs, &[OWN], program::Taken::Dropped).is_err() {
            unfit += 1;
            continue;
        }
        let both = Both::new(&programs, &[OWN, VIRTUAL]);
        for _ in 0..20 {
            let (from, to) = (chance.v4().to_string(), chance.v4().to_string());
            let plain = v4(&from, &to, [6, 17][chance.0.usize(0..2)], 0, 0, [chance.port(), chance.port()]);
            let frame = if chance.0.u8(0..4) == 0 { chance.frame() } else { plain };
            all += 1;
            taken += usize::from(both.agree(&frame, || format!("seed {seed}, round {round}: {programs:?}")));
        }
    }
    assert!(
        unfit < 2_000 && (all / 10..all * 9 / 10).contains(&taken),
        "seed {seed}: {unfit} unfit, {taken}/{all} taken"
    );
}

#[test]
fn a_program_with_an_instruction_that_ours_never_have_is_refused() {
    let make = |code: u32, operand| Classic { code: code as u16, on_true: 0, on_false: 0, operand };
    let end = make(libc::BPF_RET, SHOT);
    let load = make(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 26);
    let tax = make(libc::BPF_MISC | libc::BPF_TAX, 0);
    for (name, classic) in [
        ("the frame's length", vec![make(libc::BPF_LD | libc::BPF_LEN, 0), end]),
        (
            "another ancillary",
            vec![make(libc::BPF_LD | libc::BPF_ABS, (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX).cast_unsigned()), end],
        ),
        ("the network header", vec![make(libc::BPF_LD | libc::BPF_ABS, libc::SKF_NET_OFF.cast_unsigned()), end]),
        ("a load from where nobody knows", vec![load, tax, make(libc::BPF_LD | libc::BPF_IND, 4), end]),
        ("a far load", vec![make(libc::BPF_LD | libc::BPF_ABS, 40_000), end]),
        ("a cell too many", vec![make(libc::BPF_ST, 16), end]),
        ("a long shift", vec![load, make(libc::BPF_ALU | libc::BPF_LSH, 32), end]),
        ("a division", vec![load, make(libc::BPF_ALU | libc::BPF_DIV, 2), end]),
        ("a comparison with the index", vec![load, make(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X, 0), end]),
        ("the accumulator as the verdict", vec![load, make(libc::BPF_RET | libc::BPF_A, 0)]),
        ("no end", vec![load]),
        ("a jump past the end", vec![make(libc::BPF_JMP | libc::BPF_JA, u32::MAX), end]),
    ] {
        assert!(program::program(&[classic], &[OWN], program::Taken::Dropped).is_err(), "{name}");
    }
}

/// A veth whose other end is in another namespace.
fn pair() -> Option<([Namespace; 2], u32)> {
    if !may_load() {
        return None;
    }
    let [here, there] = namespaces()?;
    here.cable(("eth0", OWN), &there, ("far", PEER));
    let interface = here.index("eth0");
    Some(([here, there], interface))
}

/// The number of the program that is before the interface.
fn running(namespace: &Namespace) -> Option<u32> {
    let shown = namespace.sh("ip link show eth0");
    let (_, rest) = shown.split_once("prog/xdp id ")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn shows(namespace: &Namespace) -> bool {
    running(namespace).is_some()
}

/// An AF_XDP socket that could receive, were it bound.
fn socket() -> Socket {
    let places: libc::c_int = 64;
    let socket = Socket::new(Domain::from(libc::AF_XDP), Type::RAW, None).unwrap();
    // SAFETY: the option is read from a live `int` of the size that is given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_RX_RING,
            (&raw const places).cast(),
            size_of_val(&places) as libc::socklen_t,
        )
    };
    assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    socket
}

const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

fn vip() -> [Rule; 1] {
    [Rule::to(at("10.0.0.100"))]
}

#[test]
fn frames_are_taken_for_a_queue_with_a_socket_as_long_as_that_is_open() {
    let Some(([here, there], interface)) = pair() else { return };
    let front = here.run(|| Front::new(interface, &vip(), &[VIRTUAL]).unwrap());
    let open = |namespace: &Namespace, name: &str| {
        let interface = namespace.index(name);
        namespace.run(|| Tap::open(Engine::Ring, &Options { interface, ..Options::default() }).unwrap())
    };
    let (mut tap, mut peer, far) = (open(&here, "eth0"), open(&there, "far"), there.index("far"));
    let to = |address, mark: u8| {
        let mut frame = v4("10.0.0.1", address, 17, 0, 0, [80, 80]);
        *frame.last_mut().unwrap() = mark;
        frame
    };
    // The last bytes of the frames that come to the tap, until that of a frame that is not ours.
    let mut left = |ours: u8, other: u8| {
        peer.send(far, &to("10.0.0.100", ours));
        peer.send(far, &to("10.0.0.101", other));
        let mut seen = Vec::new();
        await_that("the last frame", || {
            tap.receive(|frame| {
                seen.extend(
                    frame.bytes().get(14 + 16..14 + 19).filter(|to| *to == [10, 0, 0]).and(frame.bytes().last()),
                );
                None
            })
            .unwrap();
            seen.last() == Some(&other)
        });
        seen
    };
    assert_eq!(left(1, 2), [1, 2], "no queue has a socket");
    let run = |frame: &[u8]| bpf::run(front.program.as_fd(), frame).unwrap();
    assert_eq!(run(&to("10.0.0.100", 0)), XDP_PASS);
    let socket = socket();
    front.give(7, socket.as_fd()).unwrap();
    assert_eq!(left(3, 4), [3, 4], "another queue has one");
    assert_eq!(run(&to("10.0.0.100", 0)), XDP_PASS);
    front.give(0, socket.as_fd()).unwrap();
    assert_eq!(run(&to("10.0.0.100", 0)), XDP_REDIRECT);
    assert_eq!(run(&to("10.0.0.101", 0)), XDP_PASS);
    // This one is not bound, so that nobody gets them.
    assert_eq!(left(5, 6), [6], "the socket has it");
    drop(socket);
    await_that("the kernel to forget the socket", || run(&to("10.0.0.100", 0)) == XDP_PASS);
    assert_eq!(left(7, 8), [7, 8]);

    let error = front.give(QUEUES, self::socket().as_fd()).unwrap_err();
    assert_eq!(error.cause.raw_os_error(), Some(libc::E2BIG), "{error}");
    assert!(front.give(0, UnixDatagram::unbound().unwrap().as_fd()).is_err());
}

#[test]
fn each_queue_has_its_own_socket() {
    let Some(([here, _there], _)) = pair() else { return };
    here.run(|| {
        here.sh(&format!("ip link add q address {OWN} numrxqueues 3 type veth peer name p; ip link set q up"));
        let interface = here.index("q");
        let front = Front::new(interface, &vip(), &[]).unwrap();
        let [one, two] = [socket(), socket()];
        front.give(1, one.as_fd()).unwrap();
        front.give(2, two.as_fd()).unwrap();
        let frame = v4("10.0.0.1", "10.0.0.100", 17, 0, 0, [80, 80]);
        let on = |queue| bpf::run_on(front.program.as_fd(), &frame, interface, queue).unwrap();
        assert_eq!([on(0), on(1), on(2)], [XDP_PASS, XDP_REDIRECT, XDP_REDIRECT]);
        drop(one);
        await_that("the kernel to forget the socket", || on(1) == XDP_PASS);
        assert_eq!(on(2), XDP_REDIRECT);
    });
}

#[test]
fn one_program_is_before_an_interface_and_the_next_takes_its_place_when_it_has_gone() {
    let Some(([here, _there], interface)) = pair() else { return };
    here.run(|| {
        let mut first = Front::new(interface, &vip(), &[]).unwrap();
        assert!(first.is_attached() && first.attach().unwrap() && shows(&here));
        let mut second = Front::new(interface, &vip(), &[]).unwrap();
        assert!(!second.is_attached() && !second.attach().unwrap());
        second.replace(&vip(), &[VIRTUAL]).unwrap();
        assert!(!second.is_attached());
        drop(first);
        await_that("the first to go", || second.attach().unwrap());
        assert!(second.is_attached() && shows(&here));
        drop(second);
        await_that("the second to go", || !shows(&here));
    });
}

#[test]
fn another_kind_of_program_in_the_way_is_no_error() {
    let Some(([here, _there], interface)) = pair() else { return };
    // The kernel runs it, on what the driver has made of a frame.
    const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
    here.run(|| {
        let plain = bpf::load(&program::program(&[], &[], program::Taken::Dropped).unwrap()).unwrap();
        let foreign = bpf::link(plain.as_fd(), interface, XDP_FLAGS_SKB_MODE).unwrap();
        let mut front = Front::new(interface, &vip(), &[]).unwrap();
        assert!(!front.is_attached() && !front.attach().unwrap());
        drop(foreign);
        await_that("the place", || front.attach().unwrap());
    });
}

#[test]
fn replacing_changes_what_is_taken_and_a_change_of_mac_is_noticed() {
    let Some(([here, _there], interface)) = pair() else { return };
    let socket = socket();
    let frame = |to, station: MacAddr| {
        let frame = v4("10.0.0.1", to, 17, 0, 0, [80, 80]);
        [&station.0[..], &frame[6..]].concat()
    };
    here.run(|| {
        let mut front = Front::new(interface, &vip(), &[]).unwrap();
        front.give(0, socket.as_fd()).unwrap();
        let takes =
            |front: &Front, to, station| bpf::run(front.program.as_fd(), &frame(to, station)).unwrap() == XDP_REDIRECT;
        assert!(takes(&front, "10.0.0.100", OWN) && !takes(&front, "10.0.0.100", VIRTUAL));
        let before = running(&here);
        front.replace(&[Rule::to(at("10.0.0.101"))], &[VIRTUAL]).unwrap();
        assert!(front.is_attached() && running(&here).is_some() && running(&here) != before);
        assert!(!takes(&front, "10.0.0.100", OWN));
        assert!(takes(&front, "10.0.0.101", OWN) && takes(&front, "10.0.0.101", VIRTUAL));
        front.replace(&[], &[VIRTUAL]).unwrap();
        assert!(!takes(&front, "10.0.0.101", OWN));
        front.replace(&vip(), &[VIRTUAL]).unwrap();

        here.sh("ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:09; ip link set eth0 up");
        let new = MacAddr([2, 0, 0, 0, 0, 9]);
        assert!(takes(&front, "10.0.0.100", OWN) && !takes(&front, "10.0.0.100", new));
        let before = running(&here);
        assert!(front.attach().unwrap() && running(&here).is_some() && running(&here) != before);
        assert!(!takes(&front, "10.0.0.100", OWN) && takes(&front, "10.0.0.100", new));
        assert!(takes(&front, "10.0.0.100", VIRTUAL));
    });
}

#[test]
fn an_interface_that_is_gone_is_told_and_one_that_has_come_back_gets_its_program() {
    let Some(([here, _there], interface)) = pair() else { return };
    here.run(|| {
        let mut front = Front::new(interface, &vip(), &[]).unwrap();
        here.sh("ip link del eth0");
        let again = front.attach().unwrap_err();
        let other = front.replace(&[], &[]).unwrap_err();
        let new = Front::new(interface, &vip(), &[]).unwrap_err();
        for error in [again, other, new] {
            assert_eq!(error.to_string(), "cannot look at the interface: there is no such interface");
        }
        here.sh(&format!(
            "ip link add eth0 index {interface} address {OWN} type veth peer name far; ip link set eth0 up"
        ));
        assert!(!shows(&here));
        assert!(front.attach().unwrap() && shows(&here));
    });
}

#[test]
fn what_stands_in_the_way_is_told_with_the_way_out() {
    let Some(([here, there], interface)) = pair() else { return };
    here.sh("ip link add plain type bridge; ip link set eth0 mtu 9000");
    there.sh("ip link set far mtu 9000");
    here.run(|| {
        let error = Front::new(here.index("plain"), &vip(), &[]).unwrap_err().to_string();
        assert_eq!(error, "cannot attach the XDP program to the interface: the driver has no native XDP");
        let error = Front::new(interface, &vip(), &[]).unwrap_err().to_string();
        assert!(error.contains("a smaller MTU"), "{error}");
        there.sh("ip link set far mtu 1500");
        here.sh("ip link set eth0 mtu 1500");
        assert!(Front::new(interface, &vip(), &[]).unwrap().is_attached());
    });
    // A program that the verifier refuses: it gives what was never written.
    let mut code = code::Code::default();
    code.exit();
    let error = bpf::load(&code.finish().unwrap()).unwrap_err();
    assert!(error.to_string().contains("R0 !read_ok"), "{error}");
}

#[test]
fn very_many_rules_are_one_program() {
    let Some(([here, _there], interface)) = pair() else { return };
    let rule = |n: u16| match n % 6 {
        0 => Rule::to(IpAddr::from([0xfd00, 0, 0, 7, 0, 0, 0, n])),
        1 => Rule::to(IpAddr::from([10, 1, (n >> 8) as u8, n as u8])),
        2 => Rule::from(IpAddr::from([0xfd00, 0, 0, 9, 0, 0, 0, n])),
        3 => Rule::from(IpAddr::from([10, 2, (n >> 8) as u8, n as u8])).narrowed(17, Some(n..=n)),
        4 => Rule::to(IpAddr::from([0xfd00, 0, 0, 8, 0, 0, 0, n])).narrowed(6, Some(n..=n)),
        _ => Rule::to(IpAddr::from([10, 3, (n >> 8) as u8, n as u8])).narrowed(6, Some(n..=n)),
    };
    let kept = (0..32).map(|n| Rule::keep(IpAddr::from([0xfd00, 0, 0, 1, 0, 0, 0, n])));
    for count in [300, 3_000] {
        // The last that fits of those of IPv4 with a port, and the one after it.
        let room = count.min(limits::XDP_RULES as u16);
        let last = room - 1 - room % 6;
        let rules: Vec<Rule> = (0..count).map(rule).chain(kept.clone()).collect();
        let front = here.run(|| Front::new(interface, &rules, &[]).unwrap());
        assert!(front.is_attached());
        let socket = socket();
        front.give(0, socket.as_fd()).unwrap();
        for (last, wanted) in [(last, XDP_REDIRECT), (last + 6, XDP_PASS)] {
            let mut frame = v4("10.0.0.1", &rule(last).address.to_string(), 6, 0, 0, [80, last]);
            frame[..6].copy_from_slice(&OWN.0);
            assert_eq!(bpf::run(front.program.as_fd(), &frame).unwrap(), wanted, "{last} of {count}");
        }
    }
}

#[test]
fn whether_a_program_sees_tags_is_known_but_of_a_veth_whatever_it_says_of_itself() {
    for (kind, rx_vlan, tags) in [
        (Kind::Card, true, Tags::TakenOut),
        (Kind::Card, false, Tags::InFrames),
        (Kind::Veth, true, Tags::Unknown),
        (Kind::Veth, false, Tags::Unknown),
    ] {
        assert_eq!(Tags::by(&kind, rx_vlan), tags, "{kind:?} {rx_vlan}");
    }
    let Some(([here, _there], _)) = pair() else { return };
    here.sh("ethtool -K eth0 rxvlan off");
    let tags = |name: &str| here.run(|| Tags::of(&link::by_name(name).unwrap()));
    assert_eq!(tags("eth0").unwrap(), Tags::Unknown);
    assert_eq!(tags("lo").unwrap(), Tags::InFrames);
    let gone = here.run(|| link::by_name("eth0").unwrap());
    here.sh("ip link del eth0");
    assert_eq!(here.run(|| Tags::of(&gone)).unwrap_err().raw_os_error(), Some(libc::ENODEV));
}
