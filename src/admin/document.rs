//! Value: the JSON documents of the admin API, written by the server and read by the CLI.
//!
//! Durations are whole milliseconds and say so in their name. Fields are only ever added: scripts read these.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::explain::Story;

/// `GET /api/status`: everything that `strata status` shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    pub version: String,
    /// Generation of the configuration in force.
    pub generation: u64,
    pub uptime_ms: u64,
    pub pid: u32,
    /// Traffic is taken.
    pub ready: bool,
    pub draining: bool,
    pub workers: usize,
    /// Client connections open on all services.
    pub connections: u64,
    pub last_reload_successful: bool,
    /// Unix time in ms when a configuration last came into force.
    pub last_reload_success_at_ms: u64,
    /// Warnings of the configuration in force; `GET /api/diagnostics` has them.
    #[serde(default)]
    pub warnings: usize,
    /// Probes reach nobody, and this machine is to blame: endpoints keep the state they had.
    #[serde(default)]
    pub probes_static: bool,
    /// Nothing is changed through the admin API.
    #[serde(default)]
    pub read_only: bool,
    /// The number of the last event; `GET /api/events?since=…` has what is new.
    #[serde(default)]
    pub last_event: u64,
    pub services: Vec<Service>,
    pub vips: Vec<Vip>,
    /// Where there are VIPs.
    pub packets: Option<Packets>,
    /// Of every table with a `source`.
    #[serde(default)]
    pub sources: Vec<Source>,
    pub pools: Vec<Pool>,
}

/// Where endpoints or routes come from beside the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// The table that has it: `pool.web`.
    pub table: String,
    /// `dns`, `file`, `docker`.
    pub kind: String,
    /// What it looks at.
    pub about: String,
    /// It answers. While it does not, what it found last stays in force.
    pub up: bool,
    /// Why it does not.
    pub failure: Option<String>,
    /// Unix time in ms; absent before the first answer.
    pub success_at_ms: Option<u64>,
    /// In force, those that leave not among them.
    pub members: usize,
    /// Gone from the source, and still finishing.
    pub leaving: usize,
    pub routes: usize,
    /// Reasons why something that it finds now is refused, with a count above zero.
    pub refused: Vec<Drop>,
    /// The first of what that is; `GET /api/diagnostics` has more.
    #[serde(default)]
    pub mistakes: Vec<FoundMistake>,
}

/// `POST /api/upgrade`, where another process serves now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Upgraded {
    /// The process that serves.
    pub pid: u32,
}

/// An entry of `GET /api/services`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    pub name: String,
    /// `l2`, `l3`, `l4`, `l7`.
    pub mode: String,
    /// What becomes of packets: `mac`, `nat`, `full-nat`, `ipip`, `gue`. Absent where connections or requests are carried.
    pub forward: Option<String>,
    /// `http`, `proxy`, `userspace`; `none` while nothing carries it.
    pub engine: String,
    pub listen: Vec<String>,
    /// Where packets are forwarded: the VIP that it is reached at.
    #[serde(default)]
    pub vip: Option<String>,
    /// Pools it sends to, each once, in the order of the file.
    pub pools: Vec<String>,
    /// L7: where requests go, in the order of the file.
    pub routes: Vec<Route>,
    /// Absent where packets are forwarded: connections are not known.
    pub connections: Option<u64>,
    pub connections_total: Option<u64>,
    /// L7: final responses.
    pub requests_total: u64,
    /// L7: final responses with a status of 500 or more.
    pub server_errors_total: u64,
    /// Where packets are forwarded: forwarded or answered, of both directions where both come by here.
    pub packets_total: Option<u64>,
    /// Where packets are forwarded: slots in transition.
    pub slots_marked: Option<u64>,
    pub bytes_received_total: u64,
    /// Absent where endpoints answer clients themselves.
    pub bytes_sent_total: Option<u64>,
    /// Reasons with a count above zero, largest first.
    pub drops: Vec<Drop>,
    /// L7: from a request's head to the end of its response.
    #[serde(default)]
    pub request_duration: Option<Durations>,
}

/// How long things took since the object exists: the histogram of the metric with the same name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Durations {
    pub sum_us: u64,
    /// Those with a count above zero, shortest first.
    pub buckets: Vec<Bucket>,
}

/// What took longer than `from_us` and up to `to_us`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    pub from_us: u64,
    /// Absent in the last: no bound.
    pub to_us: Option<u64>,
    pub count: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// Canonical; `*` for the default route.
    pub url: String,
    pub priority: i64,
    pub pool: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drop {
    pub reason: String,
    pub count: u64,
}

/// A virtual address that packet services are reached at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Vip {
    pub name: String,
    pub interface: String,
    pub addresses: Vec<VipAddress>,
    /// As the metric `strata_vip_owner` has it.
    pub owner: bool,
    /// Claims of other machines.
    pub conflicts_total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VipAddress {
    pub address: String,
    /// What neighbours are told; absent while the interface is not there.
    pub mac: Option<String>,
}

/// What the packet engine holds and loses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Packets {
    /// Flows remembered because their slot is in transition, and the most of them.
    pub flow_records: usize,
    pub flow_records_limit: usize,
    /// Flows translated by a record, and the most of them.
    pub nat_flows: usize,
    pub nat_flows_limit: usize,
    /// Of packets to VIPs that were dropped before it was known whose they were: reasons with a count above zero, largest first.
    pub drops: Vec<Drop>,
    /// By name.
    pub interfaces: Vec<Interface>,
}

/// An interface that packets come in by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interface {
    pub name: String,
    /// Threads that take its frames.
    pub workers: u64,
    pub frames_received_total: u64,
    /// Of those that came in here.
    pub frames_sent_total: u64,
    /// Reasons with a count above zero, largest first.
    pub lost: Vec<Drop>,
}

/// An entry of `GET /api/pools`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    pub name: String,
    pub balance: String,
    /// Kind of probe; absent where endpoints are not probed.
    pub probe: Option<String>,
    pub usable: usize,
    /// So few are usable that all serve but those the operator took out.
    #[serde(default)]
    pub panic: bool,
    /// Backups serve, because no primary is usable.
    #[serde(default)]
    pub backup: bool,
    /// Only endpoints of this node's zone serve.
    #[serde(default)]
    pub local: bool,
    /// Requests, at L4 connections, that wait for an endpoint with room.
    #[serde(default)]
    pub queue: u32,
    #[serde(default)]
    pub retries_total: u64,
    /// Where connections or requests are carried to it.
    #[serde(default)]
    pub connect_duration: Option<Durations>,
    /// L7: from the first byte sent to an endpoint to its response's head.
    #[serde(default)]
    pub response_duration: Option<Durations>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Share of its weight that it gets while it warms up; absent where it gets all.
    pub warmth_percent: Option<u8>,
    #[serde(default)]
    pub backup: bool,
    /// Its source has it no more: it gets no new work, and is removed once it is idle.
    #[serde(default)]
    pub leaving: bool,
    pub zone: Option<String>,
    /// Why it is in its state, where something happened.
    pub cause: Option<String>,
    /// For how long it has been in its state.
    pub since_ms: Option<u64>,
    pub next_probe_ms: Option<u64>,
    /// Requests, at L4 connections, that it carries now.
    pub in_flight: u32,
    /// Connections to it open now, idle ones included.
    pub connections: u64,
    #[serde(default)]
    pub connections_total: u64,
    pub requests_total: u64,
    pub errors_total: u64,
    pub probes_failed_total: u64,
    /// Where packet services use the pool: to the endpoint.
    pub packets_sent_total: Option<u64>,
    pub bytes_sent_total: Option<u64>,
    /// Where its answers come by here: from the endpoint, to clients.
    pub packets_received_total: Option<u64>,
    pub bytes_received_total: Option<u64>,
}

/// `GET /api/explain?what=…`: what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Explained {
    /// A request, or a connection to a listener.
    Request(Box<Story>),
    /// A packet: the text for people, and the whole as a document.
    Packet { text: String, story: serde_json::Value },
}

/// `POST /api/pools/{pool}/endpoints/{endpoint}/drain` and its like: what is wanted of it now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Intended {
    /// `ready`, `draining`, `maintenance`.
    pub intent: String,
}

/// Body of `POST /api/pools/{pool}/endpoints/{endpoint}/weight`, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetWeight {
    pub weight: u64,
}

/// `POST /api/reload`, 200: what is in force now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    pub generation: u64,
    /// A sentence for each change; empty when nothing changed.
    pub changes: Vec<String>,
    /// What the file's author should look at all the same, as `strata check` shows it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub warnings: String,
}

/// Body of `POST /api/diff`: a configuration, and all that it refers to, as another process found it. An empty body stands for
/// the file that this process reads.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Of the main file, among the files.
    pub name: String,
    /// By path as the configuration names it: the main file, what it includes, and secrets.
    pub files: BTreeMap<String, String>,
    /// What is in the folders that it includes from.
    pub folders: BTreeMap<String, Vec<String>>,
    /// Environment variables that it names.
    pub variables: BTreeMap<String, String>,
}

/// It holds secrets.
impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `POST /api/diff`, 200: what a reload would change. Wrong configurations get what a reload of them would.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// A sentence for each change; empty when nothing would change.
    pub changes: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub warnings: String,
    /// The configuration's own tests that fail, as `strata check` shows them: a reload would be refused because of them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub failures: String,
}

/// `GET /api/dump`: the configuration in force, defaults filled in and secrets masked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dump {
    pub generation: u64,
    pub config: serde_json::Value,
    /// In the shape of `config`: `file:line` for what was written, null for a default.
    pub places: serde_json::Value,
}

/// `POST /api/reload`, 422: what is wrong. What was in force still is, unless the error says that the new is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReloadRejected {
    pub error: String,
    pub diagnostics: Vec<Diagnostic>,
    /// The diagnostics as `strata check` prints them, without colour.
    pub rendered: String,
}

/// `GET /api/diagnostics`: what is to be said of the configuration in force, and of one that was refused after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnostics {
    /// Of the configuration in force.
    pub generation: u64,
    pub warnings: Vec<Diagnostic>,
    /// The warnings as `strata check` prints them, without colour; empty where there are none.
    pub rendered: String,
    /// The last reload, where it was refused.
    pub refused: Option<RefusedReload>,
    /// What sources find and cannot be used, or why they find nothing.
    #[serde(default)]
    pub found: Vec<FoundMistake>,
}

/// Of what a source finds, what is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FoundMistake {
    /// The table that has the source: `pool.web`.
    pub table: String,
    /// The word of the metric `strata_source_refused`, or of `strata_source_failures_total`.
    pub reason: String,
    /// Where it was found.
    pub place: String,
    pub message: String,
    pub help: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedReload {
    /// Unix time in ms.
    pub at_ms: u64,
    /// `signal`, `watch`, or who asked through the admin API.
    pub by: String,
    pub error: String,
    /// Empty where the file is well, and the machine refused what it asks for.
    pub diagnostics: Vec<Diagnostic>,
    /// As `strata check` prints it, without colour.
    pub rendered: String,
}

/// `GET /api/events`: changes and their causes, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Events {
    /// Numbers begin anew with each process.
    pub pid: u32,
    /// The number of the oldest event that is still kept; 0 before the first. Whoever has not seen those before it has missed some.
    pub oldest: u64,
    /// The number of the last event; 0 before the first.
    pub last: u64,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// From 1, without gaps.
    pub seq: u64,
    /// Unix time in ms, by the wall clock of then.
    pub at_ms: u64,
    /// `error`, `warn`, `info`.
    pub level: String,
    /// `reload`, `change`, `endpoint`, `weight`, `pool`, `probes`, `source`, `vip`, `clients`, `admin`, `pressure`, `upgrade`, `process`.
    pub kind: String,
    /// Whom it is about: `web/10.0.0.11:8080`, `web`, `descriptors`; empty where it is the process.
    pub subject: String,
    /// The line of the log, without its time and level.
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}
