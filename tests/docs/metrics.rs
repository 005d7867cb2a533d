//! `docs/metrics.md`: every family, its labels, and the words that those are from.

use std::fmt::Write as _;

use strata::admin::Why;
use strata::observe::names::{self, Group, Kind};
use strata::observe::packets::Lost;
use strata::seam::source::{Refusal, Trouble};

use super::{cell, held, words};

const GROUPS: [(Group, &str, &str); 7] = [
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
    (
        Group::Sources,
        "Sources",
        "Of every table with a `source`, by its name (`pool.web`). Absent from a file without one. [discovery.md](discovery.md) tells more.",
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
- `process_…` are what every exporter has, by the same names.

What is worth an alert stands in `deploy/prometheus/alerts.yml`, and what to do when one fires in [monitoring.md](monitoring.md), which
also tells how Prometheus finds Strata and what the dashboards show.
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
    let list = |metric: &str, label: &str| {
        let words = words::of(metric, label).expect("a closed list");
        words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
    };
    *out += "\n## Words of labels\n\n| label | words |\n|---|---|\n";
    for label in
        ["mode", "engine", "balance", "probe", "family", "intent", "health", "kind", "resource", "log", "result"]
    {
        let _ = writeln!(out, "| `{label}` | {} |", list("", label));
    }
    let kinds = list("strata_source_up", "kind");
    let _ = writeln!(out, "| `kind` of a source | {kinds} |");
    let (requests, ports) = (list("strata_requests_total", "protocol"), list("strata_nat_ports_free", "protocol"));
    let _ = writeln!(out, "| `protocol` | of requests {requests}; of lent ports {ports} |");
}

fn losses(out: &mut String) {
    *out += "\n## Why frames are lost at an interface\n\n`reason` of `strata_interface_frames_lost_total`.\n\n";
    *out += "| reason | what it means |\n|---|---|\n";
    for why in Lost::ALL {
        let _ = writeln!(out, "| `{}` | {} |", why.word(), cell(why.meaning()));
    }
    *out += "\n## Why what a source finds is refused\n\n`reason` of `strata_source_refused`.\n\n";
    *out += "| reason | what it means |\n|---|---|\n";
    for why in Refusal::ALL {
        let _ = writeln!(out, "| `{}` | {} |", why.word(), cell(why.meaning()));
    }
    *out += "\n## Why a source fails\n\n`reason` of `strata_source_failures_total`.\n\n| reason | what it means |\n|---|---|\n";
    for why in Trouble::ALL {
        let _ = writeln!(out, "| `{}` | {} |", why.word(), cell(why.meaning()));
    }
    *out += "\n## Why requests to the admin API are refused\n\n`reason` of `strata_admin_requests_refused_total`. ";
    *out += "Those to the metrics listener count too.\n\n| reason | status | what it means |\n|---|---|---|\n";
    for why in Why::ALL {
        let _ = writeln!(out, "| `{}` | {} | {} |", why.word(), why.status(), cell(why.meaning()));
    }
}
