//! TERM, INT, HUP and USR1.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::cli::ask;
use super::common::{End, Strata, await_that, wire};
use super::{GET, Gated, edge, load};

const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";

fn with_deadline(gated: &Gated, deadline: &str) -> String {
    format!("[drain]\ntimeout = \"{deadline}\"\n{}", edge(&[gated.address()]))
}

fn draining(strata: &Strata) -> bool {
    strata.scrape().sum("strata_draining", &[]) == 1.0
}

/// A connection with a request that its endpoint has and does not answer.
pub fn in_flight(strata: &Strata, gated: &Gated) -> super::common::Wire {
    let mut wire = strata.connect();
    wire.send(SLOW);
    let seen = || (0..gated.origin.connections()).any(|n| wire::find(&gated.origin.seen(n), b"GET /slow").is_some());
    await_that("the endpoint has the request", seen);
    wire
}

#[test]
fn j5_term_lets_what_is_open_finish_and_then_the_process_ends_well() {
    let gated = Gated::new("web");
    let strata = Strata::start(&with_deadline(&gated, "30s"));
    let mut idle = strata.connect();
    idle.send(GET);
    assert_eq!(idle.response().unwrap().status(), 200);
    let mut busy = in_flight(&strata, &gated);

    strata.signal("TERM");
    await_that("it drains", || draining(&strata));
    assert_eq!(super::common::metrics::get(strata.metrics, "/readyz").status(), 503);
    await_that("new connections are refused", || TcpStream::connect(strata.edge).is_err());
    let said = ask(&strata, &["reload"]);
    assert!(said.code == 1 && said.err.contains("ending"), "a reload would open the listeners again: {said:?}");
    assert_eq!(idle.rest(), (Vec::new(), End::Fin));

    gated.open();
    let answer = busy.response().unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "web"));
    assert_eq!(busy.rest(), (Vec::new(), End::Fin));
    // Until the client closes as well, the connection lingers for up to two seconds.
    drop((idle, busy));
    let began = Instant::now();
    assert_eq!(strata.await_exit().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "it ends when the last connection does");
}

#[test]
fn j5_a_request_on_its_way_when_the_drain_begins_is_answered_as_the_last() {
    let gated = Gated::new("web");
    let strata = Strata::start(&with_deadline(&gated, "30s"));
    let mut kept = strata.connect();
    kept.send(GET);
    assert_eq!(kept.response().unwrap().status(), 200);
    strata.signal("TERM");
    await_that("it drains", || draining(&strata));
    kept.send(GET);
    let last = kept.response().unwrap();
    assert_eq!((last.status(), last.field("connection").as_deref()), (200, Some("close")));
    assert_eq!(kept.rest(), (Vec::new(), End::Fin));
    assert_eq!(strata.await_exit().code(), Some(0));
}

#[test]
fn j5_an_idle_connection_does_not_hold_the_end_up() {
    let gated = Gated::new("web");
    let strata = Strata::start(&with_deadline(&gated, "30s"));
    let mut idle = strata.connect();
    idle.send(GET);
    idle.response().unwrap();
    let mut silent = strata.connect();
    let began = Instant::now();
    strata.signal("TERM");
    assert_eq!(idle.rest().1, End::Fin);
    assert_eq!(silent.rest().1, End::Fin);
    assert_eq!(strata.await_exit().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn j5_a_connection_that_is_stuck_is_cut_at_the_deadline() {
    let gated = Gated::new("web");
    let strata = Strata::start(&with_deadline(&gated, "1s"));
    let mut stuck = in_flight(&strata, &gated);
    let began = Instant::now();
    strata.signal("TERM");
    let broken = stuck.response().unwrap_err();
    assert!(broken.got.is_empty() && broken.end == End::Reset, "no one may take it for an end: {broken:?}");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(strata.await_exit().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    for second in ["TERM", "INT"] {
        let gated = Gated::new("web");
        let strata = Strata::start(&with_deadline(&gated, "5m"));
        let _stuck = in_flight(&strata, &gated);
        strata.signal("TERM");
        await_that("it drains", || draining(&strata));
        let began = Instant::now();
        strata.signal(second);
        assert_eq!(strata.await_exit().code(), Some(0), "{second}");
        assert!(began.elapsed() < Duration::from_secs(5), "{second}: {:?}", began.elapsed());
    }
}

#[test]
fn j5_term_under_load_loses_nothing_that_was_accepted() {
    let endpoint = load::endpoint("web");
    let strata = Strata::start(&edge(&[endpoint.address.to_string()]));
    let mut load = load::Load::start();
    load.clients(load::Kind::Fresh, 6, strata.edge, "/", Duration::from_millis(5));
    load.clients(load::Kind::Reopened, 6, strata.edge, "/", Duration::from_millis(20));
    load.await_more(100);
    strata.signal("TERM");
    assert_eq!(strata.await_exit().code(), Some(0));
    let all = load.stop().all();
    println!("TERM under load: {all:?}");
    assert_eq!((all.failed, all.truncated), (0, 0), "{all:?}");
    assert!(all.refused > 0, "{all:?}");
}

#[test]
fn usr1_opens_the_access_log_anew() {
    let gated = Gated::new("web");
    let folder = std::env::temp_dir().join(format!("strata-usr1-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [log, old] = ["access.log", "access.log.1"].map(|name| folder.join(name));
    let strata = Strata::start(&format!("[access_log]\noutput = \"{}\"\n{}", log.display(), edge(&[gated.address()])));
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    assert_eq!(strata.ask(GET).status(), 200);
    await_that("a record", || lines(&log) == 1);
    std::fs::rename(&log, &old).unwrap();
    strata.signal("USR1");
    await_that("the file is there again", || log.exists());
    for _ in 0..3 {
        assert_eq!(strata.ask(GET).status(), 200);
    }
    await_that("records in the new file", || lines(&log) == 3);
    assert_eq!(lines(&old), 1);
    drop(strata);
    let _ = std::fs::remove_dir_all(folder);
}
