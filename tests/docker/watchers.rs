//! The first world: endpoints behind L7 and L4, a Prometheus in another container that scrapes it, dashboards that are provisioned.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use super::asked::{self, Wanted};
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
    let config = project.path("deploy/prometheus/prometheus.yml");
    let text = fs::read_to_string(&config).unwrap();
    let targets = format!("\"strata:9901\", \"{}.3.2:9901\"", project.variable("STRATA_NET"));
    assert!(text.contains("\"strata:9901\""), "{text}");
    fs::write(&config, text.replace("\"strata:9901\"", &targets)).unwrap();
    project.compose(&["up", "--detach"]);
    let output = project.try_compose(&["run", "--rm", "-T", "try"]);
    assert!(output.status.success(), "{}\n{}", said(&output), project.logs());
    for service in ["strata", "prometheus", "grafana"] {
        project.await_healthy(service);
    }

    // Another container asks, and has data.
    let prometheus = project.port("prometheus", 9090);
    let value = |query: &str| {
        let data = asked::data(&metrics::get(prometheus, &asked::path(query)));
        data.ok().and_then(|data| asked::series(&data).first().map(|series| series.value))
    };
    await_that("Prometheus has Strata's metrics", || value("sum(strata_requests_total)").is_some_and(|sum| sum > 0.0));
    let up = "sum(strata_endpoint_up{instance=\"strata:9901\"})";
    assert_eq!(value(up), Some(4.0), "three of one pool, and one of them in another");
    answers_every_query(prometheus, &project);

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

/// Everything that dashboards and alerts ask is understood, and answered with a number. What the first world has not (a VIP, packets,
/// NAT) has that of l3, which the same Prometheus scrapes.
fn answers_every_query(prometheus: SocketAddr, project: &Project) {
    let Some(mut wanted) = asked::wanted() else { return };
    project.compose(&["run", "--rm", "-T", "try-l3"]);
    let network = format!("{}_l3-clients", docker(&["inspect", PROJECT, &project.container("prometheus")]));
    docker(&["network", "connect", &network, &project.container("prometheus")]);
    let ask = |wanted: &Wanted| asked::data(&metrics::get(prometheus, &asked::path(&wanted.query)));
    let is_elsewhere = |query: &str| ELSEWHERE.iter().any(|part| query.contains(part));
    assert!(wanted.len() > 180, "{}", wanted.len());
    let all_are = || {
        for service in ["try", "try-l3"] {
            project.compose(&["run", "--rm", "-T", service]);
        }
        wanted.retain(|wanted| {
            let answer = ask(wanted).unwrap_or_else(|error| panic!("{}: {}: {error}", wanted.place, wanted.query));
            !is_elsewhere(&wanted.query) && !wanted.is_answered(&asked::series(&answer))
        });
        wanted.is_empty()
    };
    let right = holds_within(PATIENCE, all_are);
    let shown = |wanted: &Wanted| format!("{}: {}: {:?}", wanted.place, wanted.query, ask(wanted));
    assert!(right, "no answer for\n{}", wanted.iter().map(shown).collect::<Vec<_>>().join("\n"));
}

/// What these worlds have not, and the site of tests/dashboards has: full NAT, a table that nodes compare, and what is broken. It is
/// asked for here as well, and brings nothing.
const ELSEWHERE: &[&str] =
    &["strata_nat_ports_", "strata_table_fingerprint", "ALERTS{", "strata_service_info{engine=\"none\"}"];

/// How Compose names what is of a container's project.
const PROJECT: &str = "--format={{index .Config.Labels \"com.docker.compose.project\"}}";

/// Status and body of a GET on a connection of its own.
fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = metrics::get(address, path);
    (answer.status(), answer.text())
}
