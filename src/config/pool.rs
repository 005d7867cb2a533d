//! Engine: reads one `[pool.NAME]`: endpoints, how one is picked, and how their health is known.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Catalogs;
use super::root::Usage;
use super::value::{Dialled, Endpoint, Pool};
use crate::balance::capacity::CAPACITY;
use crate::balance::{self, HashBy};
use crate::base::address::parse_socket;
use crate::base::{EndpointAddr, MacAddr, Weight, limits};
use crate::doc::{Diagnostic, Grammar, Item, Settings, Span, Spanned, Table, Value, codes, quote};
use crate::health;
use crate::seam::probe::outlasts;

pub(super) fn read_pool(
    name: Spanned<Arc<str>>,
    item: &Item<'_>,
    usage: Usage,
    catalogs: &Catalogs<'_>,
) -> Option<Pool> {
    item.table("pool", |table| {
        let balance = read_balance(table, usage);
        let probe = table.get("probe").and_then(|item| item.settings(catalogs.probes));
        let damping = table.get("damping").and_then(|item| item.fields(&health::DAMPING));
        let panic = table.get("panic_percent").and_then(|item| item.integer(1, 100));
        let zones = table.get("zones").and_then(|item| item.settings(&[&health::PREFER_LOCAL]));
        let dialled = read_dialled(table, usage);
        let source = table.get("source").and_then(|item| item.settings(catalogs.sources));
        let endpoints = read_endpoints(table, &name, &balance, usage);
        if let Some(source) = &source {
            check_source_port(table, source, usage, catalogs);
        }
        if let Some(probe) = &probe {
            check_probe(table, probe);
            check_probe_port(table, probe, &endpoints, catalogs);
            check_found_probe_port(table, probe, source.as_ref().filter(|_| usage == Usage::Packets), catalogs);
        }
        if let Some(slow_start) = dialled.as_ref().and_then(|dialled| dialled.slow_start) {
            check_slow_start(table, &balance, slow_start.span);
        }
        Pool {
            name,
            balance,
            probe,
            damping: damping.unwrap_or_else(|| Spanned::implied(Settings::defaults(&health::DAMPING))),
            panic_percent: panic.and_then(|percent| u8::try_from(percent.value).ok()),
            zones,
            dialled,
            source,
            endpoints,
            found: None,
        }
    })
}

fn read_balance(table: &mut Table<'_>, usage: Usage) -> Spanned<Settings> {
    let item = table.get("balance");
    let says_key = item.as_ref().is_some_and(|item| item.holds("key"));
    let packets = usage == Usage::Packets;
    let read = item.and_then(|item| item.settings(&pickers()));
    let mut balance = read.unwrap_or_else(|| Spanned::implied(Settings::defaults(default_picker(packets))));
    // A service of packets spreads flows, as its like do everywhere, and not clients; `source-hash` says which it means.
    if packets && !says_key && balance.get("key").is_some() && balance.name != "source-hash" {
        balance.value.values.insert("key", Value::Text(HashBy::SourceAddressPort.to_string()));
    }
    balance
}

fn pickers() -> Vec<&'static Grammar> {
    balance::CATALOG.iter().map(|spec| &spec.grammar).collect()
}

/// Power of two choices: right for equal and unequal endpoints, short requests and long connections alike. It needs counts
/// that services of packets do not have; those have a table of slots, which Maglev fills.
pub(super) fn default_picker(packets: bool) -> &'static Grammar {
    let spec = balance::find(if packets { "maglev" } else { "p2c" }).or(balance::CATALOG.first());
    spec.map_or_else(|| unreachable!("the catalogue is not empty"), |spec| &spec.grammar)
}

/// What only those need that connect.
fn read_dialled(table: &mut Table<'_>, usage: Usage) -> Option<Dialled> {
    let (outlier, connect_timeout) = (table.get("outlier"), table.get("connect_timeout"));
    let (slow_start, limits) = (table.get("slow_start"), table.get("limits"));
    if usage == Usage::Packets {
        for item in [&outlier, &connect_timeout, &slow_start, &limits].into_iter().flatten() {
            let message = format!("{} is for pools of proxies", quote(item.key()));
            let mistake = Diagnostic::new(&codes::WRONG_MODE, item.key_span(), message);
            let mistake = mistake.label("only packet services use this pool");
            table.report(mistake.help(match item.key() {
                "slow_start" => "leave it out: each step would move flows; change the `weight` by hand instead",
                "limits" => "leave it out: packets are sent on, nobody counts what is in flight",
                _ => "leave it out: packets are sent on, nobody connects; a `probe` finds dead endpoints",
            }));
        }
        return None;
    }
    let outlier = outlier.and_then(|item| item.fields(&health::OUTLIER));
    let connect_timeout = connect_timeout.and_then(|item| item.duration(SHORTEST, LONGEST));
    let slow_start = slow_start.and_then(|item| item.duration(SHORTEST_WARMING, LONGEST_WARMING));
    let limits = limits.and_then(|item| item.fields(&CAPACITY));
    let default = Dialled::default();
    Some(Dialled {
        outlier: outlier.unwrap_or(default.outlier),
        slow_start,
        limits: limits.unwrap_or(default.limits),
        connect_timeout: connect_timeout.map_or(default.connect_timeout, |wait| wait.value),
    })
}

impl Default for Dialled {
    fn default() -> Dialled {
        Dialled {
            outlier: Spanned::implied(Settings::defaults(&health::OUTLIER)),
            slow_start: None,
            limits: Spanned::implied(Settings::defaults(&CAPACITY)),
            connect_timeout: CONNECT,
        }
    }
}

fn read_endpoints(
    table: &mut Table<'_>,
    name: &Spanned<Arc<str>>,
    balance: &Spanned<Settings>,
    usage: Usage,
) -> Vec<Endpoint> {
    let has_source = table.has("source");
    let item = match has_source {
        true => table.get("endpoints"),
        false => table.need("endpoints", &format!("endpoints = [\"{}\"]", example(usage))),
    };
    let Some(item) = item else { return Vec::new() };
    let items = item.one_or_many();
    if items.is_empty() && !has_source {
        let message = format!("pool {} has no endpoint", quote(name));
        let mistake = Diagnostic::new(&codes::EMPTY_POOL, item.span(), message);
        table.report(mistake.help(if usage == Usage::Packets {
            "packets to it are dropped"
        } else {
            "requests to it are answered 503, connections closed"
        }));
    }
    if items.len() > limits::POOL_ENDPOINTS {
        let message = format!("{} endpoints, more than the {} that fit", items.len(), limits::POOL_ENDPOINTS);
        table.report(Diagnostic::new(&codes::TOO_MANY_NAMES, item.key_span(), message));
    }
    let weighted = balance::find(balance.name).is_none_or(|spec| spec.uses.weights);
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for item in items.iter().take(limits::POOL_ENDPOINTS) {
        let Some((endpoint, weight)) = read_endpoint(item, usage) else { continue };
        // 1 is what it has anyway.
        if let Some(weight) = weight.filter(|weight| !weighted && weight.value != 1) {
            let message = format!("`{}` does not look at weights", balance.name);
            table.report(
                Diagnostic::new(&codes::IGNORED_WEIGHT, weight.span, message)
                    .also(balance.span, "chosen here")
                    .help("use `weighted-round-robin` or `p2c`, or leave the weight out"),
            );
        }
        if let Some(first) = seen.insert(endpoint.address.value, endpoint.address.span) {
            let message = format!("endpoint `{}` is named twice", endpoint.address.value);
            table.report(
                Diagnostic::new(&codes::SAME_ENDPOINT, endpoint.address.span, message)
                    .label("this one is ignored")
                    .also(first, "first named here")
                    .help("for a larger share give it a weight: { address = \"…\", weight = 2 }"),
            );
            seen.insert(endpoint.address.value, first);
            continue;
        }
        endpoints.push(endpoint);
    }
    endpoints
}

/// The endpoint, and its weight when one is written.
fn read_endpoint(item: &Item<'_>, usage: Usage) -> Option<(Endpoint, Option<Spanned<u64>>)> {
    if !item.is_table() {
        let address = read_address(item, usage)?;
        return Some((Endpoint::new(address), None));
    }
    item.table("endpoint", |table| {
        let address = table.need("address", &format!("address = \"{}\"", example(usage)));
        let address = address.and_then(|item| read_address(&item, usage));
        let weight = table.get("weight").and_then(|item| item.integer(1, limits::WEIGHT.into()));
        let mac = table.get("mac").and_then(|item| read_mac(&item, usage));
        let backup = table.get("backup").and_then(|item| item.bool()).is_some_and(|backup| backup.value);
        let zone = table.get("zone").and_then(|item| read_zone(&item));
        let value = weight.and_then(|weight| Weight::new(weight.value)).unwrap_or(Weight::ONE);
        Some((Endpoint { weight: value, mac, backup, zone, ..Endpoint::new(address?) }, weight))
    })?
}

impl Endpoint {
    /// As a file means it that says no more.
    pub(super) fn new(address: Spanned<EndpointAddr>) -> Endpoint {
        Endpoint { address, weight: Weight::ONE, mac: None, backup: false, zone: None, leaving: false, found: None }
    }
}

/// An endpoint as it could be written.
fn example(usage: Usage) -> &'static str {
    if usage == Usage::Packets { "10.0.0.1" } else { "10.0.0.1:8080" }
}

/// The name of a zone: whatever word the operator has for a room, a rack or a region.
pub(super) fn read_zone(item: &Item<'_>) -> Option<Arc<str>> {
    let text = item.text()?.value;
    if text.is_empty() || text.len() > limits::NAME_BYTES || text.chars().any(char::is_control) {
        let help = format!("a word of 1 to {} bytes, as in \"eu-west-1a\"", limits::NAME_BYTES);
        return item.fail(&codes::MALFORMED, format!("{} is no zone", quote(text)), Some(help));
    }
    Some(text.into())
}

/// A share that grows means nothing to an algorithm that gives everyone the same.
fn check_slow_start(table: &Table<'_>, balance: &Spanned<Settings>, span: Span) {
    if balance::find(balance.name).is_some_and(|spec| !spec.uses.weights) {
        let message = format!("`{}` does not look at weights: nothing starts slowly", balance.name);
        table.report(
            Diagnostic::new(&codes::IGNORED_WEIGHT, span, message)
                .also(balance.span, "chosen here")
                .help("use `weighted-round-robin` or `p2c`, or leave `slow_start` out"),
        );
    }
}

fn read_mac(item: &Item<'_>, usage: Usage) -> Option<MacAddr> {
    let mac = item.mac();
    if usage == Usage::Proxies {
        let mistake = Diagnostic::new(&codes::WRONG_MODE, item.key_span(), "`mac` is for pools of packet services");
        item.report(mistake.label("proxies use this pool").help("leave it out: the kernel finds the endpoint"));
    }
    mac.map(|mac| mac.value)
}

fn read_address(item: &Item<'_>, usage: Usage) -> Option<Spanned<EndpointAddr>> {
    if !item.is_text() {
        return item.socket().map(|address| address.map(EndpointAddr::from));
    }
    let text = item.text()?.value;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        if usage != Usage::Proxies {
            return usable(item, Spanned::new(EndpointAddr::host(address), item.span()), usage);
        }
        let help = format!("write \"{}\"", SocketAddr::new(address, 8080));
        return item.fail(&codes::ENDPOINT_PORT, format!("endpoint {} has no port", quote(text)), Some(help));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let help = format!("leave `{scheme}://` out: \"{}\"", rest.trim_end_matches('/'));
        return item.fail(&codes::MALFORMED, format!("{} is a URL, not an address", quote(text)), Some(help));
    }
    if parse_socket(text).is_err() && is_name(text) {
        let (name, port) = text.split_once(':').unwrap_or((text, ""));
        let port = if port.is_empty() { String::new() } else { format!(", port = {port}") };
        let help = format!(
            "have it looked up, in place of `endpoints` or beside it: `source = {{ type = \"dns\", name = \"{name}\"{port} }}`"
        );
        return item.fail(&codes::ENDPOINT_NAME, format!("endpoint {} is a name", quote(text)), Some(help));
    }
    let address = item.socket()?;
    if address.port() == 0 {
        return item.fail(
            &codes::PORT_ZERO,
            "port 0 cannot be connected to",
            Some("name a port from 1 to 65535".to_owned()),
        );
    }
    usable(item, address.map(EndpointAddr::from), usage)
}

fn usable(item: &Item<'_>, address: Spanned<EndpointAddr>, usage: Usage) -> Option<Spanned<EndpointAddr>> {
    let ip = address.ip();
    if ip.is_unspecified() || ip.is_multicast() {
        let help = Some("an endpoint is one server: name its address".to_owned());
        return item.fail(&codes::MALFORMED, format!("`{}` cannot be connected to", address.value), help);
    }
    // To a proxy's kernel it is the IPv4 address; in a packet it is not.
    if usage == Usage::Packets && ip.to_canonical() != ip {
        let help = Some(format!("write \"{}\"", ip.to_canonical()));
        return item.fail(&codes::MALFORMED, format!("`{ip}` is an IPv4 address in the form of IPv6"), help);
    }
    Some(address)
}

/// Whether it reads as a host name, with or without a port.
fn is_name(text: &str) -> bool {
    let host = text.split_once(':').map_or(text, |(host, _)| host);
    host.contains(|c: char| c.is_ascii_alphabetic())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

fn check_probe(table: &Table<'_>, probe: &Spanned<Settings>) {
    if outlasts(probe) {
        table.report(
            Diagnostic::new(&codes::PROBE_TIMEOUT, probe.span, "the probe's timeout is longer than its interval")
                .help("shorten `timeout` or lengthen `interval`"),
        );
    }
}

/// A probe that connects needs a port from somewhere.
fn check_probe_port(table: &Table<'_>, probe: &Spanned<Settings>, endpoints: &[Endpoint], catalogs: &Catalogs<'_>) {
    let connects = catalogs.probes.iter().any(|g| g.name == probe.name && g.fields.iter().any(|f| f.name == PORT));
    let portless = endpoints.iter().find(|endpoint| endpoint.address.port().is_none());
    if let Some(endpoint) = portless.filter(|_| connects && probe.get(PORT).is_none()) {
        let message = format!("probe {} has no port to connect to", quote(probe.name));
        let help = format!("name one: `probe = {{ type = \"{}\", port = 80 }}`", probe.name);
        table.report(
            Diagnostic::new(&codes::PROBE_PORT, probe.span, message)
                .also(endpoint.address.span, "this endpoint has none either")
                .help(help),
        );
    }
}

/// A source that finds names for addresses has the port from its settings, or none.
fn check_source_port(table: &Table<'_>, source: &Spanned<Settings>, usage: Usage, catalogs: &Catalogs<'_>) {
    if usage == Usage::Proxies && finds_no_port(source, catalogs) {
        let message = format!("source {} has no port to connect to", quote(source.name));
        let help = "name one, `port = 8080`, or look up `record = \"srv\"`, which has ports";
        table.report(Diagnostic::new(&codes::ENDPOINT_PORT, source.span, message).help(help));
    }
}

/// The same of a probe of endpoints that will be found without one.
fn check_found_probe_port(
    table: &Table<'_>,
    probe: &Spanned<Settings>,
    source: Option<&Spanned<Settings>>,
    catalogs: &Catalogs<'_>,
) {
    let connects = catalogs.probes.iter().any(|g| g.name == probe.name && g.fields.iter().any(|f| f.name == PORT));
    if let Some(source) =
        source.filter(|source| connects && probe.get(PORT).is_none() && finds_no_port(source, catalogs))
    {
        let message = format!("probe {} has no port to connect to", quote(probe.name));
        let help = format!("name one: `probe = {{ type = \"{}\", port = 80 }}`", probe.name);
        table.report(
            Diagnostic::new(&codes::PROBE_PORT, probe.span, message)
                .also(source.span, "endpoints are found without one")
                .help(help),
        );
    }
}

/// Whether its endpoints get a port from the setting of that name alone, and there is none.
fn finds_no_port(source: &Settings, catalogs: &Catalogs<'_>) -> bool {
    let takes_one = catalogs.sources.iter().any(|g| g.name == source.name && g.fields.iter().any(|f| f.name == PORT));
    takes_one && source.get(PORT).is_none() && source.text("record") != Some("srv")
}

/// The setting of probes that connect, and of sources that find addresses alone.
const PORT: &str = "port";

/// `notes/hardening.md`, design rule 4.
const CONNECT: Duration = Duration::from_secs(2);
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(120);
/// Of slow start: below a second no cache gets warm, and for an hour nobody waits.
const SHORTEST_WARMING: Duration = Duration::from_secs(1);
const LONGEST_WARMING: Duration = Duration::from_secs(3600);
