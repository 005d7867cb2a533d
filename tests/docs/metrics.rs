//! `docs/metrics.md`: every family, its labels, and the words that those are from.

use std::fmt::Write as _;

use strata::health::{Health, Intent};
use strata::net::pressure::Resource;
use strata::observe::cells::UpstreamError;
use strata::observe::names::{self, Group, Kind};
use strata::observe::packets::Lost;
use strata::state::{Family, Io};

use super::{cell, held};

const GROUPS: [(Group, &str, &str); 6] = [
    (Group::Process, "The process", ""),
    (Group::Configuration, "Configuration", ""),
    (
        Group::Services,
        "Services",
        "Of every mode. What a mode cannot know is absent: a packet service has no connections.",
    ),
    (
        Group::Packets,
        "Packets",
        "Of `l2`, `l3` and `l4` with NAT. Absent from a file without a VIP. Bytes are those of frames.",
    ),
    (Group::Pools, "Pools", "Durations are what proxies measure; a pool that only packet services use has none."),
    (Group::Endpoints, "Endpoints", "Requests and connections are what proxies know."),
];

const HEAD: &str = "\
# Metrics

What `/metrics` shows, in Prometheus' text format. A test holds this page to the one table in `src/observe/names.rs` and
to the lists that words are from. Why connections, requests and packets are dropped, the `reason` of `strata_drops_total` and of
`strata_stray_packets_dropped_total`, is in [drops.md](drops.md).

- Series exist at zero from the start and vanish with their object. Counters survive a reload that keeps the object's name.
- Labels are names and addresses of the configuration and words from closed lists, never a client's address, path or Host.
- The process's own (`process_cpu_seconds_total`, `process_resident_memory_bytes`, …) come beside them.

Worth an alert:

| what | expression |
|---|---|
| nobody serves a pool | `strata_pool_endpoints_usable == 0` |
| a reload was rejected | `strata_config_last_reload_successful == 0` |
| descriptors or memory run out | `strata_pressure > 0` |
| a packet service is not carried | `strata_service_info{engine=\"none\"} == 1` |
| an interface is not served | `strata_interface_workers == 0` |
| workers are too slow for an interface | `rate(strata_interface_frames_lost_total{reason=\"overrun\"}[5m]) > 0` |
| next hops do not answer | `rate(strata_drops_total{reason=\"no-neighbor\"}[5m]) > 1` |
| full NAT runs out of ports | `strata_nat_ports_free < 5000` |
| a transition has no room to remember flows | `strata_flow_records / strata_flow_records_limit > 0.8` |
| nodes send flows to different endpoints | `count by (service, family) (count_values by (service, family) (\"table\", strata_slots_fingerprint)) > 1` |
";

#[test]
fn every_metric_stands_in_its_page_with_its_labels() {
    held("docs/metrics.md", &page());
}

fn page() -> String {
    let mut out = HEAD.to_owned();
    for (group, title, about) in GROUPS {
        let _ = write!(out, "\n## {title}\n\n");
        if !about.is_empty() {
            let _ = write!(out, "{about}\n\n");
        }
        out += "| metric | kind | labels | |\n|---|---|---|---|\n";
        for metric in names::ALL.iter().filter(|metric| metric.group == group) {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let _ =
                writeln!(out, "| `{}` | {} | {} | {} |", metric.name, kind(metric.kind), labels.join(" "), metric.help);
        }
    }
    words(&mut out);
    losses(&mut out);
    out
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

/// The lists that labels are from.
fn words(out: &mut String) {
    let list = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
    *out += "\n## Words of labels\n\n| label | words |\n|---|---|\n";
    for (label, words) in [
        ("mode", list(&["l2", "l3", "l4", "l7"])),
        ("engine", list(&["http", "proxy", Io::Ring.engine(), Io::Pnet.engine(), "none"])),
        ("family", list(&Family::ALL.map(Family::word))),
        ("intent", list(&Intent::ALL.map(Intent::word))),
        ("health", list(&Health::ALL.map(Health::word))),
        ("kind", list(&UpstreamError::ALL.map(UpstreamError::word))),
        ("resource", list(&Resource::ALL.map(Resource::word))),
        ("log", list(&["access", "program"])),
        ("result", list(&["passed", "failed", "impossible"])),
        ("protocol", format!("of requests {}; of lent ports {}", list(&["http1"]), list(&["tcp", "udp", "icmp"]))),
    ] {
        let _ = writeln!(out, "| `{label}` | {words} |");
    }
}

fn losses(out: &mut String) {
    *out += "\n## Why frames are lost at an interface\n\n`reason` of `strata_interface_frames_lost_total`.\n\n";
    *out += "| reason | what it means |\n|---|---|\n";
    for why in Lost::ALL {
        let _ = writeln!(out, "| `{}` | {} |", why.word(), cell(why.meaning()));
    }
}
