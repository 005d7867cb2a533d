//! Tests of the TCP codec.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A SYN of Linux, 10.0.0.1:4242 to 10.0.0.100:80: MSS 1460, SACK permitted, timestamp, padding, window scale 7.
const SYN: [u8; 40] = *b"\x10\x92\x00\x50\x00\x00\x00\x01\x00\x00\x00\x00\xa0\x02\xfa\xf0\x00\x00\x00\x00\
    \x02\x04\x05\xb4\x04\x02\x08\x0a\x00\x00\x00\x2a\x00\x00\x00\x00\x01\x03\x03\x07";

fn addresses() -> (IpAddr, IpAddr) {
    ([10, 0, 0, 1].into(), [10, 0, 0, 100].into())
}

/// A segment with these options, padded, and a right checksum.
fn with_options(flags: Flags, options: &[u8]) -> Vec<u8> {
    let mut bytes = SYN[..HEADER_LEN].to_vec();
    bytes.extend_from_slice(options);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes[DATA_OFFSET] = (bytes.len() as u8) << 2;
    bytes[FLAGS] = flags.0;
    let (source, destination) = addresses();
    Segment::new_checked(&mut bytes[..]).unwrap().fill_checksum(source, destination);
    bytes
}

#[test]
fn a_known_syn_reads_and_is_written_the_same() {
    let mut bytes = SYN;
    let (source, destination) = addresses();
    Segment::new_checked(&mut bytes[..]).unwrap().fill_checksum(source, destination);
    let segment = Segment::new_checked(&bytes[..]).unwrap();
    let header = Header::parse(&segment);
    assert_eq!((header.source_port, header.destination_port), (4242, 80));
    assert_eq!((header.sequence, header.acknowledgment, header.window), (1, 0, 64240));
    assert_eq!((header.header_len, header.flags.to_string().as_str()), (40, "[S]"));
    // By hand: the pseudo-header's words are 0a00 0001 0a00 0064 0006 0028, and with those of the segment they sum to
    // 1d860, which is d861 with its carry.
    assert_eq!(header.checksum, !0xd861);
    assert!(segment.is_checksum_valid(source, destination));
    assert!(!segment.is_checksum_valid(source, source));
    assert_eq!(header.emit(), bytes[..HEADER_LEN]);
    let kinds: Vec<_> = segment.options().map(|option| option.map(|o| (o.kind, o.offset, o.data.len()))).collect();
    assert_eq!(kinds, [Ok((2, 20, 2)), Ok((4, 24, 0)), Ok((8, 26, 8)), Ok((3, 37, 1))]);
    assert_eq!(segment.maximum_segment_size(), Ok(Some(1460)));
    assert_eq!(segment.payload(), b"");
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    for (name, len, offset, want) in [
        ("19 bytes", 19, 0x50, Err(Fault::Truncated)),
        ("16 bytes of header", 40, 0x40, Err(Fault::BadHeaderLength)),
        ("options past the end", 40, 0xb0, Err(Fault::BadHeaderLength)),
        ("options to the end", 40, 0xa0, Ok(0)),
        ("no options", 40, 0x50, Ok(20)),
    ] {
        let mut bytes = SYN[..len].to_vec();
        bytes[DATA_OFFSET] = offset;
        assert_eq!(Segment::new_checked(&bytes).map(|segment| segment.payload().len()), want, "{name}");
    }
}

#[test]
fn options_that_do_not_end_are_refused_and_the_walk_stops() {
    for (name, options, want) in [
        ("none", &[][..], Ok(None)),
        ("padding only", &[1, 1, 1, 1], Ok(None)),
        ("an end before it", &[0, 2, 4, 5], Ok(None)),
        ("a length of zero", &[8, 0, 1, 1], Err(Fault::BadOption)),
        ("a length of one", &[8, 1, 1, 1], Err(Fault::BadOption)),
        ("a length past the end", &[2, 5, 1, 1], Err(Fault::BadOption)),
        ("no room for a length", &[1, 1, 1, 2], Err(Fault::BadOption)),
        ("an MSS of one byte", &[2, 3, 5, 0], Err(Fault::BadOption)),
        ("an MSS after two paddings", &[1, 1, 2, 4, 5, 180, 0, 0], Ok(Some(1460))),
    ] {
        let bytes = with_options(Flags::SYN, options);
        let segment = Segment::new_checked(&bytes).unwrap();
        assert_eq!(segment.maximum_segment_size(), want, "{name}");
        assert!(segment.options().count() <= 20, "{name}");
        let walk = segment.check_options();
        assert_eq!(walk.is_err(), want.is_err() && name != "an MSS of one byte", "{name}");
    }
    let stamped = with_options(Flags::ACK, &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert_eq!(Segment::new_checked(&stamped).unwrap().check_options(), Ok(()));
}

#[test]
fn the_mss_of_a_syn_is_lowered_wherever_it_stands_and_the_checksum_follows() {
    let (source, destination) = addresses();
    for paddings in 0..4 {
        let mut options = vec![1; paddings];
        options.extend_from_slice(&[2, 4, 0x05, 0xb4]);
        for (flags, most, want) in [
            (Flags::SYN, 1400, Some(1400)),
            (Flags::SYN.with(Flags::ACK), 536, Some(536)),
            (Flags::SYN, 1460, None),
            (Flags::SYN, 9000, None),
            (Flags::ACK, 1400, None),
        ] {
            let mut bytes = with_options(flags, &options);
            let before = bytes.clone();
            let mut segment = Segment::new_checked(&mut bytes[..]).unwrap();
            assert_eq!(segment.clamp_maximum_segment_size(most, Stored::Whole), Ok(want.is_some()));
            assert_eq!(segment.maximum_segment_size(), Ok(Some(want.unwrap_or(1460))));
            assert!(segment.is_checksum_valid(source, destination), "{paddings} {flags} {most}");
            assert_eq!(bytes == before, want.is_none());
        }
        let mut bytes = with_options(Flags::SYN, &options);
        let mut segment = Segment::new_checked(&mut bytes[..]).unwrap();
        let partial = segment.checksum();
        assert_eq!(segment.clamp_maximum_segment_size(1000, Stored::Partial), Ok(true));
        assert_eq!((segment.checksum(), segment.maximum_segment_size()), (partial, Ok(Some(1000))));
    }
    assert_eq!((maximum_segment_size(1500, false), maximum_segment_size(1500, true)), (1460, 1440));
}

#[test]
fn flags_that_no_state_sends_are_told_apart() {
    use Flags as F;
    for (flags, sensible) in [
        (F::SYN, true),
        (F::SYN.with(F::ACK), true),
        (F::SYN.with(F::ECE).with(F::CWR), true),
        (F::ACK, true),
        (F::ACK.with(F::PSH).with(F::URG), true),
        (F::FIN.with(F::ACK).with(F::PSH), true),
        (F::RST, true),
        (F::RST.with(F::ACK), true),
        (F::default(), false),
        (F::FIN, false),
        (F::PSH, false),
        (F::SYN.with(F::FIN), false),
        (F::SYN.with(F::RST), false),
        (F::RST.with(F::FIN).with(F::ACK), false),
        (F::FIN.with(F::PSH).with(F::URG), false),
        (F(0xff), false),
    ] {
        assert_eq!(flags.are_sensible(), sensible, "{flags}");
    }
    assert_eq!(Flags(0xff).to_string(), "[FSRP.UEW]");
    assert_eq!(Flags(0).to_string(), "[none]");
}

/// The three cases of RFC 9293 §3.10.7.1.
#[test]
fn a_reset_answers_by_the_book() {
    let segment = |flags| Header { flags, sequence: 1000, acknowledgment: 7, ..parse(&SYN) };
    for (name, flags, payload, want) in [
        ("a SYN", Flags::SYN, 0, Some((0, 1001, Flags(0x14)))),
        ("a SYN with data", Flags::SYN, 10, Some((0, 1011, Flags(0x14)))),
        ("a FIN without ACK", Flags::FIN, 3, Some((0, 1004, Flags(0x14)))),
        ("an ACK", Flags::ACK, 100, Some((7, 0, Flags::RST))),
        ("a SYN with ACK", Flags(0x12), 0, Some((7, 0, Flags::RST))),
        ("a reset", Flags::RST, 0, None),
        ("a reset with ACK", Flags(0x14), 0, None),
    ] {
        let reset = segment(flags).reset(payload);
        assert_eq!(reset.map(|r| (r.sequence, r.acknowledgment, r.flags)), want, "{name}");
        if let Some(reset) = reset {
            assert_eq!((reset.source_port, reset.destination_port), (80, 4242));
            assert_eq!(reset.reset(0), None);
        }
    }
    let last = Header { sequence: u32::MAX, ..segment(Flags::SYN) };
    assert_eq!(last.reset(0).unwrap().acknowledgment, 0);
}

fn parse(bytes: &[u8]) -> Header {
    Header::parse(&Segment::new_checked(bytes).unwrap())
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(mut bytes in vec(any::<u8>(), 60)) {
        // Four bits are reserved and written as zero.
        bytes[DATA_OFFSET] &= 0xf0;
        if let Ok(segment) = Segment::new_checked(&bytes) {
            let header = Header::parse(&segment);
            prop_assert_eq!(&header.emit()[..], &bytes[..HEADER_LEN]);
        }
    }

    #[test]
    fn arbitrary_bytes_get_an_answer(mut bytes in vec(any::<u8>(), 0..70), most in any::<u16>()) {
        if bytes.len() > FLAGS {
            bytes[FLAGS] |= Flags::SYN.0;
        }
        let Ok(mut segment) = Segment::new_checked(&mut bytes[..]) else { return Ok(()) };
        prop_assert!(segment.options().count() <= 40);
        let before = segment.maximum_segment_size();
        let changed = segment.clamp_maximum_segment_size(most, Stored::Whole);
        prop_assert_eq!(changed.is_err(), before.is_err());
        if let Ok(Some(size)) = segment.maximum_segment_size() {
            prop_assert!(size <= most || changed == Ok(false));
        }
    }
}
