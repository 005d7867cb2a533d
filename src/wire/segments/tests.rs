//! Tests of segmentation: against segments that were built one by one, as a sender without offloads makes them.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::ethernet::{self, Tag};
use crate::wire::ip::Protocol;
use crate::wire::tests::{at, frame, peers};

/// What all segments of a stream have in common.
#[derive(Clone, Debug)]
struct Stream {
    from: SocketAddr,
    to: SocketAddr,
    /// TCP's options, a multiple of four bytes; `None` for UDP.
    options: Option<Vec<u8>>,
    /// UDP without checksums.
    unsummed: bool,
    sequence: u32,
    identification: u16,
    tags: Vec<Tag>,
}

impl Stream {
    fn tcp(from: &str, to: &str) -> Stream {
        let (from, to) = (at(from), at(to));
        Stream { from, to, options: Some(vec![]), unsummed: false, sequence: 1000, identification: 7, tags: vec![] }
    }

    /// A frame of it that begins `skipped` bytes into its payload and is its `nth`.
    fn frame(&self, nth: u16, skipped: usize, flags: Flags, payload: &[u8]) -> Vec<u8> {
        let transport = match &self.options {
            Some(options) => self.tcp_segment(skipped, flags, options, payload),
            None => self.udp_datagram(payload),
        };
        let protocol = if self.options.is_some() { Protocol::TCP } else { Protocol::UDP };
        let len = transport.len() as u16;
        let header = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let identification = self.identification.wrapping_add(nth);
                ipv4::Header { identification, ..ipv4::Header::new(from, to, protocol, len) }.emit().to_vec()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => ipv6::Header::new(from, to, protocol, len).emit().to_vec(),
            _ => panic!("two families"),
        };
        let mut bytes = frame(&[header, transport].concat());
        for tag in &self.tags {
            bytes.splice(..0, [0; ethernet::TAG_LEN]);
            ethernet::insert_tag(&mut bytes, *tag).unwrap();
        }
        bytes
    }

    fn tcp_segment(&self, skipped: usize, flags: Flags, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let header = tcp::Header {
            source_port: self.from.port(),
            destination_port: self.to.port(),
            sequence: self.sequence.wrapping_add(skipped as u32),
            acknowledgment: 2000,
            header_len: 20 + options.len() as u8,
            flags,
            window: 64240,
            checksum: 0,
            urgent: 0,
        };
        let mut segment = [&header.emit(), options, payload].concat();
        tcp::Segment::new_checked(&mut segment[..]).unwrap().fill_checksum(self.from.ip(), self.to.ip());
        segment
    }

    fn udp_datagram(&self, payload: &[u8]) -> Vec<u8> {
        let length = (8 + payload.len()) as u16;
        let (source_port, destination_port) = (self.from.port(), self.to.port());
        let header = udp::Header { source_port, destination_port, length, checksum: 0 };
        let mut datagram = [&header.emit(), payload].concat();
        if !self.unsummed {
            udp::Datagram::new_checked(&mut datagram[..]).unwrap().fill_checksum(self.from.ip(), self.to.ip());
        }
        datagram
    }
}

const MERGED: Merged = Merged { kind: Kind::Segments, size: 100 };

/// Every segment of a frame, each written into a buffer full of something else.
fn apart(frame: &[u8], merged: Merged) -> Vec<Vec<u8>> {
    let segments = Segments::of_frame(frame, merged).expect("it can be taken apart");
    let write = |nth| {
        let mut out = vec![0xee; segments.longest()];
        let len = segments.write(frame, nth, &mut out).expect("a segment");
        out.truncate(len);
        out
    };
    (0..segments.count()).map(write).collect()
}

#[test]
fn flags_that_belong_to_one_segment_are_on_that_one() {
    let all = Flags::ACK.with(Flags::PSH).with(Flags::FIN).with(Flags::CWR).with(Flags::ECE);
    let (ack, last) = (Flags::ACK.with(Flags::ECE), all.without(Flags::CWR));
    let stream = Stream::tcp("198.51.100.7:4242", "10.0.0.100:80");
    for (bytes, want) in [
        (101, vec![ack.with(Flags::CWR), last]),
        (300, vec![ack.with(Flags::CWR), ack, last]),
        (301, vec![ack.with(Flags::CWR), ack, ack, last]),
    ] {
        let segments = apart(&stream.frame(0, 0, all, &vec![7; bytes]), MERGED);
        let flags: Vec<Flags> = segments.iter().map(|segment| Flags(segment[14 + 20 + 13])).collect();
        assert_eq!(flags, want, "{bytes}");
    }
}

#[test]
fn what_is_one_packet_or_nobody_knows_how_many_is_not_taken_apart() {
    let stream = Stream::tcp("198.51.100.7:4242", "10.0.0.100:80");
    let of = |bytes: usize| stream.frame(0, 0, Flags::ACK, &vec![0; bytes]);
    let fragment = {
        let mut frame = of(200);
        frame[14 + 6] = 0x20;
        let mut view = ipv4::Packet::new_embedded(&mut frame[14..]).unwrap();
        view.fill_checksum();
        frame
    };
    let mut gre = of(200);
    gre[14 + 9] = 47;
    ipv4::Packet::new_embedded(&mut gre[14..]).unwrap().fill_checksum();
    let merged = |kind, size| Merged { kind, size };
    let cases = [
        ("two", of(101), MERGED, true),
        ("one", of(100), MERGED, false),
        ("none", of(0), MERGED, false),
        ("of nothing each", of(101), merged(Kind::Segments, 0), false),
        ("fragments to be", of(101), merged(Kind::Other, 100), false),
        ("as many as may be", of(limits::MERGED_SEGMENTS), merged(Kind::Segments, 1), true),
        ("more", of(limits::MERGED_SEGMENTS + 1), merged(Kind::Segments, 1), false),
        ("a fragment", fragment, MERGED, false),
        ("another protocol", gre, MERGED, false),
        ("no frame", vec![0; 13], MERGED, false),
        ("cut off", of(200)[..200].to_vec(), MERGED, false),
    ];
    for (name, frame, merged, splits) in cases {
        assert_eq!(Segments::of_frame(&frame, merged).is_some(), splits, "{name}");
    }
}

#[test]
fn where_there_is_no_room_or_no_such_segment_there_is_none() {
    let frame = Stream::tcp("[2001:db8::7]:4242", "[2001:db8:1::1]:80").frame(0, 0, Flags::ACK, &[7; 250]);
    let segments = Segments::of_frame(&frame, MERGED).unwrap();
    let header = 14 + 40 + 20;
    for (nth, room, want) in [
        (0, header + 100, Some(header + 100)),
        (0, header + 99, None),
        (2, header + 50, Some(header + 50)),
        (2, header + 49, None),
        (3, 1000, None),
        (usize::MAX, 1000, None),
    ] {
        assert_eq!(segments.write(&frame, nth, &mut vec![0; room]), want, "{nth} into {room}");
    }
    // The numbers of one frame and the bytes of another.
    assert_eq!(segments.write(&frame[..200], 2, &mut [0; 500]), None);
}

/// Both families, TCP with options and UDP with and without checksums, with tags and without.
fn stream() -> impl Strategy<Value = Stream> {
    let options = prop_oneof![
        Just(Some(vec![])),
        any::<[u8; 8]>().prop_map(|stamps| Some([&[1, 1, 8, 10][..], &stamps].concat())),
        Just(None),
    ];
    let tags = vec((0..4096_u16).prop_map(Tag::vlan), 0..=2);
    (peers(), options, any::<bool>(), any::<u32>(), any::<u16>(), tags).prop_map(
        |((from, to), options, unsummed, sequence, identification, tags)| {
            // IPv6 has no UDP without a checksum.
            let unsummed = unsummed && from.is_ipv4();
            Stream { from, to, options, unsummed, sequence, identification, tags }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// A sender without offloads, and one with, send the same: whether the merged frame's checksum is right, the pseudo-header's only,
    /// or nonsense.
    #[test]
    fn segments_are_what_the_sender_would_have_sent(
        stream in stream(), payload in vec(any::<u8>(), 2..1400), part in 1..=10_000_usize, flags in any::<u8>(),
        sum in any::<Option<u16>>(),
    ) {
        let size = ((payload.len() - 1) * part).div_ceil(10_000) as u16;
        // SYN and RST are in no merged frame.
        let flags = Flags(flags).without(Flags::SYN.with(Flags::RST)).with(Flags::ACK);
        let mut merged = stream.frame(0, 0, flags, &payload);
        let checksum = merged.len() - payload.len() - stream.options.as_ref().map_or(2, |options| 4 + options.len());
        if let Some(sum) = sum.filter(|_| !stream.unsummed) {
            merged[checksum..checksum + 2].copy_from_slice(&sum.max(1).to_be_bytes());
        }
        let got = apart(&merged, Merged { kind: Kind::Segments, size });
        let chunks: Vec<&[u8]> = payload.chunks(size.into()).collect();
        let mut want = Vec::new();
        for (nth, chunk) in chunks.iter().enumerate() {
            let mut own = flags;
            if nth > 0 {
                own = own.without(Flags::CWR);
            }
            if nth + 1 < chunks.len() {
                own = own.without(Flags::FIN.with(Flags::PSH));
            }
            want.push(stream.frame(nth as u16, nth * usize::from(size), own, chunk));
        }
        prop_assert_eq!(&got, &want);
        let mut rest = Vec::new();
        for segment in &got {
            let frame = Frame::new_checked(&segment[..]).unwrap();
            let packet = Packet::of_frame(&frame).unwrap().unwrap();
            prop_assert_eq!(packet.is_checksum_valid(frame.payload()), Some(true));
            prop_assert_eq!(packet.len, frame.payload().len());
            rest.extend_from_slice(&frame.payload()[packet.len - packet.payload_len()..]);
        }
        prop_assert_eq!(rest, payload);
    }

    /// Nonsense neither panics nor makes more than there is.
    #[test]
    fn no_bytes_panic(frame in vec(any::<u8>(), 0..200), size in any::<u16>(), nth in any::<usize>()) {
        if let Some(segments) = Segments::of_frame(&frame, Merged { kind: Kind::Segments, size }) {
            let mut out = [0; 300];
            let _ = segments.write(&frame, nth, &mut out);
        }
    }
}
