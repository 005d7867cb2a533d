//! Limits of endpoints, and the queue before them: in order, bounded, timed, left by clients that go.

use super::*;
use crate::common::{End, Wire};

/// One endpoint that serves one at a time, `takes_ms` each.
fn one_at_a_time(takes_ms: u64, limits: &str) -> (Server, Strata) {
    let server = Server::start();
    server.knobs.takes_ms.store(takes_ms, Relaxed);
    let strata = edge(std::slice::from_ref(&server), limits);
    (server, strata)
}

pub fn waiting(strata: &Strata) -> f64 {
    strata.scrape().sum("strata_pool_queue", &[("pool", "web")])
}

/// A client whose request stands in the queue, or at the endpoint.
pub fn asking(strata: &Strata) -> Wire {
    let mut wire = strata.connect();
    wire.send(GET);
    wire
}

pub fn reason(wire: &mut Wire) -> (u16, String) {
    let answer = wire.response().expect("an answer");
    (answer.status(), answer.field("x-strata-reason").unwrap_or_default())
}

#[test]
fn who_waits_is_served_in_order_and_never_more_at_once_than_may() {
    let (server, strata) = one_at_a_time(60, "limits = { max_requests = 1, queue = 20, queue_timeout = \"30s\" }");
    let (mut clients, targets) = (Vec::new(), (0..10).map(|n| format!("/{n}")).collect::<Vec<_>>());
    for (n, target) in (1..).zip(&targets) {
        let mut client = strata.connect();
        client.send(GET.replace("GET / ", &format!("GET {target} ")));
        clients.push(client);
        // In line before the next one comes.
        await_that("it is served or waits", || server.requests() as f64 + waiting(&strata) >= f64::from(n));
    }
    for client in &mut clients {
        assert_eq!(client.response().expect("an answer").status(), 200);
    }
    assert_eq!(*server.knobs.targets.lock(), targets, "first come, first served, over both workers");
    assert_eq!(server.knobs.busiest.load(Relaxed), 1);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    for (limits, word, waits) in [
        ("limits = { max_requests = 1, queue = 0 }", "endpoint-limit", 0),
        ("limits = { max_requests = 1, queue = 1, queue_timeout = \"60s\" }", "queue-full", 1),
        ("limits = { max_requests = 1, queue = 1, queue_timeout = \"100ms\" }", "queue-timeout", 0),
        ("limits = { max_connections = 1, queue = 0 }", "endpoint-limit", 0),
    ] {
        let (server, strata) = one_at_a_time(0, limits);
        server.knobs.held.store(true, Relaxed);
        let before = strata.scrape();
        let mut first = asking(&strata);
        await_that("the endpoint has a request", || server.requests() == 1);
        let mut waiters: Vec<Wire> = (0..waits).map(|_| asking(&strata)).collect();
        await_that("the queue is full", || waiting(&strata) == f64::from(waits));
        let mut refused = asking(&strata);
        assert_eq!(reason(&mut refused), (503, word.to_owned()), "{limits}");
        strata.counted(&before, word, 1.0).unwrap();
        server.knobs.held.store(false, Relaxed);
        for client in std::iter::once(&mut first).chain(&mut waiters) {
            assert_eq!(client.response().expect("an answer").status(), 200, "{limits}");
        }
        await_that("its connection lives on, and there is room", || {
            refused.send(GET);
            refused.response().expect("an answer").status() == 200
        });
    }
}

#[test]
fn a_client_that_goes_away_leaves_the_queue() {
    let (server, strata) = one_at_a_time(0, "limits = { max_requests = 1, queue = 9, queue_timeout = \"60s\" }");
    server.knobs.held.store(true, Relaxed);
    let before = strata.scrape();
    let mut first = asking(&strata);
    await_that("the endpoint has a request", || server.requests() == 1);
    let (resets, closes) = (asking(&strata), asking(&strata));
    await_that("two wait", || waiting(&strata) == 2.0);
    resets.reset();
    await_that("one has left", || waiting(&strata) == 1.0);
    drop(closes);
    await_that("both have left", || waiting(&strata) == 0.0);
    server.knobs.held.store(false, Relaxed);
    assert_eq!(first.response().expect("an answer").status(), 200);
    assert_eq!(server.requests(), 1, "nothing was done for those that left");
    strata.counted(&before, "client-closed", 2.0).unwrap();
}

#[test]
fn another_endpoint_with_room_is_taken_before_anyone_waits() {
    let servers = [Server::start(), Server::start()];
    // Every request is the same key: all would go to one.
    let balance = "balance = { type = \"rendezvous\", key = \"path\" }";
    let strata = edge(&servers, &format!("{balance}\nlimits = {{ max_requests = 1, queue = 9 }}"));
    servers.iter().for_each(|server| server.knobs.held.store(true, Relaxed));
    let mut clients = [asking(&strata), asking(&strata)];
    await_that("each has one", || servers.iter().all(|server| server.requests() == 1));
    servers.iter().for_each(|server| server.knobs.held.store(false, Relaxed));
    for client in &mut clients {
        assert_eq!(client.response().expect("an answer").status(), 200);
    }
}

#[test]
fn connections_are_bounded_over_all_workers_and_idle_ones_make_room() {
    let server = Server::start();
    let strata =
        edge(std::slice::from_ref(&server), "limits = { max_connections = 2, queue = 50, queue_timeout = \"20s\" }");
    // Many clients on both workers, so that connections idle where they are not wanted.
    let mut load = Load::start();
    load.clients(Kind::Fresh, 12, strata.edge, "/", Duration::from_millis(5));
    let open = || strata.scrape().sum("strata_endpoint_connections_active", &[("endpoint", &server.name())]);
    // The gauge may read high for a moment, by one that closes as another opens; what is really open stays in all of a few looks.
    let surely = || (0..3).map(|_| open()).fold(f64::INFINITY, f64::min);
    let mut most: f64 = 0.0;
    let target = load.done() + 300;
    await_that("300 exchanges", || {
        most = most.max(surely());
        load.done() >= target
    });
    load.stop().assert_nothing_lost();
    assert!(most <= 2.0, "{most} connections");
    assert!(server.knobs.busiest.load(Relaxed) <= 2);
    // Both idle connections may belong to one worker; whichever asks gets one.
    for _ in 0..8 {
        assert_eq!(statuses(&strata, 1), [200]);
    }
}

#[test]
fn a_tunnel_keeps_its_place() {
    let origin = load::endpoint("a");
    let strata = Strata::start(&format!(
        "[service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n\
         [pool.web]\nlimits = {{ max_requests = 1, queue = 0 }}\nendpoints = [\"{}\"]\n",
        origin.address
    ));
    let mut tunnel = strata.connect();
    tunnel.send(load::handshake("/"));
    assert_eq!(tunnel.response_head().expect("an upgrade").status(), 101);
    tunnel.send("hello\n");
    assert_eq!(tunnel.bytes(6).expect("an echo"), b"hello\n");
    assert_eq!(reason(&mut asking(&strata)), (503, "endpoint-limit".to_owned()));
    drop(tunnel);
    await_that("its place is free", || strata.ask(GET).status() == 200);
}

#[test]
fn l4_connections_wait_as_well() {
    let server = Server::start();
    let strata = Strata::start(&format!(
        "[service.raw]\nmode = \"l4\"\nlisten = \"{{edge}}\"\npool = \"web\"\n\
         [pool.web]\nlimits = {{ max_connections = 1, queue = 1, queue_timeout = \"20s\" }}\nendpoints = [\"{}\"]\n",
        server.name()
    ));
    let before = strata.scrape();
    let mut first = asking(&strata);
    assert_eq!(first.response().expect("an answer").status(), 200);
    let mut second = asking(&strata);
    await_that("one waits", || waiting(&strata) == 1.0);
    // It says nothing: what it sent after the reset would be told instead of it.
    assert_eq!(strata.connect().rest(), (Vec::new(), End::Reset), "the queue is full");
    strata.counted(&before, "queue-full", 1.0).unwrap();
    assert_eq!(server.requests(), 1);
    drop(first);
    assert_eq!(second.response().expect("its turn").status(), 200);
    let gone = asking(&strata);
    await_that("one waits", || waiting(&strata) == 1.0);
    gone.reset();
    // Its byte stands unread before the reset: it is found out at its turn at the latest.
    drop(second);
    await_that("nobody waits", || waiting(&strata) == 0.0);
}
