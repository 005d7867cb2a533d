//! Texts in, values and snapshots out. The mistakes stand in `conf/bad/`.

mod packet;

use std::time::Duration;

use super::value::{Level, LogFormat, Traffic};
use super::*;
use crate::balance::HashBy;
use crate::base::address::AdminListen;
use crate::base::{HashKey, Listen};
use crate::doc::{Nowhere, render};
use crate::observe::access::Format;
use crate::observe::sink::Output;
use crate::state::{Io, Snapshot, TrafficSpec, diff};

const MACHINE: Machine = Machine { cores: 3, random_key: HashKey::new([7; 16]) };
const NO_PROBES: Catalogs<'_> = Catalogs { probes: &[], sources: &[], route_sources: &[] };

/// A right text, as a config.
fn config(text: &str) -> Config {
    let document = load("x", text.into(), &Nowhere, &NO_PROBES);
    let found = &document.diagnostics;
    assert!(!found.iter().any(Diagnostic::is_error), "{}", render(&document.sources, found, false));
    document.value
}

fn codes(text: &str) -> Vec<&'static str> {
    load("x", text.into(), &Nowhere, &NO_PROBES).diagnostics.iter().map(|d| d.code).collect()
}

fn snapshot(text: &str, previous: &Snapshot) -> Snapshot {
    compile(&config(text), previous, &MACHINE).unwrap_or_else(|found| panic!("{found:?}"))
}

pub(super) fn empty() -> Snapshot {
    Snapshot::empty(crate::state::Settings {
        workers: 3,
        metrics: None,
        admin: None,
        admin_token: None,
        admin_read_only: false,
        random_key: true,
        hash_key: HashKey::new([0; 16]),
        packet_io: None,
        drain_timeout: Duration::ZERO,
        watch: false,
        log_level: "info",
        log_json: false,
        log_output: crate::observe::sink::Output::Stderr,
        access_output: crate::observe::sink::Output::Stdout,
        process: crate::state::Process::default(),
    })
}

const WEB: &str = r#"
[service.web]
mode = "l7"
listen = [":80", { address = "127.0.0.1:81" }]
pool = "web"
[[service.web.route]]
url = "API.example.com/v1/*"
pool = "api"
priority = -3
[service.tcp]
mode = "l4"
listen = ":5432"
pool = "api"
[pool.web]
endpoints = ["10.0.0.1:80", { address = "[2001:db8::1]:80", weight = 5 }]
[pool.api]
balance = { type = "maglev", key = "source-address-port" }
endpoints = "10.0.0.2:80"
[cluster]
hash_key = "000102030405060708090a0b0c0d0e0f"
"#;

#[test]
fn what_is_absent_has_the_default_that_the_design_names() {
    let config =
        config("[service.w]\nmode = \"l7\"\nlisten = \":80\"\npool = \"p\"\n[pool.p]\nendpoints = [\"10.0.0.1:80\"]\n");
    assert_eq!((config.workers, config.metrics, config.admin), (None, None, None));
    assert_eq!((config.log.level, config.log.format), (Level::Info, LogFormat::Text));
    assert_eq!(config.drain.timeout, Duration::from_secs(30));
    assert_eq!(config.cluster.hash_key, None);
    let pool = &config.pools[0];
    assert_eq!(
        (pool.balance.name, pool.dialled.as_ref().unwrap().connect_timeout, pool.probe.is_none()),
        ("p2c", Duration::from_secs(2), true)
    );
    assert_eq!(config.services[0].access_log, None);
    let Traffic::L7(l7) = &config.services[0].traffic else { panic!("not l7") };
    assert_eq!((l7.retries, l7.reason_field, l7.trusted_proxies.len()), (2, true, 0));
    assert_eq!((l7.timeouts.header, l7.timeouts.idle), (Duration::from_secs(10), Duration::from_secs(60)));
    assert_eq!(l7.timeouts.response, Duration::from_secs(60));
}

#[test]
fn everything_that_is_written_arrives() {
    let config = config(WEB);
    let web = &config.services[0];
    assert_eq!(web.listen.iter().map(|l| l.to_string()).collect::<Vec<_>>(), [":80", "127.0.0.1:81"]);
    let Traffic::L7(l7) = &web.traffic else { panic!("not l7") };
    let routes: Vec<_> = l7
        .routes
        .iter()
        .map(|r| (r.url.as_deref(), r.pattern.to_string(), r.priority, &*r.pool.value, r.place.line))
        .collect();
    assert_eq!(
        routes,
        [
            (Some("API.example.com/v1/*"), "api.example.com/v1/*".to_owned(), -3, "api", 6),
            (None, "*".to_owned(), 0, "web", 5)
        ]
    );
    let weights: Vec<u16> = config.pools[0].endpoints.iter().map(|e| e.weight.get()).collect();
    assert_eq!(weights, [1, 5]);
    assert_eq!(config.cluster.hash_key, Some(HashKey::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])));
}

#[test]
fn process_tables_arrive() {
    let text = "workers = 2\n[metrics]\nlisten = \":9901\"\n[admin]\nlisten = \"unix:/run/s.sock\"\n[log]\nlevel = \"debug\"\n\
                format = \"json\"\n[access_log]\nformat = \"combined\"\noutput = \"/var/log/x\"\n[drain]\ntimeout = \"5s\"\n\
                [packets]\nio = \"pnet\"\n";
    let config = config(text);
    assert_eq!(config.workers, Some(2));
    assert_eq!(config.metrics.map(|m| m.listen.value), Some(Listen::Any(9901)));
    let admin = config.admin.expect("an admin listener");
    assert_eq!((admin.listen.value, admin.read_only), (AdminListen::Unix("/run/s.sock".into()), false));
    assert_eq!((config.log.level, config.log.format), (Level::Debug, LogFormat::Json));
    assert_eq!(config.access_log.format, Format::Combined);
    assert_eq!(config.access_log.output, Output::File("/var/log/x".into()));
    assert_eq!(config.drain.timeout, Duration::from_secs(5));
    assert_eq!(config.packets.io.value, Some(Io::Pnet));
}

#[test]
fn the_admin_api_changes_things_unless_the_file_says_otherwise() {
    let [writes, reads] = ["", "read_only = true"]
        .map(|line| format!("[admin]\nlisten = \"127.0.0.1:9900\"\n{line}\n"))
        .map(|text| snapshot(&text, &empty()));
    assert!(!writes.settings.admin_read_only && reads.settings.admin_read_only);
    assert_eq!(reads.effective["admin"]["read_only"], true);
    let changes: Vec<String> = diff(&writes, &reads).iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["settings: admin changed"]);
}

#[test]
fn what_moves_packets_is_the_files_to_say_and_else_what_works() {
    for (text, io, shown) in [
        ("", None, "auto"),
        ("[packets]", None, "auto"),
        ("[packets]\nio = \"auto\"", None, "auto"),
        ("[packets]\nio = \"ring\"", Some(Io::Ring), "ring"),
        ("[packets]\nio = \"pnet\"", Some(Io::Pnet), "pnet"),
    ] {
        let next = snapshot(text, &empty());
        assert_eq!((next.settings.packet_io, &next.effective["packets"]["io"]), (io, &shown.into()), "{text}");
    }
    let (ring, pnet) = (snapshot("[packets]\nio = \"ring\"", &empty()), "[packets]\nio = \"pnet\"");
    let changes: Vec<String> = diff(&ring, &snapshot(pnet, &ring)).iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["settings: packets changed"]);
}

#[test]
fn access_records_are_on_where_the_file_or_the_service_says_so() {
    for (file, service, want) in [
        ("", "", None),
        ("", "access_log = true", Some(Format::Json)),
        ("", "access_log = \"combined\"", Some(Format::Combined)),
        ("[access_log]", "", Some(Format::Json)),
        ("[access_log]\nformat = \"combined\"", "", Some(Format::Combined)),
        ("[access_log]\nformat = \"combined\"", "access_log = true", Some(Format::Combined)),
        ("[access_log]\nformat = \"combined\"", "access_log = \"json\"", Some(Format::Json)),
        ("[access_log]", "access_log = false", None),
    ] {
        let text = format!(
            "{file}\n[service.w]\nmode = \"l4\"\nlisten = \":80\"\npool = \"p\"\n{service}\n[pool.p]\nendpoints = [\"10.0.0.1:80\"]\n"
        );
        assert_eq!(config(&text).services[0].access_log, want, "{file} {service}");
    }
}

#[test]
fn a_reload_keeps_the_workers_it_has_where_the_file_names_none() {
    let first = snapshot("workers = 7\n", &empty());
    assert_eq!((snapshot("[drain]\n", &empty()).settings.workers, first.settings.workers), (MACHINE.cores, 7));
    assert_eq!(snapshot("[drain]\n", &first).settings.workers, 7);
}

#[test]
fn hash_keys_are_16_bytes_of_text_or_32_digits() {
    for (key, right) in [
        ("0123456789abcdef", true),
        ("000102030405060708090A0B0C0D0E0F", true),
        ("äääääääß", true),
        ("", false),
        ("0123456789abcde", false),
        ("0123456789abcdef0", false),
        ("+00102030405060708090a0b0c0d0e0f", false),
        ("000102030405060708090a0b0c0d0e0g", false),
    ] {
        let found = codes(&format!("[cluster]\nhash_key = \"{key}\"\n"));
        assert_eq!(!found.contains(&"E031"), right, "{key}: {found:?}");
    }
}

#[test]
fn moving_lines_and_comments_changes_nothing() {
    let moved = format!("# a comment\n\n{}", WEB.replace("pool = \"web\"", "pool    =   \"web\" # here"));
    assert_eq!(config(WEB), config(&moved));
    assert_ne!(config(WEB), config(&WEB.replace("weight = 5", "weight = 6")));
    let first = snapshot(WEB, &empty());
    let second = snapshot(&moved, &first);
    assert_eq!(diff(&first, &second), []);
}

#[test]
fn a_snapshot_has_every_name_resolved() {
    let snapshot = snapshot(WEB, &empty());
    assert_eq!((snapshot.generation, snapshot.settings.workers), (1, 3));
    let api = snapshot.pool_named("api").unwrap();
    let TrafficSpec::L4 { pool, hash_by } = &snapshot.service_named("tcp").unwrap().spec.traffic else {
        panic!("not l4")
    };
    assert_eq!((*pool, hash_by), (api.id, &HashBy::SourceAddressPort));
    let TrafficSpec::L7(l7) = &snapshot.service_named("web").unwrap().spec.traffic else { panic!("not l7") };
    assert_eq!(l7.routes.iter().map(|r| r.pool).collect::<Vec<_>>(), [api.id, snapshot.pool_named("web").unwrap().id]);
}

#[test]
fn a_random_key_is_kept_by_reloads_and_a_written_one_wins() {
    let (keyless, keyed) = ("[drain]\n", "[cluster]\nhash_key = \"0123456789abcdef\"\n");
    let first = snapshot(keyless, &empty());
    assert_eq!(first.settings.hash_key, MACHINE.random_key);
    let other = Machine { random_key: HashKey::new([9; 16]), ..MACHINE };
    let second = compile(&config(keyless), &first, &other).ok().unwrap();
    assert_eq!(second.settings.hash_key, MACHINE.random_key);
    let third = compile(&config(keyed), &second, &other).ok().unwrap();
    assert_eq!(third.settings.hash_key, HashKey::new(*b"0123456789abcdef"));
}

#[test]
fn the_effective_configuration_is_complete_and_hides_the_key() {
    let snapshot = snapshot(WEB, &empty());
    let shown = serde_json::to_string_pretty(&snapshot.effective).unwrap();
    assert!(!shown.contains("0001020304") && shown.contains("\"hash_key\": \"****************\""), "{shown}");
    let value = &snapshot.effective;
    assert_eq!(value["workers"], 3);
    assert_eq!(value["service"]["web"]["listen"], serde_json::json!([":80", "127.0.0.1:81"]));
    assert_eq!(value["service"]["web"]["timeouts"]["header"], "10s");
    assert_eq!(value["service"]["web"]["route"][0]["pool"], "api");
    assert_eq!(value["service"]["tcp"]["timeouts"], serde_json::json!({ "idle": "10m", "half_close": "1m" }));
    assert_eq!(value["pool"]["api"]["balance"]["type"], "maglev");
    assert_eq!(value["pool"]["api"]["outlier"]["time"], "10s");
    assert_eq!(value["pool"]["api"]["outlier"].get("type"), None);
    assert_eq!(value["pool"]["web"]["endpoints"][1], serde_json::json!({ "address": "[2001:db8::1]:80", "weight": 5 }));
}

#[test]
fn too_many_names_and_endpoints_are_refused() {
    use crate::base::limits;
    let many = |n: usize| (0..n).map(|i| format!("[pool.p{i}]\nendpoints = []\n")).collect::<String>();
    assert!(codes(&many(limits::NAMES + 1)).contains(&"E028"));
    let endpoints = |n: usize| {
        let list: Vec<String> = (0..n).map(|i| format!("\"10.0.{}.{}:80\"", i / 256, i % 256)).collect();
        format!("[pool.p]\nendpoints = [{}]\n", list.join(","))
    };
    assert!(codes(&endpoints(limits::POOL_ENDPOINTS + 1)).contains(&"E028"));
    assert!(!codes(&endpoints(limits::POOL_ENDPOINTS)).contains(&"E028"));
}

#[test]
fn many_warnings_do_not_make_a_right_file_wrong() {
    let text: String = (0..400).map(|i| format!("[pool.p{i}]\nendpoints = [\"10.0.0.1:80\"]\n")).collect();
    let loaded = read("x", text.clone().into_bytes(), &Nowhere, &NO_PROBES);
    assert!(loaded.config.is_some());
    assert_eq!(loaded.diagnostics.last().map(|d| d.code), Some("W009"));
    assert!(read("x", format!("{text}x = 1\n").into_bytes(), &Nowhere, &NO_PROBES).config.is_none());
}

#[test]
fn reading_bytes_gives_a_config_only_without_an_error() {
    assert!(read("x", b"workers = 2\n".to_vec(), &Nowhere, &NO_PROBES).config.is_some());
    assert!(read("x", b"wokers = 2\n".to_vec(), &Nowhere, &NO_PROBES).config.is_none());
    assert!(read("x", b"\xff".to_vec(), &Nowhere, &NO_PROBES).config.is_none());
}

#[test]
fn ten_thousand_routes_load_in_a_moment() {
    let mut text = WEB.to_owned();
    for n in 0..10_000 {
        text.push_str(&format!("[[service.web.route]]\nurl = \"host{n}.example.com/path/{n}/*\"\npool = \"api\"\n"));
    }
    let started = crate::base::clock::now();
    assert_eq!(snapshot(&text, &empty()).services().count(), 2);
    let taken = crate::base::clock::now().since(started);
    // Unoptimized and on a busy machine; what must not be is the square of 10 000.
    assert!(taken < Duration::from_secs(30), "{taken:?}");
}
