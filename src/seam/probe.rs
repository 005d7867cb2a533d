//! Value: the seam of active health checks: what a probe must do, and the settings that all of them share.
//!
//! Not here: when probes run (`health::schedule`), what results mean (`health::machine`), who runs them (`app::keeper`).

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use super::through::Passage;
use crate::base::EndpointAddr;
use crate::doc::{Field, Grammar, Kind, Settings};
use crate::health::{ProbeRules, Reach, Why};

/// An active health check, built once a pool and used for all its endpoints.
pub trait Probe {
    /// Checks what `aim` names once and leaves no connection behind. The caller bounds it in time, by dropping it.
    ///
    /// # Errors
    /// Why it failed, or could not be made.
    fn check<'a>(&'a self, aim: &'a Aim) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;
}

/// What a probe is aimed at: an endpoint, and the way to it.
#[derive(Clone, Debug)]
pub struct Aim {
    pub endpoint: EndpointAddr,
    /// `None`: straight to its address. Only probes that have [`THROUGH`] are given another way.
    pub passage: Option<Passage>,
}

/// Why a probe did not pass, in a few words that fit into a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// As far as can be told, it is the endpoint: `connect refused`, `status 503`.
    Endpoint(Why),
    /// No way led there: the endpoint's host is off, or we are cut off. Which of the two, all probes together tell.
    NoRoute(Why),
    /// Nothing came back in time. The same.
    Silent(Why),
    /// This machine could not make the probe, which says nothing of the endpoint and takes none out.
    Ours(Why),
}

impl Failure {
    /// Whether anything answered.
    pub fn reach(&self) -> Option<Reach> {
        match self {
            Failure::Endpoint(_) => Some(Reach::Answered),
            Failure::NoRoute(_) => Some(Reach::NoRoute),
            Failure::Silent(_) => Some(Reach::Silent),
            Failure::Ours(_) => None,
        }
    }

    /// The same failure, in other words.
    #[must_use]
    pub fn map(self, words: impl FnOnce(Why) -> Why) -> Failure {
        match self {
            Failure::Endpoint(why) => Failure::Endpoint(words(why)),
            Failure::NoRoute(why) => Failure::NoRoute(words(why)),
            Failure::Silent(why) => Failure::Silent(words(why)),
            Failure::Ours(why) => Failure::Ours(words(why)),
        }
    }
}

impl<T: Into<Why>> From<T> for Failure {
    fn from(why: T) -> Failure {
        Failure::Endpoint(why.into())
    }
}

/// One kind of probe.
#[derive(Debug)]
pub struct Spec {
    pub grammar: Grammar,
    /// The grammar has checked the settings, so nothing is left to go wrong.
    pub build: fn(&Settings) -> Box<dyn Probe>,
    /// Whether this machine lets us probe in this way; if not, what is missing and how to get it.
    pub able: fn() -> Result<(), String>,
}

/// How often and how patiently an endpoint is probed, and how many results it takes: the same for every kind of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub interval: Duration,
    pub timeout: Duration,
    pub rules: ProbeRules,
}

impl Pace {
    pub fn of(settings: &Settings) -> Pace {
        let count = |field| u32::try_from(settings.integer(field)).unwrap_or(u32::MAX);
        Pace {
            interval: settings.duration("interval"),
            timeout: settings.duration("timeout"),
            rules: ProbeRules { rise: count("rise"), fall: count("fall") },
        }
    }
}

/// The fields that [`Pace`] reads. Every probe's grammar begins with them.
pub const INTERVAL: Field = Field::default("interval", PAUSE, "2s", "from one probe of an endpoint to the next");
pub const TIMEOUT: Field = Field::default("timeout", PATIENCE, "500ms", "a probe that takes longer has failed");
pub const RISE: Field = Field::default("rise", RESULTS, "2", "probes in a row that must pass before it serves again");
pub const FALL: Field = Field::default("fall", RESULTS, "3", "probes in a row that must fail before it is taken out");

/// Whether the timeout is longer than the interval. Two probes of one endpoint never run at once, so that is not what was meant.
pub fn outlasts(settings: &Settings) -> bool {
    use crate::doc::Value::Duration;
    let times = (settings.get(TIMEOUT.name), settings.get(INTERVAL.name));
    matches!(times, (Some(Duration(timeout)), Some(Duration(interval))) if timeout > interval)
}

/// Another port than the endpoint's: [`address`] applies it.
pub const PORT: Field =
    Field::optional("port", Kind::Integer { min: 1, max: 65_535 }, "probe this port instead of the endpoint's own");

/// To the endpoint not by its address but as clients reach it. Only for pools of services in direct return: `config` sees to it.
pub const THROUGH: Field = Field::optional(
    "through",
    Kind::Word(&["vip"]),
    "\"vip\": connect to the VIP by the service's own forwarding, so that an endpoint which lacks the VIP is down",
);

/// The setting of [`THROUGH`].
pub fn goes_through(settings: &Settings) -> bool {
    settings.get(THROUGH.name).is_some()
}

/// The setting of [`PORT`].
pub fn port(settings: &Settings) -> Option<u16> {
    settings.get("port").and_then(|_| u16::try_from(settings.integer("port")).ok())
}

/// Where to probe `endpoint`.
///
/// # Errors
/// Neither the endpoint nor the probe names a port, which the configuration's check lets nobody serve.
pub fn address(endpoint: EndpointAddr, port: Option<u16>) -> Result<SocketAddr, Why> {
    match port.or(endpoint.port()) {
        Some(port) => Ok(SocketAddr::new(endpoint.ip(), port)),
        None => Err("no port to probe".into()),
    }
}

const PAUSE: Kind = Kind::Duration { min: Duration::from_millis(50), max: Duration::from_secs(3600) };
const PATIENCE: Kind = Kind::Duration { min: Duration::from_millis(10), max: Duration::from_secs(300) };
const RESULTS: Kind = Kind::Integer { min: 1, max: 100 };
