//! A Strata that is played: the page's own files, and documents that no small test could bring about: packet services without
//! root, hostile names that no configuration may have, and a hundred services.
//!
//! It sends no policy on purpose: what is hostile must be harmless without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;
use strata::admin::document::{
    Bucket, Diagnostic, Diagnostics, Drop, Durations, Endpoint, Event, Events, FoundMistake, Interface, Packets, Pool,
    RefusedReload, Route, Service, Source, Status, Vip, VipAddress,
};

use super::common::Origin;

/// Runs if it is ever made into markup; and leaves the text that it stands in as any other.
pub const HOSTILE: &str = "<img src=x onerror=\"window.owned=1\"><script>window.owned=1</script>&amp;'\"";

pub struct Played {
    pub origin: Origin,
    /// What changes were asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
    pub diagnostics: Arc<Mutex<Diagnostics>>,
    /// A path that is answered by an error.
    pub failing: Arc<Mutex<Option<&'static str>>>,
}

impl Played {
    /// Answers `/api/status` with what `status` makes of the number of looks so far.
    pub fn start(
        status: impl Fn(u64) -> Status + Send + Sync + 'static,
        events: Vec<Event>,
        diagnostics: Diagnostics,
    ) -> Played {
        let (looks, asked) = (AtomicU64::new(0), Arc::new(Mutex::new(Vec::new())));
        let (diagnostics, failing) = (Arc::new(Mutex::new(diagnostics)), Arc::new(Mutex::new(None)));
        let (noted, diagnosed, fails) = (asked.clone(), diagnostics.clone(), failing.clone());
        let origin = Origin::serve(move |request| {
            let line = request.start_line();
            let mut words = line.split(' ');
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if method == "POST" {
                noted.lock().push(format!("{path} {}", request.text()));
                return json(&serde_json::json!({ "intent": "draining" }));
            }
            match path.split('?').next().unwrap_or_default() {
                path if *fails.lock() == Some(path) => sent(500, "text/plain", b""),
                "/" => file("index.html"),
                "/api/status" => json(&status(looks.fetch_add(1, Relaxed))),
                "/api/events" => {
                    let last = events.last().map_or(0, |event| event.seq);
                    let fresh = path.split_once("since=").is_none();
                    let events = if fresh { events.clone() } else { Vec::new() };
                    json(&Events { pid: 1, oldest: 1, last, events })
                }
                "/api/diagnostics" => json(&*diagnosed.lock()),
                "/api/pools" => json(&status(looks.load(Relaxed)).pools),
                "/api/explain" => json(&explained()),
                path => path.strip_prefix("/dashboard/").map_or_else(|| sent(404, "text/plain", b""), file),
            }
        });
        Played { origin, asked, diagnostics, failing }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.origin.address)
    }
}

fn json(document: &impl Serialize) -> Vec<u8> {
    sent(200, "application/json", &serde_json::to_vec(document).expect("a document"))
}

/// As it is in the tree.
fn file(name: &str) -> Vec<u8> {
    let kind = match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        _ => "image/svg+xml",
    };
    let path = format!("{}/src/admin/dashboard/{name}", env!("CARGO_MANIFEST_DIR"));
    match std::fs::read(path) {
        Ok(bytes) => sent(200, kind, &bytes),
        Err(_) => sent(404, "text/plain", b""),
    }
}

fn sent(status: u16, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// An answer in which all that may be text is hostile.
fn explained() -> serde_json::Value {
    serde_json::json!({
        "kind": "request",
        "request": { "asked": HOSTILE, "method": HOSTILE, "host": HOSTILE, "path": HOSTILE },
        "from": HOSTILE, "from_imagined": true,
        "listener": { "address": HOSTILE, "reached": false },
        "service": { "name": HOSTILE, "mode": HOSTILE },
        "route": { "url": HOSTILE, "priority": 0, "pool": HOSTILE, "file": HOSTILE, "line": 1, "because": null, "why": HOSTILE },
        "others": [{ "url": HOSTILE, "priority": 0, "pool": HOSTILE, "file": HOSTILE, "line": 1, "fate": "loses", "why": HOSTILE }],
        "others_left_out": 0,
        "sent": { "line": HOSTILE, "line_changed": true, "added": [HOSTILE], "removed": [HOSTILE], "trusted": false },
        "pool": { "name": HOSTILE, "balance": HOSTILE, "usable": 1, "serving": [HOSTILE], "most_in_flight": 3, "endpoints": [{
            "name": HOSTILE, "intent": HOSTILE, "health": HOSTILE, "usable": true, "weight": 1, "weight_now": null, "backup": false,
            "full": false, "trial": false, "zone": HOSTILE, "in_flight": 1, "score": 1.5, "score_name": HOSTILE,
            "score_unit": HOSTILE, "chance": 100.0, "cause": HOSTILE }] },
        "choice": { "endpoint": HOSTILE, "certain": true, "how": HOSTILE, "key": HOSTILE, "notes": [HOSTILE] },
        "verdict": { "action": "forward", "why": HOSTILE, "status": null, "meaning": HOSTILE, "way_out": HOSTILE },
        "live": true, "generation": 1,
    })
}

/// A count that grows by about `per_look` a look, for ever.
fn grown(look: u64, per_look: u64) -> u64 {
    look * per_look + per_look / 6 * (look / 3 % 4)
}

/// Counts of `per_look` a look, all as fast as each other.
fn durations(count: u64) -> Durations {
    let bucket = |from_us, to_us, count| Bucket { from_us, to_us: Some(to_us), count };
    Durations { sum_us: count * 900, buckets: vec![bucket(500, 1000, count * 9), bucket(2500, 5000, count)] }
}

fn endpoint(name: &str, health: &str, look: u64, per_look: u64) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        address: name.to_owned(),
        intent: "ready".to_owned(),
        health: health.to_owned(),
        usable: health == "up",
        weight: 1,
        cause: Some(if health == "up" { "probe passed" } else { "connect refused" }.to_owned()),
        since_ms: Some(3_723_000 + look * 1000),
        next_probe_ms: Some(800),
        in_flight: u32::try_from(per_look / 40).unwrap_or(0),
        connections: per_look / 30,
        requests_total: grown(look, per_look),
        ..Endpoint::default()
    }
}

fn pool(name: &str, balance: &str, probe: Option<&str>, endpoints: Vec<Endpoint>, look: u64) -> Pool {
    Pool {
        name: name.to_owned(),
        balance: balance.to_owned(),
        probe: probe.map(str::to_owned),
        usable: endpoints.iter().filter(|endpoint| endpoint.usable).count(),
        connect_duration: Some(durations(look)),
        response_duration: Some(durations(look * 4)),
        endpoints,
        ..Pool::default()
    }
}

fn routed(name: &str, listen: &[&str], routes: &[(&str, &str)], look: u64, per_look: u64) -> Service {
    let mut pools: Vec<String> = Vec::new();
    routes.iter().map(|(_, pool)| (*pool).to_owned()).for_each(|pool| {
        if !pools.contains(&pool) {
            pools.push(pool);
        }
    });
    Service {
        name: name.to_owned(),
        mode: "l7".to_owned(),
        engine: "http".to_owned(),
        listen: listen.iter().map(|each| (*each).to_owned()).collect(),
        pools,
        routes: routes
            .iter()
            .map(|(url, pool)| Route { url: (*url).to_owned(), priority: 0, pool: (*pool).to_owned() })
            .collect(),
        connections: Some(per_look / 8),
        connections_total: Some(grown(look, per_look / 10)),
        requests_total: grown(look, per_look),
        bytes_received_total: grown(look, per_look * 420),
        bytes_sent_total: Some(grown(look, per_look * 9_300)),
        request_duration: Some(durations(look * 5)),
        ..Service::default()
    }
}

fn forwarded(name: &str, mode: &str, forward: &str, vip: &str, listen: &str, look: u64, per_look: u64) -> Service {
    Service {
        name: name.to_owned(),
        mode: mode.to_owned(),
        forward: Some(forward.to_owned()),
        engine: "userspace".to_owned(),
        listen: vec![listen.to_owned()],
        vip: Some(vip.to_owned()),
        pools: vec![name.to_owned()],
        packets_total: Some(grown(look, per_look)),
        slots_marked: Some(0),
        bytes_received_total: look * per_look * 700,
        bytes_sent_total: forward.ends_with("nat").then_some(look * per_look * 900),
        ..Service::default()
    }
}

/// Endpoints that packets go to.
fn carried(mut pool: Pool, look: u64, per_look: u64, back: bool) -> Pool {
    (pool.connect_duration, pool.response_duration) = (None, None);
    for endpoint in &mut pool.endpoints {
        let sent = if endpoint.health == "up" { look * per_look } else { 0 };
        (endpoint.packets_sent_total, endpoint.bytes_sent_total) = (Some(sent), Some(sent * 700));
        if back {
            (endpoint.packets_received_total, endpoint.bytes_received_total) = (Some(sent), Some(sent * 900));
        }
    }
    pool
}

fn site(services: Vec<Service>, pools: Vec<Pool>, look: u64) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: 7,
        uptime_ms: 7_500_000 + look * 1000,
        pid: 1,
        ready: true,
        workers: 4,
        connections: services.iter().filter_map(|service| service.connections).sum(),
        last_reload_successful: true,
        services,
        pools,
        ..Status::default()
    }
}

/// Every mode, on a bad day.
pub fn every_layer(look: u64) -> Status {
    let mut edge = routed(
        "edge",
        &[":80", ":443"],
        &[
            ("api.example.com/v1/*", "api"),
            ("api.example.com/v2/*", "api"),
            ("*.example.com/static/*", "static"),
            ("*", "web"),
        ],
        look,
        1840,
    );
    edge.drops = vec![
        Drop { reason: "no-route".into(), count: 412 + look * 3 },
        Drop { reason: "queue-timeout".into(), count: 38 },
    ];
    edge.server_errors_total = look * 2;
    let mut weighty = endpoint("10.0.0.13:8080", "up", look, 130);
    (weighty.weight, weighty.warmth_percent) = (20, Some(40));
    let mut drained = endpoint("10.0.0.14:8080", "up", look, 0);
    (drained.intent, drained.usable, drained.cause) = ("draining".into(), false, Some("operator".into()));
    let mut failing = endpoint("10.0.0.12:8080", "up", look, 380);
    failing.errors_total = look * 2;
    let mut spare = endpoint("10.9.0.1:8080", "up", look, 0);
    (spare.backup, spare.usable) = (true, false);
    let web = vec![
        endpoint("10.0.0.11:8080", "up", look, 410),
        failing,
        weighty,
        drained,
        endpoint("10.0.0.15:8080", "down", look, 0),
        spare,
    ];
    let api = vec![endpoint("[2001:db8::21]:8080", "up", look, 320), endpoint("[2001:db8::22]:8080", "up", look, 340)];
    let caches = vec![endpoint("10.0.0.31:8080", "up", look, 260)];
    let database = Service {
        name: "database".into(),
        mode: "l4".into(),
        engine: "proxy".into(),
        listen: vec!["10.0.0.2:5432".into()],
        pools: vec!["database".into()],
        connections: Some(64),
        connections_total: Some(look * 21),
        bytes_received_total: look * 90_000,
        bytes_sent_total: Some(look * 2_100_000),
        ..Service::default()
    };
    let databases = vec![endpoint("10.0.0.41:5432", "up", look, 14), endpoint("10.0.0.42:5432", "up", look, 7)];
    let game = vec![
        endpoint("10.0.0.51", "up", look, 0),
        endpoint("10.0.0.52", "up", look, 0),
        endpoint("10.0.0.53", "ejected", look, 0),
    ];
    let mail = vec![endpoint("10.0.0.61", "up", look, 0), endpoint("10.0.0.62", "up", look, 0)];
    let mut moving = forwarded("game", "l2", "mac", "game", "10.0.0.100:7000-7999/udp", look, 48_000);
    moving.slots_marked = Some(21_845);
    let mut site = site(
        vec![
            edge,
            database,
            moving,
            forwarded("mail", "l3", "full-nat", "mail", "10.0.0.101:25/tcp", look, 900),
            forwarded("names", "l4", "nat", "mail", "10.0.0.101:53/udp", look, 2600),
        ],
        vec![
            pool("web", "p2c", Some("http"), web, look),
            pool("api", "maglev", Some("http"), api, look),
            pool("static", "round-robin", None, caches, look),
            pool("database", "least-connections", Some("tcp"), databases, look),
            carried(pool("game", "maglev", Some("tcp"), game, look), look, 24_000, false),
            carried(pool("mail", "maglev", Some("tcp"), mail.clone(), look), look, 225, true),
            carried(pool("names", "maglev", Some("icmp"), mail, look), look, 650, true),
        ],
        look,
    );
    let vip = |name: &str, addresses: &[&str], conflicts| Vip {
        name: name.to_owned(),
        interface: "eth0".to_owned(),
        addresses: addresses.iter().map(|at| VipAddress { address: (*at).to_owned(), mac: None }).collect(),
        owner: true,
        conflicts_total: conflicts,
    };
    site.vips = vec![vip("game", &["10.0.0.100", "fd00::100"], 0), vip("mail", &["10.0.0.101"], 1)];
    site.packets = Some(Packets {
        flow_records: 118_204,
        flow_records_limit: 1_048_576,
        nat_flows: 9_310,
        nat_flows_limit: 1_048_576,
        drops: vec![Drop { reason: "no-service".into(), count: 77 + look }],
        interfaces: vec![Interface {
            name: "eth0".into(),
            workers: 4,
            frames_received_total: look * 51_000,
            frames_sent_total: look * 51_000,
            lost: vec![Drop { reason: "ring-full".into(), count: 12 }],
        }],
    });
    site.sources = vec![Source {
        table: "pool.api".into(),
        kind: "dns".into(),
        about: "api.internal".into(),
        failure: Some("no answer within 2s".into()),
        members: 2,
        ..Source::default()
    }];
    site.warnings = 1;
    site.last_reload_successful = false;
    site.last_event = 5;
    site
}

/// Every text that could be anything, is.
pub fn hostile(look: u64) -> Status {
    let mut evil = endpoint(HOSTILE, "up", look, 10);
    (evil.cause, evil.zone) = (Some(HOSTILE.into()), Some(HOSTILE.into()));
    let mut worse = endpoint("10.0.0.2:80", HOSTILE, look, 0);
    worse.intent = HOSTILE.into();
    let mut service = routed(HOSTILE, &[HOSTILE], &[(HOSTILE, HOSTILE)], look, 10);
    (service.engine, service.forward) = (HOSTILE.into(), Some(HOSTILE.into()));
    service.drops = vec![Drop { reason: HOSTILE.into(), count: look + 1 }];
    let mut site = site(vec![service], vec![pool(HOSTILE, HOSTILE, Some(HOSTILE), vec![evil, worse], look)], look);
    site.version = HOSTILE.into();
    site.sources = vec![Source {
        table: format!("pool.{HOSTILE}"),
        kind: HOSTILE.into(),
        about: HOSTILE.into(),
        failure: Some(HOSTILE.into()),
        ..Source::default()
    }];
    let addresses = vec![VipAddress { address: HOSTILE.into(), mac: None }];
    site.vips =
        vec![Vip { name: HOSTILE.into(), interface: HOSTILE.into(), addresses, owner: false, conflicts_total: 1 }];
    let lost = vec![Drop { reason: HOSTILE.into(), count: look + 1 }];
    let interface = Interface { name: HOSTILE.into(), lost: lost.clone(), ..Interface::default() };
    site.packets = Some(Packets { drops: lost, interfaces: vec![interface], ..Packets::default() });
    (site.last_event, site.last_reload_successful) = (1, false);
    site
}

/// A hundred services with a pool of fifty endpoints each, of which a few are down.
pub fn many(look: u64) -> Status {
    let (mut services, mut pools) = (Vec::new(), Vec::new());
    for n in 0..100_u64 {
        let name = format!("shop-{n:02}");
        let endpoints = (0..50).map(|m| {
            let health = if n % 17 == 3 && m % 19 == 5 { "down" } else { "up" };
            endpoint(&format!("10.{n}.0.{m}:8080"), health, look, if health == "up" { 3 + n % 5 } else { 0 })
        });
        pools.push(pool(&name, "p2c", Some("http"), endpoints.collect(), look));
        let host = format!("{name}.example.com");
        services.push(routed(&name, &[&format!("10.1.{n}.1:80")], &[(&host, &name)], look, 150 + 50 * (n % 5)));
    }
    site(services, pools, look)
}

pub fn event(seq: u64, level: &str, kind: &str, subject: &str, text: &str) -> Event {
    Event {
        seq,
        at_ms: 1_764_230_400_000 + seq * 61_000,
        level: level.to_owned(),
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        text: text.to_owned(),
    }
}

/// A configuration that warns, and a reload of another that was refused.
pub fn diagnosed(message: &str) -> Diagnostics {
    let diagnostic = |severity: &str, code: &str| Diagnostic {
        severity: severity.to_owned(),
        code: code.to_owned(),
        message: message.to_owned(),
        help: None,
        file: "edge.toml".to_owned(),
        line: 14,
        column: 1,
    };
    let rendered = |kind: &str, code: &str| {
        format!(
            "{kind}[{code}]: {message}\n  --> edge.toml:14:1\n   |\n14 | pol = \"web\"\n   | ^^^ did you mean `pool`?\n"
        )
    };
    Diagnostics {
        generation: 7,
        warnings: vec![diagnostic("warning", "W003")],
        rendered: rendered("warning", "W003"),
        refused: Some(RefusedReload {
            at_ms: 1_764_230_500_000,
            by: "signal".to_owned(),
            error: message.to_owned(),
            diagnostics: vec![diagnostic("error", "E002")],
            rendered: rendered("error", "E002"),
        }),
        found: vec![FoundMistake {
            table: "pool.api".to_owned(),
            reason: "bad-address".to_owned(),
            place: "api.internal A".to_owned(),
            message: message.to_owned(),
            help: Some(message.to_owned()),
        }],
    }
}
