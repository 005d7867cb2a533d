//! Codec: what a Docker engine says of its containers (its list, one of them, its events), as far as it matters here.
//!
//! The engine is trusted to tell its own state, but not to be small, complete or of our version: what is absent is empty, what
//! is unknown is passed over, and what would go into a path of a request is an id or nothing. Names and labels are other
//! people's text. Source: the Engine API, v1.24 to v1.51, and Podman's rendering of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::doc::quote;

/// A container's id: hexadecimal digits, so that it can stand in a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

impl Id {
    pub fn parse(text: &str) -> Option<Id> {
        let fits = (SHORT..=LONG).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| Id(text.to_ascii_lowercase().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..SHORT).unwrap_or(&self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One container, as it is asked for by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: Id,
    /// Without the slash that the engine puts before it; its short id where that is no name that an engine gives.
    pub name: Arc<str>,
    pub labels: BTreeMap<String, String>,
    pub state: State,
    pub health: Health,
    /// Nanoseconds since 1970 by the engine's clock; 0 where it does not say.
    pub created: u64,
    /// When its process was started last, in the same way.
    pub started: u64,
    pub attachment: Attachment,
    /// By the networks' names.
    pub networks: BTreeMap<String, Addresses>,
    /// Ports that the image or its run declares (`EXPOSE`).
    pub exposed: BTreeSet<Port>,
    /// The signal that asks it to stop.
    pub stop_signal: u8,
    /// How long the engine waits after that signal before it kills.
    pub stop_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Paused,
    /// Asked to stop, and not done yet. (Podman says so; from Docker it is known by the signal.)
    Stopping,
    /// Not started yet, between two starts, or ended.
    Stopped,
}

/// What the container's own `HEALTHCHECK` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It has none.
    Unchecked,
    Starting,
    Healthy,
    Unhealthy,
}

/// Whose network the container uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Its own addresses in `networks`.
    Own,
    /// The machine's (`network_mode: host`).
    Host,
    /// Another container's (`network_mode: service:…`).
    Of(Id),
    None,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub number: u16,
    pub tcp: bool,
}

/// One line of the engine's list of containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: Id,
    /// As of [`Container`].
    pub name: Arc<str>,
    pub labels: BTreeMap<String, String>,
}

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: Id,
    pub what: What,
    /// Nanoseconds since 1970 by the engine's clock; 0 where it does not say.
    pub time: u64,
    /// The container's labels that may be of ours, where the event brings them; empty otherwise.
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A signal was sent to it.
    Signal(u8),
    /// Its process ended.
    Ended,
    /// It was removed.
    Gone,
    /// Anything after which it may be otherwise.
    Changed,
}

/// Reads the answer to `/containers/ID/json`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn container(body: &[u8]) -> Result<Container, String> {
    let said: Inspected = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let id = Id::parse(&said.id).ok_or_else(|| format!("{} is no container's id", quote(&said.id)))?;
    let config = said.config.unwrap_or_default();
    let state = said.state.unwrap_or_default();
    let settings = said.network_settings.unwrap_or_default();
    let networks = settings.networks.unwrap_or_default();
    let exposed = config.exposed_ports.unwrap_or_default();
    Ok(Container {
        name: name_of([&said.name], &id),
        labels: config.labels.unwrap_or_default(),
        health: state.health.as_ref().map_or(Health::Unchecked, |health| health_of(&health.status)),
        created: nanoseconds(&said.created).unwrap_or(0),
        started: nanoseconds(&state.started_at).unwrap_or(0),
        state: state.read(),
        attachment: attachment(&said.host_config.unwrap_or_default().network_mode),
        networks: networks.into_iter().map(|(name, network)| (name, network.unwrap_or_default().read())).collect(),
        exposed: exposed.keys().filter_map(|port| Port::parse(port)).collect(),
        stop_signal: config.stop_signal.as_deref().and_then(signal).unwrap_or(SIGTERM),
        stop_timeout: config.stop_timeout.map_or(STOP_TIMEOUT, |seconds| {
            // A negative one waits for ever.
            u64::try_from(seconds)
                .map_or(STOP_TIMEOUT_MOST, |seconds| Duration::from_secs(seconds).min(STOP_TIMEOUT_MOST))
        }),
        id,
    })
}

/// Reads the answer to `/containers/json`. What has no usable id is left out.
///
/// # Errors
/// What is wrong with it, in words.
pub fn list(body: &[u8]) -> Result<Vec<Listed>, String> {
    let said: Vec<Line> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let read = |line: Line| {
        let id = Id::parse(&line.id)?;
        // Others link to it by names of theirs, which have a slash within.
        let name = name_of(line.names.iter().flatten(), &id);
        Some(Listed { id, name, labels: line.labels.unwrap_or_default() })
    };
    Ok(said.into_iter().filter_map(read).collect())
}

/// Reads one line of `/events`; `None` when it is about nothing that matters here.
///
/// # Errors
/// What is wrong with it, in words.
pub fn event(line: &[u8]) -> Result<Option<Event>, String> {
    let said: Happened = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let attributes = said.actor.attributes.unwrap_or_default();
    let (id, labels) = match said.kind.as_str() {
        "container" => {
            let labels =
                attributes.iter().filter(|(key, _)| is_label(key)).map(|(key, text)| (key.clone(), text.clone()));
            (Id::parse(&said.actor.id), labels.collect())
        }
        // It says which container joined or left, and nothing else of it.
        "network" => (attributes.get("container").and_then(|id| Id::parse(id)), BTreeMap::new()),
        _ => return Ok(None),
    };
    let Some(id) = id else { return Ok(None) };
    let what = match (said.kind.as_str(), said.action.as_str()) {
        ("container", "kill") => match attributes.get("signal").and_then(|text| signal(text)) {
            Some(signal) => What::Signal(signal),
            None => What::Changed,
        },
        ("container", "die") => What::Ended,
        // `remove` is Podman's word.
        ("container", "destroy" | "remove") => What::Gone,
        _ => What::Changed,
    };
    Ok(Some(Event { id, what, time: said.time_nano.and_then(|time| u64::try_from(time).ok()).unwrap_or(0), labels }))
}

/// The answer to `/containers/ID/json` without what is not read here: environments, commands and mounts of containers.
///
/// # Errors
/// What is wrong with it, in words.
pub fn cut_container(body: &[u8]) -> Result<Vec<u8>, String> {
    cut::<Inspected>(body)
}

/// The same of one container of the answer to `/containers/json`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn cut_listed(one: &[u8]) -> Result<Vec<u8>, String> {
    cut::<Line>(one)
}

/// The same of one line of `/events`; `None` when nothing of it is read. An action may have a command behind it (`exec_create: …`).
///
/// # Errors
/// What is wrong with it, in words.
pub fn cut_event(line: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut said: Happened = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if !matches!(said.kind.as_str(), "container" | "network") {
        return Ok(None);
    }
    said.action.truncate(said.action.find(':').unwrap_or(said.action.len()));
    let read: fn(&str) -> bool = match said.kind.as_str() {
        "container" => |key: &str| key == "signal" || is_label(key),
        _ => |key: &str| key == "container",
    };
    if let Some(attributes) = &mut said.actor.attributes {
        attributes.retain(|key, _| read(key));
    }
    serde_json::to_vec(&said).map(Some).map_err(|error| error.to_string())
}

/// An event has a container's labels and the engine's own words (`image`, `exitCode`, `execID`, …) in one. A label of ours has a dot,
/// because every prefix ends in one, and the engine's words have none.
fn is_label(key: &str) -> bool {
    key.contains('.')
}

fn cut<T: for<'de> Deserialize<'de> + Serialize>(body: &[u8]) -> Result<Vec<u8>, String> {
    let said: T = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    serde_json::to_vec(&said).map_err(|error| error.to_string())
}

/// The events that say something that matters here: those of health checks' own processes, several a second on a busy engine,
/// are left out by the engine.
pub const EVENTS: &str = "{\"type\":[\"container\",\"network\"],\"event\":[\"connect\",\"destroy\",\"die\",\"disconnect\",\
                          \"health_status\",\"kill\",\"pause\",\"remove\",\"rename\",\"restart\",\"start\",\"stop\",\
                          \"unpause\",\"update\"]}";

#[derive(Deserialize, Serialize)]
struct Inspected {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "Created", default)]
    created: String,
    #[serde(rename = "State")]
    state: Option<Condition>,
    #[serde(rename = "Config")]
    config: Option<Settings>,
    #[serde(rename = "HostConfig")]
    host_config: Option<HostSettings>,
    #[serde(rename = "NetworkSettings")]
    network_settings: Option<NetworkSettings>,
}

#[derive(Default, Deserialize, Serialize)]
struct Condition {
    #[serde(rename = "Status", default)]
    status: String,
    #[serde(rename = "StartedAt", default)]
    started_at: String,
    #[serde(rename = "Health")]
    health: Option<Checked>,
}

#[derive(Deserialize, Serialize)]
struct Checked {
    #[serde(rename = "Status", default)]
    status: String,
}

#[derive(Default, Deserialize, Serialize)]
struct Settings {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "ExposedPorts", serialize_with = "names")]
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(rename = "StopSignal", default, deserialize_with = "text_or_number")]
    stop_signal: Option<String>,
    #[serde(rename = "StopTimeout")]
    stop_timeout: Option<i64>,
}

#[derive(Default, Deserialize, Serialize)]
struct HostSettings {
    #[serde(rename = "NetworkMode", default)]
    network_mode: String,
}

#[derive(Default, Deserialize, Serialize)]
struct NetworkSettings {
    #[serde(rename = "Networks")]
    networks: Option<BTreeMap<String, Option<Joined>>>,
}

#[derive(Default, Deserialize, Serialize)]
struct Joined {
    #[serde(rename = "IPAddress", default)]
    ipv4: String,
    #[serde(rename = "GlobalIPv6Address", default)]
    ipv6: String,
}

#[derive(Deserialize, Serialize)]
struct Line {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Names")]
    names: Option<Vec<String>>,
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Serialize)]
struct Happened {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: Actor,
    #[serde(rename = "timeNano")]
    time_nano: Option<i64>,
}

#[derive(Default, Deserialize, Serialize)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: Option<BTreeMap<String, String>>,
}

impl Condition {
    fn read(&self) -> State {
        match self.status.as_str() {
            "running" => State::Running,
            "paused" => State::Paused,
            "stopping" => State::Stopping,
            _ => State::Stopped,
        }
    }
}

impl Joined {
    fn read(self) -> Addresses {
        let address = |text: &str| text.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
        Addresses {
            ipv4: address(&self.ipv4).filter(IpAddr::is_ipv4),
            ipv6: address(&self.ipv6).filter(IpAddr::is_ipv6),
        }
    }
}

impl Port {
    /// `8080/tcp`.
    fn parse(text: &str) -> Option<Port> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = number.parse().ok().filter(|number| *number != 0)?;
        Some(Port { number, tcp: protocol == "tcp" })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, if self.tcp { "tcp" } else { "udp" })
    }
}

/// The first that is a container's name; else its short id.
fn name_of<'n>(names: impl IntoIterator<Item = &'n String>, id: &Id) -> Arc<str> {
    let name = names.into_iter().map(|name| name.trim_start_matches('/')).find(|name| is_name(name));
    name.map_or_else(|| id.to_string().into(), Arc::from)
}

/// What engines let a container be called: fit to be shown as it is.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !text.is_empty() && text.len() <= NAME_BYTES && text.bytes().all(plain)
}

fn health_of(status: &str) -> Health {
    match status {
        "starting" => Health::Starting,
        "healthy" => Health::Healthy,
        "unhealthy" => Health::Unhealthy,
        _ => Health::Unchecked,
    }
}

fn attachment(mode: &str) -> Attachment {
    match mode {
        "host" => Attachment::Host,
        "none" => Attachment::None,
        _ => match mode.strip_prefix("container:").map(Id::parse) {
            Some(Some(id)) => Attachment::Of(id),
            // A name: the engine writes ids, so it is nobody that can be asked for.
            Some(None) => Attachment::None,
            None => Attachment::Own,
        },
    }
}

/// `SIGTERM`, `TERM` or `15`.
fn signal(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(u8),
    }
    Ok(Option::<Either>::deserialize(deserializer)?.map(|either| match either {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    }))
}

/// Only the keys mean something, as in the engine's own form.
fn names<S: serde::Serializer>(ports: &Option<BTreeMap<String, IgnoredAny>>, serializer: S) -> Result<S::Ok, S::Error> {
    let empty = serde_json::Map::new();
    serializer.collect_map(ports.iter().flatten().map(|(port, _)| (port, &empty)))
}

/// Nanoseconds since 1970 of `2026-11-27T08:49:05.123456789Z` (RFC 3339); `None` before 1970 and for what is no time. Go's zero
/// time, the year 1, stands for "never".
pub fn nanoseconds(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').map_or("", |rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    });
    let zone = rest.get(if digits.is_empty() { 0 } else { digits.len() + 1 }..)?;
    let mut padded = digits.to_owned();
    padded.truncate(9);
    let fraction: i64 = format!("{padded:0<9}").parse().ok()?;
    // Days since 1970-03-01, counting years from March, so that a leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    u64::try_from(seconds.checked_mul(1_000_000_000)?.checked_add(fraction)?).ok()
}

/// Seconds that `Z`, `+02:00` is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    Some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// Digits of an id: as `docker ps` shows it, and the whole.
const SHORT: usize = 12;
const LONG: usize = 64;
/// Longer names are no log words any more.
const NAME_BYTES: usize = 128;
pub const SIGTERM: u8 = 15;
pub const SIGKILL: u8 = 9;
/// The engine's own, where a container says nothing.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const STOP_TIMEOUT_MOST: Duration = Duration::from_secs(24 * 3600);
/// Those that images stop by.
const SIGNALS: &[(&str, u8)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", SIGKILL),
    ("USR1", 10),
    ("USR2", 12),
    ("TERM", SIGTERM),
    ("WINCH", 28),
    ("PWR", 30),
    ("RTMIN+3", 37),
];

#[cfg(test)]
mod tests;
