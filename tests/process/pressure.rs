//! Descriptors and memory that run out: what is idle goes first, then nobody is let in, and all comes back.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::cli::ask;
use super::common::{End, Strata, Wire, await_that};
use super::{GET, Gated, edge};

fn level(strata: &Strata, resource: &str) -> f64 {
    strata.scrape().sum("strata_pressure", &[("resource", resource)])
}

fn count(strata: &Strata, metric: &str, resource: &str) -> f64 {
    strata.scrape().sum(metric, &[("resource", resource)])
}

/// Processor time that it has used, in ticks of 10 ms.
fn ticks(strata: &Strata) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", strata.pid())).expect("its /proc entry");
    let fields: Vec<&str> = text.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}

#[test]
fn j9_without_descriptors_accepting_pauses_without_spinning_and_recovers() {
    let gated = Gated::new("web");
    // More is promised than descriptors carry, so that only they are in the way.
    let text = format!("[process]\nmax_connections = 100000\n{}", edge(&[gated.address()]));
    let strata = Strata::start_limited(&text, "-n 150");
    await_that("it says so", || strata.log().contains("more than the limit of open files carries"));
    assert_eq!(strata.scrape().sum("strata_descriptors_limit", &[]), 150.0);

    let crowd: Vec<TcpStream> =
        (0..400).map(|_| TcpStream::connect(strata.edge).expect("the queue takes it")).collect();
    let paused = || count(&strata, "strata_accept_pauses_total", "descriptors") > 0.0;
    await_that("accepting pauses", paused);
    let (before, began) = (ticks(&strata), Instant::now());
    std::thread::sleep(Duration::from_millis(500));
    let (used, took) = (ticks(&strata) - before, began.elapsed());
    assert!(used * 10 < took.as_millis() as u64 / 2, "it spins: {used} ticks of 10 ms within {took:?}");
    assert!(strata.log().matches("accepting pauses").count() < 10, "it is said once, not each time\n{}", strata.log());
    await_that("idle ones are closed for others", || {
        count(&strata, "strata_idle_connections_shed_total", "descriptors") > 0.0
    });

    drop(crowd);
    await_that("enough is free again", || level(&strata, "descriptors") == 0.0);
    assert_eq!(strata.ask(GET).status(), 200);
}

#[test]
fn connections_beyond_what_descriptors_carry_are_refused_by_name() {
    let gated = Gated::new("web");
    let strata = Strata::start_limited(&edge(&[gated.address()]), "-n 128");
    let most = strata.scrape().sum("strata_connections_limit", &[]) as usize;
    assert_eq!(most, 48);
    let mut open: Vec<Wire> = (0..most).map(|_| strata.connect()).collect();
    for wire in &mut open {
        wire.send(GET);
        assert_eq!(wire.response().unwrap().status(), 200);
    }
    let before = strata.scrape();
    let late = strata.ask(GET);
    assert_eq!((late.status(), late.field("x-strata-reason").as_deref()), (503, Some("process-full")));
    strata.counted(&before, "process-full", 1.0).unwrap();
    drop(open);
    await_that("there is room again", || strata.ask(GET).status() == 200);
}

#[test]
fn j10_at_the_limit_of_memory_idle_connections_go_nobody_is_let_in_and_nothing_is_lost() {
    let gated = Gated::new("web");
    let body = edge(&[gated.address()]);
    let strata = Strata::start(&body);
    let mut idle: Vec<Wire> = (0..20).map(|_| strata.connect()).collect();
    for wire in &mut idle {
        wire.send(GET);
        assert_eq!(wire.response().unwrap().status(), 200);
    }
    let reload = |tables: &str| {
        strata.rewrite(&format!("{tables}{body}"));
        let said = ask(&strata, &["reload"]);
        assert_eq!(said.code, 0, "{said:?}");
    };
    // Less than it has by a fifth: what it gives back does not bring it below.
    reload(&format!("[process]\nmax_memory = \"{}KiB\"\n", (strata.resident_kib() * 4 / 5).max(4096)));
    await_that("memory is short", || level(&strata, "memory") == 2.0);
    await_that("it is said", || strata.log().contains("no connection is taken"));
    let (used, limit) =
        (strata.scrape().sum("strata_memory_used_bytes", &[]), strata.scrape().sum("strata_memory_limit_bytes", &[]));
    assert!(used >= limit * 0.94 && limit > 0.0, "{used} of {limit}");

    let mut waiting: Vec<Wire> = (0..8).map(|_| strata.connect()).collect();
    for wire in &mut waiting {
        wire.send(GET);
    }
    for wire in &mut idle {
        assert_eq!(wire.rest(), (Vec::new(), End::Fin), "an idle connection ends cleanly");
    }
    assert!(count(&strata, "strata_idle_connections_shed_total", "memory") >= 20.0);
    let total = strata.scrape().sum("strata_connections_total", &[("service", "edge")]);
    // Each worker waited for one already.
    assert!(total <= 22.0, "{total} were let in");

    reload("");
    for wire in &mut waiting {
        assert_eq!(wire.response().unwrap().status(), 200, "whoever waited is served");
    }
    assert_eq!((level(&strata, "memory"), strata.ask(GET).status()), (0.0, 200));
    assert_eq!(strata.scrape().all_drops(), 0.0);
}
