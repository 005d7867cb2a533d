//! Value: the JSON documents of the admin API, written by the server and read by the CLI.
//!
//! Durations are whole milliseconds and say so in their name. Fields are only ever added: scripts read these.

use serde::{Deserialize, Serialize};

/// `GET /api/status`: everything that `strata status` shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// Generation of the configuration in force.
    pub generation: u64,
    pub uptime_ms: u64,
    /// Traffic is taken.
    pub ready: bool,
    pub draining: bool,
    pub workers: usize,
    /// Client connections open on all services.
    pub connections: u64,
    pub last_reload_successful: bool,
    /// Unix time in ms when a configuration last came into force.
    pub last_reload_success_at_ms: u64,
    pub services: Vec<Service>,
    pub pools: Vec<Pool>,
}

/// An entry of `GET /api/services`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    /// `l4`, `l7`.
    pub mode: String,
    pub listen: Vec<String>,
    /// Pools it sends to, each once, in the order of the file.
    pub pools: Vec<String>,
    /// L7: where requests go, in the order of the file.
    pub routes: Vec<Route>,
    pub connections: u64,
    pub connections_total: u64,
    /// L7: final responses.
    pub requests_total: u64,
    /// L7: final responses with a status of 500 or more.
    pub server_errors_total: u64,
    pub bytes_received_total: u64,
    pub bytes_sent_total: u64,
    /// Reasons with a count above zero, largest first.
    pub drops: Vec<Drop>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Canonical; `*` for the default route.
    pub url: String,
    pub priority: i64,
    pub pool: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    pub reason: String,
    pub count: u64,
}

/// An entry of `GET /api/pools`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    pub name: String,
    pub balance: String,
    /// Kind of probe; absent where endpoints are not probed.
    pub probe: Option<String>,
    pub usable: usize,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// What commands call it.
    pub name: String,
    pub address: String,
    /// `ready`, `draining`, `maintenance`: what the operator wants.
    pub intent: String,
    /// `probing`, `up`, `down`, `ejected`: what is seen.
    pub health: String,
    /// New work may go there.
    pub usable: bool,
    pub weight: u16,
    /// Why it is in its state, where something happened.
    pub cause: Option<String>,
    /// For how long it has been in its state.
    pub since_ms: Option<u64>,
    pub next_probe_ms: Option<u64>,
    /// Requests, at L4 connections, that it carries now.
    pub in_flight: u32,
    /// Connections to it open now, idle ones included.
    pub connections: u64,
    pub requests_total: u64,
    pub errors_total: u64,
    pub probes_failed_total: u64,
}

/// Body of `POST /api/pools/{pool}/endpoints/{endpoint}/weight`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetWeight {
    pub weight: u64,
}

/// `POST /api/reload`, 200: what is in force now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    pub generation: u64,
    /// A sentence for each change; empty when nothing changed.
    pub changes: Vec<String>,
    /// What the file's author should look at all the same, as `strata check` shows it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub warnings: String,
}

/// `POST /api/reload`, 422: what is wrong. What was in force still is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReloadRejected {
    pub error: String,
    pub diagnostics: Vec<Diagnostic>,
    /// The diagnostics as `strata check` prints them, without colour.
    pub rendered: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// `error`, `warning`.
    pub severity: String,
    pub code: String,
    pub message: String,
    pub help: Option<String>,
    pub file: String,
    /// From 1.
    pub line: usize,
    pub column: usize,
}

/// Any answer but 2xx.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}
