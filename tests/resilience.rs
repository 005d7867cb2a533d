//! The catalogue's bad days of pools (`I`): endpoints that die, flap, slow down or are overloaded, each with an injected fault, over
//! real sockets against the real binary. Deaths by SIGKILL stand in `kill.rs`.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "resilience/brownout.rs"]
mod brownout;
#[path = "common/cli.rs"]
mod cli;
mod common;
#[path = "resilience/limits.rs"]
mod limits;
#[path = "common/load.rs"]
mod load;
#[path = "resilience/waiting.rs"]
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use cli::{ask, await_usable};
use common::{Origin, Strata, await_that, holds_within};
use load::{Kind, Load};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// An endpoint that does what its switches say.
struct Server {
    origin: Origin,
    knobs: Arc<Knobs>,
}

#[derive(Default)]
struct Knobs {
    /// Answers `/healthz` with 503.
    ill: AtomicBool,
    /// Does not answer `/healthz` at all.
    mute: AtomicBool,
    /// Closes without an answer.
    closes: AtomicBool,
    /// Status of answers to traffic; 0: 200.
    status: AtomicU64,
    /// How long an answer takes, ms.
    takes_ms: AtomicU64,
    /// Answers no traffic until this is taken back.
    held: AtomicBool,
    /// Requests of traffic so far.
    requests: AtomicU64,
    /// Of them, under way; and the most that were at once.
    busy: AtomicU64,
    busiest: AtomicU64,
    /// Their targets, in the order they came.
    targets: parking_lot::Mutex<Vec<String>>,
}

impl Server {
    fn start() -> Server {
        Server::start_at("127.0.0.1:0")
    }

    fn start_at(address: &str) -> Server {
        let knobs = Arc::new(Knobs::default());
        let own = knobs.clone();
        let origin = Origin::script_at(address.parse().unwrap(), move |mut wire, _| {
            while let Ok(request) = wire.request() {
                let probe = request.start_line().contains("/healthz");
                if probe {
                    while own.mute.load(Relaxed) {
                        thread::sleep(Duration::from_millis(5));
                    }
                    let status = if own.ill.load(Relaxed) { 503 } else { 200 };
                    wire.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
                    continue;
                }
                let target = request.start_line().split(' ').nth(1).unwrap_or_default().to_owned();
                own.targets.lock().push(target);
                own.requests.fetch_add(1, Relaxed);
                let busy = own.busy.fetch_add(1, Relaxed) + 1;
                own.busiest.fetch_max(busy, Relaxed);
                thread::sleep(Duration::from_millis(own.takes_ms.load(Relaxed)));
                while own.held.load(Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                }
                own.busy.fetch_sub(1, Relaxed);
                if own.closes.load(Relaxed) {
                    return None;
                }
                let status = match own.status.load(Relaxed) {
                    0 => 200,
                    status => status,
                };
                wire.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
            }
            None
        });
        Server { origin, knobs }
    }

    fn name(&self) -> String {
        self.origin.address.to_string()
    }

    fn requests(&self) -> u64 {
        self.knobs.requests.load(Relaxed)
    }
}

fn four() -> [Server; 4] {
    [(); 4].map(|()| Server::start())
}

/// An L7 service over these, with these lines in its pool's table.
fn edge(servers: &[Server], lines: &str) -> Strata {
    edge_with(servers, "", lines)
}

fn edge_with(servers: &[Server], service: &str, lines: &str) -> Strata {
    Strata::start(&config(servers, service, lines))
}

fn config(servers: &[Server], service: &str, lines: &str) -> String {
    let names: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.name())).collect();
    format!(
        "[service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n{service}\n[pool.web]\n{lines}\nendpoints = [{}]\n",
        names.join(", ")
    )
}

const PROBE: &str =
    "probe = { type = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\", rise = 1, fall = 3 }";

fn health(strata: &Strata, server: &Server, health: &str) -> bool {
    let labels = [("pool", "web"), ("endpoint", &*server.name()), ("health", health)];
    strata.scrape().sum("strata_endpoint_state", &labels) == 1.0
}

/// Whether the view in force has it: a state is set before the view that follows from it.
fn serves(strata: &Strata, server: &Server) -> bool {
    strata.scrape().sum("strata_endpoint_up", &[("pool", "web"), ("endpoint", &server.name())]) == 1.0
}

/// It is `down` or `ejected`, and nothing new goes there.
fn is_out(strata: &Strata, server: &Server, state: &str) -> bool {
    health(strata, server, state) && !serves(strata, server)
}

/// Statuses of so many requests, one after the other, each on a connection of its own.
fn statuses(strata: &Strata, count: usize) -> Vec<u16> {
    (0..count).map(|_| strata.ask(GET).status()).collect()
}

#[test]
fn i2_a_post_that_may_have_been_seen_is_not_sent_again() {
    let servers = [Server::start(), Server::start()];
    servers.iter().for_each(|server| server.knobs.closes.store(true, Relaxed));
    let strata = edge(&servers, "");
    let post = "POST /pay HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello";
    let answer = strata.ask(post);
    assert_eq!((answer.status(), answer.field("x-strata-reason").as_deref()), (502, Some("upstream-closed")));
    assert_eq!(servers[0].requests() + servers[1].requests(), 1, "it came once");
    let answer = strata.ask(GET);
    assert_eq!(answer.status(), 502);
    assert_eq!(servers[0].requests() + servers[1].requests(), 3, "a GET came to both");
}

#[test]
fn i3_with_all_endpoints_down_nothing_waits() {
    let servers = [Server::start(), Server::start()];
    servers.iter().for_each(|server| server.knobs.ill.store(true, Relaxed));
    let limits = "limits = { max_requests = 1, queue = 1000, queue_timeout = \"60s\" }";
    let strata = edge(&servers, &format!("{PROBE}\n{limits}"));
    await_that("all are down", || servers.iter().all(|server| is_out(&strata, server, "down")));
    let before = strata.scrape();
    let began = Instant::now();
    // At once: had one of them to wait, all would for a minute.
    let mut clients: Vec<_> = (0..50).map(|_| strata.connect()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    for client in &mut clients {
        let answer = client.response().expect("an answer");
        assert_eq!((answer.status(), answer.field("x-strata-reason").as_deref()), (503, Some("no-endpoint")));
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(strata.scrape().sum("strata_pool_queue", &[("pool", "web")]), 0.0);
    strata.counted(&before, "no-endpoint", 50.0).unwrap();
}

/// Retries a second that the budget allows however few requests come: 10, of which each of the two workers has half.
const RETRIES_FLOOR: f64 = 5.0;

#[test]
fn i4_a_brown_out_is_not_made_worse_by_retries() {
    let servers = [Server::start(), Server::start(), Server::start()];
    servers.iter().for_each(|server| server.knobs.closes.store(true, Relaxed));
    let strata = edge_with(&servers, "retries = 2", "");
    let seen = || servers.iter().map(Server::requests).sum::<u64>();
    let mut client = strata.connect();
    let mut ask = |count: u64| {
        let (before, began) = (seen(), Instant::now());
        for _ in 0..count {
            client.send(GET);
            assert!(matches!(client.response().expect("an answer").status(), 502 | 503));
        }
        ((seen() - before) as f64 / count as f64, began.elapsed())
    };
    // What a quiet pool has saved up is spent first.
    let (first, _) = ask(300);
    let (amplification, took) = ask(1500);
    println!("requests at the endpoints for each: {first:.2} at first, then {amplification:.3}");
    // While this machine stands still, the floor under the budget goes on paying.
    let floor = RETRIES_FLOOR * took.as_secs_f64() / 1500.0;
    assert!(amplification <= 1.205 + floor, "{amplification}, of it {floor} by the floor");
    assert!(amplification > 1.1, "the budget is there to be used: {amplification}");
}

#[test]
fn i5_a_flapping_endpoint_is_held_down() {
    let servers = four();
    let damping = "damping = { changes = 4, window = \"60s\", hold = \"120s\" }";
    let strata = edge(&servers, &format!("{PROBE}\n{damping}"));
    await_usable(&strata, "web", 4.0);
    let flapping = &servers[0];
    let is_held = || ask(&strata, &["status"]).out.contains("held down for");
    // Three times down is enough, with the way up twice. A probe that is slow on a busy machine only makes it sooner.
    let held = (0..3).any(|round| {
        flapping.knobs.ill.store(true, Relaxed);
        await_that(&format!("it goes down, round {round}"), || health(&strata, flapping, "down"));
        flapping.knobs.ill.store(false, Relaxed);
        await_that(&format!("it comes up or is held, round {round}"), || health(&strata, flapping, "up") || is_held());
        is_held()
    });
    assert!(held, "{}", strata.log_tail());
    let passed = || {
        let labels = [("endpoint", &*flapping.name()), ("result", "passed")];
        strata.scrape().sum("strata_probes_total", &labels)
    };
    let before = passed();
    await_that("it passes ten probes", || passed() >= before + 10.0);
    assert!(health(&strata, flapping, "down"), "however it passes");
    let said = ask(&strata, &["status"]).out;
    assert!(said.contains("held down for") && said.contains("4 changes in 1m"), "{said}");
    strata.await_log("held down for 2m: 4 changes in 1m");
    // It is needed when the others are gone.
    servers[1..].iter().for_each(|server| server.knobs.ill.store(true, Relaxed));
    await_that("it serves when no other can", || health(&strata, flapping, "up") && serves(&strata, flapping));
    assert_eq!(statuses(&strata, 3), [200; 3]);
}

#[test]
fn i6_a_pool_that_panics_spreads_over_all_but_the_drained() {
    let servers = four();
    let strata = edge(&servers, &format!("{PROBE}\npanic_percent = 50\nbalance = \"round-robin\""));
    await_usable(&strata, "web", 4.0);
    let drained = &servers[3];
    assert_eq!(ask(&strata, &["drain", "web", &drained.name()]).code, 0);
    let panic = || strata.scrape().sum("strata_pool_panic", &[("pool", "web")]);
    servers[0].knobs.ill.store(true, Relaxed);
    await_that("one is out", || is_out(&strata, &servers[0], "down"));
    assert_eq!(panic(), 0.0, "two of three are more than half");
    servers[1].knobs.ill.store(true, Relaxed);
    await_that("the pool panics", || panic() == 1.0);
    let before: Vec<u64> = servers.iter().map(Server::requests).collect();
    assert_eq!(statuses(&strata, 30), [200; 30]);
    let got: Vec<u64> = servers.iter().zip(before).map(|(server, before)| server.requests() - before).collect();
    // A view that is published anew begins its round anew.
    assert!(got[..3].iter().all(|got| *got > 0) && got[3] == 0, "the drained one is left alone: {got:?}");
    strata.await_log("pool panics: all serve that are not drained");
    assert!(ask(&strata, &["status"]).out.contains("panic: all serve that are not drained"));
    servers[0].knobs.ill.store(false, Relaxed);
    await_that("the pool has calmed down", || panic() == 0.0);
    strata.await_log("pool panics no more");
}

#[test]
fn i7_endpoints_that_fail_traffic_are_ejected_but_not_too_many() {
    let servers = four();
    let outlier = "outlier = { consecutive_errors = 3, gateway_errors = true, time = \"60s\", max_percent = 50 }";
    let strata = edge(&servers, &format!("balance = \"round-robin\"\n{outlier}"));
    assert_eq!(statuses(&strata, 8), [200; 8]);
    servers[0].knobs.status.store(503, Relaxed);
    let mut seen = Vec::new();
    await_that("it is ejected", || {
        seen.extend(statuses(&strata, 4));
        is_out(&strata, &servers[0], "ejected")
    });
    strata.await_log("3 requests in a row failed");
    let before = servers[0].requests();
    assert_eq!(statuses(&strata, 12), [200; 12], "the others serve");
    assert_eq!(servers[0].requests(), before);
    servers.iter().for_each(|server| server.knobs.status.store(503, Relaxed));
    await_that("half of the pool is out", || {
        statuses(&strata, 8);
        servers.iter().filter(|server| health(&strata, server, "ejected")).count() == 2
    });
    statuses(&strata, 40);
    let out = servers.iter().filter(|server| health(&strata, server, "ejected")).count();
    assert_eq!(out, 2, "never more");
}

#[test]
fn i7_a_share_of_errors_ejects_where_it_was_asked_for() {
    let servers = [Server::start(), Server::start()];
    let outlier =
        "outlier = { error_percent = 40, min_requests = 20, window = \"1s\", gateway_errors = true, time = \"60s\" }";
    let strata = edge(&servers, &format!("balance = \"round-robin\"\n{outlier}"));
    let mut load = Load::start();
    load.clients(Kind::Reopened, 4, strata.edge, "/", Duration::from_millis(5));
    load.await_more(100);
    servers[1].knobs.status.store(502, Relaxed);
    await_that("it is ejected", || health(&strata, &servers[1], "ejected"));
    strata.await_log("of the last");
    load.await_more(100);
    assert!(health(&strata, &servers[0], "up"));
    load.stop();
}

#[test]
fn i7_nothing_that_a_client_can_cause_ejects_by_default() {
    let servers = [Server::start(), Server::start()];
    let strata = edge_with(&servers, "timeouts = { response = \"2s\" }\nretries = 0", "balance = \"round-robin\"");
    let all = |status: u64, closes: bool, takes_ms: u64| {
        for server in &servers {
            server.knobs.status.store(status, Relaxed);
            server.knobs.closes.store(closes, Relaxed);
            server.knobs.takes_ms.store(takes_ms, Relaxed);
        }
    };
    for (name, (status, closes, takes_ms), want) in [
        ("errors of the application", (500, false, 0), 500),
        ("errors of a gateway", (503, false, 0), 503),
        ("requests that break the application", (0, true, 0), 502),
        ("requests that take too long", (0, false, 6000), 504),
    ] {
        all(status, closes, takes_ms);
        let mut clients: Vec<_> = (0..20).map(|_| strata.connect()).collect();
        for client in &mut clients {
            client.send(GET);
        }
        let statuses: Vec<u16> = clients.iter_mut().map(|c| c.response().expect("an answer").status()).collect();
        assert_eq!(statuses, [want; 20], "{name}");
        assert!(servers.iter().all(|server| health(&strata, server, "up")), "{name}");
    }
    all(0, false, 0);
    assert_eq!(statuses(&strata, 4), [200; 4]);
}

#[test]
fn i7_what_comes_back_from_an_ejection_is_tried_with_one_request() {
    let servers = [Server::start(), Server::start()];
    let outlier = "outlier = { consecutive_errors = 2, time = \"300ms\" }";
    let strata = edge_with(&servers, "retries = 0", &format!("balance = \"round-robin\"\n{outlier}"));
    let bad = &servers[1];
    bad.knobs.closes.store(true, Relaxed);
    await_that("it is ejected", || {
        statuses(&strata, 2);
        health(&strata, bad, "ejected")
    });
    await_that("its time is over", || health(&strata, bad, "up") && serves(&strata, bad));
    // Whatever is on trial and does not answer yet has one request, however many come.
    bad.knobs.closes.store(false, Relaxed);
    bad.knobs.takes_ms.store(1500, Relaxed);
    let (before, clients) = (bad.requests(), 12);
    let mut wires: Vec<_> = (0..clients).map(|_| strata.connect()).collect();
    for wire in &mut wires {
        wire.send(GET);
    }
    let answers: Vec<u16> = wires.iter_mut().map(|wire| wire.response().expect("an answer").status()).collect();
    assert_eq!(answers, vec![200; clients]);
    assert_eq!(bad.requests() - before, 1, "one at a time until it has answered");
    bad.knobs.takes_ms.store(0, Relaxed);
    assert_eq!(statuses(&strata, 8), [200; 8]);
    assert_eq!(bad.requests() - before, 5, "then it has its share again");
}

#[test]
fn i8_a_prober_that_is_cut_off_takes_nobody_out() {
    cut_off(PROBE).assert_nothing_lost();
}

#[test]
fn i8_whom_a_hasty_probe_took_out_comes_up_again() {
    // By the first failure: some are taken out before it is clear that all fail.
    cut_off(&PROBE.replace("fall = 3", "fall = 1").replace("200ms", "400ms"));
}

/// Probes that are not answered by anybody, while traffic is; what that traffic saw.
fn cut_off(probe: &str) -> load::Seen {
    // Two hosts: one that is silent is a dead host.
    let servers = [Server::start_at("127.0.0.1:0"), Server::start_at("127.0.0.2:0"), Server::start_at("127.0.0.3:0")];
    let strata = edge(&servers, probe);
    await_usable(&strata, "web", 3.0);
    let mut load = Load::start();
    load.clients(Kind::Reopened, 4, strata.edge, "/", Duration::from_millis(10));
    load.await_more(20);
    let is_static = || strata.scrape().sum("strata_probes_static", &[]) == 1.0;
    let failed = || strata.scrape().sum("strata_probes_total", &[("result", "failed")]);
    let mute = |mute: bool| servers.iter().for_each(|server| server.knobs.mute.store(mute, Relaxed));
    // On a busy machine one may have been down just before, by a probe that was slow: then that is what is known of it.
    let kept = (0..3).any(|_| {
        mute(false);
        await_usable(&strata, "web", 3.0);
        mute(true);
        await_that("it is noticed", is_static);
        let before = failed();
        await_that("many more probes fail", || failed() >= before + 12.0);
        holds_within(Duration::from_secs(2), || servers.iter().all(|server| health(&strata, server, "up")))
    });
    assert!(kept, "{}", strata.log_tail());
    assert!(ask(&strata, &["status"]).out.contains("this machine is cut off"));
    strata.await_log("probes reach nobody");
    load.await_more(50);
    // The network is back: one that answers ends it, and one that does not is down.
    servers[..2].iter().for_each(|server| server.knobs.mute.store(false, Relaxed));
    await_that("it is over", || !is_static());
    await_that("a silent one is down", || health(&strata, &servers[2], "down"));
    load.stop()
}

#[test]
fn i8_endpoints_that_really_died_are_down_however_many() {
    let mut servers = vec![Server::start_at("127.0.0.1:0"), Server::start_at("127.0.0.2:0")];
    let strata = edge(&servers, PROBE);
    await_usable(&strata, "web", 2.0);
    // Silence of all, and nobody gets an answer: that is death, and not the prober's trouble.
    servers.iter().for_each(|server| server.knobs.mute.store(true, Relaxed));
    await_that("both are down", || servers.iter().all(|server| is_out(&strata, server, "down")));
    assert_eq!(strata.scrape().sum("strata_probes_static", &[]), 0.0);
    assert_eq!(strata.ask(GET).status(), 503);
    servers.iter().for_each(|server| server.knobs.mute.store(false, Relaxed));
    await_usable(&strata, "web", 2.0);
    drop(servers.pop());
    drop(servers.pop());
    // Refusals are answers.
    await_that("503", || strata.ask(GET).status() == 503);
}

#[test]
fn i11_a_new_endpoint_starts_slowly_beside_warm_ones() {
    let servers = four();
    let lines = format!("{PROBE}\nbalance = \"weighted-round-robin\"\nslow_start = \"3s\"");
    let strata = edge(&servers[..3], &lines);
    await_usable(&strata, "web", 3.0);
    let began = Instant::now();
    let weight =
        |server: &Server| strata.scrape().sum_if_any("strata_endpoint_weight", &[("endpoint", &server.name())]);
    assert_eq!(servers[..3].iter().map(weight).sum::<f64>(), 3.0, "where all are cold nobody is spared");
    // They have been up for as long as it takes to be warm.
    await_that("the first three are warm", || began.elapsed() > Duration::from_millis(3200));
    strata.rewrite(&config(&servers, "", &lines));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    let new = &servers[3];
    let mut seen = Vec::new();
    await_that("it is warm", || {
        if health(&strata, new, "up") {
            seen.push(weight(new));
        }
        seen.last() == Some(&1.0)
    });
    assert!(seen[0] < 1.0, "it began with all of its weight");
    assert!(seen.is_sorted(), "{seen:?}");
}

#[test]
fn i12_what_drains_finishes_and_gets_nothing_new() {
    let servers = [Server::start(), Server::start()];
    let strata = edge(&servers, "balance = \"round-robin\"");
    servers.iter().for_each(|server| server.knobs.takes_ms.store(700, Relaxed));
    let mut clients = [strata.connect(), strata.connect()];
    for client in &mut clients {
        client.send(GET);
    }
    await_that("each has a request", || servers.iter().all(|server| server.requests() == 1));
    assert_eq!(ask(&strata, &["drain", "web", &servers[0].name()]).code, 0);
    for client in &mut clients {
        assert_eq!(client.response().expect("the answer").status(), 200, "what was there finishes");
    }
    servers.iter().for_each(|server| server.knobs.takes_ms.store(0, Relaxed));
    assert_eq!(statuses(&strata, 6), [200; 6]);
    assert_eq!((servers[0].requests(), servers[1].requests()), (1, 7));
}

#[test]
fn backups_and_other_zones_take_over_when_there_is_nobody_else() {
    let servers = four();
    let [local, remote, backup, _] = &servers;
    let body = format!(
        "[cluster]\nhash_key = \"000102030405060708090a0b0c0d0e0f\"\nzone = \"a\"\n\
         [service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n\
         [pool.web]\n{PROBE}\nzones = \"prefer-local\"\nendpoints = [\n\
         {{ address = \"{}\", zone = \"a\" }}, {{ address = \"{}\", zone = \"b\" }}, {{ address = \"{}\", backup = true }}]\n",
        local.name(),
        remote.name(),
        backup.name()
    );
    let strata = Strata::start(&body);
    await_that("all are up", || [local, remote, backup].iter().all(|server| health(&strata, server, "up")));
    await_that("the own zone serves alone", || {
        serves(&strata, local) && !serves(&strata, remote) && !serves(&strata, backup)
    });
    let counts = || [local.requests(), remote.requests(), backup.requests()];
    assert_eq!(statuses(&strata, 6), [200; 6]);
    assert_eq!(counts(), [6, 0, 0], "the own zone serves");
    local.knobs.ill.store(true, Relaxed);
    await_that("the own zone is down", || is_out(&strata, local, "down"));
    assert_eq!(statuses(&strata, 6), [200; 6]);
    assert_eq!(counts(), [6, 6, 0], "then the others");
    remote.knobs.ill.store(true, Relaxed);
    await_that("backups serve", || strata.scrape().sum("strata_pool_backup", &[("pool", "web")]) == 1.0);
    assert_eq!(statuses(&strata, 6), [200; 6]);
    assert_eq!(counts(), [6, 6, 6]);
    local.knobs.ill.store(false, Relaxed);
    await_that("primaries serve again", || strata.scrape().sum("strata_pool_backup", &[("pool", "web")]) == 0.0);
    strata.await_log("backups serve: no primary is usable");
    strata.await_log("primaries serve again");
}

#[test]
fn i4_twice_the_load_costs_no_goodput() {
    // Four at a time, 50 ms each: 80 a second, whatever this machine does besides.
    let server = [Server::start()];
    server[0].knobs.takes_ms.store(50, Relaxed);
    let limits = "limits = { max_requests = 4, queue = 4, queue_timeout = \"500ms\" }";
    let strata = edge(&server, limits);
    let goodput = |clients: usize, period: Duration| {
        let mut load = Load::start();
        load.clients(Kind::Reopened, clients, strata.edge, "/", period);
        load.await_more(20);
        let (done, began) = (load.done(), Instant::now());
        load.await_more(100);
        let rate = (load.done() - done) as f64 / began.elapsed().as_secs_f64();
        (rate, load.stop().all())
    };
    let mut rounds = Vec::new();
    // A machine with other things to do may disturb one measurement or the other.
    let held = (0..3).any(|_| {
        let (peak, calm) = goodput(4, Duration::ZERO);
        let before = strata.scrape();
        // 160 a second; who is refused comes again in 100 ms.
        let (twice, loaded) = goodput(16, Duration::from_millis(100));
        let refused = strata.scrape().drops_since(&before);
        rounds.push(format!("peak {peak:.0}/s, {calm:?}; under twice the load {twice:.0}/s, {loaded:?}; {refused:?}"));
        calm.failed == 0
            && loaded.statuses.keys().all(|status| *status == 503)
            && twice >= 0.9 * peak
            && refused.contains_key("queue-full")
    });
    println!("{}", rounds.join("\n"));
    assert!(held, "{rounds:#?}");
    assert!(server[0].knobs.busiest.load(Relaxed) <= 4, "the endpoint was never overloaded");
    assert!(holds_within(Duration::from_secs(5), || strata.scrape().sum("strata_pool_queue", &[]) == 0.0));
}
