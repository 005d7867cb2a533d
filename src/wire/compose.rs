//! Codec: whole datagrams of our own making: a TCP segment, a UDP datagram, an echo request, any other protocol, or a piece of
//! one.
//!
//! For tools and questions, where a `Vec` costs nothing. Not here: answers to what came (`answer`, `icmp`).

use std::net::{IpAddr, SocketAddr};

use super::fault::Fault;
use super::ip::{Fragment, Protocol};
use super::tcp::Flags;
use super::{icmpv4, icmpv6, ipv4, ipv6, tcp, udp};

/// What goes before a payload, beside the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// `mss`: an option of four bytes, or none.
    Tcp {
        flags: Flags,
        sequence: u32,
        acknowledgment: u32,
        mss: Option<u16>,
    },
    Udp,
    /// Request, or reply.
    Echo {
        reply: bool,
        identifier: u16,
        sequence: u16,
    },
    Other(Protocol),
}

/// Ends, hop limit, and which part of the datagram is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Ports are of no meaning where the protocol has none.
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub hops: u8,
    pub fragment: Fragment,
}

impl Way {
    /// 64 hops, and all of it.
    pub const fn new(source: SocketAddr, destination: SocketAddr) -> Way {
        Way { source, destination, hops: 64, fragment: Fragment::Whole }
    }
}

impl Head {
    pub const fn protocol(self, ipv6: bool) -> Protocol {
        match self {
            Head::Tcp { .. } => Protocol::TCP,
            Head::Udp => Protocol::UDP,
            Head::Echo { .. } if ipv6 => Protocol::ICMPV6,
            Head::Echo { .. } => Protocol::ICMP,
            Head::Other(protocol) => protocol,
        }
    }

    /// Bytes of it.
    pub const fn len(self) -> usize {
        match self {
            Head::Tcp { mss: Some(_), .. } => 24,
            Head::Tcp { mss: None, .. } => tcp::HEADER_LEN,
            Head::Udp => udp::HEADER_LEN,
            Head::Echo { .. } => icmpv4::HEADER_LEN,
            Head::Other(_) => 0,
        }
    }

    /// Whether nothing stands before the payload.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The datagram, its checksums filled in. A first fragment is all of `payload` with more to come; a later one is `payload` and
/// no head: its transport header went before it.
///
/// # Errors
/// `BadIpVersion` when the ends are of two families; `BadTotalLength` when it does not fit into a datagram.
pub fn datagram(way: &Way, head: Head, payload: &[u8]) -> Result<Vec<u8>, Fault> {
    let (from, to) = (way.source.ip(), way.destination.ip());
    let protocol = head.protocol(to.is_ipv6());
    let transport = match way.fragment {
        Fragment::Later { .. } => payload.to_vec(),
        _ => transport(way, head, payload)?,
    };
    let fragment = fragment_header(way.fragment, protocol);
    let extension: &[u8] = if to.is_ipv6() { fragment.as_ref().map_or(&[], |header| header) } else { &[] };
    let len = u16::try_from(transport.len().saturating_add(extension.len())).map_err(|_| Fault::BadTotalLength)?;
    let mut out = match (from, to) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            if len > u16::MAX.saturating_sub(20) {
                return Err(Fault::BadTotalLength);
            }
            let (id, offset, more) = piece(way.fragment);
            #[allow(clippy::cast_possible_truncation)] // IPv4's has 16 bits
            let header = ipv4::Header {
                ttl: way.hops,
                identification: id as u16,
                dont_fragment: way.fragment == Fragment::Whole,
                more_fragments: more,
                offset,
                ..ipv4::Header::new(source, destination, protocol, len)
            };
            header.emit().to_vec()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let next = if extension.is_empty() { protocol } else { Protocol::FRAGMENT };
            let header = ipv6::Header::new(source, destination, next, len);
            ipv6::Header { hop_limit: way.hops, ..header }.emit().to_vec()
        }
        _ => return Err(Fault::BadIpVersion),
    };
    out.extend_from_slice(extension);
    out.extend_from_slice(&transport);
    Ok(out)
}

fn transport(way: &Way, head: Head, payload: &[u8]) -> Result<Vec<u8>, Fault> {
    let (source_port, destination_port) = (way.source.port(), way.destination.port());
    let (from, to) = (way.source.ip(), way.destination.ip());
    let mut out = match head {
        Head::Tcp { flags, sequence, acknowledgment, mss } => {
            let header = tcp::Header {
                source_port,
                destination_port,
                sequence,
                acknowledgment,
                header_len: if mss.is_some() { 24 } else { 20 },
                flags,
                window: WINDOW,
                checksum: 0,
                urgent: 0,
            };
            let mut out = header.emit().to_vec();
            if let Some(mss) = mss {
                let [high, low] = mss.to_be_bytes();
                out.extend_from_slice(&[2, 4, high, low]);
            }
            out
        }
        Head::Udp => {
            let length = payload.len().saturating_add(udp::HEADER_LEN);
            let length = u16::try_from(length).map_err(|_| Fault::BadTotalLength)?;
            udp::Header { source_port, destination_port, length, checksum: 0 }.emit().to_vec()
        }
        Head::Echo { reply, identifier, sequence } => {
            let rest = u32::from(identifier) << 16 | u32::from(sequence);
            let v6 = to.is_ipv6();
            let kind = match (v6, reply) {
                (false, false) => icmpv4::ECHO_REQUEST,
                (false, true) => icmpv4::ECHO_REPLY,
                (true, false) => icmpv6::ECHO_REQUEST,
                (true, true) => icmpv6::ECHO_REPLY,
            };
            if v6 {
                icmpv6::Header { kind, code: 0, checksum: 0, rest }.emit().to_vec()
            } else {
                icmpv4::Header { kind, code: 0, checksum: 0, rest }.emit().to_vec()
            }
        }
        Head::Other(_) => Vec::new(),
    };
    out.extend_from_slice(payload);
    let bytes = &mut out[..];
    match (head, from, to) {
        (Head::Tcp { .. }, ..) => tcp::Segment::new_checked(bytes)?.fill_checksum(from, to),
        (Head::Udp, ..) => udp::Datagram::new_checked(bytes)?.fill_checksum(from, to),
        (Head::Echo { .. }, IpAddr::V6(from), IpAddr::V6(to)) => {
            icmpv6::Message::new_checked(bytes)?.fill_checksum(from, to);
        }
        (Head::Echo { .. }, ..) => icmpv4::Message::new_checked(bytes)?.fill_checksum(),
        (Head::Other(_), ..) => {}
    }
    Ok(out)
}

/// Identification, offset in bytes, and whether more follows.
const fn piece(fragment: Fragment) -> (u32, u16, bool) {
    match fragment {
        Fragment::Whole => (0, 0, false),
        Fragment::First { id } => (id, 0, true),
        Fragment::Later { id, offset, last } => (id, offset, !last),
    }
}

/// IPv6's extension header (RFC 8200 §4.5); `None` for what is whole.
fn fragment_header(fragment: Fragment, protocol: Protocol) -> Option<[u8; 8]> {
    let (id, offset, more) = piece(fragment);
    let [a, b] = (offset & 0xfff8 | u16::from(more)).to_be_bytes();
    let [c, d, e, f] = id.to_be_bytes();
    fragment.id().map(|_| [protocol.0, 0, a, b, c, d, e, f])
}

const WINDOW: u16 = 64240;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::Packet;
    use crate::wire::show;
    use crate::wire::tests::at;

    const SYN: Head = Head::Tcp { flags: Flags::SYN, sequence: 7, acknowledgment: 0, mss: Some(1460) };

    #[test]
    fn what_is_made_is_read_back_with_right_checksums() {
        for (from, to) in [("198.51.100.7:4242", "10.0.0.100:80"), ("[2001:db8::7]:4242", "[2001:db8:1::100]:80")]
            .map(|(from, to)| (at(from), at(to)))
        {
            let echo = Head::Echo { reply: false, identifier: 7, sequence: 1 };
            let icmp = if to.is_ipv6() { "icmpv6" } else { "icmp" };
            for (head, payload, line) in [
                (SYN, &b""[..], format!("{from} > {to} tcp [S] seq 7 mss 1460 len 0")),
                (Head::Udp, b"abc", format!("{from} > {to} udp len 3")),
                (echo, b"abcd", format!("{} > {} {icmp} echo-request id 7 seq 1 len 4", from.ip(), to.ip())),
                (Head::Other(Protocol::GRE), b"ab", format!("{} > {} gre len 2", from.ip(), to.ip())),
            ] {
                let bytes = datagram(&Way::new(from, to), head, payload).unwrap();
                assert_eq!(show::ip(&bytes).to_string(), line);
                let packet = Packet::parse(&bytes).unwrap();
                assert_eq!((packet.len, packet.hops), (bytes.len(), 64));
                assert_ne!(packet.is_checksum_valid(&bytes), Some(false), "{line}");
                packet.check(&bytes).unwrap();
            }
        }
    }

    #[test]
    fn a_piece_has_its_place() {
        for (from, to) in [("198.51.100.7:4242", "10.0.0.100:80"), ("[2001:db8::7]:4242", "[2001:db8:1::100]:80")] {
            let way = Way { hops: 9, ..Way::new(at(from), at(to)) };
            for fragment in [Fragment::First { id: 3 }, Fragment::Later { id: 3, offset: 1480, last: true }] {
                let bytes = datagram(&Way { fragment, ..way }, Head::Udp, &[0; 16]).unwrap();
                let packet = Packet::parse(&bytes).unwrap();
                assert_eq!((packet.fragment, packet.hops, packet.protocol), (fragment, 9, Protocol::UDP));
                assert_eq!(packet.ports().is_some(), !fragment.is_later());
            }
        }
    }

    #[test]
    fn what_no_datagram_holds_is_refused() {
        let (v4, v6) = (at("198.51.100.7:4242"), at("[2001:db8::7]:4242"));
        assert_eq!(datagram(&Way::new(v4, v6), SYN, b""), Err(Fault::BadIpVersion));
        for end in [v4, v6] {
            assert_eq!(datagram(&Way::new(end, end), Head::Udp, &[0; 65_536]), Err(Fault::BadTotalLength));
        }
        assert_eq!(datagram(&Way::new(v4, v4), Head::Udp, &[0; 65_520]), Err(Fault::BadTotalLength));
        assert!(datagram(&Way::new(v6, v6), Head::Udp, &[0; 65_520]).is_ok());
    }
}
