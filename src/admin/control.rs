//! Value: what the admin shell asks of the control side, which `app` answers; and what `app` notes for it.
//!
//! Not here: answers. The shell knows no keeper, no file and no supervisor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use parking_lot::Mutex;

use super::document::{Candidate, Compared, Diagnostic, Explained, RefusedReload, ReloadRejected, Reloaded, Upgraded};
use crate::base::Weight;
use crate::config::found::Verdict;
use crate::health::Intent;
use crate::net::Crew;
use crate::seam::source::{Failure, Trouble};
use crate::wire::line::Line;

/// What the admin shell is given.
#[derive(Clone)]
pub struct Control {
    pub crew: Arc<Crew>,
    pub reloads: Arc<ReloadStatus>,
    pub sources: Arc<Sources>,
    /// Read by `app`, one request at a time.
    pub requests: mpsc::Sender<Request>,
}

/// Asked of the control side; dropping `reply` unanswered is told to the client as 503.
#[derive(Debug)]
pub enum Request {
    SetIntent {
        pool: String,
        endpoint: String,
        intent: Intent,
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    SetWeight {
        pool: String,
        endpoint: String,
        weight: Weight,
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    /// Read the file again, and answer when it is in force or rejected.
    Reload {
        /// Who asks.
        by: String,
        reply: oneshot::Sender<Result<Reloaded, ReloadRejected>>,
    },
    /// Have a new process of the binary that is there now take over, and answer when it has or cannot.
    Upgrade {
        reply: oneshot::Sender<Result<Upgraded, String>>,
    },
    /// What a reload would change, or why it would be rejected; of the process's own file, or of another configuration.
    Compare {
        candidate: Option<Box<Candidate>>,
        reply: oneshot::Sender<Result<Compared, ReloadRejected>>,
    },
    /// What becomes of a packet; a sentence where nothing can be told.
    ExplainPacket {
        line: Box<Line>,
        interface: Option<String>,
        reply: oneshot::Sender<Result<Explained, String>>,
    },
    HealthReport {
        reply: oneshot::Sender<Vec<EndpointReport>>,
    },
}

/// Why a change of an endpoint was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The pool or the endpoint is not in the configuration in force (any more).
    Unknown,
    /// A sentence: why it cannot be.
    Because(String),
}

/// What the health keeper knows of an endpoint beyond its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReport {
    pub pool: Arc<str>,
    pub endpoint: Arc<str>,
    /// Why the endpoint is in its state: `status 503`, `timeout after 500ms`.
    pub cause: Option<String>,
    /// For how long it has been in its state.
    pub since: Option<Duration>,
    /// Time to the next probe; absent where none is due.
    pub next_probe: Option<Duration>,
}

/// What the author of a valid configuration should look at all the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Warnings {
    pub diagnostics: Vec<Diagnostic>,
    /// Empty where there are none.
    pub rendered: String,
}

/// How the last reloads went. Written by `app`, read at scrape.
#[derive(Debug, Default)]
pub struct ReloadStatus {
    failed: AtomicBool,
    success_at_ms: AtomicU64,
    /// Of what serves; and the last reload, where it was refused.
    found: Mutex<(Warnings, Option<RefusedReload>)>,
}

impl ReloadStatus {
    /// A configuration came into force.
    pub fn succeeded(&self, at: SystemTime) {
        self.success_at_ms.store(unix_ms(at), Relaxed);
        self.failed.store(false, Relaxed);
    }

    /// What was found about a configuration that serves.
    pub fn serves(&self, warnings: Warnings) {
        *self.found.lock() = (warnings, None);
    }

    /// A configuration was rejected; what was in force still is, unless the rejection says otherwise.
    pub fn failed(&self, at: SystemTime, by: &str, why: ReloadRejected) {
        self.failed.store(true, Relaxed);
        let ReloadRejected { error, diagnostics, rendered } = why;
        let refused = RefusedReload { at_ms: unix_ms(at), by: by.to_owned(), error, diagnostics, rendered };
        self.found.lock().1 = Some(refused);
    }

    /// Warnings of what serves, and the last reload where it was refused.
    pub fn found(&self) -> (Warnings, Option<RefusedReload>) {
        self.found.lock().clone()
    }

    pub fn last_successful(&self) -> bool {
        !self.failed.load(Relaxed)
    }

    /// Unix time in ms; 0 before the first.
    pub fn success_at_ms(&self) -> u64 {
        self.success_at_ms.load(Relaxed)
    }
}

/// How a source fares. Written by `app`.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceState {
    /// The table that has it: `pool.web`.
    pub owner: String,
    pub kind: &'static str,
    /// What it looks at.
    pub about: String,
    /// It has answered once, or failed.
    pub spoke: bool,
    /// Why it fails now.
    pub failure: Option<Failure>,
    pub failures: BTreeMap<Trouble, u64>,
    pub success_at: Option<SystemTime>,
    pub verdict: Verdict,
}

impl SourceState {
    /// Nothing was heard yet.
    pub fn new(owner: String, kind: &'static str, about: String) -> SourceState {
        SourceState {
            owner,
            kind,
            about,
            spoke: false,
            failure: None,
            failures: BTreeMap::new(),
            success_at: None,
            verdict: Verdict::default(),
        }
    }

    /// It has answered, and does not fail now.
    pub fn is_up(&self) -> bool {
        self.success_at.is_some() && self.failure.is_none()
    }
}

/// How every source fares, by its table.
#[derive(Debug, Default)]
pub struct Sources {
    states: Mutex<Arc<Vec<SourceState>>>,
}

impl Sources {
    pub fn set(&self, states: Vec<SourceState>) {
        *self.states.lock() = Arc::new(states);
    }

    pub fn states(&self) -> Arc<Vec<SourceState>> {
        self.states.lock().clone()
    }
}

/// 0 for times before 1970.
pub(super) fn unix_ms(at: SystemTime) -> u64 {
    let ms = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    u64::try_from(ms).unwrap_or(0)
}
