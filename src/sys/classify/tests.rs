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

fn at(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn framed(ether_type: u16, payload: &[&[u8]]) -> Vec<u8> {
    [b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01", &ether_type.to_be_bytes()[..], &payload.concat()].concat()
}

fn octets(address: &str) -> Vec<u8> {
    match at(address) {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An IPv4 packet with `options` words of options and a fragment offset.
fn v4(from: &str, to: &str, protocol: u8, options: u8, offset: u16, ports: [u16; 2]) -> Vec<u8> {
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

fn v6(from: &str, to: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    framed(0x86dd, &[&[0x60, 0, 0, 0, 0, 40, next, 64], &octets(from), &octets(to), payload])
}

fn arp(operation: u8, sender: &str, target: &str) -> Vec<u8> {
    let mac = [0; 6];
    framed(0x0806, &[&[0, 1, 8, 0, 6, 4, 0, operation], &mac, &octets(sender), &mac, &octets(target)])
}

fn ndp(kind: u8, target: &str) -> Vec<u8> {
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

#[test]
fn a_program_is_never_longer_than_the_kernel_takes() {
    let v6 = |n: u32| Rule::to(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, (n >> 16) as u16, n as u16]));
    let most: Vec<Rule> = (0..RULES_A_CLASSIFIER as u32).map(v6).collect();
    let narrow: Vec<Rule> = most.iter().map(|rule| rule.clone().narrowed(6, Some(1..=2))).collect();
    for rules in [&most, &narrow] {
        let length = classifier(rules, &[]).len();
        assert!((MOST / 3..=MOST).contains(&length), "{length}");
    }
    let kept: Vec<Rule> = (0..KEPT as u32).map(|n| Rule::keep(v6(n).address)).collect();
    let mut sources: Vec<Rule> = narrow.iter().map(|rule| Rule::from(rule.address).narrowed(6, Some(1..=2))).collect();
    sources.truncate(RULES_A_CLASSIFIER);
    let length = classifier(&sources, &kept).len();
    assert!(length <= MOST, "{length}");
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
