//! Tests of capture files.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What tcpdump on x86 writes: a header, and one frame of two bytes at 1 700 000 000.000001 s.
const KNOWN: &[u8] = b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00\0\0\0\0\0\0\0\0\x00\x00\x04\x00\x01\x00\x00\x00\
    \x00\xf1\x53\x65\x01\x00\x00\x00\x02\x00\x00\x00\x3c\x00\x00\x00\xab\xcd";

/// Writing, which nobody else does.
impl Layout {
    /// What goes before all packets.
    fn file_header(self, link: LinkType) -> [u8; FILE_HEADER_LEN] {
        let mut out = [0; FILE_HEADER_LEN];
        let magic = if self.nanoseconds { NANOSECONDS } else { MICROSECONDS };
        bytes::put(&mut out, 0, &self.u32(magic));
        bytes::put(&mut out, 4, &self.u16(2));
        bytes::put(&mut out, 6, &self.u16(4));
        bytes::put(&mut out, 16, &self.u32(u32::try_from(limits::CAPTURED_BYTES).unwrap_or(u32::MAX)));
        bytes::put(&mut out, 20, &self.u32(u32::from(link.0)));
        out
    }

    /// What goes before one packet. `time` since 1970, to the second until 2106.
    fn record_header(self, time: Duration, captured_len: u32, original_len: u32) -> [u8; RECORD_HEADER_LEN] {
        let mut out = [0; RECORD_HEADER_LEN];
        let fraction = if self.nanoseconds { time.subsec_nanos() } else { time.subsec_micros() };
        bytes::put(&mut out, 0, &self.u32(u32::try_from(time.as_secs()).unwrap_or(u32::MAX)));
        bytes::put(&mut out, 4, &self.u32(fraction));
        bytes::put(&mut out, 8, &self.u32(captured_len));
        bytes::put(&mut out, 12, &self.u32(original_len));
        out
    }

    const fn u16(self, number: u16) -> [u8; 2] {
        if self.big_endian { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    const fn u32(self, number: u32) -> [u8; 4] {
        if self.big_endian { number.to_be_bytes() } else { number.to_le_bytes() }
    }
}

fn read(file: &[u8]) -> Vec<Result<Record<'_>, CaptureError>> {
    match Reader::new(file) {
        Ok(reader) => reader.collect(),
        Err(error) => vec![Err(error)],
    }
}

fn known_record() -> Record<'static> {
    let time = Duration::new(1_700_000_000, 1000);
    Record { time, link: LinkType::ETHERNET, original_len: 60, data: b"\xab\xcd" }
}

#[test]
fn a_known_file_reads_and_is_written_the_same() {
    assert_eq!(read(KNOWN), [Ok(known_record())]);
    let layout = Layout { big_endian: false, nanoseconds: false };
    let written = [
        &layout.file_header(LinkType::ETHERNET)[..],
        &layout.record_header(known_record().time, 2, 60),
        known_record().data,
    ];
    assert_eq!(written.concat(), KNOWN);
}

#[test]
fn what_is_cut_off_or_too_long_ends_the_reading() {
    for len in 0..4 {
        assert_eq!(read(&KNOWN[..len]), [Err(CaptureError::NotACapture)], "{len}");
    }
    for len in (4..FILE_HEADER_LEN).chain(FILE_HEADER_LEN + 1..KNOWN.len()) {
        assert_eq!(read(&KNOWN[..len]), [Err(CaptureError::Truncated)], "{len}");
    }
    assert_eq!(read(&KNOWN[..FILE_HEADER_LEN]), []);
    assert_eq!(read(b"GET / HTTP/1.1\r\n"), [Err(CaptureError::NotACapture)]);
    let mut long = KNOWN.to_vec();
    long[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(read(&long), [Err(CaptureError::TooLong)]);
}

#[test]
fn the_datagram_is_found_behind_each_link_header() {
    let ip = crate::wire::tests::udp("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap(), b"x");
    let frame = crate::wire::tests::frame(&ip);
    let before = |header: &[u8]| [header, &ip].concat();
    let sll = [[0; 14].as_slice(), &[8, 0]].concat();
    let sll2 = [[8, 0].as_slice(), &[0; 18]].concat();
    for (link, data) in [
        (LinkType::ETHERNET, frame),
        (LinkType::RAW, ip.clone()),
        (LinkType::IPV4, ip.clone()),
        (LinkType::NULL, before(&[2, 0, 0, 0])),
        (LinkType::LINUX_SLL, before(&sll)),
        (LinkType::LINUX_SLL2, before(&sll2)),
    ] {
        let record = Record { time: Duration::ZERO, link, original_len: 0, data: &data };
        assert_eq!(record.ip(), Some(&ip[..]), "{link:?}");
        assert!(record.to_string().ends_with("10.0.0.1:1 > 10.0.0.2:2 udp len 1"), "{record}");
        for len in 0..data.len() {
            let _ = Record { data: &data[..len], ..record }.to_string();
        }
    }
    let arp = Record { time: Duration::ZERO, link: LinkType::LINUX_SLL, original_len: 0, data: &[0; 44] };
    assert_eq!((arp.ip(), arp.to_string().as_str()), (None, "link type 113 len 44"));
    assert_eq!(Record { link: LinkType(105), ..arp }.ip(), None);
}

/// A block in either byte order; `numbers` and then `data`, padded.
fn block(big: bool, kind: u32, numbers: &[u32], data: &[u8]) -> Vec<u8> {
    let number = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let mut body: Vec<u8> = numbers.iter().flat_map(|n| number(*n)).collect();
    body.extend_from_slice(data);
    body.resize(body.len().next_multiple_of(4), 0);
    let len = number(body.len() as u32 + 12);
    [&number(kind)[..], &len, &body, &len].concat()
}

fn section(big: bool) -> Vec<u8> {
    let version = if big { 0x0001_0000 } else { 1 };
    block(big, 0x0a0d_0d0a, &[0x1a2b_3c4d, version, u32::MAX, u32::MAX], &[])
}

/// An interface with a time resolution, or without.
fn interface(big: bool, link: u32, resolution: Option<u8>) -> Vec<u8> {
    let link = if big { link << 16 } else { link };
    let option = |kind: u16, len: u16| {
        let [kind, len] = [kind, len].map(|n| if big { n.to_be_bytes() } else { n.to_le_bytes() });
        [kind, len].concat()
    };
    let options = match resolution {
        // A name first, whose three bytes are padded.
        Some(value) => [option(2, 3), b"lo0\0".to_vec(), option(9, 1), vec![value, 0, 0, 0], option(0, 0)].concat(),
        None => vec![],
    };
    block(big, 1, &[link, 0], &options)
}

#[test]
fn pcapng_reads_in_both_byte_orders_and_any_resolution() {
    for big in [false, true] {
        for (resolution, ticks, time) in [
            (None, 1_700_000_000_000_001_u64, Duration::new(1_700_000_000, 1000)),
            (Some(9), 1_700_000_000_000_000_001, Duration::new(1_700_000_000, 1)),
            (Some(0), 1_700_000_000, Duration::new(1_700_000_000, 0)),
            (Some(0x80 | 10), 1_700_000_000 << 10 | 512, Duration::new(1_700_000_000, 500_000_000)),
        ] {
            let packet = [0, (ticks >> 32) as u32, ticks as u32, 3, 60];
            let file = [
                section(big),
                block(big, 0x0bad, &[7], b"whatever"),
                interface(big, 1, resolution),
                block(big, 6, &packet, b"abc"),
                block(big, 3, &[2], b"de"),
            ]
            .concat();
            let link = LinkType::ETHERNET;
            let want = [
                Ok(Record { time, link, original_len: 60, data: b"abc" }),
                Ok(Record { time: Duration::ZERO, link, original_len: 2, data: b"de" }),
            ];
            assert_eq!(read(&file), want, "{big} {resolution:?}");
        }
    }
}

#[test]
fn a_second_section_starts_over_in_its_own_byte_order() {
    let packet = |big, interface| block(big, 6, &[interface, 0, 0, 1, 1], b"x");
    let file = [
        section(false),
        interface(false, 1, None),
        interface(false, 101, None),
        packet(false, 1),
        section(true),
        interface(true, 228, None),
        packet(true, 0),
        packet(true, 1),
        packet(true, 0),
    ]
    .concat();
    let links: Vec<_> = read(&file).into_iter().map(|record| record.map(|record| record.link.0)).collect();
    assert_eq!(links, [Ok(101), Ok(228), Err(CaptureError::UnknownInterface)]);
}

#[test]
fn blocks_that_contradict_themselves_end_the_reading() {
    let start = [section(false), interface(false, 1, None)].concat();
    let good = block(false, 6, &[0, 0, 0, 3, 3], b"abc");
    type Edit = fn(&mut Vec<u8>);
    let cases: [(&str, Edit, CaptureError); 8] = [
        ("cut off", |b| b.truncate(b.len() - 1), CaptureError::Truncated),
        ("a header cut off", |b| b.truncate(11), CaptureError::Truncated),
        ("a length of 8", |b| b[4] = 8, CaptureError::BadBlock),
        ("an odd length", |b| b[4] += 1, CaptureError::BadBlock),
        ("two lengths", |b| *b.last_mut().unwrap() = 1, CaptureError::BadBlock),
        ("a packet longer than its block", |b| b[20] = 9, CaptureError::BadBlock),
        ("a packet longer than any", |b| b[23] = 1, CaptureError::TooLong),
        ("another interface", |b| b[8] = 1, CaptureError::UnknownInterface),
    ];
    assert_eq!(read(&[&start[..], &good].concat()).len(), 1);
    for (name, edit, error) in cases {
        let mut bytes = good.clone();
        edit(&mut bytes);
        assert_eq!(read(&[&start[..], &bytes].concat()), [Err(error)], "{name}");
    }
    let unheard = [section(false), interface(false, 1, Some(20))].concat();
    assert_eq!(read(&unheard), [Err(CaptureError::BadBlock)], "10^20 ticks a second");
    let mut order = section(false);
    order[8] = 0;
    assert_eq!(read(&order), [Err(CaptureError::BadBlock)]);
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(
        big_endian in any::<bool>(), nanoseconds in any::<bool>(), link in any::<u16>(),
        packets in vec((any::<u32>(), 0..1_000_000_u32, 0..1000_u32, vec(any::<u8>(), 0..50)), 0..5),
    ) {
        let layout = Layout { big_endian, nanoseconds };
        let mut file = layout.file_header(LinkType(link)).to_vec();
        let mut want = Vec::new();
        for (seconds, micros, nanos, data) in &packets {
            let time = Duration::new(u64::from(*seconds), micros * 1000 + if nanoseconds { *nanos } else { 0 });
            let len = data.len() as u32;
            file.extend_from_slice(&layout.record_header(time, len, len + 7));
            file.extend_from_slice(data);
            want.push(Ok(Record { time, link: LinkType(link), original_len: len + 7, data }));
        }
        prop_assert_eq!(read(&file), want);
    }

    #[test]
    fn no_bytes_panic_and_every_reading_ends(
        big in any::<bool>(), classic in any::<bool>(), nonsense in vec(any::<u8>(), 0..100),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
    ) {
        let packet = block(big, 6, &[0, 0, 0, 3, 3], b"abc");
        let mut file = if classic {
            KNOWN.repeat(2)
        } else {
            [section(big), interface(big, 1, Some(9)), packet.clone(), packet].concat()
        };
        for (index, value) in edits {
            let at = index.index(file.len());
            file[at] = value;
        }
        for bytes in [&file[..], &nonsense, &[&file[..], &nonsense].concat()] {
            let records = read(bytes);
            prop_assert!(records.len() <= bytes.len() / 12 + 1);
            records.iter().flatten().for_each(|record| drop(record.to_string()));
        }
    }
}
