//! The first world: endpoints behind L7 and L4, a Prometheus in another container that scrapes it, dashboards that are provisioned.

use std::process::Command;

use super::common::{holds_within, metrics, wire::Wire};
use super::engine::{PATIENCE, Project, await_that, can, docker, root, said};

/// Base images that cannot be pulled: those that are not here have stand-ins.
pub fn bases(which: &[&str]) {
    let output = Command::new(root().join("tests/docker/bases")).arg("make").args(which).output().expect("bash");
    assert!(output.status.success(), "tests/docker/bases: {}", said(&output));
}

#[test]
fn the_first_world_comes_up_is_scraped_and_says_where_clients_seem_to_be_a_gateway() {
    let Some(_one) = can("the first world") else { return };
    bases(&["prometheus", "grafana"]);
    let project = Project::new();
    project.compose(&["up", "--detach"]);
    let output = project.try_compose(&["run", "--rm", "-T", "try"]);
    assert!(output.status.success(), "{}\n{}", said(&output), project.logs());
    for service in ["strata", "prometheus", "grafana"] {
        project.await_healthy(service);
    }

    // Another container asks, and has data.
    let prometheus = project.port("prometheus", 9090);
    let value = |query: &str| {
        let answer = metrics::get(prometheus, &format!("/api/v1/query?query={query}"));
        let answer: serde_json::Value = serde_json::from_str(&answer.text()).unwrap_or_default();
        answer["data"]["result"][0]["value"][1].as_str().and_then(|value| value.parse::<f64>().ok())
    };
    await_that("Prometheus has Strata's metrics", || value("sum(strata_requests_total)").is_some_and(|sum| sum > 0.0));
    assert_eq!(value("sum(strata_endpoint_up)"), Some(4.0), "three of one pool, and one of them in another");

    // Through the published port the engine's proxy connects, and every client is the bridge.
    let edge = project.port("strata", 8080);
    let networks = docker(&["inspect", "--format={{json .NetworkSettings.Networks}}", &project.container("strata")]);
    let networks: serde_json::Value = serde_json::from_str(&networks).unwrap();
    let open = networks.as_object().unwrap().iter().find(|(name, _)| name.ends_with("_default")).unwrap().1;
    let gateway = open["Gateway"].as_str().unwrap();
    let seen = ask(edge, "/").1;
    assert!(seen.contains(&format!("x-forwarded-for: {gateway}")), "no client is masked here: {seen}");
    assert!(!project.strata("strata", &["events"]).contains("gateway"), "too early");
    for _ in 0..60 {
        assert_eq!(ask(edge, "/").0, 200);
    }
    let events = project.strata("strata", &["events"]);
    let warned = events.lines().filter(|line| line.contains("every client seems to be this host's gateway")).count();
    assert_eq!(warned, 1, "{events}");
    let mut wire = Wire::connect(project.port("strata", 9900));
    let token = "for-trying-out-only";
    wire.send(format!("GET /api/diagnostics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"));
    let found: serde_json::Value = serde_json::from_str(&wire.response().expect("an answer").text()).unwrap();
    let found: Vec<&serde_json::Value> =
        found["warnings"].as_array().unwrap().iter().filter(|w| w["code"] == "W018").collect();
    assert!(
        found.len() == 1
            && found[0]["message"].as_str().unwrap().contains("service web")
            && found[0]["line"].as_u64() > Some(0),
        "{found:?}"
    );

    // A client with an address of its own, and it is over.
    project.compose(&["run", "--rm", "-T", "try"]);
    let cleared =
        holds_within(PATIENCE, || !project.strata("strata", &["status", "--json"]).contains("\"warnings\": 1"));
    assert!(cleared, "the warning stays");
    assert_eq!(project.down(), "", "something is left");
}

/// Status and body of a GET on a connection of its own.
fn ask(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let answer = metrics::get(address, path);
    (answer.status(), answer.text())
}
