//! Codec: whether the sender of a frame left its TCP or UDP checksum to the card, told from the bytes alone.
//!
//! A kernel that leaves it so says it beside the frame (`CHECKSUM_PARTIAL`), and has written the sum of the pseudo-header into the
//! field. Where that word is lost on the way, as on veth before an XDP program, the field still shows it: a whole checksum equals
//! that sum in one frame of 65 536, and such a frame is known by its being right as it is.
//!
//! What cannot be told: a frame whose checksum is wrong, and wrong in just that way. It would be repaired, where a receiver should
//! have refused it. So frames that a card brings are not asked about: what corrupts frames is on its wire. Those that it gave to a
//! bridge, and a veth brings, are: one in 65 536 of the spoilt ones that the wire's own checks let through is made right.
//!
//! Nor can it be told of what a tunnel on the sender's host put inside: only the outer packet is looked at.
//!
//! Budget: of a whole checksum, its header and the pseudo-header are summed; of a partial one, the segment too.

use std::net::IpAddr;

use super::checksum::Sum;
use super::ethernet::{EtherType, Frame};
use super::ip::{Fragment, Protocol};
use super::{bytes, ipv4, ipv6, tcp, udp};

/// What is left to be done, as [`checksum::complete`](super::checksum::complete) wants it. Counted from the frame's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Where the segment begins, from which on is summed.
    pub start: usize,
    /// Where the checksum stands in the segment.
    pub offset: usize,
    /// Where the segment ends. What follows is padding, and not summed.
    pub end: usize,
}

/// `None` where the checksum is in the frame, or there is none, or a frame alone cannot tell: a fragment, another protocol, what
/// cannot be read.
pub fn partial(frame: &[u8]) -> Option<Partial> {
    let frame = Frame::new_checked(frame).ok()?;
    let ip = frame.payload();
    let Where { source, destination, protocol, segment: (from, to) } = match frame.ether_type() {
        EtherType::IPV4 => in_ipv4(ip)?,
        EtherType::IPV6 => in_ipv6(ip)?,
        _ => return None,
    };
    let segment = bytes::between(ip, from, to);
    let (offset, stored) = match protocol {
        Protocol::TCP => (tcp::CHECKSUM, tcp::Segment::new_checked(segment).ok()?.checksum()),
        Protocol::UDP => {
            let datagram = udp::Datagram::new_checked(segment).ok()?;
            // Another length is summed in its pseudo-header than here.
            (udp::CHECKSUM, (datagram.length() == segment.len()).then(|| datagram.checksum())?)
        }
        _ => return None,
    };
    let pseudo = Sum::pseudo(source, destination, protocol.0, segment.len());
    // A sum over something is never zero, so that UDP's "no checksum" is none of these either.
    if stored != pseudo.folded() || pseudo.bytes(segment).is_valid() {
        return None;
    }
    let header = frame.header_len();
    Some(Partial { start: header.checked_add(from)?, offset, end: header.checked_add(to)? })
}

/// Where a whole datagram has its transport segment, and what else its pseudo-header is made of.
struct Where {
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    segment: (usize, usize),
}

fn in_ipv4(ip: &[u8]) -> Option<Where> {
    let view = ipv4::Packet::new_checked(ip).ok()?;
    let segment = (view.header_len(), view.total_len());
    let (source, destination) = (view.source().into(), view.destination().into());
    let protocol = view.protocol();
    (view.fragment() == Fragment::Whole).then_some(Where { source, destination, protocol, segment })
}

fn in_ipv6(ip: &[u8]) -> Option<Where> {
    let view = ipv6::Packet::new_checked(ip).ok()?;
    let upper = view.upper().ok()?;
    let segment = (upper.offset, view.total_len());
    let (source, destination) = (view.source().into(), view.destination().into());
    let protocol = upper.protocol;
    (upper.fragment == Fragment::Whole).then_some(Where { source, destination, protocol, segment })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::tests::{frame, tcp, udp};
    use super::*;
    use crate::wire::checksum;
    use crate::wire::tcp::Flags;

    const V4: [&str; 2] = ["10.0.0.2:4000", "10.0.0.100:80"];
    const V6: [&str; 2] = ["[fd00::2]:4000", "[fd00::100]:80"];

    fn peers([source, destination]: [&str; 2]) -> (SocketAddr, SocketAddr) {
        (source.parse().unwrap(), destination.parse().unwrap())
    }

    /// As `tcp` or `udp` made it, but with its checksum left to the card as the kernel leaves it.
    fn left_undone(mut ip: Vec<u8>, segment: usize, offset: usize) -> Vec<u8> {
        let packet = crate::wire::Packet::parse(&ip).unwrap();
        let sum = Sum::pseudo(packet.source, packet.destination, packet.protocol.0, ip.len() - segment).folded();
        ip[segment + offset..segment + offset + 2].copy_from_slice(&sum.to_be_bytes());
        frame(&ip)
    }

    /// An IPv4 header with two words of options.
    fn with_options(ip: &[u8]) -> Vec<u8> {
        let mut longer = [&ip[..20], &[1; 8], &ip[20..]].concat();
        longer[0] = 0x47;
        let length = u16::try_from(longer.len()).unwrap();
        longer[2..4].copy_from_slice(&length.to_be_bytes());
        longer[10..12].fill(0);
        let sum = Sum::of(&longer[..28]).checksum();
        longer[10..12].copy_from_slice(&sum.to_be_bytes());
        longer
    }

    /// An IPv6 header with destination options that say nothing.
    fn with_extension(ip: &[u8]) -> Vec<u8> {
        let mut longer = [&ip[..40], &[ip[6], 0, 1, 4, 0, 0, 0, 0], &ip[40..]].concat();
        let length = u16::try_from(longer.len() - 40).unwrap();
        longer[4..6].copy_from_slice(&length.to_be_bytes());
        longer[6] = Protocol::DESTINATION_OPTIONS.0;
        longer
    }

    /// The frames that a sender makes of one payload, by name: the IP datagram, where its segment begins, where the checksum is in it.
    fn datagrams(payload: &[u8]) -> Vec<(&'static str, Vec<u8>, usize, usize)> {
        let (v4, v6) = (peers(V4), peers(V6));
        let ack = |(from, to)| tcp(from, to, Flags::ACK, &[], payload);
        vec![
            ("tcp of ipv4", ack(v4), 20, 16),
            ("tcp of ipv6", ack(v6), 40, 16),
            ("udp of ipv4", udp(v4.0, v4.1, payload), 20, 6),
            ("udp of ipv6", udp(v6.0, v6.1, payload), 40, 6),
            ("options of ipv4", with_options(&ack(v4)), 28, 16),
            ("an extension of ipv6", with_extension(&udp(v6.0, v6.1, payload)), 48, 6),
        ]
    }

    #[test]
    fn what_was_left_to_the_card_is_told_from_what_was_not() {
        for (name, whole, segment, offset) in datagrams(b"hello") {
            assert_eq!(partial(&frame(&whole)), None, "{name}");
            let undone = left_undone(whole.clone(), segment, offset);
            let end = 14 + whole.len();
            assert_eq!(partial(&undone), Some(Partial { start: 14 + segment, offset, end }), "{name}");
            let padded = [&undone[..], &[0xee; 40]].concat();
            assert_eq!(partial(&padded), Some(Partial { start: 14 + segment, offset, end }), "{name}, padded");
        }
    }

    #[test]
    fn what_one_frame_cannot_tell_is_left_as_it_is() {
        type Change = fn(&mut Vec<u8>);
        let v4: [(&str, Change); 8] = [
            ("no checksum", |frame| frame[40..42].fill(0)),
            ("wrong checksum", |frame| frame[40] ^= 1),
            ("first fragment", |frame| frame[20] |= 0x20),
            ("later fragment", |frame| frame[21] |= 1),
            ("another protocol", |frame| frame[23] = Protocol::SCTP.0),
            ("another length", |frame| frame[39] -= 1),
            ("no header", |frame| frame.truncate(14 + 20 + 7)),
            ("no ip", |frame| frame[13] = 6),
        ];
        for (name, change) in v4 {
            let (from, to) = peers(V4);
            let mut frame = left_undone(udp(from, to, b"hello"), 20, 6);
            change(&mut frame);
            assert_eq!(partial(&frame), None, "{name}");
        }
        assert_eq!(partial(&[]), None);
    }

    /// The one frame in 65 536: both readings of it finish with the same checksum.
    #[test]
    fn a_whole_checksum_that_equals_the_sum_of_its_pseudo_header_is_whole() {
        let found = (0..=u16::MAX).find_map(|word| {
            let (from, to) = peers(V4);
            let whole = udp(from, to, &word.to_be_bytes());
            (frame(&whole) == left_undone(whole.clone(), 20, 6)).then(|| frame(&whole))
        });
        let frame = found.expect("every checksum there is is among them");
        assert_eq!(partial(&frame), None);
        let mut completed = frame.clone();
        checksum::complete(&mut completed, 34, 6).unwrap();
        assert_eq!(completed, frame);
    }

    proptest! {
        /// Whatever is sent, and however it is padded: completed, it is right, and it was, where nothing was found.
        #[test]
        fn what_was_found_is_right_once_it_is_completed(payload in vec(any::<u8>(), 0..200), padding in 0..50_usize) {
            for (name, whole, segment, offset) in datagrams(&payload) {
                let mut undone = left_undone(whole.clone(), segment, offset);
                undone.extend(vec![0xaa; padding]);
                if let Some(Partial { start, offset, end }) = partial(&undone) {
                    checksum::complete(&mut undone[..end], start, offset).unwrap();
                }
                let ip = &undone[14..14 + whole.len()];
                prop_assert_eq!(crate::wire::Packet::parse(ip).unwrap().is_checksum_valid(ip), Some(true), "{}", name);
            }
        }

        #[test]
        fn no_bytes_panic_and_what_is_found_lies_in_them(mut bytes in vec(any::<u8>(), 0..120), kind in 0..3_u8) {
            if let (Some(head), 0..2) = (bytes.get_mut(12..15), kind) {
                head.copy_from_slice(if kind == 0 { &[0x08, 0x00, 0x45] } else { &[0x86, 0xdd, 0x60] });
            }
            if let Some(Partial { start, offset, end }) = partial(&bytes) {
                prop_assert!(start + offset + 2 <= end && end <= bytes.len());
            }
        }
    }
}
