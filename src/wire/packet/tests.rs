//! Tests of the walk: each row of the hardening catalogue that bytes alone decide.

use super::*;
use crate::wire::icmp::{Embedded, Problem};
use crate::wire::tcp::Flags;
use crate::wire::tests::{address, at, echo, error, fix_header, frame, ip, tcp, udp};

const CLIENT: &str = "198.51.100.7:4242";
const VIP: &str = "10.0.0.100:80";
const CLIENT_6: &str = "[2001:db8::7]:4242";
const VIP_6: &str = "[2001:db8:1::100]:80";

fn syn() -> Vec<u8> {
    tcp(at(CLIENT), at(VIP), Flags::SYN, &[], &[])
}

/// Parsed and checked, as an engine does it.
fn judge(ip: &[u8]) -> Result<Packet, Fault> {
    let packet = Packet::parse(ip)?;
    packet.check(ip)?;
    Ok(packet)
}

#[test]
fn the_walk_reads_what_an_engine_decides_by() {
    for (from, to) in [(CLIENT, VIP), (CLIENT_6, VIP_6)] {
        let (from, to) = (at(from), at(to));
        let segment = tcp(from, to, Flags::SYN, &[2, 4, 5, 0xb4], b"early");
        let packet = judge(&segment).unwrap();
        assert_eq!((packet.source, packet.destination), (from.ip(), to.ip()));
        assert_eq!((packet.protocol, packet.hops, packet.fragment), (Protocol::TCP, 64, Fragment::Whole));
        assert_eq!(packet.ports(), Some(Ports { source: 4242, destination: 80 }));
        assert_eq!((packet.len, packet.payload_len()), (segment.len(), 5));
        let Transport::Tcp(header) = packet.transport else { panic!("{packet:?}") };
        assert_eq!((header.flags, header.sequence), (Flags::SYN, 1000));

        let datagram = udp(from, to, b"abc");
        let packet = judge(&datagram).unwrap();
        assert_eq!(packet.ports(), Some(Ports { source: 4242, destination: 80 }));
        assert_eq!((packet.payload_len(), packet.transport_bytes(&datagram).len()), (3, 11));

        let ping = echo(from.ip(), to.ip(), b"abcd");
        let packet = judge(&ping).unwrap();
        assert_eq!(packet.transport, Transport::Icmp(Icmp::EchoRequest { identifier: 7, sequence: 1 }));
        assert_eq!((packet.ports(), packet.payload_len()), (None, 4));

        let gre = ip(from.ip(), to.ip(), Protocol::GRE, b"?");
        let packet = judge(&gre).unwrap();
        assert_eq!((packet.transport, packet.ports(), packet.payload_len()), (Transport::Other, None, 1));
        assert_eq!(destination(&gre), Some(to.ip()));
    }
    for bytes in [&[][..], &[0x45; 19], &[0x60; 39], &[0x00; 64]] {
        assert_eq!(destination(bytes), None);
    }
}

#[test]
fn an_error_names_its_flow_by_eight_bytes() {
    for (router, from, to) in [("192.0.2.1", VIP, CLIENT), ("2001:db8:ffff::1", VIP_6, CLIENT_6)] {
        let sent = tcp(at(from), at(to), Flags::ACK, &[], &[0; 100]);
        let headers = sent.len() - 120;
        let whole = error(Problem::TooBig { mtu: 1400 }, address(router), &sent);
        let outer = whole.len() - sent.len();
        // A router that embeds the least it may.
        let mut least = ip(
            address(router),
            at(from).ip(),
            Packet::parse(&whole).unwrap().protocol,
            &whole[outer - 8..outer + headers + 8],
        );
        fix_header(&mut least);
        for message in [&whole, &least] {
            let Transport::Icmp(Icmp::Error { problem, embedded }) = judge(message).unwrap().transport else {
                panic!("{message:?}")
            };
            assert_eq!(problem, Problem::TooBig { mtu: 1400 });
            let want = Embedded {
                source: at(from).ip(),
                destination: at(to).ip(),
                protocol: Protocol::TCP,
                fragment: Fragment::Whole,
                offset: outer,
                transport: outer + headers,
                ports: Some(Ports { source: 80, destination: 4242 }),
            };
            assert_eq!(embedded, want);
        }
        // One byte less than the ports, and nobody knows whose it is (G17).
        let short =
            ip(address(router), at(from).ip(), judge(&whole).unwrap().protocol, &least[outer - 8..][..8 + headers + 3]);
        assert_eq!(judge(&short), Err(Fault::BadEmbedded));
    }
}

#[test]
fn errors_are_told_apart() {
    let about = udp(at(VIP), at(CLIENT), b"x");
    let about_6 = udp(at(VIP_6), at(CLIENT_6), b"x");
    for problem in [
        Problem::Unreachable { code: icmpv4::PORT_UNREACHABLE },
        Problem::TooBig { mtu: 1280 },
        Problem::TimeExceeded { code: 1 },
        Problem::Parameter { code: 0, pointer: 20 },
    ] {
        for (router, about) in [("192.0.2.1", &about), ("2001:db8:ffff::1", &about_6)] {
            let bytes = error(problem, address(router), about);
            let packet = judge(&bytes).unwrap();
            let Transport::Icmp(Icmp::Error { problem: read, .. }) = packet.transport else { panic!("{packet:?}") };
            assert_eq!(read, problem);
            assert_eq!(packet.is_checksum_valid(&bytes), Some(true));
            assert_eq!((packet.source, packet.destination), (address(router), Packet::parse(about).unwrap().source));
            assert!(!packet.permits_error(), "errors are not answered with errors");
        }
    }
    for (kind, want) in [
        (5, Icmp::Redirect),
        (0, Icmp::EchoReply { identifier: 7, sequence: 1 }),
        (13, Icmp::Other { kind: 13, code: 0 }),
    ] {
        let mut bytes = echo(at(CLIENT).ip(), at(VIP).ip(), b"");
        bytes[20] = kind;
        assert_eq!(judge(&bytes).unwrap().transport, Transport::Icmp(want));
    }
}

#[test]
fn an_error_embeds_what_it_may_and_no_padding() {
    let long = [udp(at(VIP), at(CLIENT), &[7; 1200]), vec![0; 30]].concat();
    assert_eq!(error(Problem::TooBig { mtu: 600 }, address("192.0.2.1"), &long).len(), 576);
    let long = udp(at(VIP_6), at(CLIENT_6), &[7; 1400]);
    assert_eq!(error(Problem::TooBig { mtu: 1280 }, address("2001:db8::1"), &long).len(), 1280);
    let short = [udp(at(VIP), at(CLIENT), &[7; 4]), vec![0; 14]].concat();
    assert_eq!(error(Problem::TooBig { mtu: 600 }, address("192.0.2.1"), &short).len(), 28 + 32);
    let mut room = [0; 28 + 20 + 3];
    let problem = Problem::TimeExceeded { code: 0 };
    let sent = super::super::icmp::error(problem, address("192.0.2.1"), &short, 0, &mut room);
    assert_eq!(sent, Err(Fault::Truncated));
    let sent = super::super::icmp::error(problem, address("2001:db8::1"), &short, 0, &mut room);
    assert_eq!(sent, Err(Fault::BadIpVersion));
}

/// Rows G5, G6, G8 and G11 to G15, by one edit each of a good packet; the header's sum is made right again unless it is the point.
#[test]
fn what_is_wrong_has_its_name() {
    type Edit = fn(&mut Vec<u8>);
    let cases: [(&str, Edit, Fault); 18] = [
        ("no bytes", |b| b.clear(), Fault::Truncated),
        ("version 5", |b| b[0] = 0x55, Fault::BadIpVersion),
        ("a total length beyond the end", |b| b[3] += 1, Fault::BadTotalLength),
        ("options", |b| *b = with_options(b), Fault::IpOptions),
        ("a source in 0/8", |b| b[12] = 0, Fault::MartianSource),
        ("a source in 127/8", |b| b[12] = 127, Fault::MartianSource),
        ("a source in 224/4", |b| b[12] = 239, Fault::MartianSource),
        ("a source in 240/4", |b| b[12] = 240, Fault::MartianSource),
        ("a data offset of 4", |b| b[32] = 0x40, Fault::BadHeaderLength),
        ("a data offset past the end", |b| b[32] = 0x60, Fault::BadHeaderLength),
        ("19 bytes of TCP", |b| (b.truncate(39), b[3] = 39).1, Fault::Truncated),
        ("SYN and FIN", |b| b[33] = 0x03, Fault::BadTcpFlags),
        ("no flags", |b| b[33] = 0, Fault::BadTcpFlags),
        ("a Christmas tree", |b| b[33] = 0x29, Fault::BadTcpFlags),
        ("source port 0", |b| b[20..22].fill(0), Fault::ZeroPort),
        ("destination port 0", |b| b[22..24].fill(0), Fault::ZeroPort),
        ("a UDP length of 7", |b| (b[9] = 17, b[25] = 7).1, Fault::BadUdpLength),
        ("a UDP length beyond IP's", |b| (b[9] = 17, b[25] = 21).1, Fault::BadUdpLength),
    ];
    for (name, edit, fault) in cases {
        let mut bytes = syn();
        bytes[24..26].fill(0); // of a sequence number, or UDP's length
        edit(&mut bytes);
        fix_header(&mut bytes);
        assert_eq!(judge(&bytes).unwrap_err(), fault, "{name}");
    }
    for at in 0..20 {
        let mut bytes = syn();
        bytes[at] ^= 0x10;
        assert!(judge(&bytes).is_err(), "byte {at} of the header");
    }
    let mut bytes = syn();
    bytes[10] ^= 1;
    assert_eq!(judge(&bytes), Err(Fault::BadIpChecksum));
    let looping = tcp(at(CLIENT), at(VIP), Flags::SYN, &[8, 0, 1, 1], &[]);
    assert_eq!(judge(&looping), Err(Fault::BadOption));
}

/// Four bytes of padding as options.
fn with_options(ip: &[u8]) -> Vec<u8> {
    let mut bytes = [&ip[..20], &[1; 4], &ip[20..]].concat();
    bytes[0] = 0x46;
    bytes[3] += 4;
    bytes
}

#[test]
fn udp_without_a_checksum_is_for_ipv4_only() {
    let mut bytes = udp(at(CLIENT), at(VIP), b"x");
    bytes[26..28].fill(0);
    assert_eq!(judge(&bytes).unwrap().is_checksum_valid(&bytes), Some(true));
    let mut bytes = udp(at(CLIENT_6), at(VIP_6), b"x");
    bytes[46..48].fill(0);
    assert_eq!(judge(&bytes), Err(Fault::NoUdpChecksum));
}

#[test]
fn fragments_have_ports_in_the_first_only_and_none_replaces_its_header() {
    let cut = |mut bytes: Vec<u8>, payload: usize, flags: u16| {
        bytes.truncate(20 + payload);
        bytes[2..4].copy_from_slice(&(20 + payload as u16).to_be_bytes());
        bytes[4..6].copy_from_slice(&[0, 9]);
        bytes[6..8].copy_from_slice(&flags.to_be_bytes());
        fix_header(&mut bytes);
        bytes
    };
    let (more, id) = (0x2000, 9);
    let segment = || tcp(at(CLIENT), at(VIP), Flags::ACK, &[1; 4], &[7; 100]);
    let datagram = || udp(at(CLIENT), at(VIP), &[7; 100]);
    for (name, bytes, want) in [
        ("a first of TCP", cut(segment(), 24, more), Ok((Fragment::First { id }, true))),
        ("a first of TCP that ends in its options", cut(segment(), 16, more), Err(Fault::TinyFragment)),
        ("a first of UDP", cut(datagram(), 8, more), Ok((Fragment::First { id }, true))),
        ("a first of nothing", cut(datagram(), 0, more), Err(Fault::TinyFragment)),
        ("a later one within the TCP header", cut(segment(), 24, more | 1), Err(Fault::TinyFragment)),
        (
            "a later one after it",
            cut(segment(), 24, more | 3),
            Ok((Fragment::Later { id, offset: 24, last: false }, false)),
        ),
        ("the last", cut(datagram(), 5, 1), Ok((Fragment::Later { id, offset: 8, last: true }, false))),
        ("one that is no multiple of eight", cut(datagram(), 5, more), Err(Fault::BadFragment)),
        ("one that ends beyond 65 535", cut(datagram(), 8, 0x1fff), Err(Fault::BadFragment)),
    ] {
        let got = judge(&bytes).map(|packet| (packet.fragment, packet.ports().is_some()));
        assert_eq!(got, want, "{name}");
        if let Ok(packet) = judge(&bytes) {
            assert_eq!(packet.is_checksum_valid(&bytes), None, "{name}");
            assert_eq!(packet.permits_error(), packet.ports().is_some(), "{name}");
        }
    }
}

#[test]
fn a_frame_says_which_family_it_carries() {
    for (ip, other) in [(syn(), 0x86dd_u16), (tcp(at(CLIENT_6), at(VIP_6), Flags::SYN, &[], &[]), 0x0800)] {
        let mut bytes = frame(&ip);
        let parsed = Packet::of_frame(&Frame::new_checked(&bytes).unwrap()).unwrap();
        assert_eq!(parsed, Some(Packet::parse(&ip).unwrap()));
        bytes[12..14].copy_from_slice(&other.to_be_bytes());
        let parsed = Packet::of_frame(&Frame::new_checked(&bytes).unwrap());
        assert_eq!(parsed, Err(Fault::BadIpVersion));
        bytes[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(Packet::of_frame(&Frame::new_checked(&bytes).unwrap()), Ok(None));
    }
}

#[test]
fn no_error_goes_to_or_about_what_is_no_single_host() {
    for (from, to, permitted) in [
        (CLIENT, VIP, true),
        ("0.0.0.0:1", VIP, false),
        ("127.0.0.1:1", VIP, false),
        (CLIENT, "224.0.0.1:1", false),
        (CLIENT, "255.255.255.255:1", false),
        (CLIENT_6, VIP_6, true),
        ("[::]:1", VIP_6, false),
        (CLIENT_6, "[ff02::1]:1", false),
    ] {
        let packet = Packet::parse(&udp(at(from), at(to), b"x")).unwrap();
        assert_eq!(packet.permits_error(), permitted, "{from} > {to}");
    }
}
