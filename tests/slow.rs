//! The catalogue's slow and dying peers (`F`): clients that drip, stall, half-close or vanish, endpoints that drip, stall or
//! break off, in `l7`, in its tunnels and in `l4`, over real sockets against the real binary, with short timeouts.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{End, Origin, PATIENCE, Rounds, Strata, Wire, await_that};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An L7 service over `origin` with these timeouts.
fn http(origin: &Origin, timeouts: &str) -> Strata {
    Strata::start(&format!(
        "[service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\ntimeouts = {{ {timeouts} }}\n\
         [pool.web]\nendpoints = [\"{}\"]\n",
        origin.address
    ))
}

fn tcp(origin: &Origin, timeouts: &str) -> Strata {
    Strata::start(&format!(
        "[service.raw]\nmode = \"l4\"\nlisten = \"{{edge}}\"\npool = \"raw\"\ntimeouts = {{ {timeouts} }}\n\
         [pool.raw]\nendpoints = [\"{}\"]\n",
        origin.address
    ))
}

/// Sends one byte each `gap` until the connection takes no more or `most` have gone; how long that took.
fn drip(wire: &mut Wire, bytes: impl Iterator<Item = u8>, gap: Duration) -> Duration {
    let from = Instant::now();
    for byte in bytes {
        if wire.try_send([byte]).is_err() || wire.is_readable_within(gap) {
            break;
        }
    }
    from.elapsed()
}

#[test]
fn f1_a_dripping_head_gets_408_by_a_total_deadline() {
    let origin = Origin::echo();
    let strata = http(&origin, "header = \"600ms\"");
    let before = strata.scrape();
    let mut client = strata.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow: ");
    let took = drip(&mut client, std::iter::repeat_n(b'x', 100), Duration::from_millis(100));
    let answer = client.response().expect("408");
    assert_eq!((answer.status(), answer.field("connection").as_deref()), (408, Some("close")));
    assert!(took > Duration::from_millis(400) && took < Duration::from_secs(3), "after {took:?}");
    assert_eq!(origin.connections(), 0);
    strata.counted(&before, "header-timeout", 1.0).unwrap();
}

#[test]
fn a_connection_without_a_request_is_closed_silently_and_counted_if_it_never_had_one() {
    let origin = Origin::echo();
    let strata = http(&origin, "header = \"500ms\", idle = \"500ms\"");
    let before = strata.scrape();
    let mut fresh = strata.connect();
    assert_eq!(fresh.rest(), (Vec::new(), End::Fin));
    strata.counted(&before, "header-timeout", 1.0).unwrap();
    let before = strata.scrape();
    let mut kept = strata.connect();
    kept.send(GET);
    kept.response().expect("the answer");
    assert_eq!(kept.rest(), (Vec::new(), End::Fin));
    assert!(strata.scrape().drops_since(&before).is_empty(), "idling between requests is no mistake");
}

#[test]
fn f2_a_slow_post_gets_408() {
    let origin = Origin::echo();
    let strata = http(&origin, "body = \"600ms\"");
    for (name, bytes) in [("stalled", 0), ("dripping", 100)] {
        let before = strata.scrape();
        let connections = origin.connections();
        let mut client = strata.connect();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nabc");
        let took = drip(&mut client, std::iter::repeat_n(b'x', bytes), Duration::from_millis(100));
        let answer = client.response().unwrap_or_else(|broken| panic!("{name}: {broken:?}"));
        assert_eq!(answer.status(), 408, "{name}");
        assert!(took < Duration::from_secs(5), "{name}: after {took:?}");
        origin.await_discarded(connections);
        strata.counted(&before, "body-timeout", 1.0).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn f3_a_client_that_does_not_read_holds_little_and_is_cut_off() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let origin = Origin::script(move |mut wire, _| {
        wire.request().ok()?;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let block = vec![b'x'; 64 * 1024];
        while wire.try_send(&block).is_ok() {
            count.fetch_add(block.len(), Relaxed);
        }
        Some(wire)
    });
    let strata = http(&origin, "client = \"1s\"");
    strata.connect().send("GET").half_close();
    let (before, resident) = (strata.scrape(), strata.resident_kib());
    let clients: Vec<Wire> = (0..10)
        .map(|_| {
            let mut client = strata.connect();
            client.send(GET);
            client
        })
        .collect();
    let mut most = 0;
    await_that("all ten are cut off", || {
        most = most.max(strata.resident_kib());
        strata.scrape().drops_since(&before).get("client-stalled") == Some(&10.0)
    });
    let each = most.saturating_sub(resident) / 10;
    assert!(each < 256, "{each} KiB of memory a connection");
    let megabytes = sent.load(Relaxed) / 10_000_000;
    assert!(megabytes < 50, "{megabytes} MB a connection were taken from the endpoint");
    for (which, mut client) in clients.into_iter().enumerate() {
        origin.await_discarded(which);
        assert_eq!(client.rest().1, End::Reset, "the response is visibly cut short");
    }
}

#[test]
fn f4_an_endpoint_that_does_not_answer_gets_the_client_504() {
    let origin = Origin::script(|mut wire, _| {
        wire.request().ok()?;
        Some(wire)
    });
    let strata = http(&origin, "response = \"500ms\"");
    let before = strata.scrape();
    let answer = strata.ask(GET);
    assert_eq!((answer.status(), answer.field("x-strata-reason").as_deref()), (504, Some("response-timeout")));
    origin.await_discarded(0);
    strata.counted(&before, "response-timeout", 1.0).unwrap();
}

#[test]
fn f4_an_endpoint_that_drips_its_head_gets_the_client_504() {
    let origin = Origin::script(|mut wire, _| {
        wire.request().ok()?;
        wire.send("HTTP/1.1 200 OK\r\nX-Slow: ");
        drip(&mut wire, std::iter::repeat_n(b'x', 100), Duration::from_millis(100));
        Some(wire)
    });
    let strata = http(&origin, "response = \"600ms\"");
    let answer = strata.ask(GET);
    assert_eq!(answer.status(), 504);
    origin.await_discarded(0);
}

#[test]
fn f4_an_endpoint_that_stalls_in_its_body_is_given_up_visibly() {
    let origin = Origin::script(|mut wire, _| {
        wire.request().ok()?;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        Some(wire)
    });
    let strata = http(&origin, "response = \"500ms\"");
    let before = strata.scrape();
    let mut client = strata.connect();
    client.send(GET);
    let broken = client.response().expect_err("a response that does not end");
    assert_ne!(broken.end, End::Silence);
    assert!(!broken.got.ends_with(b"0\r\n\r\n"));
    origin.await_discarded(0);
    strata.counted(&before, "response-stalled", 1.0).unwrap();
}

#[test]
fn f7_a_client_that_half_closes_still_gets_its_reply() {
    // HTTP: the request is whole, so FIN says no more than that there will be no other.
    let origin = Origin::echo();
    let strata = http(&origin, "idle = \"5s\"");
    let mut client = strata.connect();
    client.send(GET).half_close();
    assert_eq!(client.response().expect("the reply").status(), 200);
    assert_eq!(client.rest(), (Vec::new(), End::Fin));

    // TCP and tunnels: FIN is relayed, and what the endpoint says afterwards arrives.
    let last_words = |mut wire: Wire, _| {
        if wire.bytes(3).ok()? == b"GET" {
            wire.response_head().ok()?;
            wire.send(SWITCH);
        } else {
            wire.send("hello");
        }
        let (_, end) = wire.rest();
        wire.send(format!("{end:?}"));
        None
    };
    let origin = Origin::script(last_words);
    let strata = tcp(&origin, "idle = \"5s\"");
    let mut client = strata.connect();
    client.send("abc");
    assert_eq!(client.bytes(5).expect("hello"), b"hello");
    client.half_close();
    assert_eq!(client.rest(), (b"Fin".to_vec(), End::Fin), "l4");

    let strata = http(&origin, "tunnel = \"5s\"");
    let mut client = strata.connect();
    client.send(UPGRADE);
    assert_eq!(client.response_head().expect("101").status(), 101);
    client.half_close();
    assert_eq!(client.rest(), (b"Fin".to_vec(), End::Fin), "tunnel");
}

#[test]
fn an_endpoint_that_half_closes_still_hears_the_client() {
    let origin = Origin::script(|mut wire, _| {
        wire.send("bye");
        wire.half_close();
        wire.bytes(5).ok()?;
        Some(wire)
    });
    let strata = tcp(&origin, "idle = \"5s\"");
    let mut client = strata.connect();
    assert_eq!(client.rest(), (b"bye".to_vec(), End::Fin));
    client.send("still");
    origin.await_seen(0, "still");
    client.half_close();
    origin.await_discarded(0);
}

#[test]
fn a_half_closed_connection_does_not_stay_for_ever() {
    let origin = Origin::script(|mut wire, _| {
        wire.half_close();
        Some(wire)
    });
    let strata = tcp(&origin, "idle = \"60s\", half_close = \"500ms\"");
    let mut client = strata.connect();
    assert_eq!(client.rest().1, End::Fin);
    origin.await_discarded(0);
}

/// An endpoint that says `first`, waits for `cue`, and resets.
fn resets_after(first: &'static str, cue: &'static str) -> Origin {
    Origin::script(move |mut wire, _| {
        if !cue.is_empty() {
            wire.response_head().ok()?;
        }
        wire.send(first);
        // The client has what came before: then a reset cannot overtake it.
        wire.bytes(2).ok()?;
        wire.reset();
        None
    })
}

#[test]
fn f8_a_reset_by_the_endpoint_is_a_reset_for_the_client() {
    let origin = resets_after("hello", "");
    let strata = tcp(&origin, "idle = \"5s\"");
    let mut client = strata.connect();
    assert_eq!(client.bytes(5).expect("hello"), b"hello");
    client.send("go");
    assert_eq!(client.rest().1, End::Reset, "l4");

    let origin = resets_after(SWITCH, "head");
    let strata = http(&origin, "tunnel = \"5s\"");
    let mut client = strata.connect();
    client.send(UPGRADE);
    assert_eq!(client.response_head().expect("101").status(), 101);
    client.send("go");
    assert_eq!(client.rest().1, End::Reset, "tunnel");
}

#[test]
fn f9_when_the_client_resets_the_endpoint_hears_of_it_within_a_second() {
    let silent = || {
        Origin::script(|mut wire, _| {
            let head = wire.bytes(3).ok()?;
            if head == b"GET" && wire.response_head().ok()?.field("upgrade").is_some() {
                wire.send(SWITCH);
            }
            Some(wire)
        })
    };
    let mut rounds = Rounds::default();
    let mut hears = |origin: &Origin, which: usize, name: &str| {
        let from = Instant::now();
        origin.await_discarded(which);
        rounds.add(name, from.elapsed());
    };

    let origin = silent();
    let strata = tcp(&origin, "idle = \"60s\"");
    for which in 0..3 {
        let mut client = strata.connect();
        client.send("abc");
        origin.await_seen(which, "abc");
        client.reset();
        hears(&origin, which, "l4");
    }

    let origin = silent();
    let strata = http(&origin, "response = \"60s\"");
    let before = strata.scrape();
    for which in 0..3 {
        let mut client = strata.connect();
        client.send(GET);
        origin.await_seen(which, "\r\n\r\n");
        client.reset();
        hears(&origin, which, "l7, waiting for the response");
    }
    strata.counted(&before, "client-closed", 3.0).unwrap();

    let origin = silent();
    let strata = http(&origin, "tunnel = \"60s\"");
    for which in 0..3 {
        let mut client = strata.connect();
        client.send(UPGRADE);
        assert_eq!(client.response_head().expect("101").status(), 101);
        client.reset();
        hears(&origin, which, "tunnel");
    }
    rounds.assert_within(Duration::from_secs(1));
}

#[test]
fn f10_an_endpoint_that_dies_in_a_response_is_visible_and_not_retried() {
    let heads = [
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ];
    for (name, first) in heads {
        for by_reset in [false, true] {
            let begun = Arc::new(AtomicBool::new(false));
            let has_begun = begun.clone();
            let origin = Origin::script(move |mut wire, _| {
                wire.request().ok()?;
                wire.send(first);
                if by_reset {
                    // Or the reset would overtake it.
                    await_that("the client has the beginning", || has_begun.load(Relaxed));
                    wire.reset();
                }
                None
            });
            let strata = http(&origin, "response = \"5s\"");
            let before = strata.scrape();
            let mut client = strata.connect();
            client.send(GET);
            assert!(client.is_readable_within(PATIENCE), "{name}: nothing of the response");
            begun.store(true, Relaxed);
            let broken = client.response().expect_err("a response that breaks off");
            assert!(broken.got.starts_with(b"HTTP/1.1 200 "), "{name}: {broken:?}");
            assert!(!broken.got.ends_with(b"0\r\n\r\n"), "{name}");
            assert_ne!(broken.end, End::Silence, "{name}");
            assert_eq!(origin.connections(), 1, "{name}: no retry");
            strata.counted(&before, "upstream-truncated", 1.0).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
}

#[test]
fn a_relay_that_carries_nothing_ends_at_its_idle_timeout() {
    let origin = Origin::script(|wire, _| Some(wire));
    let strata = tcp(&origin, "idle = \"500ms\"");
    let before = strata.scrape();
    let mut client = strata.connect();
    let (_, end) = client.rest();
    assert_ne!(end, End::Silence);
    origin.await_discarded(0);
    strata.counted(&before, "idle-timeout", 1.0).unwrap();
}
