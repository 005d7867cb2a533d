//! Wiring: the sources of the configuration in force: each runs as a task of the control thread, what they tell is gathered, and when it is
//! time the supervisor makes the next generation of it.
//!
//! ```text
//!  source ──told──▶ gathered ──SOURCE_BURST──▶ due ──▶ merge ──▶ compile, adopt (supervisor) ──▶ commit
//!                      │ of sources that a reload brings: a draft, which becomes real when the reload does
//! ```
//! A source that fails takes nothing away: its last good finding stays. What a reload does not change of a source goes on, findings
//! included; where only its settings change, what was found stays until the new one speaks. What another process had found, or a task that
//! broke, stays longer where the new one cannot look at it yet (`before`).
//!
//! Not here: what a finding means (`config::found`), nor the asking (`source`).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinSet};

use crate::admin::control::{SourceState, Sources};
use crate::base::{EndpointAddr, Moment, clock, limits};
use crate::config::Config;
use crate::config::found::{self, Around, Found, Merged, Verdict};
use crate::doc::Settings;
use crate::observe::events;
use crate::probe;
use crate::seam::source::{Failure, Finding, Owner, Place, Tell, Told, Trouble};
use crate::source;
use crate::state::{Snapshot, Traffic};
use crate::sys::link;

mod before;

/// All sources, and what they have found.
pub struct Discovery {
    /// Of the configuration's main file.
    folder: PathBuf,
    running: BTreeMap<Owner, Running>,
    tasks: JoinSet<()>,
    found: Found,
    /// What another process had found, for sources that do not run yet.
    inherited: BTreeMap<Owner, Finding>,
    told: mpsc::Receiver<Told>,
    tell: mpsc::Sender<Told>,
    next_id: u64,
    /// Who has spoken since the last generation, and when that is to be looked at.
    stirred: BTreeSet<Owner>,
    due: Option<Moment>,
    last: Moment,
    /// Why the last attempt at a generation failed.
    complaint: Option<String>,
    shown: Arc<Sources>,
}

/// One source at work. Dropping it ends it.
struct Running {
    id: u64,
    settings: Settings,
    task: AbortHandle,
    state: SourceState,
    /// What its table had before it began, of whom it could not look at yet.
    before: Finding,
    /// Mistakes that the log has already.
    logged: HashSet<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sources that a configuration would bring, at work already, and what they have found.
#[derive(Default)]
pub struct Draft {
    sources: BTreeMap<Owner, Running>,
    found: BTreeMap<Owner, Finding>,
}

impl Discovery {
    pub fn new(folder: PathBuf, shown: Arc<Sources>) -> Discovery {
        let (tell, told) = mpsc::channel(limits::SOURCE_QUEUE);
        Discovery {
            folder,
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            found: Found::default(),
            inherited: BTreeMap::new(),
            told,
            tell,
            next_id: 0,
            stirred: BTreeSet::new(),
            due: None,
            last: Moment::default(),
            complaint: None,
            shown,
        }
    }

    /// Begins what `config` has of sources that do not run yet, and waits a while for what they find, so that nothing is served before
    /// it is known to whom.
    pub async fn draft(&mut self, config: &Config) -> Draft {
        let mut draft = Draft::default();
        for (owner, settings) in found::sources(config) {
            if !self.running.get(&owner).is_some_and(|running| running.settings == *settings) {
                // Of a source with other settings nothing is taken over: it may have looked elsewhere.
                let before = self.inherited.remove(&owner).unwrap_or_default();
                let running = self.begin(&owner, settings, Duration::ZERO, before);
                draft.sources.extend(running.map(|running| (owner, running)));
            }
        }
        let until = clock::now() + limits::SOURCE_FIRST;
        while draft.sources.values().any(|running| !running.state.spoke) {
            let left = until.since(clock::now());
            match tokio::time::timeout(left, self.told.recv()).await {
                Ok(Some(told)) => self.heard(told, Some(&mut draft)),
                // The other end of the channel is here as well.
                Ok(None) | Err(_) => break,
            }
        }
        draft
    }

    /// What another process had found before this one: holds until a source of the same table speaks, and longer of whom that cannot look
    /// at yet.
    pub fn inherit(&mut self, owner: Owner, finding: Finding) {
        self.inherited.insert(owner.clone(), finding.clone());
        self.found.inherit(owner, finding);
    }

    /// What is in force of each source.
    pub fn findings(&self) -> impl Iterator<Item = (&Owner, &Finding)> {
        self.found.in_force().iter()
    }

    /// `config` with what is found, for a snapshot after `current`.
    pub fn merge(&self, config: &Config, draft: &Draft, current: &Snapshot) -> Merged {
        let mut found = self.found.clone();
        for (owner, finding) in &draft.found {
            found.heard(owner.clone(), finding.clone());
        }
        let here: HashSet<IpAddr> = match found.owners().next() {
            Some(_) => link::addresses().unwrap_or_default().into_iter().map(|at| at.address).collect(),
            None => HashSet::new(),
        };
        let around = Around {
            now: clock::now(),
            is_here: &|ip| here.contains(&ip),
            is_idle: &|pool, address| is_idle(current, pool, address),
            is_known: &|pool| current.names().has_pool(pool),
            names_left: current.names().pools_left(),
        };
        found.merge(config, &around)
    }

    /// `merged` is in force, and with it `draft`.
    pub fn commit(&mut self, merged: &Merged, draft: Draft) {
        let sources = found::sources(&merged.config);
        self.running.retain(|owner, running| sources.get(owner).is_some_and(|settings| **settings == running.settings));
        self.running.extend(draft.sources);
        for (owner, finding) in draft.found {
            self.found.heard(owner, finding);
        }
        self.found.commit(merged);
        // Of tables that have no source here.
        self.inherited.clear();
        self.stirred.clear();
        self.complaint = None;
        self.last = clock::now();
        self.due = self.found.somebody_leaves().then(|| self.last + limits::SOURCE_LEAVING);
        self.judge(&merged.verdicts);
    }

    /// The same, where nothing is different by it: whoever leaves next need not wait as after a generation.
    pub fn settle(&mut self, merged: &Merged, draft: Draft) {
        let last = self.last;
        self.commit(merged, draft);
        self.last = last;
    }

    /// Returns when there is something to make a generation of. May be dropped and called again.
    pub async fn due(&mut self) {
        loop {
            let wait = self.due.map(|due| due.since(clock::now()));
            tokio::select! {
                told = self.told.recv() => if let Some(told) = told {
                    self.heard(told, None);
                },
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended.map(|(id, ())| id).unwrap_or_else(|error| error.id())),
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    self.due = None;
                    return;
                }
            }
        }
    }

    /// Who has spoken, as log lines name it.
    pub fn cause(&self) -> String {
        let name = |owner: &Owner| {
            let kind = self.running.get(owner).map(|running| running.settings.name).unwrap_or_default();
            format!("source {kind} of {owner}")
        };
        match self.stirred.is_empty() {
            true => "endpoints that left are idle".to_owned(),
            false => self.stirred.iter().map(name).collect::<Vec<_>>().join(", "),
        }
    }

    /// It could not be put into force: again when somebody speaks, or after a while. Whether this is news.
    pub fn defer(&mut self, why: &str) -> bool {
        self.last = clock::now();
        self.due = Some(self.last + limits::SOURCE_AGAIN);
        self.complaint.replace(why.to_owned()).is_none_or(|before| before != why)
    }

    fn begin(&mut self, owner: &Owner, settings: &Settings, after: Duration, before: Finding) -> Option<Running> {
        // Settings only come from the catalogue's grammars, so the name is found.
        let spec = source::find(settings.name)?;
        let probes = probe::CATALOG.iter().map(|spec| &spec.grammar).collect();
        let place = Place { owner: owner.clone(), folder: self.folder.clone(), probes };
        let source = (spec.build)(settings, &place);
        let id = self.next_id;
        self.next_id += 1;
        let tell = Tell { id, to: self.tell.clone() };
        let task = self.tasks.spawn_local(async move {
            tokio::time::sleep(after).await;
            source.run(tell).await;
        });
        let state = SourceState::new(owner.to_string(), settings.name, about(settings));
        Some(Running { id, settings: settings.clone(), task, state, before, logged: HashSet::new() })
    }

    fn heard(&mut self, Told { id, what }: Told, draft: Option<&mut Draft>) {
        let of = |sources: &BTreeMap<Owner, Running>| {
            sources.iter().find(|(_, running)| running.id == id).map(|(owner, _)| owner.clone())
        };
        if let Some(draft) = draft
            && let Some(owner) = of(&draft.sources)
        {
            let Some(running) = draft.sources.get_mut(&owner) else { return };
            if let Some(finding) = running.heard(&owner, what) {
                draft.found.insert(owner, finding);
            }
            return;
        }
        // One that a reload has ended may still be heard.
        let Some(owner) = of(&self.running) else { return };
        let Some(running) = self.running.get_mut(&owner) else { return };
        let finding = running.heard(&owner, what);
        self.show();
        let Some(finding) = finding else { return };
        if self.found.of(&owner) == Some(&finding) {
            return;
        }
        // Until it is known, requests go on to who is about to be gone.
        let urgent = self.found.of(&owner).is_some_and(|before| before.loses(&finding));
        self.found.heard(owner.clone(), finding);
        self.stirred.insert(owner);
        let at = match urgent {
            true => clock::now().max(self.last + limits::SOURCE_BURST),
            false => (clock::now() + limits::SOURCE_BURST).max(self.last + limits::SOURCE_PAUSE),
        };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// A task is over. Sources do not end: it was told to, or it panicked.
    fn ended(&mut self, id: Id) {
        let Some((owner, running)) = self.running.iter_mut().find(|(_, running)| running.task.id() == id) else {
            return;
        };
        let (owner, settings) = (owner.clone(), running.settings.clone());
        let message = "it has ended by a mistake of Strata's, and is begun again";
        running.heard(&owner, Err(Failure::new(Trouble::Broken, message)));
        let (state, logged) = (running.state.clone(), std::mem::take(&mut running.logged));
        let before = self.found.in_force().get(&owner).cloned().unwrap_or_default();
        if let Some(mut again) = self.begin(&owner, &settings, limits::SOURCE_AGAIN, before) {
            (again.state, again.logged) = (state, logged);
            self.running.insert(owner, again);
        }
        self.show();
    }

    /// Takes note of what became of findings, and logs what is refused, once.
    fn judge(&mut self, verdicts: &BTreeMap<Owner, Verdict>) {
        for (owner, running) in &mut self.running {
            let Some(verdict) = verdicts.get(owner) else { continue };
            running.judged(owner, verdict);
        }
        self.show();
    }

    fn show(&self) {
        self.shown.set(self.running.values().map(|running| running.state.clone()).collect());
    }
}

impl Running {
    /// Takes note of what it says. Returns what is found, if that is what it says.
    fn heard(&mut self, owner: &Owner, what: Result<Finding, Failure>) -> Option<Finding> {
        let (kind, state) = (self.settings.name, &mut self.state);
        let failed_before = state.failure.is_some();
        state.spoke = true;
        match what {
            Ok(finding) => {
                if failed_before {
                    tracing::info!(event = events::SOURCE, source = %owner, kind, "the source answers again");
                }
                state.failure = None;
                state.success_at = Some(clock::wall());
                Some(before::complete(finding, &mut self.before))
            }
            Err(failure) => {
                if !failed_before {
                    let kept = if state.success_at.is_some() {
                        "what it found last stays in force"
                    } else {
                        "nothing is found yet"
                    };
                    tracing::warn!(event = events::SOURCE, source = %owner, kind, why = failure.message, "the source fails: {kept}");
                }
                *state.failures.entry(failure.why).or_default() += 1;
                state.failure = Some(failure);
                None
            }
        }
    }

    fn judged(&mut self, owner: &Owner, verdict: &Verdict) {
        let kind = self.settings.name;
        self.state.verdict = verdict.clone();
        let mut still = HashSet::new();
        for mistake in &verdict.mistakes {
            let text = format!("{}: {}", mistake.place, mistake.message);
            if still.insert(text.clone()) && !self.logged.contains(&text) {
                let help = mistake.help.as_deref();
                tracing::warn!(event = events::SOURCE, source = %owner, kind, why = mistake.why.word(), help, "refused: {text}");
            }
        }
        self.logged = still;
    }
}

/// Whether nothing is under way at an endpoint. Of packets nobody counts that: there it is left to time.
fn is_idle(current: &Snapshot, pool: &str, address: EndpointAddr) -> bool {
    let Some(pool) = current.pool_named(pool) else { return true };
    let packets = |traffic: &Traffic| matches!(traffic, Traffic::Packet(packet) if packet.pool == pool.id);
    if current.services().any(|service| packets(&service.traffic)) {
        return false;
    }
    let endpoint = pool.endpoints.iter().find(|endpoint| endpoint.address == address);
    endpoint.is_none_or(|endpoint| endpoint.load.in_flight() == 0)
}

/// What it looks at, in a word: the first of its settings that says so.
fn about(settings: &Settings) -> String {
    let text = ["name", "path", "socket", "host"].into_iter().find_map(|key| settings.text(key));
    text.unwrap_or_default().to_owned()
}
