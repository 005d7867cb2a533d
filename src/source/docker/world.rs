//! Engine: which containers there are, from the engine's list and its events.
//!
//! ```text
//!              ┌──────────── event, list, 'again' ───────────┐
//!              ▼                                              │
//!  unknown ─▶ wanted ──next──▶ asked ──answered──▶ known ─────┘
//!                                └──gone──▶ forgotten
//! ```
//! An event is a reason to ask, and not news: what is believed of a container is what the engine answered about it last. So events
//! may come twice, late, or in any order, and after the last answer all is as a fresh list would have it; a test plays that
//! through. Three things are believed at once, because asking takes time that traffic does not have: a stop signal, the end of
//! the process, and the removal.
//!
//! Not here: sockets (`engine`), what labels mean (`labels`), clocks: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::facts::{Attachment, Container, Event, Health, Id, Listed, SIGKILL, SIGTERM, State, What};
use crate::base::{Moment, limits};
use crate::seam::source::{Failure, Trouble};

/// All that is known of one engine's containers.
#[derive(Debug)]
pub struct World {
    /// What our labels start with.
    prefix: String,
    /// How ids start that may be this process's own container.
    hints: Vec<String>,
    own: Option<Id>,
    /// How long members that leave may take, by the source that grants most.
    drain: Duration,
    entries: BTreeMap<Id, Entry>,
    /// To be asked for.
    wanted: BTreeSet<Id>,
    asked: BTreeSet<Id>,
    /// To be asked for again, then: the engine gave no usable answer.
    again: BTreeMap<Id, Moment>,
    /// Containers with our labels that did not fit; so many of them as would fit at most.
    left_out: BTreeSet<Id>,
}

#[derive(Debug, Default)]
struct Entry {
    /// From the list, where it was in one.
    name: Option<Arc<str>>,
    /// `None`: not answered yet.
    container: Option<Container>,
    /// It was sent a stop signal, and counts as stopping until then: one that lives longer did not mean to stop.
    stops_until: Option<Moment>,
    /// Why its last answer was of no use.
    trouble: Option<Failure>,
    /// No answer was ever of use, and until then it may be whom another process knew.
    unseen_until: Option<Moment>,
}

/// Whether traffic may go to a container, as far as the engine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Serving,
    /// It has been asked to stop: what is under way may finish.
    Leaving,
    /// Nothing new; the word says why.
    Out(&'static str),
}

impl Standing {
    /// In the words of a log.
    pub fn words(self) -> &'static str {
        match self {
            Standing::Serving => "it serves",
            Standing::Leaving => "it was told to stop, and leaves",
            Standing::Out(why) => why,
        }
    }
}

/// What the engine said when it was asked for a container.
#[derive(Debug)]
pub enum Answer {
    Is(Box<Container>),
    Gone,
    /// Nothing that can be used, and why.
    Failed(Failure),
}

impl World {
    pub fn new(prefix: &str, hints: Vec<String>) -> World {
        World {
            prefix: prefix.to_owned(),
            hints,
            own: None,
            drain: Duration::ZERO,
            entries: BTreeMap::new(),
            wanted: BTreeSet::new(),
            asked: BTreeSet::new(),
            again: BTreeMap::new(),
            left_out: BTreeSet::new(),
        }
    }

    pub fn may_drain(&mut self, longest: Duration) {
        self.drain = longest;
    }

    /// Takes note of a list of those that run. What it lacks is asked for and not dropped: it may be younger than the list. But who
    /// is known to have ended is let go, for ended ones stay with their engine for ever: an event tells when one starts again.
    pub fn listed(&mut self, list: &[Listed]) {
        self.left_out.clear();
        self.forget_ended(list);
        for line in list {
            if self.own.is_none() && self.hints.iter().any(|hint| line.id.as_str().starts_with(hint)) {
                self.own = Some(line.id.clone());
            }
            let is_wanted = self.is_ours(&line.labels) || self.own.as_ref() == Some(&line.id);
            if is_wanted
                && self.know(&line.id)
                && let Some(entry) = self.entries.get_mut(&line.id)
            {
                entry.name = Some(line.name.clone());
            }
        }
        self.wanted.extend(self.entries.keys().cloned());
    }

    fn forget_ended(&mut self, list: &[Listed]) {
        let listed: BTreeSet<&Id> = list.iter().map(|line| &line.id).collect();
        // Of a network that another uses: its events need not have our labels, and would be heard no more.
        let lent: BTreeSet<Id> = self.entries.values().filter_map(Entry::borrows_from).cloned().collect();
        let (wanted, asked) = (&self.wanted, &self.asked);
        self.entries.retain(|id, entry| {
            let ended = match &entry.container {
                Some(container) => container.state == State::Stopped,
                // Lists are of those that run: nobody else would say of it that it does not.
                None => entry.is_unknown(),
            };
            // Something has happened to it since, perhaps since that list was made too.
            let moves = wanted.contains(id) || asked.contains(id);
            !ended || moves || listed.contains(id) || lent.contains(id)
        });
        self.again.retain(|id, _| self.entries.contains_key(id));
    }

    /// A new connection: nobody answers what was asked over the old one.
    pub fn reconnected(&mut self) {
        self.wanted.append(&mut self.asked);
        self.wanted.extend(std::mem::take(&mut self.again).into_keys());
    }

    /// Returns whether anything that is known has changed.
    pub fn happened(&mut self, event: &Event, now: Moment) -> bool {
        match event.what {
            What::Gone => {
                self.left_out.remove(&event.id);
            }
            _ if self.is_ours(&event.labels) => {
                self.know(&event.id);
            }
            _ => {}
        }
        let Some(entry) = self.entries.get_mut(&event.id) else { return false };
        if event.what == What::Gone && entry.is_unknown() {
            self.forget(&event.id);
            return true;
        }
        self.wanted.insert(event.id.clone());
        let Some(container) = &mut entry.container else { return false };
        // Of an earlier life of the same container.
        if event.time != 0 && event.time < container.started {
            return false;
        }
        match event.what {
            What::Signal(signal) if [SIGTERM, SIGKILL, container.stop_signal].contains(&signal) => {
                // `docker stop` may have been told to wait longer than the container says, and nobody tells us.
                let patience = (container.stop_timeout + STOP_GRACE).max(self.drain);
                let before = entry.stops_until.replace(now + patience);
                before.is_none()
            }
            What::Ended => {
                entry.stops_until = None;
                std::mem::replace(&mut container.state, State::Stopped) != State::Stopped
            }
            What::Gone => {
                self.forget(&event.id);
                true
            }
            What::Signal(_) | What::Changed => false,
        }
    }

    fn forget(&mut self, id: &Id) {
        self.entries.remove(id);
        self.wanted.remove(id);
        self.again.remove(id);
    }

    /// The next container to ask the engine for. Its answer is owed to [`World::answered`].
    pub fn next(&mut self, now: Moment) -> Option<Id> {
        let due: Vec<Id> = self.again.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.again.remove(&id);
            self.wanted.insert(id);
        }
        let id = self.wanted.iter().find(|id| !self.asked.contains(*id))?.clone();
        self.wanted.remove(&id);
        self.asked.insert(id.clone());
        Some(id)
    }

    /// Returns whether anything that is known has changed.
    pub fn answered(&mut self, id: &Id, answer: Answer, now: Moment) -> bool {
        self.asked.remove(id);
        // Something happened since it was asked for: it may be older than that, and is asked for once more.
        if self.wanted.contains(id) && self.entries.get(id).is_some_and(|entry| entry.container.is_some()) {
            return false;
        }
        match answer {
            // Removed while it was asked for: a late answer must not bring it back.
            Answer::Is(_) if !self.entries.contains_key(id) => false,
            Answer::Is(container) if container.id != *id => {
                let message = "the engine answered for another container";
                self.failed(id, Failure::new(Trouble::Malformed, message), now)
            }
            Answer::Is(container) => self.learn(*container),
            Answer::Gone => {
                self.own.take_if(|own| own == id);
                self.entries.remove(id).is_some()
            }
            Answer::Failed(why) => self.failed(id, why, now),
        }
    }

    /// What is known of it stays.
    fn failed(&mut self, id: &Id, why: Failure, now: Moment) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        self.again.insert(id.clone(), now + ASK_AGAIN);
        let changed = entry.trouble.as_ref() != Some(&why);
        if entry.container.is_none() && entry.trouble.is_none() {
            entry.unseen_until = Some(now + UNSEEN);
        }
        entry.trouble = Some(why);
        changed
    }

    fn learn(&mut self, container: Container) -> bool {
        if let Attachment::Of(other) = &container.attachment {
            let other = other.clone();
            if !self.entries.contains_key(&other) && self.know(&other) {
                self.wanted.insert(other);
            }
        }
        let Some(entry) = self.entries.get_mut(&container.id) else { return false };
        let restarted = entry.container.as_ref().is_some_and(|before| before.started != container.started);
        let ended = container.state == State::Stopped;
        let stopping = entry.stops_until.take_if(|_| restarted || ended).is_some();
        let changed = entry.container.as_ref() != Some(&container);
        entry.container = Some(container);
        let mended = entry.trouble.take().is_some();
        entry.unseen_until = None;
        changed || stopping || mended
    }

    /// Lets go of what time has settled. Returns whether anything that is known has changed.
    pub fn pass(&mut self, now: Moment) -> bool {
        let mut changed = false;
        for entry in self.entries.values_mut() {
            changed |= entry.stops_until.take_if(|until| *until <= now).is_some();
            changed |= entry.unseen_until.take_if(|until| *until <= now).is_some();
        }
        changed
    }

    /// When [`World::pass`] or [`World::next`] will have something to do that is not there yet.
    pub fn due(&self) -> Option<Moment> {
        let times = self.entries.values().flat_map(|entry| [entry.stops_until, entry.unseen_until]);
        times.flatten().chain(self.again.values().copied()).min()
    }

    /// Whether every container that is known of has been answered for.
    pub fn settled(&self) -> bool {
        self.wanted.is_empty() && self.asked.is_empty()
    }

    /// Containers with our labels, oldest first, and how they stand.
    pub fn containers(&self) -> Vec<(&Container, Standing)> {
        let labelled =
            |entry: &&Entry| entry.container.as_ref().is_some_and(|container| self.is_ours(&container.labels));
        let mut found: Vec<(&Container, Standing)> = self
            .entries
            .values()
            .filter(labelled)
            .filter_map(|entry| Some((entry.container.as_ref()?, entry.standing()?)))
            .collect();
        found.sort_by(|(a, _), (b, _)| (a.created, &a.id).cmp(&(b.created, &b.id)));
        found
    }

    /// Any container that is known.
    pub fn get(&self, id: &Id) -> Option<&Container> {
        self.entries.get(id)?.container.as_ref()
    }

    /// The container that this process runs in.
    pub fn own(&self) -> Option<&Container> {
        self.get(self.own.as_ref()?)
    }

    /// Containers of which the engine gave no usable answer, and why.
    pub fn troubles(&self) -> impl Iterator<Item = (&Id, &str)> {
        self.entries.iter().filter_map(|(id, entry)| Some((id, &*entry.trouble.as_ref()?.message)))
    }

    /// Whether there are containers of which nothing is known but that they are there: it cannot be said what they belong to.
    pub fn has_unknown(&self) -> bool {
        self.entries.values().any(Entry::is_unknown)
    }

    /// Names of containers of which it cannot be said yet where they serve: nothing is known of them, or of whose network they use.
    pub fn unseen(&self) -> impl Iterator<Item = Arc<str>> {
        self.nowhere(|entry| entry.unseen_until.is_some())
    }

    /// The same, however long that has lasted.
    pub fn unknown(&self) -> impl Iterator<Item = Arc<str>> {
        self.nowhere(Entry::is_unknown)
    }

    /// Names of those that are so, or use the network of one that is.
    fn nowhere(&self, is_so: fn(&Entry) -> bool) -> impl Iterator<Item = Arc<str>> {
        let borrows = move |entry: &Entry| {
            let lender = entry.borrows_from().and_then(|id| self.entries.get(id));
            entry.standing() == Some(Standing::Serving) && lender.is_some_and(is_so)
        };
        self.entries.iter().filter(move |(_, entry)| is_so(entry) || borrows(entry)).map(|(id, entry)| {
            let name = entry.container.as_ref().map(|container| &container.name).or(entry.name.as_ref());
            name.map_or_else(|| id.to_string().into(), Arc::clone)
        })
    }

    /// Why nothing is known at all, though there are containers: every answer was of no use.
    pub fn speechless(&self) -> Option<Failure> {
        let first = self.entries.values().find_map(|entry| entry.trouble.as_ref())?;
        self.entries.values().all(Entry::is_unknown).then(|| first.clone())
    }

    /// Containers with our labels beyond those that fit.
    pub fn left_out(&self) -> usize {
        self.left_out.len()
    }

    fn is_ours(&self, labels: &BTreeMap<String, String>) -> bool {
        let first =
            labels.range::<str, _>((std::ops::Bound::Included(&*self.prefix), std::ops::Bound::Unbounded)).next();
        first.is_some_and(|(key, _)| key.starts_with(&self.prefix))
    }

    /// Makes room for a container. Returns whether there is some.
    fn know(&mut self, id: &Id) -> bool {
        if !self.entries.contains_key(id) && self.entries.len() >= limits::DOCKER_CONTAINERS {
            if self.left_out.len() < limits::DOCKER_CONTAINERS {
                self.left_out.insert(id.clone());
            }
            return false;
        }
        self.entries.entry(id.clone()).or_default();
        true
    }
}

impl Entry {
    /// It was asked for, and no answer was ever of use.
    fn is_unknown(&self) -> bool {
        self.container.is_none() && self.trouble.is_some()
    }

    /// The container whose network it uses.
    fn borrows_from(&self) -> Option<&Id> {
        match &self.container.as_ref()?.attachment {
            Attachment::Of(other) => Some(other),
            _ => None,
        }
    }

    /// `None`: it is as if it were not there.
    fn standing(&self) -> Option<Standing> {
        let container = self.container.as_ref()?;
        match (container.state, container.health) {
            (State::Stopped, _) => None,
            (State::Paused, _) => Some(Standing::Out("it is paused")),
            (State::Stopping, _) => Some(Standing::Leaving),
            (State::Running, _) if self.stops_until.is_some() => Some(Standing::Leaving),
            (State::Running, Health::Starting) => Some(Standing::Out("its health check has not passed yet")),
            (State::Running, Health::Unhealthy) => Some(Standing::Out("its health check fails")),
            (State::Running, Health::Healthy | Health::Unchecked) => Some(Standing::Serving),
        }
    }
}

/// A container that still runs this long after its stop timeout, and after `drain`, was not stopped, but sent a signal that it shrugged
/// off.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// A container of which nothing is known for so long may be another by now than the one that another process knew, at an address that was
/// given out again.
const UNSEEN: Duration = Duration::from_secs(60);
/// After an answer that is of no use.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
