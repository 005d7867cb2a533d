//! Engine: what `strata top` tells: two status documents and the time between them make rates, latencies and states.
//!
//! Counters of what was not there before, or of a process that is another one, begin at zero, and so does a counter that went back:
//! no rate is ever negative. Without a time between, there are no rates, rather than infinite ones. Names and causes are cleaned
//! here, once. Not here: order and choice (`desk`), nor how it looks (`draw`).

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::super::status::{Style, clean, state, weight};
use crate::admin::document::{Drop, Durations, Endpoint, Packets, Pool, Service, Status};
use crate::base::limits;

/// One look, and what changed since the one before.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub version: String,
    pub generation: u64,
    pub uptime_ms: u64,
    pub ready: bool,
    pub draining: bool,
    pub connections: u64,
    pub last_reload_successful: bool,
    pub probes_static: bool,
    /// What rates are over; absent where there are none.
    pub interval_ms: Option<u64>,
    pub services: Vec<ServiceRow>,
    pub pools: Vec<PoolRow>,
    pub endpoints: Vec<EndpointRow>,
    /// Where there are packet services.
    pub packets: Option<PacketsRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServiceRow {
    pub name: String,
    pub mode: String,
    pub engine: String,
    pub pools: Vec<String>,
    /// Client connections.
    pub open: Option<u64>,
    #[serde(flatten)]
    pub flow: Flow,
    pub drops_per_s: Option<f64>,
    /// By reason, those of now first.
    pub drops: Vec<DropRate>,
    #[serde(flatten)]
    pub latency: Latency,
    /// Packet services: slots in transition.
    pub slots_marked: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PoolRow {
    pub name: String,
    pub balance: String,
    pub usable: usize,
    pub of: usize,
    /// `panic`, `backups`, `local`: who serves, where it is not all that are up.
    pub marks: Vec<&'static str>,
    /// Requests, at L4 connections, that wait.
    pub queue: u32,
    #[serde(flatten)]
    pub flow: Flow,
    pub retries_per_s: Option<f64>,
    /// Of responses; where there are none, of connects.
    #[serde(flatten)]
    pub latency: Latency,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EndpointRow {
    pub pool: String,
    pub name: String,
    /// Both as the API has them, however they are shown.
    #[serde(skip)]
    pub target: (String, String),
    /// Intent and health in one: `up`, `draining (up)`, `ejected`, `up (backup)`.
    pub state: String,
    #[serde(skip)]
    pub style: Tone,
    pub usable: bool,
    /// And the share of it in force while it warms up: `20 (40 %)`.
    pub weight: String,
    pub since_ms: Option<u64>,
    pub in_flight: u32,
    #[serde(flatten)]
    pub flow: Flow,
    pub cause: String,
}

/// How a row is to be looked at; the worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    #[default]
    Good,
    Warn,
    Bad,
}

/// What is not known of an object is absent, not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Flow {
    pub requests_per_s: Option<f64>,
    pub connections_per_s: Option<f64>,
    pub packets_per_s: Option<f64>,
    pub received_bytes_per_s: Option<f64>,
    pub sent_bytes_per_s: Option<f64>,
    /// Of services: responses with a status of 500 or more. Of endpoints: what they failed.
    pub errors_per_s: Option<f64>,
}

/// Of what ended within the interval; absent where nothing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DropRate {
    pub reason: String,
    pub per_s: Option<f64>,
    pub total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PacketsRow {
    pub flow_records: usize,
    pub flow_records_limit: usize,
    pub nat_flows: usize,
    pub nat_flows_limit: usize,
    /// Of no service.
    pub drops: Vec<DropRate>,
    /// Lost by interfaces, all of them together.
    pub lost: Vec<DropRate>,
}

/// What `now` tells since `before`, `elapsed` later.
pub fn report(before: Option<&Status>, now: &Status, elapsed: Duration) -> Report {
    let same = before.is_some_and(|before| before.pid == now.pid && before.uptime_ms <= now.uptime_ms);
    let span = match before {
        None => None,
        Some(_) if same => Some(elapsed),
        // Another process: its counters are as old as it is.
        Some(_) => Some(elapsed.min(Duration::from_millis(now.uptime_ms))),
    };
    let clock = Clock { seconds: span.map(|span| span.as_secs_f64()).filter(|seconds| *seconds > 0.0) };
    let before = before.filter(|_| same);
    let services = by_name(before.map_or(&[][..], |before| &before.services), |service| &service.name);
    let pools = by_name(before.map_or(&[][..], |before| &before.pools), |pool| &pool.name);
    let endpoints = now.pools.iter().flat_map(|pool| {
        let then = pools.get(pool.name.as_str()).map_or(&[][..], |pool| &pool.endpoints);
        let then = by_name(then, |endpoint| &endpoint.name);
        pool.endpoints.iter().map(move |each| clock.endpoint(pool, each, then.get(each.name.as_str()).copied()))
    });
    let endpoints: Vec<EndpointRow> = endpoints.collect();
    Report {
        version: text(&now.version),
        generation: now.generation,
        uptime_ms: now.uptime_ms,
        ready: now.ready,
        draining: now.draining,
        connections: now.connections,
        last_reload_successful: now.last_reload_successful,
        probes_static: now.probes_static,
        interval_ms: clock.seconds.map(|seconds| (seconds * 1000.0).round() as u64),
        services: now
            .services
            .iter()
            .map(|each| clock.service(each, services.get(each.name.as_str()).copied()))
            .collect(),
        pools: now
            .pools
            .iter()
            .map(|each| clock.pool(each, pools.get(each.name.as_str()).copied(), &endpoints))
            .collect(),
        packets: now
            .packets
            .as_ref()
            .map(|packets| clock.packets(packets, before.and_then(|before| before.packets.as_ref()))),
        endpoints,
    }
}

fn by_name<T>(all: &[T], name: impl Fn(&T) -> &String) -> HashMap<&str, &T> {
    all.iter().map(|each| (name(each).as_str(), each)).collect()
}

/// The time between two looks, in which counters became rates.
#[derive(Clone, Copy)]
struct Clock {
    seconds: Option<f64>,
}

impl Clock {
    fn rate(self, now: u64, before: u64) -> Option<f64> {
        let more = risen(now, before);
        // Thousandths: a document is no better for more digits.
        self.seconds.map(|seconds| (more as f64 / seconds * 1000.0).round() / 1000.0)
    }

    /// Of a count that is not there everywhere.
    fn known(self, now: Option<u64>, before: Option<u64>) -> Option<f64> {
        now.and_then(|now| self.rate(now, before.unwrap_or(0)))
    }

    fn service(self, now: &Service, before: Option<&Service>) -> ServiceRow {
        let zero = Service::default();
        let old = before.unwrap_or(&zero);
        let requests = now.mode == "l7";
        let of_requests = |now, before| self.rate(now, before).filter(|_| requests);
        let drops = self.drops(&now.drops, &old.drops);
        ServiceRow {
            name: text(&now.name),
            mode: text(&super::super::status::mode(now)),
            engine: text(&now.engine),
            pools: now.pools.iter().map(|pool| text(pool)).collect(),
            open: now.connections,
            flow: Flow {
                requests_per_s: of_requests(now.requests_total, old.requests_total),
                connections_per_s: self.known(now.connections_total, old.connections_total),
                packets_per_s: self.known(now.packets_total, old.packets_total),
                received_bytes_per_s: self.rate(now.bytes_received_total, old.bytes_received_total),
                sent_bytes_per_s: self.known(now.bytes_sent_total, old.bytes_sent_total),
                errors_per_s: of_requests(now.server_errors_total, old.server_errors_total),
            },
            drops_per_s: self
                .seconds
                .map(|_| drops.iter().filter_map(|drop| drop.per_s).fold(0.0, |sum, more| sum + more)),
            drops,
            latency: self.latency(now.request_duration.as_ref(), old.request_duration.as_ref()),
            slots_marked: now.slots_marked,
        }
    }

    fn pool(self, now: &Pool, before: Option<&Pool>, endpoints: &[EndpointRow]) -> PoolRow {
        let zero = Pool::default();
        let old = before.unwrap_or(&zero);
        let sum = |of: fn(&Flow) -> Option<f64>| {
            let known =
                endpoints.iter().filter(|endpoint| endpoint.target.0 == now.name).filter_map(|each| of(&each.flow));
            known.fold(None, |sum: Option<f64>, more| Some(sum.unwrap_or(0.0) + more))
        };
        let responses = self.latency(now.response_duration.as_ref(), old.response_duration.as_ref());
        let marks = [(now.panic, "panic"), (now.backup, "backups"), (now.local, "local")];
        PoolRow {
            name: text(&now.name),
            balance: text(&now.balance),
            usable: now.usable,
            of: now.endpoints.len(),
            marks: marks.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect(),
            queue: now.queue,
            flow: Flow {
                requests_per_s: sum(|flow| flow.requests_per_s),
                connections_per_s: sum(|flow| flow.connections_per_s),
                packets_per_s: sum(|flow| flow.packets_per_s),
                received_bytes_per_s: sum(|flow| flow.received_bytes_per_s),
                sent_bytes_per_s: sum(|flow| flow.sent_bytes_per_s),
                errors_per_s: sum(|flow| flow.errors_per_s),
            },
            retries_per_s: self.rate(now.retries_total, old.retries_total).filter(|_| now.connect_duration.is_some()),
            latency: if responses.p50_us.is_some() {
                responses
            } else {
                self.latency(now.connect_duration.as_ref(), old.connect_duration.as_ref())
            },
        }
    }

    fn endpoint(self, pool: &Pool, now: &Endpoint, before: Option<&Endpoint>) -> EndpointRow {
        let zero = Endpoint::default();
        let old = before.unwrap_or(&zero);
        let (state, style) = state(now);
        // Where only packets are forwarded to it, none of these is known.
        let proxied = |now, before| self.rate(now, before).filter(|_| pool.connect_duration.is_some());
        let both = |each: &Endpoint| {
            each.packets_sent_total.map(|sent| sent.saturating_add(each.packets_received_total.unwrap_or(0)))
        };
        EndpointRow {
            pool: text(&pool.name),
            name: text(&now.name),
            target: (pool.name.clone(), now.name.clone()),
            state: text(&state),
            style: match style {
                Style::Bad => Tone::Bad,
                Style::Warn => Tone::Warn,
                _ => Tone::Good,
            },
            usable: now.usable,
            weight: weight(now),
            since_ms: now.since_ms,
            in_flight: now.in_flight,
            flow: Flow {
                requests_per_s: proxied(now.requests_total, old.requests_total),
                connections_per_s: proxied(now.connections_total, old.connections_total),
                packets_per_s: self.known(both(now), both(old)),
                received_bytes_per_s: self.known(now.bytes_received_total, old.bytes_received_total),
                sent_bytes_per_s: self.known(now.bytes_sent_total, old.bytes_sent_total),
                errors_per_s: proxied(now.errors_total, old.errors_total),
            },
            cause: text(now.cause.as_deref().unwrap_or_default()),
        }
    }

    fn packets(self, now: &Packets, before: Option<&Packets>) -> PacketsRow {
        let zero = Packets::default();
        let old = before.unwrap_or(&zero);
        PacketsRow {
            flow_records: now.flow_records,
            flow_records_limit: now.flow_records_limit,
            nat_flows: now.nat_flows,
            nat_flows_limit: now.nat_flows_limit,
            drops: self.drops(&now.drops, &old.drops),
            lost: self.drops(&lost(now), &lost(old)),
        }
    }

    fn drops(self, now: &[Drop], before: &[Drop]) -> Vec<DropRate> {
        let then: HashMap<&str, u64> = before.iter().map(|drop| (drop.reason.as_str(), drop.count)).collect();
        let mut drops: Vec<DropRate> = now
            .iter()
            .map(|drop| DropRate {
                reason: text(&drop.reason),
                per_s: self.rate(drop.count, then.get(drop.reason.as_str()).copied().unwrap_or(0)),
                total: drop.count,
            })
            .collect();
        drops.sort_by(|a, b| b.per_s.unwrap_or(0.0).total_cmp(&a.per_s.unwrap_or(0.0)).then(b.total.cmp(&a.total)));
        drops
    }

    fn latency(self, now: Option<&Durations>, before: Option<&Durations>) -> Latency {
        let (Some(now), Some(_)) = (now, self.seconds) else { return Latency::default() };
        let then: HashMap<u64, u64> = before
            .map_or(&[][..], |before| &before.buckets)
            .iter()
            .map(|bucket| (bucket.from_us, bucket.count))
            .collect();
        let more: Vec<(u64, u64, u64)> = now
            .buckets
            .iter()
            .map(|bucket| {
                let count = risen(bucket.count, then.get(&bucket.from_us).copied().unwrap_or(0));
                (bucket.from_us, bucket.to_us.unwrap_or(bucket.from_us), count)
            })
            .collect();
        Latency { p50_us: quantile(&more, 50), p99_us: quantile(&more, 99) }
    }
}

/// How much more it is; a count that went back began anew.
fn risen(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// Of buckets (from, to, count), as Prometheus estimates it: evenly spread within a bucket; beyond the bounds, the last bound.
fn quantile(buckets: &[(u64, u64, u64)], percent: u32) -> Option<u64> {
    let total: u64 = buckets.iter().map(|(.., count)| count).sum();
    let rank = total as f64 * f64::from(percent) / 100.0;
    let mut below = 0.0;
    for (from, to, count) in buckets.iter().filter(|(.., count)| *count > 0) {
        let count = *count as f64;
        if below + count >= rank {
            let share = (rank - below) / count;
            return Some((*from as f64 + (to.saturating_sub(*from)) as f64 * share).round() as u64);
        }
        below += count;
    }
    None
}

/// Of all interfaces, by reason.
fn lost(packets: &Packets) -> Vec<Drop> {
    let mut sums: Vec<Drop> = Vec::new();
    for lost in packets.interfaces.iter().flat_map(|interface| &interface.lost) {
        match sums.iter_mut().find(|sum| sum.reason == lost.reason) {
            Some(sum) => sum.count = sum.count.saturating_add(lost.count),
            None => sums.push(lost.clone()),
        }
    }
    sums
}

/// What a terminal shows of any text: bounded, every character one column wide, and none of them a command.
pub fn text(raw: &str) -> String {
    let plain = |c: char| if c.is_ascii() { c } else { '?' };
    let shown: String = raw.chars().take(limits::TOP_TEXT_CHARS + 1).map(plain).collect();
    let mut shown = clean(&shown);
    if shown.len() > limits::TOP_TEXT_CHARS {
        shown.truncate(limits::TOP_TEXT_CHARS - 1);
        shown.push('~');
    }
    shown
}
