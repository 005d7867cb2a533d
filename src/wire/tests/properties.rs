//! Properties: what is well-formed is read, and no bytes panic, whatever view or walk they meet.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::Packet;
use crate::wire::arp::Arp;
use crate::wire::checksum;
use crate::wire::ethernet::Frame;
use crate::wire::gue;
use crate::wire::icmp::{Embedded, Icmp};
use crate::wire::ipip;
use crate::wire::ndp::Neighbor;
use crate::wire::show;

/// Bytes of a frame, edited where it hurts: a few bytes changed, the end cut off, or nonsense altogether.
fn broken_frame() -> impl Strategy<Value = Vec<u8>> {
    let edits = vec((any::<prop::sample::Index>(), prop_oneof![Just(0), Just(0xff), any::<u8>()]), 0..6);
    let mutated = (datagram(), edits, any::<prop::sample::Index>(), 0..4_u8, any::<bool>()).prop_map(
        |(ip, edits, cut, how, fix)| {
            let mut bytes = frame(&ip);
            for (index, value) in edits {
                // Headers more often than payload.
                let within = if how == 3 { bytes.len() } else { bytes.len().min(64) };
                bytes[index.index(within)] = value;
            }
            if how == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
            // Or nothing gets past the first checksum.
            if fix && bytes.len() > 14 {
                fix_header(&mut bytes[14..]);
            }
            bytes
        },
    );
    prop_oneof![4 => mutated, 1 => vec(any::<u8>(), 0..120)]
}

/// Calls every getter that there is.
fn read_all(bytes: &[u8]) {
    let _ = (show::frame(bytes).to_string(), show::ip(bytes).to_string());
    if let Ok(frame) = Frame::new_checked(bytes) {
        let _ = (frame.destination(), frame.source(), frame.ether_type(), frame.header_len(), frame.tags().count());
        let _ = Packet::of_frame(&frame).map(|packet| packet.map(|packet| read_packet(frame.payload(), &packet)));
        read_transports(frame.payload());
    }
    if let Ok(packet) = Packet::parse(bytes) {
        read_packet(bytes, &packet);
    }
    read_transports(bytes);
}

fn read_packet(ip: &[u8], packet: &Packet) {
    assert!(packet.offset <= packet.len && packet.len <= ip.len(), "{packet:?}");
    assert_eq!(packet.transport_bytes(ip).len(), packet.len - packet.offset);
    assert!(packet.payload_len() <= packet.len - packet.offset);
    let _ = (Neighbor::parse(ip, packet), ipip::decapsulate(ip, packet), gue::decapsulate(ip, packet));
    let _ = (packet.check(ip), packet.is_checksum_valid(ip), packet.ports(), packet.permits_error());
}

fn read_transports(bytes: &[u8]) {
    let (v4, v6) = (address("192.0.2.1"), address("2001:db8::1"));
    let _ = Arp::parse(bytes);
    if let Ok(view) = ipv4::Packet::new_embedded(bytes) {
        let _ = (ipv4::Header::parse(&view), view.options(), view.payload(), view.header(), view.is_checksum_valid());
    }
    if let Ok(view) = ipv6::Packet::new_embedded(bytes) {
        let _ = (ipv6::Header::parse(&view), view.payload(), view.upper());
    }
    if let Ok(view) = tcp::Segment::new_checked(bytes) {
        let _ = (view.options().count(), view.payload(), view.check_options(), view.is_checksum_valid(v4, v6));
    }
    if let Ok(view) = udp::Datagram::new_fragment(bytes) {
        let _ = (udp::Header::parse(&view), view.payload(), view.is_checksum_valid(v6, v6));
    }
    for protocol in [Protocol::ICMP, Protocol::ICMPV6] {
        let _ = Icmp::parse(bytes, 0, protocol);
    }
    for offset in [0, 1, 40, usize::MAX] {
        let _ = Embedded::parse(bytes, offset);
    }
    let mut copy = bytes.to_vec();
    let _ = checksum::complete(&mut copy, 20, 16);
    let _ = ethernet::insert_tag(&mut copy, ethernet::Tag::vlan(7));
    let mut out = [0; 700];
    for router in [v4, v6] {
        let _ = icmp::error(Problem::TooBig { mtu: 1280 }, router, bytes, 0, &mut out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in broken_frame()) {
        read_all(&bytes);
    }

    #[test]
    fn what_is_built_well_is_read_and_sums_up(ip in datagram()) {
        let packet = Packet::parse(&ip).unwrap();
        prop_assert_eq!(packet.is_checksum_valid(&ip), Some(true));
        prop_assert_eq!(packet.len, ip.len());
        let framed = frame(&ip);
        prop_assert_eq!(Packet::of_frame(&Frame::new_checked(&framed).unwrap()), Ok(Some(packet)));
        // The frame's padding changes nothing.
        let padded = [&ip[..], &[0xee; 20]].concat();
        prop_assert_eq!(Packet::parse(&padded), Ok(packet));
        // And no beginning of it is mistaken for the whole.
        for end in 0..ip.len() {
            prop_assert!(Packet::parse(&ip[..end]).is_err());
        }
    }
    /// TCP, UDP, ARP and captures have theirs beside them. IPv4 sums its header, so bytes that do not sum up come out mended;
    /// its reserved flag comes out as zero.
    #[test]
    fn headers_are_written_as_they_read(mut bytes in vec(any::<u8>(), 60)) {
        bytes[0] = 0x45;
        bytes[2] |= 0x01;
        bytes[6] &= 0x7f;
        fix_header(&mut bytes);
        let view = ipv4::Packet::new_embedded(&bytes).unwrap();
        prop_assert_eq!(&ipv4::Header::parse(&view).emit()[..], &bytes[..20]);
        for header in [
            icmpv4::Header::parse(&icmpv4::Message::new_checked(&bytes).unwrap()).emit(),
            icmpv6::Header::parse(&icmpv6::Message::new_checked(&bytes).unwrap()).emit(),
        ] {
            prop_assert_eq!(&header[..], &bytes[..8]);
        }
        bytes[0] = 0x65;
        let view = ipv6::Packet::new_embedded(&bytes).unwrap();
        prop_assert_eq!(&ipv6::Header::parse(&view).emit()[..], &bytes[..40]);
        bytes[12..14].copy_from_slice(&[0x08, 0x06]);
        let frame = Frame::new_checked(&bytes).unwrap();
        let (destination, source, ether_type) = (frame.destination(), frame.source(), frame.ether_type());
        prop_assert_eq!(&ethernet::Header { destination, source, ether_type }.emit()[..], &bytes[..14]);
    }
}
