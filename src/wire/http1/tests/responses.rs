//! Responses of endpoints, what clients get of them, and responses of our own.

use super::*;

const PLAIN: Asked = Asked { head: false, upgrade: false };

#[test]
fn a_body_is_framed_by_status_request_and_fields() {
    for (line, lines, head, want, keep) in [
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\n", false, Body::Length(5), true),
        ("HTTP/1.1 200", "Transfer-Encoding: chunked\r\n", false, Body::Chunked, true),
        ("HTTP/1.1 200 ", "", false, Body::UntilClose, false),
        ("HTTP/1.0 200 OK", "Content-Length: 5\r\n", false, Body::Length(5), false),
        ("HTTP/1.0 200 OK", "Content-Length: 5\r\nConnection: keep-alive\r\n", false, Body::Length(5), true),
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\nConnection: close\r\n", false, Body::Length(5), false),
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\n", true, Body::None, true),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", true, Body::None, true),
        ("HTTP/1.1 204 No Content", "Content-Length: 5\r\n", false, Body::None, true),
        ("HTTP/1.1 304 Not Modified", "Content-Length: 5\r\n", false, Body::None, true),
        ("HTTP/1.1 103 Early Hints", "Link: x\r\n", false, Body::None, true),
    ] {
        let bytes = format!("{line}\r\n{lines}\r\n").into_bytes();
        let (parsed, _) = response(&bytes, Asked { head, upgrade: false }).unwrap();
        let view = parsed.view(&bytes);
        assert_eq!((view.body(), view.keep_alive()), (want, keep), "{line} {lines} {head}");
    }
}

#[test]
fn a31_c5_a_response_that_could_be_read_two_ways_is_refused() {
    for (id, bytes, want) in [
        (
            "A31",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            Reject::LengthAndEncoding,
        ),
        ("A31", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Reject::RepeatedLength),
        ("A31", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Reject::BadLength),
        ("A31", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Reject::BadEncoding),
        ("A31", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Reject::UnsupportedEncoding),
        ("C5", "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", Reject::BareCr),
        ("C5", "HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n", Reject::BareLf),
        ("C5", "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", Reject::ControlInValue),
        ("C5", "HTTP/1.1 200 O\0K\r\n\r\n", Reject::BadStatusLine),
        ("A16", "HTTP/1.1 200 OK\n\n", Reject::BareLf),
        ("A13", "HTTP/1.1 200 OK\r\nX : y\r\n\r\n", Reject::SpaceBeforeColon),
        ("A14", "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", Reject::ObsFold),
        ("A35", "HTTP/2.0 200 OK\r\n\r\n", Reject::BadStatusLine),
        ("A35", "HTTP/1.2 200 OK\r\n\r\n", Reject::BadStatusLine),
        ("A35", "HTTP/1.1 2000 OK\r\n\r\n", Reject::BadStatusLine),
        ("A35", "HTTP/1.1 099 OK\r\n\r\n", Reject::BadStatusLine),
        ("A35", "HTTP/1.1  200 OK\r\n\r\n", Reject::BadStatusLine),
        ("A35", "<html>", Reject::BadStatusLine),
        (
            "A30",
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            Reject::UnexpectedSwitch,
        ),
    ] {
        assert_eq!(response(bytes.as_bytes(), PLAIN).map(|_| ()), Err(want), "{id}: {bytes:?}");
    }
}

fn relayed(bytes: &str, head: bool, version: Version, keep_alive: bool) -> String {
    let (parsed, _) = response(bytes.as_bytes(), Asked { head, upgrade: true }).unwrap();
    let view = parsed.view(bytes.as_bytes());
    let body = Reply::body(view.body(), version);
    let mut out = Vec::new();
    reply(&mut out, &view, &Reply { drop: Names::NONE, extra: b"Via: 1.1 s\r\n", body, version, keep_alive });
    String::from_utf8(out).unwrap()
}

#[test]
fn a_relayed_response_is_regenerated_for_its_client() {
    use Version::{Http10, Http11};
    for (name, got, want) in [
        (
            "length",
            relayed("HTTP/1.0 200 Fine\r\nKeep-Alive: 5\r\nX:y\r\ncontent-length: 07\r\n\r\n", false, Http11, true),
            "HTTP/1.1 200 Fine\r\nX: y\r\nVia: 1.1 s\r\nContent-Length: 7\r\n\r\n",
        ),
        (
            "until close becomes chunked",
            relayed("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", false, Http11, true),
            "HTTP/1.1 200 OK\r\nVia: 1.1 s\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "chunked ends with the connection in HTTP/1.0",
            relayed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, Http10, true),
            "HTTP/1.1 200 OK\r\nVia: 1.1 s\r\nConnection: close\r\n\r\n",
        ),
        (
            "HTTP/1.0 is told that its connection stays",
            relayed("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, Http10, true),
            "HTTP/1.1 200 OK\r\nVia: 1.1 s\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
        ),
        (
            "HEAD keeps the length",
            relayed("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true, Http11, false),
            "HTTP/1.1 200 OK\r\nVia: 1.1 s\r\nContent-Length: 9\r\nConnection: close\r\n\r\n",
        ),
        (
            "101",
            relayed("HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\nA: b\r\n\r\n", false, Http11, true),
            "HTTP/1.1 101 S\r\nA: b\r\nVia: 1.1 s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
    ] {
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn an_interim_response_is_relayed_without_framing() {
    let bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nConnection: y\r\nY: z\r\n\r\n";
    let (parsed, _) = response(bytes, PLAIN).unwrap();
    let view = parsed.view(bytes);
    let mut out = Vec::new();
    interim(&mut out, &view, Names::NONE);
    assert!(view.interim());
    assert_eq!(text(&out), "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
}

#[test]
fn our_own_responses_parse_and_say_why() {
    for (notice, head) in [
        (Notice::error(502, Some("connect-refused")), false),
        (Notice { head: true, ..Notice::error(404, None) }, true),
        (Notice { keep_alive: true, content: Some(b"hello"), ..Notice::error(200, None) }, false),
        (Notice { extra: b"Location: /x\r\n", ..Notice::error(308, None) }, false),
        (Notice::error(204, None), false),
    ] {
        let mut out = Vec::new();
        notice.write(&mut out);
        let (parsed, end) = response(&out, Asked { head, upgrade: false }).unwrap();
        let view = parsed.view(&out);
        assert_eq!((view.status(), text(view.reason())), (notice.status, phrase(notice.status)));
        assert_eq!(view.keep_alive(), notice.keep_alive);
        assert_eq!(view.field(b"x-strata-reason").next().map(text), notice.reason);
        let Ok((_, used, decoder)) = decode(view.body(), &out[end..], 7) else { panic!("{notice:?}") };
        assert!(decoder.is_done() && end + used == out.len(), "{notice:?}");
    }
}
