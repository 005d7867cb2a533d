//! Codec: whole datagrams that answer one: the echo reply, the TCP reset. ICMP errors are `icmp::error`.
//!
//! Not here: who answers, and how often.

use std::net::IpAddr;

use super::bytes::Writer;
use super::checksum::Sum;
use super::fault::Fault;
use super::icmp::Icmp;
use super::ip::{Fragment, Protocol};
use super::packet::{Packet, Transport};
use super::{icmpv4, icmpv6, ipv4, ipv6, tcp};

/// What an answer starts with (RFC 1700's recommendation, and every kernel's default).
const HOPS: u8 = 64;

/// Turns an echo request into its reply, in place: addresses change places, and every sum follows by what changed. `false`,
/// and nothing changed, for anything else: another message, a fragment, a packet with options.
pub fn echo(ip: &mut [u8], packet: &Packet) -> bool {
    let request = matches!(packet.transport, Transport::Icmp(Icmp::EchoRequest { .. }));
    if !request || packet.fragment != Fragment::Whole || packet.options {
        return false;
    }
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            if let Ok(mut view) = ipv4::Packet::new_checked(&mut *ip) {
                view.set_source(destination);
                view.set_destination(source);
                view.set_ttl(HOPS);
            }
            if let Ok(mut message) = icmpv4::Message::new_checked(packet.transport_bytes_mut(ip)) {
                message.make_reply();
            }
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            if let Ok(mut view) = ipv6::Packet::new_checked(&mut *ip) {
                view.set_source(destination);
                view.set_destination(source);
                view.set_hop_limit(HOPS);
            }
            if let Ok(mut message) = icmpv6::Message::new_checked(packet.transport_bytes_mut(ip)) {
                message.make_reply();
            }
        }
        _ => return false,
    }
    true
}

/// Writes the datagram with the reset that answers a TCP segment (RFC 9293 §3.10.7.1). Gives its length; `None` where no
/// reset is sent: for a reset, another protocol, a fragment.
///
/// # Errors
/// `Truncated` when `out` has less than 40 or 60 bytes.
pub fn reset(packet: &Packet, out: &mut [u8]) -> Result<Option<usize>, Fault> {
    let (Transport::Tcp(header), Fragment::Whole) = (packet.transport, packet.fragment) else { return Ok(None) };
    let Some(mut reset) = header.reset(packet.payload_len()) else { return Ok(None) };
    let (source, destination) = (packet.destination, packet.source);
    let sum = Sum::pseudo(source, destination, Protocol::TCP.0, tcp::HEADER_LEN);
    reset.checksum = sum.bytes(&reset.emit()).checksum();
    let mut writer = Writer::new(out);
    let len = u16::from(reset.header_len);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            writer.push(&ipv4::Header::new(source, destination, Protocol::TCP, len).emit())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            writer.push(&ipv6::Header::new(source, destination, Protocol::TCP, len).emit())
        }
        _ => None,
    }
    .and_then(|()| writer.push(&reset.emit()))
    .ok_or(Fault::Truncated)?;
    Ok(Some(writer.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::Flags;
    use crate::wire::tests::{at, echo as ping, error, tcp, udp};

    const PEERS: [(&str, &str); 2] =
        [("198.51.100.7:4242", "10.0.0.100:80"), ("[2001:db8::7]:4242", "[2001:db8:1::100]:80")];

    #[test]
    fn an_echo_request_becomes_its_reply() {
        for (from, to) in PEERS.map(|(from, to)| (at(from).ip(), at(to).ip())) {
            let mut bytes = ping(from, to, b"are you there?");
            let ttl = if from.is_ipv4() { 8 } else { 7 };
            bytes[ttl] = 3;
            crate::wire::tests::fix_header(&mut bytes);
            let request = Packet::parse(&bytes).unwrap();
            assert!(echo(&mut bytes, &request));
            let reply = Packet::parse(&bytes).unwrap();
            assert_eq!(reply.transport, Transport::Icmp(Icmp::EchoReply { identifier: 7, sequence: 1 }));
            assert_eq!((reply.source, reply.destination, reply.hops), (to, from, 64));
            assert_eq!(reply.is_checksum_valid(&bytes), Some(true));
            assert!(reply.transport_bytes(&bytes).ends_with(b"are you there?"));
            let before = bytes.clone();
            assert!(!echo(&mut bytes, &reply), "a reply is not answered");
            assert_eq!(bytes, before);
        }
    }

    #[test]
    fn a_segment_is_answered_with_a_valid_reset() {
        for (from, to) in PEERS.map(|(from, to)| (at(from), at(to))) {
            let segment = tcp(from, to, Flags::ACK, &[], b"data");
            let mut out = [0; 60];
            let len = reset(&Packet::parse(&segment).unwrap(), &mut out).unwrap().unwrap();
            let answer = Packet::parse(&out[..len]).unwrap();
            assert_eq!((answer.source, answer.destination, answer.len), (to.ip(), from.ip(), len));
            assert_eq!(answer.is_checksum_valid(&out[..len]), Some(true));
            let Transport::Tcp(header) = answer.transport else { panic!("{answer:?}") };
            assert_eq!((header.flags, header.sequence), (Flags::RST, 2000));
            assert_eq!(reset(&answer, &mut [0; 60]), Ok(None), "a reset is not answered");
            assert_eq!(reset(&Packet::parse(&segment).unwrap(), &mut out[..len - 1]), Err(Fault::Truncated));
        }
    }

    #[test]
    fn what_is_not_tcp_gets_no_reset_and_what_is_no_request_no_echo() {
        let about = udp(at(PEERS[0].0), at(PEERS[0].1), b"x");
        let problem = crate::wire::icmp::Problem::TimeExceeded { code: 0 };
        for mut bytes in [about.clone(), error(problem, at("192.0.2.1:1").ip(), &about)] {
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(reset(&packet, &mut [0; 60]), Ok(None));
            assert!(!echo(&mut bytes, &packet));
        }
    }
}
