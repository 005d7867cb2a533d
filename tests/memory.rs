//! What an idle kept-alive connection costs the real binary in memory of its own.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

mod common;
#[path = "common/load.rs"]
mod load;

use common::{Strata, Wire, await_that};

const CONNECTIONS: usize = 2000;
/// What a release build is held to (issue: at most 4 KiB). A debug build has larger futures and keeps its bounds looser.
const MOST_BYTES: u64 = if cfg!(debug_assertions) { 8 * 1024 } else { 4 * 1024 };

/// Opens `count` connections, each idle after one exchange.
fn idle(strata: &Strata, count: usize) -> Vec<Wire> {
    let one = |_| {
        let mut wire = strata.connect();
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.response().expect("a response").status(), 200);
        wire
    };
    (0..count).map(one).collect()
}

#[test]
fn two_thousand_idle_connections_cost_little_and_give_it_back() {
    strata::sys::process::raise_descriptors().expect("descriptors");
    let endpoint = load::endpoint("web");
    let strata = Strata::start(&format!(
        "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\nendpoints = [\"{}\"]\n",
        endpoint.address
    ));
    // Tables and allocator arenas that a process has once.
    let mut open = idle(&strata, 500);
    let before = strata.resident_kib();
    open.extend(idle(&strata, CONNECTIONS));
    let active = || strata.scrape().sum("strata_connections_active", &[("service", "edge")]);
    assert_eq!(active(), open.len() as f64);
    let each = (strata.resident_kib().saturating_sub(before)) * 1024 / CONNECTIONS as u64;
    println!("{each} bytes a connection ({CONNECTIONS} idle, {} KiB before)", before);
    assert!(each <= MOST_BYTES, "{each} bytes a connection");

    // The memory of connections that ended serves the next ones.
    let full = strata.resident_kib();
    drop(open);
    await_that("all have ended", || active() == 0.0);
    let open = idle(&strata, CONNECTIONS);
    let again = strata.resident_kib();
    assert!(again <= full + full / 4 + 1024, "{full} KiB at first, {again} KiB after as many again");
    drop(open);
}
