//! Codec: IPv6 headers and the walk over extension headers (RFC 8200).
//!
//! A router need not look past the first header; a balancer must, for the ports. The walk is bounded in headers and bytes,
//! and what would make two readers of one packet disagree is refused: a routing header that still acts (RFC 5095), headers
//! where they may not stand, a first fragment without the whole chain (RFC 7112).
//!
//! Not here: reassembly, what options mean, jumbograms (a payload length of 0 is a datagram without payload).

use std::net::Ipv6Addr;

use super::bytes;
use super::fault::Fault;
use super::ip::{Fragment, Protocol};
use crate::base::limits;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Bytes of a fragment header, and the unit in which extension headers count.
const UNIT: usize = 8;

const VERSION_CLASS_FLOW: usize = 0;
const PAYLOAD_LENGTH: usize = 4;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
pub(super) const SOURCE: usize = 8;
pub(super) const DESTINATION: usize = 24;

/// A view of a datagram, or of as much of one as an ICMP error embeds.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T> {
    buffer: T,
}

/// What the extension headers lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// The transport protocol. Of a later fragment: what its fragment header says, which may be another extension header.
    pub protocol: Protocol,
    /// Where it begins, from the IPv6 header's first byte.
    pub offset: usize,
    pub fragment: Fragment,
    /// How many extension headers stand before it.
    pub extensions: usize,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Checks version and payload length. No getter panics then. What follows the payload is Ethernet's padding.
    ///
    /// # Errors
    /// `Truncated`, `BadIpVersion`, `BadTotalLength` (G5).
    pub fn new_checked(buffer: T) -> Result<Packet<T>, Fault> {
        let packet = Packet::new_embedded(buffer)?;
        if packet.total_len() > packet.buffer.as_ref().len() {
            return Err(Fault::BadTotalLength);
        }
        Ok(packet)
    }

    /// Checks the fixed header only: an ICMP error embeds no more than the first bytes of what it is about.
    ///
    /// # Errors
    /// `Truncated`, `BadIpVersion`.
    pub fn new_embedded(buffer: T) -> Result<Packet<T>, Fault> {
        let packet = Packet { buffer };
        let bytes = packet.buffer.as_ref();
        if bytes.len() < HEADER_LEN {
            return Err(Fault::Truncated);
        }
        if bytes::u8_at(bytes, VERSION_CLASS_FLOW) >> 4 != 6 {
            return Err(Fault::BadIpVersion);
        }
        Ok(packet)
    }

    /// DSCP (6 bits) and ECN (2 bits).
    pub fn traffic_class(&self) -> u8 {
        (bytes::u16_at(self.buffer.as_ref(), VERSION_CLASS_FLOW) >> 4).to_be_bytes()[1]
    }

    /// 20 bits.
    pub fn flow_label(&self) -> u32 {
        bytes::u32_at(self.buffer.as_ref(), VERSION_CLASS_FLOW) & 0x000f_ffff
    }

    /// Bytes after the fixed header, extension headers included.
    pub fn payload_len(&self) -> usize {
        usize::from(bytes::u16_at(self.buffer.as_ref(), PAYLOAD_LENGTH))
    }

    /// Bytes of the datagram, header included.
    pub fn total_len(&self) -> usize {
        self.payload_len().wrapping_add(HEADER_LEN)
    }

    pub fn next_header(&self) -> Protocol {
        Protocol(bytes::u8_at(self.buffer.as_ref(), NEXT_HEADER))
    }

    pub fn hop_limit(&self) -> u8 {
        bytes::u8_at(self.buffer.as_ref(), HOP_LIMIT)
    }

    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(bytes::array::<16>(self.buffer.as_ref(), SOURCE))
    }

    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(bytes::array::<16>(self.buffer.as_ref(), DESTINATION))
    }

    /// What the payload length covers and is there, extension headers among it; padding is not.
    pub fn payload(&self) -> &[u8] {
        let bytes = self.buffer.as_ref();
        bytes::between(bytes, HEADER_LEN, self.total_len().min(bytes.len()))
    }

    /// Walks the extension headers. AH and ESP are transports here: what they protect cannot be balanced by ports, nor
    /// rewritten.
    ///
    /// # Errors
    /// `TooManyExtensions`, `RoutingHeader` (G20), `BadExtension`, `BadHeaderLength`, `BadFragment`, `TinyFragment` (G10),
    /// `Truncated`.
    pub fn upper(&self) -> Result<Upper, Fault> {
        let bytes = self.buffer.as_ref();
        let whole = self.total_len() <= bytes.len();
        let bytes = bytes::between(bytes, 0, self.total_len().min(bytes.len()));
        let mut upper =
            Upper { protocol: self.next_header(), offset: HEADER_LEN, fragment: Fragment::Whole, extensions: 0 };
        let mut fragmented = false;
        loop {
            let kind = upper.protocol;
            match kind {
                Protocol::HOP_BY_HOP if upper.extensions > 0 => return Err(Fault::BadExtension),
                Protocol::FRAGMENT if fragmented => return Err(Fault::BadExtension),
                Protocol::HOP_BY_HOP | Protocol::DESTINATION_OPTIONS | Protocol::ROUTING | Protocol::FRAGMENT => {}
                _ => return Ok(upper),
            }
            if upper.extensions == limits::EXTENSION_HEADERS {
                return Err(Fault::TooManyExtensions);
            }
            // RFC 7112: a first fragment has all headers, or nobody can tell what it is.
            let short = |fault| if upper.fragment == Fragment::Whole { fault } else { Fault::TinyFragment };
            let header = bytes::from(bytes, upper.offset);
            let Some(&[next, units, kind_or_offset, left_or_offset, a, b, c, d]) = header.first_chunk::<UNIT>() else {
                return Err(short(Fault::Truncated));
            };
            let len = if kind == Protocol::FRAGMENT { UNIT } else { usize::from(units).wrapping_add(1) << 3 };
            let rest = header.len().checked_sub(len).ok_or(short(Fault::BadHeaderLength))?;
            // A type that this reader does not know still rewrites the destination under way while segments are left.
            if kind == Protocol::ROUTING && (kind_or_offset == 0 || left_or_offset != 0) {
                return Err(Fault::RoutingHeader);
            }
            upper.protocol = Protocol(next);
            upper.offset = upper.offset.wrapping_add(len);
            upper.extensions = upper.extensions.wrapping_add(1);
            if kind == Protocol::FRAGMENT {
                fragmented = true;
                let field = u16::from_be_bytes([kind_or_offset, left_or_offset]);
                let (offset, more) = (field & 0xfff8, field & 1 != 0);
                if whole && (more && rest % UNIT != 0 || rest.wrapping_add(usize::from(offset)) > usize::from(u16::MAX))
                {
                    return Err(Fault::BadFragment);
                }
                let id = u32::from_be_bytes([a, b, c, d]);
                match (offset, more) {
                    (0, false) => {}
                    (0, true) => upper.fragment = Fragment::First { id },
                    (offset, more) => {
                        upper.fragment = Fragment::Later { id, offset, last: !more };
                        return Ok(upper);
                    }
                }
            }
        }
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Raw: the transport checksum is to be updated by the caller.
    pub fn set_source(&mut self, address: Ipv6Addr) {
        bytes::put(self.buffer.as_mut(), SOURCE, &address.octets());
    }

    /// Raw, as [`Packet::set_source`].
    pub fn set_destination(&mut self, address: Ipv6Addr) {
        bytes::put(self.buffer.as_mut(), DESTINATION, &address.octets());
    }

    /// Bytes after the fixed header. UDP's and TCP's checksums count them too.
    pub fn set_payload_len(&mut self, len: u16) {
        bytes::put(self.buffer.as_mut(), PAYLOAD_LENGTH, &len.to_be_bytes());
    }

    /// One hop. `false`, and nothing changed, when none is left (G7).
    pub fn decrement_hop_limit(&mut self) -> bool {
        let limit = self.hop_limit();
        if limit > 1 {
            self.set_hop_limit(limit.wrapping_sub(1));
        }
        limit > 1
    }

    pub fn set_hop_limit(&mut self, limit: u8) {
        bytes::put(self.buffer.as_mut(), HOP_LIMIT, &[limit]);
    }
}

/// The fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// DSCP (6 bits) and ECN (2 bits).
    pub traffic_class: u8,
    /// 20 bits.
    pub flow_label: u32,
    /// Bytes after the header.
    pub payload_len: u16,
    pub next_header: Protocol,
    pub hop_limit: u8,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
}

impl Header {
    /// Hop limit 64, class and flow label 0.
    pub const fn new(source: Ipv6Addr, destination: Ipv6Addr, next_header: Protocol, payload_len: u16) -> Header {
        Header { traffic_class: 0, flow_label: 0, payload_len, next_header, hop_limit: 64, source, destination }
    }

    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Header {
        Header {
            traffic_class: packet.traffic_class(),
            flow_label: packet.flow_label(),
            payload_len: bytes::u16_at(packet.buffer.as_ref(), PAYLOAD_LENGTH),
            next_header: packet.next_header(),
            hop_limit: packet.hop_limit(),
            source: packet.source(),
            destination: packet.destination(),
        }
    }

    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        bytes::put(&mut out, VERSION_CLASS_FLOW, &first.to_be_bytes());
        bytes::put(&mut out, PAYLOAD_LENGTH, &self.payload_len.to_be_bytes());
        bytes::put(&mut out, NEXT_HEADER, &[self.next_header.0, self.hop_limit]);
        bytes::put(&mut out, SOURCE, &self.source.octets());
        bytes::put(&mut out, DESTINATION, &self.destination.octets());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: u8 = 6;

    /// A datagram whose headers after the first are `parts`.
    fn packet(next: u8, parts: &[&[u8]]) -> Vec<u8> {
        let rest = parts.concat();
        let [source, destination] = ["2001:db8::7", "2001:db8::100"].map(|text| text.parse().unwrap());
        let header = Header::new(source, destination, Protocol(next), rest.len() as u16);
        [&header.emit()[..], &rest].concat()
    }

    /// An extension header of 8 bytes.
    fn extension(next: u8) -> [u8; 8] {
        [next, 0, 1, 4, 0, 0, 0, 0]
    }

    fn fragment(next: u8, offset_and_more: u16) -> [u8; 8] {
        let [high, low] = offset_and_more.to_be_bytes();
        [next, 0, high, low, 0xde, 0xad, 0xbe, 0xef]
    }

    /// Its name, the first next header, what follows the fixed header.
    type Case<'a> = (&'a str, u8, &'a [&'a [u8]]);

    fn upper(next: u8, parts: &[&[u8]]) -> Result<(u8, usize, Fragment), Fault> {
        let bytes = packet(next, parts);
        let upper = Packet::new_checked(&bytes)?.upper()?;
        Ok((upper.protocol.0, upper.offset, upper.fragment))
    }

    #[test]
    fn a_known_header_reads_and_is_written_the_same() {
        // An ICMPv6 echo request from ::1 to ::1 as `ping` makes it: class 0, flow label 0x0d684a, hop limit 64.
        let mut bytes = b"\x60\x0d\x68\x4a\x00\x08\x3a\x40".to_vec();
        bytes.extend_from_slice(&Ipv6Addr::LOCALHOST.octets().repeat(2));
        bytes.extend_from_slice(&[0x80, 0x00, 0, 0, 0, 1, 0, 2]);
        let view = Packet::new_checked(&bytes).unwrap();
        let header = Header::parse(&view);
        let mut want = Header::new(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, Protocol::ICMPV6, 8);
        want.flow_label = 0x000d_684a;
        assert_eq!(header, want);
        assert_eq!(header.emit(), bytes[..HEADER_LEN]);
        assert_eq!(view.payload(), &bytes[HEADER_LEN..]);
        let classed = Header { traffic_class: 0xb9, ..want }.emit();
        let view = Packet::new_embedded(classed).unwrap();
        assert_eq!(
            (view.traffic_class(), view.flow_label(), view.next_header()),
            (0xb9, 0x000d_684a, Protocol::ICMPV6)
        );
    }

    #[test]
    fn the_walk_finds_the_transport_behind_extension_headers() {
        let tcp = [0; 20];
        let long = [[TCP, 2].as_slice(), &[0; 22]].concat();
        let id = 0xdead_beef;
        let cases: [(Case<'_>, _); 9] = [
            (("none", TCP, &[&tcp]), Ok((TCP, 40, Fragment::Whole))),
            (("hop-by-hop options", 0, &[&extension(TCP), &tcp]), Ok((TCP, 48, Fragment::Whole))),
            (("24 bytes of destination options", 60, &[&long, &tcp]), Ok((TCP, 64, Fragment::Whole))),
            (("both", 0, &[&extension(60), &long, &tcp]), Ok((TCP, 72, Fragment::Whole))),
            (("an atomic fragment", 44, &[&fragment(TCP, 0), &tcp]), Ok((TCP, 48, Fragment::Whole))),
            (("a first fragment", 44, &[&fragment(TCP, 1), &[0; 24]]), Ok((TCP, 48, Fragment::First { id }))),
            (
                ("a later one, whose next header is not there to be walked", 44, &[&fragment(60, 0x0011), &[0; 8]]),
                Ok((60, 48, Fragment::Later { id, offset: 16, last: false })),
            ),
            (("encryption hides the rest", 50, &[&tcp]), Ok((50, 40, Fragment::Whole))),
            (("no next header", 59, &[]), Ok((59, 40, Fragment::Whole))),
        ];
        for ((name, next, parts), want) in cases {
            assert_eq!(upper(next, parts), want, "{name}");
        }
    }

    #[test]
    fn chains_that_lie_or_do_not_end_are_refused() {
        let tcp = [0; 20];
        let eight = [extension(60), extension(60), extension(60), extension(60)].concat().repeat(2);
        let mut routing = extension(TCP);
        routing[2..4].copy_from_slice(&[0, 0]);
        let mut segments = extension(TCP);
        segments[2..4].copy_from_slice(&[4, 1]);
        let mut visited = extension(TCP);
        visited[2..4].copy_from_slice(&[4, 0]);
        let mut long = extension(TCP);
        long[1] = 4;
        let cases: [(Case<'_>, _); 13] = [
            (("eight of them", 60, &[&eight[..56], &extension(TCP), &tcp]), Ok(104)),
            (("nine", 60, &[&eight, &extension(TCP), &tcp]), Err(Fault::TooManyExtensions)),
            (("routing type 0, though no segments are left", 43, &[&routing, &tcp]), Err(Fault::RoutingHeader)),
            (("segments left", 43, &[&segments, &tcp]), Err(Fault::RoutingHeader)),
            (("a routing header that has done its work", 43, &[&visited, &tcp]), Ok(48)),
            (("hop-by-hop options after others", 60, &[&extension(0), &extension(TCP)]), Err(Fault::BadExtension)),
            (("two fragment headers", 44, &[&fragment(44, 0), &fragment(TCP, 0)]), Err(Fault::BadExtension)),
            (("past the end", 60, &[&long, &tcp]), Err(Fault::BadHeaderLength)),
            (("no bytes left", 60, &[&[6, 0, 0]]), Err(Fault::Truncated)),
            (("more to come, and 20 bytes", 44, &[&fragment(TCP, 1), &tcp]), Err(Fault::BadFragment)),
            (("a last one that ends at 65 552", 44, &[&fragment(TCP, 0xfff8), &[0; 24]]), Err(Fault::BadFragment)),
            (("a first fragment without its chain", 44, &[&fragment(60, 1), &long]), Err(Fault::TinyFragment)),
            (("a first fragment that ends in its chain", 44, &[&fragment(60, 1)]), Err(Fault::TinyFragment)),
        ];
        for ((name, next, parts), want) in cases {
            assert_eq!(upper(next, parts).map(|(_, offset, _)| offset), want, "{name}");
        }
    }

    #[test]
    fn headers_that_contradict_themselves_are_refused() {
        let bytes = packet(TCP, &[&[0; 20]]);
        assert_eq!(Packet::new_checked(&bytes[..39]).unwrap_err(), Fault::Truncated);
        assert_eq!(Packet::new_checked(&bytes[..59]).unwrap_err(), Fault::BadTotalLength);
        assert_eq!(Packet::new_embedded(&bytes[..48]).unwrap().payload().len(), 8);
        let four = [&[0x45][..], &bytes[1..]].concat();
        assert_eq!(Packet::new_checked(&four).unwrap_err(), Fault::BadIpVersion);
        let padded = [&bytes[..], &[0; 6]].concat();
        assert_eq!(Packet::new_checked(&padded).unwrap().payload().len(), 20);
    }

    #[test]
    fn setters_write_what_getters_read() {
        let mut bytes = packet(TCP, &[&[0; 20]]);
        let mut view = Packet::new_checked(&mut bytes[..]).unwrap();
        view.set_source(Ipv6Addr::LOCALHOST);
        view.set_destination(Ipv6Addr::UNSPECIFIED);
        assert_eq!((view.source(), view.destination()), (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED));
        assert!(view.decrement_hop_limit());
        assert_eq!(view.hop_limit(), 63);
        for limit in [0, 1] {
            bytes[HOP_LIMIT] = limit;
            assert!(!Packet::new_checked(&mut bytes[..]).unwrap().decrement_hop_limit());
            assert_eq!(bytes[HOP_LIMIT], limit);
        }
    }
}
