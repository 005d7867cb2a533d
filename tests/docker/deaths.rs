//! Endpoints' containers are killed, stopped, paused and made anew under load: no GET fails at L7, and at L4 a connection is lost only
//! with its own endpoint.

use std::time::Duration;

use super::common::wire::Wire;
use super::engine::{Project, await_that, can, docker};
use super::load::{Kind, Load};

/// Waits until Strata finds the endpoint at that address so.
fn await_health(project: &Project, address: &str, health: &str) {
    await_that(&format!("{address} is {health}"), || {
        let status: serde_json::Value = serde_json::from_str(&project.strata("strata", &["status", "--json"])).unwrap();
        let pools = status["pools"].as_array().unwrap();
        let pool = pools.iter().find(|pool| pool["name"] == "echo").unwrap();
        let endpoint = pool["endpoints"].as_array().unwrap().iter().find(|endpoint| endpoint["name"] == address);
        endpoint.is_some_and(|endpoint| endpoint["health"] == health)
    });
}

#[test]
fn no_get_fails_while_endpoints_are_killed_stopped_paused_and_made_anew() {
    let Some(_one) = can("deaths of endpoints under load") else { return };
    let project = Project::new();
    project.compose(&["up", "--detach", "strata", "echo-1", "echo-2", "echo-3"]);
    project.await_healthy("strata");
    let at = |last: u8| format!("{}.0.{last}:8080", project.variable("STRATA_NET"));
    for last in 11..=13 {
        await_health(&project, &at(last), "up");
    }
    let (l7, l4) = (project.port("strata", 8080), project.port("strata", 9000));

    // Connections of L4 that are kept, and whose endpoints are known.
    let mut relayed: Vec<(String, Wire)> = (0..12)
        .map(|_| {
            let mut wire = Wire::connect(l4);
            (ask(&mut wire).expect("an endpoint"), wire)
        })
        .collect();
    assert!((1..=3).all(|n| relayed.iter().any(|(name, _)| *name == format!("echo-{n}"))), "all three have some");

    let mut load = Load::start();
    load.clients(Kind::Fresh, 4, l7, "/", Duration::from_millis(10));
    load.clients(Kind::Reopened, 8, l7, "/", Duration::from_millis(10));
    load.await_more(200);

    let container = |n: u8| project.container(&format!("echo-{n}"));
    let one = container(1);
    docker(&["kill", &one]);
    await_health(&project, &at(11), "down");
    load.await_more(200);
    relayed.retain_mut(|(name, wire)| {
        let answered = ask(wire);
        match name.as_str() {
            "echo-1" => assert_eq!(answered, None, "its endpoint was killed"),
            _ => assert_eq!(answered.as_ref(), Some(&*name), "another's connection was lost"),
        }
        answered.is_some()
    });
    docker(&["start", &one]);
    await_health(&project, &at(11), "up");

    let two = container(2);
    docker(&["stop", &two]);
    load.await_more(200);
    docker(&["start", &two]);
    await_health(&project, &at(12), "up");

    // The kernel of a paused container takes connections and requests, and nobody answers them.
    let three = container(3);
    docker(&["pause", &three]);
    await_health(&project, &at(13), "down");
    load.await_more(200);
    docker(&["unpause", &three]);
    await_health(&project, &at(13), "up");

    project.compose(&["up", "--detach", "--no-deps", "--force-recreate", "echo-1"]);
    load.await_more(200);
    await_health(&project, &at(11), "up");

    let seen = load.stop();
    println!("{:.0} requests a second, {:?}", seen.rate(), seen.all());
    seen.assert_nothing_lost();
    let mut names: Vec<String> =
        relayed.iter_mut().filter(|(name, _)| name == "echo-3").filter_map(|(_, wire)| ask(wire)).collect();
    names.dedup();
    assert_eq!(names, ["echo-3"], "what was relayed to the paused endpoint went on when it did");
}

/// Who answers on this connection.
fn ask(wire: &mut Wire) -> Option<String> {
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.response().ok()?.field("x-endpoint")
}
