//! A and C: endpoints that break the protocol. The client gets a 502 or a visibly broken response, and the connection to the
//! endpoint is never used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::common::{End, Origin, Report, await_that, ensure};
use super::{service, service_with};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn a31_a33_c5_broken_heads_of_responses_are_502() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(11);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "A31 length and encoding",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        ),
        ("A31 two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc".into()),
        ("A31 a length that is no number", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab".into()),
        ("A31 an encoding in disguise", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n".into()),
        ("A33 eleven interim responses", format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").into()),
        ("C5 CR in a value", b"HTTP/1.1 200 OK\r\nX-A: 1\rSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n".into()),
        ("C5 LF in a value", b"HTTP/1.1 200 OK\r\nX-A: 1\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n".into()),
        ("C5 NUL in a value", b"HTTP/1.1 200 OK\r\nX-A: 1\0\r\nContent-Length: 0\r\n\r\n".into()),
        ("no status line", b"hello\r\n\r\n".into()),
        ("a status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n".into()),
        (
            "101 that nobody asked for",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".into(),
        ),
    ];
    let mut report = Report::default();
    for (name, answer) in cases {
        let origin = Origin::always(answer);
        let strata = service_with(&origin, "retries = 0");
        let before = strata.scrape();
        let mut client = strata.connect();
        client.send(GET);
        let mut answer = client.response();
        while answer.as_ref().is_ok_and(|answer| answer.status() == 103) {
            answer = client.response();
        }
        let refused = answer.as_ref().is_ok_and(|answer| answer.status() == 502);
        report.check(name, ensure(refused, || format!("expected 502, got {answer:?}")));
        origin.await_discarded(0);
        let counted = strata.scrape().drops_since(&before).values().sum::<f64>();
        report.check(name, ensure(counted >= 1.0, || "not counted".into()));
        if !refused {
            report.finish(&strata);
            return;
        }
    }
    let origin = Origin::echo();
    report.finish(&service(&origin));
}

#[test]
fn a33_ten_interim_responses_are_relayed() {
    let origin = Origin::always(format!(
        "{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(10)
    ));
    let strata = service(&origin);
    let mut client = strata.connect();
    client.send(GET);
    for n in 0..10 {
        let interim = client.response().unwrap_or_else(|broken| panic!("interim {n}: {broken:?}"));
        assert_eq!((interim.status(), interim.field("link").as_deref()), (103, Some("</a>")));
    }
    assert_eq!(client.response().expect("the answer").text(), "hi");
}

#[test]
fn a22_a32_what_follows_a_response_is_dropped_with_its_connection() {
    let good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let cases = [
        ("A32 bytes beyond the length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokEXTRA"),
        (
            "A32 a second response",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ),
        (
            "A32 bytes behind the last chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nEXTRA",
        ),
        ("A32 a body of a 204", "HTTP/1.1 204 No Content\r\n\r\nEXTRA"),
        ("A32 a body of a 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nEXTRA"),
    ];
    for (name, first) in cases {
        let origin = Origin::script(move |mut wire, which| {
            wire.request().ok()?;
            wire.send(if which == 0 { first } else { good });
            Some(wire)
        });
        let strata = service(&origin);
        let mut client = strata.connect();
        client.send(GET);
        let answer = client.response().unwrap_or_else(|broken| panic!("{name}: {broken:?}"));
        assert!(answer.body.is_empty() || answer.text() == "ok", "{name}: {}", answer.text());
        origin.await_discarded(0);
        client.send(GET);
        let next = client.response().unwrap_or_else(|broken| panic!("{name}: the next request: {broken:?}"));
        assert_eq!((next.status(), next.text().as_str()), (200, "ok"), "{name}");
        assert_eq!(origin.connections(), 2, "{name}");
    }
}

#[test]
fn a32_unsolicited_bytes_on_an_idle_connection() {
    let sent = Arc::new(AtomicBool::new(false));
    let (cue, done) = (Arc::new(AtomicBool::new(false)), sent.clone());
    let answered = cue.clone();
    let origin = Origin::script(move |mut wire, which| {
        wire.request().ok()?;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        if which == 0 {
            // After the exchange: an answer to a question that was never asked.
            await_that("the client has its answer", || cue.load(Relaxed));
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
            done.store(true, Relaxed);
        }
        Some(wire)
    });
    let strata = service(&origin);
    let mut client = strata.connect();
    client.send(GET);
    assert_eq!(client.response().expect("the answer").text(), "ok");
    answered.store(true, Relaxed);
    // From the moment the unsolicited bytes are sent the connection must be as good as closed.
    await_that("the unsolicited bytes are sent", || sent.load(Relaxed));
    client.send(GET);
    assert_eq!(client.response().expect("the next answer").text(), "ok");
    origin.await_discarded(0);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a22_broken_chunks_of_a_response_are_visibly_broken_for_the_client() {
    let cases = [
        ("A22 chunk data runs on", "2\r\nokXX0\r\n\r\n"),
        ("a chunk size that is none", "2\r\nok\r\nzz\r\n\r\n"),
        ("NUL in an extension", "2\r\nok\r\n2;\0\r\nno\r\n0\r\n\r\n"),
    ];
    for (name, chunks) in cases {
        let origin = Origin::script(move |mut wire, _| {
            wire.request().ok()?;
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            wire.send(chunks);
            Some(wire)
        });
        let strata = service(&origin);
        let before = strata.scrape();
        let mut client = strata.connect();
        client.send(GET);
        match client.response() {
            Ok(answer) => assert_eq!(answer.status(), 502, "{name}: {}", answer.text()),
            Err(broken) => {
                assert_ne!(broken.end, End::Silence, "{name}");
                assert!(!broken.got.ends_with(b"0\r\n\r\n"), "{name}");
            }
        }
        origin.await_discarded(0);
        let counted = strata.scrape().drops_since(&before);
        assert!(counted.values().sum::<f64>() >= 1.0, "{name}: {counted:?}");
    }
}

#[test]
fn bodiless_answers_leave_the_connection_in_step() {
    let origin = Origin::serve(|request| {
        let first = request.start_line();
        let answer: &[u8] = match first.split(' ').nth(1) {
            Some("/204") => b"HTTP/1.1 204 No Content\r\n\r\n",
            Some("/304") => b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n",
            Some("/head") => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        answer.to_vec()
    });
    let strata = service(&origin);
    let mut client = strata.connect();
    for (method, path, status) in [("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/head", 200)] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let answer = if method == "HEAD" { client.response_to_head() } else { client.response() };
        let answer = answer.unwrap_or_else(|broken| panic!("{path}: {broken:?}"));
        assert_eq!(answer.status(), status);
        if method == "HEAD" {
            assert_eq!(answer.field("content-length").as_deref(), Some("5"), "HEAD tells what GET would");
        }
        client.send(GET);
        assert_eq!(client.response().expect("the next").text(), "ok", "after {path}");
    }
    assert_eq!(origin.connections(), 1, "one connection served it all");
}

#[test]
fn c7_compressed_bytes_pass_untouched() {
    // Ten bytes of gzip header and rubbish: whoever tried to inflate it would notice.
    let body = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xff\xff\xff\xff not deflate".to_vec();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    let origin = Origin::always([head.into_bytes(), body.clone()].concat());
    let answer = service(&origin).ask("GET / HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!((answer.field("content-encoding").as_deref(), answer.body), (Some("gzip"), body));
}
