//! Wiring: the keeper of health: one thread that probes every endpoint, hears what the data path finds, and alone says who
//! is usable.
//!
//! A thread of its own (DESIGN §5): neither traffic nor the compilation of ten thousand routes makes a probe late. What an
//! endpoint's state is stands in `wards`; what a state means is `health`'s; when a probe runs is `health::schedule`'s.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, JoinSet};

use crate::admin::{EndpointReport, Refused};
use crate::base::units::show_duration;
use crate::base::{Moment, Weight, clock, limits};
use crate::health::{Event, Health, Intent, Reach, Schedule, Transition, Trouble};
use crate::net::{ControlEvent, Crew};
use crate::observe::events;
use crate::seam::probe::{Aim, Failure};
use crate::state::Snapshot;

mod wards;

#[cfg(test)]
mod tests;

use wards::{Checker, WardId, Wards};

/// The thread's side. Nobody holds one: [`Keeper::start`] gives a handle.
pub struct Keeper {
    wards: Wards,
    schedule: Schedule<WardId>,
    running: JoinSet<Outcome>,
    /// Whose probe a task is, for one that ends in a panic and cannot say.
    tasks: HashMap<task::Id, WardId>,
    random: fastrand::Rng,
}

/// How the control side speaks to the keeper. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct KeeperHandle {
    snapshots: watch::Sender<Arc<Snapshot>>,
    commands: mpsc::Sender<Command>,
}

/// A transition that has happened.
struct Happening {
    pool: Arc<str>,
    endpoint: Arc<str>,
    transition: Transition,
}

enum Command {
    SetIntent { pool: String, endpoint: String, intent: Intent, reply: oneshot::Sender<Result<(), Refused>> },
    SetWeight { pool: String, endpoint: String, weight: Weight, reply: oneshot::Sender<Result<(), Refused>> },
    Report { reply: oneshot::Sender<Vec<EndpointReport>> },
}

/// What one probe found.
struct Outcome {
    /// What probed: its pool may have another probe by now.
    checker: Rc<Checker>,
    began: Moment,
    took: Duration,
    result: Result<(), Failure>,
}

enum Wake {
    Adopt,
    Probed(Result<(task::Id, Outcome), task::JoinError>),
    Told(ControlEvent),
    Asked(Command),
    Timer,
    Abandoned,
}

impl KeeperHandle {
    /// Takes over a snapshot that was committed. Where reloads come faster than they are taken over, the last one counts.
    pub fn adopt(&self, snapshot: Arc<Snapshot>) {
        self.snapshots.send_replace(snapshot);
    }

    /// Once this returns, the pool's view follows the new intent.
    ///
    /// # Errors
    /// The endpoint is not known.
    pub async fn set_intent(&self, pool: &str, endpoint: &str, intent: Intent) -> Result<(), Refused> {
        let (pool, endpoint) = (pool.to_owned(), endpoint.to_owned());
        self.ask(|reply| Command::SetIntent { pool, endpoint, intent, reply }).await.unwrap_or_else(|| Err(gone()))
    }

    /// Once this returns, the pool's view has the new weight. It holds until the file says another.
    ///
    /// # Errors
    /// The endpoint is not known.
    pub async fn set_weight(&self, pool: &str, endpoint: &str, weight: Weight) -> Result<(), Refused> {
        let (pool, endpoint) = (pool.to_owned(), endpoint.to_owned());
        self.ask(|reply| Command::SetWeight { pool, endpoint, weight, reply }).await.unwrap_or_else(|| Err(gone()))
    }

    /// What is known of every endpoint, pools and endpoints in the order of the file.
    pub async fn report(&self) -> Vec<EndpointReport> {
        self.ask(|reply| Command::Report { reply }).await.unwrap_or_default()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

fn gone() -> Refused {
    Refused::Because("health is not kept any more: the process is ending".to_owned())
}

impl Keeper {
    /// Starts the thread. It keeps nothing until the first [`KeeperHandle::adopt`].
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(crew: Arc<Crew>, events: mpsc::Receiver<ControlEvent>) -> io::Result<KeeperHandle> {
        let (snapshots, adopted) = watch::channel(crew.snapshot.load_full());
        let (commands, asked) = mpsc::channel(COMMANDS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let beat = crew.beats.begin("the health thread", clock::now());
        std::thread::Builder::new().name("strata-health".to_owned()).spawn(move || {
            let keeper = Keeper {
                wards: Wards::new(crew, beat),
                schedule: Schedule::new(limits::PROBES_IN_FLIGHT),
                running: JoinSet::new(),
                tasks: HashMap::new(),
                random: fastrand::Rng::new(),
            };
            task::LocalSet::new().block_on(&runtime, keeper.run(adopted, asked, events));
        })?;
        Ok(KeeperHandle { snapshots, commands })
    }

    async fn run(
        mut self,
        mut adopted: watch::Receiver<Arc<Snapshot>>,
        mut asked: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<ControlEvent>,
    ) {
        loop {
            let now = clock::now();
            self.tick(now);
            self.sample(now);
            self.wards.warm(now);
            self.wards.publish(now);
            self.probe(now);
            self.wards.next_probe_due(self.schedule.waiting_since());
            let timer = self.next_timer(now).min(now + limits::BEAT);
            let wake = tokio::select! {
                biased;
                changed = adopted.changed() => changed.map_or(Wake::Abandoned, |()| Wake::Adopt),
                Some(outcome) = self.running.join_next_with_id() => Wake::Probed(outcome),
                Some(event) = events.recv() => Wake::Told(event),
                command = asked.recv() => command.map_or(Wake::Abandoned, Wake::Asked),
                () = tokio::time::sleep(timer.since(now)) => Wake::Timer,
            };
            match wake {
                Wake::Adopt => {
                    let snapshot = adopted.borrow_and_update().clone();
                    self.adopt(&snapshot);
                }
                Wake::Probed(outcome) => self.probed(outcome),
                Wake::Told(event) => self.told(&event),
                Wake::Asked(command) => self.answer(command),
                Wake::Timer => {}
                Wake::Abandoned => return,
            }
            // All that is there before the views are built anew: a table costs milliseconds, and a rack that dies is one.
            while let Some(outcome) = self.running.try_join_next_with_id() {
                self.probed(outcome);
            }
            for _ in 0..limits::CONTROL_QUEUE {
                let Ok(event) = events.try_recv() else { break };
                self.told(&event);
            }
        }
    }

    fn adopt(&mut self, snapshot: &Snapshot) {
        let now = clock::now();
        for happening in self.wards.adopt(snapshot, &mut self.schedule, &mut self.random, now) {
            tell(&happening);
        }
    }

    /// Starts every probe that is due.
    fn probe(&mut self, now: Moment) {
        while let Some(ward) = self.schedule.take(now) {
            let Some((checker, aims)) = self.wards.checker(ward) else {
                self.schedule.done(ward, now, self.random.u64(..));
                continue;
            };
            let id = self.running.spawn_local(run_probe(checker, aims)).id();
            self.tasks.insert(id, ward);
        }
    }

    fn probed(&mut self, outcome: Result<(task::Id, Outcome), task::JoinError>) {
        let now = clock::now();
        let id = outcome.as_ref().map_or_else(task::JoinError::id, |(id, _)| *id);
        let Some(ward) = self.tasks.remove(&id) else { return };
        self.schedule.done(ward, now, self.random.u64(..));
        match outcome {
            Ok((_, outcome)) => {
                if self.wards.count_probe(ward, &outcome.checker, outcome.took, &outcome.result) {
                    self.judge(ward, outcome.began, outcome.result, now);
                }
            }
            // A mistake of ours says nothing of the endpoint.
            Err(error) => tracing::error!(%error, "a probe panicked"),
        }
    }

    /// What a probe's result means, for its endpoint and for the prober.
    fn judge(&mut self, ward: WardId, began: Moment, result: Result<(), Failure>, now: Moment) {
        let reach = result.as_ref().map_or_else(Failure::reach, |()| Some(Reach::Answered));
        if let Some(reach) = reach {
            let spreads = self.wards.reached(ward, reach, now);
            for hastened in spreads {
                self.schedule.hasten(hastened, now);
            }
        }
        let event = match result {
            Ok(()) => Event::ProbeSucceeded { began },
            Err(Failure::Endpoint(why)) => Event::ProbeFailed { began, why },
            Err(Failure::NoRoute(why) | Failure::Silent(why)) => {
                for wronged in self.wards.wronged(now) {
                    self.apply(wronged, Event::ProberCutOff, now);
                }
                if self.wards.disbelieves(ward) {
                    return;
                }
                Event::ProbeFailed { began, why }
            }
            Err(Failure::Ours(why)) => Event::ProbeImpossible { why },
        };
        self.apply(ward, event, now);
        if let Some(peers) = self.wards.held_well(ward) {
            self.apply(ward, Event::Spare { peers }, now);
        }
    }

    fn told(&mut self, event: &ControlEvent) {
        let (pool, endpoint, trouble) = match event {
            ControlEvent::ConnectFailing { pool, endpoint, failures } => {
                // A success since then has begun the count anew.
                let in_a_row = (*failures).min(endpoint.failures_in_row.load(Relaxed));
                (*pool, endpoint, Trouble::Connects { in_a_row })
            }
            ControlEvent::Erring { pool, endpoint, errors } => {
                let in_a_row = (*errors).min(endpoint.errors_in_row.load(Relaxed));
                (*pool, endpoint, Trouble::Errors { in_a_row })
            }
        };
        if let Some(ward) = self.wards.of(pool, endpoint) {
            self.trouble(ward, trouble, clock::now());
        }
    }

    fn trouble(&mut self, ward: WardId, trouble: Trouble, now: Moment) {
        let Some((trial, peers)) = self.wards.troubled(ward, trouble) else { return };
        self.apply(ward, Event::TrafficFailed { trouble, trial, peers }, now);
    }

    /// Reads what workers have counted, where it is time to.
    fn sample(&mut self, now: Moment) {
        for (ward, excess) in self.wards.sample(now) {
            self.trouble(ward, Trouble::Share(excess), now);
        }
    }

    fn tick(&mut self, now: Moment) {
        for ward in self.wards.due(now) {
            self.apply(ward, Event::Tick, now);
        }
    }

    fn answer(&mut self, command: Command) {
        let now = clock::now();
        // Whoever asked may have gone; what was asked for stands all the same.
        match command {
            Command::SetIntent { pool, endpoint, intent, reply } => {
                let ward = self.wards.find(&pool, &endpoint);
                if let Some(ward) = ward {
                    self.apply(ward, Event::SetIntent(intent), now);
                    self.wards.settle(ward);
                    self.wards.publish(now);
                }
                let _ = reply.send(ward.map(|_| ()).ok_or(Refused::Unknown));
            }
            Command::SetWeight { pool, endpoint, weight, reply } => {
                let ward = self.wards.find(&pool, &endpoint);
                if let Some(ward) = ward {
                    self.wards.set_weight(ward, weight, "operator");
                    self.wards.settle(ward);
                    self.wards.publish(now);
                }
                let _ = reply.send(ward.map(|_| ()).ok_or(Refused::Unknown));
            }
            Command::Report { reply } => {
                let _ = reply.send(self.wards.report(&self.schedule, now));
            }
        }
    }

    fn apply(&mut self, ward: WardId, event: Event, now: Moment) {
        let Some(happening) = self.wards.apply(ward, event, now) else { return };
        self.wards.follow(ward, &happening.transition, &mut self.schedule, &mut self.random, now);
        tell(&happening);
    }

    fn next_timer(&self, now: Moment) -> Moment {
        self.schedule.next_due().into_iter().chain(self.wards.next_timer(now)).min().unwrap_or(Moment::NEVER)
    }
}

/// Says what has happened, in the log and among the events.
fn tell(Happening { pool, endpoint, transition: Transition { from, to, cause } }: &Happening) {
    let show = |(intent, health): (Intent, Health)| match intent {
        Intent::Ready => health.word().to_owned(),
        _ => format!("{} ({})", health.word(), intent.word()),
    };
    let lost = to.0 == Intent::Ready && matches!(to.1, Health::Down | Health::Ejected);
    let (from, to) = (show(*from), show(*to));
    let (pool, endpoint, cause) = (&**pool, &**endpoint, &*cause.to_string());
    match lost {
        true => tracing::warn!(event = events::ENDPOINT, pool, endpoint, from, to, cause, "endpoint changed state"),
        false => tracing::info!(event = events::ENDPOINT, pool, endpoint, from, to, cause, "endpoint changed state"),
    }
}

async fn run_probe(checker: Rc<Checker>, aims: Vec<Aim>) -> Outcome {
    let began = clock::now();
    let result = probe_all(&checker, &aims, began).await;
    Outcome { checker, began, took: clock::now().since(began), result }
}

/// Probes by every way, which share the probe's patience: the first that the endpoint fails decides, then what we could not do.
async fn probe_all(checker: &Checker, aims: &[Aim], began: Moment) -> Result<(), Failure> {
    let patience = checker.pace.timeout;
    if aims.is_empty() {
        return Err(Failure::Ours("no VIP leads to it".into()));
    }
    let mut outcome = Ok(());
    for aim in aims {
        let left = patience.saturating_sub(clock::now().since(began));
        let result = match (tokio::time::timeout(left, checker.probe.check(aim)).await, &aim.passage) {
            (Ok(result), None) => result,
            (Ok(result), Some(passage)) => result.map_err(|failure| passage.through(failure)),
            (Err(_), None) => Err(Failure::Silent(format!("timeout after {}", show_duration(patience)).into())),
            (Err(_), Some(passage)) => Err(passage.silence(patience)),
        };
        match result {
            Ok(()) => {}
            Err(Failure::Endpoint(_) | Failure::NoRoute(_) | Failure::Silent(_)) => return result,
            Err(Failure::Ours(_)) => outcome = result,
        }
    }
    outcome
}

/// Questions that may wait: the admin API asks one at a time.
const COMMANDS: usize = 16;
