//! Containers of a Docker engine that the test plays: they come, stop, fail and pause, and so does the engine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cli::ask;
use super::common::{Origin, Rounds, Strata, await_that};
use super::engine::{Engine, Faults};
use super::load::{self, Kind, Load};
use super::{answerers, body, fleet, generation, get};

/// An engine in a folder that is gone with the test.
struct Ground {
    engine: Engine,
    folder: PathBuf,
}

impl Ground {
    fn new() -> Ground {
        let folder = std::env::temp_dir().join(format!(
            "strata-engine-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        Ground { engine: Engine::start(&folder), folder }
    }

    fn run(&self, name: &str, origin: &Origin, labels: &[(&str, &str)]) {
        self.engine.run(name, origin.address.ip(), origin.address.port(), labels);
    }

    fn source(&self) -> String {
        format!(
            "type = \"docker\", socket = \"unix://{}\", allow = \"loopback\", drain = \"20s\"",
            self.engine.socket.display()
        )
    }

    /// An `l7` service over a pool of the engine's containers.
    fn strata(&self) -> Strata {
        Strata::start(&body(&self.source(), ""))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.engine.die();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// As `cli::await_usable`, of a pool that may have nobody at all.
#[track_caller]
fn await_usable(strata: &Strata, pool: &str, count: f64) {
    let usable = || strata.scrape().sum_if_any("strata_endpoint_up", &[("pool", pool)]);
    await_that(&format!("{count} endpoints of {pool} are usable"), || usable() == count);
}

const WEB: &[(&str, &str)] = &[("strata.pool", "web")];

/// A container that brings a pool and a route to it.
const API: &[(&str, &str)] = &[
    ("strata.pool", "api"),
    ("strata.url", "/api/*"),
    ("strata.balance", "least-connections"),
    ("strata.probe.path", "/up"),
];

/// An `l7` service that is open to labels, over a pool that is.
fn open(source: &str) -> String {
    body(source, "").replace("pool = \"web\"\n", &format!("pool = \"web\"\nsource = {{ {source} }}\n"))
}

/// Who answers for a path.
fn asked(strata: &Strata, path: &str) -> String {
    let answer = strata.ask(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"));
    format!("{} {}", answer.status(), answer.text())
}

/// As soon as everything has to be known.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn containers_are_served_within_a_second_and_scaling_costs_no_request() {
    let (ground, fleet) = (Ground::new(), fleet(3));
    let names = ["c0", "c1", "c2"];
    ground.run(names[0], &fleet[0], WEB);
    let strata = ground.strata();
    assert_eq!(answerers(&strata), ["200 one"]);
    let mut load = Load::start();
    load.clients(Kind::Fresh, 3, strata.edge, "/", Duration::from_millis(5));
    load.clients(Kind::Kept, 3, strata.edge, "/", Duration::from_millis(5));
    let (mut up, mut rounds) = (1, Rounds::default());
    for members in [3, 1, 2, 1, 3] {
        let began = Instant::now();
        for n in up..members {
            ground.run(names[n], &fleet[n], WEB);
        }
        for name in names[..up].iter().skip(members) {
            ground.engine.signal(name, 15);
        }
        await_usable(&strata, "web", members as f64);
        rounds.add(if members > up { "scaled up" } else { "scaled down" }, began.elapsed());
        // They end after they were told to, as servers do.
        for name in names[..up].iter().skip(members) {
            ground.engine.end(name);
            ground.engine.remove(name);
        }
        up = members;
        load.await_more(50);
    }
    rounds.assert_within(SOON);
    load.stop().assert_nothing_lost();
    let of = [("source", "pool.web"), ("kind", "docker")];
    let metrics = strata.scrape();
    assert_eq!((metrics.sum("strata_source_up", &of), metrics.sum("strata_source_members", &of)), (1.0, 3.0));
    strata.await_log("source docker of pool.web");
}

#[test]
fn a_container_that_is_told_to_stop_finishes_what_it_has_and_gets_nothing_new() {
    let (ground, fleet) = (Ground::new(), fleet(2));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], WEB);
    let strata = ground.strata();
    await_usable(&strata, "web", 2.0);
    let mut sockets: Vec<_> = (0..2)
        .map(|_| {
            let mut wire = strata.connect();
            wire.send(load::handshake("/"));
            assert_eq!(wire.response_head().expect("an upgrade").status(), 101);
            wire
        })
        .collect();
    // Not every signal is a wish to stop.
    ground.engine.signal("c0", 1);
    ground.engine.signal("c0", 15);
    await_usable(&strata, "web", 1.0);
    assert_eq!(answerers(&strata), ["200 two"]);
    let status = ask(&strata, &["status"]);
    assert!(status.out.contains("leav"), "{}", status.out);
    for wire in &mut sockets {
        wire.send("still here\n");
        assert_eq!(wire.bytes(11).expect("an echo"), b"still here\n");
    }
    drop(sockets);
    ground.engine.end("c0");
    ground.engine.remove("c0");
    await_that("it is gone", || strata.scrape().sum_if_any("strata_endpoint_weight", &[("pool", "web")]) == 1.0);
    assert_eq!(answerers(&strata), ["200 two"]);
}

#[test]
fn health_checks_and_pauses_take_a_container_out_and_let_it_in_again() {
    let (ground, fleet) = (Ground::new(), fleet(2));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], WEB);
    let strata = ground.strata();
    await_usable(&strata, "web", 2.0);
    let mut rounds = Rounds::default();
    for (out, back) in [
        (("health_status: unhealthy", "unhealthy"), ("health_status: healthy", "healthy")),
        (("restart", "starting"), ("health_status: healthy", "healthy")),
    ]
    .repeat(3)
    {
        let say = |(action, health): (&str, &str)| {
            ground.engine.change("c0", action, |one| one["State"]["Health"] = serde_json::json!({ "Status": health }));
        };
        let began = Instant::now();
        say(out);
        await_usable(&strata, "web", 1.0);
        rounds.add(out.1, began.elapsed());
        assert_eq!(answerers(&strata), ["200 two"]);
        say(back);
        await_usable(&strata, "web", 2.0);
    }
    for _ in 0..3 {
        let began = Instant::now();
        ground.engine.state("c1", "pause", "paused");
        await_usable(&strata, "web", 1.0);
        rounds.add("a pause", began.elapsed());
        assert_eq!(answerers(&strata), ["200 one"]);
        ground.engine.state("c1", "unpause", "running");
        await_usable(&strata, "web", 2.0);
    }
    rounds.assert_within(SOON);
    // The last one of a pool too: its engine says that nobody is there, and it knows.
    ground.engine.health("c0", "unhealthy");
    ground.engine.end("c1");
    await_usable(&strata, "web", 0.0);
    assert!(get(&strata).starts_with("503"), "{}", get(&strata));
}

#[test]
fn a_container_that_is_made_anew_elsewhere_is_found_there() {
    let (ground, fleet) = (Ground::new(), fleet(2));
    ground.run("c0", &fleet[0], WEB);
    let strata = ground.strata();
    assert_eq!(answerers(&strata), ["200 one"]);
    ground.engine.end("c0");
    ground.engine.remove("c0");
    ground.run("c0", &fleet[1], WEB);
    await_that("the new one answers", || answerers(&strata) == ["200 two"]);
    // Its network is taken away from it, and given back with another address. The network says so, without its labels.
    let (moved, id) = (fleet[0].address.ip().to_string(), ground.engine.id("c0"));
    let network = |action: &str| {
        let event = format!(
            "{{\"Type\":\"network\",\"Action\":\"{action}\",\"Actor\":{{\"ID\":\"n\",\"Attributes\":{{\"container\":\"{id}\"}}}}}}\n"
        );
        ground.engine.send(event.as_bytes());
    };
    let silently = |address: Option<&str>| {
        ground.engine.set("c0", |one| {
            one["NetworkSettings"]["Networks"] = match address {
                Some(address) => serde_json::json!({ "edge": { "IPAddress": address } }),
                None => serde_json::json!({}),
            };
        });
    };
    silently(None);
    network("disconnect");
    await_usable(&strata, "web", 0.0);
    silently(Some(&moved));
    network("connect");
    await_that("it answers at its new address", || answerers(&strata) == ["200 one"]);
}

#[test]
fn an_engine_that_goes_away_takes_nothing_with_it_and_all_is_known_when_it_is_back() {
    let (mut ground, fleet) = (Ground::new(), fleet(3));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], WEB);
    let strata = ground.strata();
    await_usable(&strata, "web", 2.0);
    let mut load = Load::start();
    load.clients(Kind::Kept, 2, strata.edge, "/", Duration::from_millis(5));
    let before = generation(&strata);
    ground.engine.die();
    let of = [("source", "pool.web"), ("kind", "docker")];
    await_that("the failure is counted", || strata.scrape().sum("strata_source_up", &of) == 0.0);
    let diagnostics = || super::common::metrics::get(strata.admin, "/api/diagnostics").text();
    await_that("it is told why", || {
        diagnostics().contains("engine.sock") && diagnostics().contains("is the socket mounted?")
    });
    assert!(ask(&strata, &["status"]).out.contains("is the socket mounted?"));
    load.await_more(50);
    assert_eq!((answerers(&strata).len(), generation(&strata)), (2, before), "what was known stays");
    // Meanwhile one goes and one comes, and nobody says so.
    ground.engine.remove_silently("c0");
    ground.run("c2", &fleet[2], WEB);
    ground.engine.revive();
    await_that("all is known again", || answerers(&strata) == ["200 three", "200 two"]);
    await_that("the source is up", || strata.scrape().sum("strata_source_up", &of) == 1.0);
    load.stop().assert_nothing_lost();
    strata.await_logged("the source answers again", 1);
    strata.await_logged("the source fails", 1);
}

#[test]
fn an_engine_whose_socket_is_gone_for_a_moment_has_not_lost_its_containers() {
    let (ground, fleet) = (Ground::new(), fleet(2));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], WEB);
    let strata = ground.strata();
    await_usable(&strata, "web", 2.0);
    ground.engine.await_followed(1);
    let before = generation(&strata);
    // As while an engine restarts: there is something to be asked, and no file to ask it of.
    let aside = ground.folder.join("aside.sock");
    std::fs::rename(&ground.engine.socket, &aside).unwrap();
    ground.engine.tell("c0", "update", &[]);
    await_that("it was asked for in vain", || {
        let status = ask(&strata, &["status"]).out;
        status.contains("answer about it is of no use") && status.contains("is the socket mounted?")
    });
    assert_eq!((answerers(&strata), generation(&strata)), (vec!["200 one".into(), "200 two".into()], before));
    std::fs::rename(&aside, &ground.engine.socket).unwrap();
    await_that("it answers again", || !ask(&strata, &["status"]).out.contains("answer about it is of no use"));
    assert_eq!(answerers(&strata), ["200 one", "200 two"]);
}

#[test]
fn an_upgrade_keeps_containers_that_the_engine_does_not_let_it_look_at() {
    let (ground, fleet) = (Ground::new(), fleet(2));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], WEB);
    let strata = ground.strata();
    await_usable(&strata, "web", 2.0);
    ground.engine.fault(Faults { inspects: Some(403), ..Faults::default() });
    let _ends = super::upgrade(&strata);
    await_that("the source fails", || ask(&strata, &["status"]).out.contains("status 403: `nothing of containers`"));
    let up = || strata.scrape().sum("strata_source_up", &[("source", "pool.web")]);
    assert_eq!((up(), answerers(&strata)), (0.0, vec!["200 one".into(), "200 two".into()]));
    ground.engine.fault(Faults::default());
    await_that("it is up", || up() == 1.0);
    assert_eq!(answerers(&strata), ["200 one", "200 two"]);
}

#[test]
fn an_upgrade_keeps_routes_and_pools_of_labels_though_the_engine_says_nothing() {
    let (mut ground, fleet) = (Ground::new(), fleet(2));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], API);
    let source = ground.source();
    let strata = Strata::start(&open(&source));
    await_that("the route is there", || asked(&strata, "/api/x") == "200 two");
    let settings = |dump: &str| {
        let tables = dump.split("\n[").filter(|table| table.trim_start_matches('[').starts_with("pool.api"));
        tables.map(str::to_owned).collect::<Vec<_>>().concat()
    };
    let before = settings(&ask(&strata, &["dump"]).out);
    assert!(before.contains("least-connections") && before.contains("/up"), "{before}");
    ground.engine.fault(Faults { inspects: Some(403), ..Faults::default() });
    let first = super::upgrade(&strata);
    await_that("the source fails", || ask(&strata, &["status"]).out.contains("status 403: `nothing of containers`"));
    assert_eq!((asked(&strata, "/api/x"), asked(&strata, "/")), ("200 two".into(), "200 one".into()));
    assert_eq!(settings(&ask(&strata, &["dump"]).out), before);
    // Nor does the next one need the engine, which is not even there.
    ground.engine.die();
    let _second = super::upgrade(&strata);
    drop(first);
    await_that("that it is away", || ask(&strata, &["status"]).out.contains("is the socket mounted?"));
    assert_eq!((asked(&strata, "/api/x"), asked(&strata, "/")), ("200 two".into(), "200 one".into()));
    // What labels say holds as soon as somebody can read them.
    ground.engine.fault(Faults::default());
    ground.engine.set("c1", |one| one["Config"]["Labels"]["strata.url"] = "/v2/*".into());
    ground.engine.revive();
    await_that("the route is another", || {
        asked(&strata, "/v2/x") == "200 two" && asked(&strata, "/api/x") == "200 one"
    });
}

#[test]
fn an_upgrade_keeps_the_one_container_that_cannot_be_looked_at_until_it_can() {
    let (ground, fleet) = (Ground::new(), fleet(3));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], WEB);
    let strata = ground.strata();
    await_usable(&strata, "web", 2.0);
    ground.engine.fault(Faults { inspect: Some(("c1".into(), b"nonsense".to_vec())), ..Faults::default() });
    let _ends = super::upgrade(&strata);
    await_that("it is told of", || ask(&strata, &["status"]).out.contains("answer about it is of no use"));
    let up = || strata.scrape().sum("strata_source_up", &[("source", "pool.web")]);
    assert_eq!((up(), answerers(&strata)), (1.0, vec!["200 one".into(), "200 two".into()]));
    // Others come and go meanwhile as ever.
    ground.run("c2", &fleet[2], WEB);
    await_that("one came", || answerers(&strata) == ["200 one", "200 three", "200 two"]);
    ground.engine.end("c0");
    await_that("one went", || answerers(&strata) == ["200 three", "200 two"]);
    // It ends unseen: as soon as it is looked at, it is not kept any more.
    ground.engine.set("c1", |one| one["State"]["Status"] = "exited".into());
    ground.engine.fault(Faults::default());
    await_that("it is seen", || answerers(&strata) == ["200 three"]);
}

#[test]
fn an_upgrade_keeps_nothing_of_containers_that_it_could_look_at() {
    let (ground, fleet) = (Ground::new(), fleet(3));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], WEB);
    ground.run("c2", &fleet[2], API);
    let strata = Strata::start(&open(&ground.source()));
    await_usable(&strata, "web", 2.0);
    await_that("the route is there", || asked(&strata, "/api/x") == "200 three");
    // Nobody hears that one is paused until somebody asks; and nothing is said of the one that brings a route.
    ground.engine.set("c1", |one| one["State"]["Status"] = "paused".into());
    let nonsense = b"nonsense".to_vec();
    ground.engine.fault(Faults { inspect: Some(("c2".into(), nonsense)), ..Faults::default() });
    let _ends = super::upgrade(&strata);
    await_that("it is told of", || ask(&strata, &["status"]).out.contains("answer about it is of no use"));
    assert_eq!(answerers(&strata), ["200 one"], "one that is paused gets work");
    assert_eq!(asked(&strata, "/api/x"), "200 three");
    ground.engine.set("c2", |one| one["Config"]["Labels"]["strata.url"] = "/v2/*".into());
    ground.engine.fault(Faults::default());
    await_that("it is seen", || asked(&strata, "/v2/x") == "200 three" && asked(&strata, "/api/x") == "200 one");
}

#[test]
fn a_reload_keeps_nothing_of_another_prefix_for_containers_that_cannot_be_looked_at() {
    let (ground, fleet) = (Ground::new(), fleet(3));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], &[("other.pool", "web"), ("strata.pool", "web")]);
    ground.run("c2", &fleet[2], &[("other.pool", "web")]);
    let strata = ground.strata();
    await_usable(&strata, "web", 2.0);
    ground.engine.fault(Faults { inspect: Some(("c1".into(), b"nonsense".to_vec())), ..Faults::default() });
    strata.rewrite(&body(&format!("{}, labels = \"other.\"", ground.source()), ""));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    assert!(ask(&strata, &["status"]).out.contains("answer about it is of no use"));
    assert_eq!(answerers(&strata), ["200 three"]);
    ground.engine.fault(Faults::default());
    await_that("it is seen", || answerers(&strata) == ["200 three", "200 two"]);
}

#[test]
fn events_in_pieces_are_read_and_what_makes_no_sense_is_looked_into() {
    let (ground, fleet) = (Ground::new(), fleet(3));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], WEB);
    let strata = ground.strata();
    await_usable(&strata, "web", 2.0);
    ground.engine.await_followed(1);

    // One byte at a time, and two lines in one piece.
    let (stop, other) =
        (ground.engine.line("c0", "kill", &[("signal", "15")]), ground.engine.line("c1", "exec_die", &[]));
    for byte in &stop {
        ground.engine.send(&[*byte]);
    }
    await_usable(&strata, "web", 1.0);
    ground
        .engine
        .send(&[other.clone(), ground.engine.line("c1", "kill", &[("signal", "9")]), other[..20].to_vec()].concat());
    await_usable(&strata, "web", 0.0);
    ground.engine.send(&other[20..]);

    // Too long to be kept: it is looked what it was, over the same connection.
    ground.engine.change("c0", "exec_create", |one| one["State"]["StartedAt"] = "2099-01-01T00:00:00Z".into());
    ground.engine.remove_silently("c1");
    let lists = ground.engine.asked_for("/containers/json");
    for _ in 0..40 {
        ground.engine.send(&[b'x'; 16 * 1024]);
    }
    ground.engine.send(b"\n");
    await_that("there is a new list", || ground.engine.asked_for("/containers/json") > lists);
    await_that("what it was is known", || answerers(&strata) == ["200 one"]);
    assert_eq!(ground.engine.asked_for("/events"), 1);

    // No sense at all: told, and all is asked anew.
    let lists = ground.engine.asked_for("/containers/json");
    ground.engine.send(b"\x1b[31mnonsense\n");
    // The list is asked for by whoever hears of events already.
    await_that("there is a new connection", || {
        ground.engine.asked_for("/events") == 2 && ground.engine.asked_for("/containers/json") > lists
    });
    ground.run("c2", &fleet[2], WEB);
    await_that("events come over it", || answerers(&strata) == ["200 one", "200 three"]);
    let log = strata.await_log("an event that does not read");
    assert!(!log.contains('\x1b'), "{log}");
}

#[test]
fn answers_that_are_garbage_too_long_or_late_cost_nobody_else_anything() {
    let (mut ground, fleet) = (Ground::new(), fleet(3));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], WEB);
    let strata = ground.strata();
    await_usable(&strata, "web", 2.0);
    ground.engine.await_followed(1);
    for garbage in [b"{\"Id\":".to_vec(), vec![b' '; 2 * 1024 * 1024]] {
        ground.engine.fault(Faults { inspect: Some(("c0".to_owned(), garbage)), ..Faults::default() });
        ground.engine.tell("c0", "update", &[]);
        await_that("it is told", || ask(&strata, &["status"]).out.contains("answer about it is of no use"));
        assert_eq!(answerers(&strata), ["200 one", "200 two"], "what was known of it stays");
        ground.engine.fault(Faults::default());
        await_that("it is asked for again", || !ask(&strata, &["status"]).out.contains("answer about it is of no use"));
    }
    // Nobody waits for the one that the engine says nothing of.
    ground.engine.fault(Faults { silent: Some("c0".to_owned()), ..Faults::default() });
    ground.engine.tell("c0", "update", &[]);
    let mut rounds = Rounds::default();
    for round in 0..3 {
        if round > 0 {
            ground.engine.end("c2");
            ground.engine.remove("c2");
            await_usable(&strata, "web", 2.0);
        }
        let began = Instant::now();
        ground.run("c2", &fleet[2], WEB);
        await_usable(&strata, "web", 3.0);
        rounds.add("the third", began.elapsed());
    }
    rounds.assert_within(SOON);
    // And what it says of all is refused as a whole.
    for (words, faults) in [
        ("its list of containers: invalid type", Faults { list: Some(b"[{\"Id\":1}]".to_vec()), ..Faults::default() }),
        ("status 403: `not today`", Faults { status: Some(403), ..Faults::default() }),
        ("its list of containers: trailing characters", Faults { list: Some(b"[]]".to_vec()), ..Faults::default() }),
    ] {
        ground.engine.fault(faults);
        ground.engine.die();
        ground.engine.revive();
        let up = || strata.scrape().sum("strata_source_up", &[("source", "pool.web")]);
        await_that(words, || ask(&strata, &["status"]).out.contains(words));
        assert_eq!(up(), 0.0);
        assert_eq!(answerers(&strata), ["200 one", "200 three", "200 two"]);
        ground.engine.fault(Faults::default());
        await_that("it is up", || up() == 1.0);
    }
}

#[test]
fn labels_bring_pools_and_routes_where_a_service_is_open_and_mistakes_are_shown() {
    let (ground, fleet) = (Ground::new(), fleet(3));
    ground.run("c0", &fleet[0], WEB);
    let text = format!(
        "[service.edge]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\nsource = {{ {source} }}\n\
         [pool.web]\nsource = {{ {source} }}\n[pool.shut]\nendpoints = [\"{}\"]\n[[service.edge.route]]\nurl = \"/file\"\npool = \"web\"\n",
        fleet[0].address,
        source = ground.source()
    );
    let strata = Strata::start(&text);
    let asked = |path: &str| {
        let answer = strata.ask(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"));
        format!("{} {}", answer.status(), answer.text())
    };
    assert_eq!(asked("/api/x"), "200 one");
    let labels = [
        ("strata.pool", "api"),
        ("strata.url", "/api/*"),
        ("strata.balance", "least-connections"),
        ("strata.probe.path", "/"),
        ("strata.route.taken.url", "/file"),
        ("strata.route.taken.priority", "1000"),
        ("strata.route.shut.url", "/shut"),
        ("strata.route.shut.pool", "shut"),
        ("strata.wieght", "2"),
    ];
    let mut rounds = Rounds::default();
    for round in 0..3 {
        if round > 0 {
            ground.engine.end("c1");
            ground.engine.remove("c1");
            await_that("the route is gone", || asked("/api/x") == "200 one");
        }
        let began = Instant::now();
        ground.run("c1", &fleet[1], &labels);
        await_that("the route is there", || asked("/api/x") == "200 two");
        rounds.add("a route", began.elapsed());
    }
    rounds.assert_within(SOON);
    assert_eq!(
        (asked("/other"), asked("/file"), asked("/shut")),
        ("200 one".into(), "200 one".into(), "200 one".into())
    );
    let dump = ask(&strata, &["dump"]).out;
    assert!(dump.contains("least-connections") && dump.contains("# container c1"), "{dump}");
    let explained = ask(&strata, &["explain", &format!("GET http://{}/api/x", strata.edge)]).out;
    assert!(explained.contains("api") && explained.contains("container c1"), "{explained}");
    let status = || ask(&strata, &["status"]).out;
    let hint = "did you mean `strata.weight`";
    await_that("what is wrong is shown", || status().contains(hint));
    let status = status();
    let diagnostics = super::common::metrics::get(strata.admin, "/api/diagnostics").text();
    for mistake in [
        "container c1, label strata.wieght: unknown label",
        "container c1, label strata.route.shut.pool: no container is in pool `shut`",
        "route `/file` stands in the file",
    ] {
        assert!(status.contains(mistake), "{mistake:?} is not in the status: {status}");
        strata.await_log(mistake);
        // There the place and the message have fields of their own.
        let message = mistake.split_once(": ").map_or(mistake, |(_, message)| message);
        assert!(diagnostics.contains(message), "{message:?} is not in the diagnostics: {diagnostics}");
    }
    assert_eq!(strata.scrape().sum("strata_source_refused", &[("source", "service.edge"), ("reason", "unknown")]), 1.0);
    // With the container its route goes, and its pool when that is idle.
    ground.engine.signal("c1", 15);
    ground.engine.end("c1");
    ground.engine.remove("c1");
    await_that("the route is gone", || asked("/api/x") == "200 one");
    await_that("the pool is gone", || !ask(&strata, &["dump"]).out.contains("pool.api"));
}

#[test]
fn a_pool_that_a_reload_leaves_to_labels_serves_on() {
    let (ground, fleet) = (Ground::new(), fleet(2));
    ground.run("c0", &fleet[0], WEB);
    ground.run("c1", &fleet[1], &[("strata.pool", "shop"), ("strata.url", "/shop/*")]);
    let source = ground.source();
    let text = body(&source, "").replace("pool = \"web\"\n", &format!("pool = \"web\"\nsource = {{ {source} }}\n"));
    let strata = Strata::start(&format!("{text}[pool.shop]\nsource = {{ {source} }}\n"));
    let asked = || {
        let answer = strata.ask("GET /shop/x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        format!("{} {}", answer.status(), answer.text())
    };
    await_that("the route leads to the file's pool", || asked() == "200 two");
    strata.rewrite(&text);
    let reload = ask(&strata, &["reload"]);
    assert_eq!(reload.code, 0, "{}", reload.out);
    // The service's source need not speak again first.
    for _ in 0..20 {
        assert_eq!(asked(), "200 two");
    }
    let dump = ask(&strata, &["dump"]).out;
    assert!(dump.contains("[pool.shop]") && dump.contains("# container c1"), "{dump}");
}

#[test]
fn tests_of_the_file_are_about_the_file_and_labels_that_break_one_are_warned_of() {
    let (ground, fleet) = (Ground::new(), fleet(2));
    ground.run("c0", &fleet[0], WEB);
    let source = ground.source();
    let test = "[[test]]\nrequest = \"GET http://a.test/api/x\"\nservice = \"edge\"\nexpect = \"pool web\"\n";
    let text = body(&source, test).replace("pool = \"web\"\n", &format!("pool = \"web\"\nsource = {{ {source} }}\n"));
    let strata = Strata::start(&text);
    let asked = || {
        let answer = strata.ask("GET /api/x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        format!("{} {}", answer.status(), answer.text())
    };
    let warned = || super::common::metrics::get(strata.admin, "/api/diagnostics").text().contains("W019");
    assert_eq!((asked().as_str(), ask(&strata, &["reload"]).code, warned()), ("200 one", 0, false));
    ground.run("c1", &fleet[1], &[("strata.pool", "api"), ("strata.url", "/api/*")]);
    await_that("the route is there", || asked() == "200 two");
    let diff = ask(&strata, &["diff"]);
    assert_eq!(diff.code, 0, "{}", diff.out);
    let reload = ask(&strata, &["reload"]);
    assert_eq!(reload.code, 0, "another team's label must not keep anybody from a reload: {}", reload.out);
    assert!(warned());
    for words in ["warning[W019]: with what sources have found, a test fails", "came: pool api", "strata explain 'GET "]
    {
        strata.await_log(words);
    }
    // What the file alone does not hold is refused as ever.
    strata.rewrite(&text.replace("expect = \"pool web\"", "expect = \"pool api\""));
    assert_ne!(ask(&strata, &["reload"]).code, 0);
    assert_eq!(ask(&strata, &["diff"]).code, 2);
}

#[test]
fn only_get_is_ever_sent_and_all_tables_share_one_connection() {
    let (ground, fleet) = (Ground::new(), fleet(1));
    ground.run("c0", &fleet[0], WEB);
    let source = ground.source();
    let strata = Strata::start(&body(
        &source,
        &format!("[pool.b]\nsource = {{ {source} }}\n[pool.c]\nsource = {{ {source} }}\n"),
    ));
    await_usable(&strata, "web", 1.0);
    ground.engine.await_followed(1);
    let asked = ground.engine.asked();
    assert_eq!(asked.len(), 4, "{asked:?}");
    for (line, start) in asked.iter().zip([
        "GET /_ping ",
        "GET /v1.41/events?filters=",
        "GET /v1.41/containers/json ",
        "GET /v1.41/containers/",
    ]) {
        assert!(line.starts_with(start), "{asked:?}");
    }
    // A source that a reload takes away stops to listen when it was the last.
    strata.rewrite(&body("type = \"docker\", socket = \"/nowhere/docker.sock\", allow = \"loopback\"", ""));
    assert_eq!(ask(&strata, &["reload"]).code, 0);
    let listener = || {
        ground.engine.send(b"\n");
        ground.engine.tell("c0", "exec_start", &[]);
        ground.engine.listeners()
    };
    await_that("nobody listens any more", || listener() == 0);
    assert_eq!(answerers(&strata), ["200 one"], "what was found stays until the new one speaks");
}
