//! Wiring: how the supervisor hands over to a new process, and how one that takes over begins.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::reload::SIGNAL;
use super::signals::Wish as Signalled;
use super::{DRAIN_POLL, Supervisor, order};
use crate::admin::document::Upgraded;
use crate::app::notify;
use crate::app::upgrade::{Legacy, Predecessor, Successor, Talk, Wish};
use crate::app::worker::Order;
use crate::base::address::AdminListen;
use crate::base::{Weight, clock, limits};
use crate::health::Intent;
use crate::observe::events;
use crate::state::Snapshot;
use crate::sys;
use crate::sys::inherited::{Given, Inherited};

/// How long a successor that is prepared may take to serve at least, whatever preparing has left of its time; it takes milliseconds.
const TAKING_OVER: Duration = Duration::from_secs(5);

/// What systemd is told where a process could not be succeeded. The Debian package's scripts wait for its first words.
const UPGRADE_REFUSED: &str = "the last upgrade was refused: this process serves on, and its log says why";

/// What a process begins with that others gave it.
#[derive(Default)]
pub struct Beginning {
    /// The process that serves until this one can.
    pub predecessor: Option<Predecessor>,
    /// Sockets that systemd has passed.
    pub activated: Inherited,
}

/// The same, while it begins.
pub(super) struct Heir {
    pub inherited: Rc<RefCell<Inherited>>,
    pub talk: Option<Talk>,
    pub legacy: Legacy,
}

impl Beginning {
    pub(super) async fn receive(self) -> anyhow::Result<Heir> {
        let mut inherited = self.activated;
        let (mut talk, mut legacy) = (None, Legacy::default());
        if let Some(predecessor) = self.predecessor {
            let (line, sockets, left) = predecessor.inherit().await?;
            inherited.merge(sockets);
            (talk, legacy) = (Some(line), left);
        }
        Ok(Heir { inherited: Rc::new(RefCell::new(inherited)), talk, legacy })
    }
}

impl Supervisor {
    /// Before a successor is heard: what an operator has set holds here too, and what probes find is known.
    pub(super) async fn settle(&self, next: &Snapshot, wishes: &[Wish]) {
        for Wish { pool, endpoint, intent, weight } in wishes {
            let intent = intent.as_ref().and_then(|word| Intent::ALL.into_iter().find(|intent| intent.word() == word));
            if let Some(intent) = intent {
                // What is not in the file any more is nothing to set.
                let _ = self.keeper.set_intent(pool, endpoint, intent).await;
            }
            if let Some(weight) = weight.and_then(Weight::new) {
                let _ = self.keeper.set_weight(pool, endpoint, weight).await;
            }
        }
        let until = clock::now() + limits::FIRST_PROBES;
        let unknown = || next.pools().any(|pool| pool.spec.probe.is_some() && pool.view().epoch == 0);
        while unknown() && clock::now() < until {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    /// Has a new process of the binary that is there now take over. This one serves on where it cannot; otherwise
    /// `self.successor` says so, and there is nothing left to do but drain.
    pub(super) async fn upgrade(&mut self) -> Result<Upgraded, String> {
        let outcome = match self.crew.draining() || self.successor.is_some() {
            true => Err("it is ending already".to_owned()),
            // The kernel ends a container with its first process.
            false if std::process::id() == 1 => {
                Err("it is the first process of its container, which would end with it: replace the container"
                    .to_owned())
            }
            false => self.succeed().await,
        };
        let outcome = outcome.map_err(|why| match self.crew.draining() || self.told_to_stop {
            true => format!("no upgrade: {why}"),
            false => format!("no upgrade, this process serves on: {why}"),
        });
        match &outcome {
            Ok(Upgraded { pid }) => tracing::info!(
                event = events::UPGRADE,
                pid,
                "another process serves: this one finishes what it carries"
            ),
            Err(why) if self.told_to_stop => tracing::info!(event = events::UPGRADE, "{why}"),
            Err(why) => {
                tracing::error!(event = events::UPGRADE, "{why}");
                if !self.crew.draining() {
                    notify::status(UPGRADE_REFUSED);
                }
            }
        }
        outcome
    }

    async fn succeed(&mut self) -> Result<Upgraded, String> {
        let timeout = self.crew.snapshot.load().settings.process.upgrade_timeout;
        let sockets = self.lend().await?;
        let legacy = Legacy { wishes: self.wishes(), found: self.found_members(), services: self.found_by_services() };
        let binary = self.program.path().display();
        tracing::info!(event = events::UPGRADE, %binary, "upgrade: a new process is started");
        notify::status("an upgrade: a new process prepares to serve");
        let mut successor = Successor::start(&self.program)?;
        let until = clock::now() + timeout;
        let late = || format!("it was not ready within {timeout:?} (`[process] upgrade_timeout`)");
        let hangs = |left: Duration| format!("it was prepared, and did not take over within {left:?}");
        let mut reload = false;
        let prepared = {
            let prepared = tokio::time::timeout(timeout, successor.prepare(sockets, legacy));
            tokio::pin!(prepared);
            loop {
                tokio::select! {
                    outcome = &mut prepared => break outcome.unwrap_or_else(|_| Err(late())),
                    wish = self.signals.next() => match wish {
                        Signalled::Stop => {
                            self.told_to_stop = true;
                            break Err("this process was told to stop".to_owned());
                        }
                        // The successor has read the file perhaps, perhaps not; this one has not.
                        Signalled::Reload => {
                            tracing::info!("a reload waits for the outcome of the upgrade");
                            reload = true;
                        }
                        Signalled::Reopen => self.reopen(),
                        Signalled::Upgrade => {}
                    },
                }
            }
        };
        if let Err(why) = prepared {
            successor.end();
            if reload && !self.told_to_stop {
                let _ = Box::pin(self.reload(SIGNAL)).await;
            }
            return Err(why);
        }
        // However late it was prepared: it gets the time to take over that it needs. Where there are packets, no more: one that hangs
        // here is not waited for, since nobody forwards them meanwhile.
        let left = if self.packets.is_running() { TAKING_OVER } else { until.since(clock::now()).max(TAKING_OVER) };
        // From here on no frame is anybody's for the few ms until the other's taps hear.
        self.packets.stop();
        // A signal of now is heard after it: where the other one serves, one to stop is for what this one still carries.
        let taken = tokio::time::timeout(left, successor.take_over()).await.unwrap_or_else(|_| Err(hangs(left)));
        reload |= self.signals.reload_is_pending();
        match taken {
            Ok(kept) => {
                let pid = successor.id();
                if reload && let Err(error) = sys::process::hang_up(pid) {
                    tracing::warn!(%error, "a reload was asked for that the successor cannot be told of: reload again");
                }
                notify::hand_over(pid);
                successor.let_go().await;
                self.successor = Some(kept);
                Ok(Upgraded { pid })
            }
            Err(why) => {
                successor.end();
                // Whatever of them can be had at once. The rest is looked for each second, as ever: nobody else has them.
                let snapshot = self.crew.snapshot.load_full();
                self.packets.mend(&snapshot).await;
                if reload {
                    let _ = Box::pin(self.reload(SIGNAL)).await;
                }
                Err(why)
            }
        }
    }

    /// Every listening socket once more, by address.
    async fn lend(&self) -> Result<Vec<Given>, String> {
        let failed = |error: std::io::Error| format!("a listening socket cannot be given: {error}");
        let mut sockets = self.admin.lend().map_err(failed)?;
        for worker in &self.workers {
            let (reply, lent) = oneshot::channel();
            order(worker, Order::Lend { reply }).await;
            let lent = tokio::time::timeout(limits::ADMIN_IDLE, lent).await;
            let Ok(Ok(lent)) = lent else { return Err("a worker does not answer".to_owned()) };
            sockets.extend(lent.map_err(failed)?);
        }
        Ok(sockets)
    }

    /// What an operator has set of endpoints, and the file does not say.
    fn wishes(&self) -> Vec<Wish> {
        let snapshot = self.crew.snapshot.load();
        let mut wishes = Vec::new();
        for pool in snapshot.pools() {
            for (endpoint, spec) in pool.endpoints.iter().zip(&pool.spec.endpoints) {
                let status = endpoint.status();
                let weight = (spec.weight != status.weight).then(|| status.weight.get().into());
                let intent = (status.intent != Intent::Ready).then(|| status.intent.word().to_owned());
                if intent.is_some() || weight.is_some() {
                    let (pool, endpoint) = (pool.spec.name.to_string(), endpoint.name.to_string());
                    wishes.push(Wish { pool, endpoint, intent, weight });
                }
            }
        }
        wishes
    }

    /// Takes no more connections: what `successor` serves is let go, the rest is given up.
    pub(super) async fn close_listeners(&mut self) {
        let kept = self.successor.take().unwrap_or_default();
        for address in self.listeners.take_all() {
            let is_kept = kept.contains(&AdminListen::Tcp(address));
            for worker in &self.workers {
                let close = if is_kept { Order::Release { address } } else { Order::Retire { address } };
                order(worker, close).await;
            }
        }
        if !kept.is_empty() {
            self.admin.release(&kept);
        }
    }

    /// Tells the process before this one that this one could serve, and waits until it is to.
    pub(super) async fn relieve(
        &mut self,
        heir: &Heir,
        prepared: &crate::mode::packet::engine::Prepared,
        next: &Arc<Snapshot>,
    ) -> Result<(), Vec<String>> {
        let Some(talk) = &heir.talk else { return Ok(()) };
        self.settle(next, &heir.legacy.wishes).await;
        self.packets.forestall(prepared, next).await.map_err(|error| vec![error])?;
        talk.prepared().await.map_err(|error| vec![error.to_string()])
    }

    /// This process will not serve after all: files of sockets that it was given stay, for whoever gave them listens there.
    pub(super) fn renounce(&mut self, heir: &Heir) {
        self.admin.release(&heir.inherited.borrow_mut().taken());
    }

    /// This process serves: whoever gave it something hears so.
    pub(super) async fn begin(&mut self, heir: Heir) {
        let Heir { inherited, talk, .. } = heir;
        let left = inherited.borrow_mut().leave();
        let taken = inherited.borrow_mut().taken();
        match talk {
            Some(talk) => talk.serving(&taken).await,
            None => {
                for address in left {
                    tracing::warn!(%address, "a socket was passed that nothing in the file listens on: it is closed");
                }
            }
        }
        notify::begin();
        notify::ready(&self.status());
        // Whoever served before may have been heard long ago, and the thread that watches has just begun to count.
        notify::alive();
    }

    pub(super) fn status(&self) -> String {
        let snapshot = self.crew.snapshot.load();
        let (services, generation) = (snapshot.services().count(), snapshot.generation);
        format!("serves {services} services, generation {generation} of the configuration")
    }
}
