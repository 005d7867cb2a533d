//! What grows with nobody: series, whatever clients say; and what a standstill or a flood costs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::common::metrics::get;
use super::common::{Strata, await_that};
use super::{GET, Gated, edge};

/// The series of `/metrics`, without their values.
fn series(strata: &Strata) -> BTreeSet<String> {
    let text = get(strata.metrics, "/metrics").text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[test]
fn j15_ten_thousand_hosts_and_paths_make_no_series() {
    const REQUESTS: usize = 10_000;
    const AT_ONCE: usize = 50;
    let gated = Gated::new("web");
    let strata = Strata::start(&edge(&[gated.address()]));
    assert_eq!(strata.ask(GET).status(), 200);
    let before = series(&strata);
    let mut wire = strata.connect();
    for n in (0..REQUESTS).step_by(AT_ONCE) {
        let one = |n: usize| {
            let method = ["GET", "BREW", "DELETE"][n % 3];
            format!(
                "{method} /path-{n}?q={n} HTTP/1.1\r\nHost: host-{n}.example\r\nUser-Agent: agent-{n}\r\nX-{n}: {n}\r\n\r\n"
            )
        };
        wire.send((n..n + AT_ONCE).map(one).collect::<String>());
        for _ in 0..AT_ONCE {
            assert_eq!(wire.response().expect("an answer").status(), 200);
        }
    }
    let after = series(&strata);
    let new: Vec<&String> = after.difference(&before).collect();
    assert!(new.is_empty() && after.len() == before.len(), "{} series more: {:?}", new.len(), &new[..new.len().min(5)]);
    assert_eq!(strata.scrape().sum("strata_requests_total", &[("code", "200")]), REQUESTS as f64 + 1.0);
}

#[test]
fn j17_connections_that_a_full_accept_queue_drops_are_counted_by_service() {
    let most = strata::sys::process::raise_descriptors().expect("descriptors");
    let backlog: usize = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    // Two workers, a queue each; who finds a full one does not try the other.
    let crowd = 2 * backlog.min(4096) + 1000;
    // The other tests of this process have some too.
    if most < crowd as u64 + 1000 {
        eprintln!("skipped: {most} descriptors are fewer than fill the queues: {crowd}");
        return;
    }
    let gated = Gated::new("web");
    let text = edge(&[gated.address()]);
    let strata = Strata::start(&text);
    let counted = || strata.scrape().sum("strata_listen_overflows_total", &[("service", "edge")]);
    assert_eq!(counted(), 0.0);
    // Nobody accepts while it stands still.
    strata.signal("STOP");
    let stands = || fs::read_to_string(format!("/proc/{}/stat", strata.pid())).unwrap().contains(") T ");
    await_that("it stands still", stands);
    let clients: Vec<Socket> = (0..crowd)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
            client.set_nonblocking(true).unwrap();
            // In progress; a queue that is full says nothing.
            let _ = client.connect(&strata.edge.into());
            client
        })
        .collect();
    strata.signal("CONT");
    await_that("what was dropped is counted", || counted() >= 1.0);
    drop(clients);
    await_that("it serves", || strata.ask(GET).status() == 200);
}

/// A process that stands still sees the monotonic clock jump, as after a suspend of its machine: whoever
/// was waited for has not been late.
#[test]
fn j11_a_jump_of_the_clock_ejects_nobody_and_ends_no_connection() {
    let (one, two) = (Gated::new("one"), Gated::new("two"));
    let probe = "[pool.web]\nprobe = { type = \"http\", interval = \"200ms\", timeout = \"1s\", fall = 3 }";
    let strata = Strata::start(&edge(&[one.address(), two.address()]).replace("[pool.web]", probe));
    await_that("both are up", || strata.scrape().sum("strata_endpoint_state", &[("health", "up")]) == 2.0);
    let mut kept = strata.connect();
    kept.send(GET);
    assert_eq!(kept.response().unwrap().status(), 200);
    let mut waiting = strata.connect();
    waiting.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    await_that("an endpoint has it", || strata.scrape().sum("strata_endpoint_in_flight", &[("pool", "web")]) == 1.0);
    for _ in 0..2 {
        strata.signal("STOP");
        // The length of the jump: many probes would have been due, and have timed out.
        std::thread::sleep(Duration::from_millis(1500));
        strata.signal("CONT");
        let probes = |strata: &Strata| strata.scrape().sum("strata_probes_total", &[("result", "passed")]);
        let before = probes(&strata);
        await_that("probes go on", || probes(&strata) >= before + 4.0);
        assert_eq!(strata.scrape().sum("strata_endpoint_up", &[]), 2.0, "{}", strata.log_tail());
    }
    assert!(!strata.log().contains("to=\"down\"") && !strata.log().contains("ejected"), "{}", strata.log_tail());
    kept.send(GET);
    assert_eq!(kept.response().unwrap().status(), 200, "the idle connection lives");
    [&one, &two].iter().for_each(|gated| gated.open());
    assert_eq!(waiting.response().unwrap().status(), 200, "so does the request");
}

/// What schedules, times out or ages goes by the monotonic clock: the wall clock, which may jump, is read for
/// people alone.
#[test]
fn j11_the_wall_clock_is_read_for_records_and_timestamps_alone() {
    const READERS: &[(&str, &str)] = &[
        ("src/app/discovery.rs", "when a source last answered, to be shown"),
        ("src/app/supervisor/reload.rs", "when a configuration came into force, a metric"),
        ("src/base/clock.rs", "the reader itself"),
        ("src/cli/events.rs", "how long ago a change was, to be shown"),
        ("src/mode/l4/report.rs", "access records"),
        ("src/mode/l7/exchange.rs", "access records"),
        ("src/mode/l7/mod.rs", "access records"),
        ("src/observe/events.rs", "when something changed, to be shown"),
    ];
    let mut found = Vec::new();
    look(Path::new("src"), &mut found);
    found.sort();
    let known: Vec<&str> = READERS.iter().map(|(file, _)| *file).collect();
    assert_eq!(found, known, "a file reads the wall clock: is it for people? Then it may stand here, with what for");
}

fn look(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, found);
        } else if !path.ends_with("tests.rs")
            && fs::read_to_string(&path)
                .is_ok_and(|text| text.contains("clock::wall()") || text.contains("SystemTime::now"))
        {
            found.push(path.display().to_string());
        }
    }
}
