//! Requests as they should be: what the view says, and what is forwarded.

use super::*;

#[test]
fn the_view_shows_what_was_sent_in_canonical_form() {
    let bytes = b"\r\nGET //a/%2e/./b?x=1&y=%41+b&z HTTP/1.1\r\nhost: EXAMPLE.com:80\r\nCookie: a=1; sid=xyz; b\r\n\
        cookie: late=2\r\nUser-Agent: t\r\n\r\nrest";
    let (head, end) = request(bytes).unwrap();
    let view = head.view(bytes);
    assert_eq!(&bytes[end..], b"rest");
    assert_eq!((view.method(), view.method_token(), view.version()), (Method::Get, &b"GET"[..], Version::Http11));
    assert_eq!((text(view.path()), view.query().map(text)), ("/a/b", Some("x=1&y=%41+b&z")));
    assert_eq!((text(view.authority()), text(view.host())), ("example.com", "example.com"));
    assert_eq!(view.known(Name::UserAgent), Some(&b"t"[..]));
    for (name, want) in [("a", Some("1")), ("sid", Some("xyz")), ("late", Some("2")), ("b", None), ("A", None)] {
        assert_eq!(view.cookie(name.as_bytes()).map(text), want, "cookie {name}");
    }
    for (name, want) in [("x", Some("1")), ("y", Some("A b")), ("z", Some("")), ("X", None), ("", None)] {
        assert_eq!(view.query_parameter(name.as_bytes()).as_deref().map(text), want, "parameter {name}");
    }
}

#[test]
fn a_connection_is_kept_as_version_and_options_say() {
    for (version, lines, want) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: x, Close\r\n", false),
        ("1.1", "Connection: ,,\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n").into_bytes();
        assert_eq!(request(&bytes).unwrap().0.view(&bytes).keep_alive(), want, "{version} {lines}");
    }
}

#[test]
fn only_a_whole_and_single_websocket_upgrade_is_one() {
    let good = "Connection: Upgrade\r\nUpgrade: WebSocket\r\n";
    for (line, lines, want) in [
        ("GET / HTTP/1.1", good, true),
        ("GET / HTTP/1.1", "Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n", true),
        ("GET / HTTP/1.0", good, false),
        ("POST / HTTP/1.1", good, false),
        ("GET / HTTP/1.1", "Upgrade: websocket\r\n", false),
        ("GET / HTTP/1.1", "Connection: upgrade\r\n", false),
        ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n", false),
        ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n", false),
        ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n", false),
        ("GET / HTTP/1.1", "Content-Length: 1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", false),
    ] {
        let bytes = format!("{line}\r\nHost: a\r\n{lines}\r\n").into_bytes();
        let (head, _) = request(&bytes).unwrap();
        let view = head.view(&bytes);
        assert_eq!(view.upgrade(), want, "{line} {lines}");
        let mut out = Vec::new();
        forward(&mut out, &view, &Forward::of(&view));
        assert_eq!(text(&out).contains("Upgrade: websocket\r\n"), want, "{line} {lines}");
        assert!(!text(&out).contains("h2c"));
    }
}

#[test]
fn a_client_waits_for_100_only_if_it_is_new_enough_and_has_a_body() {
    for (version, length, want) in [("1.1", 1, true), ("1.1", 0, false), ("1.0", 1, false)] {
        let bytes =
            format!("PUT / HTTP/{version}\r\nHost: a\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n");
        let (head, _) = request(bytes.as_bytes()).unwrap();
        assert_eq!(head.view(bytes.as_bytes()).expect_continue(), want, "{version} {length}");
    }
}

#[test]
fn options_may_ask_about_the_server_as_a_whole() {
    for target in ["*", "http://a"] {
        let bytes = format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let (head, _) = request(&bytes).unwrap();
        assert_eq!((head.view(&bytes).target(), head.view(&bytes).path()), (&b"*"[..], &b"*"[..]), "{target}");
        assert_eq!(head.view(&bytes).query(), None);
    }
}

#[test]
fn a_forwarded_request_is_regenerated() {
    let bytes =
        b"POST /a/../b?c HTTP/1.0\r\nCONTENT-LENGTH: 007\r\nX-Forwarded-For: 6.6.6.6\r\nA: 1\r\nHOST: A.:80\r\nB:2\r\n\
        Connection: keep-alive\r\n\r\n";
    let (head, _) = request(bytes).unwrap();
    let view = head.view(bytes);
    let mut out = Vec::new();
    let how = Forward { drop: Names::CLIENT_IDENTITY, extra: b"X-Forwarded-For: 1.2.3.4\r\n", ..Forward::of(&view) };
    forward(&mut out, &view, &how);
    assert_eq!(
        text(&out),
        "POST /b?c HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 7\r\n\r\n"
    );
}

#[test]
fn a_head_is_reused_without_a_trace_of_the_last_request() {
    let mut head = RequestHead::default();
    let first =
        b"POST http://a.:81/x/../y HTTP/1.1\r\nHost: A:81\r\nConnection: close, upgrade\r\nContent-Length: 5\r\n\
        Expect: 100-continue\r\n\r\n";
    assert!(head.parse(first, Scheme::Http).is_ok());
    head.clear();
    let second = b"GET /z HTTP/1.0\r\n\r\n";
    assert_eq!(head.parse(second, Scheme::Http), Ok(Progress::Complete(second.len())));
    let view = head.view(second);
    assert_eq!((text(view.authority()), text(view.host()), text(view.target())), ("", "", "/z"));
    assert_eq!((view.body(), view.keep_alive(), view.expect_continue()), (Body::None, false, false));
}
