//! Endpoints that die by SIGKILL under load: who has no byte of an answer yet is served by another, and the dead one is left.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "common/cli.rs"]
mod cli;
mod common;
#[path = "common/load.rs"]
mod load;

use std::time::{Duration, Instant};

use cli::{Echo, await_usable};
use common::{Strata, await_that};
use load::{Kind, Load};

const ROUNDS: usize = 20;
const NAMES: [&str; 3] = ["echo-1", "echo-2", "echo-3"];

/// Three endpoints that probes find down no sooner than two intervals after their first failure: what is noticed within a
/// second, the data path has noticed.
fn three(balance: &str) -> ([Echo; 3], Strata) {
    let echoes = NAMES.map(Echo::start);
    let endpoints: Vec<String> = echoes.iter().map(|echo| format!("\"{}\"", echo.address)).collect();
    let strata = Strata::start(&format!(
        r#"
[service.edge]
mode = "l7"
listen = "{{edge}}"
pool = "web"
[pool.web]
balance = "{balance}"
damping = {{ changes = 0 }}
probe = {{ type = "http", path = "/healthz", interval = "600ms", timeout = "500ms", rise = 1, fall = 3 }}
endpoints = [{}]
"#,
        endpoints.join(", ")
    ));
    await_usable(&strata, "web", 3.0);
    (echoes, strata)
}

/// Kills `echo`, and says how long it took until no new work went there.
fn kill_and_await_detection(strata: &Strata, echo: &mut Echo) -> Duration {
    let name = echo.address.to_string();
    let of = [("pool", "web"), ("endpoint", name.as_str())];
    echo.kill();
    let killed = Instant::now();
    await_that("the dead endpoint is left", || strata.scrape().sum("strata_endpoint_up", &of) == 0.0);
    killed.elapsed()
}

#[test]
fn i1_twenty_deaths_under_load_fail_no_get() {
    let (mut echoes, strata) = three("p2c");
    let mut load = Load::start();
    load.clients(Kind::Reopened, 16, strata.edge, "/a", Duration::from_millis(40));
    load.clients(Kind::Fresh, 8, strata.edge, "/b", Duration::from_millis(80));
    load.await_more(100);
    let mut detections = Vec::new();
    for round in 0..ROUNDS {
        let echo = &mut echoes[round % 3];
        detections.push(kill_and_await_detection(&strata, echo));
        load.await_more(40);
        echo.restart();
        await_usable(&strata, "web", 3.0);
        load.await_more(40);
    }
    let seen = load.stop();
    let all = seen.all();
    detections.sort_unstable();
    let (median, worst) = (detections[ROUNDS / 2], detections[ROUNDS - 1]);
    println!("{ROUNDS} deaths in {:?} at {:.0} exchanges/s: {all:?}", seen.took, seen.rate());
    println!("detected within {median:?} (median), {worst:?} (worst)");
    assert_eq!(
        (all.failed, all.refused, all.cut, all.ended),
        (0, 0, 0, 0),
        "{:#?}\n{}",
        seen.by_kind,
        strata.log_tail()
    );
    assert_eq!(all.truncated, 0, "small answers come whole or not at all: {all:?}");
    let metrics = strata.scrape();
    assert!(metrics.sum("strata_retries_total", &[("pool", "web")]) > 0.0, "nobody met a dead endpoint");
    // Each death was met by the data path: no probe could have been as fast.
    let ejected = || strata.log().lines().filter(|line| line.contains("ejected")).count();
    let met = common::holds_within(common::PATIENCE, || ejected() >= ROUNDS / 2);
    assert!(met, "{} ejections in {ROUNDS} deaths\n{}", ejected(), strata.log());
}

#[test]
fn i2_a_post_in_flight_at_a_death_succeeds_or_fails_with_a_word() {
    let (mut echoes, strata) = three("round-robin");
    let mut load = Load::start();
    load.clients(Kind::Post, 12, strata.edge, "/post", Duration::from_millis(5));
    load.await_more(100);
    for round in 0..6 {
        let echo = &mut echoes[round % 3];
        kill_and_await_detection(&strata, echo);
        load.await_more(40);
        echo.restart();
        await_usable(&strata, "web", 3.0);
    }
    let seen = load.stop();
    let all = seen.all();
    println!("6 deaths under POST at {:.0} exchanges/s: {all:?}", seen.rate());
    let explicit: u64 = all.statuses.iter().filter(|(status, _)| matches!(status, 502 | 504)).map(|(_, n)| n).sum();
    assert_eq!((all.failed, all.truncated, all.refused), (explicit, 0, 0), "{:#?}", seen.by_kind);
    assert!(explicit <= 6 * 12, "more failed than were in flight: {all:?}");
    assert!(all.done > 500, "{all:?}");
}

#[test]
fn i3_with_every_endpoint_dead_the_answer_is_a_quick_503() {
    let (mut echoes, strata) = three("p2c");
    echoes.iter_mut().for_each(Echo::kill);
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    // Until the state is known, connects are tried and their failure is the answer.
    await_that("all are known to be down", || {
        let response = strata.ask(get);
        assert!(matches!(response.status(), 502 | 503), "{}", response.head_text());
        response.status() == 503
    });
    let before = strata.scrape();
    let mut wire = strata.connect();
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        wire.send(get);
        let response = wire.response().expect("a response");
        times.push(began.elapsed());
        assert_eq!(response.status(), 503);
        assert_eq!(response.field("x-strata-reason").as_deref(), Some("no-endpoint"));
    }
    times.sort_unstable();
    println!("503 within {:?} (median), {:?} (99 %)", times[100], times[198]);
    // Other tests on the same cores delay some of them.
    assert!(times[100] <= Duration::from_millis(10), "{times:?}");
    strata.counted(&before, "no-endpoint", 200.0).unwrap();

    echoes.iter_mut().for_each(Echo::restart);
    await_usable(&strata, "web", 3.0);
    assert_eq!(strata.ask(get).status(), 200);
}
