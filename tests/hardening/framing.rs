//! A: requests whose framing could be read two ways, or not at all.

use super::common::{Origin, Report, ensure};
use super::{Refusal, refusal, refuse_all, service, service_with, with, with_bytes};

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a1_to_a12_lengths_and_encodings() {
    let origin = Origin::echo();
    let mut rows = vec![
        refusal(
            "A1 length, then encoding",
            400,
            &["length-and-encoding"],
            with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ),
        refusal(
            "A1 encoding, then length",
            400,
            &["length-and-encoding"],
            with("Transfer-Encoding: chunked\r\nContent-Length: 5"),
        ),
        refusal("A2 two lengths", 400, &["repeated-length"], with("Content-Length: 5\r\nContent-Length: 6")),
        refusal("A3 the same length twice", 400, &["repeated-length"], with("Content-Length: 5\r\nContent-Length: 5")),
        refusal("A3 a list of lengths", 400, &["repeated-length"], with("Content-Length: 5, 5")),
        refusal("A4 an empty length", 400, &["bad-length"], with("Content-Length:")),
        refusal(
            "A4 an empty length first",
            400,
            &["bad-length", "repeated-length"],
            with("Content-Length: \r\nContent-Length: 5"),
        ),
        refusal("A7 a length beyond 64 bits", 400, &["bad-length"], with("Content-Length: 18446744073709551616")),
        refusal("A8 encoded, not chunked", 400, &["bad-encoding"], with("Transfer-Encoding: gzip")),
        refusal("A8 chunked, then something", 400, &["bad-encoding"], with("Transfer-Encoding: chunked, gzip")),
        refusal("A8 identity", 400, &["bad-encoding"], with("Transfer-Encoding: identity")),
        refusal("A9 something, then chunked", 501, &["unsupported-encoding"], with("Transfer-Encoding: gzip, chunked")),
        refusal(
            "A10 chunked in two fields",
            400,
            &["repeated-encoding"],
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ),
        refusal("A10 chunked twice", 400, &["repeated-encoding"], with("Transfer-Encoding: chunked, chunked")),
        refusal(
            "A12 encoding in HTTP/1.0",
            400,
            &["encoding-in-old-version"],
            "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ];
    for length in ["+5", "-1", "0x5", "1_0", "5 5", "5;", "5.0", "\u{0665}"] {
        let reason: &[&str] = &["bad-length"];
        rows.push(refusal("A5 a length that is no number", 400, reason, with(&format!("Content-Length: {length}"))));
    }
    let encodings: [&[u8]; 11] = [
        b",chunked",
        b"chunked,",
        b"chunked;x",
        b"chunked;x=1",
        b"\"chunked\"",
        b"chunked\x0b",
        b"\x0bchunked",
        b"\x0cchunked",
        b"chunked\xff",
        b"chunke d",
        b"",
    ];
    for encoding in encodings {
        let reason: &[&str] = &["bad-encoding", "control-in-value"];
        let lines = [b"Transfer-Encoding: ", encoding].concat();
        rows.push(refusal("A11 an encoding in disguise", 400, reason, with_bytes(&lines)));
    }
    refuse_all(&service(&origin), &origin, &rows);
}

#[test]
fn a6_a_length_is_decimal_and_forwarded_canonical() {
    let origin = Origin::echo();
    let strata = service(&origin);
    let answer = strata.ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 010\r\n\r\n0123456789");
    assert_eq!(answer.status(), 200);
    let forwarded = answer.text();
    assert!(forwarded.contains("Content-Length: 10\r\n"), "{forwarded}");
    assert!(forwarded.ends_with("0123456789"), "{forwarded}");
}

#[test]
fn a7_a_body_beyond_the_cap_is_refused() {
    let origin = Origin::echo();
    let strata = service_with(&origin, "limits = { max_body = \"1KiB\" }");
    let announced = refusal("A7 announced", 413, &["body-too-large"], with("Content-Length: 1025"));
    refuse_all(&strata, &origin, &[announced]);

    let fits =
        strata.ask(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024)));
    assert_eq!(fits.status(), 200);

    // Chunked: nobody knows before it is too late; the endpoint must not take it for a whole request.
    let before = strata.scrape();
    let mut client = strata.connect();
    client.send(CHUNKED).send("400\r\n").send("x".repeat(0x400)).send("\r\n1\r\nx\r\n0\r\n\r\n");
    let answer = client.response().expect("a response");
    assert_eq!(answer.status(), 413);
    let whole = (0..origin.connections()).any(|c| origin.seen(c).ends_with(b"\r\n0\r\n\r\n"));
    assert!(!whole, "the endpoint got a whole request");
    strata.counted(&before, "body-too-large", 1.0).unwrap();
}

#[test]
fn a13_to_a18_fields() {
    let origin = Origin::echo();
    let head = |bytes: &[u8]| [b"GET / HTTP/1.1\r\n", bytes, b"\r\n\r\n"].concat();
    let rows: Vec<Refusal> = vec![
        refusal("A13 a space before the colon", 400, &["space-before-colon"], with("X-A : 1")),
        refusal("A13 a tab before the colon", 400, &["space-before-colon"], with("X-A\t: 1")),
        refusal("A13 a space before the colon of a length", 400, &["space-before-colon"], with("Content-Length : 5")),
        refusal("A14 a folded line", 400, &["obs-fold"], with("X-A: 1\r\n 2")),
        refusal("A14 a folded encoding", 400, &["obs-fold", "bad-encoding"], with("Transfer-Encoding:\r\n chunked")),
        refusal("A14 a tab before the first field", 400, &["obs-fold"], head(b"\tHost: a.test")),
        refusal("A14 a space before the first field", 400, &["obs-fold"], head(b" Host: a.test")),
        refusal("A15 NUL in a value", 400, &["control-in-value"], with_bytes(b"X-A: 1\x002")),
        refusal("A15 CR in a value", 400, &["bare-cr", "control-in-value"], with_bytes(b"X-A: 1\r2")),
        refusal("A15 LF in a value", 400, &["bare-lf"], with_bytes(b"X-A: 1\nX-B: 2")),
        refusal("A15 DEL in a value", 400, &["control-in-value"], with_bytes(b"X-A: \x7f")),
        refusal("A16 every line ends in LF", 400, &["bare-lf"], "GET / HTTP/1.1\nHost: a.test\n\n"),
        refusal(
            "A16 a request line ends in LF",
            400,
            &["bare-lf", "bad-request-line"],
            "GET / HTTP/1.1\nHost: a.test\r\n\r\n",
        ),
        refusal("A16 a field ends in LF", 400, &["bare-lf"], "GET / HTTP/1.1\r\nHost: a.test\nX-A: 1\r\n\r\n"),
        refusal("A16 the empty line is LF", 400, &["bare-lf"], "GET / HTTP/1.1\r\nHost: a.test\r\n\n"),
        refusal("A17 a field without a name", 400, &["empty-name"], with(": 1")),
        refusal("A18 no colon", 400, &["no-colon"], with("X-A")),
        refusal("A18 a bracket in a name", 400, &["bad-name"], with("X(A: 1")),
        refusal("A18 NUL in a name", 400, &["bad-name"], with_bytes(b"X\0A: 1")),
        refusal("A18 0x80 in a name", 400, &["bad-name"], with_bytes(b"X\x80A: 1")),
        refusal("A18 a space in a name", 400, &["bad-name", "space-before-colon"], with("X A: 1")),
        refusal(
            "A26 a length behind a malformed line",
            400,
            &["no-colon", "obs-fold", "bad-name"],
            with("X-A\r\nContent-Length: 5"),
        ),
    ];
    refuse_all(&service(&origin), &origin, &rows);
}

#[test]
fn a19_to_a22_chunks() {
    let origin = Origin::echo();
    let body = |body: &[u8]| [CHUNKED.as_bytes(), body].concat();
    let mut rows = vec![
        refusal("A19 a space before the size", 400, &["bad-chunk-size"], body(b" 5\r\nhello\r\n0\r\n\r\n")),
        refusal("A19 more than 16 digits", 400, &["bad-chunk-size"], body(b"00000000000000005\r\nhello\r\n0\r\n\r\n")),
        refusal("A19 beyond 64 bits", 400, &["bad-chunk-size"], body(b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n")),
        refusal(
            "A20 LF in an extension",
            400,
            &["bad-chunk-extension", "bare-lf"],
            body(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ),
        refusal(
            "A20 CR in an extension",
            400,
            &["bad-chunk-extension", "bare-cr"],
            body(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ),
        refusal("A20 NUL in an extension", 400, &["bad-chunk-extension"], body(b"5;a\0b\r\nhello\r\n0\r\n\r\n")),
        refusal(
            "A20 a size line ends in LF",
            400,
            &["bad-chunk-extension", "bad-chunk-size", "bare-lf"],
            body(b"5\nhello\r\n0\r\n\r\n"),
        ),
        refusal("A22 chunk data runs on", 400, &["bad-chunk-end"], body(b"5\r\nhelloXX0\r\n\r\n")),
        refusal("A22 chunk data ends in LF", 400, &["bad-chunk-end", "bare-lf"], body(b"5\r\nhello\n0\r\n\r\n")),
    ];
    for size in ["0x5", "+5", "-5", "5_0", "", "g", "5 5"] {
        let chunk = format!("{size}\r\nhello\r\n0\r\n\r\n");
        let reason: &[&str] = &["bad-chunk-size", "bad-chunk-extension"];
        rows.push(refusal("A19 a size that is no number", 400, reason, body(chunk.as_bytes())));
    }
    refuse_all(&service(&origin), &origin, &rows);
}

#[test]
fn a19_a_broken_chunk_after_the_head_was_forwarded_ends_both_sides() {
    let origin = Origin::echo();
    let strata = service(&origin);
    let mut report = Report::default();
    for (connection, chunk) in ["0x5\r\n", "5\r\nhelloXX", "5;a\0b\r\n"].iter().enumerate() {
        let mut client = strata.connect();
        client.send(CHUNKED).send("3\r\nabc\r\n");
        origin.await_seen(connection, "abc");
        client.send(chunk);
        let answer = client.response();
        let refused = answer.as_ref().is_ok_and(|answer| answer.status() == 400);
        report.check(chunk, ensure(refused, || format!("expected 400, got {answer:?}")));
        origin.await_discarded(connection);
        let seen = origin.seen(connection);
        let whole = seen.ends_with(b"0\r\n\r\n");
        report.check(chunk, ensure(!whole, || "the endpoint got a whole request".into()));
    }
    report.finish(&strata);
}

#[test]
fn a21_chunk_extensions_have_a_budget_for_the_whole_body() {
    let origin = Origin::echo();
    let strata = service(&origin);
    let few = format!("{CHUNKED}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1000));
    let answer = strata.ask(few);
    assert_eq!(answer.status(), 200);
    assert!(!answer.text().contains("xxxx"), "extensions are not forwarded");

    let before = strata.scrape();
    let chunk = format!("1;{}\r\nz\r\n", "x".repeat(500));
    let answer = strata.ask(format!("{CHUNKED}{}0\r\n\r\n", chunk.repeat(10)));
    assert_eq!((answer.status(), answer.field("x-strata-reason")), (400, Some("chunk-extensions-too-long".into())));
    strata.counted(&before, "chunk-extensions-too-long", 1.0).unwrap();
}

#[test]
fn a35_a36_other_protocols() {
    let origin = Origin::echo();
    let rows = [
        refusal("A35 HTTP/0.9", 400, &["bad-request-line"], "GET /\r\n\r\n"),
        refusal("A35 HTTP/1.32", 400, &["bad-version"], "GET / HTTP/1.32\r\nHost: a.test\r\n\r\n"),
        refusal("A35 lower case", 400, &["bad-version"], "GET / http/1.1\r\nHost: a.test\r\n\r\n"),
        refusal("A35 HTTP/3.0", 505, &["unsupported-version"], "GET / HTTP/3.0\r\nHost: a.test\r\n\r\n"),
        refusal("A35 no version number", 400, &["bad-version"], "GET / HTTP/\r\nHost: a.test\r\n\r\n"),
        refusal(
            "A35 two spaces",
            400,
            &["bad-target", "bad-version", "bad-request-line"],
            "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        refusal(
            "A36 the preface of HTTP/2",
            400,
            &["http2-preface"],
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
        refusal("A36 a TLS hello", 400, &["tls-hello"], b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".as_slice()),
    ];
    refuse_all(&service(&origin), &origin, &rows);
}
