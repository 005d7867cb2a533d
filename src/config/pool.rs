//! Engine: reads one `[pool.NAME]`: endpoints, how one is picked, and how their health is known.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::Catalogs;
use super::value::{Endpoint, Pool};
use crate::balance;
use crate::base::address::parse_socket;
use crate::base::{Weight, limits};
use crate::doc::{Diagnostic, Grammar, Item, Settings, Spanned, Table, codes, quote};
use crate::health;

pub(super) fn read_pool(name: Spanned<Arc<str>>, item: &Item<'_>, catalogs: &Catalogs<'_>) -> Option<Pool> {
    item.table("pool", |table| {
        let balance = table.get("balance").and_then(|item| item.settings(&pickers()));
        let probe = table.get("probe").and_then(|item| item.settings(catalogs.probes));
        let outlier = table.get("outlier").and_then(|item| item.fields(&health::OUTLIER));
        let connect_timeout = table.get("connect_timeout").and_then(|item| item.duration(SHORTEST, LONGEST));
        let balance = balance.unwrap_or_else(|| Spanned::implied(Settings::defaults(default_picker())));
        let endpoints = read_endpoints(table, &name, &balance);
        if let Some(probe) = &probe {
            check_probe(table, probe);
        }
        Pool {
            name,
            balance,
            probe,
            outlier: outlier.unwrap_or_else(|| Spanned::implied(Settings::defaults(&health::OUTLIER))),
            connect_timeout: connect_timeout.map_or(CONNECT, |wait| wait.value),
            endpoints,
        }
    })
}

fn pickers() -> Vec<&'static Grammar> {
    balance::CATALOG.iter().map(|spec| &spec.grammar).collect()
}

/// Power of two choices: right for equal and unequal endpoints, short requests and long connections alike.
fn default_picker() -> &'static Grammar {
    let spec = balance::find("p2c").or(balance::CATALOG.first());
    spec.map_or_else(|| unreachable!("the catalogue is not empty"), |spec| &spec.grammar)
}

fn read_endpoints(table: &mut Table<'_>, name: &Spanned<Arc<str>>, balance: &Spanned<Settings>) -> Vec<Endpoint> {
    let Some(item) = table.need("endpoints", "endpoints = [\"10.0.0.1:8080\"]") else { return Vec::new() };
    let items = item.one_or_many();
    if items.is_empty() {
        let message = format!("pool {} has no endpoint", quote(name));
        let mistake = Diagnostic::new(&codes::EMPTY_POOL, item.span(), message);
        table.report(mistake.help("requests to it are answered 503, connections closed"));
    }
    if items.len() > limits::POOL_ENDPOINTS {
        let message = format!("{} endpoints, more than the {} that fit", items.len(), limits::POOL_ENDPOINTS);
        table.report(Diagnostic::new(&codes::TOO_MANY_NAMES, item.key_span(), message));
    }
    let weighted = balance::find(balance.name).is_none_or(|spec| spec.uses.weights);
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for item in items.iter().take(limits::POOL_ENDPOINTS) {
        let Some((endpoint, weight)) = read_endpoint(item) else { continue };
        if let Some(weight) = weight.filter(|_| !weighted) {
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
fn read_endpoint(item: &Item<'_>) -> Option<(Endpoint, Option<Spanned<u64>>)> {
    if !item.is_table() {
        return Some((Endpoint { address: read_address(item)?, weight: Weight::ONE }, None));
    }
    item.table("endpoint", |table| {
        let address = table.need("address", "address = \"10.0.0.1:8080\"").and_then(|item| read_address(&item));
        let weight = table.get("weight").and_then(|item| item.integer(1, limits::WEIGHT.into()));
        let value = weight.and_then(|weight| Weight::new(weight.value)).unwrap_or(Weight::ONE);
        Some((Endpoint { address: address?, weight: value }, weight))
    })?
}

fn read_address(item: &Item<'_>) -> Option<Spanned<SocketAddr>> {
    if !item.is_text() {
        return item.socket();
    }
    let text = item.text()?.value;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        let help = format!("write \"{}\"", SocketAddr::new(address, 8080));
        return item.fail(&codes::ENDPOINT_PORT, format!("endpoint {} has no port", quote(text)), Some(help));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let help = format!("leave `{scheme}://` out: \"{}\"", rest.trim_end_matches('/'));
        return item.fail(&codes::MALFORMED, format!("{} is a URL, not an address", quote(text)), Some(help));
    }
    if parse_socket(text).is_err() && is_name(text) {
        let help = "names are not resolved yet: write the address, as in \"10.0.0.1:8080\"".to_owned();
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
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        let help = Some("an endpoint is one server: name its address".to_owned());
        return item.fail(&codes::MALFORMED, format!("`{}` cannot be connected to", address.value), help);
    }
    Some(address)
}

/// Whether it reads as a host name, with or without a port.
fn is_name(text: &str) -> bool {
    let host = text.split_once(':').map_or(text, |(host, _)| host);
    host.contains(|c: char| c.is_ascii_alphabetic())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Two probes of one endpoint never run at once, so a timeout beyond the interval is not what was meant.
fn check_probe(table: &Table<'_>, probe: &Spanned<Settings>) {
    use crate::doc::Value::Duration;
    if let (Some(Duration(timeout)), Some(Duration(interval))) = (probe.get("timeout"), probe.get("interval"))
        && timeout > interval
    {
        table.report(
            Diagnostic::new(&codes::PROBE_TIMEOUT, probe.span, "the probe's timeout is longer than its interval")
                .help("shorten `timeout` or lengthen `interval`"),
        );
    }
}

/// `notes/hardening.md`, design rule 4.
const CONNECT: Duration = Duration::from_secs(2);
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(120);
