//! Shell: follows one engine for all tables of the file that have it as their source.
//!
//! ```text
//!  greet ─▶ events (from just before now) ─▶ list ─▶ ask for each ─▶ follow: events, answers, a list every minute
//!    ▲                                                                  │ the stream ends, or makes no sense
//!    └───────────────── pause, longer each time ────────────────────────┘
//! ```
//! Events are listened to before the list is asked for, so that nothing falls in between. What was known stays known while the
//! engine is away: it is told once that it is away, and all is asked anew when it is back.
//!
//! Not here: what follows from an event (`world`), what containers ask for (`gather`).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::engine::{Engine, Said, Socket};
use super::facts::{self, Container, Id, Listed};
use super::world::{Answer, Standing, World};
use crate::base::{Moment, clock};
use crate::doc::Settings;
use crate::observe::events;
use crate::seam::source::{Failure, Owner, Trouble, drain};

/// One engine, seen with one prefix of labels.
pub struct Hub {
    key: Key,
    world: RefCell<World>,
    /// Whether every container has been answered for once.
    complete: Cell<bool>,
    /// Why it cannot be followed now.
    failure: RefCell<Option<Failure>>,
    /// Who listens, and what each of his seats grants members that leave: while a reload swaps a source for another, there are two.
    owners: RefCell<BTreeMap<Owner, Vec<Duration>>>,
    news: watch::Sender<()>,
    /// How containers stood when that was logged last; `None`: never.
    logged: RefCell<Option<Standings>>,
    /// Ended by the last who leaves.
    following: Cell<Option<AbortHandle>>,
}

type Key = (Socket, String);
/// With their names.
type Standings = BTreeMap<Id, (Arc<str>, Standing)>;
type Work<T> = Pin<Box<dyn Future<Output = T>>>;

/// A table of the file that listens.
pub struct Seat {
    hub: Rc<Hub>,
    owner: Owner,
    drain: Duration,
    news: watch::Receiver<()>,
}

/// What there is to be seen.
pub struct Sight<'a> {
    /// `None` before all containers have been asked for.
    pub world: Option<&'a World>,
    pub failure: Option<&'a Failure>,
    /// All that listen.
    pub owners: &'a BTreeSet<Owner>,
}

thread_local! {
    /// Sources run on one thread, the control thread.
    static HUBS: RefCell<Vec<Rc<Hub>>> = const { RefCell::new(Vec::new()) };
}

impl Hub {
    /// A seat for `owner` at the engine of `settings`. Must be called on the thread of a `LocalSet`, which follows the engine while
    /// anybody has a seat.
    pub fn join(settings: &Settings, owner: Owner) -> Seat {
        let socket = Socket::parse(settings.text("socket").unwrap_or_default());
        let socket = socket.unwrap_or_else(|why| unreachable!("the grammar let a socket pass: {why}"));
        let key = (socket, settings.text("labels").unwrap_or_default().to_owned());
        let hub = HUBS.with_borrow_mut(|hubs| {
            let known = hubs.iter().find(|hub| hub.key == key).cloned();
            known.unwrap_or_else(|| {
                let hub = Rc::new(Hub::new(key));
                hubs.push(hub.clone());
                hub.following.set(Some(tokio::task::spawn_local(follow(hub.clone())).abort_handle()));
                hub
            })
        });
        let drain = drain(settings);
        hub.owners.borrow_mut().entry(owner.clone()).or_default().push(drain);
        let news = hub.news.subscribe();
        // The others may have to tell of less now.
        hub.tell();
        Seat { hub, owner, drain, news }
    }

    fn new(key: Key) -> Hub {
        let world = World::new(&key.1, own_ids());
        Hub {
            key,
            world: RefCell::new(world),
            complete: Cell::new(false),
            failure: RefCell::default(),
            owners: RefCell::default(),
            news: watch::Sender::new(()),
            logged: RefCell::default(),
            following: Cell::default(),
        }
    }

    fn tell(&self) {
        self.news.send_replace(());
    }

    fn longest_drain(&self) -> Duration {
        self.owners.borrow().values().flatten().max().copied().unwrap_or_default()
    }

    /// Logs which containers stand otherwise than before: why a member comes or goes is nowhere else to be seen.
    fn log(&self) {
        let world = self.world.borrow();
        let stand =
            |(container, standing): (&Container, Standing)| (container.id.clone(), (container.name.clone(), standing));
        let now: Standings = world.containers().into_iter().map(stand).collect();
        let engine = &self.key.0;
        let before = self.logged.replace(Some(now.clone()));
        let Some(before) = before else { return };
        for (id, (name, standing)) in &now {
            if before.get(id).is_none_or(|(_, before)| before != standing) {
                tracing::info!(event = events::SOURCE, %engine, "container {name}: {}", standing.words());
            }
        }
        for (_, (name, _)) in before.iter().filter(|(id, _)| !now.contains_key(*id)) {
            tracing::info!(event = events::SOURCE, %engine, "container {name}: it has ended");
        }
    }

    fn fail(&self, failure: Failure) {
        *self.failure.borrow_mut() = Some(failure);
        self.tell();
    }
}

impl Seat {
    pub fn look<T>(&self, look: impl FnOnce(Sight<'_>) -> T) -> T {
        let owners = self.hub.owners.borrow().keys().cloned().collect();
        let (world, failure) = (self.hub.world.borrow(), self.hub.failure.borrow());
        let world = self.hub.complete.get().then_some(&*world);
        look(Sight { world, failure: failure.as_ref(), owners: &owners })
    }

    /// Until there is something new to be seen.
    pub async fn changed(&mut self) {
        // The sender lives as long as the hub, which this holds.
        let _ = self.news.changed().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut owners = self.hub.owners.borrow_mut();
        if let Some(seats) = owners.get_mut(&self.owner) {
            if let Some(nth) = seats.iter().position(|drain| *drain == self.drain) {
                seats.swap_remove(nth);
            }
            if seats.is_empty() {
                owners.remove(&self.owner);
            }
        }
        let nobody = owners.is_empty();
        drop(owners);
        self.hub.tell();
        if !nobody {
            return;
        }
        if let Some(following) = self.hub.following.take() {
            following.abort();
        }
        // Fails only at the end of the thread, when they are gone.
        let _ = HUBS.try_with(|hubs| hubs.borrow_mut().retain(|hub| !Rc::ptr_eq(hub, &self.hub)));
    }
}

/// Follows the engine until it is aborted.
async fn follow(hub: Rc<Hub>) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let mut session = Session::default();
        let ended = session.run(&hub).await;
        let lived = session.since.map_or(Duration::ZERO, |since| clock::now().since(since));
        // Proxies end streams that say nothing for a while: no reason to wait, nor to tell anybody.
        if lived >= STEADY && ended.why == Trouble::Empty {
            pause = SHORTEST_PAUSE;
            continue;
        }
        if lived >= STEADY {
            pause = SHORTEST_PAUSE;
        }
        hub.fail(ended);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One connection to the engine.
#[derive(Default)]
struct Session {
    /// When all was known for the first time over it.
    since: Option<Moment>,
}

impl Session {
    /// Ends with why it cannot go on.
    async fn run(&mut self, hub: &Hub) -> Failure {
        match self.try_run(hub).await {
            Err(failure) => failure,
        }
    }

    async fn try_run(&mut self, hub: &Hub) -> Result<std::convert::Infallible, Failure> {
        let (engine, time) = Engine::greet(&hub.key.0).await?;
        // What happened while the engine set the stream up may come twice, and is not missed.
        let mut events = engine.events(time.map(|time| time.saturating_sub(OVERLAP_SECONDS))).await?;
        let list = engine.list().await?;
        let mut asking = Asking::default();
        {
            let mut world = hub.world.borrow_mut();
            world.reconnected();
            world.listed(&list);
        }
        let mut listing: Option<Work<Result<Vec<Listed>, Failure>>> = None;
        let mut list_at = clock::now() + LIST_EVERY;
        loop {
            let now = clock::now();
            let mut changed = false;
            {
                let mut world = hub.world.borrow_mut();
                changed |= world.pass(now);
                while asking.has_room()
                    && let Some(id) = world.next(now)
                {
                    asking.add(engine.clone().inspect(id));
                }
                if world.settled() && self.since.is_none() {
                    self.since = Some(now);
                    hub.complete.set(true);
                    changed = true;
                    *hub.failure.borrow_mut() = None;
                }
            }
            if changed {
                self.tell(hub);
            }
            if listing.is_none() && list_at <= now {
                let engine = engine.clone();
                listing = Some(Box::pin(async move { engine.list().await }));
            }
            let due = hub.world.borrow().due().unwrap_or(Moment::NEVER);
            let due = if listing.is_none() { due.min(list_at) } else { due };
            let turn = tokio::select! {
                said = events.next() => Turn::Said(said),
                (id, answer) = asking.next() => Turn::Answered(id, answer),
                list = next(&mut listing) => Turn::Listed(list?),
                () = sleep(due.since(now)) => Turn::Time,
            };
            let now = clock::now();
            let mut world = hub.world.borrow_mut();
            let changed = match turn {
                Turn::Said(Said::Event(line)) => match facts::event(&line) {
                    Ok(Some(event)) => {
                        world.may_drain(hub.longest_drain());
                        world.happened(&event, now)
                    }
                    Ok(None) => false,
                    Err(why) => {
                        let message = format!("{}: an event that does not read: {why}", hub.key.0);
                        return Err(Failure::new(Trouble::Malformed, message));
                    }
                },
                // Whose it was is not known, so all are looked at; but whoever makes such events does not make us look all the time.
                Turn::Said(Said::TooLong) => {
                    list_at = list_at.min(now + LIST_PAUSE);
                    false
                }
                Turn::Said(Said::End) => {
                    let message = format!("{}: the engine ended the stream of events", hub.key.0);
                    return Err(Failure::new(Trouble::Empty, message));
                }
                Turn::Answered(id, answer) => world.answered(&id, answer, now),
                Turn::Listed(list) => {
                    listing = None;
                    list_at = now + LIST_EVERY;
                    world.listed(&list);
                    false
                }
                Turn::Time => false,
            };
            drop(world);
            if changed {
                self.tell(hub);
            }
        }
    }

    /// The first look at a new engine is told when it is whole.
    fn tell(&self, hub: &Hub) {
        if self.since.is_some() {
            hub.log();
            hub.tell();
        }
    }
}

/// What a turn of the loop is about.
enum Turn {
    Said(Said),
    Answered(Id, Answer),
    Listed(Vec<Listed>),
    Time,
}

/// The answer of what is there; never, where nothing is.
async fn next<T>(work: &mut Option<Work<T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Questions under way.
#[derive(Default)]
struct Asking {
    questions: Vec<Work<(Id, Answer)>>,
}

impl Asking {
    fn has_room(&self) -> bool {
        self.questions.len() < ASKED_AT_ONCE
    }

    fn add(&mut self, question: impl Future<Output = (Id, Answer)> + 'static) {
        self.questions.push(Box::pin(question));
    }

    /// The next answer; never, while nobody is asked.
    async fn next(&mut self) -> (Id, Answer) {
        poll_fn(|cx| {
            let ready =
                self.questions.iter_mut().enumerate().find_map(|(at, question)| match question.as_mut().poll(cx) {
                    Poll::Ready(answer) => Some((at, answer)),
                    Poll::Pending => None,
                });
            match ready {
                Some((at, answer)) => {
                    drop(self.questions.swap_remove(at));
                    Poll::Ready(answer)
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// How the id of the container that this process runs in may start: from the files that engines mount into theirs, and from
/// the host name, which is the short id where nobody chose another.
fn own_ids() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    own_ids_of(&mounts, host.trim())
}

fn own_ids_of(mounts: &str, host: &str) -> Vec<String> {
    let mounted = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let mut ids: Vec<String> = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        if mounted.contains(&point) {
            let whole = |part: &&str| part.len() == WHOLE_ID && Id::parse(part).is_some();
            ids.extend(root.split('/').filter(whole).map(str::to_owned));
        }
    }
    if host.len() == SHORT_ID && Id::parse(host).is_some() {
        ids.push(host.to_owned());
    }
    ids.dedup();
    ids
}

const WHOLE_ID: usize = 64;
const SHORT_ID: usize = 12;
/// The engine's clock is told in whole seconds.
const OVERLAP_SECONDS: u64 = 2;
/// An engine has some ten milliseconds of work with each.
const ASKED_AT_ONCE: usize = 8;
/// A list finds what an event should have told and did not.
const LIST_EVERY: Duration = Duration::from_secs(60);
const LIST_PAUSE: Duration = Duration::from_secs(1);
/// Between two attempts to reach an engine: a restart of its takes a second.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lasted this long was one.
const STEADY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_container_by_what_is_mounted_into_it_or_by_its_name() {
        let id = "0123456789abcdef".repeat(4);
        let docker = format!(
            "812 793 253:0 / / rw - overlay overlay rw\n\
             830 812 253:1 /var/lib/docker/containers/{id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw\n\
             831 812 253:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(own_ids_of(&docker, "edge"), std::slice::from_ref(&id));
        assert_eq!(own_ids_of(&docker, "0123456789ab"), [id.clone(), "0123456789ab".to_owned()]);
        // A host that mounts containers' files elsewhere is in none of them.
        let host = docker.replace(" /etc/", " /mnt/");
        assert_eq!(own_ids_of(&host, "server-1"), Vec::<String>::new());
        assert_eq!(own_ids_of("nonsense\n\n", ""), Vec::<String>::new());
    }
}
