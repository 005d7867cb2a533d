//! `strata docker-proxy` before the real engine: what a Docker source asks passes, and nothing that changes anything.

use std::time::Instant;

use super::common::{Wire, metrics};
use super::engine::{Container, Image, PATIENCE, address, await_that, can, docker};

#[test]
fn questions_reach_the_engine_and_changes_do_not() {
    let Some(_one) = can("`strata docker-proxy`") else { return };
    let image = Image::under_test();
    let socket = "/var/run/docker.sock:/var/run/docker.sock:ro";
    let proxy = Container::run(&[
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges:true",
        "--user=0:0",
        "--env=PASSWORD=hunter2",
        "--volume",
        socket,
        &image.name,
        "docker-proxy",
        "--listen=0.0.0.0:2375",
    ]);
    let at = address(&proxy, 2375);
    await_that("it listens", || std::net::TcpStream::connect(at).is_ok());
    let pong = metrics::get(at, "/_ping");
    assert_eq!((pong.status(), pong.text().as_str(), pong.field("api-version").is_some()), (200, "OK", true));
    let id = docker(&["inspect", "--format={{.Id}}", &proxy.0]);
    let listed = metrics::get(at, "/v1.41/containers/json");
    assert!(listed.status() == 200 && listed.text().contains(&id), "{}", listed.text());
    let seen = metrics::get(at, &format!("/containers/{}/json", proxy.0));
    assert!(seen.status() == 200 && seen.text().contains("org.opencontainers.image.title"), "{}", seen.text());
    // What it was started with is nobody's business.
    assert!(docker(&["inspect", &proxy.0]).contains("PASSWORD=hunter2"));
    for answer in [listed.text(), seen.text()] {
        assert!(!answer.contains("hunter2") && !answer.contains("docker-proxy"), "{answer}");
    }
    assert_eq!(metrics::get(at, "/containers/nobody/json").status(), 404, "the engine's own answers pass");

    // It would end if it were let.
    let stop = format!("/containers/{}/kill", proxy.0);
    for (method, path) in [
        ("POST", stop.as_str()),
        ("DELETE", &format!("/containers/{}?force=1", proxy.0)),
        ("POST", "/containers/create"),
        ("GET", &format!("/containers/{}/archive?path=/", proxy.0)),
        ("GET", "/images/json"),
        ("GET", "/containers/json?all=1"),
        ("GET", &format!("/containers/{}/json?size=1", proxy.0)),
        ("PUT", "/_ping"),
    ] {
        let mut wire = Wire::connect(at);
        wire.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        let answer = wire.response().expect("an answer");
        assert_eq!(answer.status(), 403, "{method} {path}");
        assert!(answer.text().contains("questions of a Docker source"), "{}", answer.text());
    }
    assert_eq!(metrics::get(at, "/_ping").status(), 200, "it lives");

    // Events come as they happen, through both connections.
    let mut events = Wire::connect(at);
    events.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    events.response_head().expect("the head comes before the first event");
    let other = Container::run(&[&image.name, "echo"]);
    let id = docker(&["inspect", "--format={{.Id}}", &other.0]);
    let (mut heard, began) = (Vec::new(), Instant::now());
    while !String::from_utf8_lossy(&heard).contains(&id) {
        assert!(began.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&heard));
        heard.extend(events.bytes(1).expect("an event"));
    }
    // Its name is no label.
    assert!(!String::from_utf8_lossy(&heard).contains(&other.0), "{}", String::from_utf8_lossy(&heard));
}
