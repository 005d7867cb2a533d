//! Shell: the last changes and their causes, for whoever asks what happened at 02:13.
//!
//! An event is a line of the log that says so: `tracing::info!(event = events::RELOAD, …)`. It is kept here in the words of that
//! line, so that log and events cannot disagree, and whatever the log's level is. What is kept is bounded (`limits::EVENTS`); the
//! lock is taken by whoever logs a change, which no data path does. Not here: who shows them (`admin`, `cli`).

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::OnceLock;
use std::time::SystemTime;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event as Line, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::base::{clock, limits};

/// The field that makes a line an event, and says its kind.
pub const FIELD: &str = "event";

pub const RELOAD: &str = "reload";
pub const CHANGE: &str = "change";
pub const ENDPOINT: &str = "endpoint";
pub const WEIGHT: &str = "weight";
pub const POOL: &str = "pool";
pub const PROBES: &str = "probes";
pub const SOURCE: &str = "source";
pub const VIP: &str = "vip";
pub const CLIENTS: &str = "clients";
pub const ADMIN: &str = "admin";
pub const PRESSURE: &str = "pressure";
pub const UPGRADE: &str = "upgrade";
pub const PROCESS: &str = "process";

/// Every kind, and what events of it tell.
pub const KINDS: &[(&str, &str)] = &[
    (RELOAD, "a reload that was taken or refused, its warnings, and who asked for it"),
    (CHANGE, "what a configuration that came into force changed"),
    (ENDPOINT, "an endpoint changed its state, ejections included, and why"),
    (WEIGHT, "an endpoint changed its weight, and why"),
    (POOL, "a pool begins or ends to panic, or to be served by its backups"),
    (PROBES, "probes cannot be made, or reach nobody because this machine is cut off; and when that ends"),
    (SOURCE, "a source fails, or answers again; something that it has found is refused, and why"),
    (VIP, "another machine claims a VIP"),
    (CLIENTS, "every client of a service seems to be this host's gateway: their addresses are lost"),
    (ADMIN, "a change through the admin API: who, what, and its result"),
    (PRESSURE, "descriptors or memory run out: idle connections are closed, accepting pauses; and when that ends"),
    (UPGRADE, "another process takes over, or cannot"),
    (PROCESS, "the process starts, drains, stops, or has a thread that is stuck or panics"),
];

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// From 1, without gaps, for the life of the process.
    pub seq: u64,
    pub at: SystemTime,
    /// `error`, `warn`, `info`.
    pub level: &'static str,
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// Whom it is about: `web/10.0.0.11:8080`, `web`, `descriptors`; empty where it is the process.
    pub subject: String,
    /// The line of the log, without its time and level.
    pub text: String,
}

/// Events that were asked for, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The number of the oldest one that is still kept; 0 before the first.
    pub oldest: u64,
    /// The number of the last one; 0 before the first.
    pub last: u64,
    pub events: Vec<Event>,
}

/// A bounded number of events; the oldest makes room.
#[derive(Debug, Default)]
pub struct Ring {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    events: VecDeque<Event>,
}

impl Ring {
    /// The first `limit` events after number `since`; without it the last `limit`.
    pub fn page(&self, since: Option<u64>, limit: usize) -> Page {
        let kept = self.kept.lock();
        let all = kept.events.iter();
        let events = match since {
            Some(since) => all.filter(|event| event.seq > since).take(limit).cloned().collect(),
            None => all.skip(kept.events.len().saturating_sub(limit)).cloned().collect(),
        };
        Page { oldest: kept.events.front().map_or(0, |event| event.seq), last: kept.last, events }
    }

    /// The number of the last; 0 before the first.
    pub fn last(&self) -> u64 {
        self.kept.lock().last
    }

    fn push(&self, at: SystemTime, level: &'static str, kind: &'static str, said: Said) {
        let subject = said.subject();
        let mut kept = self.kept.lock();
        kept.last += 1;
        let event = Event { seq: kept.last, at, level, kind, subject, text: said.message + &said.fields };
        if kept.events.len() == limits::EVENTS {
            kept.events.pop_front();
        }
        kept.events.push_back(event);
    }
}

/// The events of this process, as there is one log.
pub fn ring() -> &'static Ring {
    static RING: OnceLock<Ring> = OnceLock::new();
    RING.get_or_init(Ring::default)
}

/// Keeps what is logged as an event, beside whatever writes the log.
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    keeping(ring())
}

/// Keeps the events of all threads of a test.
#[cfg(test)]
pub(crate) fn keep_in_tests() {
    use tracing_subscriber::layer::SubscriberExt as _;
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer())).expect("the only one");
    });
}

fn keeping<S>(ring: &'static Ring) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_event = filter_fn(|line| line.is_event() && line.fields().field(FIELD).is_some());
    Keeping(ring).with_filter(is_event.with_max_level_hint(LevelFilter::INFO))
}

struct Keeping(&'static Ring);

impl<S: Subscriber> Layer<S> for Keeping {
    fn on_event(&self, line: &Line<'_>, _context: Context<'_, S>) {
        let mut said = Said::default();
        line.record(&mut said);
        let Some(kind) = said.kind else { return };
        let level = match *line.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => "info",
        };
        self.0.push(clock::wall(), level, kind, said);
    }
}

/// What a line says: as the text of the log has it, and whom it is about.
#[derive(Default)]
struct Said {
    kind: Option<&'static str>,
    message: String,
    fields: String,
    about: Vec<(&'static str, String)>,
}

/// Fields that say whom a line is about; the first there is, and of a pool the endpoint.
const SUBJECTS: [&str; 7] = ["pool", "endpoint", "vip", "resource", "interface", "source", "service"];

impl Said {
    fn subject(&self) -> String {
        let named = |name| self.about.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str());
        match (named("pool"), named("endpoint")) {
            (Some(pool), Some(endpoint)) => format!("{pool}/{endpoint}"),
            _ => SUBJECTS.into_iter().find_map(named).unwrap_or_default().to_owned(),
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == FIELD {
            self.kind = KINDS.iter().map(|(kind, _)| *kind).find(|kind| *kind == value);
            return;
        }
        if SUBJECTS.contains(&field.name()) {
            self.about.push((field.name(), cut(value).to_owned()));
        }
        self.record_debug(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let place = if field.name() == "message" { &mut self.message } else { &mut self.fields };
        // Writing to a text does not fail.
        let _ = match field.name() {
            "message" => write!(place, "{value:?}"),
            name => write!(place, " {name}={value:?}"),
        };
        for name in ["vip", "source"].into_iter().filter(|name| *name == field.name()) {
            self.about.push((name, cut(&format!("{value:?}")).to_owned()));
        }
        if place.len() > limits::EVENT_BYTES {
            let end = cut(place).len();
            place.truncate(end);
            place.push('…');
        }
    }
}

/// What of a text is kept.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(limits::EVENT_BYTES)]
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{EnvFilter, Registry};

    use super::*;

    fn kept(level: &str, say: impl FnOnce()) -> &'static Ring {
        let ring: &'static Ring = Box::leak(Box::default());
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink).with_filter(EnvFilter::new(level));
        tracing::subscriber::with_default(Registry::default().with(log).with(keeping(ring)), say);
        ring
    }

    #[test]
    fn a_line_that_is_an_event_is_kept_in_its_own_words_whatever_the_level_is() {
        let ring = kept("error", || {
            tracing::info!("not an event");
            tracing::info!(
                event = ENDPOINT,
                pool = "web",
                endpoint = "10.0.0.1:80",
                from = "up",
                cause = "status 503",
                "endpoint changed state"
            );
            tracing::warn!(event = POOL, pool = "api", serving = 3, "pool panics");
            tracing::error!(event = VIP, vip = %"10.0.0.100", "another machine claims the VIP");
            tracing::info!(event = "typo", "no kind");
            tracing::info!(event = RELOAD, by = "signal", "configuration {}", "reloaded");
        });
        let page = ring.page(None, 10);
        let shown: Vec<_> =
            page.events.iter().map(|e| (e.seq, e.level, e.kind, e.subject.as_str(), e.text.as_str())).collect();
        assert_eq!(
            shown,
            [
                (
                    1,
                    "info",
                    ENDPOINT,
                    "web/10.0.0.1:80",
                    "endpoint changed state pool=\"web\" endpoint=\"10.0.0.1:80\" from=\"up\" cause=\"status 503\""
                ),
                (2, "warn", POOL, "api", "pool panics pool=\"api\" serving=3"),
                (3, "error", VIP, "10.0.0.100", "another machine claims the VIP vip=10.0.0.100"),
                (4, "info", RELOAD, "", "configuration reloaded by=\"signal\""),
            ]
        );
        assert_eq!((page.oldest, page.last), (1, 4));
    }

    #[test]
    fn pages_go_on_where_the_last_ended_and_the_oldest_make_room() {
        let ring = kept("error", || {
            for number in 0..limits::EVENTS + 5 {
                tracing::info!(event = CHANGE, number, "changed");
            }
        });
        let numbers = |page: &Page| page.events.iter().map(|event| event.seq).collect::<Vec<_>>();
        let last = (limits::EVENTS + 5) as u64;
        let newest = ring.page(None, 2);
        assert_eq!((numbers(&newest), newest.oldest, newest.last), (vec![last - 1, last], 6, last));
        assert_eq!(numbers(&ring.page(Some(0), 2)), [6, 7]);
        assert_eq!(numbers(&ring.page(Some(7), 2)), [8, 9]);
        assert!(ring.page(Some(last), 2).events.is_empty());
        assert_eq!(ring.page(Some(0), usize::MAX).events.len(), limits::EVENTS);
    }

    #[test]
    fn what_is_long_is_cut() {
        let ring = kept("error", || {
            let long = "ä".repeat(limits::EVENT_BYTES);
            tracing::info!(event = RELOAD, pool = &*long, by = "signal", "{long}");
        });
        let event = &ring.page(None, 1).events[0];
        assert!(event.text.len() <= 2 * limits::EVENT_BYTES + 8 && event.subject.len() <= limits::EVENT_BYTES);
        assert!(event.text.contains('…'));
    }
}
