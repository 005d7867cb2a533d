//! Bodies: A19 to A24, and what becomes of payload on its way through.

use super::*;
use crate::base::limits;

#[test]
fn chunked_framing_is_read_strictly() {
    let long_ok = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(limits::CHUNK_EXTENSION_BYTES));
    let long_bad = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(limits::CHUNK_EXTENSION_BYTES + 1));
    let many = "1;xxxxxxxxx\r\na\r\n".repeat(limits::CHUNK_EXTENSION_BYTES / 9 + 1);
    let trailers = format!("0\r\nX: {}\r\n\r\n", "y".repeat(limits::TRAILER_BYTES));
    let fields = format!("0\r\n{}\r\n", "X: y\r\n".repeat(limits::FIELDS + 1));
    for (id, wire, want) in [
        ("ok", "5\r\nhello\r\n0\r\n\r\n", Ok("hello")),
        ("ok", "5\r\nhello\r\n1\r\n!\r\n000\r\n\r\n", Ok("hello!")),
        ("ok", "A;a=b;c=\"d\"\r\n0123456789\r\n0;x\r\nX: y\r\n\r\n", Ok("0123456789")),
        ("ok", "0\r\n\r\nGET / HTTP/1.1", Ok("")),
        ("A19", "0x5\r\nhello", Err(Reject::BadChunkSize)),
        ("A19", "+5\r\nhello", Err(Reject::BadChunkSize)),
        ("A19", " 5\r\nhello", Err(Reject::BadChunkSize)),
        ("A19", "5 \r\nhello", Err(Reject::BadChunkSize)),
        ("A19", "5_0\r\nhello", Err(Reject::BadChunkSize)),
        ("A19", "\r\nhello", Err(Reject::BadChunkSize)),
        ("A19", ";x\r\nhello", Err(Reject::BadChunkSize)),
        ("A19", "00000000000000005\r\nhello", Err(Reject::BadChunkSize)),
        ("A19", "5\nhello", Err(Reject::BareLf)),
        ("A19", "5\rhello", Err(Reject::BareCr)),
        ("A20", "5;a\nb\r\nhello", Err(Reject::BadChunkExtension)),
        ("A20", "5;a\0b\r\nhello", Err(Reject::BadChunkExtension)),
        ("A20", "5;a\rb\r\nhello", Err(Reject::BareCr)),
        ("A21", &long_ok, Ok("a")),
        ("A21", &long_bad, Err(Reject::ChunkExtensionsTooLong)),
        ("A21", &many, Err(Reject::ChunkExtensionsTooLong)),
        ("A22", "5\r\nhelloX\r\n", Err(Reject::BadChunkEnd)),
        ("A22", "5\r\nhello\n", Err(Reject::BadChunkEnd)),
        ("A22", "5\r\nhello\rX", Err(Reject::BadChunkEnd)),
        ("A24", "0\r\nX : y\r\n\r\n", Err(Reject::SpaceBeforeColon)),
        ("A24", "0\r\nX: y\n\r\n", Err(Reject::BareLf)),
        ("A24", "0\r\nX: y\r\n\n", Err(Reject::BareLf)),
        ("A24", "0\r\n\rX\n", Err(Reject::BareCr)),
        ("A24", "0\r\nX: a\0b\r\n\r\n", Err(Reject::ControlInValue)),
        ("A24", &trailers, Err(Reject::TrailersTooLarge)),
        ("A24", &fields, Err(Reject::TrailersTooLarge)),
    ] {
        for step in [1, 2, 3, 7, wire.len()] {
            let got = decode(Body::Chunked, wire.as_bytes(), step).map(|(payload, used, decoder)| {
                assert!(decoder.is_done(), "{id}: {wire}");
                assert_eq!(wire.as_bytes()[used..].starts_with(b"GET"), wire.contains("GET"));
                String::from_utf8(payload).unwrap()
            });
            assert_eq!(got.as_deref().map_err(|e| *e), want, "{id} by {step}: {:.60}", wire);
        }
    }
}

#[test]
fn a23_a_body_that_ends_early_is_never_whole() {
    for (body, wire) in [
        (Body::Length(5), "hell"),
        (Body::Chunked, "5\r\nhello\r\n"),
        (Body::Chunked, "5\r\nhello\r\n0\r\n"),
        (Body::Chunked, "5\r\nhello\r\n0\r\n\r"),
        (Body::Chunked, "0\r\nX: y\r\n"),
        (Body::Chunked, ""),
    ] {
        let (_, _, mut decoder) = decode(body, wire.as_bytes(), 3).unwrap();
        assert!(!decoder.is_done());
        assert_eq!(decoder.finish_at_close(), Err(Reject::Truncated), "{wire}");
    }
    let (payload, _, mut decoder) = decode(Body::UntilClose, b"hello", 2).unwrap();
    assert!(!decoder.is_done() && payload == b"hello");
    assert_eq!((decoder.finish_at_close(), decoder.is_done()), (Ok(()), true));
}

#[test]
fn a24_forbidden_trailers_are_dropped_and_others_relayed() {
    let wire = b"1\r\na\r\n0\r\nX-Sum:  1 \r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nHost: a\r\n\
        authorization: b\r\nX_Y: z\r\nSet-Cookie: c\r\nX-Forwarded-For: d\r\ngrpc-status: 0\r\n\r\n";
    for step in [1, 5, wire.len()] {
        let (_, _, decoder) = decode(Body::Chunked, wire, step).unwrap();
        assert_eq!(text(decoder.trailers()), "X-Sum: 1\r\ngrpc-status: 0\r\n");
    }
}

#[test]
fn a_body_of_known_length_takes_no_byte_more() {
    let (payload, used, decoder) = decode(Body::Length(5), b"helloGET", 64).unwrap();
    assert_eq!((payload.as_slice(), used, decoder.left()), (&b"hello"[..], 5, Some(0)));
    for body in [Body::None, Body::Length(0)] {
        assert!(Decoder::new(body).is_done());
    }
}

#[test]
fn large_chunks_are_not_moved_and_small_ones_are_moved_together() {
    let big = vec![b'x'; 10_000];
    let mut wire = Vec::new();
    for payload in [&big[..], b"small", b"smaller", &big, &big] {
        chunk(&mut wire, payload);
    }
    let mut pieces = Pieces::default();
    Decoder::new(Body::Chunked).decode(&mut wire, &mut pieces).unwrap();
    assert_eq!(pieces.slices(&wire).map(<[u8]>::len).collect::<Vec<_>>(), [10_012, 10_000, 10_000]);
    assert_eq!(pieces.total, 30_012);

    let mut many = Vec::new();
    (0..100).for_each(|_| chunk(&mut many, &big[..3000]));
    Decoder::new(Body::Chunked).decode(&mut many, &mut pieces).unwrap();
    assert_eq!((pieces.count(), pieces.total), (16, 300_000));
}

#[test]
fn a_chunk_size_is_written_in_the_fewest_digits() {
    for (len, want) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65536, "10000\r\n")] {
        assert_eq!(text(ChunkSize::new(len).as_bytes()), want);
    }
    assert_eq!(ChunkSize::new(usize::MAX).as_bytes(), b"ffffffffffffffff\r\n");
    let mut out = Vec::new();
    chunk(&mut out, b"");
    finish(&mut out, Body::Chunked, b"");
    assert_eq!(out, b"0\r\n\r\n");
    finish(&mut out, Body::Length(5), b"");
    assert_eq!(out, b"0\r\n\r\n");
}
