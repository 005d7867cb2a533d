//! Tests of the packet codecs together: what builds packets, and properties over all of them.

mod properties;

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::ethernet::{self, EtherType};
use super::icmp::{self, Problem};
use super::ip::Protocol;
use super::tcp::Flags;
use super::{icmpv4, icmpv6, ipv4, ipv6, tcp, udp};
use crate::base::MacAddr;

/// An IP datagram around `payload`, of the family that the addresses have.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16;
    let header = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4::Header::new(source, destination, protocol, len).emit().to_vec()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ipv6::Header::new(source, destination, protocol, len).emit().to_vec()
        }
        _ => panic!("{source} and {destination} are of two families"),
    };
    [header, payload.to_vec()].concat()
}

/// A TCP segment in its datagram, sequence 1000, acknowledgment 2000; `options` is a multiple of four long.
pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: Flags, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = tcp::Header {
        source_port: source.port(),
        destination_port: destination.port(),
        sequence: 1000,
        acknowledgment: 2000,
        header_len: 20 + options.len() as u8,
        flags,
        window: 64240,
        checksum: 0,
        urgent: 0,
    };
    let mut segment = [&header.emit(), options, payload].concat();
    tcp::Segment::new_checked(&mut segment[..]).unwrap().fill_checksum(source.ip(), destination.ip());
    ip(source.ip(), destination.ip(), Protocol::TCP, &segment)
}

pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let header = udp::Header { source_port: source.port(), destination_port: destination.port(), length, checksum: 0 };
    let mut datagram = [&header.emit(), payload].concat();
    udp::Datagram::new_checked(&mut datagram[..]).unwrap().fill_checksum(source.ip(), destination.ip());
    ip(source.ip(), destination.ip(), Protocol::UDP, &datagram)
}

/// An echo request, identifier 7, sequence 1.
pub fn echo(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Vec<u8> {
    let rest = 0x0007_0001;
    match (source, destination) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = icmpv6::Header { kind: icmpv6::ECHO_REQUEST, code: 0, checksum: 0, rest };
            let mut message = [&header.emit(), payload].concat();
            icmpv6::Message::new_checked(&mut message[..]).unwrap().fill_checksum(from, to);
            ip(source, destination, Protocol::ICMPV6, &message)
        }
        _ => {
            let header = icmpv4::Header { kind: icmpv4::ECHO_REQUEST, code: 0, checksum: 0, rest };
            let mut message = [&header.emit(), payload].concat();
            icmpv4::Message::new_checked(&mut message[..]).unwrap().fill_checksum();
            ip(source, destination, Protocol::ICMP, &message)
        }
    }
}

/// An ICMP error about `about`, from a router.
pub fn error(problem: Problem, router: IpAddr, about: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 1500];
    let len = icmp::error(problem, router, about, 0, &mut out).unwrap();
    out.truncate(len);
    out
}

/// An untagged frame around an IP datagram.
pub fn frame(ip: &[u8]) -> Vec<u8> {
    let ether_type = if ip[0] >> 4 == 6 { EtherType::IPV6 } else { EtherType::IPV4 };
    let [destination, source] = [2, 1].map(|last| MacAddr([2, 0, 0, 0, 0, last]));
    [&ethernet::Header { destination, source, ether_type }.emit(), ip].concat()
}

/// Sums the IPv4 header anew after a test has edited it.
pub fn fix_header(ip: &mut [u8]) {
    if let Ok(mut packet) = ipv4::Packet::new_embedded(ip) {
        packet.fill_checksum();
    }
}

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Where clients and services are, of either family.
pub fn peers() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    (any::<bool>(), any::<[u8; 2]>(), 1..=u16::MAX, 1..=u16::MAX).prop_map(|(v6, [a, b], from, to)| {
        let (source, destination) = if v6 {
            (format!("[2001:db8::{a:x}]:{from}"), format!("[2001:db8:1::{b:x}]:{to}"))
        } else {
            (format!("198.51.100.{a}:{from}"), format!("10.0.0.{b}:{to}"))
        };
        (at(&source), at(&destination))
    })
}

/// Datagrams with right checksums: TCP, UDP, echoes and errors about each, of either family.
pub fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let payload = vec(any::<u8>(), 0..64);
    let plain = (peers(), payload, 0..4_u8, any::<u8>()).prop_map(|((from, to), payload, kind, flags)| match kind {
        0 => tcp(from, to, Flags(flags), &[], &payload),
        1 => tcp(from, to, Flags::SYN, &[2, 4, 5, 0xb4, 1, 3, 3, 7], &[]),
        2 => udp(from, to, &payload),
        _ => echo(from.ip(), to.ip(), &payload),
    });
    (plain, 0..6_u8).prop_map(|(about, problem)| {
        let router = if about[0] >> 4 == 6 { "2001:db8:ffff::1" } else { "192.0.2.1" };
        match problem {
            0 => error(Problem::TooBig { mtu: 1400 }, address(router), &about),
            1 => error(Problem::TimeExceeded { code: 0 }, address(router), &about),
            _ => about,
        }
    })
}
