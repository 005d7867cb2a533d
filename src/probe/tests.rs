//! Shell: probes against small scripted servers on loopback: each outcome by its name.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::doc::{Settings, Value};

/// Settings of a probe, with some fields set.
fn settings(name: &str, fields: &[(&'static str, Value)]) -> Settings {
    let mut settings = Settings::defaults(&find(name).unwrap().grammar);
    settings.values.extend(fields.iter().cloned());
    settings
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

async fn check(settings: &Settings, address: SocketAddr) -> Result<(), String> {
    let probe = (find(settings.name).unwrap().build)(settings);
    let aim = Aim { endpoint: address.into(), passage: None };
    let outcome = tokio::time::timeout(Duration::from_secs(10), probe.check(&aim)).await;
    outcome.expect("the probe hangs").map_err(|failure| match failure {
        Failure::Endpoint(why) | Failure::NoRoute(why) | Failure::Silent(why) => why.to_string(),
        Failure::Ours(why) => format!("ours: {why}"),
    })
}

/// Probes a server that takes one connection, reads a request head, writes `answer` and closes. Returns the request too.
async fn scripted(settings: &Settings, answer: &[u8]) -> (Result<(), String>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the probe left in its request");
        }
        // The probe may have seen enough before all is written.
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
        String::from_utf8(request).unwrap()
    };
    tokio::join!(check(settings, address), server)
}

/// Name, settings, what the server says, what the probe says.
type Case<'a> = (&'a str, Vec<(&'static str, Value)>, &'a str, Result<(), &'a str>);

#[test]
fn every_outcome_of_an_http_probe_has_a_name() {
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}needle", "-".repeat(99_994));
    let early = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nneedle{}", "-".repeat(99_994));
    let needle = || ("body", text("needle"));
    let cases: Vec<Case> = vec![
        ("200 is well", vec![], "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Ok(())),
        ("so is a redirect", vec![], "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", Ok(())),
        ("HTTP/1.0 until close", vec![needle()], "HTTP/1.0 200 OK\r\n\r\na needle", Ok(())),
        ("an interim response is passed by", vec![], "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Ok(())),
        ("a status that was not expected", vec![], "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Err("status 503")),
        (
            "a status beside those listed",
            vec![("expect", Value::Texts(vec!["204".into(), "300-301".into()]))],
            "HTTP/1.1 200 OK\r\n\r\n",
            Err("status 200"),
        ),
        (
            "a status in a range that is listed",
            vec![("expect", Value::Texts(vec!["204".into(), "300-301".into()]))],
            "HTTP/1.1 301 Moved\r\n\r\n",
            Ok(()),
        ),
        ("the body contains the text", vec![needle()], "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\na needle", Ok(())),
        (
            "a text that chunks tear apart",
            vec![needle()],
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnee\r\n3\r\ndle\r\n0\r\n\r\n",
            Ok(()),
        ),
        ("the text near the beginning of a long body", vec![needle()], &early, Ok(())),
        ("the text beyond what is read", vec![needle()], &long, Err("body does not match")),
        (
            "the body lacks the text",
            vec![needle()],
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhay",
            Err("body does not match"),
        ),
        (
            "the body matches the pattern",
            vec![("body_regex", text("^(ok|fine)$"))],
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
            Ok(()),
        ),
        (
            "the body does not match the pattern",
            vec![("body_regex", text("^(ok|fine)$"))],
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nnot ok!",
            Err("body does not match"),
        ),
        (
            "the body ends early",
            vec![needle()],
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nneedle",
            Err("closed in the middle of the body"),
        ),
        ("no response", vec![], "", Err("closed without a response")),
        ("half a response", vec![], "HTTP/1.1 200 OK\r\nConte", Err("closed without a response")),
        ("not HTTP", vec![], "SSH-2.0-OpenSSH_9.2\r\n", Err("malformed response: bad-status-line")),
    ];
    for (name, fields, answer, want) in cases {
        let (got, _) = block_on(scripted(&settings("http", &fields), answer.as_bytes()));
        assert_eq!(got, want.map_err(str::to_owned), "{name}");
    }
}

#[test]
fn an_endless_row_of_interim_responses_ends() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    let (got, _) = block_on(scripted(&settings("http", &[]), answer.as_bytes()));
    assert_eq!(got, Err("too many interim responses".to_owned()));
}

#[test]
fn the_request_is_what_the_settings_say() {
    let fields = [("method", text("HEAD")), ("path", text("/up?x=1")), ("host", text("example.com"))];
    let (got, request) =
        block_on(scripted(&settings("http", &fields), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"));
    assert_eq!(got, Ok(()), "a HEAD response has no body, whatever it says");
    let lines: Vec<&str> = request.lines().collect();
    assert_eq!(lines[..2], ["HEAD /up?x=1 HTTP/1.1", "Host: example.com"]);
    assert!(lines.contains(&"Connection: close"), "{request}");
}

#[test]
fn a_port_of_nobody_refuses_and_one_that_listens_is_well() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        // Bound but not listening: it refuses, and nobody else gets it meanwhile.
        let held = TcpSocket::new_v4().unwrap();
        held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let free = held.local_addr().unwrap();
        for name in ["tcp", "http"] {
            assert_eq!(check(&settings(name, &[]), free).await, Err("connect refused".to_owned()), "{name}");
        }
        assert_eq!(check(&settings("tcp", &[]), open).await, Ok(()));
        let port = ("port", Value::Integer(u64::from(open.port())));
        assert_eq!(check(&settings("tcp", &[port]), free).await, Ok(()), "the other port is probed");
    });
}

#[test]
fn every_probe_has_the_common_fields_and_builds_by_default() {
    for spec in CATALOG {
        let name = spec.grammar.name;
        let settings = Settings::defaults(&spec.grammar);
        let pace = crate::seam::probe::Pace::of(&settings);
        assert_eq!((pace.interval, pace.timeout), (Duration::from_secs(2), Duration::from_millis(500)), "{name}");
        assert_eq!((pace.rules.rise, pace.rules.fall), (2, 3), "{name}");
        assert!(std::ptr::eq(find(name).unwrap(), spec));
        assert!(spec.grammar.example.contains(&format!("\"{name}\"")), "{name}");
        (spec.build)(&settings);
    }
}

#[test]
fn an_endpoint_without_a_port_is_probed_at_the_probes_own_or_not_at_all() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, host) = (listener.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], 0)));
        for name in ["tcp", "http"] {
            assert_eq!(check(&settings(name, &[]), host).await, Err("no port to probe".to_owned()), "{name}");
        }
        let own = settings("tcp", &[("port", Value::Integer(address.port().into()))]);
        assert_eq!(check(&own, host).await, Ok(()));
    });
}

#[test]
fn this_machine_answers_an_echo() {
    if (icmp::SPEC.able)().is_err() {
        eprintln!("skipped: echo requests are not permitted");
        return;
    }
    let probe = settings("icmp", &[]);
    block_on(async {
        for own in ["127.0.0.1:0", "[::1]:0"] {
            assert_eq!(check(&probe, own.parse().unwrap()).await, Ok(()), "{own}");
        }
    });
}

#[test]
fn an_address_of_this_machine_is_asked_for_on_no_link() {
    let outcome = block_on(check(&settings("arp", &[]), "127.0.0.1:0".parse().unwrap()));
    assert_eq!(outcome, Err("it is this machine itself".to_owned()));
}
