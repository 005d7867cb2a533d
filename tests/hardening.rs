//! The catalogue of hostile and broken HTTP/1 (`A` framing, `B` routing, `C` identity and tunnels, `I` names that are looked up, `J` the
//! configuration): each row by its id, over real sockets, against the real binary.
//!
//! A refused row gets its status with `Connection: close`, the socket closed, no byte at the endpoint, and one count of the
//! word that names the reason.

#![allow(clippy::disallowed_methods, reason = "tests live in real time")]

#[path = "hardening/catalogue.rs"]
mod catalogue;
#[path = "common/cli.rs"]
mod cli;
mod common;
#[path = "hardening/configuration.rs"]
mod configuration;
#[path = "hardening/discovery.rs"]
mod discovery;
#[path = "common/dns.rs"]
mod dns;
#[path = "hardening/framing.rs"]
mod framing;
#[path = "hardening/identity.rs"]
mod identity;
#[path = "common/load.rs"]
mod load;
#[path = "hardening/responses.rs"]
mod responses;
#[path = "hardening/routing.rs"]
mod routing;
#[path = "hardening/streams.rs"]
mod streams;

use std::time::Duration;

use common::{End, Origin, Report, Strata, ensure};

/// A request that must be refused, and how.
struct Refusal {
    /// The row's id and what is special about this form of it.
    name: &'static str,
    status: u16,
    /// The word of the counter; several where the first mistake that a parser meets is a matter of order.
    reason: &'static [&'static str],
    request: Vec<u8>,
}

fn refusal(name: &'static str, status: u16, reason: &'static [&'static str], request: impl Into<Vec<u8>>) -> Refusal {
    Refusal { name, status, reason, request: request.into() }
}

/// A GET with these lines after its Host.
fn with(lines: &str) -> Vec<u8> {
    with_bytes(lines.as_bytes())
}

fn with_bytes(lines: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a.test\r\n", lines, b"\r\n\r\n"].concat()
}

/// One service over one endpoint.
fn service(origin: &Origin) -> Strata {
    service_with(origin, "")
}

/// The same, with more lines in the service's table.
fn service_with(origin: &Origin, lines: &str) -> Strata {
    Strata::start(&format!(
        "[service.web]\nmode = \"l7\"\nlisten = \"{{edge}}\"\npool = \"web\"\n{lines}\n[pool.web]\nendpoints = [\"{}\"]\n",
        origin.address
    ))
}

fn refuse_all(strata: &Strata, origin: &Origin, rows: &[Refusal]) {
    let mut report = Report::default();
    for row in rows {
        report.check(row.name, refuse(strata, origin, row));
    }
    report.finish(strata);
}

fn refuse(strata: &Strata, origin: &Origin, row: &Refusal) -> Result<(), String> {
    let (before, bytes) = (strata.scrape(), origin.bytes());
    let mut client = strata.connect();
    client.patience(Duration::from_secs(3)).send(&row.request);
    let answer = client.response().map_err(|broken| format!("no response: {broken:?}"))?;
    let start = answer.start_line();
    ensure(answer.status() == row.status, || format!("expected {}, got {start:?}", row.status))?;
    let close = answer.field("connection");
    ensure(close.as_deref() == Some("close"), || format!("expected Connection: close, got {close:?}"))?;
    let word = answer.field("x-strata-reason").unwrap_or_default();
    ensure(row.reason.contains(&word.as_str()), || format!("expected reason {:?}, got {word:?}", row.reason))?;
    let (rest, end) = client.rest();
    ensure(rest.is_empty() && end == End::Fin, || format!("after the response: {} bytes, {end:?}", rest.len()))?;
    ensure(origin.bytes() == bytes, || format!("the endpoint got {} bytes", origin.bytes() - bytes))?;
    strata.counted(&before, &word, 1.0)
}
