//! Wiring: the control thread. Starts the process, takes configurations over (`reload`), answers the admin API, drains and ends.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::discovery::Discovery;
use super::edits::Edits;
use super::explain::{self as packets, Mute};
use super::keeper::{Keeper, KeeperHandle};
use super::listeners::Listeners;
use super::load::{self, First, Origin};
use super::notify;
use super::upgrade::Program;
use super::watch::{self, Watch};
use super::worker::{self, Order};
use crate::admin::document::{Explained, Reloaded};
use crate::admin::{self, Control, Refused, ReloadStatus, Request};
use crate::base::address::AdminListen;
use crate::base::{WorkerId, clock, limits};
use crate::explain::Scene;
use crate::mode::packet::engine as packet;
use crate::net::Crew;
use crate::observe::sink::{Sink, Writer};
use crate::observe::{events, log};
use crate::state::{Change, Snapshot};
use crate::sys;
use crate::wire::line::Line;

mod findings;
mod reload;
mod signals;
mod succession;

use reload::{Adopted, SIGNAL, Said};
use signals::{Signals, Wish};
pub use succession::Beginning;

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
