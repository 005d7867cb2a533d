//! Wiring: how the supervisor takes a configuration over, or changes nothing.
//!
//! ```text
//!  read ─▶ compile ─▶ prepare (bind) ─▶ commit: one swap, then workers refresh, listeners move, keeper and admin follow
//!    └───────┴────────────┴── a failure here rejects the reload; nothing has changed
//! ```

use std::io;
use std::sync::Arc;

use super::succession::Heir;
use super::{Supervisor, order};
use crate::admin::control::Warnings;
use crate::admin::document::{Candidate, Compared, ReloadRejected};
use crate::app::discovery::Draft;
use crate::app::edits::{self, Edits, Look};
use crate::app::load::{self, Loaded, Origin};
use crate::app::outside::Asked;
use crate::app::worker::Order;
use crate::app::{notify, privileges, watch};
use crate::base::clock;
use crate::config::Config;
use crate::config::found::Merged;
use crate::doc::Written;
use crate::observe::sink::{Destination, Output};
use crate::observe::{events, log};
use crate::probe;
use crate::state::{Change, Snapshot, diff};
use crate::sys;

/// The configuration in force as it was read, without what sources have found.
pub(super) struct Said {
    pub(super) config: Config,
    pub(super) written: Written,
}

/// What a reload would bring into force.
struct Next {
    snapshot: Snapshot,
    said: Said,
    merged: Merged,
    warnings: Warnings,
}

/// What came of a configuration that is in force.
pub(super) struct Adopted {
    pub(super) changes: Vec<Change>,
    /// What is in force and not served all the same.
    pub(super) unserved: Vec<String>,
    pub(super) warnings: Warnings,
}

/// Why a configuration was not taken. Nothing has changed, unless it says otherwise.
pub(super) enum Refusal {
    /// The text has mistakes.
    Invalid(Box<Loaded>),
    /// The text is well, but the machine refuses what it asks for.
    Machine(Vec<String>),
    /// It is in force, and the machine did not let all of it be served after all.
    Unserved(Vec<String>),
}

/// Who asks for a reload, as log and events call them.
pub(super) const SIGNAL: &str = "signal";
const WATCH: &str = "watch";

impl Supervisor {
    /// Reads the configuration again and takes it over, or changes nothing.
    pub(super) async fn reload(&mut self, by: &str) -> Result<Adopted, Refusal> {
        if self.crew.draining() {
            // It would listen again on what has just been given up.
            return Err(Refusal::Machine(vec!["the process is ending: it takes no configuration any more".to_owned()]));
        }
        notify::reloading();
        let current = self.crew.snapshot.load_full();
        let mut loaded = load::read(&self.origin);
        let asked = match &mut loaded {
            Ok(loaded) => std::mem::take(&mut loaded.asked),
            Err(_) => self.origin.unread(),
        };
        let draft = match loaded.as_ref().map(|loaded| loaded.config.as_ref()) {
            Ok(Some(config)) => self.discovery.draft(config).await,
            _ => Draft::default(),
        };
        let outcome = match self.next(loaded, &current, &draft) {
            Err(refusal) => Err(refusal),
            Ok(Next { snapshot, said, merged, warnings }) => match self.adopt(snapshot, None, None).await {
                Err(mut errors) => {
                    errors.extend(privileges::reminder(&errors));
                    Err(Refusal::Machine(errors))
                }
                Ok(adopted) => {
                    self.said = said;
                    self.discovery.commit(&merged, draft);
                    match adopted.unserved.is_empty() {
                        true => Ok(Adopted { warnings, ..adopted }),
                        false => Err(Refusal::Unserved(adopted.unserved)),
                    }
                }
            },
        };
        self.follow(&asked);
        match &outcome {
            Ok(Adopted { changes, warnings, .. }) => {
                if !warnings.rendered.is_empty() {
                    tracing::warn!(event = events::RELOAD, "{}", warnings.rendered.trim_end());
                }
                tracing::info!(event = events::RELOAD, changes = changes.len(), by, "configuration reloaded");
                self.reloads.serves(warnings.clone());
            }
            Err(refusal @ Refusal::Unserved(errors)) => {
                self.reloads.failed(clock::wall(), by, refusal.rejection());
                tracing::error!(
                    event = events::RELOAD,
                    by,
                    "the new configuration is in force, but not all of it is served: {}",
                    errors.join("\n")
                );
            }
            Err(refusal) => {
                self.reloads.failed(clock::wall(), by, refusal.rejection());
                let why = refusal.text();
                tracing::error!(
                    event = events::RELOAD,
                    by,
                    "reload refused, the old configuration serves on: {}",
                    why.trim_end()
                );
            }
        }
        let status = outcome.as_ref().map_or_else(|refusal| refusal.brief().to_owned(), |_| self.status());
        notify::ready(&status);
        outcome
    }

    /// Where edits are watched for, goes on from what was read just now.
    pub(super) fn follow(&mut self, asked: &Asked) {
        if !self.crew.snapshot.load().settings.watch || matches!(self.origin, Origin::Text { .. }) {
            self.edits = None;
            return;
        }
        match &mut self.edits {
            Some(edits) => edits.judge(asked),
            None => match Edits::new(asked) {
                Ok(edits) => {
                    if let Some(file) = edits::pinned(asked) {
                        let file = file.display();
                        tracing::warn!(%file, "is mounted by itself: an edit that puts another file in its place is not seen; mount its folder");
                    }
                    self.edits = Some(edits);
                }
                Err(error) => tracing::error!(%error, "the configuration is not watched: edits need a reload"),
            },
        }
    }

    /// Something has stirred where the configuration is: reloads if it is another one, and is so for good.
    pub(super) async fn look(&mut self) {
        let Some(edits) = &mut self.edits else { return };
        match edits.look(&load::ask(&self.origin)) {
            Look::Nothing => {}
            Look::Edited => {
                tracing::info!(event = events::RELOAD, "the configuration's files have changed");
                // The outcome is logged and counted.
                let _ = self.reload(WATCH).await;
            }
            Look::Emptied => {
                tracing::warn!(event = events::RELOAD, "{} is empty: an edit gone wrong, and not taken", self.origin);
            }
        }
    }

    /// What a reload would change, without doing it. Ports and files are not tried.
    pub(super) fn compare(&self, candidate: Option<&Candidate>) -> Result<Compared, ReloadRejected> {
        let mut loaded = match candidate {
            Some(candidate) => Ok(load::judge(candidate)),
            None => load::read(&self.origin),
        };
        let current = self.crew.snapshot.load_full();
        let mut failures = String::new();
        if let Ok(loaded) = &mut loaded {
            failures = load::failing(loaded);
        }
        match self.next(loaded, &current, &Draft::default()) {
            Ok(Next { snapshot, warnings, .. }) => {
                let changes = diff(&current, &snapshot).iter().map(ToString::to_string).collect();
                Ok(Compared { changes, warnings: warnings.rendered, failures })
            }
            Err(refusal) => Err(ReloadRejected {
                error: "a reload of this configuration would be refused".to_owned(),
                ..refusal.rejection()
            }),
        }
    }

    /// What was read, with what sources have found, if this process can become it.
    fn next(&self, loaded: io::Result<Loaded>, current: &Snapshot, draft: &Draft) -> Result<Next, Refusal> {
        let refused = |why: String| Err(Refusal::Machine(vec![why]));
        let mut loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return refused(format!("cannot read {}: {error}", self.origin)),
        };
        let Some(config) = loaded.config.clone() else { return Err(Refusal::Invalid(Box::new(loaded))) };
        let merged = self.discovery.merge(&config, draft, current);
        let Some(next) = load::compile_found(&mut loaded, &merged.config, current) else {
            return Err(Refusal::Invalid(Box::new(loaded)));
        };
        // Worker threads, their listeners and their rows of cells are made once, and so is the log.
        let (a, b) = (&current.settings, &next.settings);
        for (key, changed) in [
            ("workers", a.workers != b.workers),
            ("[log] format", a.log_json != b.log_json),
            ("[process] user", a.process.user != b.process.user),
            ("[process] keep_capabilities", a.process.keep_capabilities != b.process.keep_capabilities),
        ] {
            if changed {
                return refused(format!("`{key}` cannot change while running: restart to change it"));
            }
        }
        let warnings = loaded.warnings();
        Ok(Next { snapshot: next, said: Said { config, written: loaded.written }, merged, warnings })
    }

    /// Prepares and commits `next`. `cause`: who wants it, where that is not the file.
    ///
    /// # Errors
    /// What could not be bound; nothing has changed.
    pub(super) async fn adopt(
        &mut self,
        next: Snapshot,
        heir: Option<&Heir>,
        cause: Option<&str>,
    ) -> Result<Adopted, Vec<String>> {
        let current = self.crew.snapshot.load_full();
        let admin = self.admin.prepare(&next.settings).map_err(|error| vec![error])?;
        let records = changed("[access_log]", &current.settings.access_output, &next.settings.access_output)?;
        let lines = changed("[log]", &current.settings.log_output, &next.settings.log_output)?;
        let forbidden = probe::forbidden(next.pools());
        if !forbidden.is_empty() {
            return Err(forbidden);
        }
        let mut packets = self.packets.prepare(&next)?;
        // Last: a socket that listens and is then thrown away resets whoever connected in between.
        let prepared = self.listeners.prepare(&next, self.workers.len())?;
        let next = Arc::new(next);
        let changes = diff(&current, &next);

        self.crew.snapshot.store(next.clone());
        // Only a hint is lost with them.
        self.crew.gateways.store(Arc::new(sys::neighbour::gateways().unwrap_or_default()));
        let through = self.packets.let_probes_through(&mut packets, &next);
        let said = |error| format!("a thread for probes through VIPs cannot be made: {error}");
        let mut unserved: Vec<String> = through.err().map(said).into_iter().collect();
        self.keeper.adopt(next.clone());
        self.refresh_workers().await;
        if let Some(heir) = heir {
            // Nothing is accepted before the process that serves lets it: what this one took would be lost with it.
            self.relieve(heir, &packets, &next).await?;
        }
        self.listeners.commit(&prepared);
        for (address, service, sockets) in prepared.opened {
            for (worker, sockets) in self.workers.iter().zip(sockets) {
                order(worker, Order::Listen { address, service, sockets }).await;
            }
        }
        for (address, service) in prepared.assigned {
            for worker in &self.workers {
                order(worker, Order::Assign { address, service }).await;
            }
        }
        for address in prepared.retired {
            self.retire(address).await;
        }
        // At the start this waits for the first probes. Whoever asks whether we are ready asks what is opened after it.
        unserved.extend(self.packets.commit(packets, &next).await.err().into_iter().flatten());
        self.admin.commit(admin);
        if let Some(records) = records {
            self.access.redirect(records);
        }
        if let Some(lines) = lines {
            log::redirect(lines);
        }
        log::set_level(next.settings.log_level);
        if cause.is_none() {
            self.warn_of_limits(&next);
            if unserved.is_empty() {
                self.reloads.succeeded(clock::wall());
            }
        }
        for change in &changes {
            tracing::info!(event = events::CHANGE, generation = next.generation, cause, "{change}");
        }
        Ok(Adopted { changes, unserved, warnings: Warnings::default() })
    }

    /// Says so where the file promises more connections than descriptors carry.
    fn warn_of_limits(&self, next: &Snapshot) {
        let Ok(descriptors) = sys::process::raise_descriptors() else { return };
        let carried = watch::most_connections(descriptors);
        let whole = next.settings.process.max_connections.map(|most| ("[process]".to_owned(), most));
        let each = next
            .services()
            .map(|service| (format!("service {}", service.spec.name), service.spec.limits.max_connections));
        for (who, wanted) in whole.into_iter().chain(each).filter(|(_, wanted)| *wanted > carried) {
            tracing::warn!(
                wanted,
                carried,
                descriptors,
                "{who}: `max_connections` is more than the limit of open files carries: raise that (LimitNOFILE, ulimit -n)"
            );
        }
    }
}

impl Refusal {
    /// What the log and a terminal show.
    fn text(&self) -> String {
        match self {
            Refusal::Invalid(loaded) => loaded.render(false),
            Refusal::Machine(errors) | Refusal::Unserved(errors) => errors.join("\n"),
        }
    }

    /// One line for systemd's status.
    fn brief(&self) -> &'static str {
        match self {
            Refusal::Invalid(_) | Refusal::Machine(_) => {
                "the last reload was refused; the configuration before serves on"
            }
            Refusal::Unserved(_) => "not all of the last configuration is served",
        }
    }

    pub(super) fn rejection(&self) -> ReloadRejected {
        let rendered = self.text();
        match self {
            Refusal::Invalid(loaded) => ReloadRejected {
                error: "the configuration has mistakes; the old one serves on".to_owned(),
                diagnostics: loaded.documents(),
                rendered,
            },
            Refusal::Machine(_) => ReloadRejected {
                error: "the configuration cannot be put into force; the old one serves on".to_owned(),
                diagnostics: Vec::new(),
                rendered,
            },
            Refusal::Unserved(_) => ReloadRejected {
                error: "the new configuration is in force, but not all of it is served".to_owned(),
                diagnostics: Vec::new(),
                rendered,
            },
        }
    }
}

/// The output of a log, opened, where `next` is another.
fn changed(section: &str, current: &Output, next: &Output) -> Result<Option<Destination>, Vec<String>> {
    if next == current {
        return Ok(None);
    }
    Destination::open(next).map(Some).map_err(|error| vec![format!("{section}: cannot write {next}: {error}")])
}
