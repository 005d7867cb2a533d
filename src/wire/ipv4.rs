//! Codec: IPv4 headers (RFC 791), their options, fragments and checksum.
//!
//! Not here: reassembly, and what options mean. A packet that has any is dropped (hardening G8).

use std::net::Ipv4Addr;

use super::bytes;
use super::checksum::{Change, Sum};
use super::fault::Fault;
use super::ip::{Fragment, Protocol};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

const VERSION_LENGTH: usize = 0;
const TRAFFIC_CLASS: usize = 1;
const TOTAL_LENGTH: usize = 2;
const IDENTIFICATION: usize = 4;
const FLAGS_OFFSET: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
pub(super) const CHECKSUM: usize = 10;
pub(super) const SOURCE: usize = 12;
pub(super) const DESTINATION: usize = 16;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// A view of a datagram, or of as much of one as an ICMP error embeds.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Checks version, header length, total length, and that a fragment ends within 65 535 bytes. No getter panics then.
    /// What follows the total length is Ethernet's padding and belongs to no payload.
    ///
    /// # Errors
    /// `Truncated`, `BadIpVersion`, `BadHeaderLength`, `BadTotalLength` (G5), `BadFragment` (G10).
    pub fn new_checked(buffer: T) -> Result<Packet<T>, Fault> {
        let packet = Packet::new_embedded(buffer)?;
        if packet.total_len() > packet.buffer.as_ref().len() {
            return Err(Fault::BadTotalLength);
        }
        let payload = packet.total_len().wrapping_sub(packet.header_len());
        let end = usize::from(packet.offset()).wrapping_add(payload);
        // The end counts a header too: what is put together must have a total length itself.
        let whole = end.wrapping_add(packet.header_len());
        if packet.offset() != 0 && whole > usize::from(u16::MAX) || packet.more_fragments() && payload % 8 != 0 {
            return Err(Fault::BadFragment);
        }
        Ok(packet)
    }

    /// Checks the header only: an ICMP error embeds no more than the first bytes of what it is about.
    ///
    /// # Errors
    /// `Truncated`, `BadIpVersion`, `BadHeaderLength`, `BadTotalLength` (below the header).
    pub fn new_embedded(buffer: T) -> Result<Packet<T>, Fault> {
        let packet = Packet { buffer };
        let bytes = packet.buffer.as_ref();
        if bytes.len() < HEADER_LEN {
            return Err(Fault::Truncated);
        }
        if bytes::u8_at(bytes, VERSION_LENGTH) >> 4 != 4 {
            return Err(Fault::BadIpVersion);
        }
        if packet.header_len() < HEADER_LEN || packet.header_len() > bytes.len() {
            return Err(Fault::BadHeaderLength);
        }
        if packet.total_len() < packet.header_len() {
            return Err(Fault::BadTotalLength);
        }
        Ok(packet)
    }

    /// Bytes of the header, 20 to 60.
    pub fn header_len(&self) -> usize {
        usize::from(bytes::u8_at(self.buffer.as_ref(), VERSION_LENGTH) & 0x0f) << 2
    }

    /// Bytes of the datagram, header included.
    pub fn total_len(&self) -> usize {
        usize::from(bytes::u16_at(self.buffer.as_ref(), TOTAL_LENGTH))
    }

    /// DSCP (6 bits) and ECN (2 bits).
    pub fn traffic_class(&self) -> u8 {
        bytes::u8_at(self.buffer.as_ref(), TRAFFIC_CLASS)
    }

    pub fn identification(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), IDENTIFICATION)
    }

    pub fn dont_fragment(&self) -> bool {
        bytes::u16_at(self.buffer.as_ref(), FLAGS_OFFSET) & DONT_FRAGMENT != 0
    }

    pub fn more_fragments(&self) -> bool {
        bytes::u16_at(self.buffer.as_ref(), FLAGS_OFFSET) & MORE_FRAGMENTS != 0
    }

    /// Where in the datagram's payload this one's begins, in bytes.
    pub fn offset(&self) -> u16 {
        (bytes::u16_at(self.buffer.as_ref(), FLAGS_OFFSET) & OFFSET_MASK) << 3
    }

    pub fn fragment(&self) -> Fragment {
        let id = u32::from(self.identification());
        match (self.offset(), self.more_fragments()) {
            (0, false) => Fragment::Whole,
            (0, true) => Fragment::First { id },
            (offset, more) => Fragment::Later { id, offset, last: !more },
        }
    }

    pub fn ttl(&self) -> u8 {
        bytes::u8_at(self.buffer.as_ref(), TTL)
    }

    pub fn protocol(&self) -> Protocol {
        Protocol(bytes::u8_at(self.buffer.as_ref(), PROTOCOL))
    }

    pub fn checksum(&self) -> u16 {
        bytes::u16_at(self.buffer.as_ref(), CHECKSUM)
    }

    pub fn is_checksum_valid(&self) -> bool {
        Sum::of(self.header()).is_valid()
    }

    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from(bytes::array::<4>(self.buffer.as_ref(), SOURCE))
    }

    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from(bytes::array::<4>(self.buffer.as_ref(), DESTINATION))
    }

    /// The header's bytes, options among them.
    pub fn header(&self) -> &[u8] {
        bytes::between(self.buffer.as_ref(), 0, self.header_len())
    }

    /// Bytes of the options, padded to a multiple of four; empty for nearly every packet.
    pub fn options(&self) -> &[u8] {
        bytes::from(self.header(), HEADER_LEN)
    }

    /// What the total length covers and is there; padding is not.
    pub fn payload(&self) -> &[u8] {
        let bytes = self.buffer.as_ref();
        bytes::between(bytes, self.header_len(), self.total_len().min(bytes.len()))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Raw: the checksum is to be updated by the caller, who needs the change for the transport header as well.
    pub fn set_source(&mut self, address: Ipv4Addr) {
        bytes::put(self.buffer.as_mut(), SOURCE, &address.octets());
    }

    /// Raw, as [`Packet::set_source`].
    pub fn set_destination(&mut self, address: Ipv4Addr) {
        bytes::put(self.buffer.as_mut(), DESTINATION, &address.octets());
    }

    /// Raw, as [`Packet::set_source`].
    pub fn set_total_len(&mut self, len: u16) {
        bytes::put(self.buffer.as_mut(), TOTAL_LENGTH, &len.to_be_bytes());
    }

    /// Raw, as [`Packet::set_source`].
    pub fn set_identification(&mut self, identification: u16) {
        bytes::put(self.buffer.as_mut(), IDENTIFICATION, &identification.to_be_bytes());
    }

    pub fn set_checksum(&mut self, checksum: u16) {
        bytes::put(self.buffer.as_mut(), CHECKSUM, &checksum.to_be_bytes());
    }

    /// Sums the header anew.
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let checksum = Sum::of(self.header()).checksum();
        self.set_checksum(checksum);
    }

    /// One hop: TTL less one, and the checksum with it. `false`, and nothing changed, when no hop is left (G7).
    pub fn decrement_ttl(&mut self) -> bool {
        let ttl = self.ttl();
        if ttl > 1 {
            self.set_ttl(ttl.wrapping_sub(1));
        }
        ttl > 1
    }

    /// Updates the checksum by the difference.
    pub fn set_ttl(&mut self, ttl: u8) {
        let protocol = self.protocol().0;
        let (old, new) = (u16::from_be_bytes([self.ttl(), protocol]), u16::from_be_bytes([ttl, protocol]));
        let checksum = Change::NONE.u16(old, new).apply(self.checksum());
        bytes::put(self.buffer.as_mut(), TTL, &[ttl]);
        self.set_checksum(checksum);
    }
}

/// A header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// DSCP (6 bits) and ECN (2 bits).
    pub traffic_class: u8,
    /// Bytes after the header.
    pub payload_len: u16,
    pub identification: u16,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    /// In bytes, a multiple of eight.
    pub offset: u16,
    pub ttl: u8,
    pub protocol: Protocol,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
}

impl Header {
    /// The header of a datagram that nobody has fragmented or may: TTL 64, class 0, identification 0 (RFC 6864 §4.1).
    pub const fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: Protocol, payload_len: u16) -> Header {
        Header {
            traffic_class: 0,
            payload_len,
            identification: 0,
            dont_fragment: true,
            more_fragments: false,
            offset: 0,
            ttl: 64,
            protocol,
            source,
            destination,
        }
    }

    /// Reads the fixed part; options are the view's to show.
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Header {
        // Both lengths are below 2^16, and the total is at least the header's.
        let payload_len = packet.total_len().wrapping_sub(packet.header_len());
        Header {
            traffic_class: packet.traffic_class(),
            payload_len: u16::try_from(payload_len).unwrap_or(u16::MAX),
            identification: packet.identification(),
            dont_fragment: packet.dont_fragment(),
            more_fragments: packet.more_fragments(),
            offset: packet.offset(),
            ttl: packet.ttl(),
            protocol: packet.protocol(),
            source: packet.source(),
            destination: packet.destination(),
        }
    }

    /// The header with its checksum. A payload too long for the 16 bits of a total length is the caller's to refuse:
    /// `payload_len` is at most 65 515.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let flags = (if self.dont_fragment { DONT_FRAGMENT } else { 0 })
            | (if self.more_fragments { MORE_FRAGMENTS } else { 0 })
            | self.offset >> 3;
        bytes::put(&mut out, VERSION_LENGTH, &[0x45, self.traffic_class]);
        bytes::put(&mut out, TOTAL_LENGTH, &self.payload_len.saturating_add(20).to_be_bytes());
        bytes::put(&mut out, IDENTIFICATION, &self.identification.to_be_bytes());
        bytes::put(&mut out, FLAGS_OFFSET, &flags.to_be_bytes());
        bytes::put(&mut out, TTL, &[self.ttl, self.protocol.0]);
        bytes::put(&mut out, SOURCE, &self.source.octets());
        bytes::put(&mut out, DESTINATION, &self.destination.octets());
        let checksum = Sum::of(&out).checksum();
        bytes::put(&mut out, CHECKSUM, &checksum.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Wikipedia article "Internet checksum": 115 bytes of UDP from 192.168.0.1 to 192.168.0.199.
    const KNOWN: [u8; 20] = *b"\x45\x00\x00\x73\x00\x00\x40\x00\x40\x11\xb8\x61\xc0\xa8\x00\x01\xc0\xa8\x00\xc7";

    fn known() -> Vec<u8> {
        let mut bytes = KNOWN.to_vec();
        bytes.resize(115, 0xab);
        bytes
    }

    #[test]
    fn a_known_packet_reads_and_is_written_the_same() {
        let bytes = known();
        let packet = Packet::new_checked(&bytes).unwrap();
        let header = Header::parse(&packet);
        let want = Header::new([192, 168, 0, 1].into(), [192, 168, 0, 199].into(), Protocol::UDP, 95);
        assert_eq!(header, want);
        assert!(packet.is_checksum_valid());
        assert_eq!(packet.fragment(), Fragment::Whole);
        assert_eq!((packet.options(), packet.payload().len()), (&[][..], 95));
        assert_eq!(header.emit(), KNOWN);
    }

    #[test]
    fn padding_is_no_payload() {
        let mut bytes = known();
        bytes.extend_from_slice(&[0; 11]);
        assert_eq!(Packet::new_checked(&bytes).unwrap().payload().len(), 95);
    }

    #[test]
    fn headers_that_contradict_themselves_are_refused() {
        type Edit = fn(&mut Vec<u8>);
        let cases: [(&str, Edit, Fault); 10] = [
            ("no bytes", |b| b.clear(), Fault::Truncated),
            ("19 bytes", |b| b.truncate(19), Fault::Truncated),
            ("version 6", |b| b[0] = 0x65, Fault::BadIpVersion),
            ("16 bytes of header", |b| b[0] = 0x44, Fault::BadHeaderLength),
            ("options past the end", |b| *b = [0x4f].repeat(40), Fault::BadHeaderLength),
            ("a total of 19", |b| b[2..4].copy_from_slice(&[0, 19]), Fault::BadTotalLength),
            ("a total of 0, as the kernel's big packets have", |b| b[2..4].fill(0), Fault::BadTotalLength),
            ("a total beyond the end", |b| b[3] += 1, Fault::BadTotalLength),
            ("more to come, and 95 bytes", |b| b[6] = 0x20, Fault::BadFragment),
            ("a last fragment that ends at 65 623", |b| b[6..8].copy_from_slice(&[0x1f, 0xff]), Fault::BadFragment),
        ];
        for (name, edit, fault) in cases {
            let mut bytes = known();
            edit(&mut bytes);
            assert_eq!(Packet::new_checked(&bytes).unwrap_err(), fault, "{name}");
        }
    }

    #[test]
    fn an_embedded_packet_may_end_early_but_not_within_its_header() {
        let bytes = known();
        let packet = Packet::new_embedded(&bytes[..28]).unwrap();
        assert_eq!((packet.total_len(), packet.payload().len()), (115, 8));
        assert_eq!(Packet::new_embedded(&bytes[..19]).unwrap_err(), Fault::Truncated);
    }

    #[test]
    fn fragments_read_as_first_and_later_ones() {
        for (flags, id, fragment) in [
            (0x0000, 7, Fragment::Whole),
            (0x4000, 7, Fragment::Whole),
            (0x2000, 7, Fragment::First { id: 7 }),
            (0x2001, 7, Fragment::Later { id: 7, offset: 8, last: false }),
            (0x00b9, 9, Fragment::Later { id: 9, offset: 1480, last: true }),
        ] {
            let mut bytes = known();
            bytes.resize(116, 0);
            bytes[3] = 116;
            bytes[4..6].copy_from_slice(&u16::to_be_bytes(id));
            bytes[6..8].copy_from_slice(&u16::to_be_bytes(flags));
            assert_eq!(Packet::new_checked(&bytes).unwrap().fragment(), fragment, "{flags:04x}");
        }
    }

    #[test]
    fn a_hop_takes_one_from_the_ttl_and_keeps_the_sum() {
        for ttl in 0..=255 {
            let mut bytes = known();
            bytes[8] = ttl;
            let mut packet = Packet::new_checked(&mut bytes[..]).unwrap();
            packet.fill_checksum();
            assert_eq!(packet.decrement_ttl(), ttl > 1);
            assert_eq!(packet.ttl(), if ttl > 1 { ttl - 1 } else { ttl });
            assert!(packet.is_checksum_valid(), "{ttl}");
        }
    }
}
