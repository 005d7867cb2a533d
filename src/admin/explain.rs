//! Shell: `GET /api/explain`: its query, and the request that it asks about, through the snapshot in force.
//!
//! Bounded: the query's length, and the work of finding how likely endpoints are (`limits::EXPLAIN_WORK`).

use std::collections::HashMap;

use super::control::EndpointReport;
use super::document::Explained;
use crate::base::{clock, limits};
use crate::doc::suggest;
use crate::explain::{self, Asked, Fault, Question, Scene};
use crate::state::Snapshot;
use crate::wire::ip::Protocol;
use crate::wire::line::{self, Line};

/// What is asked.
pub(super) enum Wish {
    Request(Question),
    Packet { line: Box<Line>, interface: Option<String> },
}

pub(super) const USAGE: &str = "as in /api/explain?what=GET%20http://a.test/x&from=10.1.0.9&header=Cookie:%20a=1, or what=tcp%2010.1.0.9:4242%20%3E%2010.0.0.1:80";

impl Wish {
    /// # Errors
    /// The part of the query that is not understood.
    pub(super) fn read(query: &str) -> Result<Wish, Fault> {
        if query.len() > limits::EXPLAIN_QUERY_BYTES {
            let why = format!("more than {} bytes: explain it from a file (`--config`)", limits::EXPLAIN_QUERY_BYTES);
            return Err(Fault::new("query", why));
        }
        let (mut what, mut from, mut service, mut interface, mut headers) = (None, None, None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| Fault::new("query", "an escape that is none, or no UTF-8"))?;
            let (place, part) = match key {
                "what" => (&mut what, "what"),
                "from" => (&mut from, "from"),
                "service" => (&mut service, "service"),
                "in" => (&mut interface, "in"),
                "header" => {
                    headers.push(value);
                    continue;
                }
                other => return Err(Fault::new("query", unknown(other))),
            };
            if place.replace(value).is_some() {
                return Err(Fault::new(part, "it is given twice"));
            }
        }
        let what = what.ok_or_else(|| Fault::new("what", "it is missing: a request or a packet"))?;
        if is_packet(&what) {
            let line = line::parse(&what).map_err(|why| Fault::new("packet", why))?;
            return Ok(Wish::Packet { line: Box::new(line), interface });
        }
        let asked = Asked { request: &what, headers: &headers, from: from.as_deref(), service: service.as_deref() };
        asked.read().map(Wish::Request)
    }
}

pub(super) fn request(
    snapshot: &Snapshot,
    reports: &[EndpointReport],
    question: &Question,
) -> Result<Explained, Fault> {
    let cause = causes(reports);
    let scene = Scene { snapshot, now: clock::now(), live: true, random_key: false, cause: &cause };
    explain::request(&scene, question).map(|story| Explained::Request(Box::new(story)))
}

/// Why an endpoint of a pool is in its state, as the keeper reports.
pub fn causes(reports: &[EndpointReport]) -> impl Fn(&str, &str) -> Option<String> {
    let known: HashMap<(&str, &str), &str> = reports
        .iter()
        .filter_map(|report| Some(((&*report.pool, &*report.endpoint), report.cause.as_deref()?)))
        .collect();
    move |pool, endpoint| known.get(&(pool, endpoint)).map(|cause| (*cause).to_owned())
}

/// Methods are in upper case, and what else has an arrow or begins with a protocol is a packet.
pub fn is_packet(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    let method = !first.is_empty() && first.bytes().all(|b| b.is_ascii_uppercase());
    !method && !first.contains("://") && (text.contains('>') || Protocol::parse(first).is_some())
}

fn unknown(key: &str) -> String {
    let known = ["what", "from", "header", "service", "in"];
    match suggest::nearest(key, known) {
        Some(near) => format!("`{}` is nothing that can be said: did you mean `{near}`?", key.escape_debug()),
        None => format!("`{}` is nothing that can be said: {}", key.escape_debug(), suggest::one_of(known)),
    }
}

/// As forms are sent: `+` is a space, escapes are bytes of UTF-8.
fn decode(text: &str) -> Option<String> {
    super::api::decode(&text.replace('+', "%20"))
}
