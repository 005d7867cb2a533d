//! Codec: IP in IP, each family in each (RFC 2003, RFC 4213, RFC 2473), and the outer header that GUE has as well.
//!
//! Only the outer header is written: it goes before the inner datagram, which keeps its bytes, so that the endpoint sees the
//! client's packet as it was sent.
//!
//! Not here: whether it still fits the link, and the error to the client when it does not.

use std::net::IpAddr;

use super::bytes::{self, Writer};
use super::fault::Fault;
use super::ip::{Fragment, Protocol};
use super::packet::Packet;
use super::{ipv4, ipv6};

/// The ends of a tunnel, and what spreads its packets over paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Of the same family as `destination`. Endpoints hash their receive queues by it, so that spreading it pays.
    pub source: IpAddr,
    pub destination: IpAddr,
    /// For IPv4: fragments of a tunnel are told apart by it, unless the inner datagram forbids fragments (RFC 6864).
    pub identification: u16,
    /// For IPv6, 20 bits: routers spread flows by it (RFC 6438).
    pub flow_label: u32,
    /// TTL or hop limit: the tunnel is one hop to the inner datagram, and many to this one.
    pub hops: u8,
}

impl Outer {
    pub const fn new(source: IpAddr, destination: IpAddr) -> Outer {
        Outer { source, destination, identification: 0, flow_label: 0, hops: 64 }
    }

    /// Bytes that this header adds: 20 or 40.
    pub const fn overhead(&self) -> usize {
        if self.destination.is_ipv6() { ipv6::HEADER_LEN } else { ipv4::HEADER_LEN }
    }

    /// Writes the IP header before `between` bytes of other headers and the inner datagram. Class of traffic and congestion
    /// marks are the inner's (RFC 6040 §4.1), and so is the wish not to be fragmented (RFC 2003 §3.1).
    pub(super) fn push(
        &self,
        writer: &mut Writer<'_>,
        protocol: Protocol,
        between: usize,
        inner: &Packet,
    ) -> Result<(), Fault> {
        let payload_len = u16::try_from(inner.len.saturating_add(between)).map_err(|_| Fault::BadTotalLength)?;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                if payload_len > u16::MAX.saturating_sub(20) {
                    return Err(Fault::BadTotalLength);
                }
                let header = ipv4::Header {
                    traffic_class: inner.traffic_class,
                    identification: self.identification,
                    dont_fragment: inner.dont_fragment,
                    ttl: self.hops,
                    ..ipv4::Header::new(source, destination, protocol, payload_len)
                };
                writer.push(&header.emit())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = ipv6::Header {
                    traffic_class: inner.traffic_class,
                    flow_label: self.flow_label,
                    hop_limit: self.hops,
                    ..ipv6::Header::new(source, destination, protocol, payload_len)
                };
                writer.push(&header.emit())
            }
            _ => return Err(Fault::BadIpVersion),
        }
        .ok_or(Fault::Truncated)
    }
}

/// What says that a datagram of this family is inside.
pub const fn protocol(inner: &Packet) -> Protocol {
    if inner.is_ipv6() { Protocol::IPV6 } else { Protocol::IPIP }
}

/// Writes the header that goes before `inner` into `out`. Gives its length.
///
/// # Errors
/// `BadTotalLength` when both together pass 65 535 bytes, `BadIpVersion` when the ends are of two families, `Truncated` when
/// `out` has no room.
pub fn emit(outer: &Outer, inner: &Packet, out: &mut [u8]) -> Result<usize, Fault> {
    let mut writer = Writer::new(out);
    outer.push(&mut writer, protocol(inner), 0, inner)?;
    Ok(writer.len())
}

/// Where the inner datagram begins in `ip`, which `packet` was parsed from and whose `len` it ends with. `None` when this is
/// no such tunnel. One layer: whether a tunnel may hold another is the caller's to say (G22).
///
/// # Errors
/// `BadIpVersion` when what is inside is not of the announced family; `BadTunnel` for a fragment of a tunnel's packet.
pub fn decapsulate(ip: &[u8], packet: &Packet) -> Result<Option<usize>, Fault> {
    match packet.protocol {
        Protocol::IPIP | Protocol::IPV6 if packet.fragment != Fragment::Whole => Err(Fault::BadTunnel),
        Protocol::IPIP | Protocol::IPV6 => inside(ip, packet.offset, packet.protocol).map(Some),
        _ => Ok(None),
    }
}

/// `at`, if the datagram there is what `protocol` announces.
pub(super) fn inside(ip: &[u8], at: usize, protocol: Protocol) -> Result<usize, Fault> {
    match (protocol, bytes::u8_at(ip, at) >> 4) {
        (Protocol::IPIP, 4) | (Protocol::IPV6, 6) => Ok(at),
        (Protocol::IPIP | Protocol::IPV6, _) => Err(Fault::BadIpVersion),
        _ => Err(Fault::BadTunnel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::Flags;
    use crate::wire::tests::{address, at, fix_header, tcp};

    const V4: (&str, &str) = ("198.51.100.7:4242", "10.0.0.100:80");
    const V6: (&str, &str) = ("[2001:db8::7]:4242", "[2001:db8:1::100]:80");

    fn outer(ipv6: bool) -> Outer {
        let ends = if ipv6 { ("fd00::1", "fd00::41") } else { ("10.0.0.1", "10.0.0.41") };
        Outer { identification: 7, flow_label: 9, ..Outer::new(address(ends.0), address(ends.1)) }
    }

    fn inner((from, to): (&str, &str)) -> Vec<u8> {
        let mut bytes = tcp(at(from), at(to), Flags::SYN, &[], b"x");
        // Class 0xb9: expedited forwarding, ECT(1).
        match bytes[0] >> 4 {
            4 => bytes[1] = 0xb9,
            _ => bytes[..2].copy_from_slice(&[0x6b, 0x90]),
        }
        fix_header(&mut bytes);
        bytes
    }

    #[test]
    fn each_family_goes_through_each() {
        for (peers, ipv6, protocol, len) in
            [(V4, false, 4, 20), (V6, false, 41, 20), (V4, true, 4, 40), (V6, true, 41, 40)]
        {
            let (inner, outer) = (inner(peers), outer(ipv6));
            let parsed = Packet::parse(&inner).unwrap();
            let mut header = [0; 40];
            assert_eq!(emit(&outer, &parsed, &mut header), Ok(len));
            assert_eq!(outer.overhead(), len);
            assert_eq!(emit(&outer, &parsed, &mut header[..len - 1]), Err(Fault::Truncated));
            // A frame's padding is no part of it.
            let whole = [&header[..len], &inner, &[0; 9]].concat();
            let packet = Packet::parse(&whole).unwrap();
            assert_eq!((packet.protocol.0, packet.len), (protocol, len + inner.len()));
            assert_eq!((packet.traffic_class, packet.dont_fragment, packet.hops), (0xb9, true, 64));
            assert_eq!(decapsulate(&whole, &packet), Ok(Some(len)));
            assert_eq!(Packet::parse(&whole[len..packet.len]), Ok(parsed));
            assert_eq!(decapsulate(&inner, &parsed), Ok(None));
        }
    }

    /// RFC 791 and RFC 2003 by hand: 61 bytes of TCP over IPv4 between 10.0.0.1 and 10.0.0.41.
    #[test]
    fn a_known_outer_header_is_written() {
        let mut inner = inner(V4);
        inner[6] = 0; // may be fragmented
        fix_header(&mut inner);
        let mut header = [0; 20];
        emit(&outer(false), &Packet::parse(&inner).unwrap(), &mut header).unwrap();
        // The words 45b9 003d 0007 0000 4004 0a00 0001 0a00 0029 sum to 9a2b.
        assert_eq!(header, *b"\x45\xb9\x00\x3d\x00\x07\x00\x00\x40\x04\x65\xd4\x0a\0\0\x01\x0a\0\0\x29");
    }

    #[test]
    fn what_does_not_fit_or_lies_is_refused() {
        let bytes = inner(V4);
        let parsed = Packet::parse(&bytes).unwrap();
        for (ipv6, len, fits) in
            [(false, 65_515, true), (false, 65_516, false), (true, 65_535, true), (true, 65_536, false)]
        {
            let got = emit(&outer(ipv6), &Packet { len, ..parsed }, &mut [0; 40]);
            assert_eq!(got.is_ok(), fits, "{len}");
        }
        let torn = Outer { source: address("fd00::1"), ..outer(false) };
        assert_eq!(emit(&torn, &parsed, &mut [0; 40]), Err(Fault::BadIpVersion));

        let mut header = [0; 20];
        emit(&outer(false), &parsed, &mut header).unwrap();
        let mut whole = [&header[..], &bytes].concat();
        whole[20] = 0x65;
        assert_eq!(decapsulate(&whole, &Packet::parse(&whole).unwrap()), Err(Fault::BadIpVersion));
        whole[6..8].copy_from_slice(&[0, 1]);
        fix_header(&mut whole);
        assert_eq!(decapsulate(&whole, &Packet::parse(&whole).unwrap()), Err(Fault::BadTunnel));
        let empty = crate::wire::tests::ip(address("10.0.0.1"), address("10.0.0.2"), Protocol::IPIP, b"");
        assert_eq!(decapsulate(&empty, &Packet::parse(&empty).unwrap()), Err(Fault::BadIpVersion));
    }
}
