//! Wiring: the control thread. Starts the process, commits configurations, answers the admin API, drains and ends.
//!
//! ```text
//!  read ─▶ compile ─▶ prepare (bind) ─▶ commit: one swap, then workers refresh, listeners move, keeper and admin follow
//!    └───────┴────────────┴── a failure here rejects the reload; nothing has changed
//! ```

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::discovery::{Discovery, Draft};
use super::edits::{self, Edits, Look};
use super::explain::{self as packets, Mute};
use super::keeper::{Keeper, KeeperHandle};
use super::listeners::Listeners;
use super::load::{self, First, Loaded, Origin};
use super::notify;
use super::outside::Asked;
use super::privileges;
use super::upgrade::Program;
use super::watch::{self, Watch};
use super::worker::{self, Order};
use crate::admin::control::Warnings;
use crate::admin::document::{Candidate, Compared, Explained, ReloadRejected, Reloaded};
use crate::admin::{self, Control, Refused, ReloadStatus, Request};
use crate::base::address::AdminListen;
use crate::base::{WorkerId, clock, limits};
use crate::config::Config;
use crate::config::found::Merged;
use crate::doc::Written;
use crate::explain::Scene;
use crate::mode::packet::engine as packet;
use crate::net::Crew;
use crate::observe::sink::{Destination, Output, Sink, Writer};
use crate::observe::{events, log};
use crate::probe;
use crate::state::{Change, Snapshot, diff};
use crate::sys;
use crate::wire::line::Line;

mod findings;
mod succession;

pub use succession::Beginning;
use succession::Heir;

/// A process that serves, until [`Supervisor::run`] returns.
pub struct Supervisor {
    origin: Origin,
    crew: Arc<Crew>,
    workers: Vec<worker::Handle>,
    listeners: Listeners,
    packets: packet::Engine,
    keeper: KeeperHandle,
    watch: Watch,
    admin: admin::Servers,
    reloads: Arc<ReloadStatus>,
    requests: mpsc::Receiver<Request>,
    access: Sink,
    records: Writer,
    signals: Signals,
    program: Program,
    /// Another process serves on these addresses: this one is to end.
    successor: Option<Vec<AdminListen>>,
    /// It was told to end while an upgrade was under way.
    told_to_stop: bool,
    /// With `watch = true`.
    edits: Option<Edits>,
    discovery: Discovery,
    /// What the file says, for when a source says more.
    said: Said,
}

/// The configuration in force as it was read, without what sources have found.
struct Said {
    config: Config,
    written: Written,
}

/// What a reload would bring into force.
struct Next {
    snapshot: Snapshot,
    said: Said,
    merged: Merged,
    warnings: Warnings,
}

/// What came of a configuration that is in force.
struct Adopted {
    changes: Vec<Change>,
    /// What is in force and not served all the same.
    unserved: Vec<String>,
    warnings: Warnings,
}

/// Why a configuration was not taken. Nothing has changed, unless it says otherwise.
pub enum Refusal {
    /// The text has mistakes.
    Invalid(Box<Loaded>),
    /// The text is well, but the machine refuses what it asks for.
    Machine(Vec<String>),
    /// It is in force, and the machine did not let all of it be served after all.
    Unserved(Vec<String>),
}

/// Who asks for a reload, as log and events call them.
const SIGNAL: &str = "signal";
const WATCH: &str = "watch";
/// How often it is looked whether the machine has changed under the packet engine.
const MEND: Duration = Duration::from_secs(1);
/// How often the drain looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// How long the end takes beside the drain at most: queues of sockets, then what is still to be logged.
const FINISHING: Duration = Duration::from_secs(10);
/// Requests of the admin API that may wait.
const REQUESTS: usize = 64;

impl Supervisor {
    /// Brings everything up for `loaded`. Must run inside the control thread's `LocalSet`.
    ///
    /// # Errors
    /// An address that cannot be listened on, a thread that cannot be made.
    pub async fn start(
        origin: Origin,
        First { config, snapshot, asked, warnings, written }: First,
        access: (Sink, Writer),
        beginning: Beginning,
    ) -> anyhow::Result<Supervisor> {
        let (access, records) = access;
        // Before anybody can know that it runs: a signal that nobody handles kills.
        let signals = Signals::new()?;
        let program = Program::of_this_process()?;
        let heir = beginning.receive().await?;
        let count = snapshot.settings.workers;
        let (events, news) = mpsc::channel(limits::CONTROL_QUEUE);
        let empty = Arc::new(Snapshot::empty(snapshot.settings.clone()));
        let (crew, handovers) = Crew::new(count, empty, events, access.clone());
        let mut workers = Vec::with_capacity(count);
        for (index, handed) in (0u16..).zip(handovers) {
            workers.push(worker::start(WorkerId(index), crew.clone(), handed)?);
        }
        let keeper = Keeper::start(crew.clone(), news)?;
        tokio::task::spawn_local(watch::beat(crew.beats.begin("the control thread", clock::now())));
        let watch = watch::start(crew.clone(), workers.iter().map(|worker| worker.orders.clone()).collect())?;
        let (sender, requests) = mpsc::channel(REQUESTS);
        let reloads = Arc::new(ReloadStatus::default());
        let sources = Arc::new(admin::control::Sources::default());
        let control =
            Control { crew: crew.clone(), reloads: reloads.clone(), sources: sources.clone(), requests: sender };
        let discovery = Discovery::new(origin.folder(), sources);
        let mut supervisor = Supervisor {
            origin,
            workers,
            listeners: Listeners::new(heir.inherited.clone()),
            packets: packet::Engine::new(count, load::secret(), crew.packets.clone(), crew.passages.clone()),
            keeper,
            watch,
            admin: admin::Servers::new(control, heir.inherited.clone()),
            reloads,
            requests,
            access,
            records,
            signals,
            program,
            successor: None,
            told_to_stop: false,
            edits: None,
            discovery,
            said: Said { config, written },
            crew,
        };
        if heir.talk.is_some() {
            supervisor.packets.succeed();
        }
        let snapshot = supervisor.discover(snapshot, &heir).await;
        match supervisor.adopt(snapshot, Some(&heir), None).await {
            Ok(Adopted { unserved, .. }) if !unserved.is_empty() => {
                supervisor.renounce(&heir);
                supervisor.stop().await;
                anyhow::bail!("{}", unserved.join("\n"))
            }
            Ok(_) => {
                supervisor.reloads.serves(warnings);
                supervisor.follow(&asked);
                let settings = &supervisor.crew.snapshot.load().settings;
                tracing::info!(
                    event = events::PROCESS,
                    version = env!("CARGO_PKG_VERSION"),
                    workers = settings.workers,
                    metrics = settings.metrics.map(tracing::field::display),
                    admin = settings.admin.as_ref().map(tracing::field::display),
                    pid = std::process::id(),
                    "strata serves"
                );
                supervisor.begin(heir).await;
                Ok(supervisor)
            }
            Err(errors) => {
                supervisor.renounce(&heir);
                supervisor.stop().await;
                anyhow::bail!("{}", errors.join("\n"))
            }
        }
    }

    /// Serves until told to stop.
    pub async fn run(mut self) -> ExitCode {
        let mut mend = tokio::time::interval(MEND);
        mend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.successor.is_none() && !self.told_to_stop {
            tokio::select! {
                _ = mend.tick() => {
                    let snapshot = self.crew.snapshot.load_full();
                    self.packets.mend(&snapshot).await;
                }
                request = self.requests.recv() => {
                    if let Some(request) = request {
                        self.answer(request).await;
                    }
                }
                () = due(&mut self.edits) => self.look().await,
                () = self.discovery.due() => self.discovered().await,
                wish = self.signals.next() => match wish {
                    Wish::Reload => {
                        // The outcome is logged and counted; a signal has nobody to tell.
                        let _ = self.reload(SIGNAL).await;
                    }
                    Wish::Reopen => self.reopen(),
                    Wish::Upgrade => {
                        // The outcome is logged.
                        let _ = self.upgrade().await;
                    }
                    Wish::Stop => break,
                }
            }
        }
        self.drain().await;
        self.stop().await;
        ExitCode::SUCCESS
    }

    /// Opens log files anew, after a rotation.
    fn reopen(&self) {
        self.access.reopen();
        log::reopen();
    }

    /// Reads the configuration again and takes it over, or changes nothing.
    async fn reload(&mut self, by: &str) -> Result<Adopted, Refusal> {
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
    fn follow(&mut self, asked: &Asked) {
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
    async fn look(&mut self) {
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
    fn compare(&self, candidate: Option<&Candidate>) -> Result<Compared, ReloadRejected> {
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
    async fn adopt(
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

    /// Returns once every worker serves by the new snapshot.
    async fn refresh_workers(&self) {
        let mut waiting = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (done, told) = oneshot::channel();
            order(worker, Order::Refresh { done }).await;
            waiting.push(told);
        }
        for told in waiting {
            // A worker that ended has no readers left to refresh.
            let _ = told.await;
        }
    }

    async fn retire(&self, address: crate::base::Listen) {
        for worker in &self.workers {
            order(worker, Order::Retire { address }).await;
        }
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Reload { by, reply } => {
                let outcome = self.reload(&by).await;
                let generation = self.crew.snapshot.load().generation;
                let shown = |changes: Vec<Change>| changes.iter().map(ToString::to_string).collect();
                let answer = outcome
                    .map(|Adopted { changes, warnings, .. }| Reloaded {
                        generation,
                        changes: shown(changes),
                        warnings: warnings.rendered,
                    })
                    .map_err(|refusal| refusal.rejection());
                // The asker may have gone; the reload has happened all the same.
                let _ = reply.send(answer);
            }
            Request::Upgrade { reply } => {
                let outcome = self.upgrade().await;
                let _ = reply.send(outcome);
            }
            Request::Compare { candidate, reply } => {
                let _ = reply.send(self.compare(candidate.as_deref()));
            }
            Request::SetIntent { pool, endpoint, intent, reply } => {
                let _ = reply.send(match self.obeys() {
                    Ok(()) => self.keeper.set_intent(&pool, &endpoint, intent).await,
                    Err(refused) => Err(refused),
                });
            }
            Request::SetWeight { pool, endpoint, weight, reply } => {
                let _ = reply.send(match self.obeys() {
                    Ok(()) => self.keeper.set_weight(&pool, &endpoint, weight).await,
                    Err(refused) => Err(refused),
                });
            }
            Request::ExplainPacket { line, interface, reply } => {
                let _ = reply.send(self.explain(&line, interface.as_deref()).await);
            }
            Request::HealthReport { reply } => {
                let _ = reply.send(self.keeper.report().await);
            }
        }
    }

    /// One that ends keeps nothing that it is told, and whoever serves after it does not hear of it.
    fn obeys(&self) -> Result<(), Refused> {
        match self.crew.draining() {
            true => Err(Refused::Because("this process is ending: ask again, another one may serve".to_owned())),
            false => Ok(()),
        }
    }

    /// What becomes of a packet, by the snapshot in force.
    async fn explain(&self, line: &Line, interface: Option<&str>) -> Result<Explained, String> {
        let (snapshot, reports) = (self.crew.snapshot.load_full(), self.keeper.report().await);
        if packets::slots(&snapshot) > limits::EXPLAIN_SLOTS {
            return Err("the tables of all packet services are too large to be built for an answer: explain it from the file (`--config`)".to_owned());
        }
        let cause = admin::causes(&reports);
        let scene = Scene { snapshot: &snapshot, now: clock::now(), live: true, random_key: false, cause: &cause };
        match packets::packet(&scene, line, interface) {
            Ok(packets::Explained::Connection(story)) => Ok(Explained::Request(story)),
            Ok(packets::Explained::Packet(story)) => {
                let document = serde_json::to_value(&story).map_err(|error| error.to_string())?;
                Ok(Explained::Packet { text: story.to_string(), story: document })
            }
            Err(Mute::NoPacketService) => {
                Err("there is no service of packets, and nobody listens there: nothing is decided about it".to_owned())
            }
            Err(Mute::Because(why)) => Err(why),
        }
    }

    /// Takes no more, lets what is open finish, and returns when it has, at the deadline, or on a second signal. One that ends because
    /// another process serves was not told to by a signal yet.
    async fn drain(&mut self) {
        let timeout = self.crew.snapshot.load().settings.drain_timeout;
        let mut told = self.successor.is_none() || self.told_to_stop;
        tracing::info!(event = events::PROCESS, connections = self.crew.connections(), ?timeout, "draining");
        notify::stopping("finishes what it carries", timeout + FINISHING);
        self.crew.drain();
        self.close_listeners().await;
        for worker in &self.workers {
            order(worker, Order::Drain).await;
        }
        // Sockets being retired still bring what stood in their queues.
        let retired = clock::now() + worker::RETIRE + DRAIN_POLL;
        let deadline = retired.max(clock::now() + timeout);
        while clock::now() < retired || self.crew.connections() > 0 && clock::now() < deadline {
            tokio::select! {
                () = tokio::time::sleep(DRAIN_POLL) => {}
                wish = self.signals.next() => match wish {
                    Wish::Stop if told => break,
                    Wish::Stop => {
                        tracing::info!("it ends already, since another process serves: the same signal again cuts what is open");
                        told = true;
                    }
                    Wish::Reopen => self.reopen(),
                    Wish::Reload | Wish::Upgrade => {}
                },
                request = self.requests.recv() => if let Some(request) = request { self.answer(request).await },
            }
        }
        let left = self.crew.connections();
        if left > 0 {
            tracing::warn!(connections = left, "the drain ends with connections open; they are cut");
            // Workers close what they carry when they end, and a close looks like an end.
            if let Err(error) = sys::reset_all_on_close() {
                tracing::warn!(%error, "connections that are cut may look finished to their peers");
            }
        }
    }

    async fn stop(mut self) {
        for worker in &self.workers {
            order(worker, Order::Stop).await;
        }
        for worker in std::mem::take(&mut self.workers) {
            if worker.thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
        self.packets.stop();
        self.watch.stop();
        if !self.records.finish() {
            tracing::warn!("access records that their output does not take are lost");
        }
        tracing::info!("stopped");
    }
}

impl Refusal {
    /// What the log and a terminal show.
    pub fn text(&self) -> String {
        match self {
            Refusal::Invalid(loaded) => loaded.render(false),
            Refusal::Machine(errors) | Refusal::Unserved(errors) => errors.join("\n"),
        }
    }

    fn rejection(&self) -> ReloadRejected {
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

async fn order(worker: &worker::Handle, order: Order) {
    if worker.orders.send(order).await.is_err() {
        tracing::error!("a worker has ended; it takes no orders");
    }
}

async fn due(edits: &mut Option<Edits>) {
    match edits {
        Some(edits) => edits.due().await,
        None => std::future::pending().await,
    }
}

/// What the signals mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Reload,
    Reopen,
    Upgrade,
    Stop,
}

struct Signals {
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// Whether a reload has been asked for that nobody has heard of; now somebody has.
    fn reload_is_pending(&mut self) -> bool {
        self.hup.poll_recv(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hup.recv() => Wish::Reload,
            _ = self.usr1.recv() => Wish::Reopen,
            _ = self.usr2.recv() => Wish::Upgrade,
            _ = self.term.recv() => Wish::Stop,
            _ = self.int.recv() => Wish::Stop,
        }
    }
}
