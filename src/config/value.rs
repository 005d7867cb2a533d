//! Value: what a configuration file says, defaults filled in, names not resolved yet.
//!
//! Plain and comparable: two files that mean the same are equal, wherever their lines stand. Serializing it shows the file
//! it means, secrets masked (`/api/config`). Not here: how it is read (`root`, `service`, `pool`, …), nor what it becomes
//! (`compile`).

mod packet;
mod test;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use packet::{FlowTimeouts, Packet, Packets, Vip};
use serde::ser::{Serialize, SerializeMap, Serializer};
pub use test::{Expectation, Subject, Test};

use crate::base::address::AdminListen;
use crate::base::units::{show_duration, show_size};
use crate::base::{EndpointAddr, HashKey, Listen, MacAddr, Network, Weight};
use crate::doc::{Place, Secret, Settings, Spanned};
use crate::observe::access;
use crate::observe::sink::Output;
use crate::route::Pattern;

/// A whole file.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Config {
    /// `None`: as many as there are cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Whether an edit of a file is a reload.
    pub watch: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    pub log: Log,
    pub access_log: AccessLog,
    pub cluster: Cluster,
    pub packets: Packets,
    pub drain: Drain,
    pub process: Process,
    /// In the order of the file.
    #[serde(rename = "vip", serialize_with = "by_name", skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<Vip>,
    /// In the order of the file.
    #[serde(rename = "service", serialize_with = "by_name")]
    pub services: Vec<Service>,
    /// In the order of the file.
    #[serde(rename = "pool", serialize_with = "by_name")]
    pub pools: Vec<Pool>,
    /// What the file says of itself; run before it ships.
    #[serde(rename = "test", skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Test>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Metrics {
    pub listen: Spanned<Listen>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Admin {
    #[serde(serialize_with = "shown")]
    pub listen: Spanned<AdminListen>,
    /// Needed where the listener is more than loopback or a unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Nothing is changed through it.
    pub read_only: bool,
}

/// Strata's own log lines.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Log {
    pub level: Level,
    pub format: LogFormat,
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    pub const fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    Text,
    Json,
}

/// Access records of all services: one stream. Which services write to it is theirs to say.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AccessLog {
    #[serde(serialize_with = "format_word")]
    pub format: access::Format,
    pub output: Output,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Cluster {
    /// `None`: random at start.
    #[serde(skip)]
    pub hash_key: Option<HashKey>,
    /// What the key was read from; shows whether there is one, never which: whoever knows it can aim at one endpoint.
    #[serde(rename = "hash_key", skip_serializing_if = "Option::is_none")]
    pub written: Option<Secret>,
    /// Where this node is.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "word")]
    pub zone: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Drain {
    #[serde(serialize_with = "duration")]
    pub timeout: Duration,
}

/// What the process may use, and whom it becomes. Absent: what the machine says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Process {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "size")]
    pub max_memory: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// By the kernel's names without `CAP_`.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "capabilities")]
    pub keep_capabilities: Vec<&'static str>,
    #[serde(serialize_with = "duration")]
    pub upgrade_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub name: Spanned<Arc<str>>,
    /// Empty for packet services, which are reached at their VIP.
    pub listen: Vec<Spanned<Listen>>,
    pub limits: Limits,
    /// `None`: no access records.
    pub access_log: Option<access::Format>,
    pub traffic: Traffic,
}

/// Absent: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections_per_source: Option<u32>,
    /// L7 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// L7 only.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "size")]
    pub max_body: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Traffic {
    /// A proxy.
    L4(L4),
    L7(L7),
    Packet(Packet),
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct L4 {
    #[serde(serialize_with = "shown")]
    pub pool: Spanned<Arc<str>>,
    pub timeouts: L4Timeouts,
}

/// The waits of a relayed connection; what each means stands in `state::Timeouts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct L4Timeouts {
    #[serde(serialize_with = "duration")]
    pub idle: Duration,
    #[serde(serialize_with = "duration")]
    pub half_close: Duration,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct L7 {
    pub timeouts: L7Timeouts,
    pub trusted_proxies: Vec<Network>,
    pub reason_field: bool,
    pub retries: u8,
    /// Where more routes come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Spanned<Settings>>,
    /// In the order of the file; `pool = …` of the service is the last of them, without a url.
    #[serde(flatten, serialize_with = "routes")]
    pub routes: Vec<Route>,
}

/// The waits of an HTTP exchange; what each means stands in `state::Timeouts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct L7Timeouts {
    #[serde(serialize_with = "duration")]
    pub header: Duration,
    #[serde(serialize_with = "duration")]
    pub idle: Duration,
    #[serde(serialize_with = "duration")]
    pub response: Duration,
    #[serde(serialize_with = "duration")]
    pub body: Duration,
    #[serde(serialize_with = "duration")]
    pub client: Duration,
    #[serde(serialize_with = "duration")]
    pub tunnel: Duration,
    #[serde(serialize_with = "duration")]
    pub half_close: Duration,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Route {
    /// As written; `None` for the default route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip)]
    pub pattern: Spanned<Pattern>,
    pub priority: i64,
    #[serde(serialize_with = "shown")]
    pub pool: Spanned<Arc<str>>,
    /// It is the service's `pool`.
    #[serde(skip)]
    pub is_default: bool,
    /// Where it stands. Not part of what a route means.
    #[serde(skip)]
    pub place: Place,
    /// No file has it: where it was found.
    #[serde(skip)]
    pub found: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Pool {
    #[serde(skip)]
    pub name: Spanned<Arc<str>>,
    pub balance: Spanned<Settings>,
    /// `None`: not probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Spanned<Settings>>,
    #[serde(serialize_with = "untyped")]
    pub damping: Spanned<Settings>,
    /// `None`: the pool never panics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic_percent: Option<u8>,
    /// `None`: zones do not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zones: Option<Spanned<Settings>>,
    /// `None` in a pool of packet services, which connect to nobody.
    #[serde(flatten)]
    pub dialled: Option<Dialled>,
    /// Where more endpoints come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Spanned<Settings>>,
    /// In the order of the file, each address once; then what the source has found.
    #[serde(serialize_with = "staying")]
    pub endpoints: Vec<Endpoint>,
    /// No file has it: where it was found.
    #[serde(skip)]
    pub found: Option<Arc<str>>,
}

/// What a pool says about connecting to its endpoints.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Dialled {
    #[serde(serialize_with = "untyped")]
    pub outlier: Spanned<Settings>,
    /// `None`: no slow start.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_given")]
    pub slow_start: Option<Spanned<Duration>>,
    #[serde(serialize_with = "untyped")]
    pub limits: Spanned<Settings>,
    #[serde(serialize_with = "duration")]
    pub connect_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Endpoint {
    #[serde(serialize_with = "shown")]
    pub address: Spanned<EndpointAddr>,
    #[serde(serialize_with = "weight")]
    pub weight: Weight,
    /// `None`: asked for on the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "word")]
    pub zone: Option<Arc<str>>,
    /// Its source has it no more, and it may finish.
    #[serde(skip)]
    pub leaving: bool,
    /// No file has it: where it was found.
    #[serde(skip)]
    pub found: Option<Arc<str>>,
}

/// The service as its table would be written.
impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Shown<'a, T> {
            mode: &'static str,
            listen: &'a [Spanned<Listen>],
            limits: &'a Limits,
            #[serde(serialize_with = "word_or_false")]
            access_log: Option<&'static str>,
            #[serde(flatten)]
            traffic: &'a T,
        }
        #[derive(serde::Serialize)]
        struct ShownPacket<'a> {
            mode: &'static str,
            #[serde(flatten)]
            traffic: &'a Packet,
        }
        let (listen, limits, access_log) = (&*self.listen, &self.limits, self.access_log.map(access_word));
        match &self.traffic {
            Traffic::L4(traffic) => Shown { mode: "l4", listen, limits, access_log, traffic }.serialize(serializer),
            Traffic::L7(traffic) => Shown { mode: "l7", listen, limits, access_log, traffic }.serialize(serializer),
            Traffic::Packet(traffic) => ShownPacket { mode: traffic.mode.word(), traffic }.serialize(serializer),
        }
    }
}

/// The word of the format, as `access_log.format` takes it.
pub const fn access_word(format: access::Format) -> &'static str {
    match format {
        access::Format::Json => "json",
        access::Format::Combined => "combined",
    }
}

/// As a file writes them: `net-raw`.
fn capabilities<S: Serializer>(names: &[&'static str], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|name| name.to_ascii_lowercase().replace('_', "-")))
}

/// As a file would say it: where `[access_log]` is given, silence means the format that it has.
#[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn word_or_false<S: Serializer>(word: &Option<&'static str>, serializer: S) -> Result<S::Ok, S::Error> {
    match word {
        Some(word) => serializer.serialize_str(word),
        None => serializer.serialize_bool(false),
    }
}

fn routes<S: Serializer>(routes: &[Route], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    if let Some(default) = routes.iter().find(|route| route.is_default) {
        map.serialize_entry("pool", &*default.pool.value)?;
    }
    let listed: Vec<&Route> = routes.iter().filter(|route| !route.is_default).collect();
    if !listed.is_empty() {
        map.serialize_entry("route", &listed)?;
    }
    map.end()
}

/// Whoever leaves is none of what a file would say.
fn staying<S: Serializer>(endpoints: &[Endpoint], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(endpoints.iter().filter(|endpoint| !endpoint.leaving))
}

trait Named: Serialize {
    fn name(&self) -> &str;
}

impl Named for Service {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Pool {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Vip {
    fn name(&self) -> &str {
        &self.name
    }
}

fn by_name<S: Serializer, T: Named>(items: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(items.len()))?;
    for item in items {
        map.serialize_entry(item.name(), item)?;
    }
    map.end()
}

fn duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show_duration(*value))
}

#[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn duration_given<S: Serializer>(value: &Option<Spanned<Duration>>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(|value| show_duration(value.value)).serialize(serializer)
}

#[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn size<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(show_size).serialize(serializer)
}

#[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn word<S: Serializer>(value: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_deref().serialize(serializer)
}

fn shown<S: Serializer, T: fmt::Display>(value: &Spanned<T>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&value.value)
}

fn weight<S: Serializer>(value: &Weight, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(value.get())
}

/// Settings of the one kind there is, which are written without a `type`.
fn untyped<S: Serializer>(value: &Spanned<Settings>, serializer: S) -> Result<S::Ok, S::Error> {
    value.values.serialize(serializer)
}

fn format_word<S: Serializer>(value: &access::Format, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(access_word(*value))
}
