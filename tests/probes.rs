//! Probes of the real binary as endpoints see them: on time under full load, one an endpoint, and what rise and fall make of them.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "common/cli.rs"]
mod cli;
mod common;
#[path = "common/load.rs"]
mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cli::{ask, await_usable};
use common::{Origin, Strata, await_that};
use load::{Kind, Load};
use parking_lot::Mutex;

/// An endpoint that notes when it was probed, and answers probes as it is told to.
struct Probed {
    origin: Origin,
    at: Arc<Mutex<Vec<Instant>>>,
    well: Arc<AtomicBool>,
}

impl Probed {
    fn new() -> Probed {
        let (at, well) = (Arc::<Mutex<Vec<Instant>>>::default(), Arc::new(AtomicBool::new(true)));
        let (noted, is_well) = (at.clone(), well.clone());
        let origin = Origin::serve(move |request| {
            let mut status = "200 OK";
            if request.head.starts_with(b"GET /healthz") {
                // Judged before it is noted, or one that passes could be missing from what was noted since the switch was turned.
                if !is_well.load(Relaxed) {
                    status = "503 Service Unavailable";
                }
                noted.lock().push(Instant::now());
            }
            format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok").into_bytes()
        });
        Probed { origin, at, well }
    }

    fn count(&self) -> usize {
        self.at.lock().len()
    }

    fn intervals(&self, from: usize) -> Vec<Duration> {
        self.at.lock()[from..].windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

fn text(endpoints: &[Probed], probe: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|probed| format!("\"{}\"", probed.origin.address)).collect();
    format!(
        "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\n\
         probe = {{ type = \"http\", path = \"/healthz\", {probe} }}\nendpoints = [{}]\n",
        endpoints.join(", ")
    )
}

#[test]
fn probes_keep_their_schedule_while_every_worker_is_saturated() {
    const INTERVAL: Duration = Duration::from_millis(250);
    let endpoints: Vec<Probed> = (0..4).map(|_| Probed::new()).collect();
    let strata = Strata::start(&text(&endpoints, "interval = \"250ms\", timeout = \"200ms\""));
    await_usable(&strata, "web", 4.0);
    let mut load = Load::start();
    load.clients(Kind::Kept, 12, strata.edge, "/", Duration::ZERO);
    load.await_more(500);
    let from: Vec<usize> = endpoints.iter().map(Probed::count).collect();
    await_that("25 probes of each endpoint", || {
        endpoints.iter().zip(&from).all(|(probed, from)| probed.count() >= from + 26)
    });
    let metrics = strata.scrape();
    let seen = load.stop();
    seen.assert_nothing_lost();

    let mut intervals: Vec<Duration> =
        endpoints.iter().zip(&from).flat_map(|(probed, from)| probed.intervals(*from)).collect();
    intervals.sort_unstable();
    let at = |percent: usize| intervals[intervals.len() * percent / 100];
    let (low, median, high) = (at(5), at(50), at(95));
    println!(
        "{} intervals of {INTERVAL:?} at {:.0} requests/s: 5 % {low:?}, median {median:?}, 95 % {high:?}, most {:?}",
        intervals.len(),
        seen.rate(),
        at(100 - 1).max(*intervals.last().unwrap())
    );
    assert!(median.abs_diff(INTERVAL) <= INTERVAL / 5, "{intervals:?}");
    assert!(low >= INTERVAL / 2 && high <= INTERVAL * 3 / 2, "{intervals:?}");
    let probes = |result: &str| metrics.sum("strata_probes_total", &[("result", result)]);
    let (passed, late) = (probes("passed"), probes("failed"));
    // While this machine stands still, one or two find no answer in time.
    assert!(late <= 0.02 * (passed + late), "{late} probes were too late, {passed} passed");
    assert_eq!(metrics.sum("strata_endpoint_up", &[]), 4.0);
}

#[test]
fn an_endpoint_is_probed_once_however_many_services_share_its_pool() {
    let endpoints = [Probed::new()];
    let more: String = (0..3)
        .map(|n| {
            let (mode, address) = (if n == 0 { "l4" } else { "l7" }, common::free_address());
            format!("[service.more{n}]\nmode = \"{mode}\"\nlisten = \"{address}\"\npool = \"web\"\n")
        })
        .collect();
    let strata = Strata::start(&(text(&endpoints, "interval = \"100ms\", timeout = \"80ms\"") + &more));
    await_usable(&strata, "web", 1.0);
    let (from, began) = (endpoints[0].count(), Instant::now());
    await_that("20 probes", || endpoints[0].count() >= from + 20);
    // Four probes an interval would be through in a quarter of the time.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(100) * 20 / 2, "20 probes in {took:?}");
    // Reloads that leave the pool alone leave its schedule alone.
    let (from, began) = (endpoints[0].count(), Instant::now());
    let mut reloads = 0;
    await_that("20 probes under reloads", || {
        strata.rewrite(&(text(&endpoints, "interval = \"100ms\", timeout = \"80ms\"") + &more + &"\n".repeat(reloads)));
        reloads += 1;
        assert_eq!(ask(&strata, &["reload"]).code, 0);
        endpoints[0].count() >= from + 20
    });
    let took = began.elapsed();
    println!("20 probes in {took:?} under {reloads} reloads");
    assert!(took >= Duration::from_millis(100) * 20 / 2, "20 probes in {took:?} under {reloads} reloads");
}

#[test]
fn an_endpoint_falls_after_three_failures_rises_after_two_successes_and_status_says_why() {
    let endpoints = [Probed::new(), Probed::new()];
    let strata = Strata::start(&text(&endpoints, "interval = \"150ms\", timeout = \"1s\", rise = 2, fall = 3"));
    // Who serves may not have been judged yet, and the first result would be enough.
    let judged = || strata.scrape().sum("strata_endpoint_state", &[("health", "up")]) == 2.0;
    await_that("both are found to be up", judged);
    let sick = &endpoints[0];
    let name = sick.origin.address.to_string();
    let of = |metric: &str, more: &[(&str, &str)]| {
        strata.scrape().sum(metric, &[&[("pool", "web"), ("endpoint", name.as_str())], more].concat())
    };
    let failed = || of("strata_probes_total", &[("result", "failed")]);
    for round in 0..2 {
        let before = failed();
        sick.well.store(false, Relaxed);
        // Up for as long as fewer than three in a row have failed: whichever is read later can only be further on.
        await_that("it falls", || {
            let earlier = failed() - before;
            let up = of("strata_endpoint_up", &[]) == 1.0;
            let later = failed() - before;
            assert!(up || later >= 3.0, "round {round}: down after {later} failures");
            assert!(!up || earlier < 5.0, "round {round}: still up after {earlier} failures");
            !up
        });
        assert_eq!(of("strata_endpoint_state", &[("health", "down")]), 1.0);
        let said = ask(&strata, &["status"]);
        assert!(said.out.contains("1 of 2 usable") && said.out.contains("503"), "{}", said.out);
        for _ in 0..10 {
            assert_eq!(strata.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
        }

        let from = sick.count();
        sick.well.store(true, Relaxed);
        await_that("it rises", || of("strata_endpoint_up", &[]) == 1.0);
        assert!(sick.count() - from >= 2, "round {round}: up after {} successes", sick.count() - from);
    }
}
