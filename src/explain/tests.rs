//! Questions as people write them, and answers against the snapshot of a small file.

use super::*;
use crate::app::imagined::all_up;
use crate::base::{HashKey, Moment};
use crate::config;
use crate::health::{Health, Intent};
use crate::state::{Seat, Snapshot, Status};

const TEXT: &str = r#"
[cluster]
hash_key = "0123456789abcdef"
[service.edge]
mode = "l7"
listen = [":80", "10.0.0.1:8080"]
limits = { max_body = "1KiB" }
trusted_proxies = "10.9.0.0/16"
[[service.edge.route]]
url = "a.test/v1/*"
pool = "sticky"
[[service.edge.route]]
url = "a.test/v1/users"
pool = "turns"
[[service.edge.route]]
url = "*.test"
pool = "chance"
[[service.edge.route]]
url = "b.test/empty"
pool = "empty"
[service.other]
mode = "l7"
listen = "10.0.0.2:8080"
pool = "first"
[service.db]
mode = "l4"
listen = "10.0.0.1:5432"
pool = "least"
[pool.sticky]
balance = { type = "ring-hash", key = "header:x-user" }
endpoints = ["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"]
[pool.turns]
balance = "weighted-round-robin"
endpoints = ["10.1.0.1:80", { address = "10.1.0.2:80", weight = 2 }]
[pool.chance]
balance = "random"
endpoints = ["10.1.0.1:80", "10.1.0.2:80"]
[pool.first]
balance = "first"
endpoints = ["10.1.0.1:80", "10.1.0.2:80"]
[pool.least]
balance = "least-connections"
endpoints = ["10.1.0.1:80", "10.1.0.2:80"]
[pool.empty]
endpoints = []
[service.spare]
mode = "l7"
listen = ":81"
pool = "spare"
[pool.spare]
balance = "first"
limits = { max_requests = 7 }
endpoints = ["10.1.0.1:80", { address = "10.1.0.2:80", backup = true }]
"#;

fn snapshot() -> Snapshot {
    let loaded = crate::app::load::parse("t.toml", TEXT.as_bytes().to_vec(), &crate::doc::Nowhere);
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let machine = config::Machine { cores: 1, random_key: HashKey::new([3; 16]) };
    let empty = crate::app::load::nothing();
    let snapshot = config::compile(&config, &empty, &machine).unwrap();
    all_up(&snapshot);
    snapshot
}

fn ask(snapshot: &Snapshot, live: bool, request: &str, from: Option<&str>, headers: &[&str]) -> Story {
    let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
    let asked = Asked { request, headers: &headers, from, service: None };
    let question = asked.read().unwrap_or_else(|fault| panic!("{request}: {fault}"));
    let scene = Scene { snapshot, now: Moment::from_millis(5), live, random_key: false, cause: &|_, _| None };
    super::request(&scene, &question).unwrap_or_else(|fault| panic!("{request}: {fault}"))
}

#[test]
fn what_a_person_writes_becomes_the_bytes_of_a_head() {
    for (request, headers, port, want) in [
        ("GET http://a.test/x", &[][..], Some(80), "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("http://A.test:81", &[], Some(81), "GET / HTTP/1.1\r\nHost: A.test:81\r\n\r\n"),
        ("a.test/x?y=1", &[], Some(80), "GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("PUT http://[::1]:8080?q", &[], Some(8080), "PUT /?q HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"),
        ("GET http://a.test/ HTTP/1.0", &[], Some(80), "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"),
        ("GET /x", &["host: b.test"], None, "GET /x HTTP/1.1\r\nhost: b.test\r\n\r\n"),
        ("GET http://10.0.0.1/", &["Host: b", "A: c"], Some(80), "GET / HTTP/1.1\r\nHost: b\r\nA: c\r\n\r\n"),
        // Mistakes are the parser's to name.
        ("GET http://a.test/../%2f x", &[], Some(80), "GET /../%2f x HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("GET http://a.test:x/", &[], Some(80), "GET / HTTP/1.1\r\nHost: a.test:x\r\n\r\n"),
    ] {
        let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
        let question = Asked { request, headers: &headers, ..Asked::default() }.read().unwrap();
        assert_eq!(String::from_utf8(question.head).unwrap(), want, "{request}");
        assert_eq!(question.to.map(|to| to.port), port, "{request}");
    }
}

#[test]
fn what_cannot_be_understood_names_its_part_and_the_way_out() {
    let two_hosts = ["Host: a", "X"];
    for (request, headers, from, part, want) in [
        ("", &[][..], None, "request", "a method and a URL, as in 'GET http://a.test/x'"),
        ("GET", &[], None, "request", "a method and a URL"),
        ("GET http:///x", &[], None, "request", "names no host"),
        ("GET http://[::1/", &[], None, "request", "IPv6 is written [2001:db8::1]"),
        ("GET https://a.test/", &[], None, "request", "plain HTTP for now"),
        ("GET ftp://a.test/", &[], None, "request", "no scheme of requests"),
        ("GET http://a.test/\r\nHost: b", &[], None, "request", "control character"),
        ("GET /", &two_hosts, None, "header", "has no colon"),
        ("GET /", &["A: b\r\nC: d"], None, "header", "control character"),
        ("GET /", &[], Some("me"), "from", "is no address: write 10.1.0.9"),
    ] {
        let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
        let fault = Asked { request, headers: &headers, from, service: None }.read().unwrap_err();
        assert!(fault.part == part && fault.why.contains(want), "{request}: {fault}");
    }
    let many = vec!["A: b".to_owned(); 200];
    assert_eq!(Asked { request: "GET /", headers: &many, ..Asked::default() }.read().unwrap_err().part, "header");
}

#[test]
fn a_request_is_told_by_what_would_serve_it() {
    let snapshot = snapshot();
    for (request, headers, service, pool, verdict) in [
        ("GET http://a.test/v1/x", &[][..], "edge", "sticky", "forward"),
        ("GET http://A.test./v1/./users", &[], "edge", "turns", "forward"),
        ("GET http://b.test/", &[], "edge", "chance", "forward"),
        ("GET http://10.0.0.2:8080/x", &["Host: a.test"], "other", "first", "forward"),
        ("GET http://10.0.0.1:5432/", &[], "db", "least", "forward"),
        ("GET http://a.example/", &[], "edge", "", "refuse no-route 404"),
        ("GET http://b.test/empty", &[], "edge", "empty", "refuse no-endpoint 503"),
        ("POST http://a.test/v1/x", &["Content-Length: 1025"], "edge", "", "refuse body-too-large 413"),
        ("GET http://a.test/%2f", &[], "edge", "", "refuse escaped-slash 400"),
        ("GET http://a..test/", &[], "edge", "", "refuse bad-host 400"),
        ("GET http://a.test/", &["Host: a", "Host: b"], "edge", "", "refuse repeated-host 400"),
        ("TRACE http://a.test/", &[], "edge", "", "refuse method-refused 405"),
        ("GET http://a.test:82/", &[], "", "", "unreached"),
    ] {
        let story = ask(&snapshot, false, request, None, headers);
        let verdict_of = |story: &Story| {
            let status = story.verdict.status.map(|status| status.to_string());
            let words = [Some(story.verdict.action.clone()), story.verdict.why.clone(), status];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(verdict_of(&story), verdict, "{request}\n{story}");
        assert_eq!(story.service.as_ref().map_or("", |service| &service.name), service, "{request}\n{story}");
        assert_eq!(story.pool.as_ref().map_or("", |pool| &pool.name), pool, "{request}\n{story}");
    }
}

#[test]
fn it_takes_a_name_where_the_address_does_not_say_the_service() {
    let snapshot = snapshot();
    let scene = Scene { snapshot: &snapshot, now: Moment(1), live: false, random_key: false, cause: &|_, _| None };
    for (request, service, want) in [
        ("GET http://a.test:8080/", None, "which one is meant? `edge` or `other` could be"),
        ("GET /", None, "which one is meant?"),
        ("GET http://a.test/", Some("egde"), "did you mean `edge`?"),
    ] {
        let question = Asked { request, service, ..Asked::default() }.read().unwrap();
        let fault = super::request(&scene, &question).unwrap_err();
        assert!(fault.part == "service" && fault.why.contains(want), "{request}: {fault}");
    }
    let question = Asked { request: "GET http://a.test:8080/", service: Some("other"), ..Asked::default() };
    let story = super::request(&scene, &question.read().unwrap()).unwrap();
    assert_eq!(story.listener.unwrap(), Listener { address: "10.0.0.2:8080".into(), reached: true });
}

#[test]
fn the_winner_says_why_and_the_losers_why_not() {
    let story = ask(&snapshot(), false, "GET http://a.test/v1/users", None, &[]);
    let route = story.route.unwrap();
    assert_eq!(
        (&*route.url, route.because.as_deref(), &*route.file),
        ("a.test/v1/users", Some("exact-path"), "t.toml")
    );
    assert_eq!(TEXT.lines().nth(route.line as usize - 1), Some("[[service.edge.route]]"));
    let others: Vec<_> = story.others.iter().map(|other| (&*other.url, other.fate, &*other.why)).collect();
    assert_eq!(
        others,
        [
            ("a.test/v1/*", Fate::Loses, "an exact path goes before a prefix"),
            ("*.test", Fate::Loses, "an exact host goes before a wildcard"),
        ]
    );
    let story = ask(&snapshot(), false, "GET http://a.example/v1/users", None, &[]);
    assert!(story.others.iter().all(|other| other.fate == Fate::OtherHost) && story.others.len() == 3, "{story}");
}

/// The picker is asked, not imitated: hash and order are certain, draws and turns have shares.
#[test]
fn what_is_certain_is_told_apart_from_what_is_chance() {
    let snapshot = snapshot();
    let chances = |story: &Story| -> Vec<f64> {
        story.pool.as_ref().unwrap().endpoints.iter().map(|endpoint| endpoint.chance.round()).collect()
    };
    let ann = ask(&snapshot, false, "GET http://a.test/v1/x", None, &["X-User: ann"]);
    let choice = ann.choice.clone().unwrap();
    assert!(choice.certain && choice.key.as_deref() == Some("header:x-user = ann"), "{ann}");
    assert!(choice.notes.is_empty(), "a ring without a bound goes by no counts: {ann}");
    // What the published picker says of the same hash.
    let pool = snapshot.pool_named("sticky").unwrap();
    let pick = crate::balance::Pick {
        hash: pool.hash_key().flow(b"ann"),
        now: Moment(1),
        entropy: 9,
        tried: &crate::balance::Tried::new(),
    };
    assert_eq!(choice.endpoint.as_deref(), Some(&*pool.view().pick(&pick).unwrap().1.name));

    let nobody = ask(&snapshot, false, "GET http://a.test/v1/x", None, &[]);
    assert_eq!(nobody.choice.unwrap().key.as_deref(), Some("source-address, for it has no header:x-user"));
    let first = ask(&snapshot, false, "GET http://10.0.0.2:8080/", None, &[]);
    assert_eq!(first.choice.unwrap().endpoint.as_deref(), Some("10.1.0.1:80"));
    let turns = ask(&snapshot, false, "GET http://a.test/v1/users", None, &[]);
    assert_eq!((turns.choice.clone().unwrap().certain, chances(&turns)), (false, vec![33.0, 67.0]), "{turns}");
    let random = ask(&snapshot, false, "GET http://b.test/", None, &[]);
    assert!(chances(&random).iter().all(|chance| (45.0..=55.0).contains(chance)), "{random}");
    assert_eq!(ask(&snapshot, false, "GET http://b.test/", None, &[]), random, "the same question has the same answer");
}

#[test]
fn explaining_moves_nobodys_turn() {
    let snapshot = snapshot();
    let pool = snapshot.pool_named("turns").unwrap();
    let tried = crate::balance::Tried::new();
    let pick = crate::balance::Pick { hash: crate::base::FlowHash(0), now: Moment(1), entropy: 0, tried: &tried };
    let next = || pool.view().pick(&pick).unwrap().0;
    // A period that does not divide how often explaining asks.
    let before: Vec<usize> = (0..3).map(|_| next()).collect();
    let after: Vec<usize> = (0..3)
        .map(|_| {
            ask(&snapshot, true, "GET http://a.test/v1/users", None, &[]);
            next()
        })
        .collect();
    assert_eq!(before, after, "the period comes again");
}

#[test]
fn live_counts_intents_and_causes_are_those_of_the_pool() {
    let snapshot = snapshot();
    let pool = snapshot.pool_named("least").unwrap();
    pool.endpoints[0].load.begin();
    let story = ask(&snapshot, true, "GET http://10.0.0.1:5432/", None, &[]);
    assert_eq!(story.choice.as_ref().unwrap().endpoint.as_deref(), Some("10.1.0.2:80"), "{story}");
    let told = &story.pool.as_ref().unwrap().endpoints[0];
    assert_eq!((told.in_flight, told.score, told.chance), (Some(1), Some(1.0), 0.0));

    let status = pool.endpoints[1].status();
    pool.endpoints[1].set_status(Status { intent: Intent::Draining, ..status });
    pool.publish();
    let question = Asked { request: "GET http://10.0.0.1:5432/", ..Asked::default() }.read().unwrap();
    let cause = |pool: &str, endpoint: &str| (pool == "least" && endpoint == "10.1.0.2:80").then(|| "operator".into());
    let scene = Scene { snapshot: &snapshot, now: Moment(1), live: true, random_key: false, cause: &cause };
    let text = super::request(&scene, &question).unwrap().to_string();
    for line in
        ["10.1.0.2:80  draining, up  weight 1  in flight 0  not usable: operator", "no other endpoint is usable"]
    {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    pool.endpoints[0].set_status(Status { health: Health::Down, ..status });
    pool.publish();
    let story = super::request(&scene, &question).unwrap();
    assert_eq!((story.verdict.why.as_deref(), story.choice), (Some("no-endpoint"), None));
}

/// What the view says of itself is told: who stands by and why, and who serves instead.
#[test]
fn backups_warmth_and_limits_are_told() {
    let snapshot = snapshot();
    let text = ask(&snapshot, true, "GET http://a.test:81/", None, &[]).to_string();
    for line in ["each carries at most 7 at once", "weight 1  in flight 0  backup, stands by"] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    let pool = snapshot.pool_named("spare").unwrap();
    let status = pool.endpoints[0].status();
    pool.endpoints[0].set_status(Status { health: Health::Down, ..status });
    pool.publish();
    let story = ask(&snapshot, true, "GET http://a.test:81/", None, &[]);
    assert_eq!(story.choice.as_ref().unwrap().endpoint.as_deref(), Some("10.1.0.2:80"), "{story}");
    assert!(story.to_string().contains("no primary is usable: backups serve"), "{story}");
    // One that is full is passed by; where all are, the request waits.
    pool.endpoints[0].set_status(status);
    let backup = pool.endpoints[1].status();
    pool.publish();
    (0..7).for_each(|_| pool.endpoints[0].load.begin());
    let text = ask(&snapshot, true, "GET http://a.test:81/", None, &[]).to_string();
    for line in ["in flight 7  full", "every endpoint is full: it would wait for its turn, for 1s at most"] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    pool.endpoints[1].set_status(Status { health: Health::Up, ..backup });
    let two = snapshot.pool_named("first").unwrap();
    two.endpoints[0].set_trial(true);
    two.endpoints[0].load.begin();
    let story = ask(&snapshot, true, "GET http://10.0.0.2:8080/", None, &[]);
    assert!(
        !story.to_string().contains("on trial: one at a time  full"),
        "what is there from before is no trial: {story}"
    );
    let trial = Seat::take_on_trial(&two.endpoints[0], 9);
    assert!(trial.is_some());
    let story = ask(&snapshot, true, "GET http://10.0.0.2:8080/", None, &[]);
    assert_eq!(story.choice.as_ref().unwrap().endpoint.as_deref(), Some("10.1.0.2:80"), "{story}");
    assert!(story.to_string().contains("on trial: one at a time  full"), "{story}");
    let warm = Status { warmth: crate::health::Warmth::tenths(3), ..status };
    pool.endpoints[0].set_status(warm);
    pool.publish();
    let text = ask(&snapshot, true, "GET http://a.test:81/", None, &[]).to_string();
    assert!(text.contains(&format!("weight {:.1} of 1, warming up", warm.weight_in_force())), "{text}");
}

#[test]
fn what_the_endpoint_gets_is_what_workers_write() {
    let snapshot = snapshot();
    let forged = ["X-Forwarded-For: 1.2.3.4", "Connection: close", "Cookie: a=1"];
    let sent = ask(&snapshot, false, "GET http://a.test/v1/../v1/x", Some("10.1.0.9"), &forged).sent.unwrap();
    assert_eq!((&*sent.line, sent.line_changed, sent.trusted), ("GET /v1/x HTTP/1.1", true, false));
    assert_eq!(sent.removed, ["X-Forwarded-For: 1.2.3.4", "Connection: close"]);
    assert!(sent.added.contains(&"X-Forwarded-For: 10.1.0.9".to_owned()), "{sent:?}");
    let sent = ask(&snapshot, false, "GET http://a.test/v1/x", Some("10.9.0.9"), &forged).sent.unwrap();
    assert!(sent.trusted && sent.added.contains(&"X-Forwarded-For: 1.2.3.4, 10.9.0.9".to_owned()), "{sent:?}");
}

#[test]
fn a_key_that_nobody_chose_makes_no_promise() {
    let snapshot = snapshot();
    let question = Asked { request: "GET http://a.test/v1/x", ..Asked::default() }.read().unwrap();
    let scene = Scene { snapshot: &snapshot, now: Moment(1), live: false, random_key: true, cause: &|_, _| None };
    let story = super::request(&scene, &question).unwrap();
    assert!(!story.choice.as_ref().unwrap().certain && story.to_string().contains("the hash key is random"), "{story}");
}

#[test]
fn a_story_survives_its_way_over_the_admin_api() {
    let story = ask(&snapshot(), true, "GET http://a.test/v1/users", Some("10.1.0.9:4242"), &[]);
    let json = serde_json::to_string(&story).unwrap();
    assert_eq!(serde_json::from_str::<Story>(&json).unwrap(), story);
}
