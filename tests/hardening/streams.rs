//! A: requests whose bytes come in an awkward order: cut short, pipelined, early answered, upgraded.

use super::common::{End, Origin, ensure};
use super::{service, service_with};

#[test]
fn a23_a_body_that_is_cut_short_is_never_a_whole_request() {
    let origin = Origin::echo();
    let strata = service(&origin);
    let cases = [
        ("chunked", "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("a length", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhello"),
    ];
    for (connection, (name, request)) in cases.iter().enumerate() {
        let before = strata.scrape();
        let mut client = strata.connect();
        client.send(request);
        origin.await_seen(connection, "hello");
        client.half_close();
        let (answer, _) = client.rest();
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{name}: {}", String::from_utf8_lossy(&answer));
        origin.await_discarded(connection);
        assert!(!origin.seen(connection).ends_with(b"0\r\n\r\n"), "{name}: the endpoint got a whole request");
        let counted = ["truncated", "client-closed"].iter().any(|reason| strata.counted(&before, reason, 1.0).is_ok());
        assert!(counted, "{name}: {:?}", strata.scrape().drops_since(&before));
    }
}

#[test]
fn a24_trailers_that_would_be_fields_are_dropped() {
    let origin = Origin::echo();
    let strata = service(&origin);
    let trailers =
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nHost: b.test\r\nAuthorization: x\r\nX-Sum: 1\r\n";
    let request = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n";
    let answer = strata.ask(format!("{request}{trailers}\r\n"));
    assert_eq!(answer.status(), 200);
    let seen = String::from_utf8_lossy(&origin.seen(0)).into_owned();
    let (_, after) = seen.split_once("\r\n0\r\n").expect("the last chunk");
    assert_eq!(after, "X-Sum: 1\r\n\r\n");

    // The other way.
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailers}\r\n");
    let origin = Origin::always(answer);
    let answer = service(&origin).ask("GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\n\r\n");
    assert_eq!((answer.text().as_str(), answer.trailers.as_str()), ("hi", "X-Sum: 1\r\n"));
}

#[test]
fn a25_a_body_of_a_get_is_a_body() {
    let origin = Origin::echo();
    let strata = service(&origin);
    for method in ["GET", "OPTIONS", "DELETE"] {
        let hidden = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n";
        let mut client = strata.connect();
        client.send(format!(
            "{method} /one HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{hidden}",
            hidden.len()
        ));
        let answer = client.response().expect("the first answer");
        assert!(answer.text().ends_with(hidden), "{method}: {}", answer.text());
        client.send("GET /two HTTP/1.1\r\nHost: a.test\r\n\r\n");
        if let Ok(answer) = client.response() {
            assert!(answer.text().starts_with("GET /two "), "{method}: {}", answer.text());
        }
    }
}

#[test]
fn a27_other_expectations_are_refused() {
    let origin = Origin::echo();
    let rows: Vec<_> = ["200-ok", "100-continue, x", "100-continues", "\"100-continue\"", "100-continue;q=1"]
        .map(|expect| {
            let request = super::with(&format!("Content-Length: 0\r\nExpect: {expect}"));
            super::refusal("A27", 417, &["unknown-expectation"], request)
        })
        .into();
    super::refuse_all(&service(&origin), &origin, &rows);
}

#[test]
fn expect_100_continue_is_relayed_and_the_body_follows() {
    let origin = Origin::script(|mut wire, _| {
        let head = wire.response_head().ok()?; // a head is a head
        assert!(head.field("expect").is_some(), "{}", head.head_text());
        wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = wire.bytes(5).ok()?;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").send(body);
        Some(wire)
    });
    let strata = service(&origin);
    let mut client = strata.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().expect("the interim answer").status(), 100);
    client.send("hello");
    let answer = client.response().expect("the answer");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
}

#[test]
fn a28_a_final_answer_instead_of_100_continue_ends_both_connections() {
    let origin = Origin::script(|mut wire, _| {
        wire.response_head().ok()?;
        wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        Some(wire)
    });
    let strata = service(&origin);
    let mut client = strata.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let answer = client.response().expect("the answer");
    assert_eq!((answer.status(), answer.text().as_str()), (403, "no"));
    origin.await_discarded(0);
    // Either the connection is closed, or what comes next is taken for the body that was announced.
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (rest, _) = client.rest();
    assert!(!rest.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(origin.seen(1), b"");
}

#[test]
fn a29_an_early_answer_reaches_the_client_and_both_connections_end() {
    let origin = Origin::script(|mut wire, _| {
        wire.response_head().ok()?;
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
        // It reads no further, so the rest of the body can go nowhere.
        Some(wire)
    });
    let strata = service(&origin);
    let mut client = strata.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n").send("x".repeat(1000));
    let answer = client.response().expect("the answer, though the body is not sent");
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
    origin.await_discarded(0);
    // More than 64 KiB is not drained: the connection ends long before the body does.
    let chunk = vec![b'x'; 64 * 1024];
    let taken = (0..1500).take_while(|_| client.try_send(&chunk).is_ok()).count();
    assert!(taken < 1000, "{taken} blocks of 64 KiB were drained");
}

#[test]
fn a30_bytes_behind_an_upgrade_wait_for_101() {
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let origin = Origin::script(|mut wire, _| {
        let head = wire.response_head().ok()?;
        if head.start_line().contains("/refuse") {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
            return Some(wire);
        }
        // What a client sends too early must not be here yet.
        wire.patience(std::time::Duration::from_millis(300));
        let early = wire.bytes(1).is_ok();
        wire.patience(super::common::PATIENCE);
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        let frame = wire.bytes(5).ok()?;
        wire.send(if early { b"EARLY".to_vec() } else { frame });
        Some(wire)
    });
    let strata = service(&origin);
    let mut client = strata.connect();
    client.send(upgrade).send("frame");
    assert_eq!(client.response_head().expect("101").status(), 101);
    assert_eq!(client.bytes(5).expect("the echo"), b"frame");

    let mut client = strata.connect();
    client.send(upgrade.replace("/chat", "/refuse")).send("GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().expect("the refusal").status(), 200);
    let (rest, _) = client.rest();
    assert_eq!(rest, b"", "nothing more is answered");
    origin.await_discarded(1);
    assert!(!String::from_utf8_lossy(&origin.seen(1)).contains("smuggled"));
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a34_a_bad_request_behind_a_good_one() {
    let origin = Origin::echo();
    let strata = service(&origin);
    let mut client = strata.connect();
    client.send("GET /good HTTP/1.1\r\nHost: a.test\r\n\r\nGET /bad HTTP/1.1\r\nHost : a.test\r\n\r\n");
    assert!(client.response().expect("the good one").text().starts_with("GET /good "));
    let bad = client.response().expect("the bad one");
    assert_eq!((bad.status(), bad.field("connection").as_deref()), (400, Some("close")));
    assert_eq!(client.rest(), (Vec::new(), End::Fin));
    assert!(!String::from_utf8_lossy(&origin.seen(0)).contains("/bad"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::echo();
    let strata = service(&origin);
    let mut client = strata.connect();
    let requests: String = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a.test\r\n\r\n")).collect();
    client.send(requests);
    for n in 0..20 {
        let answer = client.response().unwrap_or_else(|broken| panic!("answer {n}: {broken:?}"));
        assert!(answer.text().starts_with(&format!("GET /{n} ")), "{n}: {}", answer.text());
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let origin = Origin::echo();
    let strata = service_with(&origin, "");
    let mut client = strata.connect();
    let request = "POST /slow HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
    for byte in request.bytes() {
        client.send([byte]);
    }
    let answer = client.response().expect("the answer");
    let text = answer.text();
    ensure(answer.status() == 200 && text.contains("hello") && text.contains("X-Sum: 1"), || text.clone()).unwrap();
}
