//! What the process tells: metrics and access records.

use std::io::Write as _;
use std::process::{Command, Stdio};

use strata::observe::names::{self, Group, Kind};

use super::cli::ask;
use super::common::metrics::get;
use super::common::{Strata, await_that, skip};
use super::{GET, Gated, edge};

/// All modes, all kinds of pool.
fn everything(gated: &Gated) -> String {
    let (edge, address, l4) = (edge(&[gated.address()]), gated.address(), super::common::free_address());
    let other = super::common::free_address();
    format!(
        "{edge}[service.raw]\nmode = \"l4\"\nlisten = \"{l4}\"\npool = \"hashed\"\n[pool.hashed]\nbalance = \"maglev\"\n\
         probe = \"tcp\"\nendpoints = [\"{address}\"]\n\
         [service.listed]\nmode = \"l4\"\nlisten = \"{other}\"\npool = \"listed\"\n[pool.listed]\n\
         source = {{ type = \"file\", path = \"listed.json\" }}\n"
    )
}

#[test]
fn every_metric_exists_from_the_start_and_promtool_finds_nothing_wrong() {
    let gated = Gated::new("web");
    let strata = Strata::start_in(&everything(&gated), |folder| {
        std::fs::write(folder.join("listed.json"), "[\"10.0.0.1:80\"]").unwrap();
    });
    let metrics = strata.scrape();
    for metric in names::ALL.iter().filter(|metric| metric.group != Group::Packets) {
        let name = match metric.kind {
            Kind::Histogram => format!("{}_count", metric.name),
            _ => metric.name.to_owned(),
        };
        assert!(metrics.has(&name, &[]), "{name} is not there before anything has happened");
    }
    let silent =
        ["strata_requests_total", "strata_drops_total", "strata_retries_total", "strata_upstream_errors_total"];
    for name in silent {
        assert!(metrics.has(name, &[]) && metrics.sum(name, &[]) == 0.0, "{name}");
    }
    for reason in strata::base::Reason::ALL.iter().filter(|reason| !reason.is_of_packets()) {
        assert!(metrics.has("strata_drops_total", &[("reason", reason.word())]), "{}", reason.word());
    }
    let traffic = ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /\"\\ HTTP/1.1\r\nHost: b\r\n\r\n", "nonsense\r\n\r\n"];
    for request in traffic {
        strata.ask(request);
    }
    let text = get(strata.metrics, "/metrics").text();
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        assert!(text.contains(name), "{name}");
    }
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else { return skip("promtool check metrics", "promtool is not installed") };
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}

#[test]
fn the_series_of_what_a_reload_removes_vanish_and_the_others_go_on() {
    let gated = Gated::new("web");
    let strata = Strata::start(&everything(&gated));
    assert_eq!(strata.ask(GET).status(), 200);
    strata.rewrite(&edge(&[gated.address()]));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    let text = get(strata.metrics, "/metrics").text();
    for gone in ["service=\"raw\"", "pool=\"hashed\""] {
        assert!(!text.contains(gone), "{gone}:\n{text}");
    }
    assert_eq!(strata.scrape().sum("strata_requests_total", &[("service", "edge"), ("code", "200")]), 1.0);
    strata.rewrite(&everything(&gated));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    let metrics = strata.scrape();
    assert!(metrics.has("strata_connections_total", &[("service", "raw")]));
    assert_eq!(metrics.sum("strata_requests_total", &[("service", "edge"), ("code", "200")]), 1.0);
}

#[test]
fn access_records_say_why_in_both_formats() {
    let gated = Gated::new("web");
    let l4 = super::common::free_address();
    let combined = super::common::free_address();
    let nobody = super::common::free_address();
    let address = gated.address();
    let strata = Strata::start(&format!(
        r#"
[access_log]
format = "json"
[service.edge]
mode = "l7"
listen = "{{edge}}"
[[service.edge.route]]
url = "/known/*"
pool = "web"
[[service.edge.route]]
url = "/dead/*"
pool = "dead"
[service.combined]
mode = "l7"
listen = "{combined}"
access_log = "combined"
[[service.combined.route]]
url = "/known/*"
pool = "web"
[service.raw]
mode = "l4"
listen = "{l4}"
pool = "dead"
[pool.web]
endpoints = ["{address}"]
[pool.dead]
endpoints = ["{nobody}"]
"#
    ));
    let ask = |to, target: &str| {
        let mut wire = super::common::Wire::connect(to);
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\"y\r\n\r\n"));
        wire.response().unwrap().status()
    };
    // The target, what is answered, and the word for it.
    let cases =
        [("/known/a", 200, None), ("/unknown", 404, Some("no-route")), ("/dead/b", 502, Some("connect-failed"))];
    for (target, status, _) in cases {
        assert_eq!(ask(strata.edge, target), status, "{target}");
    }
    let mut malformed = strata.connect();
    malformed.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(malformed.response().unwrap().status(), 400);
    for (target, status, _) in &cases[..2] {
        assert_eq!(ask(combined, target), *status, "{target}");
    }
    let mut raw = super::common::Wire::connect(l4);
    raw.rest();

    await_that("all records", || strata.stdout().lines().count() >= 7);
    let stdout = strata.stdout();
    let (json, plain): (Vec<&str>, Vec<&str>) = stdout.lines().partition(|line| line.starts_with('{'));
    let json: Vec<serde_json::Value> = json.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (target, status, why) in cases {
        let record =
            json.iter().find(|record| record["target"] == target).unwrap_or_else(|| panic!("{target}: {stdout}"));
        assert_eq!((&record["status"], record["why"].as_str()), (&status.into(), why), "{record}");
        assert_eq!((&record["service"], &record["host"]), (&"edge".into(), &"a.example".into()), "{record}");
        assert_eq!(record["user_agent"], "x\"y", "{record}");
    }
    let refused = json.iter().find(|record| record["status"] == 400).unwrap_or_else(|| panic!("{stdout}"));
    assert!(refused["why"].as_str().is_some_and(|why| !why.is_empty()), "{refused}");
    let relay = json.iter().find(|record| record["service"] == "raw").unwrap_or_else(|| panic!("{stdout}"));
    assert_eq!(relay["why"], "connect-failed", "{relay}");

    assert_eq!(plain.len(), 2, "{stdout}");
    let line = |target: &str| *plain.iter().find(|line| line.contains(target)).unwrap();
    assert!(line("/unknown").ends_with(" no-route") && line("/unknown").contains("\" 404 "), "{stdout}");
    assert!(
        line("/known/a").ends_with(" -") && line("/known/a").contains("\"GET /known/a HTTP/1.1\" 200 "),
        "{stdout}"
    );
}
