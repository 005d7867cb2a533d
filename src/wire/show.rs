//! Codec: one line of text for a frame or an IP datagram, as tcpdump would put it.
//!
//! ```text
//! 02:00:00:00:00:01 > 02:00:00:00:00:02 vlan 7 10.0.0.1:4242 > 10.0.0.100:80 tcp [S] seq 1 len 0
//! ```
//!
//! What cannot be read says why, with the word that a drop of it has. Tunnels show what is inside, after a bar.
//!
//! Not here: whether checksums are right, beyond IPv4's.

use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};

use super::arp::{Arp, Operation};
use super::bytes;
use super::ethernet::{EtherType, Frame};
use super::fault::Fault;
use super::icmp::{Icmp, Problem};
use super::ip::Fragment;
use super::ndp::Neighbor;
use super::packet::{self, Packet, Transport};
use super::tcp::{Flags, Segment};
use super::{gue, icmpv6, ipip};

/// Tunnels in tunnels that are shown: more is a loop.
const DEPTH: u8 = 2;

/// Shows a frame.
pub fn frame(bytes: &[u8]) -> impl fmt::Display {
    fmt::from_fn(move |f| match Frame::new_checked(bytes) {
        Err(fault) => refused(f, fault, bytes.len()),
        Ok(frame) => {
            write!(f, "{} > {} ", frame.source(), frame.destination())?;
            for tag in frame.tags() {
                write!(f, "vlan {} ", tag.id())?;
            }
            match frame.ether_type() {
                EtherType::ARP => show_arp(f, frame.payload()),
                EtherType::IPV4 | EtherType::IPV6 => match Packet::of_frame(&frame) {
                    Ok(Some(packet)) => show_packet(f, frame.payload(), &packet, DEPTH),
                    Ok(None) => Ok(()),
                    Err(fault) => show_fault(f, frame.payload(), fault),
                },
                other => write!(f, "{other} len {}", frame.payload().len()),
            }
        }
    })
}

/// Shows an IP datagram.
pub fn ip(bytes: &[u8]) -> impl fmt::Display {
    fmt::from_fn(move |f| show_ip(f, bytes, DEPTH))
}

fn show_ip(f: &mut fmt::Formatter<'_>, ip: &[u8], depth: u8) -> fmt::Result {
    match Packet::parse(ip) {
        Ok(packet) => show_packet(f, ip, &packet, depth),
        Err(fault) => show_fault(f, ip, fault),
    }
}

fn show_fault(f: &mut fmt::Formatter<'_>, ip: &[u8], fault: Fault) -> fmt::Result {
    if let Some(destination) = packet::destination(ip) {
        write!(f, "? > {destination} ")?;
    }
    refused(f, fault, ip.len())
}

fn refused(f: &mut fmt::Formatter<'_>, fault: Fault, len: usize) -> fmt::Result {
    write!(f, "{} ({len} bytes)", fault.word())
}

fn show_packet(f: &mut fmt::Formatter<'_>, ip: &[u8], packet: &Packet, depth: u8) -> fmt::Result {
    match packet.ports() {
        Some(ports) => {
            let (source, destination) = (ports.source, ports.destination);
            show_flow(f, (packet.source, Some(source)), (packet.destination, Some(destination)))?;
        }
        None => show_flow(f, (packet.source, None), (packet.destination, None))?,
    }
    match packet.transport {
        Transport::Tcp(header) => {
            write!(f, " tcp {} seq {}", header.flags, header.sequence)?;
            if header.flags.contains(Flags::ACK) {
                write!(f, " ack {}", header.acknowledgment)?;
            }
            let segment = Segment::new_checked(packet.transport_bytes(ip));
            if let Ok(Some(size)) = segment.and_then(|segment| segment.maximum_segment_size()) {
                write!(f, " mss {size}")?;
            }
        }
        Transport::Udp(_) => f.write_str(" udp")?,
        Transport::Icmp(icmp) => {
            write!(f, " {} ", packet.protocol)?;
            show_icmp(f, ip, packet, &icmp)?;
        }
        Transport::Fragment | Transport::Other => write!(f, " {}", packet.protocol)?,
    }
    match packet.fragment {
        Fragment::Whole => {}
        Fragment::First { id } => write!(f, " fragment {id} at 0")?,
        Fragment::Later { id, offset, last } => {
            write!(f, " fragment {id} at {offset}{}", if last { " (last)" } else { "" })?;
        }
    }
    let tunnel = match ipip::decapsulate(ip, packet) {
        Ok(None) => gue::decapsulate(ip, packet),
        found => found,
    };
    match (tunnel, depth.checked_sub(1)) {
        (Ok(None), _) => write!(f, " len {}", packet.payload_len()),
        (Ok(Some(at)), Some(depth)) => {
            f.write_str(" | ")?;
            show_ip(f, bytes::between(ip, at, packet.len), depth)
        }
        (Ok(Some(_)), None) => f.write_str(" | …"),
        (Err(fault), _) => write!(f, " | {}", fault.word()),
    }
}

fn show_flow(
    f: &mut fmt::Formatter<'_>,
    source: (IpAddr, Option<u16>),
    destination: (IpAddr, Option<u16>),
) -> fmt::Result {
    show_end(f, source)?;
    f.write_str(" > ")?;
    show_end(f, destination)
}

fn show_end(f: &mut fmt::Formatter<'_>, (address, port): (IpAddr, Option<u16>)) -> fmt::Result {
    match port {
        Some(port) => SocketAddr::new(address, port).fmt(f),
        None => address.fmt(f),
    }
}

fn show_icmp(f: &mut fmt::Formatter<'_>, ip: &[u8], packet: &Packet, icmp: &Icmp) -> fmt::Result {
    match icmp {
        Icmp::EchoRequest { identifier, sequence } => write!(f, "echo-request id {identifier} seq {sequence}"),
        Icmp::EchoReply { identifier, sequence } => write!(f, "echo-reply id {identifier} seq {sequence}"),
        Icmp::Redirect => f.write_str("redirect"),
        Icmp::Error { problem, embedded } => {
            match problem {
                Problem::Unreachable { code } => write!(f, "unreachable code {code}")?,
                Problem::TooBig { mtu } => write!(f, "too-big mtu {mtu}")?,
                Problem::TimeExceeded { code } => write!(f, "time-exceeded code {code}")?,
                Problem::Parameter { code, pointer } => write!(f, "parameter-problem code {code} at {pointer}")?,
            }
            f.write_str(" about ")?;
            let ports = (embedded.ports.map(|ports| ports.source), embedded.ports.map(|ports| ports.destination));
            show_flow(f, (embedded.source, ports.0), (embedded.destination, ports.1))?;
            write!(f, " {}", embedded.protocol)
        }
        Icmp::Other { kind, code } => match Neighbor::parse(ip, packet) {
            Ok(Some(Neighbor::Solicitation { target, .. })) => write!(f, "who-has {target}"),
            Ok(Some(Neighbor::Advertisement { target, target_mac: Some(mac), .. })) => {
                write!(f, "{target} is-at {mac}")
            }
            Ok(Some(Neighbor::Advertisement { target, target_mac: None, .. })) => write!(f, "{target} is-here"),
            Err(fault) => f.write_str(fault.word()),
            Ok(None) => match *kind {
                icmpv6::ROUTER_SOLICITATION if packet.is_ipv6() => f.write_str("router-solicitation"),
                icmpv6::ROUTER_ADVERTISEMENT if packet.is_ipv6() => f.write_str("router-advertisement"),
                kind => write!(f, "type {kind} code {code}"),
            },
        },
    }
}

fn show_arp(f: &mut fmt::Formatter<'_>, payload: &[u8]) -> fmt::Result {
    match Arp::parse(payload) {
        Ok(arp) => match arp.operation {
            Operation::Request => write!(f, "arp who-has {} tell {}", arp.target, arp.sender),
            Operation::Reply => write!(f, "arp {} is-at {}", arp.sender, arp.sender_mac),
        },
        Err(fault) => {
            f.write_str("arp ")?;
            refused(f, fault, payload.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::MacAddr;
    use crate::wire::ethernet::{Tag, insert_tag};
    use crate::wire::ip::Protocol;
    use crate::wire::ipip::Outer;
    use crate::wire::ndp::Peer;
    use crate::wire::tests::{address, at, echo, error, fix_header, frame as framed, ip as datagram, tcp, udp};

    const CLIENT: &str = "198.51.100.7:4242";
    const VIP: &str = "10.0.0.100:80";

    fn syn() -> Vec<u8> {
        tcp(at(CLIENT), at(VIP), Flags::SYN, &[2, 4, 5, 0xb4], b"")
    }

    #[test]
    fn a_frame_is_one_line() {
        let mut tagged = [vec![0; 4], framed(&udp(at(CLIENT), at(VIP), b"abc"))].concat();
        insert_tag(&mut tagged, Tag::vlan(7)).unwrap();
        let ours = MacAddr::virtual_v4(7);
        let question =
            Arp::request(MacAddr([2, 0, 0, 0, 0, 9]), "10.0.0.9".parse().unwrap(), "10.0.0.100".parse().unwrap());
        let mut other = framed(&syn());
        other[12..14].copy_from_slice(&[0x88, 0xcc]);
        for (bytes, line) in [
            (tagged, "vlan 7 198.51.100.7:4242 > 10.0.0.100:80 udp len 3"),
            (framed(&syn()), "198.51.100.7:4242 > 10.0.0.100:80 tcp [S] seq 1000 mss 1460 len 0"),
            (other, "ethertype 0x88cc len 44"),
        ] {
            assert_eq!(frame(&bytes).to_string(), format!("02:00:00:00:00:01 > 02:00:00:00:00:02 {line}"));
        }
        for (bytes, line) in [
            (question.frame(), "02:00:00:00:00:09 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.100 tell 10.0.0.9"),
            (
                question.answer(ours).frame(),
                "00:00:5e:00:01:07 > 02:00:00:00:00:09 arp 10.0.0.100 is-at 00:00:5e:00:01:07",
            ),
        ] {
            assert_eq!(frame(&bytes).to_string(), line);
        }
    }

    #[test]
    fn a_datagram_is_one_line() {
        let (client, vip) = (at(CLIENT), at(VIP));
        let reply = tcp(vip, client, Flags::ACK.with(Flags::PSH), &[], b"data");
        let mut fragment = udp(client, vip, &[7; 24]);
        fragment[4..8].copy_from_slice(&[0, 9, 0x20, 3]);
        fix_header(&mut fragment);
        let mut first = fragment.clone();
        first[7] = 0;
        fix_header(&mut first);
        let (from, to) = (address("2001:db8::7"), address("2001:db8:1::100"));
        for (bytes, line) in [
            (reply.clone(), "10.0.0.100:80 > 198.51.100.7:4242 tcp [P.] seq 1000 ack 2000 len 4"),
            (echo(client.ip(), vip.ip(), b"abcd"), "198.51.100.7 > 10.0.0.100 icmp echo-request id 7 seq 1 len 4"),
            (
                error(Problem::TooBig { mtu: 1400 }, address("192.0.2.1"), &reply),
                "192.0.2.1 > 10.0.0.100 icmp too-big mtu 1400 about 10.0.0.100:80 > 198.51.100.7:4242 tcp len 44",
            ),
            (fragment, "198.51.100.7 > 10.0.0.100 udp fragment 9 at 24 len 32"),
            (first, "198.51.100.7:4242 > 10.0.0.100:80 udp fragment 9 at 0 len 24"),
            (datagram(from, to, Protocol(200), b"x"), "2001:db8::7 > 2001:db8:1::100 protocol 200 len 1"),
            (
                tcp(at("[2001:db8::7]:1"), at("[2001:db8:1::100]:2"), Flags::RST, &[], b""),
                "[2001:db8::7]:1 > [2001:db8:1::100]:2 tcp [R] seq 1000 len 0",
            ),
        ] {
            assert_eq!(ip(&bytes).to_string(), line);
        }
    }

    #[test]
    fn a_tunnel_shows_what_is_inside() {
        let inner = syn();
        let packet = Packet::parse(&inner).unwrap();
        let outer = Outer::new(address("10.0.0.1"), address("10.0.0.41"));
        let mut header = [0; 32];
        ipip::emit(&outer, &packet, &mut header).unwrap();
        let once = [&header[..20], &inner].concat();
        let line = "198.51.100.7:4242 > 10.0.0.100:80 tcp [S] seq 1000 mss 1460 len 0";
        assert_eq!(ip(&once).to_string(), format!("10.0.0.1 > 10.0.0.41 ipip | {line}"));
        let len = gue::emit(&outer, 50000, gue::Variant::Header, &packet, &inner, &mut header).unwrap();
        let in_udp = [&header[..len], &inner].concat();
        assert_eq!(ip(&in_udp).to_string(), format!("10.0.0.1:50000 > 10.0.0.41:6080 udp | {line}"));
        let mut deep = inner;
        for _ in 0..5 {
            ipip::emit(&outer, &Packet::parse(&deep).unwrap(), &mut header).unwrap();
            deep = [&header[..20], &deep].concat();
        }
        let end = "10.0.0.1 > 10.0.0.41 ipip";
        assert_eq!(ip(&deep).to_string(), format!("{end} | {end} | {end} | …"));
    }

    #[test]
    fn neighbours_are_shown_by_what_they_ask_and_say() {
        let target = "2001:db8::64".parse().unwrap();
        let asker = Peer { mac: MacAddr([2, 0, 0, 0, 0, 9]), address: "2001:db8::9".parse().unwrap() };
        let mut out = [0; 86];
        let message = Neighbor::Solicitation { target, source_mac: Some(asker.mac) };
        message.frame(asker, Neighbor::group(target), &mut out).unwrap();
        assert_eq!(ip(&out[14..]).to_string(), "2001:db8::9 > ff02::1:ff00:64 icmpv6 who-has 2001:db8::64 len 24");
        let (answer, to) = Neighbor::answer(target, MacAddr::virtual_v6(1), asker);
        answer.frame(Peer { mac: MacAddr::virtual_v6(1), address: target }, to, &mut out).unwrap();
        let line = "2001:db8::64 > 2001:db8::9 icmpv6 2001:db8::64 is-at 00:00:5e:00:02:01 len 24";
        assert_eq!(ip(&out[14..]).to_string(), line);
        out[21] = 64;
        assert_eq!(ip(&out[14..]).to_string(), "2001:db8::64 > 2001:db8::9 icmpv6 bad-neighbor-discovery len 24");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let mut broken = syn();
        broken[32] = 0x40;
        for (bytes, line) in [
            (&broken[..], "? > 10.0.0.100 bad-header-length (44 bytes)"),
            (&broken[..19], "truncated-packet (19 bytes)"),
            (&[], "truncated-packet (0 bytes)"),
        ] {
            assert_eq!(ip(bytes).to_string(), line);
        }
        assert_eq!(frame(&broken[..13]).to_string(), "truncated-packet (13 bytes)");
        let short = [&Arp::probe(MacAddr::ZERO, [10, 0, 0, 1].into()).frame()[..], &[]].concat();
        assert!(frame(&short).to_string().ends_with("arp bad-arp (46 bytes)"));
    }
}
