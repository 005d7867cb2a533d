//! C: hop-by-hop fields, who the client is, tunnels, and what reaches the log.

use super::common::{Origin, Report, await_that, ensure};
use super::{service, service_with};

/// The request that the endpoint got, when the client sent these lines.
fn forwarded(lines: &str, settings: &str) -> String {
    let origin = Origin::echo();
    let strata = service_with(&origin, settings);
    let answer = strata.ask(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"));
    assert_eq!(answer.status(), 200, "{lines:?}: {}", answer.head_text());
    answer.text()
}

fn values(request: &str, name: &str) -> Vec<String> {
    let fields = request.lines().filter_map(|line| line.split_once(':'));
    fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).collect()
}

#[test]
fn c1_fields_named_by_connection_are_stripped_but_never_ours() {
    let lines = "Connection: X-Secret, X-Forwarded-For, Authorization, Host, Content-Length\r\nX-Secret: 1\r\nAuthorization: keep\r\n";
    let seen = forwarded(lines, "");
    assert_eq!(values(&seen, "x-secret"), [""; 0], "{seen}");
    assert_eq!(values(&seen, "x-forwarded-for"), ["127.0.0.1"], "{seen}");
    assert_eq!(values(&seen, "host"), ["a.test"], "{seen}");
    assert_eq!(values(&seen, "authorization"), ["keep"], "protected: {seen}");
}

#[test]
fn c2_fields_of_the_hop_are_stripped() {
    let lines = "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\n\
                 Proxy-Authenticate: x\r\nTE: gzip\r\nTrailer: X-Sum\r\nUpgrade: foo\r\nX-Kept: 1\r\n";
    let seen = forwarded(lines, "");
    for name in ["keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "trailer", "upgrade"] {
        assert_eq!(values(&seen, name), [""; 0], "{name}: {seen}");
    }
    assert!(values(&seen, "te").iter().all(|te| te == "trailers"), "{seen}");
    assert_eq!(values(&seen, "x-kept"), ["1"], "{seen}");

    let origin = Origin::always(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nProxy-Authenticate: x\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n",
    );
    let answer = service(&origin).ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    for name in ["keep-alive", "x-hop", "connection"] {
        assert_eq!(answer.fields(name), [""; 0], "{name}: {}", answer.head_text());
    }
    assert_eq!(answer.fields("x-kept"), ["1"]);
}

#[test]
fn c3_only_trusted_peers_say_who_the_client_is() {
    let lines = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nForwarded: for=6.6.6.6\r\n\
                 X-Real-IP: 6.6.6.6\r\n";
    let seen = forwarded(lines, "");
    assert!(!seen.contains("6.6.6.6") && !seen.contains("evil.test"), "{seen}");
    assert_eq!(values(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(values(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&seen, "x-forwarded-host"), ["a.test"]);
    assert_eq!(values(&seen, "via").len(), 1, "{seen}");

    let seen = forwarded(lines, "trusted_proxies = [\"127.0.0.0/8\"]");
    assert_eq!(values(&seen, "x-forwarded-for").join(", "), "6.6.6.6, 127.0.0.1", "{seen}");
    assert_eq!(values(&seen, "x-forwarded-proto"), ["https"], "{seen}");
    assert_eq!(values(&seen, "x-forwarded-host"), ["evil.test"], "{seen}");

    let seen = forwarded(lines, "trusted_proxies = [\"10.0.0.0/8\"]");
    assert!(!seen.contains("6.6.6.6"), "another network is not trusted: {seen}");
}

#[test]
fn c4_internal_fields_do_not_come_from_outside() {
    let seen = forwarded("X-Strata-Reason: x\r\nX-Strata-Anything: y\r\nX-Kept: 1\r\n", "");
    assert!(!seen.to_ascii_lowercase().contains("x-strata"), "{seen}");
    assert_eq!(values(&seen, "x-kept"), ["1"]);
}

#[test]
fn c6_what_a_client_writes_cannot_write_the_log() {
    let origin = Origin::echo();
    for format in ["json", "combined"] {
        let strata = service_with(&origin, &format!("access_log = \"{format}\""));
        let mut client = strata.connect();
        client.send(b"GET /\"x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: \xff\xc2\x9b2J \"quoted\" \\ \xe2\x80\xae\r\nReferer: a\tb\r\n\r\n");
        let _ = client.response();
        client.send("GET /seen HTTP/1.1\r\nHost: a.test\r\nUser-Agent: \u{85}next \"quoted\" \\ line\r\n\r\n");
        let _ = client.response();
        strata.ask("GET /last HTTP/1.1\r\nHost: a.test\r\n\r\n");
        await_that("the access record", || strata.stdout().contains("/last"));
        let log = strata.stdout();
        let mut report = Report::default();
        for line in log.lines() {
            let control = line.chars().find(|c| c.is_control() || *c == '\u{202e}');
            report.check(format, ensure(control.is_none(), || format!("{control:?} in {line:?}")));
            if format == "json" {
                let value: Result<serde_json::Value, _> = serde_json::from_str(line);
                report.check("one JSON object a line", ensure(value.is_ok(), || line.to_owned()));
            }
        }
        report.finish(&strata);
    }
}

#[test]
fn c8_an_upgrade_that_is_refused_stays_http() {
    let origin = Origin::serve(|request| {
        if request.field("upgrade").is_some() {
            return b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 3\r\n\r\nold"
                .to_vec();
        }
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let strata = service(&origin);
    let mut client = strata.connect();
    client.send(
        "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\n\r\n",
    );
    let answer = client.response().expect("the refusal");
    assert_eq!((answer.status(), answer.text().as_str()), (426, "old"));
    assert_eq!(answer.field("sec-websocket-version").as_deref(), Some("13"));
    // No tunnel: what follows is a request again, or nothing at all.
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    if let Ok(next) = client.response() {
        assert_eq!(next.text(), "ok");
    }
}

#[test]
fn c9_an_upgrade_to_h2c_is_stripped() {
    let seen = forwarded("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", "");
    for name in ["upgrade", "http2-settings"] {
        assert_eq!(values(&seen, name), [""; 0], "{seen}");
    }
    assert!(values(&seen, "connection").iter().all(|value| !value.to_ascii_lowercase().contains("upgrade")), "{seen}");
}

#[test]
fn an_upgrade_becomes_a_tunnel_both_ways() {
    let origin = Origin::script(|mut wire, _| {
        let head = wire.response_head().ok()?;
        assert_eq!(head.field("upgrade").as_deref(), Some("websocket"));
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello");
        while let Ok(bytes) = wire.bytes(4) {
            wire.send(bytes);
        }
        Some(wire)
    });
    let strata = service(&origin);
    let mut client = strata.connect();
    client.send("GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let answer = client.response_head().expect("101");
    assert_eq!(answer.status(), 101);
    assert!(
        answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")),
        "{}",
        answer.head_text()
    );
    assert_eq!(client.bytes(5).expect("what came with the 101"), b"hello");
    for n in 0..100u32 {
        client.send(n.to_be_bytes());
        assert_eq!(client.bytes(4).expect("the echo"), n.to_be_bytes());
    }
}
