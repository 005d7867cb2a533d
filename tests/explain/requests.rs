//! Requests explained: from a file, and by the running Strata, whose answer a real request then gets.

use serde_json::Value;

use super::cli::{Echo, ask, await_usable, strata};
use super::common::{Strata, await_that};

#[test]
fn a_request_is_explained_from_listener_to_endpoint() {
    let said = strata(&["explain", "--config", "conf/strata.toml", "GET http://api.example.com/v1/users"]);
    assert_eq!(said.code, 0, "{said:?}");
    for line in [
        "service   edge: l7",
        "route   > api.example.com/v1/*  pool api  conf/strata.toml:",
        "wins: a route with a host goes before one without",
        "        + X-Forwarded-For: 198.51.100.7",
        "pool      api: p2c, 2 of 2 usable",
        "verdict   forward: to pool api",
    ] {
        assert!(said.out.contains(line), "no {line:?} in\n{}", said.out);
    }
    assert!(said.out.lines().all(|line| line.len() <= 140), "{}", said.out);
    // Heads in the order of what happens, each once.
    let heads: Vec<&str> =
        said.out.lines().filter_map(|line| line.split("  ").next()).filter(|head| !head.is_empty()).collect();
    assert_eq!(
        heads[..8],
        ["request", "from", "listener", "service", "route", "sends", "pool", "choice"],
        "{}",
        said.out
    );
}

#[test]
fn every_balance_tells_how_it_picks() {
    for (path, certain) in [
        ("round-robin", false),
        ("weighted", false),
        ("random", false),
        ("first", true),
        ("least", false),
        ("source", true),
        ("ring", true),
        ("rendezvous", true),
        ("maglev", true),
        ("p2c", false),
    ] {
        let request = format!("GET http://a.test/{path}/x");
        let said = strata(&["explain", "--config", "conf/balance.toml", "--json", &request]);
        let told: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!(told["choice"]["certain"], certain, "{path}: {told:#}");
        let sum: f64 =
            told["pool"]["endpoints"].as_array().unwrap().iter().map(|e| e["chance"].as_f64().unwrap()).sum();
        assert!((sum - 100.0).abs() < 0.5, "{path}: {told:#}");
    }
}

#[test]
fn a_mistake_in_the_question_says_the_way_out() {
    let file = ["explain", "--config", "conf/strata.toml"];
    for (arguments, code, want) in [
        (&["GET https://a.test/"][..], 2, "plain HTTP for now"),
        (&["GET /", "--from", "me"], 2, "is no address"),
        (&["GET /", "--header", "X"], 2, "has no colon"),
        (&["GET /", "--live"], 2, "cannot be used with"),
        (&["GET /", "--service", "egde"], 1, "--service: `egde` is no service: did you mean `edge`?"),
        (&["GET /", "--in", "eth0"], 1, "--in is said of a packet"),
        (&["tcp 198.51.100.7:4242 > 10.0.0.100:80", "--from", "10.0.0.1"], 1, "--from is said of a request"),
    ] {
        let said = strata(&[&file[..], arguments].concat());
        assert!(said.code == code && said.err.contains(want) && said.out.is_empty(), "{arguments:?}: {said:?}");
    }
}

#[test]
fn a_packet_to_a_listener_is_explained_as_its_connection() {
    let explain = |packet: &str| strata(&["explain", "--config", "conf/all-layers.toml", packet]);
    let said = explain("tcp 198.51.100.7:4242 > 10.0.0.2:5432");
    assert!(said.out.contains("service   database: l4") && said.out.contains("choice    one of 2"), "{said:?}");
    let said = explain("tcp 198.51.100.7:4242 > 10.0.0.2:80");
    assert!(said.out.contains("service   site: l7") && said.out.contains("for each request to say"), "{said:?}");
    let said = explain("tcp 198.51.100.7:4242 > 10.0.0.100:80");
    assert!(said.out.contains("service   game: l2") && said.out.contains("\nslot "), "{said:?}");
}

fn live(running: &Strata, request: &str, more: &[&str]) -> Value {
    let said = ask(running, &[&["explain", "--json", request], more].concat());
    assert_eq!(said.code, 0, "{said:?}\n{}", running.log_tail());
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// What is said of a user is what the user gets, before and after an endpoint is drained.
#[test]
fn the_running_strata_explains_what_a_request_then_gets() {
    let echoes = ["one", "two", "three"].map(Echo::start);
    let endpoints = echoes.each_ref().map(|echo| format!("\"{}\"", echo.address)).join(", ");
    let body = |comment: &str| {
        format!(
            "{comment}[service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n\
             [[service.web.route]]\nurl = \"a.test/x\"\npool = \"web\"\n\
             [pool.web]\nbalance = {{ type = \"maglev\", key = \"header:x-user\" }}\nendpoints = [{endpoints}]\n"
        )
    };
    let running = Strata::start(&body(""));
    let url = format!("GET http://{}/x", running.edge);
    let told = |user: &str| live(&running, &url, &["--header", "Host: a.test", "--header", &format!("X-User: {user}")]);
    let gets = |user: &str| {
        let request = format!("GET /x HTTP/1.1\r\nHost: a.test\r\nX-User: {user}\r\nConnection: close\r\n\r\n");
        running.ask(request).field("x-endpoint").unwrap_or_default()
    };
    let agree = |user: &str| {
        let told = told(user);
        let endpoint = told["choice"]["endpoint"].as_str().unwrap_or_default().to_owned();
        let named = echoes.iter().find(|echo| echo.address.to_string() == endpoint).map(|echo| &*echo.name);
        assert_eq!(named, Some(&*gets(user)), "{user}: {told:#}");
        endpoint
    };
    let before: Vec<String> = ["ann", "ben", "cem", "dan", "eva", "fay"].iter().map(|user| agree(user)).collect();
    assert!(before.iter().any(|endpoint| *endpoint != before[0]), "all users go to {}", before[0]);
    assert_eq!(ask(&running, &["drain", "web", &before[0]]).code, 0);
    await_usable(&running, "web", 2.0);
    let after = agree("ann");
    assert_ne!(after, before[0]);
    let drained = &told("ann")["pool"];
    let endpoint = drained["endpoints"].as_array().unwrap().iter().find(|e| e["name"] == before[0].as_str()).unwrap();
    assert_eq!((&endpoint["intent"], &endpoint["usable"]), (&"draining".into(), &false.into()), "{drained:#}");

    // Lines written above a route are no change of its service, and yet it stands elsewhere.
    let line = told("ann")["route"]["line"].as_u64().unwrap();
    running.rewrite(&body("# one\n# two\n"));
    assert_eq!(ask(&running, &["reload"]).code, 0);
    assert_eq!(told("ann")["route"]["line"].as_u64(), Some(line + 2));
    let said = ask(&running, &["explain", &url, "-H", "Host: a.test"]);
    assert!(said.out.contains("as it is now, in generation 2"), "{said:?}");
    let said = ask(&running, &["explain", &format!("tcp 198.51.100.7:4242 > {}", running.edge)]);
    assert!(said.out.contains("service   web: l7"), "{said:?}");
    let said = ask(&running, &["explain", "udp 198.51.100.7:4242 > 10.0.0.1:53"]);
    assert!(said.code == 1 && said.err.contains("there is no service of packets"), "{said:?}");
}

#[test]
fn an_endpoint_that_is_down_says_why_in_the_story() {
    let mut echo = Echo::start("one");
    let running = Strata::start(&format!(
        "[service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\n\
         probe = {{ type = \"tcp\", interval = \"100ms\", timeout = \"100ms\", rise = 1, fall = 1 }}\n\
         endpoints = [\"{}\"]\n",
        echo.address
    ));
    await_usable(&running, "web", 1.0);
    echo.kill();
    await_usable(&running, "web", 0.0);
    let url = format!("GET http://{}/", running.edge);
    await_that("the cause is told", || {
        let told = live(&running, &url, &[]);
        told["verdict"]["why"] == "no-endpoint" && told["pool"]["endpoints"][0]["cause"].is_string()
    });
    let said = ask(&running, &["explain", &url]);
    assert!(said.out.contains("not usable: probe failed: "), "{said:?}");
    assert!(said.out.contains("verdict   refuse: no-endpoint, status 503"), "{said:?}");
    assert_eq!(running.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status(), 503);
}
