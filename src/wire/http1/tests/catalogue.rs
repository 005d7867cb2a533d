//! The rows of the hardening catalogue that a codec alone can answer, by their ids.

use super::*;
use crate::base::limits;

fn refused(id: &str, bytes: &[u8], want: Reject) {
    assert_eq!(request(bytes).map(|_| ()), Err(want), "{id}: {:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn framing_that_could_be_read_two_ways_is_refused() {
    for (id, lines, want) in [
        ("A1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Reject::LengthAndEncoding),
        ("A1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Reject::LengthAndEncoding),
        ("A2", "Content-Length: 5\r\nContent-Length: 6\r\n", Reject::RepeatedLength),
        ("A3", "Content-Length: 5\r\nContent-Length: 5\r\n", Reject::RepeatedLength),
        ("A3", "Content-Length: 5, 5\r\n", Reject::RepeatedLength),
        ("A4", "Content-Length: \r\n", Reject::BadLength),
        ("A4", "Content-Length:\r\nContent-Length: 5\r\n", Reject::BadLength),
        ("A5", "Content-Length: +5\r\n", Reject::BadLength),
        ("A5", "Content-Length: -1\r\n", Reject::BadLength),
        ("A5", "Content-Length: 0x5\r\n", Reject::BadLength),
        ("A5", "Content-Length: 1_0\r\n", Reject::BadLength),
        ("A5", "Content-Length: 5 5\r\n", Reject::BadLength),
        ("A5", "Content-Length: 5;\r\n", Reject::BadLength),
        ("A5", "Content-Length: \u{663}\r\n", Reject::BadLength),
        ("A7", "Content-Length: 18446744073709551616\r\n", Reject::BadLength),
        ("A7", "Content-Length: 99999999999999999999999\r\n", Reject::BadLength),
        ("A8", "Transfer-Encoding: gzip\r\n", Reject::BadEncoding),
        ("A8", "Transfer-Encoding: chunked, gzip\r\n", Reject::BadEncoding),
        ("A8", "Transfer-Encoding: identity\r\n", Reject::BadEncoding),
        ("A8", "Transfer-Encoding:\r\n", Reject::BadEncoding),
        ("A9", "Transfer-Encoding: gzip, chunked\r\n", Reject::UnsupportedEncoding),
        ("A9", "Transfer-Encoding: identity, chunked\r\n", Reject::UnsupportedEncoding),
        ("A10", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Reject::RepeatedEncoding),
        ("A10", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Reject::RepeatedEncoding),
        ("A10", "Transfer-Encoding: chunked, chunked\r\n", Reject::RepeatedEncoding),
        ("A11", "Transfer-Encoding: ,chunked\r\n", Reject::BadEncoding),
        ("A11", "Transfer-Encoding: chunked,\r\n", Reject::BadEncoding),
        ("A11", "Transfer-Encoding: chunked;x=1\r\n", Reject::BadEncoding),
        ("A11", "Transfer-Encoding: \"chunked\"\r\n", Reject::BadEncoding),
        ("A11", "Transfer-Encoding: xchunked\r\n", Reject::BadEncoding),
        ("A11", "Transfer-Encoding: chun ked\r\n", Reject::BadEncoding),
        ("A11", "Transfer-Encoding: chunked\u{ff}\r\n", Reject::BadEncoding),
        ("A11", "Transfer-Encoding: \u{b}chunked\r\n", Reject::ControlInValue),
        ("A11", "Transfer-Encoding : chunked\r\n", Reject::SpaceBeforeColon),
        ("A11", "Transfer-Encoding\t: chunked\r\n", Reject::SpaceBeforeColon),
        ("A11", "X: y\nTransfer-Encoding: chunked\r\n", Reject::BareLf),
        ("A11", "Transfer-Encoding:\r\n chunked\r\n", Reject::ObsFold),
    ] {
        refused(id, &with(lines), want);
    }
    refused("A12", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Reject::EncodingInOldVersion);
}

/// A6, A11: leading zeros are a number, and case and white space around a value mean nothing.
#[test]
fn framing_that_can_be_read_one_way_only_is_read() {
    for (lines, want) in [
        ("", Body::None),
        ("Content-Length: 0\r\n", Body::Length(0)),
        ("Content-Length: 010\r\n", Body::Length(10)),
        ("content-length:\t7 \r\n", Body::Length(7)),
        ("Content-Length: 18446744073709551615\r\n", Body::Length(u64::MAX)),
        ("TRANSFER-ENCODING: Chunked \r\n", Body::Chunked),
    ] {
        let bytes = with(lines);
        let (head, end) = request(&bytes).unwrap();
        assert_eq!((head.view(&bytes).body(), end), (want, bytes.len()), "{lines}");
    }
}

#[test]
fn a_line_that_is_not_a_field_is_refused() {
    for (id, lines, want) in [
        ("A13", "X : y\r\n", Reject::SpaceBeforeColon),
        ("A13", "X\t: y\r\n", Reject::SpaceBeforeColon),
        ("A14", "X: y\r\n z\r\n", Reject::ObsFold),
        ("A14", "X: y\r\n\tz\r\n", Reject::ObsFold),
        ("A15", "X: a\0b\r\n", Reject::ControlInValue),
        ("A15", "X: a\rb\r\n", Reject::BareCr),
        ("A15", "X: a\u{7f}b\r\n", Reject::ControlInValue),
        ("A15", "X: a\u{1b}[1m\r\n", Reject::ControlInValue),
        ("A16", "X: a\n", Reject::BareLf),
        ("A16", "X: a\r\n\n", Reject::BareLf),
        ("A16", "\n", Reject::BareLf),
        ("A17", ": y\r\n", Reject::EmptyName),
        ("A18", "Xy\r\n", Reject::NoColon),
        ("A18", "X y: z\r\n", Reject::SpaceBeforeColon),
        ("A18", "X(y): z\r\n", Reject::BadName),
        ("A18", "X\u{e4}: z\r\n", Reject::BadName),
        ("A18", "X\0: z\r\n", Reject::BadName),
        ("A26", "Content-Length\0: 5\r\n", Reject::BadName),
        ("A26", "Content-Length\r: 5\r\n", Reject::NoColon),
        ("A26", "\r X: y\r\n", Reject::BareCr),
        ("A27", "Expect: 100-continue, x\r\n", Reject::UnknownExpectation),
        ("A27", "Expect: y 100-continue\r\n", Reject::UnknownExpectation),
        ("A27", "Expect:\r\n", Reject::UnknownExpectation),
        ("A27", "Expect: 100-continue\r\nExpect: 100-continue\r\n", Reject::UnknownExpectation),
        ("C1", "Connection: a b\r\n", Reject::BadConnection),
    ] {
        refused(id, &with(lines), want);
    }
    refused("A14", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Reject::ObsFold);
    refused("A16", b"GET / HTTP/1.1\nHost: a\n\n", Reject::BareLf);
}

#[test]
fn a_line_that_is_not_a_request_line_is_refused() {
    for (id, line, want) in [
        ("A35", "GET /\r\n", Reject::BadRequestLine),
        ("A35", "GET / HTTP/1.32\r\n", Reject::BadVersion),
        ("A35", "GET / http/1.1\r\n", Reject::BadVersion),
        ("A35", "GET / HTTP/2.0\r\n", Reject::UnsupportedVersion),
        ("A35", "GET / HTTP/0.9\r\n", Reject::UnsupportedVersion),
        ("A35", "GET / HTTP/1.2\r\n", Reject::UnsupportedVersion),
        ("A35", "GET / HTTP/1.1 \r\n", Reject::BadVersion),
        ("A35", "GET / HTTP/1\r\n", Reject::BadVersion),
        ("A35", "GET / X\r\nHost: a\r\n", Reject::BadVersion),
        ("A35", "GET  / HTTP/1.1\r\n", Reject::BadRequestLine),
        ("A35", "GET\t/ HTTP/1.1\r\n", Reject::BadMethod),
        ("A35", " GET / HTTP/1.1\r\n", Reject::BadRequestLine),
        ("A35", "GET / a HTTP/1.1\r\n", Reject::BadVersion),
        ("A35", "GET\r\n", Reject::BadRequestLine),
        ("A35", "GET / HTTP/1.1\rX\r\n", Reject::BareCr),
        ("A35", "\r\n\r\n\r\nGET / HTTP/1.1\r\n", Reject::BadRequestLine),
        ("A16", "\nGET / HTTP/1.1\r\n", Reject::BareLf),
        ("A16", "GET / HTTP/1.1\n", Reject::BareLf),
        ("A16", "GET /\n", Reject::BareLf),
        ("A36", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reject::Http2Preface),
        ("A36", "\u{16}\u{3}\u{1}\u{2}\0\u{1}", Reject::TlsHello),
        ("B4", "CONNECT a:443 HTTP/1.1\r\n", Reject::MethodRefused),
        ("B4", "TRACE / HTTP/1.1\r\n", Reject::MethodRefused),
        ("B5", "GET * HTTP/1.1\r\n", Reject::BadTarget),
        ("B5", "OPTIONS *x HTTP/1.1\r\n", Reject::BadTarget),
        ("B5", "GET a HTTP/1.1\r\n", Reject::BadTarget),
        ("B5", "GET a/b HTTP/1.1\r\n", Reject::BadTarget),
        ("B5", "GET ?a HTTP/1.1\r\n", Reject::BadTarget),
        ("B5", "GET ftp://a/ HTTP/1.1\r\n", Reject::BadTarget),
        ("B5", "GET http:/a HTTP/1.1\r\n", Reject::BadTarget),
        ("B9", "GET /a#b HTTP/1.1\r\n", Reject::FragmentInTarget),
        ("B9", "GET http://a/#b HTTP/1.1\r\n", Reject::FragmentInTarget),
        ("B9", "GET http://a#b HTTP/1.1\r\n", Reject::FragmentInTarget),
        ("B15", "G(T / HTTP/1.1\r\n", Reject::BadMethod),
        ("B15", "G\u{e9}T / HTTP/1.1\r\n", Reject::BadMethod),
        ("B15", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n", Reject::MethodTooLong),
    ] {
        refused(id, line.as_bytes(), want);
    }
}

#[test]
fn a_request_without_one_good_host_is_refused() {
    for (id, lines, want) in [
        ("B1", "", Reject::MissingHost),
        ("B1", "Host: a\r\nHost: a\r\n", Reject::RepeatedHost),
        ("B1", "Host: a\r\nHost: b\r\n", Reject::RepeatedHost),
        ("B1", "Host: a, b\r\n", Reject::BadHost),
        ("B1", "Host:\r\n", Reject::BadHost),
        ("B2", "Host: user@a\r\n", Reject::BadHost),
        ("B2", "Host: a/b\r\n", Reject::BadHost),
        ("B2", "Host: a b\r\n", Reject::BadHost),
        ("B2", "Host: a\0\r\n", Reject::ControlInValue),
        ("B2", "Host: a:65536\r\n", Reject::BadHost),
        ("B2", "Host: a:x\r\n", Reject::BadHost),
    ] {
        refused(id, format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes(), want);
    }
    for (target, host, want) in [
        ("http://b/", "a", Err(Reject::HostMismatch)),
        ("http://a:81/", "a", Err(Reject::HostMismatch)),
        ("https://a/", "a", Err(Reject::SchemeMismatch)),
        ("http://u@a/", "a", Err(Reject::BadHost)),
        ("http:///", "a", Err(Reject::BadHost)),
        ("http://a\\b/", "a", Err(Reject::EscapedSlash)),
        ("http://A./x/../y?z", "a:80", Ok("a /y?z")),
        ("HTTP://a", "a", Ok("a /")),
        ("http://a?b", "a", Ok("a /?b")),
        ("http://a:8080/x", "A:8080", Ok("a:8080 /x")),
        ("http://[::1]:80/", "[0:0::1]", Ok("[::1] /")),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        let got = request(&bytes).map(|(head, _)| {
            let view = head.view(&bytes);
            format!("{} {}", text(view.authority()), text(view.target()))
        });
        assert_eq!(got.as_deref().map_err(|e| *e), want, "B3: {target} with {host}");
    }
}

#[test]
fn b11_one_host_has_one_authority() {
    for (host, scheme, authority, name) in [
        ("EXAMPLE.com.", Scheme::Http, "example.com", "example.com"),
        ("example.com:80", Scheme::Http, "example.com", "example.com"),
        ("example.com:443", Scheme::Https, "example.com", "example.com"),
        ("example.com:80", Scheme::Https, "example.com:80", "example.com"),
        ("Example.com:8080", Scheme::Http, "example.com:8080", "example.com"),
        ("[::1]:8080", Scheme::Http, "[::1]:8080", "[::1]"),
    ] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        let mut head = RequestHead::default();
        assert!(matches!(head.parse(&bytes, scheme), Ok(Progress::Complete(_))));
        assert_eq!((text(head.view(&bytes).authority()), text(head.view(&bytes).host())), (authority, name), "{host}");
    }
}

#[test]
fn b14_what_is_too_large_is_refused_by_its_own_name() {
    refused("B14", format!("GET /{} HTTP/1.1\r\n", "a".repeat(limits::TARGET_BYTES)).as_bytes(), Reject::TargetTooLong);
    let absolute = format!("GET http://a/{} HTTP/1.1\r\n", "a".repeat(limits::TARGET_BYTES));
    refused("B14", absolute.as_bytes(), Reject::TargetTooLong);
    refused("B14", format!("GET /{}", "a".repeat(2 * limits::TARGET_BYTES)).as_bytes(), Reject::TargetTooLong);
    refused("B14", &with(&"X: y\r\n".repeat(limits::FIELDS)), Reject::TooManyFields);
    assert!(request(&with(&"X: y\r\n".repeat(limits::FIELDS - 1))).is_ok());
    refused("B14", &with(&format!("X: {}\r\n", "y".repeat(limits::HEAD_BYTES))), Reject::HeadTooLarge);
    refused("B14", &with(&format!("{}: y\r\n", "X".repeat(limits::HEAD_BYTES))), Reject::HeadTooLarge);
    let room = limits::HEAD_BYTES - with("X: \r\n").len();
    assert!(request(&with(&format!("X: {}\r\n", "y".repeat(room)))).is_ok());
    refused("B14", &with(&format!("X: {}\r\n", "y".repeat(room + 1))), Reject::HeadTooLarge);
    let named = vec!["a"; limits::CONNECTION_OPTIONS + 1].join(",");
    refused("C1", &with(&format!("Connection: {named}\r\n")), Reject::BadConnection);
}

/// B12, C1, C2, C4, C9: what is left of a request's fields.
#[test]
fn fields_of_the_connection_are_not_forwarded_and_protected_ones_are() {
    for (id, lines, want) in [
        ("C1", "Connection: x-a, close\r\nX-A: 1\r\nX-B: 2\r\n", "X-B: 2\r\n"),
        ("C1", "X-A: 1\r\nconnection: X-A\r\nX-a: 2\r\n", ""),
        (
            "C1",
            "Connection: Authorization, Cookie\r\nAuthorization: b\r\nCookie: c\r\n",
            "Authorization: b\r\nCookie: c\r\n",
        ),
        ("C1", "Connection: X-Forwarded-For\r\nX-Forwarded-For: 1\r\n", "X-Forwarded-For: 1\r\n"),
        ("C1", "Connection: host, content-length\r\nContent-Length: 1\r\n", ""),
        ("C2", "Keep-Alive: 5\r\nProxy-Authorization: x\r\nProxy: y\r\nproxy-connection: z\r\n", ""),
        ("C2", "TE: trailers\r\nTrailer: x\r\nUpgrade: y\r\nX: y\r\n", "X: y\r\n"),
        ("C4", "X-Strata-Reason: x\r\nx-strata-anything: y\r\n", ""),
        ("C9", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n", ""),
        ("B12", "X_Forwarded_For: 1\r\nX-Y_Z: 2\r\n_: 3\r\nA: b\r\n", "A: b\r\n"),
        ("A27", "Expect: 100-continue\r\n", ""),
        ("A27", "Content-Length: 1\r\nExpect: 100-Continue\r\n", "Expect: 100-Continue\r\n"),
        ("-", "A:b\r\nC:   d  \r\nE: f\r\nG: h\r\nI:\t\r\n", "A: b\r\nC: d\r\nE: f\r\nG: h\r\nI: \r\n"),
    ] {
        let bytes = with(lines);
        let (head, _) = request(&bytes).unwrap();
        let mut out = Vec::new();
        head.view(&bytes).copy_fields(Names::NONE, &mut out);
        assert_eq!(text(&out), want, "{id}: {lines}");
        let mut again = Vec::new();
        head.view(&bytes).fields(Names::NONE).for_each(|f| field(&mut again, f.name, f.value));
        assert_eq!(text(&again), want, "{id}: the iterator and the copy agree on {lines}");
    }
}

/// B12: a route cannot be steered by a field that the endpoint will not see.
#[test]
fn fields_that_are_not_forwarded_are_not_found_either() {
    let bytes = with("Connection: x-a\r\nX-A: 1\r\nX_B: 2\r\nX-C: 3\r\nx-c: 4\r\n");
    let (head, _) = request(&bytes).unwrap();
    let view = head.view(&bytes);
    assert_eq!(view.field(b"x-a").count() + view.field(b"x_b").count(), 0);
    assert_eq!(view.field(b"X-C").collect::<Vec<_>>(), [b"3", b"4"]);
}
