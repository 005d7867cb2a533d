//! A scrape: Prometheus' text format as numbers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::wire::Wire;

pub struct Metrics {
    series: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    #[track_caller]
    pub fn scrape(address: SocketAddr) -> Metrics {
        let answer = get(address, "/metrics");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        Metrics::parse(&answer.text())
    }

    fn parse(text: &str) -> Metrics {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Metrics { series: lines.map(parse_line).collect() }
    }

    /// Sum of the series of `name` that carry all of `labels`. One that is not exported is no zero: a test that asks for a name
    /// which does not exist would hold whatever happens.
    #[track_caller]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        assert!(self.has(name, labels), "no series {name} with {labels:?} is exported");
        self.of(name, labels).sum()
    }

    /// The same where these labels may not exist, or no longer: then it is 0. The metric must.
    #[track_caller]
    pub fn sum_if_any(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        assert!(self.has(name, &[]), "no metric {name} is exported");
        self.of(name, labels).sum()
    }

    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.of(name, labels).next().is_some()
    }

    fn of(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = f64> {
        let carries = |of: &BTreeMap<String, String>| labels.iter().all(|(k, v)| of.get(*k).is_some_and(|is| is == v));
        self.series.iter().filter(move |(n, of, _)| n == name && carries(of)).map(|(_, _, value)| *value)
    }

    pub fn drops(&self, reason: &str) -> f64 {
        self.sum("strata_drops_total", &[("reason", reason)])
    }

    pub fn all_drops(&self) -> f64 {
        self.sum("strata_drops_total", &[])
    }

    /// The reasons that were counted since `before`, with how often.
    pub fn drops_since(&self, before: &Metrics) -> BTreeMap<String, f64> {
        let mut since = BTreeMap::new();
        for (name, labels, value) in &self.series {
            if let ("strata_drops_total", Some(reason)) = (name.as_str(), labels.get("reason")) {
                *since.entry(reason.clone()).or_insert(0.0) += value;
            }
        }
        for (reason, count) in &mut since {
            *count -= before.drops(reason);
        }
        since.retain(|_, count| *count != 0.0);
        since
    }
}

pub fn get(address: SocketAddr, path: &str) -> super::Message {
    try_get(address, path).unwrap_or_else(|broken| panic!("GET {path} at {address}: {broken}"))
}

/// The same of who may be too busy to answer.
pub fn try_get(address: SocketAddr, path: &str) -> Result<super::Message, String> {
    let mut wire = Wire::connect(address);
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"));
    wire.response().map_err(|broken| format!("{broken:?}"))
}

/// `name{label="value",…} 1` or `name 1`.
fn parse_line(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample"));
    let value = value.parse().unwrap_or_else(|_| panic!("{line:?} has no number"));
    let Some((name, labels)) = series.split_once('{') else { return (series.to_owned(), BTreeMap::new(), value) };
    let mut of = BTreeMap::new();
    let mut rest = labels.trim_end_matches('}');
    while let Some((label, after)) = rest.split_once("=\"") {
        let end = end_of_value(after);
        of.insert(label.trim_start_matches(',').to_owned(), after[..end].to_owned());
        rest = &after[end + 1..];
    }
    (name.to_owned(), of, value)
}

/// Index of the quote that ends a label's value; `\"` does not.
fn end_of_value(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}
