//! What a Prometheus is asked: every query of dashboards and alerts, and what it takes to be answered.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::common::Message;
use super::files::{alerts, dashboards, labels_in, list, queries, text};
use super::promql::sides;

/// Something that has to have data: where it stands, what is asked, and labels that texts take from the answer.
pub struct Wanted {
    pub place: String,
    pub query: String,
    pub labels: BTreeSet<String>,
}

/// A series of an answer: its labels and its value now.
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Wanted {
    /// By a number, with the labels that texts take from it.
    pub fn is_answered(&self, series: &[Series]) -> bool {
        series.iter().any(|series| {
            !series.value.is_nan()
                && self.labels.iter().all(|label| series.labels.get(label).is_some_and(|value| !value.is_empty()))
        })
    }
}

/// Every query of dashboards, and of every alert the sides of what it compares. `None` where rules cannot be read.
pub fn wanted() -> Option<Vec<Wanted>> {
    let mut wanted = Vec::new();
    for (_, dashboard) in dashboards() {
        for shown in queries(&dashboard) {
            // A legend names the labels of what comes first; the rest of a comparison has none of its own.
            let labels: BTreeSet<String> = shown.texts.iter().flat_map(|text| labels_in(text)).collect();
            wanted.extend(parts(&shown.place, &filled(&shown.query), labels));
        }
    }
    for alert in alerts()? {
        let texts = alert.annotations.iter().map(|(_, text)| text.as_str());
        let labels = texts
            .flat_map(|text| text.split("$labels.").skip(1))
            .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>());
        wanted.extend(parts(&format!("alert {}", alert.name), &alert.query, labels.collect()));
    }
    Some(wanted)
}

fn parts(place: &str, query: &str, labels: BTreeSet<String>) -> Vec<Wanted> {
    let parts = sides(query).into_iter().enumerate();
    let wanted = |(index, query)| {
        let labels = if index == 0 { labels.clone() } else { BTreeSet::new() };
        Wanted { place: place.to_owned(), query, labels }
    };
    parts.map(wanted).collect()
}

/// A query as Grafana sends it where everything is chosen.
pub fn filled(query: &str) -> String {
    let mut filled = query.replace("$__rate_interval", "15s");
    for variable in ["$instance", "$service", "$pool"] {
        filled = filled.replace(variable, ".+");
    }
    assert!(!filled.contains('$'), "{filled}: an unknown variable");
    filled
}

/// Where a query is asked.
pub fn path(query: &str) -> String {
    format!("/api/v1/query?query={}", encoded(query))
}

/// What an answer of the API brings, or why it brings nothing.
pub fn data(answer: &Message) -> Result<Value, String> {
    let json: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("{error}: {}", answer.text()))?;
    if json["status"] == "success" { Ok(json["data"].clone()) } else { Err(text(&json["error"])) }
}

/// What a query was answered with.
pub fn series(data: &Value) -> Vec<Series> {
    let number = |value: &Value| text(value).parse().unwrap_or(f64::NAN);
    let series = |result: &Value| {
        let labels = result["metric"].as_object().into_iter().flatten();
        Series {
            labels: labels.map(|(name, value)| (name.clone(), text(value))).collect(),
            value: number(&result["value"][1]),
        }
    };
    match text(&data["resultType"]).as_str() {
        "scalar" => vec![Series { labels: BTreeMap::new(), value: number(&data["result"][1]) }],
        _ => list(&data["result"]).iter().map(series).collect(),
    }
}

/// Percent-encoded, all but what never needs it.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
