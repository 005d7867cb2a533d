//! Value: programs run by the kernel on frames of ours, through a socket that needs no network.

use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;

use socket2::SockRef;

use super::*;
use crate::wire::ethernet::{EtherType, Tag};

/// What a program says of a frame: how many bytes of it pass. A datagram is to us, and has no tag beside it.
fn run(code: Vec<Instruction>, frame: &[u8]) -> usize {
    let (into, out) = UnixDatagram::pair().unwrap();
    let code: Vec<SockFilter> = code.into_iter().map(Instruction::into).collect();
    SockRef::from(&out).attach_filter(&code).unwrap();
    out.set_nonblocking(true).unwrap();
    // One that is filtered out is refused to the sender.
    let _ = into.send(frame);
    out.recv(&mut [0; 2048]).unwrap_or(0)
}

fn passes(rules: &[Rule], frame: &[u8]) -> bool {
    let wanted = Wanted { rules: Some(rules), macs: &[], tags: true };
    match run(socket_program(&wanted), frame) {
        0 => false,
        length => {
            assert_eq!(length, frame.len(), "a frame passes whole");
            true
        }
    }
}

fn is_shot(rules: &[Rule], frame: &[u8]) -> bool {
    let [program] = classifiers(rules).try_into().expect("so few rules are one program");
    match run(program, frame) {
        length if length == frame.len() => false,
        length => {
            assert_eq!(length, SHOT as usize);
            true
        }
    }
}

pub(in crate::sys) fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(in crate::sys) fn framed(ether_type: u16, payload: &[&[u8]]) -> Vec<u8> {
    [b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01", &ether_type.to_be_bytes()[..], &payload.concat()].concat()
}

fn octets(address: &str) -> Vec<u8> {
    match at(address) {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An IPv4 packet with `options` words of options and a fragment offset.
pub(in crate::sys) fn v4(from: &str, to: &str, protocol: u8, options: u8, offset: u16, ports: [u16; 2]) -> Vec<u8> {
    let [high, low] = offset.to_be_bytes();
    framed(
        0x0800,
        &[
            &[0x45 + options, 0, 0, 40, 0, 0, high, low, 64, protocol, 0, 0],
            &octets(from),
            &octets(to),
            &vec![1; usize::from(options) * 4],
            &ports[0].to_be_bytes(),
            &ports[1].to_be_bytes(),
            &[0; 16],
        ],
    )
}

pub(in crate::sys) fn v6(from: &str, to: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    framed(0x86dd, &[&[0x60, 0, 0, 0, 0, 40, next, 64], &octets(from), &octets(to), payload])
}

pub(in crate::sys) fn arp(operation: u8, sender: &str, target: &str) -> Vec<u8> {
    let mac = [0; 6];
    framed(0x0806, &[&[0, 1, 8, 0, 6, 4, 0, operation], &mac, &octets(sender), &mac, &octets(target)])
}

pub(in crate::sys) fn ndp(kind: u8, target: &str) -> Vec<u8> {
    v6("fd00::1", "ff02::1:ff00:100", 58, &[&[kind, 0, 0, 0, 0, 0, 0, 0][..], &octets(target)].concat())
}

#[test]
fn the_socket_gets_what_names_an_address_and_the_kernel_loses_what_is_sent_to_it() {
    let rules = [Rule::to(at("10.0.0.100")), Rule::from(at("10.0.0.41")), Rule::to(at("fd00::100"))];
    // The frame, whether the tap gets it, whether the kernel is kept from it.
    let cases = [
        ("to the vip", v4("10.0.0.1", "10.0.0.100", 17, 0, 0, [1, 2]), true, true),
        ("any protocol", v4("10.0.0.1", "10.0.0.100", 132, 0, 0, [1, 2]), true, true),
        ("a later fragment", v4("10.0.0.1", "10.0.0.100", 17, 0, 185, [1, 2]), true, true),
        ("from the vip", v4("10.0.0.100", "10.0.0.1", 17, 0, 0, [1, 2]), false, false),
        ("from an endpoint", v4("10.0.0.41", "10.0.0.1", 6, 0, 0, [1, 2]), true, true),
        ("to an endpoint", v4("10.0.0.1", "10.0.0.41", 6, 0, 0, [1, 2]), false, false),
        ("a stranger's", v4("10.0.0.1", "10.0.0.101", 6, 0, 0, [1, 2]), false, false),
        ("to the vip, IPv6", v6("fd00::1", "fd00::100", 6, &[0; 20]), true, true),
        ("from the vip, IPv6", v6("fd00::100", "fd00::1", 6, &[0; 20]), false, false),
        ("a stranger's, IPv6", v6("fd00::1", "fd00:0:0:1::100", 6, &[0; 20]), false, false),
        ("who has the vip", arp(1, "10.0.0.1", "10.0.0.100"), true, true),
        ("a claim to the vip", arp(2, "10.0.0.100", "10.0.0.1"), true, false),
        ("an endpoint asks", arp(1, "10.0.0.41", "10.0.0.1"), true, false),
        ("who has an endpoint", arp(1, "10.0.0.1", "10.0.0.41"), true, false),
        ("who has a stranger", arp(1, "10.0.0.1", "10.0.0.2"), false, false),
        ("solicitation for the vip", ndp(135, "fd00::100"), true, true),
        ("advertisement of the vip", ndp(136, "fd00::100"), true, false),
        ("solicitation for a stranger", ndp(135, "fd00::101"), false, false),
        ("echo to a group", ndp(128, "fd00::100"), false, false),
        ("neither", framed(0x88cc, &[&[0; 46]]), false, false),
        ("an address cut short", v4("10.0.0.1", "10.0.0.100", 17, 0, 0, [1, 2])[..32].to_vec(), false, false),
    ];
    for (name, frame, tap, shot) in cases {
        assert_eq!(passes(&rules, &frame), tap, "{name}: the tap");
        if frame.len() >= 38 {
            assert_eq!(is_shot(&rules, &frame), shot, "{name}: the kernel");
        }
        // The same inside a tag that the kernel has left in, or the inner one of two.
        for protocol in [EtherType::VLAN, EtherType::SERVICE_VLAN] {
            let tag = Tag { protocol, control: 0x2007 }.emit();
            let tagged = [&frame[..12], &tag, &frame[12..]].concat();
            assert_eq!(passes(&rules, &tagged), tap, "{name}: the tap, tagged");
        }
    }
}

#[test]
fn a_narrowed_rule_keeps_its_protocol_and_ports_from_the_kernel() {
    let rules = [
        Rule::to(at("10.0.0.2")).narrowed(6, Some(1000..=1999)),
        Rule::from(at("10.0.0.41")).narrowed(17, Some(53..=53)),
        Rule::to(at("fd00::2")).narrowed(6, Some(65_535..=65_535)),
        Rule::to(at("10.0.0.3")).narrowed(1, None),
    ];
    let cases = [
        ("below", v4("10.0.0.41", "10.0.0.2", 6, 0, 0, [80, 999]), false),
        ("first", v4("10.0.0.41", "10.0.0.2", 6, 0, 0, [80, 1000]), true),
        ("last, with options", v4("10.0.0.41", "10.0.0.2", 6, 10, 0, [80, 1999]), true),
        ("above", v4("10.0.0.41", "10.0.0.2", 6, 0, 0, [80, 2000]), false),
        ("the other side's port", v4("10.0.0.41", "10.0.0.2", 6, 0, 0, [1000, 80]), false),
        ("another protocol", v4("10.0.0.42", "10.0.0.2", 17, 0, 0, [80, 1000]), false),
        ("first fragment", v4("10.0.0.42", "10.0.0.2", 6, 0, 0x2000, [80, 1000]), true),
        ("a fragment without ports", v4("10.0.0.42", "10.0.0.2", 6, 0, 1, [80, 1000]), false),
        ("by source", v4("10.0.0.41", "10.0.0.1", 17, 3, 0, [53, 9]), true),
        ("by source, another port", v4("10.0.0.41", "10.0.0.1", 17, 3, 0, [54, 53]), false),
        ("IPv6", v6("fd00::1", "fd00::2", 6, b"\x00\x50\xff\xff................"), true),
        ("IPv6, another port", v6("fd00::1", "fd00::2", 6, b"\x00\x50\xff\xfe................"), false),
        ("IPv6, another protocol", v6("fd00::1", "fd00::2", 17, b"\x00\x50\xff\xff................"), false),
        ("a protocol without ports", v4("10.0.0.1", "10.0.0.3", 1, 0, 0, [0, 0]), true),
        ("who has our address", arp(1, "10.0.0.1", "10.0.0.2"), false),
        ("solicitation for our address", ndp(135, "fd00::2"), false),
    ];
    for (name, frame, shot) in cases {
        assert_eq!(is_shot(&rules, &frame), shot, "{name}");
        let tagged = [&frame[..12], &Tag::vlan(7).emit(), &frame[12..]].concat();
        assert_eq!(is_shot(&rules, &tagged), shot, "{name}, tagged");
    }
}

#[test]
fn what_an_endpoint_sends_to_this_machine_stays_the_kernels() {
    let rules = [
        Rule::from(at("10.0.0.41")),
        Rule::keep(at("10.0.0.2")),
        Rule::to(at("10.0.0.100")),
        Rule::from(at("fd00::41")),
        Rule::keep(at("fd00::2")),
    ];
    for (name, frame, tap, shot) in [
        ("an answer to a client", v4("10.0.0.41", "198.51.100.7", 6, 0, 0, [80, 4242]), true, true),
        ("an answer to our probe", v4("10.0.0.41", "10.0.0.2", 6, 0, 0, [80, 4242]), true, false),
        ("an endpoint that asks the vip", v4("10.0.0.41", "10.0.0.100", 6, 0, 0, [80, 4242]), true, true),
        ("a stranger's to us", v4("10.0.0.7", "10.0.0.2", 6, 0, 0, [80, 4242]), false, false),
        ("an answer to a client, IPv6", v6("fd00::41", "2001:db8::7", 6, &[0; 20]), true, true),
        ("an answer to our probe, IPv6", v6("fd00::41", "fd00::2", 6, &[0; 20]), true, false),
    ] {
        assert_eq!(passes(&rules, &frame), tap, "{name}: the tap");
        assert_eq!(is_shot(&rules, &frame), shot, "{name}: the kernel");
    }
}

/// An IPv4 message of ICMP, about a packet of `protocol` with `options` words of options.
pub(in crate::sys) fn error_v4(
    sides: [&str; 2],
    kind: u8,
    about: [&str; 2],
    options: u8,
    protocol: u8,
    ports: [u16; 2],
) -> Vec<u8> {
    let embedded = v4(about[0], about[1], protocol, options, 0, ports);
    let mut frame = v4(sides[0], sides[1], 1, options, 0, [u16::from(kind) << 8, 0]);
    frame.truncate(14 + 20 + usize::from(options) * 4 + 4);
    [frame, vec![0; 4], embedded[14..].to_vec()].concat()
}

fn error_v6(sides: [&str; 2], kind: u8, about: [&str; 2], next: u8, payload: &[u8]) -> Vec<u8> {
    let embedded = v6(about[0], about[1], next, payload);
    v6(sides[0], sides[1], 58, &[&[kind, 0, 0, 0, 0, 0, 0, 0], &embedded[14..]].concat())
}

/// What a fragment header is, of TCP or UDP from port 80.
pub(in crate::sys) fn fragment(next: u8, offset: u16) -> Vec<u8> {
    let [high, low] = (offset << 3 | 1).to_be_bytes();
    [&[next, 0, high, low, 0, 0, 0, 7, 0, 80, 0x10, 0x92][..], &[0; 20]].concat()
}

#[test]
fn what_an_endpoint_sends_of_its_own_stays_the_kernels() {
    let (four, six) = (at("10.0.0.41"), at("fd00::41"));
    let all = [Rule::from(four), Rule::from(six), Rule::keep(at("10.0.0.2")), Rule::keep(at("fd00::2"))];
    let port = |address| [6, 17].map(|protocol| Rule::from(address).narrowed(protocol, Some(80..=80)));
    let some = [&port(four)[..], &port(six), &all[2..]].concat();
    let (e, c, e6, c6) = ("10.0.0.41", "198.51.100.7", "fd00::41", "2001:db8::7");
    let mut group = v4(e, "10.0.0.255", 17, 0, 0, [80, 4242]);
    group[..6].fill(0xff);
    let tcp = b"\x00\x50\x10\x92................";
    let other = b"\x00\x51\x10\x92................";
    // To the endpoint's port 80, and to its 81.
    let (asked, elsewhere) = (b"\x10\x92\x00\x50................", b"\x10\x92\x00\x51................");
    // The frame, whether the kernel is kept from it where flows are recorded, and where ports are declared.
    let cases = [
        ("a reply", v4(e, c, 6, 0, 0, [80, 4242]), true, true),
        ("a reply with options", v4(e, c, 17, 10, 0, [80, 4242]), true, true),
        ("a query", v4(e, c, 17, 0, 0, [4242, 80]), true, false),
        ("another protocol", v4(e, c, 47, 0, 0, [80, 80]), true, false),
        ("a first fragment", v4(e, c, 17, 0, 0x2000, [80, 4242]), true, true),
        ("a later one", v4(e, c, 17, 0, 185, [80, 4242]), true, false),
        ("to a group", group, false, false),
        ("an echo request", v4(e, c, 1, 0, 0, [0x0800, 0]), false, false),
        ("an echo reply", v4(e, c, 1, 0, 0, [0, 0]), false, false),
        ("a fragmented echo", v4(e, c, 1, 0, 0x2000, [0x0800, 0]), false, false),
        ("refuses the service", error_v4([e, c], 3, [c, e], 0, 17, [4242, 80]), true, true),
        ("its packet had options", error_v4([e, c], 3, [c, e], 3, 17, [4242, 80]), true, true),
        ("refuses a port of its own", error_v4([e, c], 3, [c, e], 0, 17, [4242, 81]), true, false),
        ("a router before it", error_v4(["10.0.0.9", c], 11, [c, e], 0, 6, [4242, 80]), true, true),
        ("about an echo", error_v4([e, c], 11, [c, e], 0, 1, [0x0800, 0]), true, false),
        ("about what it sent", error_v4([c, e], 3, [e, c], 0, 17, [80, 4242]), false, false),
        ("about a stranger's", error_v4(["10.0.0.9", c], 11, [c, "10.0.0.9"], 0, 6, [4242, 80]), false, false),
        ("a reply, IPv6", v6(e6, c6, 6, tcp), true, true),
        ("from another port, IPv6", v6(e6, c6, 17, other), true, false),
        ("another protocol, IPv6", v6(e6, c6, 47, tcp), true, false),
        ("a first fragment, IPv6", v6(e6, c6, 44, &fragment(17, 0)), true, true),
        ("a later one, IPv6", v6(e6, c6, 44, &fragment(17, 181)), true, false),
        ("a fragmented echo, IPv6", v6(e6, c6, 44, &fragment(58, 0)), false, false),
        ("an echo request, IPv6", v6(e6, c6, 58, &[128, 0, 0, 0, 0, 0, 0, 0]), false, false),
        ("listens to a group", v6(e6, "ff02::16", 58, &[143, 0, 0, 0, 0, 0, 0, 0]), false, false),
        ("looks for a router", v6(e6, "ff02::2", 58, &[133, 0, 0, 0, 0, 0, 0, 0]), false, false),
        ("asks for its gateway", v6(e6, "ff02::1:ff00:2", 58, &[135; 32]), false, false),
        ("asks it again", v6(e6, "fd00::2", 58, &[135; 32]), false, false),
        ("says where it is", v6(e6, "fd00::7", 58, &[136; 32]), false, false),
        ("to a link-local address", v6(e6, "fe80::2", 6, tcp), false, false),
        ("refuses the service, IPv6", error_v6([e6, c6], 1, [c6, e6], 17, asked), true, true),
        ("refuses a port of its own, IPv6", error_v6([e6, c6], 1, [c6, e6], 17, elsewhere), true, false),
        ("a router before it, IPv6", error_v6(["fd00::9", c6], 2, [c6, e6], 6, asked), true, true),
        ("about what it sent, IPv6", error_v6([c6, e6], 1, [e6, c6], 17, asked), false, false),
    ];
    for (name, frame, recorded, declared) in cases {
        let tagged = [&frame[..12], &Tag::vlan(7).emit(), &frame[12..]].concat();
        for (rules, wanted, which) in [(&all[..], recorded, "recorded"), (&some[..], declared, "declared")] {
            for (frame, tag) in [(&frame, ""), (&tagged, ", tagged")] {
                assert_eq!(is_shot(rules, frame), wanted, "{name}, {which}{tag}");
                assert!(!wanted || passes(rules, frame), "{name}, {which}{tag}: what is dropped, the tap has heard");
            }
        }
    }
}

#[test]
fn a_program_is_never_longer_than_the_kernel_takes() {
    let v6 = |n: u32| Rule::to(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, (n >> 16) as u16, n as u16]));
    let kept: Vec<Rule> = (0..limits::OWN_ADDRESSES as u32).map(|n| Rule::keep(v6(n).address)).collect();
    for kept in [&kept[..0], &kept[..48], &kept] {
        let room = rules_beside(kept.len());
        let most: Vec<Rule> = (0..room as u32).map(v6).collect();
        let narrow: Vec<Rule> = most.iter().map(|rule| rule.clone().narrowed(6, Some(1..=2))).collect();
        let sources: Vec<Rule> = most.iter().map(|rule| Rule::from(rule.address)).collect();
        let ports: Vec<Rule> = sources.iter().map(|rule| rule.clone().narrowed(6, Some(1..=2))).collect();
        for rules in [&most, &narrow, &sources, &ports] {
            let length = classifier(rules, kept).len();
            assert!((MOST / 4..=MOST).contains(&length), "{length} with {} kept", kept.len());
        }
    }
    // A filter that would be longer lets everything through, and a shorter one does not.
    for (count, all) in [(100, false), (4000, true)] {
        let rules: Vec<Rule> = (0..count).map(v6).collect();
        let filter = Filter::new(&Wanted { rules: Some(&rules), macs: &[], tags: true });
        assert!(filter.code.len() <= MOST);
        let (into, out) = UnixDatagram::pair().unwrap();
        SockRef::from(&out).attach_filter(&filter.code).unwrap();
        out.set_nonblocking(true).unwrap();
        let _ = into.send(&v4("10.0.0.1", "10.0.0.100", 17, 0, 0, [1, 2]));
        assert_eq!(out.recv(&mut [0; 64]).is_ok(), all, "{count} rules");
    }
}

#[test]
fn a_reader_that_cannot_see_tags_still_gets_what_has_none() {
    let frame = v4("10.0.0.1", "10.0.0.100", 17, 0, 0, [1, 2]);
    for rules in [None, Some(&[Rule::to(at("10.0.0.100"))][..])] {
        let wanted = Wanted { rules, macs: &[MacAddr([2, 0, 0, 0, 0, 2])], tags: false };
        assert_eq!(run(socket_program(&wanted), &frame), frame.len());
    }
    let nothing: Vec<SockFilter> = Filter::nothing().code;
    assert_eq!(nothing.len(), 1);
}
