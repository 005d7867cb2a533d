//! Codec: Generic UDP Encapsulation (draft-ietf-intarea-gue-09): IP in UDP, so that whatever spreads flows by ports spreads
//! these, and a card that knows nothing of tunnels takes them.
//!
//! Variant 0 has a header of 4 bytes; variant 1 has none, since the first nibble of an IP header is as good. Linux takes
//! both (`ip fou add port 6080 gue`), and Katran sends variant 1.
//!
//! Not here: control messages, flags and their fields. What has any is refused, not guessed at.

use super::bytes::{self, Writer};
use super::checksum::Sum;
use super::fault::Fault;
use super::ip::{Fragment, Protocol};
use super::ipip::{self, Outer};
use super::packet::{Packet, Transport};
use super::udp;

/// IANA's port for GUE.
pub const PORT: u16 = 6080;

/// Bytes of the header of variant 0.
const HEADER_LEN: usize = 4;
/// Control message, in the first byte; the five bits below it count words of optional fields.
const CONTROL: u8 = 0x20;
const OPTIONAL_WORDS: u8 = 0x1f;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// Variant 0, with a header.
    #[default]
    Header,
    /// Variant 1: IP directly in UDP.
    Direct,
}

impl Variant {
    /// Bytes that it adds between the outer IP header and the inner one: 12 or 8.
    pub const fn overhead(self) -> usize {
        match self {
            Variant::Header => udp::HEADER_LEN.wrapping_add(HEADER_LEN),
            Variant::Direct => udp::HEADER_LEN,
        }
    }
}

/// The source port for a flow: entropy for whoever spreads by ports, from the dynamic range (RFC 7605 §7.1).
pub const fn source_port(hash: u64) -> u16 {
    0xc000 | (hash >> 50) as u16
}

/// Writes the headers that go before `inner`, which was parsed from `ip`, into `out`. Gives their length. Over IPv4 UDP has
/// no checksum; over IPv6 it must have one (RFC 8200 §8.1), which is worked out of the inner packet's own where that is said
/// to cover the rest. So a checksum that the inner packet's sender left unfinished has to be completed before.
///
/// # Errors
/// Those of [`ipip::emit`].
pub fn emit(
    outer: &Outer,
    source_port: u16,
    variant: Variant,
    inner: &Packet,
    ip: &[u8],
    out: &mut [u8],
) -> Result<usize, Fault> {
    let mut writer = Writer::new(out);
    outer.push(&mut writer, Protocol::UDP, variant.overhead(), inner)?;
    let length = u16::try_from(inner.len.saturating_add(variant.overhead())).map_err(|_| Fault::BadTotalLength)?;
    let mut header = udp::Header { source_port, destination_port: PORT, length, checksum: 0 };
    let gue = [0, ipip::protocol(inner).0, 0, 0];
    let gue = match variant {
        Variant::Header => &gue[..],
        Variant::Direct => &[],
    };
    if outer.destination.is_ipv6() {
        let pseudo = Sum::pseudo(outer.source, outer.destination, Protocol::UDP.0, usize::from(length));
        header.checksum = pseudo.bytes(&header.emit()).bytes(gue).plus(sum(inner, ip)).udp_checksum();
    }
    writer.push(&header.emit()).ok_or(Fault::Truncated)?;
    writer.push(gue).ok_or(Fault::Truncated)?;
    Ok(writer.len())
}

/// Where the inner datagram begins in `ip`, which `packet` was parsed from and whose `len` it ends with. `None` when it is
/// not UDP to [`PORT`]. One layer, as [`ipip::decapsulate`].
///
/// # Errors
/// `BadTunnel` for an unknown variant, control messages, flags, what is not IP inside, and a fragment; `BadIpVersion` when
/// what is inside is not of the announced family; `Truncated`.
pub fn decapsulate(ip: &[u8], packet: &Packet) -> Result<Option<usize>, Fault> {
    match packet.transport {
        Transport::Udp(header) if header.destination_port == PORT => {}
        _ => return Ok(None),
    }
    if packet.fragment != Fragment::Whole {
        return Err(Fault::BadTunnel);
    }
    let at = packet.offset.wrapping_add(udp::HEADER_LEN);
    let payload = bytes::between(ip, at, packet.len);
    let &[first, protocol, flags @ ..] = payload.first_chunk::<HEADER_LEN>().ok_or(Fault::Truncated)?;
    match first >> 6 {
        0 if first & CONTROL == 0 && flags == [0, 0] => {
            let optional = usize::from(first & OPTIONAL_WORDS) << 2;
            let header = HEADER_LEN.wrapping_add(optional);
            ipip::inside(bytes::between(ip, 0, packet.len), at.wrapping_add(header), Protocol(protocol)).map(Some)
        }
        // 0b01: the first bits of versions 4 and 6.
        1 => match first >> 4 {
            4 | 6 => Ok(Some(at)),
            _ => Err(Fault::BadTunnel),
        },
        _ => Err(Fault::BadTunnel),
    }
}

/// The sum of the inner datagram. A transport checksum makes its header, payload and pseudo-header sum to nothing, so that
/// what is left of them is the pseudo-header's complement, and no payload is touched (Linux calls it local checksum offload).
/// If it was wrong, ours is, and the endpoint drops the packet one header earlier.
fn sum(inner: &Packet, ip: &[u8]) -> Sum {
    let covered = match inner.transport {
        Transport::Tcp(_) => true,
        Transport::Udp(header) => header.checksum != 0 && usize::from(header.length) == inner.transport_bytes(ip).len(),
        _ => false,
    };
    if !covered || inner.fragment != Fragment::Whole {
        return Sum::of(bytes::between(ip, 0, inner.len));
    }
    let transport = inner.transport_bytes(ip).len();
    let pseudo = Sum::pseudo(inner.source, inner.destination, inner.protocol.0, transport);
    Sum::of(bytes::between(ip, 0, inner.offset)).minus(pseudo)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::tests::{address, at, datagram, fix_header, udp};

    fn outer(ipv6: bool) -> Outer {
        let ends = if ipv6 { ("fd00::1", "fd00::41") } else { ("10.0.0.1", "10.0.0.41") };
        Outer::new(address(ends.0), address(ends.1))
    }

    fn encapsulated(ipv6: bool, variant: Variant, inner: &[u8]) -> Vec<u8> {
        let mut out = [0; 52];
        let packet = Packet::parse(inner).unwrap();
        let len = emit(&outer(ipv6), source_port(u64::MAX), variant, &packet, inner, &mut out).unwrap();
        assert_eq!(len, outer(ipv6).overhead() + variant.overhead());
        [&out[..len], inner].concat()
    }

    /// After the outer IPv4 header: UDP 65535 to 6080 of 43 bytes without a checksum, then GUE with IPv4 inside.
    #[test]
    fn known_headers_are_written() {
        let inner = udp(at("198.51.100.7:4242"), at("10.0.0.100:53"), b"abc");
        let whole = encapsulated(false, Variant::Header, &inner);
        assert_eq!(whole[20..32], *b"\xff\xff\x17\xc0\x00\x2b\x00\x00\x00\x04\x00\x00");
        let whole = encapsulated(false, Variant::Direct, &inner);
        assert_eq!(whole[20..29], *b"\xff\xff\x17\xc0\x00\x27\x00\x00\x45");
        assert_eq!((source_port(0), source_port(u64::MAX)), (0xc000, 0xffff));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        type Edit = fn(&mut Vec<u8>);
        let inner = udp(at("198.51.100.7:4242"), at("10.0.0.100:53"), b"abc");
        let (header, direct) = (Variant::Header, Variant::Direct);
        let cases: [(&str, Variant, Edit, _); 11] = [
            ("variant 0", header, |_| {}, Ok(Some(32))),
            ("variant 1", direct, |_| {}, Ok(Some(28))),
            ("another port", header, |b| b[23] = 0xc1, Ok(None)),
            ("a word of private data", header, |b| (b[28] = 1, b.splice(32..32, [0; 4]).count()).0, Ok(Some(36))),
            ("a control message", header, |b| b[28] = 0x20, Err(Fault::BadTunnel)),
            ("flags", header, |b| b[31] = 1, Err(Fault::BadTunnel)),
            ("variant 2", header, |b| b[28] = 0x80, Err(Fault::BadTunnel)),
            ("variant 1 with version 5", direct, |b| b[28] = 0x55, Err(Fault::BadTunnel)),
            ("not IP inside", header, |b| b[29] = 6, Err(Fault::BadTunnel)),
            ("the other family inside", header, |b| b[29] = 41, Err(Fault::BadIpVersion)),
            ("fields past the end", header, |b| b[28] = 0x1f, Err(Fault::BadIpVersion)),
        ];
        for (name, variant, edit, want) in cases {
            let mut bytes = encapsulated(false, variant, &inner);
            edit(&mut bytes);
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            bytes[24..26].copy_from_slice(&(len - 20).to_be_bytes());
            fix_header(&mut bytes);
            assert_eq!(decapsulate(&bytes, &Packet::parse(&bytes).unwrap()), want, "{name}");
        }
        let short = udp(at("10.0.0.1:6080"), at("10.0.0.2:6080"), b"abc");
        assert_eq!(decapsulate(&short, &Packet::parse(&short).unwrap()), Err(Fault::Truncated));
        let mut first = encapsulated(false, header, &udp(at("10.0.0.1:1"), at("10.0.0.2:2"), b"abcdefgh"));
        first[6] = 0x20;
        fix_header(&mut first);
        assert_eq!(decapsulate(&first, &Packet::parse(&first).unwrap()), Err(Fault::BadTunnel));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        /// The checksum that is worked out of the inner one is the full sum, whatever is inside.
        #[test]
        fn what_is_encapsulated_is_valid_and_comes_out_again(
            inner in datagram(), ipv6 in any::<bool>(), direct in any::<bool>(), unsummed in any::<bool>(),
        ) {
            let mut inner = inner;
            let packet = Packet::parse(&inner).unwrap();
            if let (Transport::Udp(_), true) = (packet.transport, unsummed) {
                inner[packet.offset + 6..packet.offset + 8].fill(0);
            }
            let variant = if direct { Variant::Direct } else { Variant::Header };
            let whole = encapsulated(ipv6, variant, &inner);
            let packet = Packet::parse(&whole).unwrap();
            prop_assert_eq!(packet.is_checksum_valid(&whole), Some(true));
            prop_assert_eq!(packet.check(&whole), Ok(()));
            let inside = decapsulate(&whole, &packet).unwrap().unwrap();
            prop_assert_eq!(&whole[inside..packet.len], &inner[..]);
        }
    }
}
