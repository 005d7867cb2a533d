//! Endpoints that stand in no configuration, with the real binary: what a source finds is served, what it loses finishes, and what it
//! says wrongly changes nothing. Hardening rows I9 and I10 are in `tests/hardening/discovery.rs`.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "common/cli.rs"]
mod cli;
mod common;
#[path = "common/dns.rs"]
mod dns;
#[path = "discovery/docker.rs"]
mod docker;
#[path = "discovery/engine.rs"]
mod engine;
#[path = "common/load.rs"]
mod load;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use cli::{ask, await_usable};
use common::{Origin, Rounds, Strata, await_that, free_address};
use dns::{A, AAAA, Dns, Reply, SRV};
use load::{Kind, Load};

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

/// Endpoints on different addresses with one port, as a name's are.
fn fleet(count: usize) -> Vec<Origin> {
    for _ in 0..20 {
        let port = free_address().port();
        let at: Vec<SocketAddr> = (0..count).map(|_| SocketAddr::new(free_address().ip(), port)).collect();
        if let Ok(listeners) = at.iter().map(TcpListener::bind).collect::<Result<Vec<_>, _>>() {
            return listeners
                .into_iter()
                .zip(NAMES)
                .map(|(listener, name)| load::endpoint_on(listener, name))
                .collect();
        }
    }
    panic!("no port that is free on {count} addresses");
}

fn ips(origins: &[Origin]) -> Vec<IpAddr> {
    origins.iter().map(|origin| origin.address.ip()).collect()
}

/// An `l7` service over a pool of this `source`, with more of it.
fn body(source: &str, more: &str) -> String {
    format!(
        "[drain]\ntimeout = \"1s\"\n[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n\
         [pool.web]\nbalance = \"round-robin\"\nsource = {{ {source} }}\n{more}"
    )
}

fn by_name(server: &Dns, port: u16, more: &str) -> String {
    format!(
        "type = \"dns\", name = \"web.internal\", port = {port}, resolver = \"{}\", min_ttl = \"100ms\", timeout = \"2s\", \
         allow = [\"loopback\"], drain = \"20s\"{more}",
        server.address
    )
}

fn get(strata: &Strata) -> String {
    let answer = strata.ask("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    format!("{} {}", answer.status(), answer.text())
}

/// Who answers, of as many requests as are enough for everybody.
fn answerers(strata: &Strata) -> Vec<String> {
    let mut all: Vec<String> = (0..16).map(|_| get(strata)).collect();
    all.sort();
    all.dedup();
    all
}

fn generation(strata: &Strata) -> f64 {
    strata.scrape().sum("strata_config_generation", &[])
}

fn write(path: &Path, text: &str) {
    // As programs that write such files do it: another file takes the place.
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

fn listed(origins: &[&Origin]) -> String {
    let all: Vec<String> = origins.iter().map(|origin| format!("\"{}\"", origin.address)).collect();
    format!("[{}]", all.join(", "))
}

#[test]
fn a_start_waits_for_what_a_name_has_so_that_the_first_request_is_served() {
    let (server, fleet) = (Dns::start(), fleet(2));
    server.addresses("web.internal", &ips(&fleet));
    let port = fleet[0].address.port();
    let strata = Strata::start(&body(&by_name(&server, port, ""), ""));
    assert_eq!(answerers(&strata), ["200 one", "200 two"]);
    let status = ask(&strata, &["status"]);
    assert!(status.out.contains("pool.web") && status.out.contains("answers"), "{}", status.out);
    let metrics = strata.scrape();
    let of = [("source", "pool.web"), ("kind", "dns")];
    assert_eq!((metrics.sum("strata_source_up", &of), metrics.sum("strata_source_members", &of)), (1.0, 2.0));
    assert!(metrics.sum("strata_source_last_success_timestamp_seconds", &of) > 1e9);
    // Where a value came from is told of it too.
    let dump = ask(&strata, &["dump"]);
    assert!(
        dump.out.contains(&format!("\"{}\"", fleet[1].address)) && dump.out.contains("# web.internal"),
        "{}",
        dump.out
    );
    let explained = ask(&strata, &["explain", &format!("GET http://{}/", strata.edge)]);
    assert!(explained.out.contains(&fleet[0].address.to_string()), "{}", explained.out);
}

#[test]
fn scaling_up_and_down_shows_within_a_second_and_costs_no_request() {
    let (server, fleet) = (Dns::start(), fleet(3));
    let all = ips(&fleet);
    server.addresses("web.internal", &all[..1]);
    let strata = Strata::start(&body(&by_name(&server, fleet[0].address.port(), ""), ""));
    let mut load = Load::start();
    load.clients(Kind::Fresh, 3, strata.edge, "/", Duration::from_millis(5));
    load.clients(Kind::Kept, 3, strata.edge, "/", Duration::from_millis(5));
    let (mut before, mut rounds) = (1, Rounds::default());
    for members in [3, 1, 2, 3, 1] {
        let began = Instant::now();
        server.addresses("web.internal", &all[..members]);
        await_usable(&strata, "web", members as f64);
        rounds.add(if members > before { "scaled up" } else { "scaled down" }, began.elapsed());
        before = members;
        load.await_more(50);
    }
    rounds.assert_within(Duration::from_secs(1));
    load.stop().assert_nothing_lost();
    // The cause of a change is told.
    strata.await_log("source dns of pool.web");
    // Those that left are gone for good once they are idle.
    await_that("those that left are removed", || {
        strata.scrape().sum_if_any("strata_endpoint_weight", &[("pool", "web")]) == 1.0
    });
}

#[test]
fn whoever_leaves_finishes_and_gets_nothing_new_and_stays_drained_when_it_returns() {
    let (server, fleet) = (Dns::start(), fleet(2));
    let all = ips(&fleet);
    server.addresses("web.internal", &all);
    let strata = Strata::start(&body(&by_name(&server, fleet[0].address.port(), ""), ""));
    // A WebSocket on each: round robin.
    let mut sockets: Vec<_> = (0..2)
        .map(|_| {
            let mut wire = strata.connect();
            wire.send(load::handshake("/"));
            assert_eq!(wire.response_head().expect("an upgrade").status(), 101);
            wire
        })
        .collect();
    server.addresses("web.internal", &all[..1]);
    await_usable(&strata, "web", 1.0);
    assert_eq!(answerers(&strata), ["200 one"]);
    let source = [("source", "pool.web")];
    assert_eq!(strata.scrape().sum("strata_source_leaving", &source), 1.0);
    let status = ask(&strata, &["status"]);
    assert!(status.out.contains("leaving (up)"), "{}", status.out);
    // What is under way there goes on, longer than an idle one would be kept.
    for round in 0..6 {
        for wire in &mut sockets {
            wire.send(format!("round {round}\n"));
            assert_eq!(wire.bytes(8).expect("the echo"), format!("round {round}\n").as_bytes());
        }
        server.await_asked("web.internal", A, 3);
    }
    assert_eq!(strata.scrape().sum("strata_source_leaving", &source), 1.0, "removed with a connection open");
    // Back again before it is gone, it is the same endpoint.
    server.addresses("web.internal", &all);
    await_usable(&strata, "web", 2.0);
    assert_eq!(answerers(&strata), ["200 one", "200 two"]);
    let two = fleet[1].address.to_string();
    assert_eq!(ask(&strata, &["drain", "web", &two]).code, 0);
    server.addresses("web.internal", &all[..1]);
    await_that("it leaves", || strata.scrape().sum("strata_source_leaving", &source) == 1.0);
    drop(sockets);
    await_that("it is gone once nothing is under way", || strata.scrape().sum("strata_source_leaving", &source) == 0.0);
    assert!(!strata.scrape().has("strata_endpoint_up", &[("endpoint", &two)]));
    // The operator's word is about the server, and not about how often its name was looked up.
    server.addresses("web.internal", &all);
    let draining = [("endpoint", two.as_str()), ("intent", "draining")];
    await_that("it is back, and drained", || strata.scrape().sum_if_any("strata_endpoint_state", &draining) == 1.0);
    assert_eq!(answerers(&strata), ["200 one"]);
}

#[test]
fn edits_of_a_listed_file_under_load_lose_nothing_and_a_wrong_one_changes_nothing() {
    let origins: Vec<Origin> = NAMES.iter().take(3).map(|name| load::endpoint(name)).collect();
    let [one, two, three] = [&origins[0], &origins[1], &origins[2]];
    let first = listed(&[one]);
    let strata = Strata::start_in(&body("type = \"file\", path = \"web.json\", drain = \"20s\"", ""), |folder| {
        write(&folder.join("web.json"), &first);
    });
    let file = strata.folder().join("web.json");
    assert_eq!(answerers(&strata), ["200 one"]);
    let mut load = Load::start();
    load.clients(Kind::Fresh, 3, strata.edge, "/", Duration::from_millis(5));
    load.clients(Kind::Kept, 3, strata.edge, "/", Duration::from_millis(5));
    let mut rounds = Rounds::default();
    for (text, usable) in [
        (listed(&[one, two, three]), 3.0),
        (listed(&[three]), 1.0),
        (format!("[{{\"targets\": {}, \"labels\": {{\"weight\": \"3\"}}}}]", listed(&[one, two])), 2.0),
    ] {
        let began = Instant::now();
        write(&file, &text);
        await_usable(&strata, "web", usable);
        rounds.add("an edit", began.elapsed());
        load.await_more(50);
    }
    rounds.assert_within(Duration::from_secs(1));
    let weight =
        |origin: &Origin| strata.scrape().sum("strata_endpoint_weight", &[("endpoint", &origin.address.to_string())]);
    assert_eq!((weight(one), weight(two)), (3.0, 3.0));
    for (text, want) in [
        ("[\"10.0.0.1:80\", ", "line 1"),
        ("", "is empty"),
        ("[]", "names no endpoint"),
        ("[\"web.internal:80\"]", "no address"),
        ("[{\"address\": \"10.0.0.1:80\", \"weigth\": 2}]", "did you mean `weight`"),
    ] {
        write(&file, text);
        await_that(want, || ask(&strata, &["status"]).out.contains(want));
        load.await_more(20);
        assert_eq!(strata.scrape().sum("strata_source_up", &[]), 0.0);
        assert_eq!(strata.scrape().sum("strata_endpoint_up", &[("pool", "web")]), 2.0, "{text}");
    }
    std::fs::remove_file(&file).unwrap();
    await_that("that it is gone", || ask(&strata, &["status"]).out.contains("cannot read"));
    // One failure is one line, whatever its words.
    strata.await_logged("the source fails", 1);
    write(&file, &listed(&[two]));
    await_usable(&strata, "web", 1.0);
    load.await_more(20);
    load.stop().assert_nothing_lost();
    strata.await_log("the source answers again");
}

#[test]
fn a_burst_of_changes_is_one_generation() {
    const POOLS: usize = 24;
    let server = Dns::start();
    let name = |n: usize| format!("p{n}.internal");
    let say = |last: &[u8]| {
        let all: Vec<IpAddr> = last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
        (0..POOLS).for_each(|n| server.addresses(&name(n), &all));
    };
    say(&[1]);
    let pools: String = (0..POOLS)
        .map(|n| {
            // Not all in step: they see the change over a quarter of a second.
            let source = by_name(&server, 80, "").replace("web.internal", &name(n));
            let source = source.replace("min_ttl = \"100ms\"", &format!("min_ttl = \"{}ms\"", 100 + 8 * n));
            let listen = free_address();
            format!(
                "[pool.p{n}]\nsource = {{ {source} }}\n[service.s{n}]\nmode = \"l7\"\nlisten = \"{listen}\"\npool = \"p{n}\"\n"
            )
        })
        .collect();
    let strata = Strata::start(&pools);
    let before = generation(&strata);
    assert_eq!(before, 1.0, "what is there at the start is not a change");
    // Nobody leaves: that would be known at once, each time.
    say(&[1, 2]);
    await_that("all are there", || {
        let metrics = strata.scrape();
        (0..POOLS)
            .all(|n| metrics.has("strata_endpoint_up", &[("pool", &format!("p{n}")), ("endpoint", "10.0.0.2:80")]))
    });
    // What is seen at once, what is seen while that comes into force, and some more on a machine that is slow: without waiting, a dozen.
    let log = strata.await_logged("10.0.0.2:80 added", POOLS);
    let added = log.lines().filter(|line| line.contains("10.0.0.2:80 added"));
    let made: std::collections::BTreeSet<&str> =
        added.filter_map(|line| line.split("generation=").nth(1)?.split(' ').next()).collect();
    assert!((1..=5).contains(&made.len()), "{POOLS} changes within a quarter of a second made {made:?}\n{log}");
}

#[test]
fn a_reload_keeps_what_was_found_and_waits_for_what_a_new_source_finds() {
    let (server, fleet) = (Dns::start(), fleet(2));
    let all = ips(&fleet);
    server.addresses("web.internal", &all);
    let port = fleet[0].address.port();
    let text = body(&by_name(&server, port, ""), "");
    let strata = Strata::start(&text);
    let mut load = Load::start();
    load.clients(Kind::Kept, 4, strata.edge, "/", Duration::from_millis(5));
    // Whoever was asked says nothing from here on.
    server.say("web.internal", A, Reply::Silence);
    strata.rewrite(&text.replace("round-robin", "random"));
    let reload = ask(&strata, &["reload"]);
    assert_eq!((reload.code, reload.out.contains("endpoint")), (0, false), "{}", reload.out);
    load.await_more(50);
    await_that("that it does not answer", || strata.scrape().sum("strata_source_up", &[]) == 0.0);
    assert_eq!(strata.scrape().sum("strata_endpoint_up", &[("pool", "web")]), 2.0);
    // A source with other settings is another one; until it speaks, what the last one found stays.
    strata.rewrite(&text.replace("timeout = \"2s\"", "timeout = \"200ms\""));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    assert_eq!(strata.scrape().sum("strata_endpoint_up", &[("pool", "web")]), 2.0);
    load.await_more(50);
    // And one that answers is waited for: nobody sees the pool between the two.
    server.addresses("other.internal", &all[..1]);
    strata.rewrite(&text.replace("web.internal", "other.internal"));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    assert_eq!(strata.scrape().sum("strata_endpoint_up", &[("pool", "web")]), 1.0);
    load.await_more(50);
    // A file that is refused starts nothing and stops nothing.
    server.addresses("other.internal", &all);
    strata.rewrite("[service");
    assert_ne!(ask(&strata, &["reload"]).code, 0);
    await_usable(&strata, "web", 2.0);
    // Without the source its endpoints are gone, and without them the pool is what the file says.
    strata.rewrite(&format!(
        "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n[pool.web]\nendpoints = [\"{}\"]\n",
        fleet[1].address
    ));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    assert!(!strata.scrape().has("strata_source_up", &[]));
    load.await_more(50);
    load.stop().assert_nothing_lost();
    assert_eq!(answerers(&strata), ["200 two"]);
}

#[test]
fn services_have_ports_weights_and_backups_and_both_families_join() {
    let server = Dns::start();
    let [one, two] = ["one", "two"].map(load::endpoint);
    let (a, b) = (one.address, two.address);
    server.say(
        "web.internal",
        SRV,
        Reply::Services(0, vec![(10, 7, a.port(), "a.internal"), (20, 0, b.port(), "b.internal")]),
    );
    server.addresses("a.internal", &[a.ip()]);
    server.addresses("b.internal", &[b.ip()]);
    let source = by_name(&server, 1, ", record = \"srv\"").replace("port = 1, ", "");
    let strata = Strata::start(&body(&source, "endpoints = []\n"));
    assert_eq!(answerers(&strata), ["200 one"]);
    assert_eq!(strata.scrape().sum("strata_endpoint_weight", &[("endpoint", &a.to_string())]), 7.0);
    server.say("web.internal", SRV, Reply::Services(0, vec![(20, 0, b.port(), "b.internal")]));
    await_that("the only ones left serve", || get(&strata) == "200 two");

    server.addresses("both.internal", &[a.ip()]);
    server.say("both.internal", AAAA, Reply::Addresses(0, vec!["2001:db8::1".parse().unwrap()]));
    strata.rewrite(&body(
        &by_name(&server, a.port(), ", record = \"both\"").replace("web.internal", "both.internal"),
        "",
    ));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    let six = format!("[2001:db8::1]:{}", a.port());
    let has_six = || strata.scrape().has("strata_endpoint_up", &[("endpoint", &six)]);
    assert!(has_six());
    // One family that fails keeps what it had, and the other goes on.
    server.say("both.internal", AAAA, Reply::Code(dns::SERVFAIL));
    server.addresses("both.internal", &[b.ip()]);
    await_that("the other family follows", || {
        strata.scrape().has("strata_endpoint_up", &[("endpoint", &SocketAddr::new(b.ip(), a.port()).to_string())])
    });
    assert!(has_six() && strata.scrape().sum("strata_source_up", &[]) == 0.0);
}

#[test]
fn an_upgrade_serves_what_was_found_though_nobody_answers_any_more() {
    let (server, fleet) = (Dns::start(), fleet(2));
    server.addresses("web.internal", &ips(&fleet));
    let text = body(&by_name(&server, fleet[0].address.port(), ""), "");
    let strata = Strata::start(&text);
    server.say("web.internal", A, Reply::Silence);
    let _ends = upgrade(&strata);
    assert_eq!(answerers(&strata), ["200 one", "200 two"]);
}

#[test]
fn an_upgrade_serves_what_is_kept_though_nothing_that_a_name_says_may_be_used() {
    let (server, fleet) = (Dns::start(), fleet(2));
    server.addresses("web.internal", &ips(&fleet));
    let strata = Strata::start(&body(&by_name(&server, fleet[0].address.port(), ""), ""));
    let both = ["200 one", "200 two"];
    assert_eq!(answerers(&strata), both);
    server.addresses("web.internal", &["169.254.1.1".parse().unwrap()]);
    let refused = || strata.scrape().sum_if_any("strata_source_refused", &[("reason", "link-local")]) == 1.0;
    await_that("it is refused", refused);
    assert_eq!(answerers(&strata), both);
    let first = upgrade(&strata);
    await_that("it is refused by the next one", refused);
    assert_eq!(answerers(&strata), both);
    let _second = upgrade(&strata);
    drop(first);
    await_that("it is refused by the one after that", refused);
    assert_eq!(answerers(&strata), both);
}

/// Has another process take over, which ends with what is returned.
fn upgrade(strata: &Strata) -> common::Successor {
    let before = strata.pid();
    assert_eq!(ask(strata, &["upgrade"]).code, 0, "{}", strata.log_tail());
    let mut successor = None;
    await_that("another process serves", || {
        let status = ask(strata, &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.out).unwrap_or_default();
        let pid = status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        successor = pid.filter(|pid| *pid != before);
        successor.is_some()
    });
    common::Successor(successor.unwrap())
}
