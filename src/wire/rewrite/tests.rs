//! Tests of translation: whatever is edited, all sums come out as if the packet had been made that way.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::checksum::{self, Sum};
use crate::wire::icmp::Problem;
use crate::wire::ip::Fragment;
use crate::wire::tcp::Flags;
use crate::wire::tests::{address, at, datagram, echo, error, fix_header, ip, tcp, udp};

fn place(text: &str) -> Place {
    let address = at(text);
    Place { address: address.ip(), port: Some(address.port()) }
}

fn translated(bytes: &[u8], outer: &Edit, embedded: &Edit) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let packet = Packet::parse(&bytes).unwrap();
    translate(&mut bytes, &packet, outer, embedded, Stored::Whole).unwrap();
    bytes
}

/// A packet to the VIP, translated, is byte for byte the packet to the endpoint.
#[test]
fn a_translated_packet_is_one_made_that_way() {
    for (client, vip, endpoint, balancer) in [
        ("198.51.100.7:4242", "10.0.0.100:80", "10.0.0.41:8080", "10.0.0.1:50000"),
        ("[2001:db8::7]:4242", "[2001:db8:1::100]:80", "[fd00::41]:8080", "[fd00::1]:50000"),
    ] {
        let (client, vip) = (at(client), at(vip));
        let nat = Edit::destination(place(endpoint));
        let full_nat = Edit { source: Some(place(balancer)), ..nat };
        for (edit, from) in [(nat, client), (full_nat, at(balancer))] {
            let segment = |from, to| tcp(from, to, Flags::SYN, &[2, 4, 5, 0xb4], b"x");
            assert_eq!(translated(&segment(client, vip), &edit, &Edit::NONE), segment(from, at(endpoint)));
            let datagram = |from, to| udp(from, to, b"abc");
            assert_eq!(translated(&datagram(client, vip), &edit, &Edit::NONE), datagram(from, at(endpoint)));
            let ping = |from: SocketAddr, to: SocketAddr| echo(from.ip(), to.ip(), b"abc");
            assert_eq!(translated(&ping(client, vip), &edit, &Edit::NONE), ping(from, at(endpoint)));
        }
    }
}

/// A router's error about the VIP's reply goes to the endpoint as if it were about the endpoint's own packet; an endpoint's
/// error goes to the client as if the VIP had sent it.
#[test]
fn an_error_is_translated_inside_too() {
    for (router, client, vip, endpoint) in [
        ("192.0.2.1", "198.51.100.7:4242", "10.0.0.100:80", "10.0.0.41:8080"),
        ("2001:db8:ffff::1", "[2001:db8::7]:4242", "[2001:db8:1::100]:80", "[fd00::41]:8080"),
    ] {
        let replies: [fn(SocketAddr, SocketAddr) -> Vec<u8>; 3] = [
            |from, to| tcp(from, to, Flags::ACK, &[], &[7; 90]),
            |from, to| udp(from, to, &[7; 90]),
            |from, to| echo(from.ip(), to.ip(), &[7; 90]),
        ];
        for reply in replies {
            let big = Problem::TooBig { mtu: 1400 };
            let inbound = error(big, address(router), &reply(at(vip), at(client)));
            let to_endpoint = Place { port: None, ..place(endpoint) };
            let got = translated(&inbound, &Edit::destination(to_endpoint), &Edit::source(place(endpoint)));
            assert_eq!(got, error(big, address(router), &reply(at(endpoint), at(client))));

            let refused = Problem::Unreachable { code: 3 };
            let outbound = error(refused, at(endpoint).ip(), &reply(at(client), at(endpoint)));
            let got = translated(&outbound, &Edit::source(place(vip)), &Edit::destination(place(vip)));
            assert_eq!(got, error(refused, at(vip).ip(), &reply(at(client), at(vip))));
        }
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut bytes = udp(at("198.51.100.7:4242"), at("10.0.0.100:53"), b"abc");
    bytes[26..28].fill(0);
    let got = translated(&bytes, &Edit::destination(place("10.0.0.41:5353")), &Edit::NONE);
    assert_eq!(Packet::parse(&got).unwrap().is_checksum_valid(&got), Some(true));
    assert_eq!(got[26..28], [0, 0]);
}

#[test]
fn a_partial_sum_completes_to_the_right_one() {
    let (client, vip, endpoint) = (at("198.51.100.7:4242"), at("10.0.0.100:80"), at("10.0.0.41:8080"));
    type Made = fn(SocketAddr, SocketAddr) -> Vec<u8>;
    let kinds: [(u8, usize, Made); 2] =
        [(6, 16, |from, to| tcp(from, to, Flags::ACK, &[], b"data")), (17, 6, |from, to| udp(from, to, b"data"))];
    for (protocol, offset, made) in kinds {
        let mut bytes = made(client, vip);
        let packet = Packet::parse(&bytes).unwrap();
        let pseudo = Sum::pseudo(client.ip(), vip.ip(), protocol, bytes.len() - 20).folded();
        bytes::put(&mut bytes, 20 + offset, &pseudo.to_be_bytes());
        let edit = Edit::destination(place("10.0.0.41:8080"));
        translate(&mut bytes, &packet, &edit, &Edit::NONE, Stored::Partial).unwrap();
        checksum::complete(&mut bytes, 20, offset).unwrap();
        assert_eq!(bytes, made(client, endpoint));
    }
}

/// The first fragment has the checksum of all; the others have addresses only.
#[test]
fn fragments_are_translated_as_far_as_they_go() {
    let (client, vip, endpoint) = (at("198.51.100.7:4242"), at("10.0.0.100:80"), "10.0.0.41:8080");
    let cut = |bytes: &[u8], start: usize, end: usize, flags: u16| {
        let mut part = [&bytes[..20], &bytes[20 + start..20 + end]].concat();
        let len = part.len() as u16;
        part[2..4].copy_from_slice(&len.to_be_bytes());
        part[6..8].copy_from_slice(&(flags | (start / 8) as u16).to_be_bytes());
        fix_header(&mut part);
        part
    };
    let before = udp(client, vip, &[7; 56]);
    let after = udp(client, at(endpoint), &[7; 56]);
    for (start, end, flags) in [(0, 32, 0x2000), (32, 64, 0)] {
        let got = translated(&cut(&before, start, end, flags), &Edit::destination(place(endpoint)), &Edit::NONE);
        assert_eq!(got, cut(&after, start, end, flags));
        assert_ne!(Packet::parse(&got).unwrap().fragment, Fragment::Whole);
    }
}

#[test]
fn a_protocol_without_a_pseudo_header_keeps_its_bytes_and_one_with_it_its_sum() {
    let (client, vip, endpoint) = (address("198.51.100.7"), address("10.0.0.100"), "10.0.0.41:1");
    let edit = Edit::destination(Place { port: None, ..place(endpoint) });
    for protocol in [Protocol::GRE, Protocol::SCTP, Protocol::ESP] {
        let payload = [0xa5; 32];
        let got = translated(&ip(client, vip, protocol, &payload), &edit, &Edit::NONE);
        assert_eq!(got, ip(client, at(endpoint).ip(), protocol, &payload));
    }
    for protocol in [UDP_LITE, DCCP] {
        let made = |to| {
            let mut payload = [0xa5; 32];
            payload[6..8].fill(0);
            let sum = Sum::pseudo(client, to, protocol.0, 32).bytes(&payload).checksum();
            payload[6..8].copy_from_slice(&sum.to_be_bytes());
            ip(client, to, protocol, &payload)
        };
        assert_eq!(translated(&made(vip), &edit, &Edit::NONE), made(at(endpoint).ip()));
        // Too short for a checksum: nothing is written past the end.
        let short = ip(client, vip, protocol, &[0xa5; 7]);
        assert_eq!(translated(&short, &edit, &Edit::NONE), ip(client, at(endpoint).ip(), protocol, &[0xa5; 7]));
    }
}

#[test]
fn a_place_of_the_other_family_is_refused_and_nothing_changes() {
    let mut bytes = udp(at("198.51.100.7:4242"), at("10.0.0.100:53"), b"abc");
    let (packet, before) = (Packet::parse(&bytes).unwrap(), bytes.clone());
    let edit = Edit::destination(place("[fd00::41]:53"));
    let got = translate(&mut bytes, &packet, &edit, &Edit::NONE, Stored::Whole);
    assert_eq!((got, bytes), (Err(Fault::BadIpVersion), before));
}

#[test]
fn hops_count_down_in_both_families() {
    for bytes in
        [udp(at("198.51.100.7:4242"), at("10.0.0.100:53"), b""), udp(at("[fd00::1]:1"), at("[fd00::2]:2"), b"")]
    {
        let mut bytes = bytes;
        for hops in (1..64).rev() {
            assert!(decrement_hops(&mut bytes));
            assert_eq!(Packet::parse(&bytes).unwrap().hops, hops);
        }
        assert!(!decrement_hops(&mut bytes));
        assert_eq!(Packet::parse(&bytes).unwrap().hops, 1);
    }
    assert!(!decrement_hops(&mut [0; 64]));
}

/// Any place of the family that `v6` names.
fn any_place(v6: bool) -> impl Strategy<Value = Place> {
    (any::<[u8; 16]>(), prop::option::of(any::<u16>())).prop_map(move |(octets, port)| {
        let address = match octets.first_chunk::<4>() {
            Some(four) if !v6 => IpAddr::from(*four),
            _ => IpAddr::from(octets),
        };
        Place { address, port }
    })
}

fn any_edit(v6: bool) -> impl Strategy<Value = Edit> {
    (prop::option::of(any_place(v6)), prop::option::of(any_place(v6)))
        .prop_map(|(source, destination)| Edit { source, destination })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Valid in, valid out, outside and inside, and translating back gives the bytes that were.
    #[test]
    fn incremental_is_full_for_any_translation(
        (before, outer, embedded) in datagram().prop_flat_map(|ip| {
            let v6 = ip[0] >> 4 == 6;
            (Just(ip), any_edit(v6), any_edit(v6))
        }),
    ) {
        let after = translated(&before, &outer, &embedded);
        let (was, is) = (Packet::parse(&before).unwrap(), Packet::parse(&after).unwrap());
        prop_assert_eq!(is.is_checksum_valid(&after), Some(true));
        prop_assert_eq!(is.source, outer.source.map_or(was.source, |place| place.address));
        prop_assert_eq!(is.destination, outer.destination.map_or(was.destination, |place| place.address));
        let back = |packet: &Packet, edit: &Edit| {
            let ports = packet.ports().unwrap_or_default();
            let place = |address, port| Place { address, port: Some(port) };
            Edit {
                source: edit.source.map(|_| place(packet.source, ports.source)),
                destination: edit.destination.map(|_| place(packet.destination, ports.destination)),
            }
        };
        let mut inner_back = Edit::NONE;
        if let (Transport::Icmp(Icmp::Error { embedded: was, .. }), Transport::Icmp(Icmp::Error { embedded: is, .. })) =
            (was.transport, is.transport)
        {
            let place = |address, port| Some(Place { address, port: Some(port) });
            let ports = was.ports.unwrap_or_default();
            inner_back.source = embedded.source.and(place(was.source, ports.source));
            inner_back.destination = embedded.destination.and(place(was.destination, ports.destination));
            prop_assert_eq!(is.source, embedded.source.map_or(was.source, |place| place.address));
            // What is inside is as valid as it was: here all of it fits.
            let inner = Packet::parse(&after[is.offset..]).unwrap();
            prop_assert_eq!(inner.is_checksum_valid(&after[is.offset..]), Some(true));
        }
        prop_assert_eq!(translated(&after, &back(&was, &outer), &inner_back), before);
    }

    /// Broken packets that still parse are translated without a panic, within their bounds.
    #[test]
    fn no_bytes_panic(
        (ip, edits, outer, embedded, partial) in datagram().prop_flat_map(|ip| {
            let v6 = ip[0] >> 4 == 6;
            let edits = vec((any::<prop::sample::Index>(), any::<u8>()), 0..5);
            (Just(ip), edits, any_edit(v6), any_edit(v6), any::<bool>())
        }),
    ) {
        let mut bytes = ip;
        for (index, value) in edits {
            let at = index.index(bytes.len().min(72));
            bytes[at] = value;
        }
        fix_header(&mut bytes);
        if let Ok(packet) = Packet::parse(&bytes) {
            bytes.extend_from_slice(&[0xee; 8]);
            let stored = if partial { Stored::Partial } else { Stored::Whole };
            let _ = translate(&mut bytes, &packet, &outer, &embedded, stored);
            prop_assert_eq!(&bytes[bytes.len() - 8..], &[0xee; 8]);
            decrement_hops(&mut bytes);
        }
    }
}
